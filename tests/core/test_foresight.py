"""Warnings hours before: who will leave short, prices that are out of date, a planner that was lost."""

from __future__ import annotations

from datetime import timedelta

import pytest
from test_sessions import EVSE, SITE_, START, at, started

from controller.core.depot import Depot
from controller.core.events import DepartureSet, FallbackStored, LinkUp, PlanReady, TariffRead
from controller.core.foresight import LOST_S, SHORT_DELAY_S, best_remedy
from controller.core.model import Departure, Moment, Plan, Remedy, StationId, Wish
from controller.core.snapshot import AlarmView, Snapshot
from controller.core.tariff import Band, Rates, Tariff

LEAVES = START + timedelta(hours=9)
HELP = Remedy(EVSE, "later", "leave 12 minutes later", 2_000, 600_000)


def depot(need_wh: int = 20_000) -> Depot:
    found = Depot(SITE_, "1")
    found.apply(LinkUp(StationId("CP1"), "wire", "peer"), at(0))
    found.apply(FallbackStored(EVSE, "wire", 6_000), at(0))
    found.apply(started(), at(0))
    found.apply(DepartureSet("ann", Departure("van", LEAVES, energy_wh=need_wh)), at(0))
    found.step(at(0))
    return found


def plan(short_wh: int | None, by: str = "horizon", why: str = "", remedies: tuple[Remedy, ...] = ()) -> Plan:
    return Plan(START, by, {EVSE: Wish(16_000, short_wh=short_wh, why="plan")}, why, remedies=remedies)


def seen(found: Depot, second: float, now: Moment | None = None) -> Snapshot:
    return found.step(now or at(second)).snapshot


def alarm(snapshot: Snapshot, kind: str) -> AlarmView | None:
    return next((view for view in snapshot.alarms if view.kind == kind), None)


def test_who_will_leave_short_is_told_with_what_would_help() -> None:
    found = depot()
    found.apply(PlanReady(plan(4_200, remedies=(HELP,))), at(10))
    assert alarm(seen(found, 10), "short") is None, "a plan of the first seconds may err"
    view = alarm(seen(found, 12 + SHORT_DELAY_S), "short")
    assert view is not None
    assert (view.source, view.priority) == (EVSE, 2)
    assert view.text == "van will leave at 21:00 4.2 kWh short; what would help: leave 12 minutes later"
    found.apply(PlanReady(plan(0)), at(100))
    seen(found, 100)
    assert alarm(seen(found, 120), "short") is None


@pytest.mark.parametrize(
    ("need_wh", "short_wh", "warns"),
    [
        (20_000, 500, False),
        (20_000, 501, True),
        (50_000, 1_000, False),
        (50_000, 1_001, True),
        (9_000, None, False),
    ],
)
def test_half_a_kilowatt_hour_or_two_per_cent_are_nothing(
    need_wh: int, short_wh: int | None, warns: bool
) -> None:
    found = depot(need_wh)
    found.apply(PlanReady(plan(short_wh)), at(10))
    seen(found, 10)
    assert (alarm(seen(found, 100), "short") is not None) is warns


def test_a_warning_does_not_flicker_around_its_threshold() -> None:
    found = depot()
    found.apply(PlanReady(plan(600)), at(10))
    seen(found, 10)
    for second, short_wh in ((100, 450), (200, 510), (300, 300)):
        found.apply(PlanReady(plan(short_wh)), at(second))
        seen(found, second)
        assert alarm(seen(found, second + 20), "short") is not None
    found.apply(PlanReady(plan(250)), at(400))
    seen(found, 400)
    assert alarm(seen(found, 420), "short") is None


def test_the_cheapest_remedy_that_brings_all_of_it_else_the_strongest() -> None:
    dear, cheap = Remedy(EVSE, "circuit", "a", 3_000, 900_000), Remedy(EVSE, "later", "b", 3_000, 600_000)
    small = Remedy(EVSE, "later", "c", 100, 1)
    made = plan(3_000, remedies=(dear, small, cheap))
    assert best_remedy(made, EVSE, 3_000) is cheap
    assert best_remedy(made, EVSE, 9_000) is dear
    assert best_remedy(plan(1), EVSE, 1) is None


def test_a_planner_that_was_lost_for_long_is_told() -> None:
    found = depot()
    found.apply(PlanReady(plan(0, "rules", "the solver still hangs")), at(10))
    assert alarm(seen(found, 10), "planner") is None
    view = alarm(seen(found, 11 + LOST_S), "planner")
    assert view is not None
    assert (view.priority, view.text) == (3, "planned by rules, not over the horizon: the solver still hangs")
    snapshot = seen(found, 12 + LOST_S)
    assert (snapshot.planner, snapshot.planner_text) == ("rules", "the solver still hangs")
    found.apply(PlanReady(plan(0)), at(700))
    seen(found, 700)
    assert alarm(seen(found, 720), "planner") is None


def test_rules_while_the_clock_is_not_trusted_are_no_loss() -> None:
    found = depot()
    doubtful = at(10)._replace(utc_trusted=False)
    found.apply(PlanReady(plan(0, "rules", "the clock is not trusted")), doubtful)
    seen(found, 10, doubtful)
    later = at(20 + LOST_S)._replace(utc_trusted=False)
    assert alarm(seen(found, 0, later), "planner") is None


def test_prices_that_are_out_of_date_are_told() -> None:
    found, bands = depot(), Rates("UTC", (Band(0, 1440, 1),))
    found.apply(TariffRead(Tariff("EUR", bands)), at(1))
    assert alarm(seen(found, 2), "prices") is None
    found.apply(TariffRead(Tariff("EUR", bands, trouble="prices.csv: line 3: no")), at(3))
    view = alarm(seen(found, 4), "prices")
    assert view is not None and view.text == "prices.csv: line 3: no"
    found.apply(TariffRead(Tariff("EUR", Rates("UTC"))), at(5))
    view = alarm(seen(found, 6), "prices")
    assert view is not None and view.text.startswith("no price is known for now")
