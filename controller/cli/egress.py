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


def sites(options: argparse.Namespace) -> int:
    found = ask(options, "channel-sites")["sites"]
    if options.json:
        return _print_json(found)
    table(
        ("SITE", "NAME", "CONNECTORS", "CAPACITY kW"),
        ((s["site_id"], s["name"], s["connectors"], _thousandth(s["capacity_w"])) for s in found),
    )
    return 0


def energy(options: argparse.Namespace) -> int:
    zone = ask(options, "status")["site"].get("timezone")
    span = {"since": _moment(options.since, zone), "until": _moment(options.until, zone)}
    found = ask(options, "channel-energy", **span, granularity=options.granularity)["energy"]
    if options.json:
        return _print_json(found)
    table(
        ("SITE", "FROM (UTC)", "CHARGED kWh", "DISCHARGED kWh", "HIGHEST kW"),
        (
            (p["site"], p["label"], _thousandth(p["charge_wh"]), _thousandth(p["discharge_wh"]), _thousandth(p["max_w"]))
            for p in found
        ),
    )  # fmt: skip
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
    if not rows:
        print("nothing has left the site" + ("" if options.since is None else " since then"))
    return 0


def _all_rows(options: argparse.Namespace, since: str | None) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    more = True
    while more:
        page = ask(options, "egress", since=since, skip=len(rows))
        rows += page["egress"]
        more = page["more"]
    return sorted(rows, key=lambda row: row["time"])


def _thousandth(value: int | None) -> str | None:
    return None if value is None else f"{value / 1e3:.2f}"


def _fields(fields: dict[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in fields.items())
