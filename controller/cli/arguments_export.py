"""What can be typed about sessions that leave for a database of the customer: `depot export`."""

from __future__ import annotations

from typing import Any

from controller.cli.options import command, json_option, lazy, socket_option


def offer(commands: Any) -> None:
    export = command(
        commands,
        "export",
        lazy("export", "export"),
        "send the sessions that are new or have changed since the last time to PostgreSQL",
        "depot export --to postgresql://depot@db.example.com/fleet --json",
    )
    what = export.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--to",
        metavar="URL",
        help="postgresql://user@host:5432/database; the password comes from PGPASSFILE, PGPASSWORD or the credential"
        " postgresql-password, never from the URL",
    )
    what.add_argument(
        "--sql", action="store_true", help="print what makes the tables, for whoever may make them"
    )
    export.add_argument(
        "--since",
        metavar="T",
        help='leave out what ended before a time (2026-11-22T18:00) or a span back ("720h")',
    )
    export.add_argument("--again", action="store_true", help="send everything once more; no row comes twice")
    export.add_argument("--renamed", action="store_true", help="the site has another name than last time")
    export.add_argument(
        "--plain-tokens", action="store_true", help="id tokens as they are, not hashed (operators only)"
    )
    json_option(export)
    socket_option(export)
