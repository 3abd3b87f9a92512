"""A day of the simulated month (tests/bench/month*.py): the books after kills, against the truth of the yard."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from tests.bench.month_judge import judged, verified
from tests.bench.month_run import Month

DAYS, KILLS, STEP_S = 1.0, 3, 60.0


def test_the_books_of_a_day_with_kills_are_those_of_the_chargers(tmp_path: Path) -> None:
    month = Month(tmp_path, DAYS, KILLS, STEP_S, seed=10)
    for _ in month.run():
        pass
    assert month.killed == KILLS
    verdict, evidence = judged(month), verified(month)
    assert verdict.broken == [], (tmp_path / "depot.log").read_text()
    assert evidence["broken"] == evidence["breaches"] == evidence["energy"] == []
    ended = [truth for truth in month.yard.sessions if truth.end_told]
    assert len(ended) > 8 and verdict.true_wh > 20_000
    assert month.acknowledged.tokens and month.acknowledged.schedules
    _tamper(tmp_path / "state" / "depot.db")  # the judge sees what it should
    assert len(judged(month).broken) >= 4


def _tamper(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        first, second = (id for (id,) in db.execute("SELECT id FROM sessions WHERE ended NOT NULL LIMIT 2"))
        db.execute("DELETE FROM sessions WHERE id = ?", (first,))
        db.execute("UPDATE sessions SET energy_wh = energy_wh + 3, ended = NULL WHERE id = ?", (second,))
        db.execute("DELETE FROM tokens WHERE document LIKE '%GUEST%'")
        db.execute("DELETE FROM schedules")
