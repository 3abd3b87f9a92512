"""How it grows: 10 to 200 stations on real sockets, all charging, and what gets slow first.

The controller is a whole one in a process of its own (`python -m tests.bench.scale CONFIG STATIONS`), watched from inside: it
says what its steps and its loop did since it was told "begin". The stations are `crowd`; both share this machine's cores.
A config allows 2000 A, enough for 50 stations at 32 A: for more of them the copper is made thicker behind its back.
Writing is what reaches the file system (`/proc/PID/io`) while all stations ramp up and the building's load jumps, as if that
went on for a day: the most there can be, not what a day brings (`month` says that).
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from controller.cli.compose import House, until_signalled
from controller.cli.serve import logs
from controller.clock import SystemClock
from controller.config import load
from controller.core.model import SITE, Moment, PerPhase, each_phase
from tests.bench.crowd import words
from tests.bench.figures import Figure, percentile
from tests.bench.processes import BUILDING_A, STATIONS, Crowd, cpu_s, free_port, memory_mb, write

SIZES = (10, 20, 50, 100, 200)
PER_STATION_A = BUILDING_A / STATIONS  # of the building; leaves every station its 32 A
STEP_A = 2.4  # each station must come down by this
STEPS = 5
PROBE_S = 0.01
REACTION_S, STEP_MS, LAG_MS = 1.5, 2.0, 50.0  # what is promised for 50


def scale() -> Iterator[Figure]:
    print(
        "stations  set up  step cpu p50/p99  step p99  lag p99  reaction p50/max  cpu  memory  written/day",
        file=sys.stderr,
    )
    for stations in SIZES:
        with tempfile.TemporaryDirectory() as name:
            found = _measured(Path(name), stations)
        print(_row(stations, found), file=sys.stderr, flush=True)
        promised = stations <= STATIONS
        yield Figure(f"{stations} stations: all set up", found["settled_s"], "s")
        yield Figure(f"{stations} stations: step, processor time, p50", found["cpu50_ms"], "ms")
        yield Figure(
            f"{stations} stations: step, processor time, p99",
            found["cpu99_ms"],
            "ms",
            STEP_MS if promised else None,
        )
        yield Figure(f"{stations} stations: step, by the clock, p99", found["step99_ms"], "ms")
        yield Figure(
            f"{stations} stations: loop lag, p99", found["lag99_ms"], "ms", LAG_MS if promised else None
        )
        yield Figure(f"{stations} stations: load step to the last station, p50", found["reaction50_s"], "s")
        yield Figure(
            f"{stations} stations: the same, slowest",
            found["reaction_s"],
            "s",
            REACTION_S if promised else None,
        )
        yield Figure(f"{stations} stations: load steps not answered by all", found["misses"], "", 0)
        yield Figure(f"{stations} stations: processor of one core", found["cpu_pct"], "%")
        yield Figure(f"{stations} stations: memory", found["memory_mb"], "MB")
        yield Figure(f"{stations} stations: written a day", found["written_gb"], "GB")


def _row(stations: int, found: dict[str, float]) -> str:
    return (
        f"{stations:8}  {found['settled_s']:4.1f} s  {found['cpu50_ms']:5.2f}/{found['cpu99_ms']:5.2f} ms"
        f"   {found['step99_ms']:5.1f} ms  {found['lag99_ms']:4.0f} ms  {found['reaction50_s']:5.2f}/{found['reaction_s']:5.2f} s"
        f"  {found['cpu_pct']:3.0f} %  {found['memory_mb']:3.0f} MB  {found['written_gb']:.2f} GB"
    )


def _measured(folder: Path, stations: int) -> dict[str, float]:
    port = free_port()
    options = ("--stations", str(stations), "--present", str(stations), "--charge",
               "--building", str(PER_STATION_A * stations), "--step", str(STEP_A * stations))  # fmt: skip
    with Crowd.running(port, *options) as crowd:
        config = write(folder, port, crowd.meter_port, stations)
        began_s = time.monotonic()
        with _watched(folder, config, stations) as process:
            settled_s = crowd.wait_for("settled")["at"] - began_s
            _tell(process, "begin")
            before = cpu_s(process.pid), _written(process.pid), time.monotonic()
            reactions, misses = _steps(crowd)
            own = _ask(process)
            took_s = time.monotonic() - before[2]
            share, written = (cpu_s(process.pid) - before[0]) / took_s, _written(process.pid) - before[1]
            memory = memory_mb(process.pid, "VmRSS")
    return {
        "settled_s": settled_s,
        "cpu50_ms": percentile(own["cpu_ms"], 50),
        "cpu99_ms": percentile(own["cpu_ms"], 99),
        "step99_ms": percentile(own["step_ms"], 99),
        "lag99_ms": percentile(own["lag_ms"], 99),
        "reaction50_s": percentile(reactions, 50) if reactions else float("inf"),
        "reaction_s": max(reactions, default=float("inf")),
        "misses": misses,
        "cpu_pct": share * 100,
        "memory_mb": memory,
        "written_gb": written / took_s * 86_400 / 1e9,
    }


def _steps(crowd: Crowd) -> tuple[list[float], int]:
    crowd.tell(f"steps {STEPS}")
    seconds = []
    while (said := crowd.next())["event"] != "steps":
        if said["event"] == "step" and said["seconds"] is not None:
            seconds.append(said["seconds"])
    return seconds, said["misses"]


def _written(pid: int) -> int:
    lines = dict(
        line.split(": ") for line in Path(f"/proc/{pid}/io").read_text(encoding="ascii").splitlines()
    )
    return int(lines["write_bytes"])


# --- the controller's process -----------------------------------------------------------------------------------------


@contextmanager
def _watched(folder: Path, config: Path, stations: int) -> Iterator[subprocess.Popen[str]]:
    pipe = subprocess.PIPE
    with (
        (folder / "depot.log").open("wb") as log,
        subprocess.Popen(
            [sys.executable, "-m", "tests.bench.scale", str(config), str(stations)],
            stdin=pipe,
            stdout=pipe,
            stderr=log,
            text=True,
        ) as made,
    ):
        try:
            yield made
        finally:
            made.terminate()


def _tell(process: subprocess.Popen[str], word: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{word}\n")
    process.stdin.flush()


def _ask(process: subprocess.Popen[str]) -> Any:
    _tell(process, "tell")
    assert process.stdout is not None
    return json.loads(process.stdout.readline())


class Inside:
    """What the steps and the loop of a controller did."""

    def __init__(self) -> None:
        self.step_ms: list[float] = []
        self.cpu_ms: list[float] = []
        self.lag_ms: list[float] = []

    def watch(self, depot: Any) -> None:
        step = depot.step

        def timed(now: Moment) -> Any:
            began_s, began_cpu_s = time.perf_counter(), time.thread_time()
            decision = step(now)
            self.cpu_ms.append((time.thread_time() - began_cpu_s) * 1e3)
            self.step_ms.append((time.perf_counter() - began_s) * 1e3)
            return decision

        depot.step = timed

    async def probe(self) -> None:
        while True:
            began_s = time.perf_counter()
            await asyncio.sleep(PROBE_S)
            self.lag_ms.append((time.perf_counter() - began_s - PROBE_S) * 1e3)

    async def listen(self) -> None:
        reader = await words()
        while line := (await reader.readline()).decode().strip():
            if line == "begin":
                self.__init__()  # type: ignore[misc]
            else:
                print(json.dumps(vars(self)), flush=True)
        await asyncio.Event().wait()


async def _run(path: Path, stations: int) -> None:
    inside = Inside()
    config, share = load(path), max(1.0, stations / STATIONS)
    site = config.site.circuits[SITE]
    thick = replace(
        site, limit_ma=_times(site.limit_ma, share), assumed_load_ma=each_phase(30_000 * stations)
    )
    circuits = {**config.site.circuits, SITE: thick}
    house = House(replace(config, site=replace(config.site, circuits=circuits)), SystemClock())
    async with house.open() as runtime:
        inside.watch(runtime.depot)
        await until_signalled(house.run(runtime, (inside.probe, inside.listen)))


def _times(amps: Any, share: float) -> PerPhase[int]:
    return PerPhase(*(int(each * share) for each in amps))


if __name__ == "__main__":
    logs(None)
    asyncio.run(_run(Path(sys.argv[1]), int(sys.argv[2])))
