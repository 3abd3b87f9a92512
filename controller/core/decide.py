"""One decision: beliefs and books -> commands, entries, picture. Calls the parts in order.

1 view the meters (process image)   2 demands   3 grants: twice, against the room for lowering and the room for
raising   4 limits to send, by commitments   5 alarms, orders, picture.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import chain

from controller.core import discharge
from controller.core.allocator import Demand, Grant, allocate
from controller.core.background import Assumed, Sight
from controller.core.bounds import bounded, bounds
from controller.core.commands import (
    CeilingSaved,
    Command,
    Entry,
    SetLimit,
)
from controller.core.demand import NO_WISH, demand_of
from controller.core.dispatch import Target, Write, committed_ma, dispatch, silent
from controller.core.evidence import evidence
from controller.core.model import CircuitId, Moment, StationId
from controller.core.outlive import unsaved
from controller.core.readiness import HELD, unheld, upgrades, with_campaign
from controller.core.snapshot import Snapshot
from controller.core.starts import starts_and_stops
from controller.core.state import State
from controller.core.supervisor import conditions, orphans
from controller.core.view import picture

CEILING_REVIEW_S = 900.0  # ceilings in the ledger are lowered this often, all in one commit
METER_MARGIN_PCT = 2  # meter class and ripple: this much of a metered circuit stays free


@dataclass(frozen=True, slots=True)
class Decision:
    commands: tuple[Command, ...]
    entries: tuple[Entry, ...]
    snapshot: Snapshot


def decide(state: State, now: Moment) -> Decision:
    """Lower what must come down, raise what has room, renew what runs out."""
    now_s = now.mono_s
    entries = _close_overdue(state, now)
    for command in silent(state.commitments.accounts, now_s):
        state.commitments.lost(command, now_s)
    state.commitments.expire(now_s)
    state.flex.expire(now_s)
    discharge.review(state, now)
    assumed = {circuit: track.assumed(now_s) for circuit, track in state.belief.backgrounds.items()}
    sights = _sights(state, assumed)
    lower_ma, raise_ma = _rooms(state, assumed)
    names = bounded(state.grid, bounds(state, assumed, now), lower_ma, raise_ma)
    demands, away_ma = _demands(state, sights, now_s)
    ceiling = allocate(
        state.grid, demands, [room - away for room, away in zip(lower_ma, away_ma, strict=True)], names
    )
    target = ceiling
    may_rise = any(ceiling[demand.evse].current_ma > state.memory[demand.evse].grant_ma for demand in demands)
    if raise_ma != lower_ma and may_rise:
        high = [room - away for room, away in zip(raise_ma, away_ma, strict=True)]
        target = allocate(state.grid, demands, high, names)
    targets = [
        _target(state, demand, target[demand.evse], ceiling[demand.evse], sights)
        for demand in demands
        if _is_served(state, demand, now_s)
    ]
    writes = dispatch(state.grid, state.commitments, targets, raise_ma, now_s)
    commands: list[Command] = [
        *upgrades(state, entries, now),
        *unheld(state, starts_and_stops(state, now_s)),
        *_limits(state, writes, entries, now_s),
        *state.lists.due(state.tokens, _reached(state), state.next_command, now_s),
        *state.stored.due(state.schedules, state.next_command),
    ]
    committed = committed_ma(state.grid, state.commitments, now_s)
    found = conditions(
        state.site,
        state.grid,
        state.belief,
        state.commitments,
        state.sessions.running,
        sights,
        committed,
        now,
    )
    entries += state.alarms.update(
        chain(found, orphans(state.sessions, now), state.campaigns.conditions()), now
    )
    entries += _review_ceilings(state, now_s)
    entries += state.orders.tick(evidence(state, now_s), now)
    entries += unsaved(state, now)
    shown = with_campaign(state, picture(state, assumed, sights, committed, now), now_s)
    return Decision(tuple(commands), tuple(entries), shown)


def _reached(state: State) -> set[StationId]:
    return {evse.station for evse in state.site.evses.values() if state.belief.connected(evse.id)}


def _close_overdue(state: State, now: Moment) -> list[Entry]:
    before = set(state.sessions.running)
    saved = state.sessions.tick(now)
    for evse in before - set(state.sessions.running):
        state.session_over(evse, now.mono_s)
    return list(saved)


def _sights(state: State, assumed: Mapping[CircuitId, Assumed]) -> dict[CircuitId, Sight]:
    """The worst sight on the way to the root, per circuit."""
    return {
        circuit: max(
            (assumed[node.id].sight for node in state.site.path(circuit) if node.id in assumed),
            default=Sight.CLEAR,
        )
        for circuit in state.site.circuits
    }


def _rooms(state: State, assumed: Mapping[CircuitId, Assumed]) -> tuple[list[int], list[int]]:
    """Limit minus background per resource: for lowering, and for raising. Back-feed is no room."""
    lower, raising = [], []
    for (circuit, phase), limit in zip(state.grid.resources, state.grid.limits_ma, strict=True):
        load = assumed.get(circuit)
        if load is None:
            fixed = state.site.circuits[circuit].assumed_load_ma
            lower.append(limit - (0 if fixed is None else fixed[phase]))
            raising.append(lower[-1])
        else:
            usable = limit - limit * METER_MARGIN_PCT // 100
            lower.append(usable - max(0, load.lower_ma[phase]))
            raising.append(usable - max(0, load.raise_ma[phase]))
    return lower, raising


def _demands(state: State, sights: Mapping[CircuitId, Sight], now_s: float) -> tuple[list[Demand], list[int]]:
    """Demands of the EVSEs within reach, and per resource what the others may draw."""
    demands, away = [], []
    for evse in state.site.evses.values():
        account = state.commitments.accounts[evse.id]
        if not state.belief.connected(evse.id):
            away.append((evse.id, account.commitment_ma(now_s)))
            state.memory[evse.id].grant_ma = 0
            state.memory[evse.id].bound_by = "offline"
            continue
        demands.append(
            demand_of(
                state.site,
                account,
                state.sessions.running.get(evse.id),
                state.belief.state(evse.id),
                state.desks[evse.id],
                state.plan.wishes.get(evse.id, NO_WISH) if state.plan is not None else NO_WISH,
                state.memory[evse.id].grant_ma,
                sights[evse.circuit] is Sight.BLIND,
                state.flex.cap(state.site, evse) if state.flex.actions else None,
                now_s,
            )
        )
        if discharge.in_hand(state, evse.id, now_s):
            demands[-1] = replace(demands[-1], cap_ma=0, cap_why="discharging")
    return demands, state.grid.sums(away)


def _is_served(state: State, demand: Demand, now_s: float) -> bool:
    """Only a running transaction that charges takes limits; else, or in an upgrade, the stored fallback rules."""
    memory, held = state.memory[demand.evse], state.campaigns.holds(state.site.evses[demand.evse].station)
    discharges = discharge.in_hand(state, demand.evse, now_s) and not discharge.ends_by_limit(
        state, demand.evse
    )
    proof = now_s < memory.held_until_s
    if demand.evse in state.sessions.running and not held and not discharges and not proof:
        return True
    memory.grant_ma, memory.bound_by = 0, HELD if held else demand.cap_why
    return False


def _target(
    state: State, demand: Demand, low: Grant, high: Grant, sights: Mapping[CircuitId, Sight]
) -> Target:
    """Lower to what the newest load allows (`high`), rise only to what the last half minute allows (`low`)."""
    memory = state.memory[demand.evse]
    before_ma = memory.grant_ma
    memory.grant_ma = min(max(before_ma, low.current_ma), high.current_ma)
    memory.bound_by = (high if memory.grant_ma == high.current_ma else low).bound_by
    sight = sights[state.site.evses[demand.evse].circuit]
    # blind, an EVSE may still be set to its fallback: that adds nothing to what it does alone
    return Target(
        demand.evse, memory.grant_ma, sight in (Sight.CLEAR, Sight.BLIND), (demand.tier, demand.rank)
    )


def _limits(state: State, writes: list[Write], entries: list[Entry], now_s: float) -> list[Command]:
    commands: list[Command] = []
    for write in writes:
        evse, memory = state.site.evses[write.evse], state.memory[write.evse]
        raises = write.limit_ma > memory.ceiling_ma
        if raises:
            memory.ceiling_ma = write.limit_ma
            entries.append(CeilingSaved(write.evse, write.limit_ma))
        name = state.next_command()
        transaction = state.sessions.running[write.evse].transaction
        state.commitments.sent(write.evse, name, write.limit_ma, now_s)
        state.orders.issued(write.evse, name, ("pause", "resume", "limit"))
        link = evse.link
        commands.append(
            SetLimit(name, evse.id, link.channel, write.limit_ma, link.lease_s, transaction, raises)
        )
    return commands


def _review_ceilings(state: State, now_s: float) -> list[Entry]:
    """Lower the remembered ceilings to what is committed now, rarely and together (flash wears)."""
    if state.reviewed_s is None:
        state.reviewed_s = now_s
    if now_s - state.reviewed_s < CEILING_REVIEW_S:
        return []
    state.reviewed_s = now_s
    saved: list[Entry] = []
    for evse, memory in state.memory.items():
        commitment_ma = state.commitments.accounts[evse].commitment_ma(now_s)
        if commitment_ma < memory.ceiling_ma:
            memory.ceiling_ma = commitment_ma
            saved.append(CeilingSaved(evse, commitment_ma))
    return saved
