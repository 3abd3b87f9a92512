"""telemetry.db: what the depot looked like. The first thing to go when disk is short.

Owns every statement on its sample tables. Takes snapshots, never touches the ledger, never makes anybody wait.
Three tiers: every ten seconds for 7 days, means of the minute for 90 days, means of the quarter hour for ever. One wide
integer row per EVSE, circuit and meter, clustered by time, no other index, one commit a minute: some 40 bytes a row and
many times fewer bytes on the disk than a commit per row (field notes 3.4, peers C6). Means are made and old rows go once
a quarter hour, so that pages are written once and freed whole.
A row that says the same as the one before it is left out, but each minute (in the means of minutes: each quarter hour)
begins with one: a value holds until the next row of its minute, or quarter hour.
Unknown is NULL. Clocks that jump back overwrite the rows of that second, minute and quarter hour.
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
MINUTE_S, QUARTER_S = 60, 900
KEEP = {"samples": timedelta(days=7), "minutes": timedelta(days=90)}
EXPIRE_ROWS = 20_000  # of a table each quarter hour at most: four times what that brings at 50 chargers

KINDS = ("evse", "circuit", "meter")

Row = tuple[str | int | None, ...]  # without time and point


class Telemetry:
    """Picks rows from snapshots. `storage` must be open; whoever opened it closes it."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._rows: list[tuple[int, str, str, Row]] = []  # at_s, kind, name, values
        self._said: dict[tuple[str, str], Row] = {}  # in this minute, newest
        self._sampled: datetime | None = None
        self._shedding = False

    def observe(self, snapshot: Snapshot) -> None:
        """Takes the rows of this snapshot if the last ones are 10 s old (or the clock went back); returns at once."""
        if not _due(self._sampled, snapshot.time, SAMPLE_S):
            return
        before, self._sampled = self._sampled, snapshot.time
        if self._storage.behind != self._shedding:
            self._shedding = self._storage.behind
            log.warning(
                "telemetry: %s", "dropped while the ledger is behind" if self._shedding else "recorded again"
            )
        at_s = int(snapshot.time.timestamp())
        minute_goes_on = (
            before is not None
            and before <= snapshot.time
            and before.timestamp() // MINUTE_S == at_s // MINUTE_S
        )
        if self._shedding or not minute_goes_on:
            self._said.clear()
        if self._shedding:
            return
        if self._rows and self._rows[0][0] // MINUTE_S != at_s // MINUTE_S:
            self.flush()
        self._collect(snapshot, at_s)

    def flush(self) -> None:
        """Hands what was collected to the storage thread (before it closes, at least)."""
        rows, self._rows = self._rows, []
        if rows:
            self._storage.write(TELEMETRY, lambda db: _write(db, rows), size=len(rows))

    def _collect(self, snapshot: Snapshot, at_s: int) -> None:
        for evse in snapshot.evses:
            self._take(at_s, "evse", evse.id, _evse_row(evse))
        for circuit in snapshot.circuits:
            self._take(at_s, "circuit", circuit.id, _circuit_row(circuit))
        for meter in snapshot.meters:
            self._take(at_s, "meter", meter.id, _meter_row(meter))

    def _take(self, at_s: int, kind: str, name: str, row: Row) -> None:
        if self._said.get((kind, name)) != row:
            self._said[kind, name] = row
            self._rows.append((at_s, kind, name, row))


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
    """The rows of one minute, in the order of time."""
    points = _points(db, {(kind, name) for _, kind, name, _ in rows} | _states(rows))
    before = db.execute("SELECT max(at_s) FROM evse_samples WHERE at_s < ?", (rows[0][0],)).fetchone()[0]
    for kind in KINDS:
        found = [(at_s, points[kind, name], *values) for at_s, of, name, values in rows if of == kind]
        if found:
            places = ", ".join("?" * len(found[0]))
            db.executemany(f"INSERT OR REPLACE INTO {kind}_samples VALUES ({places})", found)
    now_s = rows[0][0]
    if (
        before is not None
        and (quarter_s := before // QUARTER_S * QUARTER_S) != now_s // QUARTER_S * QUARTER_S
    ):
        for kind in KINDS:
            _close(db, kind, quarter_s)
            for tier, keep in KEEP.items():
                _expire(db, f"{kind}_{tier}", now_s // MINUTE_S * MINUTE_S - int(keep.total_seconds()))


def _states(rows: list[tuple[int, str, str, Row]]) -> set[tuple[str, str]]:
    return {("state", str(values[0])) for _, kind, _, values in rows if kind == "evse"}


def _points(db: sqlite3.Connection, wanted: set[tuple[str, str]]) -> dict[tuple[str, str], int]:
    known = {(kind, name): id for id, kind, name in db.execute("SELECT id, kind, name FROM points")}
    for kind, name in sorted(wanted - known.keys()):
        added = db.execute("INSERT INTO points (kind, name) VALUES (?, ?)", (kind, name))
        assert added.lastrowid is not None
        known[kind, name] = added.lastrowid
    return known


def _mean(*columns: str) -> str:
    """Each value counts for the time it held."""
    return ", ".join(
        f"CAST(round(sum({column} * held_s) * 1.0 / sum(iif({column} IS NULL, NULL, held_s))) AS INTEGER)"
        for column in columns
    )


# SQLite takes plain columns from the row that the only max() found: the newest
_SUMMARY = {
    "evse": "(SELECT id FROM points WHERE kind = 'state' AND name = state), grant_ma, "
    + _mean("l1_ma", "l2_ma", "l3_ma", "power_w")
    + ", energy_wh, soc, max(at_s)",
    "circuit": _mean("l1_ma", "l2_ma", "l3_ma", "background_l1_ma", "background_l2_ma", "background_l3_ma")
    + ", nullif(max(max(ifnull(l1_ma, -1), ifnull(l2_ma, -1), ifnull(l3_ma, -1))), -1)"
    ", max(max(committed_l1_ma, committed_l2_ma, committed_l3_ma)), 0",
    "meter": _mean("l1_ma", "l2_ma", "l3_ma", "power_w") + ", import_wh, max(at_s)",
}


def _means(db: sqlite3.Connection, kind: str, start_s: int, span_s: int) -> list[tuple[int, ...]]:
    """Of each `span_s` of this quarter hour: when it begins, then by point its values."""
    query = (
        f"WITH held AS (SELECT *, min(lead(at_s, 1, at_s + {MINUTE_S}) OVER (PARTITION BY point ORDER BY at_s),"
        f" (at_s / {MINUTE_S} + 1) * {MINUTE_S}) - at_s AS held_s"
        f" FROM {kind}_samples WHERE at_s >= ? AND at_s < ?)"
        f" SELECT at_s / {span_s} * {span_s} AS start_s, point, {_SUMMARY[kind]} FROM held"
        " GROUP BY start_s, point ORDER BY start_s, point"
    )
    return [row[:-1] for row in db.execute(query, (start_s, start_s + QUARTER_S))]


def _close(db: sqlite3.Connection, kind: str, quarter_s: int) -> None:
    """The means of a quarter hour that is over, and of its minutes those that say something new."""
    _replace(db, f"{kind}_quarters", quarter_s, _means(db, kind, quarter_s, QUARTER_S))
    said: dict[int, tuple[int, ...]] = {}
    news = []
    for row in _means(db, kind, quarter_s, MINUTE_S):
        if said.get(row[1]) != row[1:]:
            said[row[1]] = row[1:]
            news.append(row)
    _replace(db, f"{kind}_minutes", quarter_s, news)


def _replace(db: sqlite3.Connection, table: str, quarter_s: int, rows: list[tuple[int, ...]]) -> None:
    db.execute(f"DELETE FROM {table} WHERE at_s >= ? AND at_s < ?", (quarter_s, quarter_s + QUARTER_S))
    if rows:
        places = ", ".join("?" * len(rows[0]))
        db.executemany(f"INSERT INTO {table} VALUES ({places})", rows)


def _expire(db: sqlite3.Connection, table: str, oldest_s: int) -> None:
    db.execute(
        f"DELETE FROM {table} WHERE (at_s, point) IN"
        f" (SELECT at_s, point FROM {table} WHERE at_s < ? ORDER BY at_s LIMIT ?)",
        (oldest_s, EXPIRE_ROWS),
    )
