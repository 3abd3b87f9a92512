"""What is done about a damaged depot.db: put aside, replaced by the last good backup, and filled with what can be read.

Owns copies of the file: which are good, which one comes back, and the numbers that must not be given twice after that.
Runs where nobody else has the file open (the storage thread, or a command while no controller runs). Loses nothing: what
is replaced stays beside its successor under another name.
Source: field notes 3.4 and 5.1 rows 41 and 60.
"""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path

from controller import migrations
from controller.chain import chain_hash
from controller.migrations import explain

log = logging.getLogger(__name__)

BACKUPS = "backups"
PATTERN = "depot-*.db"
KEPT_ASIDE = 3  # damaged or replaced files; the oldest go
ENDS = ("-wal", "-shm", "")  # a file of SQLite and what stands beside it, itself last
_READY = "successor-"
_BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
_BOOT_LEAP, _NUMBER_LEAP = 1_000, 100_000  # more starts and transactions than any backup is old
_CHAINS = {"audit": "SELECT 0, ''", "egress": "SELECT id, hash FROM egress_cut"}  # where an empty one begins


def stamp(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y%m%dT%H%M%SZ}"


def backups(folder: Path) -> list[Path]:
    """Those of a state folder, newest first."""
    return sorted((folder / BACKUPS).glob(PATTERN), reverse=True)


def verified(path: Path) -> str | None:
    """What is wrong with this copy, None if nothing: reads all of it. Must not be open anywhere."""
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True)) as db:
            found: str = db.execute("PRAGMA integrity_check(1)").fetchone()[0]
            if found != "ok":
                return " ".join(found.split())
            db.execute("SELECT 1 FROM audit, sessions, meta LIMIT 1").fetchone()
            return migrations.newer(db, migrations.ledger)
    except sqlite3.Error as error:
        return explain(error)


def put_aside(path: Path, why: str, at: datetime) -> Path:
    """Renames the file with what SQLite keeps beside it; returns its new name."""
    aside = path.with_name(f"{path.name}.{why}-{stamp(at)}")
    for end in ENDS:
        with suppress(FileNotFoundError):
            Path(f"{path}{end}").rename(f"{aside}{end}")
    kept = sorted(each for each in path.parent.glob(f"{path.name}.{why}-*Z") if each != aside)
    for old in kept[: 1 - KEPT_ASIDE]:
        for end in ENDS:
            Path(f"{old}{end}").unlink(missing_ok=True)
    return aside


def take(copy: Path | None, path: Path) -> Path:
    """Where the successor of `path` is made: a copy of the copy, or nothing yet; what an attempt before left there goes."""
    fresh = path.with_name(f"{path.name}.new")
    for end in ENDS:
        Path(f"{fresh}{end}").unlink(missing_ok=True)
    if copy is not None:
        shutil.copyfile(copy, fresh)
        fresh.chmod(0o600)
        if os.geteuid() == 0:  # a person restores; the service that opens it is somebody else
            owner = path.parent.stat()
            os.chown(fresh, owner.st_uid, owner.st_gid)
    return fresh


def swap(path: Path, fresh: Path, why: str, at: datetime) -> Path:
    """`fresh`, finished and closed, becomes the file; what stood there keeps its content under the name that is returned.

    Whenever this is cut off, `finish` ends it: from the moment `fresh` has its name as successor there is one way only.
    """
    ready = path.with_name(f"{path.name}.{_READY}{why}")
    os.utime(fresh, (at.timestamp(), at.timestamp()))
    sync(fresh)
    fresh.rename(ready)
    sync(path.parent)
    return _swapped(path, ready, why)


def finish(path: Path) -> str | None:
    """Ends an exchange that was cut off; a line on it. None if there was none. Raises OSError."""
    for ready in path.parent.glob(f"{path.name}.{_READY}*"):
        why = ready.name.rpartition(_READY)[2]
        aside = _swapped(path, ready, why)
        text = (
            f"{path.name} was {why}: its successor took its place at this start; it is kept as {aside.name}"
        )
        log.error("%s", text)
        return text
    return None


def _swapped(path: Path, ready: Path, why: str) -> Path:
    """Named by the successor's own time, so that what is repeated finds the same name."""
    aside = put_aside(path, why, datetime.fromtimestamp(ready.stat().st_mtime, UTC))
    ready.rename(path)
    sync(path.parent)
    return aside


def sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def recover(path: Path, at: datetime) -> tuple[sqlite3.Connection, str]:
    """Replaces the damaged file; returns the open new one and a line on what was done. Raises LedgerError, OSError.

    The successor is whole before the damaged file moves: cut off at any moment, a start finds one or the other.
    """
    source = next((copy for copy in backups(path.parent) if verified(copy) is None), None)
    fresh = take(source, path)
    db = migrations.open_file(fresh, migrations.ledger, "FULL", check=False)
    with closing(db):
        rows, whole = salvage(db, path)
        leap(db, at)
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    damaged = swap(path, fresh, "damaged", at)
    begun = "started empty" if source is None else f"restored from {source.name}"
    read = f"{rows} rows read from the damaged file" + ("" if whole else ", not all of them")
    text = f"{path.name} was damaged: {begun}, {read}; it is kept as {damaged.name}"
    log.error("%s", text)
    return migrations.open_file(path, migrations.ledger, "FULL", check=False), text


