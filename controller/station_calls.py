"""The console's calls about stations: who they are, what went wrong with one of them lately, and their firmware.

Owns the reads of depot.db and telemetry.db behind them. Judges nothing: what a fault code means and which firmware is
good enough is known where the drivers are. Must not be reachable from anywhere but the control socket.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from controller.calls import takes
from controller.channel_calls import Call
from controller.console import Args, Peer, Refusal, _text
from controller.core.events import UpgradeEnded, UpgradeWished
from controller.core.model import EvseId, EvseState, StationId
from controller.core.wire import instant_text
from controller.migrations import LedgerError
from controller.runtime import Runtime
from controller.storage import LEDGER, TELEMETRY, Storage

KINDS = ("fault-code", "fault", "offline", "access")
HISTORY = timedelta(days=7)
MOST_ALARMS = 200
_LONGEST_VERSION, _LONGEST_URL = 50, 512  # OCPP 2.0.1 ChargingStationType, FirmwareType
_ADDRESS = re.compile(r"(?:https?|ftps?|sftp)://[^/]", re.IGNORECASE)
STATE_BACK = timedelta(hours=2)  # a state that lasts longer is told as lasting at least this long


class StationCalls:
    """`table` is for `Console`: name -> (whether only operators may, the call). `storage` must be open. `gate`:
    the firmware a second backend needs. `ways`: what a driver has counted of a station's ways."""

    def __init__(
        self,
        runtime: Runtime,
        storage: Storage,
        gate: str,
        ways: Callable[[StationId], Sequence[Mapping[str, Any]]] | None = None,
    ) -> None:
        self._runtime = runtime
        self._storage = storage
        self._gate = gate
        self._ways = ways or (lambda station: ())
        self.table: Mapping[str, tuple[bool, Call]] = {
            "stations": (False, self._stations),
            "station-history": (False, self._history),
            "firmware-upgrade": (True, self._upgrade),
            "firmware-stop": (True, self._stop_upgrades),
        }
        self._orders = 0

    @takes()
    async def _stations(self, args: Args, peer: Peer) -> Any:
        """Every station of the config with what it last said of itself; unknown is None."""

        def work(db: sqlite3.Connection) -> dict[str, tuple[str, ...]]:
            rows = db.execute("SELECT id, vendor, model, firmware, serial FROM stations")
            return {row[0]: row[1:] for row in rows}

        known = await self._read(LEDGER, work)
        stations = {evse.station: evse for evse in self._runtime.depot.site.evses.values()}
        names = ("vendor", "model", "firmware", "serial")
        return {
            "gate": self._gate,
            "stations": [
                {"id": station, "channel": evse.link.channel, "companion": evse.companion}
                | {
                    name: text or None
                    for name, text in zip(names, known.get(station, ("",) * 4), strict=True)
                }
                for station, evse in stations.items()
            ],
        }

    @takes("station")
    async def _history(self, args: Args, peer: Peer) -> Any:
        """`alarms` of the last seven days about this station, newest first, and since when each of its EVSEs has been
        in its present state (`states`), as far as the telemetry tells."""
        station = StationId(_text(args, "station") or "")
        evses = [evse.id for evse in self._runtime.depot.site.evses.values() if evse.station == station]
        if not evses:
            raise Refusal("unknown-station", f"no station {station!r}; `depot firmware status` lists them")
        now = self._runtime.clock.now().utc
        since = instant_text((now - HISTORY).replace(microsecond=0))
        alarms = await self._read(LEDGER, lambda db: _alarms(db, station, since))
        snapshot = self._runtime.snapshot or await self._runtime.next_snapshot(None)
        states = {evse.id: evse.state for evse in snapshot.evses if evse.id in evses}
        began = await self._read(TELEMETRY, lambda db: _began(db, states, now))
        return {"alarms": alarms, "states": began, "ways": [dict(way) for way in self._ways(station)]}

    @takes("stations version url")
    async def _upgrade(self, args: Args, peer: Peer) -> Any:
        """A campaign; whether it may begin now is the depot's to say, and shows in the order."""
        named, version, url = args.get("stations"), _text(args, "version") or "", _text(args, "url")
        known = {evse.station for evse in self._runtime.depot.site.evses.values()}
        if not isinstance(named, list) or not named:
            raise Refusal("bad-request", "stations must be a list of station ids")
        for station in named:
            if not isinstance(station, str) or station not in known:
                raise Refusal(
                    "unknown-station", f"no station {station!r}; `depot firmware status` lists them"
                )
        if not _is_word(version, _LONGEST_VERSION):
            raise Refusal("bad-request", f"a version has 1 to {_LONGEST_VERSION} characters and no spaces")
        if url is not None and not (_is_word(url, _LONGEST_URL) and _ADDRESS.match(url)):
            raise Refusal(
                "bad-request", f"{url!r} is not the address of an image, like https://host/image.bin"
            )
        self._orders += 1
        order = f"u-{self._orders}"
        await self._runtime.report(UpgradeWished(order, peer.name, tuple(dict.fromkeys(named)), version, url))
        return {"order": order}

    @takes()
    async def _stop_upgrades(self, args: Args, peer: Peer) -> Any:
        """`version` of the campaign that ends, None when there is none."""
        snapshot = self._runtime.snapshot or await self._runtime.next_snapshot(None)
        await self._runtime.report(UpgradeEnded(peer.name))
        campaign = snapshot.campaign
        runs = campaign is not None and campaign.state in ("running", "stopping")
        return {"version": campaign.version if campaign is not None and runs else None}

    async def _read(self, file: str, work: Any) -> Any:
        try:
            return await self._storage.read(file, work)
        except LedgerError as error:
            raise Refusal("failed", str(error)) from None


def _is_word(text: str, longest: int) -> bool:
    return 0 < len(text) <= longest and text.isprintable() and " " not in text


def _alarms(db: sqlite3.Connection, station: StationId, since: str) -> list[dict[str, Any]]:
    """Sources are a station, an EVSE, or one of them and a fault code."""
    places = ", ".join("?" * len(KINDS))
    names = tuple(f"{station}{end}" for end in ("", "/", " "))
    rows = db.execute(
        "SELECT kind, source, text, since, cleared FROM alarms"
        f" WHERE since >= ? AND kind IN ({places}) AND substr(source, 1, ?) IN (?, ?, ?) ORDER BY since DESC LIMIT ?",
        (since, *KINDS, len(station) + 1, *names, MOST_ALARMS),
    )
    return [dict(zip(("kind", "source", "text", "since", "cleared"), row, strict=True)) for row in rows]


def _began(
    db: sqlite3.Connection, states: Mapping[EvseId, EvseState], now: datetime
) -> Sequence[dict[str, Any]]:
    first_s = int((now - STATE_BACK).timestamp())
    found = []
    for evse, state in states.items():
        rows = db.execute(
            "SELECT at_s, state FROM evse_samples JOIN points ON points.id = point"
            " WHERE at_s >= ? AND points.kind = 'evse' AND points.name = ? ORDER BY at_s DESC",
            (first_s, evse),
        )
        at_s = None
        for sampled_s, sampled in rows:
            if sampled != state.value:
                break
            at_s = sampled_s
        began = None if at_s is None else instant_text(datetime.fromtimestamp(at_s, UTC))
        found.append({"evse": evse, "state": state.value, "since": began})
    return found
