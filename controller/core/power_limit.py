"""Limits of circuits in kW: what a transformer or a contract allows of all phases together, as a current per phase.

One source of `bounds`. The amps of the same circuit hold beside it (`Circuit.limit_ma`): they protect the copper, so a
limit in kW may be kept as power and energy are, by what is measured (`power.idle_floors_ma`). Volts times amps is never
less than the power, so nothing is assumed of power factors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from controller.core.background import Assumed
from controller.core.model import CircuitId, Moment, PerPhase, Quality
from controller.core.power import HIGHEST, idle_floors_ma, per_phase_ma
from controller.core.state import State

UNSEEN_PCT = 110  # of nominal: the highest supply voltage (EN 50160); the same watts are fewer amps there
MARGIN_PCT = 2  # as for the amps of a metered circuit


def kw_limits(
    state: State, assumed: Mapping[CircuitId, Assumed], now: Moment
) -> Iterator[tuple[CircuitId, PerPhase[int], PerPhase[int], str]]:
    """Per circuit with a limit in kW what the EVSEs below it may take, for lowering and for raising, and why."""
    for circuit in state.site.circuits.values():
        if circuit.limit_w is None:
            continue
        volts_mv, load = _voltage_mv(state, circuit.id, now), assumed.get(circuit.id)
        if load is None:
            usable_w = circuit.limit_w
            lower = raising = circuit.assumed_load_ma or PerPhase(0, 0, 0)
        else:
            usable_w = circuit.limit_w - circuit.limit_w * MARGIN_PCT // 100
            lower, raising = load.lower_ma, load.raise_ma
        idle = idle_floors_ma(state, circuit.id, now)
        rooms = []
        for background in (lower, raising):
            taken_w = -(-sum(max(0, each) for each in background) * volts_mv // 1_000_000)
            shares = per_phase_ma(state, circuit.id, usable_w - taken_w, volts_mv)
            rooms.append(PerPhase(*(share + floor for share, floor in zip(shares, idle, strict=True))))
        yield circuit.id, rooms[0], rooms[1], f"circuit {circuit.id} {circuit.limit_w / 1e3:g} kW"


def _voltage_mv(state: State, circuit: CircuitId, now: Moment) -> int:
    """The highest phase at the circuit's meter, or at the nearest one above that is fresh."""
    most_mv = state.site.voltage_mv * HIGHEST
    for node in state.site.path(circuit):
        if node.meter is None or state.belief.quality(node.meter, now.mono_s) is not Quality.GOOD:
            continue
        reading = state.belief.meters[node.meter].reading
        seen = () if reading is None else reading.voltage_mv
        if known := [value for value in seen if value is not None and 0 < value < most_mv]:
            return max(known)
    return state.site.voltage_mv * UNSEEN_PCT // 100
