"""When plans are made, and that nothing a planner does can stop control: it hangs, raises, or returns nonsense."""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from small_depot import A1, B1, FULL_MA, START, SmallDepot, site, small_depot

from controller.core.events import (
    DepartureSet,
    Event,
    PlanReady,
    ScheduleSet,
    StatusChanged,
    TariffRead,
    TransactionEnded,
)
from controller.core.model import (
    Departure,
    EvseId,
    EvseState,
    Moment,
    Plan,
    Schedule,
    ScheduleType,
    SlotAction,
    StationId,
    TimeSlot,
    Wish,
)
from controller.core.planning import PlanRequest
from controller.core.tariff import Band, Rates, Tariff
from controller.plan_loop import EVERY_S, next_edge
from controller.planner import rules
from controller.planner.worker import PlanWorker

SOON_S = 5.0


class Asked:
    """A planner that writes down what it was asked, and when."""

    def __init__(self) -> None:
        self.requests: list[PlanRequest] = []

    def plan(self, request: PlanRequest) -> Plan:
        self.requests.append(request)
        return replace(rules.plan(request), by="horizon")

    @property
    def seconds(self) -> list[float]:
        return [request.now.mono_s for request in self.requests]


async def pass_time(depot: SmallDepot, seconds: float) -> None:
    for _ in range(round(seconds / 0.5)):
        await depot.clock.advance(0.5)


async def quiet(depot: SmallDepot, asked: Asked) -> int:
    """Until no plan is on its way; returns how many there were."""
    await pass_time(depot, 6)
    return len(asked.requests)


# --- when ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", ["plug", "unplug", "departure", "tariff", "gone without a stop"])
async def test_a_change_makes_a_new_plan_within_five_seconds(tmp_path: Path, change: str) -> None:
    asked = Asked()
    async with small_depot(tmp_path, planner=asked.plan) as depot:
        await depot.connect_stations()
        await depot.begin(B1, "t-b")
        before = await quiet(depot, asked)
        now = depot.clock.now()
        match change:
            case "plug":
                await depot.begin(A1)
            case "unplug":
                await depot.runtime.report(
                    TransactionEnded(StationId("B"), B1, "t-b", "Local", None, now.utc)
                )
            case "departure":
                await depot.runtime.report(
                    DepartureSet("ann", Departure("BUS-07", now.utc + timedelta(hours=9), 30_000))
                )
            case "tariff":
                await depot.runtime.report(TariffRead(Tariff("EUR", Rates("UTC", (Band(0, 1440, 1),)))))
            case _:
                await depot.runtime.report(StatusChanged(B1, "wire", EvseState.AVAILABLE))
                await pass_time(depot, 30)  # it may still come back
                before, now = len(asked.requests), depot.clock.now()
        await pass_time(depot, SOON_S)
        assert len(asked.requests) > before
        assert asked.requests[before].now.mono_s <= now.mono_s + SOON_S


async def test_without_news_there_is_a_plan_every_few_minutes_and_at_each_quarter(tmp_path: Path) -> None:
    asked = Asked()
    async with small_depot(tmp_path, planner=asked.plan) as depot:
        before = await quiet(depot, asked)
        await pass_time(depot, 1800)
        made = asked.requests[before:]
        assert 6 <= len(made) <= 9
        apart = [b.now.mono_s - a.now.mono_s for a, b in itertools.pairwise(made)]
        assert max(apart) <= EVERY_S + 5
        assert {request.now.utc.minute for request in made} >= {15, 30}


async def test_a_window_that_opens_makes_a_plan_at_once(tmp_path: Path) -> None:
    asked = Asked()
    local_min = 19 * 60 + 2  # 18:02 UTC in Amsterdam's winter
    slot = TimeSlot(local_min, local_min + 60, SlotAction.CHARGE, 7_000)
    schedule = Schedule("s", ScheduleType.DAILY, True, "Europe/Amsterdam", (slot,))
    async with small_depot(tmp_path, planner=asked.plan) as depot:
        await depot.runtime.report(ScheduleSet("ann", A1, schedule))
        before = await quiet(depot, asked)
        await depot.until(lambda: depot.clock.now().utc >= START + timedelta(minutes=2, seconds=5))
        opened = START + timedelta(minutes=2)
        assert any(
            opened <= request.now.utc < opened + timedelta(seconds=5) for request in asked.requests[before:]
        )


async def test_a_burst_of_changes_is_a_few_plans(tmp_path: Path) -> None:
    asked = Asked()
    async with small_depot(tmp_path, planner=asked.plan) as depot:
        await depot.connect_stations()
        before = await quiet(depot, asked)
        for n in range(50):
            departure = Departure("BUS-07", START + timedelta(hours=9, minutes=n), 30_000)
            await depot.runtime.report(DepartureSet("ann", departure))
        await pass_time(depot, 10)
        assert 1 <= len(asked.requests) - before <= 4
        assert asked.requests[-1].departures["BUS-07"].at == START + timedelta(hours=9, minutes=49)


def test_the_next_edge_is_a_departure_or_the_end_of_a_window() -> None:
    now = Moment(0.0, START)
    slot = TimeSlot(18 * 60, 20 * 60, SlotAction.CHARGE)
    schedule = Schedule("s", ScheduleType.DAILY, True, "UTC", (slot,))
    request = PlanRequest(now, site(), (), {A1: (schedule,)}, {})
    far = START + timedelta(hours=5)
    assert next_edge(request, far) == START + timedelta(hours=2)
    leaves = START + timedelta(hours=1)
    assert next_edge(replace(request, departures={"x": Departure("x", leaves, 1)}), far) == leaves
    assert next_edge(replace(request, schedules={}), far) == far


