"""Sessions in the books: what has changed since somebody looked, signed values, who is forgotten, and what is too old."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlite_utils import Database

from controller import migrations, retention, session_store
from controller.config import Keep
from controller.core.commands import (
    AlarmSaved,
    Audited,
    RecordSaved,
    SessionSaved,
    SignedSaved,
    TokenReplaced,
)
from controller.core.model import EvseId, Moment, StationId
from controller.core.signed import SignedValue
from controller.ledger import Ledger, LedgerError
from controller.pseudonyms import KEY, Pseudonyms, is_alias
from controller.retention import Retention
from controller.storage import LEDGER, Storage
from tests.audit_rows import audit_tail

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
CP1 = EvseId("CP1/1")
TOKEN = "04A2B3C4D5E6F7"


@pytest.fixture
def ledger(storage: Storage) -> Ledger:
    return Ledger(storage)


def session(
    id: str,
    started: datetime = NOON,
    hours: float | None = 1.0,
    token: str | None = TOKEN,
    energy_wh: int = 1000,
) -> SessionSaved:
    ended = None if hours is None else started + timedelta(hours=hours)
    return SessionSaved(id, CP1, f"t{id}", token, None, started, ended, energy_wh, 0, energy_wh, "Local", ())


def record(session: str | None, gap_wh: int = 20, started: datetime = NOON) -> RecordSaved:
    ended = started + timedelta(hours=1)
    return RecordSaved(f"r-{session}", CP1, session, started, ended, 1000 + gap_wh, gap_wh, None, None)


async def changed(ledger: Ledger, after: int) -> tuple[list[str], int]:
    rows = await ledger._storage.read(LEDGER, lambda db: session_store.changed(db, after, 100))
    return [row["id"] for row in rows], rows[-1]["revision"] if rows else after


# --- what changed -------------------------------------------------------------------------------------------------


async def test_whoever_remembers_the_last_change_hears_all_that_came_after(
    ledger: Ledger, storage: Storage
) -> None:
    await ledger.append([session("1", hours=None), session("2", hours=None), session("3")])
    first, at = await changed(ledger, 0)
    assert first == ["1", "2", "3"]
    assert await changed(ledger, at) == ([], at)
    await ledger.append([session("1")])
    await ledger.append([session("3"), session("1")])
    assert (await changed(ledger, at))[0] == ["3", "1"], "once each, in the order of the last change"
    again, end = await changed(ledger, at)
    await ledger.append([record("2")])
    assert (await changed(ledger, end))[0] == ["2"], "what stands beside it is a change too"
    rows = await storage.read(LEDGER, lambda db: session_store.changed(db, at, 2))
    assert [row["id"] for row in rows] == again[:2], "pages go on where they were"
    assert rows[0]["revision"] < rows[1]["revision"]


async def test_restored_books_go_on_above_what_they_had_told(tmp_path: Path) -> None:
    """A backup is older than what was told since; whoever goes on after the last he heard must miss nothing."""
    storage = Storage(tmp_path)
    await storage.open()
    ledger = Ledger(storage)
    await ledger.append([session("1", hours=None)])
    await storage.read(LEDGER, lambda db: _copied(db, tmp_path / "copy.db"))
    await ledger.append([session(str(number)) for number in range(2, 400)])
    _, told = await changed(ledger, 0)
    await storage.close()
    _put_back(tmp_path)
    await asyncio.sleep(0.5)  # the clock is in ms: 400 changes in one ms would be ahead of it
    storage = Storage(tmp_path)
    await storage.open()
    try:
        ledger = Ledger(storage)
        await ledger.append([session("1")])
        assert (await changed(ledger, told))[0] == ["1"]
    finally:
        await storage.close()


def _put_back(folder: Path) -> None:
    for left in folder.glob(f"{LEDGER}*"):
        left.unlink()
    (folder / "copy.db").rename(folder / LEDGER)


def _copied(db: sqlite3.Connection, path: Path) -> None:
    with closing(sqlite3.connect(path)) as copy:
        db.backup(copy)


async def test_sessions_of_the_version_before_count_as_changed(tmp_path: Path) -> None:
    with Database(tmp_path / LEDGER) as db:
        migrations.ledger.apply(db, stop_before="session_revisions")
        for id in ("a", "b"):
            db["sessions"].insert({"id": id, "evse": "CP1/1", "transaction_id": id, "token": None, "vehicle": None,
                "started": "2026-11-22T12:00:00.000000Z", "ended": None, "energy_wh": 5, "marks": "[]"})  # fmt: skip
        db.conn.commit()
    storage = Storage(tmp_path)
    await storage.open()
    try:
        assert (await changed(Ledger(storage), 0))[0] == ["a", "b"]
    finally:
        await storage.close()


# --- records ------------------------------------------------------------------------------------------------------


async def test_records_stand_beside_their_sessions(ledger: Ledger, storage: Storage) -> None:
    await ledger.append([session("1"), record("1"), record(None)])
    (row,) = await ledger.sessions()
    assert (row["records"], row["record_wh"], row["gap_wh"]) == (1, 1020, 20)
    found = await storage.read(LEDGER, lambda db: session_store.records(db, session_store.Wanted()))
    assert {each["record"]: (each["session_wh"], each["gap_wh"]) for each in found} == {
        "r-1": (1000, 20),
        "r-None": (None, 20),
    }


# --- signed values ------------------------------------------------------------------------------------------------


async def test_signed_values_are_kept_as_they_came_and_once(ledger: Ledger, storage: Storage) -> None:
    text = '{"value":"OCMF|{\\"FV\\":\\"1.0\\"}|{\\"SD\\":\\"3045…\\"}","format":"SignedData"}'
    begin = SignedValue("2026-11-22T12:00:00Z", "Transaction.Begin", text)
    saved = SignedSaved(StationId("CP1"), "t1", (begin,))
    await ledger.append([session("1"), saved])
    await ledger.append([saved])  # the station repeats what was not answered
    found = await storage.read(LEDGER, lambda db: session_store.signed(db, StationId("CP1"), "t1"))
    assert [(each["context"], each["value"]) for each in found] == [("Transaction.Begin", text)]
    wanted = session_store.Wanted(signed=True)
    assert [
        row["id"] for row in await storage.read(LEDGER, lambda db: session_store.lasting(db, wanted))
    ] == ["1"]


async def test_however_much_a_station_signs_there_is_room_for_the_end(
    ledger: Ledger, storage: Storage
) -> None:
    flood = tuple(SignedValue("", "Trigger", str(number)) for number in range(3 * session_store.MOST_SIGNED))
    end = SignedSaved(StationId("CP1"), "t1", (SignedValue("", "Transaction.End", "the end"),))
    await ledger.append([SignedSaved(StationId("CP1"), "t1", flood), end])
    found = await storage.read(LEDGER, lambda db: session_store.signed(db, StationId("CP1"), "t1"))
    assert len(found) == session_store.MOST_SIGNED + 1
    assert any(each["value"] == "the end" for each in found)


# --- forgetting ---------------------------------------------------------------------------------------------------


async def test_a_forgotten_token_is_in_no_byte_of_the_file(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    await storage.open()
    ledger = Ledger(storage)
    number, _ = await ledger.number_transaction(CP1, TOKEN, 5, NOON)
    others = [session(f"o{each}", token="FFFF0000") for each in range(50)]
    await ledger.append([session("1"), session("2", token=TOKEN.lower()), *others])
    _, told = await changed(ledger, 0)
    before = await ledger.sessions()
    names = Pseudonyms(tmp_path)
    await names.ready()
    alias = names.alias(TOKEN)
    assert alias is not None
    await ledger.append([TokenReplaced(TOKEN, alias), Audited(NOON, "anna", "token-forgotten", alias, "")])
    rows = {row["id"]: row for row in await ledger.sessions()}
    assert [rows[id]["token"] for id in ("1", "2", "o3")] == [alias, alias, "FFFF0000"]
    assert sum(row["energy_wh"] for row in rows.values()) == sum(row["energy_wh"] for row in before)
    assert (await changed(ledger, told))[0] == ["1", "2"], "exports hear of it"
    assert await ledger.number_transaction(CP1, TOKEN, 5, NOON) == (number, True), "a repeated start is known"
    assert await ledger.verify_audit() is None
    await storage.close()
    assert _holding(tmp_path, TOKEN) == []


def _holding(folder: Path, text: str) -> list[str]:
    found = text.casefold().encode()
    return [path.name for path in folder.iterdir() if found in path.read_bytes().lower()]


async def test_aliases_are_this_boxs_own_and_for_ever(tmp_path: Path) -> None:
    one, again = Pseudonyms(tmp_path), Pseudonyms(tmp_path)
    (tmp_path / "other").mkdir()
    other = Pseudonyms(tmp_path / "other")
    for each in (one, again, other):
        await each.ready()
    alias = one.alias(TOKEN)
    assert alias is not None
    assert is_alias(alias)
    assert alias == one.alias(TOKEN.lower()) == again.alias(TOKEN) == one.alias(alias)
    assert alias != other.alias(TOKEN)
    assert one.alias("04A2B3C4D5E6F8") != alias
    assert one.alias(None) is None
    assert (tmp_path / KEY).stat().st_mode & 0o777 == 0o600


async def test_half_a_key_is_said_and_not_used(tmp_path: Path) -> None:
    (tmp_path / KEY).write_bytes(b"half")
    with pytest.raises(LedgerError, match="32 bytes are expected, it has 4"):
        await Pseudonyms(tmp_path).ready()


# --- what is too old ----------------------------------------------------------------------------------------------


class Standing:
    """A clock that stands; sleeping takes no time."""

    def __init__(self, at: datetime, trusted: bool = True) -> None:
        self.at, self.trusted = at, trusted

    def now(self) -> Moment:
        return Moment(0.0, self.at, self.trusted)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


DAY = timedelta(days=1)
ALL = Keep(sessions_s=400 * 86_400.0, tokens_s=86_400.0 * 30, alarms_s=86_400.0 * 30, audit_s=86_400.0 * 90)


async def aged(ledger: Ledger) -> None:
    """One of everything per month for two years, and something that is open."""
    for month in range(25):
        at = NOON - 30 * month * DAY
        await ledger.number_transaction(CP1, TOKEN, month, at)
        await ledger.append(
            [
                session(f"s{month}", at),
                record(f"s{month}", started=at),
                SignedSaved(StationId("CP1"), f"ts{month}", (SignedValue("", "", "x"),)),
                AlarmSaved(f"a{month}", "meter", "main", 1, "?", at, at, over=True),
            ]
        )
    for month in reversed(range(25)):
        await ledger.append([Audited(NOON - 30 * month * DAY, "anna", "limit", "CP1/1", str(month))])
    await ledger.append([session("open", NOON - 700 * DAY, hours=None)])
    await ledger.append([AlarmSaved("open", "meter", "main", 1, "?", NOON - 700 * DAY, None)])


def count(db: sqlite3.Connection) -> dict[str, int]:
    tables = ("sessions", "records", "signed_values", "transactions", "alarms", "audit")
    return {table: db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables}


async def test_each_kind_is_forgotten_at_its_age(ledger: Ledger, storage: Storage) -> None:
    await aged(ledger)
    clock = Standing(NOON + timedelta(hours=2))
    await Retention(ALL, storage, ledger, clock).look()
    left = await storage.read(LEDGER, count)
    # months 0 to 13 are younger than 400 days, and the one that is open
    assert left["sessions"] == 15
    assert (left["records"], left["signed_values"], left["transactions"]) == (14, 14, 14)
    assert left["alarms"] == 3  # 0, 1 (30 days to the minute), and the open one
    rows = await audit_tail(ledger, 100)
    assert [row["detail"] for row in rows if row["what"] == "limit"] == ["2", "1", "0"]
    told = {row["subject"]: row["detail"] for row in rows if row["what"] == "retention"}
    assert told == {
        "sessions": "11 older than 400 d",
        "tokens": "13 older than 30 d",
        "alarms": "23 older than 30 d",
        "audit": "22 older than 90 d",
    }
    assert await ledger.verify_audit() is None, "the chain begins at its cut"
    sessions = {row["id"]: row["token"] for row in await ledger.sessions()}
    assert [sessions[id] == TOKEN for id in ("s0", "s1", "s2", "s13", "open")] == [
        True,
        True,
        False,
        False,
        True,
    ]
    assert is_alias(sessions["s2"])
    before = await storage.read(LEDGER, count)
    await Retention(ALL, storage, ledger, clock).look()
    assert await storage.read(LEDGER, count) == before, "nothing is due, nothing is told"


async def test_a_cut_audit_still_shows_what_was_taken_out(ledger: Ledger, storage: Storage) -> None:
    await aged(ledger)
    await Retention(ALL, storage, ledger, Standing(NOON)).look()
    await storage.write(LEDGER, lambda db: db.execute("DELETE FROM audit WHERE detail = '2'"))
    assert "are missing" in str(await ledger.verify_audit())


@pytest.mark.parametrize("trusted", [True, False])
async def test_a_clock_that_is_wrong_wipes_nothing(ledger: Ledger, storage: Storage, trusted: bool) -> None:
    """Years ahead: measured against the newest of each kind. Not trusted: nothing at all."""
    await aged(ledger)
    before = await storage.read(LEDGER, count)
    keep = Keep(sessions_s=800 * 86_400.0, alarms_s=800 * 86_400.0, audit_s=800 * 86_400.0)
    keep = keep if trusted else ALL
    await Retention(keep, storage, ledger, Standing(NOON + 9000 * DAY * trusted, trusted)).look()
    assert await storage.read(LEDGER, count) == before


async def test_much_is_forgotten_piece_by_piece(
    ledger: Ledger, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "AT_ONCE", 4)
    await aged(ledger)
    await Retention(ALL, storage, ledger, Standing(NOON + timedelta(hours=2))).look()
    left = await storage.read(LEDGER, count)
    assert (left["sessions"], left["alarms"]) == (15, 3)
    assert await ledger.verify_audit() is None
