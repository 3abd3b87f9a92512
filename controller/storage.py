"""The one thread that touches SQLite. It owns both files of the data folder; the event loop never waits for a disk.

    depot.db      sessions, numbers, audit: WAL, synchronous=FULL; what was acknowledged survives a power cut
    telemetry.db  samples: WAL, synchronous=NORMAL; a power cut may cost the last minute

Everything queued for a file is written in one transaction, then all who wait are told (group commit: the disk sets
the pace, not the number of entries). It knows nothing about tables; `ledger` and `telemetry` bring functions of a
connection, which may run again after a failed transaction and therefore must have no effect but on the connection.

One connection per file, opened with an exclusive lock: SQLite before 3.51.3 can damage a WAL file that two connections
reset at the same time (field notes 3.4), and Debian 12 has 3.40.

A damaged file is replaced at the start or as soon as it shows (controller.recovery). Where the disk takes nothing from
the start on there are no books: everything waits, nothing is acknowledged, until they are there (`returned`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

from controller import migrations
from controller.ballast import Ballast
from controller.histogram import Histogram
from controller.lane import RETRY_S, Job, Lane, T, Work
from controller.migrations import DiskAway, LedgerError

log = logging.getLogger(__name__)

LEDGER = "depot.db"
TELEMETRY = "telemetry.db"

CAPACITY = 10_000  # entries waiting; at 50 chargers several minutes of a dead disk
SLOW_S = 2.0  # a good card needs milliseconds for a commit
IDLE_S = 1.0  # an idle writer shows this often that it is alive
DRAIN_S = 5.0  # close() gives a refusing disk this long; systemd gives all of us ten seconds


class Storage:
    """Both files behind one thread. All methods belong to the event loop that called `open`."""

    def __init__(self, folder: Path, capacity: int = CAPACITY, ballast: int = 0) -> None:
        """`ballast`: bytes held back for a full disk."""
        self.folder = folder
        self.capacity = capacity
        self._ledger = Lane(LEDGER, "FULL", migrations.ledger, keeps=True, path=folder / LEDGER)
        self._telemetry = Lane(
            TELEMETRY, "NORMAL", migrations.telemetry, keeps=False, path=folder / TELEMETRY
        )
        self._ballast = self._ledger.ballast = Ballast(folder, ballast)
        self._wake = threading.Condition()
        self._closing = False
        self._thread: threading.Thread | None = None
        self._ended: asyncio.Future[None] | None = None
        self._round_ended_s = time.monotonic()

    async def open(self) -> None:
        """Opens both files. Raises LedgerError if depot.db must not be used, or not before a person has looked; telemetry.db
        then merely stays off."""
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
    def busy(self) -> bool:
        """True while something queued has not been answered."""
        return any(lane.held > 0 or lane.reads for lane in (self._ledger, self._telemetry))

    @property
    def slow(self) -> bool:
        """True: depot.db takes its time, and whoever waits for a commit waits with it."""
        return max(self.alive_s, self._ledger.took_s) > SLOW_S

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

    @property
    def away(self) -> bool:
        """True: there was no depot.db to read at the start, because the disk refuses everything."""
        return self._ledger.away

    @property
    def returned(self) -> bool:
        """True: it could be opened now; only a new start reads what it holds."""
        return self._ledger.returned

    @property
    def commits(self) -> Mapping[str, Histogram]:
        """How long transactions took, by file."""
        return {lane.name: lane.commits for lane in (self._ledger, self._telemetry)}

    @property
    def mended(self) -> tuple[str, ...]:
        """What was done about damaged files since the start, for people."""
        return tuple(lane.mended for lane in (self._ledger, self._telemetry) if lane.mended is not None)

    def write(self, file: str, work: Work[T], size: int = 1) -> asyncio.Future[T]:
        """Queues `work` (counting as `size` entries); the future has its result once that is committed.

        The future stays pending while the disk refuses: callers have their own deadlines. It fails with LedgerError
        if the entry can never be stored, if the queue is full, or for telemetry that was dropped.
        """
        lane = self._lane(file)
        job = Job(work, asyncio.get_running_loop().create_future(), size)
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
        job = Job(work, asyncio.get_running_loop().create_future(), 0)
        if self._thread is None or self._closing:
            job.error = LedgerError(f"{file}: closed")
            self._answer(lane, [job])
        else:
            self._queue(lane.reads, job)
        return job.future

    def _lane(self, file: str) -> Lane:
        return self._ledger if file == LEDGER else self._telemetry

    def _queue(self, queue: deque[Job], job: Job) -> None:
        with self._wake:
            queue.append(job)
            self._wake.notify()

    @staticmethod
    def _answer(lane: Lane, jobs: list[Job]) -> None:
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
        try:
            error = self._open_files()
        except Exception as unforeseen:
            log.exception("the books cannot be opened")
            error = LedgerError(f"{self._ledger.path}: {type(unforeseen).__name__}: {unforeseen}")
        tell(_settle, opened, error)
        give_up_s: float | None = None
        while error is None:
            closing = self._await_work(lanes) or loop.is_closed()
            if not self.away:
                self._ballast.keep(time.monotonic())
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
            self._ledger.open()
        except DiskAway as error:
            self._ledger.leave(error)
        except LedgerError as error:
            return error
        try:
            self._telemetry.open()
        except LedgerError as error:
            log.error("no telemetry is recorded: %s", error)
        return None

    def _await_work(self, lanes: tuple[Lane, ...]) -> bool:
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

    def _round(self, lane: Lane, closing: bool) -> list[Job]:
        """Writes and reads what is queued; returns the jobs that are answered."""
        now_s = time.monotonic()
        if not closing:
            lane.look_again(now_s)
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
