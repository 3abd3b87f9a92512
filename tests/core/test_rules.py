"""The plan by rules: windows first, then least laxity, equal share when nothing is known or the clock is not."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from controller.core.model import (
    Departure,
    EvseId,
    FeedBack,
    Moment,
    Schedule,
    ScheduleType,
    SlotAction,
    TimeSlot,
    Vehicle,
    VehicleId,
    Wish,
)
from controller.core.planning import PlanRequest, Present
from controller.planner.rules import BANDS_S, CALM_RANK, plan
from tests.small_site import a_site, an_evse

NOW = datetime(2026, 11, 20, 20, 0, tzinfo=UTC)
ONE, TWO = EvseId("CP1/1"), EvseId("CP2/1")
VAN = VehicleId("van")


SITE_ = a_site(
    an_evse(ONE, max_a=16),  # 11040 W
    an_evse(TWO, max_a=16),
    vehicles={VAN: Vehicle(VAN, 60_000, 11_000, ("T",))},
)


def wish_of(
    schedules: tuple[Schedule, ...] = (),
    departure: Departure | None = None,
    present: Present | None = None,
    trusted: bool = True,
) -> Wish | None:
    departures = {} if departure is None else {departure.target: departure}
    request = PlanRequest(
        Moment(0.0, NOW, trusted),
        SITE_,
        () if present is None else (present,),
        {ONE: schedules} if schedules else {},
        departures,
    )
    return plan(request).wishes.get(ONE)


def here(energy_wh: int = 0, soc: int | None = None) -> Present:
    return Present(ONE, VAN, NOW, energy_wh, soc)


def night(start_h: int, end_h: int, power_w: int | None = None, target_soc: int | None = None) -> Schedule:
    slot = TimeSlot(start_h * 60, end_h * 60, SlotAction.CHARGE, power_w)
    return Schedule("night", ScheduleType.DAILY, True, "UTC", (slot,), target_soc)


def wishes_of(
    departures: dict[str, Departure], energies: dict[EvseId, int], priorities: dict[str, int] | None = None
) -> dict[EvseId, Wish]:
    """Two vehicles that are here; only the one at ONE is known by name."""
    there = tuple(
        Present(evse, VAN if evse == ONE else None, NOW, energy_wh, None)
        for evse, energy_wh in energies.items()
    )
    request = PlanRequest(Moment(0.0, NOW, True), SITE_, there, {}, departures, priorities=priorities or {})
    return dict(plan(request).wishes)


def needing(hours: float, one_wh: int, two_wh: int) -> dict[str, Departure]:
    at = NOW + timedelta(hours=hours)
    return {ONE: Departure(ONE, at, energy_wh=one_wh), TWO: Departure(TWO, at, energy_wh=two_wh)}


CALM = Wish(tier=len(BANDS_S), rank=CALM_RANK)


def test_nobody_is_known_nobody_is_preferred() -> None:
    assert wish_of() is None
    assert wish_of(present=here()) == CALM


@pytest.mark.parametrize(
    ("schedule", "soc", "cap_ma", "why"),
    [
        (night(18, 6), None, None, ""),
        (night(22, 6), None, 0, "outside its charging window"),
        (night(18, 6, power_w=6_900), None, 10_000, "schedule night"),
        (night(18, 6, target_soc=80), 79, None, ""),
        (night(18, 6, target_soc=80), 80, 0, "schedule night: target 80 % reached"),
        (night(18, 6, target_soc=80), None, None, ""),
    ],
)
def test_a_window_caps(schedule: Schedule, soc: int | None, cap_ma: int | None, why: str) -> None:
    wish = wish_of((schedule,), present=here(soc=soc))
    assert wish is not None
    assert (wish.cap_ma, wish.why) == (cap_ma, why)


@pytest.mark.parametrize(
    ("hours", "need_wh", "tier", "short_wh"),
    [
        (2.0, 11_040, 2, 0),  # an hour of work, two hours of time: one hour of laxity
        (1.2, 11_040, 0, 0),
        (12.0, 11_040, 4, 0),
        (1.0, 22_080, 0, 11_040),
    ],
)
def test_the_less_time_to_spare_the_earlier(hours: float, need_wh: int, tier: int, short_wh: int) -> None:
    departure = Departure(VAN, NOW + timedelta(hours=hours), energy_wh=need_wh)
    wish = wish_of(departure=departure, present=here())
    assert wish is not None
    assert (wish.tier, wish.short_wh) == (tier, short_wh)
    assert wish.rank == pytest.approx(hours * 3600 - need_wh * 3600 / 11_040)


def test_of_two_that_press_the_smaller_need_is_filled_first() -> None:
    wishes = wishes_of(needing(1.0, 20_000, 11_000), {ONE: 0, TWO: 0})
    assert (wishes[TWO].tier, wishes[ONE].tier) == (0, 1)
    later = wishes_of(needing(1.0, 20_000, 11_000), {ONE: 10_000, TWO: 0})  # it has only 10 kWh to go now
    assert (later[ONE].tier, later[TWO].tier) == (0, 1)


def test_priority_says_who_goes_short() -> None:
    wishes = wishes_of(needing(1.0, 20_000, 11_000), {ONE: 0, TWO: 0}, {VAN: -1})
    assert (wishes[ONE].tier, wishes[TWO].tier) == (0, 1)
    wishes = wishes_of(needing(1.0, 11_000, 20_000), {ONE: 0, TWO: 0}, {VAN: 2})
    assert (wishes[TWO].tier, wishes[ONE].tier) == (0, 1)


@pytest.mark.parametrize(("order", "tier"), [(-1, 1), (0, 2), (1, 3), (2, 4)])
def test_a_step_of_priority_counts_like_half_the_time_to_spare(order: int, tier: int) -> None:
    departures = {str(VAN): Departure(VAN, NOW + timedelta(hours=2), energy_wh=11_040)}  # one hour to spare
    assert wishes_of(departures, {ONE: 0}, {VAN: order})[ONE].tier == tier


def test_who_does_not_press_comes_behind_all_who_do_and_is_shared_with() -> None:
    departures = needing(1.0, 20_000, 11_000)
    assert wishes_of(departures, {ONE: 0, TWO: 0})[ONE].tier == 1
    departures[TWO] = Departure(TWO, NOW + timedelta(hours=9), energy_wh=11_000)
    wishes = wishes_of(departures, {ONE: 0, TWO: 0})
    assert (wishes[ONE].tier, wishes[TWO].tier) == (0, len(BANDS_S))


def test_among_those_of_whom_nothing_is_known_priority_orders() -> None:
    wishes = wishes_of({}, {ONE: 0, TWO: 0}, {VAN: -1})
    assert wishes[ONE].tier == wishes[TWO].tier == len(BANDS_S)
    assert wishes[ONE].rank < wishes[TWO].rank


def test_what_is_charged_already_counts() -> None:
    departure = Departure(ONE, NOW + timedelta(hours=1), energy_wh=10_000)
    assert wish_of(departure=departure, present=here(energy_wh=10_000)) == CALM


def test_a_state_of_charge_needs_a_battery_and_a_measurement() -> None:
    departure = Departure(VAN, NOW + timedelta(hours=1), soc=80)
    wish = wish_of(departure=departure, present=here(soc=50))
    assert wish is not None
    assert wish.short_wh == 18_000 - 11_040
    assert wish_of(departure=departure, present=here(soc=None)) == CALM


def test_a_departure_in_the_past_is_forgotten() -> None:
    departure = Departure(VAN, NOW - timedelta(hours=1), energy_wh=10_000)
    assert wish_of(departure=departure, present=here()) == CALM


def test_without_a_trusted_clock_everybody_is_equal() -> None:
    departure = Departure(VAN, NOW + timedelta(hours=1), energy_wh=10_000)
    assert wish_of((night(22, 6),), departure, here(), trusted=False) == CALM
    assert wish_of((night(22, 6),), trusted=False) is None


@pytest.mark.parametrize(("target", "floor"), [(None, 20), (10, 20), (60, 60)])
def test_a_discharge_window_says_how_much_how_long_and_how_far(target: int | None, floor: int) -> None:
    slot = TimeSlot(18 * 60, 21 * 60, SlotAction.DISCHARGE, 7_000)
    evening = Schedule("evening", ScheduleType.DAILY, True, "UTC", (slot,), target)
    wish = wish_of((evening,), present=here())
    assert wish is not None
    assert wish.feed_back == FeedBack("evening", 7_000, NOW.replace(hour=21), floor)
    assert (wish.cap_ma, wish.why) == (0, "schedule evening: discharge")
    assert wish_of((replace(evening, enabled=False),), present=here()) == CALM
