"""Alarms in depot.db: a file of the version before, and rows that come again."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlite_utils import Database

from controller import alarm_store, migrations
from controller.core.commands import AlarmSaved, Audited
from controller.core.events import AlarmRestored
from controller.ledger import Ledger
from controller.storage import LEDGER, Storage

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
RAISED = AlarmSaved("a2-1", "meter", "main", 1, "no answer", NOON, None, incident="i2-1")


async def kept(folder: Path, *entries: AlarmSaved | Audited) -> tuple[object, ...]:
    """What a restart is told once these are stored."""
    storage = Storage(folder)
    await storage.open()
    try:
        ledger = Ledger(storage)
        await ledger.append(entries)
        return (await ledger.restore()).alarms
    finally:
        await storage.close()


async def read(folder: Path, work: Callable[[sqlite3.Connection], object]) -> object:
    storage = Storage(folder)
    await storage.open()
    try:
        return await storage.read(LEDGER, work)
    finally:
        await storage.close()


async def test_what_the_version_before_left_open_is_over(tmp_path: Path) -> None:
    with Database(tmp_path / LEDGER) as db:
        migrations.ledger.apply(db, stop_before="alarm_lives")
        db["alarms"].insert(
            {"id": "a1-1", "kind": "meter", "source": "main", "priority": 1, "text": "?", "since": "2026", "cleared": None}
        )  # fmt: skip
        db.conn.commit()
    assert await kept(tmp_path) == ()


async def test_an_alarm_is_restored_until_it_is_over(tmp_path: Path) -> None:
    later = NOON + timedelta(minutes=5)
    assert await kept(tmp_path, RAISED, RAISED) == (
        AlarmRestored("a2-1", "meter", "main", 1, "no answer", NOON, True, None, "i2-1"),
    )
    returned = AlarmSaved("a2-1", "meter", "main", 1, "no answer", NOON, later, "anna", later, "i2-1")
    assert await kept(tmp_path, returned) == (
        AlarmRestored("a2-1", "meter", "main", 1, "no answer", NOON, False, "anna", "i2-1"),
    )
    over = AlarmSaved(
        "a2-1", "meter", "main", 1, "half a pair \udc80", NOON, later, "anna", later, "i2-1", True
    )
    assert await kept(tmp_path, over) == ()
    [row] = await read(tmp_path, lambda db: alarm_store.history(db, "meter", "main"))  # type: ignore[misc]
    assert (row["acked_by"], row["text"]) == ("anna", "half a pair ?")


async def test_what_people_did_about_a_source_is_found_in_the_audit(tmp_path: Path) -> None:
    await kept(
        tmp_path,
        Audited(NOON, "anna", "alarm-acked", "main", "meter a2-1: no answer"),
        Audited(NOON, "anna", "limit", "main", "10 A"),
        Audited(NOON, "bob", "alarm-acked", "other", ""),
    )
    acts = await read(tmp_path, lambda db: alarm_store.acts(db, "main", alarm_store.text_of(NOON)))
    assert acts == [{"at": "2026-11-22T12:00:00.000000Z", "by": "anna", "what": "alarm-acked", "detail": "meter a2-1: no answer"}]  # fmt: skip
