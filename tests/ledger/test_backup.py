"""Copies of the books: of a live system, verified, rotated, put back only where that is right."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from test_kill_whole import booked, config, controller, stations_at

from controller import recovery
from controller.backup import KEPT_BYTES, Backups, copy_offline, fetch, restore, rotate
from controller.clock import SystemClock
from controller.core.commands import Audited, CeilingSaved
from controller.core.model import EvseId, Moment
from controller.ledger import Ledger, LedgerError
from controller.storage import LEDGER, Storage
from tests.audit_rows import audit_tail

WHEN = datetime(2026, 11, 22, 12, 30, tzinfo=UTC)
A, B = EvseId("CP1/1"), EvseId("CP2/1")


async def filled(folder: Path, *entries: CeilingSaved | Audited) -> None:
    storage = Storage(folder)
    await storage.open()
    await Ledger(storage).restore()
    await Ledger(storage).append(entries)
    await storage.close()


async def known(folder: Path) -> tuple[dict[EvseId, int], int, str | None]:
    storage = Storage(folder)
    await storage.open()
    restored = await Ledger(storage).restore()
    broken = await Ledger(storage).verify_audit()
    await storage.close()
    return dict(restored.ceilings), restored.boot, broken


async def test_a_live_copy_holds_what_was_committed_and_is_ours_alone(
    storage: Storage, tmp_path: Path
) -> None:
    await Ledger(storage).append([CeilingSaved(A, 6_000)])
    copy = tmp_path / "copy.db"
    size = await Backups(storage, SystemClock()).make(copy)
    await Ledger(storage).append([CeilingSaved(A, 9_000)])
    assert (copy.stat().st_size, copy.stat().st_mode & 0o777) == (size, 0o600)
    with closing(sqlite3.connect(copy)) as db:
        assert db.execute("SELECT limit_ma FROM ceilings").fetchall() == [(6_000,)]
    with pytest.raises(LedgerError, match="exists; name another file"):
        await Backups(storage, SystemClock()).make(copy)
    with pytest.raises(LedgerError, match="No such file or directory"):
        await Backups(storage, SystemClock()).make(tmp_path / "nowhere" / "copy.db")
    assert sorted(path.name for path in recovery.backups(tmp_path)) == []
    with pytest.raises(LedgerError, match=r"gone\.db: No such file or directory"):
        fetch(tmp_path / "gone.db", tmp_path / "another.db")
    assert not any(name.startswith("another") for name in os.listdir(tmp_path))


def test_the_newest_of_hours_days_and_months_stay(tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    folder.mkdir()
    for hour in range(24 * 400):
        (folder / f"depot-{recovery.stamp(WHEN - timedelta(hours=hour))}.db").write_bytes(b"x")
    rotate(tmp_path)
    kept = [path.stem.removeprefix("depot-") for path in recovery.backups(tmp_path)]
    assert kept[:24] == [recovery.stamp(WHEN - timedelta(hours=hour)) for hour in range(24)]
    assert len({name[:8] for name in kept} & {f"202611{day}" for day in range(16, 23)}) == 7
    assert len({name[:6] for name in kept}) == 12
    assert len(kept) <= 24 + 7 + 12


def test_few_copies_of_large_books_stay(tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    folder.mkdir()
    for hour in range(5):
        with (folder / f"depot-{recovery.stamp(WHEN - timedelta(hours=hour))}.db").open("wb") as file:
            file.truncate(KEPT_BYTES)
    rotate(tmp_path)
    assert [path.stem[-7:-3] for path in recovery.backups(tmp_path)] == ["1230", "1130"]


async def test_a_restore_leaps_ahead_of_what_the_copy_does_not_know(tmp_path: Path) -> None:
    folder, copy = tmp_path / "state", tmp_path / "copy.db"
    await filled(folder, CeilingSaved(A, 6_000), Audited(WHEN, "anna", "limited", "CP1", ""))
    assert copy_offline(folder, copy) == copy.stat().st_size
    await filled(folder, CeilingSaved(B, 9_000))
    before = (folder / LEDGER).read_bytes()
    lines = restore(folder, copy, "anna", WHEN)
    assert len(lines) == 2
    ceilings, boot, broken = await known(folder)
    assert (ceilings, broken) == ({A: 6_000}, None)
    assert boot > 400_000
    (aside,) = recovery_files(folder, "replaced")
    assert aside.read_bytes() == before
    storage = Storage(folder)
    await storage.open()
    assert (await audit_tail(Ledger(storage), 1))[0]["what"] == "restored"
    with pytest.raises(LedgerError, match="a controller runs on this folder; stop it first"):
        restore(folder, copy, "anna", WHEN)
    assert copy_offline(folder, tmp_path / "other.db") is None
    await storage.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a folder away")
async def test_books_that_root_restores_belong_to_whom_the_folder_does(tmp_path: Path) -> None:
    """The service runs as a user of its own, and opens what `sudo depot restore` left."""
    folder, copy = tmp_path / "state", tmp_path / "copy.db"
    await filled(folder, CeilingSaved(A, 6_000))
    copy_offline(folder, copy)
    for path in (folder, *folder.rglob("*")):
        os.chown(path, 64_001, 64_002)
    restore(folder, copy, "root", WHEN)
    assert {(path.stat().st_uid, path.stat().st_gid) for path in (folder, *folder.rglob("*"))} == {
        (64_001, 64_002)
    }


def recovery_files(folder: Path, why: str) -> list[Path]:
    return sorted(folder.glob(f"{LEDGER}.{why}-*Z"))


@pytest.mark.parametrize("wrong", ["missing", "text", "cut", "changed", "newer"])
async def test_a_copy_that_is_not_good_changes_nothing(tmp_path: Path, wrong: str) -> None:
    folder, copy = tmp_path / "state", tmp_path / "copy.db"
    await filled(folder, *[Audited(WHEN, "anna", "limited", f"CP{n}", "x" * 200) for n in range(100)])
    copy_offline(folder, copy)
    match wrong:
        case "missing":
            copy.unlink()
        case "text":
            copy.write_text("not a database at all" * 100)
        case "cut":
            copy.write_bytes(copy.read_bytes()[:-8192])
        case "changed":
            with closing(sqlite3.connect(copy, isolation_level=None)) as db:
                db.execute("UPDATE audit SET by = 'nobody' WHERE id = 50")
        case "newer":
            with closing(sqlite3.connect(copy, isolation_level=None)) as db:
                db.execute(
                    "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('ledger', 'later', '2030')"
                )
    before = (folder / LEDGER).read_bytes()
    with pytest.raises(LedgerError) as caught:
        restore(folder, copy, "anna", WHEN)
    assert "\n" not in str(caught.value)
    expected = {"missing": "no such file", "changed": "audit row 50", "newer": "newer version"}
    assert expected.get(wrong, "copy.db: ") in str(caught.value)
    assert (folder / LEDGER).read_bytes() == before
    assert recovery_files(folder, "replaced") == []


async def depot(*arguments: str | Path) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "controller", *map(str, arguments), stdout=-1, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await process.communicate()
    return process.returncode, said.decode()


async def test_yesterdays_books_on_a_live_site(tmp_path: Path, unused_tcp_port: int) -> None:
    """Backed up while stations charge; then they end, start others; then the old books come back."""
    path, copy = config(tmp_path, unused_tcp_port), tmp_path / "yesterday.db"
    async with stations_at(unused_tcp_port) as (yard, stations):
        async with controller(path):
            for station in stations:
                station.may_end.clear()
            await yard.until(lambda: all(station.transaction is not None for station in stations))
            code, said = await depot("backup", copy, "--config", path)
            assert (code, "found whole" in said) == (0, True), said
            (kept,) = recovery.backups(tmp_path / "state")  # the service may write nowhere else
            assert (copy.read_bytes() == kept.read_bytes(), copy.stat().st_mode & 0o777) == (True, 0o600)
            code, said = await depot("backup", copy, "--config", path)
            assert (code, "exists; name another file" in said, said.count("\n")) == (1, True, 1), said
            code, said = await depot("restore", copy, "--config", path)
            assert code == 1
            assert "a controller runs on this folder" in said
            old, count = {station.transaction for station in stations}, len(yard.answered)
            for station in stations:
                station.may_end.set()
            await yard.until(lambda: len(yard.answered) >= count + 5)
            for station in stations:
                station.may_end.clear()
            await yard.until(lambda: all(station.transaction not in {None, *old} for station in stations))
        given = {number for _, number in yard.answered}
        code, said = await depot("restore", copy, "--config", path)
        assert code == 0, said
        count = len(yard.answered)
        async with controller(path):
            for station in stations:
                station.may_end.set()
            await yard.until(
                lambda: {name for name, _ in yard.answered[count:]} == {f"K{n}" for n in range(1, 6)}
            )
    assert not given & {number for _, number in yard.answered[count:]}, "a number came again"
    assert yard.broken == []
    books = booked(tmp_path / "state" / LEDGER)
    still = [(evse, number) for (evse, number), ended in books.items() if number in old and not ended]
    assert still == [], f"yesterday's sessions are still open: {books}"
    assert "Traceback" not in (tmp_path / "depot.log").read_text()


class StepClock:
    """Each sleep is over at once and moves the time on; the last one lasts."""

    def __init__(self, sleeps: int) -> None:
        self.at_s, self.left, self.done = 0.0, sleeps, asyncio.Event()

    def now(self) -> Moment:
        return Moment(self.at_s, WHEN + timedelta(seconds=self.at_s))

    async def sleep(self, seconds: float) -> None:
        if self.left == 0:
            self.done.set()
            await asyncio.Event().wait()
        self.left -= 1
        self.at_s += seconds


async def test_a_copy_is_made_every_hour_by_itself(storage: Storage) -> None:
    await Ledger(storage).append([CeilingSaved(A, 6_000)])
    clock = StepClock(sleeps=150)
    running = asyncio.create_task(Backups(storage, clock).run())
    async with asyncio.timeout(20):
        await clock.done.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    names = [path.stem[-7:-1] for path in recovery.backups(storage.folder)]
    assert names == ["143100", "133100", "123100"]
    assert [recovery.verified(path) for path in recovery.backups(storage.folder)] == [None] * 3
