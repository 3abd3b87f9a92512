"""What of alarms is kept in depot.db: each alarm with who acknowledged it, and what people have silenced.

Owns the statements on the tables `alarms` and `hushes`; `controller.ledger` calls the writers, in its own transaction.
"""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from typing import Any

from controller.core.commands import AlarmSaved, HushLifted, HushSaved
from controller.core.events import AlarmRestored, HushRestored
from controller.core.wire import instant

MOST_RESTORED = 1000
HISTORY = 20


def store(db: sqlite3.Connection, entry: AlarmSaved | HushSaved | HushLifted) -> None:
    match entry:
        case AlarmSaved():
            row: tuple[Any, ...] = (
                entry.id,
                entry.kind,
                _utf8(entry.source),
                entry.priority,
                _utf8(entry.text),
                text_of(entry.since),
                None if entry.cleared is None else text_of(entry.cleared),
                entry.acked_by,
                None if entry.acked is None else text_of(entry.acked),
                entry.incident,
                int(entry.over),
            )
            columns = "id, kind, source, priority, text, since, cleared, acked_by, acked, incident, over"
            places = ", ".join("?" * len(row))
            db.execute(f"INSERT OR REPLACE INTO alarms ({columns}) VALUES ({places})", row)
        case HushSaved(kind, source, by, reason, since, until):
            row = (kind, source, by, _utf8(reason), text_of(since), None if until is None else text_of(until))
            db.execute(
                "INSERT OR REPLACE INTO hushes (kind, source, by, reason, since, until) VALUES (?, ?, ?, ?, ?, ?)",
                row,
            )
        case HushLifted(kind, source):
            db.execute("DELETE FROM hushes WHERE kind = ? AND source = ?", (kind, source))


def read(db: sqlite3.Connection) -> tuple[HushRestored | AlarmRestored, ...]:
    """What a restart must know, shelves first. An alarm that was raised anew is restored once, as it was last."""
    hushes = db.execute("SELECT kind, source, by, reason, since, until FROM hushes ORDER BY since")
    alarms = db.execute(
        "SELECT id, kind, source, priority, text, since, cleared, acked_by, incident FROM alarms"
        " WHERE NOT over ORDER BY since DESC LIMIT ?",
        (MOST_RESTORED,),
    )
    silent = [
        HushRestored(kind, source, by, reason, instant(since), None if until is None else instant(until))
        for kind, source, by, reason, since, until in hushes
    ]
    open_ones = [
        AlarmRestored(id, kind, source, priority, text, instant(since), cleared is None, acked_by, incident)
        for id, kind, source, priority, text, since, cleared, acked_by, incident in alarms
    ]
    return (*silent, *reversed(open_ones))


def history(db: sqlite3.Connection, kind: str, source: str) -> list[dict[str, Any]]:
    """The last times this alarm came, newest first."""
    rows = db.execute(
        "SELECT id, since, cleared, acked_by, acked, priority, text FROM alarms WHERE kind = ? AND source = ?"
        " ORDER BY since DESC LIMIT ?",
        (kind, source, HISTORY),
    )
    names = ("id", "since", "cleared", "acked_by", "acked", "priority", "text")
    return [dict(zip(names, row, strict=True)) for row in rows]


def acts(db: sqlite3.Connection, source: str, since: str) -> list[dict[str, Any]]:
    """What people did about alarms of this source, newest first."""
    what = ("alarm-acked", "alarm-shelved", "alarm-unshelved", "alarm-again", "out-of-service", "in-service")
    rows = db.execute(
        f"SELECT at, by, what, detail FROM audit WHERE at >= ? AND subject = ? AND what IN ({', '.join('?' * len(what))})"
        " ORDER BY id DESC LIMIT ?",
        (since, source, *what, HISTORY),
    )
    return [dict(zip(("at", "by", "what", "detail"), row, strict=True)) for row in rows]


def text_of(at: datetime) -> str:
    """Always 27 characters, so that text order is time order."""
    return at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def _utf8(text: str) -> str:
    """Half a surrogate pair from a station must not cost the row."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
