"""The egress book: every request that left the site over the Open Platform, with the exact fields it carried.

Owns the tables `egress*` of depot.db. A request is written down as it leaves (queued for the disk in the same turn of
the loop); once its answer is known it becomes a row of a chain that is only ever appended to: each row carries the
SHA-256 over the hash before it and its own canonical JSON, so a changed, removed or cut-off row shows (`verify`).
Rows are chained in the order the answers came. A request whose answer never came, or whose process died, is chained
with status None. Secrets are masked here too, whatever the caller did.

It stands before a slower disk: while that refuses, up to CAPACITY requests wait in memory; beyond, the oldest are
dropped and counted, and the count becomes a row of its own ("gap"). Sending never waits for the book: stops and limits
must leave with a dead disk too. Answers wait up to FLUSH_S for company, because each commit costs a flash page or four.

Source: INTERFACE section 4 (`depot egress --json`), DESIGN section 6, Open Platform GAPS G-24.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import sqlite3
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from controller.chain import chain_hash
from controller.ports import Clock
from controller.storage import LEDGER, Storage

log = logging.getLogger(__name__)

CAPACITY = 5_000  # requests in memory while the disk refuses: more than an hour at the platform's quota
FLUSH_S = 60.0
FLUSH_ROWS = 500
GIVE_UP_S = 120.0  # no answer comes later than this
KEEP_DAYS = 400
SHORTEN_ROWS = 1_000  # so often the past is looked at, and no more than twice as many rows go at once
VERIFY_ROWS = 5_000

MASK = "***"
_SECRETS = frozenset(
    {"client_secret", "device_secret", "access_token", "token", "password", "authorization", "x-signature"}
)
_COLUMNS = "id, at, channel, host, operation, method, path, fields, bytes, status, hash"


@dataclass(frozen=True, slots=True)
class _Request:
    ref: int
    at: datetime
    sent_s: float
    channel: str
    host: str
    operation: str
    method: str
    path: str
    fields: str  # canonical JSON of dotted names and values
    bytes: int | None = None
    status: int | None = None

    @property
    def opening(self) -> tuple[str, ...]:
        """What is known as it leaves, in the tables' order."""
        return (_time(self.at), self.channel, self.host, self.operation, self.method, self.path, self.fields)


