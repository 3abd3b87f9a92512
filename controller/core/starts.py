"""Starts, stops and discharges: what the desk and the plug ask for, as commands. Sent once, or again after a while."""

from __future__ import annotations

from dataclasses import replace

from controller.core.commands import Command, StartCharging, StartDischarge, StopCharging
from controller.core.model import Evse, EvseState
from controller.core.sessions import Session
from controller.core.state import State

START_RETRY_S = 60.0
STOP_RETRY_S = 20.0


def starts_and_stops(state: State, now_s: float) -> list[Command]:
    commands: list[Command] = []
    for evse in state.site.evses.values():
        if not state.belief.connected(evse.id):
            continue
        session = state.sessions.running.get(evse.id)
        command = _discharge(state, evse, session, now_s)
        if command is None:
            command = _start(state, evse, now_s) if session is None else _stop(state, evse, session, now_s)
        if command is not None:
            state.memory[evse.id].asked_s = now_s
            commands.append(command)
    return commands


def _stop(state: State, evse: Evse, session: Session, now_s: float) -> Command | None:
    reason = state.desks[evse.id].finished(session, now_s)
    if reason is None or now_s < state.memory[evse.id].asked_s + STOP_RETRY_S:
        return None
    name = state.next_command()
    state.orders.issued(evse.id, name, ("stop",))
    return StopCharging(name, evse.id, evse.link.channel, session.transaction, reason)


def _start(state: State, evse: Evse, now_s: float) -> Command | None:
    """A start that was ordered is sent once; on an autostart EVSE a plugged vehicle is asked
    again until its session begins."""
    memory = state.memory[evse.id]
    ordered = memory.start_token is not None and memory.asked_s == float("-inf")
    plugged = evse.autostart and not memory.had_session and state.belief.state(evse.id) is EvseState.PREPARING
    if not ordered and not (plugged and now_s > memory.asked_s + START_RETRY_S):
        return None
    name = state.next_command()
    state.orders.issued(evse.id, name, ("start",))
    fallback_ma = state.commitments.accounts[evse.id].fallback_ma or 0
    return StartCharging(name, evse.id, evse.link.channel, memory.start_token, fallback_ma)


def _discharge(state: State, evse: Evse, session: Session | None, now_s: float) -> Command | None:
    """Sends an ordered discharge once; ends it by a stop when its time is up or the vehicle reached its floor."""
    memory = state.memory[evse.id]
    order = memory.discharge
    if order is None:
        return None
    drained = session is not None and session.soc is not None and session.soc <= order.min_soc
    if now_s >= order.until_s or drained:
        memory.discharge = None
        if order.command is None or session is None:
            return None
        return StopCharging(
            state.next_command(), evse.id, evse.link.channel, session.transaction, "discharge over"
        )
    if order.command is not None:
        return None
    name = state.next_command()
    memory.discharge = replace(order, command=name)
    state.orders.issued(evse.id, name, ("discharge",))
    return StartDischarge(
        name, evse.id, evse.link.channel, order.power_w, order.until_s - now_s, order.min_soc
    )
