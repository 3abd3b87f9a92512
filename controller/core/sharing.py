"""What the site has left over right now, from what is measured, and the demands that live on it.

Owns the sum of a step; how fast it is believed is the business of `surplus`.
"""

from __future__ import annotations

from controller.core.allocator import Demand
from controller.core.model import SITE, EvseId, MeterId, MeterRole, Moment, Quality
from controller.core.power import per_phase_ma
from controller.core.state import State
from controller.core.surplus import Surplus
from controller.core.units import power_for_current_w

STEP_W = 50  # smaller changes are shared out with the next


def on_surplus(state: State, demands: list[Demand], now: Moment) -> list[Demand]:
    """Who was started or resumed by hand charges in full."""
    surplus = state.surplus
    if surplus is None:
        return demands
    surplus.see(_spare_w(state, now), now.mono_s)
    living = _living(state, surplus, demands)
    if not living:
        return demands
    offered_w = surplus.offered_w - surplus.offered_w % STEP_W
    members = {demand.evse for demand in living}
    on_one = state.switching.one_phase()
    share_ma = per_phase_ma(state, SITE, offered_w, state.site.voltage_mv, members, on_one)
    capped = {demand.evse: demand for demand in surplus.capped(state.grid, living, share_ma, now.mono_s)}
    return [capped.get(demand.evse, demand) for demand in demands]


def left_over(state: State, demands: list[Demand]) -> dict[EvseId, int]:
    """In watts, for each that lives on the surplus (`Switching.shares`)."""
    surplus = state.surplus
    if surplus is None:
        return {}
    offered_w = surplus.offered_w - surplus.offered_w % STEP_W
    return state.switching.shares(_living(state, surplus, demands), offered_w)


def _living(state: State, surplus: Surplus, demands: list[Demand]) -> list[Demand]:
    return [
        demand
        for demand in demands
        if demand.evse in surplus.evses and demand.cap_ma and not state.desks[demand.evse].manual
    ]


def _spare_w(state: State, now: Moment) -> int | None:
    """Export, and what the surplus EVSEs draw, without what batteries give."""
    surplus, meter = state.surplus, state.site.circuits[SITE].meter
    assert surplus is not None and meter is not None
    import_w = _power_w(state, meter, now)
    if import_w is None:
        return None
    spare_w = -import_w
    for evse in surplus.evses:
        if not state.desks[evse].manual:
            spare_w += _drawn_w(state, evse, now.mono_s)
    for each in state.site.meters.values():
        if each.role is MeterRole.BATTERY:
            battery_w = _power_w(state, each.id, now)
            if battery_w is None:
                return None
            spare_w += min(0, battery_w)
    return spare_w


def _power_w(state: State, meter: MeterId, now: Moment) -> int | None:
    reading = state.belief.meters[meter].reading
    good = reading is not None and state.belief.quality(meter, now.mono_s) is Quality.GOOD
    return reading.power_w if reading is not None and good else None


def _drawn_w(state: State, evse: EvseId, now_s: float) -> int:
    """What is not told is not credited."""
    sample = state.belief.evses[evse].fresh(now_s)
    if sample is None:
        return 0
    if sample.power_w is not None:
        return max(0, sample.power_w)
    return power_for_current_w(sum(max(0, each or 0) for each in sample.current_ma), state.site.voltage_mv, 1)
