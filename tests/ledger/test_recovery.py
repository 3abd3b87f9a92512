"""Damaged files, full disks and disks that take nothing: what comes back, what is kept, what is said."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from test_backup import depot
from test_kill_whole import FALLBACK_A, config, controller, stations_at

from controller import migrations
from controller.backup import Backups
from controller.clock import SystemClock
from controller.core.commands import Audited, CeilingSaved
from controller.core.model import EvseId
from controller.ledger import Ledger, LedgerError
from controller.storage import LEDGER, Storage
from tests.audit_rows import audit_tail

WHEN = datetime(2026, 11, 22, 12, tzinfo=UTC)
A, B, C = EvseId("CP1/1"), EvseId("CP2/1"), EvseId("CP3/1")


def row(number: int) -> Audited:
    return Audited(WHEN, "anna", "limited", f"CP{number}", "x" * 200)


async def fill(folder: Path, rows: int = 200, backup: bool = False) -> None:
    storage = Storage(folder)
    await storage.open()
    ledger = Ledger(storage)
    await ledger.restore()
    number, _ = await ledger.number_transaction(A, "TAG", 0, WHEN)
    assert number == 1
    await ledger.append([CeilingSaved(A, 16_000), *map(row, range(rows))])
    if backup:
        (folder / "backups").mkdir()
        await Backups(storage, SystemClock()).make(folder / "backups" / "depot-20261122T110000Z.db")
        await ledger.append([CeilingSaved(B, 20_000), *map(row, range(rows))])
    await storage.close()


def spoil(path: Path, table: str) -> None:
    """Overwrites the root page of a table."""
    with closing(sqlite3.connect(path)) as db:
        page = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)).fetchone()[0]
        size = db.execute("PRAGMA page_size").fetchone()[0]
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = bytearray(path.read_bytes())
    content[(page - 1) * size : page * size] = b"\xaa" * size
    path.write_bytes(content)


def kept_aside(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in folder.glob("depot.db.damaged-*Z")]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own."""
    made = tmp_path / "disk"
    made.mkdir()
    if os.getuid() != 0 or not mount("-t", "tmpfs", "-o", "size=12m", "none", made):
        pytest.skip("mounts a file system: needs root")
    yield made
    subprocess.run(["umount", made], check=True)


def mount(*arguments: str | Path) -> bool:
    return subprocess.run(["mount", *arguments], check=False).returncode == 0


@pytest.mark.parametrize("spoilt", ["sessions", "ceilings", "audit", "header"])
async def test_a_damaged_file_comes_back_from_the_backup_and_from_itself(tmp_path: Path, spoilt: str) -> None:
    await fill(tmp_path, backup=True)
    if spoilt == "header":
        (tmp_path / LEDGER).write_bytes(b"this is not a database" * 500)
    else:
        spoil(tmp_path / LEDGER, spoilt)
    damaged = (tmp_path / LEDGER).read_bytes()
    storage = Storage(tmp_path)
    await storage.open()
    ledger = Ledger(storage)
    known = await ledger.restore()
    ceilings = {A: 16_000} if spoilt in ("ceilings", "header") else {A: 16_000, B: 20_000}
    assert known.ceilings == ceilings
    assert await ledger.verify_audit() is None
    assert len(await audit_tail(ledger, 1000)) == (200 if spoilt in ("audit", "header") else 400)
    assert known.boot > 400_000, "names of sessions must not come again"
    number, repeated = await ledger.number_transaction(B, "TAG", 0, WHEN)
    assert number > 100_000
    assert not repeated
    assert (await ledger.number_transaction(A, "TAG", 0, WHEN)) == (1, True)
    assert storage.trouble is None
    (text,) = storage.mended
    assert text.startswith("depot.db was damaged: restored from depot-20261122T110000Z.db")
    await storage.close()
    assert kept_aside(tmp_path) == [damaged]


