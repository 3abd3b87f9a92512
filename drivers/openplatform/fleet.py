"""What we believe about the stations behind the platform, and the facts that follow when a reading changes it.

Owns the firmware gate, link up and down, and everything the platform does not say but shows: when a transaction began
and ended, whether a pause is ours, whether a charger left alone would be at its fallback. Every method takes readings
in and returns events in the order they must be reported; nothing here waits or sends.

A transaction is inferred from the state: it begins with `charging` or `discharging` and ends with `idle`, `preparing`
or `unavailable`, unless we paused the connector and its session energy goes on (G-17). A change of direction is another
transaction: the counter that is shown changes with it (G-14). A fault does not end it, what comes after does.
Source: Open Platform REFERENCE sections 7, 11, 12, 14, GAPS G-11, G-14 to G-17, G-23, G-29.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from controller.core.events import (
    AccessRefused,
    Event,
    FallbackRefused,
    FallbackStored,
    LinkDown,
    LinkUp,
    StationBooted,
    StatusChanged,
    TransactionEnded,
    TransactionStarted,
)
from controller.core.model import Evse, EvseId, EvseState, Moment, StationId
from drivers.openplatform.limits import base_is_fallback, is_pause
from drivers.openplatform.samples import evse_sample, spread_of
from drivers.openplatform.settings import CHANNEL, CloudSettings
from drivers.openplatform.words import ConnectorReading, DeviceReading, Frame, firmware_passes

log = logging.getLogger(__name__)

_FLOWING = (EvseState.CHARGING, EvseState.DISCHARGING)
_NEVER = float("-inf")
_LOOKS = 3  # a charger that never tells current and voltage is not asked for them at this pace for ever
_NEW_SESSION_WH = 100  # session energy that fell by more than rounding belongs to another session


@dataclass(slots=True)
class _Connector:
    evse: Evse
    number: int
    state: EvseState | None = None
    in_session: bool = False
    ours: bool = False  # this session was started by us, with the fallback as its base
    transaction: str = ""
    token: str | None = None
    stop_reason: str | None = None
    energy_wh: int | None = None
    ours_until_s: float = _NEVER  # a start of ours may still take effect until then
    paused: bool = False
    resuming_until_s: float = _NEVER
    discharges: bool = False  # the direction of this session
    spread: float | None = None  # over how many phases its power flows, once measured (`samples`)
    looks: int = 0  # REST reads of this session
    newest: datetime | None = None
    told_fallback: bool | None = None


@dataclass(slots=True)
class _Station:
    id: StationId
    device_id: str
    connectors: dict[int, _Connector]
    enabled: bool = False  # firmware proven, once read
    up: bool | None = None
    heard_s: float = _NEVER
    read_s: float = _NEVER  # last try
    identity: tuple[str, ...] | None = None
    turned_away: str | None = None
    odd: set[str] = field(default_factory=set)  # what was already logged


class Fleet:
    def __init__(self, settings: CloudSettings, host: str) -> None:
        self._readings = settings.readings
        self._host = host
        self._stations = {
            station: _Station(
                station, device.device_id, {n: _Connector(e, n) for n, e in device.evses.items()}
            )
            for station, device in settings.devices.items()
        }
        self._by_device = {station.device_id: station for station in self._stations.values()}
        self._by_evse = {
            connector.evse.id: (station, connector)
            for station in self._stations.values()
            for connector in station.connectors.values()
        }

    # --- questions ----------------------------------------------------------------------------------------------

    def where(self, evse: EvseId) -> tuple[str, int, Evse] | None:
        """Device id, connector number and settings of an EVSE; None if it is not on this platform."""
        found = self._by_evse.get(evse)
        return None if found is None else (found[0].device_id, found[1].number, found[1].evse)

    def device_id(self, station: StationId) -> str:
        return self._stations[station].device_id

    def station_of_device(self, device_id: str) -> StationId | None:
        found = self._by_device.get(device_id)
        return None if found is None else found.id

    def enabled_devices(self) -> tuple[str, ...]:
        return tuple(station.device_id for station in self._stations.values() if station.enabled)

    def is_enabled(self, evse: EvseId) -> bool:
        return self._by_evse[evse][0].enabled

    def is_up(self, station: StationId) -> bool:
        return self._stations[station].up is True

    def is_flowing(self, evse: EvseId) -> bool:
        found = self._by_evse.get(evse)
        return found is not None and found[1].state in _FLOWING

    def is_active(self, station: StationId) -> bool:
        """Whether some connector is in a session, so that the stream should speak."""
        return any(connector.state in _FLOWING for connector in self._stations[station].connectors.values())

    def is_free(self, evse: EvseId, now_s: float) -> bool:
        """No session, and none on its way."""
        connector = self._by_evse[evse][1]
        return connector.state is not None and not connector.in_session and now_s >= connector.ours_until_s

    def is_discharging(self, evse: EvseId) -> bool:
        return self._by_evse[evse][1].state is EvseState.DISCHARGING

    def evse_at(self, device_id: str, number: int) -> EvseId | None:
        """The EVSE behind a charger's connector, None if it is not ours."""
        station = self._by_device.get(device_id)
        connector = None if station is None else station.connectors.get(number)
        return None if connector is None else connector.evse.id

    def look_due_s(self, station: StationId) -> float:
        """When REST should be asked over how many phases power flows here; never while only one could carry it."""
        gaps_s = [
            self._readings.spread_look_s
            if connector.spread is None and connector.looks < _LOOKS
            else self._readings.spread_again_s
            for connector in self._stations[station].connectors.values()
            if connector.state in _FLOWING and len(connector.evse.phases) > 1
        ]
        return self._stations[station].read_s + min(gaps_s, default=float("inf"))

    def tried_s(self, station: StationId) -> float:
        """When REST was last asked about this charger."""
        return self._stations[station].read_s

    def heard_s(self, station: StationId) -> float:
        return self._stations[station].heard_s

    def charger_max_ma(self, evse: EvseId) -> int:
        """The sum of the maxima of the EVSE's charger."""
        return sum(connector.evse.max_ma for connector in self._by_evse[evse][0].connectors.values())

    # --- what we did --------------------------------------------------------------------------------------------

    def start_sent(self, evse: EvseId, token: str | None, now_s: float) -> None:
        connector = self._by_evse[evse][1]
        connector.ours_until_s = now_s + self._readings.same_start_s
        connector.token = token

    def discharge_sent(self, evse: EvseId, now_s: float) -> None:
        self._by_evse[evse][1].ours_until_s = now_s + self._readings.same_start_s

    def start_refused(self, evse: EvseId) -> None:
        self._by_evse[evse][1].ours_until_s = _NEVER

    def stop_sent(self, evse: EvseId, reason: str) -> None:
        connector = self._by_evse[evse][1]
        connector.stop_reason = reason
        connector.ours_until_s = _NEVER

    def limit_sent(self, evse: EvseId, limit_ma: int, now_s: float) -> None:
        connector = self._by_evse[evse][1]
        pause = is_pause(limit_ma, connector.evse, self._readings)
        if connector.paused and not pause:
            connector.resuming_until_s = now_s + self._readings.resume_s
        connector.paused = pause

    def read_tried(self, station: StationId, now_s: float) -> None:
        self._stations[station].read_s = now_s

    def numbered(self, evse: EvseId, transaction: str | None) -> None:
        """The depot gave the running transaction its number."""
        self._by_evse[evse][1].transaction = transaction or ""

    # --- what we heard ------------------------------------------------------------------------------------------

    def device_read(self, id: StationId, reading: DeviceReading, now: Moment) -> list[Event]:
        station = self._stations[id]
        if not firmware_passes(reading.firmware, self._readings.firmware_gate):
            return self._turn_away(station, reading.firmware)
        station.enabled, station.turned_away = True, None
        if not reading.online:
            return self._down(station, "offline, says the platform")
        uploaded = reading.uploaded
        silent_s = (now.utc - uploaded).total_seconds() if uploaded is not None and now.utc_trusted else 0.0
        station.heard_s = max(station.heard_s, now.mono_s - max(0.0, silent_s))
        for connector in station.connectors.values():
            connector.looks += connector.state in _FLOWING
        events: list[Event] = []
        if not station.up:
            station.up = True
            for connector in station.connectors.values():
                connector.told_fallback, connector.state = None, None
            events.append(LinkUp(station.id, CHANNEL, self._host))
        identity = (reading.vendor, reading.model, reading.firmware or "", reading.serial)
        if station.identity != identity:
            station.identity = identity
            events.append(StationBooted(station.id, CHANNEL, *identity))
        self._note_missing(station, reading)
        return events + self._connectors_read(station, reading.connectors, None, now)

    def frame(self, frame: Frame, now: Moment) -> list[Event]:
        """A stream message. A charger that is not up yet is only noted as heard: its next read brings it up."""
        station = self._by_device.get(frame.device_id)
        if station is None or not station.enabled:
            return []
        station.heard_s = now.mono_s
        return self._connectors_read(station, frame.connectors, frame.taken, now) if station.up else []

    def lose(self, id: StationId, reason: str) -> list[Event]:
        return self._down(self._stations[id], reason)

    def lose_all(self, reason: str) -> list[Event]:
        return [event for station in self._stations.values() for event in self._down(station, reason)]

    # --- one station --------------------------------------------------------------------------------------------

    def _turn_away(self, station: _Station, firmware: str | None) -> list[Event]:
        station.enabled = False
        if station.turned_away == (shown := firmware or "unknown"):
            return []
        station.turned_away = shown
        gate = self._readings.firmware_gate
        reason = f"firmware {shown} is not proven to be {gate} or newer: no second backend"
        log.warning("%s: %s", station.id, reason)
        gone = self._down(station, reason) if station.up else []
        return [*gone, AccessRefused(CHANNEL, station.id, self._host, reason)]

    def _down(self, station: _Station, reason: str) -> list[Event]:
        if station.up is False:
            return []
        station.up = False
        return [LinkDown(station.id, CHANNEL, reason)]

    def _note_missing(self, station: _Station, reading: DeviceReading) -> None:
        missing = station.connectors.keys() - {connector.number for connector in reading.connectors}
        if missing:
            self._log_once(station, f"the platform shows no connector {', '.join(map(str, sorted(missing)))}")

    def _log_once(self, station: _Station, text: str) -> None:
        if (
            text not in station.odd and len(station.odd) < 20
        ):  # bounded: a peer that invents words cannot fill us
            station.odd.add(text)
            log.warning("%s: %s", station.id, text)

    def _connectors_read(
        self, station: _Station, readings: tuple[ConnectorReading, ...], taken: datetime | None, now: Moment
    ) -> list[Event]:
        events: list[Event] = []
        for reading in readings:
            connector = station.connectors.get(reading.number)
            if connector is None:
                continue
            if reading.state is None and reading.state_text:
                self._log_once(
                    station, f'connector {reading.number}: unknown state "{reading.state_text}" ignored'
                )
            stamp = reading.taken or taken
            if (
                stamp is not None
                and now.utc_trusted
                and stamp > now.utc + timedelta(seconds=self._readings.stamp_ahead_s)
            ):
                stamp = None
            if stamp is not None and connector.newest is not None and stamp < connector.newest:
                continue  # overtaken on the way
            connector.newest = stamp or connector.newest
            events += self._connector_read(station, connector, reading, stamp, now)
        return events

    # --- one connector ------------------------------------------------------------------------------------------

    def _connector_read(
        self,
        station: _Station,
        connector: _Connector,
        reading: ConnectorReading,
        stamp: datetime | None,
        now: Moment,
    ) -> list[Event]:
        events: list[Event] = []
        state = connector.state if reading.state is None else reading.state
        seen_before = connector.state is not None
        if connector.in_session and state is not None:
            if self._is_suspended(connector, state, reading.energy_wh, now.mono_s):
                state = EvseState.SUSPENDED_EVSE
            elif self._is_over(connector, state, reading.energy_wh):
                events.append(self._end(station, connector, state, reading.energy_wh, now))
        if state is not None and (state is not connector.state):
            connector.state = state
            events.append(StatusChanged(connector.evse.id, CHANNEL, state, reading.fault))
        if state in _FLOWING:
            connector.resuming_until_s = _NEVER
        if state in _FLOWING and not connector.in_session:
            connector.discharges = state is EvseState.DISCHARGING
            events.append(self._begin(connector, reading.energy_wh, seen_before, now))
        if reading.energy_wh is not None:
            connector.energy_wh = reading.energy_wh
        events += self._fallback(connector)
        told = spread_of(connector.evse, reading, self._readings)
        connector.spread = connector.spread if told is None else told
        events.append(evse_sample(connector.evse, reading, connector.spread, stamp, now, self._readings))
        return events

    def _is_suspended(
        self, connector: _Connector, state: EvseState, energy_wh: int | None, now_s: float
    ) -> bool:
        """Whether no power flows because of us, and the session goes on."""
        if state not in (EvseState.AVAILABLE, EvseState.PREPARING) or not self._readings.pause_reads_as_idle:
            return False
        ours = connector.paused or now_s < connector.resuming_until_s
        return ours and energy_wh != 0 and connector.stop_reason is None

    def _is_over(self, connector: _Connector, state: EvseState, energy_wh: int | None) -> bool:
        if state in _FLOWING:  # but perhaps another session, begun while we could not see
            if _turned(connector, state):
                return True
            return (energy_wh or 0) + _NEW_SESSION_WH < (connector.energy_wh or 0) and energy_wh is not None
        return state is not EvseState.FAULTED

    def _begin(self, connector: _Connector, energy_wh: int | None, seen: bool, now: Moment) -> Event:
        connector.in_session = True
        connector.ours = now.mono_s < connector.ours_until_s
        connector.ours_until_s = _NEVER
        connector.stop_reason = None
        connector.spread, connector.looks = None, 0
        start_wh = 0 if seen else energy_wh  # session energy counts from 0 where we saw it begin
        return TransactionStarted(
            evse=connector.evse.id,
            channel=CHANNEL,
            transaction=None,
            token=connector.token if connector.ours else None,
            register_wh=None if connector.discharges else start_wh,  # export is not the import register's
            started=now.utc,
            inferred=True,
        )

    def _end(
        self, station: _Station, connector: _Connector, state: EvseState, energy_wh: int | None, now: Moment
    ) -> Event:
        last_wh = connector.energy_wh
        if (
            energy_wh is not None
            and not _turned(connector, state)
            and (last_wh is None or energy_wh > last_wh)
        ):
            last_wh = energy_wh
        ended = TransactionEnded(
            station=station.id,
            evse=connector.evse.id,
            transaction=connector.transaction,
            reason=connector.stop_reason or f"inferred from {state}",
            register_wh=None if connector.discharges else last_wh,
            ended=now.utc,
            token=connector.token if connector.ours else None,
        )
        connector.in_session = connector.ours = False
        connector.transaction, connector.token, connector.stop_reason = "", None, None
        connector.energy_wh = None
        return ended

    def _fallback(self, connector: _Connector) -> list[Event]:
        """Tells, on change, whether this connector left alone stays within its fallback."""
        evse, reason = connector.evse, ""
        if connector.in_session and not connector.ours:
            reason = "this session was not started by us: its start power is unknown"
        elif connector.discharges and not self._readings.discharge_ends_idle:
            reason = "it may begin to charge after the discharge"
        elif not connector.in_session and not self._readings.idle_stays_idle:
            reason = "an idle connector may start by itself"
        elif not base_is_fallback(evse, self._readings):
            reason = "a fallback below the minimum current may be rounded up"
        stored = not reason
        if connector.told_fallback is stored or connector.state is None:
            return []
        connector.told_fallback = stored
        if stored:
            return [FallbackStored(evse.id, CHANNEL, evse.fallback_ma)]
        return [FallbackRefused(evse.id, CHANNEL, reason)]


def _turned(connector: _Connector, state: EvseState) -> bool:
    """Whether power now flows the other way than this session began."""
    return state in _FLOWING and (state is EvseState.DISCHARGING) is not connector.discharges
