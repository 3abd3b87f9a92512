"""The ledger: what was acknowledged is there, whatever happens; numbers are unique; the audit cannot be altered."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlite_utils import Database

from controller import ledger as ledger_module
from controller.core.commands import (
    AlarmSaved,
    Audited,
    CeilingSaved,
    DepartureSaved,
    Entry,
    FallbackSaved,
    HushLifted,
    HushSaved,
    InputSaved,
    LeasesOutlast,
    PeakSaved,
    ScheduleRemoved,
    ScheduleSaved,
    SessionSaved,
    StationSaved,
)
from controller.core.events import AlarmRestored, HushRestored, InputRestored, PeakRestored
from controller.core.model import (
    Departure,
    EvseId,
    Schedule,
    ScheduleType,
    SlotAction,
    StationId,
    TimeSlot,
    VehicleId,
    evse_id,
)
from controller.ledger import Ledger, LedgerError, Restored
from controller.storage import LEDGER, Storage
from tests.audit_rows import audit_tail

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
CP1, CP2 = evse_id("CP1", 1), evse_id("CP2", 1)
NIGHTS = Schedule(
    "nights",
    ScheduleType.WEEKLY,
    True,
    "Europe/Amsterdam",
    (TimeSlot(22 * 60, 6 * 60, SlotAction.CHARGE, 7000, (0, 4)),),
    90,
    NOON,
)


def session(
    id: str, started: datetime = NOON, ended: datetime | None = None, energy_wh: int = 0
) -> SessionSaved:
    return SessionSaved(
        id,
        CP1,
        "17",
        "04A2B3C4",
        VehicleId("BUS-07"),
        started,
        ended,
        energy_wh,
        1000,
        None,
        None,
        ("offline",),
    )


def audited(number: int) -> Audited:
    return Audited(NOON + timedelta(seconds=number), "anna", "limit", "CP1/1", f"{number} A, “früh”")


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Ledger]:
    storage = Storage(folder)
    await storage.open()
    try:
        yield Ledger(storage)
    finally:
        await storage.close()


@pytest.fixture
def ledger(storage: Storage) -> Ledger:
    return Ledger(storage)


# --- restart ------------------------------------------------------------------------------------------------------


async def test_a_first_start_finds_nothing(ledger: Ledger) -> None:
    assert await ledger.restore() == Restored(1, {}, {}, (), (), (), ())


async def test_a_restart_finds_everything_it_needs(tmp_path: Path) -> None:
    running, done = session("s-2", NOON + HOUR), session("s-1", NOON, NOON + HOUR, 22_000)
    departure = Departure("BUS-07", NOON + 9 * HOUR, energy_wh=30_000)
    entries: list[Entry] = [
        CeilingSaved(CP1, 32_000),
        CeilingSaved(CP1, 16_000),
        CeilingSaved(CP2, 6_000),
        FallbackSaved(CP1, 6_000),
        FallbackSaved(CP2, None),
        session("s-1"),
        done,
        running,
        ScheduleSaved(CP1, NIGHTS),
        ScheduleSaved(CP2, NIGHTS),
        ScheduleRemoved(CP2, "nights"),
        DepartureSaved(Departure("BUS-07", NOON, soc=80)),
        DepartureSaved(departure),
        AlarmSaved("a-1", "stale-meter", "main", 1, "no reading", NOON, None),
        HushSaved("meter", "main", "anna", "being replaced", NOON, NOON + HOUR),
        HushSaved("", "CP1", "anna", "gone", NOON, None),
        HushLifted("", "CP1"),
        StationSaved(StationId("CP1"), "Vendor", "Model", "1.2", ""),
        LeasesOutlast(NOON),
        LeasesOutlast(NOON + HOUR),
        audited(1),
    ]
    async with opened(tmp_path) as ledger:
        assert (await ledger.restore()).boot == 1
        await ledger.append(entries)
        await ledger.append(entries)  # the same again leaves the same
    async with opened(tmp_path) as ledger:
        assert await ledger.restore() == Restored(
            boot=2,
            ceilings={CP1: 16_000, CP2: 6_000},
            fallbacks={CP1: 6_000, CP2: None},
            sessions=(running,),
            closed=(done,),
            schedules=((CP1, NIGHTS),),
            departures=(departure,),
            alarms=(
                HushRestored("meter", "main", "anna", "being replaced", NOON, NOON + HOUR),
                AlarmRestored("a-1", "stale-meter", "main", 1, "no reading", NOON, True),
            ),
            leases_outlast=NOON + HOUR,
        )
    with Database(tmp_path / LEDGER) as db:
        assert [row["cleared"] for row in db["alarms"].rows] == [None]
        assert [row["vendor"] for row in db["stations"].rows] == ["Vendor"]


async def test_a_schedule_that_cannot_be_read_costs_nothing_else(
    ledger: Ledger, storage: Storage, caplog: pytest.LogCaptureFixture
) -> None:
    await ledger.append([CeilingSaved(CP1, 16_000), ScheduleSaved(CP1, NIGHTS), ScheduleSaved(CP2, NIGHTS)])
    await storage.write(
        LEDGER, lambda db: db.execute("UPDATE schedules SET document='{' WHERE evse='CP1/1'").rowcount
    )
    restored = await ledger.restore()
    assert restored.ceilings == {CP1: 16_000}
    assert restored.schedules == ((CP2, NIGHTS),)
    assert "Schedule of CP1/1 in the ledger cannot be read" in caplog.text


async def test_a_start_on_a_full_disk_still_knows_the_ceilings(
    storage: Storage, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "BOOT_COMMIT_S", 0.05)
    await ledger.append([CeilingSaved(CP1, 16_000)])
    await storage.read(LEDGER, lambda db: db.execute("PRAGMA max_page_count=1").fetchone())
    full = ledger.append([StationSaved(StationId("CP1"), "x" * 200_000, "", "", "")])
    restored = await ledger.restore()
    assert (restored.boot, restored.ceilings) == (1, {CP1: 16_000})
    assert not full.done()
    await storage.read(LEDGER, lambda db: db.execute("PRAGMA max_page_count=1000000").fetchone())
    await full
    assert (await ledger.restore()).boot == 2  # the first start was counted in the end


# --- transaction numbers -------------------------------------------------------------------------------------------


async def test_numbers_are_unique_over_restarts_and_the_same_for_the_same_start(tmp_path: Path) -> None:
    seen: dict[tuple, int] = {}
    starts = [
        (CP1, "04A2B3C4", 1000, NOON),
        (CP2, "04A2B3C4", 1000, NOON),
        (CP1, "04A2B3C5", 1000, NOON),
        (CP1, "04A2B3C4", 1001, NOON),
        (CP1, "04A2B3C4", 1000, NOON + timedelta(microseconds=1)),
        (CP1, None, None, NOON),
        (CP1, "", None, NOON),
        (CP1, None, 0, NOON),
        (CP1, None, -1, NOON),
    ]
    for round_ in range(3):
        async with opened(tmp_path) as ledger:
            for start in starts:
                number, known = await ledger.number_transaction(*start)
                assert known == (round_ > 0)
                assert seen.setdefault(start, number) == number
            fresh = await ledger.number_transaction(CP2, None, round_, NOON + HOUR)
            assert fresh == (max(seen.values()) + 1, False)
            seen[CP2, None, round_, NOON + HOUR] = fresh[0]
    assert len(set(seen.values())) == len(starts) + 3
    assert min(seen.values()) == 1


async def test_the_same_instant_in_another_zone_is_the_same_start(ledger: Ledger) -> None:
    first = await ledger.number_transaction(CP1, "T", 5, NOON)
    again = await ledger.number_transaction(CP1, "T", 5, NOON.astimezone(timezone(2 * HOUR)))
    assert (first, again) == ((1, False), (1, True))


async def test_starts_asked_for_at_the_same_time_get_one_number(ledger: Ledger) -> None:
    answers = await asyncio.gather(*(ledger.number_transaction(CP1, "T", 5, NOON) for _ in range(20)))
    assert {number for number, _ in answers} == {1}
    assert [known for _, known in answers].count(False) == 1


# --- sessions -------------------------------------------------------------------------------------------------------


async def test_sessions_of_a_time(ledger: Ledger) -> None:
    early, late = session("early", NOON - 9 * HOUR, NOON - 8 * HOUR, 5), session("late", NOON + HOUR)
    over = session("over", NOON - HOUR, NOON + HOUR, 7)
    await ledger.append([late, over, early])

    async def ids(since: datetime | None, until: datetime | None) -> list[str]:
        return [each["id"] for each in await ledger.sessions(since, until)]

    assert await ids(None, None) == ["early", "over", "late"]
    assert await ids(NOON, None) == ["over", "late"]  # still running ones ran until now
    assert await ids(None, NOON) == ["early", "over"]
    assert await ids(NOON - 2 * HOUR, NOON) == ["over"]
    assert await ids(NOON - 8 * HOUR, NOON - 8 * HOUR) == ["early"]
    shown = json.loads(json.dumps((await ledger.sessions(None, NOON))[1]))
    assert shown.pop("revision") > 0
    assert shown == {
        "id": "over",
        "evse": "CP1/1",
        "transaction": "17",
        "token": "04A2B3C4",
        "vehicle": "BUS-07",
        "started": "2026-11-22T11:00:00Z",
        "ended": "2026-11-22T13:00:00Z",
        "energy_wh": 7,
        "register_start_wh": 1000,
        "register_wh": None,
        "stop_reason": None,
        "marks": ["offline"],
        "cost": None,
        "currency": None,
        "counted": None,
        "records": 0,
        "record_wh": None,
        "gap_wh": None,
    }


async def test_times_sort_as_time_also_with_fractions(ledger: Ledger) -> None:
    await ledger.append([session("b", NOON + timedelta(microseconds=1)), session("a", NOON)])
    assert [each["id"] for each in await ledger.sessions()] == ["a", "b"]


async def test_half_a_character_from_a_station_costs_no_row(ledger: Ledger) -> None:
    station = StationSaved(StationId("CP1"), "Vend\ud800or", "M", "1", "")
    await ledger.append([CeilingSaved(CP1, 6000), station, Audited(NOON, "CP1", "boot", "CP1", "\udfff")])
    assert [row["detail"] for row in await audit_tail(ledger, 1)] == ["?"]
    assert await ledger.verify_audit() is None
    assert await ledger.number_transaction(CP1, "\ud800", 1, NOON) == (1, False)
    assert await ledger.number_transaction(CP1, "\ud800", 1, NOON) == (1, True)


async def test_entries_of_one_append_are_stored_together_or_not_at_all(ledger: Ledger) -> None:
    impossible = session("s-1", energy_wh=2**70)
    with pytest.raises(LedgerError, match="cannot be stored"):
        await ledger.append([CeilingSaved(CP1, 32_000), impossible])
    assert (await ledger.restore()).ceilings == {}


# --- audit ----------------------------------------------------------------------------------------------------------


async def test_the_audit_reads_and_verifies(ledger: Ledger) -> None:
    assert await ledger.verify_audit() is None
    assert await audit_tail(ledger, 5) == []
    await ledger.append([audited(number) for number in range(1, 11)])
    tail = await audit_tail(ledger, 2)
    assert [(row["id"], row["what"], row["detail"]) for row in tail] == [
        (9, "limit", "9 A, “früh”"),
        (10, "limit", "10 A, “früh”"),
    ]
    row = tuple(tail[1][name] for name in ("id", "at", "by", "what", "subject", "detail"))
    assert tail[1]["hash"] == ledger_module.chain_hash(tail[0]["hash"], row)
    assert await ledger.verify_audit() is None


@pytest.mark.parametrize("rows_at_a_time", [1, 3, 1000])
@pytest.mark.parametrize(
    ("tampering", "found"),
    [
        ("UPDATE audit SET detail = replace(detail, '5', '6') WHERE id = 5", "audit row 5 .* was changed"),
        ("UPDATE audit SET by = 'ben' WHERE id = 1", "audit row 1 .* was changed"),
        ("UPDATE audit SET hash = lower(hex(zeroblob(32))) WHERE id = 10", "audit row 10 .* was changed"),
        ("DELETE FROM audit WHERE id = 4", "audit rows 4 to 4 are missing"),
        ("DELETE FROM audit WHERE id = 1", "audit rows 1 to 1 are missing"),
        ("DELETE FROM audit WHERE id > 7", "audit rows 8 to 10 are missing"),
        ("DELETE FROM audit", "audit rows 1 to 10 are missing"),
    ],
)
async def test_tampering_shows(
    storage: Storage,
    ledger: Ledger,
    monkeypatch: pytest.MonkeyPatch,
    rows_at_a_time: int,
    tampering: str,
    found: str,
) -> None:
    monkeypatch.setattr(ledger_module, "VERIFY_ROWS", rows_at_a_time)
    await ledger.append([audited(number) for number in range(1, 11)])
    assert await ledger.verify_audit() is None
    assert await storage.write(LEDGER, lambda db: db.execute(tampering).rowcount)
    broken = await ledger.verify_audit()
    assert broken is not None
    assert re.match(found, broken)


async def test_a_flipped_byte_in_the_file_shows(tmp_path: Path) -> None:
    async with opened(tmp_path) as ledger:
        await ledger.append([audited(number) for number in range(1, 11)])
    content = (tmp_path / LEDGER).read_bytes()
    assert content.count("7 A, “früh”".encode()) == 1
    (tmp_path / LEDGER).write_bytes(content.replace("7 A, “früh”".encode(), "8 A, “früh”".encode()))
    async with opened(tmp_path) as ledger:
        broken = await ledger.verify_audit()
        assert broken is not None
        assert broken.startswith("audit row 7 ")
        await ledger.append([audited(11)])  # a broken past does not stop the present
        assert await ledger.verify_audit() == broken


# --- power --------------------------------------------------------------------------------------------------------

WRITER = """
import asyncio, sys
from datetime import UTC, datetime
from pathlib import Path
from controller.core.commands import Audited, CeilingSaved, SessionSaved
from controller.ledger import Ledger
from controller.storage import Storage

