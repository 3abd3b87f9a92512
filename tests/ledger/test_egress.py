"""The egress book: every request is there, in order, masked; nothing can be altered; a bad disk loses nothing silently."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlite_utils import Database

from controller import audit
from controller.audit import EgressBook, dotted
from controller.chain import chain_hash
from controller.core.model import Moment
from controller.storage import LEDGER, Storage

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
CLOUD, HOST = "open-platform/cloud", "platform.example"
DEADLINE_S = 10.0


@dataclass
class HandClock:
    at_s: float = 0.0

    def now(self) -> Moment:
        return Moment(self.at_s, NOON + timedelta(seconds=self.at_s))

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("the book does not sleep")


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
async def book(storage: Storage, clock: HandClock) -> AsyncIterator[EgressBook]:
    made = EgressBook(storage, clock)
    made.open()
    yield made
    made.close()


def start(book: EgressBook, **fields: Any) -> int:
    path = "/v1/operator/devices/dvc_1/connectors/1/start"
    return book.sent(CLOUD, HOST, "start", "POST", path, fields)


async def listed(book: EgressBook, **more: Any) -> list[dict[str, Any]]:
    rows, more_follow = await book.rows(**more)
    assert not more_follow
    return rows


async def change(storage: Storage, statement: str) -> None:
    await storage.write(LEDGER, lambda db: db.execute(statement))


async def test_a_request_is_listed_as_the_interface_says(book: EgressBook) -> None:
    ref = start(book, charge_power=7.0, client_secret="s3cret")
    book.answered(ref, 200, 71)
    (row,) = await listed(book)
    stored_hash = row.pop("hash")
    assert row == {
        "time": "2026-11-22T12:00:00.000000Z",
        "channel": CLOUD,
        "host": HOST,
        "operation": "start",
        "method": "POST",
        "path": "/v1/operator/devices/dvc_1/connectors/1/start",
        "fields": {"charge_power": 7.0, "client_secret": "***"},
        "bytes": 71,
        "status": 200,
        "id": 1,
    }
    assert len(stored_hash) == 64


def test_nested_fields_get_dotted_names_and_secrets_are_masked() -> None:
    body = {
        "schedule_id": "lease",
        "time_slots": [{"start": "22:00", "day_of_week": ["mon", "tue"]}],
        "params": {"duration": 60, "deep": {"Token": "t-1"}},
        "target_ids": [],
        "target_soc": None,
        "access_token": {"value": "t-2"},
    }
    assert dict(dotted(body)) == {
        "schedule_id": "lease",
        "time_slots.0.start": "22:00",
        "time_slots.0.day_of_week.0": "mon",
        "time_slots.0.day_of_week.1": "tue",
        "params.duration": 60,
        "params.deep.Token": "***",
        "target_ids": [],
        "target_soc": None,
        "access_token": "***",
    }


async def test_no_secret_reaches_the_disk(tmp_path: Path, clock: HandClock) -> None:
    storage = Storage(tmp_path)
    await storage.open()
    book = EgressBook(storage, clock)
    start(book, client_secret="s3cret-canary", charge_power="visible-canary")
    await listed(book)
    book.close()
    await storage.close()
    written = (tmp_path / LEDGER).read_bytes()
    assert b"visible-canary" in written
    assert b"s3cret-canary" not in written


async def test_a_request_under_way_is_listed_without_an_end(book: EgressBook, clock: HandClock) -> None:
    slow = start(book, charge_power=7.0)
    clock.at_s = 1
    book.answered(start(book, charge_power=8.0), 200, 20)
    first, second = sorted(await listed(book), key=lambda row: row["time"])
    assert (first["fields"], first["status"], first["hash"]) == ({"charge_power": 7.0}, None, None)
    assert (second["fields"], second["status"]) == ({"charge_power": 8.0}, 200)
    book.answered(slow, 429, 20)
    rows = await listed(book)
    assert [(row["fields"]["charge_power"], row["status"], row["id"]) for row in rows] == [
        (7.0, 429, 2),
        (8.0, 200, 1),
    ]
    assert await book.verify() is None


async def test_a_request_that_is_never_answered_gets_its_row(book: EgressBook, clock: HandClock) -> None:
    ref = start(book)
    clock.at_s = audit.GIVE_UP_S + 1
    (row,) = await listed(book)
    assert row["status"] is None
    assert row["hash"]
    book.answered(ref, 200, 0)
    assert await listed(book) == [row], "a late answer changes nothing"


async def test_since_and_pages(book: EgressBook, clock: HandClock) -> None:
    for second in range(5):
        clock.at_s = second
        book.answered(start(book, n=second), 200, 7)
    late = await listed(book, since=NOON + timedelta(seconds=3))
    assert [row["fields"]["n"] for row in late] == [3, 4]
    page, more = await book.rows(limit=3)
    assert ([row["fields"]["n"] for row in page], more) == ([0, 1, 2], True)
    page, more = await book.rows(skip=3, limit=3)
    assert ([row["fields"]["n"] for row in page], more) == ([3, 4], False)


async def test_the_listing_alone_proves_the_chain(book: EgressBook, clock: HandClock) -> None:
    for second in range(4):
        clock.at_s = second
        book.answered(start(book, n=second, name="früh"), 200, 7)
    before = ""
    for row in await listed(book):
        fields = json.dumps(row["fields"], ensure_ascii=False, separators=(",", ":"), sort_keys=True)
        names = ("id", "time", "channel", "host", "operation", "method", "path")
        before = chain_hash(before, [*(row[name] for name in names), fields, row["bytes"], row["status"]])
        assert row["hash"] == before


@pytest.mark.parametrize(
    ("statement", "complaint"),
    [
        (
            "UPDATE egress SET fields = '{}' WHERE id = 2",
            "egress row 2 (2026-11-22T12:00:01.000000Z) was changed",
        ),
        ("UPDATE egress SET status = 500 WHERE id = 3", "egress row 3 "),
        ("UPDATE egress SET at = '2026-11-22T11:00:00.000000Z' WHERE id = 1", "egress row 1 "),
        ("DELETE FROM egress WHERE id = 2", "egress rows 2 to 2 are missing"),
        ("DELETE FROM egress WHERE id >= 3", "egress rows 3 to 4 are missing"),
        ("DELETE FROM egress", "egress rows 1 to 4 are missing"),
    ],
)
async def test_a_touched_book_shows(
    book: EgressBook, storage: Storage, clock: HandClock, statement: str, complaint: str
) -> None:
    for second in range(4):
        clock.at_s = second
        book.answered(start(book, n=second), 200, 7)
    assert await book.verify() is None
    await change(storage, statement)
    assert complaint in (await book.verify() or "")


async def test_an_old_history_is_shortened_and_still_holds(
    book: EgressBook, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "SHORTEN_ROWS", 10)
    monkeypatch.setattr(audit, "VERIFY_ROWS", 7)
    day_s = 86_400.0
    for day in range(audit.KEEP_DAYS + 50):
        clock.at_s = day * day_s
        book.answered(start(book, day=day), 200, 7)
    rows = await listed(book)
    kept = [row["fields"]["day"] for row in rows]
    assert kept == list(range(kept[0], audit.KEEP_DAYS + 50))
    assert 40 <= kept[0] <= 50
    assert await book.verify() is None


async def test_a_wrong_clock_does_not_wipe_the_book(
    book: EgressBook, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "SHORTEN_ROWS", 10)
    for number in range(100):
        clock.at_s = number
        book.answered(start(book, n=number), 200, 7)
    await listed(book)
    clock.at_s = 86_400.0 * 10_000
    for number in range(10):
        book.answered(start(book, n=number), 200, 7)
    assert len(await listed(book)) >= 90
    assert await book.verify() is None


async def test_what_a_dead_process_had_under_way_is_chained(tmp_path: Path) -> None:
    """Killed between a request and its answer, right after the disk has it."""
    script = f"""
