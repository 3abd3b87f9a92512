"""OCPP end to end, against the library whose schemas we use: throughput, fifty boots, a decrease past mute stations, loop lag,
memory per station.

Ours: a frame on a loopback socket, received, checked, in the core, its row committed where it has one, and answered. Theirs:
`route_message` of a stock `ChargePoint` with a handler that does nothing and a connection that only takes the answer; no
socket, no core, no disk. Both in one run, on one core, in turns.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import logging
import statistics
import sys
import tempfile
import time
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from ocpp.routing import on
from ocpp.v16 import ChargePoint as Stock16
from ocpp.v16 import call_result as results16
from ocpp.v201 import ChargePoint as Stock201
from ocpp.v201 import call_result as results201
from websockets.asyncio.client import ClientConnection, connect

from controller.cli.compose import House
from controller.clock import SystemClock
from controller.config import load
from controller.core.commands import SetLimit
from controller.core.model import evse_id
from drivers.ocpp import station
from tests.bench.crowd import stamp, words
from tests.bench.figures import Figure, percentile
from tests.bench.processes import Crowd, free_port, write

STATIONS, MUTE = 50, 5
ROUNDS, MESSAGES = 8, 400
WINDOW = 20  # messages under way at once
EVENTS_PER_S, LAG_S, PROBE_S = 100, 10.0, 0.002
DECREASES = 10
Json = dict[str, Any]


def ocpp() -> Iterator[Figure]:
    logging.disable(logging.WARNING)  # a line per connection would be what is measured
    try:
        with tempfile.TemporaryDirectory() as name:
            yield from asyncio.run(_measure(Path(name)))
    finally:
        logging.disable(logging.NOTSET)


async def _measure(folder: Path) -> list[Figure]:
    figures = await _throughput(folder / "a")
    figures += await _fifty(folder / "b")
    return figures


# --- throughput -----------------------------------------------------------------------------------------------


def meter_values(connector: int = 1) -> Json:
    """Nine samples, as a three-phase station sends them: about 960 bytes."""
    samples = [
        {"value": "15.8", "context": "Sample.Periodic", "measurand": what, "phase": f"L{phase}", "unit": unit}
        for what, unit in (("Current.Import", "A"), ("Voltage", "V"), ("Power.Active.Import", "W"))
        for phase in (1, 2, 3)
    ]
    return {
        "connectorId": connector,
        "transactionId": 1,
        "meterValue": [{"timestamp": stamp(), "sampledValue": samples}],
    }


def transaction_event(kind: str, seq: int, name: str) -> Json:
    samples = [
        {
            "value": 15.8,
            "context": "Sample.Periodic",
            "measurand": what,
            "phase": f"L{phase}",
            "unitOfMeasure": {"unit": unit},
        }
        for what, unit in (("Current.Import", "A"), ("Voltage", "V"), ("Power.Active.Import", "W"))
        for phase in (1, 2, 3)
    ]
    return {
        "eventType": kind, "timestamp": stamp(), "triggerReason": "MeterValuePeriodic", "seqNo": seq,
        "transactionInfo": {"transactionId": name, "chargingState": "Charging"}, "evse": {"id": 1, "connectorId": 1},
        "meterValue": [{"timestamp": stamp(), "sampledValue": samples}],
        **({"idToken": {"idToken": "BENCH", "type": "ISO14443"}} if kind == "Started" else {}),
    }  # fmt: skip


class _Sink:
    async def send(self, text: str) -> None:
        pass


class _Stock16(Stock16):  # type: ignore[misc]
    @on("MeterValues")  # type: ignore[untyped-decorator]
    def values(self, **fields: Any) -> Any:
        return results16.MeterValues()


class _Stock201(Stock201):  # type: ignore[misc]
    @on("TransactionEvent")  # type: ignore[untyped-decorator]
    def event(self, **fields: Any) -> Any:
        return results201.TransactionEvent()


async def _throughput(folder: Path) -> list[Figure]:
    """Processor time of this process per message, whatever else the machine does; the talking stations are in processes of
    their own. In turns, so that both see the same machine; the best round of each counts."""
    station.FRAMES_PER_S = 1_000_000  # a single station is slowed down to what it may send
    stock: dict[str, Any] = {"1.6": _Stock16("S", _Sink()), "2.0.1": _Stock201("S", _Sink())}
    best: dict[str, float] = {}
    async with a_house(folder, 3) as house, AsyncExitStack() as stack:
        talkers = {
            name: await stack.enter_async_context(_Talker.running(house, f"B{number:03}", name))
            for number, name in enumerate(("1.6", "2.0.1", "sessions"))
        }
        for _ in range(ROUNDS):
            for name, talker in talkers.items():
                began_s = time.process_time()
                await talker.talk()
                note(best, f"ours {name}", (time.process_time() - began_s) / MESSAGES)
            for name, point in stock.items():
                began_s = time.process_time()
                for seq in range(MESSAGES):
                    await point.route_message(json.dumps([2, "1", *message(name, seq)]))
                note(best, f"stock {name}", (time.process_time() - began_s) / MESSAGES)
    return [
        Figure("MeterValues of 1.6 end to end, processor time", best["ours 1.6"] * 1e6, "us"),
        Figure("the same in the stock library, bare", best["stock 1.6"] * 1e6, "us"),
        Figure("ours of theirs, at most a fifth", best["ours 1.6"] / best["stock 1.6"], "", 0.2),
        Figure("TransactionEvent of 2.0.1 end to end, processor time", best["ours 2.0.1"] * 1e6, "us"),
        Figure("the same in the stock library, bare", best["stock 2.0.1"] * 1e6, "us"),
        Figure("ours of theirs, at most a fifth", best["ours 2.0.1"] / best["stock 2.0.1"], "", 0.2),
        Figure("one that begins or ends a session, row committed", best["ours sessions"] * 1e6, "us"),
    ]


def note(best: dict[str, float], name: str, seconds: float) -> None:
    best[name] = min(best.get(name, seconds), seconds)


def message(kind: str, seq: int) -> tuple[str, Json]:
    if kind == "1.6":
        return "MeterValues", meter_values()
    if kind == "2.0.1":
        return "TransactionEvent", transaction_event("Updated", seq + 1, "t")
    return "TransactionEvent", transaction_event(("Started", "Ended")[seq % 2], seq % 2, f"t{seq // 2}")


class _Talker:
    """A process with one station that says MESSAGES at every line it reads, and a line when all are answered."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    @asynccontextmanager
    async def running(cls, house: House, name: str, kind: str) -> AsyncIterator[_Talker]:
        assert house.ocpp is not None
        pipe = asyncio.subprocess.PIPE
        words = ("-m", "tests.bench.ocpp", str(house.ocpp.port), name, kind)
        process = await asyncio.create_subprocess_exec(sys.executable, *words, stdin=pipe, stdout=pipe)
        talker = cls(process)
        try:
            await talker._answered()
            yield talker
        finally:
            process.kill()
            await process.wait()

    async def talk(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(b"go\n")
        await self._answered()

    async def _answered(self) -> None:
        assert self._process.stdout is not None
        if not await self._process.stdout.readline():
            raise RuntimeError("the talking station ended")


async def _talk(port: int, name: str, kind: str) -> None:
    one = _Station(port, name, "1.6" if kind == "1.6" else "2.0.1")
    window = 1 if kind == "sessions" else WINDOW
    seqs = itertools.count()
    async with one.connected():
        await one.boot()
        await one.settled.wait()
        if kind == "1.6":
            await one.begin(0)
        elif kind == "2.0.1":
            await one.ask("TransactionEvent", transaction_event("Started", 0, "t"))
        reader = await words()
        print("ready", flush=True)
        while await reader.readline():
            for _ in range(MESSAGES // window):
                await asyncio.gather(*(one.ask(*message(kind, next(seqs))) for _ in range(window)))
            print("said", flush=True)


# --- fifty ----------------------------------------------------------------------------------------------------


async def _fifty(folder: Path) -> list[Figure]:
    names = [f"B{number:03}" for number in range(STATIONS)]
    async with a_house(folder, STATIONS) as house, AsyncExitStack() as stack:
        assert house.ocpp is not None
        stations = [_Station(house.ocpp.port, name) for name in names]
        began_s = time.perf_counter()
        await asyncio.gather(*(stack.enter_async_context(each.connected()) for each in stations))
        await asyncio.gather(*(each.boot() for each in stations))
        await asyncio.gather(*(each.settled.wait() for each in stations))
        booted_s = time.perf_counter() - began_s
        await asyncio.gather(*(each.begin(number) for number, each in enumerate(stations)))
        lags_ms = await _lag(stations)
        took_ms = await _decreases(house, stations)
    kilobytes = await _per_station(folder / "memory")
    return [
        Figure("50 boots at once, all set up and at their first limit", booted_s, "s", 2.0),
        Figure("loop lag under 100 transaction events a second, p99", percentile(lags_ms, 99), "ms", 25.0),
        Figure("the same, highest", max(lags_ms), "ms"),
        Figure(
            "decrease to 50 stations, 5 of them mute: last yes, median",
            statistics.median(took_ms),
            "ms",
            200.0,
        ),
        Figure("the same, slowest of 10", max(took_ms), "ms"),
        Figure("memory per connected station, set up", kilobytes, "kB", 100.0),
    ]


async def _lag(stations: list[_Station]) -> list[float]:
    """Every station takes its turn; the events are begun, updated and ended sessions."""
    lags_ms: list[float] = []

    async def probe() -> None:
        while True:
            began_s = time.perf_counter()
            await asyncio.sleep(PROBE_S)
            lags_ms.append((time.perf_counter() - began_s - PROBE_S) * 1e3)

    probing = asyncio.create_task(probe())
    loop = asyncio.get_running_loop()
    asked, due_s = [], loop.time()
    for number in range(int(EVENTS_PER_S * LAG_S)):
        asked.append(asyncio.create_task(stations[number % len(stations)].turn()))
        due_s += 1 / EVENTS_PER_S
        await asyncio.sleep(max(0.0, due_s - loop.time()))
    await asyncio.gather(*asked)
    probing.cancel()
    return lags_ms


async def _decreases(house: House, stations: list[_Station]) -> list[float]:
    """From the order to the last yes of those that answer; five read it and say nothing."""
    assert house.ocpp is not None
    took_ms = []
    for each in stations[:MUTE]:
        each.mute = True
    for turn in range(DECREASES):
        waiting = [each.next_limit() for each in stations[MUTE:]]
        began_s = time.perf_counter()
        for number, each in enumerate(stations):
            evse = evse_id(each.name, 1)
            transaction = str(each.transaction) if each.transaction else None
            house.ocpp.send(
                SetLimit(f"bench{turn}-{number}", evse, "ocpp1.6", 10_000 - turn * 300, 180.0, transaction)
            )
        await asyncio.gather(*waiting)
        took_ms.append((time.perf_counter() - began_s) * 1e3)
        await asyncio.sleep(0.2)
    return took_ms


async def _per_station(folder: Path) -> float:
    """What this process holds for a station that is connected and set up; the stations are in a process of their own."""
    folder.mkdir()  # noqa: ASYNC240
    port = free_port()
    with Crowd.running(port) as crowd:
        house = House(load(write(folder, port, crowd.meter_port)), SystemClock())
        async with house.open() as runtime:
            gc.collect()
            tracemalloc.start()
            work = asyncio.create_task(house.run(runtime))
            await asyncio.to_thread(crowd.wait_for, "settled")
            gc.collect()
            held, _ = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            work.cancel()
            await asyncio.wait({work})
    return held / STATIONS / 1e3


# --- the two ends ---------------------------------------------------------------------------------------------


@asynccontextmanager
async def a_house(folder: Path, stations: int) -> AsyncIterator[House]:
    folder.mkdir()  # noqa: ASYNC240
    tables = "".join(
        f'[station.B{number:03}]\ncircuit = "site"\nfallback = "6 A"\nevse.1 = {{ max = "32 A", min = "6 A" }}\n'
        "ocpp = { allow_insecure = true }\n"
        for number in range(stations)
    )
    (folder / "depot.toml").write_text(
        '[site]\nname = "Bench"\ntimezone = "UTC"\nlimit = "2000 A"\nassumed_load = "10 A"\n'
        '[ocpp]\nlisten = "127.0.0.1:0"\nunknown_tokens = "accept"\nunqualified = "fallback"\n'
        f'{tables}[storage]\npath = "state"\n[control]\nsocket = "s"\n'
    )
    house = House(load(folder / "depot.toml"), SystemClock())
    async with house.open() as runtime:
        task = asyncio.create_task(house.run(runtime))
        try:
            assert house.ocpp is not None
            await house.ocpp.ready()
            yield house
        finally:
            task.cancel()
            await asyncio.wait({task})


class _Station:
    """Raw frames; answers everything with a yes."""

    def __init__(self, port: int, name: str, version: str = "1.6") -> None:
        self.url = f"ws://127.0.0.1:{port}/ocpp/{name}"
        self.name, self.version = name, version
        self.settled = asyncio.Event()
        self.transaction = 0
        self.mute = False
        self._ids = itertools.count()
        self._answers: dict[str, asyncio.Future[Json]] = {}
        self._limit: asyncio.Future[None] | None = None
        self.socket: ClientConnection

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[_Station]:
        protocols: Any = [f"ocpp{self.version}"]
        async with connect(
            self.url,
            subprotocols=protocols,
            ping_interval=None,
            compression=None,
            close_timeout=0.2,
            proxy=None,
        ) as self.socket:
            listening = asyncio.create_task(self._listen())
            try:
                yield self
            finally:
                listening.cancel()
                await asyncio.gather(listening, return_exceptions=True)

    async def boot(self) -> None:
        about = {"vendorName": "Bench", "model": "B"}
        payload: Json = {"chargePointVendor": "Bench", "chargePointModel": "B"}
        await self.ask(
            "BootNotification",
            payload if self.version == "1.6" else {"reason": "PowerUp", "chargingStation": about},
        )

    async def begin(self, number: int) -> None:
        start = {"connectorId": 1, "idTag": f"BENCH{number}", "meterStart": 0, "timestamp": stamp()}
        self.transaction = (await self.ask("StartTransaction", start))["transactionId"]

    async def turn(self) -> None:
        """One transaction event: an end, or the next beginning."""
        if self.transaction:
            end = {"transactionId": self.transaction, "meterStop": 10, "timestamp": stamp()}
            self.transaction = 0
            await self.ask("StopTransaction", end)
        else:
            await self.begin(0)

    def next_limit(self) -> asyncio.Future[None]:
        self._limit = asyncio.get_running_loop().create_future()
        return self._limit

    async def ask(self, action: str, payload: Json) -> Json:
        name = str(next(self._ids))
        answer: asyncio.Future[Json] = asyncio.get_running_loop().create_future()
        self._answers[name] = answer
        await self.socket.send(json.dumps([2, name, action, payload]))
        return await answer

    async def _listen(self) -> None:
        async for text in self.socket:
            match json.loads(text):
                case [2, name, action, payload]:
                    if self.mute:
                        continue
                    await self.socket.send(json.dumps([3, name, self._obey(action, payload)]))
                    if action == "SetChargingProfile" and self._limit is not None and not self._limit.done():
                        self._limit.set_result(None)
                case [_, name, *rest]:
                    self._answers.pop(name).set_result(rest[0])

    def _obey(self, action: str, payload: Json) -> Json:
        if action == "GetConfiguration":
            return {"configurationKey": [], "unknownKey": []}
        if action == "GetVariables":
            return {"getVariableResult": []}
        if action == "SetVariables":
            return {"setVariableResult": []}
        if action == "TriggerMessage":
            self.settled.set()
        return {"status": "Accepted"}


if __name__ == "__main__":
    asyncio.run(_talk(int(sys.argv[1]), *sys.argv[2:]))
