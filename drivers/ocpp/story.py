"""What a station tells in pieces: its connectors, transactions from plug-in to the first token (OCPP 2.x), and
transactions that it meters and nobody knows (1.6).

Owns only what one message needs to know of earlier ones; changed when a message's facts were taken, never before. Lives
as long as the process: after a restart a transaction in mid-air is taken up again from its next message. Source: OCPP
2.0.1 part 2 section E (TxStartPoint, seqNo, offline). Every collection is bounded.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from controller.core.model import EvseState

MOST_TRANSACTIONS = 64
MOST_CONNECTORS = 64
MOST_STRANGERS = 16


@dataclass(frozen=True, slots=True)
class Opening:
    """A transaction that exists while no energy may flow yet: plugged in and not authorized, or the reverse."""

    evse: int | None  # EVSE number
    token: str | None
    register_wh: int | None
    started: datetime
    offline: bool
    allowed: bool = False  # authorized, but nobody said on which EVSE


@dataclass(slots=True)
class Story:
    """openings: by transaction. sequence: the newest seqNo of each. connectors: the last status word of each
    (EVSE, connector). phases: what the newest transaction event said of each EVSE number. oddities: what was odd about
    each transaction so far, for the marks of its session. strangers: since when one that nobody knows is metered."""

    openings: dict[str, Opening] = field(default_factory=dict)
    sequence: dict[str, int] = field(default_factory=dict)
    connectors: dict[tuple[int, int], str] = field(default_factory=dict)
    phases: dict[int, EvseState] = field(default_factory=dict)
    oddities: dict[str, tuple[str, ...]] = field(default_factory=dict)
    strangers: dict[str, float] = field(default_factory=dict)

    def note_sequence(self, transaction: str, number: int) -> None:
        newest = self.sequence.pop(transaction, number)
        self.sequence[transaction] = max(newest, number)
        if len(self.sequence) > MOST_TRANSACTIONS:
            del self.sequence[next(iter(self.sequence))]

    def note_oddities(self, transaction: str, marks: tuple[str, ...]) -> None:
        before = self.oddities.pop(transaction, ())
        self.oddities[transaction] = before + tuple(mark for mark in marks if mark not in before)
        if len(self.oddities) > MOST_TRANSACTIONS:
            del self.oddities[next(iter(self.oddities))]

    def note_stranger(self, transaction: str, now_s: float) -> None:
        self.strangers.setdefault(transaction, now_s)
        if len(self.strangers) > MOST_STRANGERS:
            del self.strangers[next(iter(self.strangers))]

    def drop_stranger(self, transaction: str) -> None:
        self.strangers.pop(transaction, None)

    def note_opening(self, transaction: str, opening: Opening) -> None:
        self.openings.pop(transaction, None)
        self.openings[transaction] = opening
        if len(self.openings) > MOST_TRANSACTIONS:
            del self.openings[next(iter(self.openings))]

    def drop_opening(self, transaction: str) -> None:
        self.openings.pop(transaction, None)

    def ended(self, transaction: str) -> None:
        self.drop_opening(transaction)
        self.oddities.pop(transaction, None)

    def note_connector(self, evse: int, connector: int, word: str) -> None:
        if (evse, connector) in self.connectors or len(self.connectors) < MOST_CONNECTORS:
            self.connectors[evse, connector] = word

    def rebooted(self) -> None:
        """Connectors tell their state again, and some stations count their events from 0 again."""
        self.sequence.clear()
        self.connectors.clear()
        self.phases.clear()
        self.strangers.clear()
