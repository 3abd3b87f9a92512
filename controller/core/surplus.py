"""Surplus: EVSEs that charge only from what would be exported else.

Owns how much that is, slowly (clouds pass, and every start wears a contactor), and who may have begun. How it is shared
is the allocator's business: the same max-min as for copper, over what is left over. What a battery gives is no surplus,
or vehicles would drain it; what it takes is gone first.

Up: only what was there for a whole minute. Down: what was there on average for half a minute; a vehicle that charges
keeps its minimum for `GRACE_S` when that is no longer covered, and waits `PAUSE_S` after it was stopped. An unknown
surplus is none. Figures: vehicles need seconds to follow, contactors stand some 100 000 operations.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from controller.core.allocator import Demand, allocate
from controller.core.grid import Grid
from controller.core.model import SITE, EvseId, PerPhase, Site

UP_S = 60.0
DOWN_S = 30.0
GRACE_S = 180.0
PAUSE_S = 300.0
WHY = "surplus"


class Surplus:
    """Of one site. `evses`: those that live on it."""

    def __init__(self, evses: frozenset[EvseId]) -> None:
        self.evses = evses
        self.offered_w = 0
        self._seen: deque[tuple[float, int]] = deque()
        self._short_s: dict[EvseId, float] = {}
        self._stopped_s: dict[EvseId, float] = {}
        self._shared: tuple[object, dict[EvseId, int]] = (None, {})  # what was asked last, and the answer

    @classmethod
    def of(cls, site: Site) -> Surplus | None:
        evses = frozenset(evse.id for evse in site.evses.values() if evse.surplus)
        return cls(evses) if evses and site.circuits[SITE].meter is not None else None

    def see(self, spare_w: int | None, now_s: float) -> None:
        """What would be exported if these EVSEs drew nothing; None while that is not known."""
        if spare_w is None:
            self._seen.clear()
            self.offered_w = 0
            return
        self._seen.append((now_s, spare_w))
        while self._seen[0][0] < now_s - UP_S:
            self._seen.popleft()
        late = [watts for at, watts in self._seen if at >= now_s - DOWN_S]
        mean_w = sum(late) // len(late)
        least_w = min(watts for _, watts in self._seen)
        if mean_w < self.offered_w:
            self.offered_w = max(0, mean_w)
        elif least_w > self.offered_w and now_s - self._seen[0][0] >= UP_S - DOWN_S / 10:
            self.offered_w = least_w

    def capped(
        self, grid: Grid, demands: Sequence[Demand], share_ma: PerPhase[int], now_s: float
    ) -> list[Demand]:
        """The demands of EVSEs that live on it, down to their share. `share_ma`: the offer as a current per phase. What
        their circuits carry the allocator will see to."""
        asking = tuple(
            demand._replace(floor_ma=0, cap_ma=0 if self._rests(demand, now_s) else demand.cap_ma)
            for demand in demands
        )
        key = (share_ma, asking)
        if self._shared[0] != key:
            room = list(grid.limits_ma)
            for phase in range(3):
                resource = grid.index(SITE, phase)
                room[resource] = min(room[resource], share_ma[phase])
            grants = allocate(grid, asking, room)
            self._shared = (key, {evse: grant.current_ma for evse, grant in grants.items()})
        return [self._cap(demand, self._shared[1][demand.evse], now_s) for demand in demands]

    def _rests(self, demand: Demand, now_s: float) -> bool:
        return not demand.running and now_s - self._stopped_s.get(demand.evse, float("-inf")) < PAUSE_S

    def _cap(self, demand: Demand, share_ma: int, now_s: float) -> Demand:
        evse = demand.evse
        if share_ma or not demand.running:
            self._short_s.pop(evse, None)
        elif now_s - self._short_s.setdefault(evse, now_s) < GRACE_S:
            share_ma = demand.min_ma
        else:
            del self._short_s[evse]
            self._stopped_s[evse] = now_s
        if share_ma >= demand.cap_ma:
            return demand
        return demand._replace(cap_ma=share_ma, cap_why=WHY, caps=(*demand.caps, (share_ma, WHY)))
