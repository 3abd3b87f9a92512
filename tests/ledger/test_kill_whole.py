"""`kill -9` of the whole controller at random moments, while stations start and end transactions.

The stations are the judges: they know which messages were answered (those must be in the books) and what each of them
may draw (that must fit at every moment, above all after a restart that remembers nothing but the books).
"""

from __future__ import annotations

import asyncio
import itertools
import json
import resource
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage

STATIONS = 5
LIMIT_A, ASSUMED_A, FALLBACK_A, MAX_A = 70.0, 10.0, 6.0, 32.0
WITHIN_S = 40.0
ROUNDS = ("start", "end", "full disk", "any")  # what has just happened when the process is killed
Json = dict[str, Any]


def config(folder: Path, port: int) -> Path:
    lines = [
        "[site]", 'name = "Killed"', 'timezone = "Europe/Amsterdam"', f'limit = "{LIMIT_A} A"',
        f'assumed_load = "{ASSUMED_A} A"',
        *(f'[vehicle.SLOW-{n}]\nbattery = "60 kWh"\nmax_power = "11 kW"\ntokens = ["SLOW-{n}"]' for n in (1, 2)),
        "[ocpp]", f'listen = "127.0.0.1:{port}"', 'unknown_tokens = "accept"', 'unqualified = "fallback"',
        "[storage]", 'path = "state"', "[control]", 'socket = "control.sock"',
    ]  # fmt: skip
    for number in range(1, STATIONS + 1):
        lines += [
            f"[station.K{number}]", 'circuit = "site"', f'fallback = "{FALLBACK_A} A"',
            "ocpp = { allow_insecure = true }",
            f'evse.1 = {{ max = "{MAX_A} A", min = "6 A", phases = "L1 L2 L3" }}',
        ]  # fmt: skip
    path = folder / "depot.toml"
    path.write_text("\n".join(lines))
    return path


@dataclass
class Yard:
    """What all stations know together. `answered` and `ended` hold what the controller has acknowledged."""

    port: int
    news: asyncio.Condition = field(default_factory=asyncio.Condition)
    answered: list[tuple[str, int]] = field(default_factory=list)  # station, transaction
    stopping: list[int] = field(default_factory=list)
    ended: list[int] = field(default_factory=list)
    allowed_a: dict[str, float] = field(default_factory=dict)  # the most each station may draw now
    broken: list[str] = field(default_factory=list)
    deadly: str = ""
    victim: asyncio.subprocess.Process | None = None

    async def tell(self) -> None:
        total_a = sum(self.allowed_a.values())
        if len(self.allowed_a) == STATIONS and total_a > LIMIT_A - ASSUMED_A:
            self.broken.append(f"stations may draw {total_a:g} A: {self.allowed_a}")
        async with self.news:
            self.news.notify_all()

    def acknowledged(self, what: str) -> None:
        """The answer has come this instant; whoever wants to kill the controller does it now."""
        if what == self.deadly and self.victim is not None:
            self.victim.kill()
            self.victim = None

    async def until(self, wanted: Any) -> None:
        try:
            async with asyncio.timeout(WITHIN_S), self.news:
                await self.news.wait_for(wanted)
        except TimeoutError:
            raise AssertionError(f"did not come within {WITHIN_S:.0f} s: {self}") from None


