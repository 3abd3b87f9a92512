"""The whole controller above one charger that can charge on one phase: what really flows, on real sockets."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from whole_house import STATIONS, Building, WholeHouse, opened

from controller.cli.compose import House
from controller.core import switching
from drivers.sim.charger import SimCharger
from drivers.sim.charger2 import SimStation
from drivers.sim.evse import Amps, SimEvse
from drivers.sim.quirks import HONEST, Quirks
from drivers.sim.world import SimCircuit, World

NAME = "CP001"
FULL: Amps = (55.0, 10.0, 55.0)  # of 60 A: three phases have no room for 6 A, L2 alone has


class Uneven(Building):
    def __init__(self, amps: Amps) -> None:
        self.each = amps

    def __call__(self, elapsed_s: float) -> Amps:
        return self.each


class OneCharger(WholeHouse):
    """Wired L2 L3 L1, so that its first conductor hangs on L2."""

    def __init__(self, version: str, quirks: Quirks) -> None:
        super().__init__(60.0, 15.0, 30.0, {NAME: quirks})
        self.version = version
        self.building = self.load = Uneven(FULL)
        self.evse = SimEvse(f"{NAME}/1", 32.0, (1, 2, 0))
        self.evses = {NAME: self.evse}
        self.world = World(self.clock, 1, {"site": SimCircuit(None, 60.0)}, [self.evse], self.building)

    def config(self) -> str:
        text = super().config()
        for name in STATIONS[1:]:
            first = text.index(f"[station.{name}]")
            text = text[:first] + text[text.index("[", text.index("tokens", first)) :].partition("\n")[2]
        return text.replace('fallback = "6 A"', 'fallback = "0 A"').replace(
            'phases = "L1 L2 L3"', 'phases = "L2 L3 L1", phase_switching = true'
        )

    def drawn(self) -> Amps:
        self.world.catch_up()
        return self.evse.current_a

    async def _stations(self, house: House) -> None:
        assert house.ocpp is not None
        await house.ocpp.ready()
        url = f"ws://127.0.0.1:{house.ocpp.port}/ocpp"
        quirks = self.quirks[NAME]
        station: SimCharger | SimStation
        if self.version == "1.6":
            station = SimCharger(NAME, url, [self.evse], clock=self.clock, quirks=quirks)
        else:
            station = SimStation(
                NAME, url, [self.evse], clock=self.clock, versions=[f"ocpp{self.version}"], quirks=quirks
            )
        async with asyncio.TaskGroup() as group:
            group.create_task(self.world.run())
            group.create_task(station.run())


def one_charger(
    folder: Path, version: str, quirks: Quirks = HONEST
) -> AbstractAsyncContextManager[OneCharger]:
    return opened(OneCharger(version, quirks), folder)


@pytest.mark.parametrize("version", ["1.6", "2.0.1"])
async def test_a_charger_goes_to_one_phase_and_back_without_current(
    tmp_path: Path, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(switching, "FITS_S", 5.0)
    monkeypatch.setattr(switching, "AGAIN_S", 20.0)
    async with one_charger(tmp_path, version) as site:
        site.arrive(NAME, reaction_s=0.5, ramp_a_per_s=32.0)  # it is down long before the limit has settled
        await site.until(lambda: site.drawn()[1] > 20.0)
        assert (site.evse.switched, site.drawn()[0], site.drawn()[2]) == (1, 0.0, 0.0)
        assert site.view(NAME).phases_used == (1,)
        await site.hold(5.0, lambda: site.drawn()[0] == 0.0)
        site.load.each = (5.0, 10.0, 5.0)
        await site.until(lambda: min(site.drawn()) > 20.0)
        assert site.evse.switched is None
        assert site.evse.live_switches == 0
        assert not site.world.overloads(), site.world.report()


async def test_a_charger_that_ignores_the_number_of_phases_is_found_out(tmp_path: Path) -> None:
    async with one_charger(tmp_path, "1.6", Quirks(ignores_phases=True)) as site:
        site.arrive(NAME)
        await site.until(lambda: ("phase-switching", f"{NAME}/1") in site.alarms())
        await site.until(lambda: max(site.drawn()) == 0.0)
        assert site.view(NAME).accepted_ma == 0
