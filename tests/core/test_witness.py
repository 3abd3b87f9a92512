"""Our own EVSEs as witnesses against a meter: found wrong by their steps, told, counted as silent, believed again.

The world here: six EVSEs whose vehicles come, go and step as they like, stations that report every 5 to 10 s and up to
3 s late, a building that wanders and switches, a meter read every second. What a whole night in closed loop makes of
honest meters is in tests/laws/test_nights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random

import pytest

from controller.core.depot import Depot
from controller.core.events import (
    EvseSample,
    FallbackStored,
    LinkUp,
    MeterReading,
    StatusChanged,
    TransactionStarted,
)
from controller.core.model import (
    SITE,
    Circuit,
    Evse,
    EvseId,
    EvseState,
    Link,
    Meter,
    MeterId,
    MeterRole,
    Moment,
    PerPhase,
    Quality,
    Site,
    StationId,
    each_phase,
    evse_id,
)
from controller.core.plausible import Doubt, Fault
from controller.core.snapshot import Snapshot
from controller.core.witness import GOOD_AGAIN, Witnesses

MAIN = MeterId("main")
LINK = Link("wire", lease_s=60, lease_slack_s=10, raise_gap_s=10, answer_s=12)
SEATS: tuple[tuple[int, ...], ...] = ((0, 1, 2), (1, 2, 0), (0,), (1,), (2,), (0,))
Show = Callable[[list[int]], list[int]]
START = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def stations() -> dict[EvseId, Evse]:
    made = [
        Evse(evse_id(f"s{n}", 1), StationId(f"s{n}"), SITE, 32_000, 6_000, phases, 6_000, LINK)
        for n, phases in enumerate(SEATS)
    ]
    return {evse.id: evse for evse in made}


def honest(true_ma: list[int]) -> list[int]:
    return true_ma


def reversed_(true_ma: list[int]) -> list[int]:
    return [-one for one in true_ma]


@dataclass
class World:
    """`switches_ma`: how hard the building switches. Draws are per EVSE, the same on each of its phases."""

    seed: int
    switches_ma: int = 3_000
    single: bool = False  # only single-phase vehicles step
    busy: float = 0.03
    show: Show = honest
    second: int = 0
    evses: dict[EvseId, Evse] = field(default_factory=stations)

    def __post_init__(self) -> None:
        self.chance = Random(self.seed)
        self.witnesses = Witnesses({MAIN: tuple(self.evses)})
        self.drawn = dict.fromkeys(self.evses, 0)
        self.past = [dict(self.drawn)] * 4
        self.building = [8_000, 9_000, 7_000]
        self.every = {evse: self.chance.randint(5, 10) for evse in self.evses}
        self.late = {evse: self.chance.randint(0, 3) for evse in self.evses}

    def live(self, seconds: int) -> Iterator[Doubt | None]:
        for _ in range(seconds):
            self.second += 1
            self._step()
            yield self.witnesses.objection(MAIN, float(self.second), PerPhase(*self.reading()), False)
            for number, evse in enumerate(self.evses.values()):
                if (self.second + number) % self.every[evse.id] == 0:
                    drawn = self.past[-1 - self.late[evse.id]][evse.id]
                    current = [drawn if phase in evse.phases else 0 for phase in range(3)]
                    self.witnesses.sample(evse, float(self.second), PerPhase(*current))

    def _step(self) -> None:
        chance = self.chance
        if chance.random() < self.busy:
            steppers = [evse for evse in self.evses.values() if not self.single or len(evse.phases) == 1]
            self.drawn[chance.choice(steppers).id] = chance.choice([0, 6_000, 10_000, 16_000, 32_000])
        if chance.random() < 0.03:
            phase = chance.randrange(3)
            self.building[phase] = max(0, self.building[phase] + chance.choice([-1, 1]) * self.switches_ma)
        self.past = [*self.past[-3:], dict(self.drawn)]

    def reading(self) -> list[int]:
        total = [one + self.chance.randint(-200, 200) for one in self.building]
        for evse in self.evses.values():
            for phase in evse.phases:
                total[phase] += self.drawn[evse.id]
        return self.show(total)


def first(world: World, seconds: int) -> Doubt | None:
    return next((doubt for doubt in world.live(seconds) if doubt is not None), None)


# --- faults are found -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("show", "fault", "phases"),
    [
        (reversed_, Fault.REVERSED, {0, 1, 2}),
        (lambda true: [true[0], -true[1], true[2]], Fault.REVERSED, {1}),
        (lambda true: [10 * one for one in true], Fault.TENFOLD, {0, 1, 2}),
        (lambda true: [one // 10 for one in true], Fault.TENTH, {0, 1, 2}),
        (lambda true: [true[0], true[1], 17], Fault.FROZEN, {2}),
        (lambda true: [12_345, 4_321, 77], Fault.FROZEN, {0, 1, 2}),
    ],
)
def test_a_wrong_meter_is_found_by_the_steps_of_a_morning(
    seed: int, show: Show, fault: Fault, phases: set[int]
) -> None:
    doubt = first(World(seed, switches_ma=600, show=show), 4 * 3600)
    assert doubt is not None
    assert doubt.fault is fault
    assert set(doubt.phases) <= phases


@pytest.mark.parametrize("order", [(1, 0, 2), (2, 0, 1)])
def test_swapped_phases_are_told_and_the_meter_is_still_believed(order: tuple[int, ...]) -> None:
    world = World(1, switches_ma=300, single=True, busy=0.008, show=lambda true: [true[at] for at in order])
    assert first(world, 24 * 3600) is None
    told = dict(world.witnesses.swapped())
    assert told[MAIN].fault is Fault.SWAPPED
    world.show = honest
    assert first(world, 24 * 3600) is None
    assert dict(world.witnesses.swapped()) == {}


# --- honest meters are not ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_an_honest_meter_is_never_blamed(seed: int) -> None:
    world = World(seed, switches_ma=(300, 3_000, 10_000, 20_000)[seed % 4], single=seed % 3 == 0)
    assert first(world, 3 * 3600) is None
    assert dict(world.witnesses.swapped()) == {}


def test_a_building_that_hides_our_steps_is_not_a_dead_meter() -> None:
    """A battery that keeps the grid connection at zero: what it leaves over moves."""
    world = World(3, switches_ma=0)
    world.show = lambda true: [world.chance.randint(-60, 60) for _ in true]
    assert first(world, 3 * 3600) is None


def test_stations_that_report_half_a_minute_late_do_not_make_a_still_meter_dead() -> None:
    world = World(4, switches_ma=0)
    world.late = dict.fromkeys(world.evses, 3)
    world.show = lambda true: [one // 1000 * 1000 for one in true]  # does not move otherwise
    history = [dict(world.drawn)] * 40

    def lagging() -> None:
        World._step(world)
        history.append(dict(world.drawn))
        del history[0]
        world.past = [history[0]] * 4

    world._step = lagging  # type: ignore[method-assign]
    assert first(world, 3 * 3600) is None


def test_feed_in_while_vehicles_charge_is_not_a_fault() -> None:
    world = World(5, switches_ma=500)

    def solar(true: list[int]) -> list[int]:
        return [one - 25_000 - 100 * (world.second % 300) for one in true]

    world.show = solar
    assert first(world, 3 * 3600) is None


# --- a sign flip ----------------------------------------------------------------------------------------------------------


def charging(seed: int) -> World:
    world = World(seed, switches_ma=0)
    world.drawn = dict.fromkeys(world.evses, 10_000)
    world._step = lambda: setattr(world, "past", [dict(world.drawn)] * 4)  # type: ignore[method-assign]
    assert first(world, 60) is None
    return world


def test_a_sign_flip_while_vehicles_charge_is_seen_at_once_and_ends_with_ten_good_readings() -> None:
    world = charging(1)
    world.show = reversed_
    found = list(world.live(300))
    assert all(doubt is not None and doubt.fault is Fault.REVERSED for doubt in found)
    world.show = honest
    after = list(world.live(20))
    assert [doubt is None for doubt in after] == [False] * (GOOD_AGAIN - 1) + [True] * (21 - GOOD_AGAIN)


def test_a_good_reading_between_bad_ones_counts_from_the_beginning() -> None:
    world = charging(2)
    world.show = reversed_
    list(world.live(5))
    world.show = honest
    assert all(list(world.live(GOOD_AGAIN - 1)))
    world.show = reversed_
    assert all(list(world.live(1)))
    world.show = honest
    assert all(list(world.live(GOOD_AGAIN - 1)))
    assert list(world.live(1)) == [None]


def test_a_sign_flip_that_the_bus_dropped_for_a_minute_is_seen_when_it_passes_it_on() -> None:
    world = charging(3)
    for _ in range(60):
        world.second += 1
        for evse in world.evses.values():
            world.drawn[evse.id] = 6_000  # lowered meanwhile
            if world.second % 5 == 0:
                current = [6_000 if phase in evse.phases else 0 for phase in range(3)]
                world.witnesses.sample(evse, float(world.second), PerPhase(*current))
    mirrored = PerPhase[int | None](*reversed_(world.reading()))
    world.second += 1
    doubt = world.witnesses.objection(MAIN, float(world.second), mirrored, was_nonsense=True)
    assert doubt is not None and doubt.fault is Fault.REVERSED


def test_a_sign_flip_without_vehicles_is_for_the_bus_to_judge() -> None:
    world = World(4, switches_ma=0)
    world._step = lambda: None  # type: ignore[method-assign]
    list(world.live(60))
    world.show = reversed_
    assert not any(world.live(60))


# --- in the depot -------------------------------------------------------------------------------------------------------


def depot() -> Depot:
    circuit = Circuit(SITE, None, each_phase(63_000), MAIN, each_phase(20_000))
    meters = {MAIN: Meter(MAIN, "sdm630", MeterRole.GRID, 1.0, 5.0)}
    return Depot(
        Site("d", "UTC", 230_000, {SITE: circuit}, stations(), meters, accept_unknown_tokens=True), "1"
    )


def moment(second: int) -> Moment:
    return Moment(1000.0 + second, START + timedelta(seconds=second))


def live(made: Depot, since: int, until: int, sign: int) -> Snapshot:
    """Two vehicles draw 10 A each, on all phases; the building 12 A."""
    for second in range(since, until):
        now = moment(second)
        if second % 5 == 0:
            for number in range(2):
                sample = EvseSample(evse_id(f"s{number}", 1), "wire", now.mono_s, each_phase(10_000))
                made.apply(sample, now)
        reading = PerPhase[int | None](*[sign * 32_000 + second % 2 * 100] * 3)
        made.apply(MeterReading(MAIN, now.mono_s, reading, None, each_phase(None)), now)
        shown = made.step(now).snapshot
    return shown


def test_a_meter_judged_wrong_counts_as_a_silent_one_and_comes_back() -> None:
    made = depot()
    for evse in made.site.evses.values():
        made.apply(LinkUp(evse.station, "wire", "peer"), moment(0))
        made.apply(FallbackStored(evse.id, "wire", 6_000), moment(0))
    for number in range(2):
        name = evse_id(f"s{number}", 1)
        made.apply(StatusChanged(name, "wire", EvseState.CHARGING), moment(0))
        made.apply(TransactionStarted(name, "wire", f"t{number}", None, 0, moment(0).utc), moment(0))
    assert live(made, 0, 60, 1).state == "auto"
    assert live(made, 60, 64, -1).circuits[0].quality is Quality.GOOD
    shown = live(made, 64, 80, -1)
    assert shown.state == "degraded"
    assert shown.meters[0].quality is Quality.BAD
    (alarm,) = (alarm for alarm in shown.alarms if alarm.kind == "meter")
    assert "every current turned round at once" in alarm.text
    assert "write invert = true" in alarm.text
    assert shown.meters[0].errors == 20
    blind = live(made, 80, 140, -1)
    assert blind.state == "failsafe"
    assert live(made, 140, 140 + GOOD_AGAIN - 1, 1).state == "failsafe"
    back = live(made, 140 + GOOD_AGAIN - 1, 175, 1)
    assert back.state == "auto"
    assert back.meters[0].quality is Quality.GOOD
    assert "meter" not in {alarm.kind for alarm in back.alarms}
