"""Bounds: what holds on a circuit for now, beside what its copper carries (kW limits, the quarter hour, the grid operator).

A bound speaks of our EVSEs below a circuit alone: whoever makes it has taken the load that is not ours off already. It
takes room away and never gives any. Every source of bounds is a pure function of the state and is listed in `bounds`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from controller.core.background import Assumed
from controller.core.grid import Grid
from controller.core.model import SITE, CircuitId, Moment, PerPhase
from controller.core.peak import Peak
from controller.core.power import idle_floors_ma, per_phase_ma, voltage_mv
from controller.core.power_limit import kw_limits
from controller.core.state import State

PEAK = "quarter-hour peak"


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
    found = [Bound(*each) for each in kw_limits(state, assumed, now)]
    if state.peak is not None:
        found.append(_peak(state, state.peak, assumed[SITE], now))
    for limit in state.inputs.holding(now.mono_s):
        found.append(
            powered(state, limit.circuit, limit.power_w, limit.power_w, f"grid limit {limit.id}", now)
        )
    return tuple(found)


def _peak(state: State, peak: Peak, load: Assumed, now: Moment) -> Bound:
    volts_mv = voltage_mv(state, now)
    fast_w, slow_w = (sum(each) * volts_mv // 1_000_000 for each in (load.lower_ma, load.raise_ma))
    lower_w, raise_w = peak.rooms_w(fast_w, slow_w, now)
    return powered(state, SITE, lower_w, raise_w, PEAK, now)


def powered(state: State, circuit: CircuitId, lower_w: int, raise_w: int, why: str, now: Moment) -> Bound:
    """A power that the EVSEs below the circuit may take together."""
    volts_mv, idle = voltage_mv(state, now), idle_floors_ma(state, circuit, now)
    lower = per_phase_ma(state, circuit, lower_w, volts_mv)
    rising = lower if raise_w == lower_w else per_phase_ma(state, circuit, raise_w, volts_mv)
    return Bound(
        circuit,
        PerPhase(*(room + floor for room, floor in zip(lower, idle, strict=True))),
        PerPhase(*(room + floor for room, floor in zip(rising, idle, strict=True))),
        why,
    )


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
