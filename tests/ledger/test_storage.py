"""The storage thread: opening, group commit, a disk that refuses, closing."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlite_utils import Database

from controller import migrations
from controller import storage as storage_module
from controller.migrations import LedgerError
from controller.storage import LEDGER, TELEMETRY, Storage

DEADLINE_S = 10.0


def put(name: str, value: int = 1) -> Callable[[sqlite3.Connection], None]:
    return lambda db: void(db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value)))


def void(_: object) -> None:
    return None


def names(db: sqlite3.Connection) -> list[str]:
    return [name for (name,) in db.execute("SELECT name FROM meta WHERE name <> 'books' ORDER BY name")]


def tables(folder: Path, file: str) -> dict[str, str]:
    with Database(folder / file) as db:
        return {table.name: table.schema for table in db.tables}


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 - it changes in the storage thread
            await asyncio.sleep(0.005)


async def stop_growth(storage: Storage) -> None:
    """From now on the disk is full: the file may not get one page longer."""
    await storage.read(LEDGER, lambda db: db.execute("PRAGMA max_page_count=1").fetchone())


async def allow_growth(storage: Storage) -> None:
    await storage.read(LEDGER, lambda db: db.execute("PRAGMA max_page_count=1000000").fetchone())


BIG = "x" * 200_000  # does not fit into the pages an empty ledger has


# --- opening ------------------------------------------------------------------------------------------------------


async def test_tables_are_strict_and_opening_again_changes_nothing(tmp_path: Path) -> None:
    found = []
    for _ in range(2):
        storage = Storage(tmp_path / "new" / "folder")
        await storage.open()
        await storage.write(LEDGER, put("kept"))
        await storage.close()
        found.append(tables(storage.folder, LEDGER) | tables(storage.folder, TELEMETRY))
    assert found[0] == found[1]
    ours = {name: schema for name, schema in found[0].items() if not name.startswith(("_", "sqlite_"))}
    assert {"sessions", "transactions", "audit", "evse_samples"} <= ours.keys()
    assert all("STRICT" in schema for schema in ours.values())


async def test_the_files_are_ours_alone(tmp_path: Path) -> None:
    storage = Storage(tmp_path / "data")
    await storage.open()
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "data").iterdir()}
    folder_mode = (tmp_path / "data").stat().st_mode & 0o777
    await storage.close()
    assert folder_mode == 0o700
    assert set(modes.values()) == {0o600}


async def test_the_pragmas_that_keep_acknowledged_rows(storage: Storage) -> None:
    def read(db: sqlite3.Connection) -> dict[str, object]:
        wanted = (
            "journal_mode",
            "synchronous",
            "foreign_keys",
            "trusted_schema",
            "cell_size_check",
            "locking_mode",
        )
        return {pragma: db.execute(f"PRAGMA {pragma}").fetchone()[0] for pragma in wanted}

    expected = {"journal_mode": "wal", "foreign_keys": 1, "trusted_schema": 0, "cell_size_check": 1}
    expected["locking_mode"] = "exclusive"
    assert await storage.read(LEDGER, read) == {**expected, "synchronous": 2}  # FULL
    assert await storage.read(TELEMETRY, read) == {**expected, "synchronous": 1}  # NORMAL


async def test_a_newer_file_is_refused(tmp_path: Path) -> None:
    first = Storage(tmp_path)
    await first.open()
    await first.close()
    with Database(tmp_path / LEDGER) as db:
        row = {"migration_set": "ledger", "name": "second_ledger", "applied_at": "2030-01-01"}
        db["_sqlite_migrations"].insert(row)
    with pytest.raises(LedgerError, match=r"depot\.db: written by a newer version .*second_ledger"):
        await Storage(tmp_path).open()


@pytest.mark.parametrize("blocked", ["folder", "file"])
async def test_an_unusable_folder_is_one_line(tmp_path: Path, blocked: str) -> None:
    if blocked == "folder":
        (tmp_path / "data").write_text("a file where the folder should be")
    else:
        (tmp_path / "data" / LEDGER).mkdir(parents=True)
    storage = Storage(tmp_path / "data")
    with pytest.raises(LedgerError) as caught:
        await storage.open()
    assert str(tmp_path / "data" / LEDGER) in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(LedgerError, match="closed"):
        await storage.write(LEDGER, put("late"))


async def test_a_second_controller_is_refused(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrations, "BUSY_S", 0.05)
    with pytest.raises(LedgerError, match="in use by another process"):
        await Storage(storage.folder).open()
    await storage.write(LEDGER, put("unharmed"))


async def test_damaged_telemetry_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / TELEMETRY).write_bytes(b"noise" * 1000)
    storage = Storage(tmp_path)
    await storage.open()
    await storage.write(TELEMETRY, lambda db: void(db.execute("SELECT * FROM evse_samples")))
    assert storage.trouble is None
    await storage.close()
    assert [text.partition(":")[0] for text in storage.mended] == ["telemetry.db was damaged"]
    assert any("telemetry.db.damaged-" in name for name in os.listdir(tmp_path))


# --- writing ------------------------------------------------------------------------------------------------------


async def test_what_is_queued_together_is_committed_together(storage: Storage) -> None:
    release, entered, statements = threading.Event(), threading.Event(), []

    def block(db: sqlite3.Connection) -> None:
        db.set_trace_callback(statements.append)
        entered.set()
        assert release.wait(DEADLINE_S)

    blocked = storage.write(LEDGER, block)
    await until(entered.is_set)
    writes = [storage.write(LEDGER, put(f"n{number}")) for number in range(100)]
    release.set()
    await asyncio.gather(blocked, *writes)
    assert statements.count("COMMIT") == 2  # the blocking one, then all the others
    assert len(await storage.read(LEDGER, names)) == 100


async def test_the_loop_does_not_wait_for_the_disk(storage: Storage) -> None:
    release = threading.Event()
    blocked = storage.write(LEDGER, lambda db: release.wait(DEADLINE_S))
    read = storage.read(LEDGER, names)
    for _ in range(50):
        await asyncio.sleep(0)
    assert not blocked.done()
    assert not read.done()
    release.set()
    assert await blocked is True
    assert await read == []


async def test_an_impossible_entry_fails_alone(storage: Storage, caplog: pytest.LogCaptureFixture) -> None:
    before = storage.write(LEDGER, put("before"))
    wrong = storage.write(LEDGER, lambda db: void(db.execute("INSERT INTO meta VALUES (?, ?)", ("a", 2**70))))
    typo = storage.write(LEDGER, lambda db: void(db.execute("INSERT INTO no_such_table VALUES (1)")))
    after = storage.write(LEDGER, put("after"))
    await asyncio.gather(before, after)
    for future in (wrong, typo):
        with pytest.raises(LedgerError, match="cannot be stored"):
            await future
    assert await storage.read(LEDGER, names) == ["after", "before"]
    assert storage.trouble is None
    assert caplog.text.count("an entry cannot be stored") == 2


async def test_a_bad_query_fails_alone(storage: Storage) -> None:
    with pytest.raises(LedgerError, match="no such table"):
        await storage.read(LEDGER, lambda db: db.execute("SELECT * FROM no_such_table").fetchall())
    assert await storage.read(LEDGER, names) == []


async def test_a_caller_that_gave_up_disturbs_nobody(storage: Storage) -> None:
    release = threading.Event()
    blocked = storage.write(LEDGER, lambda db: release.wait(DEADLINE_S))
    given_up = storage.write(LEDGER, put("given up"))
    given_up.cancel()
    release.set()
    await blocked
    await storage.write(LEDGER, put("next"))
    assert await storage.read(LEDGER, names) == ["given up", "next"]


# --- a disk that refuses ------------------------------------------------------------------------------------------


async def test_a_full_disk_keeps_entries_and_resumes(
    storage: Storage, caplog: pytest.LogCaptureFixture
) -> None:
    await storage.write(LEDGER, put("old"))
    await stop_growth(storage)
    big = storage.write(LEDGER, put(BIG))
    later = storage.write(LEDGER, put("later"))
    await until(lambda: storage.trouble is not None)
    assert storage.trouble == "disk full; free some space"
    assert storage.behind
    assert not big.done()
    assert not later.done()
    assert await storage.read(LEDGER, names) == ["old"]  # reads go on
    await allow_growth(storage)
    async with asyncio.timeout(DEADLINE_S):
        await asyncio.gather(big, later)
    assert storage.trouble is None
    assert not storage.behind
    assert await storage.read(LEDGER, names) == ["later", "old", BIG]
    lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(lines) == 2, lines  # one when it began, one when it ended, none per attempt
    assert "disk full" in lines[0]
    assert "writing again" in lines[1]


async def test_a_full_queue_takes_nothing_more(tmp_path: Path) -> None:
    storage = Storage(tmp_path, capacity=3)
    await storage.open()
    await stop_growth(storage)
    kept = [storage.write(LEDGER, put(BIG)), storage.write(LEDGER, put("second"), size=2)]
    assert storage.full
    with pytest.raises(LedgerError, match="queue full"):
        await storage.write(LEDGER, put("too much"))
    await allow_growth(storage)
    async with asyncio.timeout(DEADLINE_S):
        await asyncio.gather(*kept)
    assert not storage.full
    await storage.write(LEDGER, put("third"))
    assert await storage.read(LEDGER, names) == ["second", "third", BIG]
    await storage.close()


async def test_telemetry_is_dropped_not_kept(storage: Storage, caplog: pytest.LogCaptureFixture) -> None:
    add = "INSERT INTO points (kind, name) VALUES ('evse', ?)"
    await storage.read(TELEMETRY, lambda db: db.execute("PRAGMA max_page_count=1").fetchone())
    for _ in range(2):
        with pytest.raises(LedgerError, match="disk full"):
            await storage.write(TELEMETRY, lambda db: void(db.execute(add, (BIG,))))
    assert caplog.text.count("disk full") == 1
    assert not storage.behind  # the ledger is well
    await storage.write(LEDGER, put("kept"))


async def test_closing_on_a_full_disk_ends_and_says_what_was_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(storage_module, "DRAIN_S", 0.05)
    storage = Storage(tmp_path)
    await storage.open()
    await stop_growth(storage)
    lost = storage.write(LEDGER, put(BIG), size=7)
    await storage.close()
    with pytest.raises(LedgerError, match="closed"):
        await lost
    assert "7 entries were not stored" in caplog.text


# --- life and end -------------------------------------------------------------------------------------------------


async def test_alive_is_about_the_thread_not_the_disk(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage_module, "IDLE_S", 0.02)
    await stop_growth(storage)
    storage.write(LEDGER, put(BIG))
    await until(lambda: storage.trouble is not None)
    await storage.read(LEDGER, names)
    await until(lambda: storage.alive_s < 0.2)  # refusing, but answering
    release = threading.Event()
    stuck = storage.read(LEDGER, lambda db: release.wait(DEADLINE_S))
    await until(lambda: storage.alive_s > 0.2)  # a call that does not return
    release.set()
    await stuck
    await until(lambda: storage.alive_s < 0.2)
    await allow_growth(storage)


async def test_close_writes_what_is_queued(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    await storage.open()
    futures = [storage.write(LEDGER, put(f"n{number:03}")) for number in range(200)]
    await storage.close()
    await storage.close()
    assert all(future.done() and future.exception() is None for future in futures)
    with Database(tmp_path / LEDGER) as db:
        assert db["meta"].count_where("name <> 'books'") == 200
    for late in (storage.write(LEDGER, put("late")), storage.read(LEDGER, names)):
        with pytest.raises(LedgerError, match="closed"):
            await late


async def test_nothing_is_left_behind(tmp_path: Path) -> None:
    for _ in range(3):
        storage = Storage(tmp_path)
        await storage.open()
        await storage.write(LEDGER, put("x"))
        await storage.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "storage"]
    assert sorted(os.listdir(tmp_path)) == [LEDGER, TELEMETRY]  # no -wal, no -shm
    gc.collect()  # an unclosed connection would warn here


def test_a_loop_that_ends_without_close_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage_module, "IDLE_S", 0.02)

    async def forgetful() -> threading.Thread:
        storage = Storage(tmp_path)
        await storage.open()
        storage.write(LEDGER, put("written anyway"))
        return next(thread for thread in threading.enumerate() if thread.name == "storage")

    thread = asyncio.run(forgetful())
    thread.join(DEADLINE_S)
    assert not thread.is_alive()
    with Database(tmp_path / LEDGER) as db:
        assert [row["name"] for row in db["meta"].rows_where("name <> 'books'")] == ["written anyway"]
