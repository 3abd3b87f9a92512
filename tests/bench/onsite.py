"""The on-site host with fifty chargers of two connectors: how fast a word reaches a charger, and what it costs.

The controller is the real one on an ordinary config file, the chargers are `chargers` in a process of their own; orders
come over the control socket as `depot` sends them. A command has reached its charger when the long poll is answered.
"""

from __future__ import annotations

import asyncio
import json
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from controller.config import load
from tests.bench.chargers import BUILDING_A, MODEL, phase
from tests.bench.figures import Figure, percentile
from tests.bench.processes import controller, cpu_s, free_port, memory_mb
from ui.client import Client, NotReachable

CHARGERS, CONNECTORS = 50, 2
# one phase each, in turn: even when all of them begin at once and the meter is in doubt about the rest, there is room
MAX_A, FALLBACK_A = 16, 6
LIMIT_A = 2000
READY_S = 30.0
CALM_S = 2.0  # between two waves of limits: every charger has said what it draws now
STEADY_S = 15.0
SHARES = (90, 80, 70, 60, 50, 40)  # per cent; each of them lowers everybody

Json = dict[str, Any]


def onsite() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), free_port()
        with running(port) as crowd:
            config = write(folder, port, int(crowd.wait_for("meter")["port"]))
            with controller(folder, config) as process:
                crowd.wait_for("settled")
                site = Site(Client(folder / "control.sock"), crowd)
                asyncio.run(site.until_ready())
                began = asyncio.run(site.starts())
                asyncio.run(site.until_all_draw(MAX_A * 0.95))
                cpu_before_s, before_s = cpu_s(process.pid), time.monotonic()
                time.sleep(STEADY_S)
                share = (cpu_s(process.pid) - cpu_before_s) / (time.monotonic() - before_s)
                waves = asyncio.run(site.waves())
                resident, highest = memory_mb(process.pid, "VmRSS"), memory_mb(process.pid, "VmHWM")
    yield Figure(
        f"start order to the poll's answer, {CHARGERS} chargers polling, p50", percentile(began, 50), "ms"
    )
    yield Figure("the same, p99", percentile(began, 99), "ms", 100.0)
    yield Figure("processor of one core for their steady traffic, all charging", share * 100, "%", 10.0)
    yield Figure(
        f"a lower limit reaches each of {CHARGERS * CONNECTORS} connectors, p50", percentile(waves, 50), "s"
    )
    yield Figure("the same, p99", percentile(waves, 99), "s", 1.0)
    yield Figure("memory with them, resident", resident, "MB", 140.0)
    yield Figure("the same, highest so far", highest, "MB")


class Site:
    """What a person at the control socket does, and what the chargers say of it."""

    def __init__(self, client: Client, crowd: Crowd) -> None:
        self._client, self._crowd = client, crowd
        self._evses = [
            (f"CP{n:03}/{c}", f"SN{n:03}/{c}") for n in range(CHARGERS) for c in range(1, CONNECTORS + 1)
        ]

    async def until_ready(self) -> None:
        """Every charger is there and the meter is believed."""
        await self._until(
            lambda seen: seen["site"]["state"] == "auto" and all(e["connected"] for e in seen["evses"])
        )

    async def until_all_draw(self, amps: float) -> None:
        await self._until(
            lambda seen: all(max(a or 0.0 for a in e["measured_a"]) >= amps for e in seen["evses"])
        )

    async def starts(self) -> list[float]:
        """Milliseconds from each order to the answer of that connector's poll."""
        took_ms = []
        for evse, serial in self._evses:
            began_s = time.monotonic()
            await self._client.call("start", evse=evse)
            said = await asyncio.to_thread(self._crowd.wait_for, "start_charging", serial)
            took_ms.append((said["at"] - began_s) * 1e3)
        return took_ms

    async def waves(self) -> list[float]:
        """Seconds from each flexibility order to each connector's poll bringing its lower limit."""
        took_s, highest_kw = [], MAX_A * 230 / 1e3
        for share in SHARES:
            missing, below_kw = {serial for _, serial in self._evses}, highest_kw * (share + 1) / 100
            began_s = time.monotonic()
            await self._client.call("flex", percent=share, duration_s=600)
            while missing:
                said = await asyncio.to_thread(self._crowd.wait_for, "set_power_limit")
                if said["evse"] in missing and said["kw"] <= below_kw:
                    missing.remove(said["evse"])
                    took_s.append(said["at"] - began_s)
            await asyncio.sleep(CALM_S)
        return took_s

    async def _until(self, holds: Any) -> None:
        deadline_s, seen = time.monotonic() + READY_S, None
        while True:
            try:
                seen = await self._client.call("status")
                if holds(seen):
                    return
            except NotReachable:
                pass
            if time.monotonic() > deadline_s:
                raise RuntimeError(f"never ready: {seen}")
            await asyncio.sleep(0.2)


class Crowd:
    """What the chargers' process says; read as it comes, so that nobody waits in its pipe."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        self._said: queue.Queue[str] = queue.Queue()
        self._lines = iter(process.stdout)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self._lines:
            self._said.put(line)
        self._said.put("")

    def wait_for(self, event: str, evse: str | None = None) -> Json:
        while True:
            line = self._said.get(timeout=READY_S)
            if not line:
                raise RuntimeError("the chargers' process ended")
            said: Json = json.loads(line)
            if said["event"] == event and evse in (None, said.get("evse")):
                return said


@contextmanager
def running(port: int) -> Iterator[Crowd]:
    command = [sys.executable, "-m", "tests.bench.chargers", str(port)]
    command += ["--chargers", str(CHARGERS), "--connectors", str(CONNECTORS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Crowd(process)
        finally:
            process.terminate()


def write(folder: Path, port: int, meter_port: int) -> Path:
    lines = [
        "[site]", 'name = "Bench"', 'timezone = "Europe/Amsterdam"', f'limit = "{LIMIT_A} A"', 'meter = "main"',
        f'assumed_load = "{BUILDING_A * 2} A"', "[meter.main]", 'kind = "sdm630"',
        f'address = "tcp://127.0.0.1:{meter_port}/1"', 'poll = "1 s"',
        "[open_platform]", 'mode = "sole"', 'enabled_by = "make bench"',
        'purposes = ["monitor", "control", "flexibility"]',
        "[open_platform.onsite]", f'listen = "127.0.0.1:{port}"', "clients = []",
        "[storage]", 'path = "state"', "[control]", 'socket = "control.sock"',
    ]  # fmt: skip
    for number in range(CHARGERS):
        lines += [
            f"[station.CP{number:03}]", 'circuit = "site"', f'fallback = "{FALLBACK_A} A"',
            f'open_platform = {{ serial = "SN{number:03}", model = "{MODEL}", link = "onsite" }}',
            *(
                f'evse.{c} = {{ max = "{MAX_A} A", min = "6 A", phases = "L{phase(number, c) + 1}" }}'
                for c in range(1, CONNECTORS + 1)
            ),
        ]  # fmt: skip
    config = folder / "depot.toml"
    config.write_text("\n".join(lines), encoding="utf-8")
    load(config)  # a mistake shows here, not as a controller that never comes
    return config
