"""What nobody should ask of a planner: impossible targets, odd prices and nights, a solver that dies, vehicles of which
nothing is known. Whatever comes, somebody charges, and what cannot be is said."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from controller.core.model import (
    Departure,
    EvseId,
    Moment,
    Plan,
    Site,
    Vehicle,
    VehicleId,
)
from controller.core.planning import Expected, PlanRequest, Present, Price
from controller.planner import horizon, rules
from controller.planner.worker import PlanWorker, nonsense
from tests.small_site import a_site, an_evse

NOW = datetime(2026, 11, 20, 20, 0, tzinfo=UTC)
VAN = VehicleId("van")
ZONE = ZoneInfo("Europe/Amsterdam")
BOTH = pytest.mark.parametrize("planner", [horizon.plan, rules.plan], ids=["horizon", "rules"])


def depot(n: int, site_a: int = 63) -> Site:
    evses = (an_evse(EvseId(f"CP{k}/1"), max_a=16) for k in range(n))
    return a_site(*evses, limit_a=site_a, timezone=ZONE.key, vehicles={VAN: Vehicle(VAN, None, None)})


def asked(site: Site, wants: list[tuple[float, float]], at: datetime = NOW) -> PlanRequest:
    """wants: hours to departure and kWh, per EVSE in order."""
    names = list(site.evses)[: len(wants)]
    present = tuple(Present(evse, None, at, 0, None) for evse in names)
    departures = {
        str(evse): Departure(evse, at + timedelta(hours=hours), energy_wh=int(1000 * kwh))
        for evse, (hours, kwh) in zip(names, wants, strict=True)
    }
    return PlanRequest(Moment(0.0, at), site, present, {}, departures)


def charging_ma(made: Plan, request: PlanRequest) -> int:
    """What the wishes leave to those that are here; no cap is all."""
    caps = (made.wishes[present.evse].cap_ma for present in request.present)
    return sum(16_000 if cap is None else cap for cap in caps)


# --- impossible targets ---------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize(
    "want",
    [(0.5, 10_000.0), (1 / 3600, 5.0), (0.1, 1.2), (70.0, 2_000.0), (200.0, 9_999.0), (0.02, 0.5)],
)
def test_an_impossible_target_is_tried_and_said(planner: object, want: tuple[float, float]) -> None:
    assert callable(planner)
    request = asked(depot(2), [want, want])
    made = planner(request)
    assert nonsense(made, request) is None
    assert charging_ma(made, request) == 32_000
    assert len(made.wishes) == 2 and all((wish.short_wh or 0) > 0 for wish in made.wishes.values())


@BOTH
def test_where_nobody_can_be_ready_nobody_is_left_without(planner: object) -> None:
    assert callable(planner)
    request = asked(depot(10, site_a=40), [(1.0, 400.0)] * 10)
    made = planner(request)
    assert charging_ma(made, request) >= 34_000
    assert len(made.wishes) == 10 and all((wish.short_wh or 0) > 0 for wish in made.wishes.values())


@BOTH
def test_a_target_that_is_reached_or_nothing_asks_for_no_energy(planner: object) -> None:
    assert callable(planner)
    request = asked(depot(2), [(4.0, 10.0), (4.0, 10.0)])
    done = replace(request, present=tuple(replace(one, energy_wh=10_000) for one in request.present))
    made = planner(done)
    assert nonsense(made, done) is None and not any(wish.short_wh for wish in made.wishes.values())


# --- vehicles of which nothing is known ------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize(
    "departure",
    [Departure(VAN, NOW + timedelta(hours=5), soc=80), Departure(VAN, NOW + timedelta(hours=5))],
    ids=["a state of charge without a battery", "a time alone"],
)
def test_a_vehicle_without_limit_and_battery_is_not_held_back(planner: object, departure: Departure) -> None:
    assert callable(planner)
    site = depot(2)
    vehicle = site.vehicles[VAN]
    assert (vehicle.max_power_w, vehicle.battery_wh) == (None, None)
    here = Present(EvseId("CP0/1"), VAN, NOW, 0, 40)
    request = PlanRequest(Moment(0.0, NOW), site, (here,), {}, {VAN: departure})
    made = planner(request)
    wish = made.wishes[EvseId("CP0/1")]
    assert (wish.cap_ma, wish.short_wh) == (None, None)


def test_a_vehicle_without_a_limit_is_planned_with_that_of_its_charger() -> None:
    site = depot(1)
    here = Present(EvseId("CP0/1"), VAN, NOW, 0, None)
    departure = Departure(VAN, NOW + timedelta(hours=2), energy_wh=22_000)
    made = horizon.plan(PlanRequest(Moment(0.0, NOW), site, (here,), {}, {VAN: departure}))
    assert made.wishes[EvseId("CP0/1")].cap_ma == 16_000
    assert max(made.evses_w[EvseId("CP0/1")]) == pytest.approx(11_040, abs=5)


@pytest.mark.parametrize(
    "coming",
    [
        Expected(EvseId("gone/1"), NOW + timedelta(hours=1), NOW + timedelta(hours=5), 10_000),
        Expected(EvseId("CP1/1"), NOW + timedelta(hours=5), NOW + timedelta(hours=1), 10_000),
        Expected(EvseId("CP1/1"), NOW - timedelta(hours=9), NOW - timedelta(hours=1), 10_000),
        Expected(EvseId("CP1/1"), NOW + timedelta(hours=1), NOW + timedelta(hours=5), 0),
        Expected(EvseId("CP1/1"), NOW + timedelta(hours=1), NOW + timedelta(hours=2), 10**9),
        Expected(EvseId("CP0/1"), NOW, NOW + timedelta(hours=5), 10_000),
    ],
    ids=["nowhere", "leaves before it comes", "past", "wants nothing", "wants all there is", "bay taken"],
)
def test_expectations_that_cannot_be_take_nothing_from_who_is_here(coming: Expected) -> None:
    request = replace(asked(depot(2, site_a=32), [(2.0, 20.0)]), expected=(coming,))
    made = horizon.plan(request)
    assert made.by == "horizon"
    assert made.wishes[EvseId("CP0/1")].cap_ma == 16_000


# --- prices ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "amounts",
    [
        (),
        (float("nan"),) * 5,
        (float("inf"), 0.2),
        (-0.5,) * 6,
        (-1e6, 1e6, 0.0),
        (1e-12, 2e-12),
        (0.3, float("-inf"), -0.1, float("nan")),
    ],
)
@pytest.mark.parametrize("nets", [False, True], ids=["alone", "with a peak price"])
def test_whatever_energy_costs_all_get_what_they_need_and_no_more(
    amounts: tuple[float, ...], nets: bool
) -> None:
    prices = tuple(Price(NOW + timedelta(hours=n), amount) for n, amount in enumerate(amounts))
    request = replace(asked(depot(2), [(5.0, 11.0), (5.0, 22.0)]), prices=prices)
    made = horizon.plan(replace(request, peak_price=6.0 if nets else 0.0))
    assert nonsense(made, request) is None
    hours = [(b - a).total_seconds() / 3600 for a, b in zip(made.slots, made.slots[1:], strict=False)]
    got = {
        evse: sum(w * h for w, h in zip(powers, hours, strict=True)) for evse, powers in made.evses_w.items()
    }
    assert made.by == "rules" or list(got.values()) == pytest.approx([11_000, 22_000], abs=60)


# --- nights ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("evening", "hours"),
    [
        (datetime(2026, 3, 28, 22, 0, tzinfo=ZONE), 7),
        (datetime(2026, 10, 24, 22, 0, tzinfo=ZONE), 9),
        (datetime(2028, 2, 28, 22, 0, tzinfo=ZONE), 8),
        (datetime(2028, 2, 29, 22, 0, tzinfo=ZONE), 8),
    ],
    ids=["short", "long", "into 29 February", "out of 29 February"],
)
def test_a_departure_by_the_clock_on_the_wall_is_met_in_odd_nights(evening: datetime, hours: int) -> None:
    leaves = (evening + timedelta(hours=8)).replace(hour=6)
    at = evening.astimezone(UTC)
    left_h = (leaves.astimezone(UTC) - at).total_seconds() / 3600
    assert left_h == hours
    full_kwh = 11.04 * hours
    met = horizon.plan(asked(depot(1), [(left_h, full_kwh - 1.0)], at))
    assert met.wishes[EvseId("CP0/1")].short_wh == 0
    short = horizon.plan(asked(depot(1), [(left_h, full_kwh + 11.04)], at))
    assert short.wishes[EvseId("CP0/1")].short_wh == pytest.approx(11_040, abs=30)


# --- clock and solver -----------------------------------------------------------------------------------------------


def test_without_a_trusted_clock_all_that_are_here_charge() -> None:
    request = asked(depot(3), [(4.0, 20.0)] * 3)
    made = horizon.plan(replace(request, now=Moment(0.0, datetime(2000, 1, 1, tzinfo=UTC), False)))
    assert made.by == "rules" and charging_ma(made, request) == 48_000


@pytest.mark.parametrize("iterations", [0, 1, 7, 40, 10**6])
def test_a_solver_that_is_stopped_in_the_middle_leaves_no_half_a_plan(iterations: int) -> None:
    request = asked(depot(12, site_a=80), [(3.0 + n, 15.0 + n) for n in range(12)])
    made = horizon.plan(request, iterations=iterations)
    assert nonsense(made, request) is None
    assert charging_ma(made, request) > 0
    if made.by == "rules":
        assert "iteration limit" in made.why and not made.evses_w
    else:
        assert iterations == 10**6


@pytest.mark.parametrize("limit_s", [1e-9, 1e-4, 1e-3, 3e-3, 1e-2])
def test_a_solver_that_runs_out_of_time_anywhere_leaves_no_half_a_plan(limit_s: float) -> None:
    request = asked(depot(30, site_a=160), [(3.0 + n / 3, 15.0 + n) for n in range(30)])
    made = horizon.plan(request, limit_s=limit_s)
    assert nonsense(made, request) is None
    assert charging_ma(made, request) > 0
    assert made.by == "horizon" or "time limit" in made.why


@pytest.mark.parametrize("death", [MemoryError(), SystemExit(1), KeyboardInterrupt(), RecursionError()])
async def test_a_solver_that_dies_in_its_thread_leaves_it_to_the_rules(death: BaseException) -> None:
    def dying(request: PlanRequest) -> Plan:
        raise death

    request = asked(depot(2), [(4.0, 20.0)] * 2)
    made = await PlanWorker(dying).plan(request)
    assert made.by == "rules" and type(death).__name__ in made.why
    assert charging_ma(made, request) == 32_000


async def test_while_one_hangs_every_further_request_is_answered_at_once() -> None:
    let_go = threading.Event()

    def hanging(request: PlanRequest) -> Plan:
        let_go.wait(30)
        return rules.plan(request)

    worker, request = PlanWorker(hanging, late_s=0.05), asked(depot(2), [(4.0, 20.0)] * 2)
    try:
        for word in ("did not answer", "still hangs", "still hangs"):
            async with asyncio.timeout(5.0):
                made = await worker.plan(request)
            assert made.by == "rules" and word in made.why
            assert charging_ma(made, request) == 32_000 and not worker.busy
    finally:
        let_go.set()
