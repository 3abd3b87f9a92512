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
import time
from datetime import UTC, datetime
from pathlib import Path

from controller.cli import demo_days
from controller.cli.compose import House, until_signalled
from controller.cli.serve import beside, in_one_line, logs
from controller.clock import SystemClock
from controller.config import Config, load
from controller.core.events import RosterSet
from controller.core.roster import RosterEntry
from controller.core.tariff import Rates
from controller.ports import Clock
from controller.roster_file import read_csv
from controller.runtime import Runtime
from controller.warp import WarpedClock, WarpedLoop
from drivers.errors import WrongUse
from drivers.sim.site import OCPP_VERSIONS, DemoSite
from ui.app import run_async

DUTIES_S = 10.0
NARRATED_S = 1.0
LOOK_S = 0.5
FASTEST = 20.0  # on the wall's time; beyond that the loop's own time is needed, which a screen cannot live on


def demo(options: argparse.Namespace) -> int:
    folder = Path(tempfile.mkdtemp(prefix="depot-demo-"))
    warped = options.days is not None or options.speed > FASTEST
    try:
        logs(folder / "depot.log")
        _judge(options, warped)
        loop = (lambda: WarpedLoop(options.speed)) if warped else None
        code = in_one_line(lambda: _demo(options, folder), loop)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return code


def _judge(options: argparse.Namespace, warped: bool) -> None:
    """Raises WrongUse."""
    if warped and not options.plain:
        raise WrongUse(f"--days and a --speed above {FASTEST:g} need --plain: a screen lives by the wall")
    if options.keep is not None and options.days is None:
        raise WrongUse("--keep is for --days")
    if options.days is not None and options.duration_s is not None:
        raise WrongUse("--days ends by itself; leave --for out")


async def _demo(options: argparse.Namespace, folder: Path) -> None:
    loop = asyncio.get_running_loop()
    clock: Clock = SystemClock(options.speed)
    if isinstance(loop, WarpedLoop):
        clock = WarpedClock(loop, datetime.now(UTC) if options.days is None else demo_days.BEGINS)
    site = DemoSite(options.chargers, clock, options.seed, tuple(OCPP_VERSIONS), options.days)
    days = demo_days.Days.of(site, options.keep)
    try:
        await site.start()
        config = load(site.write(folder))
        house = House(config, clock)
        if isinstance(loop, WarpedLoop):
            loop.hold(lambda: house.storage.busy or house.worker.busy or house.asked.busy)
        if days is not None:
            days.keep(folder)
        async with house.open() as runtime:

            async def simulate() -> None:
                assert house.ocpp is not None
                await house.ocpp.ready()
                await site.run(house.ocpp.port)

            others = [
                simulate,
                lambda: _dispatch(site, runtime),
                *([lambda: _narrate(site, runtime)] if options.plain and days is None else []),
                *([] if days is None else [lambda: days.account(runtime, _rates(config))]),
            ]
            work = until_signalled(house.run(runtime, others))
            if days is not None:
                work = beside(work, days.over())
            elif not options.plain:
                work = beside(work, run_async(config.control_socket))
            await (work if options.duration_s is None else beside(work, _passed(options.duration_s)))
            if options.plain:
                await _last_words(site, runtime)
            if days is not None:
                await days.last_words(runtime)
    finally:
        await site.stop()


def _rates(config: Config) -> Rates:
    return Rates() if config.tariff is None else config.tariff.bands


async def _dispatch(site: DemoSite, runtime: Runtime) -> None:
    """The duty plan, told anew whenever it has changed: as a dispatcher imports it. That a departure is past, the
    controller sees by itself."""
    told: tuple[RosterEntry, ...] = ()
    while True:
        reading = read_csv(site.duty_plan(), runtime.depot.site.timezone)
        plan = tuple(entry for _, entry in reading.found)
        now = runtime.clock.now().utc
        if set(plan) != {entry for entry in told if entry.departs > now}:
            told = plan
            await runtime.report(RosterSet("demo", plan, f"duty plan, {len(plan)} departures"))
        await runtime.clock.sleep(DUTIES_S)


async def _passed(wall_s: float) -> None:
    """Returns when so much time has passed on the wall, whatever the loop's own says."""
    ends_s = time.monotonic() + wall_s
    while (left_s := ends_s - time.monotonic()) > 0:  # noqa: ASYNC110 - the wall decides
        await asyncio.sleep(min(LOOK_S, left_s))


async def _narrate(site: DemoSite, runtime: Runtime) -> None:
    """One line per second on the wall: what the meter says, what is promised, who charges."""
    while True:
        seen = await runtime.next_snapshot(None)
        print(demo_days.line(site, seen), flush=True)
        await _passed(NARRATED_S)


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