import asyncio, os, signal
from pathlib import Path
from controller.audit import EgressBook
from controller.clock import SystemClock
from controller.storage import LEDGER, Storage
async def main():
    storage = Storage(Path({str(tmp_path)!r}))
    await storage.open()
    book = EgressBook(storage, SystemClock())
    book.open()
    book.answered(book.sent("c", "h", "device", "GET", "/v1/a", {{}}), 200, 0)
    book.sent("c", "h", "start", "POST", "/v1/b", {{"charge_power": 7.0}})
    await storage.write(LEDGER, lambda db: None)
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", script, cwd=os.getcwd())
    assert await process.wait() == -signal.SIGKILL
    storage = Storage(tmp_path)
    await storage.open()
    book = EgressBook(storage, HandClock())
    book.open()
    rows = await listed(book)
    assert [(row["path"], row["fields"]) for row in rows] == [("/v1/a", {}), ("/v1/b", {"charge_power": 7.0})]
    assert all(row["hash"] for row in rows)
    assert [row["status"] for row in rows] == [None, None], "an answer may wait a minute for company"
    book.answered(start(book), 200, 7)
    assert len(await listed(book)) == 3
    assert await book.verify() is None
    book.close()
    await storage.close()


async def test_an_orderly_end_chains_everything(tmp_path: Path, clock: HandClock) -> None:
    storage = Storage(tmp_path)
    await storage.open()
    book = EgressBook(storage, clock)
    book.answered(start(book, n=1), 200, 7)
    start(book, n=2)
    book.close()
    await storage.close()
    db = Database(tmp_path / LEDGER)
    assert [(row["id"], row["status"]) for row in db["egress"].rows] == [(1, 200), (2, None)]
    assert db["egress_open"].count == 0
    db.close()


