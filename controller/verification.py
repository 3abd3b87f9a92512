"""What `depot verify` finds: in the journal, in the chains of the audit and the egress book, in the energy of sessions.

Owns the questions; the journal is judged by controller.checker. Reads only. The journal's files can be read at any time;
depot.db belongs to the running controller, so it is asked there (controller.evidence_calls) or, while none runs, opened here.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from controller.audit import _check, _cut
from controller.checker import Checker, Finding
from controller.core.wire import instant
from controller.journal import AUDIT, FOLDER, KEEP_FILES
from controller.journal_read import Block, blocks, files, rows
from controller.ledger import _chain_check
from controller.migrations import LedgerError, explain
from controller.storage import LEDGER

PAUSE_S = 120.0  # between two blocks without a step: nobody watched
NEAR_WH, NEAR_PCT = 200, 2  # a charger's own record and ours need not agree better
MOVED = frozenset({"register-reset", "register-jump"})  # then the register's difference says nothing


@dataclass(frozen=True, slots=True)
class Anchor:
    """A block that the audit names: it was the newest then."""

    at: str
    number: int
    hash: str


@dataclass(slots=True)
class Books:
    """What depot.db shows. broken: chains that do not hold; energy: sessions that do not add up; notes: to be known."""

    broken: list[str] = field(default_factory=list)
    energy: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    anchors: list[Anchor] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, document: dict[str, Any]) -> Books:
        anchors = [Anchor(**anchor) for anchor in document["anchors"]]
        return cls(document["broken"], document["energy"], document["notes"], anchors)


@dataclass(slots=True)
class Judged:
    """What the journal shows. pauses: from when to when nothing was written."""

    broken: list[str] = field(default_factory=list)
    breaches: list[Finding] = field(default_factory=list)
    foreign: list[Finding] = field(default_factory=list)
    pauses: list[tuple[str, str]] = field(default_factory=list)
    steps: int = 0
    blocks: int = 0
    first: str | None = None
    last: str | None = None


# --- the books ----------------------------------------------------------------------------------------------------


def books_of(folder: Path, since: str | None) -> Books | None:
    """Of a state folder whose controller does not run; None while one holds the file. Raises LedgerError."""
    path = folder / LEDGER
    if not path.is_file():
        raise LedgerError(f"{path}: there is none; is this the state folder ([storage] path)?")
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=rw", uri=True, timeout=0.5)) as db:
            return Books([*_chains(db)], *_sessions(db, since), _anchors(db))
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", None) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return None
        raise LedgerError(f"{path}: {explain(error)}") from None


def unchained(db: sqlite3.Connection, since: str | None) -> Books:
    """All but the chains: small enough to be read in one go."""
    return Books([], *_sessions(db, since), _anchors(db))


def _chains(db: sqlite3.Connection) -> Iterator[str]:
    last, previous = 0, ""
    while True:
        piece = _chain_check(last, previous)(db)
        if piece.broken is not None:
            yield piece.broken
        if piece.broken is not None or piece.last == last:
            break
        last, previous = piece.last, piece.hash
    at = _cut(db)
    while True:
        found = _check(*at, db)
        if isinstance(found, str):
            yield found
        if isinstance(found, str) or found[0] == at[0]:
            break
        at = found


def _sessions(db: sqlite3.Connection, since: str | None) -> tuple[list[str], list[str]]:
    energy, notes = [], []
    for id, evse, counted, start, end, marks in db.execute(
        "SELECT id, evse, energy_wh, register_start_wh, register_wh, marks FROM sessions"
        " WHERE ended >= ? ORDER BY started, id",
        (since or "",),
    ):
        if start is None or end is None or MOVED & set(json.loads(marks)):
            continue
        if counted != end - start:
            told = f"{counted / 1e3:.2f} kWh were counted, its register moved by {(end - start) / 1e3:.2f}"
            energy.append(f"session {id} at {evse}: {told}")
    for record, evse, session, counted, gap in db.execute(
        "SELECT record, evse, session, energy_wh, gap_wh FROM records WHERE started >= ? ORDER BY started, record",
        (since or "",),
    ):
        if session is None:
            notes.append(
                f"record {record} of {evse}: {counted / 1e3:.2f} kWh that no session of ours explains"
            )
        elif gap is not None and abs(gap) > max(NEAR_WH, counted * NEAR_PCT // 100):
            ours = (counted - gap) / 1e3
            energy.append(
                f"session {session} at {evse}: the charger's record says {counted / 1e3:.2f} kWh, ours {ours:.2f}"
            )
    return energy, notes


def _anchors(db: sqlite3.Connection) -> list[Anchor]:
    found = db.execute(
        "SELECT at, subject, detail FROM audit WHERE what = ? AND by = 'depot' ORDER BY id", (AUDIT,)
    )
    return [Anchor(at, int(subject.partition(" ")[2]), hash) for at, subject, hash in found]


# --- the journal --------------------------------------------------------------------------------------------------


def judge(
    folder: Path, since: str | None, anchors: Sequence[Anchor], tell: Callable[[str], None] = lambda day: None
) -> Judged:
    """`since`: ISO 8601 in UTC; the chain is checked from the beginning all the same. `tell` hears what is read now."""
    found, checker, before = Judged(), Checker(), None
    wanted = {anchor.number: anchor for anchor in anchors if anchor.number}
    kept = files(folder / FOLDER)
    for path in kept:
        tell(path.stem)
        try:
            for block in blocks(path):
                if before is None and block.number > 1 and len(kept) < KEEP_FILES - 1:
                    found.broken.append(f"journal blocks 1 to {block.number - 1} are missing")
                _link(found, block, before, wanted)
                before = block
                if since is None or block.last >= since:
                    found.first, found.last = found.first or block.first, block.last
                    found.blocks += 1
                    _see(found, checker, block)
        except (ValueError, OSError) as error:
            found.broken.append(f"journal: {error}")
    for anchor in wanted.values():  # what is older than the oldest file has expired
        if before is None or anchor.number > before.number:
            found.broken.append(f"journal block {anchor.number}, the newest on {anchor.at}, is missing")
    found.breaches, found.foreign, found.steps = checker.breaches, checker.foreign, checker.steps
    return found


def _see(found: Judged, checker: Checker, block: Block) -> None:
    try:
        checker.check(rows(block))
    except (ValueError, KeyError, IndexError, TypeError) as error:
        text = str(error) if isinstance(error, ValueError) else "not a row of this version"
        found.broken.append(f"journal block {block.number} ({block.first}): {text}")


def _link(found: Judged, block: Block, before: Block | None, wanted: dict[int, Anchor]) -> None:
    if not block.genuine:
        found.broken.append(f"journal block {block.number} ({block.first}) was changed after it was written")
    if before is not None and block.number != before.number + 1:
        found.broken.append(f"journal blocks {before.number + 1} to {block.number - 1} are missing")
    elif before is not None and block.previous != before.hash:
        found.broken.append(f"journal block {block.number} ({block.first}) does not follow the one before it")
    anchor = wanted.pop(block.number, None)
    if anchor is not None and anchor.hash != block.hash:
        found.broken.append(f"journal block {block.number} is not the one the audit names on {anchor.at}")
    if before is not None and (instant(block.first) - instant(before.last)).total_seconds() > PAUSE_S:
        found.pauses.append((before.last, block.first))
