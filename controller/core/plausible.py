"""What our own EVSEs say against a meter: turned round, ten times wrong, phases swapped, or not measuring at all.

Pure; judges, never acts (`witness` gathers the steps and draws the consequence). A meter alone cannot tell a reversed
transformer from a solar roof, but we know what our EVSEs draw: when they step, the meter above them must step as much,
on the same phase, in the same direction. What others draw at the same time is noise here, so the newest steps must all
say the same, each by itself; else there is no verdict. A false verdict costs a depot its night, a late one is caught by
the next steps.
Source: field notes 5.1 row 26.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import permutations

from controller.core.model import PerPhase

STEP_MA = 3_000  # smaller steps drown in ripple
LEAST_STEPS = 6
NEAR = 0.3  # a clear step lies within 30 % of what it should be
STILL_MA = 50  # a meter that moves less than this while we step is not measuring
REST = 0.35  # of our step, what another phase may move by while it says nothing
_RATIOS = (("reversed", -1.0), ("ten times too much", 10.0), ("a tenth of what it is", 0.1))


class Fault(StrEnum):
    REVERSED = "reversed"
    TENFOLD = "ten times too much"
    TENTH = "a tenth of what it is"
    FROZEN = "does not move"
    SWAPPED = "phases swapped"


@dataclass(frozen=True, slots=True)
class Step:
    """How far our EVSEs stepped, and the meter above them with them."""

    own_ma: PerPhase[int]
    meter_ma: PerPhase[int]


@dataclass(frozen=True, slots=True)
class Doubt:
    """`phases`: those it is about; where they are swapped, the meter's input that shows each grid phase."""

    fault: Fault
    phases: tuple[int, ...]
    text: str


def doubts(steps: Sequence[Step]) -> tuple[Doubt, ...]:
    """What the steps say, oldest first. Empty: all well, or not yet known."""
    swapped = _swapped(steps)
    if swapped is not None:
        return (swapped,)
    found: dict[Fault, list[int]] = {}
    for phase in range(3):
        fault = _fault([(step.own_ma[phase], step.meter_ma[phase]) for step in steps])
        if fault is not None:
            found.setdefault(fault, []).append(phase)
    return tuple(Doubt(fault, tuple(phases), f"{names(phases)}: {fault}") for fault, phases in found.items())


def _fault(steps: Sequence[tuple[int, int]]) -> Fault | None:
    clear = [(own, meter) for own, meter in steps if abs(own) >= STEP_MA][-LEAST_STEPS:]
    if len(clear) < LEAST_STEPS:
        return None
    if all(abs(meter) < STILL_MA for _, meter in clear):
        return Fault.FROZEN
    for word, ratio in _RATIOS:
        if all(_is_near(meter, ratio * own) for own, meter in clear):
            return Fault(word)
    return None


def _is_near(seen: float, expected: float) -> bool:
    return abs(seen - expected) <= abs(expected) * NEAR


def _swapped(steps: Sequence[Step]) -> Doubt | None:
    """Only steps of a single phase tell one phase from another. None where one of them shows where it should."""
    shown: list[int | None] = []
    for phase in range(3):
        others = [other for other in range(3) if other != phase]
        single = [
            step
            for step in steps
            if abs(step.own_ma[phase]) >= STEP_MA and all(abs(step.own_ma[o]) < STEP_MA / 3 for o in others)
        ][-LEAST_STEPS:]
        shown.append(_input(single, phase) if len(single) == LEAST_STEPS else None)
    for order in permutations(range(3)):
        moved = [phase for phase in range(3) if order[phase] != phase]
        if moved and all(shown[phase] == order[phase] for phase in moved):
            said = ", ".join(f"L{phase + 1} shows at its input {order[phase] + 1}" for phase in moved)
            return Doubt(Fault.SWAPPED, order, f"{Fault.SWAPPED}: {said}")
    return None


def _input(single: Sequence[Step], phase: int) -> int | None:
    """The one input of the meter that moved with all of these steps, and alone."""
    for at in range(3):
        if all(
            _is_near(step.meter_ma[at], step.own_ma[phase])
            and all(abs(step.meter_ma[o]) <= abs(step.own_ma[phase]) * REST for o in range(3) if o != at)
            for step in single
        ):
            return at
    return None


def names(phases: Sequence[int]) -> str:
    return ", ".join(f"L{phase + 1}" for phase in phases)