def leap(db: sqlite3.Connection, at: datetime) -> None:
    """Numbers given after the copy was made are not known: none of them may be given again (boot names the sessions,
    transactions.id is the OCPP 1.6 transactionId, tokens is the version stations know of the local list)."""
    minutes = max(0, int((at - _BEGAN).total_seconds() // 60))
    db.execute("BEGIN IMMEDIATE")
    for name in ("boot", "tokens"):
        value = (db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone() or (0,))[0]
        least = minutes if name == "boot" else 0
        put = "INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)"
        db.execute(put, (name, max(value + _BOOT_LEAP, least)))
    given = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'transactions'").fetchone()
    number = max((0 if given is None else given[0]) + _NUMBER_LEAP, minutes)
    if given is None:
        db.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('transactions', ?)", (number,))
    else:
        db.execute("UPDATE sqlite_sequence SET seq = ? WHERE name = 'transactions'", (number,))
    db.execute("COMMIT")


def salvage(db: sqlite3.Connection, damaged: Path) -> tuple[int, bool]:
    """Brings every row over that can be read; how many, and whether all tables could be read to their end."""
    rows, whole = 0, True
    try:
        with closing(sqlite3.connect(damaged, isolation_level=None)) as old:
            db.execute("BEGIN IMMEDIATE")
            for table in _tables(db):
                brought, complete = _chained(db, old, table) if table in _CHAINS else _brought(db, old, table)
                rows, whole = rows + brought, whole and complete
            db.execute("COMMIT")
    except sqlite3.Error as error:
        if db.in_transaction:
            db.execute("COMMIT")
        log.error("%s: %s", damaged.name, explain(error))
        return rows, False
    return rows, whole


def _tables(db: sqlite3.Connection) -> list[str]:
    names = db.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name").fetchall()
    return [name for (name,) in names if not name.startswith(("sqlite_", "_"))]


def _columns(db: sqlite3.Connection, old: sqlite3.Connection, table: str) -> str:
    """Those that both have: the old file may be of a version before."""
    ours, theirs = ({row[1] for row in each.execute(f"PRAGMA table_info({table})")} for each in (db, old))
    return ", ".join(sorted(ours & theirs))


def _brought(db: sqlite3.Connection, old: sqlite3.Connection, table: str) -> tuple[int, bool]:
    """From both ends, because the newest rows stand behind the damage. A table that can be read whole replaces ours, so
    that what was deleted since stays deleted."""
    try:
        columns = _columns(db, old, table)
    except sqlite3.Error as error:
        log.warning("table %s: %s", table, explain(error))
        return 0, False
    if not columns:
        return 0, True
    everything, count = f"SELECT {columns} FROM {table} NOT INDEXED", 0
    try:
        complete = all(True for _ in old.execute(everything))
    except sqlite3.Error as error:
        log.warning("table %s: %s", table, explain(error))
        complete = False
    if complete:
        db.execute(f"DELETE FROM {table}")
    for order in ("",) if complete else ("", " ORDER BY rowid DESC"):
        with suppress(sqlite3.Error):  # said above; what came before the damage counts
            for row in old.execute(everything + order):
                places = ", ".join("?" * len(row))
                put = f"INSERT OR REPLACE INTO {table} ({columns}) VALUES ({places})"
                count += db.execute(put, row).rowcount
    return count, complete


def _chained(db: sqlite3.Connection, old: sqlite3.Connection, table: str) -> tuple[int, bool]:
    """The rows behind the last of ours, as long as each follows the one before."""
    newest = db.execute(f"SELECT id, hash FROM {table} ORDER BY id DESC LIMIT 1").fetchone()
    count = 0
    try:
        last, previous = newest or old.execute(_CHAINS[table]).fetchone() or (0, "")
        columns = [row[1] for row in old.execute(f"PRAGMA table_info({table})")]
        if not columns:
            return 0, True
        seen = old.execute(f"SELECT * FROM {table} WHERE id > ? ORDER BY id", (last,))
        for row in seen:
            *told, hash = row
            if told[0] != last + 1 or chain_hash(previous, told) != hash:
                log.error("%s rows from %d on cannot be read or do not follow: left out", table, last + 1)
                return count, False
            db.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)
            last, previous, count = told[0], hash, count + 1
    except sqlite3.Error as error:
        log.warning("table %s: %s", table, explain(error))
        return count, False
    return count, True
