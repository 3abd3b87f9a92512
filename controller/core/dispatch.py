"""Dispatch: grants against commitments -> limits to send. Decrease first, wait for the ack, then increase.

A decrease goes out at once. An increase goes out only into room that exists while everything else still counts at
its commitment. Leases are renewed at half-life. Nothing here knows a protocol; what a channel can do is in
`model.Link`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from controller.core.commitments import Account, Commitments
from controller.core.grid import Grid
from controller.core.model import EvseId

RETRY_S = 5.0  # after a refusal; doubles with each refusal in a row
RETRY_MAX_S = 60.0


@dataclass(frozen=True, slots=True)
class Target:
    """Where one EVSE should go. `may_rise` is False while its circuits are not seen clearly."""

    evse: EvseId
    grant_ma: int
    may_rise: bool
    urgency: tuple[int, float]  # tier, rank: who is raised first


@dataclass(frozen=True, slots=True)
class Write:
    """A limit to send now. `raises`: it adds to the commitment."""

    evse: EvseId
    limit_ma: int
    raises: bool


def dispatch(
    grid: Grid,
    commitments: Commitments,
    targets: Sequence[Target],
    room_ma: Sequence[int],
    now_s: float,
) -> list[Write]:
    """What to send now, decreases first (largest first). `room_ma`: limit minus background for raising, per resource.

    The law kept here: after every raise the sum of commitments on each resource is within its room, or the raise
    ends at or below what the station does alone.
    """
    down: list[tuple[int, Write]] = []
    up: list[Target] = []
    for target in targets:
        account = commitments.accounts[target.evse]
        heading = _heading(account, now_s)
        base = account.floor_ma() if heading is None else heading
        if target.grant_ma > base:
            if target.may_rise and not account.sent:
                up.append(target)
            elif (
                heading is not None
                and _half_gone(account, now_s)
                and _may_write(account, now_s, decrease=True)
            ):
                down.append((0, Write(target.evse, heading, False)))
        elif _may_write(account, now_s, decrease=True) and (
            heading is None or target.grant_ma < heading or _half_gone(account, now_s)
        ):
            down.append((target.grant_ma - base, Write(target.evse, target.grant_ma, False)))
    down.sort(key=lambda item: (item[0], item[1].evse))
    return [write for _, write in down] + _raises(grid, commitments, up, room_ma, now_s)


def _raises(
    grid: Grid, commitments: Commitments, up: Sequence[Target], room_ma: Sequence[int], now_s: float
) -> list[Write]:
    if not up:
        return []
    committed = committed_ma(grid, commitments, now_s)
    writes = []
    for target in sorted(up, key=lambda t: (t.urgency, t.evse)):
        account = commitments.accounts[target.evse]
        if not _may_write(account, now_s, decrease=False):
            continue
        added = max(0, target.grant_ma - account.commitment_ma(now_s))
        uses = grid.uses[target.evse]
        # what is booked now may end sooner than this limit, so it has to fit even where it adds nothing yet
        above_floor = target.grant_ma > account.floor_ma()
        if above_floor and any(committed[r] + added > room_ma[r] for r in uses):
            heading = _heading(account, now_s)
            if heading is not None and _half_gone(account, now_s):
                writes.append(Write(target.evse, heading, False))  # no room yet: keep what it has
            continue
        for r in uses:
            committed[r] += added
        writes.append(Write(target.evse, target.grant_ma, True))
    return writes


def committed_ma(grid: Grid, commitments: Commitments, now_s: float) -> list[int]:
    """Per resource the sum of all commitments."""
    return grid.sums((evse, account.commitment_ma(now_s)) for evse, account in commitments.accounts.items())


def _heading(account: Account, now_s: float) -> int | None:
    """The limit the EVSE is at or on its way to; None when no lease of ours is alive."""
    if account.sent:
        return account.sent[-1].limit_ma
    return account.accepted_now_ma(now_s)


def _half_gone(account: Account, now_s: float) -> bool:
    """Half of the lease is gone: renew it (not before the answer to the last write)."""
    left = account.lease_left_s(now_s)
    return not account.sent and left is not None and left <= account.evse.link.lease_s / 2


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
