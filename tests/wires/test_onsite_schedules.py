"""Schedules of a whole depot on the on-site host: executed by the controller, kept by the charger, discharging too."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from test_onsite_house import Depot, Site, bus, living_site

from controller.core.model import EvseState

EVSE = "TP1/1"


def schedule(name: str, action: str, target: int | None = None) -> str:
    goal = "" if target is None else f"target_soc = {target}\n"
    return (
        f'schedule_id = "{name}"\ntype = "daily"\ntimezone = "UTC"\n{goal}'
        f'[[time_slots]]\nstart = "00:00"\nend = "00:00"\npower_limit = "5 kW"\naction = "{action}"\n'
    )


async def listed(depot: Depot) -> Mapping[str, str | None]:
    found = (await depot.client.call("schedule-list"))["schedules"]
    return {each["schedule_id"]: each["station"] for each in found}


def kept(site: Site) -> list[Any]:
    """What the charger would run by itself."""
    plans = site.memory.get("schedules", {}).get("1", {}).values()
    return [plan for plan in plans if plan["params"]["enabled"]]


async def test_a_schedule_is_in_the_charger_between_sessions_and_rests_while_we_lead(tmp_path: Path) -> None:
    async with living_site(tmp_path) as (site, depot):
        await depot.client.call("schedule-set", evse=EVSE, text=schedule("days", "charge"))
        await depot.until(lambda: kept(site))
        assert await listed(depot) == {"days": "stored"}
        [slot] = kept(site)[0]["params"]["time_slots"]
        assert slot["power_limit"] == 4.14, "the fallback of 6 A"
        site.evse.plug(bus())
        await depot.until(lambda: depot.drawn_a() > 6.9)
        assert not kept(site), "5 kW are 7 A: the charger's own copy would hold it at 6 A"
        assert (await depot.order("stop", evse=EVSE)).outcome == "done"
        await depot.until(lambda: kept(site))
        await depot.client.call("schedule-clear", evse=EVSE)
        await depot.until(lambda: not kept(site))
        assert await listed(depot) == {}


async def test_a_discharge_slot_feeds_back_and_afterwards_the_vehicle_charges_on(tmp_path: Path) -> None:
    async with living_site(tmp_path) as (site, depot):
        site.evse.plug(bus(0.6))
        await depot.until(lambda: depot.drawn_a() > 31.0)
        await depot.client.call("schedule-set", evse=EVSE, text=schedule("evening", "discharge", 40))
        await depot.until(lambda: site.evse.power_w < -4_500.0 and depot.view.state is EvseState.DISCHARGING)
        assert depot.view.power_w is not None and depot.view.power_w < -4_500 and not depot.view.grant_ma
        await depot.client.call("schedule-clear", evse=EVSE)
        await depot.until(lambda: depot.drawn_a() > 31.0 and depot.view.state is EvseState.CHARGING)
        rows = await depot.runtime.ledger.sessions()
        assert any("discharge" in row["marks"] and row["energy_wh"] == 0 for row in rows), rows