class Station:
    """Starts and ends transactions without a pause and repeats a message until it is answered, as OCPP 1.6 section
    3.7.1 wants it. A stored fallback survives; a transaction's limit holds until the transaction ends."""

    def __init__(self, name: str, yard: Yard, random: Random) -> None:
        self.name, self.yard, self.random = name, yard, random
        self.ids = itertools.count(1)
        self.fallback_a: float | None = None
        self.limit_a: float | None = None
        self.transaction: int | None = None
        self.start: Json | None = None  # sent, perhaps not answered yet
        self.token = "BADGE"
        self.register_wh = 0
        self.waiting: dict[str, asyncio.Future[Json]] = {}
        self.may_dial, self.may_start, self.may_end = asyncio.Event(), asyncio.Event(), asyncio.Event()
        for gate in (self.may_dial, self.may_start, self.may_end):
            gate.set()

    async def run(self) -> None:
        while True:
            await self.may_dial.wait()
            try:
                async with connect(
                    f"ws://127.0.0.1:{self.yard.port}/ocpp/{self.name}",
                    subprotocols=["ocpp1.6"],  # type: ignore[list-item]
                    ping_interval=None,
                    close_timeout=0.2,
                ) as socket:
                    reader = asyncio.create_task(self.read(socket))
                    try:
                        await self.work(socket)
                    finally:
                        reader.cancel()
                        await asyncio.gather(reader, return_exceptions=True)
            except (OSError, ConnectionClosed, InvalidHandshake, InvalidMessage, TimeoutError):
                await asyncio.sleep(0.1)  # the controller is down: dial again

    async def work(self, socket: ClientConnection) -> None:
        await self.ask(socket, "BootNotification", {"chargePointVendor": "Judge", "chargePointModel": "K"})
        while True:
            await self.say_status(socket)
            if self.transaction is None:
                await self.may_start.wait()
                await self.begin(socket)
                await self.say_status(socket)
            await asyncio.sleep(self.random.uniform(0.2, 1.0))  # it charges
            await self.may_end.wait()
            await self.end(socket)

    async def say_status(self, socket: ClientConnection) -> None:
        status = "Available" if self.transaction is None else "Charging"
        status_now = {"connectorId": 1, "status": status, "errorCode": "NoError"}
        await self.ask(socket, "StatusNotification", status_now)

    async def begin(self, socket: ClientConnection) -> None:
        if self.start is None:
            self.register_wh += 10
            stamp = datetime.now(UTC).isoformat(timespec="milliseconds")
            self.start = {
                "connectorId": 1,
                "idTag": self.token,
                "meterStart": self.register_wh,
                "timestamp": stamp,
            }
        answer = await self.ask(socket, "StartTransaction", self.start)
        self.start = None
        self.yard.answered.append((self.name, answer["transactionId"]))
        self.yard.acknowledged("start")
        await self.changed()

    async def end(self, socket: ClientConnection) -> None:
        assert self.transaction is not None
        stamp = datetime.now(UTC).isoformat(timespec="milliseconds")
        stop = {"transactionId": self.transaction, "meterStop": self.register_wh + 5, "timestamp": stamp}
        self.yard.stopping.append(self.transaction)
        await self.yard.tell()
        await self.ask(socket, "StopTransaction", stop)
        self.yard.ended.append(self.transaction)
        self.yard.acknowledged("end")
        self.transaction = self.limit_a = None
        await self.changed()

    async def changed(self) -> None:
        """The most it may draw: its transaction's limit, else what it stored, else what its copper can."""
        stored = MAX_A if self.fallback_a is None else self.fallback_a
        may_a = stored if self.limit_a is None or self.transaction is None else max(stored, self.limit_a)
        if self.fallback_a is not None:
            self.yard.allowed_a[self.name] = may_a
        await self.yard.tell()

    async def ask(self, socket: ClientConnection, action: str, payload: Json) -> Json:
        name = f"{self.name}-{next(self.ids)}"
        answer: asyncio.Future[Json] = asyncio.get_running_loop().create_future()
        answer.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody may be waiting
        self.waiting[name] = answer
        await socket.send(json.dumps([2, name, action, payload]))
        async with asyncio.timeout(WITHIN_S):
            return await answer

    async def read(self, socket: ClientConnection) -> None:
        try:
            async for text in socket:
                match json.loads(text):
                    case [2, name, action, payload]:
                        await socket.send(json.dumps([3, name, await self.obey(action, payload)]))
                    case [_, name, answer, *_]:
                        # before the next frame: a limit for this very transaction may be in it
                        self.transaction = answer.get("transactionId", self.transaction)
                        self.waiting.pop(name).set_result(answer)
        finally:
            for answer in self.waiting.values():
                if not answer.done():
                    answer.set_exception(OSError("the link is gone"))
            self.waiting.clear()

    async def obey(self, action: str, payload: Json) -> Json:
        match action:
            case "GetConfiguration":
                return {"configurationKey": [], "unknownKey": []}
            case "SetChargingProfile":
                profile = payload["csChargingProfiles"]
                limit_a = profile["chargingSchedule"]["chargingSchedulePeriod"][0]["limit"]
                if profile["chargingSchedule"]["chargingRateUnit"] == "W":  # asked for once amps were refused
                    limit_a /= 3 * 230
                if profile["chargingProfilePurpose"] == "ChargePointMaxProfile":
                    return {"status": "Accepted"}  # as much as its copper can: no news
                if profile["chargingProfilePurpose"] == "TxDefaultProfile":
                    self.fallback_a = limit_a
                elif profile["transactionId"] == self.transaction:
                    self.limit_a = limit_a
                else:
                    return {"status": "Rejected"}
                await self.changed()
        return {"status": "Accepted"}


@asynccontextmanager
async def controller(path: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """The real thing, killed at the end."""
    with (path.parent / "depot.log").open("ab") as log:
        arguments = ("-m", "controller", "run", str(path))
        process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=log, stderr=log)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@asynccontextmanager
