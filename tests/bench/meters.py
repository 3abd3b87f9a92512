"""The cost of reading twenty meters once a second over Modbus TCP. The meters live in a process of their own:
`python -m tests.bench.meters`, which prints their ports and serves until its standard input ends.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace

from controller.clock import SystemClock
from controller.core.events import Event, MeterReading
from controller.core.model import MeterId
from drivers.modbus.bus import MeterSettings, ModbusMeters
from drivers.sim.meter import MeterTruth, SimMeter
from tests.bench.figures import Figure, percentile

METERS, SECONDS = 20, 20
TRUTH = MeterTruth((40.0, 38.0, 41.0), (230.0, 231.0, 229.0), (9200.0, 8778.0, 9389.0), 1e6, 0.0)


def meters() -> Iterator[Figure]:
    with _served() as ports:
        core, readings = asyncio.run(_read(ports))
    late_ms = [one.latency_ms for one in readings if one.latency_ms is not None]
    yield Figure(f"{METERS} meters at 1 s over TCP, share of one core", core, "%", 5.0)
    yield Figure("readings lost of them", 1 - len(readings) / (METERS * SECONDS), "", 0.02)
    yield Figure("one reading of two blocks, p99", percentile(late_ms, 99), "ms")


async def _read(ports: Sequence[int]) -> tuple[float, list[MeterReading]]:
    readings: list[MeterReading] = []

    async def report(event: Event) -> SimpleNamespace:
        if isinstance(event, MeterReading):
            readings.append(event)
        return SimpleNamespace()

    settings = [
        MeterSettings(MeterId(f"m{n}"), "sdm630", "127.0.0.1", port, unit=1, poll_s=1.0)
        for n, port in enumerate(ports)
    ]
    polling = asyncio.create_task(ModbusMeters(settings, SystemClock()).run(report))  # type: ignore[arg-type]
    await asyncio.sleep(2.5)  # connected, imported, warm; and half-way between two polls
    readings.clear()
    began_s, began_cpu_s = time.monotonic(), time.process_time()
    await asyncio.sleep(SECONDS)
    core = 100 * (time.process_time() - began_cpu_s) / (time.monotonic() - began_s)
    taken = list(readings)
    polling.cancel()
    await asyncio.gather(polling, return_exceptions=True)
    return core, taken


@contextmanager
def _served() -> Iterator[list[int]]:
    command = [sys.executable, "-m", "tests.bench.meters"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.stdin.close()
            process.wait(timeout=10)


async def _serve() -> None:
    served = [SimMeter(lambda: TRUTH) for _ in range(METERS)]
    for one in served:
        await one.start()
    print(json.dumps([one.port for one in served]), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    for one in served:
        await one.stop()


if __name__ == "__main__":
    asyncio.run(_serve())
