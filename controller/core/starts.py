"""Starts, stops and discharges: what the desk and the plug ask for, as commands. Sent once, or again after a while."""

from __future__ import annotations

from controller.core import discharge
from controller.core.commands import Command, StartCharging, StopCharging
from controller.core.model import Evse, EvseState
from controller.core.session import Session
from controller.core.state import State

START_RETRY_S = 60.0
STOP_RETRY_S = 20.0


def starts_and_stops(state: State, now_s: float) -> list[Command]:
    commands: list[Command] = []
    for evse in state.site.evses.values():
        connected = state.belief.connected(evse.id)
        if not connected and evse.companion is None:
            continue
        session = state.sessions.running.get(evse.id)
        command = discharge.command_for(state, evse, now_s)
        if command is None and connected and session is not None:
            command = _stop(state, evse, session, now_s)
        elif command is None and connected and not discharge.in_hand(state, evse.id, now_s):
            command = _start(state, evse, now_s)
        if command is not None:
            state.memory[evse.id].asked_s = now_s
            commands.append(command)
    return commands


def _stop(state: State, evse: Evse, session: Session, now_s: float) -> Command | None:
    reason = state.memory[evse.id].stop_why or state.desks[evse.id].finished(session, now_s)
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
