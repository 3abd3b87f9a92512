"""What can be typed about what is to come: rosters, and states of charge."""

from __future__ import annotations

from typing import Any

from controller.cli.options import command, json_option, lazy, percent, socket_option


def offer(commands: Any) -> None:
    """Adds the commands of this group."""
    kinds = commands.add_parser(
        "roster", help="which vehicle leaves when, with how much, and when it returns"
    ).add_subparsers(metavar="WHAT", required=True)
    imported = command(
        kinds,
        "import",
        lazy("roster", "imported"),
        "take a roster in, all of it or nothing (CSV: vehicle,departs,energy,soc,arrives,returns,evse,block;"
        ' iCalendar: an event is a trip, its summary "BUS-07 30 kWh")',
        "depot roster import week.csv --replace",
    )
    imported.add_argument("file", metavar="FILE.csv|FILE.ics", help="its name says which of the two it is")
    imported.add_argument(
        "--replace", action="store_true", help="put it in place of the whole roster instead of adding to it"
    )
    shown = command(kinds, "list", lazy("roster", "shown"), "what is to come", "depot roster list --json")
    json_option(shown)
    cleared = command(kinds, "clear", lazy("roster", "cleared"), "forget the roster", "depot roster clear")
    soc = command(
        commands,
        "soc",
        lazy("roster", "soc"),
        "say the state of charge of a vehicle that does not tell it; it is counted on from there",
        "depot soc BUS-07 55",
    )
    soc.add_argument("target", metavar="EVSE|VEHICLE", help="where it charges, or which vehicle it is")
    soc.add_argument("soc", type=percent, metavar="PERCENT", help="0 to 100")
    json_option(soc)
    for made in (imported, shown, cleared, soc):
        socket_option(made)
