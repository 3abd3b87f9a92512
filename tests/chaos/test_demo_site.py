"""The demo's world beside its chargers: sun, battery and duty plan, and a controller that knows all three."""

from __future__ import annotations

import asyncio
from pathlib import Path

from controller.clock import SystemClock
from controller.core.events import RosterSet
from controller.core.snapshot import Snapshot
from controller.roster_file import read_csv
from controller.runtime import Runtime
from drivers.sim.site import DemoSite
from drivers.sim.sunshine import Sunshine
from tests.demo_house import demo_house

SPEED = 5.0
DEADLINE_S = 60.0  # real seconds; on a quiet machine it takes a tenth of that


def test_the_sun_shines_by_day_alone_and_never_above_its_peak() -> None:
    sun = Sunshine(3, 10_000.0, 0.0)
    day = [sun(60.0 * minute) for minute in range(1440)]
    assert day == [Sunshine(3, 10_000.0, 0.0)(60.0 * minute) for minute in range(1440)]
    assert all(0.0 <= watts <= 10_000.0 for watts in day)
    assert max(day) > 7_000.0 and not any(day[: 6 * 60]) and not any(day[20 * 60 :])
    assert day[13 * 60] == Sunshine(3, 10_000.0, 13 * 3600.0)(0.0) or day[13 * 60] > 3_000.0


async def test_the_controller_sees_roof_battery_and_departures(tmp_path: Path) -> None:
    clock = SystemClock(SPEED)
    site = DemoSite(4, clock, 1)
    site.sun = Sunshine(1, 10_000.0, 12 * 3600.0)  # noon, whenever this runs
    async with demo_house(site, tmp_path) as runtime:
        async with asyncio.timeout(DEADLINE_S):
            seen = await runtime.next_snapshot(None)
            while not _is_known(runtime, seen):
                await dispatched(site, runtime)
                seen = await runtime.next_snapshot(seen)
        newest = runtime.planning.newest
        assert newest is not None and newest[1].battery_w is not None


def _is_known(runtime: Runtime, seen: Snapshot) -> bool:
    """The sun, what the battery holds, and a plan over the horizon for somebody's departure."""
    roof = next(meter for meter in seen.meters if meter.id == "roof")
    (store,) = seen.batteries
    newest = runtime.planning.newest
    planned = (
        newest is not None
        and newest[1].by == "horizon"
        and bool(newest[0].departures)
        and newest[0].battery is not None  # the first plans are made before it has told anything
    )
    return (roof.power_w or 0) < -2_000 and store.soc_pct is not None and planned


async def dispatched(site: DemoSite, runtime: Runtime) -> None:
    """As the demo does, without waiting."""
    reading = read_csv(site.duty_plan(), runtime.depot.site.timezone)
    assert not reading.wrong
    entries = tuple(entry for _, entry in reading.found)
    if entries != runtime.depot.agenda.entries:
        await runtime.report(RosterSet("test", entries))
