"""What can be typed about meters: which we can read, and what is behind an address."""

from __future__ import annotations

import argparse
from typing import Any

from controller.cli.options import command, json_option, lazy

MOST_UNITS = 247


def offer(commands: Any) -> None:
    """Adds the commands of this group."""
    kinds = commands.add_parser("meter", help="meters: find and read one without a config").add_subparsers(
        metavar="WHAT", required=True
    )
    probe = command(
        kinds,
        "probe",
        lazy("meter", "probe"),
        "find out which meter answers at an address, read it, and print the config lines for it",
        "depot meter probe tcp://10.0.4.20:502 --units 1-10",
    )
    probe.add_argument(
        "address",
        metavar="ADDRESS",
        help='like in the config: "tcp://HOST:PORT/UNIT", "rtu+tcp://HOST:PORT/UNIT" or '
        '"rtu:///dev/ttyUSB0?baud=9600&parity=N/UNIT"; unit 1 unless said',
    )
    probe.add_argument("--kind", metavar="K", help="only this kind; `depot meter kinds` lists them")
    probe.add_argument(
        "--units", type=units, metavar="LIST", help='these unit ids instead, like "1-10" or "1,3,71"'
    )
    listed = command(
        kinds, "kinds", lazy("meter", "kinds"), "every kind of meter we can read", "depot meter kinds --json"
    )
    for made in (probe, listed):
        json_option(made)


def units(text: str) -> tuple[int, ...]:
    """ "1-3,71" as (1, 2, 3, 71)."""
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        last = last if dash else first
        if not (first.isdecimal() and last.isdecimal() and int(first) <= int(last) <= MOST_UNITS):
            raise argparse.ArgumentTypeError(
                f'"{text}" is not a list of unit ids up to {MOST_UNITS}, like "1-10"'
            )
        found |= set(range(int(first), int(last) + 1))
    return tuple(sorted(found))
