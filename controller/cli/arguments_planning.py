"""What can be typed about plans: `depot schedule`, `depot depart` and `depot plan`."""

from __future__ import annotations

from typing import Any

from controller.cli.options import command, energy, json_option, lazy, percent, preview_option, socket_option

EVSE = "like CP001/1, or CP001 where it has one"


def offer(commands: Any) -> None:
    """Adds the commands of this group."""
    schedule = commands.add_parser("schedule", help="weekly, daily and one-off charging plans")
    kinds = schedule.add_subparsers(metavar="WHAT", required=True)
    shown = command(kinds, "list", lazy("acts", "schedule_list"), "the schedules", "depot schedule list")
    shown.add_argument("evse", nargs="?", help="only of this EVSE")
    stored = command(
        kinds,
        "set",
        lazy("acts", "schedule_set"),
        "store a schedule",
        "depot schedule set CP001/1 nights.toml",
    )
    stored.add_argument("evse", help=EVSE)
    stored.add_argument("file", help="the schedule, in TOML")
    cleared = command(
        kinds,
        "clear",
        lazy("acts", "schedule_clear"),
        "remove schedules",
        "depot schedule clear CP001/1 nights",
    )
    cleared.add_argument("evse", help=EVSE)
    cleared.add_argument("schedule", nargs="?", metavar="ID", help="only this one (default: all of the EVSE)")
    depart = command(
        commands,
        "depart",
        lazy("acts", "depart"),
        "say when a vehicle leaves and what it needs",
        'depot depart BUS-07 --at 05:30 --energy "30 kWh"',
    )
    depart.add_argument("target", metavar="EVSE|VEHICLE", help="CP001/1, or a vehicle of the config")
    depart.add_argument(
        "--at",
        required=True,
        metavar="TIME",
        help="05:30 (the next one) or 2026-11-23T05:30; within the next 31 days",
    )
    need = depart.add_mutually_exclusive_group(required=True)
    need.add_argument(
        "--energy",
        dest="energy_wh",
        type=energy,
        metavar="ENERGY",
        help='what it needs by then, like "30 kWh"',
    )
    need.add_argument(
        "--soc", type=percent, metavar="PERCENT", help="the state of charge it needs by then, 0 to 100"
    )
    tonight = command(
        commands,
        "plan",
        lazy("plan", "plan"),
        "tonight's plan: when each vehicle charges, whether it will be ready, what binds and what would help",
        'depot plan --what-if "site.limit=160 A; BUS-07 -1h"',
    )
    tonight.add_argument(
        "--what-if",
        metavar="CHANGE",
        help='what the plan would be with something different: "site.limit=160 A" or 90 kW, "BUS-07 +30m", '
        '"BUS-07 05:30 40 kWh", "add 2 30 kWh 06:00"; several behind semicolons. Changes nothing',
    )
    preview_option(depart)
    for made in (shown, stored, cleared, depart, tonight):
        json_option(made)
        socket_option(made)
