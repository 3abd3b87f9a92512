"""The cost of one decision: `Depot.step` for a full site whose load never stands still.

In virtual time; only the calls that are measured run between the two readings of the clock.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from random import Random

from controller.core.commands import SetLimit
from controller.core.depot import Depot
from controller.core.events import (
    CommandAccepted,
    CommandSent,
    EvseSample,
    FallbackStored,
    LinkUp,
    MeterReading,
    StationBooted,
    StatusChanged,
    TransactionStarted,
)
from controller.core.model import (
    SITE,
    Circuit,
    CircuitId,
    Evse,
    EvseId,
    EvseState,
    Link,
    Meter,
    MeterId,
    MeterRole,
    Moment,
    PerPhase,
    Site,
    StationId,
    each_phase,
    evse_id,
)
from tests.bench.figures import Figure, percentile

EVSES, ROWS = 50, 7  # with the site that makes 8 circuits
WARM_UP, STEPS = 60, 1200
START = datetime(2026, 11, 22, 18, tzinfo=UTC)
MAIN = MeterId("main")
SAMPLE_S = 5
LINK = Link("ocpp1.6", lease_s=180, lease_slack_s=30, raise_gap_s=10, answer_s=12)
ROTATIONS = ((0, 1, 2), (1, 2, 0), (2, 0, 1))


def step() -> Iterator[Figure]:
    depot, took_ms, commands = Depot(a_site(EVSES), "bench"), [], 0
    feed = _Feed(depot)
    feed.begin()
    gc.collect()
    gc.freeze()  # as `depot run` does
    for second in range(WARM_UP + STEPS):
        now = moment(second)
        feed.second(second, now)
        began_s = time.perf_counter()
        decision = depot.step(now)
        spent_ms = (time.perf_counter() - began_s) * 1e3
        if second >= WARM_UP:
            took_ms.append(spent_ms)
            commands += len(decision.commands)
        feed.obey(decision.commands, now)
    yield Figure(f"step of {EVSES} EVSEs on {ROWS + 1} circuits, p50", percentile(took_ms, 50), "ms")
    yield Figure("the same, p99", percentile(took_ms, 99), "ms", 2.0)
    yield Figure("limits sent meanwhile", commands / STEPS, "1/s")


def moment(second: float) -> Moment:
    return Moment(1000.0 + second, START + timedelta(seconds=second))


def a_site(evses: int) -> Site:
    """Rows of circuits below a metered site that carries about half of what everybody wants."""
    limit_ma = evses * 16_000
    circuits = {SITE: Circuit(SITE, None, each_phase(limit_ma), MAIN, each_phase(limit_ma // 3))}
    for row in range(ROWS):
        id = CircuitId(f"row_{row}")
        circuits[id] = Circuit(id, SITE, each_phase(evses * 20_000 // ROWS))
    made = {}
    for number in range(evses):
        station = StationId(f"CP{number:03}")
        evse = Evse(
            evse_id(station, 1), station, CircuitId(f"row_{number % ROWS}"), 32_000, 6_000,
            ROTATIONS[number % 3] if number % 5 else (number % 3,), 6_000, LINK,
        )  # fmt: skip
        made[evse.id] = evse
    meters = {MAIN: Meter(MAIN, "sdm630", MeterRole.GRID, 1.0, 5.0)}
    return Site("Bench", "UTC", 230_000, circuits, made, meters, accept_unknown_tokens=True)


class _Feed:
    """The facts of a busy site: every EVSE charges what it was allowed, the building wanders."""

    def __init__(self, depot: Depot) -> None:
        self.depot = depot
        self.random = Random("bench")
        self.draws_ma: dict[EvseId, int] = dict.fromkeys(depot.site.evses, 6_000)
        self.building_ma = depot.site.circuits[SITE].limit_ma.l1 // 4

    def begin(self) -> None:
        now = moment(-1)
        for number, evse in enumerate(self.depot.site.evses.values()):
            for fact in (
                LinkUp(evse.station, "ocpp1.6", "peer"),
                StationBooted(evse.station, "ocpp1.6", "v", "m", "1"),
                FallbackStored(evse.id, "ocpp1.6", 6_000),
                StatusChanged(evse.id, "ocpp1.6", EvseState.CHARGING),
                TransactionStarted(evse.id, "ocpp1.6", str(number), "TAG", 0, now.utc),
            ):
                self.depot.apply(fact, now)

    def second(self, second: int, now: Moment) -> None:
        site, random = self.depot.site, self.random
        limit_ma = site.circuits[SITE].limit_ma.l1
        self.building_ma += random.randint(-limit_ma // 40, limit_ma // 40)
        self.building_ma = min(limit_ma // 2, max(limit_ma // 10, self.building_ma))
        phases = [self.building_ma, self.building_ma, self.building_ma]
        for number, evse in enumerate(site.evses.values()):
            for phase in evse.phases:
                phases[phase] += self.draws_ma[evse.id]
            if (second + number) % SAMPLE_S == 0:
                drawn = self.draws_ma[evse.id]
                current = PerPhase(*(drawn if n < len(evse.phases) else None for n in range(3)))
                sample = EvseSample(
                    evse.id, "ocpp1.6", now.mono_s, current, drawn * 230 * 3 // 1000, second * 3
                )
                self.depot.apply(sample, now)
        l1, l2, l3 = phases
        reading = MeterReading(MAIN, now.mono_s, PerPhase(l1, l2, l3), None, each_phase(230_000))
        self.depot.apply(reading, now)

    def obey(self, commands: tuple[object, ...], now: Moment) -> None:
        for command in commands:
            if isinstance(command, SetLimit):
                self.depot.apply(CommandSent(command.id), now)
                self.depot.apply(CommandAccepted(command.id), now)
                self.draws_ma[command.evse] = command.limit_ma * self.random.choice((90, 95, 100)) // 100
