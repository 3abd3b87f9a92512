"""The schedule file of `depot schedule set` (INTERFACE section 4): TOML in the API's words <-> `Schedule`."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

from controller.core.model import Schedule, ScheduleType, SlotAction, TimeSlot
from controller.core.units import parse_power_w
from controller.core.windows import clock, problems

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_KEYS = {
    "schedule_id", "type", "timezone", "enabled", "target_soc", "effective_from", "effective_until", "time_slots"
}  # fmt: skip
_SLOT_KEYS = {"day_of_week", "start", "end", "power_limit", "action"}


def read_schedule(text: str, site_zone: str, now: datetime) -> Schedule:
    """A `once` schedule without `effective_from` counts from `now`. Raises ValueError with one line that names the key and what is expected."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"not TOML: {error}") from None
    except RecursionError:
        raise ValueError("not TOML: brackets nested too deep") from None
    _only(document, _KEYS, "")
    if "schedule_id" not in document:
        raise ValueError('schedule_id is missing; write schedule_id = "nights"')
    slots = document.get("time_slots", [])
    if not isinstance(slots, list) or not all(isinstance(slot, dict) for slot in slots):
        raise ValueError("time_slots: write each as [[time_slots]]")
    schedule = Schedule(
        id=_text(document, "schedule_id"),
        type=_choice(ScheduleType, document, "type"),
        enabled=_flag(document, "enabled", True),
        timezone=_zone(document, site_zone),
        slots=tuple(_slot(slot, number + 1) for number, slot in enumerate(slots)),
        target_soc=_percent(document, "target_soc"),
        effective_from=_instant(document, "effective_from", _zone(document, site_zone)),
        effective_until=_instant(document, "effective_until", _zone(document, site_zone)),
    )
    if schedule.type is ScheduleType.ONCE and schedule.effective_from is None:
        schedule = replace(schedule, effective_from=now)
    found = problems(schedule)
    if found:
        raise ValueError("; ".join(found))
    return schedule


def schedule_document(schedule: Schedule) -> dict[str, Any]:
    """The schedule as plain values in the words of the file, for `--json`."""
    return {
        "schedule_id": schedule.id,
        "type": schedule.type.value,
        "timezone": schedule.timezone,
        "enabled": schedule.enabled,
        "target_soc": schedule.target_soc,
        "effective_from": _stamp(schedule.effective_from),
        "effective_until": _stamp(schedule.effective_until),
        "time_slots": [
            {
                "day_of_week": [DAYS[day] for day in slot.days],
                "start": clock(slot.start_min),
                "end": clock(slot.end_min),
                "power_limit": None if slot.power_limit_w is None else f"{slot.power_limit_w / 1e3:.12g} kW",
                "action": slot.action.value,
            }
            for slot in schedule.slots
        ],
    }


def _slot(document: Mapping[str, Any], number: int) -> TimeSlot:
    where = f"time_slots {number}: "
    _only(document, _SLOT_KEYS, where)
    days = document.get("day_of_week", [])
    if not isinstance(days, list) or any(day not in DAYS for day in days):
        raise ValueError(f"{where}day_of_week: a list of {', '.join(DAYS)}")
    action, power_w = _choice(SlotAction, document, "action", where), _power(document, where)
    if action is SlotAction.DISCHARGE and not power_w:
        raise ValueError(f'{where}power_limit is missing: a discharge needs one above 0; write "5 kW"')
    return TimeSlot(
        start_min=_minutes(document, "start", where),
        end_min=_minutes(document, "end", where),
        action=action,
        power_limit_w=power_w,
        days=tuple(sorted(DAYS.index(day) for day in days)),
    )


def _only(document: Mapping[str, Any], keys: set[str], where: str) -> None:
    for key in document:
        if key not in keys:
            raise ValueError(f"{where}{key} is not known; known are {', '.join(sorted(keys))}")


def _text(document: Mapping[str, Any], key: str) -> str:
    value = document[key]
    if not isinstance(value, str) or not value or len(value) > 64 or not value.isprintable():
        raise ValueError(f"{key}: a text of 1 to 64 characters")
    return value


def _flag(document: Mapping[str, Any], key: str, default: bool) -> bool:
    value = document.get(key, default)
    if not isinstance(value, bool):
        raise ValueError(f"{key}: true or false")
    return value


def _choice(kind: Any, document: Mapping[str, Any], key: str, where: str = "") -> Any:
    names = [member.value for member in kind]
    if document.get(key) not in names:
        raise ValueError(f"{where}{key}: one of {', '.join(names)}")
    return kind(document[key])


def _percent(document: Mapping[str, Any], key: str) -> int | None:
    value = document.get(key)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 100:
        raise ValueError(f"{key}: a whole number from 0 to 100")
    return value


def _power(document: Mapping[str, Any], where: str) -> int | None:
    value = document.get("power_limit")
    if value is None:
        return None
    try:
        power_w = parse_power_w(value) if isinstance(value, str) else -1
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{where}power_limit: {error}") from None
    if power_w < 0:
        raise ValueError(f'{where}power_limit: write it like "7 kW"')
    return power_w


def _zone(document: Mapping[str, Any], default: str) -> str:
    name = document.get("timezone", default)
    try:
        ZoneInfo(name)
    except (ValueError, OSError, TypeError, KeyError):
        raise ValueError(f'timezone: "{name}" is not known; write it like "Europe/Amsterdam"') from None
    return str(name)


def _minutes(document: Mapping[str, Any], key: str, where: str) -> int:
    value = document.get(key)
    parts = value.split(":") if isinstance(value, str) else []
    if len(parts) == 2 and all(part.isascii() and part.isdigit() and len(part) == 2 for part in parts):
        hours, minutes = int(parts[0]), int(parts[1])
        if hours < 24 and minutes < 60:
            return hours * 60 + minutes
    raise ValueError(f'{where}{key}: write it like "22:00"')


def _instant(document: Mapping[str, Any], key: str, zone: str) -> datetime | None:
    value = document.get(key)
    if value is None:
        return None
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)  # noqa: DTZ001 - the zone follows
    if not isinstance(value, datetime):
        raise ValueError(f"{key}: a date or time like 2026-11-22T00:00:00Z")
    try:
        at = (value if value.tzinfo else value.replace(tzinfo=ZoneInfo(zone))).astimezone(UTC)
    except OverflowError:
        at = None
    # charging windows look a few days around an instant
    if at is None or not 1970 <= at.year < 9999:
        raise ValueError(f"{key}: {value} is out of range")
    return at


def _stamp(at: datetime | None) -> str | None:
    return None if at is None else at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