class Stuck:
    """The storage thread hangs until told otherwise, so that entries pile up."""

    def __init__(self, storage: Storage) -> None:
        self._gate = threading.Event()
        reached = threading.Event()
        storage.read(LEDGER, lambda _: (reached.set(), self._gate.wait(DEADLINE_S)))
        assert reached.wait(DEADLINE_S)

    def free(self) -> None:
        self._gate.set()


@pytest.fixture
def stick(storage: Storage) -> Callable[[], Stuck]:
    return lambda: Stuck(storage)


async def test_while_the_disk_hangs_sessions_keep_their_room(
    book: EgressBook, storage: Storage, stick: Callable[[], Stuck], monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.capacity = 100
    monkeypatch.setattr(audit, "CAPACITY", 30)
    monkeypatch.setattr(audit, "FLUSH_ROWS", 1)
    stuck = stick()
    for number in range(200):
        book.answered(start(book, n=number), 200, 7)
    assert storage.behind
    assert not storage.full, "the queue of the ledger belongs to the sessions"
    stuck.free()
    async with asyncio.timeout(DEADLINE_S):
        while storage.behind:
            await storage.read(LEDGER, lambda _: None)
    rows = await listed(book)
    gaps = [row["fields"]["requests"] for row in rows if row["operation"] == "gap"]
    assert len(gaps) == 1, "what was dropped is counted once"
    assert len(rows) - 1 + gaps[0] == 200
    assert rows[-1]["fields"] == {"n": 199} or rows[-1]["operation"] == "gap"
    assert await book.verify() is None


async def test_answers_are_chained_without_being_asked(
    book: EgressBook, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "FLUSH_S", 0.01)
    book.answered(start(book), 200, 7)
    count = (0,)
    async with asyncio.timeout(DEADLINE_S):
        while count == (0,):
            count = await storage.read(
                LEDGER, lambda db: db.execute("SELECT count(*) FROM egress").fetchone()
            )
    assert count == (1,)


async def test_a_row_that_is_chained_while_the_book_is_read_is_listed_once(
    book: EgressBook, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "FLUSH_ROWS", 1)
    book.answered(start(book, n=0), 200, 7)
    ref = start(book, n=1)
    listing = asyncio.create_task(book.rows())
    await asyncio.sleep(0)  # it has asked the storage
    done = threading.Event()
    storage.read(LEDGER, lambda _: done.set())
    assert done.wait(DEADLINE_S)  # the storage has answered, and the loop has not seen it yet
    book.answered(ref, 200, 7)
    rows, _ = await listing
    assert [row["fields"]["n"] for row in rows] == [0, 1]


async def test_odd_values_are_written_down_too(book: EgressBook) -> None:
    book.answered(start(book, text="half \ud800 pair", when=NOON, big=2**70), 200, 7)
    (row,) = await listed(book)
    assert row["fields"] == {"text": "half ? pair", "when": str(NOON), "big": 2**70}