async def test_without_a_backup_what_can_be_read_is_kept(tmp_path: Path) -> None:
    await fill(tmp_path)
    spoil(tmp_path / LEDGER, "schedules")
    storage = Storage(tmp_path)
    await storage.open()
    known = await Ledger(storage).restore()
    assert known.ceilings == {A: 16_000}
    assert await Ledger(storage).verify_audit() is None
    assert "started empty" in storage.mended[0]
    await storage.close()


async def test_damage_that_shows_while_it_runs_is_mended_and_what_waits_is_stored(tmp_path: Path) -> None:
    await fill(tmp_path, rows=2000)
    storage = Storage(tmp_path)
    await storage.open()
    ledger = Ledger(storage)
    await storage.read(LEDGER, lambda db: db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall())
    path = tmp_path / LEDGER
    page = await storage.read(
        LEDGER,
        lambda db: db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'ceilings'").fetchone()[0],
    )
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xaa" * 4096)
    await storage.read(LEDGER, lambda db: db.execute("PRAGMA shrink_memory").fetchall())
    async with asyncio.timeout(20):
        await ledger.append([CeilingSaved(C, 6_000)])
    assert storage.mended
    assert storage.trouble is None
    assert len(await audit_tail(ledger, 5000)) == 2000
    await storage.close()


async def test_a_long_check_is_cut_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await fill(tmp_path, rows=2000)
    monkeypatch.setattr(migrations, "CHECK_S", 0.0)
    storage = Storage(tmp_path)
    await storage.open()
    await Ledger(storage).append([CeilingSaved(C, 6_000)])
    await storage.close()
    assert "not to its end" in caplog.text


async def test_a_migration_that_is_cut_off_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(tmp_path)
    more = migrations.Migrations("ledger")
    with sqlite3.connect(":memory:") as empty:
        for step in migrations.ledger.pending(migrations.Database(empty)):
            more(name=step.name)(step.fn)
    empty.close()

    @more()
    def breaks(db: migrations.Database) -> None:
        db.conn.execute("CREATE TABLE half (x)")
        raise sqlite3.OperationalError("power cut")

    with pytest.raises(LedgerError, match="power cut"):
        migrations.open_file(tmp_path / LEDGER, more, "FULL", check=True)
    storage = Storage(tmp_path)
    await storage.open()
    assert (await Ledger(storage).restore()).ceilings == {A: 16_000}
    assert await storage.read(LEDGER, lambda db: db.execute("PRAGMA table_info(half)").fetchall()) == []
    await storage.close()


def _steps() -> int:
    with closing(sqlite3.connect(":memory:")) as empty:
        return len(migrations.ledger.pending(migrations.Database(empty)))


@pytest.mark.parametrize("length", range(1, _steps()))
async def test_every_schema_before_this_one_is_brought_up_to_date(tmp_path: Path, length: int) -> None:
    with closing(sqlite3.connect(tmp_path / LEDGER, isolation_level=None)) as db:
        old = migrations.Database(db)
        last = migrations.ledger.pending(old)[length - 1]
        migrations.ledger.apply(old, stop_before=migrations.ledger.pending(old)[length].name)
        assert [step.name for step in migrations.ledger.applied(old)][-1] == last.name
        db.execute("INSERT INTO ceilings VALUES ('CP1/1', 16000)")
        db.execute(
            "INSERT INTO sessions (id, evse, transaction_id, started, energy_wh, marks)"
            " VALUES ('1-1', 'CP1/1', '7', '2026-01-02T03:04:05.000000Z', 5, '[]')"
        )
    storage = Storage(tmp_path)
    await storage.open()
    known = await Ledger(storage).restore()
    assert known.ceilings == {A: 16_000}
    assert [session.transaction for session in known.sessions] == ["7"]
    await storage.close()


