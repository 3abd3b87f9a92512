"""Charging windows: what a schedule says at an instant (readings of G-11). Pure calendar arithmetic.

A slot belongs to the day it starts on; `end` <= `start` crosses midnight. Instants are computed from local clock
times per day: on the short night a missing start moves to the next valid minute, on the long night the first
occurrence counts. Outside every slot there is no scheduled action.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from controller.core.model import Schedule, ScheduleType, SlotAction, TimeSlot

DAY_MIN = 24 * 60


@dataclass(frozen=True, slots=True)
class Window:
    """One concrete run of a slot: [start, end) in UTC."""

    start: datetime
    end: datetime
    action: SlotAction
    power_limit_w: int | None
    schedule: str


def instant(day: date, minutes: int, zone: ZoneInfo) -> datetime:
    """The UTC instant of a local clock time given in minutes after midnight of `day` (may exceed a day)."""
    day, minutes = day + timedelta(days=minutes // DAY_MIN), minutes % DAY_MIN
    local = datetime(day.year, day.month, day.day, minutes // 60, minutes % 60, tzinfo=zone)
    moment = local.astimezone(UTC)
    # a clock time skipped in spring does not survive the round trip; the next valid minute is the end of the gap
    if moment.astimezone(zone).replace(tzinfo=None) != local.replace(tzinfo=None):
        before = local.replace(fold=0).utcoffset() or timedelta()
        after = local.replace(fold=1).utcoffset() or timedelta()
        gap = abs(after - before)
        probe = moment - gap
        while probe.astimezone(zone).utcoffset() == (moment - gap).astimezone(zone).utcoffset():
            probe += timedelta(minutes=1)
        return probe
    return moment


def windows(schedule: Schedule, since: datetime, until: datetime) -> Iterator[Window]:
    """All windows of an enabled schedule that touch [since, until), in order of their start."""
    if not schedule.enabled:
        return
    zone = ZoneInfo(schedule.timezone)
    first = since.astimezone(zone).date() - timedelta(days=2)
    if schedule.type is ScheduleType.ONCE:
        start_day = _first_day(schedule, zone)
        days: Iterable[date] = [start_day] if start_day is not None else []
    else:
        days = (first + timedelta(days=n) for n in range((until - since).days + 5))
    for day in days:
        for slot in sorted(schedule.slots, key=lambda s: s.start_min):
            window = _window(schedule, slot, day, zone)
            if window is not None and window.start < until and window.end > since:
                yield window


def window_at(schedules: Iterable[Schedule], now: datetime) -> Window | None:
    """The window that holds now; with several schedules the one that allows least (idle before charge)."""
    found = [
        w for s in schedules for w in windows(s, now, now + timedelta(seconds=1)) if w.start <= now < w.end
    ]
    rank = {SlotAction.IDLE: 0, SlotAction.DISCHARGE: 1, SlotAction.CHARGE: 2}
    return min(
        found,
        key=lambda w: (rank[w.action], w.power_limit_w if w.power_limit_w is not None else float("inf")),
        default=None,
    )


def has_charge_window(schedules: Iterable[Schedule], now: datetime, horizon: timedelta) -> bool:
    """Whether some charge window is still to come or running: only then "outside a window" means waiting."""
    return any(
        window.action is SlotAction.CHARGE and window.end > now
        for schedule in schedules
        for window in windows(schedule, now, now + horizon)
    )


def problems(schedule: Schedule) -> list[str]:
    """What G-11 rejects: no slots, equal start and end unless a whole day, overlaps, weekly slots without days."""
    found = []
    if not schedule.slots:
        found.append("time_slots: at least one is needed")
    for slot in schedule.slots:
        if slot.start_min == slot.end_min and slot.start_min != 0:
            found.append(
                f"slot {clock(slot.start_min)}: start equals end; only 00:00-00:00 means a whole day"
            )
        if schedule.type is ScheduleType.WEEKLY and not slot.days:
            found.append(f"slot {clock(slot.start_min)}: a weekly schedule needs day_of_week")
    spans = sorted(span for slot in schedule.slots for span in _week_spans(schedule, slot))
    for (_, end), (start, _) in itertools.pairwise(spans):
        if start < end:
            found.append(f"time_slots overlap at {clock(start % DAY_MIN)}")
            break
    return found


def clock(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"


def _length_min(slot: TimeSlot) -> int:
    return (slot.end_min - slot.start_min) % DAY_MIN or DAY_MIN


def _week_spans(schedule: Schedule, slot: TimeSlot) -> list[tuple[int, int]]:
    days = slot.days if schedule.type is ScheduleType.WEEKLY else range(7)
    spans = []
    for day in days:
        start = day * DAY_MIN + slot.start_min
        end = start + _length_min(slot)
        spans.append((start, end))
        if end > 7 * DAY_MIN:
            spans.append((start - 7 * DAY_MIN, end - 7 * DAY_MIN))
    return spans


def _window(schedule: Schedule, slot: TimeSlot, day: date, zone: ZoneInfo) -> Window | None:
    if schedule.type is ScheduleType.WEEKLY and day.weekday() not in slot.days:
        return None
    start = instant(day, slot.start_min, zone)
    end = instant(day, slot.start_min + _length_min(slot), zone)
    if schedule.effective_from is not None:
        start = max(start, schedule.effective_from)
    if schedule.effective_until is not None:
        end = min(end, schedule.effective_until)
    if start >= end:
        return None
    return Window(start, end, slot.action, slot.power_limit_w, schedule.id)


def _first_day(schedule: Schedule, zone: ZoneInfo) -> date | None:
    """`once` runs on the first day whose slots touch the validity period; without one there is no such day."""
    if schedule.effective_from is None:
        return None
    day = schedule.effective_from.astimezone(zone).date() - timedelta(days=1)
    for _ in range(3):
        if any(_window(schedule, slot, day, zone) is not None for slot in schedule.slots):
            return day
        day += timedelta(days=1)
    return None
