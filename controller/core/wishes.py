"""What operators order: start, stop, pause, resume, limit -> the desk of an EVSE, an order to follow, an audit row."""

from __future__ import annotations

from typing import assert_never

from controller.core.commands import Audited
from controller.core.events import LimitWished, PauseWished, ResumeWished, StartWished, StopWished
from controller.core.model import Moment
from controller.core.orders import Order
from controller.core.state import State

Wished = StartWished | StopWished | PauseWished | ResumeWished | LimitWished


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
            desk.stop, memory.start_token, memory.asked_s = True, None, float("-inf")
        case PauseWished():
            desk.paused = True
        case ResumeWished():
            desk.paused, desk.manual = False, True
        case LimitWished():
            desk.limit_ma = order.limit_ma = event.limit_ma
            order.text = "limit none" if event.limit_ma is None else f"limit {event.limit_ma / 1e3:g} A"
        case _:
            assert_never(event)
    state.orders.open(order, now)
    return Audited(now.utc, event.by, kind, event.evse, order.text)


def _refusal(state: State, event: Wished) -> str | None:
    if isinstance(event, LimitWished):
        return None  # holds for the next session too, and when the station comes back
    if not state.belief.connected(event.evse):
        return "the station is offline"
    if event.evse not in state.sessions.running and not isinstance(event, StartWished):
        return "no session is running"
    return None
