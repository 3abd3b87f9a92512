"""The console's call about the plan: the newest one as a document, with what it was made from.

Amounts keep their units in the names (W, Wh, price per kWh in `currency`); unknown is null. Must not plan.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from controller.calls import takes
from controller.channel_calls import Call
from controller.console import Args, Peer
from controller.core.foresight import best_remedy
from controller.core.model import SITE, EvseId, Plan, Remedy, Wish
from controller.core.planning import PlanRequest, Present, Price, Step
from controller.core.wire import instant_text
from controller.outlook import Outlook
from controller.runtime import Runtime


class PlanCalls:
    """`table` is for `Console`: name -> (whether only operators may, the call)."""

    def __init__(self, runtime: Runtime, outlook: Outlook | None) -> None:
        self._runtime = runtime
        self._outlook = outlook
        self.table: Mapping[str, tuple[bool, Call]] = {"plan": (False, self._plan)}

    @takes()
    async def _plan(self, args: Args, peer: Peer) -> Any:
        newest = self._runtime.planning.newest
        document = self.frame()
        if newest is None:
            return document | {"made": None, "by": None, "why": "no plan has been made yet", "evses": []}
        request, plan = newest
        document |= plan_document(request, plan) | self._forecast()
        for each in document["evses"]:
            each |= self._stored(each["evse"])
        return document

    def _stored(self, evse: EvseId) -> dict[str, Any]:
        """Until when the station itself would follow the plan, and what keeps it from having one."""
        standbys = self._runtime.depot.standbys
        until = standbys.until(evse)
        return {
            "stored_until": None if until is None else instant_text(until),
            "not_stored": standbys.trouble(evse) or None,
        }

    def frame(self) -> dict[str, Any]:
        """What every document about a plan begins with."""
        depot = self._runtime.depot
        return {
            "version": 1,
            "timezone": depot.site.timezone,
            "currency": None if depot.tariff is None else depot.tariff.currency,
            "now": instant_text(self._runtime.clock.now().utc.replace(microsecond=0)),
        }

    def _forecast(self) -> dict[str, Any]:
        """How far forecasts were off of late; null without experience."""
        if self._outlook is None:
            return {}
        return {"load_error_w": self._outlook.load.error_w, "sun_error_w": self._outlook.sun.error_w}


def plan_document(request: PlanRequest, plan: Plan) -> dict[str, Any]:
    """What `depot plan --json` prints, but for the site's words. The series have one value per slot."""
    root = request.site.circuits[SITE]
    limit_w = sum(root.limit_ma) * request.site.voltage_mv // 1_000_000
    slots = plan.slots
    return {
        "made": instant_text(plan.made.replace(microsecond=0)),
        "by": plan.by,
        "why": plan.why,
        "slots": [instant_text(at.replace(microsecond=0)) for at in slots],
        # without a forecast of the load nobody knows what the grid connection will carry
        "site_w": list(plan.site_w) if request.load else [None] * len(plan.site_w),
        "limit_w": min(limit_w, root.limit_w) if root.limit_w is not None else limit_w,
        "peak_w": request.peak_w or None,
        "price_per_kwh": _prices(plan, request.prices),
        "load_w": _at_slots(plan, request.load),
        "sun_w": _at_slots(plan, request.pv),
        "battery_w": plan.battery_w,
        "evses": [_vehicle(request, plan, present) for present in request.present],
        "expected": [
            {
                "evse": each.evse,
                "vehicle": each.vehicle,
                "arrives": instant_text(each.arrives),
                "departs": instant_text(each.departs),
                "energy_wh": each.energy_wh,
                "weight_pct": each.weight_pct,
            }
            for each in request.expected
        ],
    }


def _vehicle(request: PlanRequest, plan: Plan, present: Present) -> dict[str, Any]:
    evse = present.evse
    wish = plan.wishes.get(evse, Wish())
    keys = [key for key in (present.vehicle, evse) if key is not None]
    ahead = [request.departures[key] for key in keys if key in request.departures]
    departure = next((each for each in ahead if each.at > request.now.utc), None)
    power_w = plan.evses_w.get(evse, ())
    until = None if departure is None else departure.at
    hours = [(end - start).total_seconds() / 3600 for start, end in pairwise(plan.slots)]
    planned_wh = [
        watts * length
        for watts, length, start in zip(power_w, hours, plan.slots, strict=False)
        if until is None or start < until
    ]
    best, priced = best_remedy(plan, evse, wish.short_wh or 0), bool(request.prices)
    return {
        "evse": evse,
        "vehicle": present.vehicle,
        "soc": present.soc,
        "received_wh": present.energy_wh,
        "departs": None if departure is None else instant_text(departure.at),
        "asked_wh": None if departure is None else departure.energy_wh,
        "asked_soc": None if departure is None else departure.soc,
        "planned_wh": round(sum(planned_wh)) if power_w else None,
        "short_wh": wish.short_wh,
        "ready_pct": plan.ready_pct.get(evse),
        "cap_a": None if wish.cap_ma is None else wish.cap_ma / 1000,
        "why": wish.why,
        "binds": _binds(plan, present) if wish.short_wh else None,
        "power_w": list(power_w),
        "remedies": [_remedy(each, priced) for each in plan.remedies if each.evse == evse],
        "best_remedy": None if best is None else _remedy(best, priced),
    }


def _binds(plan: Plan, present: Present) -> str:
    """What keeps it from being ready: a circuit where more would help, else its own power or its charging windows."""
    full = [each.circuit for each in plan.remedies if each.evse == present.evse and each.circuit is not None]
    return f"circuit {full[0]} is full" if full else "no more fits before it leaves"


def _remedy(remedy: Remedy, priced: bool) -> dict[str, Any]:
    cost = None if remedy.cost_micro is None or not priced else remedy.cost_micro / 1e6
    return {"kind": remedy.kind, "text": remedy.text, "gain_wh": remedy.gain_wh, "cost": cost}


def _prices(plan: Plan, prices: tuple[Price, ...]) -> list[float | None]:
    """At the start of each slot. Unknown ones are NaN in a request."""
    found: list[float | None] = []
    for start in plan.slots[:-1]:
        known = [price.amount for price in prices if price.start <= start]
        amount = known[-1] if known else None
        found.append(None if amount is None or math.isnan(amount) else amount)
    return found


def _at_slots(plan: Plan, steps: tuple[Step, ...]) -> list[int | None]:
    found: list[int | None] = []
    for start in plan.slots[:-1]:
        known = [step.power_w for step in steps if step.start <= start]
        found.append(known[-1] if known else None)
    return found
