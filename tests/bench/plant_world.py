"""Physical truth for `make bench ARGS=plant`: a depot second by second, its building, vehicles, meters and breakers.

Owns what really flows; whoever controls it (`plant_ways`) sees only what meters and stations tell. Chance comes from
streams of its own per subject, so that every way of control meets the same building and the same vehicles.
Vehicles are those of `drivers.sim` (IEC 61851-1: reaction, ramp, taper; field notes row 38: sleepers).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from random import Random

from controller.config.stations import OCPP_LINK
from controller.core.model import (
    SITE,
    Circuit,
    CircuitId,
    Evse,
    EvseId,
    Meter,
    MeterId,
    MeterRole,
    PerPhase,
    Site,
    StationId,
    each_phase,
    evse_id,
)
from drivers.sim.vehicle import Vehicle

LIMIT_MA, ROW_MA, ROWS, ROW_EVSES = 160_000, 80_000, 3, 8
WORST_BUILDING_MA = 132_000  # what the config of this site says of the building
LINK = replace(OCPP_LINK, channel="wire")  # the name that tests/laws/plant.py gives its channel
MAIN, SIDE = (
    MeterId("main"),
    MeterId("side"),
)  # the grid connection; the one row that feeds something else too
ROW_A = CircuitId("row_a")
ROTATIONS = ((0, 1, 2), (1, 2, 0), (2, 0, 1))
FLOWS_A = 0.5


@dataclass(frozen=True)
class Scenario:
    """What happens. steps: every few minutes 10-25 % of the limit; hard: +55 % for 5 of every 10 min."""

    name: str
    longest_s: int | None  # target for the longest overload
    energy_pct: int | None = None  # target, of what an all-knowing allocator delivers
    cycles: float | None = None  # target, per vehicle-hour
    steps: bool = False
    hard: bool = False
    outages: bool = False
    on_l1: bool = False
    dropouts: bool = False


SCENARIOS = (
    Scenario("calm", 10, energy_pct=85),
    Scenario("load steps", 10, energy_pct=80, cycles=3.0, steps=True),
    Scenario("hard steps", 20, hard=True),
    Scenario("charger outages", 10, outages=True, steps=True),
    Scenario("everything on L1", 10, on_l1=True),
    Scenario("meter drop-outs", 60, dropouts=True, steps=True),
    Scenario("everything at once", None, steps=True, hard=True, outages=True, on_l1=True, dropouts=True),
)


def plant_site(scenario: Scenario) -> Site:
    """160 A, three rows of 80 A with 8 EVSEs each: two single-phase, the others on all phases, rotated."""
    worst = each_phase(WORST_BUILDING_MA)
    circuits = {SITE: Circuit(SITE, None, each_phase(LIMIT_MA), MAIN, worst)}
    evses = {}
    for row in range(ROWS):
        id = CircuitId(f"row_{'abc'[row]}")
        meter, load = (SIDE, each_phase(20_000)) if id == ROW_A else (None, None)
        circuits[id] = Circuit(id, SITE, each_phase(ROW_MA), meter, load)
        for seat in range(ROW_EVSES):
            station = StationId(f"{'abc'[row]}{seat}")
            phases: tuple[int, ...] = ROTATIONS[(row + seat) % 3]
            if scenario.on_l1:
                phases = ROTATIONS[0]
            elif seat >= 6:
                phases = (phases[0],)
            evse = Evse(
                evse_id(station, 1), station, id, 16_000 if seat == 5 else 32_000, 6_000, phases, 0, LINK,
                step_ma=100 if seat in (1, 4) else 1_000,
            )  # fmt: skip
            evses[evse.id] = evse
    meters = {
        MAIN: Meter(MAIN, "sdm630", MeterRole.GRID, 1.0, 5.0),
        SIDE: Meter(SIDE, "sdm630", MeterRole.CIRCUIT, 1.0, 5.0),
    }
    return Site("Plant", "UTC", 230_000, circuits, evses, meters, accept_unknown_tokens=True)


def building_a(scenario: Scenario, seconds: int, random: Random) -> list[tuple[float, float, float]]:
    """What the building takes, per second and phase."""
    base, noise, step = [40.0, 36.0, 44.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]
    next_s, until_s, small_until_s, small = 240, 0, 0, (0, 0.0)
    made = []
    for second in range(seconds):
        if scenario.steps and second >= next_s:
            height = LIMIT_MA / 1e3 * random.uniform(0.10, 0.25)
            step = [height * random.uniform(0.7, 1.0) for _ in range(3)]
            until_s = second + random.randint(60, 300)
            next_s = until_s + random.randint(60, 240)
        if second >= until_s:
            step = [0.0, 0.0, 0.0]
        if second >= small_until_s + 120:
            small, small_until_s = (
                (random.randrange(3), random.uniform(3, 9)),
                second + random.randint(30, 200),
            )
        wave = 4 * math.sin(second / 700)
        surge = 0.55 * LIMIT_MA / 1e3 if scenario.hard and second % 600 >= 300 else 0.0
        now = []
        for phase in range(3):
            noise[phase] = 0.9 * noise[phase] + random.gauss(0, 0.25)
            extra = small[1] if second < small_until_s and small[0] == phase else 0.0
            now.append(
                min(LIMIT_MA * 0.82 / 1e3, base[phase] + wave + noise[phase] + step[phase] + surge + extra)
            )
        made.append((now[0], now[1], now[2]))
    return made


@dataclass(frozen=True)
class Stay:
    """One vehicle at one EVSE, whatever is done with it meanwhile."""

    vehicle: Vehicle
    arrives_s: int
    leaves_s: int


def stays(evse: Evse, scenario: Scenario, seconds: int, random: Random) -> Iterator[Stay]:
    at_s = random.randint(5, 600)
    while at_s < seconds:
        single = scenario.on_l1 or len(evse.phases) == 1 or random.random() < 0.25
        leaves_s = at_s + random.randint(2_400, 7_200)
        yield Stay(
            Vehicle(
                "v", None,
                battery_wh=random.choice((40e3, 60e3, 77e3)),
                soc=random.uniform(0.82, 0.98) if random.random() < 0.25 else random.uniform(0.15, 0.6),
                phases=1 if single else 3,
                max_a=random.choice((16.0, 20.0, 32.0)) if single else random.choice((16.0, 16.0, 16.0, 32.0)),
                appetite_a=random.uniform(7.0, 13.0) if random.random() < 0.2 else None,
                sleepy_s=400.0 if random.random() < 0.1 else None,
                reaction_s=random.uniform(0.5, 3.0),
                ramp_a_per_s=random.uniform(3.0, 10.0),
            ),
            at_s,
            leaves_s,
        )  # fmt: skip
        at_s = leaves_s + random.randint(120, 600)


@dataclass
class Seat:
    """The truth about one EVSE. `gain`: how exactly its vehicle follows the pilot."""

    evse: Evse
    stays: list[Stay]
    gain: float
    vehicle: Vehicle | None = None
    stay: int = 0
    allowed_ma: int = 0
    drawn_a: float = 0.0
    before_a: float = 0.0  # a second ago
    energy_wh: float = 0.0
    starts: int = 0
    cut: int = 0  # contactor cycles: stopped by a limit while it drew

    def phases(self) -> tuple[int, ...]:
        """The grid phases its vehicle uses."""
        return () if self.vehicle is None else self.evse.phases[: self.vehicle.phases]

    def appetite_a(self) -> float:
        """What the vehicle would take if it were offered everything."""
        if self.vehicle is None:
            return 0.0
        self.vehicle._pilot_a = self.evse.max_ma / 1e3
        return self.vehicle._wanted_a()

    def flow(self, instant_a: float | None) -> None:
        """One second. `instant_a`: an all-knowing way says what is drawn, without reaction or ramp."""
        was_a, self.before_a = self.drawn_a, self.drawn_a
        if self.vehicle is None:
            self.drawn_a = 0.0
            return
        allowed_a = self.allowed_ma / 1e3 if self.allowed_ma >= self.evse.min_ma else 0.0
        if instant_a is None:
            self.drawn_a = self.vehicle.step(1.0, allowed_a) * self.gain
        else:
            self.drawn_a = allowed_a = instant_a
        wh = self.drawn_a * 230.0 * len(self.phases()) / 3600
        self.energy_wh += wh
        self.vehicle.take(wh)
        self.starts += was_a < FLOWS_A <= self.drawn_a
        self.cut += allowed_a == 0.0 and self.drawn_a < FLOWS_A <= was_a


@dataclass
class Breaker:
    """One pole, by its thermal curve: heats with the square of the current and lets 1.05 In pass for ever
    (IEC 60947-2). TAU_S makes 1.30 In trip within 3 min and 2 In within 40 s, both from cold: earlier than any
    breaker of this size."""

    limit_a: float
    heat: float = 0.0
    trips: int = 0

    TAU_S = 120.0
    HOT = 1.05**2

    def carry(self, current_a: float) -> None:
        self.heat += ((current_a / self.limit_a) ** 2 - self.heat) / self.TAU_S
        if self.heat > self.HOT:
            self.trips += 1
            self.heat = 0.0  # closed again at once, cold


@dataclass
class Overload:
    """How long a circuit's phase has been above a share of its limit, and the longest so far."""

    above: float
    run_s: int = 0
    longest_s: int = 0

    def see(self, share: float) -> None:
        self.run_s = self.run_s + 1 if share > self.above else 0
        self.longest_s = max(self.longest_s, self.run_s)


