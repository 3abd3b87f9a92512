"""Bounds: what holds on a circuit for now, beside what its copper carries (kW limits, the quarter hour, the grid operator).

A bound speaks of our EVSEs below a circuit alone: whoever makes it has taken the load that is not ours off already. It
takes room away and never gives any. Every source of bounds is a pure function of the state and is listed in `bounds`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from controller.core.background import Assumed
from controller.core.grid import Grid
from controller.core.model import CircuitId, Moment, PerPhase
from controller.core.state import State


@dataclass(frozen=True, slots=True)
class Bound:
    """What the EVSEs below `circuit` may take together, per phase. lower_ma decides what must come down, raise_ma (never
    above it) what may go up. `why` is shown as what bound an EVSE: "quarter-hour peak", "grid operator"."""

    circuit: CircuitId
    lower_ma: PerPhase[int]
    raise_ma: PerPhase[int]
    why: str


def bounds(state: State, assumed: Mapping[CircuitId, Assumed], now: Moment) -> tuple[Bound, ...]:
    """All that hold now. `assumed`: the load that is not ours, per circuit with a meter."""
    return ()


def bounded(
    grid: Grid, found: Sequence[Bound], lower_ma: list[int], raise_ma: list[int]
) -> Mapping[int, str]:
    """Narrows the rooms (per resource) in place; returns by what, for the resources that a bound made narrower."""
    names: dict[int, str] = {}
    for bound in found:
        for phase in range(3):
            resource = grid.index(bound.circuit, phase)
            if bound.lower_ma[phase] < lower_ma[resource]:
                lower_ma[resource], names[resource] = bound.lower_ma[phase], bound.why
            if bound.raise_ma[phase] < raise_ma[resource]:
                raise_ma[resource] = bound.raise_ma[phase]
                names.setdefault(resource, bound.why)
    return names
