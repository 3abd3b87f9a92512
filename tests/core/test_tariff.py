"""What energy costs: by the clock and by the file, over both nights on which the clocks change, and without a gap in a sum."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.tariff import DAY_MIN, Band, Pricer, Rates, Span, Tariff, series

ZONE = "Europe/Amsterdam"
LOCAL = ZoneInfo(ZONE)
HOUR = timedelta(hours=1)
DAY_NIGHT = Rates(ZONE, (Band(7 * 60, 23 * 60, 310_000), Band(23 * 60, 7 * 60, 200_000)))
SPRING, AUTUMN, LEAP = date(2026, 3, 29), date(2026, 10, 25), date(2028, 2, 29)
START = datetime(2026, 11, 22, 18, 0, tzinfo=UTC)


def local(day: date, clock: str, fold: int = 0) -> datetime:
    hours, minutes = map(int, clock.split(":"))
    return datetime(day.year, day.month, day.day, hours, minutes, fold=fold, tzinfo=LOCAL).astimezone(UTC)


def spans(*prices: int | None, start: datetime = START) -> Rates:
    """An hour each; None is a hole."""
    found = [
        Span(start + n * HOUR, start + (n + 1) * HOUR, price)
        for n, price in enumerate(prices)
        if price is not None
    ]
    return Rates(ZONE, spans=tuple(found))


# --- prices by the clock -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("day", [SPRING, AUTUMN, LEAP, date(2026, 7, 1)])
def test_bands_go_by_the_clock_on_the_wall_on_any_day(day: date) -> None:
    prices = {
        clock: DAY_NIGHT.at(local(day, clock)) for clock in ("00:00", "06:59", "07:00", "22:59", "23:00")
    }
    assert list(prices.values()) == [200_000, 200_000, 310_000, 310_000, 200_000]


def test_the_hour_that_comes_twice_has_its_price_twice() -> None:
    rates = Rates(ZONE, (Band(2 * 60, 3 * 60, 1), Band(3 * 60, 2 * 60, 2)))
    pieces = list(rates.pieces(local(AUTUMN, "00:00"), local(AUTUMN, "06:00")))
    assert [(end - begin, price) for begin, end, price in pieces] == [
        (2 * HOUR, 2),
        (2 * HOUR, 1),
        (3 * HOUR, 2),
    ]


def test_a_band_that_begins_within_the_hour_that_comes_twice_holds_both_times() -> None:
    rates = Rates(ZONE, (Band(150, 180, 1), Band(180, 150, 2)))  # from 02:30
    pieces = list(rates.pieces(local(AUTUMN, "02:00"), local(AUTUMN, "04:00")))
    half = HOUR / 2
    assert [(end - begin, price) for begin, end, price in pieces] == [
        (half, 2),
        (half, 1),
        (half, 2),
        (half, 1),
        (HOUR, 2),
    ]


def test_the_hour_that_is_skipped_costs_nothing() -> None:
    rates = Rates(ZONE, (Band(2 * 60, 3 * 60, 1), Band(3 * 60, 2 * 60, 2)))
    assert [p[2] for p in rates.pieces(local(SPRING, "00:00"), local(SPRING, "06:00"))] == [2]


def test_days_of_a_band_are_those_it_starts_on() -> None:
    friday_night = Rates(ZONE, (Band(22 * 60, 6 * 60, 5, days=(4,)),))
    friday = date(2026, 11, 20)
    saturday = friday + timedelta(days=1)
    assert friday_night.at(local(friday, "21:59")) is None
    assert friday_night.at(local(friday, "23:00")) == 5
    assert friday_night.at(local(saturday, "05:59")) == 5
    assert friday_night.at(local(saturday, "06:00")) is None
    assert friday_night.at(local(saturday, "23:00")) is None


minutes = st.integers(0, DAY_MIN // 15 - 1).map(lambda n: n * 15)
bands = st.builds(
    lambda a, b, price, days: Band(a, b if b != a else DAY_MIN, price, tuple(sorted(days))),
    minutes,
    minutes,
    st.integers(-500_000, 900_000),
    st.sets(st.integers(0, 6)),
)
days = st.sampled_from([SPRING, AUTUMN, LEAP, date(2026, 2, 28), date(2026, 12, 31)])


@given(st.lists(bands, min_size=1, max_size=4), days, st.integers(0, 47), st.integers(1, 200))
def test_pieces_cover_the_time_and_say_what_the_clock_says(
    found: list[Band], day: date, first: int, quarters: int
) -> None:
    rates = Rates(ZONE, tuple(found))
    since = local(day, "00:00") + first * HOUR / 2
    until = since + quarters * HOUR / 4
    pieces = list(rates.pieces(since, until))
    assert (pieces[0][0], pieces[-1][1]) == (since, until)
    assert all(before[1] == after[0] and before[2] != after[2] for before, after in pairwise(pieces))
    for n in range(quarters):
        at = since + n * HOUR / 4
        (price,) = [price for begin, end, price in pieces if begin <= at < end]
        assert price == rates.at(at)


# --- prices of a file ----------------------------------------------------------------------------------------------------


def test_a_time_without_a_span_has_no_price() -> None:
    rates = spans(1, None, 3)
    assert [rates.at(START + n * HOUR / 2) for n in range(-1, 7)] == [None, 1, 1, None, None, 3, 3, None]
    assert [p[2] for p in rates.pieces(START - HOUR, START + 4 * HOUR)] == [None, 1, None, 3, None]


def test_within_keeps_what_touches() -> None:
    tariff = Tariff("EUR", spans(1, 2, 3), spans(4, 5, 6), 7)
    piece = tariff.within(START + 1.5 * HOUR, START + 2 * HOUR)
    assert [span.price_micro for span in piece.buy.spans] == [2]
    assert piece.feed_in is not None
    assert [span.price_micro for span in piece.feed_in.spans] == [5]
    assert (piece.currency, piece.peak_price_micro) == ("EUR", 7)


# --- for the planner -----------------------------------------------------------------------------------------------------


def test_the_series_has_every_hour_and_ends_with_what_is_known() -> None:
    found = series(spans(100_000, None, 300_000), START + HOUR / 4, START + 50 * HOUR)
    assert [price.start for price in found] == [
        START + HOUR / 4,
        START + HOUR,
        START + 2 * HOUR,
    ]
    assert (found[0].amount, found[2].amount) == (0.1, 0.3)
    assert math.isnan(found[1].amount)
    assert len(series(DAY_NIGHT, START, START + 30 * HOUR)) == 30
    assert series(spans(None), START, START + HOUR) == ()


# --- cost ----------------------------------------------------------------------------------------------------------------


def test_a_kilowatt_hour_costs_its_price() -> None:
    assert Pricer(spans(310_000)).cost_nano(1000, START, START + HOUR) == 310_000_000
    assert Pricer(spans(-50_000)).cost_nano(2000, START, START) == -100_000_000
    assert Pricer(spans(None)).cost_nano(1, START, START) is None


def test_energy_over_two_prices_is_spread_evenly() -> None:
    pricer = Pricer(spans(100_000, 400_000))
    assert pricer.cost_nano(1000, START + HOUR / 2, START + 1.5 * HOUR) == 250_000_000
    assert pricer.varies(START, START + 2 * HOUR)
    assert not pricer.varies(START, START + HOUR)


def test_a_hole_on_the_way_makes_the_cost_unknown() -> None:
    assert Pricer(spans(1, None, 3)).cost_nano(1000, START, START + 3 * HOUR) is None


moments = st.integers(0, 72 * 3600).map(lambda seconds: local(AUTUMN, "00:00") + timedelta(seconds=seconds))


@given(
    st.lists(moments, min_size=2, max_size=12, unique=True),
    st.lists(st.integers(0, 50_000), min_size=11, max_size=11),
    st.booleans(),
)
def test_the_sum_of_the_parts_is_the_whole(at: list[datetime], energies: list[int], by_clock: bool) -> None:
    """A pricer asked piece by piece (and in any order: it remembers) costs what one sees by hand."""
    at.sort()
    rates = DAY_NIGHT if by_clock else spans(*range(-20_000, 700_000, 10_000), start=local(AUTUMN, "00:00"))
    pricer = Pricer(rates)
    total = 0
    for (begin, end), energy_wh in zip(pairwise(at), energies, strict=False):
        cost = pricer.cost_nano(energy_wh, begin, end)
        assert cost is not None
        total += cost
    by_hand = 0.0
    for (begin, end), energy_wh in zip(pairwise(at), energies, strict=False):
        for since, until, price in rates.pieces(begin, end):
            by_hand += energy_wh * (price or 0) * ((until - since) / (end - begin))
    assert total == pytest.approx(by_hand, abs=2_000 * len(at), rel=1e-6)  # a thousandth of a Wh per piece


@given(moments, st.integers(1, 20_000), st.lists(st.integers(1, 100), min_size=1, max_size=8))
def test_energy_told_in_parts_at_one_price_costs_exactly_the_same(
    begin: datetime, energy_wh: int, parts: list[int]
) -> None:
    pricer = Pricer(Rates(ZONE, (Band(0, DAY_MIN, 123_457),)))
    whole = pricer.cost_nano(energy_wh + sum(parts), begin, begin + HOUR)
    pieces = [pricer.cost_nano(wh, begin, begin + HOUR) for wh in (energy_wh, *parts)]
    assert whole == sum(cost for cost in pieces if cost is not None)
