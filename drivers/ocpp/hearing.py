"""What is learnt of a station by listening: how wrong its clock is, its volts, which conductors its vehicle uses.

Owns the repair of time stamps (a station that takes local time for UTC would otherwise seem to tell old stories, and all
it measures would be thrown away) and the facts that make watts of amperes. Pure. Source: field notes section 2, rows 31,
32 and 54.

A clock is called wrong only by values of now: two messages with values that come at least MATCH_APART_S apart with
stamps just as far apart. What was queued while the link was down comes in one go, so its stamps run away from the time of
receipt.

How far it is behind at most is another matter: whoever writes a lease must know, for the station ends it by that clock. A
stamp was made before it was heard, so one alone tells, however long it was queued. It is kept in monotonic time: when our
clock is set, a station that has not heard of it is behind by as much more. Only a second stamp that is just as far behind
shows that its clock was set back.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from controller.core.model import EvseId, Moment, PerPhase
from drivers.ocpp.frames import Payload
from drivers.ocpp.samples import is_plausible, number, parse_time

WRONG_S = 120.0  # less than this is what `words.OLD_S` forgives anyway
MATCH_APART_S = 3.0
MATCH_WITHIN_S = 2.0  # stamps are of whole seconds
CARRIES_MA = 500
LEAST_MV, MOST_MV = 100_000, 280_000  # of a phase against neutral
_DEPTH = 8


@dataclass(slots=True)
class Hearing:
    """offset_s: how far its clock is ahead of ours. voltage_mv: the lowest of its phases, lately. phases_used: how many
    conductors carried current when last any did."""

    offset_s: float = 0.0
    voltage_mv: int | None = None
    phases_used: dict[EvseId, int] = field(default_factory=dict)
    _last: tuple[float, datetime] | None = None
    _ticks: datetime | None = None  # what its clock shows, or less, at our monotonic zero
    _slower: tuple[float, datetime] | None = None  # when a stamp was heard that tells less, and what

    def introduced(self) -> None:
        """It may have lost its clock."""
        self._ticks = self._slower = None

    def note_stamp(self, payload: Payload, now: Moment) -> bool:
        """Whether there was one."""
        stamp = _newest(payload)
        if stamp is None:
            return False
        ticks, slower = stamp - timedelta(seconds=now.mono_s), self._slower
        if self._ticks is None or ticks >= self._ticks:
            self._ticks, self._slower = ticks, None
        elif slower is None or abs((ticks - slower[1]).total_seconds()) > MATCH_WITHIN_S:
            self._slower = (now.mono_s, ticks)
        elif now.mono_s - slower[0] >= MATCH_APART_S:
            self._ticks, self._slower = min(ticks, slower[1]), None
        return True

    def behind_s(self, now: Moment) -> float | None:
        """How far its clock is behind ours at most; None: it has not told."""
        if self._ticks is None:
            return None
        return (now.utc - self._ticks).total_seconds() - now.mono_s

    def straighten(self, action: str, payload: Payload, now: Moment) -> Payload:
        """The message with its stamps in our time, once its clock is known to be wrong."""
        if action in ("MeterValues", "TransactionEvent"):
            self._listen(payload, now)
        return _shifted(payload, self.offset_s) if self.offset_s else payload

    def note_voltage(self, payload: Payload) -> None:
        lowest = min((mv for mv in _voltages_mv(payload) if LEAST_MV <= mv <= MOST_MV), default=None)
        if lowest is not None:
            self.voltage_mv = lowest

    def note_currents(self, evse: EvseId, current_ma: PerPhase[int | None]) -> None:
        carrying = sum(1 for each in current_ma if each is not None and each > CARRIES_MA)
        if carrying:
            self.phases_used[evse] = carrying

    def note_departure(self, evse: EvseId) -> None:
        """The next vehicle may use other phases."""
        self.phases_used.pop(evse, None)

    def _listen(self, payload: Payload, now: Moment) -> None:
        stamp = _newest(payload)
        if stamp is None or not now.utc_trusted:
            return
        before, self._last = self._last, (now.mono_s, stamp)
        if before is None:
            return
        between_s = now.mono_s - before[0]
        if between_s < MATCH_APART_S:
            self._last = before  # too soon to compare
            return
        told_s = (stamp - before[1]).total_seconds()
        if abs(told_s - between_s) <= MATCH_WITHIN_S:
            offset_s = (stamp - now.utc).total_seconds()
            self.offset_s = offset_s if abs(offset_s) > WRONG_S else 0.0


def _newest(payload: Payload) -> datetime | None:
    entries = payload.get("meterValue")
    stamps = [
        parse_time(entry.get("timestamp"))
        for entry in (payload, *(entries if isinstance(entries, list) else ()))
        if isinstance(entry, dict)
    ]
    return max((stamp for stamp in stamps if stamp is not None and is_plausible(stamp)), default=None)


def _shifted(value: Any, offset_s: float, depth: int = 0) -> Any:
    if depth > _DEPTH:
        return value
    if isinstance(value, list):
        return [_shifted(item, offset_s, depth + 1) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: _moved(item, offset_s) if key == "timestamp" else _shifted(item, offset_s, depth + 1)
        for key, item in value.items()
    }


def _moved(stamp: object, offset_s: float) -> object:
    told = parse_time(stamp)
    if told is None or not is_plausible(told):
        return stamp
    return (told - timedelta(seconds=offset_s)).isoformat()


def _voltages_mv(payload: Payload) -> list[int]:
    found = []
    entries = payload.get("meterValue")
    for entry in entries if isinstance(entries, list) else []:
        samples = entry.get("sampledValue") if isinstance(entry, dict) else None
        for sample in samples if isinstance(samples, list) else []:
            if not isinstance(sample, dict) or sample.get("measurand") != "Voltage":
                continue
            if str(sample.get("phase", "L1")).upper().removesuffix("-N") not in ("L1", "L2", "L3"):
                continue
            volts = number(sample.get("value"))
            if volts is not None:
                found.append(round(volts * 1000))
    return found
