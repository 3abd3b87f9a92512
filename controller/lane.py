"""One file of the storage with its queue: what is written in one transaction, and what becomes of it when the disk refuses
or the file is damaged. Owned by `storage`, whose thread alone calls it; it knows nothing about tables.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from sqlite_utils import Migrations

from controller import migrations, recovery
from controller.ballast import Ballast
from controller.histogram import Histogram
from controller.migrations import Damaged, DiskAway, LedgerError, explain, is_damage, is_fault

log = logging.getLogger(__name__)

RETRY_S = (0.1, 5.0)  # first and longest pause between attempts on a disk that refuses
COMMIT_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
MEND_S = 3600.0  # a file that breaks again sooner is left alone: the disk is at fault

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]


@dataclass(slots=True)
class Job:
    work: Work[Any]
    future: asyncio.Future[Any]
    size: int
    result: Any = None
    error: LedgerError | None = None


class _Rejected(Exception):
    """One job of a batch cannot be written, now or later; the others can."""

    def __init__(self, job: Job, reason: Exception) -> None:
        super().__init__(f"{type(reason).__name__}: {reason}")
        self.job = job


@dataclass(slots=True)
class Lane:
    """One file with its queue. `writes` and `reads` are filled by the loop, `batch` belongs to the thread."""

    name: str
    synchronous: str
    migrations: Migrations
    keeps: bool  # True: what cannot be written now is kept and tried again; False: it is dropped
    writes: deque[Job] = field(default_factory=deque)
    reads: deque[Job] = field(default_factory=deque)
    batch: list[Job] = field(default_factory=list)
    held: int = 0  # entries not yet answered; counted by the loop
    refusing: bool = False  # said so already
    db: sqlite3.Connection | None = None
    trouble: str | None = None
    retry_at_s: float = 0.0
    pause_s: float = RETRY_S[0]
    path: Path = Path()
    ballast: Ballast | None = None
    broken: bool = False  # the file, as far as it was seen
    mended_s: float = float("-inf")
    mended: str | None = None  # what was done about it
    away: bool = False  # no file since the start
    returned: bool = False  # and now there would be one
    took_s: float = 0.0  # the newest commit
    commits: Histogram = field(default_factory=lambda: Histogram(COMMIT_S))

    def open(self) -> None:
        """A damaged file is replaced. Raises LedgerError."""
        # Only the file that matters is checked: reading a week of samples from an SD card would delay the start.
        try:
            self.mended = recovery.finish(self.path)
        except OSError as error:
            raise DiskAway(f"{self.path}: {error.strerror}") from None
        try:
            self.db = migrations.open_file(self.path, self.migrations, self.synchronous, check=self.keeps)
        except Damaged as error:
            log.error("%s", error)
            self.mend(time.monotonic())

    def leave(self, error: LedgerError) -> None:
        """Goes on without the file."""
        log.error("%s; going on without: nothing is acknowledged", error)
        self.away, self.trouble = True, str(error)

    def mend(self, now_s: float) -> None:
        """The file is broken: another takes its place. Raises LedgerError."""
        self.broken, self.mended_s = False, now_s
        if self.db is not None:
            self.db.close()
            self.db = None
        try:
            if self.keeps:
                self.db, self.mended = recovery.recover(self.path, datetime.now(UTC))
            else:
                aside = recovery.put_aside(self.path, "damaged", datetime.now(UTC))
                self.mended = f"{self.name} was damaged: begun anew; it is kept as {aside.name}"
                self.db = migrations.open_file(self.path, self.migrations, self.synchronous, check=False)
        except OSError as error:
            raise DiskAway(f"{self.path}: {error.strerror}") from None
        except sqlite3.Error as error:
            raise DiskAway(f"{self.path}: {explain(error)}") from None

    def look_again(self, now_s: float) -> None:
        """A broken file is replaced; one that was away is looked for."""
        if self.broken and now_s - self.mended_s >= MEND_S:
            try:
                self.mend(now_s)
            except LedgerError as error:
                self.leave(error)
        elif self.away and not self.returned and now_s >= self.retry_at_s:
            try:
                self.open()
            except LedgerError as error:
                self._refused(str(error), now_s)
            else:
                self.returned = True  # it may hold what a start must know
                if self.db is not None:
                    self.db.close()
                    self.db = None

    def write(self, now_s: float) -> list[Job]:
        """Writes the batch in one transaction; returns the jobs that are answered now (stored or given up)."""
        answered: list[Job] = []
        while self.batch:
            began_s = time.monotonic()
            try:
                self._transact(self.batch)
                self.took_s = time.monotonic() - began_s
            except _Rejected as rejected:
                log.error("%s: an entry cannot be stored: %s", self.name, rejected)
                rejected.job.error = LedgerError(f"{self.name}: cannot be stored: {rejected}")
                self.batch.remove(rejected.job)
                answered.append(rejected.job)
            except sqlite3.Error as error:
                if self.ballast is not None and migrations.is_full(error) and self.ballast.throw(now_s):
                    self.mended = "the disk is full: the ballast has been deleted; free some space"
                    continue
                self.broken = is_damage(error)
                self._refused(explain(error), now_s)
                break
            else:
                self._recovered()
                answered += self.batch
                self.batch = []
        if not self.keeps:
            answered += self._drop(f"{self.name}: {self.trouble}")
        return answered

    def _transact(self, batch: list[Job]) -> None:
        if self.db is None:
            raise sqlite3.OperationalError(self.trouble or "not open")
        began_s = time.monotonic()
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
        self.commits.add(time.monotonic() - began_s)

    def read(self, job: Job) -> None:
        """Answers a read outside any transaction; it also works while the disk is full."""
        try:
            if self.db is None:
                raise sqlite3.OperationalError(self.trouble or "not open")
            _perform(job, self.db)
        except sqlite3.Error as error:
            self.broken = self.broken or is_damage(error)
            job.error = LedgerError(f"{self.name}: {explain(error)}")
        except _Rejected as rejected:
            if isinstance(rejected.__cause__, LedgerError):  # it says itself what is wrong
                job.error = rejected.__cause__
                return
            log.error("%s: a query failed: %s", self.name, rejected)
            job.error = LedgerError(f"{self.name}: query failed: {rejected}")

    def abandon(self, why: str) -> list[Job]:
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

    def _drop(self, why: str) -> list[Job]:
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


def _perform(job: Job, db: sqlite3.Connection) -> None:
    """Runs the work of a job. Raises sqlite3.Error when the file or disk is at fault, _Rejected when the job is."""
    try:
        job.result = job.work(db)
    except Exception as error:
        if isinstance(error, sqlite3.Error) and is_fault(error):
            raise
        raise _Rejected(job, error) from error
