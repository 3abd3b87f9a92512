"""The tables of depot.db and telemetry.db, and how a file is opened so that they are up to date.

The only place that creates or changes a table, sets a pragma or puts SQLite's errors into words for people.

A migration that has been released is never edited: the next change is a new function below it. Expand first, contract
a release later, so that one version back can still read the file. All tables are STRICT.
Times are TEXT, ISO 8601 UTC with six decimals and "Z" (they sort as text); telemetry counts whole seconds since 1970.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from sqlite_utils import Database, Migrations

BUSY_S = 5.0  # how long opening waits for a predecessor that is still shutting down

ledger = Migrations("ledger")
telemetry = Migrations("telemetry")


@ledger()
def first_ledger(db: Database) -> None:
    """Sessions, transaction numbers, what a restart must know, alarms, stations and the audit chain."""
    for statement in _FIRST_LEDGER:
        db.conn.execute(statement)


# audit.id has no holes and never repeats: a removed row shows.
# transactions.id is the OCPP 1.6 transactionId; AUTOINCREMENT never hands one out twice.
_FIRST_LEDGER = (
    """CREATE TABLE sessions (
        id TEXT PRIMARY KEY, evse TEXT NOT NULL, transaction_id TEXT NOT NULL, token TEXT, vehicle TEXT,
        started TEXT NOT NULL, ended TEXT, energy_wh INTEGER NOT NULL, register_start_wh INTEGER,
        register_wh INTEGER, stop_reason TEXT, marks TEXT NOT NULL) STRICT""",
    "CREATE INDEX sessions_started ON sessions (started)",
    "CREATE INDEX sessions_open ON sessions (id) WHERE ended IS NULL",
    """CREATE TABLE transactions (
        id INTEGER PRIMARY KEY AUTOINCREMENT, evse TEXT NOT NULL, token TEXT, register_wh INTEGER,
        started TEXT NOT NULL) STRICT""",
    """CREATE UNIQUE INDEX transactions_once
        ON transactions (evse, started, ifnull(token, ''), token IS NULL, ifnull(register_wh, 0), register_wh IS NULL)""",
    "CREATE TABLE ceilings (evse TEXT PRIMARY KEY, limit_ma INTEGER NOT NULL) STRICT",
    "CREATE TABLE fallbacks (evse TEXT PRIMARY KEY, limit_ma INTEGER) STRICT",
    """CREATE TABLE schedules (
        evse TEXT NOT NULL, id TEXT NOT NULL, document TEXT NOT NULL, PRIMARY KEY (evse, id)) STRICT""",
    "CREATE TABLE departures (target TEXT PRIMARY KEY, document TEXT NOT NULL) STRICT",
    """CREATE TABLE alarms (
        id TEXT PRIMARY KEY, kind TEXT NOT NULL, source TEXT NOT NULL, priority INTEGER NOT NULL,
        text TEXT NOT NULL, since TEXT NOT NULL, cleared TEXT) STRICT""",
    """CREATE TABLE stations (
        id TEXT PRIMARY KEY, vendor TEXT NOT NULL, model TEXT NOT NULL, firmware TEXT NOT NULL,
        serial TEXT NOT NULL) STRICT""",
    """CREATE TABLE audit (
        id INTEGER PRIMARY KEY AUTOINCREMENT, at TEXT NOT NULL, by TEXT NOT NULL, what TEXT NOT NULL,
        subject TEXT NOT NULL, detail TEXT NOT NULL, hash TEXT NOT NULL) STRICT""",
    """CREATE TABLE records (
        record TEXT PRIMARY KEY, evse TEXT NOT NULL, session TEXT, started TEXT NOT NULL, ended TEXT,
        energy_wh INTEGER NOT NULL, gap_wh INTEGER, register_start_wh INTEGER, register_end_wh INTEGER) STRICT""",
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT",
)


@ledger()
def egress_and_consent(db: Database) -> None:
    """What left the site over the Open Platform, and the customer's decisions about its channels."""
    for statement in _EGRESS_AND_CONSENT:
        db.conn.execute(statement)


