"""The roster: which vehicle leaves when, with how much, and when it comes back. Pure calendar arithmetic.

Owns what an entry means, how a repeated one is laid out in time, and which entries cannot stand beside each other.
Must not read files (`controller.roster_file`, `controller.roster_ics`) and does not know who is here (`agenda`).
An entry is a trip and the stay before it: `arrives` ... `departs` ... `returns`. Repeats follow the local clock; on the
nights of the time change a departure is where `windows.instant` puts it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

from controller.core.model import Departure, EvseId
from controller.core.windows import instant

FULL_PCT = 100  # what a vehicle needs of which nobody said more than that it leaves
LATE = timedelta(hours=1)  # who is still here after its departure is taken to leave within this time
AHEAD = timedelta(days=9)  # a weekly duty comes round in this time
CHECKED = timedelta(days=60)  # repeats are compared with each other this far
MOST_ENTRIES = 2000
MOST_REPEATS = 300


@dataclass(frozen=True, slots=True)
class Repeat:
    """Every `every` days; with `days` (0 = Monday) on those of every `every`th week. The first is the entry itself.

    until: the last departure that may be. but: departures that are left out.
    """

    timezone: str
    every: int = 1
    days: tuple[int, ...] = ()
    until: datetime | None = None
    but: tuple[datetime, ...] = ()


@dataclass(frozen=True, slots=True)
class RosterEntry:
    """vehicle: as the roster names it, whether the config knows it or not. Of energy_wh (to be charged before it leaves)
    and soc at most one is set."""

    vehicle: str
    departs: datetime
    energy_wh: int | None = None
    soc: int | None = None
    arrives: datetime | None = None
    returns: datetime | None = None
    evse: EvseId | None = None
    block: str = ""
    repeat: Repeat | None = None

    @property
    def begins(self) -> datetime:
        return self.departs if self.arrives is None else self.arrives

    @property
    def ends(self) -> datetime:
        return self.departs if self.returns is None else self.returns


@dataclass(frozen=True, slots=True)
class Clash:
    """Two entries, by their index, that cannot both be true; `text` names the first occasion."""

    first: int
    second: int
    text: str


Turns = Mapping[str, tuple[RosterEntry, ...]]  # by vehicle, in order of departure, each with its arrival


def departure_of(turn: RosterEntry, target: str) -> Departure:
    if turn.energy_wh is not None:
        return Departure(target, turn.departs, energy_wh=turn.energy_wh)
    return Departure(target, turn.departs, soc=FULL_PCT if turn.soc is None else turn.soc)


def is_over(entry: RosterEntry, now: datetime) -> bool:
    """Nothing of it lies ahead any more."""
    if entry.repeat is None:
        return max(entry.ends, entry.departs + LATE) <= now
    return next(occasions(entry, now - LATE, now + timedelta(days=400)), None) is None


def occasions(entry: RosterEntry, since: datetime, until: datetime) -> Iterator[RosterEntry]:
    """The entry at each date on which it ends after `since` and departs before `until`, in order."""
    repeat = entry.repeat
    if repeat is None:
        if entry.ends > since and entry.departs < until:
            yield entry
        return
    zone = ZoneInfo(repeat.timezone)
    first = entry.departs.astimezone(zone).date()
    last = until if repeat.until is None else min(until, repeat.until + timedelta(seconds=1))
    clocks = [_on_clock(at, first, zone) for at in (entry.departs, entry.arrives, entry.returns)]
    back = entry.ends - entry.departs + timedelta(days=1)
    day, last_day = max(first, (since - back).astimezone(zone).date()), last.astimezone(zone).date()
    while day <= last_day:
        if _falls_on(repeat, first, day):
            departs, arrives, returns = (
                None if at is None else instant(day + at[0], at[1], zone) for at in clocks
            )
            assert departs is not None
            ends = departs if returns is None else returns
            if ends > since and departs < last and departs not in repeat.but:
                yield replace(entry, departs=departs, arrives=arrives, returns=returns, repeat=None)
        day += timedelta(days=1)


def _on_clock(at: datetime | None, first: date, zone: ZoneInfo) -> tuple[timedelta, int] | None:
    """Days after the first departure's, and minutes after midnight."""
    if at is None:
        return None
    local = at.astimezone(zone)
    return local.date() - first, local.hour * 60 + local.minute


