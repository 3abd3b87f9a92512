"""depot.db: what must survive a power cut. Sessions, transaction numbers, ceilings, fallbacks, wishes, alarms, audit.

Owns every statement on depot.db; runs them in the storage thread and knows no other. Commit, then acknowledge: the
futures and coroutines here return after the commit. Every write can be repeated and leaves the same state.
The audit is a chain: each row carries the SHA-256 over the hash before it and its own canonical JSON, and row numbers
have no holes, so a changed, removed or cut-off row shows (`verify_audit`).
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar, assert_never

from controller import alarm_store, roster_store, session_store
from controller.chain import chain_hash
from controller.core.commands import (
    AlarmSaved,
    Audited,
    CeilingSaved,
    DepartureSaved,
    Entry,
    FallbackSaved,
    FlexSaved,
    HushLifted,
    HushSaved,
    InputSaved,
    LeasesOutlast,
    OrderedSaved,
    PeakSaved,
    QualificationSaved,
    RecordSaved,
    RosterSaved,
    ScheduleRemoved,
    ScheduleSaved,
    SessionSaved,
    SignedSaved,
    SocSaved,
    StationSaved,
    StaySaved,
    TokenForgotten,
    TokenReplaced,
    TokenSaved,
)
from controller.core.events import AlarmRestored, HushRestored, InputRestored, PeakRestored, SocRestored
from controller.core.model import (
    Departure,
    EvseId,
    FlexAction,
    IdToken,
    Ordered,
    Schedule,
    StationId,
)
from controller.core.roster import RosterEntry
from controller.core.wire import from_plain, instant, to_plain
from controller.migrations import LedgerError
from controller.pseudonyms import GLOB
from controller.storage import LEDGER, Storage

__all__ = ["Ledger", "LedgerError", "Restored"]

log = logging.getLogger(__name__)

BOOT_COMMIT_S = 5.0  # a start waits this long for a disk that refuses, then controls without it
CLOSED_KEPT = 500  # ended sessions a restart looks at: a station may repeat what it said about them
VERIFY_ROWS = 5_000  # audit rows checked at a time; writes go between

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Restored:
    """What the ledger knew at the start. `boot` counts starts from 1. A fallback of None was refused."""

    boot: int
    ceilings: Mapping[EvseId, int]
    fallbacks: Mapping[EvseId, int | None]
    sessions: tuple[SessionSaved, ...]  # open ones, oldest first
    closed: tuple[SessionSaved, ...]  # the last ones that ended, oldest first
    schedules: tuple[tuple[EvseId, Schedule], ...]
    departures: tuple[Departure, ...]
    tokens: tuple[IdToken, ...] = ()
    ordered: tuple[tuple[EvseId, Ordered], ...] = ()
    flex: tuple[FlexAction, ...] = ()
    tokens_version: int = 0
    qualifications: tuple[
        tuple[StationId, str, bool], ...
    ] = ()  # firmware, passed; the newest of each station
    peak: PeakRestored | None = None
    inputs: tuple[InputRestored, ...] = ()
    roster: tuple[RosterEntry, ...] = ()
    charges_told: tuple[SocRestored, ...] = ()
    alarms: tuple[HushRestored | AlarmRestored, ...] = ()
    leases_outlast: datetime | None = None  # see `CeilingRestored`


class Ledger:
    """The tables of depot.db. `storage` must be open; whoever opened it closes it."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def append(self, entries: Sequence[Entry]) -> asyncio.Future[None]:
        """Stores the entries in their order, all or none; the future is done once they are committed.

        It stays pending while the disk refuses and fails with LedgerError when the queue is full.
        """
        kept = tuple(entries)

        def work(db: sqlite3.Connection) -> None:
            for entry in kept:
                _store(db, entry)

        return self._storage.write(LEDGER, work, size=len(kept))

    async def number_transaction(
        self, evse: EvseId, token: str | None, register_wh: int | None, started: datetime
    ) -> tuple[int, bool]:
        """The OCPP 1.6 transactionId of this start, and whether it was known already (the station asked again).

        A number is never given twice, over restarts too. Raises LedgerError when the queue is full.
        """
        key = (evse, _utf8(token), register_wh, _time(started))

        def work(db: sqlite3.Connection) -> tuple[int, bool]:
            known = db.execute(
                "SELECT id FROM transactions WHERE evse = ? AND (token IS ? OR token GLOB ?) AND register_wh IS ?"
                " AND started = ?",  # a token that was forgotten has become an alias (controller.pseudonyms)
                (evse, key[1], GLOB, register_wh, key[3]),
            ).fetchone()
            if known is not None:
                return known[0], True
            inserted = db.execute(
                "INSERT INTO transactions (evse, token, register_wh, started) VALUES (?, ?, ?, ?)", key
            )
            assert inserted.lastrowid is not None
            return inserted.lastrowid, False

        return await self._storage.write(LEDGER, work)

    async def restore(self) -> Restored:
        """Reads what a start needs and counts the start. Raises LedgerError if the file cannot be read.

        On a full disk it returns nevertheless: the count is then committed before anything else is.
        """
        restored = await self._storage.read(LEDGER, _read_restored)
        counted = self._storage.write(LEDGER, _count_boot)
        done, _ = await asyncio.wait({counted}, timeout=BOOT_COMMIT_S)
        if not done:
            log.error("start %d could not be recorded yet: %s", restored.boot, self._storage.trouble)
        return restored

    async def sessions(
        self, since: datetime | None = None, until: datetime | None = None
    ) -> list[dict[str, Any]]:
        """Sessions that ran between `since` and `until` (None: open end), oldest first, as JSON objects
        (session_store.document). Times are ISO 8601 UTC, unknown is None. Raises LedgerError."""
        first, last = "" if since is None else _time(since), "~" if until is None else _time(until)
        return await self._storage.read(
            LEDGER, lambda db: session_store.lasting(db, session_store.Wanted(first, last))
        )

    async def verify_audit(self) -> str | None:
        """Recomputes the whole chain: None if it holds, else one line on the first row that does not.

        Works in pieces, so that writes are not held up. Raises LedgerError if the file cannot be read.
        """
        last, previous = 0, ""
        while True:
            piece = await self._storage.read(LEDGER, _chain_check(last, previous))
            if piece.broken is not None or piece.last == last:
                return piece.broken
            last, previous = piece.last, piece.hash


