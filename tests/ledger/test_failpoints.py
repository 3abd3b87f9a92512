"""`kill -9` of the whole controller at each point between deciding, sending, committing and answering (field notes 5.1 row 44,
5.2 "crash points"), in a migration and in the exchange of a damaged file.

Who judges: the stations (what was answered, and what each may draw at every moment), an operator who notes what was
acknowledged, and `depot verify` on what is left.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import deadly
import pytest
from test_backup import depot
from test_kill_whole import WITHIN_S, Yard, booked, config, controller, stations_at
from test_recovery import WHEN, A, B, fill, spoil

from controller import migrations
from controller.ledger import Ledger
from controller.storage import LEDGER, Storage
from tests.audit_rows import audit_tail

ROOT = Path(__file__).parents[2]
DEADLY = str(Path(deadly.__file__))
POINTS = {
    "limit-before": 9,
    "limit-after": 9,
    "answer-before": 3,
    "answer-after": 3,
    "commit-before": 25,
    "commit-after": 25,
}


def doomed(path: Path, point: str, number: int) -> list[str]:
    return [sys.executable, DEADLY, point, str(number), "run", str(path)]


@asynccontextmanager
async def dying(path: Path, point: str, number: int) -> AsyncIterator[asyncio.subprocess.Process]:
    with (path.parent / "depot.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *doomed(path, point, number), stdout=log, stderr=log, cwd=ROOT
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@dataclass
class Operator:
    """Gives one order after the other and notes which of them were acknowledged as stored."""

    socket: Path
    tried: int = 0
    acknowledged: list[int] = field(default_factory=list)
    ordered: list[int] = field(default_factory=list)  # limits of K5/1 that were answered

    async def run(self) -> None:
        while True:
            with suppress(OSError, EOFError, ValueError):
                await self._work()
            await asyncio.sleep(0.05)

    async def _work(self) -> None:
        reader, writer = await asyncio.open_unix_connection(str(self.socket), limit=1 << 22)

        async def call(name: str, **args: Any) -> Any:
            writer.write(json.dumps({"id": 1, "call": name, "args": args}).encode() + b"\n")
            return json.loads(await reader.readline())["ok"]

        try:
            while True:
                self.tried += 1
                number = self.tried
                await call("limit", evse="K5/1", limit_ma=1000 * (6 + number % 20))
                self.ordered.append(number)
                await call("tokens-set", tokens=[{"token": f"T{number}"}])
                self.acknowledged.append(number)
        finally:
            writer.close()


@asynccontextmanager
async def at_work(yard: Yard, folder: Path) -> AsyncIterator[Operator]:
    operator = Operator(folder / "control.sock")
    task = asyncio.create_task(operator.run())
    try:
        yield operator
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("point", POINTS)
async def test_nothing_acknowledged_is_lost_and_the_first_decision_is_safe(
    point: str, tmp_path: Path, unused_tcp_port: int
) -> None:
    path = config(tmp_path, unused_tcp_port)
    async with stations_at(unused_tcp_port) as (yard, _), at_work(yard, tmp_path) as operator:
        async with dying(path, point, POINTS[point]) as process, asyncio.timeout(WITHIN_S):
            assert await process.wait() == -signal.SIGKILL, (tmp_path / "depot.log").read_text()
        answers, orders = len(yard.answered), len(operator.acknowledged)
        books = tmp_path / "state" / "depot.db"
        kept(books, yard, operator)
        async with controller(path) as process:
            await yard.until(lambda: len(yard.answered) >= answers + 3)
            async with asyncio.timeout(WITHIN_S):
                while len(operator.acknowledged) <= orders:  # noqa: ASYNC110 - it changes in another process
                    await asyncio.sleep(0.05)
            process.terminate()
            async with asyncio.timeout(WITHIN_S):
                assert await process.wait() == 0
    assert yard.broken == []
    assert "Traceback" not in (tmp_path / "depot.log").read_text()
    kept(books, yard, operator)
    numbers = [number for _, number in yard.answered]
    assert len(set(numbers)) == len(numbers), "a transaction id was given twice"
    assert (await depot("verify", path))[0] == 0


def kept(books: Path, yard: Yard, operator: Operator) -> None:
    """What was acknowledged until now is in the file, as a start would find it."""
    found = booked(books)
    assert [each for each in yard.answered if (f"{each[0]}/1", each[1]) not in found] == []
    assert set(yard.ended) <= {number for (_, number), ended in found.items() if ended}
    with closing(sqlite3.connect(books)) as db:
        tokens = {name for (name,) in db.execute("SELECT id FROM tokens")}
        ordered = db.execute("SELECT document FROM ordered WHERE evse = 'K5/1'").fetchone()
        audited = db.execute("SELECT count(*) FROM audit WHERE subject = 'K5/1'").fetchone()[0]
    assert {f"t{number}" for number in operator.acknowledged} <= tokens
    if operator.ordered:
        last = operator.ordered[-1]
        possible = {1000 * (6 + number % 20) for number in range(last, operator.tried + 1)}
        assert json.loads(ordered[0])["limit_ma"] in possible, "an older order came back"
        assert audited >= len(operator.ordered)


# --- migrations and the exchange of a damaged file ---------------------------------------------------------------


def _old(folder: Path, behind: int) -> None:
    """Books of a version that lacks the last steps."""
    folder.mkdir()
    with closing(sqlite3.connect(folder / LEDGER, isolation_level=None)) as db:
        old = migrations.Database(db)
        steps = migrations.ledger.pending(old)
        migrations.ledger.apply(old, stop_before=steps[len(steps) - behind].name)
        db.execute("INSERT INTO ceilings VALUES ('K1/1', 16000)")
        db.execute(
            "INSERT INTO sessions (id, evse, transaction_id, started, energy_wh, marks)"
            " VALUES ('1-1', 'K1/1', '7', '2026-01-02T03:04:05.000000Z', 5, '[]')"
        )


def _dies(path: Path, point: str, number: int) -> bool:
    """Whether it came to that; else it is ended as soon as it controls."""
    with (path.parent / "depot.log").open("ab") as log:
        process = subprocess.Popen(doomed(path, point, number), stdout=log, stderr=log, cwd=ROOT)
    try:
        while process.poll() is None and not (path.parent / "control.sock").exists():
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.02)
    finally:
        process.kill()
        process.wait()
    return not (path.parent / "control.sock").exists()


@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize("number", [1, 2, 3])
async def test_a_migration_that_dies_is_gone_through_again(
    tmp_path: Path, side: str, number: int, unused_tcp_port: int
) -> None:
    _old(tmp_path / "state", behind=3)
    path = config(tmp_path, unused_tcp_port)
    assert _dies(path, f"commit-{side}", number)
    storage = Storage(tmp_path / "state")
    await storage.open()
    known = await Ledger(storage).restore()
    await storage.close()
    assert storage.mended == ()
    assert known.ceilings == {"K1/1": 16_000}
    assert [session.transaction for session in known.sessions] == ["7"]


EXCHANGE = [
    ("commit", 1),  # what could be read is in the successor
    ("commit", 2),  # and no number can be given twice
    ("rename", 1),  # the successor is finished
    ("rename", 4),  # the damaged file makes room (2 and 3: what SQLite keeps beside it, if anything)
    ("rename", 5),  # the successor takes its place
]


@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize(("what", "number"), EXCHANGE)
async def test_a_damaged_file_is_replaced_whole_wherever_that_is_cut_off(
    tmp_path: Path, what: str, number: int, side: str, unused_tcp_port: int
) -> None:
    folder = tmp_path / "state"
    await fill(folder, backup=True)
    spoil(folder / LEDGER, "schedules")
    damaged = (folder / LEDGER).read_bytes()
    assert _dies(config(tmp_path, unused_tcp_port), f"{what}-{side}", number)
    storage = Storage(folder)
    await storage.open()
    ledger = Ledger(storage)
    known = await ledger.restore()
    assert known.ceilings == {A: 16_000, B: 20_000}
    assert await ledger.verify_audit() is None
    assert len(await audit_tail(ledger, 1000)) == 400
    given, _ = await ledger.number_transaction(B, "TAG", 0, WHEN)
    assert given > 100_000, "one between may have been given before the file was damaged"
    assert known.boot > 400_000
    await storage.close()
    (kept,) = folder.glob("depot.db.damaged-*")
    assert kept.read_bytes() == damaged
    assert {each.name for each in folder.glob("depot.db*")} == {"depot.db", kept.name}


@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize("number", [1, 4, 5])  # as in EXCHANGE
async def test_a_restore_is_whole_wherever_it_is_cut_off(tmp_path: Path, number: int, side: str) -> None:
    """Books that people put back: either the ones until now, or the copy with its leap; never none."""
    folder = tmp_path / "state"
    await fill(folder, backup=True)
    (copy,) = (folder / "backups").iterdir()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, DEADLY, f"rename-{side}", str(number), "restore", copy, "--storage", folder),
        cwd=ROOT,
    )
    assert await process.wait() == -signal.SIGKILL
    storage = Storage(folder)
    await storage.open()
    ledger = Ledger(storage)
    known = await ledger.restore()
    assert await ledger.verify_audit() is None
    rows = len(await audit_tail(ledger, 1000))
    await storage.close()
    as_before = (number, side) == (1, "before")
    assert (rows, known.boot > 1_000) == ((400, False) if as_before else (201, True))
