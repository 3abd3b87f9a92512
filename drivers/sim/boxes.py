"""Boxes on Modbus as processes of their own: what `python -m drivers.sim relay` and `battery` run.

Owns their arguments and what is printed; the boxes themselves are next door.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from pathlib import Path

from drivers.sim import arguments
from drivers.sim.relay import SimRelay
from drivers.sim.storage import SimStorage

LOOK_S = 0.2


async def relay(options: argparse.Namespace) -> None:
    """A box with contacts; the file says which are closed, like "0 3", and is read again when it changes."""
    served = SimRelay(options.port, options.unit)
    try:
        await served.start()
        print(f"relay: tcp://127.0.0.1:{served.port}/{options.unit}?coil=0", flush=True)
        while True:
            said = options.closed.read_text(encoding="utf-8").split() if options.closed.exists() else []
            closed = {int(each) for each in said if each.isdecimal()}
            served.closed = [at in closed for at in range(len(served.closed))]
            await asyncio.sleep(LOOK_S)
    finally:
        await served.stop()


async def battery(options: argparse.Namespace) -> None:
    """A battery with its inverter that takes set-points; it prints what it does whenever that changes."""
    served = SimStorage(
        time.monotonic,
        options.capacity_wh,
        options.soc_pct / 100,
        options.most_w,
        (options.model,),
        options.unit,
        options.port,
    )
    told = ""
    try:
        await served.start()
        print(f"battery: sunspec-battery at tcp://127.0.0.1:{served.port}/{options.unit}", flush=True)
        while True:
            served.tick()
            line = f"{served.power_w:+.0f} W, {served.soc:.0%}"
            if line != told:
                told = line
                print(line, flush=True)
            await asyncio.sleep(LOOK_S)
    finally:
        await served.stop()


def battery_arguments(made: argparse.ArgumentParser) -> None:
    _where(made)
    text = "the SunSpec model that takes set-points (default: 704)"
    made.add_argument("--model", type=int, choices=(124, 704), default=704, help=text)
    made.add_argument(
        "--capacity", dest="capacity_wh", type=arguments.energy, default="20 kWh", metavar="ENERGY"
    )
    made.add_argument("--most", dest="most_w", type=arguments.power, default="10 kW", metavar="POWER")
    made.add_argument("--soc", dest="soc_pct", type=int, default=50, metavar="PERCENT")


def relay_arguments(made: argparse.ArgumentParser) -> None:
    _where(made)
    text = 'which contacts are closed, like "0 3"; none while there is no such file'
    made.add_argument("--closed", type=Path, required=True, metavar="FILE", help=text)


def _where(made: argparse.ArgumentParser) -> None:
    made.add_argument("--port", type=int, default=0, help="default: a free one, printed at the start")
    made.add_argument("--unit", type=int, default=1)
