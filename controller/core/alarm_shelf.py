"""What people have silenced: alarms that are shelved for a while, and sources that are out of service.

Owns who silenced what, why and for how long; a shelf needs a reason and ends by itself, out of service lasts until it is
lifted. Must not know alarms: what is silenced goes on happening, and is seen by whoever looks (`alarms`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from controller.core.commands import HushLifted, HushSaved
from controller.core.events import HushRestored
from controller.core.model import Moment

MOST_SHELF_S = 8 * 3600.0  # a shift; what must stay silent for longer is out of service
MOST = 500
OUT_OF_SERVICE = "out-of-service"


@dataclass(frozen=True, slots=True)
class Hush:
    """kind "": everything of this source, out of service."""

    kind: str
    source: str
    by: str
    reason: str
    since: datetime
    until: datetime | None
    until_s: float = float("inf")

    def saved(self) -> HushSaved:
        return HushSaved(self.kind, self.source, self.by, self.reason, self.since, self.until)

    def told(self) -> str:
        """For the audit."""
        if self.until is None:
            return self.reason
        return f"{self.kind} until {self.until.isoformat(timespec='seconds')}: {self.reason}"


class Hushes:
    def __init__(self) -> None:
        self._all: dict[tuple[str, str], Hush] = {}

    def shelve(self, kind: str, source: str, by: str, for_s: float, reason: str, now: Moment) -> Hush | None:
        """None where it may not be: no reason, no time, or too many."""
        if not kind or not 0 < for_s <= MOST_SHELF_S:
            return None
        until = now.utc + timedelta(seconds=for_s)
        return self._put(Hush(kind, source, by, reason, now.utc, until, now.mono_s + for_s))

    def out_of_service(self, source: str, by: str, reason: str, now: Moment) -> Hush | None:
        return self._put(Hush("", source, by, reason, now.utc, None))

    def _put(self, hush: Hush) -> Hush | None:
        key = (hush.kind, hush.source)
        if not hush.reason.strip() or (key not in self._all and len(self._all) >= MOST):
            return None
        self._all[key] = hush
        return hush

    def restore(self, event: HushRestored, now: Moment) -> None:
        """A clock that cannot be trusted neither ends a shelf early nor makes it longer than a shelf may be."""
        until_s = float("inf")
        if event.until is not None:
            left_s = max(0.0, (event.until - now.utc).total_seconds())
            until_s = now.mono_s + min(left_s, MOST_SHELF_S)
        named = (event.kind, event.source, event.by, event.reason, event.since, event.until)
        self._put(Hush(*named, until_s))

    def due(self, now_s: float) -> list[Hush]:
        return [hush for hush in self._all.values() if hush.until_s <= now_s]

    def lift(self, hush: Hush) -> HushLifted:
        del self._all[hush.kind, hush.source]
        return HushLifted(hush.kind, hush.source)

    def get(self, key: tuple[str, str]) -> Hush | None:
        return self._all.get(key)

    def all(self) -> tuple[Hush, ...]:
        return tuple(self._all.values())

    def covering(self, kind: str, source: str, owners: tuple[str, ...]) -> Hush | None:
        """Out of service counts before a shelf: it lasts longer."""
        if not self._all:
            return None
        services = (self._all.get(("", owner)) for owner in owners)
        return next(filter(None, services), self._all.get((kind, source)))