# --- writing ----------------------------------------------------------------------------------------------------


def _store(db: sqlite3.Connection, entry: Entry) -> None:
    match entry:
        case SessionSaved() | RecordSaved() | SignedSaved() | TokenReplaced():
            session_store.store(db, entry)
        case CeilingSaved(evse, limit_ma):
            _put(db, "ceilings", evse=evse, limit_ma=limit_ma)
        case LeasesOutlast(until):
            _put(db, "meta", name="leases_outlast", value=math.ceil(until.timestamp()))
        case FallbackSaved(evse, stored_ma):
            _put(db, "fallbacks", evse=evse, limit_ma=stored_ma)
        case ScheduleSaved(evse, schedule):
            _put(db, "schedules", evse=evse, id=schedule.id, document=_document(schedule))
        case ScheduleRemoved(evse, schedule_id):
            db.execute("DELETE FROM schedules WHERE evse = ? AND id = ?", (evse, schedule_id))
        case DepartureSaved(departure):
            _put(db, "departures", target=departure.target, document=_document(departure))
        case AlarmSaved() | HushSaved() | HushLifted():
            alarm_store.store(db, entry)
        case Audited():
            _chain(db, entry)
        case TokenSaved(token, version):
            _put(db, "tokens", id=token.id.casefold(), document=_document(token))
            _put(db, "meta", name="tokens", value=version)
        case TokenForgotten(token_id, version):
            db.execute("DELETE FROM tokens WHERE id = ?", (token_id.casefold(),))
            _put(db, "meta", name="tokens", value=version)
        case OrderedSaved(evse, ordered):
            _put(db, "ordered", evse=evse, document=_document(ordered))
        case FlexSaved(actions):
            db.execute("DELETE FROM flex_actions")
            for action in actions:
                _put(db, "flex_actions", circuit=action.circuit, document=_document(action))
        case QualificationSaved():
            _put(
                db,
                "qualifications",
                station=entry.station,
                firmware=entry.firmware,
                at=_time(entry.at),
                by=entry.by,
                passed=int(entry.passed),
                findings=json.dumps(entry.findings),
            )
        case InputSaved(name, on):
            _put(db, "inputs", name=name, active=int(on))
        case PeakSaved(month, highest_w, window, register_wh):
            _put(db, "peaks", month=month, highest_w=highest_w, window=_time(window), register_wh=register_wh)
        case RosterSaved() | SocSaved() | StaySaved():
            roster_store.store(db, entry)
        case StationSaved(station, vendor, model, firmware, serial):
            _put(db, "stations", id=station, vendor=vendor, model=model, firmware=firmware, serial=serial)
        case _:
            assert_never(entry)