# --- what the core is told ----------------------------------------------------------------------------------------------


async def test_the_core_hears_of_the_plan_without_its_long_series(tmp_path: Path) -> None:
    heard: list[Event] = []

    def planning(request: PlanRequest) -> Plan:
        slots = (request.now.utc, request.now.utc + timedelta(hours=1))
        wishes = {A1: Wish(FULL_MA)}
        return Plan(request.now.utc, "horizon", wishes, "", slots, {A1: (5_000,)}, (6_000,), battery_w=-100)

    async with small_depot(tmp_path, planner=planning) as depot:
        depot.runtime.hearers.append(heard.append)
        await depot.begin(A1)
        await depot.until(lambda: any(isinstance(event, PlanReady) for event in heard))
        told = next(event.plan for event in heard if isinstance(event, PlanReady))
        assert (told.slots, told.evses_w, told.site_w) == ((), {}, ())
        assert (told.battery_w, told.wishes) == (-100, {A1: Wish(FULL_MA)})
        assert depot.runtime.planning.newest is not None
        assert depot.runtime.planning.newest[1].evses_w == {A1: (5_000,)}


async def test_a_request_says_what_a_vehicle_may_draw(tmp_path: Path) -> None:
    asked = Asked()
    async with small_depot(tmp_path, planner=asked.plan) as depot:
        await depot.connect_stations()
        await depot.begin(A1)
        await depot.until(lambda: depot.charger.limits(A1)[-1:] == [FULL_MA])
        await pass_time(depot, EVERY_S + 5)
        (present,) = asked.requests[-1].present
        assert (present.granted_ma, present.drawn_ma) == (FULL_MA, None)


# --- a planner that fails ------------------------------------------------------------------------------------------------


def nonsense(**changed: Any) -> Callable[[PlanRequest], Plan]:
    def planning(request: PlanRequest) -> Plan:
        return Plan(request.now.utc, "horizon", {evse: Wish(**changed) for evse in request.site.evses})

    return planning


def raising(request: PlanRequest) -> Plan:
    raise KeyError("x")


@pytest.mark.parametrize(
    ("planning", "said"),
    [
        (lambda request: "later", "it is not a plan"),
        (lambda request: None, "no plan"),
        (nonsense(cap_ma=-5), "-5 is not an amount"),
        (nonsense(cap_ma=0.5), "0.5 is not an amount"),
        (nonsense(rank=float("nan")), "not a wish"),
        (lambda request: Plan(request.now.utc, "horizon", {EvseId("X/9"): Wish()}), "there is no EVSE X/9"),
        (nonsense(tier="first"), "not a wish"),
        (raising, "KeyError"),
    ],
)
async def test_control_goes_on_with_rules_whatever_the_planner_returns(
    tmp_path: Path, planning: Callable[[PlanRequest], Plan], said: str
) -> None:
    async with small_depot(tmp_path, planner=PlanWorker(planning).plan) as depot:
        await depot.connect_stations()
        await depot.begin(A1)
        await depot.until(lambda: depot.charger.limits(A1)[-1:] == [FULL_MA])
        assert depot.runtime.snapshot is not None
        assert depot.runtime.snapshot.planner == "rules"
        assert said in depot.runtime.snapshot.planner_text


async def test_control_goes_on_while_the_planner_hangs_and_it_is_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gate, hangs = threading.Event(), True
    threads: list[threading.Thread] = []

    def planning(request: PlanRequest) -> Plan:
        threads.append(threading.current_thread())
        if hangs:
            gate.wait(10)
        return replace(rules.plan(request), by="horizon")

    caplog.set_level(logging.WARNING)
    worker = PlanWorker(planning, late_s=0.02)
    async with small_depot(tmp_path, planner=worker.plan) as depot:
        try:
            await depot.connect_stations()
            await depot.begin(A1)
            await depot.until(lambda: depot.charger.limits(A1)[-1:] == [FULL_MA])
            assert depot.runtime.snapshot is not None
            before = depot.runtime.snapshot.time
            await pass_time(depot, 60)
            assert (depot.runtime.snapshot.time - before).total_seconds() >= 55, "steps went on"
            assert len(threads) == 1, "never two at once"
            hangs = False
        finally:
            gate.set()
        await asyncio.to_thread(threads[0].join)
        await depot.until(lambda: depot.runtime.snapshot and depot.runtime.snapshot.planner == "horizon")
    assert "planned by rules" not in caplog.text or caplog.text.count("planned by rules") == 1


async def test_the_horizon_itself_plans_a_running_depot(tmp_path: Path) -> None:
    async with small_depot(tmp_path, planner=PlanWorker().plan) as depot:
        await depot.connect_stations()
        await depot.runtime.report(
            DepartureSet("ann", Departure("BUS-07", START + timedelta(hours=6), energy_wh=30_000))
        )
        await depot.begin(A1)
        await depot.until(lambda: depot.runtime.snapshot and depot.runtime.snapshot.planner == "horizon")
        await depot.until(lambda: depot.charger.limits(A1)[-1:] == [FULL_MA])
        loop = depot.runtime.planning
        await depot.until(lambda: loop.newest is not None and A1 in loop.newest[1].evses_w)
