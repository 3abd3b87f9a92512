"""What operators order: start, stop, pause, resume, limit -> the desk of an EVSE, an order to follow, an audit row."""

from __future__ import annotations

from typing import assert_never

from controller.core import discharge
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


def apply_wish(state: State, event: Wished, now: Moment) -> Audited:
    """Puts the order on the desk, or refuses it with a reason; either way it is audited."""
    kind = type(event).__name__.removesuffix("Wished").lower()
    order = Order(event.order, kind, event.evse, event.by, kind, now.mono_s)
    reason = refusal(state, event)
    if reason is not None:
        state.orders.refuse(order, now, reason)
        return Audited(now.utc, event.by, f"{kind}-refused", event.evse, reason)
    desk, memory = state.desks[event.evse], state.memory[event.evse]
    state.reordered.add(event.evse)
    match event:
        case StartWished():
            desk.paused, desk.manual, desk.stop = False, True, False
            desk.limit_ma = desk.limit_ma if event.limit_ma is None else event.limit_ma
            desk.stop_energy_wh, desk.stop_soc = event.energy_wh, event.soc
            desk.stop_after_s = event.duration_s
            if memory.discharge is not None:
                discharge.end(state, event.evse, "start ordered")
                memory.discharge.resumes, memory.discharge.token = True, event.token
            elif event.evse in state.sessions.running:
                order.limit_ma = event.limit_ma
            else:
                memory.start_token = event.token or state.own_token()
                memory.asked_s = float("-inf")
                state.belief.evses[event.evse].wished = True
        case StopWished():
            discharge.end(state, event.evse, "operator")
            desk.stop = event.evse in state.sessions.running
            memory.start_token, memory.asked_s = None, float("-inf")
            state.belief.evses[event.evse].wished = False
        case PauseWished():
            desk.paused = True
            discharge.end(state, event.evse, "paused by operator")
        case ResumeWished():
            desk.paused, desk.manual = False, True
        case LimitWished():
            desk.limit_ma = order.limit_ma = event.limit_ma
            order.text = "limit none" if event.limit_ma is None else f"limit {event.limit_ma / 1e3:g} A"
        case DischargeWished():
            floor_pct = max(discharge.FLOOR_PCT, event.min_soc or 0)
            until_s = now.mono_s + (event.duration_s or discharge.DEFAULT_S)
            session = state.sessions.running.get(event.evse)
            resumes = session is not None or state.site.evses[event.evse].autostart
            token = None if session is None else session.token
            memory.discharge = Discharge(event.power_w, floor_pct, until_s, resumes=resumes, token=token)
            order.text = f"discharge {event.power_w / 1e3:g} kW, not below {floor_pct} %"
        case _:
            assert_never(event)
    state.orders.open(order, now)
    return Audited(now.utc, event.by, kind, event.evse, order.text)


def refusal(state: State, event: Wished) -> str | None:
    if isinstance(event, LimitWished):
        return None  # holds for the next session too, and when the station comes back
    discharges = state.memory[event.evse].discharge is not None
    if isinstance(event, StopWished) and discharges:
        return None  # said as soon as the charger can hear it
    if not state.belief.connected(event.evse):
        return "the station is offline"
    if isinstance(event, DischargeWished):
        channel = discharge.channel_of(state, state.site.evses[event.evse])
        if channel is None:
            return "discharge needs the Open Platform, or OCPP 2.1 with V2X"
        if (lacks := discharge.lacks(state, state.site.evses[event.evse])) is not None:
            return lacks
        if not state.belief.reached_over(event.evse, channel):
            return f"the station is not connected over {channel}"
        if discharges:
            return "a discharge is under way; stop it first"
        flex = state.flex.cap(state.site, state.site.evses[event.evse])
        if flex is not None and flex[0] == 0:
            return f"paused: {flex[1]}"
        if state.belief.state(event.evse) in (EvseState.AVAILABLE, EvseState.FAULTED, EvseState.UNAVAILABLE):
            return f"the EVSE is {state.belief.state(event.evse).value}"
        return None
    if event.evse not in state.sessions.running and not discharges and not isinstance(event, StartWished):
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
    state.orders.open(order, now)
    return Audited(now.utc, event.by, "flex", event.circuit, text)
