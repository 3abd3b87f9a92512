"""What a simulated charger still has to say, in the order it says it.

The queue stands before the link, which carries one call at a time. Transaction messages are records: kept in order,
over link losses and reboots, until answered. Everything else sits in a named slot where the newest replaces the
unsent one, so the box can never overflow. No I/O here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, Protocol, TypeVar

Json = dict[str, Any]
UNKNOWN_TRANSACTION = -1  # what a charger writes when the central system never told it the number (row 8)


class Kept(Protocol):
    """A message that must be answered. `due_s`: not before this `mono_s`."""

    action: str
    attempts: int
    due_s: float

    def ready_payload(self) -> Json: ...


K = TypeVar("K", bound=Kept)


@dataclass(slots=True)
class Transaction:
    """`id` is None until the central system has answered the start. `token` None: nobody presented one."""

    token: str
    started: datetime
    register_start_wh: int
    id: int | None = None
    ended: bool = False


@dataclass(slots=True)
class Record:
    """A StartTransaction or StopTransaction of OCPP 1.6."""

    action: str
    payload: Json
    transaction: Transaction
    attempts: int = 0
    due_s: float = 0.0

    def ready_payload(self) -> Json:
        if self.action == "StartTransaction":
            return self.payload
        known = self.transaction.id
        return {**self.payload, "transactionId": UNKNOWN_TRANSACTION if known is None else known}


@dataclass(slots=True)
class Slip:
    """A message that is worth sending only while it is news; `then` gets the answer, None when there was none.
    `asked`: the central system asked for it, so it goes out even before the station was accepted."""

    action: str
    payload: Json
    then: Callable[[Json | None], None] | None = None
    asked: bool = False


@dataclass(slots=True)
class Outbox(Generic[K]):
    """`records` belongs to the charger's flash; the rest is lost with the link."""

    records: list[K]
    slots: dict[str, Slip] = field(default_factory=dict)
    filled: asyncio.Event = field(default_factory=asyncio.Event)

    def put(self, slot: str, slip: Slip) -> None:
        self.slots[slot] = slip
        self.filled.set()

    def record(self, record: K) -> None:
        self.records.append(record)
        self.filled.set()

    def due(self, now_s: float) -> K | None:
        """The record at the head when it is due. Removes nothing."""
        return self.records[0] if self.records and self.records[0].due_s <= now_s else None

    def take(self, only_asked: bool = False) -> Slip | None:
        """The oldest slip, out of its slot."""
        for slot, slip in self.slots.items():
            if slip.asked or not only_asked:
                return self.slots.pop(slot)
        return None

    def nudge(self, now_s: float) -> None:
        """Wakes the sender when a record has become due again."""
        if self.due(now_s) is not None:
            self.filled.set()

    def link_lost(self) -> None:
        """Slots are news of a link that is gone; whoever waits for an answer learns that there is none."""
        slips, self.slots = list(self.slots.values()), {}
        for slip in slips:
            if slip.then is not None:
                slip.then(None)
        for record in self.records:
            record.due_s = 0.0
