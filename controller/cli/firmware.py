"""`depot firmware`: every station's build against the gate of a second backend, and upgrades, one station at a time.

Owns how a campaign is shown while somebody waits, and the judgement that needs the Open Platform's gate. The campaign is
the controller's: it goes on when this command is interrupted. Source: Open Platform REFERENCE section 14, GAPS G-23.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

from controller.cli.looks import _print_json, ask, socket_path, table
from controller.core.firmware import BUILD, RELEASE, notation
from controller.core.snapshot import CampaignView, Snapshot, UpgradeView
from drivers.openplatform.words import firmware_passes
from ui.client import CallRefused, Client, Disconnected, NotReachable

PLATFORM = "open-platform/"
CLOUD = f"{PLATFORM}cloud"
BAR = 20
_OFFERED = {CLOUD: "not offered by the API", f"{PLATFORM}onsite": "offered"}
_OPEN = ("running", "stopping")

Json = dict[str, Any]


def status(options: argparse.Namespace) -> int:
    if options.follow:
        return asyncio.run(_follow(Client(socket_path(options)), None))
    answer, document = ask(options, "stations"), ask(options, "status")
    gate: str = answer["gate"]
    channels = {each["id"]: each for each in document["channels"]}
    rows = [_judged(each, channels, gate) for each in answer["stations"]]
    campaign = document.get("campaign")
    if options.json:
        return _print_json({"gate": gate, "stations": rows, "campaign": campaign})
    table(
        ("STATION", "CHANNEL", "MODEL", "FIRMWARE", "NOTATION", "GATE", "SECOND BACKEND", "UPGRADE"),
        (
            (r["id"], r["channel"], r["model"], r["firmware"], _notation(r), _yes(r["passes_gate"]),
             r["second_backend"], r["upgrade"])
            for r in rows
        ),
    )  # fmt: skip
    print(f"A second backend needs firmware {gate} or newer.")
    if campaign is not None:
        zone = ZoneInfo(document["site"].get("timezone") or "UTC")
        at = datetime.fromisoformat(campaign["started"]).astimezone(zone)
        text = f": {campaign['text']}" if campaign["text"] else ""
        print(
            f"\nupgrade to {campaign['version']} by {campaign['by']}, {at:%Y-%m-%d %H:%M}, {campaign['state']}{text}"
        )
        table(
            ("STATION", "STATE", "PROGRESS", "WHY"),
            (
                (r["station"], r["state"], _percent(r["progress_pct"]), r["text"])
                for r in campaign["stations"]
            ),
        )
    return 0


def upgrade(options: argparse.Namespace) -> int:
    channels = {each["id"]: each["channel"] for each in ask(options, "stations")["stations"]}
    hosted = [station for station in options.stations if channels.get(station) == CLOUD]
    if hosted:
        text = (
            f"{', '.join(hosted)}: on the hosted platform, whose API offers no upgrade; nothing was ordered"
        )
        raise CallRefused("not-offered", text)
    return asyncio.run(_upgrade(options))


def stop(options: argparse.Namespace) -> int:
    version = ask(options, "firmware-stop")["version"]
    if version is None:
        print("no upgrade is under way")
    else:
        print(f"no further station gets {version}; one that has begun goes on")
    return 0


# --- the fleet ----------------------------------------------------------------------------------------------------


def passes(firmware: str | None, gate: str) -> bool | None:
    return None if firmware is None else firmware_passes(firmware, gate)


def _judged(station: Json, channels: Mapping[str, Json], gate: str) -> Json:
    firmware = station["firmware"]
    return station | {
        "notation": None if firmware is None else notation(firmware),
        "passes_gate": passes(firmware, gate),
        "second_backend": _second_backend(station, channels, gate),
        "upgrade": _OFFERED.get(station["channel"], "not offered here"),
    }


def _second_backend(station: Json, channels: Mapping[str, Json], gate: str) -> str:
    """ "open", or what stands in its way."""
    firmware = station["firmware"]
    if firmware is None:
        return "not known yet: it never said what it runs"
    if not passes(firmware, gate):
        why = {
            BUILD: f"older than {gate}",
            RELEASE: f"a release number is no proof of {gate}",
        }.get(notation(firmware), f"no proof of {gate}")
        return f"not proven: {why}"
    bound = [name for name in (station["channel"], station["companion"]) if str(name).startswith(PLATFORM)]
    if not bound:
        return "possible: no open_platform at this station in the config"
    channel = channels.get(bound[0])
    if channel is None or channel["state"] == "off":
        return f"possible: {bound[0]} is off"
    return "open"


def _notation(row: Json) -> str | None:
    """A build reads like a day; no rule says which release that was (G-23)."""
    kind: str | None = row["notation"]
    if kind != BUILD:
        return kind
    try:
        return f"build of {date.fromisoformat('20' + row['firmware'][:6])}"
    except ValueError:
        return kind


def _yes(passed: bool | None) -> str | None:
    return None if passed is None else "yes" if passed else "no"


def _percent(progress_pct: int | None) -> str | None:
    return None if progress_pct is None else f"{progress_pct} %"


# --- a campaign ---------------------------------------------------------------------------------------------------


async def _upgrade(options: argparse.Namespace) -> int:
    client, wish = Client(socket_path(options)), {"version": options.version, "url": options.url}
    order = (await client.call("firmware-upgrade", stations=options.stations, **wish))["order"]
    if options.follow:
        return await _follow(client, order)
    async for snapshot in _snapshots(client):
        if (refused := _refusal(snapshot, order)) is not None:
            return _failed(refused)
        if snapshot.campaign is not None and snapshot.campaign.order == order:
            break
    if options.json:
        return _print_json({"order": order, "stations": options.stations, "version": options.version})
    print(f"begun: {', '.join(options.stations)}, one after the other; see `depot firmware status --follow`")
    return 0


async def _follow(client: Client, order: str | None) -> int:
    """Tells how it goes until it ends. `order` None: whichever campaign runs."""
    screen, shown = _Screen(), False
    async for snapshot in _snapshots(client):
        campaign = snapshot.campaign
        if order is not None and (refused := _refusal(snapshot, order)) is not None:
            return _failed(refused)
        if order is None and (campaign is None or (campaign.state not in _OPEN and not shown)):
            print("no upgrade is under way")
            return 0
        if campaign is None or (order is not None and campaign.order != order):
            continue
        order, shown = campaign.order, True
        screen.show(campaign, snapshot.time.astimezone(ZoneInfo(snapshot.timezone)))
        if campaign.state not in _OPEN:
            screen.over()
            if campaign.state != "done":
                return _failed(f"{campaign.state}: {campaign.text}")
            print(campaign.text)
            return 0
    raise AssertionError("a watch never ends")


async def _snapshots(client: Client) -> AsyncIterator[Snapshot]:
    async for snapshot in client.watch():
        if isinstance(snapshot, Disconnected):
            raise NotReachable(f"{snapshot.text}; an upgrade under way goes on in its station")
        yield snapshot


def _refusal(snapshot: Snapshot, order: str) -> str | None:
    found = (each.reason or "" for each in snapshot.orders if each.id == order and each.outcome == "refused")
    text = next(found, None)
    return None if text is None else f"refused: {text}"


def _failed(text: str) -> int:
    print(f"depot: firmware upgrade {text}", file=sys.stderr)
    return 1


class _Screen:
    """One line per change, and on a terminal a bar that moves in the last one."""

    def __init__(self) -> None:
        self._told: dict[str, tuple[str, str]] = {}
        self._live = sys.stdout.isatty()
        self._bar = False

    def show(self, campaign: CampaignView, at: datetime) -> None:
        for row in campaign.stations:
            if self._told.get(row.station) != (row.state, row.text):
                self._told[row.station] = row.state, row.text
                self._line(f"{at:%H:%M:%S}  {row.station}  {row.state}{f': {row.text}' if row.text else ''}")
            elif not self._live and row.progress_pct is not None:
                self._progress(row, at)
        if self._live:
            self._draw(campaign.stations)

    def over(self) -> None:
        self._line("")

    def _progress(self, row: UpgradeView, at: datetime) -> None:
        shown = f"{row.state} {row.progress_pct}"
        if self._told.get(f"{row.station} %") != (shown, ""):
            self._told[f"{row.station} %"] = shown, ""
            print(f"{at:%H:%M:%S}  {row.station}  {row.state} {row.progress_pct} %", flush=True)

    def _draw(self, stations: Sequence[UpgradeView]) -> None:
        done = sum(row.state == "done" for row in stations)
        now = next((row for row in stations if row.progress_pct is not None), None)
        bar = "" if now is None else f"{now.station} {now.state} {_bar(now.progress_pct or 0)}  "
        print(f"\r\x1b[K{bar}{done} of {len(stations)} done", end="", flush=True)
        self._bar = True

    def _line(self, text: str) -> None:
        if self._bar:
            print("\r\x1b[K", end="")
        self._bar = False
        if text:
            print(text, flush=True)


def _bar(percent: int) -> str:
    full = percent * BAR // 100
    return f"[{'#' * full}{'.' * (BAR - full)}] {percent} %"
