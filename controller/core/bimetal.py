"""The virtual bimetal: how far the breaker or fuse of a circuit is from tripping, per phase, from measured current.

Pure; shows, never decides: no limit rests on it (those are kept without it). Always on the safe side: it heats as fast as
the fastest device its standard allows and cools as slowly as the slowest, so it is never colder than any device between
them (whoever lags more only averages what this one has already seen), and it holds the limit for the device's rating.

Facts, in multiples of the rated current:
  IEC 60898-1 table 7 (B, C, D): 1.13 does not trip within the conventional time (1 h, above 63 A 2 h), 1.45 does; 2.55
  from cold trips after 1 s at the earliest and after 60 s (above 32 A: 120 s) at the latest; magnetic from 3, 5, 10.
  IEC 60947-2 table 6: 1.05 does not trip, 1.30 does. It knows no faster point: the earliest time at 2.55 is taken over
  from 60898, cooling is taken as 20 min (circuit-breakers of 100 A and more), and the short-circuit release as set to
  3, of which it may trip at 80 % (8.3.3.1.2). Whoever sets it lower sees that margin too late.
  IEC 60269-1 (gG): 1.25 does not blow, 1.6 does; the gates of table 3 are lowest for 16 A: 33 A for 10 s does not blow it
  (2.06), and between that and the next gate at 0.1 s nothing is promised, so that above 2.06 it may blow at once; 5 s at
  6.6 blow the slowest (250 A). Fuses below 16 A stand more than this.
What trips within 0.1 s lies between two readings; a reading that high counts as a trip.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, log

from controller.core.model import Circuit, PerPhase

WARM_PCT = 30  # what the rated current leaves for ever; less is hotter than the device is made for


@dataclass(frozen=True, slots=True)
class Curve:
    """`never`: the highest multiple that does not trip however long. `at_once`: above it nothing can be relied on."""

    never: float
    heats_s: float
    cools_s: float
    at_once: float

    @property
    def trips(self) -> float:
        """The heat at which it trips; the rated current for ever is 1."""
        return self.never**2


def _lag_s(never: float, multiple: float, after_s: float) -> float:
    """The time constant with which a body that stands `never` reaches its end at `multiple`, from cold, in that time."""
    return float(after_s / log(multiple**2 / (multiple**2 - never**2)))


def _breaker(magnetic: float) -> Curve:
    return Curve(1.13, _lag_s(1.13, 2.55, 1.0), _lag_s(1.13, 2.55, 120.0), magnetic)


KINDS: Mapping[str, Curve] = {
    "B": _breaker(3.0),
    "C": _breaker(5.0),
    "D": _breaker(10.0),
    "60947-2": Curve(1.05, _lag_s(1.05, 2.55, 1.0), 1200.0, 2.4),
    "gG": Curve(1.25, _lag_s(1.25, 2.06, 10.0), _lag_s(1.25, 6.6, 5.0), 2.06),
}
UNKNOWN = Curve(
    min(kind.never for kind in KINDS.values()),
    min(kind.heats_s for kind in KINDS.values()),
    max(kind.cools_s for kind in KINDS.values()),
    min(kind.at_once for kind in KINDS.values()),
)


class Bimetal:
    """The device in front of one circuit. It begins as warm as its rated current makes it: nobody saw what was before."""

    def __init__(self, circuit: Circuit) -> None:
        self._curve = UNKNOWN if circuit.breaker is None else KINDS[circuit.breaker]
        self._rated_ma = circuit.limit_ma
        self._heat = [1.0, 1.0, 1.0]
        self._load = [0.0, 0.0, 0.0]  # the square of the newest multiple
        self._at_s: float | None = None

    def fold(self, at_s: float, current_ma: Sequence[int]) -> None:
        """It carried this at that time, and since the time before the larger of the two; flowing back heats as well."""
        before_s, self._at_s = self._at_s, at_s
        passed_s = 0.0 if before_s is None else max(0.0, at_s - before_s)
        curve = self._curve
        for phase, current in enumerate(current_ma):
            multiple = abs(current) / max(1, self._rated_ma[phase])
            load, heat = multiple * multiple, self._heat[phase]
            goal = max(load, self._load[phase])
            lag_s = curve.heats_s if goal > heat else curve.cools_s
            heat = goal + (heat - goal) * exp(-passed_s / lag_s)
            self._heat[phase] = max(heat, curve.trips) if multiple > curve.at_once else heat
            self._load[phase] = load

    def margins_pct(self) -> PerPhase[int] | None:
        """100 = cold, 30 = what the rated current leaves for ever, 0 = may have tripped. None: never measured."""
        if self._at_s is None:
            return None
        return PerPhase(*(self._margin_pct(heat) for heat in self._heat))

    def _margin_pct(self, heat: float) -> int:
        if heat <= 1.0:
            return int(100 - (100 - WARM_PCT) * heat)
        return max(0, int(WARM_PCT * (self._curve.trips - heat) / (self._curve.trips - 1.0)))