class EgressBook:
    """All methods belong to the event loop. `open` before the first request, `close` before the storage's."""

    def __init__(self, storage: Storage, clock: Clock) -> None:
        self._storage = storage
        self._clock = clock
        self._refs = itertools.count(1)
        self._under_way: dict[int, _Request] = {}
        self._answered: deque[_Request] = deque()
        self._lost = 0
        self._batches = 0  # chained so far
        self._timer: asyncio.TimerHandle | None = None

    def open(self) -> None:
        """Chains what a dead process left under way, before anything new is written."""
        self._storage.write(LEDGER, _chain_leftovers)

    def close(self) -> None:
        """Chains everything; what has no answer yet will have none."""
        if self._timer is not None:
            self._timer.cancel()
        for ref in list(self._under_way):
            self.answered(ref, None, None)
        self._flush()
        if self._timer is not None:
            self._timer.cancel()

    def sent(
        self, channel: str, host: str, operation: str, method: str, path: str, fields: Mapping[str, Any]
    ) -> int:
        """Writes down a request that leaves now; returns the number `answered` wants. `path` without query; query
        parameters are fields like those of the body. Never raises, never waits."""
        now = self._clock.now()
        document = json.dumps(
            dict(dotted(fields)), ensure_ascii=False, separators=(",", ":"), sort_keys=True, default=str
        )
        text = document.encode("utf-8", "replace").decode()
        request = _Request(
            next(self._refs), now.utc, now.mono_s, channel, host, operation, method, path, text
        )
        self._under_way[request.ref] = request
        if not self._storage.behind:
            self._storage.write(LEDGER, partial(_open_row, request))
        self._flush_later()
        return request.ref

    def answered(self, ref: int, status: int | None, bytes_sent: int | None) -> None:
        """How request `ref` ended: the answer's status (None: none came) and the length of the body it carried."""
        request = self._under_way.pop(ref, None)
        if request is None:
            return  # given up long ago
        self._answered.append(replace(request, status=status, bytes=bytes_sent))
        if len(self._answered) >= FLUSH_ROWS:
            self._flush()

    async def rows(
        self, since: datetime | None = None, skip: int = 0, limit: int = 2_000
    ) -> tuple[list[dict[str, Any]], bool]:
        """A page of requests sent at or after `since`, oldest first, and whether another page follows.

        Each as in INTERFACE section 4, with `id`, its place in the chain. id and hash are None until it is chained, the
        status while no answer came. Raises LedgerError.
        """
        first = "" if since is None else _time(since)

        def work(db: sqlite3.Connection) -> list[tuple[Any, ...]]:
            return db.execute(
                f"SELECT {_COLUMNS} FROM egress WHERE at >= ? ORDER BY at, id LIMIT ? OFFSET ?",
                (first, limit + 1, skip),
            ).fetchall()

        batches = -1
        while batches != self._batches:  # else one could be neither among the rows nor in memory
            self._flush()
            batches = self._batches
            found = await self._storage.read(LEDGER, work)
        page = [_document(row) for row in found[:limit]]
        if len(found) > limit:
            return page, True
        waiting = sorted((*self._answered, *self._under_way.values()), key=lambda request: request.at)
        page += [
            _document((None, *request.opening, request.bytes, request.status, None))
            for request in waiting
            if _time(request.at) >= first
        ]
        return page, False

    async def verify(self) -> str | None:
        """Recomputes the chain: None if it holds, else one line on the first row that does not. Raises LedgerError."""
        self._flush()
        last, previous = await self._storage.read(LEDGER, _cut)
        while True:
            piece = await self._storage.read(LEDGER, partial(_check, last, previous))
            if isinstance(piece, str):
                return piece
            if piece[0] == last:
                return None
            last, previous = piece

    def _flush_later(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_S, self._flush)

    def _flush(self) -> None:
        """Chains what is answered, unless the disk refuses; then the queue is kept within its bounds."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        overdue_s = self._clock.now().mono_s - GIVE_UP_S
        for request in [each for each in self._under_way.values() if each.sent_s < overdue_s]:
            self._answered.append(self._under_way.pop(request.ref))
        if self._storage.behind:
            while len(self._answered) > CAPACITY:
                self._answered.popleft()
                self._lost += 1
        elif self._answered or self._lost:
            batch, lost = tuple(self._answered), self._lost
            self._answered.clear()
            self._lost = 0
            self._batches += 1
            if lost:
                log.error("egress: %d requests could not be written down", lost)
            stored = self._storage.write(
                LEDGER, partial(_chain_batch, batch, lost, _time(self._clock.now().utc)), len(batch) + 1
            )
            stored.add_done_callback(partial(self._settle, len(batch) + lost))
        if self._under_way or self._answered or self._lost:
            self._flush_later()

    def _settle(self, count: int, stored: asyncio.Future[None]) -> None:
        if not stored.cancelled() and stored.exception() is not None:
            self._lost += count  # the storage has said why


def dotted(fields: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Nested fields under dotted names ("params.duration", "time_slots.0.start"), secrets masked."""
    for name, value in fields.items():
        if name.casefold() in _SECRETS:
            yield name, MASK
            continue
        below: Mapping[str, Any] = {}
        if isinstance(value, Mapping):
            below = value
        elif isinstance(value, list | tuple):
            below = {str(place): item for place, item in enumerate(value)}
        if below:
            yield from ((f"{name}.{inner}", leaf) for inner, leaf in dotted(below))
        else:
            yield name, value


