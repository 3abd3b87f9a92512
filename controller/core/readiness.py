"""Whether a station may be taken out of service for an upgrade, and what its EVSEs may not do while it is.

Owns the judgement over the state: idle means that no EVSE has a session, a vehicle, a start on its way or a current. A
faulted EVSE without any of these counts as idle, because an upgrade is often what mends it (runbook of F-0421).
What comes after what in a campaign is `campaign`'s.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial

from controller.core.campaign import Standing
from controller.core.commands import Audited, Command, Entry, StartCharging, StartDischarge
from controller.core.events import DischargeWished, ResumeWished, StartWished, UpgradeWished
from controller.core.model import Evse, EvseId, EvseState, Moment, StationId, family_of, number_of, station_of
from controller.core.orders import IDLE_MA, Order
from controller.core.snapshot import Snapshot
from controller.core.state import State
from controller.core.wishes import Wished

START_S = 120.0  # a start is given up by its station after this (G-08); until then it may still begin
HELD = "its firmware is being upgraded"


def apply_upgrade(state: State, event: UpgradeWished, now: Moment) -> Audited:
    """Begins a campaign, or refuses it with a reason; either way it is audited."""
    reason = state.campaigns.refusal(event)
    if reason is None:
        return state.campaigns.begin(event, now)
    subject = ", ".join(event.stations)
    order = Order(event.order, "upgrade", EvseId(subject), event.by, f"firmware {event.version}", now.mono_s)
    state.orders.refuse(order, now, reason)
    return Audited(now.utc, event.by, "firmware-campaign-refused", subject, reason)


def refused_while_held(state: State, event: Wished, now: Moment) -> Audited | None:
    """The refusal of what would begin at a station that is being upgraded; None when nothing is against it."""
    begins = isinstance(event, StartWished | ResumeWished | DischargeWished)
    if not begins or not state.campaigns.holds(station_of(event.evse)):
        return None
    kind = type(event).__name__.removesuffix("Wished").lower()
    state.orders.refuse(Order(event.order, kind, event.evse, event.by, kind, now.mono_s), now, HELD)
    return Audited(now.utc, event.by, f"{kind}-refused", event.evse, HELD)


def upgrades(state: State, entries: list[Entry], now: Moment) -> Iterable[Command]:
    """The next upgrade of a campaign, if its station is ready for it."""
    commands, told = state.campaigns.tick(partial(_standing, state, now.mono_s), state.next_command, now)
    entries += told
    return commands


def unheld(state: State, commands: Iterable[Command]) -> Iterable[Command]:
    """Without those that would begin something at a station that is being upgraded."""
    for command in commands:
        begins = isinstance(command, StartCharging | StartDischarge)
        if not (begins and state.campaigns.holds(station_of(command.evse))):
            yield command


def with_campaign(state: State, snapshot: Snapshot, now_s: float) -> Snapshot:
    campaigns = state.campaigns
    orders = (*snapshot.orders, *campaigns.orders(now_s))
    return replace(snapshot, orders=orders, campaign=campaigns.view())


def _standing(state: State, now_s: float, station: StationId) -> Standing:
    evses = sorted((e for e in state.site.evses.values() if e.station == station), key=_number)
    channel = evses[0].link.channel
    up = map(family_of, state.belief.stations[station].channels)
    connected = family_of(channel) in up
    busy = next((reason for evse in evses if (reason := _busy(state, evse, now_s)) is not None), None)
    return Standing(evses[0].id, channel, connected, busy)


def _busy(state: State, evse: Evse, now_s: float) -> str | None:
    memory, belief = state.memory[evse.id], state.belief.evses[evse.id]
    if evse.id in state.sessions.running:
        return f"{evse.id} has a session"
    ordered = memory.start_token is not None and memory.asked_s == float("-inf")
    if ordered or memory.discharge is not None or now_s - memory.asked_s < START_S:
        return f"{evse.id} may still start"
    if belief.state not in (EvseState.AVAILABLE, EvseState.FAULTED):
        return f"{evse.id} is {belief.state.value}"
    if (belief.highest_ma(now_s) or 0) > IDLE_MA:
        return f"{evse.id} draws current"
    return None


def _number(evse: Evse) -> int:
    return number_of(evse.id)
