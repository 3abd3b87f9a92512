"""Commands about the second backend: its channels, the customer's switch, and everything that left the site."""

from __future__ import annotations

import argparse
from typing import Any

from controller.cli.looks import _local, _moment, _print_json, ask, table


def channels(options: argparse.Namespace) -> int:
    found = ask(options, "channels")["channels"]
    if options.json:
        return _print_json(found)
    table(
        ("CHANNEL", "STATE", "HOST", "REGION", "ENABLED BY", "PURPOSES", "TEXT"),
        (
            (c["id"], c["state"], c.get("host"), c.get("region"), c.get("enabled_by"), c.get("purposes"), c.get("text"))
            for c in found
        ),
    )  # fmt: skip
    return 0


def disable(options: argparse.Namespace) -> int:
    for channel in ask(options, "channel-disable", channel=options.channel)["channels"]:
        print(f"{channel['id']}: off, and stays off until it is enabled here")
    return 0


def enable(options: argparse.Namespace) -> int:
    wanted = {"channel": options.channel, "by": options.by, "purposes": options.purposes}
    for channel in ask(options, "channel-enable", **wanted)["channels"]:
        print(f"{channel['id']}: on for {', '.join(channel['purposes'])}; enabled by {channel['enabled_by']}")
    return 0


def egress(options: argparse.Namespace) -> int:
    zone = ask(options, "status")["site"].get("timezone")
    rows = _all_rows(options, _moment(options.since, zone))
    if options.json:
        return _print_json(rows)
    table(
        ("TIME", "HOST", "METHOD", "PATH", "STATUS", "BYTES", "FIELDS"),
        (
            (_local(r["time"], zone), r["host"], r["method"], r["path"], r["status"], r["bytes"], _fields(r["fields"]))
            for r in rows
        ),
    )  # fmt: skip
    return 0


def _all_rows(options: argparse.Namespace, since: str | None) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    more = True
    while more:
        page = ask(options, "egress", since=since, skip=len(rows))
        rows += page["egress"]
        more = page["more"]
    return sorted(rows, key=lambda row: row["time"])


def _fields(fields: dict[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in fields.items())
