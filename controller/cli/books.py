"""The finished sessions in the ledger, page by page, for programs on site that ask the on-site host.

Owns one read of depot.db; satisfies `drivers.openplatform.clients_books.Books`. Must not write, and hands out neither
id tokens nor vehicles.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Any

from controller.core.model import EvseId
from controller.core.wire import instant
from controller.storage import LEDGER, Storage
from drivers.openplatform.clients_books import Book

_COLUMNS = "id, evse, started, ended, energy_wh, stop_reason"
_WHERE = "ended IS NOT NULL AND started >= ? AND started < ? AND evse IN ({places})"

Registers = dict[str, tuple[int | None, int | None]]  # session -> start and end, Wh


class FinishedSessions:
    """`storage` must be open. `own`: only these EVSEs are shown; at the others OCPP owns the sessions. Raises
    LedgerError when the file cannot be read."""

    def __init__(self, storage: Storage, own: Collection[EvseId]) -> None:
        self._storage = storage
        self._own = own

    async def __call__(
        self, since: datetime | None, until: datetime | None, evses: Collection[EvseId], skip: int, limit: int
    ) -> tuple[int, Sequence[Book]]:
        """How many sessions of these EVSEs began in [since, until), and those after the first `skip`, oldest first."""
        evses = [evse for evse in evses if evse in self._own]
        span = ("" if since is None else _text(since), "~" if until is None else _text(until))
        where = _WHERE.format(places=_places(evses))

        def work(db: sqlite3.Connection) -> tuple[int, list[Book]]:
            (total,) = db.execute(f"SELECT count(*) FROM sessions WHERE {where}", (*span, *evses)).fetchone()
            rows = db.execute(
                f"SELECT {_COLUMNS} FROM sessions WHERE {where} ORDER BY started, id LIMIT ? OFFSET ?",
                (*span, *evses, limit, skip),
            ).fetchall()
            registers = _registers(db, [row[0] for row in rows])
            return total, [_book(row, registers) for row in rows]

        return await self._storage.read(LEDGER, work)


def _registers(db: sqlite3.Connection, sessions: Sequence[str]) -> Registers:
    """From the charger's own records: what we count per session begins at 0. Several records of one: its outer ends."""
    found: Registers = {}
    for session, start_wh, end_wh in db.execute(
        "SELECT session, register_start_wh, register_end_wh FROM records"
        f" WHERE session IN ({_places(sessions)}) ORDER BY started",
        sessions,
    ):
        found[session] = (found.get(session, (start_wh,))[0], end_wh)
    return found


def _book(row: Sequence[Any], registers: Registers) -> Book:
    record, evse, started, ended, energy_wh, reason = row
    start_wh, end_wh = registers.get(record, (None, None))
    return Book(
        record, EvseId(evse), instant(started), instant(ended), energy_wh, start_wh, end_wh, reason=reason
    )


def _places(values: Collection[str]) -> str:
    return ", ".join("?" * len(values))


def _text(at: datetime) -> str:
    """As the ledger writes times: text order is time order."""
    return at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
