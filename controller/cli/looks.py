"""Commands that only look: status, version; and how anything that is asked and told looks on a terminal."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from importlib import metadata
from textwrap import fill
from typing import Any
from zoneinfo import ZoneInfo

from controller.cli.sbom import document
from controller.core.units import parse_duration_s
from ui.client import CallRefused, Client

WIDTH = 80
DEFAULT_SOCKET = "/run/depot/control.sock"


def socket_path(options: argparse.Namespace) -> str:
    return options.socket or os.environ.get("DEPOT_SOCKET") or DEFAULT_SOCKET


def ask(options: argparse.Namespace, name: str, **args: object) -> Any:
    """One call to the running controller. Raises CallRefused and NotReachable."""
    return asyncio.run(Client(socket_path(options)).call(name, **args))


def status(options: argparse.Namespace) -> int:
    document = ask(options, "status")
    if options.evse is not None:
        named = (options.evse, f"{options.evse}/1")
        found = [evse for evse in document["evses"] if evse["id"] in named]
        if not found:
            raise CallRefused("unknown-evse", f"no EVSE {options.evse!r}; `depot status` lists them")
        if options.json:
            return _print_json(found[0])
        document = {**document, "evses": found}
    if options.json:
        return _print_json(document)
    site = document["site"]
    print(
        f"{site['name']}  {_local(document['time'], site.get('timezone'))}  {site['state']}  {site.get('text', '')}".rstrip()
    )
    table(
        ("CIRCUIT", "LIMIT A", "MEASURED", "BACKGROUND", "COMMITTED", "METER", "AGE", "QUALITY"),
        (
            (c["id"], _amps(c["limit_a"]), _amps(c["measured_a"]), _amps(c["background_a"]), _amps(c["committed_a"]),
             c["meter"], _age(c["meter_age_s"]), c["quality"])
            for c in document["circuits"]
        ),
    )  # fmt: skip
    table(
        ("EVSE", "STATE", "LIMIT", "GRANT", "CMD", "ACC", "DRAWN", "COMMIT", "kW", "kWh", "BOUND BY"),
        (_evse_row(evse) for evse in document["evses"]),
    )
    if options.evse is not None:
        for line in told_wiring(document["evses"][0]):
            print(line)
    for evse in document["evses"]:
        if guess := (evse["session"] or {}).get("looks_like"):
            sure = f"{guess['confidence_pct']} %"
            print(f"{evse['id']} looks like {guess['vehicle']} ({guess['why']}; {sure} sure)")
    for alarm in document["alarms"]:
        since = _local(alarm["since"], site.get("timezone"))
        text = f"alarm {alarm['priority']}  {since}  {alarm['source']}  {alarm['text']}"
        print(fill(text, WIDTH, subsequent_indent=" " * 9, break_long_words=False, break_on_hyphens=False))
    return 0


def told_wiring(evse: dict[str, Any]) -> Iterable[str]:
    """How it is wired, and what the meter says to that."""
    if evse.get("phases_used") is not None:
        yield f"phases     {evse['phases'] or 'unknown'}, the vehicle uses {evse['phases_used']}"
    if (rotation := evse.get("rotation")) is not None:
        seen = f"{rotation['confidence'] * 100:.0f} % sure, {rotation['seen']} observations"
        likely = rotation["likely"]
        todo = "" if evse["phases"] == likely else f': write phases = "{likely}"'
        if todo and rotation["confidence"] < 0.9:
            todo = "; not sure enough yet to write it down"
        yield f"rotation   {likely} seems right ({seen}){todo}"


def version(options: argparse.Namespace) -> int:
    if options.sbom:
        return _print_json(document())
    print(f"depot {metadata.version('depot-controller')}")
    return 0


# --- printing ---------------------------------------------------------------------------------------------------


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Columns as wide as needed; what is unknown is a dash."""
    lines = [[_cell(value) or "-" for value in row] for row in rows]
    widths = [max(len(line[i]) for line in [list(head), *lines]) for i in range(len(head))]
    for line in [list(head), *lines]:
        print("  ".join(value.ljust(width) for value, width in zip(line, widths, strict=True)).rstrip())


def _print_json(value: Any) -> int:
    json.dump(value, sys.stdout, indent=2, ensure_ascii=False)
    print()
    return 0


def _evse_row(evse: dict[str, Any]) -> tuple[object, ...]:
    session = evse["session"] or {}
    power, energy = evse["power_w"], session.get("energy_wh")
    return (
        evse["id"],
        evse["state"],
        _number(evse["limit_a"]),
        _number(evse["grant_a"]),
        _number(evse["commanded_a"]),
        _number(evse["accepted_a"]),
        _amps(evse["measured_a"]),
        _number(evse["commitment_a"]),
        None if power is None else f"{power / 1e3:.1f}",
        None if energy is None else f"{energy / 1e3:.2f}",
        evse["bound_by"],
    )


def _cell(value: object) -> str:
    if value is None:
        return ""
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _number(value: float | None) -> str | None:
    return None if value is None else f"{value:g}"


def _amps(values: Sequence[float | None] | None) -> str | None:
    """Of each phase; one figure where all are alike."""
    if values is None:
        return None
    each = ["?" if v is None else f"{v:.0f}" for v in values]
    return each[0] if len(set(each)) == 1 else "/".join(each)


def _age(seconds: float | None) -> str | None:
    return None if seconds is None else f"{seconds:.1f} s"


def _local(stamp: str | None, zone: str | None) -> str | None:
    """A time as people on site read it."""
    if stamp is None:
        return None
    return datetime.fromisoformat(stamp).astimezone(ZoneInfo(zone or "UTC")).strftime("%Y-%m-%d %H:%M:%S")


def _moment(text: str | None, zone: str | None) -> str | None:
    """A time or a span back from now, as ISO 8601 in UTC. Raises CallRefused."""
    if text is None:
        return None
    try:
        return stamp(datetime.now(UTC) - timedelta(seconds=parse_duration_s(text)))
    except (ValueError, OverflowError):
        pass  # not a span, or one that begins before the calendar
    try:
        at = datetime.fromisoformat(text)
        return stamp(at if at.tzinfo else at.replace(tzinfo=ZoneInfo(zone or "UTC")))
    except (ValueError, OverflowError):
        expected = 'not a time (2026-11-22T18:00) and not a span ("24h")'
        raise CallRefused("bad-time", f'"{text}" is {expected}') from None


def stamp(at: datetime) -> str:
    """ISO 8601 in UTC. Raises OverflowError where that lies outside the calendar."""
    return at.astimezone(UTC).replace(microsecond=0, tzinfo=None).isoformat() + "Z"
