"""What only whole processes can show: start, memory, reaction, reconnection storm, the dashboard's wire.

The controller is the real one on an ordinary config file, the stations are `crowd` in a process of their own.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import pty
import select
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from controller.cli.compose import House
from controller.clock import SystemClock
from controller.config import load
from tests.bench.crowd import PASSWORD
from tests.bench.figures import Figure, percentile

STATIONS = 50
LIMIT_A = 2000
BUILDING_A = 340.0  # leaves every station its 32 A, and the first step of a ramp does not
LOAD_STEPS = 30
WARM_UP_S = 40.0
PROBE_S = 0.002
STORMS, STORM_GAP_S = 10, 2.0
WATCHED_S = 20.0


# --- benches ------------------------------------------------------------------------------------------------------


def start() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder, port = Path(name), free_port()
        crowd = stack.enter_context(Crowd.running(port, "--present", str(STATIONS // 2), "--charge"))
        config = write(folder, port, crowd.meter_port)
        time.sleep(2 * 0.2)  # every station is dialling already when the controller starts
        began_s = time.monotonic()
        stack.enter_context(controller(folder, config))
        fallback = crowd.wait_for("fallback")
        leased = crowd.wait_for("leased")
    yield Figure("process start to first set-point, half of 50 off", fallback["at"] - began_s, "s", 3.0)
    yield Figure("process start to first leased limit", leased["at"] - began_s, "s")


def memory() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as name, charging_site(Path(name)) as (_, process):
        before_s, began_s = cpu_s(process.pid), time.monotonic()
        time.sleep(WARM_UP_S)
        share = (cpu_s(process.pid) - before_s) / (time.monotonic() - began_s)
        resident, highest = memory_mb(process.pid, "VmRSS"), memory_mb(process.pid, "VmHWM")
    yield Figure("memory with 50 stations charging, resident", resident, "MB", 120.0)
    yield Figure("the same, highest so far", highest, "MB")
    yield Figure("processor of one core meanwhile", share * 100, "%")


def reaction() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as name, charging_site(Path(name)) as (crowd, _):
        crowd.tell(f"steps {LOAD_STEPS}")
        seconds: list[float] = []
        while (said := crowd.next())["event"] != "steps":
            if said["event"] == "step":
                print(f"  step: {said}", file=sys.stderr, flush=True)
                if said["seconds"] is not None:
                    seconds.append(said["seconds"])
    yield Figure("meter register to the last of 50 stations, p50", percentile(seconds, 50), "s")
    yield Figure("the same, p99", percentile(seconds, 99), "s", 1.5)
    yield Figure("load steps without an answer from every station", said["misses"], "", 0)


def storm() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), free_port()
        with Crowd.running(port, "--charge") as crowd:
            config = write(folder, port, crowd.meter_port)
            lags_ms, seconds = asyncio.run(_storm(config, crowd))
    yield Figure("loop lag while 50 stations reconnect, p99", percentile(lags_ms, 99), "ms", 50.0)
    yield Figure("the same, highest", max(lags_ms), "ms")
    yield Figure("until all 50 are set up again, longest", seconds, "s")


async def _storm(config: Path, crowd: Crowd) -> tuple[list[float], float]:
    house = House(load(config), SystemClock())
    lags_ms: list[float] = []

    async def probe() -> None:
        while True:
            began_s = time.perf_counter()
            await asyncio.sleep(PROBE_S)
            lags_ms.append((time.perf_counter() - began_s - PROBE_S) * 1e3)

    async with house.open() as runtime:
        work = asyncio.create_task(house.run(runtime))
        await asyncio.to_thread(crowd.wait_for, "settled")
        await asyncio.sleep(STORM_GAP_S)
        took_s = []
        for _ in range(STORMS):
            probing = asyncio.create_task(probe())
            crowd.tell("storm")
            took_s.append((await asyncio.to_thread(crowd.wait_for, "storm"))["seconds"])
            probing.cancel()
            await asyncio.sleep(STORM_GAP_S)
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
    return lags_ms, max(took_s)


def wire() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as name, charging_site(Path(name)):
        parent, child = pty.openpty()
        fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        command = [sys.executable, "-m", "controller", "ui", "--socket", str(Path(name) / "control.sock")]
        environment = {**os.environ, "TERM": "linux"}
        with subprocess.Popen(command, stdin=child, stdout=child, stderr=child, env=environment) as screen:
            os.close(child)
            opening = _drain(parent, 5.0)
            before_s = cpu_s(screen.pid)
            steady = _drain(parent, WATCHED_S)
            share = (cpu_s(screen.pid) - before_s) / WATCHED_S
            screen.terminate()
            _drain(parent, 1.0)
        os.close(parent)
    yield Figure("dashboard at 80x24, bytes to open", opening, "B")
    yield Figure("dashboard at 80x24, steady", steady / WATCHED_S, "B/s")
    yield Figure("processor of one core for the dashboard", share * 100, "%")


def _drain(descriptor: int, seconds: float) -> int:
    """How many bytes came out within `seconds`."""
    count, until_s = 0, time.monotonic() + seconds
    while (left_s := until_s - time.monotonic()) > 0:
        if select.select([descriptor], [], [], left_s)[0]:
            try:
                count += len(os.read(descriptor, 65536))
            except OSError:  # the other end is closed
                break
    return count


# --- processes ----------------------------------------------------------------------------------------------------


class Crowd:
    """The stations' process, and what it says."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.meter_port = int(self.next()["port"])

    @classmethod
    @contextmanager
    def running(cls, port: int, *options: str) -> Iterator[Crowd]:
        command = [
            sys.executable,
            "-m",
            "tests.bench.crowd",
            str(port),
            "--building",
            str(BUILDING_A),
            *options,
        ]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            try:
                yield cls(process)
            finally:
                process.terminate()

    def next(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the stations' process ended")
        said: dict[str, Any] = json.loads(line)
        return said

    def wait_for(self, event: str) -> dict[str, Any]:
        while (said := self.next())["event"] != event:
            pass
        return said

    def tell(self, words: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{words}\n")
        self._process.stdin.flush()


@contextmanager
def controller(folder: Path, config: Path) -> Iterator[subprocess.Popen[bytes]]:
    with (
        (folder / "depot.log").open("wb") as log,
        subprocess.Popen(
            [sys.executable, "-m", "controller", "run", str(config)], stdout=log, stderr=log
        ) as made,
    ):
        try:
            yield made
        finally:
            made.terminate()


@contextmanager
def charging_site(folder: Path) -> Iterator[tuple[Crowd, subprocess.Popen[bytes]]]:
    """A controller with 50 stations, all set up and charging."""
    port = free_port()
    with Crowd.running(port, "--charge") as crowd:
        config = write(folder, port, crowd.meter_port)
        with controller(folder, config) as process:
            crowd.wait_for("settled")
            yield crowd, process


def write(folder: Path, port: int, meter_port: int, stations: int = STATIONS) -> Path:
    """The limit and the assumed load are smaller with fewer stations."""
    share = min(1.0, stations / STATIONS)
    secret = folder / "station.secret"
    secret.touch(mode=0o600)
    secret.write_text(PASSWORD, encoding="utf-8")
    lines = [
        "[site]", 'name = "Bench"', 'timezone = "Europe/Amsterdam"', f'limit = "{LIMIT_A * share:.0f} A"', 'meter = "main"',
        f'assumed_load = "{min(1500 * share, LIMIT_A - 6 * stations):.0f} A"', "[meter.main]", 'kind = "sdm630"',
        f'address = "tcp://127.0.0.1:{meter_port}/1"', 'poll = "1 s"',
        "[ocpp]", f'listen = "127.0.0.1:{port}"', 'unknown_tokens = "accept"', 'unqualified = "fallback"',
        "[storage]", 'path = "state"', "[control]", 'socket = "control.sock"',
    ]  # fmt: skip
    for number in range(stations):
        lines += [
            f"[station.B{number:03}]", 'circuit = "site"', 'fallback = "6 A"',
            'ocpp = { password_file = "station.secret" }',
            'evse.1 = { max = "32 A", min = "6 A", phases = "L1 L2 L3" }',
        ]  # fmt: skip
    config = folder / "depot.toml"
    config.write_text("\n".join(lines), encoding="utf-8")
    load(config)  # a mistake shows here, not as a controller that never comes
    return config


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def memory_mb(pid: int, field: str) -> float:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) / 1024


def cpu_s(pid: int) -> float:
    """Seconds of processor, user and system, since the process began."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
