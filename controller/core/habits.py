"""Habits: when a vehicle usually comes and goes and what it usually takes, learned from finished sessions.

Owns what counts as usual: medians and quartiles per weekday, so that a workshop day moves nothing; five stays at
least. A vehicle that no config knows is known by its id token. Must not decide who is expected (`agenda`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from statistics import median_low, mode
from zoneinfo import ZoneInfo

from controller.core.model import EvseId
from controller.core.windows import clock

LEAST_STAYS = 5
LEAST_ON_DAY = 4  # of one weekday; below that all working days, or both days of a weekend, are taken together
REMEMBERED = timedelta(days=60)
SHORTEST = timedelta(minutes=10)
NEAR_MIN = 45  # a departure this near to the usual one is a usual one
EARLY, MUCH = 0.25, 0.75  # leave early rather than late, take much rather than little
DAY_MIN = 24 * 60
SAME_MA = 1500


@dataclass(frozen=True, slots=True)
class Stay:
    """One finished session. key: the vehicle, or the id token where no vehicle is known, or the EVSE where nobody tells of
    tokens. left - announced is the error of what was announced. own_ma: the most it drew while it might have drawn clearly
    more."""

    key: str
    evse: EvseId
    arrived: datetime
    left: datetime
    energy_wh: int
    phases: int | None = None
    most_ma: int | None = None
    announced: datetime | None = None
    own_ma: int | None = None


@dataclass(frozen=True, slots=True)
class Draw:
    """How a vehicle was seen to draw: on how many phases, and at most with how much. One stay is enough: that is physics,
    no habit. None: not seen."""

    key: str
    phases: int | None
    most_ma: int | None


@dataclass(frozen=True, slots=True)
class HabitDay:
    """A stay that begins on `weekday` (0 = Monday). Minutes count from midnight of that day. `seen` of `of` stays left
    about then; on `comes_pct` of these weekdays it came at all."""

    weekday: int
    arrives_min: int
    departs_min: int
    seen: int
    of: int
    comes_pct: int

    @property
    def is_regular(self) -> bool:
        return self.seen * 5 >= self.of * 3

    @property
    def text(self) -> str:
        return f"usual {clock(self.departs_min % DAY_MIN)}, {self.seen} of {self.of} days"


@dataclass(frozen=True, slots=True)
class Habit:
    key: str
    evse: EvseId
    energy_wh: int
    days: tuple[HabitDay, ...]
    phases: int | None = None
    most_ma: int | None = None

    def on(self, weekday: int) -> HabitDay | None:
        return next((day for day in self.days if day.weekday == weekday), None)


def learned(stays: Iterable[Stay], timezone: str, now: datetime) -> tuple[Habit, ...]:
    """In the order of keys. Stays may come in any order."""
    zone = ZoneInfo(timezone)
    by_key: dict[str, list[Stay]] = {}
    for stay in stays:
        if stay.key == stay.evse:
            continue  # nobody's: it shows how is drawn there, not who comes when
        if stay.left - stay.arrived >= SHORTEST and now - stay.arrived <= REMEMBERED:
            by_key.setdefault(stay.key, []).append(stay)
    return tuple(
        _habit(key, by_key[key], zone, now) for key in sorted(by_key) if len(by_key[key]) >= LEAST_STAYS
    )


def draws(stays: Iterable[Stay]) -> tuple[Draw, ...]:
    """By the newest stays of each vehicle; of several, the most."""
    newest: dict[str, list[Stay]] = {}
    for stay in sorted(stays, key=lambda stay: stay.arrived, reverse=True):
        if stay.phases is not None or stay.most_ma is not None:
            newest.setdefault(stay.key, []).append(stay)
    return tuple(_draw(key, newest[key][:LEAST_STAYS]) for key in sorted(newest))


def _draw(key: str, stays: list[Stay]) -> Draw:
    phases = max((stay.phases for stay in stays if stay.phases is not None), default=None)
    most_ma = max((stay.most_ma for stay in stays if stay.most_ma is not None), default=0)
    own_ma = max((stay.own_ma for stay in stays if stay.own_ma is not None), default=0)
    return Draw(key, phases, own_ma if own_ma and own_ma > most_ma - SAME_MA else None)


def errors_s(stays: Iterable[Stay], most_s: float = 6 * 3600.0) -> tuple[float, ...]:
    """By how much vehicles left later than announced. One that is further off was not the same departure."""
    errors = ((stay.left - stay.announced).total_seconds() for stay in stays if stay.announced is not None)
    return tuple(error for error in errors if abs(error) <= most_s)


def _habit(key: str, stays: list[Stay], zone: ZoneInfo, now: datetime) -> Habit:
    nights = _longest_per_day(stays, zone)
    first = min(nights)
    days = []
    for weekday in range(7):
        own = [stay for day, stay in nights.items() if day.weekday() == weekday]
        alike = [stay for day, stay in nights.items() if (day.weekday() >= 5) == (weekday >= 5)]
        used = own if len(own) >= LEAST_ON_DAY else alike if len(alike) >= LEAST_STAYS else []
        if used:
            days.append(_day(weekday, used, zone, _comes_pct(nights, weekday, first, now, zone)))
    phases = [stay.phases for stay in stays if stay.phases is not None]
    amps = sorted(stay.most_ma for stay in stays if stay.most_ma is not None)
    return Habit(
        key=key,
        evse=mode(stay.evse for stay in stays),
        energy_wh=_quantile([stay.energy_wh for stay in nights.values()], MUCH),
        days=tuple(days),
        phases=mode(phases) if len(phases) >= LEAST_STAYS else None,
        most_ma=_quantile(amps, MUCH) if len(amps) >= LEAST_STAYS else None,
    )


def _longest_per_day(stays: list[Stay], zone: ZoneInfo) -> dict[date, Stay]:
    """A stop at noon is not the night."""
    found: dict[date, Stay] = {}
    for stay in stays:
        day = stay.arrived.astimezone(zone).date()
        if day not in found or stay.left - stay.arrived > found[day].left - found[day].arrived:
            found[day] = stay
    return found


def _day(weekday: int, stays: list[Stay], zone: ZoneInfo, comes_pct: int) -> HabitDay:
    arrivals = [_minutes(stay.arrived, stay.arrived, zone) for stay in stays]
    departures = [_minutes(stay.left, stay.arrived, zone) for stay in stays]
    departs_min = _quantile(departures, EARLY)
    seen = sum(abs(at - departs_min) <= NEAR_MIN for at in departures)
    return HabitDay(weekday, median_low(arrivals), departs_min, seen, len(stays), comes_pct)


def _minutes(at: datetime, arrived: datetime, zone: ZoneInfo) -> int:
    """On the clock, after midnight of the day of arrival."""
    local = at.astimezone(zone)
    return (local.date() - arrived.astimezone(zone).date()).days * DAY_MIN + local.hour * 60 + local.minute


def _comes_pct(nights: dict[date, Stay], weekday: int, first: date, now: datetime, zone: ZoneInfo) -> int:
    yesterday = now.astimezone(zone).date() - timedelta(days=1)
    days = [first + timedelta(days=n) for n in range((yesterday - first).days + 1)]
    alike = [day for day in days if day.weekday() == weekday]
    if len(alike) < LEAST_ON_DAY:
        alike = [day for day in days if (day.weekday() >= 5) == (weekday >= 5)]
    return 100 * sum(day in nights for day in alike) // len(alike) if alike else 0


def _quantile(values: Sequence[int], share: float) -> int:
    """A value that is there, not one between two."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]
