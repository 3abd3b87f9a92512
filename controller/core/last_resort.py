"""The last resort: a metered circuit stays above its limit although everybody was told to come down. Who does not follow is
stopped, one after the other.

Lowering is over within some 20 s (sent in 2 s, answered in 5, followed in 8: peers C4). What is too much after that
comes from stations that do not do what they said, so a limit helps no more; a stop opens the contactor. Only who is
seen drawing more than its grant is stopped, the largest excess first: a foreign load above the fuse is nobody's fault here.
Source: field notes 5.1 row 31.
"""

from __future__ import annotations

from collections.abc import Mapping

from controller.core.background import Assumed, Sight
from controller.core.commands import Audited
from controller.core.grid import PHASE_NAMES
from controller.core.model import Circuit, CircuitId, EvseId, Moment
from controller.core.state import State

OVER_S = 25.0  # from the first reading above the limit
NEXT_S = 15.0  # a stop takes this long to show before the next one is asked to go
EXCESS_MA = 2000  # above its grant; less may be a meter's error or the ripple of a vehicle


def last_resort(state: State, assumed: Mapping[CircuitId, Assumed], now: Moment) -> list[Audited]:
    """Marks who has to stop (`Memory.stop_why`); `starts` sends and repeats the command. Returns what the audit has to know."""
    rows = []
    book = state.last_resort
    for circuit in state.site.circuits.values():
        load = assumed.get(circuit.id)
        if load is not None and load.sight is Sight.HOLD:
            continue  # between two readings of a slow meter nothing has changed
        over = _over(state, circuit, load)
        for phase in range(3):
            if phase in over:
                book.over_s.setdefault((circuit.id, phase), now.mono_s)
            else:
                book.over_s.pop((circuit.id, phase), None)
        if now.mono_s < book.asked_s.get(circuit.id, float("-inf")) + NEXT_S:
            continue
        for phase in over:
            if now.mono_s - book.over_s[circuit.id, phase] < OVER_S:
                continue
            worst = max(
                ((excess, evse) for evse in state.grid.below[circuit.id] if (excess := _excess(state, evse, phase, now.mono_s))),
                default=None,
            )  # fmt: skip
            if worst is not None:
                excess_ma, evse = worst
                book.asked_s[circuit.id] = now.mono_s
                why = f"circuit {circuit.id} {PHASE_NAMES[phase]} stays above its limit, {excess_ma / 1e3:.0f} A more than allowed here"
                state.memory[evse].stop_why = why
                rows.append(Audited(now.utc, "depot", "last-resort", evse, why))
                break
    return rows


def _over(state: State, circuit: Circuit, load: Assumed | None) -> list[int]:
    """The phases above their limit by a reading that can be trusted, the one that is most above it first."""
    if load is None or circuit.meter is None or load.sight is not Sight.CLEAR:
        return []
    reading = state.belief.meters[circuit.meter].reading
    if reading is None:
        return []
    over = [
        ((current_ma or 0) - limit_ma, phase)
        for phase, (current_ma, limit_ma) in enumerate(zip(reading.current_ma, circuit.limit_ma, strict=True))
    ]
    return [phase for excess_ma, phase in sorted(over, reverse=True) if excess_ma > 0]


def _excess(state: State, evse: EvseId, phase: int, now_s: float) -> int:
    """By how much it is seen drawing more than it was granted there; 0 where that is too little to blame it."""
    known = state.belief.evses[evse]
    drawn_ma = known.current_ma[phase]
    stops = state.memory[evse].stop_why is not None
    if stops or evse not in state.sessions.running or known.fresh(now_s) is None or drawn_ma is None:
        return 0
    excess_ma = drawn_ma - state.memory[evse].grant_ma
    return excess_ma if excess_ma > EXCESS_MA else 0
