"""Plans in the stations: which one each should follow when we are gone, and what closes the gap.

Owns what was told and what the stations said to it. A plan lies in the station between the lease and the fallback: while
we renew the lease it does nothing; when the lease lapses it steps in; when it is over, the fallback does. It belongs to a
transaction and goes with it, and it ends by itself. What it says is never above the fallback (`standby_plan`), which is
reserved anyway: whether a station has it, has an older one, or none, makes no difference to the budget, so `commitments`
know nothing of this.

Plans change all the time; a station is told when it matters (`standby.differ`), 5 minutes apart at the soonest, one
station of the site at a time, after everything else. Who says no is left alone for an hour, then two, up to a day. While
a proof waits for the fall to the fallback (`RenewalHeld`) no plan may be in the station: it would be what is seen.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from controller.core.commands import Command, DropPlan, StorePlan
from controller.core.model import EvseId, Moment, Site, StationId
from controller.core.session import Session
from controller.core.standby import Standby, differ

LOOK_S = 2.0
AGAIN_S = 300.0  # to one EVSE; and a plan that vanished may come back for so long
DROP_AGAIN_S = 30.0
ANSWER_S = 180.0  # an answer that has not come by then does not come
LEFT_ALONE_S, LEFT_ALONE_MOST_S = 3600.0, 86_400.0
WORTH_S = 1800.0  # a plan that is over sooner is not worth the memory it wears


@dataclass(slots=True)
class _Copy:
    """What the station has for one transaction. perhaps: there may be a plan that `stands` does not tell of. missing_s:
    since when none is wanted."""

    transaction: str
    perhaps: bool
    stands: Standby | None = None
    again_s: float = float("-inf")
    drop_s: float = float("-inf")  # not to be told to drop it before
    missing_s: float | None = None
    trouble: str = ""  # why the last one got lost


@dataclass(slots=True)
class _UnderWay:
    """said: None = drop it."""

    command: str
    evse: EvseId
    copy: _Copy
    said: Standby | None
    since_s: float


@dataclass(slots=True)
class _Refusal:
    reason: str
    until_s: float
    times: int


class Standbys:
    """Only EVSEs whose leading channel can (`Link.stores_plans`) take part."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._able = [evse.id for evse in site.evses.values() if evse.link.stores_plans]
        self._copies: dict[EvseId, _Copy] = {}
        self._refusals: dict[StationId, _Refusal] = {}
        self._under_way: _UnderWay | None = None
        self._looked_s = float("-inf")
        self._began: datetime | None = None

    def due(
        self,
        wanted: Mapping[EvseId, Standby],
        running: Mapping[EvseId, Session],
        kept_out: Collection[EvseId],
        connected: Callable[[EvseId], bool],
        next_command: Callable[[], str],
        now: Moment,
    ) -> list[Command]:
        """At most one command; the next one follows its answer. kept_out: there no plan may be now."""
        now_s, way = now.mono_s, self._under_way
        if way is not None and now_s - way.since_s >= ANSWER_S:
            self.lost(way.command, "no answer")
        if not self._able or self._under_way is not None:
            return []
        if now_s - self._looked_s < LOOK_S and not any(self.holds(evse) for evse in kept_out):
            return []
        self._looked_s = now_s
        self._meet(running, now)
        order = sorted(
            self._copies, key=lambda evse: (evse not in kept_out, self._copies[evse].again_s, evse)
        )
        for evse in order:
            if not connected(evse):
                continue
            if evse in kept_out:
                if self.holds(evse) and now_s >= self._copies[evse].drop_s:
                    return [self._tell(evse, None, running[evse], next_command(), now_s)]
                continue
            plan = self._worth(evse, wanted.get(evse), now) if now.utc_trusted else None
            if now.utc_trusted and self._is_due(evse, plan, now):
                return [self._tell(evse, plan, running[evse], next_command(), now_s)]
        return []

    def accepted(self, command: str) -> None:
        way = self._answered(command)
        if way is not None:
            way.copy.stands, way.copy.perhaps, way.copy.trouble = way.said, False, ""
            if way.said is not None:
                self._refusals.pop(self._site.evses[way.evse].station, None)

    def refused(self, command: str, reason: str, now_s: float) -> None:
        """A plan that is refused is not there, but the one before it may be."""
        way = self._answered(command)
        if way is None:
            return
        way.copy.perhaps = way.said is None or way.copy.perhaps or way.copy.stands is not None
        way.copy.stands = None
        if way.said is None:
            way.copy.drop_s = now_s + LEFT_ALONE_S
        if way.said is not None:
            station = self._site.evses[way.evse].station
            times = self._refusals[station].times + 1 if station in self._refusals else 1
            rest_s = min(LEFT_ALONE_MOST_S, LEFT_ALONE_S * 2 ** min(times - 1, 10))
            self._refusals[station] = _Refusal(reason, now_s + rest_s, times)

    def lost(self, command: str, reason: str) -> None:
        """It may be there or not."""
        way = self._answered(command)
        if way is not None:
            way.copy.stands, way.copy.perhaps, way.copy.trouble = None, True, reason

    def rebooted(self, station: StationId) -> None:
        """It may have lost its plans."""
        for evse, copy in self._copies.items():
            if self._site.evses[evse].station == station and copy.stands is not None:
                copy.stands, copy.perhaps = None, True

    def holds(self, evse: EvseId) -> bool:
        """Whether there may be a plan in the station."""
        way, copy = self._under_way, self._copies.get(evse)
        if way is not None and way.evse == evse:
            return True
        return copy is not None and (copy.stands is not None or copy.perhaps)

    def until(self, evse: EvseId) -> datetime | None:
        """When the plan is over that the station said yes to."""
        copy = self._copies.get(evse)
        return None if copy is None or copy.stands is None else copy.stands.until

    def trouble(self, evse: EvseId) -> str:
        """Why its station has none although there is one for it; empty when nothing went wrong."""
        known, copy = self._refusals.get(self._site.evses[evse].station), self._copies.get(evse)
        if known is not None:
            return known.reason
        return "" if copy is None or copy.stands is not None else copy.trouble

    def _meet(self, running: Mapping[EvseId, Session], now: Moment) -> None:
        """A plan goes with its transaction. One that began before we did may have a plan of an earlier run of ours."""
        self._began = now.utc if self._began is None else self._began
        for evse in self._able:
            session, copy = running.get(evse), self._copies.get(evse)
            if session is None:
                self._copies.pop(evse, None)
            elif copy is None or copy.transaction != session.transaction:
                self._copies[evse] = _Copy(session.transaction, perhaps=session.started < self._began)

    def _worth(self, evse: EvseId, plan: Standby | None, now: Moment) -> Standby | None:
        copy, known = self._copies[evse], self._refusals.get(self._site.evses[evse].station)
        if copy.stands is not None and copy.stands.until <= now.utc:
            copy.stands = None  # it has ended by itself
        if plan is None or (known is not None and now.mono_s < known.until_s):
            return None
        short = (plan.until - now.utc).total_seconds() < WORTH_S
        return None if short and copy.stands is None else plan

    def _is_due(self, evse: EvseId, plan: Standby | None, now: Moment) -> bool:
        copy = self._copies[evse]
        if plan is None:
            copy.missing_s = now.mono_s if copy.missing_s is None else copy.missing_s
            gone = now.mono_s - copy.missing_s >= AGAIN_S and now.mono_s >= copy.drop_s
            return gone and (copy.perhaps or copy.stands is not None)
        copy.missing_s = None
        if now.mono_s < copy.again_s:
            return False
        return copy.stands is None or differ(copy.stands, plan, self._site.evses[evse].fallback_ma, now.utc)

    def _tell(
        self, evse: EvseId, plan: Standby | None, session: Session, command: str, now_s: float
    ) -> Command:
        copy, channel = self._copies[evse], self._site.evses[evse].link.channel
        copy.again_s = now_s + AGAIN_S
        copy.drop_s = now_s + DROP_AGAIN_S if plan is None else copy.drop_s
        self._under_way = _UnderWay(command, evse, copy, plan, now_s)
        if plan is None:
            return DropPlan(command, evse, channel, session.transaction)
        return StorePlan(command, evse, channel, session.transaction, session.started, plan)

    def _answered(self, command: str) -> _UnderWay | None:
        way = self._under_way
        if way is None or way.command != command:
            return None
        self._under_way = None
        return way
