"""What outlives a restart: a paused vehicle stays paused, a limit holds, flexibility goes on, a stop without a start is
still looked after.

Owns the comparison with what the ledger has, with every order and once per step, for the EVSEs whose orders somebody has
touched (`State.reordered`). Must not decide what an order means.
"""

from __future__ import annotations

from datetime import timedelta

from controller.core.commands import Entry, FlexSaved, LeasesOutlast, OrderedSaved
from controller.core.events import (
    CeilingRestored,
    ClosedRestored,
    FlexRestored,
    OrderedRestored,
    OrphanRestored,
)
from controller.core.flex import LONGEST_S, Action
from controller.core.model import FlexAction, Moment, Ordered
from controller.core.state import State

NOTHING = Ordered()


def unsaved(state: State, now: Moment) -> list[Entry]:
    """What the ledger does not have yet."""
    entries: list[Entry] = []
    for evse in sorted(state.reordered):
        ordered = state.desks[evse].ordered()
        if ordered != state.saved_orders.get(evse, NOTHING):
            state.saved_orders[evse] = ordered
            entries.append(OrderedSaved(evse, ordered))
    state.reordered.clear()
    if state.flex.actions != state.saved_flex:
        state.saved_flex = dict(state.flex.actions)
        entries.append(
            FlexSaved(
                tuple(
                    FlexAction(
                        circuit,
                        action.order,
                        action.by,
                        action.percent,
                        now.utc + timedelta(seconds=action.until_s - now.mono_s),
                    )
                    for circuit, action in state.flex.actions.items()
                )
            )
        )
    return entries


def outlasting(state: State, set_s: float, now: Moment) -> list[Entry]:
    """Our clock was set, to what `now` shows: back, leases run for as much longer; forward, no station need have heard."""
    left_s = max(0.0, -set_s)
    if state.leases_outlast is not None:
        left_s += max(0.0, (state.leases_outlast - now.utc).total_seconds() + set_s)
    if not left_s:
        return []
    state.leases_outlast = now.utc + timedelta(seconds=left_s)
    return [LeasesOutlast(state.leases_outlast)]


def restore_ceiling(state: State, event: CeilingRestored, now: Moment) -> None:
    longer_s = 0.0
    if event.outlasts is not None:
        state.leases_outlast = event.outlasts
        longer_s = max(0.0, (event.outlasts - now.utc).total_seconds())
    state.commitments.restored(event.evse, event.limit_ma, longer_s, now.mono_s)
    state.memory[event.evse].ceiling_ma = event.limit_ma


Restored = OrderedRestored | FlexRestored | ClosedRestored | OrphanRestored


def restore(state: State, event: Restored, now: Moment) -> None:
    """Flexibility that was to end meanwhile is over; a clock that cannot be trusted does not end it early."""
    if isinstance(event, OrderedRestored):
        state.desks[event.evse].take(event.ordered)
        state.saved_orders[event.evse] = event.ordered
        return
    if isinstance(event, ClosedRestored):
        state.sessions.restore_closed(event)
        return
    if isinstance(event, OrphanRestored):
        state.sessions.restore_orphan(event)
        return
    for action in event.actions:
        left_s = (action.until - now.utc).total_seconds()
        left_s = min(left_s if now.utc_trusted else max(left_s, 0.0), LONGEST_S)
        if left_s > 0 and action.circuit in state.site.circuits:
            until_s = now.mono_s + left_s
            state.flex.actions[action.circuit] = Action(action.order, action.by, action.percent, until_s)
    state.saved_flex = dict(state.flex.actions)
