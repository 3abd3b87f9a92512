"""What can be typed: every command with its options, help and an example."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib import import_module
from typing import Any

from controller.core.units import parse_current_ma, parse_duration_s, parse_energy_wh, parse_power_w

SOON = (
    "alarms", "backup", "log", "meter", "plan", "restore", "roster", "simulate", "tokens", "verify", "why",
)  # fmt: skip


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
    _acting(commands)
    _feeding_back(commands)
    _flexing(commands)
    _planning(commands)
    for name in SOON:
        later = commands.add_parser(name, help="not available yet")
        later.add_argument("rest", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
        later.set_defaults(run=_lazy("looks", "not_yet"), command=name)
    return top


def _lazy(module: str, function: str) -> Callable[[argparse.Namespace], int]:
    """Imports a command when it runs: `depot status` must not wait for the dashboard's library to load."""

    def run(options: argparse.Namespace) -> int:
        code: int = getattr(import_module(f"controller.cli.{module}"), function)(options)
        return code

    return run


def _command(
    commands: Any, name: str, run: Callable[[argparse.Namespace], int], text: str, example: str
) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = commands.add_parser(
        name, help=text, description=text[0].upper() + text[1:] + ".", epilog=f"Example: {example}"
    )
    made.set_defaults(run=run)
    return made


def _socket(made: argparse.ArgumentParser) -> None:
    made.add_argument(
        "--socket", metavar="PATH", help="control socket (default: $DEPOT_SOCKET or /run/depot/control.sock)"
    )


def _json(made: argparse.ArgumentParser) -> None:
    made.add_argument("--json", action="store_true", help="one JSON document instead of a table")


def _serving(commands: Any) -> None:
    demo = _command(
        commands,
        "demo",
        _lazy("demo", "demo"),
        "a simulated depot with controller and dashboard",
        "depot demo --chargers 50",
    )
    demo.add_argument("--chargers", type=_chargers, default=12, metavar="N", help="1 to 50 (default 12)")
    demo.add_argument("--plain", action="store_true", help="no screen: one line per second")
    demo.add_argument(
        "--for", dest="duration_s", type=_duration, metavar="DURATION", help='end after this long, like "60s"'
    )
    demo.add_argument(
        "--speed", type=_speed, default=1.0, metavar="X", help="run faster than the wall (1 to 20)"
    )
    demo.add_argument("--seed", type=int, default=1, help="another number, other vehicles (default 1)")
    check = _command(
        commands,
        "check",
        _lazy("serve", "check"),
        "validate a config file and show what was understood",
        "depot check depot.toml",
    )
    check.add_argument("file")
    run = _command(commands, "run", _lazy("serve", "run"), "run the controller", "depot run depot.toml")
    run.add_argument("file")
    run.add_argument("--ui", action="store_true", help="open the dashboard in this terminal too")
    ui = _command(
        commands, "ui", _lazy("serve", "dashboard"), "the dashboard of a running controller", "depot ui"
    )
    ui.add_argument("--read-only", action="store_true", help="look, do not touch")
    _socket(ui)
    version = _command(commands, "version", _lazy("looks", "version"), "the version", "depot version")
    version.add_argument("--sbom", action="store_true", help="not available yet")


def _looking(commands: Any) -> None:
    status = _command(
        commands,
        "status",
        _lazy("looks", "status"),
        "what the dashboard's overview shows",
        "depot status CP001/1 --json",
    )
    status.add_argument("evse", nargs="?")
    sessions = _command(
        commands,
        "sessions",
        _lazy("looks", "sessions"),
        "charging sessions",
        "depot sessions --since 24h --csv",
    )
    sessions.add_argument("--since", metavar="T", help='a time (2026-11-22T18:00) or a span back ("24h")')
    sessions.add_argument("--until", metavar="T")
    sessions.add_argument("--csv", action="store_true", help="comma-separated values instead of a table")
    channels = _command(
        commands,
        "channels",
        _lazy("egress", "channels"),
        "the channels to chargers and platforms, and the customer's switch for the second backend",
        "depot channels --json",
    )
    egress = _command(
        commands,
        "egress",
        _lazy("egress", "egress"),
        "every request that left the site, with its fields",
        "depot egress --since 24h --json",
    )
    egress.add_argument("--since", metavar="T", help='a time (2026-11-22T18:00) or a span back ("24h")')
    for made in (status, sessions, channels, egress):
        _json(made)
        _socket(made)
    _switching(channels.add_subparsers(metavar="[disable|enable]"))


