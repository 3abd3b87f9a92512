"""What can be typed: every command with its options, help and an example."""

from __future__ import annotations

import argparse
from typing import Any

from controller.cli import (
    arguments_alarms,
    arguments_books,
    arguments_evidence,
    arguments_export,
    arguments_health,
    arguments_keys,
    arguments_meter,
    arguments_planning,
    arguments_roster,
    arguments_simulate,
    arguments_stations,
)
from controller.cli.arguments_planning import EVSE
from controller.cli.options import (
    chargers,
    command,
    current,
    current_or_none,
    days,
    duration,
    energy,
    json_option,
    lazy,
    percent,
    power,
    preview_option,
    socket_option,
    span,
    speed,
)


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="depot",
        description="On-site controller for a charging depot: every circuit below its fuse, every vehicle ready.",
        epilog="Try it without hardware: depot demo",
    )
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    _serving(commands)
    _looking(commands)
    _diagnosing(commands)
    _upgrading(commands)
    _acting(commands)
    _feeding_back(commands)
    _flexing(commands)
    arguments_planning.offer(commands)
    arguments_stations.offer(commands)
    arguments_keys.offer(commands)
    arguments_meter.offer(commands)
    arguments_evidence.offer(commands)
    arguments_export.offer(commands)
    arguments_books.offer(commands)
    arguments_health.offer(commands)
    arguments_roster.offer(commands)
    arguments_alarms.offer(commands)
    arguments_simulate.offer(commands)
    return top


def _serving(commands: Any) -> None:
    demo = command(
        commands,
        "demo",
        lazy("demo", "demo"),
        "a simulated depot with controller and dashboard",
        "depot demo --chargers 50",
    )
    demo.add_argument("--chargers", type=chargers, default=12, metavar="N", help="1 to 50 (default 12)")
    demo.add_argument("--plain", action="store_true", help="no screen: one line per second")
    demo.add_argument(
        "--for", dest="duration_s", type=duration, metavar="DURATION", help='end after this long, like "60s"'
    )
    demo.add_argument(
        "--speed",
        type=speed,
        default=1.0,
        metavar="X",
        help="run faster than the wall: 1 to 20, with --plain up to 1000 or as fast as the machine follows",
    )
    demo.add_argument(
        "--days",
        type=days,
        metavar="N",
        help="with --plain: so many days of a fleet with a duty plan, out by day and back by night; ends by itself",
    )
    demo.add_argument(
        "--keep",
        metavar="FOLDER",
        help="with --days: leave there what `depot simulate` needs to run the same days",
    )
    demo.add_argument("--seed", type=int, default=1, help="another number, other vehicles (default 1)")
    first = command(
        commands,
        "init",
        lazy("init", "init"),
        "a first config by questions and answers: finds meters, hears chargers knock, writes a commented file",
        "depot init depot.toml",
    )
    first.add_argument("file", nargs="?", default="depot.toml", metavar="FILE", help="default: depot.toml")
    check = command(
        commands,
        "check",
        lazy("serve", "check"),
        "validate a config file and show what was understood",
        "depot check depot.toml --readings",
    )
    check.add_argument("file", help="the config")
    check.add_argument(
        "--readings",
        action="store_true",
        help="show instead how the gaps of the Open Platform's documentation are read, and the settings for that",
    )
    run = command(commands, "run", lazy("serve", "run"), "run the controller", "depot run depot.toml")
    run.add_argument("file", help="the config")
    run.add_argument(
        "--octt-trigger",
        metavar="127.0.0.1:PORT",
        help="let an OCPP compliance suite on this box command every station; never where vehicles charge"
        " (depot run test.toml --octt-trigger 127.0.0.1:5001)",
    )
    run.add_argument("--ui", action="store_true", help="open the dashboard in this terminal too")
    ui = command(
        commands, "ui", lazy("dashboard", "dashboard"), "the dashboard of a running controller", "depot ui"
    )
    ui.add_argument("--read-only", action="store_true", help="look, do not touch")
    socket_option(ui)
    version = command(commands, "version", lazy("looks", "version"), "the version", "depot version")
    version.add_argument(
        "--sbom",
        action="store_true",
        help="what it is made of, as a CycloneDX document (depot version --sbom > depot.cdx.json)",
    )


