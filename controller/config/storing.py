"""[storage]: where the records lie, and how long the books keep what is over.

Owns the shortest times: a report of a whole year must add up, an alarm must have been read, and the audit must reach back
beyond the journal it vouches for.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from controller.config.files import path_below
from controller.config.table import Table
from controller.config.types import Keep
from controller.config.values import Wrong, shown, text
from controller.core.units import parse_duration_s

DEFAULT_STORAGE = Path("/var/lib/depot")
KEYS = "path keep_sessions keep_tokens keep_alarms keep_audit"
DAY_S = 86_400.0
LONGEST_D = 7_305


def read_storage(root: Table, base: Path) -> tuple[Path, Keep]:
    table = root.table("storage", KEYS)
    if table is None:
        return DEFAULT_STORAGE, Keep()
    keep = Keep(
        sessions_s=table.optional("keep_sessions", _at_least(400), None),
        tokens_s=table.optional("keep_tokens", _at_least(1), None),
        alarms_s=table.optional("keep_alarms", _at_least(30), None),
        audit_s=table.optional("keep_audit", _at_least(90), None),
    )
    return table.optional("path", path_below(base), DEFAULT_STORAGE), keep


def _at_least(shortest_d: int) -> Callable[[object], float]:
    def read(value: object) -> float:
        try:
            seconds = parse_duration_s(text(value))
        except ValueError:
            raise Wrong(f"{shown(value)} is not a duration", f'write it like "{2 * shortest_d} d"') from None
        if not shortest_d * DAY_S <= seconds <= LONGEST_D * DAY_S:
            wrong = f"{shown(value)} is not between {shortest_d} d and {LONGEST_D} d"
            raise Wrong(wrong, f'write "{shortest_d} d" or more; leave it out to keep all')
        return seconds

    return read
