"""The dashboard's price: bytes on the wire, processor, first paint, and what five of them cost the controller.

Fifty chargers, four pictures a second, each with five rows that moved: more than a real depot brings, which steps once
a second. The dashboard is the real process in a pty of 80x24 with TERM=linux; for the controller's part it is the real
house with fifty stations, and one of the five dashboards is stopped (SIGSTOP) with its socket full.
"""

from __future__ import annotations

import asyncio
import fcntl
import itertools
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from controller.cli.compose import House
from controller.clock import SystemClock
from controller.config import load
from controller.core import wire
from controller.core.model import PerPhase
from controller.core.snapshot import Snapshot
from tests.bench.figures import Figure, percentile
from tests.bench.processes import STATIONS, Crowd, cpu_s, free_port, write
from tests.tui import depot_values

PER_S, MOVED = 4, 5
WARM_S, WATCHED_S, PROBE_S = 4.0, 20.0, 0.002
DASHBOARDS = 5


class Dashboard:
    """`depot ui` in a pty, read or not."""

    def __init__(self, socket: Path) -> None:
        self.ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        command = [sys.executable, "-m", "controller", "ui", "--socket", str(socket)]
        environ = {**os.environ, "TERM": "linux", "LANG": "C.UTF-8"}
        self.began_s = time.monotonic()
        self.process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environ)
        os.close(theirs)
        self.count = 0
        self.painted_s = 0.0
        self._opening = b""
        self._painted = asyncio.Event()
        asyncio.get_running_loop().add_reader(self.ours, self._read)

    def _read(self) -> None:
        try:
            written = os.read(self.ours, 65536)
        except OSError:
            asyncio.get_running_loop().remove_reader(self.ours)
            return
        self.count += len(written)
        self._opening += written if not self._painted.is_set() else b""
        if (
            not self._painted.is_set() and b"links " in self._opening
        ):  # the header of a picture, not of the wait for it
            self.painted_s = time.monotonic() - self.began_s
            self._painted.set()

    async def painted(self) -> float:
        await self._painted.wait()
        return self.painted_s

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self.ours)
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait()
        os.close(self.ours)


def screen() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as name:
        first_s, bytes_s, share = asyncio.run(_alone(Path(name) / "s"))
    yield Figure("dashboard: start of the process to the first picture", first_s, "s", 1.0)
    yield Figure("dashboard, 50 chargers, 4 pictures/s, 80x24", bytes_s / 1000, "kB/s", 1.0)
    yield Figure("the same, processor of one core", share * 100, "%", 10.0)
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder, port = Path(name), free_port()
        crowd = stack.enter_context(Crowd.running(port, "--charge"))
        config = write(folder, port, crowd.meter_port)
        before, during = asyncio.run(_watched(config, crowd, folder / "control.sock"))
    alone_ms, watched_ms = percentile(before[0], 99), percentile(during[0], 99)
    yield Figure("step p99 without dashboards", alone_ms, "ms")
    yield Figure("step p99 with five dashboards, one of them stopped", watched_ms, "ms")
    yield Figure("the latter over the former", watched_ms / alone_ms, "x", 1.25)
    yield Figure("loop lag p99 without dashboards", percentile(before[1], 99), "ms")
    yield Figure("loop lag p99 with five dashboards, one of them stopped", percentile(during[1], 99), "ms")


# --- one dashboard on pictures made here --------------------------------------------------------------------------------


def _pictures() -> Iterator[Snapshot]:
    """Each a quarter second after the one before, with five EVSEs whose amps moved."""
    now = depot_values.big(STATIONS)
    for number in itertools.count():
        evses = list(now.evses)
        for moved in range(MOVED):
            at = (number * MOVED + moved) % STATIONS
            milli = 15_000 + (number * 137 + moved * 311) % 1000
            evses[at] = evses[at]._replace(
                measured_ma=PerPhase(milli, milli, milli), power_w=milli * 690 // 1000
            )
        now = replace(now, time=depot_values.NOW + timedelta(seconds=number / PER_S), evses=tuple(evses))
        yield now


async def _alone(socket: Path) -> tuple[float, float, float]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = json.loads(await reader.readline())
        for picture in _pictures():
            writer.write(json.dumps({"id": request["id"], "ok": wire.status(picture)}).encode() + b"\n")
            await writer.drain()
            if request["call"] != "watch":
                break
            await asyncio.sleep(1 / PER_S)

    server = await asyncio.start_unix_server(serve, socket)
    dashboard = Dashboard(socket)
    try:
        first_s = await dashboard.painted()
        await asyncio.sleep(WARM_S)
        count, used_s, began_s = dashboard.count, cpu_s(dashboard.process.pid), time.monotonic()
        await asyncio.sleep(WATCHED_S)
        took_s = time.monotonic() - began_s
        used_s = cpu_s(dashboard.process.pid) - used_s
        return first_s, (dashboard.count - count) / took_s, used_s / took_s
    finally:
        dashboard.close()
        server.close()


# --- five of them on the real controller ----------------------------------------------------------------------------------


Samples = tuple[list[float], list[float]]  # ms of each step, ms of lag of the loop


async def _watched(config: Path, crowd: Crowd, socket: Path) -> tuple[Samples, Samples]:
    house = House(load(config), SystemClock())
    async with house.open() as runtime:
        steps_ms: list[float] = []
        step = runtime.depot.step

        def timed(*args: object, **named: object) -> object:
            began_s = time.thread_time()  # its own: what else runs on this machine is not the question
            try:
                return step(*args, **named)  # type: ignore[arg-type]
            finally:
                steps_ms.append((time.thread_time() - began_s) * 1e3)

        runtime.depot.step = timed  # type: ignore[method-assign,assignment]
        work = asyncio.create_task(house.run(runtime))
        await asyncio.to_thread(crowd.wait_for, "settled")
        before = await _sampled(steps_ms)
        dashboards = [Dashboard(socket) for _ in range(DASHBOARDS)]
        try:
            for each in dashboards:
                await each.painted()
            dashboards[0].process.send_signal(signal.SIGSTOP)
            during = await _sampled(steps_ms)
        finally:
            for each in dashboards:
                each.close()
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
    return before, during


async def _sampled(steps_ms: list[float]) -> Samples:
    steps_ms.clear()
    lags_ms: list[float] = []
    until_s = time.monotonic() + WATCHED_S
    while time.monotonic() < until_s:
        began_s = time.perf_counter()
        await asyncio.sleep(PROBE_S)
        lags_ms.append((time.perf_counter() - began_s - PROBE_S) * 1e3)
    return list(steps_ms), lags_ms
