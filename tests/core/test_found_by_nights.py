"""What virtual nights have found, each as the smallest case of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from controller.core.commitments import Commitments
from controller.core.depot import Depot
from controller.core.dispatch import Target, Write, dispatch
from controller.core.events import (
    EvseSample,
    FallbackStored,
    LinkUp,
    MeterReading,
    TransactionEnded,
    TransactionStarted,
)
from controller.core.grid import Grid
from controller.core.model import (
    SITE,
    EvseId,
    Link,
    Moment,
    PerPhase,
    Site,
    StationId,
    each_phase,
)
from tests.small_site import MAIN, a_site, an_evse

LINK = Link("wire", lease_s=60, lease_slack_s=10, raise_gap_s=10, answer_s=12)
ONE, TWO = EvseId("CP1/1"), EvseId("CP2/1")
START = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def site(one: Link = LINK) -> Site:
    units = an_evse(ONE, one, phases=(0,)), an_evse(TWO, LINK, phases=(0,))
    return a_site(*units, limit_a=40, metered=True, load_a=10, accept_unknown_tokens=True)


# --- a station whose fallback is doubted until it answers is not raised into room that the doubt alone reserves --------------


def returned() -> tuple[Grid, Commitments]:
    """CP1 is back, nobody saw it fall to its 6 A: it counts at 32 A. CP2 has 16 A."""
    doubted = site(replace(LINK, needs_proof=True))
    book = Commitments(doubted)
    for evse in doubted.evses:
        book.fallback(evse, 6_000, -1000.0)
    book.lost_sight(ONE)
    book.sent(TWO, "two", 16_000, 0.0)
    book.accepted("two", 0.0)
    assert book.accounts[ONE].commitment_ma(20.0) == 32_000
    return Grid.of(doubted), book


def test_without_room_it_is_asked_for_what_it_does_alone() -> None:
    grid, book = returned()
    raised = Target(ONE, 30_000, True, (0, 0.0))
    assert dispatch(grid, book, [raised], [40_000] * 3, 20.0) == [Write(ONE, 6_000, False)]
    unclear = raised._replace(may_rise=False)
    assert dispatch(grid, book, [unclear], [40_000] * 3, 20.0) == [Write(ONE, 6_000, False)]


def test_once_it_has_answered_it_is_raised_into_the_room_there_is() -> None:
    grid, book = returned()
    book.sent(ONE, "one", 6_000, 20.0)
    book.accepted("one", 21.0)
    raised = Target(ONE, 24_000, True, (0, 0.0))
    assert dispatch(grid, book, [raised], [40_000] * 3, 25.0) == [], "its old maximum still counts"
    assert dispatch(grid, book, [raised], [40_000] * 3, 31.0) == [Write(ONE, 24_000, True)]


# --- the load of others is not hidden by what vehicles drew before they were lowered, or before they left ---------------------


def moment(second: float) -> Moment:
    return Moment(1000.0 + second, START + timedelta(seconds=second))


def estimate_ma(depot: Depot) -> int:
    found = depot._state.belief.backgrounds[SITE].estimate_ma().l1
    assert found is not None
    return found


def busy() -> Depot:
    """CP1 draws 16 A, as it may; the building takes nothing."""
    depot = Depot(site(), "1")
    for evse in (ONE, TWO):
        depot.apply(LinkUp(StationId(evse[:-2]), "wire", "peer"), moment(-30))
        depot.apply(FallbackStored(evse, "wire", 6_000), moment(-30))
    depot.apply(TransactionStarted(ONE, "wire", "T1", None, 0, START), moment(-30))
    book = depot._state.commitments
    book.sent(ONE, "c", 16_000, moment(-20).mono_s)
    book.accepted("c", moment(-20).mono_s)
    for second in range(-15, 1):
        read(depot, second, 16_000)
    assert estimate_ma(depot) == 0
    return depot


def read(depot: Depot, second: int, total_ma: int, drawn_ma: int | None = 16_000) -> None:
    now = moment(second)
    if drawn_ma is not None:
        depot.apply(EvseSample(ONE, "wire", now.mono_s, PerPhase(drawn_ma, None, None)), now)
    reading: PerPhase[int | None] = PerPhase(total_ma, 0, 0)
    depot.apply(MeterReading(MAIN, now.mono_s, reading, None, each_phase(None)), now)


def test_a_vehicle_that_came_down_unseen_does_not_make_the_building_negative() -> None:
    depot = busy()
    book = depot._state.commitments
    book.sent(ONE, "d", 6_000, moment(1).mono_s)
    book.accepted("d", moment(1).mono_s)
    for second in range(2, 9):
        read(depot, second, 6_000, drawn_ma=None)  # its newest sample is that of 16 A
        assert estimate_ma(depot) == 0


def test_what_a_vehicle_drew_before_it_left_hides_nothing() -> None:
    depot = busy()
    ended = TransactionEnded(StationId("CP1"), ONE, "T1", "EVDisconnected", 0, moment(1).utc)
    depot.apply(ended, moment(1))
    for second in range(2, 9):
        read(depot, second, 5_000, drawn_ma=None)
        assert estimate_ma(depot) >= 0
    for second in range(9, 21):
        read(depot, second, 5_000, drawn_ma=None)
    assert estimate_ma(depot) == 5_000
