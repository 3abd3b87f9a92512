"""The whole controller above one station of each OCPP version: the same sessions, the same copper, the same safety."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path

import pytest
from whole_house import FALLBACK_A, STATIONS, WholeHouse, card, opened

from controller.cli.compose import House
from controller.config import stations
from controller.core.events import DischargeWished, PauseWished, ResumeWished, StartWished, StopWished
from controller.core.model import StationId, evse_id
from drivers.sim.charger import SimCharger
from drivers.sim.charger2 import SimStation
from drivers.sim.v2g import V2gEvse
from drivers.sim.vehicle import Vehicle
from drivers.sim.world import SimCircuit, World

VERSIONS = {"CP001": "1.6", "CP002": "2.0.1", "CP003": "2.1"}
ON_PAPER = {"SampledDataCtrlr.TxUpdatedInterval": "60", "OCPPCommCtrlr.HeartbeatInterval": "300"}


class MixedHouse(WholeHouse):
    """CP001 speaks 1.6, CP002 2.0.1, CP003 2.1; the last can also discharge."""

    def __init__(self, limit_a: float) -> None:
        super().__init__(limit_a, building_a=15.0, worst_a=30.0, quirks={})
        self.evses["CP003"] = V2gEvse("CP003/1", 32.0)
        self.world = World(
            self.clock, 1, {"site": SimCircuit(None, limit_a)}, self.evses.values(), self.building
        )
        self.two: dict[str, SimStation] = {}

    async def _stations(self, house: House) -> None:
        assert house.ocpp is not None
        await house.ocpp.ready()
        url = f"ws://127.0.0.1:{house.ocpp.port}/ocpp"
        async with asyncio.TaskGroup() as group:
            group.create_task(self.world.run())
            for name, version in VERSIONS.items():
                evse = self.evses[name]
                if version == "1.6":
                    group.create_task(SimCharger(name, url, [evse], clock=self.clock).run())
                    continue
                self.two[name] = SimStation(
                    name, url, [evse], clock=self.clock, versions=[f"ocpp{version}"], variables=ON_PAPER
                )
                group.create_task(self.two[name].run())


def mixed_house(folder: Path, limit_a: float = 60.0) -> AbstractAsyncContextManager[MixedHouse]:
    return opened(MixedHouse(limit_a), folder)


async def test_one_station_of_each_version_shares_the_copper(tmp_path: Path) -> None:
    async with mixed_house(tmp_path) as site:
        assert site.house is not None
        assert site.house.ocpp is not None
        channels = {evse.id: evse.channels for evse in site.snapshot.evses}
        assert channels == {f"{name}/1": (f"ocpp{version}",) for name, version in VERSIONS.items()}
        for name in STATIONS:
            site.arrive(name)
        await site.until(lambda: all(site.drawn_a(name) > FALLBACK_A + 1 for name in STATIONS))
        for name in STATIONS:
            session = site.view(name).session
            assert session is not None
            assert session.vehicle == f"BUS-{name}"
        site.world.catch_up()
        assert site.world.overloads() == {}
        site.building.amps = site.worst_a
        await site.until(lambda: sum(site.drawn_a(name) for name in STATIONS) + site.worst_a <= site.limit_a)
        for name in STATIONS:
            site.evses[name].unplug()
        await site.until(lambda: all(site.view(name).session is None for name in STATIONS))
        await site.until(lambda: all(site.view(name).state == "available" for name in STATIONS))
        for name in ("CP002", "CP003"):
            quirks = site.house.ocpp.quirks(StationId(name))
            assert not any("seqNo" in quirk or "without its start" in quirk for quirk in quirks), quirks


async def test_a_session_that_ends_while_the_link_is_down_is_told_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stations, "OCPP_LINK", replace(stations.OCPP_LINK, lease_s=40, lease_slack_s=5))
    async with mixed_house(tmp_path) as site:
        assert site.house is not None
        assert site.house.ocpp is not None
        for name in site.two:
            site.arrive(name)
        await site.until(lambda: all(site.drawn_a(name) > FALLBACK_A + 1 for name in site.two))
        for station in site.two.values():
            station.drop_link(away_s=80.0)
        await site.until(lambda: all(site.view(name).state == "offline" for name in site.two))
        # the leases run out: alone, a station is at its fallback, and that is what the depot counts
        await site.until(lambda: all(0 < site.drawn_a(name) <= FALLBACK_A for name in site.two))
        site.world.catch_up()
        assert site.world.overloads() == {}
        for name in site.two:
            site.evses[name].unplug()
        await site.until(lambda: all(site.view(name).state == "available" for name in site.two))
        await site.until(lambda: all(site.view(name).session is None for name in site.two))
        for name in site.two:
            assert not any("gap in seqNo" in quirk for quirk in site.house.ocpp.quirks(StationId(name)))


async def test_a_start_from_the_office_needs_no_card(tmp_path: Path) -> None:
    async with mixed_house(tmp_path) as site:
        assert site.runtime is not None
        for name in STATIONS:
            vehicle = a_stranger()
            site.evses[name].plug(vehicle)
        await site.until(lambda: all(site.view(name).state == "preparing" for name in STATIONS))
        for name in STATIONS:
            await site.runtime.report(StartWished(f"start-{name}", "office", evse_id(name, 1)))
        await site.until(lambda: all(site.drawn_a(name) > FALLBACK_A + 1 for name in STATIONS))
        for name in STATIONS:
            await site.runtime.report(StopWished(f"stop-{name}", "office", evse_id(name, 1)))
        await site.until(lambda: all(site.view(name).session is None for name in STATIONS))
        await site.until(lambda: all(site.drawn_a(name) == 0 for name in STATIONS))


async def test_a_vehicle_gives_back_over_2_1(tmp_path: Path) -> None:
    """Ordered, measured, ended early by a limit; the transaction goes on and charges again."""
    async with mixed_house(tmp_path) as site:
        assert site.runtime is not None
        evse, name = site.evses["CP003"], evse_id("CP003", 1)
        site.arrive("CP003").soc = 0.8
        await site.until(lambda: site.drawn_a("CP003") > FALLBACK_A + 1)
        before = site.view("CP003").session
        await site.until(lambda: site.view("CP003").session.soc == 80)  # type: ignore[union-attr]
        await site.runtime.report(DischargeWished("v2g", "ann", name, 4_000, 20, 600.0))
        await site.until(lambda: evse.power_w < -3_500)
        assert evse.power_w >= -4_000
        await site.until(lambda: outcomes(site).get("v2g") == "done")
        await site.runtime.report(PauseWished("pause", "ann", name))
        await site.until(lambda: evse.power_w == 0)
        await site.runtime.report(ResumeWished("resume", "ann", name))
        await site.until(lambda: site.drawn_a("CP003") > FALLBACK_A + 1)
        after = site.view("CP003").session
        assert before is not None and after is not None and before.id == after.id
        site.world.catch_up()
        assert site.world.overloads() == {}


def outcomes(site: MixedHouse) -> dict[str, str | None]:
    return {order.id: order.outcome for order in site.snapshot.orders}


async def test_a_driver_without_a_known_card_does_not_charge(tmp_path: Path) -> None:
    async with mixed_house(tmp_path) as site:
        for name in STATIONS:
            vehicle = site.evses[name]
            vehicle.plug(a_stranger())
            vehicle.present("STRANGER")
        await site.until(lambda: all(site.view(name).state == "preparing" for name in STATIONS))
        await site.hold(5.0, lambda: all(site.drawn_a(name) == 0 for name in STATIONS))
        for name in STATIONS:
            site.evses[name].present(card(name))
        await site.until(lambda: all(site.drawn_a(name) > 0 for name in STATIONS))


def a_stranger() -> Vehicle:
    return Vehicle("GUEST", "STRANGER", battery_wh=60_000.0, soc=0.3, max_a=16.0)
