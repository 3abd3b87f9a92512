"""What becomes of an alarm: raised, acknowledged, returned, shelved, explained by another one, grouped, over.

Owns the life of alarms over time, one per kind and source; conditions come from the supervisor and its neighbours, words
and times from `alarm_facts`, what people have silenced from `alarm_shelf`. Must not judge the site. Nothing is hidden for
good: a shelf ends by itself, a suppression with its reason, and whatever is hidden stands in `quiet`.
Source: ISA-18.2 / IEC 62682 as in field notes section 4.2.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import assert_never

from controller.core.alarm_facts import AlarmFact, fact_of
from controller.core.alarm_places import Key, Places
from controller.core.alarm_shelf import OUT_OF_SERVICE, Hush, Hushes
from controller.core.commands import AlarmSaved, Audited, Entry
from controller.core.events import (
    AlarmAcked,
    AlarmRestored,
    AlarmShelved,
    AlarmUnshelved,
    HushRestored,
    ServiceChanged,
)
from controller.core.model import Moment, Site
from controller.core.snapshot import AlarmView
from controller.core.supervisor import CLUSTER, Condition

AGAIN_S = 900.0  # an acknowledged critical alarm that still stands calls again
CHATTER_S, CHATTER_FLIPS = 60.0, 3  # more comings and goings than this within that time: latched
CASCADE_S = 60.0  # what follows within this, along the same way through the site, is one cascade
INCIDENT_S = 60.0  # alarms of a kind, each within this of the one before, are one incident ...
INCIDENT_LEAST = 4  # ... where there are so many
RESTORED_S = 60.0  # after a restart a condition has this long to be seen again
MOST = 1000
NAMED = 3  # members whose names stand in the text of an incident
UNACK, ACK, RETURNED = "unack", "ack", "rtn-unack"
SHELVED, SUPPRESSED = "shelved", "suppressed"
HIDDEN = frozenset({SHELVED, SUPPRESSED, OUT_OF_SERVICE})
LATCHED_NOTE = "chattering: came and went again and again, stays until acknowledged"
AGAIN_NOTE = "acknowledged before, and still there"

Told = AlarmAcked | AlarmShelved | AlarmUnshelved | ServiceChanged | AlarmRestored | HushRestored


@dataclass(slots=True)
class Alarm:
    """One that was raised and is not over. onset_s: when its condition began. acked_at: the priority it had then."""

    id: str
    kind: str
    source: str
    priority: int
    text: str
    since: datetime
    onset_s: float
    seen_s: float
    parents: tuple[Key, ...]
    owners: tuple[str, ...]
    incident: str = ""
    cascade: str = ""
    active: bool = True
    cleared: datetime | None = None
    acked_by: str | None = None
    acked: datetime | None = None
    acked_s: float = 0.0
    acked_at: int = 0
    latched: bool = False
    suppressed: bool = False
    parent: Key | None = None
    parent_s: float = float("-inf")  # when it was last explained
    parent_priority: int = 0
    worst: int = 3  # the strongest priority it has had
    note: str = ""

    @property
    def key(self) -> Key:
        return self.kind, self.source

    @property
    def fact(self) -> AlarmFact:
        return fact_of(self.kind)

    @property
    def off_s(self) -> float:
        return CHATTER_S if self.latched else self.fact.off_s

    def saved(self, over: bool = False) -> AlarmSaved:
        return AlarmSaved(
            self.id,
            self.kind,
            self.source,
            self.priority,
            self.text,
            self.since,
            self.cleared,
            self.acked_by,
            self.acked,
            self.incident,
            over,
        )


class Alarms:
    """Conditions over time."""

    def __init__(self, boot: str, site: Site) -> None:
        self.places = Places(site)
        self.hushes = Hushes()
        self._boot = boot
        self._count = 0
        self._pending: dict[Key, float] = {}  # conditions that do not stand long enough yet: since when
        self._alarms: dict[Key, Alarm] = {}
        self._flips: dict[Key, deque[float]] = {}
        self._incidents: dict[str, tuple[str, float]] = {}  # by kind the newest, and when it last grew
        self._firsts: dict[str, tuple[float, str]] = {}  # by cascade: onset and id of its first alarm

    # --- conditions -------------------------------------------------------------------------------------------------

    def update(self, found: Iterable[Condition], now: Moment) -> list[Entry]:
        """Once per step, with all that is abnormal now. Returns what the ledger must know."""
        entries: list[Entry] = []
        for hush in self.hushes.due(now.mono_s):
            entries += self._lift(hush, "depot", "its time is up", now)
        seen = set()
        for condition in found:
            key = (condition.kind, condition.source)
            seen.add(key)
            alarm = self._alarms.get(key)
            if alarm is not None and alarm.active:
                entries += _goes_on(alarm, condition, now)
                continue
            since_s = self._pending.setdefault(key, now.mono_s)
            if now.mono_s - since_s >= condition.delay_s:
                del self._pending[key]
                entries.append(self._raised(condition, since_s, now).saved())
        for key in [key for key in self._pending if key not in seen]:
            del self._pending[key]
        self._suppress(now.mono_s)
        for alarm in list(self._alarms.values()):
            if alarm.active and now.mono_s - alarm.seen_s > alarm.off_s:
                entries.append(self._returned(alarm, now))
            elif alarm.priority == 1 and self.word(alarm) == ACK and now.mono_s - alarm.acked_s >= AGAIN_S:
                entries += _again(alarm, now)
        return [*entries, *self._forget(now.mono_s)]

    def _raised(self, condition: Condition, onset_s: float, now: Moment) -> Alarm:
        key = (condition.kind, condition.source)
        alarm = self._alarms.get(key)
        if alarm is None:
            self._count += 1
            name = f"a{self._boot}-{self._count}"
            alarm = self._made(name, *key, condition.priority, condition.text, now.utc, onset_s)
            alarm.incident = self._incident(alarm, now.mono_s)
            self._join_cascade(alarm)
            self._alarms[key] = alarm
        alarm.active, alarm.cleared, alarm.seen_s = True, None, now.mono_s
        alarm.priority, alarm.text = condition.priority, condition.text
        alarm.worst = min(alarm.worst, condition.priority)
        self._flip(alarm, now.mono_s)
        return alarm

    def _made(
        self, id: str, kind: str, source: str, priority: int, text: str, since: datetime, onset_s: float
    ) -> Alarm:
        parents, owners = self.places.parents(kind, source), self.places.owners(source)
        return Alarm(id, kind, source, priority, text, since, onset_s, onset_s, parents, owners)

    def _returned(self, alarm: Alarm, now: Moment) -> AlarmSaved:
        """What it is about is gone. It stays only where somebody should know of it and does not yet."""
        calls = self.word(alarm) == UNACK
        alarm.active, alarm.cleared = False, now.utc
        self._flip(alarm, now.mono_s)
        stays = calls and (alarm.latched or (alarm.fact.keeps and alarm.worst == 1))
        if not stays:
            del self._alarms[alarm.key]
        return alarm.saved(over=not stays)

    def _flip(self, alarm: Alarm, now_s: float) -> None:
        flips = self._flips.setdefault(alarm.key, deque(maxlen=CHATTER_FLIPS + 1))
        flips.append(now_s)
        if len(flips) > CHATTER_FLIPS and now_s - flips[0] <= CHATTER_S:
            alarm.latched, alarm.note = True, LATCHED_NOTE

    def _suppress(self, now_s: float) -> None:
        for alarm in self._alarms.values():
            for key in alarm.parents:
                parent = self._alarms.get(key)
                if parent is not None and parent.active and self._explains(parent, alarm):
                    alarm.parent, alarm.parent_s, alarm.parent_priority = key, now_s, parent.priority
                    break
            lately = now_s - alarm.parent_s <= alarm.fact.explained_s
            alarm.suppressed = alarm.active and lately and alarm.parent_priority <= alarm.priority

    def _explains(self, parent: Alarm, child: Alarm) -> bool:
        """A weaker alarm hides nothing, and one that is silenced hides nothing critical."""
        if parent.kind == child.kind == "offline":  # of one station: the strongest stands for all
            return (parent.priority, parent.source) < (child.priority, child.source)
        if child.kind == "trip-margin" and child.onset_s <= parent.onset_s:
            return False  # seen, not only assumed; perhaps the meter is dark because the breaker has tripped
        if child.priority == 1 and self.hush_of(parent) is not None:
            return False
        return parent.priority <= min(2, child.priority)

    def _incident(self, alarm: Alarm, now_s: float) -> str:
        if not alarm.fact.groups:
            return ""
        name, grew_s = self._incidents.get(alarm.kind, ("", float("-inf")))
        if now_s - grew_s > INCIDENT_S:
            name = f"i{alarm.id[1:]}"
        self._incidents[alarm.kind] = (name, now_s)
        return name

    def _join_cascade(self, alarm: Alarm) -> None:
        for other in self._alarms.values():
            near = abs(alarm.onset_s - other.onset_s) <= CASCADE_S and other.kind != alarm.kind
            if near and self.places.related(alarm.source, other.source):
                alarm.cascade = other.cascade = other.cascade or other.id
                first = self._firsts.get(alarm.cascade, (other.onset_s, other.id))
                self._firsts[alarm.cascade] = min(first, (alarm.onset_s, alarm.id), key=lambda each: each[0])
                return

    def _forget(self, now_s: float) -> Iterator[AlarmSaved]:
        for key in [key for key, flips in self._flips.items() if now_s - flips[-1] > CHATTER_S]:
            del self._flips[key]
        if self._firsts:
            alive = {alarm.cascade for alarm in self._alarms.values()}
            self._firsts = {name: first for name, first in self._firsts.items() if name in alive}
        if len(self._alarms) > MOST:  # a station that keeps making up faults must not fill our memory
            returned = [alarm for alarm in self._alarms.values() if not alarm.active]
            for alarm in returned[: len(self._alarms) - MOST]:
                del self._alarms[alarm.key]
                yield alarm.saved(over=True)

    # --- people -----------------------------------------------------------------------------------------------------

    def heed(self, event: Told, now: Moment) -> list[Entry]:
        """What a person said about alarms, or what the ledger remembers of it."""
        match event:
            case AlarmAcked():
                return self._acked(event, now)
            case AlarmShelved(by, kind, source, for_s, reason):
                hush = self.hushes.shelve(kind, source, by, for_s, reason, now)
                return [] if hush is None else self._silenced(hush, "alarm-shelved", now)
            case ServiceChanged(by, source, out, reason) if out:
                hush = self.hushes.out_of_service(source, by, reason, now)
                return [] if hush is None else self._silenced(hush, "out-of-service", now)
            case ServiceChanged(by, source, _, reason):
                found = self.hushes.get(("", source))
                return [] if found is None else self._lift(found, by, reason, now)
            case AlarmUnshelved(by, kind, source):
                found = self.hushes.get((kind, source))
                return [] if found is None else self._lift(found, by, "", now)
            case AlarmRestored():
                self._restored(event, now)
            case HushRestored():
                self.hushes.restore(event, now)
            case _:
                assert_never(event)
        return []

    def _acked(self, event: AlarmAcked, now: Moment) -> list[Entry]:
        alarm = self.find(event.alarm)
        if alarm is None or alarm.acked_by is not None:
            return []
        alarm.acked_by, alarm.acked, alarm.acked_s = event.by, now.utc, now.mono_s
        alarm.acked_at = alarm.priority
        if not alarm.active:
            del self._alarms[alarm.key]
        told = f"{alarm.kind} {alarm.id}: {alarm.text}"
        row = Audited(now.utc, event.by, "alarm-acked", alarm.source, told)
        return [alarm.saved(over=not alarm.active), row]

    def _silenced(self, hush: Hush, what: str, now: Moment) -> list[Entry]:
        """What is over and only waits to be seen has been seen by whoever silences it."""
        entries: list[Entry] = [hush.saved(), Audited(now.utc, hush.by, what, hush.source, hush.told())]
        returned = [alarm for alarm in self._alarms.values() if not alarm.active]
        for alarm in [alarm for alarm in returned if self.hush_of(alarm) is hush]:
            alarm.acked_by, alarm.acked = hush.by, now.utc
            del self._alarms[alarm.key]
            entries.append(alarm.saved(over=True))
        return entries

    def _lift(self, hush: Hush, by: str, why: str, now: Moment) -> list[Entry]:
        """What it had hidden calls as if it were new."""
        what = "alarm-unshelved" if hush.kind else "in-service"
        told = ": ".join(filter(None, (hush.kind, why)))
        entries: list[Entry] = [Audited(now.utc, by, what, hush.source, told)]
        for alarm in self._alarms.values():
            if self.hush_of(alarm) is hush and alarm.acked_by is not None:
                alarm.acked_by = alarm.acked = None
                entries.append(alarm.saved())
        return [self.hushes.lift(hush), *entries]

    def _restored(self, event: AlarmRestored, now: Moment) -> None:
        named = (event.id, event.kind, event.source, event.priority, event.text, event.since)
        alarm = self._made(*named, now.mono_s)
        alarm.incident, alarm.active, alarm.worst = event.incident, event.active, event.priority
        alarm.acked_by, alarm.acked_at, alarm.acked_s = event.acked_by, event.priority, now.mono_s
        alarm.cleared = None if event.active else now.utc
        alarm.seen_s = now.mono_s + RESTORED_S
        self._alarms[alarm.key] = alarm

    # --- looking ----------------------------------------------------------------------------------------------------

    def find(self, id: str) -> Alarm | None:
        return next((alarm for alarm in self._alarms.values() if alarm.id == id), None)

    def named(self, id: str) -> tuple[Alarm, ...]:
        """The alarm, or those of the incident."""
        return tuple(alarm for alarm in self._alarms.values() if id in (alarm.id, alarm.incident))

    def hush_of(self, alarm: Alarm) -> Hush | None:
        return self.hushes.covering(alarm.kind, alarm.source, alarm.owners)

    def word(self, alarm: Alarm) -> str:
        """Its state, as in `AlarmView`."""
        hush = self.hush_of(alarm)
        if hush is not None:
            return SHELVED if hush.kind else OUT_OF_SERVICE
        if alarm.suppressed:
            return SUPPRESSED
        if not alarm.active:
            return RETURNED
        return UNACK if alarm.acked_by is None else ACK

    def views(self) -> tuple[tuple[AlarmView, ...], tuple[AlarmView, ...]]:
        """What calls a person, grouped: strongest first, then what stands for many, then oldest; and all the rest."""
        calling, quiet = [], []
        incidents: dict[str, list[AlarmView]] = {}
        for alarm in self._alarms.values():
            view = self._view(alarm)
            if view.state in HIDDEN:
                quiet.append(view)
            elif view.incident:
                incidents.setdefault(view.incident, []).append(view)
            else:
                calling.append(view)
        for name, members in incidents.items():
            if len(members) >= INCIDENT_LEAST:
                calling.append(_group(name, members))
                quiet += members
            else:
                calling += members
        return tuple(sorted(calling, key=_rank)), tuple(sorted(quiet, key=_rank))

    def _view(self, alarm: Alarm) -> AlarmView:
        state, hush = self.word(alarm), self.hush_of(alarm)
        note, by, until = alarm.note, alarm.acked_by, None
        if hush is not None:
            note, by, until = hush.reason, hush.by, hush.until
        elif alarm.suppressed and alarm.parent is not None:
            note = f"explained by {' '.join(alarm.parent)}"
        first = self._firsts.get(alarm.cascade, (0.0, ""))[1] == alarm.id
        named = (alarm.id, alarm.kind, alarm.priority, state, alarm.source, alarm.text, alarm.since)
        return AlarmView(*named, alarm.incident, (), first, note, by, until)


def _goes_on(alarm: Alarm, condition: Condition, now: Moment) -> Iterator[Entry]:
    """One that becomes stronger than it was when somebody acknowledged it calls again."""
    alarm.seen_s, alarm.text, alarm.priority = now.mono_s, condition.text, condition.priority
    alarm.worst = min(alarm.worst, condition.priority)
    if alarm.acked_by is not None and alarm.priority < alarm.acked_at:
        alarm.acked_by = alarm.acked = None
        yield alarm.saved()


def _again(alarm: Alarm, now: Moment) -> Iterator[Entry]:
    told = f"{alarm.kind} {alarm.id}: acknowledged by {alarm.acked_by}, and still there"
    alarm.acked_by = alarm.acked = None
    alarm.note = alarm.note or AGAIN_NOTE
    yield alarm.saved()
    yield Audited(now.utc, "depot", "alarm-again", alarm.source, told)


def _group(name: str, members: list[AlarmView]) -> AlarmView:
    members = sorted(members, key=lambda view: (view.since, view.id))
    sources = tuple(view.source for view in members)
    states = {view.state for view in members}
    named = ", ".join(sources[:NAMED])
    more = f" and {len(sources) - NAMED} more" if len(sources) > NAMED else ""
    return AlarmView(
        name,
        members[0].kind,
        min(view.priority for view in members),
        next(state for state in (UNACK, RETURNED, ACK) if state in states),
        f"{len(sources)} sources",
        f"{members[0].kind} at {named}{more}; the first: {members[0].text}",
        members[0].since,
        name,
        sources,
        any(view.first for view in members),
    )


def _rank(view: AlarmView) -> tuple[int, bool, datetime]:
    return view.priority, not (view.members or view.kind == CLUSTER), view.since
