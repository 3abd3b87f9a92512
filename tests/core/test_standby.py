"""What a station is to do of the plan while we are gone: what is chosen, how it is cut, when it is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from controller.core.commands import Command, DropPlan, StorePlan
from controller.core.model import (
    Departure,
    EvseId,
    Link,
    Moment,
    Plan,
    Site,
    StationId,
)
from controller.core.planning import PlanRequest, Present, Price
from controller.core.session import Session
from controller.core.standby import Standby, StandbyStep, differ, fitted
from controller.core.standby_kept import AGAIN_S, ANSWER_S, LEFT_ALONE_S, Standbys
from controller.core.standby_plan import standbys
from controller.core.tempo import Pace
from controller.core.waking import Sleep
from tests.small_site import a_site, an_evse

NOW = datetime(2026, 11, 20, 18, 0, tzinfo=UTC)
LINK = Link("ocpp", 180, 30, 10, 12, stores_plans=True)
A, B = EvseId("A/1"), EvseId("B/1")
W_PER_A = 690


def site(fallback_a: int = 10, link: Link = LINK) -> Site:
    return a_site(*(an_evse(name, link, fallback_a=fallback_a) for name in (A, B)))


def hours(*amps: float, every_h: float = 1.0) -> dict[str, Any]:
    """A plan for A, an hour each."""
    slots = tuple(NOW + timedelta(hours=every_h * n) for n in range(len(amps) + 1))
    return {"slots": slots, "evses_w": {A: tuple(round(W_PER_A * each) for each in amps)}}


def made(
    *amps: float,
    leaves_h: float = 10,
    prices: Sequence[float] = (),
    wakes: bool = True,
    place: Site | None = None,
    trusted: bool = True,
) -> Standby | None:
    place = place or site()
    present = Present(A, None, NOW, 0, None, wakes=wakes)
    departures = {A: Departure(A, NOW + timedelta(hours=leaves_h), energy_wh=1)}
    known = tuple(Price(NOW + timedelta(hours=n), amount) for n, amount in enumerate(prices))
    request = PlanRequest(Moment(0.0, NOW, trusted), place, (present,), {}, departures, prices=known)
    return standbys(request, Plan(NOW, "horizon", {}, **hours(*amps))).get(A)


def amps(standby: Standby | None, count: int) -> list[float | None]:
    """In the middle of each hour; None: the fallback."""
    assert standby is not None
    moments = [NOW + timedelta(minutes=60 * n + 30) for n in range(count)]
    return [None if (ma := standby.limit_ma(at)) is None else ma / 1000 for at in moments]


# --- what is chosen ---------------------------------------------------------------------------------------------


def test_it_waits_through_the_dear_hours_and_then_its_fallback_serves() -> None:
    assert amps(made(0, 0, 8, 10), 5) == [0, 0, 8, 10, None]


def test_what_the_cap_takes_away_goes_into_the_cheapest_hours_before_it_leaves() -> None:
    assert amps(made(0, 0, 0, 16, leaves_h=4, prices=(9, 2, 5, 1)), 4) == [0, 6, 0, 10]
    assert amps(made(0, 0, 0, 20, leaves_h=4, prices=(9, 2, 5, 1)), 4) == [0, 10, 0, 10]
    assert amps(made(0, 0, 0, 18, leaves_h=4), 4) == [0, 0, 8, 10], "of equals the nearest"
    assert amps(made(18, 0, 0, 0), 3) == [10, 8, None]


def test_who_needs_all_it_can_get_keeps_its_fallback() -> None:
    assert made(0, 0, 32, leaves_h=3) is None


def test_nothing_is_put_where_it_has_left() -> None:
    assert made(0, 32, 0, 0, leaves_h=2) is None
    assert amps(made(0, 12, 0, 0, leaves_h=9, prices=(1, 1, 9)), 3) == [6, 10, None]


def test_a_vehicle_that_was_not_seen_to_wake_keeps_its_minimum() -> None:
    assert amps(made(0, 0, 8, 10, wakes=False), 4) == [6, 6, 8, 10]


def test_nothing_is_left_to_win_where_the_fallback_is_the_minimum_or_a_pause() -> None:
    assert made(0, 0, 6, wakes=False, place=site(6)) is None
    assert made(0, 0, 6, place=site(0)) is None
    assert amps(made(0, 0, 6, place=site(6)), 4) == [0, 0, 6, None]


def test_after_its_last_hour_it_is_not_shut_out() -> None:
    """It may need more than it was said to."""
    assert amps(made(0, 8, 0, 0, 0), 4) == [0, 8, None, None]


def test_only_for_a_station_that_can_and_by_a_clock_that_is_known() -> None:
    assert made(0, 8, place=site(link=replace(LINK, stores_plans=False))) is None
    assert made(0, 8, trusted=False) is None
    assert made(0, 0) is None and made() is None


def test_unknown_prices_come_last() -> None:
    assert amps(made(0, 0, 16, leaves_h=3, prices=(float("nan"), 4, 1)), 3) == [0, 6, 10]


def test_a_vehicle_wakes_that_went_on_after_a_pause_by_itself() -> None:
    awake = Sleep(drew=True, ever=True)
    assert Pace(on_s=0.0, cycles=1, sleep=awake).wakes
    assert not Pace(on_s=None, cycles=1, sleep=awake).wakes, "its first pause is not over"
    assert Pace(on_s=None, cycles=2, sleep=awake).wakes
    assert not Pace(on_s=0.0, cycles=0, sleep=awake).wakes
    assert not Pace(on_s=0.0, cycles=1, sleep=replace(awake, drew=False)).wakes
    assert not Pace(on_s=0.0, cycles=1, sleep=replace(awake, least_ma=8000)).wakes


# --- how it is cut ----------------------------------------------------------------------------------------------


def plan(*limits_a: float, minutes: float = 60, start: datetime = NOW) -> Standby:
    steps = [
        StandbyStep(start + timedelta(minutes=minutes * n), round(1000 * each))
        for n, each in enumerate(limits_a)
    ]
    return Standby(tuple(steps), start + timedelta(minutes=minutes * len(limits_a)))


def test_to_few_periods_it_is_cut_at_the_higher_limit_where_that_adds_least() -> None:
    steps = plan(0, 8, 7, 0, 10).steps
    until = NOW + timedelta(hours=5)
    assert [step.limit_ma for step in fitted(steps, until, 9)] == [0, 8000, 7000, 0, 10_000]
    assert [step.limit_ma for step in fitted(steps, until, 4)] == [0, 8000, 0, 10_000]
    assert [step.limit_ma for step in fitted(steps, until, 1)] == [10_000]
    assert [step.limit_ma for step in fitted(plan(0, 0, 8).steps, until, 9)] == [0, 8000]


def test_only_a_quarter_of_an_hour_with_another_ampere_is_news() -> None:
    assert not differ(plan(6, 8), plan(6, 8.9), 10_000, NOW)
    assert differ(plan(6, 8), plan(6, 9), 10_000, NOW)
    assert not differ(plan(6, 8), plan(9, 8), 10_000, NOW + timedelta(minutes=50)), "that is nearly over"
    assert differ(plan(6, 8), plan(6, 8, 8), 10_000, NOW), "one ends where the other goes on"
    assert not differ(plan(6, 8), plan(6, 8, 10), 10_000, NOW), "what the fallback does anyway"


# --- when it is told --------------------------------------------------------------------------------------------


class Bench:
    """`due` as the core calls it; `second` is the time."""

    def __init__(self, *running: EvseId, started: datetime = NOW + timedelta(seconds=1)) -> None:
        self.kept = Standbys(site())
        self.wanted: dict[EvseId, Standby] = {}
        self.out: list[EvseId] = []
        self.there = {A, B}
        self.running = {each: Session("s", each, "17", None, None, started, 0.0) for each in running}
        self.second, self.count = 0.0, 0

    def name(self) -> str:
        self.count += 1
        return f"c{self.count}"

    def at(self, second: float) -> Command | None:
        self.second = second
        now = Moment(second, NOW + timedelta(seconds=second))
        due = self.kept.due(self.wanted, self.running, self.out, self.there.__contains__, self.name, now)
        assert len(due) <= 1
        return due[0] if due else None

    def stored(self, second: float, evse: EvseId = A) -> StorePlan:
        command = self.at(second)
        assert isinstance(command, StorePlan) and command.evse == evse
        return command


@pytest.fixture
def bench() -> Bench:
    made = Bench(A, B)
    made.wanted = {A: plan(0, 8), B: plan(0, 9)}
    return made


def test_one_after_the_other_and_only_what_changed(bench: Bench) -> None:
    first = bench.stored(0)
    assert (first.transaction, first.plan, first.channel) == ("17", plan(0, 8), "ocpp")
    assert bench.at(10) is None, "the first has not answered"
    bench.kept.accepted(first.id)
    second = bench.stored(20, B)
    bench.kept.accepted(second.id)
    assert bench.kept.until(A) == plan(0, 8).until
    bench.wanted[A] = plan(0, 8.5)
    assert bench.at(AGAIN_S + 1) is None
    bench.wanted[A] = plan(8, 8)
    assert bench.stored(AGAIN_S + 10).plan == plan(8, 8)


def test_not_more_often_than_every_five_minutes(bench: Bench) -> None:
    del bench.wanted[B]
    bench.kept.accepted(bench.stored(0).id)
    bench.wanted[A] = plan(8, 8)
    assert [bench.at(second) for second in range(3, int(AGAIN_S), 7)] == [None] * 43
    assert bench.stored(AGAIN_S)


def test_a_station_that_says_no_is_left_alone_longer_and_longer(bench: Bench) -> None:
    del bench.wanted[B]
    bench.kept.refused(bench.stored(0).id, "no room", 0)
    assert bench.kept.trouble(A) == "no room"
    assert bench.at(LEFT_ALONE_S - 5) is None
    bench.kept.refused(bench.stored(LEFT_ALONE_S).id, "no room", bench.second)
    bench.wanted[A] = plan(0, 8, start=NOW + timedelta(hours=2))
    assert bench.at(2 * LEFT_ALONE_S + 1) is None
    bench.kept.accepted(bench.stored(3 * LEFT_ALONE_S).id)
    assert bench.kept.trouble(A) == ""


def test_a_lost_one_is_told_again(bench: Bench) -> None:
    del bench.wanted[B]
    bench.kept.lost(bench.stored(0).id, "no answer to SetChargingProfile")
    assert bench.kept.holds(A) and bench.kept.until(A) is None and "no answer" in bench.kept.trouble(A)
    assert bench.stored(AGAIN_S)
    assert bench.at(AGAIN_S + ANSWER_S - 1) is None
    bench.at(AGAIN_S + ANSWER_S)
    assert bench.stored(2 * AGAIN_S), "whoever never answers does not hold up the others for ever"


def test_a_plan_that_vanished_is_dropped_but_not_at_the_first_stopgap(bench: Bench) -> None:
    del bench.wanted[B]
    bench.kept.accepted(bench.stored(0).id)
    bench.wanted = {}
    assert bench.at(60) is None
    bench.wanted = {A: plan(0, 8)}
    assert bench.at(90) is None
    bench.wanted = {}
    assert bench.at(120) is None
    command = bench.at(120 + AGAIN_S)
    assert isinstance(command, DropPlan)
    bench.kept.accepted(command.id)
    assert not bench.kept.holds(A) and bench.at(3000) is None


def test_a_plan_goes_with_its_transaction(bench: Bench) -> None:
    del bench.wanted[B]
    bench.kept.accepted(bench.stored(0).id)
    del bench.running[A]
    assert bench.at(400) is None and not bench.kept.holds(A)
    bench.running[A] = Session("t", A, "18", None, None, NOW + timedelta(seconds=401), 0.0)
    assert bench.stored(410).transaction == "18"


def test_one_that_is_over_is_forgotten_and_one_that_is_nearly_over_not_worth_it(bench: Bench) -> None:
    bench.wanted = {A: plan(0, minutes=20)}
    assert bench.at(0) is None
    bench.wanted = {A: plan(0, minutes=40)}
    bench.kept.accepted(bench.stored(10).id)
    assert bench.at(2700) is None and bench.kept.until(A) is None


def test_nobody_is_told_who_is_not_there_and_nothing_by_a_wrong_clock(bench: Bench) -> None:
    bench.there = {B}
    bench.kept.accepted(bench.stored(0, B).id)
    assert bench.at(10) is None
    bench.there = {A, B}
    now = Moment(20.0, NOW, utc_trusted=False)
    due = bench.kept.due(bench.wanted, bench.running, [], bench.there.__contains__, bench.name, now)
    assert due == []


def test_a_reboot_may_have_cost_it(bench: Bench) -> None:
    del bench.wanted[B]
    bench.kept.accepted(bench.stored(0).id)
    bench.kept.rebooted(StationId("A"))
    assert bench.kept.holds(A) and bench.kept.until(A) is None
    assert bench.stored(AGAIN_S)


def test_a_proof_gets_it_out_at_once_and_none_in(bench: Bench) -> None:
    del bench.wanted[B]
    bench.kept.accepted(bench.stored(0).id)
    bench.out = [A]
    command = bench.at(1)
    assert isinstance(command, DropPlan) and bench.kept.holds(A), "nobody knows yet"
    bench.kept.refused(command.id, "NotSupported", 2)
    assert bench.kept.holds(A), "a no to that proves nothing"
    assert bench.at(10) is None
    bench.out = []
    bench.kept.accepted(bench.stored(AGAIN_S + 5).id)
    bench.out = [A]
    bench.kept.lost("c3", "")
    command = bench.at(LEFT_ALONE_S + 10)
    assert isinstance(command, DropPlan)
    bench.kept.accepted(command.id)
    assert not bench.kept.holds(A) and bench.at(LEFT_ALONE_S + 20) is None


def test_what_an_earlier_run_may_have_left_counts_as_there() -> None:
    bench = Bench(A, started=NOW - timedelta(hours=1))
    assert bench.at(0) is None and bench.kept.holds(A)
    bench.at(3)
    assert isinstance(bench.at(AGAIN_S + 10), DropPlan), "no plan came"
