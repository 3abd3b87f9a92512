"""The month in sums: each session in exactly one month, whatever the clocks of the site do, and sums that equal them."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.commands import SessionSaved
from controller.core.model import EvseId, VehicleId
from controller.monthly import By, last_whole, month_of, summed
from controller.session_store import document

AMSTERDAM, NEW_YORK, APIA = (
    ZoneInfo("Europe/Amsterdam"),
    ZoneInfo("America/New_York"),
    ZoneInfo("Pacific/Apia"),
)
# a midnight that does not exist: clocks go forward at 0:00
HAVANA = ZoneInfo("America/Havana")


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def row(ended: datetime | None, hours: float = 1.0, energy_wh: int = 1000, **more: Any) -> dict[str, Any]:
    started = (ended or utc("2026-11-01T00:00")) - timedelta(hours=hours)
    saved = SessionSaved(
        "1", EvseId("A/1"), "t", None, None, started, ended, energy_wh, 0, energy_wh, "Local", ()
    )
    beside = {"records": 0, "record_wh": None, "gap_wh": None, "revision": 1}
    return {**document(saved), **beside, **more}


@pytest.mark.parametrize(
    ("name", "zone", "start", "end"),
    [
        ("2026-11", AMSTERDAM, "2026-10-31T23:00", "2026-11-30T23:00"),
        ("2026-03", AMSTERDAM, "2026-02-28T23:00", "2026-03-31T22:00"),  # 743 hours
        ("2026-10", AMSTERDAM, "2026-09-30T22:00", "2026-10-31T23:00"),  # 745 hours
        ("2026-12", NEW_YORK, "2026-12-01T05:00", "2027-01-01T05:00"),
        ("2024-02", ZoneInfo("UTC"), "2024-02-01T00:00", "2024-03-01T00:00"),
    ],
)
def test_a_month_is_the_sites(name: str, zone: ZoneInfo, start: str, end: str) -> None:
    assert month_of(name, zone) == (utc(start), utc(end))


@pytest.mark.parametrize(
    "name", ["2026", "2026-13", "2026-00", "26-11", "2026-1", "2026-11-22", "", "٢٠٢٦-11", "9999-12"]
)
def test_what_is_no_month_is_said(name: str) -> None:
    with pytest.raises(ValueError, match="is not a month"):
        month_of(name, AMSTERDAM)


def test_the_last_whole_month_is_the_sites() -> None:
    assert last_whole(utc("2026-11-22T12:00"), AMSTERDAM) == "2026-10"
    assert last_whole(utc("2026-12-31T23:30"), AMSTERDAM) == "2026-12", "it is January there"
    assert last_whole(utc("2027-01-01T01:00"), NEW_YORK) == "2026-11", "it is December there"


def test_a_session_counts_whole_where_it_ended() -> None:
    over = row(utc("2026-11-30T23:30"), hours=5.0, energy_wh=30_000)  # 0:30 on 1 December
    november, december = (summed(name, "vehicle", [over], AMSTERDAM) for name in ("2026-11", "2026-12"))
    assert (november.total.sessions, december.total.sessions) == (0, 1)
    assert december.total.energy_wh == 30_000
    assert december.days[0][1] == 30_000
    assert sum(energy for _, energy in december.days) == 30_000
    assert len(december.days) == 31


def test_what_still_runs_is_named_and_not_counted() -> None:
    month = summed("2026-11", "vehicle", [row(None)], AMSTERDAM)
    assert (month.total.sessions, month.running) == (0, 1)
    assert summed("2026-10", "vehicle", [row(None)], NEW_YORK).running == 1, "it began on 31 October there"


def test_unknown_is_not_nothing() -> None:
    """No price is not a price of 0; no record is not a record of 0; two currencies are not one."""
    at = utc("2026-11-10T12:00")
    rows = [
        row(at),
        row(at, cost=1.5, currency="EUR"),
        row(at, cost=2.0, currency="SEK"),
        row(at, record_wh=990, gap_wh=-10, records=1, vehicle="BUS-07"),
    ]
    month = summed("2026-11", "vehicle", rows, AMSTERDAM)
    assert month.total.cost_micro == {"EUR": 1_500_000, "SEK": 2_000_000}
    assert (month.total.unpriced, month.total.recorded, month.total.gap_wh) == (2, 1, -10)
    assert list(month.groups) == ["BUS-07", None], "nobody's comes last"


ZONES = st.sampled_from([AMSTERDAM, NEW_YORK, APIA, HAVANA, ZoneInfo("UTC"), ZoneInfo("Asia/Kathmandu")])
MONTHS = [f"{year}-{number:02}" for year in range(2025, 2028) for number in range(1, 13)]


@st.composite
def sessions(draw: st.DrawFn) -> dict[str, Any]:
    # within what three years hold in every zone; half of them near the turn of a month
    ended = utc("2025-01-02T00:00") + timedelta(seconds=draw(st.integers(0, 1_090 * 86_400)))
    if draw(st.booleans()):
        turn = ended.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        ended = max(turn + timedelta(minutes=draw(st.integers(-900, 900))), utc("2025-01-02T00:00"))
    energy_wh = draw(st.integers(0, 200_000))
    saved = SessionSaved(
        draw(st.uuids()).hex, EvseId("A/1"), "t", draw(st.sampled_from([None, "#a", "#b"])),
        draw(st.sampled_from([None, VehicleId("BUS-07"), VehicleId("=1+1")])),
        ended - timedelta(minutes=draw(st.integers(0, 3000))), ended, energy_wh, 0, energy_wh, "Local",
        draw(st.sampled_from([(), ("offline",)])),
        *draw(st.sampled_from([(None, None), (draw(st.integers(0, 10**9)), "EUR"), (draw(st.integers(0, 10**9)), "SEK")])),
    )  # fmt: skip
    gap = draw(st.none() | st.integers(-500, 500))
    beside = {
        "records": int(gap is not None),
        "record_wh": None if gap is None else energy_wh + gap,
        "gap_wh": gap,
    }
    return {**document(saved), **beside, "revision": 1}


@given(rows=st.lists(sessions(), max_size=20), zone=ZONES, by=st.sampled_from(["vehicle", "token"]))
def test_the_months_add_up_to_the_sessions(rows: list[dict[str, Any]], zone: ZoneInfo, by: By) -> None:
    months = [summed(name, by, rows, zone) for name in MONTHS]
    shown = Counter(each["id"] for month in months for each in month.rows)
    assert shown == Counter(each["id"] for each in rows), "each exactly once"
    for month in months:
        total, groups = month.total, list(month.groups.values())
        assert total.sessions == len(month.rows) == sum(each.sessions for each in groups)
        energy_wh = sum(each["energy_wh"] for each in month.rows)
        assert total.energy_wh == energy_wh == sum(each.energy_wh for each in groups)
        assert energy_wh == sum(each for _, each in month.days)
        for currency in ("EUR", "SEK"):
            of_it = [each["cost"] for each in month.rows if each["currency"] == currency]
            micro = sum(round(each * 1e6) for each in of_it)
            assert total.cost_micro.get(currency, 0) == micro
            assert sum(each.cost_micro.get(currency, 0) for each in groups) == micro
        assert total.unpriced == sum(each["cost"] is None for each in month.rows)
        gaps = [each["gap_wh"] for each in month.rows if each["gap_wh"] is not None]
        assert (total.recorded, total.gap_wh) == (len(gaps), sum(gaps))
        assert total.seconds == sum(each.seconds for each in groups) >= 0
