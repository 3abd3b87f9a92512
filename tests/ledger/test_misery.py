"""A controller as a process whose disk is slow, whose books somebody else wants, that has no file handles left, and
whose network goes away: control goes on, nothing is acknowledged that is not stored, and it is said."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from deadly import SLOW_S
from test_backup import depot
from test_failpoints import ROOT, dying
from test_kill_whole import WITHIN_S, booked, config, controller, stations_at
from test_recovery import until_said
from websockets.asyncio.client import ClientConnection, connect

from controller.cli.mishaps import Mishaps


@asynccontextmanager
async def station(port: int, name: str) -> AsyncIterator[ClientConnection]:
    """A socket that says what it is told to say, once the controller listens."""
    async with asyncio.timeout(WITHIN_S):
        while True:
            try:
                made = await connect(f"ws://127.0.0.1:{port}/ocpp/{name}", subprotocols=["ocpp1.6"])  # type: ignore[list-item]
                break
            except OSError:
                await asyncio.sleep(0.05)
    try:
        await asked(made, "BootNotification", {"chargePointVendor": "V", "chargePointModel": "M"})
        yield made
    finally:
        await made.close()


async def asked(
    socket: ClientConnection, action: str, payload: dict[str, Any]
) -> tuple[dict[str, Any], float]:
    """The answer, and how long it took. What the controller asks meanwhile is refused."""
    began_s = time.monotonic()
    await socket.send(json.dumps([2, action, action, payload]))
    async with asyncio.timeout(WITHIN_S):
        async for text in socket:
            match json.loads(text):
                case [2, name, "SetChargingProfile", _]:
                    await socket.send(json.dumps([3, name, {"status": "Accepted"}]))
                case [2, name, *_]:
                    await socket.send(json.dumps([4, name, "NotSupported", "", {}]))
                case [3, name, answer] if name == action:
                    return answer, time.monotonic() - began_s
    raise AssertionError("hung up")


def start(token: str) -> dict[str, Any]:
    stamp = datetime.now(UTC).isoformat(timespec="milliseconds")
    return {"connectorId": 1, "idTag": token, "meterStart": 0, "timestamp": stamp}


async def test_a_slow_disk_delays_only_who_waits_for_it_and_is_alarmed(
    tmp_path: Path, unused_tcp_port: int
) -> None:
    path = config(tmp_path, unused_tcp_port)
    async with dying(path, "commit-slow", 30) as process:
        async with station(unused_tcp_port, "K1") as first, station(unused_tcp_port, "K2") as second:
            waits: list[float] = []
            slow: list[float] = []

            async def charges() -> None:
                for number in range(60):
                    if slow and slow[-1] > SLOW_S:
                        return
                    answer, took_s = await asked(first, "StartTransaction", start(f"T{number}"))
                    slow.append(took_s)
                    stop = {
                        "transactionId": answer["transactionId"],
                        "meterStop": number,
                        "timestamp": start("")["timestamp"],
                    }
                    await asked(first, "StopTransaction", stop)

            charging = asyncio.create_task(charges())
            while not charging.done():
                waits.append((await asked(second, "Heartbeat", {}))[1])
                await asyncio.sleep(0.05)
            await charging
        await until_said(lambda text: "takes seconds for a write" in text, tmp_path / "control.sock")
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
    assert slow[-1] > SLOW_S, "acknowledged before it was stored"
    assert max(waits) < SLOW_S, "somebody who needs no disk waited for it"
    assert sum(booked(tmp_path / "state" / "depot.db").values()) == len(slow)


async def test_who_wants_the_books_of_a_running_controller_does_not_get_them(
    tmp_path: Path, unused_tcp_port: int
) -> None:
    """Reading by another program would be harmless, its lock would not; so nobody gets either."""
    path = config(tmp_path, unused_tcp_port)
    async with stations_at(unused_tcp_port) as (yard, _), controller(path):
        await yard.until(lambda: len(yard.answered) >= 2)
        with closing(sqlite3.connect(tmp_path / "state" / "depot.db", timeout=0.2)) as stranger:
            for statement in ("BEGIN EXCLUSIVE", "SELECT count(*) FROM sessions"):
                with pytest.raises(sqlite3.OperationalError, match="locked"):
                    stranger.execute(statement)
        before = len(yard.ended)
        await yard.until(lambda: len(yard.ended) >= before + 2)
    assert yard.broken == []
    assert "locked" not in (tmp_path / "depot.log").read_text()


async def test_without_file_handles_those_who_are_connected_go_on(
    tmp_path: Path, unused_tcp_port: int
) -> None:
    path = config(tmp_path, unused_tcp_port)
    async with stations_at(unused_tcp_port) as (yard, stations), controller(path) as process:
        await yard.until(lambda: len(yard.answered) >= len(stations))
        open_now = len(os.listdir(f"/proc/{process.pid}/fd"))
        before = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (open_now + 2, before[1]))
        crowd = [await asyncio.open_connection("127.0.0.1", unused_tcp_port) for _ in range(30)]
        ends = len(yard.ended)
        await yard.until(lambda: len(yard.ended) >= ends + 5)
        for _, writer in crowd:
            writer.close()
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, before)
        assert (await depot("status", "--socket", tmp_path / "control.sock"))[0] == 0
        process.terminate()
        assert await process.wait() == 0
    assert yard.broken == []
    log = (tmp_path / "depot.log").read_text()
    assert "Traceback" not in log
    assert log.count("new connections wait: Too many open files") == 1, "it fills the journal, or hides it"


FLAP = """
import asyncio, subprocess, sys
sys.path[:0] = sys.argv[1:3]
from pathlib import Path
from test_kill_whole import STATIONS, config, controller, stations_at

