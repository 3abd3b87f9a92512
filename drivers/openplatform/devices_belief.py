"""What we believe about one charger of the on-site host, and the facts that follow from what it says.

Owns sessions, states, whether a pause is ours, and whether the charger left alone would be at its fallback. Whether it
is there, and what its clock says, stands in `devices_link`, its faults in `devices_faults`. Every method takes what was said and returns events in the order they must be reported.
`memory` is what has to survive our own restart; nothing here waits, sends or writes.

- **Session.** It begins with a `start` event or with power state in telemetry, whichever comes first, and ends with
  `stop`, with the plug pulled, or with the start of another one. Telemetry that turns idle ends it only where no event
  told its start; where one did, an idle reading is a pause (of ours or of the vehicle), unless the session's energy is
  gone: then its `stop` has `DOUBT_S` to come. Session energy counts from 0, so only differences within one session
  count. An exported session has no import register.
- **Time.** The charger's clock is corrected by what its heartbeats show. What is older than what we know, or than
  `late_upload_s`, proves the charger alive and changes nothing else; what was taken after a stop cannot be undone by what was
  taken before it.
- **Fallback.** A charger left alone is at its fallback when it is idle (nothing flows without a start) or in a session
  that we started with the fallback as `charge_power`. A session of anybody else has an unknown base.

Source: REFERENCE sections 8 and 13, GAPS G-14 to G-17, G-34.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from controller.core.events import (
    Event,
    EvseSample,
    FallbackRefused,
    FallbackStored,
    StatusChanged,
    TransactionEnded,
    TransactionStarted,
)
from controller.core.model import Evse, EvseId, EvseState, Moment, StationId
from controller.core.readings import Readings
from drivers.openplatform.devices_connector import (
    NEVER,
    Connector,
    Session,
    currents,
    recall,
    to_memory,
    unsafe_alone,
)
from drivers.openplatform.devices_faults import CHANNEL, Faults
from drivers.openplatform.devices_link import STEADY, DeviceLink
from drivers.openplatform.devices_words import DeviceEvent, Heartbeat, SessionRecord, Telemetry
from drivers.openplatform.limits import is_pause

log = logging.getLogger(__name__)

DOUBT_S = 10.0
_NEW_SESSION_WH = 100  # session energy that fell by more than rounding belongs to another session
_FLOWING = (EvseState.CHARGING, EvseState.DISCHARGING)
_RESTING = (EvseState.AVAILABLE, EvseState.PREPARING, EvseState.UNAVAILABLE)


class DeviceBelief:
    """One charger. `memory`: what `memory` said before our restart."""

    def __init__(
        self,
        station: StationId,
        serial: str,
        evses: Mapping[int, Evse],
        readings: Readings,
        memory: Mapping[str, Any],
    ) -> None:
        self.link = DeviceLink(station, serial, readings)
        self._readings = readings
        self._faults = Faults(station)
        self._connectors = {number: Connector(evse, number) for number, evse in evses.items()}
        self._by_evse = {connector.evse.id: connector for connector in self._connectors.values()}
        for connector in self._connectors.values():
            recall(connector, memory.get(str(connector.number), {}))

    # --- questions ----------------------------------------------------------------------------------------------------

    def memory(self) -> dict[str, Any]:
        """What must survive our restart, by connector number; JSON values only."""
        return {str(number): to_memory(connector) for number, connector in self._connectors.items()}

    def is_free(self, evse: EvseId, now: Moment) -> bool:
        """No session, and none on its way."""
        connector = self._by_evse[evse]
        coming = connector.start_until is not None and now.utc < connector.start_until
        return connector.session is None and not coming

    # --- what we did --------------------------------------------------------------------------------------------------

    def start_handed(self, evse: EvseId, token: str | None, now: Moment) -> None:
        connector = self._by_evse[evse]
        connector.start_until = now.utc + timedelta(seconds=self._readings.same_start_s)
        connector.token = token

    def start_refused(self, evse: EvseId) -> None:
        self._by_evse[evse].start_until = None

    def stop_handed(self, evse: EvseId, reason: str) -> None:
        connector = self._by_evse[evse]
        connector.start_until = None
        if connector.session is not None:
            connector.stop_reason = reason

    def limit_handed(self, evse: EvseId, limit_ma: int, now: Moment) -> None:
        connector = self._by_evse[evse]
        pause = is_pause(limit_ma, connector.evse, self._readings)
        if connector.paused and not pause:
            connector.resuming_until_s = now.mono_s + self._readings.resume_s
        connector.paused = pause

    def numbered(self, evse: EvseId, transaction: str | None) -> None:
        """The depot gave the running transaction its number."""
        session = self._by_evse[evse].session
        if session is not None:
            session.transaction = transaction or ""

    # --- the link -----------------------------------------------------------------------------------------------------

    def heard(self, peer: str, now: Moment) -> list[Event]:
        """An authenticated request came in."""
        events = self.link.heard(peer, now)
        for connector in self._connectors.values() if events else ():
            connector.told_fallback, connector.state = None, None
            session = connector.session
            if session is not None and session.recalled:  # the depot knows it already, or learns it again
                session.recalled = False
                register_wh = None if session.exports else session.energy_wh
                events.append(
                    self._started(connector, session, session.transaction, register_wh, inferred=True)
                )
        return events

    def tick(self, now: Moment) -> list[Event]:
        """What time alone decides."""
        events = self.link.tick(now)
        for connector in self._connectors.values():
            if connector.doubt_s is not None and now.mono_s - connector.doubt_s >= DOUBT_S:
                events += self._end(connector, connector.newest or now.utc, "inferred: its energy is gone")
                events += self._settle(connector, EvseState.AVAILABLE)
        return events

    def heartbeat(self, beat: Heartbeat, now: Moment) -> list[Event]:
        self.link.beat(beat.stamp, now)
        if beat.fault is None:
            events = self._faults.healthy()
        else:
            events = self._faults.begin(None, beat.fault, "", now.utc, lasting=True)
        gone = beat.status == "offline" and self._readings.offline_beat_is_shutdown
        return events + (self.link.lose("the charger announced to go offline") if gone else [])

    # --- telemetry ----------------------------------------------------------------------------------------------------

    def telemetry(self, reading: Telemetry, now: Moment) -> list[Event]:
        connector = self._connectors[reading.number]
        stamp, age_s = self.link.place(reading.stamp, now)
        if age_s > self._readings.late_upload_s or (
            connector.newest is not None and stamp < connector.newest
        ):
            log.debug("%s: late telemetry of %s", connector.evse.id, reading.stamp)
            return []
        connector.newest = stamp
        if reading.state is None:
            self.link.log_once(f'connector {reading.number}: unknown state "{reading.state_text}"')
        events = self._moved(connector, reading, stamp, now)
        session = connector.session
        if session is not None and (reading.energy_wh or connector.doubt_s is None):
            session.energy_wh = reading.energy_wh
            session.exports = session.exports or reading.power_w < 0
        if reading.state not in (None, EvseState.FAULTED):
            events += self._faults.works(connector.evse.id, stamp)
        events += self._fallback(connector)
        events.append(
            self._sample(
                connector, reading, now.mono_s - (age_s if age_s > self._readings.stamp_tolerance_s else 0)
            )
        )
        return events

    def _moved(self, connector: Connector, reading: Telemetry, stamp: datetime, now: Moment) -> list[Event]:
        """Sessions and the state that people see."""
        state, session = reading.state, connector.session
        if state in _FLOWING:
            connector.resuming_until_s, connector.doubt_s = NEVER, None
            after_end = connector.ended is None or stamp > connector.ended
            if session is not None and self._is_another(connector, session, reading):
                ended = self._end(connector, stamp, "inferred: another session began")
                return [*ended, *self._begin(connector, stamp, reading, now), *self._settle(connector, state)]
            if session is None and after_end:
                return [*self._begin(connector, stamp, reading, now), *self._settle(connector, state)]
            return self._settle(connector, state) if session is not None else []
        if state not in _RESTING or session is None:
            if state is EvseState.PREPARING:
                connector.plugged = True
            return self._settle(connector, state)
        ours = connector.paused or now.mono_s < connector.resuming_until_s
        gone = reading.energy_wh + _NEW_SESSION_WH < (session.energy_wh or 0) or (
            reading.energy_wh == 0 and bool(session.energy_wh)
        )
        if not session.told and (gone or not ours):
            return [
                *self._end(connector, stamp, f"inferred from {reading.state_text}"),
                *self._settle(connector, state),
            ]
        if gone and connector.doubt_s is None:
            connector.doubt_s = now.mono_s
        return self._show(connector, EvseState.SUSPENDED_EVSE if ours else EvseState.SUSPENDED_EV)

    def _is_another(self, connector: Connector, session: Session, reading: Telemetry) -> bool:
        before_wh = session.energy_wh or 0
        turned = connector.state in _FLOWING and reading.state is not connector.state
        return reading.energy_wh + _NEW_SESSION_WH < before_wh or (turned and reading.energy_wh < before_wh)

    # --- events -------------------------------------------------------------------------------------------------------

    def event(self, event: DeviceEvent, now: Moment) -> list[Event]:
        connector = self._connectors[event.number]
        if event in connector.seen:
            return []  # the same message again
        connector.seen.append(event)
        at, age_s = self.link.place(event.stamp, now)
        match event.kind:
            case "plug_in" | "plug_out":
                events = self._plug(connector, event.kind == "plug_in", at)
            case "start":
                events = self._told_start(connector, at, age_s > self._readings.late_upload_s, now)
            case "stop":
                events = self._told_stop(connector, at, event.reason, age_s > self._readings.late_upload_s)
            case "fault" | "alarm":
                evse = None if event.whole else connector.evse.id
                return self._faults.begin(
                    evse, event.code, event.text, at, lasting=event.whole or event.kind == "alarm"
                )
            case _:
                self.link.log_once(f'unknown event "{event.kind}" ignored')
                return []
        return events + self._fallback(connector)

    def _plug(self, connector: Connector, plugged: bool, at: datetime) -> list[Event]:
        if connector.plug_at is not None and at < connector.plug_at:
            return []
        connector.plug_at = at
        events: list[Event] = []
        session = connector.session
        over = session is not None and (at > session.began if plugged else at >= session.began)
        if over and not (plugged and self._is_newer_power(connector, at)):
            events += self._end(connector, at, "ev_disconnected")
        if plugged:
            connector.plugged = True
        if connector.session is None:
            connector.plugged, connector.served = plugged, False
            connector.newest = max(connector.newest or at, at)
            events += self._settle(connector, EvseState.AVAILABLE)
        return events

    def _told_start(self, connector: Connector, at: datetime, late: bool, now: Moment) -> list[Event]:
        session = connector.session
        if session is not None:
            # what telemetry showed before, or the same message again after our restart
            slack = timedelta(seconds=self._readings.resume_s) if not session.told else 2 * STEADY
            if at <= session.began + slack:
                session.told = True
                return []
        elif connector.ended is not None and at < connector.ended:
            return []
        events = [] if session is None else self._end(connector, at, "superseded", late)
        events += self._begin(connector, at, None, now, late)
        if not self._is_newer_power(connector, at) or not late:
            connector.newest = max(connector.newest or at, at)
            events += self._show(connector, EvseState.CHARGING)
        return events

    def _told_stop(self, connector: Connector, at: datetime, reason: str, late: bool) -> list[Event]:
        session = connector.session
        if session is None or at < session.began:
            return []
        if connector.state in _FLOWING and self._is_newer_power(connector, at):
            return []  # an old story: power flows since
        events = self._end(connector, at, reason or "stopped by the charger", late)
        connector.newest = max(connector.newest or at, at)
        return events + self._settle(connector, EvseState.AVAILABLE)

    def _is_newer_power(self, connector: Connector, at: datetime) -> bool:
        """Whether telemetry taken clearly after `at` is known already."""
        return connector.newest is not None and connector.newest > at + STEADY

    def record(self, record: SessionRecord, now: Moment) -> list[Event]:
        """The charger closed its books on a session: should it still run here, its stop was lost."""
        connector = self._connectors[record.number]
        session, (at, age_s) = connector.session, self.link.place(record.ended, now)
        began, _ = self.link.place(record.started, now)
        if session is None or began > session.began + timedelta(seconds=self._readings.resume_s):
            return []
        events = self._told_stop(
            connector, at, record.reason or "its record says so", age_s > self._readings.late_upload_s
        )
        return events + self._fallback(connector)

    # --- sessions -----------------------------------------------------------------------------------------------------

    def _begin(
        self, connector: Connector, at: datetime, reading: Telemetry | None, now: Moment, late: bool = False
    ) -> list[Event]:
        """`reading` None: a start event told it."""
        ours = connector.start_until is not None and now.utc < connector.start_until
        exports = reading is not None and reading.state is EvseState.DISCHARGING
        session = Session(at, reading is None, ours, connector.token if ours else None, exports=exports)
        register_wh = (
            None if exports else 0 if reading is None or connector.state is not None else reading.energy_wh
        )
        connector.session, connector.served = session, True
        connector.start_until = connector.token = connector.stop_reason = connector.doubt_s = None
        return [self._started(connector, session, None, register_wh, inferred=reading is not None, late=late)]

    def _started(
        self,
        connector: Connector,
        session: Session,
        transaction: str | None,
        register_wh: int | None,
        inferred: bool,
        late: bool = False,
    ) -> Event:
        return TransactionStarted(
            evse=connector.evse.id,
            channel=CHANNEL,
            transaction=transaction,
            token=session.token,
            register_wh=register_wh,
            started=session.began,
            offline=late,
            inferred=inferred,
        )

    def _end(self, connector: Connector, at: datetime, reason: str, late: bool = False) -> list[Event]:
        session = connector.session
        if session is None:
            return []
        ended = max(at, session.began)
        connector.session, connector.ended, connector.doubt_s = None, ended, None
        connector.paused, connector.resuming_until_s = False, NEVER
        reason, connector.stop_reason = connector.stop_reason or reason, None
        return [
            TransactionEnded(
                station=self.link.station,
                evse=connector.evse.id,
                transaction=session.transaction,
                reason=reason,
                register_wh=None if session.exports else session.energy_wh,
                ended=ended,
                token=session.token,
                offline=late,
            )
        ]

    # --- small facts --------------------------------------------------------------------------------------------------

    def _settle(self, connector: Connector, state: EvseState | None) -> list[Event]:
        """Shows a state, with what we know of the plug: a charger calls a plugged vehicle idle (G-17)."""
        if state in (EvseState.AVAILABLE, EvseState.PREPARING) and connector.plugged:
            state = EvseState.FINISHING if connector.served else EvseState.PREPARING
        return [] if state is None else self._show(connector, state)

    def _show(self, connector: Connector, state: EvseState) -> list[Event]:
        if state is connector.state:
            return []
        connector.state = state
        fault = self._faults.newest(connector.evse.id) if state is EvseState.FAULTED else None
        return [StatusChanged(connector.evse.id, CHANNEL, state, fault)]

    def _fallback(self, connector: Connector) -> list[Event]:
        """Tells, on change, whether this connector left alone stays within its fallback."""
        evse, reason = connector.evse, unsafe_alone(connector, self._readings)
        stored = not reason
        if connector.told_fallback is stored or connector.state is None:
            return []
        connector.told_fallback = stored
        if stored:
            return [FallbackStored(evse.id, CHANNEL, evse.fallback_ma)]
        return [FallbackRefused(evse.id, CHANNEL, reason)]

    def _sample(self, connector: Connector, reading: Telemetry, taken_s: float) -> EvseSample:
        session = connector.session
        return EvseSample(
            evse=connector.evse.id,
            channel=CHANNEL,
            taken_s=taken_s,
            current_ma=currents(connector.evse, reading, self._readings),
            power_w=reading.power_w,
            register_wh=None if session is None or session.exports else session.energy_wh,
            soc=reading.soc,
        )
