"""The console's call behind `depot log`: what happened, out of all the books, in one order.

Owns the merge of audit, alarms, sessions and orders; only looks. Orders stand in the audit as they were given; how far
they came is known for the last minutes only, and comes from the newest snapshot.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from typing import Any

from controller.alarm_store import text_of
from controller.calls import takes
from controller.channel_calls import Call
from controller.console import Args, Peer, Refusal, _text, _time, _whole
from controller.core.snapshot import OrderView
from controller.migrations import LedgerError
from controller.runtime import Runtime
from controller.storage import LEDGER, Storage

PAGE, LAST = 1000, 100
# the books' own words: the column of the time, what makes a line unique (its order among lines of one time), and
# time, what, source, who, text out of which table
_BOOKS = (
    ("audit", "at", "printf('%012d', id)", "at, what, subject, by, detail", "audit"),
    ("alarm", "since", "id || '+'", "since, 'alarm ' || priority, source, '', text", "alarms"),
    ("alarm", "cleared", "id || '-'", "cleared, 'alarm over', source, '', text", "alarms"),
    (
        "session",
        "started",
        "id || '+'",
        "started, 'session began', evse, '', coalesce(vehicle, '')",
        "sessions",
    ),
    (
        "session",
        "ended",
        "id || '-'",
        "ended, 'session ended', evse, '', trim(coalesce(vehicle, '') || ' '"
        " || printf('%.2f kWh', energy_wh / 1000.0) || ' ' || coalesce(stop_reason, ''))",
        "sessions",
    ),
)


class LogCalls:
    """`table` is for `Console`: name -> (whether only operators may, the call)."""

    def __init__(self, runtime: Runtime, storage: Storage) -> None:
        self._runtime = runtime
        self._storage = storage
        self.table: Mapping[str, tuple[bool, Call]] = {"log": (False, self._log)}

    @takes("since after last")
    async def _log(self, args: Args, peer: Peer) -> Any:
        """`lines`, oldest first: from `since` on, behind the line `after` of that time, a page of them, `more` if others
        follow; without `since` the last `last` ones."""
        since, after = _time(args, "since"), _text(args, "after") or ""
        most = PAGE if since else _whole(args, "last", most=PAGE) or LAST
        first = ("", "") if since is None else (text_of(since), after)
        try:
            lines = await self._storage.read(LEDGER, lambda db: _lines(db, first, most))
        except LedgerError as error:
            raise Refusal("failed", str(error)) from None
        snapshot = self._runtime.snapshot
        for order in () if snapshot is None else snapshot.orders:
            lines += [line for line in _order(order) if (line["time"], line["id"]) > first]
        lines.sort(key=lambda line: (line["time"], line["id"]))
        if since is None:
            return {"lines": lines[-most:], "more": False}
        return {"lines": lines[:most], "more": len(lines) > most}


def _lines(db: sqlite3.Connection, first: tuple[str, str], most: int) -> list[dict[str, Any]]:
    """Of every book the next ones behind `first`, one more than asked for; of "" the newest."""
    found: list[dict[str, Any]] = []
    for book, column, unique, columns, name in _BOOKS:
        select = f"SELECT {columns}, {unique} FROM {name}"
        if first[0]:
            where = (
                f"{column} >= ? AND ({column}, '{book} ' || {unique}) > (?, ?) ORDER BY {column}, {unique}"
            )
            rows = db.execute(f"{select} WHERE {where} LIMIT ?", (first[0], *first, most + 1))
        else:
            where = f"{column} IS NOT NULL ORDER BY {column} DESC, {unique} DESC"
            rows = db.execute(f"{select} WHERE {where} LIMIT ?", (most,))
        found += [_line(book, *row) for row in rows]
    return found


def _order(order: OrderView) -> Iterator[dict[str, Any]]:
    """How far it came. That it was given stands in the audit."""
    for stage, at in order.stages:
        yield _line(
            "order",
            text_of(at),
            f"{order.kind} {stage}",
            order.evse,
            order.by,
            order.text,
            f"{order.id} {stage}",
        )


def _line(book: str, time: str, what: str, source: str, by: str, text: str, id: str) -> dict[str, Any]:
    return {
        "time": time,
        "book": book,
        "what": what,
        "source": source,
        "by": by or None,
        "text": text,
        "id": f"{book} {id}",
    }
