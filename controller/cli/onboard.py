"""`depot onboard`: what to type into a charger so that it connects, and what is wrong while it does not.

Owns the addresses of this box, the steps per make (`vendors.toml`) and the watch. Passwords are never shown, only where they
are. Source: OCPP-J 1.6 section 3.1, field notes sections 1.4 and 2.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import socket
import struct
import sys
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from ipaddress import ip_address
from textwrap import fill
from typing import Any
from urllib.parse import quote

from controller.cli.diagnoses import diagnosis
from controller.cli.looks import WIDTH, _local, _print_json, ask, socket_path
from controller.core.snapshot import AlarmView, Snapshot
from ui.client import CallRefused, Client, Disconnected

SUBPROTOCOLS = {"1.6": "ocpp1.6", "2.0.1": "ocpp2.0.1", "2.1": "ocpp2.1"}
PROFILES = {
    0: "0 (no password is asked of it)",
    1: "1 (user name and password)",
    2: "2 (user name and password over TLS)",
    3: "3 (TLS with a certificate of its own)",
}
ANY = ("0.0.0.0", "::", "")
_SIOCGIFADDR = 0x8915
_DOOR = "turned away at ocpp"

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Vendor:
    """`names`: in small letters, any part of what it calls itself. `rows`: where it is told (field notes section 2)."""

    title: str
    names: tuple[str, ...]
    rows: tuple[int, ...]
    steps: tuple[str, ...]


def onboard(options: argparse.Namespace) -> int:
    doors = ask(options, "onboarding")
    stations = [each for each in doors["stations"] if options.station in (None, each["id"])]
    if not stations:
        raise CallRefused("unknown-station", _nobody(options.station, doors))
    known = {each["id"]: each for each in ask(options, "stations")["stations"]}
    sheets = [_sheet(each, doors, known.get(each["id"], {})) for each in stations]
    makes = _makes(options.vendor, [f"{s['vendor'] or ''} {s['model'] or ''}" for s in sheets])
    if options.json:
        steps = [{"title": make.title, "steps": make.steps, "rows": make.rows} for make in makes]
        return _print_json({"stations": sheets, "vendors": steps})
    for sheet in sheets:
        _show(sheet)
    _show_makes(makes)
    watch = sys.stdout.isatty() or options.duration_s is not None if options.watch is None else options.watch
    return asyncio.run(_watch(options, [each["id"] for each in stations])) if watch else 0


def _nobody(station: str | None, doors: Json) -> str:
    if station in doors["elsewhere"]:
        return f"{station} is on {doors['elsewhere'][station]}, not on OCPP: it is known there by its serial number"
    if station is None:
        return f"no station in {doors['config']} has an ocpp table"
    return f"no station {station!r} in {doors['config']}; add [station.{station}] there and restart"


# --- what to type -------------------------------------------------------------------------------------------------


def _sheet(station: Json, doors: Json, known: Json) -> Json:
    """All that a technician types for one station, as `--json` prints it."""
    profile, name = station["security_profile"], quote(station["id"], safe=":")
    bases = []
    if doors["tls"] is not None:
        bases += [f"wss://{host}:{doors['tls']['port']}/ocpp" for host in _hosts(doors["tls"]["host"])]
    if profile < 2:
        plain = [f"ws://{host}:{doors['plain']['port']}/ocpp" for host in _hosts(doors["plain"]["host"])]
        bases = bases + plain if profile else plain + bases
    version = station["version"]
    return {
        "station": station["id"],
        "urls": [f"{base}/{name}" for base in bases],
        "bases": bases,
        "user": None if station["allow_insecure"] else station["id"],
        "password": _password(station, doors["config"]),
        "security_profile": profile or int(station["has_password"]),
        "subprotocols": [SUBPROTOCOLS[version]] if version else list(SUBPROTOCOLS.values()),
        "allow_from": station["allow_from"],
        "vendor": known.get("vendor"),
        "model": known.get("model"),
    }


def _password(station: Json, config: str) -> str | None:
    """Where it is, in words."""
    if not station["has_password"]:
        return None
    return (
        f"the content of password_file under [station.{station['id']}] in {config}"
        " (after depot station-password the charger has another one already)"
    )


def _hosts(listening: str) -> list[str]:
    """Addresses under which a charger reaches a door; those of this box when it is open on all of them."""
    found = own_addresses() if listening in ANY else [listening]
    return [f"[{host}]" if ":" in host else host for host in found] or ["THIS-BOX"]


def own_addresses() -> list[str]:
    """The IPv4 addresses of this box, without the loopback."""
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        for _, name in socket.if_nameindex():
            try:
                answer = fcntl.ioctl(asking, _SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
            except OSError:
                continue  # no address on this one
            found.append(socket.inet_ntoa(answer[20:24]))
    return [address for address in dict.fromkeys(found) if not ip_address(address).is_loopback]


def _show(sheet: Json) -> None:
    identified = " ".join(filter(None, (sheet["vendor"], sheet["model"])))
    print(f"{sheet['station']}{f'  ({identified})' if identified else ''}")
    first, *more = sheet["urls"] or ["none: its security profile needs tls_listen under [ocpp]"]
    rows = [("URL", first), *(("or", url) for url in more)]
    rows += [("", f"{base}  if it appends its identity by itself") for base in sheet["bases"][:1]]
    rows.append(("user name", sheet["user"] or "none"))
    rows.append(("password", sheet["password"] or "none"))
    rows.append(("security profile", PROFILES[sheet["security_profile"]]))
    rows.append(("subprotocol", " or ".join(sheet["subprotocols"])))
    if sheet["allow_from"]:
        rows.append(("from", ", ".join(sheet["allow_from"])))
    for name, value in rows:
        print(fill(value, WIDTH, initial_indent=f"  {name:<17}", subsequent_indent=" " * 19,
                   break_long_words=False, break_on_hyphens=False))  # fmt: skip
    print()


# --- makes ----------------------------------------------------------------------------------------------------------


@cache
def vendors() -> tuple[Vendor, ...]:
    text = files("controller.cli").joinpath("vendors.toml").read_text(encoding="utf-8")
    return tuple(
        Vendor(each["title"], tuple(each["names"]), tuple(each["rows"]), tuple(each["steps"]))
        for each in tomllib.loads(text)["vendor"]
    )


def _makes(named: str | None, identities: Iterable[str]) -> list[Vendor]:
    """Of the named make; else of the stations that have said who they are; else all."""
    if named is not None:
        found = [make for make in vendors() if _is_of(make, named.casefold())]
        if not found:
            titles = ", ".join(make.title for make in vendors())
            raise CallRefused(
                "unknown-vendor", f"nothing is known about {named!r}; there are notes on {titles}"
            )
        return found
    said = [identity.casefold() for identity in identities]
    if all(identity.strip() for identity in said):
        return [make for make in vendors() if any(_is_of(make, identity) for identity in said)]
    return list(vendors())


def _is_of(make: Vendor, identity: str) -> bool:
    return any(name in identity for name in make.names) or identity in make.title.casefold()


def _show_makes(makes: Sequence[Vendor]) -> None:
    if makes:
        print("by make:")
    for make in makes:
        for number, step in enumerate(make.steps):
            head = f"  {make.title if number == 0 else '':<29} "
            print(fill(step, WIDTH, initial_indent=head, subsequent_indent=" " * 32))
    if makes:
        print()


# --- watching -------------------------------------------------------------------------------------------------------


async def _watch(options: argparse.Namespace, wanted: Sequence[str]) -> int:
    """Until every wanted station is connected, or the time is over: 0 and 1."""
    print("watching the door; Ctrl-C ends", flush=True)
    here: set[str] = set()
    told: dict[str, str] = {}
    try:
        async with asyncio.timeout(options.duration_s):
            async for picture in Client(socket_path(options)).watch():
                if isinstance(picture, Disconnected):
                    print(picture.text, flush=True)
                    continue
                for line in _news(picture, wanted, here, told):
                    print(line, flush=True)
                if here >= set(wanted):
                    return 0
    except TimeoutError:
        missing = [station for station in wanted if station not in here]
        print(f"depot: not connected yet: {', '.join(missing)}", file=sys.stderr)
    return 1


def _news(picture: Snapshot, wanted: Sequence[str], here: set[str], told: dict[str, str]) -> Iterator[str]:
    """What happened at the door since the picture before. `here` and `told` remember."""
    time = (_local(picture.time.isoformat(), picture.timezone) or "")[11:]
    for view in picture.evses:
        if view.station in wanted and view.connected and view.station not in here:
            here.add(view.station)
            told.pop(view.station, None)
            who = f", {view.identity}" if view.identity else ""
            yield f"{time}  {view.station} is connected over {view.channels[0]}{who}"
            yield f"          next: depot qualify {view.station}, with a vehicle that charges"
        elif view.station in wanted and not view.connected and view.station in here:
            here.discard(view.station)
            yield f"{time}  {view.station} is gone again"
    for alarm in picture.alarms:
        if alarm.kind == "access" and alarm.text.startswith(_DOOR) and told.get(alarm.source) != alarm.text:
            told[alarm.source] = alarm.text
            yield from _explained(time, alarm, wanted, picture)


def _explained(time: str, alarm: AlarmView, wanted: Sequence[str], picture: Snapshot) -> Iterator[str]:
    """A refusal in plain words. Whoever has no name yet may be any charger that is not connected."""
    peer, _, reason = alarm.text.removeprefix(f"{_DOOR} from ").partition(": ")
    if alarm.source not in wanted and alarm.source in {view.station for view in picture.evses}:
        return  # somebody else's trouble
    known = diagnosis(reason)
    who = f"a charger at {peer}" if alarm.source == peer else f'"{alarm.source}" at {peer}'
    yield fill(f"{time}  {who}: {known.what} ({reason})", WIDTH, subsequent_indent=" " * 10)
    yield fill(f"          do: {known.do}", WIDTH, subsequent_indent=" " * 14)
