"""A depot of three EVSEs with its real shell: runtime, ledger and console; a charger that only writes down.

Time belongs to the test (`HandClock`), the disk and the sockets are real. Waiting is always for a condition.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from controller.alarm_calls import AlarmCalls
from controller.cli import codes
from controller.console import Console
from controller.core.commands import Command, SetLimit, StartCharging, StopCharging
from controller.core.depot import Depot
from controller.core.events import (
    CommandAccepted,
    CommandSent,
    EvseSample,
    FallbackStored,
    LinkUp,
    StatusChanged,
    TransactionEnded,
    TransactionStarted,
)
from controller.core.frames import Trace
from controller.core.model import (
    SITE,
    Circuit,
    Evse,
    EvseId,
    EvseState,
    Link,
    Moment,
    Site,
    StationId,
    Vehicle,
    VehicleId,
    each_phase,
)
from controller.export_calls import ExportCalls
from controller.frame_calls import FrameCalls
from controller.history_calls import HistoryCalls
from controller.ledger import Ledger
from controller.log_calls import LogCalls
from controller.notify import Notifier
from controller.plan_calls import PlanCalls
from controller.plan_loop import Planner
from controller.planner import rules
from controller.ports import Answer, Driver, Report
from controller.preview_calls import PreviewCalls
from controller.roster_calls import RosterCalls
from controller.runtime import Runtime, Wires
from controller.session_calls import SessionCalls
from controller.storage import LEDGER, Storage
from controller.token_calls import TokenCalls
from controller.what_if_calls import WhatIfCalls

DEADLINE_S = 10.0
START = datetime(2026, 11, 22, 18, 0, tzinfo=UTC)
LINK = Link("wire", lease_s=180, lease_slack_s=30, raise_gap_s=1, answer_s=60)
A1, B1, B2 = EvseId("A/1"), EvseId("B/1"), EvseId("B/2")
EVSES = (A1, B1, B2)
TOKENS = {A1: "04A2B3C4", B1: "04A2B3C5", B2: "04A2B3C6"}  # a token charges at one station at a time
FULL_MA = 31_000  # what the bus can take: 22 kW on three phases, in whole amps


class HandClock:
    """Time that passes only when a test lets it. Satisfies `controller.ports.Clock`."""

    def __init__(self) -> None:
        self._mono_s = 1000.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()

    def now(self) -> Moment:
        return Moment(self._mono_s, START + timedelta(seconds=self._mono_s - 1000.0))

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._mono_s + seconds, next(self._numbers), woken))
        await woken

    async def advance(self, seconds: float) -> None:
        """Everybody who wakes within the span wakes in order and gets the loop for a while."""
        await turns()
        end_s = self._mono_s + seconds
        while self._sleepers and self._sleepers[0][0] <= end_s:
            due_s, _, woken = heapq.heappop(self._sleepers)
            self._mono_s = max(self._mono_s, due_s)
            if not woken.done():
                woken.set_result(None)
                await turns()
        self._mono_s = end_s
        await turns()


async def turns() -> None:
    """Lets everything that is ready run."""
    for _ in range(10):
        await asyncio.sleep(0)


class Scribe:
    """A charger (`controller.ports.Charger`) that writes down what it is told and accepts it while `obeys`."""

    def __init__(self) -> None:
        self.sent: list[Command] = []
        self.obeys = True
        self.clock = HandClock()  # of the depot it belongs to
        self._report: Report | None = None
        self._answers: set[asyncio.Task[None]] = set()

    async def run(self, report: Report) -> None:
        self._report = report
        await asyncio.Event().wait()

    def send(self, command: Command) -> None:
        self.sent.append(command)
        if self.obeys:
            task = asyncio.get_running_loop().create_task(self._accept(command))
            self._answers.add(task)
            task.add_done_callback(self._answers.discard)

    async def _accept(self, command: Command) -> None:
        assert self._report is not None
        await self._report(CommandSent(command.id))
        await self._report(CommandAccepted(command.id))

    def limits(self, evse: EvseId) -> list[int]:
        return [c.limit_ma for c in self.sent if isinstance(c, SetLimit) and c.evse == evse]


class Post(Scribe):
    """A Scribe whose stations do what they accept: transactions, states and samples follow."""

    async def _accept(self, command: Command) -> None:
        await super()._accept(command)
        assert self._report is not None
        report, evse = self._report, command.evse
        match command:
            case StartCharging(token=token):
                at = datetime.now(UTC)
                await report(TransactionStarted(evse, "wire", f"t-{command.id}", token, 0, at))
                await report(StatusChanged(evse, "wire", EvseState.CHARGING))
            case StopCharging(transaction=transaction, reason=reason):
                station = StationId(evse[0])
                await report(
                    TransactionEnded(station, evse, str(transaction), reason, None, datetime.now(UTC))
                )
                await report(StatusChanged(evse, "wire", EvseState.FINISHING))
            case SetLimit(limit_ma=limit_ma):
                state = EvseState.CHARGING if limit_ma else EvseState.SUSPENDED_EVSE
                await report(StatusChanged(evse, "wire", state))
                await report(
                    EvseSample(
                        evse,
                        "wire",
                        self.clock.now().mono_s,
                        each_phase(limit_ma),
                        power_w=limit_ma * 69 // 100,
                        register_wh=120,
                    )
                )


def site() -> Site:
    evses = {
        id: Evse(
            id,
            StationId(id[0]),
            SITE,
            max_ma=32_000,
            min_ma=6_000,
            phases=(0, 1, 2),
            fallback_ma=6_000,
            link=LINK,
        )
        for id in EVSES
    }
    return Site(
        name="Three posts",
        timezone="Europe/Amsterdam",
        voltage_mv=230_000,
        circuits={SITE: Circuit(SITE, None, each_phase(60_000), assumed_load_ma=each_phase(10_000))},
        evses=evses,
        vehicles={VehicleId("BUS-07"): Vehicle(VehicleId("BUS-07"), 94_000, 22_000, tuple(TOKENS.values()))},
    )


@dataclass
class SmallDepot:
    runtime: Runtime
    clock: HandClock
    charger: Scribe
    storage: Storage
    socket: Path
    task: asyncio.Task[None]
    gate: threading.Event = field(default_factory=threading.Event)

    async def until(self, condition: Callable[[], object]) -> None:
        """Lets time pass in quarter seconds until the condition holds."""
        async with asyncio.timeout(DEADLINE_S):
            while not condition():
                await self.clock.advance(0.25)
                await asyncio.sleep(0.001)

    async def connect_stations(self) -> None:
        for evse in EVSES:
            await self.runtime.report(LinkUp(StationId(evse[0]), "wire", "test"))
            await self.runtime.report(FallbackStored(evse, "wire", 6_000))
        for evse in EVSES:
            await self.runtime.report(StatusChanged(evse, "wire", EvseState.AVAILABLE))
        await self.until(lambda: committed_a(self) == 18.0)

    async def begin(self, evse: EvseId, transaction: str | None = "t1") -> Answer:
        """A vehicle starts a transaction; returns the answer its station got."""
        await self.runtime.report(StatusChanged(evse, "wire", EvseState.CHARGING))
        return await self.runtime.report(
            TransactionStarted(evse, "wire", transaction, TOKENS[evse], 100, self.clock.now().utc)
        )

    def pause_ledger(self) -> None:
        """The storage thread hangs in what it does until `resume_ledger`."""
        self.gate.clear()
        reached = threading.Event()

        def hang(_: object) -> None:
            reached.set()
            self.gate.wait(DEADLINE_S)

        self.storage.read(LEDGER, hang)
        assert reached.wait(DEADLINE_S)

    def resume_ledger(self) -> None:
        self.gate.set()


def committed_a(depot: SmallDepot) -> float | None:
    snapshot = depot.runtime.snapshot
    return None if snapshot is None else snapshot.circuits[0].committed_ma.l1 / 1e3


@asynccontextmanager
async def small_depot(
    folder: Path,
    *,
    planner: Planner = rules.plan,
    what_if: Planner | None = None,
    traces: Callable[[], Iterable[Trace]] = tuple,
    drivers: tuple[Driver, ...] = (),
    notify: str = "",
    capacity: int = 10_000,
    others: tuple[Callable[[], Awaitable[None]], ...] = (),
    clock: HandClock | None = None,
    charger: Scribe | None = None,
) -> AsyncIterator[SmallDepot]:
    """A running depot whose books are in `folder`; everything it left behind is looked for at the end."""
    clock = clock or HandClock()
    storage = Storage(folder / "state", capacity)
    await storage.open()
    depot: SmallDepot | None = None
    try:
        ledger = Ledger(storage)
        known = await ledger.restore()
        runtime = Runtime(Depot(site(), str(known.boot)), clock, storage, ledger, planner, Notifier(notify))
        await runtime.restore(known)
        charger = charger or Scribe()
        charger.clock = clock
        path = folder / "control.sock"
        books = (
            AlarmCalls(runtime, storage, codes.entry),
            LogCalls(runtime, storage),
            FrameCalls(runtime, traces),
            HistoryCalls(runtime, storage),
            SessionCalls(runtime, storage),
            ExportCalls(runtime, storage),
        )
        tables = (
            TokenCalls(runtime),
            RosterCalls(runtime),
            (plans := PlanCalls(runtime, None)),
            WhatIfCalls(runtime, plans, what_if or planner),
            PreviewCalls(runtime),
            *books,
        )
        calls = {name: call for each in tables for name, call in each.table.items()}
        console = Console(runtime, path, calls)
        task = asyncio.create_task(
            runtime.run(Wires((charger, *drivers), {"wire": charger}), (console.run, *others))
        )
        depot = SmallDepot(runtime, clock, charger, storage, path, task)
        await depot.until(lambda: task.done() or (runtime.snapshot is not None and path.exists()))
        yield depot
    finally:
        if depot is not None:
            depot.resume_ledger()
            depot.task.cancel()
            await asyncio.wait({depot.task})
        await storage.close()
        await turns()


async def flies(depot: SmallDepot, ready: threading.Event, over: threading.Event) -> None:
    """Time runs until it is over."""
    ready.set()
    while not over.is_set():
        await depot.clock.advance(0.25)
        await asyncio.sleep(0.002)


@contextmanager
def beside(serve: Callable[[threading.Event, threading.Event], Coroutine[Any, Any, None]]) -> Iterator[None]:
    """`serve` lives in a thread of its own: from when it says that it is ready until it is told that it is over."""
    ready, over = threading.Event(), threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(serve(ready, over)))
    thread.start()
    try:
        assert ready.wait(DEADLINE_S)
        yield
    finally:
        over.set()
        thread.join()


class Caller:
    """One connection to the control socket, speaking raw lines."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def say(self, line: bytes) -> Any:
        """Sends the line and returns the next answer; None when the connection was closed."""
        self.writer.write(line + b"\n")
        return await self.hear()

    async def hear(self) -> Any:
        async with asyncio.timeout(DEADLINE_S):
            try:
                line = await self.reader.readline()
            except ConnectionError:
                return None
        return json.loads(line) if line else None

    async def call(self, name: str, **args: object) -> Any:
        """The `ok` of a call. Raises AssertionError on an error."""
        answer = await self.say(json.dumps({"id": 7, "call": name, "args": args}).encode())
        assert answer.keys() == {"id", "ok"}, answer
        assert answer["id"] == 7
        return answer["ok"]

    async def refusal(self, name: str, **args: object) -> tuple[str, str]:
        """Code and text of a call that must fail."""
        answer = await self.say(json.dumps({"id": 7, "call": name, "args": args}).encode())
        assert answer.keys() == {"id", "error"}, answer
        return answer["error"]["code"], answer["error"]["text"]


@asynccontextmanager
async def caller(path: Path) -> AsyncIterator[Caller]:
    reader, writer = await asyncio.open_unix_connection(path, limit=4 * 1024 * 1024)
    try:
        yield Caller(reader, writer)
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
