"""What can be typed about alarms and about what happened: `depot alarms`, `depot log` and `depot watch`."""

from __future__ import annotations

import argparse
from typing import Any

from controller.cli.options import command, json_option, lazy, socket_option, span


def offer(commands: Any) -> None:
    alarms = command(
        commands,
        "alarms",
        lazy("alarms", "listed"),
        "what needs a person now, strongest first; incidents as one",
        "depot alarms --all",
    )
    alarms.add_argument(
        "--all",
        action="store_true",
        help="also what is shelved, out of service or explained by another alarm",
    )
    _acting(alarms.add_subparsers(metavar="[show|ack|shelve|unshelve|out-of-service|in-service]"))
    log = command(
        commands,
        "log",
        lazy("log", "log"),
        "what happened, newest last: audit, alarms, orders and sessions in one",
        "depot log --since 2h --follow",
    )
    log.add_argument(
        "-f", "--follow", action="store_true", help="go on with what happens from now on (Ctrl-C ends it)"
    )
    log.add_argument(
        "--since",
        metavar="T",
        help='a time (2026-11-22T18:00) or a span back ("24h"); default: the last 100 lines',
    )
    log.add_argument(
        "--frames",
        action="store_true",
        help="the last messages on the wires instead, secrets and id tokens masked (operators)",
    )
    log.add_argument(
        "--station",
        metavar="NAME",
        help="with --frames: only of this station, meter, client or channel; Modbus is shown only so (modbus)",
    )
    watch = command(
        commands,
        "watch",
        lazy("watch", "watch"),
        "one line per change that matters, for logs, slow lines and screen readers",
        "depot watch --every 30s",
    )
    watch.add_argument(
        "--every",
        dest="every_s",
        type=span,
        metavar="DURATION",
        help="not more often than this; each time a line that sums up comes first",
    )
    for made in (log, watch):
        made.add_argument(
            "--for", dest="duration_s", type=span, metavar="DURATION", help="end by itself after this long"
        )
    for made in (alarms, log, watch):
        json_option(made)
        socket_option(made)


def _acting(kinds: Any) -> None:
    show = command(
        kinds,
        "show",
        lazy("alarms", "show"),
        "one alarm: cause, consequence, how soon, what to do, and its history",
        "depot alarms show a12-3",
    )
    ack = command(
        kinds,
        "ack",
        lazy("alarms", "ack"),
        "say that you have seen it and see to it",
        "depot alarms ack a12-3",
    )
    shelve = command(
        kinds,
        "shelve",
        lazy("alarms", "shelve"),
        "silence an alarm for a while; it comes back by itself",
        'depot alarms shelve a12-3 --for 2h --reason "electrician is on it"',
    )
    shelve.add_argument(
        "--for",
        dest="for_s",
        type=span,
        required=True,
        metavar="DURATION",
        help='how long, like "2h"; 8 h at most',
    )
    unshelve = command(
        kinds, "unshelve", lazy("alarms", "unshelve"), "end a shelf now", "depot alarms unshelve a12-3"
    )
    out = command(
        kinds,
        "out-of-service",
        lazy("alarms", "out_of_service"),
        "silence everything of a station, EVSE, meter, circuit or channel until you lift it",
        'depot alarms out-of-service CP001 --reason "being replaced"',
    )
    back = command(
        kinds, "in-service", lazy("alarms", "in_service"), "lift that again", "depot alarms in-service CP001"
    )
    for made in (shelve, out):
        made.add_argument("--reason", required=True, metavar="TEXT", help="why; it stands in the audit")
    for made in (show, ack, shelve):
        made.add_argument(
            "alarm", metavar="ID", help="of an alarm or an incident, as `depot alarms` shows it"
        )
    unshelve.add_argument(
        "alarm", metavar="ID|SOURCE", help="as `depot alarms --all` shows them; SOURCE: all of it"
    )
    for made in (out, back):
        made.add_argument(
            "source", metavar="SOURCE", help="CP001, CP001/1, or the name of a meter, circuit or channel"
        )
    for made in (show, ack, shelve, unshelve, out, back):
        # SUPPRESS: what stands before "show" must not be overwritten by a default
        made.add_argument("--socket", metavar="PATH", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        made.add_argument(
            "--json", action="store_true", default=argparse.SUPPRESS, help="one JSON document instead of text"
        )
