"""The care of the books beside a running controller: `backup` for the console, trouble for the alarms, and the end when
a disk that was away is back.

Owns no file; asks the storage and the backups. Must not decide anything about charging.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from controller.backup import Backups
from controller.calls import takes
from controller.channel_calls import Call
from controller.console import Args, Peer, Refusal
from controller.core.commands import Audited
from controller.core.events import BooksChanged
from controller.core.model import Moment, Site
from controller.ledger import Restored
from controller.migrations import LedgerError
from controller.runtime import Runtime
from controller.storage import LEDGER, Storage

LOOK_S = 2.0
BALLAST_BYTES = 16_000_000
MENDED = "mended"
SLOW = "the disk takes seconds for a write: starts and ends of sessions are answered late"
_BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


class BooksCalls:
    """`table` is for `Console`; `run` and `backups.run` belong beside the runtime."""

    def __init__(self, runtime: Runtime, storage: Storage) -> None:
        self._runtime = runtime
        self._storage = storage
        self.backups = Backups(storage, runtime.clock)
        self.table: Mapping[str, tuple[bool, Call]] = {"backup": (True, self._backup)}

    async def run(self) -> None:
        """Raises LedgerError once books that were away could be read: only a new start does."""
        told: dict[str, str] = {}
        while True:
            slow = SLOW if self._storage.slow else ""
            said = {LEDGER: self._storage.trouble or slow, MENDED: "; ".join(self._storage.mended)}
            for source, text in said.items():
                if text != told.get(source, ""):
                    await self._runtime.report(BooksChanged(source, text))
            told = said
            if self._storage.returned:
                raise LedgerError(f"{self._storage.folder / LEDGER}: there again; start anew to read it")
            await self._runtime.clock.sleep(LOOK_S)

    @takes()
    async def _backup(self, args: Args, peer: Peer) -> Any:
        """One more of those that are kept; who may read it may copy it away."""
        now = self._runtime.clock.now().utc
        try:
            path, size = await self.backups.keep(now)
        except LedgerError as error:
            raise Refusal("failed", str(error)) from None
        await self._runtime.ledger.append((Audited(now, peer.name, "backup", LEDGER, path.name),))
        return {"file": str(path), "bytes": size}


def blind(site: Site, now: Moment) -> Restored:
    """What a start knows without books: every EVSE may have been allowed all it can. The number of the start is the minute,
    far above any count."""
    boot = max(1, int((now.utc - _BEGAN).total_seconds() // 60))
    ceilings = {evse.id: evse.max_ma for evse in site.evses.values()}
    return replace(EMPTY, boot=boot, ceilings=ceilings)


EMPTY = Restored(0, {}, {}, (), (), (), ())
