"""Sharing out the room there is: what each EVSE is granted now. The middle of one decision (`decide`).

1 room per circuit and phase: limit minus the load that is not ours, narrowed by bounds   2 demands, as they should be asked
in time   3 grants, twice: against the room for lowering, and for raising   4 where each EVSE should go.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from controller.core import discharge
from controller.core.allocator import Demand, Grant, allocate
from controller.core.background import Assumed, Sight
from controller.core.balance import imbalance
from controller.core.bounds import bounded, bounds
from controller.core.demand import BY_OPERATOR, NO_WISH, demand_of
from controller.core.dispatch import Target
from controller.core.flex import BY as FLEX_BY
from controller.core.model import CircuitId, EvseId, Moment
from controller.core.proof import Rooms
from controller.core.readiness import HELD
from controller.core.recognition import phases_of
from controller.core.sharing import left_over, on_surplus
from controller.core.state import State
from controller.core.storing import reserved
from controller.core.switching import SWITCHES

METER_MARGIN_PCT = 2  # meter class and ripple: this much of a metered circuit stays free


@dataclass(frozen=True, slots=True)
class Share:
    """assumed: the load that is not ours, of metered circuits. sights: how well each circuit is seen. raise_ma: the room for
    raising per resource, with bounds. learnt: which resources vehicles load that use fewer phases than there are.
    before_ma: what the EVSEs within reach had."""

    assumed: Mapping[CircuitId, Assumed]
    sights: Mapping[CircuitId, Sight]
    rooms: Rooms
    raise_ma: Sequence[int]
    learnt: Mapping[EvseId, tuple[int, ...]]
    demands: Sequence[Demand]
    before_ma: Mapping[EvseId, int]
    targets: Sequence[Target]


def share(state: State, now: Moment) -> Share:
    """Changes nothing that was sent or promised; keeps the grants in the memory of each EVSE."""
    now_s = now.mono_s
    assumed = {circuit: track.assumed(now_s) for circuit, track in state.belief.backgrounds.items()}
    sights = _sights(state, assumed)
    lower_ma, raise_ma = _rooms(state, assumed)
    copper = (tuple(lower_ma), tuple(raise_ma))
    found = (*bounds(state, assumed, now), *reserved(state, assumed, *copper, now))
    names = bounded(state.grid, found, lower_ma, raise_ma)
    learnt = state.usage.fewer(state.sessions.running, now_s)
    fewer = state.switching.asked(learnt)
    one_phase = state.switching.one_phase()
    wanted, away = _demands(state, sights, fewer, now_s)
    away_ma = state.grid.sums(away)
    low = [room - gone for room, gone in zip(lower_ma, away_ma, strict=True)]
    high = [room - gone for room, gone in zip(raise_ma, away_ma, strict=True)]
    lower_quotas, raise_quotas = imbalance(state, assumed, fewer, away, now_s)

    def trial(asked: Sequence[Demand]) -> dict[EvseId, Grant]:
        return allocate(state.grid, asked, high, names, raise_quotas)

    def trial_on(asked: Sequence[Demand], uses: Mapping[EvseId, tuple[int, ...]]) -> dict[EvseId, Grant]:
        quotas = imbalance(state, assumed, uses, away, now_s)[1]
        return allocate(state.grid, asked, high, names, quotas)

    asked = state.switching.paced(wanted, state.commitments, state.sessions.running, now_s)
    surplus = on_surplus(state, asked, now)
    demands = state.tempo.paced(surplus, state.belief, state.commitments, trial, now_s)
    before_ma = {demand.evse: state.memory[demand.evse].grant_ma for demand in demands}
    ceiling = target = allocate(state.grid, demands, low, names, lower_quotas)
    may_rise = any(ceiling[demand.evse].current_ma > before_ma[demand.evse] for demand in demands)
    if (raise_ma, raise_quotas) != (lower_ma, lower_quotas) and may_rise:
        target = trial(demands)
    if state.switching:
        spare = left_over(state, asked)
        state.switching.look(asked, demands, target, trial_on, learnt, spare, now_s)
    targets = [
        _target(state, demand, target[demand.evse], ceiling[demand.evse], sights, now_s)
        for demand in demands
        if _is_served(state, demand, now_s)
    ]
    rooms = Rooms(*copper, tuple(away_ma), found, lower_quotas, raise_quotas, learnt, one_phase)
    return Share(assumed, sights, rooms, raise_ma, learnt, demands, before_ma, targets)


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


def _demands(
    state: State, sights: Mapping[CircuitId, Sight], fewer: Mapping[EvseId, tuple[int, ...]], now_s: float
) -> tuple[list[Demand], list[tuple[EvseId, int]]]:
    """Demands of the EVSEs within reach, and what the others may draw. `fewer`: where not all phases are used."""
    demands, away = [], []
    for evse in state.site.evses.values():
        account = state.commitments.accounts[evse.id]
        if not state.belief.connected(evse.id):
            away.append((evse.id, account.commitment_ma(now_s)))
            state.memory[evse.id].grant_ma = 0
            state.memory[evse.id].bound_by = "offline"
            continue
        session = state.sessions.running.get(evse.id)
        demands.append(
            demand_of(
                state.site,
                account,
                session,
                state.belief.state(evse.id) if state.belief.evses[evse.id].told else None,
                state.desks[evse.id],
                state.tempo.wish(evse, state.plan, now_s) if state.plan is not None else NO_WISH,
                state.memory[evse.id].grant_ma,
                sights[evse.circuit] is Sight.BLIND,
                state.flex.cap(state.site, evse) if state.flex.actions else None,
                now_s,
                state.tempo.paces[evse.id],
                None if session is None else phases_of(state, session),
            )
        )
        if discharge.in_hand(state, evse.id, now_s):
            demands[-1] = demands[-1]._replace(cap_ma=0, cap_why="discharging")
        if evse.id in fewer:
            demands[-1] = demands[-1]._replace(uses=fewer[evse.id])
    return demands, away


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
    state: State, demand: Demand, low: Grant, high: Grant, sights: Mapping[CircuitId, Sight], now_s: float
) -> Target:
    """Lower to what the newest load allows (`high`), rise only to what the last half minute allows (`low`)."""
    memory = state.memory[demand.evse]
    before_ma = memory.grant_ma
    memory.grant_ma = min(max(before_ma, low.current_ma), high.current_ma)
    by_hand = memory.grant_ma == 0 and (state.desks[demand.evse].paused or _is_ordered(demand.cap_why))
    state.tempo.noted(demand, memory.grant_ma, by_hand, now_s)
    memory.bound_by = (high if memory.grant_ma == high.current_ma else low).bound_by
    sight = sights[state.site.evses[demand.evse].circuit]
    # blind, an EVSE may still be set to its fallback: that adds nothing to what it does alone
    return Target(
        demand.evse,
        memory.grant_ma,
        sight in (Sight.CLEAR, Sight.BLIND),
        (demand.tier, demand.rank),
        state.switching.phases(demand.evse),
        demand.uses,
    )


def _is_ordered(cap_why: str) -> bool:
    """By a person, or by what a vehicle does for the house: not for want of room."""
    return cap_why in ("discharging", BY_OPERATOR, SWITCHES) or cap_why.startswith(FLEX_BY)
