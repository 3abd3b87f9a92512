"""The console's call behind `depot export`: whose books these are, and how far their changes go.

Owns one read of depot.db; the sessions themselves come from `controller.session_calls`. Must not change anything and knows no
database but ours.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any

from controller.calls import takes
from controller.channel_calls import Call
from controller.console import Args, Peer, Refusal
from controller.migrations import LedgerError
from controller.runtime import Runtime
from controller.storage import LEDGER, Storage


class ExportCalls:
    """`table` is for `Console`."""

    def __init__(self, runtime: Runtime, storage: Storage) -> None:
        self._runtime = runtime
        self._storage = storage
        self.table: Mapping[str, tuple[bool, Call]] = {"books": (False, self._books)}

    @takes()
    async def _books(self, args: Args, peer: Peer) -> Any:
        """`books` names them for ever, also on another box and after a restore; `revision` is that of the newest change of a
        session."""
        try:
            number, revision = await self._storage.read(LEDGER, _read)
        except LedgerError as error:
            raise Refusal("failed", str(error)) from None
        site = self._runtime.depot.site
        return {
            "books": f"{number:016x}",
            "depot": site.name,
            "timezone": site.timezone,
            "revision": revision,
        }


def _read(db: sqlite3.Connection) -> tuple[int, int]:
    (number,) = db.execute("SELECT value FROM meta WHERE name = 'books'").fetchone()
    (revision,) = db.execute("SELECT ifnull(max(revision), 0) FROM sessions").fetchone()
    return number, revision
