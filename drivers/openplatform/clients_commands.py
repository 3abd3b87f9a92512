"""What became of the commands of local clients, long after the snapshot has forgotten their orders.

Owns one row per command, found by its id and by the client's own transaction id. A command is an order of the core: its
id is the order's id. Progress follows the order's stages and, for a start or discharge, the session after it: `accepted`
while energy flows, `completed` when it is over (G-10). At most `keep` commands are remembered, the oldest go first.
Must not send anything. Source: Open Platform REFERENCE section 8, GAPS G-09, G-10.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from controller.core.model import EvseId, EvseState, Moment
from controller.core.snapshot import EvseView, OrderView, Snapshot
from drivers.openplatform.answers import UNKNOWN, ApiError, stamp

Kind = Literal["start", "stop", "discharge", "flexibility"]
_LASTING = ("start", "discharge")  # these are over when the energy is


@dataclass(slots=True)
class _Command:
    id: str
    client: str
    kind: Kind
    evse: EvseId | None
    created: datetime
    updated: datetime
    seen_s: float
    status: Literal["queued", "accepted", "completed", "failed"] = "queued"
    session: str | None = None  # the one that runs because of it
    result: dict[str, Any] = field(default_factory=dict)

    def reach(self, status: Literal["accepted", "completed", "failed"], now: Moment) -> None:
        if self.status != status:
            self.status, self.updated = status, now.utc


class Commands:
    """`lost_s`: an order nobody has seen for so long counts as failed."""

    def __init__(self, same_start_s: float, lost_s: float, keep: int = 4096) -> None:
        self._same_start_s = same_start_s
        self._lost_s = lost_s
        self._keep = keep
        self._all: OrderedDict[str, _Command] = OrderedDict()
        self._open: dict[str, _Command] = {}
        self._by_transaction: OrderedDict[tuple[str, EvseId, str], tuple[str, float]] = OrderedDict()

    def known(self, client: str, evse: EvseId, transaction: str | None, now: Moment) -> str | None:
        """The command this client gave for this connector under the same transaction id lately (G-09)."""
        if transaction is None:
            return None
        command_id, at_s = self._by_transaction.get((client, evse, transaction), ("", 0.0))
        recent = bool(command_id) and now.mono_s - at_s < self._same_start_s
        return command_id if recent else None

    def open(
        self, client: str, kind: Kind, evse: EvseId | None, now: Moment, transaction: str | None = None
    ) -> str:
        """A new command, still `queued`; returns its id, which no earlier process has used."""
        command_id = f"{'flx' if kind == 'flexibility' else 'cmd'}_{secrets.token_hex(8)}"
        command = _Command(command_id, client, kind, evse, now.utc, now.utc, now.mono_s)
        self._all[command_id] = self._open[command_id] = command
        if len(self._all) > self._keep:
            oldest, _ = self._all.popitem(last=False)
            self._open.pop(oldest, None)
        if transaction is not None and evse is not None:
            key = (client, evse, transaction)
            self._by_transaction[key] = (command_id, now.mono_s)
            self._by_transaction.move_to_end(key)
            if len(self._by_transaction) > self._keep:
                self._by_transaction.popitem(last=False)
        return command_id

    def withdraw(self, command_id: str) -> None:
        """The order never reached the core: as if the command had not been given."""
        self._all.pop(command_id, None)
        self._open.pop(command_id, None)
        for key in [key for key, (id, _) in self._by_transaction.items() if id == command_id]:
            del self._by_transaction[key]

    def observe(self, snapshot: Snapshot, now: Moment) -> None:
        """Advances every command that is not finished."""
        if not self._open:
            return
        orders = {order.id: order for order in snapshot.orders}
        views = {view.id: view for view in snapshot.evses}
        for command in list(self._open.values()):
            view = None if command.evse is None else views.get(command.evse)
            _advance(command, orders.get(command.id), view, now, self._lost_s)
            if command.status in ("completed", "failed"):
                del self._open[command.id]

    def status(self, client: str, command_id: str) -> dict[str, Any]:
        """Raises ApiError 3001 when there is no such command of this client."""
        command = self._all.get(command_id)
        if command is None or command.client != client:
            raise ApiError(UNKNOWN, "no such command")
        fields: dict[str, Any] = {
            "command_id": command.id,
            "status": command.status,
            "created_at": stamp(command.created),
            "updated_at": stamp(command.updated),
        }
        return fields | {"result": dict(command.result)} if command.result else fields


def _advance(
    command: _Command, order: OrderView | None, view: EvseView | None, now: Moment, lost_s: float
) -> None:
    session = None if view is None else view.session
    if command.session is not None:
        if session is not None and session.id == command.session and not _is_over(command, view):
            if command.kind == "start":
                command.result["energy_delivered"] = abs(session.energy_wh) / 1e3
        else:
            command.reach("completed", now)
        return
    if order is None:
        if now.mono_s - command.seen_s > lost_s:
            command.result["message"] = "no trace of it; it may still be carried out"
            command.reach("failed", now)
        return
    command.seen_s = now.mono_s
    if order.outcome in ("refused", "failed"):
        command.result["message"] = order.reason or order.outcome
        command.reach("failed", now)
    elif order.outcome == "done":
        if command.kind in _LASTING and session is not None:
            command.session = session.id
            command.reach("accepted", now)
        else:
            command.reach("completed", now)
    elif any(stage in ("accepted", "applied", "measured") for stage, _ in order.stages):
        command.reach("accepted", now)


def _is_over(command: _Command, view: EvseView | None) -> bool:
    """A discharge ends before its session does."""
    return command.kind == "discharge" and view is not None and view.state is not EvseState.DISCHARGING