def _looking(commands: Any) -> None:
    status = command(
        commands,
        "status",
        lazy("looks", "status"),
        "what the dashboard's overview shows",
        "depot status CP001/1 --json",
    )
    status.add_argument("evse", nargs="?", help="only this one, like CP001/1")
    channels = command(
        commands,
        "channels",
        lazy("egress", "channels"),
        "the channels to chargers and platforms, and the customer's switch for the second backend",
        "depot channels --json",
    )
    egress = command(
        commands,
        "egress",
        lazy("egress", "egress"),
        "every request that left the site, with its fields",
        "depot egress --since 24h --json",
    )
    egress.add_argument("--since", metavar="T", help='a time (2026-11-22T18:00) or a span back ("24h")')
    for made in (status, channels, egress):
        json_option(made)
    for made in (status, channels, egress):
        socket_option(made)
    _switching(channels.add_subparsers(metavar="[disable|enable|sites|energy]"))


def _switching(kinds: Any) -> None:
    disable = command(
        kinds,
        "disable",
        lazy("egress", "disable"),
        "close a channel of the second backend and keep it closed",
        "depot channels disable open-platform",
    )
    enable = command(
        kinds,
        "enable",
        lazy("egress", "enable"),
        "open it again, for purposes the config allows",
        'depot channels enable open-platform --by "J. de Vries" --purpose monitor',
    )
    enable.add_argument("--by", required=True, metavar="NAME", help="who consents")
    enable.add_argument(
        "--purpose",
        dest="purposes",
        action="append",
        required=True,
        metavar="P",
        help="what for; may be given more than once: monitor, control, flexibility, v2g, diagnostics, firmware",
    )
    sites = command(
        kinds,
        "sites",
        lazy("egress", "sites"),
        "the sites the hosted platform lets us see",
        "depot channels sites --json",
    )
    energy = command(
        kinds,
        "energy",
        lazy("egress", "energy"),
        "energy as the hosted platform counts it",
        "depot channels energy --since 48h --per day",
    )
    energy.add_argument("--since", metavar="T", help='a time or a span back (default "24h")')
    energy.add_argument("--until", metavar="T", help="a time or a span back (default now)")
    energy.add_argument(
        "--per", dest="granularity", choices=("hour", "day", "month"), default="hour", help="default: hour"
    )
    for made in (disable, enable):
        made.add_argument("channel", help="open-platform, or one of its channels like open-platform/cloud")
    for made in (sites, energy):
        made.add_argument(
            "--json",
            action="store_true",
            default=argparse.SUPPRESS,
            help="one JSON document instead of a table",
        )
    for made in (disable, enable, sites, energy):
        # SUPPRESS: what stands before "disable" must not be overwritten by a default
        made.add_argument("--socket", metavar="PATH", default=argparse.SUPPRESS, help=argparse.SUPPRESS)


def _diagnosing(commands: Any) -> None:
    diagnose = command(
        commands,
        "diagnose",
        lazy("diagnose", "diagnose"),
        "what is wrong with a station, what it means and what to do",
        "depot diagnose CP001",
    )
    diagnose.add_argument("station", help="its id in the config, like CP001")
    json_option(diagnose)
    socket_option(diagnose)


def _upgrading(commands: Any) -> None:
    kinds = commands.add_parser("firmware", help="firmware of the stations").add_subparsers(
        metavar="WHAT", required=True
    )
    status = command(
        kinds,
        "status",
        lazy("firmware", "status"),
        "every station's firmware, whether it may have a second backend, and how an upgrade goes",
        "depot firmware status --json",
    )
    shown = status.add_mutually_exclusive_group()
    shown.add_argument("--json", action="store_true", help="one JSON document instead of tables")
    upgrade = command(
        kinds,
        "upgrade",
        lazy("firmware", "upgrade"),
        "install firmware, one station after the other, never during a session; the first failure ends it",
        "depot firmware upgrade CP001 CP002 --version 260518.0002 --follow",
    )
    upgrade.add_argument("stations", nargs="+", metavar="STATION", help="in this order")
    upgrade.add_argument(
        "--version", required=True, metavar="V", help="what the stations are to run, like 260518.0002"
    )
    upgrade.add_argument("--url", help="where the image is, unless the stations know")
    begun = upgrade.add_mutually_exclusive_group()
    begun.add_argument("--json", action="store_true", help="one JSON document: the order that began")
    stop = command(
        kinds,
        "stop",
        lazy("firmware", "stop"),
        "upgrade no further station; one that has begun goes on",
        "depot firmware stop",
    )
    for place in (shown, begun):
        place.add_argument("--follow", action="store_true", help="tell how it goes until it has ended")
    for made in (status, upgrade, stop):
        socket_option(made)


