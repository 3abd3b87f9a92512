"""One decision: beliefs and books -> commands, entries, picture, proof. Calls the parts in order.

1 time passes   2 the room is shared out (`share`)   3 limits to send, by commitments, and the other commands   4 alarms,
orders, picture, proof.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from controller.core import coming, discharge
from controller.core.background import Assumed, Sight
from controller.core.commands import CeilingSaved, Command, Entry, SetBattery, SetLimit
from controller.core.dispatch import Write, committed_ma, dispatch, silent
from controller.core.evidence import evidence
from controller.core.last_resort import last_resort
from controller.core.model import CircuitId, Moment, StationId
from controller.core.outlive import unsaved
from controller.core.power import carried
from controller.core.proof import Proof, proof
from controller.core.readiness import unheld, upgrades, with_campaign
from controller.core.share import share
from controller.core.snapshot import Snapshot
from controller.core.starts import starts_and_stops
from controller.core.state import State
from controller.core.storing import scene
from controller.core.supervisor import Condition, conditions, miswired, orphans, sleepers
from controller.core.view import picture

CEILING_REVIEW_S = 900.0  # ceilings in the ledger are lowered this often, all in one commit


@dataclass(frozen=True, slots=True)
class Decision:
    commands: tuple[Command, ...]
    entries: tuple[Entry, ...]
    snapshot: Snapshot
    proof: Proof
    set_points: tuple[SetBattery, ...] = ()


def decide(state: State, now: Moment) -> Decision:
    """Lower what must come down, raise what has room, renew what runs out."""
    now_s = now.mono_s
    entries = _pass_time(state, now)
    shared = share(state, now)
    booked = state.switching.booked(shared.learnt, state.commitments, now_s)
    writes = dispatch(state.grid, state.commitments, shared.targets, shared.raise_ma, now_s, booked)
    entries += last_resort(state, shared.assumed, now)
    commands: list[Command] = [
        *upgrades(state, entries, now),
        *unheld(state, starts_and_stops(state, now_s)),
        *_limits(state, writes, entries, now_s),
        *state.lists.due(state.tokens, _reached(state), state.next_command, now_s),
        *state.stored.due(state.schedules, state.next_command),
        *_plans_to_keep(state, now),
    ]
    set_points = state.batteries.due(partial(scene, state, shared.assumed, now), state.next_command, now)
    booked = state.switching.booked(shared.learnt, state.commitments, now_s)
    committed = committed_ma(state.grid, state.commitments, now_s, booked)
    _heat(state, shared.assumed, committed, now_s)
    entries += state.alarms.update(_conditions(state, shared.sights, committed, now), now)
    entries += _review_ceilings(state, now_s)
    entries += state.orders.tick(evidence(state, now_s), now)
    entries += unsaved(state, now)
    entries += state.inputs.tick(partial(carried, state, now=now), now)
    shown = with_campaign(state, picture(state, shared.assumed, shared.sights, committed, now), now_s)
    served = frozenset(target.evse for target in shared.targets)
    why = proof(
        state,
        now,
        shared.assumed,
        shared.rooms,
        shared.demands,
        shared.before_ma,
        served,
        commands,
        committed,
    )
    return Decision(tuple(commands), tuple(entries), shown, why, tuple(set_points))


def _pass_time(state: State, now: Moment) -> list[Entry]:
    """What ends by itself."""
    now_s = now.mono_s
    entries = _close_overdue(state, now)
    entries += [] if state.peak is None else state.peak.tick(now)
    for command in silent(state.commitments.accounts, now_s):
        state.commitments.lost(command, now_s)
        state.heard.append(("lost", command, now_s))
    state.commitments.expire(now_s)
    state.flex.expire(now_s)
    discharge.review(state, now)
    coming.refresh(state, now)
    return entries


def _heat(state: State, assumed: Mapping[CircuitId, Assumed], committed: Sequence[int], now_s: float) -> None:
    """The breakers go on warming while their meter is silent: with the worst that may flow."""
    for circuit, load in assumed.items():
        ours_ma = state.grid.per_phase(list(committed), circuit)
        worst_ma = [ours + max(0, other) for ours, other in zip(ours_ma, load.lower_ma, strict=True)]
        state.belief.unmeasured(circuit, worst_ma, now_s)


def _conditions(
    state: State, sights: Mapping[CircuitId, Sight], committed: Sequence[int], now: Moment
) -> Iterator[Condition]:
    """Everything abnormal that holds now."""
    running = state.sessions.running
    yield from conditions(
        state.site, state.grid, state.belief, state.commitments, running, sights, committed, now
    )
    yield from orphans(state.sessions, now)
    yield from sleepers(state.tempo, now.mono_s)
    yield from state.campaigns.conditions()
    yield from state.inputs.conditions(now)
    yield from state.batteries.conditions()
    yield from state.switching.conditions()
    yield from state.foreseen
    yield from miswired(state.detective)


def _plans_to_keep(state: State, now: Moment) -> list[Command]:
    """Only a station that keeps its fallback follows a plan: else there is nothing for it to end in."""
    accounts, plan = state.commitments.accounts, state.plan
    wanted = (
        {}
        if plan is None
        else {
            evse: standby
            for evse, standby in plan.standbys.items()
            if evse in accounts and accounts[evse].fallback_ma == accounts[evse].evse.fallback_ma
        }
    )
    proofs = [evse for evse, memory in state.memory.items() if now.mono_s < memory.held_until_s]
    running, connected = state.sessions.running, state.belief.connected
    return state.standbys.due(wanted, running, proofs, connected, state.next_command, now)


def _reached(state: State) -> set[StationId]:
    return {evse.station for evse in state.site.evses.values() if state.belief.connected(evse.id)}


def _close_overdue(state: State, now: Moment) -> list[Entry]:
    before = set(state.sessions.running)
    saved = state.sessions.tick(now)
    for evse in before - set(state.sessions.running):
        state.session_over(evse, now.mono_s)
    return list(saved)


def part(state: State, now: Moment) -> list[Command]:
    """Before we leave: who is allowed more than it does alone is told its fallback, not left to the end of its lease."""
    now_s = now.mono_s
    writes = [
        Write(account.evse.id, account.evse.fallback_ma, False)
        for account in state.commitments.accounts.values()
        if account.evse.id in state.sessions.running  # else there is nothing that would take a limit
        and any(limit_ma > account.evse.fallback_ma for limit_ma, _ in account.live(now_s))
    ]
    return _limits(state, writes, [], now_s)


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
        state.commitments.sent(write.evse, name, write.limit_ma, now_s, write.phases)
        state.orders.issued(write.evse, name, ("pause", "resume", "limit"))
        link = evse.link
        commands.append(
            SetLimit(
                name, evse.id, link.channel, write.limit_ma, link.lease_s, transaction, raises, write.phases
            )
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
