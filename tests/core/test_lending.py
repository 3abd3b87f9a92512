"""V2G by plan: which vehicles lend and who may say no, what the plan wants fed back, and a night in virtual time."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from controller.core import events as ev
from controller.core.commands import Command, SetLimit, StartCharging, StartDischarge, StopCharging
from controller.core.depot import Depot
from controller.core.discharge import PLAN
from controller.core.model import (
    Departure,
    EvseId,
    EvseState,
    Link,
    Moment,
    PerPhase,
    StationId,
    Vehicle,
    VehicleId,
)
from controller.core.planning import PlanRequest, Price
from controller.planner.horizon import plan
from tests.small_site import a_site, an_evse

START = datetime(2026, 11, 22, 18, 0, tzinfo=UTC)
CHANNEL = "open-platform/onsite"
LINK = Link(CHANNEL, 120, 40, 10, 20, lease_ends_with_transaction=False)
ONE, STATION, VAN = EvseId("TP1/1"), StationId("TP1"), VehicleId("VAN-1")
BATTERY_WH, FLOOR_PCT, LENDS_W = 60_000, 50, 5_000
DEAR_H = 4  # the evening's prices; then the night's


class Night:
    """One depot, one charger that does as it is told, one van; the real planner, every five minutes."""

    def __init__(self, soc: float = 0.8, channel: str = CHANNEL, vehicle: Vehicle | None = None) -> None:
        known = vehicle or Vehicle(VAN, BATTERY_WH, 11_000, ("04AA",), LENDS_W, FLOOR_PCT, 50_000)
        self.channel = channel
        unit = an_evse(ONE, replace(LINK, channel=channel), max_a=16)
        self.depot = Depot(a_site(unit, vehicles={VAN: known}), "1")
        self.second, self.stored_wh = 0, soc * BATTERY_WH
        self.limit_ma, self.feeds_w, self.feeds_until = 0, 0, 0.0
        self.lowest, self.lent_wh = soc, 0.0
        self.transactions = 0
        self.said: list[Command] = []
        self.plans: list[tuple[PlanRequest, object]] = []
        self.tell(ev.LinkUp(STATION, channel, "peer"))
        self.tell(ev.FallbackStored(ONE, channel, 6_000))
        self.tell(ev.StatusChanged(ONE, channel, EvseState.PREPARING))
        self.begin(feeds=False)

    @property
    def now(self) -> Moment:
        return Moment(1000.0 + self.second, START + timedelta(seconds=self.second))

    @property
    def soc(self) -> float:
        return self.stored_wh / BATTERY_WH

    def tell(self, fact: ev.Event) -> None:
        self.depot.apply(fact, self.now)

    def leaves(self, hours: float, soc: int | None = 80, energy_wh: int | None = None) -> None:
        at = START + timedelta(hours=hours)
        self.tell(ev.DepartureSet("ann", Departure(VAN, at, energy_wh=energy_wh, soc=soc)))

    def request(self) -> PlanRequest:
        prices = [0.9 if hour < DEAR_H else 0.1 for hour in range(24)]
        hours = [START + timedelta(hours=n) for n in range(24)]
        sold = tuple(Price(at, 0.9 * price) for at, price in zip(hours, prices, strict=True))
        bought = tuple(Price(at, price) for at, price in zip(hours, prices, strict=True))
        return replace(self.depot.plan_request(self.now), prices=bought, feed_in=sold)

    def live(self, hours: float, step_s: int = 10) -> None:
        for _ in range(int(hours * 3600 / step_s)):
            self._flow(step_s)
            self.second += step_s
            self._sample()
            if self.second % 300 == 0:
                self.tell(ev.PlanReady(plan(self.request())))
            for command in self.depot.step(self.now).commands:
                self.obey(command)

    def obey(self, command: Command) -> None:
        self.said.append(command)
        self.tell(ev.CommandSent(command.id))
        self.tell(ev.CommandAccepted(command.id))
        match command:
            case SetLimit():
                self.limit_ma = command.limit_ma
            case StartDischarge():
                self.begin(feeds=True)
                self.feeds_w, self.feeds_until = command.power_w, self.second + command.duration_s
            case StopCharging():
                self.end()
            case StartCharging():
                self.begin(feeds=False)

    def begin(self, feeds: bool) -> None:
        self.end()
        self.transactions += 1
        self.tell(
            ev.TransactionStarted(ONE, self.channel, f"T{self.transactions}", "04AA", None, self.now.utc)
        )
        state = EvseState.DISCHARGING if feeds else EvseState.CHARGING
        self.tell(ev.StatusChanged(ONE, self.channel, state))
        self._sample()

    def end(self) -> None:
        if self.transactions:
            over = ev.TransactionEnded(STATION, ONE, f"T{self.transactions}", "over", None, self.now.utc)
            self.tell(over)
            self.tell(ev.StatusChanged(ONE, self.channel, EvseState.FINISHING))
        self.limit_ma = self.feeds_w = 0

    def _power_w(self) -> int:
        if self.feeds_w:
            return -self.feeds_w
        return self.limit_ma * 690 // 1000 if self.limit_ma >= 6_000 and self.soc < 1 else 0

    def _flow(self, seconds: int) -> None:
        if self.feeds_w and self.second >= self.feeds_until:
            self.begin(feeds=False)
        moved_wh = self._power_w() * seconds / 3600
        self.stored_wh += moved_wh
        self.lent_wh += max(0.0, -moved_wh)
        self.lowest = min(self.lowest, self.soc)

    def _sample(self) -> None:
        watts = self._power_w()
        amps = watts * 1000 // 690
        current: PerPhase[int | None] = PerPhase(amps, amps, amps)
        soc = int(100 * self.soc)
        self.tell(ev.EvseSample(ONE, self.channel, self.now.mono_s, current, watts, soc=soc))


def test_a_van_lends_in_the_dear_evening_never_below_its_floor_and_is_ready_in_the_morning() -> None:
    night = Night()
    night.leaves(13.0)
    night.live(DEAR_H)
    assert night.lent_wh > 12_000, "five kilowatts for hours"
    # a SoC is told in whole per cent, and what is told is never more than what is there
    assert night.lowest >= FLOOR_PCT / 100 - 0.01
    night.live(9.0)
    assert night.lowest >= FLOOR_PCT / 100 - 0.01
    assert night.soc >= 0.79
    wanted = [command for command in night.said if isinstance(command, StartDischarge)]
    assert wanted and all(c.min_soc == FLOOR_PCT and c.power_w <= LENDS_W for c in wanted)


def test_what_the_plan_wants_fed_back_is_bounded_by_power_time_and_floor() -> None:
    night = Night()
    night.leaves(13.0)
    night.live(0.05)
    made = plan(night.request())
    wish = made.wishes[ONE]
    assert made.by == "horizon" and wish.cap_ma == 0 and wish.feed_back is not None
    back = wish.feed_back
    assert (back.schedule, back.min_soc) == (PLAN, FLOOR_PCT) and 1_000 <= back.power_w <= LENDS_W
    assert night.now.utc < back.until <= night.now.utc + timedelta(minutes=45)


def lends(night: Night) -> bool:
    return bool(night.request().lenders)


@pytest.mark.parametrize(
    ("vehicle", "why"),
    [
        (Vehicle(VAN, BATTERY_WH, 11_000, ("04AA",)), "nobody said it may"),
        (Vehicle(VAN, None, 11_000, ("04AA",), LENDS_W, FLOOR_PCT), "its battery is not known"),
    ],
)
def test_who_lends_nothing(vehicle: Vehicle, why: str) -> None:
    night = Night(vehicle=vehicle)
    night.leaves(13.0, None, 10_000)
    night.live(0.05)
    assert not lends(night), why


def test_a_station_that_does_not_offer_it_is_not_asked() -> None:
    night = Night(channel="ocpp")
    night.leaves(13.0)
    night.live(0.2)
    assert not lends(night)
    night.tell(ev.DischargeOffered(ONE, "ocpp"))
    assert lends(night)


def test_a_target_in_kwh_lends_nothing_and_no_target_neither() -> None:
    night = Night()
    night.live(0.2)
    assert lends(night)
    assert plan(night.request()).wishes[ONE].feed_back is None
    night.leaves(13.0, None, 5_000)
    assert plan(night.request()).wishes[ONE].feed_back is None
    night.leaves(13.0)
    assert plan(night.request()).wishes[ONE].feed_back is not None


def test_a_person_who_stops_it_has_the_last_word_while_it_is_here() -> None:
    night = Night()
    night.leaves(13.0)
    night.live(0.5)
    assert night.lent_wh > 0
    night.tell(ev.StopWished("w1", "ann", ONE))
    night.live(0.2)
    lent_wh = night.lent_wh
    night.live(1.0)
    assert night.lent_wh - lent_wh < 10
    night.begin(feeds=False)
    night.live(0.2)
    assert not lends(night), "it is still the same vehicle"
    night.end()
    night.tell(ev.StatusChanged(ONE, CHANNEL, EvseState.AVAILABLE))
    night.depot.step(night.now)
    night.begin(feeds=False)
    night.live(0.2)
    assert lends(night), "the next vehicle has not been asked"


def test_what_it_has_more_than_it_needs_may_be_lent_and_need_not_come_back() -> None:
    night = Night(soc=0.9)
    night.leaves(6.0, soc=60)
    night.live(6.0)
    assert 0.59 <= night.soc <= 0.66 and night.lent_wh > 12_000


def test_a_higher_priority_goes_short_later() -> None:
    high = Vehicle(VAN, BATTERY_WH, 11_000, ("04AA",), priority=2)
    night = Night(vehicle=high)
    assert night.request().priorities == {VAN: -2}
    assert Night().request().priorities == {}
