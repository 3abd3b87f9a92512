"""What can be typed about the books: `depot sessions`, `depot report`, `depot backup` and `depot restore`."""

from __future__ import annotations

from typing import Any

from controller.cli.options import command, json_option, lazy, socket_option


def offer(commands: Any) -> None:
    _sessions(commands)
    _report(commands)
    _care(commands)


def _sessions(commands: Any) -> None:
    made = command(
        commands,
        "sessions",
        lazy("sessions", "sessions"),
        "charging sessions, beside the chargers' own records of them",
        "depot sessions --since 24h --vehicle BUS-07 --csv",
    )
    made.add_argument("--since", metavar="T", help='a time (2026-11-22T18:00) or a span back ("24h")')
    made.add_argument("--until", metavar="T", help="likewise (default: up to now)")
    made.add_argument("--evse", metavar="ID", help="only of this EVSE, or of a station")
    _whose(made)
    kind = made.add_mutually_exclusive_group()
    kind.add_argument(
        "--records", action="store_true", help="the chargers' own records instead, and what our sessions say"
    )
    kind.add_argument(
        "--signed",
        action="store_true",
        help="sessions with signed meter values, and these as they came (JSON)",
    )
    _plain_tokens(made)
    form = made.add_mutually_exclusive_group()
    form.add_argument("--csv", action="store_true", help="comma-separated values instead of a table")
    json_option(form)
    socket_option(made)


def _report(commands: Any) -> None:
    made = command(
        commands,
        "report",
        lazy("report", "report"),
        "what was charged in a month, per vehicle or id token, with sums and a chart",
        "depot report --month 2026-11 --by vehicle --out november.html",
    )
    made.add_argument(
        "--month", metavar="YYYY-MM", help="a month on the site's calendar (default: the last whole one)"
    )
    made.add_argument("--by", choices=("vehicle", "token"), default="vehicle", help="default: vehicle")
    _whose(made)
    _plain_tokens(made)
    form = made.add_mutually_exclusive_group()
    form.add_argument(
        "--out", metavar="FILE", help="a page to print (.html), text (.txt) or comma-separated values (.csv)"
    )
    json_option(form)
    socket_option(made)


def _whose(made: Any) -> None:
    whose = made.add_mutually_exclusive_group()
    whose.add_argument("--vehicle", metavar="ID", help="only of this vehicle")
    whose.add_argument("--token", metavar="TOKEN", help="only of this id token, or its alias")


def _plain_tokens(made: Any) -> None:
    which = made.add_mutually_exclusive_group()
    which.add_argument(
        "--plain-tokens",
        action="store_true",
        default=None,
        help="id tokens as they are (operators), not as aliases",
    )
    which.add_argument(
        "--hash-tokens",
        dest="plain_tokens",
        action="store_false",
        default=None,
        help="an alias for each id token (default in all but the table on the terminal)",
    )


def _care(commands: Any) -> None:
    backup = command(
        commands,
        "backup",
        lazy("care", "backup"),
        "copy the books (sessions, alarms, audit) into a file, while the controller runs or not",
        "depot backup /media/usb/depot-2026-11-22.db",
    )
    backup.add_argument("copy", metavar="FILE", help="must not exist yet")
    socket_option(backup)
    restore = command(
        commands,
        "restore",
        lazy("care", "restore"),
        "put a backup in the place of the books of a controller that does not run; what it replaces is kept",
        "depot restore /var/lib/depot/backups/depot-20261122T180000Z.db",
    )
    restore.add_argument("copy", metavar="FILE", help="the backup")
    for made in (backup, restore):
        where = made.add_mutually_exclusive_group()
        where.add_argument("--config", dest="file", metavar="FILE", help="the config, for its state folder")
        where.add_argument(
            "--storage", metavar="DIR", help="the state folder itself (default /var/lib/depot)"
        )
