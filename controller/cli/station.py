"""`depot station`: has a station asked something, and shows what it said.

Owns how questions are handed over and how answers look. Must not know which OCPP version the station speaks: that is
translated where the stations are.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Callable
from typing import Any
from zoneinfo import ZoneInfo

from controller.cli.acts import _departure
from controller.cli.looks import _moment, _print_json, ask, socket_path, stamp, table
from ui.client import CallRefused, Client


def asks(question: str, *names: str, **fixed: object) -> Callable[[argparse.Namespace], int]:
    """A command that asks `question` with these of its options."""

    def run(options: argparse.Namespace) -> int:
        return _ask(options, question, {name: getattr(options, name) for name in names} | fixed)

    return run


def reserve(options: argparse.Namespace) -> int:
    until = _later(options.until, _zone(options))
    return _ask(
        options,
        "reserve",
        {"evse": options.evse, "token": options.token, "group": options.group, "until": until},
    )


def logs(options: argparse.Namespace) -> int:
    span = {name: _moment(getattr(options, name), _zone(options)) for name in ("since", "until")}
    return _ask(options, "logs", {"to": options.to, "security": options.kind == "security", **span})


def message_set(options: argparse.Namespace) -> int:
    until = None if options.until is None else _later(options.until, _zone(options))
    names = ("text", "id", "priority")
    return _ask(options, "message-set", {name: getattr(options, name) for name in names} | {"until": until})


def call(options: argparse.Namespace) -> int:
    try:
        payload = json.loads(options.payload)
    except (ValueError, RecursionError) as error:
        raise CallRefused("bad-json", f"the payload is not JSON: {error}") from None
    if not isinstance(payload, dict):
        raise CallRefused("bad-json", 'the payload is not a JSON object, like \'{"type": "Soft"}\'')
    return _ask(options, "call", {"action": options.action, "payload": payload}, _show_raw)


def _ask(
    options: argparse.Namespace,
    question: str,
    args: dict[str, Any],
    show: Callable[[dict[str, Any]], None] | None = None,
) -> int:
    told = {name: value for name, value in args.items() if value is not None and value is not False}
    client = Client(socket_path(options))
    answer = asyncio.run(client.call("station-ask", station=options.station, question=question, args=told))
    if options.json:
        _print_json(answer)
    else:
        (show or _show)(answer)
    if answer["done"]:
        return 0
    missing = "" if answer["complete"] else "; the report broke off, this is what came"
    print(f"depot: {options.station} answered {answer['action']}: {answer['said']}{missing}", file=sys.stderr)
    return 1


def _show(answer: dict[str, Any]) -> None:
    rows = answer["rows"]
    if answer["done"] and not rows:
        print(f"{answer['station']}: {answer['said']}")
    elif rows and rows[0].keys() <= {"text", "file", "data"}:
        print("\n".join(str(value) for row in rows for value in row.values()))
    elif rows:
        table([name.upper() for name in rows[0]], [tuple(row.values()) for row in rows])


def _show_raw(answer: dict[str, Any]) -> None:
    """As it came; what came in parts, a line each."""
    parts = [row["part"] for row in answer["rows"]]
    print("\n".join(json.dumps(each, ensure_ascii=False) for each in parts or [answer["answer"]]))


def _later(text: str, zone: str) -> str:
    """A time to come: 18:30 is the next one."""
    return stamp(_departure(text, ZoneInfo(zone)))


def _zone(options: argparse.Namespace) -> str:
    return ask(options, "status")["site"].get("timezone") or "UTC"
