"""Load by habit: the same weekday, the same clock, an error that is honest, and nothing where nothing was seen."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from controller.core.profile import QUARTER, Profile, quarter_start

MONDAY = datetime(2026, 11, 2, 0, 0, tzinfo=UTC)
DAY = timedelta(days=1)
LOCAL = ZoneInfo("Europe/Amsterdam")


def weeks(profile: Profile, count: int, since: datetime = MONDAY) -> None:
    """5 kW by night, 20 kW on workdays from 08:00 to 18:00, Fridays 40 kW (UTC)."""
    for n in range(count * 7 * 96):
        at = since + n * QUARTER
        busy = 8 <= at.hour < 18 and at.weekday() < 5
        profile.learn(at, (40_000 if at.weekday() == 4 else 20_000) if busy else 5_000)


def test_it_knows_its_weekdays() -> None:
    profile = Profile("UTC")
    weeks(profile, 3)
    expected = [profile.expect(MONDAY + 21 * DAY + n * DAY + timedelta(hours=12)) for n in range(7)]
    assert expected == [20_000] * 4 + [40_000] + [5_000] * 2
    assert profile.expect(MONDAY + timedelta(hours=3)) == 5_000


def test_after_one_day_it_expects_the_same_again_and_on_other_days_too() -> None:
    profile = Profile("UTC")
    for n in range(96):
        profile.learn(MONDAY + n * QUARTER, 7_000)
    assert len(profile.forecast(MONDAY + DAY, MONDAY + 2 * DAY)) == 96
    assert profile.forecast(MONDAY + DAY, MONDAY + 2 * DAY, margin_w=500)[0].power_w == 7_500
    assert profile.error_w is None, "it never forecast anything yet"
    saturday = MONDAY + 5 * DAY
    assert profile.expect(saturday) is None, "a workday says nothing of a weekend"
    first = profile.forecast(saturday, saturday + DAY)
    assert [step.power_w for step in first] == [7_000] * 96, "but nothing nearer is known of the first one"


def test_what_now_differs_by_fades_within_two_hours() -> None:
    profile = Profile("UTC")
    for n in range(96):
        profile.learn(MONDAY + n * QUARTER, 7_000)
    steps = profile.forecast(MONDAY + DAY, MONDAY + 2 * DAY, margin_w=500, now_w=9_000)
    assert [step.power_w for step in steps[:9]] == [9_500 - n * 250 for n in range(9)]
    assert {step.power_w for step in steps[8:]} == {7_500}
    low = profile.forecast(MONDAY + DAY, MONDAY + 2 * DAY, now_w=0)
    assert [step.power_w for step in low[:3]] == [0, 875, 1_750]


def test_a_forecast_with_a_hole_is_none() -> None:
    profile = Profile("UTC")
    for n in range(95):
        profile.learn(MONDAY + n * QUARTER, 7_000)
    assert profile.forecast(MONDAY + DAY, MONDAY + 2 * DAY) == ()
    assert len(profile.forecast(MONDAY + DAY, MONDAY + DAY + timedelta(hours=6))) == 24


def test_the_error_is_what_it_missed_by() -> None:
    profile = Profile("UTC")
    weeks(profile, 4)
    assert profile.error_w is not None
    before = profile.error_w
    for n in range(7 * 96):  # a week unlike all others
        profile.learn(MONDAY + 28 * DAY + n * QUARTER, 12_000)
    assert before < 3_000 < profile.error_w


@pytest.mark.parametrize("change", [datetime(2026, 10, 25, tzinfo=UTC), datetime(2026, 3, 29, tzinfo=UTC)])
def test_it_goes_by_the_clock_on_the_wall_over_the_change(change: datetime) -> None:
    profile = Profile("Europe/Amsterdam")
    day = change - 8 * DAY
    while day < change - DAY:
        for n in range(96):
            at = day + n * QUARTER
            profile.learn(at, 9_000 if at.astimezone(LOCAL).hour == 6 else 1_000)
        day += DAY
    after = change + DAY
    hours = {
        at.astimezone(LOCAL).hour
        for at in (after + n * QUARTER for n in range(96))
        if profile.expect(at) == 9_000
    }
    assert hours == {6}


def test_memory_is_bounded() -> None:
    profile = Profile("UTC")
    weeks(profile, 10)
    assert sum(map(len, profile._weeks.values())) <= 7 * 96 * 6
    assert len(profile._errors_w) == 7 * 96


def test_quarters_begin_on_the_clock() -> None:
    assert quarter_start(datetime(2026, 11, 2, 9, 59, 59, 7, UTC)) == datetime(2026, 11, 2, 9, 45, tzinfo=UTC)