async def stations_at(port: int) -> AsyncIterator[tuple[Yard, list[Station]]]:
    yard = Yard(port)
    stations = [Station(f"K{n}", yard, Random(n)) for n in range(1, STATIONS + 1)]
    tasks = [asyncio.create_task(station.run()) for station in stations]
    try:
        yield yard, stations
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(one, asyncio.CancelledError) for one in ended), ended


async def test_what_was_answered_is_in_the_books(tmp_path: Path, unused_tcp_port: int) -> None:
    path, random = config(tmp_path, unused_tcp_port), Random(1)
    async with stations_at(unused_tcp_port) as (yard, _):
        for deadly in ROUNDS:
            answers, ends = len(yard.answered), len(yard.ended)
            async with controller(path) as process:
                await yard.until(
                    lambda answers=answers, ends=ends: (
                        len(yard.answered) >= answers + 5 and len(yard.ended) >= ends + 3
                    )
                )
                if deadly == "any":
                    await asyncio.sleep(random.uniform(0.0, 1.0))
                elif deadly == "full disk":
                    await nothing_is_acknowledged(yard, process)
                else:
                    yard.deadly, yard.victim = deadly, process
                    async with asyncio.timeout(WITHIN_S):
                        await process.wait()
    assert yard.broken == []
    assert "Traceback" not in (tmp_path / "depot.log").read_text()
    numbers = [number for _, number in yard.answered]
    assert len(set(numbers)) == len(numbers), "a transaction id was given twice"
    books = booked(tmp_path / "state" / "depot.db")
    missing = [
        (station, number) for station, number in yard.answered if (f"{station}/1", number) not in books
    ]
    assert missing == [], "answered, but not in the books"
    over = {number for (_, number), ended in books.items() if ended}
    assert set(yard.ended) <= over, "the end was acknowledged, the books do not know it"


async def nothing_is_acknowledged(yard: Yard, process: asyncio.subprocess.Process) -> None:
    """From here on the disk takes nothing more: what is said now must stay unanswered, for it would be lost."""
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    before = len(yard.stopping)
    await yard.until(lambda: len(yard.stopping) >= before + 2)
    await asyncio.sleep(0.5)  # ample for an answer, were there one
    assert not set(yard.stopping[before:]) & set(yard.ended), "acknowledged without a disk to keep it"


async def test_the_first_limits_after_a_kill_leave_room_for_who_has_not_come_back(
    tmp_path: Path, unused_tcp_port: int
) -> None:
    path = config(tmp_path, unused_tcp_port)
    async with stations_at(unused_tcp_port) as (yard, stations):
        first, others = stations[:2], stations[2:]
        for station in stations:
            station.may_start.clear()
            station.may_end.clear()
        async with controller(path):
            await yard.until(lambda: len(yard.allowed_a) == STATIONS)
            await fallbacks_booked(path)
        for number, station in enumerate(first, 1):
            station.token = f"SLOW-{number}"
            station.may_start.set()
        async with controller(path):
            await yard.until(lambda: all(yard.allowed_a[station.name] == 15 for station in first))
            for station in first:
                station.may_dial.clear()  # they charge on by themselves when the controller is gone
        for station in others:
            station.may_start.set()
        async with controller(path):
            await yard.until(lambda: all(yard.allowed_a[station.name] > FALLBACK_A for station in others))
    assert yard.broken == []
    assert yard.allowed_a == {"K1": 15, "K2": 15, "K3": 10, "K4": 10, "K5": 10}


async def fallbacks_booked(config: Path) -> None:
    """Waits until the controller counts every station at its fallback, and has that in its books: an order that is
    answered once it is stored was stored behind it."""
    reader, writer = await asyncio.open_unix_connection(str(config.parent / "control.sock"), limit=1 << 22)
    try:

        async def call(**said: Any) -> Any:
            writer.write(json.dumps({"id": 1, **said}).encode() + b"\n")
            return json.loads(await reader.readline())["ok"]

        async with asyncio.timeout(WITHIN_S):
            while any(one["commitment_a"] != FALLBACK_A for one in (await call(call="status"))["evses"]):  # noqa: ASYNC110 - it changes in another process
                await asyncio.sleep(0.05)
            await call(call="schedule-clear", args={"evse": "K1/1"})
    finally:
        writer.close()


def booked(path: Path) -> dict[tuple[str, int], bool]:
    """(EVSE, transaction) of every session in the books, and whether it has ended."""
    db = sqlite3.connect(path)
    try:
        rows = db.execute("SELECT evse, transaction_id, ended FROM sessions").fetchall()
    finally:
        db.close()
    return {(evse, int(number)): ended is not None for evse, number, ended in rows}