def _put(db: sqlite3.Connection, table: str, **row: str | int | None) -> None:
    """Inserts the row or replaces the one with its key."""
    names, places = ", ".join(row), ", ".join("?" * len(row))
    values = [_utf8(value) for value in row.values()]
    db.execute(f"INSERT OR REPLACE INTO {table} ({names}) VALUES ({places})", values)


def _utf8(value: str | int | None) -> str | int | None:
    """Stations may send half a surrogate pair; that must not cost the row it stands in."""
    if isinstance(value, str) and not value.isascii():
        return value.encode("utf-8", "replace").decode()
    return value


def _time(at: datetime) -> str:
    """Always 27 characters, so that text order is time order. Raises ValueError without a zone."""
    if at.tzinfo is None:
        raise ValueError(f"{at} has no time zone")
    return at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def _document(value: Schedule | Departure | IdToken | Ordered | FlexAction) -> str:
    return json.dumps(to_plain(value), separators=(",", ":"))


def _count_boot(db: sqlite3.Connection) -> None:
    db.execute(
        "INSERT INTO meta (name, value) VALUES ('boot', 1) ON CONFLICT DO UPDATE SET value = value + 1"
    )


# --- the audit chain ----------------------------------------------------------------------------------------------

_AUDIT_COLUMNS = "id, at, by, what, subject, detail, hash"


def _chain(db: sqlite3.Connection, entry: Audited) -> None:
    last, previous = db.execute("SELECT id, hash FROM audit ORDER BY id DESC LIMIT 1").fetchone() or (0, "")
    told = (_utf8(text) for text in (entry.by, entry.what, entry.subject, entry.detail))
    row = (last + 1, _time(entry.at), *told)
    places = "?, ?, ?, ?, ?, ?, ?"
    db.execute(f"INSERT INTO audit ({_AUDIT_COLUMNS}) VALUES ({places})", (*row, chain_hash(previous, row)))


@dataclass(frozen=True, slots=True)
class _Piece:
    last: int
    hash: str
    broken: str | None


def audit_cut(db: sqlite3.Connection) -> tuple[int, str]:
    """The last row that was forgotten because of its age (controller.retention), and its hash. A copy of an older version
    knows of none."""
    if db.execute("SELECT 1 FROM sqlite_master WHERE name = 'audit_cut'").fetchone() is None:
        return 0, ""
    id, hash = db.execute("SELECT id, hash FROM audit_cut").fetchone() or (0, "")
    return id, hash


