"""`depot demo`: a whole simulated depot on loopback sockets, with the real controller and dashboard in one process.

Writes an ordinary config file into a temporary folder and runs it like `depot run` would; the chargers, the
platform, the meters and the vehicles are those of `drivers.sim`, reached over real sockets. At the end it tells what
the simulated copper went through, which the controller cannot embellish.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from zoneinfo import ZoneInfo

from controller.cli.compose import House, until_signalled
from controller.cli.serve import beside, in_one_line, logs
from controller.clock import SystemClock
from controller.config import load
from controller.core.events import RosterSet
from controller.core.snapshot import Snapshot
from controller.roster_file import read_csv
from controller.runtime import Runtime
from drivers.sim.site import OCPP_VERSIONS, DemoSite
from ui.app import run_async

DUTIES_S = 10.0


def demo(options: argparse.Namespace) -> int:
    folder = Path(tempfile.mkdtemp(prefix="depot-demo-"))
    try:
        logs(folder / "depot.log")
        code = in_one_line(lambda: _demo(options, folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return code


async def _demo(options: argparse.Namespace, folder: Path) -> None:
    clock = SystemClock(options.speed)
    site = DemoSite(options.chargers, clock, options.seed, ocpp=tuple(OCPP_VERSIONS))
    try:
        await site.start()
        config = load(site.write(folder))
        house = House(config, clock)
        async with house.open() as runtime:

            async def simulate() -> None:
                assert house.ocpp is not None
                await house.ocpp.ready()
                await site.run(house.ocpp.port)

            others = [
                simulate,
                lambda: _dispatch(site, runtime),
                *([lambda: _narrate(site, runtime)] if options.plain else []),
            ]
            work = until_signalled(house.run(runtime, others))
            with suppress(TimeoutError):
                async with asyncio.timeout(options.duration_s):
                    await (work if options.plain else beside(work, run_async(config.control_socket)))
            if options.plain:
                await _last_words(site, runtime)
    finally:
        await site.stop()


async def _dispatch(site: DemoSite, runtime: Runtime) -> None:
    """The duty plan, told anew whenever it has changed: as a dispatcher imports it."""
    told = ""
    while True:
        text = site.duty_plan()
        if text != told:
            told = text
            reading = read_csv(text, runtime.depot.site.timezone)
            await runtime.report(RosterSet("demo", tuple(entry for _, entry in reading.found), "duty plan"))
        await runtime.clock.sleep(DUTIES_S)


async def _narrate(site: DemoSite, runtime: Runtime) -> None:
    """One line per second: what the meter says, what is promised, who charges."""
    seen = None
    while True:
        seen = await runtime.next_snapshot(seen)
        print(_line(site, seen), flush=True)
        await asyncio.sleep(1.0)


def _line(site: DemoSite, seen: Snapshot) -> str:
    root = seen.circuits[0]
    measured = "/".join("----" if a is None else f"{a / 1e3:4.0f}" for a in root.measured_ma)
    truth = max(site.world.current_a())
    charging = [evse for evse in seen.evses if (evse.power_w or 0) > 0]
    online = sum(evse.connected for evse in seen.evses)
    return (
        f"{seen.time.astimezone(ZoneInfo(seen.timezone)):%H:%M:%S}  {seen.state:8}  meter {measured} A"
        f"  promised {max(root.committed_ma) / 1e3:4.0f} A  copper {truth:5.1f} of {site.limit_a} A"
        f"  online {online}/{len(seen.evses)}  charging {len(charging)}"
        f"  {sum(evse.power_w or 0 for evse in charging) / 1e3:6.1f} kW  alarms {len(seen.alarms)}"
    )


async def _last_words(site: DemoSite, runtime: Runtime) -> None:
    """The copper's own story, and whether the books agree with the energy that really flowed."""
    print(f"\n{site.truth()}")
    rows = await runtime.ledger.sessions(None, None)
    busy = {row["evse"] for row in rows if row["ended"] is None}
    booked: dict[str, int] = {}
    for row in rows:
        booked[row["evse"]] = booked.get(row["evse"], 0) + row["energy_wh"]
    print(f"sessions: {sum(row['ended'] is not None for row in rows)} closed, {len(busy)} running")
    quiet = [evse for evse in site.evses if evse.id not in busy and evse.id in booked]
    if quiet:
        gap = max(quiet, key=lambda evse: abs(booked[evse.id] - evse.register_wh))
        print(
            f"energy where no session runs: booked {sum(booked[evse.id] for evse in quiet) / 1e3:.3f} kWh,"
            f" delivered {sum(evse.register_wh for evse in quiet) / 1e3:.3f} kWh;"
            f" largest gap {abs(booked[gap.id] - gap.register_wh):.1f} Wh at {gap.id}"
        )
