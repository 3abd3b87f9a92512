"""A DC charger on real sockets: commanded in watts, counted in the amps of its supply, beside AC stations."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path

import pytest
from whole_house import FALLBACK_A, WholeHouse, card, opened

from controller.cli.compose import House
from drivers.sim.dc import DcEvse
from drivers.sim.quirks import HONEST
from drivers.sim.site import ocpp_station
from drivers.sim.vehicle import Vehicle
from drivers.sim.world import SimCircuit, World

MOST_W = 60_000
WATTS_ONLY = replace(HONEST, only_unit="W")


class DcHouse(WholeHouse):
    """CP001 is a DC charger of 60 kW, the others are AC."""

    def __init__(self, limit_a: float, version: str) -> None:
        super().__init__(limit_a, building_a=15.0, worst_a=30.0, quirks={})
        self.evses["CP001"] = DcEvse("CP001/1", MOST_W)
        self.version = version
        circuits = {"site": SimCircuit(None, limit_a)}
        self.world = World(self.clock, 1, circuits, self.evses.values(), self.building)

    def config(self) -> str:
        ac = 'evse.1 = { max = "32 A", min = "6 A", phases = "L1 L2 L3" }'
        dc = f'evse.1 = {{ max_power = "{MOST_W} W", current = "dc" }}'
        return super().config().replace(ac, dc, 1)

    async def _stations(self, house: House) -> None:
        assert house.ocpp is not None
        await house.ocpp.ready()
        url = f"ws://127.0.0.1:{house.ocpp.port}/ocpp"
        async with asyncio.TaskGroup() as group:
            group.create_task(self.world.run())
            for name, evse in self.evses.items():
                version = self.version if name == "CP001" else "1.6"
                station = ocpp_station(version, name, url, [evse], self.clock, None)
                if name == "CP001":
                    station.quirks = WATTS_ONLY
                group.create_task(station.run())

    def bus(self) -> Vehicle:
        """At the DC charger; told amps of the supply."""
        vehicle = Vehicle("BUS", card("CP001"), 300_000.0, 0.2, max_a=400.0, min_a=1.0, ramp_a_per_s=50.0)
        self.evses["CP001"].plug(vehicle)
        self.evses["CP001"].present(card("CP001"))
        return vehicle


def dc_house(folder: Path, limit_a: float, version: str) -> AbstractAsyncContextManager[DcHouse]:
    return opened(DcHouse(limit_a, version), folder)


@pytest.mark.parametrize("version", ["1.6", "2.0.1"])
async def test_it_shares_the_copper_and_its_supply_never_carries_more_than_its_grant(
    tmp_path: Path, version: str
) -> None:
    async with dc_house(tmp_path, 90.0, version) as site:
        site.bus()
        await site.until(lambda: site.drawn_a("CP001") > 50)
        site.arrive("CP002")
        await site.until(lambda: site.drawn_a("CP002") > FALLBACK_A + 1)

        def within_its_grant() -> bool:
            view = site.view("CP001")
            return view.accepted_ma is not None and site.drawn_a("CP001") <= view.accepted_ma / 1000 + 0.1

        await site.until(within_its_grant)
        await site.hold(20.0, within_its_grant)
        view = site.view("CP001")
        assert view.measured_ma.l1 is not None and view.power_w is not None
        assert len(set(view.measured_ma)) == 1, "a supply of three phases alike"
        assert view.measured_ma.l1 >= site.drawn_a("CP001") * 1000 - 1_500, "loads round up"
        assert abs(view.power_w - site.evses["CP001"].power_w) < 2_000
        site.world.catch_up()
        assert site.world.overloads() == {}, site.story()


async def test_alone_it_falls_to_its_fallback(tmp_path: Path) -> None:
    """With room for all it may take, it gets it; a silent meter brings it down to its 6 A."""
    async with dc_house(tmp_path, 200.0, "1.6") as site:
        site.bus()
        await site.until(lambda: site.evses["CP001"].power_w > MOST_W * 0.97)
        site.meter.faults().silent = True
        await site.until(lambda: site.snapshot.state == "failsafe")
        await site.until(lambda: 0 < site.drawn_a("CP001") <= FALLBACK_A)
