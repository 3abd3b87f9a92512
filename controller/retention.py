"""What the books forget because of its age, kind by kind ([storage] keep_*).

Owns when that happens and that the audit tells it. A few rows at a time, between other writes; measured against the newest
row as well as the clock, so that a clock that is wrong for an hour cannot wipe the books. Nothing that still runs, is open
or is the newest is forgotten. The chain of the audit begins at its cut then (`controller.ledger.audit_cut`).
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from datetime import datetime, timedelta

from controller.config import Keep
from controller.core.commands import Audited
from controller.ledger import Ledger
from controller.migrations import LedgerError
from controller.ports import Clock
from controller.pseudonyms import GLOB, Pseudonyms
from controller.session_store import text_of, touch
from controller.storage import LEDGER, Storage

log = logging.getLogger(__name__)

FIRST_S, EVERY_S, BETWEEN_S = 600.0, 3600.0, 1.0
AT_ONCE = 200

Piece = Callable[[sqlite3.Connection, str], int]  # what is older than that; how many rows it forgot


class Retention:
    """`run` belongs beside the runtime. `storage` must be open."""

    def __init__(self, keep: Keep, storage: Storage, ledger: Ledger, clock: Clock) -> None:
        self._storage = storage
        self._ledger = ledger
        self._clock = clock
        self._pseudonyms = Pseudonyms(storage.folder)
        kinds: tuple[tuple[str, float | None, str, Piece], ...] = (
            ("sessions", keep.sessions_s, "SELECT max(ended) FROM sessions", _forget_sessions),
            ("tokens", keep.tokens_s, "SELECT max(ended) FROM sessions", self._alias_tokens),
            ("alarms", keep.alarms_s, "SELECT max(since) FROM alarms", _forget_alarms),
            ("audit", keep.audit_s, "SELECT max(at) FROM audit", _forget_audit),
        )
        self._kinds = [(kind, seconds, newest, work) for kind, seconds, newest, work in kinds if seconds]

    async def run(self) -> None:
        if not self._kinds:
            return
        await self._clock.sleep(FIRST_S)
        while True:
            try:
                await self.look()
            except LedgerError as error:
                log.warning("nothing is forgotten now: %s", error)
            await self._clock.sleep(EVERY_S)

    async def look(self) -> None:
        """Forgets what is due. Raises LedgerError."""
        await self._pseudonyms.ready()
        for kind, seconds, newest, work in self._kinds:
            assert seconds is not None
            count = 0
            while self._clock.now().utc_trusted and not self._storage.behind:
                now, keep = self._clock.now().utc, timedelta(seconds=seconds)
                done = await self._storage.write(LEDGER, _older(newest, now, keep, work))
                count += done
                if done < AT_ONCE:
                    break
                await self._clock.sleep(BETWEEN_S)
            if count:
                told = f"{count} older than {seconds / 86_400:g} d"
                row = Audited(self._clock.now().utc, "depot", "retention", kind, told)
                await self._ledger.append((row,))

    def _alias_tokens(self, db: sqlite3.Connection, limit: str) -> int:
        known = db.execute(
            "SELECT id, token FROM sessions WHERE ended < ? AND token IS NOT NULL AND token NOT GLOB ? LIMIT ?",
            (limit, GLOB, AT_ONCE),
        ).fetchall()
        for id, token in known:
            touch(db, "id = ?", id)
            db.execute("UPDATE sessions SET token = ? WHERE id = ?", (self._pseudonyms.alias(token), id))
        started = db.execute(
            "SELECT id, token FROM transactions WHERE started < ? AND token IS NOT NULL AND token NOT GLOB ? LIMIT ?",
            (limit, GLOB, AT_ONCE),
        ).fetchall()
        for number, token in started:
            alias = self._pseudonyms.alias(token)
            db.execute("UPDATE OR REPLACE transactions SET token = ? WHERE id = ?", (alias, number))
        return max(len(known), len(started))


def _older(newest: str, now: datetime, keep: timedelta, work: Piece) -> Callable[[sqlite3.Connection], int]:
    def piece(db: sqlite3.Connection) -> int:
        (last,) = db.execute(newest).fetchone()
        return 0 if last is None else work(db, text_of(min(now, datetime.fromisoformat(last)) - keep))

    return piece


def _forget_sessions(db: sqlite3.Connection, limit: str) -> int:
    """With all that stands beside them."""
    old = db.execute(
        "SELECT id, evse, transaction_id FROM sessions WHERE ended < ? ORDER BY ended LIMIT ?",
        (limit, AT_ONCE),
    ).fetchall()
    for id, evse, transaction in old:
        db.execute("DELETE FROM sessions WHERE id = ?", (id,))
        db.execute("DELETE FROM records WHERE session = ?", (id,))
        db.execute("DELETE FROM stays WHERE session = ?", (id,))
        db.execute(
            "DELETE FROM signed_values WHERE station = ? AND transaction_id = ?",
            (evse.rpartition("/")[0], transaction),
        )
    for table, column in (("records", "ended"), ("transactions", "started")):
        db.execute(
            f"DELETE FROM {table} WHERE rowid IN (SELECT rowid FROM {table} WHERE {column} < ? LIMIT ?)",
            (limit, AT_ONCE),
        )
    return len(old)


def _forget_alarms(db: sqlite3.Connection, limit: str) -> int:
    return db.execute(
        "DELETE FROM alarms WHERE rowid IN (SELECT rowid FROM alarms WHERE over AND since < ? LIMIT ?)",
        (limit, AT_ONCE),
    ).rowcount


def _forget_audit(db: sqlite3.Connection, limit: str) -> int:
    oldest = "SELECT id, at FROM audit ORDER BY id LIMIT ?"
    (cut,) = db.execute(f"SELECT max(id) FROM ({oldest}) WHERE at < ?", (AT_ONCE, limit)).fetchone()
    if cut is None:
        return 0
    db.execute("DELETE FROM audit_cut")
    db.execute("INSERT INTO audit_cut SELECT id, hash FROM audit WHERE id = ?", (cut,))
    return db.execute("DELETE FROM audit WHERE id <= ?", (cut,)).rowcount
