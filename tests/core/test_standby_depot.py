"""Tonight's plan through the core: the real planner, what is told to the station, and what it is worth when we are gone."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from controller.core import events as ev
from controller.core.commands import Command, DropPlan, StorePlan
from controller.core.depot import Depot
from controller.core.model import (
    SITE,
    Circuit,
    Departure,
    Evse,
    EvseId,
    EvseState,
    Link,
    Moment,
    Plan,
    Site,
    StationId,
    each_phase,
)
from controller.core.standby import Standby
from controller.core.standby_plan import standbys
from controller.core.tariff import Band, Rates, series
from controller.core.wire import event_from_dict, event_to_dict
from controller.planner.horizon import plan

START = datetime(2026, 11, 22, 18, 0, tzinfo=UTC)
LINK = Link("ocpp", 180, 30, 10, 12, stores_plans=True)
ONE, STATION = EvseId("CP1/1"), StationId("CP1")
NIGHT = Rates("UTC", (Band(6 * 60, 22 * 60, 320_000), Band(22 * 60, 6 * 60, 180_000)))
NEED_WH, LEAVES_H, FALLBACK_A = 25_000, 13, 10


class Evening:
    """One vehicle that needs 25 kWh by seven in the morning, cheap from ten to six; every command is accepted."""

    def __init__(self, fallback_stored: bool = True) -> None:
        unit = Evse(ONE, STATION, SITE, 16_000, 6_000, (0, 1, 2), 1000 * FALLBACK_A, LINK)
        circuits = {SITE: Circuit(SITE, None, each_phase(63_000))}
        self.depot = Depot(Site("depot", "UTC", 230_000, circuits, {ONE: unit}), "1")
        self.second = 0
        self.said: list[Command] = []
        self.tell(ev.LinkUp(STATION, "ocpp", "peer"))
        stored = ev.FallbackStored(ONE, "ocpp", unit.fallback_ma)
        self.tell(stored if fallback_stored else ev.FallbackRefused(ONE, "ocpp", "no"))
        self.tell(ev.TransactionStarted(ONE, "ocpp", "17", "04AA", 0, START))
        self.tell(ev.StatusChanged(ONE, "ocpp", EvseState.CHARGING))
        at = START + timedelta(hours=LEAVES_H)
        self.tell(ev.DepartureSet("ann", Departure(ONE, at, energy_wh=NEED_WH)))

    @property
    def now(self) -> Moment:
        return Moment(1000.0 + self.second, START + timedelta(seconds=self.second))

    def tell(self, fact: ev.Event) -> None:
        self.depot.apply(fact, self.now)

    def planned(self, wakes: bool = False) -> dict[EvseId, Standby]:
        request = self.depot.plan_request(self.now)
        request = replace(
            request,
            prices=series(NIGHT, self.now.utc, self.now.utc + timedelta(hours=30)),
            present=tuple(replace(each, wakes=wakes) for each in request.present),
        )
        made = plan(request)
        found = standbys(request, made)
        self.tell(ev.PlanReady(replace(made, slots=(), evses_w={}, site_w=(), standbys=found)))
        return found

    def live(self, seconds: int) -> list[Command]:
        """What the station was told of plans meanwhile."""
        told: list[Command] = []
        for _ in range(seconds):
            self.second += 1
            if self.second % 300 == 0:
                self.planned()
            for command in self.depot.step(self.now).commands:
                self.tell(ev.CommandAccepted(command.id))
                told += [command] if isinstance(command, StorePlan | DropPlan) else []
        return told


def test_the_plan_is_stored_once_and_not_with_every_plan() -> None:
    evening = Evening()
    evening.planned()
    (stored,) = evening.live(1800)
    assert isinstance(stored, StorePlan) and (stored.evse, stored.transaction) == (ONE, "17")
    until = evening.depot.standbys.until(ONE)
    assert until is not None and until <= START + timedelta(hours=LEAVES_H)


def test_it_is_in_the_recording() -> None:
    evening = Evening()
    fact = ev.PlanReady(Plan(START, "horizon", {}, standbys=evening.planned()))
    assert fact.plan.standbys and event_from_dict(json.loads(json.dumps(event_to_dict(fact)))) == fact


def test_who_leaves_sooner_gets_another() -> None:
    evening = Evening()
    evening.planned()
    (first,) = evening.live(400)
    leaves(evening, hours=5)
    second = evening.live(900)[0]
    assert isinstance(first, StorePlan) and isinstance(second, StorePlan)
    assert second.plan.until < first.plan.until
    leaves(evening, hours=3.5)
    told = evening.live(900)
    assert [type(each) for each in told][-1] is DropPlan and len(told) <= 2, (
        "it needs all its fallback can give it by then"
    )


def leaves(evening: Evening, hours: float) -> None:
    at = START + timedelta(hours=hours)
    evening.tell(ev.DepartureSet("ann", Departure(ONE, at, energy_wh=NEED_WH)))
    evening.planned()


def test_a_station_without_its_fallback_gets_none() -> None:
    evening = Evening(fallback_stored=False)
    evening.planned()
    assert evening.live(60) == []


def test_while_a_proof_waits_for_the_fallback_no_plan_may_be_there() -> None:
    evening = Evening()
    evening.planned()
    assert len(evening.live(10)) == 1
    evening.tell(ev.RenewalHeld("ann", ONE, evening.now.mono_s + 600))
    told = evening.live(500)
    assert [type(each) for each in told] == [DropPlan] and not evening.depot.standbys.holds(ONE)
    evening.tell(ev.RenewalHeld("ann", ONE, evening.now.mono_s))
    assert [type(each) for each in evening.live(60)] == [StorePlan]


def cost_and_energy(standby: Standby | None) -> tuple[float, float]:
    """Of a vehicle alone with its station, until it has what it needs."""
    got_wh, cost = 0.0, 0.0
    for minute in range(LEAVES_H * 60):
        at = START + timedelta(minutes=minute)
        limit_ma = None if standby is None else standby.limit_ma(at)
        amps = FALLBACK_A if limit_ma is None else limit_ma / 1000
        wh = min(NEED_WH - got_wh, amps * 690 / 60 if amps >= 6 else 0)
        got_wh, cost = got_wh + wh, cost + wh / 1000 * (0.18 if at.hour >= 22 or at.hour < 6 else 0.32)
    return cost, got_wh


def test_what_it_is_worth() -> None:
    """Alone at its fallback the vehicle charges at the dear price first."""
    alone = cost_and_energy(None)
    awake, careful = (cost_and_energy(Evening().planned(wakes)[ONE]) for wakes in (True, False))
    assert alone == (pytest.approx(8.0, abs=0.01), NEED_WH)
    assert awake == (pytest.approx(4.5, abs=0.01), pytest.approx(NEED_WH, rel=0.002))
    assert careful == (pytest.approx(6.8, abs=0.05), pytest.approx(NEED_WH, rel=0.002))
