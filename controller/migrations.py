"""The tables of depot.db and telemetry.db, and how a file is opened so that they are up to date.

The only place that creates or changes a table, sets a pragma or puts SQLite's errors into words for people.

A migration that has been released is never edited: the next change is a new function below it. Expand first, contract
a release later, so that one version back can still read the file. All tables are STRICT.
Times are TEXT, ISO 8601 UTC with six decimals and "Z" (they sort as text); telemetry counts whole seconds since 1970.
"""

from __future__ import annotations

import errno
import logging
import sqlite3
import time
from pathlib import Path

from sqlite_utils import Database, Migrations

BUSY_S = 5.0  # how long opening waits for a predecessor that is still shutting down
CHECK_S = 2.0  # how long a start looks for damage: some 200 MB on a good card

log = logging.getLogger(__name__)

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


@ledger()
def peaks(db: Database) -> None:
    """The highest quarter hour of each month; `window` is the newest quarter, `register_wh` the site meter at its start."""
    db.conn.execute(
        """CREATE TABLE peaks (
            month TEXT PRIMARY KEY, highest_w INTEGER NOT NULL, window TEXT NOT NULL, register_wh INTEGER) STRICT"""
    )


@ledger()
def session_costs(db: Database) -> None:
    """What a session cost so far, in millionths of the currency, and up to when its energy has been priced."""
    for column in ("cost_micro INTEGER", "currency TEXT", "counted TEXT"):
        db.conn.execute(f"ALTER TABLE sessions ADD COLUMN {column}")


@ledger()
def rosters_and_stays(db: Database) -> None:
    """The roster, a JSON document per entry; states of charge that people told; what stays showed beside their energy."""
    db.conn.execute("CREATE TABLE roster (id INTEGER PRIMARY KEY, document TEXT NOT NULL) STRICT")
    db.conn.execute(
        """CREATE TABLE charges_told (
            evse TEXT PRIMARY KEY, session TEXT NOT NULL, soc INTEGER NOT NULL, energy_wh INTEGER NOT NULL) STRICT"""
    )
    db.conn.execute(
        "CREATE TABLE stays (session TEXT PRIMARY KEY, phases INTEGER, most_ma INTEGER, announced TEXT) STRICT"
    )


@ledger()
def grid_inputs(db: Database) -> None:
    """What the contact of each external limit said last."""
    db.conn.execute("CREATE TABLE inputs (name TEXT PRIMARY KEY, active INTEGER NOT NULL) STRICT")


@ledger()
def alarm_lives(db: Database) -> None:
    """Who has acknowledged an alarm, its incident, and whether it is over; what people have silenced (kind "": out of
    service); and how the log finds its rows by time. What the version before left open is over."""
    counted = ("incident TEXT NOT NULL DEFAULT ''", "over INTEGER NOT NULL DEFAULT 0")
    for column in ("acked_by TEXT", "acked TEXT", *counted):
        db.conn.execute(f"ALTER TABLE alarms ADD COLUMN {column}")
    db.conn.execute("UPDATE alarms SET over = 1")
    db.conn.execute(
        """CREATE TABLE hushes (
            kind TEXT NOT NULL, source TEXT NOT NULL, by TEXT NOT NULL, reason TEXT NOT NULL, since TEXT NOT NULL,
            until TEXT, PRIMARY KEY (kind, source)) STRICT"""
    )
    for index in ("audit (at)", "alarms (since)", "alarms (cleared)", "sessions (ended)"):
        table, column = index.rstrip(")").split(" (")
        db.conn.execute(f"CREATE INDEX {table}_by_{column} ON {index}")
    db.conn.execute("CREATE INDEX alarms_open ON alarms (since) WHERE NOT over")


@ledger()
def session_revisions(db: Database) -> None:
    """A number that grows with each change of a session, for exports that go on where they were; and the charger's records
    by their session."""
    db.conn.execute("ALTER TABLE sessions ADD COLUMN revision INTEGER NOT NULL DEFAULT 0")
    db.conn.execute("UPDATE sessions SET revision = rowid")
    db.conn.execute("CREATE INDEX sessions_by_revision ON sessions (revision)")
    db.conn.execute("CREATE INDEX records_by_session ON records (session)")


@ledger()
def signed_values(db: Database) -> None:
    """Meter values with their signatures, as they came; `id` is a hash of the rest, so that what is repeated counts once."""
    db.conn.execute(
        """CREATE TABLE signed_values (
            id TEXT PRIMARY KEY, station TEXT NOT NULL, transaction_id TEXT NOT NULL, at TEXT NOT NULL,
            context TEXT NOT NULL, text TEXT NOT NULL, received TEXT NOT NULL) STRICT, WITHOUT ROWID"""
    )
    db.conn.execute("CREATE INDEX signed_by_transaction ON signed_values (station, transaction_id)")


@ledger()
def audit_cuts(db: Database) -> None:
    """Where the audit begins, once its oldest rows have been forgotten."""
    db.conn.execute("CREATE TABLE audit_cut (id INTEGER NOT NULL, hash TEXT NOT NULL) STRICT")