# egress_open holds requests under way; an answered one moves to `egress`, whose rows are never changed.
# egress.id has no holes above egress_cut, where a long history was shortened: a removed row shows.
_EGRESS_AND_CONSENT = (
    """CREATE TABLE egress_open (
        ref INTEGER PRIMARY KEY, at TEXT NOT NULL, channel TEXT NOT NULL, host TEXT NOT NULL,
        operation TEXT NOT NULL, method TEXT NOT NULL, path TEXT NOT NULL, fields TEXT NOT NULL) STRICT""",
    """CREATE TABLE egress (
        id INTEGER PRIMARY KEY AUTOINCREMENT, at TEXT NOT NULL, channel TEXT NOT NULL, host TEXT NOT NULL,
        operation TEXT NOT NULL, method TEXT NOT NULL, path TEXT NOT NULL, fields TEXT NOT NULL, bytes INTEGER,
        status INTEGER, hash TEXT NOT NULL) STRICT""",
    "CREATE INDEX egress_at ON egress (at)",
    "CREATE TABLE egress_cut (id INTEGER NOT NULL, hash TEXT NOT NULL) STRICT",
    """CREATE TABLE consents (
        id INTEGER PRIMARY KEY AUTOINCREMENT, at TEXT NOT NULL, channel TEXT NOT NULL, enabled INTEGER NOT NULL,
        by TEXT NOT NULL, purposes TEXT NOT NULL) STRICT""",
)


@ledger()
def id_tokens(db: Database) -> None:
    """The book of id tokens, by the id in lower case; meta "tokens" counts its changes."""
    db.conn.execute("CREATE TABLE tokens (id TEXT PRIMARY KEY, document TEXT NOT NULL) STRICT")


@ledger()
def qualifications(db: Database) -> None:
    """What the proof on site found, per station and firmware; `findings` is a JSON list of lines."""
    db.conn.execute(
        """CREATE TABLE qualifications (
            station TEXT NOT NULL, firmware TEXT NOT NULL, at TEXT NOT NULL, by TEXT NOT NULL, passed INTEGER NOT NULL,
            findings TEXT NOT NULL, PRIMARY KEY (station, firmware)) STRICT"""
    )


@ledger()
def standing_orders(db: Database) -> None:
    """What operators ordered for an EVSE and have not lifted, and the flexibility actions that run."""
    db.conn.execute("CREATE TABLE ordered (evse TEXT PRIMARY KEY, document TEXT NOT NULL) STRICT")
    db.conn.execute("CREATE TABLE flex_actions (circuit TEXT PRIMARY KEY, document TEXT NOT NULL) STRICT")


@telemetry()
def first_telemetry(db: Database) -> None:
    """One wide row per point and sample, clustered by time: rows arrive and expire in key order, no other index."""
    for statement in _FIRST_TELEMETRY:
        db.conn.execute(statement)


_FIRST_TELEMETRY = (
    "CREATE TABLE points (id INTEGER PRIMARY KEY, kind TEXT NOT NULL, name TEXT NOT NULL, UNIQUE (kind, name)) STRICT",
    """CREATE TABLE evse_samples (
        at_s INTEGER NOT NULL, point INTEGER NOT NULL REFERENCES points,
        state TEXT NOT NULL, grant_ma INTEGER, commanded_ma INTEGER, accepted_ma INTEGER,
        l1_ma INTEGER, l2_ma INTEGER, l3_ma INTEGER, power_w INTEGER, commitment_ma INTEGER NOT NULL,
        energy_wh INTEGER, soc INTEGER, PRIMARY KEY (at_s, point)) STRICT, WITHOUT ROWID""",
    """CREATE TABLE circuit_samples (
        at_s INTEGER NOT NULL, point INTEGER NOT NULL REFERENCES points,
        l1_ma INTEGER, l2_ma INTEGER, l3_ma INTEGER,
        background_l1_ma INTEGER, background_l2_ma INTEGER, background_l3_ma INTEGER,
        committed_l1_ma INTEGER NOT NULL, committed_l2_ma INTEGER NOT NULL, committed_l3_ma INTEGER NOT NULL,
        PRIMARY KEY (at_s, point)) STRICT, WITHOUT ROWID""",
    """CREATE TABLE meter_samples (
        at_s INTEGER NOT NULL, point INTEGER NOT NULL REFERENCES points,
        l1_ma INTEGER, l2_ma INTEGER, l3_ma INTEGER, power_w INTEGER, import_wh INTEGER,
        PRIMARY KEY (at_s, point)) STRICT, WITHOUT ROWID""",
)

