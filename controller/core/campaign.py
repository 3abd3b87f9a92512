"""Firmware campaigns: station after station in the wished order, never one at work, and the first failure ends it.

Owns what station gets its firmware next, what counts as success, when it is given up, and which stations are held
because firmware is on its way into them, by our order or by somebody else's: such a station is not started, and no
campaign begins another one beside it. A step succeeds when the station reports success or comes back with the wanted
version; an order without an answer may be under way, so it is waited for like one that was accepted.
Must not judge whether a station is idle (`readiness`), nor whether a build may be installed there (the channel).
A campaign does not survive a restart of the controller: what was under way is reported by the station itself, the rest
must be ordered again.
Source: Open Platform REFERENCE section 14, GAPS G-23.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from datetime import datetime

from controller.core.commands import Audited, UpgradeFirmware
from controller.core.events import FirmwareReported, UpgradeWished
from controller.core.firmware import is_older, is_same
from controller.core.model import EvseId, Moment, StationId
from controller.core.orders import KEEP_S
from controller.core.snapshot import CampaignView, OrderView, UpgradeView
from controller.core.supervisor import Condition

PATIENCE_S = (
    3600.0  # a slow cellular link takes half an hour for an image; this long without progress is a failure
)
DEPOT = "depot"
WAITING, UPGRADING, DONE, FAILED, LEFT = "waiting", "upgrading", "done", "failed", "left"


@dataclass(frozen=True, slots=True)
class Standing:
    """A station before its upgrade. `busy`: why it has to wait, None when it is idle."""

    evse: EvseId
    channel: str
    connected: bool
    busy: str | None


@dataclass(slots=True)
class Work:
    """Firmware on its way into a station. `command`: ours, None when somebody else ordered it."""

    version: str
    status: str
    since_s: float  # of the last progress
    progress_pct: int | None = None
    command: str | None = None

    def shown(self) -> str:
        return self.status if self.progress_pct is None else f"{self.status} {self.progress_pct} %"


@dataclass(slots=True)
class Row:
    """One station of a campaign. `text`: why it waits, or how it ended."""

    state: str = WAITING
    text: str = ""
    offline_s: float | None = None  # since when it is waited for although it is not there


@dataclass(slots=True)
class Campaign:
    """`rows` in the wished order. `ended`: "done", "failed" or "stopped"."""

    wish: UpgradeWished
    started: datetime
    rows: dict[StationId, Row]
    stages: list[tuple[str, datetime]] = field(default_factory=list)
    stopped_by: str | None = None
    ended: str | None = None
    ended_s: float = 0.0
    reason: str = ""
    alarm: bool = False


class Campaigns:
    """The campaign that runs or was the last, and what is under way in each station. `stations`: those of the site."""

    def __init__(self, stations: Collection[StationId]) -> None:
        self._stations = frozenset(stations)
        self._firmware: dict[StationId, str] = {}
        self._works: dict[StationId, Work] = {}
        self._campaign: Campaign | None = None

    def holds(self, station: StationId) -> bool:
        """Whether firmware is on its way into it: nothing is to begin there."""
        return station in self._works

    @property
    def under_way(self) -> Collection[StationId]:
        return self._works.keys()

    # --- wishes -----------------------------------------------------------------------------------------------------

    def refusal(self, wish: UpgradeWished) -> str | None:
        """Why this campaign cannot begin."""
        strangers = [station for station in wish.stations if station not in self._stations]
        if strangers or not wish.stations:
            return f"no station {', '.join(strangers)}" if strangers else "no station is named"
        if not wish.version:
            return "no version is named"
        running = self._running()
        if running is not None:
            return (
                f"a campaign for {running.wish.version} is under way; it ends early by `depot firmware stop`"
            )
        return None

    def begin(self, wish: UpgradeWished, now: Moment) -> Audited:
        """Takes a campaign that `refusal` has nothing against; the first station follows with `tick`."""
        self._campaign = Campaign(wish, now.utc, {station: Row() for station in wish.stations})
        return Audited(
            now.utc, wish.by, "firmware-campaign", ", ".join(self._campaign.rows), f"version {wish.version}"
        )

    def end(self, by: str, now: Moment) -> list[Audited]:
        """No further station; the alarm of a failed campaign goes too."""
        campaign = self._campaign
        if campaign is not None:
            campaign.alarm = False
            campaign.stopped_by = by if campaign.ended is None else campaign.stopped_by
        told = [Audited(now.utc, by, "firmware-campaign-stop", DEPOT, "")]
        return told if any(self._current()) else [*told, *self._finish(now)]

    # --- facts ------------------------------------------------------------------------------------------------------

    def reported(self, event: FirmwareReported, now: Moment) -> list[Audited]:
        """What a station says of an upgrade; one in OCPP 1.6 does not name the version."""
        station, work = event.station, self._works.get(event.station)
        version = event.version or ("" if work is None else work.version)
        if station not in self._stations or not version:
            return []
        if event.status in ("success", "failed"):
            if event.status == "success":
                self._firmware[station] = version
            if work is None or not is_same(version, work.version):
                return []
            return self._over(station, event.text if event.status == "failed" else None, now)
        if work is None and not is_same(version, self._firmware.get(station, "")):
            self._works[station] = Work(version, event.status, now.mono_s, event.progress_pct)
        elif work is not None and is_same(version, work.version):
            if (work.status, work.progress_pct) != (event.status, event.progress_pct):
                work.since_s = now.mono_s
            work.status, work.progress_pct = event.status, event.progress_pct
        return []

    def booted(self, station: StationId, version: str, now: Moment) -> list[Audited]:
        if station not in self._stations:
            return []
        self._firmware[station] = version
        work, campaign = self._works.get(station), self._campaign
        if work is not None and is_same(version, work.version):
            return self._over(station, None, now)
        if campaign is not None and campaign.rows.get(station) and is_same(version, campaign.wish.version):
            campaign.alarm = campaign.alarm and campaign.rows[station].state != FAILED
        return []

    def accepted(self, command: str, now: Moment) -> None:
        for work in self._works.values():
            if work.command == command and work.status == "ordered":
                work.status, work.since_s = "accepted", now.mono_s

    def refused(self, command: str, reason: str, now: Moment) -> list[Audited]:
        """Nothing happened there: it said no, or never heard of it."""
        ours = [station for station, work in self._works.items() if work.command == command]
        return [entry for station in ours for entry in self._over(station, reason, now)]

    # --- decisions --------------------------------------------------------------------------------------------------

    def tick(
        self, look: Callable[[StationId], Standing], next_command: Callable[[], str], now: Moment
    ) -> tuple[list[UpgradeFirmware], list[Audited]]:
        """Gives up what stands still, and orders the next upgrade once its station is idle."""
        told: list[Audited] = []
        for station, work in list(self._works.items()):
            if now.mono_s - work.since_s >= PATIENCE_S:
                quiet = f"no progress for {PATIENCE_S / 60:.0f} min (last: {work.shown()})"
                told += self._over(station, quiet, now)
        campaign = self._running()
        while campaign is not None and campaign.ended is None and not any(self._current()):
            coming = next((s for s, row in campaign.rows.items() if row.state == WAITING), None)
            if coming is None or campaign.stopped_by is not None:
                told += self._finish(now)
            elif is_same(self._firmware.get(coming, ""), campaign.wish.version):
                told += self._passed(coming, "has it already", now)
            else:
                command = self._order(campaign, coming, look(coming), next_command, now, told)
                return ([] if command is None else [command]), told
        return [], told

    def _order(
        self,
        campaign: Campaign,
        station: StationId,
        standing: Standing,
        next_command: Callable[[], str],
        now: Moment,
        told: list[Audited],
    ) -> UpgradeFirmware | None:
        row, wish = campaign.rows[station], campaign.wish
        row.offline_s = None if standing.connected else row.offline_s or now.mono_s
        if row.offline_s is not None and now.mono_s - row.offline_s >= PATIENCE_S:
            told += self._failed(station, f"offline for {PATIENCE_S / 60:.0f} min", now)
            return None
        others = ", ".join(self._works)
        row.text = f"{others}: firmware is on its way already" if others else standing.busy or ""
        if not standing.connected:
            row.text = "offline"
        if row.text:
            return None
        name, before = next_command(), self._firmware.get(station)
        row.state = UPGRADING
        campaign.stages.append((f"{station} ordered", now.utc))
        self._works[station] = Work(wish.version, "ordered", now.mono_s, command=name)
        change = f"version {wish.version}, runs {before or 'an unknown one'}"
        if before is not None and is_older(wish.version, before):
            change += ", which is newer"
        told.append(Audited(now.utc, DEPOT, "firmware-ordered", station, change))
        return UpgradeFirmware(name, standing.evse, standing.channel, wish.version, wish.url)

    # --- endings ----------------------------------------------------------------------------------------------------

    def _running(self) -> Campaign | None:
        return None if self._campaign is None or self._campaign.ended is not None else self._campaign

    def _current(self) -> Iterator[StationId]:
        campaign = self._running()
        if campaign is not None:
            yield from (station for station, row in campaign.rows.items() if row.state == UPGRADING)

    def _over(self, station: StationId, failure: str | None, now: Moment) -> list[Audited]:
        """What was under way in a station has ended; `failure` None: well."""
        work = self._works.pop(station)
        if failure is None:
            self._firmware[station] = work.version
        if station not in self._current():
            return []
        if failure is None:
            return self._passed(station, "", now)
        return self._failed(station, failure or "it did not say why", now)

    def _passed(self, station: StationId, text: str, now: Moment) -> list[Audited]:
        campaign = self._running()
        assert campaign is not None
        campaign.rows[station] = Row(DONE, text)
        campaign.stages.append((f"{station} done", now.utc))
        told = [Audited(now.utc, DEPOT, "firmware-done", station, text or f"version {campaign.wish.version}")]
        ready = all(row.state == DONE for row in campaign.rows.values())
        return [*told, *self._finish(now)] if ready or campaign.stopped_by is not None else told

    def _failed(self, station: StationId, reason: str, now: Moment) -> list[Audited]:
        campaign = self._running()
        assert campaign is not None
        campaign.rows[station] = Row(FAILED, reason)
        campaign.stages.append((f"{station} failed", now.utc))
        campaign.reason = f"{station}: {reason}"
        campaign.alarm = True
        return [Audited(now.utc, DEPOT, "firmware-failed", station, reason), *self._finish(now)]

    def _finish(self, now: Moment) -> list[Audited]:
        campaign = self._running()
        if campaign is None:
            return []
        states = [row.state for row in campaign.rows.values()]
        campaign.ended_s = now.mono_s
        if FAILED in states:
            campaign.ended = FAILED
        elif WAITING in states:
            campaign.ended, campaign.reason = "stopped", f"stopped by {campaign.stopped_by}"
        else:
            campaign.ended = DONE
        for row in campaign.rows.values():
            if row.state == WAITING:
                row.state, row.text = LEFT, ""
        count = f"{states.count(DONE)} of {len(states)} done"
        campaign.reason = f"{campaign.reason}; {count}" if campaign.reason else count
        detail = f"version {campaign.wish.version}, {campaign.ended}: {campaign.reason}"
        return [Audited(now.utc, DEPOT, "firmware-campaign-over", ", ".join(campaign.rows), detail)]

    # --- views ------------------------------------------------------------------------------------------------------

    def conditions(self) -> Iterator[Condition]:
        """A failed campaign waits for a person: it is heard until the next campaign, `end`, or the wanted version."""
        campaign = self._campaign
        if campaign is None or not campaign.alarm:
            return
        station = next(station for station, row in campaign.rows.items() if row.state == FAILED)
        left = [name for name, row in campaign.rows.items() if row.state == LEFT]
        text = f"firmware {campaign.wish.version} failed: {campaign.rows[station].text}"
        yield Condition(
            "firmware", station, 2, text + (f"; left as they are: {', '.join(left)}" if left else "")
        )

    def view(self) -> CampaignView | None:
        campaign = self._campaign
        if campaign is None:
            return None
        state = campaign.ended or ("running" if campaign.stopped_by is None else "stopping")
        wish = campaign.wish
        stations = tuple(self._row_view(station, row) for station, row in campaign.rows.items())
        return CampaignView(
            wish.order, wish.by, wish.version, state, campaign.reason, campaign.started, stations
        )

    def _row_view(self, station: StationId, row: Row) -> UpgradeView:
        work = self._works.get(station)
        if row.state != UPGRADING or work is None:
            return UpgradeView(station, row.state, None, row.text)
        return UpgradeView(station, work.status, work.progress_pct, row.text)

    def orders(self, now_s: float) -> tuple[OrderView, ...]:
        """The campaign among the operators' orders, at the station that it is about now."""
        campaign = self._campaign
        if campaign is None or (campaign.ended is not None and now_s > campaign.ended_s + KEEP_S):
            return ()
        wish, first = campaign.wish, next(iter(campaign.rows))
        about = next((s for s, row in campaign.rows.items() if row.state in (UPGRADING, FAILED)), first)
        outcome = {None: None, DONE: DONE}.get(campaign.ended, FAILED)
        text = f"firmware {wish.version} on {', '.join(campaign.rows)}"
        stages, reason = tuple(campaign.stages), campaign.reason or None
        return (OrderView(wish.order, "upgrade", EvseId(about), wish.by, text, stages, outcome, reason),)
