"""The console's calls about evidence: why an EVSE has the current it has, and what the books show to `depot verify`.

Owns where the evidence of a moment is found (the last step, the open block, the journal's files) and whose order an
operator's limit was. Only looks.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from controller.audit import EgressBook
from controller.calls import takes
from controller.channel_calls import Call
from controller.console import Args, Peer, Refusal, _text, _time
from controller.core.model import EvseId
from controller.core.proof import Proof
from controller.core.why import OPERATOR, Why, why
from controller.core.wire import instant, instant_text
from controller.journal import Journal
from controller.journal_read import blocks, files, rows
from controller.journal_rows import proof_of
from controller.migrations import LedgerError
from controller.runtime import Runtime
from controller.storage import LEDGER, Storage
from controller.verification import unchained

LATE_S = 120.0  # what the journal says about a moment is no older than this


class EvidenceCalls:
    """`table` is for `Console`: name -> (whether only operators may, the call)."""

    def __init__(self, runtime: Runtime, storage: Storage, egress: EgressBook, journal: Journal) -> None:
        self._runtime = runtime
        self._storage = storage
        self._egress = egress
        self._journal = journal
        self.table: Mapping[str, tuple[bool, Call]] = {
            "why": (False, self._why),
            "verify": (False, self._verify),
        }

    @takes("since")
    async def _verify(self, args: Args, peer: Peer) -> Any:
        """The books, for whoever reads the journal's files beside them. Refused while they cannot be read."""
        since = _time(args, "since")
        try:
            chains = (await self._runtime.ledger.verify_audit(), await self._egress.verify())
            found = await self._storage.read(
                LEDGER, lambda db: unchained(db, None if since is None else instant_text(since))
            )
        except LedgerError as error:
            raise Refusal("failed", str(error)) from None
        found.broken = [broken for broken in chains if broken is not None]
        return {"folder": str(self._storage.folder.resolve()), **found.document()}

    @takes("evse at")
    async def _why(self, args: Args, peer: Peer) -> Any:
        evse, at = self._evse(args), _time(args, "at")
        proof = await self._proof(at)
        if evse not in proof.grants:
            raise Refusal("unknown-evse", f"{evse} was not there then")
        told = why(proof, evse)
        document = _document(told)
        if told.bound_by in OPERATOR:
            document |= await self._storage.read(LEDGER, lambda db: _ordered(db, told))
        return document

    async def _proof(self, at: datetime | None) -> Proof:
        recent = self._journal.recent()
        if at is None:
            if not recent:
                raise Refusal("failed", "nothing has been decided yet")
            return recent[-1]
        if recent and at >= recent[0].at.utc:
            found: Proof | None = max(
                (proof for proof in recent if proof.at.utc <= at), key=lambda p: p.at.utc
            )
        else:
            found = await asyncio.to_thread(proof_at, self._journal.folder, at)
        if found is None or (at - found.at.utc).total_seconds() > LATE_S:
            raise Refusal("unknown-time", f"the journal holds nothing about {instant_text(at)}")
        return found

    def _evse(self, args: Args) -> EvseId:
        name, evses = EvseId(_text(args, "evse") or ""), self._runtime.depot.site.evses
        if name not in evses and EvseId(f"{name}/1") in evses and EvseId(f"{name}/2") not in evses:
            name = EvseId(f"{name}/1")
        if name not in evses:
            raise Refusal("unknown-evse", f"no EVSE {name!r}; `depot status` lists them")
        return name


def proof_at(folder: Path, at: datetime) -> Proof | None:
    """The last step at or before this moment, out of the files."""
    found = None
    for path in reversed(files(folder)):
        for block in blocks(path):
            if instant(block.first) <= at:
                found = block
        if found is not None:
            break
    if found is None:
        return None
    last = None
    for site, row in rows(found):
        if datetime.fromtimestamp(row["u"] / 1000, UTC) > at and last is not None:
            break
        last = proof_of(site, row)
    return last


def _document(told: Why) -> dict[str, Any]:
    return {
        "evse": told.evse,
        "time": instant_text(told.at),
        "grant_a": told.grant_ma / 1000,
        "bound_by": told.bound_by,
        "kind": told.kind,
        "set_by": told.set_by,
        "limit_a": _amps(told.limit_ma),
        "with_one_more_a": _amps(told.more_ma),
        "next_by": told.next_by,
        "gains": list(told.gains),
    }


def _amps(current_ma: int | None) -> float | None:
    return None if current_ma is None else current_ma / 1000


def _ordered(db: sqlite3.Connection, told: Why) -> dict[str, Any]:
    """Whose order it was, from the audit."""
    kinds = ("limit", "start") if told.bound_by == OPERATOR[0] else ("pause",)
    row = db.execute(
        f"SELECT by, at FROM audit WHERE subject = ? AND what IN ({', '.join('?' * len(kinds))}) AND at <= ?"
        " ORDER BY id DESC LIMIT 1",
        (told.evse, *kinds, instant_text(told.at)),
    ).fetchone()
    return {} if row is None else {"set_by": row[0], "set_at": row[1]}