async def main(folder, first):
    storage = Storage(Path(folder))
    await storage.open()
    ledger, number = Ledger(storage), first
    boot = (await ledger.restore()).boot
    now = datetime(2026, 11, 22, tzinfo=UTC)

    def entries(number):
        id = f"s-{boot}-{number}"
        return [SessionSaved(id, "CP1/1", "1", None, None, now, None, number, None, None, None, ()),
                CeilingSaved("CP1/1", number), Audited(now, "depot", "start", id, "")]

    async def one(number):
        await ledger.append(entries(number))
        transaction, _ = await ledger.number_transaction("CP1/1", None, number, now)
        print(number, transaction, flush=True)

    while True:
        await asyncio.gather(*(one(number + each) for each in range(8)))
        number += 8

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


async def write_until_killed(
    folder: Path, first: int, acknowledged_before_kill: int
) -> list[tuple[int, int]]:
    """(number, transaction) of everything that was acknowledged before kill -9."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WRITER, str(folder), str(first), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    lines = []
    async with asyncio.timeout(20):
        while len(lines) < acknowledged_before_kill:
            lines.append(await process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    rest, _ = await process.communicate()
    assert process.returncode == -signal.SIGKILL
    lines += [line for line in rest.splitlines(keepends=True) if line.endswith(b"\n")]
    return [(int(number), int(transaction)) for number, transaction in map(bytes.split, lines)]


async def test_nothing_acknowledged_is_lost_by_kill_9(tmp_path: Path) -> None:
    acknowledged: list[tuple[int, int]] = []
    for round_ in range(1, 5):
        first = 10_000 * round_
        acknowledged += await write_until_killed(tmp_path, first, 30 * round_)
        async with opened(tmp_path) as ledger:
            restored = await ledger.restore()
            assert restored.boot == 2 * round_
            stored = {saved.energy_wh for saved in restored.sessions}
            assert {number for number, _ in acknowledged} <= stored
            assert restored.ceilings[EvseId("CP1/1")] >= max(number for number, _ in acknowledged)
            assert await ledger.verify_audit() is None
            for number, transaction in acknowledged:
                start = (CP1, None, number, datetime(2026, 11, 22, tzinfo=UTC))
                assert await ledger.number_transaction(*start) == (transaction, True)
    assert len({transaction for _, transaction in acknowledged}) == len(acknowledged)
    assert sorted(os.listdir(tmp_path)) == ["depot.db", "telemetry.db"]


async def test_the_peaks_of_the_months_are_kept(tmp_path: Path) -> None:
    async with opened(tmp_path) as ledger:
        await ledger.append((PeakSaved("2026-10", 90_000, NOON - 24 * HOUR, 5),))
        await ledger.append(
            (PeakSaved("2026-11", 0, NOON - HOUR, 7), PeakSaved("2026-11", 41_000, NOON, None))
        )
    async with opened(tmp_path) as ledger:
        assert (await ledger.restore()).peak == PeakRestored("2026-11", 41_000, NOON, None)


async def test_the_last_word_of_every_contact_is_kept(tmp_path: Path) -> None:
    async with opened(tmp_path) as ledger:
        await ledger.append((InputSaved("dso", True), InputSaved("fire", True), InputSaved("dso", False)))
    async with opened(tmp_path) as ledger:
        assert (await ledger.restore()).inputs == (InputRestored("dso", False), InputRestored("fire", True))
