"""What the depot does while nobody knows the time of day: said, alarmed, sessions marked; and put right afterwards."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from controller.core import events as ev
from controller.core.commands import Audited, Entry, SessionSaved, SetLimit
from controller.core.depot import Depot
from controller.core.events import ClockJudged
from controller.core.model import (
    EvseId,
    Link,
    Moment,
    Schedule,
    ScheduleType,
    SlotAction,
    StationId,
    TimeSlot,
    Vehicle,
    VehicleId,
    each_phase,
)
from controller.core.snapshot import Snapshot
from controller.core.supervisor import UNKEPT_DELAY_S
from controller.core.tariff import Rates, Span, Tariff
from controller.core.wire import event_from_dict, event_to_dict
from controller.planner import rules
from tests.small_site import a_site, an_evse

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
OLD = datetime(2026, 1, 1, tzinfo=UTC)  # where a box without a battery wakes up
CHANNEL = "ocpp2.0.1"
STATION, A = StationId("CP1"), EvseId("CP1/1")
LINK = Link(CHANNEL, 180, 30, 10, 12)
SITE_ = a_site(
    an_evse(A, LINK),
    load_a=10,
    vehicles={VehicleId("van"): Vehicle(VehicleId("van"), 50_000, 11_000, ("TAG",))},
)


class Box:
    def __init__(self, utc: datetime, trusted: bool) -> None:
        self.depot = Depot(SITE_, "1")
        self.now = Moment(1000.0, utc, trusted)
        self.tell(ev.LinkUp(STATION, CHANNEL, "peer"))

    def passes(self, seconds: float) -> None:
        self.now = self.now._replace(
            mono_s=self.now.mono_s + seconds, utc=self.now.utc + timedelta(seconds=seconds)
        )

    def tell(self, fact: ev.Event) -> tuple[Entry, ...]:
        return self.depot.apply(fact, self.now).entries

    def step(self) -> Snapshot:
        return self.depot.step(self.now).snapshot

    def starts(self, register_wh: int = 0) -> SessionSaved:
        started = ev.TransactionStarted(A, CHANNEL, "7", "TAG", register_wh, self.now.utc)
        (saved,) = (each for each in self.tell(started) if isinstance(each, SessionSaved))
        return saved

    def set_to(self, utc: datetime) -> tuple[Entry, ...]:
        by_s = (utc - self.now.utc).total_seconds()
        self.now = self.now._replace(utc=utc, utc_trusted=True)
        return self.tell(ClockJudged("", "", by_s))


def alarms(seen: Snapshot) -> dict[str, tuple[int, str]]:
    return {each.kind: (each.priority, each.text) for each in seen.alarms}


def test_a_doubt_is_shown_and_alarmed_with_its_reason_and_ends() -> None:
    box = Box(OLD, trusted=False)
    box.tell(ClockJudged("the clock was set back by 3 h", ""))
    assert box.step().text == "the clock was set back by 3 h: schedules rest"
    box.passes(2.0)
    seen = box.step()
    assert alarms(seen)["clock"] == (2, "the clock was set back by 3 h: schedules and departures rest")
    box.set_to(NOON)
    for _ in range(60):
        box.passes(1.0)
        seen = box.step()
    assert seen.text == ""
    assert "clock" not in alarms(seen)


def test_a_clock_that_nothing_keeps_is_said_once_a_service_had_its_time() -> None:
    box = Box(NOON, trusted=True)
    box.tell(ClockJudged("", "nothing keeps the clock right"))
    assert "clock-unkept" not in alarms(box.step())
    box.passes(UNKEPT_DELAY_S + 1)
    seen = box.step()
    assert alarms(seen)["clock-unkept"] == (3, "nothing keeps the clock right")
    assert seen.state == "auto"


def test_a_session_that_began_in_doubt_gets_its_true_beginning() -> None:
    box = Box(OLD, trusted=False)
    assert box.starts().marks == ("clock-unsure",)
    box.passes(600.0)
    saved = [each for each in box.set_to(NOON) if isinstance(each, SessionSaved)]
    assert [(each.started, each.marks) for each in saved] == [
        (NOON - timedelta(seconds=600), ("clock-corrected",))
    ]


def test_a_doubt_that_proves_wrong_leaves_no_mark() -> None:
    box = Box(NOON, trusted=False)
    started = box.starts().started
    box.now = box.now._replace(utc_trusted=True)
    (saved,) = box.tell(ClockJudged("", ""))
    assert isinstance(saved, SessionSaved)
    assert (saved.started, saved.marks) == (started, ())


def test_a_session_that_ended_in_doubt_says_so() -> None:
    box = Box(NOON, trusted=True)
    assert box.starts().marks == ()
    box.now = box.now._replace(utc_trusted=False)
    ended = ev.TransactionEnded(STATION, A, "7", "Local", 1000, box.now.utc)
    (saved,) = (each for each in box.tell(ended) if isinstance(each, SessionSaved))
    assert "clock-unsure" in saved.marks


def test_a_session_over_which_the_clock_was_set_keeps_its_beginning_and_says_so() -> None:
    box = Box(NOON, trusted=True)
    box.starts()
    row, saved = box.set_to(NOON + timedelta(hours=1))
    assert row == Audited(box.now.utc, "depot", "clock-set", "clock", "+3600 s")
    assert isinstance(saved, SessionSaved)
    assert (saved.started, saved.marks) == (NOON, ("clock-set",))
    assert box.set_to(box.now.utc + timedelta(seconds=5)) == (
        Audited(box.now.utc, "depot", "clock-set", "clock", "+5 s"),
    ), "a few seconds are not worth a mark"


def test_the_price_of_a_corrected_session_counts_from_its_true_beginning() -> None:
    """Else its first energy would be spread over all prices since January."""
    box = Box(OLD, trusted=False)
    hours = (Span(OLD, NOON, 400_000), Span(NOON, NOON + timedelta(hours=1), 100_000))
    box.tell(ev.TariffRead(Tariff("EUR", Rates("UTC", spans=hours))))
    box.starts(register_wh=0)
    box.passes(60.0)
    box.set_to(NOON + timedelta(seconds=60))
    box.passes(60.0)
    box.tell(ev.EvseSample(A, CHANNEL, box.now.mono_s, each_phase(16_000), 11_000, 300, None))
    ended = ev.TransactionEnded(STATION, A, "7", "Local", 300, box.now.utc)
    (saved,) = (each for each in box.tell(ended) if isinstance(each, SessionSaved))
    assert saved.cost_micro == 30_000
    assert "cost-spread" not in saved.marks


def test_schedules_and_departures_rest_and_come_back() -> None:
    box = Box(NOON, trusted=False)
    slot = TimeSlot(0, 0, SlotAction.IDLE)
    box.tell(ev.ScheduleSet("ann", A, Schedule("never", ScheduleType.DAILY, True, "UTC", (slot,))))
    box.starts()
    resting = rules.plan(box.depot.plan_request(box.now)).wishes[A]
    assert resting == replace(resting, cap_ma=None, why=""), "shares like everybody"
    box.set_to(NOON)
    assert rules.plan(box.depot.plan_request(box.now)).wishes[A].cap_ma == 0


def test_the_judgement_is_recorded_as_it_was() -> None:
    fact = ClockJudged("the clock was set", "nothing keeps it right", -3600.0)
    assert event_from_dict(event_to_dict(fact)) == fact


def test_leases_are_renewed_at_once_when_our_time_was_set() -> None:
    """A station whose clock we set back would follow the old one for longer than it is counted."""
    box = Box(NOON, trusted=True)
    box.tell(ev.FallbackStored(A, CHANNEL, 6_000))
    box.starts()
    limits = _ordered_limits(box, 20)
    assert len(limits) == 1, "half of it has not gone by"
    box.set_to(box.now.utc - timedelta(hours=1))
    again = _ordered_limits(box, 5)
    assert [each.limit_ma for each in again] == [limits[0].limit_ma]
    assert again[0].lease_s == limits[0].lease_s


def _ordered_limits(box: Box, seconds: int) -> list[SetLimit]:
    found = []
    for _ in range(seconds):
        box.passes(1.0)
        for command in box.depot.step(box.now).commands:
            if isinstance(command, SetLimit):
                box.tell(ev.CommandSent(command.id))
                box.tell(ev.CommandAccepted(command.id))
                found.append(command)
    return found
