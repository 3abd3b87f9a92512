"""The hash that chains rows: a changed, removed or cut-off row shows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence


def chain_hash(previous: str, row: Sequence[object]) -> str:
    """Hex SHA-256 of the hash before ("" for the first row) and the canonical JSON of the row without its hash."""
    canonical = json.dumps(list(row), ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256((previous + canonical).encode()).hexdigest()