def ip(*words):
    subprocess.run(["ip", *words], check=True)

async def work(folder):
    async with stations_at(8887) as (yard, _), controller(config(folder, 8887)):
        await yard.until(lambda: len(yard.ended) >= STATIONS)
        for address in ("127.0.0.1/8", "127.0.0.2/8"):
            ip("link", "set", "lo", "down")
            await asyncio.sleep(2.0)
            ip("address", "replace", address, "dev", "lo")
            ip("link", "set", "lo", "up")
            before = len(yard.ended)
            await yard.until(lambda: len(yard.ended) >= before + STATIONS)
    assert yard.broken == [], yard.broken

ip("link", "set", "lo", "up")
asyncio.run(work(Path(sys.argv[3])))
"""


def test_a_network_that_goes_away_and_comes_back(tmp_path: Path) -> None:
    """In a network of its own, where the interface may be taken down."""
    if (
        os.getuid() != 0
        or subprocess.run(["unshare", "-n", "ip", "link"], capture_output=True, check=False).returncode
    ):
        pytest.skip("takes an interface down: needs root, unshare and ip")
    said = subprocess.run(
        ["unshare", "-n", sys.executable, "-c", FLAP, ROOT, Path(__file__).parent, tmp_path],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=ROOT,
    )
    assert said.returncode == 0, said.stderr[-2000:]
    assert "Traceback" not in (tmp_path / "depot.log").read_text()


async def test_a_pause_in_accepting_that_outlives_its_server_is_no_news(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """asyncio begins to accept again a second after the handles were used up, also on a server closed meanwhile."""
    loop = asyncio.get_running_loop()
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    (listening,) = (each._sock for each in server.sockets)
    server.close()
    await server.wait_closed()
    heard: list[str] = []
    done = asyncio.Event()

    def hear(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        heard.append(str(context["exception"]))
        Mishaps().heard(loop, context)
        done.set()

    loop.set_exception_handler(hear)
    loop.call_later(0, loop._start_serving, asyncio.Protocol, listening)  # type: ignore[attr-defined]
    async with asyncio.timeout(10):
        await done.wait()
    loop.set_exception_handler(None)
    assert heard == ["Invalid file descriptor: -1"]
    assert caplog.records == []
    Mishaps().heard(loop, {"message": "else", "exception": ValueError("else")})
    assert [record.name for record in caplog.records] == ["asyncio"]
