"""What is advised and foreseen: the newest plan and tariff taken over, and what they warn of hours before.

Owns the conditions that come from looking ahead: a vehicle that will leave short, prices that are out of date, a planner
that was lost. They are worked out when advice arrives, not in every step. Decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import assert_never
from zoneinfo import ZoneInfo

from controller.core.events import PlanReady, TariffRead
from controller.core.model import CircuitId, Departure, EvseId, Moment, PerPhase, Plan, Remedy, VehicleId
from controller.core.state import State
from controller.core.supervisor import Condition
from controller.core.watts import overcount_ma

SHORT_WH, SHORT_PCT = 500, 2  # who will lack less than this is ready
SHORT_DELAY_S = 60.0  # a plan that is made while a vehicle is being plugged in may err
LOST_S = 600.0
STALE = "prices"
HORIZON = "horizon"


def advised(state: State, event: PlanReady | TariffRead, now: Moment) -> None:
    match event:
        case PlanReady():
            state.plan = event.plan
        case TariffRead():
            state.tariff = event.tariff
            state.sessions.costs.use(event.tariff)
        case _:
            assert_never(event)
    state.foreseen = (*_short(state, now), *_planner(state, now), *_prices(state, now))


def other_loads(state: State) -> dict[CircuitId, PerPhase[int]]:
    """What flows through the metered circuits that is not ours, as far as it is known, in the middle: a DC output counts as at
    the nominal voltage, and what a battery of ours takes or gives is no load that lasts."""
    found: dict[CircuitId, PerPhase[int]] = {}
    for circuit, track in state.belief.backgrounds.items():
        first, second, third = track.estimate_ma()
        if first is not None and second is not None and third is not None:
            found[circuit] = PerPhase(first, second, third)
    for evse in state.site.evses.values():
        sample = state.belief.evses[evse.id].sample
        if evse.dc is None or sample is None or sample.power_w is None:
            continue
        over_ma = overcount_ma(evse.dc, sample.power_w, state.site.voltage_mv)
        for node in state.site.path(evse.circuit):
            if (flows := found.get(node.id)) is not None:
                found[node.id] = PerPhase(*(ma + over_ma for ma in flows))
    for battery in state.site.batteries:
        reading = state.belief.meters[battery.meter].reading
        if reading is None or reading.power_w is None:
            continue
        each_ma = reading.power_w * 1_000_000 // (state.site.voltage_mv * len(battery.phases))
        for node in state.site.path(battery.circuit):
            if (flows := found.get(node.id)) is not None:
                found[node.id] = PerPhase(
                    *(ma - each_ma if phase in battery.phases else ma for phase, ma in enumerate(flows))
                )
    return found


def _short(state: State, now: Moment) -> Iterator[Condition]:
    if state.plan is None:
        return
    told = state.agenda.told(state.departures, state.sessions.running, now.utc)
    warned = {condition.source for condition in state.foreseen if condition.kind == "short"}
    for evse, session in state.sessions.running.items():
        wish = state.plan.wishes.get(evse)
        known = (told.get(session.vehicle or ""), told.get(evse))
        ahead = [each.departure for each in known if each is not None and each.departure.at > now.utc]
        departure = next(iter(ahead), None)
        if wish is None or not wish.short_wh or departure is None:
            continue
        least_wh = max(SHORT_WH, _need_wh(state, session.vehicle, departure) * SHORT_PCT // 100)
        if wish.short_wh <= (least_wh // 2 if evse in warned else least_wh):
            continue
        at = departure.at.astimezone(ZoneInfo(state.site.timezone))
        text = f"{session.vehicle or evse} will leave at {at:%H:%M} {wish.short_wh / 1000:.1f} kWh short"
        remedy = best_remedy(state.plan, evse, wish.short_wh)
        if remedy is not None:
            text += f"; what would help: {remedy.text}"
        yield Condition("short", evse, 2, text, SHORT_DELAY_S)


def best_remedy(plan: Plan, evse: EvseId, short_wh: int) -> Remedy | None:
    """The cheapest of those that bring all that is missing, else the one that brings most."""
    mine = [remedy for remedy in plan.remedies if remedy.evse == evse]
    whole = [remedy for remedy in mine if remedy.gain_wh >= short_wh]
    if whole:
        return min(whole, key=lambda remedy: (remedy.cost_micro is None, remedy.cost_micro or 0))
    return max(mine, key=lambda remedy: remedy.gain_wh, default=None)


def _need_wh(state: State, vehicle: VehicleId | None, departure: Departure) -> int:
    if departure.energy_wh is not None:
        return departure.energy_wh
    known = None if vehicle is None else state.site.vehicles.get(vehicle)
    return 0 if known is None or known.battery_wh is None else known.battery_wh


def _planner(state: State, now: Moment) -> Iterator[Condition]:
    plan = state.plan
    if plan is not None and plan.by != HORIZON and plan.why and now.utc_trusted:
        text = f"planned by {plan.by}, not over the horizon: {plan.why}"
        yield Condition("planner", "planner", 3, text, LOST_S)


def _prices(state: State, now: Moment) -> Iterator[Condition]:
    tariff = state.tariff
    if tariff is None:
        return
    if tariff.trouble:
        yield Condition(STALE, "tariff", 3, tariff.trouble)
    elif now.utc_trusted and tariff.buy.at(now.utc) is None:
        text = "no price is known for now: cost stays unknown, planned with the mean of the known ones"
        yield Condition(STALE, "tariff", 3, text)
