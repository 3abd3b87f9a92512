"""Telemetry: a row per point every ten seconds, in batches, for a week; means for longer; never at the cost of the
ledger."""

from __future__ import annotations

import asyncio
import dataclasses
import sqlite3
from datetime import UTC, datetime, timedelta

import pytest

from controller.core.model import (
    SITE,
    EvseState,
    MeterId,
    PerPhase,
    Quality,
    StationId,
    each_phase,
    evse_id,
)
from controller.core.snapshot import CircuitView, EvseView, MeterView, SessionView, Snapshot
from controller.storage import LEDGER, TELEMETRY, Storage
from controller.telemetry import Telemetry

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
NOON_S = 1_795_348_800


def picture(seconds: float, evses: int = 1) -> Snapshot:
    """The depot at NOON + seconds; the power of an EVSE tells its number and the second."""
    time = NOON + timedelta(seconds=seconds)
    session = SessionView("s-1", None, None, NOON, 500, None, None, None)
    views = tuple(
        EvseView(
            id=evse_id(f"CP{number}", 1),
            station=StationId(f"CP{number}"),
            circuit=SITE,
            connected=True,
            channels=(),
            state=EvseState.CHARGING,
            limit_ma=32_000,
            grant_ma=16_000,
            commanded_ma=16_000,
            accepted_ma=None,
            measured_ma=PerPhase(15_900, None, 15_800),
            power_w=1000 * number + int(seconds),
            commitment_ma=16_000,
            bound_by="",
            paused=False,
            operator_limit_ma=None,
            fallback_ma=6_000,
            fallback_stored=True,
            lease_left_s=None,
            session=session if number else None,
            fault=None,
            identity="",
        )
        for number in range(evses)
    )
    circuit = CircuitView(
        SITE,
        None,
        each_phase(250_000),
        each_phase(None),
        PerPhase(1, 2, None),
        each_phase(9),
        None,
        None,
        None,
    )
    meter = MeterView(MeterId("main"), "sdm630", 0.5, Quality.GOOD, -300, PerPhase(1, -2, None), 77, None)
    return Snapshot(time, "Depot", "auto", "", "UTC", (circuit,), views, (meter,), (), (), ())


async def rows(storage: Storage, table: str) -> list[tuple]:
    def read(db: sqlite3.Connection) -> list[tuple]:
        return db.execute(
            f"SELECT points.name, {table}.* FROM {table} JOIN points ON points.id = point ORDER BY at_s, name"
        ).fetchall()

    return await storage.read(TELEMETRY, read)


async def settled(storage: Storage) -> None:
    await storage.write(TELEMETRY, lambda db: None)


async def test_rows_hold_what_the_snapshot_said(storage: Storage) -> None:
    telemetry = Telemetry(storage)
    telemetry.observe(picture(0, evses=2))
    telemetry.flush()
    await settled(storage)
    assert await rows(storage, "evse_samples") == [
        *[
            (
                "CP0/1",
                NOON_S,
                2,
                "charging",
                16_000,
                16_000,
                None,
                15_900,
                None,
                15_800,
                0,
                16_000,
                None,
                None,
            )
        ],
        *[
            (
                "CP1/1",
                NOON_S,
                3,
                "charging",
                16_000,
                16_000,
                None,
                15_900,
                None,
                15_800,
                1000,
                16_000,
                500,
                None,
            )
        ],
    ]
    assert await rows(storage, "circuit_samples") == [
        ("site", NOON_S, 1, None, None, None, 1, 2, None, 9, 9, 9)
    ]
    assert await rows(storage, "meter_samples") == [("main", NOON_S, 4, 1, -2, None, -300, 77)]


async def test_a_sample_every_ten_seconds_and_a_commit_every_minute(storage: Storage) -> None:
    commits = []
    await storage.write(TELEMETRY, lambda db: db.set_trace_callback(commits.append))
    telemetry = Telemetry(storage)
    for second in range(121):
        telemetry.observe(picture(second))
        await settled(storage)
    samples = await rows(storage, "evse_samples")
    assert [row[10] for row in samples] == list(range(0, 120, 10))
    inserts = [
        statement for statement in commits if statement.startswith("INSERT OR REPLACE INTO evse_samples")
    ]
    batches = " ".join("I" if each in inserts else "C" if each == "COMMIT" else "" for each in commits).split(
        "C"
    )
    assert [batch.count("I") for batch in batches if "I" in batch] == [6, 6]


async def test_a_clock_that_jumps_back_is_followed(storage: Storage) -> None:
    telemetry = Telemetry(storage)
    for second in (100, 105, 50, 55, 60):
        telemetry.observe(picture(second))
    telemetry.flush()
    telemetry.observe(picture(60 - 3600))
    telemetry.observe(picture(60))  # the same second again replaces its row
    telemetry.flush()
    await settled(storage)
    assert [row[1] - NOON_S for row in await rows(storage, "meter_samples")] == [60 - 3600, 50, 60, 100]


async def test_rows_older_than_a_week_go_with_the_next_quarter_hour(storage: Storage) -> None:
    telemetry = Telemetry(storage)
    week_s, quarter_s = 7 * 24 * 3600, 900
    for second in (0, 10, quarter_s - 10, week_s + 10, week_s + quarter_s):
        telemetry.observe(picture(second))
        telemetry.flush()
    await settled(storage)
    kept = [week_s + 10, week_s + quarter_s]
    for table in ("evse_samples", "circuit_samples", "meter_samples"):
        assert [row[1] - NOON_S for row in await rows(storage, table)] == kept
    assert [row[1] - NOON_S for row in await rows(storage, "meter_minutes")] == [0, week_s]


