"""Facts about our own commands: what became of each, told to everybody who waits for one."""

from __future__ import annotations

from typing import assert_never

from controller.core import discharge
from controller.core import events as ev
from controller.core.applied import NOTHING, URGENT, Applied
from controller.core.model import Moment
from controller.core.state import State


def answered(
    state: State,
    event: ev.CommandSent | ev.CommandAccepted | ev.CommandRefused | ev.CommandLost | ev.CommandReplaced,
    now: Moment,
) -> Applied:
    commitments, orders, lists = state.commitments, state.orders, state.lists
    match event:
        case ev.CommandSent():
            orders.sent(event.command, now)
            return NOTHING
        case ev.CommandAccepted():
            state.heard.append(("accepted", event.command, now.mono_s))
            commitments.accepted(event.command, now.mono_s)
            orders.accepted(event.command, now)
            state.campaigns.accepted(event.command, now)
            lists.accepted(event.command)
            state.stored.accepted(event.command)
            state.standbys.accepted(event.command)
            state.batteries.accepted(event.command)
            discharge.accepted(state, event.command)
        case ev.CommandRefused():
            state.heard.append(("refused", event.command, now.mono_s))
            state.switching.refused(commitments, event.command)
            commitments.refused(event.command, now.mono_s)
            state.batteries.refused(event.command, now.mono_s)
            orders.refused(event.command, event.reason, now)
            lists.refused(event.command)
            state.stored.failed(event.command, event.reason)
            state.standbys.refused(event.command, event.reason, now.mono_s)
            discharge.refused(state, event.command, now.mono_s)
            told = state.campaigns.refused(event.command, event.reason, now)
            return Applied(tuple(told), urgent=True)
        case ev.CommandLost():
            state.heard.append(("lost", event.command, now.mono_s))
            commitments.lost(event.command, now.mono_s)
            state.batteries.lost(event.command, now.mono_s)
            orders.lost(event.command, event.reason, now)
            lists.lost(event.command)
            state.stored.failed(event.command, f"no answer: {event.reason}")
            state.standbys.lost(event.command, event.reason)
        case ev.CommandReplaced():
            state.heard.append(("replaced", event.command, now.mono_s))
            commitments.replaced(event.command)
            state.batteries.replaced(event.command)
            lists.lost(event.command)
            state.stored.failed(event.command, "replaced")
            state.standbys.lost(event.command, "replaced")
            discharge.refused(state, event.command, now.mono_s)
            told = state.campaigns.refused(event.command, "the order never left the box", now)
            return Applied(tuple(told), urgent=True)
        case _:
            assert_never(event)
    return URGENT
