"""The charging plans a simulated Open Platform charger keeps and runs by its own clock.

Owns the reading of G-11, every choice of which fails towards "no action": a zone is mandatory (1002), overlapping
slots are refused (1001), a slot belongs to the local day it starts on, an end at or before the start lies on the next
day (equal is a whole day only at 00:00), validity cuts slots short, `once` runs each slot in its first window after it
was stored. On the short night a missing time moves to the next valid minute, on the long night the first occurrence
counts. Pure: the time is an argument. Source: Open Platform REFERENCE section 9, GAPS G-11.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from controller.core.model import Schedule, ScheduleType, SlotAction, TimeSlot
from drivers.sim.cloudwords import MAX_KW, Refusal, choice, instant, integer, required, text

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_CLOCK = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")
_DAY_MIN = 24 * 60
_ENDLESS = datetime.max.replace(tzinfo=UTC)
_BEGINNING = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Window:
    """One occurrence of a slot, in UTC, half-open."""

    start: datetime
    end: datetime
    slot: TimeSlot


@dataclass(frozen=True, slots=True)
class StoredSchedule:
    """A plan as the charger holds it; `once` has its windows fixed when it is stored and is spent after the last."""

    plan: Schedule
    once: tuple[Window, ...] = ()

    def slot_at(self, now: datetime) -> TimeSlot | None:
        """The slot that holds at `now` (UTC), None outside slots and for a plan that is switched off."""
        if not self.plan.enabled:
            return None
        if self.plan.type is ScheduleType.ONCE:
            windows: Iterator[Window] = iter(self.once)
        else:
            today = now.astimezone(ZoneInfo(self.plan.timezone)).date()
            windows = (w for back in (1, 0) for w in _windows_on(self.plan, today - timedelta(days=back)))
        return next((w.slot for w in windows if w.start <= now < w.end), None)


def store(plan: Schedule, now: datetime) -> StoredSchedule:
    """The plan as a charger that gets it at `now` (UTC) will run it."""
    if plan.type is not ScheduleType.ONCE:
        return StoredSchedule(plan)
    first_day = max(plan.effective_from or now, now).astimezone(ZoneInfo(plan.timezone)).date()
    upcoming = [
        window
        for ahead in range(
            -1, 9
        )  # yesterday's overnight slot may still run; every weekday comes within eight days
        for window in _windows_on(plan, first_day + timedelta(days=ahead))
        if window.end > now
    ]
    firsts = (next((w for w in upcoming if w.slot is slot), None) for slot in plan.slots)
    return StoredSchedule(plan, tuple(w for w in firsts if w is not None))


def read_schedule(body: Mapping[str, Any]) -> Schedule:
    """The body of a schedule call. Raises Refusal 1001 or 1002."""
    schedule_id = required(text(body, "schedule_id"), "schedule_id")
    enabled = required(body.get("enabled"), "enabled")
    if not isinstance(enabled, bool):
        raise Refusal(1001, "enabled must be true or false", field="enabled", value=enabled)
    kind = ScheduleType(required(choice(body, "type", tuple(ScheduleType)), "type"))
    zone = required(text(body, "timezone"), "timezone")
    try:
        ZoneInfo(zone)
    except (KeyError, ValueError, OSError):
        raise Refusal(1001, "timezone must be an IANA name", field="timezone", value=zone) from None
    slots_in = required(body.get("time_slots"), "time_slots")
    if not isinstance(slots_in, list) or not all(isinstance(s, dict) for s in slots_in):
        raise Refusal(1001, "time_slots must be a list of objects", field="time_slots", value=slots_in)
    if enabled and not slots_in:
        raise Refusal(1001, "an enabled schedule needs a slot", field="time_slots", value=slots_in)
    slots = tuple(_read_slot(slot, kind) for slot in slots_in)
    _refuse_overlap(slots)
    plan = Schedule(
        id=schedule_id,
        type=kind,
        enabled=enabled,
        timezone=zone,
        slots=slots,
        target_soc=integer(body, "target_soc", low=0, high=100),
        effective_from=instant(body, "effective_from"),
        effective_until=instant(body, "effective_until"),
    )
    if enabled and is_empty(plan):
        raise Refusal(1001, "effective_until must be after effective_from", field="effective_until")
    return plan


def is_empty(plan: Schedule) -> bool:
    """Whether the validity holds no instant: with `enabled: false` that deletes the plan."""
    return (
        plan.effective_from is not None
        and plan.effective_until is not None
        and plan.effective_until <= plan.effective_from
    )


def _read_slot(slot: Mapping[str, Any], kind: ScheduleType) -> TimeSlot:
    start_min, end_min = _clock(slot, "start"), _clock(slot, "end")
    if start_min == end_min != 0:
        raise Refusal(1001, "start and end may only be equal at 00:00", field="end", value=slot["end"])
    power = slot.get("power_limit")
    if isinstance(power, bool) or not (
        power is None or (isinstance(power, int | float) and 0 <= power < MAX_KW)
    ):
        raise Refusal(1001, "power_limit must be a power in kW", field="power_limit", value=power)
    return TimeSlot(
        start_min=start_min,
        end_min=end_min,
        action=SlotAction(required(choice(slot, "action", tuple(SlotAction)), "action")),
        power_limit_w=None if power is None else math.floor(round(power * 1e3, 6)),
        days=_days(slot, kind),
    )


def _days(slot: Mapping[str, Any], kind: ScheduleType) -> tuple[int, ...]:
    days = slot.get("day_of_week")
    if kind is ScheduleType.WEEKLY and not days:
        raise Refusal(1002, "day_of_week is required for weekly", field="day_of_week")
    if days is None or kind is ScheduleType.DAILY:
        return ()
    if not isinstance(days, list) or not all(day in DAYS for day in days):
        raise Refusal(
            1001, f"day_of_week must be a list of {', '.join(DAYS)}", field="day_of_week", value=days
        )
    return tuple(sorted({DAYS.index(day) for day in days}))


def _clock(slot: Mapping[str, Any], field: str) -> int:
    value = required(text(slot, field), field)
    match = _CLOCK.fullmatch(value)
    if match is None:
        raise Refusal(1001, f"{field} must be HH:MM", field=field, value=value)
    return int(match[1]) * 60 + int(match[2])


def _refuse_overlap(slots: tuple[TimeSlot, ...]) -> None:
    """Compares all occurrences within a week, the last one with the first of the week after."""
    spans = sorted(
        (day * _DAY_MIN + slot.start_min, (slot.end_min - slot.start_min) % _DAY_MIN or _DAY_MIN)
        for slot in slots
        for day in slot.days or range(7)
    )
    if not spans:
        return
    following = [start for start, _ in spans[1:]] + [spans[0][0] + 7 * _DAY_MIN]
    if any(start + length > after for (start, length), after in zip(spans, following, strict=True)):
        raise Refusal(1001, "time_slots overlap", field="time_slots")


def _windows_on(plan: Schedule, day: date) -> Iterator[Window]:
    """Occurrences that start on this local day, cut to the plan's validity."""
    zone = ZoneInfo(plan.timezone)
    for slot in plan.slots:
        if slot.days and day.weekday() not in slot.days:
            continue
        last = day if slot.end_min > slot.start_min else day + timedelta(days=1)
        start = max(_instant(day, slot.start_min, zone), plan.effective_from or _BEGINNING)
        end = min(_instant(last, slot.end_min, zone), plan.effective_until or _ENDLESS)
        if start < end:
            yield Window(start, end, slot)


def _instant(day: date, minute: int, zone: ZoneInfo) -> datetime:
    local = datetime(day.year, day.month, day.day, minute // 60, minute % 60)  # noqa: DTZ001 (zone follows)
    while True:
        utc = local.replace(tzinfo=zone).astimezone(UTC)  # fold 0: the first of two
        if utc.astimezone(zone).replace(tzinfo=None) == local:
            return utc
        local += timedelta(minutes=1)  # in the gap of the short night
