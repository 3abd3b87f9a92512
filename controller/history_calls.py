"""The console's call about the last half hour of an EVSE: what it was set to and what it drew, out of telemetry.

For the picture on the EVSE screen, which would else begin empty with every dashboard. Only looks; what telemetry has not
written yet (half a minute) is missing, and a gap stays a gap. What telemetry left out because nothing changed is filled in.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import zip_longest
from typing import Any

from controller.calls import takes
from controller.channel_calls import Call
from controller.console import Args, Peer, Refusal, _text
from controller.core.model import EvseId
from controller.core.wire import instant_text
from controller.migrations import LedgerError
from controller.runtime import Runtime
from controller.storage import TELEMETRY, Storage
from controller.telemetry import MINUTE_S, SAMPLE_S

BACK = timedelta(minutes=30)
MOST = 400  # points: one in ten seconds, and room for a clock that was set


class HistoryCalls:
    """`table` is for `Console`: name -> (whether only operators may, the call)."""

    def __init__(self, runtime: Runtime, storage: Storage) -> None:
        self._runtime = runtime
        self._storage = storage
        self.table: Mapping[str, tuple[bool, Call]] = {"history": (False, self._history)}

    @takes("evse")
    async def _history(self, args: Args, peer: Peer) -> Any:
        """`points`, oldest first: time, commanded_a, and measured_a of the phase that carries most."""
        evse = EvseId(_text(args, "evse") or "")
        if evse not in self._runtime.depot.site.evses:
            raise Refusal("unknown-evse", f"no EVSE {evse!r}; `depot status` lists them")
        now = self._runtime.clock.now().utc
        try:
            points = await self._storage.read(TELEMETRY, lambda db: _points(db, evse, now))
        except LedgerError as error:
            raise Refusal("failed", str(error)) from None
        return {"evse": evse, "points": points}


def _points(db: sqlite3.Connection, evse: str, now: datetime) -> list[dict[str, Any]]:
    rows = db.execute(
        "SELECT at_s, commanded_ma, l1_ma, l2_ma, l3_ma FROM evse_samples"
        " WHERE at_s >= ? AND point = (SELECT id FROM points WHERE kind = 'evse' AND name = ?) ORDER BY at_s LIMIT ?",
        (int((now - BACK).timestamp()), evse, MOST),
    )
    return [_point(*row) for row in _held(rows.fetchall(), int(now.timestamp()))]


def _held(rows: Sequence[tuple[Any, ...]], now_s: int) -> Iterator[tuple[Any, ...]]:
    """A value holds until the next row of its minute."""
    for row, after in zip_longest(rows, rows[1:]):
        at_s, *values = row
        ends_s = min(at_s // MINUTE_S * MINUTE_S + MINUTE_S, now_s if after is None else after[0])
        for each_s in range(at_s, ends_s, SAMPLE_S):
            yield (each_s, *values)


def _point(at_s: int, commanded_ma: int | None, *phases_ma: int | None) -> dict[str, Any]:
    drawn = max((each for each in phases_ma if each is not None), key=abs, default=None)
    return {
        "time": instant_text(datetime.fromtimestamp(at_s, UTC)),
        "commanded_a": None if commanded_ma is None else commanded_ma / 1000,
        "measured_a": None if drawn is None else drawn / 1000,
    }
