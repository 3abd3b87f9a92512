"""What an EVSE surely does when it is alone, as the depot has to count it.

Owns the difference between "the station has stored its fallback" and "and that can be relied on": a station whose limits
spike, do not end or do not begin counts at its hardware maximum although it said yes. Must not decide what is stored.
Source: field notes section 2, rows 21, 22, 24 and 28; `commitments` in the core for what the facts do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from controller.core.events import DischargeOffered, Event, FallbackRefused, FallbackStored
from controller.core.model import Evse, EvseId
from drivers.ocpp.dialects import Manners


@dataclass(slots=True)
class Reserves:
    """Over all connections. stored: EVSEs that took their fallback. why: those that count at their maximum for now.
    stays_ma: limits that may never end by themselves, because nobody knows the clock that is to end them."""

    stored: set[EvseId] = field(default_factory=set)
    why: dict[EvseId, str] = field(default_factory=dict)
    stays_ma: dict[EvseId, int] = field(default_factory=dict)


class Footing:
    """Tells the depot; what it told last is not told again, but for what setup finds out."""

    def __init__(
        self, reserves: Reserves, manners: Manners, channel: str, tell: Callable[[Event], None]
    ) -> None:
        self._reserves = reserves
        self._manners = manners
        self._channel = channel
        self._tell = tell

    def stored(self, evse: Evse) -> None:
        self._reserves.stored.add(evse.id)
        self._renew(evse)

    def refused(self, evse: Evse, reason: str) -> None:
        self._reserves.stored.discard(evse.id)
        self._tell(FallbackRefused(evse.id, self._channel, reason))

    def discharge_offered(self, evses: Iterable[Evse]) -> None:
        for evse in evses:
            self._tell(DischargeOffered(evse.id, self._channel))

    def dialect_learnt(self, evses: Iterable[Evse]) -> None:
        """What was stored may count for less now."""
        for evse in evses:
            if evse.id in self._reserves.stored:
                self._renew(evse)

    def reserve(self, evse: Evse, why: str) -> None:
        if self._reserves.why.setdefault(evse.id, why) is why and evse.id in self._reserves.stored:
            self._renew(evse)

    def release(self, evse: Evse, why: str | None = None) -> None:
        """`why`: only what was reserved for this reason."""
        if why is not None and self._reserves.why.get(evse.id) != why:
            return
        if self._reserves.why.pop(evse.id, None) is not None and evse.id in self._reserves.stored:
            self._renew(evse)

    def may_stay(self, evse: Evse, limit_ma: int) -> None:
        """It may be told, or follow already, a limit that does not end: what it does alone is at least that."""
        self.stays(evse, max(limit_ma, self._reserves.stays_ma.get(evse.id, 0)))

    def stays(self, evse: Evse, limit_ma: int) -> None:
        """The one that it follows now; 0: whatever it follows ends."""
        held_ma = self._reserves.stays_ma.pop(evse.id, 0)
        if limit_ma > evse.fallback_ma:
            self._reserves.stays_ma[evse.id] = limit_ma
        if held_ma != self._reserves.stays_ma.get(evse.id, 0) and evse.id in self._reserves.stored:
            self._renew(evse)

    def is_reserved(self, evse: EvseId) -> bool:
        return evse in self._reserves.why

    def _renew(self, evse: Evse) -> None:
        why = self._manners.switches.reserve or self._reserves.why.get(evse.id)
        if why is None or why == "":
            alone_ma = self._reserves.stays_ma.get(evse.id, evse.fallback_ma)
            self._tell(FallbackStored(evse.id, self._channel, alone_ma))
        else:
            self._tell(FallbackRefused(evse.id, self._channel, why))
