"""Charging windows over the calendar: short and long nights, midnight, leap days, against a minute-by-minute walk."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from controller.core.model import Schedule, ScheduleType, SlotAction, TimeSlot
from controller.core.windows import DAY_MIN, has_charge_window, problems, window_at, windows

BERLIN = "Europe/Berlin"
CHARGE, IDLE, DISCHARGE = SlotAction.CHARGE, SlotAction.IDLE, SlotAction.DISCHARGE


def clock_min(text: str) -> int:
    hours, minutes = text.split(":")
    return int(hours) * 60 + int(minutes)


def slot(start: str, end: str, action: SlotAction = CHARGE, days: tuple[int, ...] = ()) -> TimeSlot:
    return TimeSlot(clock_min(start), clock_min(end), action, days=days)


def daily(*slots: TimeSlot, zone: str = BERLIN, kind: ScheduleType = ScheduleType.DAILY) -> Schedule:
    return Schedule("s", kind, True, zone, slots)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def spans(schedule: Schedule, since: str, until: str) -> list[tuple[str, str]]:
    return [
        (f"{w.start:%m-%d %H:%M}", f"{w.end:%m-%d %H:%M}") for w in windows(schedule, utc(since), utc(until))
    ]


@pytest.mark.parametrize(
    ("start", "end", "day", "wanted"),
    [
        ("22:00", "06:00", "2026-06-10", ("06-10 20:00", "06-11 04:00")),
        ("00:00", "00:00", "2026-06-10", ("06-09 22:00", "06-10 22:00")),
        # the short night, 29 March 2026: 02:00-03:00 does not exist
        ("01:00", "05:00", "2026-03-29", ("03-29 00:00", "03-29 03:00")),
        ("02:30", "05:00", "2026-03-29", ("03-29 01:00", "03-29 03:00")),
        ("01:00", "02:30", "2026-03-29", ("03-29 00:00", "03-29 01:00")),
        ("02:10", "02:50", "2026-03-29", None),
        # the long night, 25 October 2026: 02:00-03:00 comes twice, the first counts
        ("01:00", "05:00", "2026-10-25", ("10-24 23:00", "10-25 04:00")),
        ("02:30", "05:00", "2026-10-25", ("10-25 00:30", "10-25 04:00")),
        ("01:00", "02:30", "2026-10-25", ("10-24 23:00", "10-25 00:30")),
        ("02:10", "02:50", "2026-10-25", ("10-25 00:10", "10-25 00:50")),
    ],
)
def test_one_night(start: str, end: str, day: str, wanted: tuple[str, str] | None) -> None:
    local = datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(BERLIN))
    since, until = (
        (local + timedelta(minutes=1)).astimezone(UTC),
        (local + timedelta(hours=23)).astimezone(UTC),
    )
    found = [
        (f"{w.start:%m-%d %H:%M}", f"{w.end:%m-%d %H:%M}")
        for w in windows(daily(slot(start, end)), since, until)
        if w.start.astimezone(ZoneInfo(BERLIN)).date() == local.date()
    ]
    assert found == ([] if wanted is None else [wanted])


def test_a_leap_day_is_a_day() -> None:
    schedule = daily(slot("23:00", "01:00"), zone="UTC")
    assert spans(schedule, "2028-02-28 12:00", "2028-03-01 12:00") == [
        ("02-28 23:00", "02-29 01:00"),
        ("02-29 23:00", "03-01 01:00"),
    ]


def test_a_weekly_slot_belongs_to_the_day_it_starts_on() -> None:
    schedule = daily(slot("22:00", "06:00", days=(4,)), zone="UTC", kind=ScheduleType.WEEKLY)
    assert spans(schedule, "2026-11-16 00:00", "2026-11-30 00:00") == [
        ("11-20 22:00", "11-21 06:00"),  # Friday into Saturday
        ("11-27 22:00", "11-28 06:00"),
    ]


def once(since: str | None, until: str | None, *slots: TimeSlot) -> Schedule:
    return Schedule(
        "s",
        ScheduleType.ONCE,
        True,
        "UTC",
        slots,
        effective_from=None if since is None else utc(since),
        effective_until=None if until is None else utc(until),
    )


@pytest.mark.parametrize(
    ("schedule", "wanted"),
    [
        (once("2026-11-20 08:00", None, slot("10:00", "12:00")), [("11-20 10:00", "11-20 12:00")]),
        (once("2026-11-20 11:00", None, slot("10:00", "12:00")), [("11-20 11:00", "11-20 12:00")]),
        (once("2026-11-20 13:00", None, slot("10:00", "12:00")), [("11-21 10:00", "11-21 12:00")]),
        (once("2026-11-20 02:00", None, slot("22:00", "06:00")), [("11-20 02:00", "11-20 06:00")]),
        (
            once("2026-11-20 08:00", "2026-11-20 11:00", slot("10:00", "12:00")),
            [("11-20 10:00", "11-20 11:00")],
        ),
        (once("2026-11-20 13:00", "2026-11-20 14:00", slot("10:00", "12:00")), []),
        (once(None, None, slot("10:00", "12:00")), []),
    ],
)
def test_once_runs_once(schedule: Schedule, wanted: list[tuple[str, str]]) -> None:
    assert spans(schedule, "2026-11-15 00:00", "2026-11-30 00:00") == wanted


def test_validity_cuts_slots_short_and_a_disabled_schedule_has_none() -> None:
    schedule = Schedule(
        "s",
        ScheduleType.DAILY,
        True,
        "UTC",
        (slot("08:00", "12:00"),),
        effective_from=utc("2026-11-20 10:00"),
        effective_until=utc("2026-11-21 09:00"),
    )
    assert spans(schedule, "2026-11-15 00:00", "2026-11-30 00:00") == [
        ("11-20 10:00", "11-20 12:00"),
        ("11-21 08:00", "11-21 09:00"),
    ]
    off = Schedule("s", ScheduleType.DAILY, False, "UTC", (slot("08:00", "12:00"),))
    assert spans(off, "2026-11-15 00:00", "2026-11-30 00:00") == []


def test_of_several_schedules_the_one_that_allows_least_holds() -> None:
    now = utc("2026-11-20 10:00")
    full = Schedule("full", ScheduleType.DAILY, True, "UTC", (slot("08:00", "12:00"),))
    half = Schedule("half", ScheduleType.DAILY, True, "UTC", (TimeSlot(540, 660, CHARGE, 3000),))
    idle = Schedule("idle", ScheduleType.DAILY, True, "UTC", (slot("09:30", "10:30", IDLE),))
    chosen = [window_at(given, now) for given in ((full,), (full, half), (full, half, idle), ())]
    assert [w.schedule if w else None for w in chosen] == ["full", "half", "idle", None]


def test_only_a_charge_window_ahead_makes_waiting_worth_it() -> None:
    now, week = utc("2026-11-20 10:00"), timedelta(days=8)
    assert has_charge_window((daily(slot("08:00", "09:00")),), now, week)
    assert not has_charge_window((daily(slot("08:00", "09:00", IDLE)),), now, week)
    assert not has_charge_window(
        (once("2026-11-18 00:00", "2026-11-19 00:00", slot("08:00", "09:00")),), now, week
    )


@pytest.mark.parametrize(
    ("schedule", "word"),
    [
        (daily(), "at least one"),
        (daily(slot("08:00", "08:00")), "start equals end"),
        (daily(slot("08:00", "10:00"), slot("09:59", "11:00")), "overlap at 09:59"),
        (daily(slot("22:00", "06:00"), slot("05:00", "07:00")), "overlap"),
        (daily(slot("00:00", "00:00"), slot("05:00", "07:00")), "overlap"),
        (daily(slot("08:00", "10:00"), kind=ScheduleType.WEEKLY), "day_of_week"),
        (
            daily(
                slot("22:00", "06:00", days=(6,)), slot("05:00", "07:00", days=(0,)), kind=ScheduleType.WEEKLY
            ),
            "overlap at 05:00",
        ),
    ],
)
def test_a_bad_schedule_is_named(schedule: Schedule, word: str) -> None:
    assert any(word in problem for problem in problems(schedule))


@pytest.mark.parametrize(
    "schedule",
    [
        daily(slot("08:00", "10:00"), slot("10:00", "12:00")),
        daily(slot("22:00", "06:00"), slot("06:00", "22:00")),
        daily(slot("00:00", "00:00")),
        daily(slot("22:00", "06:00", days=(5,)), slot("05:00", "07:00", days=(0,)), kind=ScheduleType.WEEKLY),
    ],
)
def test_a_good_schedule_is_not_blamed(schedule: Schedule) -> None:
    assert problems(schedule) == []


# --- against a walk over every minute ------------------------------------------------------------------------------------

NIGHTS = ("2026-03-28", "2026-10-24", "2028-02-28", "2026-12-30", "2026-06-10")
ZONES = (BERLIN, "America/New_York", "Australia/Lord_Howe", "UTC")


@st.composite
def schedules(draw: st.DrawFn) -> Schedule:
    kind = draw(st.sampled_from([ScheduleType.DAILY, ScheduleType.WEEKLY]))
    minute = st.one_of(st.integers(0, DAY_MIN - 1), st.integers(55, 200))
    slots = tuple(
        TimeSlot(
            draw(minute),
            draw(minute),
            draw(st.sampled_from([CHARGE, IDLE, DISCHARGE])),
            days=tuple(sorted(draw(st.sets(st.integers(0, 6), min_size=1))))
            if kind is ScheduleType.WEEKLY
            else (),
        )
        for _ in range(draw(st.integers(1, 3)))
    )
    schedule = Schedule("s", kind, True, draw(st.sampled_from(ZONES)), slots)
    assume(problems(schedule) == [])
    return schedule


def walk(schedule: Schedule, since: datetime, minutes: int) -> list[SlotAction | None]:
    """The action of every minute: a slot begins at the first minute whose local clock has reached its start, and
    ends at the first one whose local clock has reached its end. No arithmetic with offsets."""
    zone = ZoneInfo(schedule.timezone)
    lead = 3 * DAY_MIN
    instants = [since + timedelta(minutes=n) for n in range(-lead, minutes)]
    reached: dict[datetime, int] = {}  # local clock -> first minute at which the clock was there or later
    highest: datetime | None = None
    for index, moment in enumerate(instants):
        local = moment.astimezone(zone).replace(tzinfo=None)
        if highest is None:
            reached[local] = index
            highest = local
        while highest < local:
            highest += timedelta(minutes=1)
            reached[highest] = index
    actions: list[SlotAction | None] = [None] * len(instants)
    first_day = min(reached).replace(hour=0, minute=0) + timedelta(days=1)
    for number in range(-1, 8):
        day = first_day + timedelta(days=number)
        for piece in schedule.slots:
            if schedule.type is ScheduleType.WEEKLY and day.weekday() not in piece.days:
                continue
            start = day + timedelta(minutes=piece.start_min)
            end = day + timedelta(minutes=piece.end_min)
            if piece.end_min <= piece.start_min:
                end += timedelta(days=1)
            for index in range(reached.get(start, len(instants)), reached.get(end, len(instants))):
                actions[index] = piece.action
    return actions[lead:]


@settings(derandomize=True, max_examples=40, deadline=None)
@given(schedules(), st.sampled_from(NIGHTS))
def test_every_minute_agrees_with_a_walk_and_windows_never_overlap(schedule: Schedule, night: str) -> None:
    since, minutes = utc(f"{night} 11:00"), 2 * DAY_MIN
    found = list(windows(schedule, since, since + timedelta(minutes=minutes)))
    assert all(earlier.end <= later.start for earlier, later in pairwise(found))
    actions: list[SlotAction | None] = []
    for n in range(minutes):
        moment = since + timedelta(minutes=n)
        holding = [w.action for w in found if w.start <= moment < w.end]
        assert len(holding) <= 1
        actions.append(holding[0] if holding else None)
    assert actions == walk(schedule, since, minutes)
    for n in range(0, minutes, 97):
        window = window_at((schedule,), since + timedelta(minutes=n))
        assert (window.action if window else None) == actions[n]
