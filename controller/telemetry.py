"""telemetry.db: what the depot looked like. The first thing to go when disk is short.

Owns every statement on its sample tables. Takes snapshots, never touches the ledger, never makes anybody wait.
Three tiers: every ten seconds for 7 days, means of the minute for 90 days, means of the quarter hour for ever. One wide
integer row per EVSE, circuit and meter, clustered by time, no other index, one commit a minute: some 40 bytes a row and
many times fewer bytes on the disk than a commit per row (field notes 3.4, peers C6). Old rows go once a quarter hour, so
that pages are freed whole. In the minutes a row that says the same as the one before it is left out, but each quarter
hour begins with one: a value holds until the next row of its quarter hour.
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
        self._sampled: datetime | None = None
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
        at_s = int(snapshot.time.timestamp())
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
    """The rows of one minute, in the order of time."""
    points = _points(db, {(kind, name) for _, kind, name, _ in rows} | _states(rows))
    before = db.execute("SELECT max(at_s) FROM evse_samples WHERE at_s < ?", (rows[0][0],)).fetchone()[0]
    for kind in KINDS:
        found = [(at_s, points[kind, name], *values) for at_s, of, name, values in rows if of == kind]
        if found:
            places = ", ".join("?" * len(found[0]))
            db.executemany(f"INSERT OR REPLACE INTO {kind}_samples VALUES ({places})", found)
    minute_s = rows[0][0] // MINUTE_S * MINUTE_S
    for kind in KINDS:
        _minute(db, kind, minute_s)
    if (
        before is not None
        and (quarter_s := before // QUARTER_S * QUARTER_S) != minute_s // QUARTER_S * QUARTER_S
    ):
        for kind in KINDS:
            _replace(db, f"{kind}_quarters", quarter_s, _means(db, kind, quarter_s, QUARTER_S))
            for tier, keep in KEEP.items():
                _expire(db, f"{kind}_{tier}", minute_s - int(keep.total_seconds()))


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
    return ", ".join(f"CAST(round(avg({column})) AS INTEGER)" for column in columns)


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


def _means(db: sqlite3.Connection, kind: str, start_s: int, span_s: int) -> list[tuple[int | None, ...]]:
    """By point, then its values."""
    query = f"SELECT point, {_SUMMARY[kind]} FROM {kind}_samples WHERE at_s >= ? AND at_s < ? GROUP BY point"
    return [row[:-1] for row in db.execute(query, (start_s, start_s + span_s))]


def _minute(db: sqlite3.Connection, kind: str, start_s: int) -> None:
    """What this minute says that the ones before it in its quarter hour did not."""
    said = {
        row[1]: row[1:]
        for row in db.execute(
            f"SELECT * FROM {kind}_minutes WHERE at_s >= ? AND at_s < ? ORDER BY at_s",
            (start_s // QUARTER_S * QUARTER_S, start_s),
        )
    }
    news = [row for row in _means(db, kind, start_s, MINUTE_S) if said.get(row[0]) != row]
    _replace(db, f"{kind}_minutes", start_s, news)


def _replace(db: sqlite3.Connection, table: str, at_s: int, rows: list[tuple[int | None, ...]]) -> None:
    db.execute(f"DELETE FROM {table} WHERE at_s = ?", (at_s,))
    if rows:
        places = ", ".join("?" * len(rows[0]))
        db.executemany(f"INSERT INTO {table} VALUES ({at_s}, {places})", rows)


def _expire(db: sqlite3.Connection, table: str, oldest_s: int) -> None:
    db.execute(
        f"DELETE FROM {table} WHERE (at_s, point) IN"
        f" (SELECT at_s, point FROM {table} WHERE at_s < ? ORDER BY at_s LIMIT ?)",
        (oldest_s, EXPIRE_ROWS),
    )