def _falls_on(repeat: Repeat, first: date, day: date) -> bool:
    if not repeat.days:
        return (day - first).days % repeat.every == 0
    if day == first:
        return True
    weeks = (day - timedelta(days=day.weekday()) - first + timedelta(days=first.weekday())).days // 7
    return day.weekday() in repeat.days and weeks % repeat.every == 0


def laid_out(entries: Iterable[RosterEntry], now: datetime) -> Turns:
    """What the roster says about the time from yesterday on. Where no arrival is given, it is the return before."""
    by_vehicle: dict[str, list[RosterEntry]] = {}
    for entry in entries:
        for turn in occasions(entry, now - timedelta(days=1), now + AHEAD):
            by_vehicle.setdefault(turn.vehicle, []).append(turn)
    return {vehicle: _with_arrivals(turns) for vehicle, turns in by_vehicle.items()}


def _with_arrivals(turns: list[RosterEntry]) -> tuple[RosterEntry, ...]:
    turns.sort(key=lambda turn: turn.departs)
    return (
        *turns[:1],
        *(
            replace(turn, arrives=before.returns) if turn.arrives is None else turn
            for before, turn in pairwise(turns)
        ),
    )


def clashes(entries: Sequence[RosterEntry], now: datetime, zone: ZoneInfo) -> list[Clash]:
    """Every pair that overlaps: two trips or stays of one vehicle, or two vehicles at one EVSE. Each pair once."""
    by_vehicle: dict[str, list[tuple[RosterEntry, int]]] = {}
    for index, entry in enumerate(entries):
        far = entry.departs if entry.repeat is None else now
        for turn in occasions(
            entry, datetime.min.replace(tzinfo=UTC) if entry.repeat is None else now, max(far, now) + CHECKED
        ):
            by_vehicle.setdefault(turn.vehicle, []).append((turn, index))
    found: dict[tuple[int, int], str] = {}
    at_evse: dict[EvseId, list[tuple[RosterEntry, int]]] = {}
    for turns in by_vehicle.values():
        turns.sort(key=lambda each: (each[0].departs, each[1]))
        arrived = _with_arrivals([turn for turn, _ in turns])
        for (turn, index), known in zip(turns, arrived, strict=True):
            if turn.evse is not None and known.arrives is not None:
                at_evse.setdefault(turn.evse, []).append((known, index))
        latest: tuple[RosterEntry, int] | None = None
        for turn, index in turns:
            if latest is not None and (turn.begins < latest[0].ends or turn.departs == latest[0].departs):
                _note(found, latest[1], index, f"{turn.vehicle} is {_where(turn, latest[0], zone)}")
            if latest is None or turn.ends >= latest[0].ends:
                latest = (turn, index)
    for evse, stays in at_evse.items():
        stays.sort(key=lambda each: (each[0].begins, each[1]))
        for (before, first), (after, second) in pairwise(stays):
            if after.begins < before.departs and after.vehicle != before.vehicle:
                shown = after.begins.astimezone(zone)
                both = f"{before.vehicle} and {after.vehicle}"
                _note(found, first, second, f"{both} are both at {evse} from {shown:%Y-%m-%d %H:%M} on")
    return [Clash(first, second, text) for (first, second), text in sorted(found.items())]


def _note(found: dict[tuple[int, int], str], one: int, other: int, text: str) -> None:
    if one != other:
        found.setdefault((min(one, other), max(one, other)), text)
    else:
        found.setdefault((one, other), f"{text} (it overlaps with its own repeat)")


def _where(turn: RosterEntry, before: RosterEntry, zone: ZoneInfo) -> str:
    at = turn.departs.astimezone(zone)
    if turn.departs == before.departs:
        return f"said to depart twice at {at:%Y-%m-%d %H:%M}"
    back, begins = before.ends.astimezone(zone), turn.begins.astimezone(zone)
    return f"not back before {back:%Y-%m-%d %H:%M}, but here or leaving again from {begins:%Y-%m-%d %H:%M} on"