@dataclass
class Watch:
    """The truth about one phase of one circuit."""

    limit_a: float
    breaker: Breaker
    any: Overload = field(default_factory=lambda: Overload(1.0))
    much: Overload = field(default_factory=lambda: Overload(1.05))
    now_a: float = 0.0
    before_a: float = 0.0
    worst: float = 0.0

    def see(self, current_a: float) -> None:
        self.before_a, self.now_a = self.now_a, current_a
        share = current_a / self.limit_a
        self.worst = max(self.worst, share)
        self.any.see(share)
        self.much.see(share)
        self.breaker.carry(current_a)


class World:
    """A depot for `seconds`; the same `seed` gives the same building, vehicles, outages and drop-outs."""

    def __init__(self, scenario: Scenario, seed: int, seconds: int) -> None:
        self.scenario, self.seed, self.seconds = scenario, seed, seconds
        self.site = plant_site(scenario)
        self.building = building_a(scenario, seconds, self.chance("building"))
        self.side = [8.0 + 4.0 * (second // 170 % 2) for second in range(seconds)]
        self.seats = {}
        for evse in self.site.evses.values():
            random = self.chance(evse.id)
            here = list(stays(evse, scenario, seconds, random))
            self.seats[evse.id] = Seat(evse, here, random.uniform(0.95, 1.0))
        self.watches = {
            (circuit.id, phase): Watch(limit := circuit.limit_ma[phase] / 1e3, Breaker(limit))
            for circuit in self.site.circuits.values()
            for phase in range(3)
        }
        self.vehicle_s = 0
        self._paths = {
            evse.id: [circuit.id for circuit in self.site.path(evse.circuit)]
            for evse in self.site.evses.values()
        }
        self.silent = list(self._spans("meter", 500, 1000, 60, 300)) if scenario.dropouts else []
        self.cut_off = {
            evse: list(self._spans(f"link {evse}", 600, 3000, 60, 300)) if scenario.outages else []
            for evse in self.site.evses
        }

    def chance(self, subject: str) -> Random:
        return Random(f"{self.scenario.name} {self.seed} {subject}")

    def _spans(
        self, subject: str, gap_least: int, gap_most: int, least: int, most: int
    ) -> Iterator[tuple[int, int]]:
        random, at = self.chance(subject), 0
        while (at := at + random.randint(gap_least, gap_most)) < self.seconds:
            yield at, (at := at + random.randint(least, most))

    def moves(self, second: int) -> Iterator[tuple[Seat, bool]]:
        """Vehicles that come (True) or go in this second."""
        for seat in self.seats.values():
            if seat.vehicle is not None and second >= seat.stays[seat.stay].leaves_s:
                seat.vehicle, seat.stay, seat.drawn_a = None, seat.stay + 1, 0.0
                yield seat, False
            elif seat.vehicle is None and seat.stay < len(seat.stays):
                stay = seat.stays[seat.stay]
                if second >= stay.arrives_s:
                    seat.vehicle = stay.vehicle
                    yield seat, True

    def flow(self, second: int, instant_a: dict[EvseId, float] | None = None) -> None:
        """Lets this second's current flow and judges it."""
        totals = dict.fromkeys(self.watches, 0.0)
        for phase in range(3):
            totals[SITE, phase] = self.building[second][phase] + self.side[second]
            totals[ROW_A, phase] = self.side[second]
        for id, seat in self.seats.items():
            seat.flow(None if instant_a is None else instant_a.get(id, 0.0))
            self.vehicle_s += seat.vehicle is not None
            if seat.drawn_a > 0.0:
                for phase in seat.phases():
                    for circuit in self._paths[id]:
                        totals[circuit, phase] += seat.drawn_a
        for key, watch in self.watches.items():
            watch.see(totals[key])

    def metered_ma(self, circuit: CircuitId, random: Random) -> PerPhase[int | None]:
        """What a meter shows: half of this second, half of the one before, with the noise of class 1."""
        shown = []
        for phase in range(3):
            watch = self.watches[circuit, phase]
            shown.append(round(1e3 * (watch.now_a + watch.before_a) / 2 * random.gauss(1.0, 0.004)))
        return PerPhase(*shown)

    def is_silent(self, second: int) -> bool:
        return any(begin <= second < end for begin, end in self.silent)

    def is_cut_off(self, evse: EvseId, second: int) -> bool:
        return any(begin <= second < end for begin, end in self.cut_off[evse])
