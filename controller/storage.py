"""The one thread that touches SQLite. It owns both files of the data folder; the event loop never waits for a disk.

    depot.db      sessions, numbers, audit: WAL, synchronous=FULL; what was acknowledged survives a power cut
    telemetry.db  samples: WAL, synchronous=NORMAL; a power cut may cost the last minute

Everything queued for a file is written in one transaction, then all who wait are told (group commit: the disk sets
the pace, not the number of entries). It knows nothing about tables; `ledger` and `telemetry` bring functions of a
connection, which may run again after a failed transaction and therefore must have no effect but on the connection.

One connection per file, opened with an exclusive lock: SQLite before 3.51.3 can damage a WAL file that two connections
reset at the same time (field notes 3.4), and Debian 12 has 3.40.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from sqlite_utils import Migrations

from controller import migrations
from controller.migrations import LedgerError, explain, is_fault

log = logging.getLogger(__name__)

LEDGER = "depot.db"
TELEMETRY = "telemetry.db"

CAPACITY = 10_000  # entries waiting; at 50 chargers several minutes of a dead disk
IDLE_S = 1.0  # an idle writer shows this often that it is alive
RETRY_S = (0.1, 5.0)  # first and longest pause between attempts on a disk that refuses
DRAIN_S = 5.0  # close() gives a refusing disk this long; systemd gives all of us ten seconds

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]


@dataclass(slots=True)
class _Job:
    work: Work[Any]
    future: asyncio.Future[Any]
    size: int
    result: Any = None
    error: LedgerError | None = None


class _Rejected(Exception):
    """One job of a batch cannot be written, now or later; the others can."""

    def __init__(self, job: _Job, reason: Exception) -> None:
        super().__init__(f"{type(reason).__name__}: {reason}")
        self.job = job


@dataclass(slots=True)
class _Lane:
    """One file with its queue. `writes` and `reads` are filled by the loop, `batch` belongs to the thread."""

    name: str
    synchronous: str
    migrations: Migrations
    keeps: bool  # True: what cannot be written now is kept and tried again; False: it is dropped
    writes: deque[_Job] = field(default_factory=deque)
    reads: deque[_Job] = field(default_factory=deque)
    batch: list[_Job] = field(default_factory=list)
    held: int = 0  # entries not yet answered; counted by the loop
    refusing: bool = False  # said so already
    db: sqlite3.Connection | None = None
    trouble: str | None = None
    retry_at_s: float = 0.0
    pause_s: float = RETRY_S[0]

    def open(self, folder: Path) -> None:
        """Raises LedgerError."""
        # Only the file that matters is checked: reading a week of samples from an SD card would delay the start.
        self.db = migrations.open_file(
            folder / self.name, self.migrations, self.synchronous, check=self.keeps
        )

    def write(self, now_s: float) -> list[_Job]:
        """Writes the batch in one transaction; returns the jobs that are answered now (stored or given up)."""
        answered: list[_Job] = []
        while self.batch:
            try:
                self._transact(self.batch)
            except _Rejected as rejected:
                log.error("%s: an entry cannot be stored: %s", self.name, rejected)
                rejected.job.error = LedgerError(f"{self.name}: cannot be stored: {rejected}")
                self.batch.remove(rejected.job)
                answered.append(rejected.job)
            except sqlite3.Error as error:
                self._refused(explain(error), now_s)
                break
            else:
                self._recovered()
                answered += self.batch
                self.batch = []
        if not self.keeps:
            answered += self._drop(f"{self.name}: {self.trouble}")
        return answered

    def _transact(self, batch: list[_Job]) -> None:
        if self.db is None:
            raise sqlite3.OperationalError("not open")
        # IMMEDIATE, not sqlite-utils' atomic(): a deferred transaction that reads first can fail without waiting.
        self.db.execute("BEGIN IMMEDIATE")
        try:
            for job in batch:
                _perform(job, self.db)
            self.db.execute("COMMIT")
        except BaseException:
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")
            raise

    def read(self, job: _Job) -> None:
        """Answers a read outside any transaction; it also works while the disk is full."""
        try:
            if self.db is None:
                raise sqlite3.OperationalError("not open")
            _perform(job, self.db)
        except sqlite3.Error as error:
            job.error = LedgerError(f"{self.name}: {explain(error)}")
        except _Rejected as rejected:
            log.error("%s: a query failed: %s", self.name, rejected)
            job.error = LedgerError(f"{self.name}: query failed: {rejected}")

    def abandon(self, why: str) -> list[_Job]:
        """Everything still waiting, answered with an error; closes the file."""
        left = [*self._drop(f"{self.name}: {why}"), *self.writes, *self.reads]
        for job in left:
            job.error = LedgerError(f"{self.name}: {why}")
        if lost := sum(job.size for job in left):
            log.error("%s: %s; %d entries were not stored", self.name, self.trouble or why, lost)
        self.writes.clear()
        self.reads.clear()
        if self.db is not None:
            self.db.close()
            self.db = None
        return left

    def _drop(self, why: str) -> list[_Job]:
        dropped, self.batch = self.batch, []
        for job in dropped:
            job.error = LedgerError(why)
        return dropped

    def _refused(self, text: str, now_s: float) -> None:
        if text != self.trouble:
            kept = sum(job.size for job in self.batch)
            log.error("%s: %s; %d entries %s", self.name, text, kept, "wait" if self.keeps else "dropped")
        self.trouble = text
        self.retry_at_s = now_s + self.pause_s
        self.pause_s = min(2 * self.pause_s, RETRY_S[1])

    def _recovered(self) -> None:
        if self.trouble is not None:
            log.warning("%s: writing again (was: %s)", self.name, self.trouble)
        self.trouble = None
        self.retry_at_s = 0.0
        self.pause_s = RETRY_S[0]


class Storage:
    """Both files behind one thread. All methods belong to the event loop that called `open`."""

    def __init__(self, folder: Path, capacity: int = CAPACITY) -> None:
        self.folder = folder
        self.capacity = capacity
        self._ledger = _Lane(LEDGER, "FULL", migrations.ledger, keeps=True)
        self._telemetry = _Lane(TELEMETRY, "NORMAL", migrations.telemetry, keeps=False)
        self._wake = threading.Condition()
        self._closing = False
        self._thread: threading.Thread | None = None
        self._ended: asyncio.Future[None] | None = None
        self._round_ended_s = time.monotonic()

    async def open(self) -> None:
        """Opens both files. Raises LedgerError if depot.db cannot be used; telemetry.db then merely stays off."""
        loop = asyncio.get_running_loop()
        opened: asyncio.Future[None] = loop.create_future()
        self._ended = loop.create_future()
        self._thread = threading.Thread(target=self._run, args=(loop, opened), name="storage", daemon=True)
        self._thread.start()
        try:
            await opened
        except LedgerError:
            await self.close()
            raise

    async def close(self) -> None:
        """Writes what is queued (a refusing disk gets 5 s), closes the files and ends the thread. Idempotent."""
        if self._thread is None or self._ended is None:
            return
        with self._wake:
            self._closing = True
            self._wake.notify()
        await asyncio.shield(self._ended)
        self._thread.join()
        self._thread = None

    @property
    def alive_s(self) -> float:
        """Seconds since the thread last finished a round, successful or not: large means stuck in a system call."""
        return time.monotonic() - self._round_ended_s

    @property
    def full(self) -> bool:
        """True: nothing more is taken for depot.db. Then nothing may be acknowledged to a station (it resends)."""
        return self._ledger.held >= self.capacity

    @property
    def behind(self) -> bool:
        """True while depot.db is refusing or far behind: whoever can do without should not write now."""
        return self._ledger.trouble is not None or self._ledger.held * 10 >= self.capacity

    @property
    def trouble(self) -> str | None:
        """What keeps depot.db from being written, for people; None while all is well."""
        return self._ledger.trouble

    def write(self, file: str, work: Work[T], size: int = 1) -> asyncio.Future[T]:
        """Queues `work` (counting as `size` entries); the future has its result once that is committed.

        The future stays pending while the disk refuses: callers have their own deadlines. It fails with LedgerError
        if the entry can never be stored, if the queue is full, or for telemetry that was dropped.
        """
        lane = self._lane(file)
        job = _Job(work, asyncio.get_running_loop().create_future(), size)
        lane.held += size
        full = lane.held - size >= self.capacity
        if full != lane.refusing:
            lane.refusing = full
            log.warning("%s: %s", file, "queue full, refusing entries" if full else "taking entries again")
        if full or self._thread is None or self._closing:
            job.error = LedgerError(f"{file}: {'queue full' if full else 'closed'}; not stored")
            self._answer(lane, [job])
        else:
            self._queue(lane.writes, job)
        return job.future

    def read(self, file: str, work: Work[T]) -> asyncio.Future[T]:
        """Queues a query; it sees everything committed so far. The future fails with LedgerError."""
        lane = self._lane(file)
        job = _Job(work, asyncio.get_running_loop().create_future(), 0)
        if self._thread is None or self._closing:
            job.error = LedgerError(f"{file}: closed")
            self._answer(lane, [job])
        else:
            self._queue(lane.reads, job)
        return job.future

    def _lane(self, file: str) -> _Lane:
        return self._ledger if file == LEDGER else self._telemetry

    def _queue(self, queue: deque[_Job], job: _Job) -> None:
        with self._wake:
            queue.append(job)
            self._wake.notify()

    @staticmethod
    def _answer(lane: _Lane, jobs: list[_Job]) -> None:
        """In the loop: tells everybody who still waits."""
        for job in jobs:
            lane.held -= job.size
            if job.future.done():
                continue
            if job.error is None:
                job.future.set_result(job.result)
            else:
                job.future.set_exception(job.error)
                job.future.exception()  # logged here already; a caller that does not wait need not hear it again

    # --- in the thread --------------------------------------------------------------------------------------------

    def _run(self, loop: asyncio.AbstractEventLoop, opened: asyncio.Future[None]) -> None:
        def tell(callback: Callable[..., None], *args: object) -> None:
            with contextlib.suppress(RuntimeError):  # the loop ended without close(): nobody is left to tell
                loop.call_soon_threadsafe(callback, *args)

        lanes = (self._ledger, self._telemetry)
        error = self._open_files()
        tell(_settle, opened, error)
        give_up_s: float | None = None
        while error is None:
            closing = self._await_work(lanes) or loop.is_closed()
            for lane in lanes:
                if answered := self._round(lane, closing):
                    tell(self._answer, lane, answered)
            self._round_ended_s = time.monotonic()
            if closing:
                give_up_s = give_up_s or self._round_ended_s + DRAIN_S
                if not any(lane.batch or lane.writes for lane in lanes) or self._round_ended_s >= give_up_s:
                    break
        for lane in lanes:
            tell(self._answer, lane, lane.abandon("closed"))
        tell(_settle, self._ended, None)

    def _open_files(self) -> LedgerError | None:
        try:
            self._ledger.open(self.folder)
        except LedgerError as error:
            return error
        try:
            self._telemetry.open(self.folder)
        except LedgerError as error:
            log.error("no telemetry is recorded: %s", error)
        return None

    def _await_work(self, lanes: tuple[_Lane, ...]) -> bool:
        """Sleeps until there is something to do, at most IDLE_S; True once we are closing."""
        with self._wake:
            now_s = time.monotonic()
            timeout_s = IDLE_S
            for lane in lanes:
                if lane.batch or lane.writes:
                    timeout_s = min(timeout_s, max(0.0, lane.retry_at_s - now_s))
                if lane.reads:
                    timeout_s = 0.0
            if self._closing:
                timeout_s = RETRY_S[0] if self.trouble else 0.0
            if timeout_s > 0:
                self._wake.wait(timeout_s)
            return self._closing

    def _round(self, lane: _Lane, closing: bool) -> list[_Job]:
        """Writes and reads what is queued; returns the jobs that are answered."""
        now_s = time.monotonic()
        due = closing or now_s >= lane.retry_at_s
        with self._wake:
            reads = list(lane.reads)
            lane.reads.clear()
            if due:
                lane.batch += lane.writes
                lane.writes.clear()
        answered = lane.write(now_s) if due and lane.batch else []
        for job in reads:
            lane.read(job)
        return answered + reads


def _settle(future: asyncio.Future[None], error: Exception | None) -> None:
    if not future.done():
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)


def _perform(job: _Job, db: sqlite3.Connection) -> None:
    """Runs the work of a job. Raises sqlite3.Error when the file or disk is at fault, _Rejected when the job is."""
    try:
        job.result = job.work(db)
    except Exception as error:
        if isinstance(error, sqlite3.Error) and is_fault(error):
            raise
        raise _Rejected(job, error) from error
