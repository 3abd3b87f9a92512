"""The journal: the evidence of every step, on disk, in a chain (format: controller.journal_read).

Owns the folder `journal` of the state folder. Takes a proof per step from the loop, which it never holds up: turning it
into bytes and writing them is the business of a thread of its own, a minute at a time. Files rather than a table: the
judge must be able to read them while we hold the database for ourselves, an auditor to copy them, and what is two weeks
old leaves by one unlink. A block goes to the disk (fdatasync) when its minute is over, and at once when commitments begin
not to fit: a tripped main fuse takes our own power with it. So a kill or a power cut costs the last block at most.

It is a companion of telemetry, not of the ledger: on a full disk blocks are dropped, said once, and the chain goes on
with the next that can be written; the gap shows by its times. The newest block is noted in the audit at each start and
each day, so that a journal which was shortened or taken away shows too.
"""

from __future__ import annotations

import hashlib
import json
import logging
import lzma
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import Protocol

from controller.core.commands import Audited, Entry
from controller.core.proof import Proof
from controller.core.wire import instant_text
from controller.journal_read import SUFFIX, block_hash, blocks, files
from controller.journal_rows import Rows, site_row

log = logging.getLogger(__name__)

FOLDER = "journal"
BLOCK_S = 60.0
BLOCK_STEPS = 300  # of urgent steps too, so that memory stays small
WAITING = 5  # blocks that may wait for a slow disk
KEEP_FILES = 15  # one a day: today and the last fourteen
AUDIT = "journal"  # `what` of the audit rows that name a block


class Keeps(Protocol):
    """The ledger."""

    def append(self, entries: Sequence[Entry]) -> object: ...


class Journal:
    """`observe` and `close` belong to the event loop. `config`: the fingerprint of the file this process runs with."""

    def __init__(self, folder: Path, config: str, ledger: Keeps) -> None:
        self.folder = folder / FOLDER
        self._config = config
        self._ledger = ledger
        self._batch: list[Proof] = []
        self._last: Proof | None = None
        self._was_short = False
        self._day: date | None = None
        self._waiting = 0
        self._dropping = False
        self._writer = _Writer(self.folder)
        self._thread = ThreadPoolExecutor(1, "journal")

    def open(self) -> None:
        """Finds the end of the chain, before the first proof."""
        self._thread.submit(self._writer.open).result()

    def observe(self, proof: Proof) -> None:
        """Takes the proof of a step; returns at once."""
        batch = self._batch
        if batch and (proof.at.mono_s - batch[0].at.mono_s >= BLOCK_S or proof.site is not batch[0].site):
            self.flush()
        self._batch.append(proof)
        self._last = proof
        begins = proof.short and not self._was_short
        self._was_short = proof.short
        if begins or len(self._batch) >= BLOCK_STEPS:
            self.flush()
        if (today := proof.at.utc.date()) != self._day and proof.at.utc_trusted:
            self._day = today
            number, hash = self._writer.tail
            self._ledger.append((Audited(proof.at.utc, "depot", AUDIT, f"block {number}", hash),))

    def recent(self) -> Sequence[Proof]:
        """What is not written yet, or the last step if nothing waits."""
        return self._batch or ([] if self._last is None else [self._last])

    def flush(self) -> None:
        """Ends the block: it is written as soon as the disk allows."""
        batch, self._batch = self._batch, []
        if not batch:
            return
        full = self._waiting >= WAITING
        if full != self._dropping:
            self._dropping = full
            log.warning("journal: %s", "dropped, the disk is too slow" if full else "written again")
        if full:
            return
        self._waiting += 1
        self._thread.submit(self._write, batch)

    def close(self) -> None:
        """Writes what is left and ends the thread."""
        self.flush()
        self._thread.shutdown(wait=True)

    def _write(self, batch: Sequence[Proof]) -> None:
        try:
            self._writer.write(batch, self._config)
        except Exception:
            log.exception("journal: a block was not written")
        finally:
            self._waiting -= 1


class _Writer:
    """The end of the chain and the file it is in. Belongs to the journal's thread, but for `tail`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.tail: tuple[int, str] = (0, "")  # of the last block: its number and hash
        self._file: Path | None = None
        self._ends = 0  # bytes of whole blocks in that file
        self._trouble: str | None = None

    def open(self) -> None:
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for path in reversed(files(self._folder)):
                if self._continue(path):
                    break
        except OSError as error:
            self._say(error.strerror or str(error))

    def _continue(self, path: Path) -> bool:
        """Goes on behind the last whole block of this file, if it has one."""
        try:
            for block in blocks(path):
                self.tail, self._file, self._ends = (block.number, block.hash), path, block.ends
        except ValueError as error:
            log.error("journal: %s; going on in another file", error)
            self._file = None
        return self.tail[0] > 0

    def write(self, batch: Sequence[Proof], config: str) -> None:
        data = compressed(batch, config)
        first, last = (instant_text(proof.at.utc) for proof in (batch[0], batch[-1]))
        number, previous = self.tail[0] + 1, self.tail[1]
        hash = block_hash(previous, number, first, last, data)
        meta = {"n": number, "prev": previous, "hash": hash, "first": first, "last": last, "bytes": len(data)}
        text = json.dumps(meta, separators=(",", ":")).encode() + b"\n" + data + b"\n"
        try:
            self._append(number, batch[0].at.utc.date(), text)
        except OSError as error:
            self._say(error.strerror or str(error))
        else:
            self._say(None)
            self.tail = (number, hash)

    def _append(self, number: int, day: date, text: bytes) -> None:
        if self._file is None or not self._file.stem.endswith(day.isoformat()):
            # by number: a clock may go back, the chain does not
            self._file, self._ends = self._folder / f"{number:09d}-{day.isoformat()}{SUFFIX}", 0
            for path in files(self._folder)[: 1 - KEEP_FILES]:
                path.unlink()
        file = os.open(self._file, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.ftruncate(file, self._ends)  # what a kill or a full disk cut off in the middle
            os.lseek(file, self._ends, os.SEEK_SET)
            written = 0
            while written < len(text):
                written += os.write(file, text[written:])
            os.fdatasync(file)
        finally:
            os.close(file)
        self._ends += len(text)

    def _say(self, trouble: str | None) -> None:
        if trouble is not None and self._trouble is None:
            log.error("journal: %s; the proof of what happens now is not kept", trouble)
        elif trouble is None and self._trouble is not None:
            log.warning("journal: written again (was: %s)", self._trouble)
        self._trouble = trouble


def compressed(batch: Sequence[Proof], config: str) -> bytes:
    rows = Rows()
    lines = [json.dumps(site_row(batch[0].site, batch[0].boot, config), separators=(",", ":"))]
    for proof in batch:
        lines.append(rows.line(proof))
        time.sleep(0)  # lets the loop go on: the interpreter would hold it up for milliseconds
    return lzma.compress(
        "\n".join(lines).encode(), preset=0
    )  # a third less than zlib makes of it, and sooner


def fingerprint(config: Path) -> str:
    """Of the config file, so that a journal says under which one it was written; empty where there is none to read."""
    try:
        return hashlib.sha256(config.read_bytes()).hexdigest()
    except OSError:
        return ""
