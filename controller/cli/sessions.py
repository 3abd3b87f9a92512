"""`depot sessions`: what was charged, beside what the chargers' own records say of it, and the signed meter values.

Owns how sessions look as a table and as comma-separated values, and how all pages of them are asked for. Id tokens leave as
aliases unless an operator asks for them as they are.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from controller.cli.looks import _local, _moment, _print_json, ask, table
from ui.sheet import COLUMNS, write

RECORD_COLUMNS = ("record", "evse", "session", "started", "ended", "energy_wh", "session_wh", "gap_wh")


def sessions(options: argparse.Namespace) -> int:
    zone = ask(options, "status")["site"].get("timezone")
    asked: dict[str, Any] = {
        "since": _moment(options.since, zone),
        "until": _moment(options.until, zone),
    }
    if options.records:
        found = every(options, "records", "records", **asked, evse=options.evse)
        if not found:
            hint(options)
        return _records(options, found, zone)
    asked |= {"evse": options.evse, "vehicle": options.vehicle, "token": options.token}
    if options.plain_tokens is not None:
        asked["tokens"] = "plain" if options.plain_tokens else "hashed"
    elif options.json or options.csv or options.signed:
        asked["tokens"] = "hashed"
    if options.signed:
        signed = every(options, "sessions-signed", "sessions", **asked)
        if not signed:
            hint(options)
        return _print_json(signed)
    rows = every(options, "sessions", "sessions", **asked)
    if not rows:
        hint(options)
    if options.json:
        return _print_json(rows)
    if options.csv:
        return _print_csv(COLUMNS, rows)
    table(
        ("EVSE", "VEHICLE", "TOKEN", "STARTED", "ENDED", "kWh", "RECORD", "COST", "WHY", "MARKS"),
        (
            (r["evse"], r["vehicle"], r["token"], _local(r["started"], zone), _local(r["ended"], zone), kwh(r["energy_wh"]),
             beside(r["record_wh"], r["gap_wh"]), money(r), r["stop_reason"], " ".join(r["marks"]))
            for r in rows
        ),
    )  # fmt: skip
    return 0


def hint(options: argparse.Namespace) -> None:
    """Nothing was found: says so where nothing is known at all of whom it was asked about; it may be a slip."""
    for kind in ("evse", "vehicle", "token"):
        name = getattr(options, kind, None)
        if name is None or ask(options, "sessions", **{kind: name}, tokens="hashed")["sessions"]:
            continue
        if kind == "evse":
            evses = [each["id"] for each in ask(options, "status")["evses"]]
            if name in evses or any(each.startswith(f"{name}/") for each in evses):
                continue
        what = {"evse": "EVSE", "vehicle": "vehicle", "token": "id token"}[kind]
        print(
            f"depot: no session of {what} {name!r} is known, at any time; is it typed right?", file=sys.stderr
        )


def every(options: argparse.Namespace, call: str, name: str, **asked: Any) -> list[dict[str, Any]]:
    """All pages of an answer."""
    rows: list[dict[str, Any]] = []
    more = True
    while more:
        page = ask(options, call, **asked, skip=len(rows))
        rows += page[name]
        more = page["more"]
    return rows


def kwh(energy_wh: int | None) -> str | None:
    return None if energy_wh is None else f"{energy_wh / 1e3:.2f}"


def beside(record_wh: int | None, gap_wh: int | None) -> str | None:
    """What the charger's records say, and by how much that is above ours."""
    if record_wh is None:
        return None
    return f"{record_wh / 1e3:.2f}" if gap_wh is None else f"{record_wh / 1e3:.2f} ({gap_wh / 1e3:+.2f})"


def money(session: dict[str, Any]) -> str | None:
    cost = session.get("cost")
    return None if cost is None else f"{cost:.2f} {session.get('currency') or ''}".rstrip()


def _records(options: argparse.Namespace, rows: list[dict[str, Any]], zone: str | None) -> int:
    if options.json:
        return _print_json(rows)
    if options.csv:
        return _print_csv(RECORD_COLUMNS, rows)
    table(
        ("RECORD", "EVSE", "SESSION", "STARTED", "ENDED", "kWh", "OURS", "GAP"),
        (
            (r["record"], r["evse"], r["session"], _local(r["started"], zone), _local(r["ended"], zone),
             kwh(r["energy_wh"]), kwh(r["session_wh"]), kwh(r["gap_wh"]))
            for r in rows
        ),
    )  # fmt: skip
    return 0


def _print_csv(columns: tuple[str, ...], rows: list[dict[str, Any]]) -> int:
    write(sys.stdout, columns, rows)
    return 0
