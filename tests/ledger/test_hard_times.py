"""A controller as a process that runs out of memory, one of whose tasks dies, and whose fuse became smaller (field notes 5.1
rows 45, 48 and 52). Who judges is as in `test_failpoints`: stations, an operator, and `depot verify`."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from test_backup import depot
from test_failpoints import Operator, at_work, dying, kept
from test_kill_whole import (
    ASSUMED_A,
    FALLBACK_A,
    LIMIT_A,
    STATIONS,
    WITHIN_S,
    Yard,
    config,
    controller,
    stations_at,
)

TOO_LOW_A = STATIONS * FALLBACK_A + ASSUMED_A - 1


@asynccontextmanager
async def at_control(yard: Yard, operator: Operator, path: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """The next start: it works with everybody, and what was acknowledged before it is there."""
    answers, orders = len(yard.answered), len(operator.acknowledged)
    kept(path.parent / "state" / "depot.db", yard, operator)
    async with controller(path) as process:
        await more(yard, operator, answers, orders)
        yield process
        process.terminate()
        async with asyncio.timeout(WITHIN_S):
            assert await process.wait() == 0
    kept(path.parent / "state" / "depot.db", yard, operator)
    numbers = [number for _, number in yard.answered]
    assert len(set(numbers)) == len(numbers), "a transaction id was given twice"
    assert yard.broken == []
    assert (await depot("verify", path))[0] == 0


async def more(yard: Yard, operator: Operator, answers: int, orders: int) -> None:
    await yard.until(lambda: len(yard.answered) >= answers + 3)
    async with asyncio.timeout(WITHIN_S):
        while len(operator.acknowledged) <= orders:  # noqa: ASYNC110 - it changes in another process
            await asyncio.sleep(0.05)


# --- row 45: no memory ----------------------------------------------------------------------------------------------


@pytest.fixture
def no_memory() -> Iterator[Path]:
    """A control group in which nobody gets another page, as `MemoryMax=` makes one. Whoever is put in is killed by the
    kernel soon; the folder's file `limit` says where the kernel counts that."""
    for root, limit in (("memory", "memory.limit_in_bytes"), ("", "memory.max"), ("unified", "memory.max")):
        folder = Path("/sys/fs/cgroup") / root / f"depot-test-{os.getpid()}"
        try:
            folder.mkdir()
        except OSError:
            continue
        try:
            (folder / limit).write_text("0" if limit == "memory.max" else "65536")
        except OSError:
            folder.rmdir()
            continue
        break
    else:
        pytest.skip("no control group for memory can be made here")
    yield folder
    folder.rmdir()


def killed_for_memory(folder: Path) -> int:
    for name in ("memory.events", "memory.oom_control"):
        if (folder / name).exists():
            counts = dict(line.split() for line in (folder / name).read_text().splitlines())
            return int(counts["oom_kill"])
    raise AssertionError(f"the kernel does not count in {folder}")


async def test_killed_for_memory_it_starts_again_as_after_any_kill(
    no_memory: Path, tmp_path: Path, unused_tcp_port: int
) -> None:
    path = config(tmp_path, unused_tcp_port)
    async with stations_at(unused_tcp_port) as (yard, _), at_work(yard, tmp_path) as operator:
        async with controller(path) as process, asyncio.timeout(2 * WITHIN_S):
            await more(yard, operator, 0, 0)
            (no_memory / "cgroup.procs").write_text(str(process.pid))
            assert await process.wait() == -signal.SIGKILL
        assert killed_for_memory(no_memory) == 1
        async with at_control(yard, operator, path):
            pass


# --- row 48: one task dies ------------------------------------------------------------------------------------------


async def test_a_driver_that_dies_is_started_again_beside_the_others(
    tmp_path: Path, unused_tcp_port: int
) -> None:
    path = config(tmp_path, unused_tcp_port)
    log = tmp_path / "depot.log"
    async with stations_at(unused_tcp_port) as (yard, _), at_work(yard, tmp_path) as operator:
        async with dying(path, "driver-dies", 2) as process:
            async with asyncio.timeout(WITHIN_S):
                while "OcppServer failed, again in 2 s" not in log.read_text():  # noqa: ASYNC110 - another process
                    await asyncio.sleep(0.05)
            await more(yard, operator, len(yard.answered), len(operator.acknowledged))
            process.terminate()
            assert await process.wait() == 0
        assert yard.broken == []
        kept(tmp_path / "state" / "depot.db", yard, operator)
    said = log.read_text()
    assert said.count("ValueError: a mistake in OcppServer") == said.count("failed, again in") == 2


async def test_without_one_of_its_own_tasks_it_ends_and_the_next_start_goes_on(
    tmp_path: Path, unused_tcp_port: int
) -> None:
    """It is never silently missing: systemd starts the controller anew (`Restart=always`)."""
    path = config(tmp_path, unused_tcp_port)
    async with stations_at(unused_tcp_port) as (yard, _), at_work(yard, tmp_path) as operator:
        async with dying(path, "console-dies", 1) as process, asyncio.timeout(WITHIN_S):
            assert await process.wait() == 1
        assert "ValueError: a mistake in Console" in (tmp_path / "depot.log").read_text()
        async with at_control(yard, operator, path):
            pass


# --- row 52: a lower fuse -------------------------------------------------------------------------------------------


def with_limit(path: Path, limit_a: float) -> None:
    path.write_text(path.read_text().replace(f'\nlimit = "{LIMIT_A} A"', f'\nlimit = "{limit_a} A"'))


async def test_a_fuse_that_the_fallbacks_do_not_fit_is_refused_and_what_runs_goes_on(
    tmp_path: Path, unused_tcp_port: int
) -> None:
    path = config(tmp_path, unused_tcp_port)
    async with stations_at(unused_tcp_port) as (yard, _), controller(path) as process:
        await yard.until(lambda: len(yard.answered) >= STATIONS)
        with_limit(path, TOO_LOW_A)
        for command in ("check", "run"):
            code, said = await depot(command, path)
            assert (code, said.count("\n")) == (1, 1), said
            assert "fallback" in said
        ends = len(yard.ended)
        await yard.until(lambda: len(yard.ended) >= ends + STATIONS)
        process.terminate()
        assert await process.wait() == 0
    assert yard.broken == []
