"""`make bench ARGS=plant`: the depot in virtual time, one second at a time, judged by what really flows.

24 mixed chargers, 160 A, three rows of 80 A (`plant_world`), controlled by the core and by others (`plant_ways`).
The targets are those of scheduling notes section 5, "one-second safety"; all are to hold at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

from tests.bench.figures import Figure
from tests.bench.plant_ways import AllKnowing, EqualShare, Ours, Sequential, Way
from tests.bench.plant_world import SCENARIOS, Scenario, World

SECONDS, SEEDS = 7_200, 3
WAYS: dict[str, Callable[[World], Way]] = {
    "core": Ours,
    "all-knowing": AllKnowing,
    "sequential, 30 s": Sequential,
    "equal share, 10 s": EqualShare,
}
CONTEXT = ("sequential, 30 s", "equal share, 10 s")  # what others do: one world is enough to see it


@dataclass(frozen=True)
class Result:
    """What one way did to one world."""

    way: str
    scenario: str
    longest_s: int
    much_s: int
    worst: float
    trips: int
    energy_wh: float
    cycles: int
    starts: int
    vehicle_h: float


@dataclass(frozen=True)
class Row:
    """One way in one scenario over all seeds: the worst of the safety figures, the mean of the others."""

    way: str
    scenario: str
    longest_s: int
    much_s: int
    worst: float
    trips: int
    energy_pct: float
    cycles_per_h: float
    starts_per_h: float


def run(job: tuple[str, str, int, int]) -> Result:
    name, scenario_name, seed, seconds = job
    scenario = next(one for one in SCENARIOS if one.name == scenario_name)
    world = World(scenario, seed, seconds)
    way = WAYS[name](world)
    for second in range(seconds):
        for seat, came in world.moves(second):
            way.moved(seat, came)
        world.flow(second, way.before(second))
        way.after(second)
    watches, seats = world.watches.values(), world.seats.values()
    return Result(
        name,
        scenario.name,
        max(watch.any.longest_s for watch in watches),
        max(watch.much.longest_s for watch in watches),
        max(watch.worst for watch in watches),
        sum(watch.breaker.trips for watch in watches),
        sum(seat.energy_wh for seat in seats),
        sum(seat.cut for seat in seats),
        sum(seat.starts for seat in seats),
        world.vehicle_s / 3600,
    )


def rows(
    scenarios: tuple[Scenario, ...] = SCENARIOS,
    ways: tuple[str, ...] = tuple(WAYS),
    seeds: int = SEEDS,
    seconds: int = SECONDS,
) -> list[Row]:
    jobs = [
        (way, scenario.name, seed, seconds)
        for scenario in scenarios
        for way in dict.fromkeys((*ways, "all-knowing"))
        for seed in range(1 if way in CONTEXT else seeds)
    ]
    with ProcessPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        results = list(pool.map(run, jobs))
    made = []
    for scenario in scenarios:
        best = [r.energy_wh for r in results if (r.way, r.scenario) == ("all-knowing", scenario.name)]
        for way in dict.fromkeys((*ways, "all-knowing")):
            mine = [r for r in results if (r.way, r.scenario) == (way, scenario.name)]
            hours = sum(r.vehicle_h for r in mine)
            made.append(
                Row(
                    way,
                    scenario.name,
                    max(r.longest_s for r in mine),
                    max(r.much_s for r in mine),
                    max(r.worst for r in mine),
                    sum(r.trips for r in mine),
                    100 * sum(r.energy_wh for r in mine) / sum(best[: len(mine)]),
                    sum(r.cycles for r in mine) / hours,
                    sum(r.starts for r in mine) / hours,
                )
            )
    return made


def table(made: list[Row]) -> str:
    lines = [
        f"{'SCENARIO':20} {'WAY':18} {'OVERLOAD s':>10} {'>1.05 s':>8} {'WORST':>6} {'TRIPS':>6} {'ENERGY %':>9}"
        f" {'CYCLES/h':>9} {'STARTS/h':>9}"
    ]
    lines += [
        f"{r.scenario:20} {r.way:18} {r.longest_s:10} {r.much_s:8} {r.worst:6.2f} {r.trips:6} {r.energy_pct:9.1f}"
        f" {r.cycles_per_h:9.2f} {r.starts_per_h:9.2f}"
        for r in made
    ]
    return "\n".join(lines)


def plant() -> Iterator[Figure]:
    made = rows()
    print(table(made), file=sys.stderr, flush=True)
    for scenario in SCENARIOS:
        (row,) = (r for r in made if (r.way, r.scenario) == ("core", scenario.name))
        name = f"plant, {scenario.name}"
        yield Figure(f"{name}: longest overload", row.longest_s, "s", scenario.longest_s)
        yield Figure(f"{name}: longest above 1.05", row.much_s, "s")
        yield Figure(f"{name}: breaker trips", row.trips, "", 0)
        lost = None if scenario.energy_pct is None else 100 - scenario.energy_pct
        yield Figure(f"{name}: energy short of all-knowing", 100 - row.energy_pct, "%", lost)
        yield Figure(f"{name}: contactor cycles per vehicle-hour", row.cycles_per_h, "1/h", scenario.cycles)
