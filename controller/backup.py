"""Copies of depot.db: made every hour while it runs, on request, and put back while it does not.

Owns when a copy is made, which are kept (24 hours, 7 days, 12 months, within KEPT_BYTES) and what a restore demands. The
copy is taken through the thread that owns the file; each is read whole before it counts. A file that has grown is copied
less often, so that copies alone write no more than DAILY_BYTES a day.
Source: field notes 6.6.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from controller import migrations, recovery
from controller.core.commands import Audited
from controller.ledger import _chain
from controller.migrations import LedgerError, explain
from controller.ports import Clock
from controller.storage import LEDGER, Storage
from controller.verification import _chains

log = logging.getLogger(__name__)

EVERY = timedelta(hours=1)
LOOK_S = 60.0
DAILY_BYTES = 30_000_000
KEPT_BYTES = 150_000_000  # but the newest two stay whatever they weigh
_RANKS = (("%Y%m%d%H", 24), ("%Y%m%d", 7), ("%Y%m", 12))
_FORM = "depot-%Y%m%dT%H%M%SZ.db"


class Backups:
    """`run` belongs beside the runtime. `storage` must be open."""

    def __init__(self, storage: Storage, clock: Clock) -> None:
        self._storage = storage
        self._clock = clock
        self._trouble: str | None = None

    async def run(self) -> None:
        while True:
            await self._clock.sleep(LOOK_S)
            now = self._clock.now()
            if now.utc_trusted and not self._storage.behind and self._due(now.utc):
                await self._keep(now.utc)

    def _due(self, now: datetime) -> bool:
        kept = recovery.backups(self._storage.folder)
        if not kept or (newest := _made(kept[0])) is None:
            return True
        pause = max(EVERY, timedelta(days=kept[0].stat().st_size / DAILY_BYTES))
        return not timedelta(0) <= now - newest < pause

    async def _keep(self, now: datetime) -> None:
        trouble = None
        try:
            await self.keep(now)
        except LedgerError as error:
            trouble = str(error)
        if trouble is not None and self._trouble is None:
            log.error("no backup: %s", trouble)
        self._trouble = trouble

    async def keep(self, now: datetime) -> tuple[Path, int]:
        """One more among those that are kept, and its bytes. Raises LedgerError."""
        folder = self._storage.folder / recovery.BACKUPS
        path = folder / now.strftime(_FORM)
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            size = await self.make(path)
            rotate(self._storage.folder)
        except OSError as error:
            raise LedgerError(f"{folder}: {error.strerror}") from None
        return path, size

    async def make(self, path: Path) -> int:
        """A verified copy of the books as they are now; its bytes. Raises LedgerError; never writes over a file."""
        part = path.with_name(f"{path.name}.part")
        await self._storage.read(LEDGER, partial(_copy, path, part))
        return await asyncio.to_thread(_accepted, path, part)


def _accepted(path: Path, part: Path) -> int:
    """The copy gets its name once it is read back whole; its bytes."""
    try:
        if (wrong := recovery.verified(part)) is not None:
            raise LedgerError(f"{path}: the copy is not good: {wrong}")
        recovery.sync(part)
        part.rename(path)
        return path.stat().st_size
    except OSError as error:
        raise LedgerError(f"{path}: {error.strerror}") from None
    finally:
        part.unlink(missing_ok=True)


def _begun(path: Path, part: Path) -> None:
    try:
        if path.exists():
            raise LedgerError(f"{path}: exists; name another file")
        part.unlink(missing_ok=True)
        part.touch(mode=0o600)  # holds id tokens
    except OSError as error:
        raise LedgerError(f"{path}: {error.strerror}") from None


def _copy(path: Path, part: Path, db: sqlite3.Connection) -> None:
    _begun(path, part)
    try:
        with closing(sqlite3.connect(part)) as copy:
            db.backup(copy)
    except sqlite3.Error as error:
        part.unlink(missing_ok=True)
        raise LedgerError(f"{path}: {error}") from None


def rotate(folder: Path) -> None:
    """Removes what is neither the newest of one of the last hours, days or months, nor one of the newest two."""
    found = recovery.backups(folder)
    staying = set(found[:2])
    for form, most in _RANKS:
        seen: dict[str, Path] = {}
        for path in found:
            if (made := _made(path)) is not None:
                seen.setdefault(made.strftime(form), path)
        staying |= set(list(seen.values())[:most])
    total = 0
    for path in found:
        total += path.stat().st_size
        if path not in staying or (total > KEPT_BYTES and path not in found[:2]):
            path.unlink()


def _made(path: Path) -> datetime | None:
    try:
        return datetime.strptime(path.name, _FORM).replace(tzinfo=UTC)
    except ValueError:
        return None


def fetch(kept: Path, path: Path) -> int:
    """A kept copy into a file of whoever asks: the service itself may write nowhere else; its bytes. Raises LedgerError."""
    part = path.with_name(f"{path.name}.part")
    _begun(path, part)
    try:
        shutil.copyfile(kept, part)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise LedgerError(f"{error.filename2 or error.filename}: {error.strerror}") from None
    return _accepted(path, part)


def copy_offline(folder: Path, path: Path) -> int | None:
    """A copy while no controller runs; its bytes. None while one does. Raises LedgerError."""
    held = _unused(folder)
    if held is None:
        return None
    part = path.with_name(f"{path.name}.part")
    with closing(held):
        _copy(path, part, held)
    return _accepted(path, part)


def restore(folder: Path, copy: Path, by: str, at: datetime) -> Sequence[str]:
    """Puts a copy in the place of the books of a controller that does not run; lines on what was done. Raises
    LedgerError, before anything is touched if the copy is not good."""
    path = folder / LEDGER
    if not copy.is_file():
        raise LedgerError(f"{copy}: there is no such file")
    if (wrong := recovery.verified(copy)) is not None:
        raise LedgerError(f"{copy}: {wrong}")
    with closing(sqlite3.connect(f"{copy.resolve().as_uri()}?mode=ro&immutable=1", uri=True)) as db:
        for broken in _chains(db):
            raise LedgerError(f"{copy}: {broken}; it is not a copy of what was written")
    if path.exists():
        held = _unused(folder)
        if held is None:
            raise LedgerError(f"{path}: a controller runs on this folder; stop it first")
        held.close()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        recovery.finish(path)
        fresh = recovery.take(copy, path)
        with closing(migrations.open_file(fresh, migrations.ledger, "FULL", check=False)) as db:
            recovery.leap(db, at)
            db.execute("BEGIN IMMEDIATE")
            _chain(db, Audited(at, by, "restored", LEDGER, copy.name))
            db.execute("COMMIT")
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        stood = path.exists()
        aside = recovery.swap(path, fresh, "replaced", at)
    except OSError as error:
        raise LedgerError(f"{path}: {error.strerror}") from None
    done = [f"the books until now are kept as {aside}"] if stood else []
    return [f"{path} restored from {copy}", *done]


def _unused(folder: Path) -> sqlite3.Connection | None:
    """The books of a folder whose controller does not run, locked; None while one does. A damaged file is in nobody's
    use. Raises LedgerError."""
    path = folder / LEDGER
    try:
        there = path.is_file()
    except OSError as error:
        raise LedgerError(f"{path}: {error.strerror}") from None
    if not there:
        raise LedgerError(f"{path}: there is none; is this the state folder ([storage] path)?")
    db = sqlite3.connect(path, timeout=0.5, isolation_level=None)
    try:
        db.execute("PRAGMA locking_mode=EXCLUSIVE")
        db.execute("BEGIN IMMEDIATE")
        db.execute("COMMIT")
    except sqlite3.Error as error:
        if migrations.is_damage(error):
            return db
        db.close()
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return None
        raise LedgerError(f"{path}: {explain(error)}") from None
    return db
