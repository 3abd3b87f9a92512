"""Discharges step by step: slices, ends, stops that are repeated, what schedules want, and what charges on afterwards."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from controller.core import events as ev
from controller.core.commands import (
    Command,
    RecordSaved,
    SetLimit,
    StartCharging,
    StartDischarge,
    StopCharging,
)
from controller.core.depot import Depot
from controller.core.discharge import OVERRUN_S, RETRY_S, SLICE_S, STOP_RETRY_S
from controller.core.model import (
    SITE,
    EvseId,
    EvseState,
    FeedBack,
    Link,
    Moment,
    Plan,
    StationId,
    Wish,
    each_phase,
)
from controller.core.snapshot import EvseView
from tests.small_site import a_site, an_evse

START = datetime(2026, 11, 22, 18, 0, tzinfo=UTC)
CHANNEL = "open-platform/onsite"
LINK = Link(CHANNEL, 120, 40, 10, 20, lease_ends_with_transaction=False)
ONE, CP = EvseId("TP1/1"), StationId("TP1")


class Yard:
    """One depot, one charger that does as it is told when the test lets it."""

    def __init__(self, autostart: bool = False) -> None:
        site = a_site(an_evse(ONE, LINK, autostart=autostart))
        self.depot = Depot(site, "1")
        self.second = 0.0
        self.transactions = 0
        self.running: str | None = None
        self.feeds = False
        self.commands: list[Command] = []
        self.ended: dict[str, str] = {}
        self.tell(ev.LinkUp(CP, CHANNEL, "peer"))
        self.tell(ev.FallbackStored(ONE, CHANNEL, 6_000))
        self.state(EvseState.PREPARING)

    @property
    def now(self) -> Moment:
        return Moment(1000.0 + self.second, START + timedelta(seconds=self.second))

    def tell(self, fact: ev.Event) -> Any:
        return self.depot.apply(fact, self.now)

    def state(self, state: EvseState) -> None:
        self.tell(ev.StatusChanged(ONE, CHANNEL, state))

    def step(self) -> list[Command]:
        decision = self.depot.step(self.now)
        (self.view,) = decision.snapshot.evses
        self.orders = {order.id: order for order in decision.snapshot.orders}
        self.ended |= {order.id: order.outcome for order in decision.snapshot.orders if order.outcome}
        self.commands += decision.commands
        return list(decision.commands)

    def live(self, seconds: float) -> list[Command]:
        """Every second a step, every five a sample."""
        said: list[Command] = []
        for _ in range(int(seconds)):
            self.second += 1
            if self.second % 5 == 0:
                self.sample()
            said += self.step()
        return said

    def sample(self, soc: int | None = None) -> None:
        now_s = self.now.mono_s
        if self.feeds:
            self.tell(ev.EvseSample(ONE, CHANNEL, now_s, each_phase(-7_000), -4_830, soc=soc))
        else:
            drawn = 6_000 if self.running else 0
            self.tell(ev.EvseSample(ONE, CHANNEL, now_s, each_phase(drawn), drawn * 690 // 1000, soc=soc))

    def begins(self, feeds: bool, token: str | None = None) -> None:
        self.ends()
        self.transactions += 1
        self.running, self.feeds = f"T{self.transactions}", feeds
        self.tell(ev.TransactionStarted(ONE, CHANNEL, self.running, token, None, self.now.utc))
        self.state(EvseState.DISCHARGING if feeds else EvseState.CHARGING)
        self.sample()

    def ends(self) -> None:
        if self.running is not None:
            self.tell(ev.TransactionEnded(CP, ONE, self.running, "over", None, self.now.utc))
            self.running, self.feeds = None, False
            self.state(EvseState.FINISHING)
            self.sample()

    def accept(self, commands: list[Command]) -> None:
        for command in commands:
            self.tell(ev.CommandAccepted(command.id))
            match command:
                case StartDischarge():
                    self.begins(feeds=True)
                case StopCharging():
                    self.ends()
                case StartCharging():
                    self.begins(feeds=False, token=command.token)

    def wants(self, minutes: int, floor: int = 20) -> None:
        wanted = FeedBack("v2g", 5_000, self.now.utc + timedelta(minutes=minutes), floor)
        self.tell(ev.PlanReady(Plan(START, "rules", {ONE: Wish(0, why="schedule v2g", feed_back=wanted)})))

    def order(self, duration_s: float | None = None, min_soc: int | None = None) -> None:
        self.tell(ev.DischargeWished("d1", "ann", ONE, 5_000, min_soc, duration_s))

    def says(self, wish: Callable[[str, str, EvseId], ev.Event]) -> None:
        self.tell(wish(f"w{self.second}", "ann", ONE))


def only(commands: list[Command], kind: type[Command]) -> list[Any]:
    return [command for command in commands if isinstance(command, kind)]


def test_a_long_discharge_is_ordered_in_slices_that_end_by_themselves() -> None:
    yard = Yard()
    yard.order(1500)
    (first,) = yard.step()
    assert first == StartDischarge(first.id, ONE, CHANNEL, 5_000, SLICE_S, 20)
    yard.accept([first])
    assert yard.live(SLICE_S + 20) == [], "it goes on: nothing to say"
    assert (yard.view.state, yard.view.power_w, yard.view.grant_ma) == (EvseState.DISCHARGING, -4_830, 0)
    assert yard.ended["d1"] == "done"
    yard.ends()  # by the charger's own clock
    (second,) = yard.live(1)
    assert isinstance(second, StartDischarge) and second.duration_s == SLICE_S
    yard.accept([second])
    yard.live(SLICE_S)
    yard.ends()
    (third,) = yard.live(1)
    assert isinstance(third, StartDischarge) and third.duration_s == 1500 - 2 * SLICE_S - 22
    yard.accept([third])
    yard.live(third.duration_s)
    yard.ends()
    assert yard.live(100) == []


def test_without_a_link_no_slice_follows() -> None:
    yard = Yard()
    yard.order(3600)
    yard.accept(yard.step())
    yard.tell(ev.LinkDown(CP, CHANNEL, "cut"))
    assert yard.live(SLICE_S + OVERRUN_S) == []
    yard.ends()
    yard.tell(ev.LinkUp(CP, CHANNEL, "peer"))
    assert len(only(yard.live(2), StartDischarge)) == 1, "it is still wanted"


def test_a_stop_is_repeated_until_nothing_flows_back() -> None:
    yard = Yard()
    yard.order(1800)
    yard.accept(yard.step())
    yard.live(30)
    yard.says(ev.StopWished)
    stops = only(yard.live(2 * STOP_RETRY_S + 2), StopCharging)
    assert len(stops) == 3 and {stop.transaction for stop in stops} == {"T1"}
    yard.tell(ev.CommandAccepted(stops[-1].id))
    assert len(only(yard.live(STOP_RETRY_S), StopCharging)) == 1, "a yes alone proves nothing"
    yard.ends()
    yard.tell(ev.CommandAccepted(only(yard.commands, StopCharging)[-1].id))
    assert yard.live(200) == []


@pytest.mark.parametrize(
    ("autostart", "token", "stopped", "starts"),
    [(False, "TAG1", False, ["TAG1"]), (False, "TAG1", True, []), (True, None, False, [None])],
)
def test_a_vehicle_that_was_charging_charges_on_afterwards(
    autostart: bool, token: str | None, stopped: bool, starts: list[str | None]
) -> None:
    yard = Yard(autostart)
    if token is not None:
        yard.begins(feeds=False, token=token)
        yard.live(20)
    else:
        yard.wants(5)
    yard.order(300)
    yard.accept(only(yard.step(), StartDischarge))
    yard.live(60)
    if stopped:
        yard.says(ev.StopWished)
        yard.accept(only(yard.live(1), StopCharging))
    else:
        yard.live(240)
        yard.ends()
    begun = only(yard.live(30), StartCharging)
    assert len(begun) == len(starts)
    assert [each.token if token is not None else None for each in begun] == starts


def test_a_schedule_discharges_in_its_window_and_not_after_it() -> None:
    yard = Yard()
    yard.begins(feeds=False, token="TAG1")
    yard.accept(only(yard.live(20), SetLimit))
    yard.wants(5, floor=30)
    said = yard.step()
    assert [(type(each), each.min_soc) for each in said] == [(StartDischarge, 30)], "and no limit beside it"  # type: ignore[union-attr]
    assert said[0].duration_s == 300  # type: ignore[union-attr]
    yard.accept(said)
    assert yard.live(299) == []
    (stop,) = yard.live(1)
    assert isinstance(stop, StopCharging)
    yard.accept([stop])
    yard.tell(ev.PlanReady(Plan(START, "rules", {})))
    (begun,) = only(yard.live(5), StartCharging)
    assert begun.token == "TAG1"


@pytest.mark.parametrize("wish", [ev.StopWished, ev.PauseWished])
def test_what_a_person_ended_stays_ended_in_this_window(wish: Callable[[str, str, EvseId], ev.Event]) -> None:
    yard = Yard()
    yard.wants(30)
    yard.accept(yard.step())
    yard.live(10)
    yard.says(wish)
    yard.accept(only(yard.live(1), StopCharging))
    assert only(yard.live(1700), StartDischarge) == []
    yard.second += 200
    yard.wants(30)
    assert len(only(yard.step(), StartDischarge)) == 1, "another window"


def test_a_pause_by_flexibility_ends_it_and_its_end_lets_the_schedule_go_on() -> None:
    yard = Yard()
    yard.wants(30)
    yard.accept(yard.step())
    yard.tell(ev.FlexWished("f1", "grid", SITE, 0, 60.0))
    yard.accept(only(yard.live(1), StopCharging))
    assert yard.live(58) == [] and not yard.feeds
    assert len(only(yard.live(5), StartDischarge)) == 1


def test_a_refused_discharge_ends_an_order_and_is_tried_again_by_a_schedule() -> None:
    yard = Yard()
    yard.begins(feeds=False)
    yard.accept(only(yard.live(20), SetLimit))
    yard.order(1800)
    (refused,) = yard.step()
    yard.tell(ev.CommandRefused(refused.id, "the vehicle would not"))
    yard.live(1)
    assert yard.orders["d1"].outcome == "refused"
    assert yard.live(60) and not only(yard.commands, StartDischarge)[1:], "it charges on"
    yard.wants(30)
    (refused,) = only(yard.live(1), StartDischarge)
    yard.tell(ev.CommandRefused(refused.id, "the vehicle would not"))
    said = yard.live(RETRY_S - 1)
    assert {each.limit_ma for each in only(said, SetLimit)} == {0}, "meanwhile the window holds"
    assert only(said, StartDischarge) == [] and len(only(yard.live(2), StartDischarge)) == 1


def test_it_ends_at_its_floor() -> None:
    yard = Yard()
    yard.order(1800, min_soc=40)
    yard.accept(yard.step())
    yard.sample(soc=41)
    assert yard.live(1) == []
    yard.sample(soc=40)
    (stop,) = yard.step()
    assert isinstance(stop, StopCharging) and stop.reason == "discharged to 40 %"


def test_the_next_vehicle_is_none_of_its_business() -> None:
    yard = Yard()
    yard.order(3600)
    yard.accept(yard.step())
    yard.live(30)
    yard.ends()
    yard.state(EvseState.AVAILABLE)
    yard.live(2)
    yard.state(EvseState.PREPARING)
    assert yard.live(SLICE_S + 60) == []


def test_after_a_restart_a_running_discharge_is_taken_over() -> None:
    yard = Yard()
    yard.begins(feeds=True)
    yard.wants(30)
    assert yard.live(60) == [], "another order would be refused"
    yard.says(ev.StopWished)
    assert len(only(yard.live(1), StopCharging)) == 1


def test_only_one_discharge_at_a_time() -> None:
    yard = Yard()
    yard.order(600)
    yard.accept(yard.step())
    yard.tell(ev.DischargeWished("d2", "ann", ONE, 9_000))
    yard.step()
    assert yard.orders["d2"].reason == "a discharge is under way; stop it first"


def test_what_flows_back_is_no_charged_energy() -> None:
    yard = Yard()
    yard.order(600)
    yard.accept(yard.step())
    yard.live(300)
    assert yard.view.session is not None and yard.view.session.energy_wh == 0
    began = yard.now.utc - timedelta(seconds=300)
    yard.ends()
    applied = yard.tell(ev.RecordReceived(ONE, CHANNEL, "r1", began, yard.now.utc, 400, 0, 400))
    (record,) = applied.entries
    assert isinstance(record, RecordSaved)
    assert (record.session, record.energy_wh, record.gap_wh) == ("1-1", 400, None)


def test_measured_current_shows_a_discharge_before_the_status_does() -> None:
    yard = Yard()
    yard.begins(feeds=False)
    yard.feeds = True
    yard.live(5)
    view: EvseView = yard.view
    assert (view.state, view.grant_ma, view.bound_by) == (EvseState.DISCHARGING, 0, "discharging")
    assert view._replace(power_w=-4_830) == view and view.commitment_ma >= 6_000
