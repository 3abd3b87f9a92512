"""Tempo: on and off for a while, turns, current given back, sleepers woken, contactor cycles counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from controller.core import events as ev
from controller.core.commands import SetLimit
from controller.core.depot import Depot
from controller.core.model import (
    SITE,
    Circuit,
    Evse,
    EvseId,
    EvseState,
    Link,
    Moment,
    PerPhase,
    Plan,
    Site,
    StationId,
    Wish,
    each_phase,
    evse_id,
)
from controller.core.snapshot import EvseView, Snapshot
from controller.core.tempo import OFF_S, ON_S, PROBE_S, TURN_S, UNDER_S
from controller.core.waking import ATTEMPTS, SHUT_S, STRONGER_MA

START = datetime(2026, 11, 22, 12, tzinfo=UTC)
LINK = Link("wire", lease_s=180, lease_slack_s=30, raise_gap_s=10, answer_s=12)
Draw = Callable[[int, int], int]  # what a vehicle draws of what it is offered (mA), and the second


def takes_all(offered_ma: int, second: int) -> int:
    return offered_ma


@dataclass
class Yard:
    """Stations that obey at once, and vehicles that draw as told; a sample every 5 s. `log`: limits in their order."""

    limit_ma: int
    draws: list[Draw]
    second: int = 0
    offered_ma: dict[EvseId, int] = field(default_factory=dict)
    log: list[tuple[int, EvseId, int]] = field(default_factory=list)
    snapshot: Snapshot | None = None

    def __post_init__(self) -> None:
        circuits = {SITE: Circuit(SITE, None, each_phase(self.limit_ma), None, each_phase(0))}
        evses = {}
        for number in range(len(self.draws)):
            station = StationId(f"s{number:02}")
            evse = Evse(evse_id(station, 1), station, SITE, 32_000, 6_000, (0, 1, 2), 0, LINK)
            evses[evse.id] = evse
        self.depot = Depot(Site("yard", "UTC", 230_000, circuits, evses), "1")
        self.names = list(evses)
        for evse in evses.values():
            self.tell(ev.LinkUp(evse.station, "wire", "peer"))
            self.tell(ev.FallbackStored(evse.id, "wire", 0))

    @property
    def now(self) -> Moment:
        return Moment(1000.0 + self.second, START + timedelta(seconds=self.second))

    def tell(self, event: ev.Event) -> None:
        self.depot.apply(event, self.now)

    def begin(self, *numbers: int) -> None:
        for number in numbers or range(len(self.names)):
            name = self.names[number]
            self.tell(ev.StatusChanged(name, "wire", EvseState.CHARGING))
            self.tell(ev.TransactionStarted(name, "wire", f"t{number}", None, 0, self.now.utc))

    def live(self, seconds: float) -> None:
        for _ in range(round(seconds)):
            self.second += 1
            for number, name in enumerate(self.names):
                if (self.second + number) % 5 == 0 and name in self.offered_ma:
                    drawn = self.drawn_ma(number)
                    self.tell(ev.EvseSample(name, "wire", self.now.mono_s, each_phase_of(drawn)))
            decision = self.depot.step(self.now)
            self.snapshot = decision.snapshot
            for command in decision.commands:
                assert isinstance(command, SetLimit)
                self.tell(ev.CommandSent(command.id))
                self.tell(ev.CommandAccepted(command.id))
                if self.offered_ma.get(command.evse) != command.limit_ma:
                    self.log.append((self.second, command.evse, command.limit_ma))
                self.offered_ma[command.evse] = command.limit_ma
            assert sum(self.offered_ma.values()) <= self.limit_ma or self.second < 60

    def drawn_ma(self, number: int) -> int:
        offered_ma = self.offered_ma.get(self.names[number], 0)
        return self.draws[number](offered_ma, self.second) if offered_ma >= 6_000 else 0

    def limits(self, number: int, since_s: int = 0) -> list[tuple[int, int]]:
        return [(at, ma) for at, name, ma in self.log if name == self.names[number] and at >= since_s]

    def view(self, number: int) -> EvseView:
        assert self.snapshot is not None
        return self.snapshot.evses[number]

    def alarms(self) -> list[tuple[str, str]]:
        assert self.snapshot is not None
        return [(alarm.kind, alarm.source) for alarm in self.snapshot.alarms]

    def plan(self, *caps_ma: int | None) -> None:
        wishes = {name: Wish(cap_ma, why="plan") for name, cap_ma in zip(self.names, caps_ma, strict=True)}
        self.tell(ev.PlanReady(Plan(self.now.utc, "rules", wishes)))


def each_phase_of(current_ma: int) -> PerPhase[int | None]:
    return PerPhase(current_ma, current_ma, current_ma)


# --- on and off ------------------------------------------------------------------------------------------------------


def test_a_plan_stops_a_vehicle_only_once_it_has_been_on_for_a_while() -> None:
    yard = Yard(40_000, [takes_all])
    yard.begin()
    yard.live(60)
    yard.plan(0)
    yard.live(ON_S - 100)
    assert yard.limits(0)[-1][1] == 6_000, "the minimum is kept"
    yard.live(100)
    (stopped_s, limit_ma) = yard.limits(0)[-1]
    assert limit_ma == 0 and yard.view(0).contactor_cycles == 1
    yard.plan(None)
    yard.live(OFF_S + 30)
    resumed_s, limit_ma = yard.limits(0)[-1]
    assert limit_ma > 0 and resumed_s >= stopped_s + OFF_S
    assert yard.view(0).contactor_cycles == 1


@pytest.mark.parametrize("order", [ev.PauseWished, ev.StopWished])
def test_a_person_is_obeyed_at_once_and_may_go_on_at_once(
    order: type[ev.PauseWished | ev.StopWished],
) -> None:
    yard = Yard(40_000, [takes_all])
    yard.begin()
    yard.live(60)
    yard.tell(ev.PauseWished("o1", "ann", yard.names[0]))
    yard.live(3)
    assert yard.limits(0)[-1][1] == 0
    yard.tell(ev.ResumeWished("o2", "ann", yard.names[0]))
    yard.live(15)
    assert yard.limits(0)[-1][1] >= 6_000


def test_a_limit_does_not_wait() -> None:
    yard = Yard(40_000, [takes_all])
    yard.begin()
    yard.live(30)
    yard.tell(ev.FlexWished("o1", "grid", SITE, 0, 20.0))
    yard.live(2)
    stopped_s, limit_ma = yard.limits(0)[-1]
    assert limit_ma == 0
    yard.live(60)
    (resumed_s, limit_ma) = yard.limits(0, stopped_s + 1)[0]
    assert limit_ma >= 6_000 and 18 <= resumed_s - stopped_s < 40, "somebody's order ends when it ends"


def test_a_fuller_tier_waits_for_who_has_just_begun() -> None:
    yard = Yard(20_000, [takes_all, takes_all])
    yard.plan(None, None)
    yard.begin(0)
    yard.live(60)
    wishes = {yard.names[0]: Wish(tier=1), yard.names[1]: Wish(tier=0)}
    yard.tell(ev.PlanReady(Plan(yard.now.utc, "rules", wishes)))
    yard.begin(1)
    yard.live(60)
    assert yard.offered_ma == {yard.names[0]: 6_000, yard.names[1]: 14_000}
    yard.live(ON_S)
    assert yard.offered_ma == {yard.names[0]: 0, yard.names[1]: 20_000}


# --- turns -----------------------------------------------------------------------------------------------------------


def test_everybody_gets_turns_where_minima_do_not_fit_and_nobody_flaps() -> None:
    yard = Yard(13_000, [takes_all] * 4)
    yard.begin()
    yard.live(2 * 3600)
    given = dict.fromkeys(yard.names, 0)
    for number, name in enumerate(yard.names):
        changes = [(0, 0), *yard.limits(number), (yard.second, 0)]
        given[name] = sum(ma * (then - at) for (at, ma), (then, _) in pairwise(changes))
        edges = [
            at
            for (at, ma), (_, before) in zip(changes[1:], changes, strict=False)
            if (ma > 0) != (before > 0)
        ]
        gaps = [then - at for at, then in pairwise(edges[:-1])]
        assert all(gap >= TURN_S - 30 for gap in gaps[::2]), f"whole turns: {gaps}"
        assert all(gap >= OFF_S for gap in gaps[1::2])
    assert min(given.values()) > 0.75 * max(given.values()), given


def test_a_large_one_is_let_in_by_several_small_ones() -> None:
    """Each of the others loads one phase; the waiting one needs all three at once."""
    yard = Yard(10_000, [takes_all] * 4)
    site = yard.depot.site
    evses = {
        name: evse if n == 0 else Evse(name, evse.station, SITE, 32_000, 6_000, (n - 1,), 0, LINK)
        for n, (name, evse) in enumerate(site.evses.items())
    }
    yard.limit_ma = 40_000  # of the sum over EVSEs; each phase keeps its 10 A
    yard.depot = Depot(Site("yard", "UTC", 230_000, site.circuits, evses), "1")
    for evse in evses.values():
        yard.tell(ev.LinkUp(evse.station, "wire", "peer"))
        yard.tell(ev.FallbackStored(evse.id, "wire", 0))
    yard.begin(1, 2, 3)
    yard.live(60)
    yard.begin(0)
    yard.live(TURN_S + 100)
    assert yard.offered_ma[yard.names[0]] == 10_000
    yard.live(TURN_S + 200)
    assert yard.offered_ma[yard.names[0]] == 0 and yard.offered_ma[yard.names[1]] == 10_000


def test_a_full_vehicle_gives_way_sooner() -> None:
    yard = Yard(6_000, [lambda offered_ma, second: offered_ma if second < 60 else 0, takes_all])
    yard.begin(0)
    yard.live(90)
    yard.begin(1)
    yard.live(ON_S)
    assert yard.offered_ma == {yard.names[0]: 0, yard.names[1]: 6_000}
    assert yard.view(0).contactor_cycles == 0, "no current was cut"
    yard.live(TURN_S - 150)
    assert yard.offered_ma[yard.names[1]] == 6_000


def test_the_same_events_give_the_same_turns() -> None:
    logs = []
    for _ in range(2):
        yard = Yard(6_000, [takes_all] * 2)
        yard.begin()
        yard.live(1200)
        logs.append(yard.log)
    assert logs[0] == logs[1]


# --- current given back ----------------------------------------------------------------------------------------------


def test_what_a_vehicle_does_not_take_goes_to_others_and_is_asked_for_again() -> None:
    eager_from_s = 400

    def modest(offered_ma: int, second: int) -> int:
        return min(offered_ma, 20_000 if second >= eager_from_s else 7_200)

    yard = Yard(32_000, [modest, takes_all])
    yard.begin()
    yard.live(60 + UNDER_S)
    assert yard.offered_ma == {yard.names[0]: 9_000, yard.names[1]: 23_000}
    yard.live(eager_from_s - yard.second + 120)
    assert yard.offered_ma == {yard.names[0]: 16_000, yard.names[1]: 16_000}, (
        "it takes all it has: shared anew"
    )
    probes = [at for at, ma in yard.limits(0) if ma > 9_000 and at < eager_from_s]
    assert probes and all(b - a >= PROBE_S for a, b in pairwise(probes))


def test_without_anybody_who_wants_it_nothing_is_taken_away() -> None:
    yard = Yard(80_000, [lambda offered_ma, _: min(offered_ma, 7_200), takes_all])
    yard.begin()
    yard.live(200)
    assert yard.offered_ma == {yard.names[0]: 32_000, yard.names[1]: 32_000}


def test_a_vehicle_that_takes_nothing_keeps_its_minimum() -> None:
    """It charged and is full now: nobody wakes it, and it may come back for more."""
    yard = Yard(32_000, [lambda offered_ma, second: offered_ma if second < 60 else 0, takes_all])
    yard.begin()
    yard.live(200)
    since_s = yard.second
    yard.live(600)
    assert min(ma for _, ma in yard.limits(0)) >= 6_000
    assert yard.offered_ma[yard.names[0]] == 6_000 and yard.offered_ma[yard.names[1]] == 26_000
    assert yard.view(0).contactor_cycles == 0 and since_s and not yard.alarms()


# --- sleepers --------------------------------------------------------------------------------------------------------


class Sleeper:
    """Takes nothing until it was offered at least `needs_ma` for the `edges`-th time."""

    def __init__(self, edges: int, needs_ma: int = 6_000) -> None:
        self.edges, self.needs_ma, self.seen, self.last_s, self.awake = edges, needs_ma, 0, -100, False

    def __call__(self, offered_ma: int, second: int) -> int:
        if second - self.last_s > 5:  # it was not asked meanwhile: there was no current
            self.seen += 1
        self.last_s = second
        self.awake = self.awake or (self.seen >= self.edges and offered_ma >= self.needs_ma)
        return offered_ma if self.awake else 0


def test_a_sleeper_is_woken_by_a_second_offer() -> None:
    yard = Yard(6_000, [Sleeper(edges=2)])
    yard.begin()
    yard.live(300)
    assert yard.drawn_ma(0) == 6_000
    shut = [(at, ma) for at, ma in yard.limits(0) if ma == 0]
    assert len(shut) == 1 and yard.limits(0)[-1][0] >= shut[0][0] + SHUT_S
    assert yard.view(0).contactor_cycles == 0 and not yard.alarms(), "no current flowed: no wear"


def test_a_sleeper_that_wants_more_than_the_minimum_gets_it_and_keeps_it() -> None:
    yard = Yard(20_000, [Sleeper(edges=2, needs_ma=STRONGER_MA), takes_all, takes_all])
    yard.begin()
    yard.live(600)
    assert yard.drawn_ma(0) >= STRONGER_MA
    yard.live(300)
    assert yard.drawn_ma(0) >= STRONGER_MA


def test_after_three_wake_ups_a_person_is_told_and_nothing_more_is_tried_for_an_hour() -> None:
    yard = Yard(32_000, [lambda offered_ma, second: 0, takes_all])
    yard.begin()
    yard.live(900)
    assert ("asleep", yard.names[0]) in yard.alarms()
    assert len([1 for _, ma in yard.limits(0) if ma == 0]) == ATTEMPTS
    yard.live(1800)
    assert len([1 for _, ma in yard.limits(0) if ma == 0]) == ATTEMPTS
    assert yard.offered_ma[yard.names[0]] >= 6_000, "it may begin whenever it wants"
    yard.live(1800)
    assert len([1 for _, ma in yard.limits(0) if ma == 0]) == 2 * ATTEMPTS
    yard.tell(ev.TransactionEnded(StationId("s00"), yard.names[0], "t0", "EVDisconnected", 0, yard.now.utc))
    del yard.offered_ma[yard.names[0]]
    yard.live(30)
    assert not yard.alarms()


def test_one_that_nobody_measures_is_left_in_peace() -> None:
    yard = Yard(6_000, [takes_all])
    yard.begin()
    for _ in range(100):
        yard.offered_ma.clear()  # no samples either
        yard.live(10)
    assert not yard.alarms() and all(ma for _, ma in yard.limits(0))
