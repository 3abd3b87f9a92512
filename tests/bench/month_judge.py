"""The books of a simulated month that is over, held against the truth: sessions, energy, what operators were told, evidence.

Owns what must not be. Reads the files of a controller that has ended, and asks `depot verify`; changes nothing.
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any

from controller.core.wire import instant
from tests.bench.month_run import Month
from tests.bench.month_yard import Truth

ENERGY_WH = 1.0  # a session's energy may differ by this from what flowed: registers count whole Wh


@dataclass(slots=True)
class Verdict:
    """broken: what must not be. worst_wh, sum_wh: how far sessions' energy is from what flowed."""

    broken: list[str] = field(default_factory=list)
    sessions: int = 0
    worst_wh: float = 0.0
    sum_wh: float = 0.0
    true_wh: float = 0.0


def judged(month: Month) -> Verdict:
    """Of a month that is over."""
    verdict = Verdict()
    with closing(sqlite3.connect(month.folder / "state" / "depot.db")) as db:
        rows = db.execute(
            "SELECT evse, started, ended, transaction_id, token, energy_wh FROM sessions ORDER BY evse, started"
        ).fetchall()
        _sessions(verdict, month, rows)
        _overlaps(verdict, rows)
        _operators(verdict, month, db)
    return verdict


def _sessions(verdict: Verdict, month: Month, rows: Sequence[tuple[Any, ...]]) -> None:
    booked: dict[tuple[str, datetime], list[tuple[Any, ...]]] = {}
    for row in rows:
        booked.setdefault((row[0], instant(row[1])), []).append(row)
    for truth in month.yard.sessions:
        found = booked.pop((truth.evse, truth.started), [])
        what = f"{truth.evse} {truth.started:%m-%d %H:%M} ({truth.token}, transaction {truth.number})"
        if len(found) != int(bool(found) or truth.start_told):
            verdict.broken.append(f"{what}: booked {len(found)} times")
        for _, _, ended, number, token, energy_wh in found:
            if truth.start_told and (number, token) != (truth.number, truth.token):
                verdict.broken.append(f"{what}: booked as {number} of {token}")
            if truth.end_told:
                _energy(verdict, truth, what, ended, energy_wh)
    verdict.broken += [f"{evse} {at}: nobody charged there" for evse, at in booked]
    verdict.sessions = len(month.yard.sessions)


def _energy(verdict: Verdict, truth: Truth, what: str, ended: str | None, energy_wh: int) -> None:
    true_wh = truth.end_wh - truth.start_wh
    apart_wh = energy_wh - true_wh
    verdict.worst_wh = max(verdict.worst_wh, abs(apart_wh))
    verdict.sum_wh += apart_wh
    verdict.true_wh += true_wh
    if abs(apart_wh) > ENERGY_WH:
        verdict.broken.append(f"{what}: {energy_wh} Wh booked, {true_wh:.1f} flowed")
    if ended is None or instant(ended) != truth.ended:
        verdict.broken.append(f"{what}: ended {truth.ended}, booked {ended}")


def _overlaps(verdict: Verdict, rows: Sequence[tuple[Any, ...]]) -> None:
    for one, other in pairwise(rows):
        if one[0] == other[0] and (one[2] is None or one[2] > other[1]):
            verdict.broken.append(f"{one[0]}: a session until {one[2]}, the next from {other[1]}")


def _operators(verdict: Verdict, month: Month, db: sqlite3.Connection) -> None:
    told = month.acknowledged
    notes = {
        json.loads(text)["id"]: json.loads(text).get("note")
        for (text,) in db.execute("SELECT document FROM tokens")
    }
    for token, noted in told.tokens.items():
        if notes.get(token) not in noted:
            verdict.broken.append(f"token {token}: told {noted}, kept {notes.get(token)!r}")
    kept = set(db.execute("SELECT evse, id FROM schedules"))
    if kept != set(told.schedules.items()):
        verdict.broken.append(f"schedules: {sorted(kept ^ set(told.schedules.items()))}")
    for what, least in told.rows.items():
        count = db.execute("SELECT count(*) FROM audit WHERE what = ?", (what,)).fetchone()[0]
        if count < least:
            verdict.broken.append(f"audit: {count} rows {what}, {least} were acknowledged")


def verified(month: Month) -> dict[str, Any]:
    """What `depot verify` says."""
    words = [sys.executable, "-m", "controller", "verify", "--storage", str(month.folder / "state"), "--json"]
    answer = subprocess.run(words, capture_output=True, check=False)
    if answer.returncode not in (0, 1):
        raise RuntimeError(answer.stderr.decode())
    found: dict[str, Any] = json.loads(answer.stdout)
    return found
