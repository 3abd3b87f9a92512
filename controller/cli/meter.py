"""`depot meter kinds` and `depot meter probe`: which meters we can read, and what is behind an address, without a config.

Owns the words and the config lines to paste. Writes nothing to a meter.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
from collections.abc import Iterator, Sequence
from textwrap import fill
from typing import Any

from controller.cli.looks import WIDTH, _print_json, table
from controller.config.meter_address import MeterAddress, meter_address
from controller.config.values import Wrong, quoted
from drivers.errors import Misconfigured, WrongUse
from drivers.modbus import find, guards, maps
from drivers.modbus import kinds as known_kinds
from drivers.modbus.line import Address
from drivers.modbus.probe import Asked, Found
from drivers.modbus.probe import probe as ask_all
from drivers.modbus.registers import MeterMap

_ORDER = (
    "voltage",
    "current",
    "power",
    "power per phase",
    "frequency",
    "import",
    "export",
    "state of charge",
)
_SYMBOLS = ("V", "A", "W", "phW", "Hz", "+Wh", "-Wh", "SoC")
FAILED = 1

Json = dict[str, Any]


# --- kinds --------------------------------------------------------------------------------------------------------


def kinds(options: argparse.Namespace) -> int:
    rows = [_kind(name) for name in known_kinds()]
    if options.json:
        return _print_json(rows)
    short = [
        (row["kind"], row["title"], " ".join(map(_short, row["measures"])), _projects(row["source"]))
        for row in rows
    ]
    table(("KIND", "DEVICES", "MEASURES", "SOURCE"), short)
    print(
        "\nphW is the power of each phase, ? what only some of them measure. Without A no circuit is guarded."
    )
    return 0


def _kind(name: str) -> Json:
    file = find(name)
    told = [set(_measures(meter)) for meter in maps(file)]
    always, ever = set.intersection(*told), set.union(*told)
    return {
        "kind": name,
        "title": file.TITLE,
        "measures": [one if one in always else f"{one} (some)" for one in _ORDER if one in ever],
        "guards_a_circuit": guards(name),
        "source": _source(file.__doc__ or ""),
    }


def _measures(meter: MeterMap) -> Iterator[str]:
    facts = (
        meter.voltage, meter.current, meter.total_power, meter.power, meter.frequency, meter.import_energy,
        meter.export_energy, meter.soc,
    )  # fmt: skip
    for name, fact in zip(_ORDER, facts, strict=True):
        if fact:
            yield name


def _short(measures: str) -> str:
    name = measures.removesuffix(" (some)")
    return _SYMBOLS[_ORDER.index(name)] + ("?" if measures != name else "")


def _projects(source: str) -> str:
    """The first sentence, without what stands in brackets."""
    return re.sub(r" \([^)]*\)", "", re.split(r"\. |; ", source)[0]).rstrip(".")


def _source(doc: str) -> str:
    said = re.search(r"Source: (.*?)(?:\n\n|\Z)", doc, re.S)
    return " ".join(said[1].split()) if said else ""


# --- probe --------------------------------------------------------------------------------------------------------


def probe(options: argparse.Namespace) -> int:
    """Raises DriverError when nobody can be asked at all."""
    at = _address(options.address)
    if options.kind is not None:
        try:
            find(options.kind)
        except Misconfigured as error:
            raise WrongUse(str(error)) from None
    units: Sequence[int] = options.units or (at.unit,)
    wire = Address(at.host, at.port, at.transport, at.baud, at.parity, at.stop_bits)
    with _Progress() as progress:
        asked = asyncio.run(ask_all(wire, units, options.kind, progress))
    found = any(one.found for one in asked)
    if options.json:
        _print_json([_document(at, one) for one in asked])
    elif not found:
        lines = [f"depot: {wire} unit {one.unit}: {one.why}" for one in asked if len(asked) == 1]
        print(
            *(lines or [f"depot: {wire}: no meter we know at unit {_ranges(units)}"]),
            sep="\n",
            file=sys.stderr,
        )
    else:
        for number, one in enumerate(each for each in asked if each.found):
            _show(at, one, f"main_{one.unit}" if len(units) > 1 else "main", number == 0)
    return 0 if found else FAILED


def _address(written: str) -> MeterAddress:
    """Unit 1 where none is said. Raises WrongUse."""
    whole = written if re.search(r"[^/]/\d+$", written) else f"{written.rstrip('/')}/1"
    try:
        return meter_address(whole)
    except Wrong as wrong:
        raise WrongUse(f"{quoted(written)}: {wrong.suggestion}") from None


class _Progress:
    """What is being asked, on one line of the terminal; says nothing where there is none."""

    def __init__(self) -> None:
        self._on = sys.stderr.isatty()

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self("")

    def __call__(self, text: str) -> None:
        if self._on:
            print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def _show(at: MeterAddress, asked: Asked, name: str, first: bool) -> None:
    best = asked.found[0]
    print(
        f"{'' if first else chr(10)}unit {asked.unit}: {best.title}"
        + (f'  ("{best.said}")' if best.said else "")
    )
    for label, text in _reading(best):
        print(f"  {label:8} {text}")
    for doubt in best.doubts:
        print(fill(doubt, WIDTH, initial_indent="  doubt    ", subsequent_indent=" " * 11))
    others = ", ".join(one.kind for one in asked.found[1:])
    if others:
        print(f"  also     {others} would fit; compare with the label of the meter")
    print(
        f"\n[meter.{name}]\nkind = {quoted(best.kind)}\naddress = {quoted(str(at._replace(unit=asked.unit)))}"
    )


def _reading(found: Found) -> Iterator[tuple[str, str]]:
    one = found.measured
    for label, values, unit in (
        ("voltage", one.voltage_v, "V"), ("current", one.current_a, "A"), ("power", one.power_w, "W"),
    ):  # fmt: skip
        if values:
            phases = (f"L{n} {_number(value, unit)}" for n, value in enumerate(values, 1))
            yield label, "  ".join(phases)
    for label, value, unit in (
        ("total", one.total_power_w, "W"), ("grid", one.frequency_hz, "Hz"), ("import", one.import_wh, "Wh"),
        ("export", one.export_wh, "Wh"), ("charge", one.soc_pct, "%"),
    ):  # fmt: skip
        if value is not None:
            yield label, _number(value, unit)
    yield "answered", f"in {found.latency_ms} ms"


def _number(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    if unit == "Wh":
        return f"{value / 1000:.1f} kWh"
    return f"{value:.{0 if unit == 'W' else 2}f} {unit}"


def _ranges(units: Sequence[int]) -> str:
    return str(units[0]) if len(units) == 1 else f"{units[0]} to {units[-1]}"


def _document(at: MeterAddress, asked: Asked) -> Json:
    return {
        "unit": asked.unit,
        "address": str(at._replace(unit=asked.unit)),
        "why_not": asked.why or None,
        "found": [_found(one) for one in asked.found],
    }


def _found(found: Found) -> Json:
    one = found.measured
    return {
        "kind": found.kind,
        "title": found.title,
        "said": found.said,
        "guards_a_circuit": guards(found.kind),
        "voltage_v": list(one.voltage_v),
        "current_a": list(one.current_a),
        "phase_power_w": list(one.power_w),
        "power_w": one.total_power_w,
        "frequency_hz": one.frequency_hz,
        "import_wh": one.import_wh,
        "export_wh": one.export_wh,
        "soc_pct": one.soc_pct,
        "latency_ms": found.latency_ms,
        "doubts": list(found.doubts),
    }
