"""Whether a charger is there, may be there, and what time it thinks it is.

Owns link up and down, the firmware gate, and the correction of the charger's clock. A heartbeat is sent when it is
made, so it shows how far the clock is off; telemetry and events may be older, and are placed with that.
Source: GAPS G-23, G-29, REFERENCE sections 13 and 14.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from controller.core.events import AccessRefused, Event, LinkDown, LinkUp, StationBooted
from controller.core.model import Moment, StationId
from controller.core.readings import Readings
from drivers.openplatform.devices_faults import CHANNEL
from drivers.openplatform.words import firmware_passes

log = logging.getLogger(__name__)

STEADY = timedelta(seconds=2)  # heartbeats travel; this much is no wrong clock
_MOST_ODD = 20


class DeviceLink:
    """Of one charger. `up` from the first authenticated request until `device_silent_s` without any."""

    def __init__(self, station: StationId, serial: str, readings: Readings) -> None:
        self.station = station
        self.up = False
        self.skew = timedelta()  # our clock minus the charger's, as far as it is more than travel time
        self._serial = serial
        self._readings = readings
        self._identity: tuple[str, str, str, str] | None = None
        self._told_identity: tuple[str, str, str, str] | None = None
        self._turned_away: str | None = None
        self._heard_s = float("-inf")
        self._told_skew = False
        self._odd: set[str] = set()

    @property
    def admitted(self) -> bool:
        return self._identity is not None and self._turned_away is None

    def introduced(self, vendor: str, model: str, firmware: str, peer: str) -> list[Event]:
        """It registered, runs another build, or is known from before; checks the firmware gate."""
        self._identity = (vendor, model, firmware, self._serial)
        if firmware_passes(firmware, self._readings.firmware_gate):
            self._turned_away = None
            return self._boot() if self.up else []
        if self._turned_away == firmware:
            return []
        self._turned_away = firmware
        gate = self._readings.firmware_gate
        reason = f"firmware {firmware} is not proven to be {gate} or newer: no second backend"
        log.warning("%s: %s", self.station, reason)
        return [*self.lose(reason), AccessRefused(CHANNEL, self.station, peer, reason)]

    def heard(self, peer: str, now: Moment) -> list[Event]:
        """An authenticated request came in; nothing when it was up before."""
        self._heard_s = now.mono_s
        if self.up:
            return []
        self.up = True
        return [LinkUp(self.station, CHANNEL, peer), *self._boot()]

    def lose(self, reason: str) -> list[Event]:
        if not self.up:
            return []
        self.up = False
        return [LinkDown(self.station, CHANNEL, reason)]

    def tick(self, now: Moment) -> list[Event]:
        silent_s = self._readings.device_silent_s
        return self.lose(f"silent for {silent_s:.0f} s") if now.mono_s - self._heard_s >= silent_s else []

    def beat(self, stamp: datetime, now: Moment) -> None:
        """A heartbeat made at that time by the charger's clock."""
        skew = now.utc - stamp
        self.skew = skew if abs(skew) > STEADY else timedelta()
        wrong = abs(skew.total_seconds()) > self._readings.clock_skew_s
        if wrong and not self._told_skew:
            log.warning("%s: its clock is %.0f s off; corrected here", self.station, skew.total_seconds())
        self._told_skew = wrong

    def place(self, stamp: datetime, now: Moment) -> tuple[datetime, float]:
        """The stamp on our clock, and its age in seconds; a stamp of the future counts as now."""
        at = stamp + self.skew
        if at > now.utc + timedelta(seconds=self._readings.stamp_ahead_s):
            self.log_once("its clock runs ahead; stamps of the future count as now")
            at = now.utc
        if not now.utc_trusted and not self.skew:
            return at, 0.0
        return at, max(0.0, (now.utc - at).total_seconds())

    def log_once(self, text: str) -> None:
        if text not in self._odd and len(self._odd) < _MOST_ODD:  # a peer that invents words cannot fill us
            self._odd.add(text)
            log.warning("%s: %s", self.station, text)

    def _boot(self) -> list[Event]:
        if self._identity is None or self._told_identity == self._identity:
            return []
        self._told_identity = self._identity
        return [StationBooted(self.station, CHANNEL, *self._identity)]
