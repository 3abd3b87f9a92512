"""Stops whose start nobody knows: kept, booked as far as it can be known, and matched when the start comes after all.

Owns the orphans and what the registers showed between sessions. Must not touch a running session.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from controller.core.commands import SessionSaved
from controller.core.costs import Costs
from controller.core.events import OrphanRestored, TransactionEnded, TransactionStarted
from controller.core.model import EvseId, Site, StationId, VehicleId, evse_id, station_of
from controller.core.session import Session, entry_of, possible_wh

ORPHANS_KEPT = 50
ORPHAN, MATCHED = "orphan-stop", "matched"  # a stop whose start nobody knows; it has come since


class Orphans:
    """By station and transaction."""

    def __init__(
        self, site: Site, vehicle_of: Callable[[str | None], VehicleId | None], costs: Costs
    ) -> None:
        self._site = site
        self._vehicle_of = vehicle_of
        self._costs = costs
        self.known: dict[tuple[StationId, str], Session] = {}
        # register between sessions, and when it was so
        self._last_known: dict[EvseId, tuple[int, datetime]] = {}

    def saw(self, evse: EvseId, register_wh: int, at: datetime) -> None:
        """The register where no session runs, or at the end of one."""
        self._last_known[evse] = (register_wh, at)

    def restore(self, fact: OrphanRestored) -> None:
        self._keep(
            station_of(fact.evse),
            Session(
                id=fact.session,
                evse=fact.evse,
                transaction=fact.transaction,
                token=fact.token,
                vehicle=self._vehicle_of(fact.token),
                started=fact.started,
                started_s=float("-inf"),
                energy_wh=fact.energy_wh,
                register_start_wh=fact.register_start_wh,
                register_wh=fact.register_wh,
                ended=fact.ended,
                stop_reason=fact.reason,
                marks=fact.marks,
            ),
        )

    def stopped(self, fact: TransactionEnded) -> SessionSaved:
        """A stop without a start. Where the station has one EVSE, its last register tells what was charged meanwhile."""
        own = [evse.id for evse in self._site.evses.values() if evse.station == fact.station]
        evse = fact.evse or (own[0] if own else evse_id(fact.station, 1))
        orphan = Session(
            id=f"orphan-{fact.station}-{fact.transaction}-{int(fact.ended.timestamp())}",
            evse=evse,
            transaction=fact.transaction,
            token=fact.token,
            vehicle=self._vehicle_of(fact.token),
            started=fact.ended,
            started_s=float("-inf"),
            register_wh=fact.register_wh,
            ended=fact.ended,
            stop_reason=fact.reason,
            marks=(ORPHAN, *fact.marks),
        )
        if fact.evse is not None or len(own) == 1:
            orphan = self._with_start(orphan, self._last_known.get(evse))
        self._keep(fact.station, orphan)
        return entry_of(orphan)

    def started(self, fact: TransactionStarted) -> SessionSaved | None:
        """The start of a stop that came before it, if there is one."""
        assert fact.transaction is not None, "the runtime numbers transactions before the core sees them"
        orphan = self.known.pop((station_of(fact.evse), fact.transaction), None)
        if orphan is None:
            return None
        energy_wh = 0
        if fact.register_wh is not None and orphan.register_wh is not None:
            energy_wh = max(0, orphan.register_wh - fact.register_wh)
        whole = replace(
            orphan,
            evse=fact.evse,
            token=fact.token or orphan.token,
            vehicle=self._vehicle_of(fact.token or orphan.token),
            started=min(fact.started, orphan.ended or fact.started),
            register_start_wh=fact.register_wh,
            energy_wh=energy_wh,
        )
        return entry_of(self._costs.whole(whole.marked(MATCHED, *fact.marks)))

    def _with_start(self, orphan: Session, last: tuple[int, datetime] | None) -> Session:
        """The session began after what we last saw of the EVSE, with that register."""
        if last is None or orphan.register_wh is None or orphan.ended is None or last[1] > orphan.ended:
            return orphan
        register_wh, seen = last
        energy_wh = orphan.register_wh - register_wh
        if not 0 < energy_wh <= possible_wh(self._site, orphan.evse, (orphan.ended - seen).total_seconds()):
            return orphan
        found = replace(orphan, started=seen, register_start_wh=register_wh, energy_wh=energy_wh)
        return self._costs.whole(found.marked("start-inferred"))

    def _keep(self, station: StationId, orphan: Session) -> None:
        self.known[station, orphan.transaction] = orphan
        while len(self.known) > ORPHANS_KEPT:
            del self.known[next(iter(self.known))]
