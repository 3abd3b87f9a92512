"""A power for all chargers of a circuit, as a current per phase: the form in which the allocator keeps limits.

Owns the split over the phases. What is plugged in decides it: a phase on which nothing charges needs no share, and the
shares never add up to more than the power. Limits round down; a voltage above the nominal one counts.
"""

from __future__ import annotations

from collections.abc import Collection, Container

from controller.core.commitments import Account
from controller.core.inputs import Carried
from controller.core.model import SITE, CircuitId, EvseId, Moment, PerPhase, Quality
from controller.core.state import State
from controller.core.units import power_for_current_w

HIGHEST = 1.15  # of the nominal voltage (EN 50160 allows 1.10); above it a meter is wrong


def voltage_mv(state: State, now: Moment) -> int:
    """To turn watts of limits into amps: what the site's meter shows at most, and never less than nominal."""
    nominal_mv, meter = state.site.voltage_mv, state.site.circuits[SITE].meter
    if meter is None or state.belief.quality(meter, now.mono_s) is not Quality.GOOD:
        return nominal_mv
    reading = state.belief.meters[meter].reading
    seen = [] if reading is None else [value for value in reading.voltage_mv if value is not None]
    return max([nominal_mv, *(value for value in seen if value < nominal_mv * HIGHEST)])


def per_phase_ma(
    state: State,
    circuit: CircuitId,
    power_w: int,
    volts_mv: int,
    among: Container[EvseId] | None = None,
    on_one: Collection[EvseId] = (),
) -> PerPhase[int]:
    """`power_w` over the phases, by what may charge there. `among`: by these only, not by all that charge. on_one: those
    that charge on their first conductor alone."""
    weights, among = [0, 0, 0], state.sessions.running if among is None else among
    for evse_id in state.grid.below[circuit]:
        if evse_id in among:
            evse = state.site.evses[evse_id]
            for phase in evse.phases[:1] if evse_id in on_one else evse.phases:
                weights[phase] += evse.max_ma
    total = sum(weights)
    if not total:
        weights, total = [1, 1, 1], 3
    current_ma = max(0, power_w) * 1_000_000 // volts_mv
    return PerPhase(*(current_ma * weight // total for weight in weights))


def carried(state: State, circuit: CircuitId, now: Moment) -> Carried:
    """What the EVSEs below the circuit may take, and take as far as all of them tell. Limits at the nominal voltage."""
    now_s, allowed_w, measured_w, oldest_s = now.mono_s, 0, 0, None
    known = True
    for evse_id in state.grid.below[circuit]:
        evse, account = state.site.evses[evse_id], state.commitments.accounts[evse_id]
        reached = state.belief.connected(evse_id)
        if reached and evse_id not in state.sessions.running:
            continue
        may_ma = _accepted_ma(account, now_s) if reached else account.commitment_ma(now_s)
        allowed_w += power_for_current_w(may_ma, state.site.voltage_mv, len(evse.phases))
        belief = state.belief.evses[evse_id]
        sample, highest_ma = belief.fresh(now_s), belief.highest_ma(now_s)
        if sample is None or (sample.power_w is None and highest_ma is None):
            known = False
            continue
        oldest_s = sample.taken_s if oldest_s is None else min(oldest_s, sample.taken_s)
        drawn_w = power_for_current_w(highest_ma or 0, state.site.voltage_mv, len(evse.phases))
        measured_w += drawn_w if sample.power_w is None else sample.power_w
    return Carried(allowed_w, measured_w if known else None, oldest_s)


def _accepted_ma(account: Account, now_s: float) -> int:
    """What the station said yes to last, whether its vehicle has followed or not; a lost answer may still stand above."""
    accepted_ma = account.accepted_now_ma(now_s)
    if accepted_ma is None:
        return account.allowed_ma(now_s)
    doubts = (hold.current_ma for hold in account.holds if hold.firm and hold.until_s > now_s)
    return max(accepted_ma, *doubts, 0)


def idle_floors_ma(state: State, circuit: CircuitId, now: Moment) -> PerPhase[int]:
    """What EVSEs without a vehicle that charges could draw alone. Copper must carry it at any time; energy and power that
    are metered need not be put aside for it: whoever begins is seen and makes the others yield."""
    floors = [0, 0, 0]
    for evse_id in state.grid.below[circuit]:
        if evse_id not in state.sessions.running and state.belief.connected(evse_id):
            floor_ma = state.commitments.accounts[evse_id].firm_ma(now.mono_s)
            for phase in state.site.evses[evse_id].phases:
                floors[phase] += floor_ma
    return PerPhase(*floors)
