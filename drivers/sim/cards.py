"""What a simulated OCPP charger knows about id tokens: the local list, its cache, and who has reserved what.

Version-free: tokens are text without case, the status is the central system's own word. Pure, part of the flash.
Source: OCPP 1.6 sections 3.5, 5.13, 5.15; OCPP 2.0.1 C10-C14, D01, H01-H04.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

CACHE_ENTRIES = 100
LIST_ENTRIES = 500


@dataclass(frozen=True, slots=True)
class Card:
    """`group`: cards of one group may end each other's transactions. `until`: it expires then."""

    status: str
    group: str | None = None
    until: datetime | None = None

    def accepted(self, at: datetime) -> bool:
        return self.status == "Accepted" and (self.until is None or at < self.until)


@dataclass(frozen=True, slots=True)
class Reservation:
    id: int
    evse: int
    token: str
    group: str | None
    until: datetime

    def serves(self, token: str, group: str | None) -> bool:
        mine = self.token.casefold() == token.casefold()
        return mine or (group is not None and self.group is not None and group == self.group)


@dataclass(slots=True)
class Cards:
    """`listed` came from the central system as a whole (version 0: no list), `cache` from its single answers;
    both can be switched off."""

    version: int = 0
    listed: dict[str, Card] = field(default_factory=dict)
    cache: dict[str, Card] = field(default_factory=dict)
    list_on: bool = True
    cache_on: bool = True

    def update(self, full: bool, version: int, changes: Mapping[str, Card | None]) -> str:
        """SendLocalList: "Accepted", "Failed" or "VersionMismatch"; None takes a token off the list."""
        if version <= 0:
            return "Failed"
        if not full and version <= self.version:
            return "VersionMismatch"
        listed = {} if full else dict(self.listed)
        for token, card in changes.items():
            if card is None:
                listed.pop(token.casefold(), None)
            else:
                listed[token.casefold()] = card
        if len(listed) > LIST_ENTRIES:
            return "Failed"
        self.version, self.listed = version, listed
        return "Accepted"

    def remember(self, token: str, card: Card) -> None:
        """The central system's answer: cached unless the token is on the list; the oldest entry makes room."""
        name = token.casefold()
        self.cache.pop(name, None)
        if self.cache_on and name not in self.listed:
            self.cache[name] = card
            while len(self.cache) > CACHE_ENTRIES:
                del self.cache[next(iter(self.cache))]

    def known(self, token: str) -> Card | None:
        name = token.casefold()
        listed = self.listed.get(name) if self.list_on else None
        return listed or (self.cache.get(name) if self.cache_on else None)

    def same_holder(self, one: str, other: str) -> bool:
        """Whether one may end what the other began: the same token, or known ones of one group."""
        if one.casefold() == other.casefold():
            return True
        ours, theirs = self.known(one), self.known(other)
        return (
            ours is not None and theirs is not None and ours.group is not None and ours.group == theirs.group
        )

    def accepted_alone(self, token: str, at: datetime, *, known: bool, unknown: bool) -> bool:
        """Without a central system: whether it trusts tokens it knows, and those it has never heard of."""
        card = self.known(token)
        return unknown if card is None else known and card.accepted(at)


def reserved(reservations: Iterable[Reservation], evse: int) -> Reservation | None:
    return next((one for one in reservations if one.evse == evse), None)
