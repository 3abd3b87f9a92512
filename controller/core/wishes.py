"""What operators order: start, stop, pause, resume, limit -> the desk of an EVSE, an order to follow, an audit row."""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from controller.core.commands import Audited
from controller.core.events import (
    DischargeWished,
    FlexWished,
    LimitWished,
    PauseWished,
    ResumeWished,
    StartWished,
    StopWished,
)
from controller.core.model import EvseId, EvseState, Moment
from controller.core.orders import Order
from controller.core.state import Discharge, State

Wished = StartWished | StopWished | PauseWished | ResumeWished | LimitWished | DischargeWished

DISCHARGE_FLOOR_PCT = 20  # nobody is discharged below this, whoever asks (G-14)
DISCHARGE_S = 3600.0  # a discharge without a duration ends after this (G-14)


def apply_wish(state: State, event: Wished, now: Moment) -> Audited:
    """Puts the order on the desk, or refuses it with a reason; either way it is audited."""
    kind = type(event).__name__.removesuffix("Wished").lower()
    order = Order(event.order, kind, event.evse, event.by, kind, now.mono_s)
    reason = _refusal(state, event)
    if reason is not None:
        state.orders.refuse(order, now, reason)
        return Audited(now.utc, event.by, f"{kind}-refused", event.evse, reason)
    desk, memory = state.desks[event.evse], state.memory[event.evse]
    match event:
        case StartWished():
            desk.paused, desk.manual, desk.stop = False, True, False
            desk.limit_ma = desk.limit_ma if event.limit_ma is None else event.limit_ma
            desk.stop_energy_wh, desk.stop_soc = event.energy_wh, event.soc
            desk.stop_after_s = event.duration_s
            if event.evse not in state.sessions.running:
                memory.start_token = event.token or f"DEPOT{state.next_command()}"
                memory.asked_s = float("-inf")
        case StopWished():
            memory.discharge = None
            desk.stop, memory.start_token, memory.asked_s = True, None, float("-inf")
        case PauseWished():
            desk.paused = True
            if memory.discharge is not None:
                memory.discharge = replace(memory.discharge, until_s=now.mono_s)
        case ResumeWished():
            desk.paused, desk.manual = False, True
        case LimitWished():
            desk.limit_ma = order.limit_ma = event.limit_ma
            order.text = "limit none" if event.limit_ma is None else f"limit {event.limit_ma / 1e3:g} A"
        case DischargeWished():
            floor_pct = max(DISCHARGE_FLOOR_PCT, event.min_soc or 0)
            until_s = now.mono_s + (event.duration_s or DISCHARGE_S)
            memory.discharge = Discharge(event.power_w, floor_pct, until_s)
            order.text = f"discharge {event.power_w / 1e3:g} kW, not below {floor_pct} %"
        case _:
            assert_never(event)
    state.orders.open(order, now)
    return Audited(now.utc, event.by, kind, event.evse, order.text)


def _refusal(state: State, event: Wished) -> str | None:
    if isinstance(event, LimitWished):
        return None  # holds for the next session too, and when the station comes back
    if not state.belief.connected(event.evse):
        return "the station is offline"
    if isinstance(event, DischargeWished):
        if not state.site.evses[event.evse].link.channel.startswith("open-platform/"):
            return "discharge needs the Open Platform"
        if state.belief.state(event.evse) in (EvseState.AVAILABLE, EvseState.FAULTED, EvseState.UNAVAILABLE):
            return f"the EVSE is {state.belief.state(event.evse).value}"
        return None
    if event.evse not in state.sessions.running and not isinstance(event, StartWished):
        return "no session is running"
    return None


def apply_flex(state: State, event: FlexWished, now: Moment) -> Audited:
    """Starts a flexibility action and an order that follows it to measurement: the evidence that it was obeyed."""
    text = f"flex {event.percent} % for {event.duration_s:.0f} s"
    order = Order(event.order, "flex", EvseId(event.circuit), event.by, text, now.mono_s)
    if event.circuit not in state.site.circuits:
        state.orders.refuse(order, now, f"no circuit {event.circuit}")
        return Audited(now.utc, event.by, "flex-refused", event.circuit, text)
    state.flex.wish(event, now.mono_s)
    if event.percent == 0:  # a pause ends discharges too (G-12)
        for evse in state.grid.below[event.circuit]:
            running = state.memory[evse].discharge
            if running is not None:
                state.memory[evse].discharge = replace(running, until_s=now.mono_s)
    state.orders.open(order, now)
    return Audited(now.utc, event.by, "flex", event.circuit, text)
