"""What can be typed about stations as such: who may charge there, how they are let in, proven and cared for."""

from __future__ import annotations

from typing import Any

from controller.cli import arguments_asking
from controller.cli.options import command, duration, json_option, lazy, socket_option


def offer(commands: Any) -> None:
    """Adds the commands of this group."""
    arguments_asking.offer(commands)
    _tokens(commands)
    _onboard(commands)
    _qualify(commands)


def _onboard(commands: Any) -> None:
    made = command(
        commands,
        "onboard",
        lazy("onboard", "onboard"),
        "what to type into a charger so that it connects, and what is wrong while it does not",
        "depot onboard CP001",
    )
    made.add_argument("station", nargs="?", help="one station (default: all of the config)")
    made.add_argument("--vendor", metavar="NAME", help='steps for this make only, like "abb"')
    watch = made.add_mutually_exclusive_group()
    watch.add_argument(
        "--watch",
        dest="watch",
        action="store_true",
        default=None,
        help="wait for the first connection and say what is wrong (default on a terminal)",
    )
    watch.add_argument("--no-watch", dest="watch", action="store_false", help="print and end")
    made.add_argument(
        "--for", dest="duration_s", type=duration, metavar="DURATION", help='watch this long, like "10m"'
    )
    json_option(made)
    socket_option(made)


def _qualify(commands: Any) -> None:
    made = command(
        commands,
        "qualify",
        lazy("qualify", "qualify"),
        "the guided proof on site that a station keeps its limits and falls to its fallback alone",
        "depot qualify CP001",
    )
    made.add_argument("station", nargs="?", help="its id in the config, like CP001")
    made.add_argument(
        "--evse", dest="number", type=int, metavar="N", help="which EVSE (default: the one with a session)"
    )
    made.add_argument(
        "--skip",
        action="append",
        default=[],
        choices=("limits", "lease", "cut", "reboot", "pause", "spikes"),
        metavar="CHECK",
        help="leave out a check (limits, lease, cut, reboot, pause, spikes): the station is not proven then",
    )
    made.add_argument("--quick", action="store_true", help="fewer writes in the last check")
    made.add_argument("--list", action="store_true", help="which stations are proven, and what is missing")
    json_option(made)
    socket_option(made)


def _tokens(commands: Any) -> None:
    kinds = commands.add_parser("tokens", help="id tokens: who may charge").add_subparsers(
        metavar="WHAT", required=True
    )
    shown = command(kinds, "list", lazy("tokens", "shown"), "the id tokens", "depot tokens list")
    add = command(
        kinds,
        "add",
        lazy("tokens", "add"),
        "let an id token charge, or change what is known of it",
        "depot tokens add 04A2B3C4 --vehicle BUS-07 --expires 2027-12-31",
    )
    add.add_argument("token", help="as the reader reads it, up to 36 characters")
    add.add_argument("--vehicle", metavar="ID", help="the vehicle of the config that it belongs to")
    add.add_argument("--group", metavar="ID", help="tokens of one group may end each other's transactions")
    add.add_argument(
        "--expires", metavar="TIME", help="2027-12-31 or 2027-12-31T18:00, local time of the site"
    )
    add.add_argument("--note", metavar="TEXT", help="whose it is, for people")
    add.add_argument("--concurrent", action="store_true", help="may charge at several stations at once")
    blocked = add.add_mutually_exclusive_group()
    blocked.add_argument("--blocked", action="store_true", help="may not charge until it is unblocked")
    blocked.add_argument("--unblocked", action="store_true", help="may charge again")
    remove = command(
        kinds,
        "remove",
        lazy("tokens", "remove"),
        "take an id token out of the book",
        "depot tokens remove 04A2B3C4",
    )
    remove.add_argument("token", help="as `depot tokens list` shows it")
    forget = command(
        kinds,
        "forget",
        lazy("tokens", "forget"),
        "take an id token out of the book and out of all past sessions, where an alias stands in its place",
        "depot tokens forget 04A2B3C4",
    )
    forget.add_argument("token", help="as `depot tokens list` shows it")
    forget.add_argument("--yes", action="store_true", help="do not ask")
    imported = command(
        kinds,
        "import",
        lazy("tokens", "imported"),
        "read id tokens from a CSV file (columns token, group, expires, blocked, vehicle, concurrent, note)",
        "depot tokens import tokens.csv",
    )
    imported.add_argument("file", help="the CSV file; all of it is checked before anything is stored")
    imported.add_argument("--replace", action="store_true", help="forget every token that is not in the file")
    for made in (shown, add, remove, forget, imported):
        json_option(made)
        socket_option(made)
