"""Surplus sharing: only what would be exported is charged, begun slowly, kept through clouds, shared max-min."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from controller.core import events as ev
from controller.core.commands import SetLimit
from controller.core.decide import Decision
from controller.core.depot import Depot
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
    Site,
    StationId,
    each_phase,
)

START = datetime(2026, 6, 22, 10, 0, tzinfo=UTC)
LINK = Link("wire", lease_s=180, lease_slack_s=30, raise_gap_s=10, answer_s=12)
MAIN, BAT = MeterId("main"), MeterId("bat")
A1, B1, C1 = EvseId("A/1"), EvseId("B/1"), EvseId("C/1")


def at(second: float) -> Moment:
    return Moment(1000.0 + second, START + timedelta(seconds=second))


@dataclass
class House:
    """A and B live on surplus, C does not. `spare_w`: what the roof leaves over without any vehicle."""

    spare_w: int = 0
    battery_w: int | None = None  # charging positive
    drawn_ma: dict[EvseId, int] = field(default_factory=lambda: dict.fromkeys((A1, B1, C1), 0))
    starts: int = 0

    def __post_init__(self) -> None:
        evses = {
            name: Evse(
                name, StationId(name[0]), SITE, 32_000, 6_000, (0, 1, 2), 0, LINK, surplus=name is not C1
            )
            for name in self.drawn_ma
        }
        meters = {MAIN: Meter(MAIN, "sdm630", MeterRole.GRID, 1.0, 5.0)}
        if self.battery_w is not None:
            meters[BAT] = Meter(BAT, "sunspec-battery", MeterRole.BATTERY, 1.0, 5.0)
        circuits = {SITE: Circuit(SITE, None, each_phase(100_000), MAIN, each_phase(20_000))}
        self.depot = Depot(Site("p", "UTC", 230_000, circuits, evses, meters), "1")

    def plug(self, *names: EvseId) -> None:
        for name in names:
            station = StationId(name[0])
            self.depot.apply(ev.LinkUp(station, "wire", "test"), at(0))
            self.depot.apply(ev.FallbackStored(name, "wire", 0), at(0))
            self.depot.apply(ev.StatusChanged(name, "wire", EvseState.CHARGING), at(0))
            self.depot.apply(ev.TransactionStarted(name, "wire", f"t{name}", None, 0, at(0).utc), at(0))

    def run(self, first: int, last: int, metered: bool = True) -> Decision:
        none: PerPhase[int | None] = each_phase(None)
        for second in range(first, last + 1):
            total_w = sum(self.drawn_ma.values()) * 690 // 1000 - self.spare_w + (self.battery_w or 0)
            for name, current_ma in self.drawn_ma.items():
                power_w = current_ma * 690 // 1000
                sample = ev.EvseSample(name, "wire", at(second).mono_s, each_phase(current_ma), power_w)
                self.depot.apply(sample, at(second))
            if metered:
                amps: PerPhase[int | None] = each_phase(total_w * 1000 // 690)
                self.depot.apply(ev.MeterReading(MAIN, at(second).mono_s, amps, total_w, none), at(second))
            if self.battery_w is not None:
                self.depot.apply(
                    ev.MeterReading(BAT, at(second).mono_s, none, self.battery_w, none), at(second)
                )
            decision = self.depot.step(at(second))
            for command in decision.commands:
                if isinstance(command, SetLimit):
                    self.depot.apply(ev.CommandSent(command.id), at(second))
                    self.depot.apply(ev.CommandAccepted(command.id), at(second))
                    self.starts += self.drawn_ma[command.evse] == 0 < command.limit_ma
                    self.drawn_ma[command.evse] = command.limit_ma
        return decision


def test_without_surplus_only_the_others_charge_and_it_says_why() -> None:
    house = House()
    house.plug(A1, C1)
    decision = house.run(1, 120)
    assert house.drawn_ma == {A1: 0, B1: 0, C1: 32_000}
    assert next(each.bound_by for each in decision.snapshot.evses if each.id == A1) == "surplus"


def test_what_would_be_exported_is_charged_and_no_more() -> None:
    house = House(spare_w=9_000)
    house.plug(A1)
    house.run(1, 40)
    assert house.drawn_ma[A1] == 0  # not before it was there for a minute
    house.run(41, 200)
    assert house.drawn_ma[A1] == 13_000  # 8970 W


def test_it_is_shared_max_min() -> None:
    house = House(spare_w=12_500)
    house.plug(A1, B1)
    house.run(1, 200)
    assert house.drawn_ma == {A1: 9_000, B1: 9_000, C1: 0}
    few = House(spare_w=7_000)
    few.plug(A1, B1)
    few.run(1, 200)
    assert sorted(few.drawn_ma.values()) == [0, 0, 10_000]  # two minima do not fit


def test_a_cloud_is_sat_out_at_the_minimum_and_a_long_one_pauses_once() -> None:
    house = House(spare_w=9_000)
    house.plug(A1)
    house.run(1, 200)
    house.spare_w = 1_000
    house.run(201, 330)
    assert house.drawn_ma[A1] == 6_000
    house.spare_w = 9_000
    house.run(331, 460)
    assert (house.drawn_ma[A1], house.starts) == (13_000, 1)
    house.spare_w = 0
    house.run(461, 700)
    assert house.drawn_ma[A1] == 0
    house.spare_w = 9_000
    house.run(701, 860)
    assert house.drawn_ma[A1] == 0  # a pause lasts
    house.run(861, 1100)
    assert (house.drawn_ma[A1], house.starts) == (13_000, 2)


def test_flickering_clouds_wear_no_contactor() -> None:
    house = House(spare_w=9_000)
    house.plug(A1)
    house.run(1, 200)
    for second in range(201, 1400):
        house.spare_w = 9_000 if second // 20 % 2 else 0
        house.run(second, second)
    assert house.starts == 1


def test_what_a_battery_gives_is_no_surplus_and_what_it_takes_is_gone() -> None:
    gives = House(spare_w=0, battery_w=-9_000)
    gives.plug(A1)
    gives.run(1, 200)
    assert gives.drawn_ma[A1] == 0
    takes = House(spare_w=9_000, battery_w=4_500)
    takes.plug(A1)
    takes.run(1, 200)
    assert takes.drawn_ma[A1] == 6_000


def test_a_meter_that_falls_silent_leaves_no_surplus() -> None:
    house = House(spare_w=9_000)
    house.plug(A1)
    house.run(1, 200)
    house.run(201, 500, metered=False)
    assert house.drawn_ma[A1] == 0


def test_who_is_resumed_by_hand_charges_in_full() -> None:
    house = House()
    house.plug(A1)
    house.run(1, 100)
    house.depot.apply(ev.ResumeWished("o1", "anna", A1), at(100))
    house.run(101, 200)
    assert house.drawn_ma[A1] > 20_000
