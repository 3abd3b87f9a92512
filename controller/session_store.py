"""What of sessions is kept in depot.db: the sessions themselves and the charger's own records beside them.

Owns the statements on the tables `sessions` and `records`; `controller.ledger` calls the writers, in its own transaction.
`revision` grows with every change of a session or of a record beside it, over all sessions: whoever remembers the highest
one he has seen asks for what came after. It follows the clock in ms where that grows, so that books that were restored
from a backup go on above what they had given before the backup was put in their place.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from controller.core.commands import RecordSaved, SessionSaved, SignedSaved, TokenReplaced
from controller.core.model import EvseId, StationId, VehicleId
from controller.core.wire import instant, to_plain

MOST_SIGNED = 64  # of one transaction: what begins and ends it, its changes of tariff, and then some

COLUMNS = (
    "id, evse, transaction_id, token, vehicle, started, ended, energy_wh, register_start_wh, register_wh, "
    "stop_reason, marks, cost_micro, currency, counted"
)
_STATION = "rtrim(rtrim(evse, '0123456789'), '/')"  # controller.core.model.station_of
_RECORDED = (  # of the charger's records beside a session: how many, their energy, and what theirs is above ours
    "SELECT count(*), sum(r.energy_wh), sum(r.gap_wh) FROM records r WHERE r.session = ?"
)


def store(db: sqlite3.Connection, entry: SessionSaved | RecordSaved | SignedSaved | TokenReplaced) -> None:
    match entry:
        case SignedSaved():
            _keep_signed(db, entry)
        case TokenReplaced(token, alias):
            _replace_token(db, token, alias)
        case SessionSaved():
            row = (
                entry.id,
                entry.evse,
                _utf8(entry.transaction),
                _utf8(entry.token),
                entry.vehicle,
                text_of(entry.started),
                None if entry.ended is None else text_of(entry.ended),
                entry.energy_wh,
                entry.register_start_wh,
                entry.register_wh,
                _utf8(entry.stop_reason),
                json.dumps(entry.marks),
                entry.cost_micro,
                entry.currency,
                None if entry.counted is None else text_of(entry.counted),
            )
            places = ", ".join("?" * len(row))
            db.execute(
                f"INSERT OR REPLACE INTO sessions ({COLUMNS}, revision) VALUES ({places}, {_NEXT})", row
            )
        case RecordSaved():
            beside = (
                _utf8(entry.record),
                entry.evse,
                entry.session,
                text_of(entry.started),
                None if entry.ended is None else text_of(entry.ended),
                entry.energy_wh,
                entry.gap_wh,
                entry.register_start_wh,
                entry.register_end_wh,
            )
            columns = (
                "record, evse, session, started, ended, energy_wh, gap_wh, register_start_wh, register_end_wh"
            )
            places = ", ".join("?" * len(beside))
            db.execute(f"INSERT OR REPLACE INTO records ({columns}) VALUES ({places})", beside)
            touch(db, "id = ?", entry.session)


def _keep_signed(db: sqlite3.Connection, entry: SignedSaved) -> None:
    transaction = _utf8(entry.transaction)
    for value in entry.values:
        row = (entry.station, transaction, *(_utf8(text) for text in (value.at, value.context, value.text)))
        ending = value.context.casefold() == "transaction.end"  # there is room for it whatever came before
        id = sha256(json.dumps(row).encode()).hexdigest()[:32]
        db.execute(
            "INSERT OR IGNORE INTO signed_values (id, station, transaction_id, at, context, text, received)"
            f" SELECT ?, ?, ?, ?, ?, ?, {_NOW} WHERE (SELECT count(*) FROM signed_values"
            " WHERE station = ? AND transaction_id = ?) < ?",
            (id, *row, entry.station, transaction, MOST_SIGNED * (1 + ending)),
        )


def count_of(db: sqlite3.Connection, token: str) -> int:
    (count,) = db.execute("SELECT count(*) FROM sessions WHERE token = ?", (token,)).fetchone()
    return int(count)


def signed(db: sqlite3.Connection, station: StationId, transaction: str) -> list[dict[str, str]]:
    """Those of one transaction, in the order they came."""
    rows = db.execute(
        "SELECT at, context, text, received FROM signed_values WHERE station = ? AND transaction_id = ?"
        " ORDER BY received, at, id",
        (station, transaction),
    )
    return [dict(zip(("at", "context", "value", "received"), row, strict=True)) for row in rows]


def put_in_place(db: sqlite3.Connection) -> None:
    """Moves what was committed from the write-ahead log into the file and empties the log: what was replaced is gone."""
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()


def _replace_token(db: sqlite3.Connection, token: str, alias: str) -> None:
    """In whatever letters it was written. What it stood in is overwritten, not only unlinked."""
    db.execute("PRAGMA secure_delete=ON")
    for table in ("sessions", "transactions"):
        for (known,) in db.execute(f"SELECT DISTINCT token FROM {table} WHERE token IS NOT NULL").fetchall():
            if known.casefold() != token.casefold():
                continue
            if table == "sessions":
                touch(db, "token = ?", known)
            db.execute(f"UPDATE OR REPLACE {table} SET token = ? WHERE token = ?", (alias, known))


_NOW = "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')"
_NEXT = (
    "max((SELECT ifnull(max(revision), 0) + 1 FROM sessions),"
    " CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER))"
)


def touch(db: sqlite3.Connection, where: str, *values: str | None) -> None:
    """Each session that meets the condition has changed."""
    for (id,) in db.execute(f"SELECT id FROM sessions WHERE {where}", values).fetchall():
        db.execute(f"UPDATE sessions SET revision = {_NEXT} WHERE id = ?", (id,))


def running(db: sqlite3.Connection) -> tuple[SessionSaved, ...]:
    """Oldest first."""
    rows = db.execute(f"SELECT {COLUMNS} FROM sessions WHERE ended IS NULL ORDER BY started, id")
    return tuple(_session(row) for row in rows)


def closed(db: sqlite3.Connection, most: int) -> tuple[SessionSaved, ...]:
    """The last ones that began and have ended, oldest first."""
    rows = db.execute(
        f"SELECT {COLUMNS} FROM sessions WHERE ended IS NOT NULL ORDER BY started DESC, id DESC LIMIT ?",
        (most,),
    )
    return tuple(_session(row) for row in reversed(rows.fetchall()))


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which sessions or records: those that ran between two times (as text_of writes them). evse: of this EVSE, or of any of
    this station. tokens: spellings. signed: only with signed meter values."""

    first: str = ""
    last: str = "~"
    evse: str | None = None
    vehicle: str | None = None
    tokens: tuple[str, ...] | None = None
    signed: bool = False


