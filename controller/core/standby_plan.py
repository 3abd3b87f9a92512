"""From a plan to what each station is to follow of it while we are gone.

Owns that choice. What is reserved for an EVSE that nobody talks to is its fallback, so nothing here is above it: a stored
plan needs no room of its own, and an error in it (a clock that is wrong, a plan that is old) cannot trip a fuse. What is
left to win is below the fallback, and it is not much: a vehicle that could have its energy in the cheap hours, or beside
the month's peak, does not take it in the dear ones, and the next vehicle in the building is not slowed by it. Where the
fallback is the minimum current, or the vehicle needs all of it until it departs, there is nothing to win, and nothing is
stored.

Nobody may go short by it:
- what the cap takes away is put back: into the cheapest hours before the departure, of equals into those next to where
  the plan charges (so it stays where it is while time passes, and the station need not be told again);
- after the last hour in which the plan charges the fallback rules again, for a vehicle that needs more than was told;
- a pause is only kept for a vehicle that was seen to begin again after one in this session; any other keeps its minimum.

Pure. Feeding back is nothing a station may do alone: it counts as not charging.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from controller.core.model import Evse, EvseId, Plan
from controller.core.planning import PlanRequest, Present
from controller.core.standby import Standby, StandbyStep, fitted
from controller.core.units import power_for_current_w
from controller.core.watts import dc_limit_w

STEP_MA = 100  # OCPP has one decimal of an ampere
MOST_STEPS = 24
ENOUGH_W = 50  # who is planned less does not charge


@dataclass(frozen=True, slots=True)
class _Slots:
    """The same for every vehicle: starts, and the end of the last; how long and how dear each is."""

    edges: tuple[datetime, ...]
    hours: tuple[float, ...]
    prices: tuple[float, ...]


def standbys(request: PlanRequest, plan: Plan) -> dict[EvseId, Standby]:
    """For each vehicle that is here at a station that can hold one, where it differs from the fallback."""
    found: dict[EvseId, Standby] = {}
    if not request.now.utc_trusted:
        return found
    hours = tuple((end - start).total_seconds() / 3600 for start, end in pairwise(plan.slots))
    slots = _Slots(plan.slots, hours, tuple(_price(request, start) for start in plan.slots[:-1]))
    for present in request.present:
        evse, watts = request.site.evses[present.evse], plan.evses_w.get(present.evse, ())
        able = evse.link.stores_plans and evse.fallback_ma >= evse.min_ma
        if able and any(each >= ENOUGH_W for each in watts):
            standby = _standby(request, slots, present, evse, watts)
            if standby is not None:
                found[evse.id] = standby
    return found


def _standby(
    request: PlanRequest, slots: _Slots, present: Present, evse: Evse, watts: tuple[int, ...]
) -> Standby | None:
    """The plan within the fallback, and what that takes away put back; up to its last hour of charging: a station that
    does not know when to leave off then stays at that."""
    least_ma, most_ma = -(-evse.min_ma // STEP_MA) * STEP_MA, evse.fallback_ma // STEP_MA * STEP_MA
    w_per_a = _power_w(request, present, evse, 1000)
    idle_ma = 0 if present.wakes else least_ma
    limits_ma = [
        min(most_ma, max(least_ma, _up(each * 1000 / w_per_a))) if each >= ENOUGH_W else min(most_ma, idle_ma)
        for each in watts
    ]
    missing_wh = sum(
        (max(0, each) - limit_ma * w_per_a / 1000) * hours
        for each, limit_ma, hours in zip(watts, limits_ma, slots.hours, strict=True)
    )
    charges = [each >= ENOUGH_W for each in watts]
    if missing_wh > 0:
        away, leaves = _away(charges), _departs(request, present)
        for n in sorted(range(len(watts)), key=lambda n: (slots.prices[n], away[n], n)):
            if missing_wh <= 0:
                break
            if leaves is None or slots.edges[n] < leaves:
                more_ma = _up(missing_wh / slots.hours[n] * 1000 / w_per_a)
                raised_ma = min(most_ma, max(least_ma, limits_ma[n] + more_ma))
                missing_wh -= (raised_ma - limits_ma[n]) * w_per_a / 1000 * slots.hours[n]
                limits_ma[n], charges[n] = raised_ma, True
    count = max(n for n, each in enumerate(charges) if each) + 1
    if min(limits_ma[:count]) >= most_ma:
        return None
    steps = [StandbyStep(slots.edges[n], limits_ma[n]) for n in range(count)]
    return Standby(fitted(steps, slots.edges[count], MOST_STEPS), slots.edges[count])


def _up(current_ma: float) -> int:
    return math.ceil(current_ma / STEP_MA) * STEP_MA


def _away(charges: list[bool]) -> list[int]:
    """How many slots lie between each and the nearest that charges."""
    away = [0 if each else len(charges) for each in charges]
    for n in range(1, len(away)):
        away[n] = min(away[n], away[n - 1] + 1)
    for n in range(len(away) - 2, -1, -1):
        away[n] = min(away[n], away[n + 1] + 1)
    return away


def _power_w(request: PlanRequest, present: Present, evse: Evse, current_ma: int) -> int:
    """What the vehicle makes of it; never 0."""
    if evse.dc is not None:
        return max(1, dc_limit_w(evse.dc, current_ma))
    phases = len(present.phases or evse.phases)
    return max(1, power_for_current_w(current_ma, request.site.voltage_mv, phases))


def _departs(request: PlanRequest, present: Present) -> datetime | None:
    keys = [key for key in (present.vehicle, present.evse) if key is not None]
    ahead = [request.departures[key].at for key in keys if key in request.departures]
    return next((at for at in ahead if at > request.now.utc), None)


def _price(request: PlanRequest, at: datetime) -> float:
    """Unknown ones come last."""
    n = bisect_right(request.prices, at, key=lambda price: price.start)
    amount = request.prices[n - 1].amount if n else math.nan
    return math.inf if math.isnan(amount) else amount
