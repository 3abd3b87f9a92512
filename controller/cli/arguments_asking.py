"""What can be typed about one station's inside: `depot station STATION ACTION`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from controller.cli.options import command, json_option, lazy, socket_option


def offer(commands: Any) -> None:
    """Adds `depot station`."""
    text = (
        "have a connected station asked something: restart, unlock, variables, reports, logs and more (OCPP)"
    )
    station = commands.add_parser(
        "station", help=text, description=text, epilog="Example: depot station CP001 reset --when-idle"
    )
    station.add_argument("station", metavar="STATION", help="its id in the config, like CP001")
    kinds = station.add_subparsers(metavar="ACTION", required=True)
    _working(kinds)
    _looking_after(kinds)
    _variables(kinds)
    _watching(kinds)
    _showing(kinds)
    _raw(kinds)


def _asks(question: str, *names: str, **fixed: object) -> Callable[[argparse.Namespace], int]:
    def run(options: argparse.Namespace) -> int:
        from controller.cli import station  # when it runs: see `options.lazy`

        return station.asks(question, *names, **fixed)(options)

    return run


def _question(
    kinds: Any, name: str, run: Callable[[argparse.Namespace], int], text: str, example: str
) -> argparse.ArgumentParser:
    made = command(kinds, name, run, text, f"depot station CP001 {example}")
    json_option(made)
    socket_option(made)
    return made


def _group(kinds: Any, name: str, text: str) -> Any:
    return kinds.add_parser(name, help=text).add_subparsers(metavar="WHAT", required=True)


def _number(text: str) -> int:
    """1 or CP001/1."""
    number = text.rpartition("/")[2]
    if not number.isascii() or not number.isdigit() or not 1 <= int(number) <= 9999:
        raise argparse.ArgumentTypeError(f'"{text}" is not an EVSE; write 1 or CP001/1')
    return int(number)


def _evse(made: argparse.ArgumentParser, needed: bool = True) -> None:
    made.add_argument(
        "evse",
        type=_number,
        nargs=None if needed else "?",
        metavar="EVSE",
        help="its number, like 1" + ("" if needed else " (default: the whole station)"),
    )


def _working(kinds: Any) -> None:
    reset = _question(
        kinds, "reset", _asks("reset", "evse", "hard", "when_idle"), "restart it", "reset --when-idle"
    )
    _evse(reset, needed=False)
    how = reset.add_mutually_exclusive_group()
    how.add_argument("--hard", action="store_true", help="without tidying up first (OCPP 1.6)")
    how.add_argument("--when-idle", action="store_true", help="once nothing charges there (OCPP 2.x)")
    _evse(_question(kinds, "unlock", _asks("unlock", "evse"), "release a stuck cable", "unlock 1"))
    back = _asks("available", "evse")
    _evse(_question(kinds, "available", back, "put it back into service", "available 1"), needed=False)
    away = _asks("available", "evse", off=True)
    _evse(_question(kinds, "unavailable", away, "take it out of service", "unavailable 1"), needed=False)
    reserve = _question(
        kinds,
        "reserve",
        lazy("station", "reserve"),
        "keep an EVSE for an id token",
        "reserve 1 04A2B3C4 --until 18:30",
    )
    _evse(reserve)
    reserve.add_argument("token", help="the id token that may charge")
    reserve.add_argument("--group", metavar="ID", help="another token of this group may use it too")
    reserve.add_argument(
        "--until", required=True, metavar="TIME", help="18:30 (the next one) or 2026-11-23T05:30"
    )
    free = _asks("unreserve", "evse")
    _evse(_question(kinds, "unreserve", free, "end the reservation of `reserve`", "unreserve 1"))


def _looking_after(kinds: Any) -> None:
    trigger = _question(
        kinds,
        "trigger",
        _asks("trigger", "message", "evse"),
        "have it send a message now",
        "trigger values 1",
    )
    trigger.add_argument(
        "message",
        help="boot, heartbeat, status, values, firmware, logs, certificate, diagnostics (1.6), transaction (2.x)",
    )
    _evse(trigger, needed=False)
    logs = _question(
        kinds, "logs", lazy("station", "logs"), "have it upload its log", "logs --to ftp://10.0.4.2/logs/"
    )
    logs.add_argument("--to", required=True, metavar="URL", help="where it uploads it: ftp, http or https")
    logs.add_argument(
        "--kind", choices=("diagnostics", "security"), default="diagnostics", help="default: diagnostics"
    )
    logs.add_argument("--since", metavar="T", help='a time (2026-11-22T18:00) or a span back ("24h")')
    logs.add_argument("--until", metavar="T", help="likewise (default: all up to now)")
    cache = _group(kinds, "cache", "the id tokens it remembers")
    _question(cache, "clear", _asks("cache-clear"), "have it forget them", "cache clear")


def _variables(kinds: Any) -> None:
    variables = _group(kinds, "variables", "its variables (OCPP 2.x) or configuration keys (1.6)")
    get = _question(
        variables,
        "get",
        _asks("variables-get", "names"),
        "read variables; without names all (OCPP 1.6)",
        "variables get OCPPCommCtrlr.HeartbeatInterval",
    )
    get.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="HeartbeatInterval (1.6); Component@EVSE.Variable[instance] (2.x)",
    )
    put = _question(
        variables,
        "set",
        _asks("variables-set", "name", "value"),
        "write a variable; not limits and not passwords",
        "variables set LightIntensity 50",
    )
    put.add_argument("name", help="as `variables get` writes it")
    put.add_argument("value", help="as the station writes it")
    report = _question(
        kinds, "report", _asks("report", "kind"), "everything it says about itself (OCPP 2.x)", "report"
    )
    report.add_argument(
        "--kind", choices=("full", "configuration", "summary"), default="full", help="default: full"
    )
    profiles = _asks("profiles", "evse")
    made = _question(kinds, "profiles", profiles, "the charging profiles in it (OCPP 2.x)", "profiles 1")
    _evse(made, needed=False)


def _watching(kinds: Any) -> None:
    monitors = _group(kinds, "monitors", "variables it watches and tells about (OCPP 2.x)")
    _question(monitors, "list", _asks("monitors-list"), "what it watches", "monitors list")
    made = _question(
        monitors,
        "set",
        _asks("monitors-set", "name", "kind", "value", "severity"),
        "watch a variable",
        "monitors set EVSE@1.Power upper 11000 --severity 4",
    )
    made.add_argument("name", help="the variable, like EVSE@1.Power")
    made.add_argument(
        "kind",
        choices=("upper", "lower", "delta", "periodic", "clock"),
        help="above or below a threshold, a change, or every so often",
    )
    made.add_argument("value", type=float, help="the threshold, the change, or seconds")
    made.add_argument("--severity", type=int, choices=range(10), help="0 (danger) to 9 (debug); default 5")
    clear = _asks("monitors-clear", "ids")
    made = _question(monitors, "clear", clear, "watch something no longer", "monitors clear 3")
    made.add_argument("ids", nargs="+", metavar="ID", help="as `monitors list` shows them")


def _showing(kinds: Any) -> None:
    message = _group(kinds, "message", "what its display shows (OCPP 2.x)")
    made = _question(
        message,
        "set",
        lazy("station", "message_set"),
        "show a text",
        'message set "Gate closes at 22:00" --until 22:00',
    )
    made.add_argument("text", help="what it shows")
    made.add_argument("--id", type=int, default=1, help="to replace or clear it by (default 1)")
    made.add_argument(
        "--priority", choices=("always", "front", "normal"), default="normal", help="default: normal"
    )
    made.add_argument("--until", metavar="TIME", help="22:00 (the next one) or 2026-11-23T05:30")
    _question(message, "list", _asks("message-list"), "what it shows", "message list")
    clear = _question(message, "clear", _asks("message-clear", "id"), "show it no longer", "message clear")
    clear.add_argument("--id", type=int, default=1, help="which one (default 1)")
    cost = _question(
        kinds,
        "cost",
        _asks("cost", "evse", "amount"),
        "show what charging costs so far (OCPP 2.x)",
        "cost 1 4.50",
    )
    _evse(cost)
    cost.add_argument("amount", type=float, help="in the currency of the station")
    customer = _question(
        kinds,
        "customer",
        _asks("customer", "token", "id", "clear"),
        "what it knows of a customer (OCPP 2.x)",
        "customer --token 04A2B3C4 --clear",
    )
    who = customer.add_mutually_exclusive_group(required=True)
    who.add_argument("--token", metavar="ID", help="the customer's id token")
    who.add_argument("--id", metavar="TEXT", help="as the operator calls the customer")
    customer.add_argument("--clear", action="store_true", help="and have it forget that")


def _raw(kinds: Any) -> None:
    transfer = _question(
        kinds,
        "transfer",
        _asks("transfer", "vendor", "message", "data"),
        "send a message of its maker's own",
        'transfer com.acme SetBrightness "50"',
    )
    transfer.add_argument("vendor", help="as the maker calls itself, like com.acme")
    transfer.add_argument("message", nargs="?", help="which of its messages")
    transfer.add_argument("data", nargs="?", help="as text")
    call = _question(
        kinds,
        "call",
        lazy("station", "call"),
        "any request of its OCPP version, for experts; limits and starts are the depot's",
        'call GetCompositeSchedule \'{"connectorId":1,"duration":600}\'',
    )
    call.add_argument("action", help="without Request, like GetCompositeSchedule")
    call.add_argument("payload", nargs="?", default="{}", help="a JSON object (default {})")
