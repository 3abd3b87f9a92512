"""How the command line of the simulators reads a value: units, addresses, phases, devices.

Owns the text a person sees when a value is wrong. Knows no simulator.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from controller.core.units import parse_current_ma, parse_duration_s, parse_energy_wh, parse_power_w


def _read(read: Callable[[str], Any], unit: str) -> Callable[[str], Any]:
    def convert(text: str) -> Any:
        try:
            return read(f"{text} {unit}" if text.isdigit() else text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert


current = _read(parse_current_ma, "A")
duration = _read(parse_duration_s, "s")
energy = _read(parse_energy_wh, "Wh")
power = _read(parse_power_w, "W")


def http(text: str) -> str:
    if not text.startswith(("http://", "https://")):
        raise argparse.ArgumentTypeError(f'"{text}" does not begin with http:// or https://')
    return text


def phases(text: str) -> tuple[int, ...]:
    names = text.upper().split()
    if not names or len(set(names)) != len(names) or not set(names) <= {"L1", "L2", "L3"}:
        raise argparse.ArgumentTypeError(
            f'"{text}" does not name each grid phase at most once, like "L1 L2 L3"'
        )
    return tuple(int(name[1]) - 1 for name in names)


def device(text: str) -> tuple[str, str, str, str]:
    given = text.split(":")
    if not given[0] or len(given) > 4:
        raise argparse.ArgumentTypeError(f'"{text}" is not DEVICE[:SERIAL[:MODEL[:FIRMWARE]]]')
    name, serial, model, firmware = (*given, *("SN000001", "TP-AC22", "260420.0107")[len(given) - 1 :])
    return name, serial, model, firmware
