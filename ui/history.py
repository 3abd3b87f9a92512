"""What each EVSE was set to and drew over the last half hour, as this dashboard saw it or as the controller recalls it.

Owns bins of thirty seconds, bounded; a bin nobody saw is None. Must not fill a gap with a guess.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from controller.core.model import EvseId
from controller.core.snapshot import Snapshot

BIN_S = 30
BINS = 60


class Bin(NamedTuple):
    """`number` counts thirties of seconds since 1970. `set_ma`: commanded last; `measured_ma`: the largest by size."""

    number: int
    set_ma: int | None
    measured_ma: int | None


class History:
    def __init__(self) -> None:
        self._bins: dict[EvseId, deque[Bin]] = {}

    def see(self, snapshot: Snapshot) -> None:
        number = number_at(snapshot.time)
        for evse in snapshot.evses:
            measured = _largest(evse.measured_ma)
            self._note(evse.id, Bin(number, evse.commanded_ma, measured))
        if len(self._bins) > len(snapshot.evses):
            present = {evse.id for evse in snapshot.evses}
            self._bins = {name: bins for name, bins in self._bins.items() if name in present}

    def _note(self, evse: EvseId, seen: Bin) -> None:
        bins = self._bins.setdefault(evse, deque(maxlen=BINS))
        if bins and bins[-1].number == seen.number:
            bins[-1] = seen._replace(measured_ma=_largest((bins[-1].measured_ma, seen.measured_ma)))
        elif not bins or seen.number > bins[-1].number:
            bins.append(seen)
        else:  # the clock went back: what is newer never happened
            bins.clear()
            bins.append(seen)

    def recall(self, evse: EvseId, points: Sequence[Mapping[str, Any]]) -> None:
        """Takes what the controller remembers of the time before this dashboard was there."""
        seen = self._bins.get(evse, deque())
        first = seen[0].number if seen else None
        earlier: deque[Bin] = deque(maxlen=BINS)
        for point in points:
            number = number_at(datetime.fromisoformat(point["time"]))
            if first is not None and number >= first:
                break
            told = Bin(number, _milli(point["commanded_a"]), _milli(point["measured_a"]))
            if earlier and earlier[-1].number == number:
                told = told._replace(measured_ma=_largest((earlier[-1].measured_ma, told.measured_ma)))
                earlier.pop()
            earlier.append(told)
        self._bins[evse] = deque([*earlier, *seen], maxlen=BINS)

    def of(self, evse: EvseId, now: datetime) -> list[Bin | None]:
        """The last half hour, oldest first, one place per bin."""
        known = {each.number: each for each in self._bins.get(evse, ())}
        last = number_at(now)
        return [known.get(number) for number in range(last - BINS + 1, last + 1)]


def number_at(at: datetime) -> int:
    return int(at.timestamp()) // BIN_S


def _largest(values: Sequence[int | None]) -> int | None:
    return max((value for value in values if value is not None), key=abs, default=None)


def _milli(amps: float | None) -> int | None:
    return None if amps is None else round(amps * 1000)
