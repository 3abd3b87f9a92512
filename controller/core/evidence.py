"""What the world shows of an order: the evidence on which `orders` reaches its stages."""

from __future__ import annotations

from collections.abc import Callable

from controller.core.model import CircuitId, EvseState
from controller.core.orders import IDLE_MA, Evidence, Order
from controller.core.state import State


def evidence(state: State, now_s: float) -> Callable[[Order], Evidence]:
    def look(order: Order) -> Evidence:
        if order.kind == "flex":
            return _flex_evidence(state, CircuitId(order.evse), now_s)
        belief, memory = state.belief.evses[order.evse], state.memory[order.evse]
        sample = belief.fresh(now_s)
        return Evidence(
            session=order.evse in state.sessions.running,
            suspended=belief.state is EvseState.SUSPENDED_EVSE,
            current_ma=belief.highest_ma(now_s),
            sample_s=None if sample is None else sample.taken_s,
            bound_by=memory.bound_by,
            grant_ma=memory.grant_ma,
            feeding_back=belief.state is EvseState.DISCHARGING
            or (sample is not None and sample.power_w is not None and sample.power_w < 0),
            feed_measured=sample is not None and sample.power_w is not None and sample.power_w < 0,
        )

    return look


def _flex_evidence(state: State, circuit: CircuitId, now_s: float) -> Evidence:
    """Whether every charging EVSE below the circuit is measured within what flexibility leaves it."""
    within: bool | None = True
    newest_s = None
    for evse in state.grid.below[circuit]:
        belief = state.belief.evses[evse]
        cap = state.flex.cap(state.site, belief.evse)
        if evse not in state.sessions.running or cap is None:
            continue
        current_ma, sample = belief.highest_ma(now_s), belief.fresh(now_s)
        if current_ma is None or sample is None:
            within = None
            break
        newest_s = sample.taken_s if newest_s is None else min(newest_s, sample.taken_s)
        within = within and current_ma <= cap[0] + IDLE_MA
    return Evidence(
        session=True,
        suspended=False,
        current_ma=None,
        sample_s=now_s if newest_s is None else newest_s,
        bound_by=f"circuit {circuit}",
        grant_ma=None,
        within_flex=within,
    )
