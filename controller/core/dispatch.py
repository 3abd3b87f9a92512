"""Dispatch: grants against commitments -> limits to send. Decrease first, wait for the ack, then increase.

A decrease goes out at once. An increase goes out only into room that exists while everything else still counts at
its commitment. Leases are renewed at half-life. Nothing here knows a protocol; what a channel can do is in
`model.Link`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from controller.core.commitments import Account, Commitments
from controller.core.grid import Grid
from controller.core.model import EvseId

RETRY_S = 5.0  # after a refusal; doubles with each refusal in a row
RETRY_MAX_S = 60.0
ALL: Mapping[EvseId, tuple[int, ...]] = {}  # every EVSE loads all it is wired to


class Target(NamedTuple):
    """Where one EVSE should go. `may_rise` is False while its circuits are not seen clearly. phases: 1 = on its first
    conductor alone, None = as wired; `uses`: the resources that this loads, where they are fewer."""

    evse: EvseId
    grant_ma: int
    may_rise: bool
    urgency: tuple[int, float]  # tier, rank: who is raised first
    phases: int | None = None
    uses: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Write:
    """A limit to send now. `raises`: it adds to the commitment. Only a raise changes the phases."""

    evse: EvseId
    limit_ma: int
    raises: bool
    phases: int | None = None


def dispatch(
    grid: Grid,
    commitments: Commitments,
    targets: Sequence[Target],
    room_ma: Sequence[int],
    now_s: float,
    fewer: Mapping[EvseId, tuple[int, ...]] = ALL,
) -> list[Write]:
    """What to send now, decreases first (largest first). `room_ma`: limit minus background for raising, per resource.
    `fewer`: the resources of EVSEs whose vehicle loads fewer than it is wired to (`Usage`).

    The law kept here: after every raise the sum of commitments on each resource is within its room, or the raise
    ends at or below what the station does alone. Nobody rises on one phase while a limit for all is alive, or the reverse.
    """
    down: list[tuple[int, Write]] = []
    up: list[Target] = []
    for target in targets:
        account = commitments.accounts[target.evse]
        heading = _heading(account, now_s)
        base = account.heard_floor_ma() if heading is None else heading
        if target.grant_ma > base:
            stay = _stay(account, heading, now_s)
            if target.may_rise and not account.sent:
                up.append(target)
            elif stay is not None and _may_write(account, now_s, decrease=True):
                down.append((0, Write(target.evse, stay, False, _phases(account, now_s))))
        elif _may_write(account, now_s, decrease=True) and (
            heading is None or target.grant_ma < heading or _half_gone(account, now_s)
        ):
            phases = target.phases if heading is None else _phases(account, now_s)
            down.append((target.grant_ma - base, Write(target.evse, target.grant_ma, False, phases)))
    down.sort(key=lambda item: (item[0], item[1].evse))
    return [write for _, write in down] + _raises(grid, commitments, up, room_ma, now_s, fewer)


def _raises(
    grid: Grid,
    commitments: Commitments,
    up: Sequence[Target],
    room_ma: Sequence[int],
    now_s: float,
    fewer: Mapping[EvseId, tuple[int, ...]],
) -> list[Write]:
    if not up:
        return []
    committed = committed_ma(grid, commitments, now_s, fewer)
    writes = []
    for target in sorted(up, key=lambda t: (t.urgency, t.evse)):
        account = commitments.accounts[target.evse]
        if not _may_write(account, now_s, decrease=False):
            continue
        added = max(0, target.grant_ma - account.commitment_ma(now_s))
        uses = target.uses or fewer.get(target.evse) or grid.uses[target.evse]
        # what is booked now may end sooner than this limit, so it has to fit even where it adds nothing yet
        above_floor = target.grant_ma > account.heard_floor_ma()
        if _mixes(account, target, now_s) or (
            above_floor and any(committed[r] + added > room_ma[r] for r in uses)
        ):
            stay = _stay(account, _heading(account, now_s), now_s)
            if stay is not None:
                writes.append(Write(target.evse, stay, False, _phases(account, now_s)))  # no room yet
            continue
        for r in uses:
            committed[r] += added
        writes.append(Write(target.evse, target.grant_ma, True, target.phases))
    return writes


def committed_ma(
    grid: Grid, commitments: Commitments, now_s: float, fewer: Mapping[EvseId, tuple[int, ...]] = ALL
) -> list[int]:
    """Per resource the sum of all commitments. What a station does alone counts on every phase it is wired to, what lies
    above that on those in use."""
    total = grid.sums((evse, account.commitment_ma(now_s)) for evse, account in commitments.accounts.items())
    for evse, uses in fewer.items():
        account = commitments.accounts[evse]
        above_ma = account.commitment_ma(now_s) - account.floor_ma()
        for r in grid.uses[evse]:
            if r not in uses:
                total[r] -= above_ma
    return total


def _heading(account: Account, now_s: float) -> int | None:
    """The limit the EVSE is at or on its way to; None when no lease of ours is alive."""
    if account.sent:
        return account.sent[-1].limit_ma
    return account.accepted_now_ma(now_s)


def _mixes(account: Account, target: Target, now_s: float) -> bool:
    """A limit for other phases than it should rise on may still be in force."""
    if not account.evse.phase_switching:
        return False
    if target.phases and account.overdrawn_ma(now_s) > account.floor_ma():
        return True
    return any(limit_ma and phases != target.phases for limit_ma, phases in account.live(now_s))


def _phases(account: Account, now_s: float) -> int | None:
    """On how many phases it is told to charge now."""
    if account.sent:
        return account.sent[-1].phases
    return None if account.accepted_now_ma(now_s) is None else account.accepted_phases


def _stay(account: Account, heading: int | None, now_s: float) -> int | None:
    """What to send where nothing may rise: the limit it has, when that runs out; else, to a station that must not be
    relied on before it has answered, or of which a lease is counted for hours, what it does alone. None: nothing."""
    if heading is None:
        doubtful = account.floor_ma() > account.heard_floor_ma() or account.is_outlasted(now_s)
        return account.heard_floor_ma() if doubtful and not account.sent else None
    return heading if _half_gone(account, now_s) else None


def _half_gone(account: Account, now_s: float) -> bool:
    """Half of the lease is gone, or its end is a time of day that was set: renew it (not before the answer to the last
    write)."""
    left = account.lease_left_s(now_s)
    due = left is not None and (account.outdated or left <= account.evse.link.lease_s / 2)
    return not account.sent and due


def _may_write(account: Account, now_s: float, *, decrease: bool) -> bool:
    if account.refusals:
        pause_s = min(RETRY_MAX_S, RETRY_S * 2 ** (account.refusals - 1))
        if now_s < account.refused_s + pause_s:
            return False
    return decrease or now_s >= account.wrote_s + account.evse.link.raise_gap_s


def silent(accounts: Mapping[EvseId, Account], now_s: float) -> list[str]:
    """Commands whose driver owes an answer for too long: to be counted as lost."""
    return [
        sent.command
        for account in accounts.values()
        for sent in account.sent
        if now_s > sent.sent_s + 2 * account.evse.link.answer_s
    ]
