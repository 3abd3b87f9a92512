"""A whole controller as `depot run` builds it, on real sockets, above a simulated site whose copper keeps the score.

Owns the wiring and the waiting. What is judged is `World`, the physical truth; the controller's own view is only
asked for states and alarms.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TypeVar

from controller.cli.compose import House
from controller.clock import SystemClock
from controller.config import load
from controller.core.snapshot import EvseView, Snapshot
from controller.runtime import Runtime
from drivers.sim.charger import SimCharger
from drivers.sim.evse import Amps, SimEvse
from drivers.sim.meter import MeterTruth, SimMeter
from drivers.sim.quirks import HONEST, Quirks
from drivers.sim.vehicle import Vehicle
from drivers.sim.world import SimCircuit, World

SPEED = 10.0
DEADLINE_S = 25.0  # real seconds; nothing here should take a third of it
VOLTS = 230.0
FALLBACK_A = 6.0
STATIONS = ("CP001", "CP002", "CP003")


class Building:
    """A load that changes only when a test says so."""

    def __init__(self, amps: float) -> None:
        self.amps = amps

    def __call__(self, elapsed_s: float) -> Amps:
        return (self.amps, self.amps, self.amps)


class WholeHouse:
    """Three stations of 32 A below one connection of `limit_a`, an SDM630 at the grid, a building."""

    def __init__(self, limit_a: float, building_a: float, worst_a: float, quirks: dict[str, Quirks]) -> None:
        self.clock = SystemClock(SPEED)
        self.limit_a = limit_a
        self.worst_a = worst_a
        self.building = Building(building_a)
        self.evses = {name: SimEvse(f"{name}/1", 32.0) for name in STATIONS}
        circuits = {"site": SimCircuit(None, limit_a)}
        self.world = World(self.clock, 1, circuits, self.evses.values(), self.building)
        self.meter = SimMeter(self._truth)
        self.stations: dict[str, SimCharger] = {}
        self.quirks = quirks
        self.house: House | None = None
        self.runtime: Runtime | None = None
        self.socket = Path()

    def _truth(self) -> MeterTruth:
        self.world.catch_up()
        l1, l2, l3 = self.world.current_a()
        power_w = (l1 * VOLTS, l2 * VOLTS, l3 * VOLTS)
        return MeterTruth((l1, l2, l3), (VOLTS, VOLTS, VOLTS), power_w, self.world.import_wh(), 0.0)

    def config(self) -> str:
        stations = "".join(
            f'[station.{name}]\ncircuit = "site"\nfallback = "{FALLBACK_A:g} A"\n'
            'evse.1 = { max = "32 A", min = "6 A", phases = "L1 L2 L3" }\nocpp = { allow_insecure = true }\n'
            f'[vehicle.BUS-{name}]\nbattery = "94 kWh"\ntokens = ["{card(name)}"]\n'
            for name in STATIONS
        )
        return (
            f'[site]\nname = "Whole house"\ntimezone = "Europe/Amsterdam"\nlimit = "{self.limit_a:g} A"\n'
            f'meter = "main"\nassumed_load = "{self.worst_a:g} A"\n'
            f'[meter.main]\nkind = "sdm630"\naddress = "tcp://127.0.0.1:{self.meter.port}/1"\nrole = "grid"\n'
            '[ocpp]\nlisten = "127.0.0.1:0"\nunknown_tokens = "reject"\nunqualified = "fallback"\n'
            f'{stations}[storage]\npath = "state"\n[control]\nsocket = "control.sock"\n'
        )

    # --- looking ------------------------------------------------------------------------------------------------

    @property
    def snapshot(self) -> Snapshot:
        assert self.runtime is not None
        assert self.runtime.snapshot is not None
        return self.runtime.snapshot

    def view(self, name: str) -> EvseView:
        return next(evse for evse in self.snapshot.evses if evse.id == f"{name}/1")

    def alarms(self) -> set[tuple[str, str]]:
        return {(alarm.kind, alarm.source) for alarm in self.snapshot.alarms}

    def drawn_a(self, name: str) -> float:
        return max(self.evses[name].current_a)

    async def until(self, condition: Callable[[], object]) -> None:
        """Looks at every snapshot; a TimeoutError tells where everybody stood."""
        assert self.runtime is not None
        try:
            async with asyncio.timeout(DEADLINE_S):
                seen = await self.runtime.next_snapshot(None)
                while not condition():
                    seen = await self.runtime.next_snapshot(seen)
        except TimeoutError:
            raise AssertionError(f"never happened: {self.story()}") from None

    async def hold(self, seconds: float, condition: Callable[[], object]) -> None:
        """The condition holds at every snapshot for so many seconds of the site's clock."""
        assert self.runtime is not None
        end_s = self.clock.now().mono_s + seconds
        seen = None
        while self.clock.now().mono_s < end_s:
            assert condition(), self.story()
            seen = await self.runtime.next_snapshot(seen)

    def is_ready(self) -> bool:
        return self.snapshot.state == "auto" and all(evse.fallback_stored for evse in self.snapshot.evses)

    def story(self) -> str:
        seen = self.snapshot
        evses = ", ".join(
            f"{e.id} {e.state} grant {e.grant_ma} accepted {e.accepted_ma} committed {e.commitment_ma} ({e.bound_by})"
            for e in seen.evses
        )
        drawn = {name: round(self.drawn_a(name), 1) for name in STATIONS}
        return f"{seen.state} ({seen.text}); {evses}; truth {drawn}; alarms {sorted(self.alarms())}"

    # --- doing --------------------------------------------------------------------------------------------------

    def arrive(self, name: str, **habits: float) -> Vehicle:
        """A vehicle is plugged in and its driver holds a card to the reader."""
        vehicle = Vehicle(f"BUS-{name}", card(name), battery_wh=94_000.0, soc=0.2, max_a=32.0, **habits)  # type: ignore[arg-type]
        self.evses[name].plug(vehicle)
        self.evses[name].present(card(name))
        return vehicle

    async def _stations(self, house: House) -> None:
        assert house.ocpp is not None
        await house.ocpp.ready()
        url = f"ws://127.0.0.1:{house.ocpp.port}/ocpp"
        for name, evse in self.evses.items():
            self.stations[name] = SimCharger(
                name, url, [evse], clock=self.clock, quirks=self.quirks.get(name, HONEST)
            )
        async with asyncio.TaskGroup() as group:
            group.create_task(self.world.run())
            for station in self.stations.values():
                group.create_task(station.run())


def card(name: str) -> str:
    return f"04{name}"


S = TypeVar("S", bound=WholeHouse)


@asynccontextmanager
async def opened(site: S, folder: Path) -> AsyncIterator[S]:
    """Running, its meter seen and every fallback stored."""
    await site.meter.start()
    try:
        file = folder / "depot.toml"
        file.write_text(site.config())
        config = load(file)
        site.socket = config.control_socket
        house = site.house = House(config, site.clock)
        async with house.open() as runtime:
            site.runtime = runtime
            running = asyncio.create_task(house.run(runtime, [lambda: site._stations(house)]))
            try:
                await site.until(site.is_ready)
                yield site
            finally:
                running.cancel()
                await asyncio.wait({running})
                if not running.cancelled():
                    running.result()
    finally:
        await site.meter.stop()


def whole_house(
    folder: Path,
    *,
    limit_a: float = 60.0,
    building_a: float = 15.0,
    worst_a: float = 30.0,
    quirks: dict[str, Quirks] | None = None,
) -> AbstractAsyncContextManager[WholeHouse]:
    return opened(WholeHouse(limit_a, building_a, worst_a, quirks or {}), folder)