def _switching(kinds: Any) -> None:
    disable = _command(
        kinds,
        "disable",
        _lazy("egress", "disable"),
        "close a channel of the second backend and keep it closed",
        "depot channels disable open-platform",
    )
    enable = _command(
        kinds,
        "enable",
        _lazy("egress", "enable"),
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
    for made in (disable, enable):
        made.add_argument("channel", help="open-platform, or one of its channels like open-platform/cloud")
        # SUPPRESS: what stands before "disable" must not be overwritten by a default
        made.add_argument("--socket", metavar="PATH", default=argparse.SUPPRESS, help=argparse.SUPPRESS)


def _diagnosing(commands: Any) -> None:
    diagnose = _command(
        commands,
        "diagnose",
        _lazy("diagnose", "diagnose"),
        "what is wrong with a station, what it means and what to do",
        "depot diagnose CP001",
    )
    diagnose.add_argument("station")
    kinds = commands.add_parser("firmware", help="firmware of the stations").add_subparsers(
        metavar="WHAT", required=True
    )
    status = _command(
        kinds,
        "status",
        _lazy("diagnose", "firmware_status"),
        "every station's firmware, and whether it may have a second backend",
        "depot firmware status --json",
    )
    for made in (diagnose, status):
        _json(made)
        _socket(made)


def _acting(commands: Any) -> None:
    start = _command(
        commands,
        "start",
        _lazy("acts", "start"),
        "start charging",
        'depot start CP001/1 --limit "16 A" --energy "20 kWh"',
    )
    start.add_argument("evse")
    start.add_argument(
        "--limit", dest="limit_ma", type=_current, metavar="CURRENT", help='at most this, like "16 A"'
    )
    start.add_argument(
        "--energy", dest="energy_wh", type=_energy, metavar="ENERGY", help='stop after this, like "20 kWh"'
    )
    start.add_argument("--soc", type=_percent, metavar="PERCENT", help="stop at this state of charge")
    start.add_argument(
        "--for", dest="duration_s", type=_duration, metavar="DURATION", help='stop after this long, like "1h"'
    )
    start.add_argument("--token", metavar="ID", help="charge on this id token")
    limit = _command(
        commands,
        "limit",
        _lazy("acts", "limit"),
        "limit an EVSE, or lift the limit",
        'depot limit CP001/1 "10 A"',
    )
    limit.add_argument("evse")
    limit.add_argument("limit_ma", type=_current_or_none, metavar="CURRENT|none")
    made = [start, limit]
    for name, text in (
        ("stop", "end the session"),
        ("pause", "stop charging, keep the session"),
        ("resume", "charge again after a pause"),
    ):
        act = _command(commands, name, _lazy("acts", name), text, f"depot {name} CP001/1")
        act.add_argument("evse")
        made.append(act)
    for act in made:
        _socket(act)


def _feeding_back(commands: Any) -> None:
    discharge = _command(
        commands,
        "discharge",
        _lazy("acts", "discharge"),
        "feed energy from a vehicle back (V2G)",
        'depot discharge CP001/1 --power "5 kW" --min-soc 40 --for 30m',
    )
    discharge.add_argument("evse")
    discharge.add_argument(
        "--power",
        dest="power_w",
        type=_power,
        required=True,
        metavar="POWER",
        help='at most this, like "5 kW"',
    )
    discharge.add_argument(
        "--min-soc",
        type=_percent,
        metavar="PERCENT",
        help="not below this state of charge (default and least 20)",
    )
    discharge.add_argument(
        "--for", dest="duration_s", type=_span, metavar="DURATION", help='stop after this long (default "1h")'
    )
    _socket(discharge)


def _flexing(commands: Any) -> None:
    flex = commands.add_parser("flex", help="load flexibility: less for a while, then as before by itself")
    kinds = flex.add_subparsers(metavar="WHAT", required=True)
    limit = _command(
        kinds,
        "limit",
        _lazy("acts", "flex_limit"),
        "limit every EVSE to a share of its rating",
        "depot flex limit 50 --for 30m --circuit row_a",
    )
    limit.add_argument(
        "percent", type=_percent, metavar="PERCENT", help="0 to 100; less than the minimum pauses"
    )
    pause = _command(
        kinds, "pause", _lazy("acts", "flex_pause"), "pause every EVSE", "depot flex pause --for 10m"
    )
    for made in (limit, pause):
        made.add_argument(
            "--for",
            dest="duration_s",
            type=_span,
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
        _socket(made)
    _socket(_command(kinds, "end", _lazy("acts", "flex_end"), "end all flexibility now", "depot flex end"))


def _planning(commands: Any) -> None:
    schedule = commands.add_parser("schedule", help="weekly, daily and one-off charging plans")
    kinds = schedule.add_subparsers(metavar="WHAT", required=True)
    shown = _command(kinds, "list", _lazy("acts", "schedule_list"), "the schedules", "depot schedule list")
    shown.add_argument("evse", nargs="?")
    _json(shown)
    stored = _command(
        kinds,
        "set",
        _lazy("acts", "schedule_set"),
        "store a schedule",
        "depot schedule set CP001/1 nights.toml",
    )
    stored.add_argument("evse")
    stored.add_argument("file")
    cleared = _command(
        kinds,
        "clear",
        _lazy("acts", "schedule_clear"),
        "remove schedules",
        "depot schedule clear CP001/1 nights",
    )
    cleared.add_argument("evse")
    cleared.add_argument("schedule", nargs="?", metavar="ID")
    depart = _command(
        commands,
        "depart",
        _lazy("acts", "depart"),
        "say when a vehicle leaves and what it needs",
        'depot depart BUS-07 --at 05:30 --energy "30 kWh"',
    )
    depart.add_argument("target", metavar="EVSE|VEHICLE")
    depart.add_argument(
        "--at", required=True, metavar="TIME", help="05:30 (the next one) or 2026-11-23T05:30"
    )
    need = depart.add_mutually_exclusive_group(required=True)
    need.add_argument("--energy", dest="energy_wh", type=_energy, metavar="ENERGY")
    need.add_argument("--soc", type=_percent, metavar="PERCENT")
    for made in (shown, stored, cleared, depart):
        _socket(made)


# --- values -----------------------------------------------------------------------------------------------------


def _with_unit(read: Callable[[str], Any]) -> Callable[[str], Any]:
    def convert(text: str) -> Any:
        try:
            value = read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
        except OverflowError:
            raise argparse.ArgumentTypeError(f'"{text}" is too large') from None
        if value < 0:
            raise argparse.ArgumentTypeError(f'"{text}" is below zero')
        return value

    return convert


_current = _with_unit(parse_current_ma)
_energy = _with_unit(parse_energy_wh)
_power = _with_unit(parse_power_w)
_duration = _with_unit(lambda text: int(parse_duration_s(text)))


def _span(text: str) -> int:
    seconds: int = _duration(text)
    if seconds < 1:
        raise argparse.ArgumentTypeError(f'"{text}" is shorter than a second')
    return seconds


def _current_or_none(text: str) -> int | None:
    return None if text == "none" else _current(text)


def _percent(text: str) -> int:
    if not text.isdigit() or int(text) > 100:
        raise argparse.ArgumentTypeError(f'"{text}" is not a whole number from 0 to 100')
    return int(text)


def _chargers(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 50:
        raise argparse.ArgumentTypeError(f'"{text}" is not a whole number from 1 to 50')
    return int(text)


def _speed(text: str) -> float:
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 1.0 <= speed <= 20.0:
        raise argparse.ArgumentTypeError(f'"{text}" is not a number from 1 to 20')
    return speed
