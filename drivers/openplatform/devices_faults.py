"""Which faults of a charger are active: told when they begin and when they end.

A fault of a connector ends with telemetry of another state than fault, one of the whole charger or an alarm with a
healthy heartbeat (G-18). A code is told once, whoever repeats it. Bounded. Source: REFERENCE section 18, GAPS G-18.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from controller.core.events import Event, FaultReported
from controller.core.model import EvseId, StationId

CHANNEL = "open-platform/onsite"
_MOST = 32  # active at once; then the oldest is taken for over


class _Key(NamedTuple):
    evse: EvseId | None
    code: str


class _Active(NamedTuple):
    since: datetime
    lasting: bool


class Faults:
    """Of one charger. `lasting`: only a healthy heartbeat ends it."""

    def __init__(self, station: StationId) -> None:
        self._station = station
        self._active: dict[_Key, _Active] = {}

    def begin(
        self, evse: EvseId | None, code: str, text: str, since: datetime, *, lasting: bool
    ) -> list[Event]:
        """`evse` None: the whole charger; a code some connector has already told is the same fault."""
        key = _Key(evse, code)
        if key in self._active or (evse is None and any(known.code == code for known in self._active)):
            return []
        self._active[key] = _Active(since, lasting)
        gone = [next(iter(self._active))] if len(self._active) > _MOST else []
        began = FaultReported(self._station, evse, CHANNEL, code, True, text)
        return [*(self._end(old) for old in gone), began]

    def healthy(self) -> list[Event]:
        """A heartbeat without a fault code."""
        over = [key for key, active in self._active.items() if key.evse is None or active.lasting]
        return [self._end(key) for key in over]

    def works(self, evse: EvseId, at: datetime) -> list[Event]:
        """Telemetry of this connector, taken at that time, shows another state than fault."""
        over = [
            key
            for key, active in self._active.items()
            if key.evse == evse and not active.lasting and active.since < at
        ]
        return [self._end(key) for key in over]

    def newest(self, evse: EvseId) -> str:
        """The code to show for a connector in state fault."""
        codes = [key.code for key in self._active if key.evse in (None, evse)]
        return codes[-1] if codes else "fault"

    def _end(self, key: _Key) -> Event:
        del self._active[key]
        return FaultReported(self._station, key.evse, CHANNEL, key.code, False)
