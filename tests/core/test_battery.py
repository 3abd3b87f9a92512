"""Batteries as outputs: what they are told, when, and what vehicles may count on meanwhile (nothing)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from controller.core import events as ev
from controller.core.battery import Scene, set_point
from controller.core.commands import SetBattery, SetLimit
from controller.core.decide import Decision
from controller.core.depot import Depot
from controller.core.model import (
    SITE,
    Battery,
    Circuit,
    CircuitId,
    Evse,
    EvseId,
    EvseState,
    GridLimit,
    Link,
    Meter,
    MeterId,
    MeterRole,
    Moment,
    PerPhase,
    Plan,
    Site,
    StationId,
    each_phase,
)
from controller.core.wire import snapshot_from, status

START = datetime(2026, 6, 22, 10, 0, tzinfo=UTC)
LINK = Link("wire", lease_s=180, lease_slack_s=30, raise_gap_s=10, answer_s=12)
MAIN, BAT = MeterId("main"), MeterId("bat")
A1 = EvseId("A/1")
STORE = Battery("store", BAT, SITE, 10_000, 8_000, floor_pct=20)
SCENE = Scene(soc_pct=50, measured_w=0, relief_w=0, relief_why="", spare_w=0, room_w=50_000, plan_w=None)


@pytest.mark.parametrize(
    ("changed", "power_w"),
    [
        ({}, 0),
        ({"spare_w": 4_000}, 4_000),
        ({"spare_w": 14_000}, 10_000),
        ({"spare_w": 4_000, "soc_pct": 100}, 0),
        ({"relief_w": 3_000, "spare_w": 4_000}, -3_000),
        ({"relief_w": 30_000}, -8_000),
        ({"relief_w": 3_000, "soc_pct": 20}, 0),
        ({"plan_w": 6_000}, 6_000),
        ({"plan_w": 6_000, "room_w": 2_000}, 2_000),
        ({"plan_w": 6_000, "room_w": -2_000}, 0),
        ({"plan_w": -6_000}, -6_000),
        ({"plan_w": -6_000, "soc_pct": 5}, 0),
        ({"plan_w": 6_000, "relief_w": 1_000}, -1_000),
    ],
)
def test_relief_comes_before_the_plan_and_the_plan_before_surplus(
    changed: dict[str, int], power_w: int
) -> None:
    found = set_point(STORE, replace(SCENE, **changed))  # type: ignore[arg-type]
    assert found is not None and found[0] == power_w


@pytest.mark.parametrize("unknown", ["soc_pct", "measured_w"])
def test_a_battery_nobody_sees_is_left_alone(unknown: str) -> None:
    assert set_point(STORE, replace(SCENE, spare_w=4_000, **{unknown: None})) is None  # type: ignore[arg-type]


def at(second: float) -> Moment:
    return Moment(1000.0 + second, START + timedelta(seconds=second))


@dataclass
class House:
    """A building, a roof and one vehicle beside a battery that does what it is told after `delay_s`."""

    load_w: int = 0  # of the building, less the roof
    limit_ma: int = 63_000
    peak_w: int | None = None
    grid_limits: tuple[GridLimit, ...] = ()
    answers: str = "accept"
    delay_s: int = 2
    soc_pct: int | None = 50
    battery_w: int = 0
    drawn_ma: int = 0
    told: list[tuple[int, int]] = field(default_factory=list)  # second, power
    _coming: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        evse = Evse(A1, StationId("A"), SITE, 32_000, 6_000, (0, 1, 2), 0, LINK)
        meters = {
            MAIN: Meter(MAIN, "sdm630", MeterRole.GRID, 1.0, 5.0),
            BAT: Meter(BAT, "sunspec-battery", MeterRole.BATTERY, 1.0, 5.0),
        }
        circuits: dict[CircuitId, Circuit] = {
            SITE: Circuit(SITE, None, each_phase(self.limit_ma), MAIN, each_phase(20_000))
        }
        self.depot = Depot(
            Site(
                "p", "UTC", 230_000, circuits, {A1: evse}, meters,
                peak_w=self.peak_w, grid_limits=self.grid_limits, batteries=(STORE,),
            ),
            "1",
        )  # fmt: skip
        self.depot.apply(ev.LinkUp(StationId("A"), "wire", "test"), at(0))
        self.depot.apply(ev.FallbackStored(A1, "wire", 0), at(0))

    def plug(self) -> None:
        self.depot.apply(ev.StatusChanged(A1, "wire", EvseState.CHARGING), at(0))
        self.depot.apply(ev.TransactionStarted(A1, "wire", "t", None, 0, at(0).utc), at(0))

    def run(self, first: int, last: int, seen: bool = True) -> Decision:
        none: PerPhase[int | None] = each_phase(None)
        for second in range(first, last + 1):
            for due, power_w in self._coming:
                self.battery_w = power_w if due == second else self.battery_w
            total_w = self.load_w + self.drawn_ma * 690 // 1000 + self.battery_w
            drawn: PerPhase[int | None] = each_phase(self.drawn_ma)
            self.depot.apply(
                ev.EvseSample(A1, "wire", at(second).mono_s, drawn, self.drawn_ma * 690 // 1000), at(second)
            )
            amps: PerPhase[int | None] = each_phase(total_w * 1000 // 690)
            self.depot.apply(ev.MeterReading(MAIN, at(second).mono_s, amps, total_w, none), at(second))
            if seen:
                reading = ev.MeterReading(
                    BAT, at(second).mono_s, none, self.battery_w, none, soc_pct=self.soc_pct
                )
                self.depot.apply(reading, at(second))
            decision = self.depot.step(at(second))
            for point in decision.set_points:
                self._answer(point, second)
            for command in decision.commands:
                if isinstance(command, SetLimit):
                    self.depot.apply(ev.CommandSent(command.id), at(second))
                    self.depot.apply(ev.CommandAccepted(command.id), at(second))
                    self.drawn_ma = command.limit_ma
        return decision

    def _answer(self, point: SetBattery, second: int) -> None:
        assert point.channel == "battery/store"
        self.told.append((second, point.power_w))
        if self.answers == "accept":
            self.depot.apply(ev.CommandAccepted(point.id), at(second))
            self._coming.append((second + self.delay_s, point.power_w))
        elif self.answers == "refuse":
            self.depot.apply(ev.CommandRefused(point.id, "no"), at(second))
        else:
            self.depot.apply(ev.CommandLost(point.id, "silence"), at(second))


def test_what_would_be_exported_is_stored_and_followed() -> None:
    house = House(load_w=-5_000)
    house.run(1, 60)
    assert abs(house.battery_w - 5_000) < 250
    house.load_w = -2_000
    decision = house.run(61, 120)
    assert abs(house.battery_w - 2_000) < 250
    (shown,) = decision.snapshot.batteries
    assert (shown.id, shown.soc_pct, shown.why) == ("store", 50, "surplus")
    assert snapshot_from(status(decision.snapshot)).batteries == decision.snapshot.batteries


def test_a_set_point_is_renewed_at_half_of_its_lease_and_not_more_often() -> None:
    house = House(load_w=-5_000)
    house.run(1, 200)
    seconds = [second for second, _ in house.told[-5:]]
    assert {b - a for a, b in pairwise(seconds)} == {30}


def test_an_overloaded_fuse_is_relieved_at_once() -> None:
    house = House(load_w=30_000)
    house.run(1, 30)
    house.load_w = 46_000  # 66.7 A on 63 A
    house.run(31, 40)
    assert house.told[-1][1] < -2_000
    assert house.battery_w < -2_000


def test_what_a_battery_gives_is_no_room_to_raise_into() -> None:
    house = House(load_w=38_000, peak_w=100_000)
    house.plug()
    house.run(1, 120)
    alone_ma = house.drawn_ma
    beside = House(load_w=38_000, peak_w=100_000)
    beside.plug()
    plan = Plan(START, "rules", {}, battery_w=-8_000)
    beside.depot.apply(ev.PlanReady(plan), at(0))
    beside.run(1, 120)
    assert beside.battery_w == -8_000
    assert 6_000 <= beside.drawn_ma <= alone_ma


def test_what_a_battery_was_told_to_charge_is_load_before_any_meter_shows_it() -> None:
    house = House(load_w=10_000, delay_s=10_000)  # it says yes and takes nothing
    house.plug()
    house.run(1, 60)
    free_ma = house.drawn_ma
    assert free_ma == 32_000
    lean = House(load_w=20_000, delay_s=10_000)
    lean.depot.apply(ev.PlanReady(Plan(START, "rules", {}, battery_w=10_000)), at(0))
    lean.run(1, 40)
    assert lean.told[-1][1] == 10_000
    lean.plug()
    lean.run(41, 90)
    assert lean.drawn_ma <= 63_000 * 98 // 100 - 20_000 * 1000 // 690 - 10_000 * 1000 // 690
    lost = House(load_w=20_000, answers="lose")
    lost.depot.apply(ev.PlanReady(Plan(START, "rules", {}, battery_w=10_000)), at(0))
    lost.run(1, 40)
    lost.plug()
    lost.run(41, 90)
    assert lost.drawn_ma == lean.drawn_ma  # no answer may be a yes


def test_a_plan_charges_only_into_what_vehicles_and_the_peak_leave() -> None:
    house = House(load_w=20_000, peak_w=26_000)
    house.depot.apply(ev.PlanReady(Plan(START, "rules", {}, battery_w=10_000)), at(0))
    house.run(1, 300)
    assert 0 < house.battery_w < 7_500
    limited = House(load_w=20_000, grid_limits=(GridLimit("dso", SITE, 9_000, "9 kW"),))
    limited.depot.apply(ev.PlanReady(Plan(START, "rules", {}, battery_w=10_000)), at(0))
    limited.run(1, 60)
    assert limited.battery_w == 0  # its contact was never read


def test_what_a_battery_takes_is_no_load_that_lasts_to_plan_with() -> None:
    house = House(load_w=6_900)
    house.depot.apply(ev.PlanReady(Plan(START, "test", {}, battery_w=5_000)), at(0))
    house.run(1, 60)
    assert house.battery_w == 5_000
    (flows,) = house.depot.plan_request(at(60)).background_ma.values()
    assert all(abs(ma - 10_000) < 100 for ma in flows)


def test_the_peak_is_shaved_while_vehicles_wait_for_it() -> None:
    house = House(load_w=20_000, peak_w=25_000)
    house.plug()
    house.run(1, 400)
    assert house.battery_w == -8_000
    assert house.drawn_ma > 15_000  # 5 kW of the quarter and 8 kW of the battery
    assert house.run(401, 401).snapshot.batteries[0].why == "quarter-hour peak"


def test_a_battery_that_refuses_is_asked_less_often_and_shown() -> None:
    house = House(load_w=-5_000, answers="refuse")
    decision = house.run(1, 60)
    assert 3 <= len(house.told) <= 5
    assert "battery" in [alarm.kind for alarm in decision.snapshot.alarms]


def test_without_its_meter_no_set_point_is_given_or_renewed() -> None:
    house = House(load_w=-5_000)
    house.run(1, 60)
    before = len(house.told)
    house.run(61, 200, seen=False)
    assert [second for second, _ in house.told[before:] if second > 66] == []
