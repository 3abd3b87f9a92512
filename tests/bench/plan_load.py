"""What planning costs: time, memory and the loop beside it, for 50 vehicles over 24 hours with sun, battery and a peak.

Owns one request of that size and three figures about it. The worker is the product's own; memory is that of this process,
before the solver is loaded and after many plans.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING

from controller.core.model import (
    SITE,
    Circuit,
    CircuitId,
    Departure,
    Evse,
    EvseId,
    Link,
    Moment,
    Site,
    StationId,
    each_phase,
)
from controller.core.planning import Battery, PlanRequest, Present, Price, Step
from tests.bench.figures import Figure, percentile
from tests.bench.processes import memory_mb

if TYPE_CHECKING:
    from controller.planner.worker import PlanWorker

VEHICLES, ROW, PLANS = 50, 10, 40
PROBE_S = 0.005
NOW = datetime(2026, 11, 22, 17, 0, tzinfo=UTC)
LINK = Link("bench", 180, 30, 10, 12)


def request() -> PlanRequest:
    rng = Random(7)
    circuits = {SITE: Circuit(SITE, None, each_phase(400_000))}
    evses: dict[EvseId, Evse] = {}
    present, departures = [], dict[str, Departure]()
    for n in range(VEHICLES):
        row = CircuitId(f"row_{n // ROW}")
        circuits[row] = Circuit(row, SITE, each_phase(125_000))
        id = EvseId(f"CP{n:03}/1")
        evses[id] = Evse(id, StationId(f"CP{n:03}"), row, 32_000, 6_000, (0, 1, 2), 6_000, LINK)
        present.append(Present(id, None, NOW, 0, None))
        leaves = NOW + timedelta(hours=24 if n == 0 else rng.uniform(10, 24))
        departures[id] = Departure(id, leaves, energy_wh=rng.randrange(20_000, 90_000))
    hours = [NOW + timedelta(hours=n) for n in range(30)]
    return PlanRequest(
        Moment(0.0, NOW),
        Site("bench", "UTC", 230_000, circuits, evses),
        tuple(present),
        {},
        departures,
        prices=tuple(Price(at, rng.uniform(0.05, 0.45)) for at in hours),
        peak_price=6.0,
        peak_w=80_000,
        load=tuple(Step(at, rng.randrange(10_000, 40_000)) for at in hours),
        pv=tuple(Step(at, rng.randrange(0, 60_000)) for at in hours),
        battery=Battery(100_000, 50_000, 50_000, 50_000, 10_000),
        target_w=240_000,
        floors_ma=dict.fromkeys(evses, 6_000),
    )


def figures() -> Iterator[Figure]:
    before_mb = memory_mb(os.getpid(), "VmRSS")
    from controller.planner.worker import PlanWorker  # only now is the solver loaded

    times_ms, lags_ms, by = asyncio.run(_run(PlanWorker()))
    more_mb = memory_mb(os.getpid(), "VmHWM") - before_mb
    yield Figure(f"plan of {VEHICLES} vehicles over 24 h, p50", percentile(times_ms, 50), "ms")
    yield Figure("the same, p95", percentile(times_ms, 95), "ms", 150.0)
    yield Figure("of them by the solver, not by rules", 100 * by / PLANS, "%")
    yield Figure("loop lag while planning all the time, p99", percentile(lags_ms, 99), "ms", 25.0)
    yield Figure("memory that planning adds, at most", more_mb, "MB", 60.0)


async def _run(worker: PlanWorker) -> tuple[list[float], list[float], int]:
    lags_ms: list[float] = []
    probe = asyncio.create_task(_probe(lags_ms))
    asked, times_ms, by = request(), list[float](), 0
    for n in range(PLANS):
        began_s = time.perf_counter()
        made = await worker.plan(replace(asked, peak_w=asked.peak_w + n))
        times_ms.append(1000 * (time.perf_counter() - began_s))
        by += made.by == "horizon"
    probe.cancel()
    return times_ms, lags_ms, by


async def _probe(lags_ms: list[float]) -> None:
    while True:
        began_s = time.perf_counter()
        await asyncio.sleep(PROBE_S)
        lags_ms.append((time.perf_counter() - began_s - PROBE_S) * 1e3)


def main() -> None:
    for figure in figures():
        target = "" if figure.target is None else f"  (target {figure.target:g}: {figure.verdict})"
        print(f"  {figure.name:<52}{figure.measured:>8.1f} {figure.unit}{target}")


if __name__ == "__main__":
    main()
