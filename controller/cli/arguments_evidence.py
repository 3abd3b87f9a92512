"""What can be typed about evidence: `depot why` and `depot verify`."""

from __future__ import annotations

from typing import Any

from controller.cli.options import command, json_option, lazy, socket_option


def offer(commands: Any) -> None:
    why = command(
        commands,
        "why",
        lazy("evidence", "why"),
        "which limit an EVSE is bound by, who set it, and what one ampere more there would bring",
        "depot why CP001/1 --at 2026-11-22T18:00",
    )
    why.add_argument("evse", help="like CP001/1")
    why.add_argument(
        "--at", metavar="T", help='a time (2026-11-22T18:00) or a span back ("10m"); default now'
    )
    verify = command(
        commands,
        "verify",
        lazy("evidence", "verify"),
        "judge the journal (was the fuse safe at every step?), the chains and the energy of sessions",
        "depot verify depot.toml --since 24h",
    )
    where = verify.add_mutually_exclusive_group()
    where.add_argument("file", nargs="?", help="the config, for its state folder")
    where.add_argument("--storage", metavar="DIR", help="the state folder itself (default /var/lib/depot)")
    verify.add_argument("--since", metavar="T", help='a time (2026-11-22T18:00) or a span back ("24h")')
    for made in (why, verify):
        json_option(made)
        socket_option(made)
