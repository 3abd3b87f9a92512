"""Sessions: nothing counted twice, nothing lost, nothing invented without a mark (field notes I4, I6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.core.commands import SessionSaved
from controller.core.events import (
    ClosedRestored,
    EvseSample,
    SessionRestored,
    TransactionEnded,
    TransactionMeasured,
    TransactionStarted,
)
from controller.core.model import (
    EvseId,
    Moment,
    PerPhase,
    StationId,
    Vehicle,
    VehicleId,
)
from controller.core.orphans import ORPHANS_KEPT
from controller.core.session import REFUSED
from controller.core.sessions import AVAILABLE_GRACE_S, SAVE_EVERY_S, Sessions
from tests.small_site import a_site, an_evse

START = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
STATION, EVSE = StationId("CP1"), EvseId("CP1/1")
SITE_ = a_site(
    an_evse(EVSE),
    vehicles={VehicleId("van"): Vehicle(VehicleId("van"), 50_000, 11_000, ("Tag1",))},
)
Fact = TransactionStarted | TransactionEnded | EvseSample


def at(second: float) -> Moment:
    return Moment(1000.0 + second, START + timedelta(seconds=second))


def started(transaction: str = "1", second: float = 0, register_wh: int | None = 1000) -> TransactionStarted:
    return TransactionStarted(EVSE, "wire", transaction, "TAG1", register_wh, at(second).utc)


def ended(transaction: str = "1", second: float = 600, register_wh: int | None = None) -> TransactionEnded:
    return TransactionEnded(STATION, EVSE, transaction, "Local", register_wh, at(second).utc)


def sampled(register_wh: int | None, second: float, soc: int | None = None) -> EvseSample:
    return EvseSample(EVSE, "wire", 1000.0 + second, PerPhase(None, None, None), None, register_wh, soc)


def told(sessions: Sessions, fact: Fact, second: float) -> list[SessionSaved]:
    match fact:
        case TransactionStarted():
            return sessions.start(fact, at(second))
        case TransactionEnded():
            return sessions.end(fact, at(second))
        case EvseSample():
            return sessions.sample(fact, at(second))


def rows(facts: Sequence[tuple[float, Fact]], repeats: int = 0) -> dict[str, SessionSaved]:
    """What the ledger holds afterwards; the first `repeats` facts are told a second time at the end."""
    sessions = Sessions(SITE_, "1")
    stored: dict[str, SessionSaved] = {}
    last = max((second for second, _ in facts), default=0.0)
    for second, fact in [*facts, *((last, fact) for _, fact in facts[:repeats])]:
        stored |= {saved.id: saved for saved in told(sessions, fact, second)}
    return stored


def test_a_session_from_start_to_stop() -> None:
    stored = rows([(0, started()), (300, sampled(1800, 300)), (600, ended(register_wh=2500))])
    assert list(stored.values()) == [
        SessionSaved(
            "1-1", EVSE, "1", "TAG1", VehicleId("van"), START, at(600).utc, 1500, 1000, 2500, "Local", ()
        )
    ]


def test_the_same_start_again_is_one_session() -> None:
    sessions = Sessions(SITE_, "1")
    assert len(sessions.start(started(), at(0))) == 1
    assert sessions.start(started(), at(5)) == []
    assert sessions.running[EVSE].started_s == 1000.0


def test_a_stop_told_again_changes_nothing() -> None:
    sessions = Sessions(SITE_, "1")
    sessions.start(started(), at(0))
    assert len(sessions.end(ended(), at(600))) == 1
    assert sessions.end(ended(), at(660)) == []
    assert sessions.start(started(), at(670)) == [], "nor does its start"
    assert sessions.running == {}


def test_a_stop_that_fits_nothing_is_kept_as_an_orphan() -> None:
    (row,) = rows([(600, ended("77", register_wh=5000))]).values()
    assert (row.transaction, row.energy_wh, row.marks, row.ended) == ("77", 0, ("orphan-stop",), at(600).utc)
    assert rows([(600, ended("77")), (700, ended("77"))]).keys() == {row.id}


def test_a_start_over_a_running_session_ends_it_with_a_mark() -> None:
    stored = rows([(0, started("1")), (900, started("2", 900))])
    assert [(r.transaction, r.stop_reason, r.marks) for r in stored.values()] == [
        ("1", "superseded", ("stop-missing",)),
        ("2", None, ()),
    ]


def test_the_stop_of_a_superseded_session_is_not_thrown_away() -> None:
    stored = rows([(0, started("1")), (900, started("2", 900)), (950, ended("1", 890))])
    assert [r.marks for r in stored.values()] == [("stop-missing",), (), ("orphan-stop",)]


def test_an_old_story_told_late_does_not_touch_the_vehicle_that_is_here() -> None:
    sessions = Sessions(SITE_, "1")
    sessions.start(started("2", 900), at(900))
    old = replace(started("1", 0), offline=True)
    (row,) = sessions.start(old, at(950))
    assert row.marks == ("offline",)
    assert sessions.running[EVSE].transaction == "2"
    (row,) = sessions.end(replace(ended("1", 500, 1400), offline=True), at(951))
    assert (row.transaction, row.energy_wh, row.ended) == ("1", 400, at(500).utc)
    assert sessions.running[EVSE].transaction == "2"


def test_a_restored_session_goes_on() -> None:
    sessions = Sessions(SITE_, "2")
    sessions.restore(SessionRestored("1-1", EVSE, "1", "TAG1", START, 1000, 1800, 800), at(3600))
    assert sessions.start(started(), at(3601)) == []
    sessions.sample(sampled(2000, 3605), at(3605))
    (row,) = sessions.end(ended(second=3700, register_wh=2100), at(3700))
    assert (row.id, row.energy_wh, row.marks) == ("1-1", 1100, ("controller-restart",))


def test_what_was_inferred_before_a_restart_stays_in_the_books() -> None:
    sessions = Sessions(SITE_, "2")
    marks = ("time-of-receipt", REFUSED)
    sessions.restore(SessionRestored("1-1", EVSE, "1", "TAG1", START, 1000, 1800, 800, marks=marks), at(3600))
    assert sessions.running[EVSE].marks == (*marks, "controller-restart")


def test_what_was_closed_before_a_restart_stays_closed() -> None:
    sessions = Sessions(SITE_, "2")
    sessions.restore_closed(ClosedRestored(EVSE, "1", told=True))
    sessions.restore_closed(ClosedRestored(EVSE, "2", told=False))
    assert sessions.start(started("1"), at(1)) == [] and sessions.end(ended("1", 2), at(2)) == []
    assert sessions.running == {}
    # a stop that never came before is news, also after a restart
    (row,) = sessions.end(ended("2", 3), at(3))
    assert row.marks == ("orphan-stop",)


def test_a_register_that_falls_or_jumps_moves_the_base_and_leaves_a_mark() -> None:
    facts: list[tuple[float, Fact]] = [
        (0, started(register_wh=90_000)),
        (600, sampled(92_000, 600)),
        (1200, sampled(500, 1200)),
        (1800, sampled(1500, 1800)),
        (1860, sampled(900_000, 1860)),
        (2400, ended(second=2400, register_wh=901_000)),
    ]
    (row,) = rows(facts).values()
    assert (row.energy_wh, row.marks) == (2000 + 1000 + 1000, ("register-reset", "register-jump"))


def test_a_station_that_is_free_has_no_session_for_long() -> None:
    sessions = Sessions(SITE_, "1")
    sessions.start(started(), at(0))
    sessions.available(EVSE, True, at(60))
    assert sessions.tick(at(60 + AVAILABLE_GRACE_S)) == []
    (row,) = sessions.tick(at(61 + AVAILABLE_GRACE_S))
    assert (row.stop_reason, row.marks) == ("unknown", ("stop-missing",))
    sessions.start(started("2", 100), at(100))
    assert sessions.tick(at(100 + AVAILABLE_GRACE_S)) == [], "a new one gets its own grace"


def test_the_energy_of_a_running_session_is_saved_now_and_then() -> None:
    sessions = Sessions(SITE_, "1")
    sessions.start(started(), at(0))
    sessions.sample(sampled(1500, 250), at(250))
    assert sessions.tick(at(SAVE_EVERY_S - 1)) == []
    (row,) = sessions.tick(at(SAVE_EVERY_S))
    assert (row.energy_wh, row.ended) == (500, None)


@pytest.mark.parametrize("soc", [0, 55, 100])
def test_state_of_charge_is_remembered_when_a_sample_leaves_it_out(soc: int) -> None:
    sessions = Sessions(SITE_, "1")
    sessions.start(started(), at(0))
    sessions.sample(sampled(None, 10, soc), at(10))
    sessions.sample(sampled(1100, 20), at(20))
    assert sessions.running[EVSE].soc == soc


MAX_WH_PER_S = 32 * 230 * 3 / 3600 * 1.25


@settings(derandomize=True, max_examples=200, deadline=None)
@given(
    st.integers(0, 10**7),
    st.lists(st.tuples(st.integers(1, 600), st.one_of(st.none(), st.integers(-5_000, 9_000))), max_size=30),
)
def test_energy_is_the_sum_of_possible_differences(first: int, changes: list[tuple[int, int | None]]) -> None:
    """Against a model in a few words: add what the register rose, if the station could have delivered it."""
    sessions = Sessions(SITE_, "1")
    sessions.start(started(register_wh=first), at(0))
    second = since = 0
    register, energy, marks = first, 0, set()
    for seconds, change in changes:
        second, since = second + seconds, since + seconds
        if change is None:
            sessions.sample(sampled(None, second), at(second))
            continue
        register += change
        if change < 0:
            marks.add("register-reset")
        elif change > MAX_WH_PER_S * since + 100:
            marks.add("register-jump")
        else:
            energy += change
        since = 0
        sessions.sample(sampled(register, second), at(second))
        assert sessions.running[EVSE].energy_wh == energy
    assert set(sessions.running[EVSE].marks) == marks


@st.composite
def stories(draw: st.DrawFn) -> list[tuple[float, Fact]]:
    """What one station tells: sessions one after the other, some stops missing, some starts never seen."""
    told_facts: list[tuple[float, Fact]] = []
    second, register = 0.0, 1000
    for number in range(draw(st.integers(1, 4))):
        name = str(number + 1)
        if draw(st.integers(0, 4)):
            told_facts.append((second, started(name, second, register)))
        for _ in range(draw(st.integers(0, 3))):
            second, register = second + 60, register + draw(st.integers(0, 300))
            told_facts.append((second, sampled(register, second)))
        second += 30
        if draw(st.integers(0, 4)):
            told_facts.append((second, ended(name, second, register)))
        second += 30
    return told_facts


@settings(derandomize=True, max_examples=200, deadline=None)
@given(stories(), st.data())
def test_a_prefix_told_again_leaves_the_ledger_as_it_is(
    story: list[tuple[float, Fact]], data: st.DataObject
) -> None:
    """I6: a station that did not hear our answers repeats itself. (Samples are no transaction messages.)"""
    messages = [(second, fact) for second, fact in story if not isinstance(fact, EvseSample)]
    repeats = data.draw(st.integers(0, len(messages)))
    assert rows(messages, repeats) == rows(messages)


# --- stops without starts (field notes, rows 8, 11, 44) -------------------------------------------------------------------


def orphan_stop(transaction: str, second: float, register_wh: int | None) -> TransactionEnded:
    return TransactionEnded(STATION, None, transaction, "Local", register_wh, at(second).utc)


def test_a_stop_that_cannot_name_its_transaction_ends_the_one_whose_register_goes_on() -> None:
    sessions = Sessions(SITE_, "1")
    sessions.start(started(), at(0))
    (row,) = sessions.end(orphan_stop("-1", 600, 2500), at(600))
    assert (row.energy_wh, row.ended, row.marks) == (1500, at(600).utc, ("stop-correlated",))
    assert sessions.running == {}
    assert sessions.orphans == {}
    assert sessions.end(ended("1"), at(700)) == [], "its own stop may still come"


@pytest.mark.parametrize(
    ("transaction", "second", "register_wh"),
    [("-1", 600, 900), ("-1", 600, 900_000), ("-1", -60, 2500), ("-1", 600, None), ("77", 600, 2500)],
    ids=["below", "impossible", "before it began", "no register", "another number"],
)
def test_a_stop_that_does_not_fit_ends_nobody_elses_session(
    transaction: str, second: float, register_wh: int | None
) -> None:
    sessions = Sessions(SITE_, "1")
    sessions.start(started(), at(0))
    (row,) = sessions.end(orphan_stop(transaction, second, register_wh), at(600))
    assert row.id.startswith("orphan-")
    assert "orphan-stop" in row.marks
    assert EVSE in sessions.running


def test_what_was_charged_while_nobody_looked_is_counted_from_the_last_register() -> None:
    sessions = Sessions(SITE_, "1")
    sessions.sample(sampled(5000, 0), at(0))
    (row,) = sessions.end(orphan_stop("-1", 3600, 9000), at(3700))
    assert (row.energy_wh, row.register_start_wh, row.started) == (4000, 5000, at(0).utc)
    assert row.marks == ("orphan-stop", "start-inferred")
    (never,) = Sessions(SITE_, "1").end(orphan_stop("-1", 3600, 9000), at(3700))
    assert (never.energy_wh, never.register_start_wh) == (0, None), "unknown is not a guess"


def test_a_start_that_comes_after_its_stop_finds_it() -> None:
    sessions = Sessions(SITE_, "1")
    (orphan,) = sessions.end(ended("tx-9", 600, 3000), at(600))
    (whole,) = sessions.start(started("tx-9", 0, 1000), at(601))
    assert (whole.id, whole.started, whole.ended) == (orphan.id, at(0).utc, at(600).utc)
    assert (whole.energy_wh, whole.token) == (2000, "TAG1")
    assert "matched" in whole.marks
    assert sessions.running == {}
    assert sessions.orphans == {}
    assert sessions.start(started("tx-9", 0, 1000), at(602)) == []


def test_a_closing_value_that_comes_late_corrects_its_own_session_only() -> None:
    sessions = Sessions(SITE_, "1")
    sessions.start(started(), at(0))
    sessions.end(ended("1", 600, 2000), at(600))
    sessions.start(started("2", 700, 2050), at(700))
    (late,) = sessions.closing(TransactionMeasured(STATION, "1", 2050))
    assert (late.transaction, late.energy_wh, late.marks) == ("1", 1050, ("late-value",))
    assert sessions.closing(TransactionMeasured(STATION, "1", 2050)) == []
    assert sessions.closing(TransactionMeasured(STATION, "1", 900_000)) == [], "nothing flows that fast"
    assert sessions.closing(TransactionMeasured(STATION, "9", 2100)) == []
    assert sessions.running[EVSE].energy_wh == 0


def test_orphans_are_bounded() -> None:
    sessions = Sessions(SITE_, "1")
    for number in range(ORPHANS_KEPT + 5):
        sessions.end(orphan_stop(f"x{number}", number, None), at(number))
    assert len(sessions.orphans) == ORPHANS_KEPT


@pytest.mark.parametrize(
    ("register_wh", "inferred", "offline", "goes_on"),
    [
        (1800, True, False, True),
        (1000, True, False, True),
        (900, True, False, False),
        (1800, False, False, False),
        (1800, True, True, False),
        (None, True, False, False),
    ],
)
def test_a_driver_that_is_new_finds_the_running_session_again(
    register_wh: int | None, inferred: bool, offline: bool, goes_on: bool
) -> None:
    sessions = Sessions(SITE_, "1")
    sessions.start(started(), at(0))
    seen = replace(started("other", 60, register_wh), transaction=None, inferred=inferred, offline=offline)
    assert sessions.continued(seen) == ("1" if goes_on else None)
