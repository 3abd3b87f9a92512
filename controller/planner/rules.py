"""Planning by rules, without a solver: charging windows, then least laxity first, equal share when nothing is known.

Laxity is the time a vehicle can still afford to wait: time to departure minus what it needs at full power. Vehicles
are served in bands of laxity (tiers); inside a band the allocator shares equally. Each step of a vehicle's priority
counts like half the time to spare. Who has next to none is not shared with: there one after the other is filled, by
priority, then the smallest need first, so that what is short leaves as few as possible not ready. Also the fall-back of
every cleverer planner.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from controller.core.discharge import FLOOR_PCT
from controller.core.model import Departure, EvseId, FeedBack, Moment, Plan, Schedule, Site, SlotAction, Wish
from controller.core.planning import PlanRequest, Present
from controller.core.watts import limit_ma, limit_w
from controller.core.windows import Window, has_charge_window, window_at

BANDS_S = (1800.0, 3600.0, 7200.0, 14400.0)  # laxity below these is tier 0, 1, 2, 3; the rest is tier 4
CALM_RANK = 1e9  # after everybody whose laxity is known
HORIZON = timedelta(days=8)  # a weekly schedule comes round in this time


def plan(request: PlanRequest) -> Plan:
    """A wish for every EVSE that has a vehicle or a schedule. Until the clock is trusted schedules and departures
    rest: everybody gets the same wish."""
    wishes: dict[EvseId, Wish] = {}
    pressing: list[tuple[int, int, EvseId]] = []
    present = {vehicle.evse: vehicle for vehicle in request.present}
    for evse in request.site.evses:
        schedules = request.schedules.get(evse, ())
        if request.now.utc_trusted and (evse in present or schedules):
            vehicle = present.get(evse)
            departure = _departure(request, evse, vehicle)
            order = _order(request, evse, vehicle)
            wish = wishes[evse] = _wish(request.site, evse, schedules, request.now, vehicle, departure, order)
            if wish.tier == 0 and departure is not None:
                left_wh = _left_wh(request.site, departure, vehicle) or 0
                pressing.append((order, left_wh, evse))
        elif evse in present:
            wishes[evse] = Wish(tier=len(BANDS_S), rank=CALM_RANK)
        if evse in present and present[evse].drawn_ma == 0:
            wishes[evse] = _done(wishes[evse], request.site.evses[evse].min_ma)
    return Plan(made=request.now.utc, by="rules", wishes=_in_turn(wishes, pressing))


def _in_turn(wishes: dict[EvseId, Wish], pressing: list[tuple[int, int, EvseId]]) -> dict[EvseId, Wish]:
    """A tier for each that presses, in order, and the others behind them."""
    turn = {evse: n for n, (_, _, evse) in enumerate(sorted(pressing)) if wishes[evse].tier == 0}
    behind = max(0, len(turn) - 1)
    return {
        evse: replace(wish, tier=turn[evse] if evse in turn else wish.tier + behind)
        for evse, wish in wishes.items()
    }


def _order(request: PlanRequest, evse: EvseId, vehicle: Present | None) -> int:
    """0, or who goes short when: lower, later."""
    names = (evse, None if vehicle is None else vehicle.vehicle)
    return min((order for name, order in request.priorities.items() if name in names), default=0)


def _done(wish: Wish, min_ma: int) -> Wish:
    """It takes nothing: the minimum, so that it can begin again by itself, once everybody else has been served."""
    if wish.feed_back is not None or (wish.cap_ma is not None and wish.cap_ma < min_ma):
        return wish
    return replace(wish, cap_ma=min_ma, tier=len(BANDS_S) + 1, rank=CALM_RANK, why="takes nothing")


def _departure(request: PlanRequest, evse: EvseId, vehicle: Present | None) -> Departure | None:
    """The next departure of the vehicle or of the EVSE that lies ahead; the vehicle's own counts first."""
    keys = [vehicle.vehicle] if vehicle is not None and vehicle.vehicle is not None else []
    for key in (*keys, evse):
        departure = request.departures.get(key)
        if departure is not None and departure.at > request.now.utc:
            return departure
    return None


def _wish(
    site: Site,
    evse: EvseId,
    schedules: tuple[Schedule, ...],
    now: Moment,
    vehicle: Present | None,
    departure: Departure | None,
    order: int = 0,
) -> Wish:
    window = window_at(schedules, now.utc)
    cap_ma, why = _window_cap(site, evse, schedules, window, now, vehicle)
    feed_back = _feed_back(schedules, window)
    left_wh = None if departure is None else _left_wh(site, departure, vehicle)
    if departure is None or left_wh is None or left_wh <= 0:
        return Wish(cap_ma=cap_ma, tier=len(BANDS_S), rank=CALM_RANK + order, why=why, feed_back=feed_back)
    unit = site.evses[evse]
    full_w = limit_w(unit, unit.max_ma, site.voltage_mv)
    seconds = (departure.at - now.utc).total_seconds()
    laxity_s = seconds - left_wh * 3600 / full_w
    spare_s = laxity_s * 2.0**order if laxity_s > 0 else laxity_s
    tier = sum(spare_s >= band for band in BANDS_S)
    short_wh = max(0, int(left_wh - full_w * seconds / 3600))
    return Wish(cap_ma, tier, spare_s, why, short_wh, feed_back)


def _window_cap(
    site: Site,
    evse: EvseId,
    schedules: tuple[Schedule, ...],
    window: Window | None,
    now: Moment,
    vehicle: Present | None,
) -> tuple[int | None, str]:
    unit = site.evses[evse]
    if window is None:
        if has_charge_window(schedules, now.utc, HORIZON):
            return 0, "outside its charging window"
        return None, ""
    name = f"schedule {window.schedule}"
    if window.action is not SlotAction.CHARGE:
        return 0, f"{name}: {window.action.value}"
    target = next((s.target_soc for s in schedules if s.id == window.schedule), None)
    if target is not None and vehicle is not None and vehicle.soc is not None and vehicle.soc >= target:
        return 0, f"{name}: target {target} % reached"
    if window.power_limit_w is None:
        return None, ""
    return limit_ma(unit, window.power_limit_w, site.voltage_mv), name


def _feed_back(schedules: tuple[Schedule, ...], window: Window | None) -> FeedBack | None:
    """Never below what the schedule wants in the battery: that serves both readings of `target_soc` (G-11, G-14)."""
    if window is None or window.action is not SlotAction.DISCHARGE or not window.power_limit_w:
        return None
    target = next((s.target_soc for s in schedules if s.id == window.schedule), None)
    return FeedBack(window.schedule, window.power_limit_w, window.end, max(FLOOR_PCT, target or 0))


def _left_wh(site: Site, departure: Departure, vehicle: Present | None) -> int | None:
    """What is still missing, or None when it cannot be known (a SoC target without SoC or battery size)."""
    if departure.energy_wh is not None:
        return departure.energy_wh - (vehicle.energy_wh if vehicle is not None else 0)
    if vehicle is None or vehicle.soc is None or vehicle.vehicle is None or departure.soc is None:
        return None
    battery_wh = site.vehicles[vehicle.vehicle].battery_wh
    return None if battery_wh is None else battery_wh * (departure.soc - vehicle.soc) // 100
