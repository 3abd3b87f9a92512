"""The phase detective: how an EVSE is wired, found out by comparing its steps with those of the meter above it.

Owns the evidence per EVSE and what follows from it: the likeliest rotation, how sure, from how many observations. Shown
to people, who write `phases` into the config; nothing here is ever applied by itself.

When the current of one EVSE changes between two samples, and no other EVSE below the same meter moves meanwhile, each
way it could be wired predicts which phases of the meter move along. How well each prediction fits is summed up (log
likelihoods; one observation counts only so much, and old ones fade, so a lie of the building's load does not last).
Three phases that move alike tell nothing: single-phase vehicles and ramps of unequal phases do. Until a second conductor
has been seen alone, the usual order of phases is assumed to go on (L2 L3 L1 rather than L2 L1 L3), with less confidence.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise, permutations

from controller.core.events import MeterReading
from controller.core.model import Evse, EvseId, MeterId, PerPhase, Site
from controller.core.snapshot import RotationView

STEP_MA = 3000  # less than this drowns in what else moves
QUIET_MA = 1500  # of all others below the meter together
TRACE_S = 90.0
LONGEST_S = 45.0  # two samples further apart are no step
BEFORE_S, AFTER_S = 3.0, 2.0
NOISE_MA, NOISE_PCT = 1000, 10
MOST_NATS = 3.0  # what one observation can say against a wiring
FADE = 0.98
UNUSUAL_NATS = 1.5  # a rotation that is not in the usual order
CONTRADICTED_SEEN, CONTRADICTED = 5, 0.02
SURE = 0.8

Conductors = tuple[int, ...]


@dataclass(slots=True)
class _Suspect:
    """nats: of each way to be wired, the likeliest at 0. step: the newest one, not compared yet: from, until, by how much."""

    evse: Evse
    meter: MeterId
    nats: dict[tuple[int, ...], float]
    seen: int = 0
    last: tuple[float, Conductors] | None = None
    step: tuple[float, float, Conductors] | None = None
    view: RotationView | None = None


@dataclass(slots=True)
class _Trace:
    """A meter's last readings, and which EVSEs below it moved when."""

    readings: deque[tuple[float, tuple[int, int, int]]] = field(default_factory=deque)
    moves: deque[tuple[float, float, EvseId, int]] = field(default_factory=deque)


class Detective:
    def __init__(self, site: Site) -> None:
        self._suspects: dict[EvseId, _Suspect] = {}
        self._traces: dict[MeterId, _Trace] = {}
        self._contradicted: set[EvseId] = set()
        for evse in site.evses.values():
            meter = next((node.meter for node in site.path(evse.circuit) if node.meter is not None), None)
            if meter is not None and evse.dc is None:
                self._suspects[evse.id] = _Suspect(evse, meter, _ways(len(evse.phases)))
                self._traces.setdefault(meter, _Trace())

    def reading(self, fact: MeterReading) -> None:
        trace = self._traces.get(fact.meter)
        l1, l2, l3 = fact.current_ma
        if trace is None or l1 is None or l2 is None or l3 is None:
            return
        trace.readings.append((fact.taken_s, (l1, l2, l3)))
        _drop_old(trace, fact.taken_s)

    def sample(self, evse: EvseId, current_ma: PerPhase[int | None], taken_s: float) -> None:
        """Current per conductor; one that is not reported carries nothing."""
        suspect = self._suspects.get(evse)
        if suspect is None:
            return
        values = tuple(value or 0 for value in current_ma[: len(suspect.evse.phases)])
        last, suspect.last = suspect.last, (taken_s, values)
        trace = self._traces[suspect.meter]
        if last is None or not 0 < taken_s - last[0] <= LONGEST_S:
            suspect.step = None
            return
        if suspect.step is not None:
            self._compare(suspect, trace, *suspect.step)
            suspect.step = None
        by = tuple(new - old for new, old in zip(values, last[1], strict=True))
        moved = max(map(abs, by))
        if moved >= QUIET_MA // 3:
            trace.moves.append((last[0], taken_s, evse, moved))
        one_sided = len(by) < 3 or max(by) - min(by) >= STEP_MA
        if moved >= STEP_MA and one_sided:
            suspect.step = (last[0], taken_s, by)

    def view(self, evse: EvseId) -> RotationView | None:
        """None while there is no evidence."""
        suspect = self._suspects.get(evse)
        return None if suspect is None else suspect.view

    def contradictions(self) -> Iterator[tuple[EvseId, RotationView]]:
        """EVSEs that are surely not wired as configured."""
        for id in self._contradicted:
            if (view := self._suspects[id].view) is not None:
                yield id, view

    def _compare(
        self, suspect: _Suspect, trace: _Trace, since_s: float, until_s: float, by: Conductors
    ) -> None:
        early, late = since_s - BEFORE_S, until_s + AFTER_S
        others = sum(
            moved for begin, end, evse, moved in trace.moves
            if evse != suspect.evse.id and begin < late and end > early
        )  # fmt: skip
        before = [current for at, current in trace.readings if early <= at <= since_s]
        after = [current for at, current in trace.readings if until_s - 1.0 <= at <= late]
        if others > QUIET_MA or not before or not after:
            return
        seen = [_mean(after, phase) - _mean(before, phase) for phase in range(3)]
        noise = NOISE_MA + max(map(abs, by)) * NOISE_PCT / 100
        fits = {}
        for way in suspect.nats:
            expected = [0, 0, 0]
            for phase, change in zip(way, by, strict=True):
                expected[phase] = change
            fits[way] = -sum((seen[p] - expected[p]) ** 2 for p in range(3)) / (2 * noise * noise)
        best = max(fits.values())
        if best - min(fits.values()) < 1.0 or best < -2 * MOST_NATS:
            return  # it tells nothing, or it fits no wiring at all
        suspect.seen += 1
        total = {way: nats * FADE + max(-MOST_NATS, fits[way] - best) for way, nats in suspect.nats.items()}
        highest = max(total.values())
        suspect.nats = {way: nats - highest for way, nats in total.items()}
        self._conclude(suspect)

    def _conclude(self, suspect: _Suspect) -> None:
        likely = max(suspect.nats, key=lambda way: suspect.nats[way])
        suspect.view = RotationView(likely, round(_share(suspect, likely), 3), suspect.seen)
        told, evse = suspect.evse.phases, suspect.evse.id
        surely = suspect.seen >= CONTRADICTED_SEEN and suspect.view.confidence >= SURE
        if surely and suspect.evse.rotation_known and _share(suspect, told) < CONTRADICTED:
            self._contradicted.add(evse)
        else:
            self._contradicted.discard(evse)


def _ways(conductors: int) -> dict[tuple[int, ...], float]:
    return {
        way: 0.0 if all((b - a) % 3 == 1 for a, b in pairwise(way)) else -UNUSUAL_NATS
        for way in permutations(range(3), conductors)
    }


def _share(suspect: _Suspect, way: tuple[int, ...]) -> float:
    """How likely this wiring is, 0 to 1."""
    return math.exp(suspect.nats[way]) / sum(map(math.exp, suspect.nats.values()))


def _mean(currents: list[tuple[int, int, int]], phase: int) -> float:
    return sum(current[phase] for current in currents) / len(currents)


def _drop_old(trace: _Trace, now_s: float) -> None:
    while trace.readings[0][0] < now_s - TRACE_S:
        trace.readings.popleft()
    while trace.moves and trace.moves[0][1] < now_s - TRACE_S:
        trace.moves.popleft()
