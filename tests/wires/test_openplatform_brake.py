"""An overload of a site whose twenty EVSEs all hang on the hosted platform: 30 control calls a minute are too few for
twenty decreases, so the whole site is braked with one flexibility action first. Core, client, platform and copper are
real; only the shell between core and client is a dozen lines here."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from controller.clock import SystemClock
from controller.config.stations import CLOUD_LINK
from controller.core import events as ev
from controller.core.depot import Depot
from controller.core.model import (
    SITE,
    Circuit,
    Evse,
    EvseId,
    Meter,
    MeterId,
    MeterRole,
    PerPhase,
    Site,
    StationId,
    each_phase,
)
from controller.core.readings import Readings
from controller.core.snapshot import Snapshot
from controller.ports import Answer
from drivers.openplatform.operator import PlatformOperator
from drivers.openplatform.settings import CloudDevice, CloudSettings
from drivers.sim.evse import SimEvse
from drivers.sim.platform import CloudCharger, SimPlatform
from drivers.sim.vehicle import Vehicle

SPEED = 40.0
BRAKE_S = 60.0
MANY = 20
LIMIT_A = 400
QUIET_A, LOUD_A = 40.0, 250.0
MAIN = MeterId("main")


@dataclass
class Yard:
    """`asked`: the operations that reached the platform's operator surface, with the second they left."""

    clock: SystemClock
    depot: Depot
    operator: PlatformOperator
    outlets: list[SimEvse]
    background_a: float = QUIET_A
    snapshot: Snapshot | None = None
    numbers: int = 0
    asked: list[tuple[str, float]] = field(default_factory=list)

    @property
    def current_a(self) -> float:
        """The truth in the copper of one phase."""
        return self.background_a + sum(outlet.current_a[0] for outlet in self.outlets)

    async def report(self, event: ev.Event) -> Answer:
        if isinstance(event, ev.TransactionStarted):
            self.numbers += 1
            event = ev.TransactionStarted(
                event.evse, event.channel, str(self.numbers), event.token, event.register_wh, event.started,
                inferred=event.inferred,
            )  # fmt: skip
        return self.depot.apply(event, self.clock.now())

    async def live(self) -> None:
        """Physics twice a second, a meter reading and a decision every second."""
        while True:
            for half in (False, True):
                for outlet in self.outlets:
                    outlet.step(0.5, self.clock.now().mono_s)
                if half:
                    self._decide()
                await self.clock.sleep(0.5)

    def _decide(self) -> None:
        now = self.clock.now()
        current: PerPhase[int | None] = each_phase(round(self.current_a * 1000))
        unknown: PerPhase[int | None] = each_phase(None)
        self.depot.apply(ev.MeterReading(MAIN, now.mono_s, current, None, unknown), now)
        decision = self.depot.step(now)
        self.snapshot = decision.snapshot
        for command in decision.commands:
            self.operator.send(command)

    async def until(self, true: Callable[[], Any], within_s: float = 600.0) -> float:
        """How long that took, by the site's clock."""
        began_s = self.clock.now().mono_s
        while not true():
            waited_s = self.clock.now().mono_s - began_s
            views = () if self.snapshot is None else self.snapshot.evses
            told = [(v.state.value, v.grant_ma, v.accepted_ma) for v in views]
            assert waited_s < within_s, f"{self.current_a:.0f} A, {self.asked[-30:]}, {told}"
            await self.clock.sleep(0.5)
        return self.clock.now().mono_s - began_s


@contextlib.asynccontextmanager
async def yard(site_ids: tuple[str, ...]) -> AsyncIterator[Yard]:
    clock = SystemClock(SPEED)
    names = [f"CP{number:02}" for number in range(MANY)]
    outlets = [SimEvse(f"{name}/1", 32.0) for name in names]
    platform = SimPlatform(
        [CloudCharger(f"dvc_{n}", n, "TP-AC22", "260420.0107", [o], 22.0) for n, o in zip(names, outlets, strict=True)],
        clock, "me", "s3cret",
    )  # fmt: skip
    await platform.start()
    evses = {
        EvseId(f"{n}/1"): Evse(
            EvseId(f"{n}/1"), StationId(n), SITE, 32_000, 6_000, (0, 1, 2), 6_000, CLOUD_LINK, autostart=True
        )
        for n in names
    }
    circuit = Circuit(SITE, None, each_phase(LIMIT_A * 1000), MAIN, each_phase(LIMIT_A * 700))
    meters = {MAIN: Meter(MAIN, "sim", MeterRole.GRID, 1.0, 30.0)}
    site = Site("yard", "UTC", 230_000, {SITE: circuit}, evses, meters)
    settings = CloudSettings(
        platform.base_url, "site", "me", "s3cret",
        {StationId(n): CloudDevice(f"dvc_{n}", {1: evses[EvseId(f"{n}/1")]}) for n in names},
        "sole", frozenset({"monitor", "control", "flexibility"}), "J", "UTC", site_ids, Readings(brake_s=BRAKE_S),
    )  # fmt: skip
    asked: list[tuple[str, float]] = []

    def note(operation: str, *_: Any) -> int:
        asked.append((operation, clock.now().mono_s))
        return len(asked)

    made = Yard(
        clock, Depot(site, "1"), PlatformOperator(settings, clock, on_request=note), outlets, asked=asked
    )
    for number, outlet in enumerate(outlets):
        outlet.plug(Vehicle(f"V{number}", None, 90_000.0, 0.2, max_a=32.0))
    works = (platform.run(), made.operator.run(made.report), made.live())
    tasks = [asyncio.create_task(work) for work in works]
    try:
        yield made
        assert not any(task.done() for task in tasks), tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await platform.stop()


def since(place: Yard, at_s: float, operation: str) -> int:
    return sum(1 for name, asked_s in place.asked if name == operation and asked_s >= at_s)


async def busy(place: Yard) -> None:
    """All twenty charge, with all the site allows."""
    await place.until(lambda: place.current_a > 0.9 * LIMIT_A)
    assert sum(outlet.drawing for outlet in place.outlets) == MANY


async def test_one_flexibility_action_brakes_what_the_quota_cannot() -> None:
    async with yard(("st-sim-01",)) as place:
        await busy(place)
        at_s = place.clock.now().mono_s
        place.background_a = LOUD_A
        assert place.current_a > LIMIT_A + 100
        took_s = await place.until(lambda: place.current_a <= LIMIT_A)
        assert since(place, at_s, "flexibility") == 1, "the quota alone would not have done it"
        assert since(place, at_s, "schedule") < MANY, "and not all decreases had gone out by then"
        assert took_s < 30, took_s
        # the brake only bridges: the limits that follow it hold the site when it is over
        await place.until(lambda: since(place, at_s, "schedule") >= MANY)
        await place.until(lambda: place.clock.now().mono_s > at_s + took_s + BRAKE_S + 10)
        assert place.current_a <= LIMIT_A


async def test_without_site_ids_there_is_no_brake_and_it_takes_as_long_as_the_quota() -> None:
    async with yard(()) as place:
        await busy(place)
        at_s = place.clock.now().mono_s
        place.background_a = LOUD_A
        took_s = await place.until(lambda: place.current_a <= LIMIT_A)
        assert since(place, at_s, "flexibility") == 0
        assert took_s > 15, "else the test above proves nothing"