@ledger()
def number_of_the_books(db: Database) -> None:
    """A random number that tells these books from those of every other depot, wherever their copies are put back."""
    db.conn.execute(
        "INSERT OR IGNORE INTO meta (name, value) VALUES ('books', random() & 9223372036854775807)"
    )


@ledger()
def currents_of_vehicles(db: Database) -> None:
    """The most a vehicle drew while it might have drawn clearly more."""
    db.conn.execute("ALTER TABLE stays ADD COLUMN own_ma INTEGER")


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


@telemetry()
def load_quarters(db: Database) -> None:
    """Means of the quarter hours: the load that is not ours, what the sun gave, what the site imported; for forecasts."""
    db.conn.execute(
        "CREATE TABLE load_quarters (at_s INTEGER PRIMARY KEY, load_w INTEGER, sun_w INTEGER, import_w INTEGER) STRICT"
    )


@telemetry()
def tiers(db: Database) -> None:
    """Means of minutes and of quarter hours. `state` is the id of a point of kind "state"; state, grant, energy, soc and
    registers are those at the end, highest_ma is of the phase that carried most."""
    for tier in ("minutes", "quarters"):
        for kind, columns in _TIERS.items():
            db.conn.execute(
                f"CREATE TABLE {kind}_{tier} (at_s INTEGER NOT NULL, point INTEGER NOT NULL REFERENCES points,"
                f" {columns}, PRIMARY KEY (at_s, point)) STRICT, WITHOUT ROWID"
            )


_TIERS = {
    "evse": "state INTEGER, grant_ma INTEGER, l1_ma INTEGER, l2_ma INTEGER, l3_ma INTEGER, power_w INTEGER,"
    " energy_wh INTEGER, soc INTEGER",
    "circuit": "l1_ma INTEGER, l2_ma INTEGER, l3_ma INTEGER, background_l1_ma INTEGER, background_l2_ma INTEGER,"
    " background_l3_ma INTEGER, highest_ma INTEGER, committed_ma INTEGER",
    "meter": "l1_ma INTEGER, l2_ma INTEGER, l3_ma INTEGER, power_w INTEGER, import_wh INTEGER",
}


# --- opening --------------------------------------------------------------------------------------------------


class LedgerError(Exception):
    """A file cannot be opened, or something was not stored. `str(error)` is one line: what, where, what to do."""


class Damaged(LedgerError):
    """What the file holds is broken; a copy of it may be whole."""


class DiskAway(LedgerError):
    """The disk refuses everything now (read-only, full, failing): nothing that a setting would mend."""


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
        if error.errno in _AWAY_ERRORS:
            raise DiskAway(f"{path}: {error.strerror}") from None
        raise LedgerError(f"{path}: {error.strerror}; the controller's user must own this folder") from None
    except sqlite3.Error as error:
        text = f"{path}: {explain(error)}"
        if is_damage(error):
            raise Damaged(text) from None
        raise (DiskAway if _primary_code(error) in _AWAY_CODES else LedgerError)(text) from None
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
    if check and (found := _quickly_checked(db, name)) != "ok":
        raise Damaged(f"{name}: damaged ({' '.join(found.split())}); {_RESTORE}")
    if (refused := newer(db, steps)) is not None:
        raise LedgerError(f"{name}: {refused}")
    steps.apply(Database(db, execute_plugins=False))


def newer(db: sqlite3.Connection, steps: Migrations) -> str | None:
    """Why this software must not use the file: one after it has changed its tables. None if it may."""
    with Database(memory=True, execute_plugins=False) as empty:
        known = {step.name for step in steps.pending(empty)}
    found = [
        step.name for step in steps.applied(Database(db, execute_plugins=False)) if step.name not in known
    ]
    if not found:
        return None
    return (
        f'written by a newer version of this software ("{found[-1]}"); '
        "install that version, or restore a backup made with this one"
    )


def _quickly_checked(db: sqlite3.Connection, name: str) -> str:
    """A start does not wait longer than CHECK_S for a large file on a slow card: what it comes upon later is found then."""
    ends_s = time.monotonic() + CHECK_S
    db.set_progress_handler(lambda: int(time.monotonic() > ends_s), 10_000)
    try:
        found: str = db.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.OperationalError as error:
        if _primary_code(error) != sqlite3.SQLITE_INTERRUPT:
            raise
        log.warning("%s: checked for %.0f s, not to its end", name, CHECK_S)
        return "ok"
    finally:
        db.set_progress_handler(None, 0)
    return found


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


_AWAY_CODES = frozenset({sqlite3.SQLITE_READONLY, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR})
_AWAY_ERRORS = frozenset({errno.EROFS, errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.ENODEV, errno.ESTALE})


def is_damage(error: Exception) -> bool:
    """True if the file itself is broken: trying again will not help."""
    return _primary_code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def is_full(error: Exception) -> bool:
    return _primary_code(error) == sqlite3.SQLITE_FULL


def is_fault(error: Exception) -> bool:
    """True if the surroundings are to blame, so that the same statement may succeed later."""
    return _primary_code(error) in _FAULTS


def explain(error: sqlite3.Error) -> str:
    """What happened and what to do, for people."""
    return _FAULTS.get(_primary_code(error), str(error))


def _primary_code(error: Exception) -> int:
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