def _acting(commands: Any) -> None:
    start = command(
        commands,
        "start",
        lazy("acts", "start"),
        "start charging",
        'depot start CP001/1 --limit "16 A" --energy "20 kWh"',
    )
    start.add_argument("evse", help=EVSE)
    start.add_argument(
        "--limit", dest="limit_ma", type=current, metavar="CURRENT", help='at most this, like "16 A"'
    )
    start.add_argument(
        "--energy", dest="energy_wh", type=energy, metavar="ENERGY", help='stop after this, like "20 kWh"'
    )
    start.add_argument("--soc", type=percent, metavar="PERCENT", help="stop at this state of charge")
    start.add_argument(
        "--for", dest="duration_s", type=duration, metavar="DURATION", help='stop after this long, like "1h"'
    )
    start.add_argument("--token", metavar="ID", help="charge on this id token")
    limit = command(
        commands,
        "limit",
        lazy("acts", "limit"),
        "limit an EVSE, or lift the limit",
        'depot limit CP001/1 "10 A"',
    )
    limit.add_argument("evse", help=EVSE)
    limit.add_argument(
        "limit_ma",
        type=current_or_none,
        metavar="CURRENT|none",
        help='at most this, like "10 A"; none lifts it',
    )
    made = [start, limit]
    for name, text in (
        ("stop", "end the session"),
        ("pause", "stop charging, keep the session"),
        ("resume", "charge again after a pause"),
    ):
        act = command(commands, name, lazy("acts", name), text, f"depot {name} CP001/1")
        act.add_argument("evse", help=EVSE)
        made.append(act)
    for act in made:
        preview_option(act)
        json_option(act)
        socket_option(act)


def _feeding_back(commands: Any) -> None:
    discharge = command(
        commands,
        "discharge",
        lazy("acts", "discharge"),
        "feed energy from a vehicle back (V2G)",
        'depot discharge CP001/1 --power "5 kW" --min-soc 40 --for 30m',
    )
    discharge.add_argument("evse", help=EVSE)
    discharge.add_argument(
        "--power",
        dest="power_w",
        type=power,
        required=True,
        metavar="POWER",
        help='at most this, like "5 kW"',
    )
    discharge.add_argument(
        "--min-soc",
        type=percent,
        metavar="PERCENT",
        help="not below this state of charge (default and least 20)",
    )
    discharge.add_argument(
        "--for", dest="duration_s", type=span, metavar="DURATION", help='stop after this long (default "1h")'
    )
    json_option(discharge)
    socket_option(discharge)


def _flexing(commands: Any) -> None:
    flex = commands.add_parser("flex", help="load flexibility: less for a while, then as before by itself")
    kinds = flex.add_subparsers(metavar="WHAT", required=True)
    limit = command(
        kinds,
        "limit",
        lazy("acts", "flex_limit"),
        "limit every EVSE to a share of its rating",
        "depot flex limit 50 --for 30m --circuit row_a",
    )
    limit.add_argument(
        "percent", type=percent, metavar="PERCENT", help="0 to 100; less than the minimum pauses"
    )
    pause = command(
        kinds, "pause", lazy("acts", "flex_pause"), "pause every EVSE", "depot flex pause --for 10m"
    )
    for made in (limit, pause):
        made.add_argument(
            "--for",
            dest="duration_s",
            type=span,
            required=True,
            metavar="DURATION",
            help='how long, like "30m"; 4 h at most',
        )
        where = made.add_mutually_exclusive_group()
        where.add_argument(
            "--site", dest="circuit", action="store_const", const="site", help="the whole site (default)"
        )
        where.add_argument("--circuit", metavar="CIRCUIT", help="only what hangs below this circuit")
        made.set_defaults(circuit="site")
        json_option(made)
        socket_option(made)
    socket_option(
        command(kinds, "end", lazy("acts", "flex_end"), "end all flexibility now", "depot flex end")
    )
