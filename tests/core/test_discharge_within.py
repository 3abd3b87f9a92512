"""Discharges over the channel that leads (OCPP 2.1): slices inside the transaction, ended by a limit, and no further than
what the vehicle tells of its charge."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from controller.core import events as ev
from controller.core.commands import Command, SetLimit, StartCharging, StartDischarge, StopCharging
from controller.core.depot import Depot
from controller.core.discharge import RETRY_S, SLICE_S, SOC_KNOWN_S, UNCONFIRMED_S
from controller.core.model import (
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
from tests.small_site import a_site, an_evse

START = datetime(2026, 11, 22, 18, 0, tzinfo=UTC)
CHANNEL = "ocpp2.1"
LINK = Link("ocpp", 180, 30, 10, 20)
ONE, CP = EvseId("CP1/1"), StationId("CP1")


class Yard:
    """One depot, one station that follows limits and slices unless the test says otherwise."""

    def __init__(self, soc: int | None = 80) -> None:
        site = a_site(an_evse(ONE, LINK))
        self.depot = Depot(site, "1")
        self.second = 0.0
        self.soc = soc
        self.drawn_ma = 0
        self.feeds_until_s = 0.0
        self.obeys = True
        self.silent = False
        self.refuses: type[Command] | None = None
        self.ended: dict[str, str] = {}
        self.reasons: dict[str, str | None] = {}
        self.link_up()
        self.tell(ev.FallbackStored(ONE, CHANNEL, 6_000))
        self.tell(ev.StatusChanged(ONE, CHANNEL, EvseState.CHARGING))
        self.tell(ev.TransactionStarted(ONE, CHANNEL, "tx-1", None, 1000, self.now.utc))
        self.live(40)

    @property
    def now(self) -> Moment:
        return Moment(1000.0 + self.second, START + timedelta(seconds=self.second))

    @property
    def feeds(self) -> bool:
        return self.second < self.feeds_until_s

    def tell(self, fact: ev.Event) -> Any:
        return self.depot.apply(fact, self.now)

    def link_up(self, offers: bool = True) -> None:
        self.tell(ev.LinkUp(CP, CHANNEL, "peer"))
        if offers:
            self.tell(ev.DischargeOffered(ONE, CHANNEL))

    def live(self, seconds: float) -> list[Command]:
        """Every second a sample and a step; what is said is done at once. Returns what was said."""
        said: list[Command] = []
        for _ in range(int(seconds)):
            self.second += 1
            drawn_ma = -7_000 if self.feeds else self.drawn_ma
            power_w = drawn_ma * 690 // 1000
            sample = ev.EvseSample(ONE, CHANNEL, self.now.mono_s, each_phase(drawn_ma), power_w, soc=self.soc)
            if not self.silent:
                self.tell(sample)
            decision = self.depot.step(self.now)
            (self.view,) = decision.snapshot.evses
            self.ended |= {order.id: order.outcome for order in decision.snapshot.orders if order.outcome}
            self.reasons |= {order.id: order.reason for order in decision.snapshot.orders}
            for command in decision.commands:
                self.follow(command)
            said += decision.commands
        return said

    def follow(self, command: Command) -> None:
        if self.refuses is not None and isinstance(command, self.refuses):
            self.tell(ev.CommandRefused(command.id, "no"))
            return
        self.tell(ev.CommandAccepted(command.id))
        match command:
            case StartDischarge():
                self.feeds_until_s = self.second + command.duration_s
                self.drawn_ma = 6_000  # what follows a slice is the stored fallback
            case SetLimit() if self.obeys:
                self.feeds_until_s, self.drawn_ma = 0.0, command.limit_ma
            case StopCharging():
                self.feeds_until_s, self.drawn_ma = 0.0, 0
                self.tell(ev.TransactionEnded(CP, ONE, "tx-1", "Remote", None, self.now.utc))

    def order(self, duration_s: float | None = None, min_soc: int | None = None) -> None:
        self.tell(ev.DischargeWished("d1", "ann", ONE, 5_000, min_soc, duration_s))

    def wants(self, minutes: int) -> None:
        wanted = FeedBack("v2g", 5_000, self.now.utc + timedelta(minutes=minutes), 30)
        self.tell(ev.PlanReady(Plan(START, "rules", {ONE: Wish(0, why="schedule v2g", feed_back=wanted)})))


def limits(commands: list[Command]) -> list[int]:
    return [command.limit_ma for command in commands if isinstance(command, SetLimit)]


def others(commands: list[Command]) -> list[Command]:
    return [command for command in commands if not isinstance(command, SetLimit)]


def test_slices_are_parts_of_the_transaction_and_limits_follow_the_last() -> None:
    yard = Yard()
    yard.order(1000)
    said = yard.live(1)
    assert [(type(each), each.channel) for each in said] == [(StartDischarge, "ocpp")]
    said = yard.live(SLICE_S - 1)
    assert said == [] and yard.ended["d1"] == "done", "it goes on: nothing to say"
    (second,) = yard.live(5)
    assert isinstance(second, StartDischarge) and second.duration_s == 399
    said = yard.live(1000 - SLICE_S + 60)
    assert others(said) == [], "the transaction goes on, and nobody begins another"
    assert limits(said)[0] > 6_000 and yard.drawn_ma == limits(said)[-1]


@pytest.mark.parametrize("wish", [ev.PauseWished, ev.StartWished])
def test_what_ends_early_is_told_by_a_limit_of_nothing(wish: Callable[[str, str, EvseId], ev.Event]) -> None:
    yard = Yard()
    yard.order(1800)
    yard.live(30)
    yard.tell(wish("w1", "ann", ONE))
    assert limits(yard.live(1)) == [0] and not yard.feeds
    said = yard.live(60)
    assert others(said) == []
    assert bool(limits(said)) is (wish is ev.StartWished), "and then what it may draw"


def test_a_stop_by_a_person_ends_the_transaction_too() -> None:
    yard = Yard()
    yard.order(1800)
    yard.live(30)
    yard.tell(ev.StopWished("w1", "ann", ONE))
    assert [each.transaction for each in others(yard.live(30)) if isinstance(each, StopCharging)] == ["tx-1"]
    assert not yard.feeds and not any(isinstance(each, StartCharging) for each in yard.live(60))


def test_a_limit_that_was_refused_is_said_again_and_one_that_is_not_followed_becomes_a_stop() -> None:
    yard = Yard()
    yard.order(1800)
    yard.live(30)
    yard.refuses = SetLimit
    yard.tell(ev.PauseWished("w1", "ann", ONE))
    assert set(limits(yard.live(30))) == {0} and yard.feeds
    yard.refuses, yard.obeys = None, False
    said = yard.live(UNCONFIRMED_S + 10)
    assert 0 in limits(said) and [type(each) for each in others(said)] == [StopCharging]
    assert not yard.feeds


def test_it_ends_at_its_floor_and_where_the_charge_is_not_told() -> None:
    yard = Yard()
    yard.order(1800, min_soc=40)
    yard.live(30)
    yard.soc = 40
    assert limits(yard.live(1)) == [0]
    yard = Yard()
    yard.order(1800)
    yard.live(30)
    yard.soc = None
    assert yard.live(SOC_KNOWN_S - 2) == [], "it may leave it out now and then"
    assert limits(yard.live(4))[:1] == [0]
    yard = Yard(soc=None)
    yard.order()
    yard.live(1)
    assert yard.reasons["d1"] == "the vehicle does not tell its state of charge"


@pytest.mark.parametrize("again", ["link", "boot"])
def test_what_a_station_offers_holds_until_it_is_gone(again: str) -> None:
    yard = Yard()
    yard.order(1800)
    yard.live(30)
    if again == "link":
        yard.tell(ev.LinkDown(CP, CHANNEL, "cut"))
        yard.link_up(offers=False)
    else:
        yard.tell(ev.StationBooted(CP, CHANNEL, "V", "M", "1"))
    assert others(yard.live(SLICE_S + 30)) == [], "no slice follows where none is offered"
    yard.tell(ev.DischargeOffered(ONE, CHANNEL))
    assert [type(each) for each in others(yard.live(2))] == [StartDischarge], "it is still wanted"


def test_without_an_offer_or_a_session_nothing_is_discharged() -> None:
    yard = Yard()
    yard.tell(ev.LinkDown(CP, CHANNEL, "cut"))
    yard.link_up(offers=False)
    yard.order()
    yard.live(1)
    assert "OCPP 2.1 with V2X" in (yard.reasons["d1"] or "")
    yard = Yard()
    yard.tell(ev.TransactionEnded(CP, ONE, "tx-1", "Local", None, yard.now.utc))
    yard.order()
    yard.live(1)
    assert yard.reasons["d1"] == "no session is running"


def test_the_end_of_the_transaction_is_the_end_of_it() -> None:
    yard = Yard()
    yard.order(1800)
    yard.live(30)
    yard.feeds_until_s = 0.0
    yard.drawn_ma = 0
    yard.tell(ev.TransactionEnded(CP, ONE, "tx-1", "EVDisconnected", None, yard.now.utc))
    yard.tell(ev.TransactionStarted(ONE, CHANNEL, "tx-2", None, 1000, yard.now.utc))
    said = yard.live(SLICE_S + 60)
    assert others(said) == [] and limits(said)


def test_a_schedule_discharges_in_its_window_and_asks_again_after_a_refusal() -> None:
    yard = Yard()
    yard.refuses = StartDischarge
    yard.wants(20)
    assert [type(each) for each in others(yard.live(30))] == [StartDischarge]
    yard.refuses = None
    (again,) = others(yard.live(RETRY_S + 10))
    assert isinstance(again, StartDischarge) and yard.feeds and again.min_soc == 30
    yard.tell(ev.PlanReady(Plan(START, "rules", {})))
    said = yard.live(60)
    assert others(said) == [] and limits(said)[0] == 0 and limits(said)[-1] > 6_000


def test_a_limit_of_nothing_is_said_anew_where_it_was_the_limit_before() -> None:
    """The slice took its place, although its lease has not run out."""
    yard = Yard()
    yard.tell(ev.LimitWished("l1", "ann", ONE, 0))
    assert limits(yard.live(20)) == [0]
    yard.order(1800)
    yard.live(30)
    assert yard.feeds
    yard.tell(ev.PauseWished("w1", "ann", ONE))
    assert limits(yard.live(1)) == [0] and not yard.feeds


def test_unseen_it_has_ended_only_when_the_limit_was_accepted() -> None:
    yard = Yard()
    yard.order(1800)
    yard.live(30)
    yard.silent, yard.refuses = True, SetLimit
    yard.live(40)
    yard.tell(ev.StartWished("w1", "ann", ONE))
    assert set(limits(yard.live(30))) == {0}, "nothing else is said before"
    yard.refuses = None
    assert limits(yard.live(100))[0] == 0


def test_a_slice_waits_for_the_answer_to_a_limit() -> None:
    """It would come after the slice and end it, unseen."""
    yard = Yard()
    yard.tell(ev.LimitWished("l1", "ann", ONE, 10_000))
    (limit,) = yard.depot.step(yard.now).commands
    yard.order(1800)
    assert yard.depot.step(yard.now).commands == ()
    yard.follow(limit)
    assert [type(each) for each in yard.depot.step(yard.now).commands] == [StartDischarge]


def test_nobody_gets_the_room_of_a_discharge() -> None:
    yard = Yard()
    before_ma = yard.view.commitment_ma
    yard.order(1800)
    yard.live(30)
    assert yard.feeds and yard.view.commitment_ma == before_ma, "its lease may still hold"
    yard.live(300)
    assert yard.feeds and yard.view.commitment_ma == 6_000, "and then what it does alone"