def lasting(db: sqlite3.Connection, wanted: Wanted, skip: int = 0, most: int = -1) -> list[dict[str, Any]]:
    """Documents, oldest first; a page of them, since the storage thread has other things to do too."""
    where, values = ["started < ?", "(ended IS NULL OR ended >= ?)"], [wanted.last, wanted.first]
    if wanted.evse is not None:
        where.append(f"? IN (evse, {_STATION})")
        values.append(wanted.evse)
    if wanted.vehicle is not None:
        where.append("vehicle = ?")
        values.append(wanted.vehicle)
    if wanted.tokens is not None:
        where.append(f"token IN ({', '.join('?' * len(wanted.tokens))})")
        values += wanted.tokens
    if wanted.signed:
        where.append(
            "EXISTS (SELECT 1 FROM signed_values v"
            f" WHERE v.station = {_STATION} AND v.transaction_id = sessions.transaction_id)"
        )
    rows = db.execute(
        f"SELECT {COLUMNS}, revision FROM sessions WHERE {' AND '.join(where)}"
        " ORDER BY started, id LIMIT ? OFFSET ?",
        (*values, most, skip),
    )
    return _documents(db, rows)


def tokens(db: sqlite3.Connection) -> list[str]:
    """All spellings that stand in sessions."""
    return [token for (token,) in db.execute("SELECT DISTINCT token FROM sessions WHERE token IS NOT NULL")]


def changed(db: sqlite3.Connection, after: int, most: int) -> list[dict[str, Any]]:
    """Documents of those that changed since revision `after`, in the order of their changes, at most `most`. The
    revision of the last one is where to go on."""
    rows = db.execute(
        f"SELECT {COLUMNS}, revision FROM sessions WHERE revision > ? ORDER BY revision LIMIT ?",
        (after, most),
    )
    return _documents(db, rows)


def records(db: sqlite3.Connection, wanted: Wanted, skip: int = 0, most: int = -1) -> list[dict[str, Any]]:
    """The chargers' own records, oldest first, each with what our session says. By time and EVSE alone."""
    names = ("record", "evse", "session", "started", "ended", "energy_wh", "gap_wh", "session_wh")
    rows = db.execute(
        "SELECT r.record, r.evse, r.session, r.started, r.ended, r.energy_wh, r.gap_wh, s.energy_wh"
        " FROM records r LEFT JOIN sessions s ON s.id = r.session"
        " WHERE r.started < ? AND (r.ended IS NULL OR r.ended >= ?)"
        f" AND (? IS NULL OR ? IN (r.evse, {_STATION.replace('evse', 'r.evse')}))"
        " ORDER BY r.started, r.record LIMIT ? OFFSET ?",
        (wanted.last, wanted.first, wanted.evse, wanted.evse, most, skip),
    )
    return [dict(zip(names, row, strict=True)) for row in rows]


def _documents(db: sqlite3.Connection, rows: Iterable[Sequence[Any]]) -> list[dict[str, Any]]:
    found = []
    for *row, revision in rows:
        count, energy_wh, gap_wh = db.execute(_RECORDED, (row[0],)).fetchone()
        beside = {"records": count, "record_wh": energy_wh, "gap_wh": gap_wh, "revision": revision}
        found.append({**document(_session(row)), **beside})
    return found


def document(session: SessionSaved) -> dict[str, Any]:
    """As JSON: with the cost in the currency itself. What the books add to it: `records` of the charger's own, their
    energy `record_wh`, `gap_wh` (theirs minus ours), and `revision`."""
    plain = to_plain(session)
    micro = plain.pop("cost_micro")
    return {**plain, "cost": None if micro is None else micro / 1e6}


def _session(row: Sequence[Any]) -> SessionSaved:
    id, evse, transaction, token, vehicle, started, ended, energy, start, register, reason, marks, *cost = row
    cost_micro, currency, counted = cost
    return SessionSaved(
        id=id,
        evse=EvseId(evse),
        transaction=transaction,
        token=token,
        vehicle=None if vehicle is None else VehicleId(vehicle),
        started=instant(started),
        ended=None if ended is None else instant(ended),
        energy_wh=energy,
        register_start_wh=start,
        register_wh=register,
        stop_reason=reason,
        marks=tuple(json.loads(marks)),
        cost_micro=cost_micro,
        currency=currency,
        counted=None if counted is None else instant(counted),
    )


def _utf8(text: str | None) -> str | None:
    """Stations may send half a surrogate pair; that must not cost the row it stands in."""
    return text if text is None or text.isascii() else text.encode("utf-8", "replace").decode()


def text_of(at: datetime) -> str:
    """Always 27 characters, so that text order is time order. Raises ValueError without a zone."""
    if at.tzinfo is None:
        raise ValueError(f"{at} has no time zone")
    return at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
