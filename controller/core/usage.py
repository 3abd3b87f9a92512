"""Which phases a vehicle uses, learnt from what its EVSE measures: a single-phase vehicle at a three-phase EVSE.

Owns that belief and when it ends; how far it may be used is the business of demand and dispatch. It holds within one
transaction, while samples are fresh, and ends with the first ampere on a phase that was thought unused: then the EVSE
counts on every phase it is wired to again, and others come down. Numbers: peers' practice, 4 A of 6 A and a minute.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from controller.core.belief import SAMPLE_FRESH_S
from controller.core.grid import Grid
from controller.core.model import Evse, EvseId, PerPhase, Site
from controller.core.session import Session

USED_MA = 4000  # below the least that a vehicle can be offered, above what any of them burns while it waits
UNUSED_MA = 500
CONTRADICTED_MA = 1000
STEADY_S = 60.0


# the phases of each EVSE, and the EVSEs of each phase
Uneven = tuple[Mapping[EvseId, tuple[int, ...]], PerPhase[frozenset[EvseId]]]


@dataclass(slots=True)
class _Track:
    """conductors: those that carried current in every sample since `since_s`. uses: resources, once that is believed."""

    session: str
    conductors: tuple[int, ...]
    since_s: float
    last_s: float
    uses: tuple[int, ...] | None = None


class Usage:
    """One track per EVSE at most."""

    def __init__(self, grid: Grid, site: Site) -> None:
        self._grid = grid
        self._uneven = _sides(
            {
                evse.id: evse.phases
                for evse in site.evses.values()
                if len(evse.phases) < 3 or not evse.rotation_known
            }
        )
        self._tracks: dict[EvseId, _Track] = {}

    def sample(
        self, evse: Evse, session: Session | None, current_ma: PerPhase[int | None], taken_s: float
    ) -> None:
        """Current per conductor. Whatever does not fit ends what was believed."""
        track = self._tracks.pop(evse.id, None)
        if session is None or len(evse.phases) == 1 or not evse.rotation_known or evse.dc is not None:
            return
        known = [abs(value) for value in current_ma[: len(evse.phases)] if value is not None]
        if len(known) < len(evse.phases):
            return
        if track is not None and (track.session != session.id or taken_s - track.last_s > SAMPLE_FRESH_S):
            track = None
        if track is not None and track.uses is not None:
            if all(value <= CONTRADICTED_MA or n in track.conductors for n, value in enumerate(known)):
                track.last_s = max(track.last_s, taken_s)
                self._tracks[evse.id] = track
            return
        conductors = tuple(n for n, value in enumerate(known) if value > USED_MA)
        rest = [value for n, value in enumerate(known) if n not in conductors]
        if not conductors or not rest or max(rest) >= UNUSED_MA:
            return
        if track is None or track.conductors != conductors:
            track = _Track(session.id, conductors, taken_s, taken_s)
        track.last_s = max(track.last_s, taken_s)
        if track.last_s - track.since_s >= STEADY_S:
            phases = {evse.phases[n] for n in conductors}
            wired = self._grid.uses[evse.id]
            track.uses = tuple(r for r in wired if self._grid.resources[r][1] in phases)
        self._tracks[evse.id] = track

    def forget(self, evse: EvseId) -> None:
        self._tracks.pop(evse, None)

    def phases(self, evse: EvseId, now_s: float) -> tuple[int, ...] | None:
        """In use, where that is surely fewer than the EVSE is wired to."""
        track = self._tracks.get(evse)
        if track is None or track.uses is None or now_s - track.last_s > SAMPLE_FRESH_S:
            return None
        return tuple(sorted({self._grid.resources[r][1] for r in track.uses}))

    def uneven(self, fewer: Mapping[EvseId, tuple[int, ...]]) -> Uneven:
        """The EVSEs that do not load all phases alike, or may not; `fewer`: as it says."""
        if not fewer:
            return self._uneven
        used = {evse: tuple({self._grid.resources[r][1] for r in uses}) for evse, uses in fewer.items()}
        return _sides({**self._uneven[0], **used})

    def fewer(self, running: Mapping[EvseId, Session], now_s: float) -> dict[EvseId, tuple[int, ...]]:
        """The resources of the EVSEs whose vehicles surely use fewer of them than the EVSE is wired to."""
        found = {}
        for evse, track in self._tracks.items():
            session = running.get(evse)
            fresh = now_s - track.last_s <= SAMPLE_FRESH_S
            if track.uses is not None and fresh and session is not None and session.id == track.session:
                found[evse] = track.uses
        return found


def _sides(phases: Mapping[EvseId, tuple[int, ...]]) -> Uneven:
    one, two, three = (frozenset(evse for evse, loaded in phases.items() if p in loaded) for p in range(3))
    return phases, PerPhase(one, two, three)
