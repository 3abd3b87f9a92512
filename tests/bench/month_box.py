"""The controller's process of the simulated month: everything real but the wires, in the time that its yard tells.

`python -m tests.bench.month_box CONFIG DESCRIPTOR BEGIN_S STEP_S`. Owns the loop whose clock stands still while anything is
being done (a commit, a backup, a block of the journal) and never passes the moment the yard has named; the driver that
carries facts in and commands out; and the count of what was written, by file.
"""

from __future__ import annotations

import asyncio
import os
import selectors
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from controller import plan_loop
from controller import runtime as runtime_module
from controller.cli.compose import House
from controller.config import Config, load
from controller.core.commands import Command
from controller.core.events import CommandSent, Event
from controller.core.model import Moment
from controller.lane import Lane
from controller.planner import rules
from controller.ports import Report
from controller.runtime import Runtime, Wires
from controller.storage import Storage

START = datetime(2026, 2, 28, 23, 0, tzinfo=UTC)  # a month with a night of 23 h
STOP = "stop"
JOURNAL_AHEAD = 2  # blocks that may wait for their thread before time goes on
THREADS_GAP_S = 0.0002  # real seconds

Errand = tuple[int | None, Event]  # a fact, and the number under which it is to be acknowledged
Round = tuple[
    float, str, Sequence[Sequence[Errand]]
]  # when, what it is (FACTS, COUNTED or ANSWERS), the facts of each station in order
FACTS, COUNTED, ANSWERS = "facts", "counted", "answers"


class _Patient(selectors.BaseSelector):
    """Lets time jump to the next timer once nothing is going on, up to `until_s`; there it calls `settled` and waits."""

    def __init__(self, begin_s: float) -> None:
        self.now_s = self.until_s = begin_s
        self.busy: list[Callable[[], bool]] = []
        self.waits: list[Callable[[], bool]] = []
        self.settled: Callable[[], None] = lambda: None
        self._inner = selectors.DefaultSelector()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = self._inner.select(0)
        if events or timeout == 0:
            return events
        if any(busy() for busy in self.busy):  # its end comes as an event
            return self._inner.select(0.5)
        while any(wait() for wait in self.waits):  # a thread that does not tell
            time.sleep(THREADS_GAP_S)
        if timeout is not None and self.now_s + timeout <= self.until_s:
            self.now_s += timeout
            return []
        self.now_s = self.until_s
        self.settled()
        return self._inner.select(None)

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._inner.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._inner.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._inner.modify(fileobj, events, data)

    def close(self) -> None:
        self._inner.close()

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._inner.get_map()


class _Loop(asyncio.SelectorEventLoop):
    """Its time is the yard's. Work in the executor holds it."""

    def __init__(self, begin_s: float) -> None:
        self.patience = _Patient(begin_s)
        self._away = 0
        super().__init__(self.patience)
        self._clock_resolution = 1e-6
        self.patience.busy.append(lambda: self._away > 0)

    def time(self) -> float:
        return self.patience.now_s

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:
        future = super().run_in_executor(executor, func, *args)
        self._away += 1
        future.add_done_callback(self._back)
        return future

    def _back(self, future: object) -> None:
        self._away -= 1


class _Clock:
    def __init__(self, loop: _Loop) -> None:
        self._loop = loop

    def now(self) -> Moment:
        passed_s = self._loop.time()
        return Moment(passed_s, START + timedelta(seconds=passed_s))

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds))


class _Yard:
    """Driver and charger in one: the other end is the process that holds the truth."""

    def __init__(self, loop: _Loop, connection: Connection, written: _Written) -> None:
        self._loop = loop
        self._connection = connection
        self._written = written
        self._commands: list[Command] = []
        self._asked: Round | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.runtime: Runtime | None = None
        self.stopping = asyncio.Event()

    async def run(self, report: Report) -> None:
        self._loop.patience.settled = self._settled
        self._loop.add_reader(self._connection.fileno(), self._hear, report)
        await asyncio.Event().wait()

    def send(self, command: Command) -> None:
        self._commands.append(command)
        self._keep(self._sent(command))

    async def _sent(self, command: Command) -> None:
        assert self.runtime is not None
        await self.runtime.report(CommandSent(command.id))

    def _hear(self, report: Report) -> None:
        try:
            said = self._connection.recv()
        except EOFError:  # whoever ran us is gone
            os._exit(1)
        if said == STOP:
            self._loop.patience.settled = lambda: None
            self._loop.patience.until_s = float("inf")
            self.stopping.set()
            return
        self._asked = said
        self._loop.patience.until_s = said[0]
        self._loop.call_at(said[0], self._begin, report, said)

    def _begin(self, report: Report, asked: Round) -> None:
        self._keep(self._deliver(report, asked))

    def _keep(self, work: Any) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _deliver(self, report: Report, asked: Round) -> None:
        """What needs an answer does not hold up others, as on sockets of their own."""
        for errands in asked[2]:
            if any(number is not None for number, _ in errands):
                self._keep(self._tell(report, errands))
            else:
                await self._tell(report, errands)
        assert self.runtime is not None
        if asked[1] != ANSWERS:
            self.runtime._wake.set()  # a step follows each round of facts

    async def _tell(self, report: Report, errands: Sequence[Errand]) -> None:
        for number, fact in errands:
            answer = await report(fact)
            if number is not None:
                self._connection.send(("ack", number, answer.transaction))

    def _settled(self) -> None:
        """Everything until the moment that was named has been done."""
        if self._asked is None:
            return
        commands, self._commands = self._commands, []
        figures = self._written.figures() if self._asked[1] == COUNTED else None
        self._asked = None
        self._connection.send(("said", commands, figures))


