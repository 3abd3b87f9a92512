"""Standing orders outlive a restart: what was paused stays paused, what was limited stays limited."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from controller.core import events as ev
from controller.core.commands import Entry, FlexSaved, OrderedSaved
from controller.core.depot import Depot
from controller.core.model import (
    SITE,
    Circuit,
    Evse,
    EvseId,
    EvseState,
    FlexAction,
    Link,
    Moment,
    Ordered,
    Site,
    StationId,
    each_phase,
)

START = datetime(2026, 11, 22, 18, 0, tzinfo=UTC)
LINK = Link("wire", lease_s=180, lease_slack_s=30, raise_gap_s=10, answer_s=12)
A1, A = EvseId("A/1"), StationId("A")


def at(second: float, trusted: bool = True) -> Moment:
    return Moment(1000.0 + second, START + timedelta(seconds=second), trusted)


def depot(boot: str = "1") -> Depot:
    evse = Evse(A1, A, SITE, 32_000, 6_000, (0, 1, 2), 6_000, LINK)
    house = Depot(
        Site("depot", "UTC", 230_000, {SITE: Circuit(SITE, None, each_phase(63_000))}, {A1: evse}), boot
    )
    house.apply(ev.LinkUp(A, "wire", "test"), at(0))
    house.apply(ev.FallbackStored(A1, "wire", 6_000), at(0))
    return house


def running(house: Depot) -> Depot:
    house.apply(ev.StatusChanged(A1, "wire", EvseState.CHARGING), at(1))
    house.apply(ev.TransactionStarted(A1, "wire", "1", None, 0, at(1).utc), at(1))
    return house


def saved(house: Depot, second: float) -> list[Entry]:
    return of_orders(house.step(at(second)).entries)


def of_orders(entries: Iterable[Entry]) -> list[Entry]:
    return [e for e in entries if isinstance(e, OrderedSaved | FlexSaved)]


def test_an_order_is_saved_once_and_its_end_too() -> None:
    house = running(depot())
    assert saved(house, 2) == []
    paused = house.apply(ev.PauseWished("o1", "anna", A1), at(3))
    limited = house.apply(ev.LimitWished("o2", "anna", A1, 10_000), at(3))
    assert of_orders(paused.entries) == [OrderedSaved(A1, Ordered(paused=True))]
    assert of_orders(limited.entries) == [OrderedSaved(A1, Ordered(paused=True, limit_ma=10_000))]
    assert saved(house, 4) == []
    house.apply(ev.TransactionEnded(A, A1, "1", "Local", None, at(9).utc), at(9))
    assert saved(house, 10) == [OrderedSaved(A1, Ordered(limit_ma=10_000))], "a limit outlives the session"


def test_after_a_restart_what_was_ordered_holds() -> None:
    house = depot("2")
    house.apply(ev.OrderedRestored(A1, Ordered(paused=True, limit_ma=10_000)), at(0))
    running(house)
    evse = house.step(at(5)).snapshot.evses[0]
    assert (evse.paused, evse.operator_limit_ma, evse.grant_ma) == (True, 10_000, 0)
    assert saved(house, 6) == [], "it is in the books already"


def test_flexibility_goes_on_for_what_is_left_of_it() -> None:
    first = running(depot())
    (kept,) = of_orders(first.apply(ev.FlexWished("f1", "grid", SITE, 50, 600), at(10)).entries)
    assert isinstance(kept, FlexSaved)
    assert kept.actions == (FlexAction(SITE, "f1", "grid", 50, at(610).utc),)
    second = running(depot("2"))
    second.apply(ev.FlexRestored(kept.actions), at(100))
    assert second.step(at(101)).snapshot.evses[0].grant_ma == 16_000
    assert second.step(at(700)).snapshot.evses[0].grant_ma == 32_000
    assert saved(second, 701) == []


def test_flexibility_that_ended_meanwhile_is_over_and_its_end_is_saved_once() -> None:
    house = running(depot("2"))
    house.apply(ev.FlexRestored((FlexAction(SITE, "f1", "grid", 0, at(-5).utc),)), at(0))
    assert house.step(at(5)).snapshot.evses[0].grant_ma == 32_000
    first = running(depot())
    first.apply(ev.FlexWished("f1", "grid", SITE, 50, 60), at(10))
    saved(first, 11)
    assert saved(first, 80) == [FlexSaved(())]


def test_flexibility_that_was_obeyed_leaves_its_evidence() -> None:
    house = running(depot())
    house.apply(ev.FlexWished("f1", "grid", SITE, 50, 600), at(10))
    rows = []
    for second in range(11, 30):
        house.apply(ev.EvseSample(A1, "wire", at(second).mono_s, each_phase(10_000)), at(second))
        rows += [e for e in house.step(at(second)).entries if getattr(e, "what", "") == "flex-evidence"]
    (row,) = rows
    assert row.detail.startswith("flex 50 % for 600 s: applied 2026-11-22T18:00:1")
    assert row.detail.endswith("done")