async def test_minutes_go_after_ninety_days_and_quarter_hours_stay(storage: Storage) -> None:
    telemetry = Telemetry(storage)
    day_s = 24 * 3600
    for second in (0, 60 * day_s, 91 * day_s, 91 * day_s + 900):
        telemetry.observe(picture(second))
        telemetry.flush()
    await settled(storage)
    days = [(row[1] - NOON_S) // day_s for row in await rows(storage, "evse_minutes")]
    assert days == [60, 91]  # those of the newest quarter hour are not made yet
    days = [(row[1] - NOON_S) // day_s for row in await rows(storage, "evse_quarters")]
    assert days == [0, 60, 91]  # that of the newest is not over


async def test_minutes_and_quarter_hours_are_means_of_what_is_known(storage: Storage) -> None:
    telemetry = Telemetry(storage)
    for second in range(0, 910, 10):
        telemetry.observe(picture(second, evses=2))
    telemetry.flush()
    await settled(storage)
    charging = await storage.read(
        TELEMETRY, lambda db: db.execute("SELECT id FROM points WHERE kind = 'state'").fetchone()[0]
    )
    minutes = [row for row in await rows(storage, "evse_minutes") if row[0] == "CP1/1"]
    last = (16_000, 15_900, None, 15_800)
    assert minutes[0][1:] == (NOON_S, minutes[0][2], charging, *last, 1025, 500, None)
    assert minutes[14][8] == 1000 + 14 * 60 + 25
    quarters = [row for row in await rows(storage, "evse_quarters") if row[0] == "CP1/1"]
    assert [row[1:] for row in quarters] == [(NOON_S, minutes[0][2], charging, *last, 1445, 500, None)]
    (site,) = await rows(storage, "circuit_quarters")
    assert site[3:] == (None, None, None, 1, 2, None, None, 9)  # nothing measured is not 0


async def test_a_minute_that_says_nothing_new_is_left_out(storage: Storage) -> None:
    telemetry = Telemetry(storage)
    for second in range(0, 1810, 10):
        telemetry.observe(picture(second))
    telemetry.flush()
    await settled(storage)
    still = [row[1] - NOON_S for row in await rows(storage, "meter_minutes")]
    assert still == [0, 900]  # each quarter hour begins with one
    assert len(await rows(storage, "evse_minutes")) == 30  # its power moves


async def test_a_row_that_says_nothing_new_is_left_out(storage: Storage) -> None:
    telemetry = Telemetry(storage)
    for second in range(30, 200, 10):
        telemetry.observe(picture(second))
    telemetry.observe(picture(195 - 10))  # a clock that goes back begins anew
    telemetry.flush()
    await settled(storage)
    assert [row[1] - NOON_S for row in await rows(storage, "meter_samples")] == [30, 60, 120, 180, 185]
    assert len(await rows(storage, "evse_samples")) == 18  # its power moves


async def test_a_value_counts_for_the_time_it_held(storage: Storage) -> None:
    """10 s of one, then 50 s of another that is told once; a minute without anybody counts for nothing."""
    telemetry = Telemetry(storage)
    for second in (*range(0, 60, 10), 600, 630, 900):
        power_w = 600 if second == 0 else 0 if second < 600 else 1200
        (evse,) = picture(0).evses
        same = evse._replace(power_w=power_w)
        telemetry.observe(dataclasses.replace(picture(second), evses=(same,)))
    telemetry.flush()
    await settled(storage)
    assert [row[1] - NOON_S for row in await rows(storage, "evse_samples")] == [0, 10, 600, 900]
    assert [(row[1] - NOON_S, row[8]) for row in await rows(storage, "evse_minutes")] == [
        (0, 100),
        (600, 1200),
    ]
    assert [row[8] for row in await rows(storage, "evse_quarters")] == [650]


async def test_telemetry_gives_way_to_a_ledger_that_is_behind(
    storage: Storage, caplog: pytest.LogCaptureFixture
) -> None:
    telemetry = Telemetry(storage)
    await storage.read(LEDGER, lambda db: db.execute("PRAGMA max_page_count=1").fetchone())
    big = storage.write(
        LEDGER, lambda db: db.execute("INSERT INTO meta VALUES (?, 1)", ("x" * 200_000,)).rowcount
    )
    async with asyncio.timeout(10):
        while not storage.behind:  # noqa: ASYNC110 - it changes in the storage thread
            await asyncio.sleep(0.005)
    for second in (0, 10, 20):
        telemetry.observe(picture(second))
    await storage.read(LEDGER, lambda db: db.execute("PRAGMA max_page_count=1000000").fetchone())
    await big
    telemetry.observe(picture(30))
    telemetry.flush()
    await settled(storage)
    assert [row[1] - NOON_S for row in await rows(storage, "evse_samples")] == [30]
    said = [record.getMessage() for record in caplog.records if "telemetry:" in record.getMessage()]
    assert said == ["telemetry: dropped while the ledger is behind", "telemetry: recorded again"]


async def test_a_row_costs_tens_of_bytes(storage: Storage) -> None:
    telemetry = Telemetry(storage)
    for step in range(200):
        telemetry.observe(dataclasses.replace(picture(10 * step, evses=50), circuits=(), meters=()))
        await settled(storage)
    telemetry.flush()
    await settled(storage)

    def size(db: sqlite3.Connection) -> int:
        pages, page = (
            db.execute("PRAGMA page_count").fetchone()[0],
            db.execute("PRAGMA page_size").fetchone()[0],
        )
        return pages * page

    assert len(await rows(storage, "evse_samples")) == 10_000
    assert await storage.read(TELEMETRY, size) / 10_000 < 70