# --- opening --------------------------------------------------------------------------------------------------


class LedgerError(Exception):
    """A file cannot be opened, or something was not stored. `str(error)` is one line: what, where, what to do."""


def open_file(path: Path, steps: Migrations, synchronous: str, check: bool) -> sqlite3.Connection:
    """Opens or creates the file, alone and in WAL mode, and brings its tables up to date.

    `check` looks for damage first (reads the whole file). The connection belongs to the calling thread and starts
    no transaction by itself. Raises LedgerError, also for a file of a newer version of this software.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)  # holds id tokens
        db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
        try:
            _prepare(db, path.name, steps, synchronous, check)
        except BaseException:
            db.close()
            raise
    except OSError as error:
        raise LedgerError(f"{path}: {error.strerror}; the controller's user must own this folder") from None
    except sqlite3.Error as error:
        raise LedgerError(f"{path}: {explain(error)}") from None
    return db


def _prepare(db: sqlite3.Connection, name: str, steps: Migrations, synchronous: str, check: bool) -> None:
    for pragma in (
        "locking_mode=EXCLUSIVE",
        "journal_mode=WAL",
        f"synchronous={synchronous}",
        "foreign_keys=ON",
        "trusted_schema=OFF",
        "cell_size_check=ON",
        "journal_size_limit=16777216",
        "temp_store=MEMORY",
    ):
        db.execute(f"PRAGMA {pragma}")
    if check and (found := db.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
        raise LedgerError(f"{name}: damaged ({' '.join(found.split())}); {_RESTORE}")
    wrapped = Database(db, execute_plugins=False)
    with Database(memory=True, execute_plugins=False) as empty:
        known = {step.name for step in steps.pending(empty)}
    if newer := [step.name for step in steps.applied(wrapped) if step.name not in known]:
        raise LedgerError(
            f'{name}: written by a newer version of this software ("{newer[-1]}"); '
            "install that version, or restore a backup made with this one"
        )
    steps.apply(wrapped)


_RESTORE = "stop the controller and restore a backup"
_SHARED = "in use by another process; only one controller may run on this folder"

# SQLite's primary result codes that blame the disk, the file or another process, never the statement.
_FAULTS = {
    sqlite3.SQLITE_FULL: "disk full; free some space",
    sqlite3.SQLITE_BUSY: _SHARED,
    sqlite3.SQLITE_LOCKED: _SHARED,
    sqlite3.SQLITE_READONLY: "not writable; check the owner of the folder and the mount",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened; check the owner of the folder",
    sqlite3.SQLITE_PERM: "access denied; check the owner of the folder",
    sqlite3.SQLITE_IOERR: "the disk reports an error; replace it",
    sqlite3.SQLITE_CORRUPT: f"damaged; {_RESTORE}",
    sqlite3.SQLITE_NOTADB: f"not a database, or damaged; {_RESTORE}",
    sqlite3.SQLITE_NOMEM: "out of memory",
    sqlite3.SQLITE_PROTOCOL: "locking failed; is the folder on a network drive?",
}


def is_fault(error: Exception) -> bool:
    """True if the surroundings are to blame, so that the same statement may succeed later."""
    return _primary_code(error) in _FAULTS


def explain(error: sqlite3.Error) -> str:
    """What happened and what to do, for people."""
    return _FAULTS.get(_primary_code(error), str(error))


def _primary_code(error: Exception) -> int:
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
