"""The operator client against the simulated platform: a whole session, a lease that lapses, a link that breaks."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from controller.clock import SystemClock
from controller.core import events as ev
from controller.core.commands import SetLimit, StartCharging, StartDischarge, StopCharging, StoreSchedule
from controller.core.model import (
    SITE,
    Evse,
    EvseId,
    EvseState,
    Link,
    Schedule,
    ScheduleType,
    SlotAction,
    StationId,
    TimeSlot,
    Verdict,
)
from drivers.openplatform.operator import PlatformOperator
from drivers.openplatform.settings import CHANNEL, CloudDevice, CloudSettings
from drivers.sim.cloudwords import StartOrder
from drivers.sim.evse import SimEvse
from drivers.sim.platform import CloudCharger, SimPlatform
from drivers.sim.v2g import V2gEvse
from drivers.sim.vehicle import Vehicle

EVSE = EvseId("CP1/1")
SPEED = 40.0


@dataclass(frozen=True)
class Said:
    verdict: Verdict = Verdict.ACCEPTED
    transaction: str | None = "7"


@dataclass
class Depot:
    clock: SystemClock
    platform: SimPlatform
    outlet: SimEvse
    operator: PlatformOperator
    events: list[Any]

    async def until(self, true: Callable[[], Any]) -> None:
        async with asyncio.timeout(15):
            while not true():
                await self.clock.sleep(0.5)

    async def ended(self, command: str) -> Any:
        ends = ev.CommandAccepted | ev.CommandRefused | ev.CommandLost | ev.CommandReplaced

        def found() -> list[Any]:
            return [e for e in self.events if isinstance(e, ends) and e.command == command]

        await self.until(found)
        return found()[0]

    async def found(self, kind: type) -> list[Any]:
        await self.until(lambda: self.of(kind))
        return self.of(kind)

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


@contextlib.asynccontextmanager
async def depot() -> AsyncIterator[Depot]:
    clock = SystemClock(SPEED)
    outlet = V2gEvse(EVSE, 32.0)
    platform = SimPlatform(
        [CloudCharger("dvc_1", "SN1", "TP-AC22", "260420.0107", [outlet], 22.0)], clock, "me", "s3cret"
    )
    await platform.start()
    link = Link(CHANNEL, 900, 120, 60, 60, lease_ends_with_transaction=False)
    evse = Evse(EVSE, StationId("CP1"), SITE, 32_000, 6_000, (0, 1, 2), 6_000, link)
    settings = CloudSettings(
        platform.base_url,
        "site",
        "me",
        "s3cret",
        {StationId("CP1"): CloudDevice("dvc_1", {1: evse})},
        "sole",
        frozenset({"monitor", "control", "v2g", "flexibility"}),
        "J",
        "Europe/Amsterdam",
        ("st-sim-01",),
    )
    operator, events = PlatformOperator(settings, clock), []

    async def report(event: ev.Event) -> Said:
        events.append(event)
        return Said()

    async def physics() -> None:
        while True:
            outlet.step(0.5, clock.now().mono_s)
            await clock.sleep(0.5)

    tasks = [asyncio.create_task(work) for work in (platform.run(), physics(), operator.run(report))]
    try:
        site = Depot(clock, platform, outlet, operator, events)
        await site.until(lambda: site.of(ev.LinkUp) and platform.streams.listeners)
        yield site
        assert not any(task.done() for task in tasks), tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await platform.stop()


async def test_a_session_with_a_lease_that_lapses_to_the_fallback() -> None:
    async with depot() as site:
        site.outlet.plug(Vehicle("BUS-07", None, battery_wh=94_000, soc=0.2, max_a=32.0))
        await site.until(lambda: site.of(ev.StatusChanged)[-1].state is EvseState.PREPARING)
        site.operator.send(StartCharging("start", EVSE, CHANNEL, "04A2", 16_000))
        assert isinstance(await site.ended("start"), ev.CommandAccepted)
        await site.until(lambda: site.outlet.current_a[0] > 5.9)
        assert site.outlet.limit_a == 6.0  # the start leaves the fallback behind

        site.operator.send(SetLimit("limit", EVSE, CHANNEL, 16_000, lease_s=60))
        assert isinstance(await site.ended("limit"), ev.CommandAccepted)
        leased_s = site.clock.now().mono_s
        await site.until(lambda: site.outlet.current_a[0] > 15.9)
        await site.until(lambda: site.outlet.limit_a == 6.0)
        assert 55 < site.clock.now().mono_s - leased_s < 60 + 60 + 5  # the lease, up to the next whole minute

        site.operator.send(SetLimit("pause", EVSE, CHANNEL, 0, lease_s=120))
        assert isinstance(await site.ended("pause"), ev.CommandAccepted)
        await site.until(lambda: site.outlet.current_a[0] == 0.0)
        assert not site.of(ev.TransactionEnded)

        site.operator.send(StopCharging("stop", EVSE, CHANNEL, "7", "user"))
        assert isinstance(await site.ended("stop"), ev.CommandAccepted)
        await site.until(lambda: site.of(ev.TransactionEnded))
        started, ended = site.of(ev.TransactionStarted), site.of(ev.TransactionEnded)
        assert [(e.token, e.inferred) for e in started] == [("04A2", True)]
        assert [(e.transaction, e.reason) for e in ended] == [("7", "user")]
        assert ended[0].register_wh > 0 and not site.of(ev.FallbackRefused)
        powers = [e.power_w for e in site.of(ev.EvseSample)]
        assert max(powers) > 11_000


async def test_a_start_without_a_vehicle_is_refused_with_the_reason() -> None:
    async with depot() as site:
        site.operator.send(StartCharging("start", EVSE, CHANNEL, None, 16_000))
        outcome = await site.ended("start")
        assert isinstance(outcome, ev.CommandRefused) and outcome.reason == "no_vehicle"


async def test_tokens_expire_and_streams_break_without_losing_a_session() -> None:
    async with depot() as site:
        site.outlet.plug(Vehicle("BUS-07", None, battery_wh=94_000, soc=0.2, max_a=32.0))
        site.operator.send(StartCharging("start", EVSE, CHANNEL, None, 16_000))
        assert isinstance(await site.ended("start"), ev.CommandAccepted)
        await site.until(lambda: site.of(ev.TransactionStarted))
        site.platform.expire_tokens()
        await site.until(
            lambda: site.platform.requests["openStream"] >= 2 and site.platform.streams.listeners
        )
        site.platform.drop_streams()
        await site.until(
            lambda: site.platform.requests["openStream"] >= 3 and site.platform.streams.listeners
        )
        site.operator.send(SetLimit("limit", EVSE, CHANNEL, 10_000, 900))
        assert isinstance(await site.ended("limit"), ev.CommandAccepted)
        await site.until(lambda: site.outlet.limit_a == 10.0)
        assert len(site.of(ev.TransactionStarted)) == 1 and not site.of(ev.TransactionEnded)
        assert site.platform.requests["operatorToken"] == 2


async def test_an_offline_charger_goes_down_and_comes_back_in_its_session() -> None:
    async with depot() as site:
        site.outlet.plug(Vehicle("BUS-07", None, battery_wh=94_000, soc=0.2, max_a=32.0))
        site.operator.send(StartCharging("start", EVSE, CHANNEL, None, 16_000))
        await site.until(lambda: site.of(ev.TransactionStarted))
        site.platform.set_offline("dvc_1")
        await site.until(lambda: site.of(ev.LinkDown))  # it fell silent, so it was read
        site.platform.set_offline("dvc_1", False)
        await site.until(lambda: len(site.of(ev.LinkUp)) == 2)
        assert len(site.of(ev.StationBooted)) == 1
        assert len(site.of(ev.TransactionStarted)) == 1 and not site.of(ev.TransactionEnded)


async def test_a_discharge_is_measured_as_export_recorded_and_ended_by_a_stop() -> None:
    async with depot() as site:
        site.outlet.plug(Vehicle("BUS-07", None, battery_wh=94_000, soc=0.8, max_a=32.0))
        site.operator.send(StartDischarge("out", EVSE, CHANNEL, 6_900, 3600, 30))
        assert isinstance(await site.ended("out"), ev.CommandAccepted)
        await site.until(lambda: any((e.power_w or 0) < -6_000 for e in site.of(ev.EvseSample)))
        exporting = next(e for e in site.of(ev.EvseSample) if (e.power_w or 0) < -6_000)
        assert max(e for e in exporting.current_ma if e is not None) < -9_000
        assert exporting.register_wh is None and not site.of(ev.FallbackRefused)
        assert [e.state for e in site.of(ev.StatusChanged)][-1] is EvseState.DISCHARGING
        began_s = site.clock.now().mono_s
        await site.until(lambda: site.clock.now().mono_s > began_s + 60)
        site.operator.send(StopCharging("stop", EVSE, CHANNEL, "7", "enough"))
        assert isinstance(await site.ended("stop"), ev.CommandAccepted)
        await site.until(lambda: site.of(ev.TransactionEnded))
        (record,) = await site.found(ev.RecordReceived)
        assert record.evse == EVSE and record.energy_wh > 50 and record.reason == "user_request"
        since = record.started - timedelta(hours=1)
        hours = (await site.operator.energy(since, site.clock.now().utc))["st-sim-01"]
        assert sum(hour.discharge_wh or 0 for hour in hours) >= record.energy_wh


async def test_flexibility_pauses_the_site_and_ends_by_itself() -> None:
    async with depot() as site:
        site.outlet.plug(Vehicle("BUS-07", None, battery_wh=94_000, soc=0.2, max_a=32.0))
        site.operator.send(StartCharging("start", EVSE, CHANNEL, None, 16_000))
        assert isinstance(await site.ended("start"), ev.CommandAccepted)
        await site.until(lambda: site.outlet.current_a[0] > 5.9)
        await site.operator.flexibility(None, 30, "grid request")
        await site.until(lambda: site.outlet.current_a[0] == 0.0)
        await site.until(lambda: site.outlet.current_a[0] > 5.9)
        assert not site.of(ev.TransactionEnded)


async def test_a_plan_stays_in_the_charger_between_sessions_and_never_lifts_it_above_the_fallback() -> None:
    async with depot() as site:
        charger = site.platform.chargers["dvc_1"].connectors[0]

        def running() -> list[str]:
            return [id for id, stored in charger.schedules.items() if stored.plan.enabled]

        always = TimeSlot(0, 0, SlotAction.CHARGE, None)
        all_day = Schedule("all day", ScheduleType.DAILY, True, "UTC", (always,))
        site.operator.send(StoreSchedule("store", EVSE, CHANNEL, all_day))
        assert isinstance(await site.ended("store"), ev.CommandAccepted)
        await site.until(running)
        (plan,) = running()
        site.outlet.plug(Vehicle("BUS-07", None, battery_wh=94_000, soc=0.2, max_a=32.0))
        site.operator.send(StartCharging("start", EVSE, CHANNEL, None, 16_000))
        assert isinstance(await site.ended("start"), ev.CommandAccepted)
        site.operator.send(SetLimit("limit", EVSE, CHANNEL, 16_000, lease_s=900))
        assert isinstance(await site.ended("limit"), ev.CommandAccepted)
        await site.until(lambda: site.outlet.current_a[0] > 15.9)
        assert plan not in running()
        site.operator.send(StopCharging("stop", EVSE, CHANNEL, "7", "user"))
        assert isinstance(await site.ended("stop"), ev.CommandAccepted)
        await site.until(lambda: running() == [plan])
        charger.start("by hand", StartOrder(), site.clock.now())  # by somebody else, without a power
        await site.until(lambda: site.outlet.current_a[0] > 5.9)
        assert site.outlet.limit_a == 6.0
