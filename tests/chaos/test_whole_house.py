"""The whole controller while things break: the copper below it must never notice."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from whole_house import FALLBACK_A, STATIONS, WholeHouse, card, whole_house

from controller.config import stations
from controller.core.model import EvseState
from drivers.sim.quirks import Quirks
from ui.client import Client


async def charging(site: WholeHouse, *names: str) -> None:
    """Vehicles at these stations draw more than their fallback."""
    for name in names:
        site.arrive(name)
    await site.until(lambda: all(site.drawn_a(name) > FALLBACK_A + 1 for name in names))


def unharmed(site: WholeHouse) -> bool:
    site.world.catch_up()
    return site.world.overloads() == {}


async def test_the_meter_goes_silent_refuses_talks_garbage_and_comes_back(tmp_path: Path) -> None:
    async with whole_house(tmp_path) as site:
        await charging(site, "CP001", "CP002")
        site.meter.faults().silent = True
        await site.until(lambda: site.snapshot.state == "degraded")
        highest_a = max(site.world.current_a())
        await site.until(lambda: site.snapshot.state == "failsafe")
        assert max(site.world.current_a()) <= highest_a, "no raises while the meter is stale"
        site.building.amps = site.worst_a  # nobody can see it, so it has been budgeted
        await site.until(lambda: all(site.view(name).accepted_ma == 6_000 for name in ("CP001", "CP002")))
        assert ("failsafe", "site") in site.alarms() or site.view("CP001").bound_by == "failsafe: meter blind"

        def at_fallback() -> bool:
            return site.snapshot.state == "failsafe" and unharmed(site)

        await site.until(lambda: max(map(site.drawn_a, STATIONS)) <= FALLBACK_A)
        await site.meter.stop()  # refuses
        site.arrive("CP003")  # who comes now gets no more than the others
        await site.until(lambda: site.drawn_a("CP003") > FALLBACK_A - 1)
        await site.hold(5.0, at_fallback)
        await site.meter.start()
        site.meter.faults().silent = False
        site.meter.faults().garbage = True
        site.meter.hang_up()
        await site.hold(5.0, at_fallback)
        assert max(map(site.drawn_a, STATIONS)) <= FALLBACK_A
        site.meter.faults().garbage = False
        site.meter.faults().nan = True
        site.meter.hang_up()
        await site.hold(5.0, at_fallback)
        site.meter.faults().nan = False
        site.building.amps = 10.0
        await site.until(lambda: site.snapshot.state == "auto")
        await site.until(lambda: all(site.drawn_a(name) > FALLBACK_A + 1 for name in ("CP001", "CP002")))
        assert unharmed(site), site.world.report()


async def test_a_station_reboots_in_the_middle_of_a_session(tmp_path: Path) -> None:
    async with whole_house(tmp_path) as site:
        await charging(site, "CP001", "CP002")
        assert site.runtime is not None
        site.stations["CP001"].reboot(away_s=8.0)
        await site.until(lambda: not site.view("CP001").connected)
        assert site.view("CP002").state is EvseState.CHARGING
        await site.until(lambda: site.view("CP001").connected and site.view("CP001").session is None)
        rows = [row for row in await site.runtime.ledger.sessions() if row["evse"] == "CP001/1"]
        assert [row["stop_reason"] for row in rows] == ["PowerLoss"]
        assert rows[0]["vehicle"] == "BUS-CP001"
        assert abs(rows[0]["energy_wh"] - site.evses["CP001"].register_wh) <= 1, "whole Wh, none lost"
        site.evses["CP001"].present(card("CP001"))
        await site.until(lambda: site.drawn_a("CP001") > FALLBACK_A + 1)
        rows = [row for row in await site.runtime.ledger.sessions() if row["evse"] == "CP001/1"]
        assert len(rows) == 2
        assert rows[0]["transaction"] != rows[1]["transaction"]
        assert unharmed(site), site.world.report()


async def test_a_short_loss_of_the_link_changes_nothing_and_a_long_one_ends_the_lease(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a shorter lease than in the field, so that the test need not wait three minutes of the site's time for it
    short = replace(stations.OCPP_LINK, lease_s=40.0, lease_slack_s=10.0)
    monkeypatch.setattr(stations, "OCPP_LINK", short)
    async with whole_house(tmp_path) as site:
        await charging(site, "CP001", "CP002")
        await site.until(lambda: min(site.drawn_a("CP001"), site.drawn_a("CP002")) > 17)
        session = site.view("CP001").session
        assert session is not None
        site.stations["CP001"].drop_link(away_s=2.0)
        await site.until(lambda: not site.view("CP001").connected)
        await site.until(lambda: site.view("CP001").connected)
        again = site.view("CP001").session
        assert again is not None
        assert again.id == session.id, "it is still the same session"
        await site.until(lambda: min(site.drawn_a("CP001"), site.drawn_a("CP002")) > 17)

        before_a = site.drawn_a("CP002")
        site.stations["CP001"].drop_link(away_s=10_000.0)
        await site.until(lambda: not site.view("CP001").connected)
        assert site.view("CP001").commitment_ma >= 17_000, "what it may still draw stays reserved"
        await site.until(lambda: site.drawn_a("CP001") <= FALLBACK_A)  # by itself: nobody can reach it
        await site.until(lambda: site.view("CP001").commitment_ma == 6_000)
        await site.until(lambda: site.drawn_a("CP002") > before_a + 1)  # the room is given away only now
        assert ("offline", "CP001/1") in site.alarms()
        assert unharmed(site), site.world.report()


async def test_two_operators_give_orders_at_once(tmp_path: Path) -> None:
    async with whole_house(tmp_path) as site:
        await charging(site, "CP001", "CP002")
        one, other = Client(site.socket), Client(site.socket)
        orders = await asyncio.gather(
            one.call("limit", evse="CP001", limit_ma=8_000),
            other.call("pause", evse="CP002"),
        )
        names = {str(order["order"]) for order in orders}
        await site.until(lambda: {o.id for o in site.snapshot.orders if o.outcome == "done"} == names)
        for order in site.snapshot.orders:
            assert [stage for stage, _ in order.stages] == ["sent", "accepted", "applied", "measured"]
        assert site.drawn_a("CP001") <= 8.0
        assert site.drawn_a("CP002") == 0.0
        first, second = await asyncio.gather(
            one.call("limit", evse="CP001", limit_ma=16_000),
            other.call("limit", evse="CP001", limit_ma=7_000),
        )
        newest = max(str(first["order"]), str(second["order"]))
        wanted_a = 7.0 if newest == second["order"] else 16.0
        await site.until(lambda: any(o.id == newest and o.outcome == "done" for o in site.snapshot.orders))
        await site.until(lambda: wanted_a - 0.5 <= site.drawn_a("CP001") <= wanted_a)
        older = next(
            o for o in site.snapshot.orders if o.id in (first["order"], second["order"]) and o.id != newest
        )
        assert older.outcome == "failed"
        assert unharmed(site), site.world.report()


async def test_a_station_that_ignores_limits_is_booked_and_others_give_way(tmp_path: Path) -> None:
    deaf = {"CP001": Quirks(ignores_limits=True)}
    async with whole_house(tmp_path, limit_a=80.0, building_a=20.0, quirks=deaf) as site:
        await charging(site, "CP002", "CP003")
        await site.until(lambda: site.drawn_a("CP002") + site.drawn_a("CP003") > 50)
        site.arrive("CP001")
        await site.until(lambda: ("overdraw", "CP001/1") in site.alarms())
        await site.until(lambda: site.view("CP001").commitment_ma >= 31_000)
        await site.until(lambda: max(site.world.current_a()) <= site.limit_a)
        await site.until(lambda: site.drawn_a("CP002") + site.drawn_a("CP003") < 30)
        site.world.catch_up()
        overload_as = site.world.overloads().get("site", 0.0)
        longest_s = max(site.world.report()["circuits"]["site"]["longest_overload_s"])  # type: ignore[index]
        assert longest_s < 40.0, "a fuse of this size stands that for minutes"
        await site.hold(20.0, lambda: max(site.world.current_a()) <= site.limit_a)
        assert site.world.overloads().get("site", 0.0) == overload_as, "and it stays below"
        assert site.drawn_a("CP001") > 30.0, "it really does not obey"
