"""The newest rows of the audit, as they stand in the file."""

from __future__ import annotations

import sqlite3
from typing import Any

from controller.ledger import _AUDIT_COLUMNS, Ledger
from controller.storage import LEDGER


async def audit_tail(ledger: Ledger, n: int) -> list[dict[str, Any]]:
    """Oldest first."""

    def work(db: sqlite3.Connection) -> list[dict[str, Any]]:
        rows = db.execute(f"SELECT {_AUDIT_COLUMNS} FROM audit ORDER BY id DESC LIMIT ?", (n,)).fetchall()
        return [dict(zip(_AUDIT_COLUMNS.split(", "), row, strict=True)) for row in reversed(rows)]

    return await ledger._storage.read(LEDGER, work)