def _time(at: datetime) -> str:
    """Always 27 characters, so that text order is time order."""
    return at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def _document(row: Sequence[Any]) -> dict[str, Any]:
    id, at, channel, host, operation, method, path, fields, length, status, hash = row
    return {
        "time": at,
        "channel": channel,
        "host": host,
        "operation": operation,
        "method": method,
        "path": path,
        "fields": json.loads(fields),
        "bytes": length,
        "status": status,
        "hash": hash,
        "id": id,
    }


# --- in the storage thread --------------------------------------------------------------------------------------


def _open_row(request: _Request, db: sqlite3.Connection) -> None:
    places = "?, ?, ?, ?, ?, ?, ?, ?"
    db.execute(f"INSERT INTO egress_open VALUES ({places})", (request.ref, *request.opening))


def _chain_leftovers(db: sqlite3.Connection) -> None:
    columns = "at, channel, host, operation, method, path, fields"
    for row in db.execute(f"SELECT {columns} FROM egress_open ORDER BY ref").fetchall():
        _chain(db, (*row, None, None))
    db.execute("DELETE FROM egress_open")


def _chain_batch(batch: tuple[_Request, ...], lost: int, at: str, db: sqlite3.Connection) -> None:
    for request in batch:
        _chain(db, (*request.opening, request.bytes, request.status))
        db.execute("DELETE FROM egress_open WHERE ref = ?", (request.ref,))
    if lost:
        _chain(db, (at, "", "", "gap", "", "", json.dumps({"requests": lost}), None, None))


def _chain(db: sqlite3.Connection, row: Sequence[object]) -> None:
    newest = db.execute("SELECT id, hash FROM egress ORDER BY id DESC LIMIT 1").fetchone()
    last, previous = newest or _cut(db)
    number: int = last + 1
    numbered = (number, *row)
    places = "?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?"
    db.execute(f"INSERT INTO egress VALUES ({places})", (*numbered, chain_hash(previous, numbered)))
    if number % SHORTEN_ROWS == 0:
        _shorten(db)


def _shorten(db: sqlite3.Connection) -> None:
    """Forgets the oldest rows once they are older than KEEP_DAYS, measured against the newest row; a few at a time,
    so that a clock that is wrong for an hour cannot wipe the book."""
    newest = datetime.fromisoformat(db.execute("SELECT max(at) FROM egress").fetchone()[0])
    limit = _time(newest - timedelta(days=KEEP_DAYS))
    oldest = "SELECT id, at FROM egress ORDER BY id LIMIT ?"
    cut = db.execute(f"SELECT max(id) FROM ({oldest}) WHERE at < ?", (2 * SHORTEN_ROWS, limit)).fetchone()[0]
    if cut is not None:
        db.execute("DELETE FROM egress_cut")
        db.execute("INSERT INTO egress_cut SELECT id, hash FROM egress WHERE id = ?", (cut,))
        db.execute("DELETE FROM egress WHERE id <= ?", (cut,))


def _cut(db: sqlite3.Connection) -> tuple[int, str]:
    """The last row that was forgotten, and its hash."""
    id, hash = db.execute("SELECT id, hash FROM egress_cut").fetchone() or (0, "")
    return id, hash


def _check(last: int, previous: str, db: sqlite3.Connection) -> tuple[int, str] | str:
    """Checks the next rows after row `last`, whose hash is `previous`; returns where it came, or what is wrong."""
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM egress WHERE id > ? ORDER BY id LIMIT ?", (last, VERIFY_ROWS)
    ).fetchall()
    at, hash = last, previous
    for *row, stored in rows:
        if row[0] != at + 1:
            return f"egress rows {at + 1} to {row[0] - 1} are missing"
        hash = chain_hash(hash, row)
        if hash != stored:
            return f"egress row {row[0]} ({row[1]}) was changed after it was written"
        at = row[0]
    given = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'egress'").fetchone() or (0,)
    if not rows and given[0] != last:
        return f"egress rows {last + 1} to {given[0]} are missing"
    return at, hash