async def test_ballast_is_thrown_when_the_disk_is_full(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    storage = Storage(tmp_path, ballast=1_000_000)
    await storage.open()
    await Ledger(storage).append([CeilingSaved(A, 6_000)])
    assert (tmp_path / "ballast").stat().st_blocks * 512 >= 1_000_000
    await storage.read(LEDGER, lambda db: db.execute("PRAGMA max_page_count=1").fetchone())
    waiting = Ledger(storage).append([row(number) for number in range(500)])
    async with asyncio.timeout(10):
        while storage.trouble is None:  # noqa: ASYNC110 - it changes in the storage thread
            await asyncio.sleep(0.005)
    assert not (tmp_path / "ballast").exists()
    assert caplog.text.count("has been deleted") == 1
    await storage.read(LEDGER, lambda db: db.execute("PRAGMA max_page_count=1000000").fetchone())
    async with asyncio.timeout(10):
        await waiting
    await storage.close()


async def test_a_small_disk_that_fills_goes_on_with_the_ballast(disk: Path) -> None:
    storage = Storage(disk, ballast=2_000_000)
    await storage.open()
    await Ledger(storage).append([CeilingSaved(A, 6_000)])
    with (disk / "somebody else's").open("wb") as file, pytest.raises(OSError, match="No space"):
        while True:
            os.write(file.fileno(), bytes(65_536))
    async with asyncio.timeout(20):
        await Ledger(storage).append([row(number) for number in range(2000)])
    assert storage.trouble is None
    assert storage.mended == ("the disk is full: the ballast has been deleted; free some space",)
    assert not (disk / "ballast").exists()
    await storage.close()


async def test_a_read_only_disk_means_no_books_until_it_is_back(disk: Path) -> None:
    await fill(disk)
    assert mount("-o", "remount,ro", disk)
    storage = Storage(disk)
    await storage.open()
    assert storage.away
    assert "Read-only" in (storage.trouble or "")
    waiting = Ledger(storage).append([CeilingSaved(B, 6_000)])
    with pytest.raises(LedgerError, match="Read-only"):
        await storage.read(LEDGER, lambda db: db.execute("SELECT 1"))
    assert not waiting.done()
    assert not storage.returned
    assert mount("-o", "remount,rw", disk)
    async with asyncio.timeout(20):
        while not storage.returned:  # noqa: ASYNC110 - it changes in the storage thread
            await asyncio.sleep(0.01)
    assert not waiting.done(), "nobody knows what the file holds before it is read"
    await storage.close()


async def test_a_controller_without_books_acknowledges_nothing_and_starts_anew_once_they_are_there(
    disk: Path, tmp_path: Path, unused_tcp_port: int
) -> None:
    path = config(tmp_path, unused_tcp_port)
    path.write_text(path.read_text().replace('path = "state"', 'path = "disk/state"'))
    assert mount("-o", "remount,ro", disk)
    async with stations_at(unused_tcp_port) as (yard, stations), controller(path) as process:
        await yard.until(lambda: len(yard.allowed_a) == len(stations))  # told their fallbacks
        await until_said(lambda text: "Read-only" in text, path.parent / "control.sock")
        assert yard.answered == []
        assert set(yard.allowed_a.values()) == {FALLBACK_A}
        assert mount("-o", "remount,rw", disk)
        async with asyncio.timeout(30):
            assert await process.wait() == 1
        log = (tmp_path / "depot.log").read_text()
        assert "there again; start anew" in log
        assert "Traceback" not in log
        async with controller(path):
            await yard.until(lambda: len(yard.answered) >= 3)
    assert yard.broken == []


async def until_said(wanted: Callable[[str], bool], socket: Path) -> None:
    """The alarm comes some seconds after its cause."""
    async with asyncio.timeout(30):
        while not wanted((await depot("status", "--socket", socket, "--json"))[1]):  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.2)


def test_a_process_that_may_write_no_file_at_all_says_so(tmp_path: Path) -> None:
    """RLIMIT_FSIZE 0: what SQLite meets on a disk that fails at the first byte."""
    text = """
        import asyncio, resource, signal, sys
        from pathlib import Path
        from controller.storage import Storage
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        async def work():
            storage = Storage(Path(sys.argv[1]))
            await storage.open()
            print(storage.away, flush=True)
            await storage.close()
        asyncio.run(work())
    """
    said = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(text), tmp_path],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert said.stdout == "True\n", said.stderr
