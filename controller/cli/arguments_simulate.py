"""What can be typed about the simulation of past or planned sessions."""

from __future__ import annotations

import argparse
from typing import Any

from controller.cli.options import command, json_option, lazy, span

SHORTEST_S, LONGEST_S = 20, 900


def offer(commands: Any) -> None:
    """Adds `depot simulate`."""
    made = command(
        commands,
        "simulate",
        lazy("simulate", "simulate"),
        "the same core and planner on past or planned sessions, in virtual time: what would have been, what if",
        "depot simulate depot.toml --sessions march.csv --prices prices.csv --add-vehicles 3 --out rows.csv",
    )
    made.add_argument("file", metavar="FILE", help="the config of the site")
    made.add_argument(
        "--sessions",
        required=True,
        metavar="CSV",
        help="session,station,arrival,departure,energy_kwh,max_kw,phases; optional declared_kwh, declared_departure,"
        " planned_return, planned_kwh, vehicle",
    )
    for name, text in (
        ("prices", "start,value: price per kWh"),
        ("load", "start,value: the building's load in kW"),
        ("pv", "start,value: what the sun gives in kW"),
    ):
        made.add_argument(f"--{name}", metavar="CSV", help=text)
    made.add_argument("--start", metavar="T", help="only sessions that arrive from then on (2026-11-22)")
    made.add_argument("--days", type=_number(1, 3660), metavar="N", help="only sessions of so many days")
    made.add_argument(
        "--out", required=True, metavar="CSV", help="where the rows go, one per session and step"
    )
    made.add_argument(
        "--step",
        dest="step_s",
        type=_step,
        default=60,
        metavar="DURATION",
        help='how often the controller decides and a row is written: "20s" to "15m", a part of an hour (default 1m)',
    )
    made.add_argument(
        "--plan-every",
        dest="plan_every_s",
        type=span,
        default=300,
        metavar="DURATION",
        help="how often it plans besides at every arrival and departure (default 5m)",
    )
    made.add_argument(
        "--set",
        action="append",
        metavar="KEY=VALUE",
        help='another value for a key of the config, like site.limit="200 A"; can be given again',
    )
    made.add_argument(
        "--add-vehicles",
        type=_number(0, 100),
        default=0,
        metavar="N",
        help="so many more vehicles like those of the file, each at a station of its own",
    )
    made.add_argument(
        "--assign",
        action="store_true",
        help="put each vehicle at any free EVSE, whatever station the file names",
    )
    made.add_argument(
        "--seed", type=int, default=1, metavar="N", help="another number, other added vehicles (default 1)"
    )
    json_option(made)


def _number(least: int, most: int) -> Any:
    def read(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f'"{text}" is not a whole number from {least} to {most}')
        return int(text)

    return read


def _step(text: str) -> int:
    seconds = span(text)
    if not SHORTEST_S <= seconds <= LONGEST_S or 3600 % seconds:
        raise argparse.ArgumentTypeError(f'"{text}" is not a part of an hour from 20s to 15m')
    return seconds