class _Written:
    """Bytes handed to the kernel by the threads that write books, by what they were for; and memory."""

    def __init__(self) -> None:
        self._by: Counter[str] = Counter()
        self._main = threading.get_native_id()
        for name, what in (("write", None), ("read", "backups")):
            setattr(Lane, name, self._counting(getattr(Lane, name), what))

    def _counting(self, work: Any, what: str | None) -> Any:
        def counted(lane: Lane, *args: Any) -> Any:
            before = _io("/proc/thread-self/io")["wchar"]
            try:
                return work(lane, *args)
            finally:
                self._by[what or lane.name] += _io("/proc/thread-self/io")["wchar"] - before
                self._by[f"commits {lane.name}"] += what is None

        return counted

    def figures(self) -> dict[str, int]:
        whole, main = _io("/proc/self/io"), _io(f"/proc/self/task/{self._main}/io")
        status = Path("/proc/self/status").read_text(encoding="ascii")
        rss_kb = next(line for line in status.splitlines() if line.startswith("VmRSS:")).split()[1]
        return {
            "all": whole["wchar"] - main["wchar"],
            "blocks": whole["write_bytes"],
            "rss_kb": int(rss_kb),
            **self._by,
        }


def _io(path: str) -> dict[str, int]:
    with open(path, encoding="ascii") as file:
        return {name: int(value) for name, value in (line.split(": ") for line in file)}


class _Counted(Storage):
    """Knows how many of its answers somebody waits for."""

    waited_for = 0

    def write(self, *args: Any, **named: Any) -> Any:
        return self._count(super().write(*args, **named))

    def read(self, *args: Any, **named: Any) -> Any:
        return self._count(super().read(*args, **named))

    def _count(self, future: asyncio.Future[Any]) -> asyncio.Future[Any]:
        if not future.done():
            self.waited_for += 1
            future.add_done_callback(self._answered)
        return future

    def _answered(self, future: object) -> None:
        self.waited_for -= 1


class _Box(House):
    """Without sockets to stations and meters."""

    def __init__(self, config: Config, clock: _Clock, yard: _Yard) -> None:
        super().__init__(config, clock)
        self.ocpp = self.modbus = None
        self.storage.__class__ = _Counted
        self.wires = Wires([yard], {"ocpp": yard})


async def _live(loop: _Loop, config: Config, connection: Connection) -> None:
    yard = _Yard(loop, connection, _Written())
    box = _Box(config, _Clock(loop), yard)
    storage = box.storage
    assert isinstance(storage, _Counted)
    loop.patience.busy.append(lambda: storage.waited_for > 0)
    async with box.open() as runtime:
        yard.runtime = runtime
        journal = box.journal
        assert journal is not None
        loop.patience.waits.append(lambda: journal._waiting > JOURNAL_AHEAD)
        runtime.planning._planner = rules.plan
        work = asyncio.create_task(box.run(runtime))
        stopping = asyncio.create_task(yard.stopping.wait())
        await asyncio.wait({work, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not stopping.done():
            await work
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


def main(words: Sequence[str]) -> None:
    config, descriptor, begin_s, step_s = words
    runtime_module.STEP_S = float(step_s) * 2  # the yard's rounds set the pace
    plan_loop.LOOK_S = max(plan_loop.LOOK_S, float(step_s))
    with asyncio.Runner(loop_factory=partial(_Loop, float(begin_s))) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, _Loop)
        runner.run(_live(loop, load(Path(config)), Connection(int(descriptor))))
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
