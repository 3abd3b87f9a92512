"""What our own EVSEs say against a meter: turned round, ten times wrong, phases swapped, or not measuring at all.

Pure; judges, never acts. A meter alone cannot tell a reversed transformer from a solar roof, but we know what our EVSEs
draw: when they step, the meter above them must step as much, on the same phase, in the same direction. What others draw
at the same time is noise here, so it takes several steps and a clear result; else there is no verdict.
Source: field notes 5.1 row 26; least squares through the origin of meter steps over own steps, per pair of phases.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise, permutations

from controller.core.model import PerPhase

STEP_MA = 3_000  # smaller steps drown in ripple
LEAST_STEPS = 4
NEAR = 0.3  # a clear result lies within 30 % of what it should be
STILL_MA = 50  # a meter that moves less than this while we step is not measuring
LEAST_QUALITY = 0.5  # of the movement of the meter, the share our steps must explain

Steps = Sequence[tuple[float, float]]


class Fault(StrEnum):
    REVERSED = "reversed"
    TENFOLD = "ten times too much"
    TENTH = "a tenth of what it is"
    FROZEN = "does not move"
    SWAPPED = "phases swapped"


@dataclass(frozen=True, slots=True)
class Sample:
    """What a meter showed on each phase, and what the EVSEs below it drew at that moment."""

    meter_ma: PerPhase[int]
    own_ma: PerPhase[int]


@dataclass(frozen=True, slots=True)
class Doubt:
    """`phases`: those it is about; where they are swapped, the meter's input that shows each grid phase."""

    fault: Fault
    phases: tuple[int, ...]
    text: str


def doubts(samples: Sequence[Sample]) -> tuple[Doubt, ...]:
    """What the steps of our EVSEs say about the meter above them, oldest sample first. Empty: all well, or not yet known."""
    steps = [_step(before, after) for before, after in pairwise(samples)]
    swapped = _swapped(steps)
    if swapped is not None:
        return (swapped,)
    found: dict[Fault, list[int]] = {}
    for phase in range(3):
        fault = _fault([(own[phase], meter[phase]) for own, meter in steps])
        if fault is not None:
            found.setdefault(fault, []).append(phase)
    return tuple(Doubt(fault, tuple(phases), f"{_names(phases)}: {fault}") for fault, phases in found.items())


def _step(before: Sample, after: Sample) -> tuple[PerPhase[int], PerPhase[int]]:
    own, meter = (
        PerPhase(*(new - old for old, new in zip(one, two, strict=True)))
        for one, two in ((before.own_ma, after.own_ma), (before.meter_ma, after.meter_ma))
    )
    return own, meter


def _fault(steps: Steps) -> Fault | None:
    clear = [(own, meter) for own, meter in steps if abs(own) >= STEP_MA]
    if len(clear) < LEAST_STEPS:
        return None
    if all(abs(meter) < STILL_MA for _, meter in clear):
        return Fault.FROZEN
    slope = _slope(clear)
    if slope is None:
        return None
    for fault, expected in ((Fault.REVERSED, -1.0), (Fault.TENFOLD, 10.0), (Fault.TENTH, 0.1)):
        if abs(slope - expected) <= abs(expected) * NEAR:
            return fault
    return None


def _slope(steps: Steps) -> float | None:
    """How far the meter moves per own step; None where our steps do not explain its movement."""
    own = sum(one * one for one, _ in steps)
    both = sum(one * other for one, other in steps)
    meter = sum(other * other for _, other in steps)
    if own == 0 or meter == 0 or both * both / (own * meter) < LEAST_QUALITY:
        return None
    return both / own


def _swapped(steps: Sequence[tuple[PerPhase[int], PerPhase[int]]]) -> Doubt | None:
    """Only steps of a single phase tell one phase from another."""
    slopes: list[list[float | None]] = []
    for phase in range(3):
        single = [
            (own[phase], meter)
            for own, meter in steps
            if abs(own[phase]) >= STEP_MA
            and max(abs(own[other]) for other in range(3) if other != phase) < STEP_MA / 3
        ]
        if len(single) < LEAST_STEPS:
            slopes.append([None, None, None])
        else:
            slopes.append([_slope([(one, meter[other]) for one, meter in single]) for other in range(3)])
    for order in permutations(range(3)):
        moved = [phase for phase in range(3) if order[phase] != phase]
        seen = [slopes[phase][order[phase]] for phase in moved]
        if moved and all(one is not None and abs(one - 1.0) <= NEAR for one in seen):
            shown = ", ".join(f"L{phase + 1} shows at its input {order[phase] + 1}" for phase in moved)
            return Doubt(Fault.SWAPPED, order, f"{Fault.SWAPPED}: {shown}")
    return None


def _names(phases: Sequence[int]) -> str:
    return ", ".join(f"L{phase + 1}" for phase in phases)
