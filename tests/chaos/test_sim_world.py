"""The simulated site: sums, the monitor's arithmetic, the building and the fleet."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from controller.core.model import Moment
from drivers.sim.building import Building
from drivers.sim.evse import SimEvse
from drivers.sim.fleet import Fleet, Habits
from drivers.sim.vehicle import Vehicle
from drivers.sim.world import SimCircuit, World

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


class HandClock:
    """Stands still until moved."""

    def __init__(self) -> None:
        self.at_s = 1000.0

    def now(self) -> Moment:
        return Moment(self.at_s, NOON + timedelta(seconds=self.at_s - 1000.0))

    async def sleep(self, seconds: float) -> None:
        self.at_s += seconds


def still(_: float) -> tuple[float, float, float]:
    return (10.0, 20.0, 30.0)


def row_site(clock: HandClock, building: object = still) -> World:
    circuits = {"site": SimCircuit(None, 63.0), "row": SimCircuit("site", (20.0, 20.0, 40.0))}
    evses = [
        SimEvse("A/1", 32.0, phases=(0, 1, 2), circuit="row"),
        SimEvse("B/1", 16.0, phases=(2,), circuit="row"),
        SimEvse("C/1", 16.0, phases=(1, 2, 0)),
    ]
    return World(clock, 7, circuits, evses, building)  # type: ignore[arg-type]


def charge_all(world: World) -> None:
    for evse in world.evses.values():
        evse.plug(Vehicle(evse.id, None, 1e9, 0.1, max_a=32.0, ramp_a_per_s=1e9, reaction_s=0.0))
        evse.energised = True


def test_currents_add_up_along_the_tree() -> None:
    world = row_site(HandClock())
    charge_all(world)
    world.step(0.1)
    assert world.current_a("row") == pytest.approx((32.0, 32.0, 48.0))
    assert world.current_a("site") == pytest.approx((32 + 16 + 10, 32 + 16 + 20, 48 + 16 + 30))
    assert world.power_w("row") == pytest.approx(112.0 * 230.0)


def test_import_register_integrates_power() -> None:
    world = row_site(HandClock())
    for _ in range(360):
        world.step(1.0)
    assert world.import_wh("site") == pytest.approx(60.0 * 230.0 / 10.0)
    assert world.import_wh("row") == 0.0


def test_export_has_its_own_register_and_warms_the_copper_too() -> None:
    world = row_site(HandClock(), lambda t: (-70.0, 0.0, 0.0))
    world.step(36.0)
    assert world.import_wh() == 0.0
    assert world.export_wh() == pytest.approx(161.0)
    assert world.overloads() == {"site": pytest.approx(7.0 * 36.0)}


def test_the_monitor_counts_amps_seconds_and_runs() -> None:
    load = {0: 60.0, 1: 70.0, 2: 73.0, 3: 60.0, 4: 66.0}
    world = row_site(HandClock(), lambda t: (load[int(t)], 0.0, 0.0))
    for _ in range(4):
        world.step(1.0)
    circuits = world.report()["circuits"]
    assert isinstance(circuits, dict)
    assert circuits["site"] == {
        "limit_a": [63.0, 63.0, 63.0],
        "highest_a": [73.0, 0.0, 0.0],
        "highest_overload_a": [10.0, 0.0, 0.0],
        "longest_overload_s": [2.0, 0.0, 0.0],
        "overload_as": [7.0 + 10.0 + 3.0, 0.0, 0.0],
    }
    assert world.overloads() == {"site": 20.0}


def test_exactly_at_the_limit_is_not_above_it() -> None:
    world = row_site(HandClock(), lambda t: (63.0, 63.0, 63.0))
    world.step(1.0)
    assert world.overloads() == {}


async def test_catches_up_with_the_clock_whole_steps_only() -> None:
    clock = HandClock()
    world = row_site(clock)
    clock.at_s += 0.25
    world.catch_up()
    assert world.elapsed_s == pytest.approx(0.2)
    clock.at_s += 3600.0
    world.catch_up()
    assert 3590 < world.elapsed_s <= 3600.26


@pytest.mark.parametrize(
    ("circuits", "text"),
    [
        ({"row": SimCircuit(None, 10)}, "does not hang below"),
        ({"site": SimCircuit(None, 10), "row": SimCircuit("nowhere", 10)}, "no parent"),
        ({"site": SimCircuit("row", 10), "row": SimCircuit("site", 10)}, "loop"),
        ({}, "no circuit"),
    ],
)
def test_a_broken_tree_is_refused(circuits: dict[str, SimCircuit], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        World(HandClock(), 1, circuits, [])


def test_an_evse_on_no_circuit_is_refused() -> None:
    with pytest.raises(ValueError, match="row"):
        World(HandClock(), 1, {"site": SimCircuit(None, 10)}, [SimEvse("A/1", 16.0, circuit="row")])


def test_the_building_repeats_moves_and_stays_below_its_worst_case() -> None:
    worst = (40.0, 50.0, 60.0)
    building, twin, other = Building(3, worst), Building(3, worst), Building(4, worst)
    seen = [building(t * 7.3) for t in range(20_000)]
    assert seen == [twin(t * 7.3) for t in range(20_000)]
    assert seen != [other(t * 7.3) for t in range(20_000)]
    for phase in range(3):
        values = [amps[phase] for amps in seen]
        assert min(values) > 0.0 and max(values) <= worst[phase]
        assert max(values) > 1.5 * min(values)


def fleet_diary(seed: int) -> tuple[list[tuple[float, str, str | None, str | None]], Fleet]:
    clock = HandClock()
    world = row_site(clock)
    vehicles = [Vehicle(f"V{n}", f"T{n}", 60_000.0, 0.5) for n in range(4)]
    habits = Habits(stay_s=(200.0, 600.0), away_s=(50.0, 200.0))
    fleet = Fleet(clock, seed, list(world.evses.values()), vehicles, habits)
    diary = []
    for _ in range(3000):
        clock.at_s += 1.0
        world.catch_up()
        fleet.step(clock.at_s)
        for evse in world.evses.values():
            diary.append((clock.at_s, evse.id, evse.vehicle.id if evse.vehicle else None, evse.take_card()))
    return diary, fleet


def test_the_fleet_comes_shows_its_card_and_goes_the_same_way_every_time() -> None:
    diary, fleet = fleet_diary(5)
    assert diary == fleet_diary(5)[0]
    assert diary != fleet_diary(6)[0]
    assert {vehicle for _, _, vehicle, _ in diary} == {None, "V0", "V1", "V2", "V3"}
    cards = [(vehicle, card) for _, _, vehicle, card in diary if card is not None]
    assert len(cards) > 10
    assert all(vehicle is not None and card == f"T{vehicle[1:]}" for vehicle, card in cards)
    for at_s in {row[0] for row in diary[::600]}:
        here = [vehicle for when, _, vehicle, _ in diary if when == at_s and vehicle is not None]
        assert len(here) == len(set(here))
    assert any(visit.leaves_s != visit.announced_s for visit in fleet.visits.values())
