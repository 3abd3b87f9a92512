"""telemetry.db: what the depot looked like, every ten seconds for seven days. The first thing to go when disk is short.

Owns every statement on telemetry.db. Takes snapshots, never touches the ledger, never makes anybody wait.
One wide integer row per EVSE, circuit and meter, clustered by time, no other index, one commit in 30 s: 34 bytes a row
and about 50 times fewer bytes on the disk than a commit per row (field notes 3.4, peers C6).
Unknown is NULL. Clocks that jump back overwrite the rows of that second.
"""

from __future__ import annotations

import logging
import sqlite3
from datetime import datetime, timedelta

from controller.core.model import PerPhase
from controller.core.snapshot import CircuitView, EvseView, MeterView, Snapshot
from controller.storage import TELEMETRY, Storage

log = logging.getLogger(__name__)

SAMPLE_S = 10
COMMIT_S = 30
KEEP = timedelta(days=7)
EXPIRE_ROWS = 2_000  # deleted with each commit at most: ten times what it brings at 50 chargers

_TABLES = {"evse": "evse_samples", "circuit": "circuit_samples", "meter": "meter_samples"}

Row = tuple[str | int | None, ...]  # without time and point


class Telemetry:
    """Picks rows from snapshots. `storage` must be open; whoever opened it closes it."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._rows: list[tuple[int, str, str, Row]] = []  # at_s, kind, name, values
        self._sampled: datetime | None = None
        self._committed: datetime | None = None
        self._shedding = False

    def observe(self, snapshot: Snapshot) -> None:
        """Takes the rows of this snapshot if the last ones are 10 s old (or the clock went back); returns at once."""
        if not _due(self._sampled, snapshot.time, SAMPLE_S):
            return
        self._sampled = snapshot.time
        if self._storage.behind != self._shedding:
            self._shedding = self._storage.behind
            log.warning(
                "telemetry: %s", "dropped while the ledger is behind" if self._shedding else "recorded again"
            )
        if self._shedding:
            return
        self._collect(snapshot)
        self._committed = self._committed or snapshot.time
        if _due(self._committed, snapshot.time, COMMIT_S):
            self.flush()
            self._committed = snapshot.time

    def flush(self) -> None:
        """Hands what was collected to the storage thread (before it closes, at least)."""
        rows, self._rows = self._rows, []
        if rows:
            self._storage.write(TELEMETRY, lambda db: _write(db, rows), size=len(rows))

    def _collect(self, snapshot: Snapshot) -> None:
        at_s = int(snapshot.time.timestamp())
        for evse in snapshot.evses:
            self._rows.append((at_s, "evse", evse.id, _evse_row(evse)))
        for circuit in snapshot.circuits:
            self._rows.append((at_s, "circuit", circuit.id, _circuit_row(circuit)))
        for meter in snapshot.meters:
            self._rows.append((at_s, "meter", meter.id, _meter_row(meter)))


def _due(last: datetime | None, now: datetime, every_s: float) -> bool:
    return last is None or not timedelta(0) <= now - last < timedelta(seconds=every_s)


def _evse_row(view: EvseView) -> Row:
    session = view.session
    return (
        *(
            view.state.value,
            view.grant_ma,
            view.commanded_ma,
            view.accepted_ma,
            *view.measured_ma,
            view.power_w,
        ),
        *(view.commitment_ma, *((None, None) if session is None else (session.energy_wh, session.soc))),
    )


def _circuit_row(view: CircuitView) -> Row:
    known: tuple[PerPhase[int | None], ...] = (view.measured_ma, view.background_ma)
    return (*known[0], *known[1], *view.committed_ma)


def _meter_row(view: MeterView) -> Row:
    return (*view.current_ma, view.power_w, view.import_wh)


# --- in the storage thread ----------------------------------------------------------------------------------------


def _write(db: sqlite3.Connection, rows: list[tuple[int, str, str, Row]]) -> None:
    points: dict[tuple[str, str], int] = {
        (kind, name): id for id, kind, name in db.execute("SELECT id, kind, name FROM points")
    }
    for at_s, kind, name, values in rows:
        if (kind, name) not in points:
            added = db.execute("INSERT INTO points (kind, name) VALUES (?, ?)", (kind, name))
            assert added.lastrowid is not None
            points[kind, name] = added.lastrowid
        places = ", ".join("?" * (len(values) + 2))
        db.execute(
            f"INSERT OR REPLACE INTO {_TABLES[kind]} VALUES ({places})", (at_s, points[kind, name], *values)
        )
    oldest_s = rows[-1][0] - int(KEEP.total_seconds())
    for table in _TABLES.values():
        db.execute(
            f"DELETE FROM {table} WHERE (at_s, point) IN"
            f" (SELECT at_s, point FROM {table} WHERE at_s < ? ORDER BY at_s LIMIT ?)",
            (oldest_s, EXPIRE_ROWS),
        )