def _chain_check(last: int, previous: str) -> Callable[[sqlite3.Connection], _Piece]:
    """Checks the next VERIFY_ROWS rows after row `last`, whose hash is `previous`."""

    def work(db: sqlite3.Connection) -> _Piece:
        at, hash = (last, previous) if last else audit_cut(db)
        rows = db.execute(
            f"SELECT {_AUDIT_COLUMNS} FROM audit WHERE id > ? ORDER BY id LIMIT ?", (at, VERIFY_ROWS)
        ).fetchall()
        for *row, stored in rows:
            if row[0] != at + 1:
                return _Piece(at, hash, f"audit rows {at + 1} to {row[0] - 1} are missing")
            hash = chain_hash(hash, row)
            if hash != stored:
                return _Piece(at, hash, f"audit row {row[0]} ({row[1]}) was changed after it was written")
            at = row[0]
        if not rows:
            given = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'audit'").fetchone() or (0,)
            if given[0] != at:
                return _Piece(at, hash, f"audit rows {at + 1} to {given[0]} are missing")
        return _Piece(at, hash, None)

    return work


# --- reading ------------------------------------------------------------------------------------------------------


def _read_restored(db: sqlite3.Connection) -> Restored:
    boot = db.execute("SELECT value FROM meta WHERE name = 'boot'").fetchone() or (0,)
    # in the order they were set
    schedules = db.execute("SELECT evse, document FROM schedules ORDER BY evse, rowid")
    departures = db.execute("SELECT target, document FROM departures ORDER BY target")
    # SQLite takes the other columns from the row that max() found
    proofs = db.execute("SELECT station, firmware, passed, max(at) FROM qualifications GROUP BY station")
    ordered = db.execute("SELECT evse, document FROM ordered ORDER BY evse")
    flex = db.execute("SELECT circuit, document FROM flex_actions ORDER BY circuit")
    tokens = db.execute("SELECT id, document FROM tokens ORDER BY id")
    inputs = db.execute("SELECT name, active FROM inputs ORDER BY name")
    peak = db.execute("SELECT month, highest_w, window, register_wh FROM peaks ORDER BY month DESC LIMIT 1")
    tokens_version = db.execute("SELECT value FROM meta WHERE name = 'tokens'").fetchone() or (0,)
    outlast = db.execute("SELECT value FROM meta WHERE name = 'leases_outlast'").fetchone()
    return Restored(
        boot=boot[0] + 1,
        ceilings={EvseId(evse): limit for evse, limit in db.execute("SELECT evse, limit_ma FROM ceilings")},
        fallbacks={EvseId(evse): limit for evse, limit in db.execute("SELECT evse, limit_ma FROM fallbacks")},
        sessions=session_store.running(db),
        closed=session_store.closed(db, CLOSED_KEPT),
        schedules=tuple((EvseId(evse), schedule) for evse, schedule in _documents(Schedule, schedules)),
        departures=tuple(departure for _, departure in _documents(Departure, departures)),
        tokens=tuple(token for _, token in _documents(IdToken, tokens)),
        tokens_version=tokens_version[0],
        ordered=tuple((EvseId(evse), order) for evse, order in _documents(Ordered, ordered)),
        flex=tuple(action for _, action in _documents(FlexAction, flex)),
        qualifications=tuple(
            (StationId(station), firmware, bool(passed)) for station, firmware, passed, _ in proofs
        ),
        inputs=tuple(InputRestored(name, bool(on)) for name, on in inputs),
        peak=next((PeakRestored(month, w, instant(at), wh) for month, w, at, wh in peak), None),
        roster=roster_store.read_roster(db),
        charges_told=roster_store.read_charges(db),
        alarms=alarm_store.read(db),
        leases_outlast=None if outlast is None else datetime.fromtimestamp(outlast[0], UTC),
    )


def _documents(kind: type[T], rows: Iterable[tuple[str, str]]) -> Iterator[tuple[str, T]]:
    """(key, value) of rows that hold a JSON document. One that cannot be read must not keep the ceilings from us."""
    for key, text in rows:
        try:
            yield key, from_plain(kind, json.loads(text))
        except ValueError as error:
            log.error("%s of %s in the ledger cannot be read and is left out: %s", kind.__name__, key, error)
