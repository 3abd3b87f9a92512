"""The prices file: every hour it gives and no other, on the nights the clocks change too; never a traceback."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.config.prices import BadPrices, parse_prices, read_prices

ZONE = "Europe/Amsterdam"
HOUR = timedelta(hours=1)
DATA = Path(__file__).parents[1] / "data" / "prices_2019.csv"


def parsed(*rows: str) -> list[tuple[datetime, timedelta, int]]:
    found = parse_prices("\n".join(["start,price_per_kwh", *rows]), ZONE)
    return [(span.start, span.end - span.start, span.price_micro) for span in found]


def utc(day: int, hour: int, month: int = 11, minute: int = 0) -> datetime:
    return datetime(2026, month, day, hour, minute, tzinfo=UTC)


def test_local_times_and_times_with_an_offset() -> None:
    assert parsed("2026-11-22T18:00,0.24", "2026-11-22T19:00+01:00,-0.01", "2026-11-22 19:00Z,1e-3") == [
        (utc(22, 17), HOUR, 240_000),
        (utc(22, 18), HOUR, -10_000),
        (utc(22, 19), HOUR, 1_000),
    ]


def test_rows_may_come_in_any_order_and_twice() -> None:
    assert parsed("2026-11-22T19:00,2", "2026-11-22T18:00Z,2", "2026-11-22T18:00,1") == [
        (utc(22, 17), HOUR, 1_000_000),
        (utc(22, 18), HOUR, 2_000_000),
    ]


def test_a_missing_hour_and_an_empty_price_are_gaps() -> None:
    rows = ["2026-11-22T00:00,1", "2026-11-22T01:00,", "2026-11-22T02:00,2", "2026-11-22T04:00,3"]
    assert parsed(*rows) == [
        (utc(21, 23), HOUR, 1_000_000),
        (utc(22, 1), HOUR, 2_000_000),
        (utc(22, 3), HOUR, 3_000_000),
    ]


def test_quarters_after_hours() -> None:
    rows = [
        *(f"2026-11-22T{n:02}:00Z,1" for n in range(3)),
        *(f"2026-11-22T03:{n:02}Z,2" for n in (0, 15, 30, 45)),
    ]
    assert [length for _, length, _ in parsed(*rows)] == [HOUR, HOUR, HOUR, *[HOUR / 4] * 4]


def test_a_price_a_day_holds_on_the_long_day_too() -> None:
    found = parsed(*(f"2026-10-{day},0.3" for day in (23, 24, 25, 26)))
    assert [length for _, length, _ in found] == [24 * HOUR, 24 * HOUR, 25 * HOUR, 24 * HOUR]


def test_day_and_night_prices() -> None:
    found = parsed(*(f"2026-11-{day}T{hour}:00Z,0.{hour}" for day in (22, 23, 24) for hour in ("07", "23")))
    assert [length for _, length, _ in found] == [
        16 * HOUR,
        8 * HOUR,
        16 * HOUR,
        8 * HOUR,
        16 * HOUR,
        8 * HOUR,
    ]


def test_the_hour_that_comes_twice_by_standing_twice_or_by_its_offset() -> None:
    twice = ["2026-10-25T01:00,1", "2026-10-25T02:00,2", "2026-10-25T02:00,3", "2026-10-25T03:00,4"]
    told = [
        "2026-10-25T01:00,1",
        "2026-10-25T02:00+02:00,2",
        "2026-10-25T02:00+01:00,3",
        "2026-10-25T03:00,4",
    ]
    assert (
        parsed(*twice)
        == parsed(*told)
        == [
            (utc(24, 23, 10), HOUR, 1_000_000),
            (utc(25, 0, 10), HOUR, 2_000_000),
            (utc(25, 1, 10), HOUR, 3_000_000),
            (utc(25, 2, 10), HOUR, 4_000_000),
        ]
    )
    once = parsed(twice[0], twice[1], twice[3])
    assert [start for start, _, _ in once] == [utc(24, 23, 10), utc(25, 0, 10), utc(25, 2, 10)]
    assert once[1][1] == HOUR, "the second of them has no price"


def test_the_hour_that_is_skipped_is_passed_over() -> None:
    rows = [f"2026-03-29T{hour:02}:00,{hour}" for hour in range(5)]
    assert [price for _, _, price in parsed(*rows)] == [0, 1_000_000, 3_000_000, 4_000_000]


def test_the_twenty_ninth_of_february() -> None:
    assert parsed("2028-02-29T12:00Z,1")[0][0] == datetime(2028, 2, 29, 12, tzinfo=UTC)
    with pytest.raises(BadPrices, match=r"line 2: .*is not a time"):
        parsed("2026-02-29T12:00Z,1")


def test_real_prices() -> None:
    found = read_prices(DATA, ZONE)
    assert found[0].price_micro == 49_000
    assert all(before.end <= after.start for before, after in itertools.pairwise(found))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty; begin with the line start,price_per_kwh"),
        ("start,price_per_kwh\n", "no prices in it; write a row per hour"),
        ("time;price\n", 'line 1: "time;price" is not the header'),
        ("start,value\n2026-11-22T18:00,abc", 'line 2: "abc" is not a price per kWh'),
        ("start,value\n2026-11-22T18:00,NaN", 'line 2: "NaN" is not a price per kWh'),
        ("start,value\n2026-11-22T18:00,1e99", 'line 2: "1e99" is not a price per kWh'),
        ("start,value\n2026-11-22T18:00,0,24", "line 2: 3 columns where 2 belong; decimals need a point"),
        ("start,value\n\n22.11.2026 18:00,0.2", 'line 3: "22.11.2026 18:00" is not a time'),
        (
            "start,value\n2026-11-22T18:00,1\n2026-11-22T17:00Z,2",
            "lines 2 and 3 give different prices for the same time",
        ),
        ("start,value\n0001-01-01T00:00,1", "is not a time"),
    ],
)
def test_mistakes_name_their_line(text: str, said: str) -> None:
    with pytest.raises(BadPrices) as refused:
        parse_prices(text, ZONE)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(BadPrices, match=r"none\.csv: cannot be read: No such file"):
        read_prices(tmp_path / "none.csv", ZONE)
    (tmp_path / "latin.csv").write_bytes(b"start,value\n\xff")
    with pytest.raises(BadPrices, match=r"latin\.csv: is not UTF-8"):
        read_prices(tmp_path / "latin.csv", ZONE)


cells = st.one_of(
    st.sampled_from(["2026-10-25T02:00", "2026-03-29T02:30", "0.2", "-1", "", '"', ",", "9999-12-31T23:59"]),
    st.text(max_size=12),
)


@given(st.lists(st.lists(cells, max_size=3).map(",".join), max_size=8))
def test_whatever_stands_in_it_there_are_spans_or_one_line(rows: list[str]) -> None:
    try:
        found = parse_prices("\n".join(["start,value", *rows]), ZONE)
    except BadPrices as error:
        assert str(error)
        return
    assert all(span.start < span.end for span in found)
    assert all(before.end <= after.start for before, after in itertools.pairwise(found))
