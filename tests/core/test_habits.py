"""What is usual, learned from stays: robust, per weekday where enough is known, on the site's clock."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from controller.core.habits import Draw, Stay, draws, errors_s, learned
from controller.core.model import EvseId
from controller.core.windows import clock, instant

ZONE = ZoneInfo("Europe/Amsterdam")
ONE, TWO = EvseId("CP1/1"), EvseId("CP2/1")
NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def stay(
    day: date, came: str = "18:10", left: str = "06:30", nights: int = 1, energy_wh: int = 20_000
) -> Stay:
    def at(day: date, text: str) -> datetime:
        return instant(day, int(text[:2]) * 60 + int(text[3:]), ZONE)

    return Stay("BUS", ONE, at(day, came), at(day + timedelta(days=nights), left), energy_wh, 3, 16_000)


def weeks(count: int, *, until: date = date(2026, 11, 21)) -> list[date]:
    """Monday to Thursday of so many weeks."""
    days = [until - timedelta(days=n) for n in range(7 * count)]
    return sorted(day for day in days if day.weekday() < 4)


def test_the_usual_is_not_moved_by_a_day_in_the_workshop() -> None:
    days = weeks(4)
    stays = [stay(day) for day in days]
    stays[5] = stay(days[5], came="09:00", left="17:00", nights=3, energy_wh=90_000)
    stays[7] = stay(days[7], left="06:50")
    (habit,) = learned(stays, "Europe/Amsterdam", NOW)
    assert (habit.evse, habit.energy_wh, habit.phases, habit.most_ma) == (ONE, 20_000, 3, 16_000)
    monday = habit.on(0)
    assert monday is not None and monday.is_regular
    assert (clock(monday.arrives_min), monday.departs_min) == ("18:10", 24 * 60 + 390)
    tuesday = habit.on(1)
    assert tuesday is not None and (tuesday.seen, tuesday.of, tuesday.comes_pct) == (3, 4, 100)
    assert tuesday.text == "usual 06:30, 3 of 4 days"
    friday = habit.on(4)
    assert friday is not None and friday.comes_pct == 0, "it never came on one"
    assert habit.on(6) is None


def test_a_summer_and_a_winter_night_are_the_same_clock() -> None:
    days = weeks(7)
    assert days[0] < date(2026, 10, 25) < days[-1]
    (habit,) = learned([stay(day) for day in days], "Europe/Amsterdam", NOW)
    assert {(day.arrives_min, day.departs_min) for day in habit.days} == {(18 * 60 + 10, 24 * 60 + 390)}


def test_weekdays_differ_where_enough_is_known() -> None:
    days = weeks(5)
    stays = [stay(day, left="05:00" if day.weekday() == 2 else "06:30") for day in days]
    (habit,) = learned(stays, "Europe/Amsterdam", NOW)
    assert [day.departs_min - 24 * 60 for day in habit.days if day.weekday < 4] == [390, 390, 300, 390]


def test_too_few_short_or_old_stays_are_no_habit() -> None:
    days = weeks(4)
    assert learned([stay(day) for day in days[-4:]], "Europe/Amsterdam", NOW) == ()
    short = [replace(stay(day), left=stay(day).arrived + timedelta(minutes=5)) for day in days]
    assert learned(short, "Europe/Amsterdam", NOW) == ()
    assert learned([stay(day) for day in days], "Europe/Amsterdam", NOW + timedelta(days=90)) == ()


def test_an_early_departure_counts_more_than_a_late_one() -> None:
    days = weeks(4)
    stays = [stay(day, left="06:00" if n % 3 == 0 else "07:00") for n, day in enumerate(days)]
    (habit,) = learned(stays, "Europe/Amsterdam", NOW)
    assert habit.days and all(day.departs_min == 24 * 60 + 360 for day in habit.days)


def test_errors_of_what_was_announced() -> None:
    base = stay(date(2026, 11, 16))
    stays = [
        replace(base, announced=base.left - timedelta(minutes=10)),
        replace(base, announced=base.left + timedelta(minutes=5)),
        replace(base, announced=base.left + timedelta(hours=20)),
        base,
    ]
    assert errors_s(stays) == (600.0, -300.0)


MOMENTS = st.datetimes(datetime(2026, 8, 1), datetime(2026, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001
STAYS = st.builds(
    lambda key, evse, arrived, hours, energy_wh: Stay(
        key, evse, arrived, arrived + timedelta(hours=hours), energy_wh
    ),
    st.sampled_from("AB"),
    st.sampled_from([ONE, TWO]),
    MOMENTS,
    st.floats(0, 200),
    st.integers(0, 100_000),
)


@given(stays=st.lists(STAYS, max_size=30), now=MOMENTS)
def test_whatever_the_stays_their_order_does_not_matter_and_numbers_make_sense(
    stays: list[Stay], now: datetime
) -> None:
    habits = learned(stays, "Europe/Amsterdam", now)
    assert {habit.key for habit in learned(stays[::-1], "Europe/Amsterdam", now)} == {h.key for h in habits}
    for habit in habits:
        assert habit.energy_wh in {each.energy_wh for each in stays}
        for day in habit.days:
            assert day.of > 0 and 0 < day.seen <= day.of and 0 <= day.comes_pct <= 100
            assert 0 <= day.arrives_min < 24 * 60 and day.departs_min >= 0


# --- how vehicles draw --------------------------------------------------------------------------------------------


def drew(
    day: int,
    phases: int | None = None,
    most_ma: int | None = None,
    own_ma: int | None = None,
    key: str = "BUS",
) -> Stay:
    at = datetime(2026, 11, day, 18, 0, tzinfo=UTC)
    return Stay(key, ONE, at, at + timedelta(hours=12), 10_000, phases, most_ma, own_ma=own_ma)


def test_one_stay_shows_how_a_vehicle_draws() -> None:
    stays = [drew(1, 1, 16_000, 15_800), drew(1, 3, 32_000, key="VAN"), drew(1, key="SHY")]
    assert draws(stays) == (Draw("BUS", 1, 15_800), Draw("VAN", 3, None))


def test_of_several_stays_the_most_counts_and_what_is_long_past_does_not() -> None:
    """A limit of ours hides what it can; that it once drew more than it took freely another time shows that it can."""
    later = [drew(day, 1, 10_000) for day in range(2, 5)]
    assert draws([drew(1, 1, 16_000, 15_800), *later]) == (Draw("BUS", 1, 15_800),)
    assert draws([drew(1, 1, 16_000, 10_000), *later]) == (Draw("BUS", 1, None),)
    assert draws([drew(1, 3, 16_000, 16_000), *later, drew(5, 1, 10_000), drew(6, 1, 10_000)]) == (
        Draw("BUS", 1, None),
    )
