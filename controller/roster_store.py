"""What of the roster, of states of charge and of stays is kept in depot.db, and what is read from there for learning.

Owns the statements on the tables `roster`, `charges_told` and `stays`; `controller.ledger` calls the writers, in its own
transaction. Must not learn anything (`core.habits`).
"""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
from datetime import UTC, datetime, timedelta
from typing import Any

from controller.core.commands import RosterSaved, SocSaved, StaySaved
from controller.core.events import SocRestored
from controller.core.habits import REMEMBERED, Stay
from controller.core.model import EvseId
from controller.core.roster import RosterEntry
from controller.core.wire import from_plain, instant, to_plain
from controller.storage import LEDGER, Storage

log = logging.getLogger(__name__)

MOST_STAYS = 6000  # two months of 50 EVSEs, twice a day
# their times are not when the vehicle came or went
NOT_A_STAY = frozenset({"stop-missing", "orphan-stop", "stop-correlated"})


def store(db: sqlite3.Connection, entry: RosterSaved | SocSaved | StaySaved) -> None:
    match entry:
        case RosterSaved(entries):
            db.execute("DELETE FROM roster")
            documents = [(json.dumps(to_plain(each), separators=(",", ":")),) for each in entries]
            db.executemany("INSERT INTO roster (document) VALUES (?)", documents)
        case SocSaved(evse, session, soc, energy_wh):
            db.execute(
                "INSERT OR REPLACE INTO charges_told (evse, session, soc, energy_wh) VALUES (?, ?, ?, ?)",
                (evse, session, soc, energy_wh),
            )
        case StaySaved(session, phases, most_ma, announced, own_ma):
            db.execute(
                "INSERT OR REPLACE INTO stays (session, phases, most_ma, announced, own_ma) VALUES (?, ?, ?, ?, ?)",
                (session, phases, most_ma, None if announced is None else _text(announced), own_ma),
            )


def read_roster(db: sqlite3.Connection) -> tuple[RosterEntry, ...]:
    """One that cannot be read is left out, and said."""
    entries = []
    for (document,) in db.execute("SELECT document FROM roster ORDER BY id"):
        try:
            entries.append(from_plain(RosterEntry, json.loads(document)))
        except ValueError as error:
            log.error("an entry of the roster cannot be read and is left out: %s", error)
    return tuple(entries)


def read_charges(db: sqlite3.Connection) -> tuple[SocRestored, ...]:
    rows = db.execute("SELECT evse, session, soc, energy_wh FROM charges_told ORDER BY evse")
    return tuple(SocRestored(EvseId(evse), session, soc, energy_wh) for evse, session, soc, energy_wh in rows)


async def finished_stays(storage: Storage, now: datetime) -> list[Stay]:
    """The stays of the time that habits remember, newest first. Raises LedgerError."""
    since = _text(now - REMEMBERED - timedelta(days=1))

    def work(db: sqlite3.Connection) -> list[tuple[Any, ...]]:
        return db.execute(
            "SELECT s.vehicle, s.token, s.evse, s.started, s.ended, s.energy_wh, s.marks,"
            " t.phases, t.most_ma, t.announced, t.own_ma FROM sessions s LEFT JOIN stays t ON t.session = s.id"
            " WHERE s.started >= ? AND s.ended IS NOT NULL ORDER BY s.started DESC LIMIT ?",
            (since, MOST_STAYS),
        ).fetchall()

    return await asyncio.to_thread(_stays, await storage.read(LEDGER, work))


def _stays(rows: list[tuple[Any, ...]]) -> list[Stay]:
    found = []
    for vehicle, token, evse, started, ended, energy_wh, marks, phases, most_ma, announced, own_ma in rows:
        if NOT_A_STAY.isdisjoint(json.loads(marks)):
            found.append(
                Stay(
                    key=vehicle or token or evse,
                    evse=EvseId(evse),
                    arrived=instant(started),
                    left=instant(ended),
                    energy_wh=energy_wh,
                    phases=phases,
                    most_ma=most_ma,
                    announced=None if announced is None else instant(announced),
                    own_ma=own_ma,
                )
            )
    return found


def _text(at: datetime) -> str:
    """As the ledger writes times: text order is time order."""
    return at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
