"""What is to be charged: a request becomes a grid of slots and one task per vehicle, present or expected.

Distrusts what was declared: a vehicle is planned with what it was measured to draw, and one that stays beyond its
departure or takes more than it asked for keeps a place. Windows of schedules bound a task slot by slot.
Inside the planner: kW, kWh and hours as floats; the edges are the request and the plan.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt

from controller.core.model import Departure, EvseId, SlotAction, VehicleId
from controller.core.planning import Lender, PlanRequest, Present
from controller.core.watts import limit_w, most_phases
from controller.core.windows import windows

Floats = npt.NDArray[np.float64]

QUARTER_S = 900.0
SHORTEST_S = 120.0  # a first slot below this joins the next
FINE_H, MIDDLE_H, MOST_H = 14.0, 26.0, 72.0  # quarters, then halves, then whole hours
LINGER_H = 2.0  # who is past the announced departure, or announced none, is taken to stay this much longer
UNTOLD_H = 4.0  # at full power: what a vehicle of unknown need is taken to want
MORE_KWH = 1.0  # what a vehicle is taken to want that draws on after its declared need
STRANGER = 0.3  # the weight of a vehicle that nobody announced
DONE_KWH = 0.05
FEWEST = 20  # departures to have been seen before their errors count ...
UNSEEN_S = (-900.0, -450.0, 0.0, 0.0, 0.0)  # ... and until then some are taken to be early
STAYS = 0.75  # a vehicle is planned for until it is gone with this probability


@dataclass(frozen=True, slots=True)
class Slots:
    """edges_h: hours after `start`, one more than there are slots."""

    start: datetime
    edges_h: Floats

    @property
    def hours(self) -> Floats:
        return np.diff(self.edges_h)

    @property
    def count(self) -> int:
        return len(self.edges_h) - 1

    def hour(self, at: datetime) -> float:
        return (at - self.start).total_seconds() / 3600

    def times(self) -> tuple[datetime, ...]:
        return tuple(self.start + timedelta(hours=float(edge)) for edge in self.edges_h)


@dataclass(frozen=True, slots=True)
class Task:
    """One stay of one vehicle. most_kw: per slot, what it may draw on average (0 outside its stay and its windows)."""

    evse: EvseId
    vehicle: VehicleId | None
    present: Present | None
    from_h: float
    to_h: float
    need_kwh: float  # below 0: a lender has so much more than it needs
    full_kw: float
    most_kw: Floats
    phases: tuple[int, ...]
    kw_per_a: float
    told: bool  # both need and departure are known
    priority: int
    share: float  # how sure it is to come
    stays: Floats  # per slot, how sure it is to be still here
    lender: Lender | None = None
    stored_kwh: float = 0.0
    battery_kwh: float = 0.0
    guess: bool = False  # nobody announced it: it keeps room, and costs nobody anything
    supply: float = 1.0  # kW drawn from the grid per kW that is metered: more where a DC output loses some


def slots_for(request: PlanRequest) -> Slots:
    """From now to the last departure: quarters on the clock first, coarser later."""
    now = request.now.utc
    last = max(
        (d.at for d in request.departures.values() if d.at > now),
        default=now,
    )
    last = max([last, *(e.departs for e in request.expected if e.departs > now)])
    most_h = min(MOST_H, max(LINGER_H, (last - now).total_seconds() / 3600)) + 0.25
    first_s = QUARTER_S - now.timestamp() % QUARTER_S
    if first_s < SHORTEST_S:
        first_s += QUARTER_S
    edges, at_h = [0.0], first_s / 3600
    while True:
        edges.append(at_h)
        if at_h >= most_h:
            return Slots(now, np.array(edges))
        whole_h = ((now.timestamp() + at_h * 3600) % 3600) / 3600
        if at_h < FINE_H:
            at_h += 0.25
        elif at_h < MIDDLE_H:
            at_h += 0.5 - round(whole_h % 0.5, 6) % 0.5
        else:
            at_h += 1.0 - round(whole_h, 6) % 1.0


def tasks_for(request: PlanRequest, slots: Slots) -> list[Task]:
    """In the order of ids and arrivals, so that the order of the request does not matter."""
    found: list[Task] = []
    lenders = {lender.evse: lender for lender in request.lenders}
    for present in sorted(request.present, key=lambda p: p.evse):
        task = _present(request, slots, present, lenders.get(present.evse))
        if task is not None:
            found.append(task)
    leaves = {task.evse: task.to_h for task in found if task.told}
    for expected in sorted(request.expected, key=lambda e: (e.evse, e.arrives)):
        if expected.evse not in request.site.evses or expected.departs <= request.now.utc:
            continue
        # who is not here cannot charge now: whatever the program gave it in the first slot would be lost
        from_h = max(float(slots.edges_h[1]), leaves.get(expected.evse, 0.0), slots.hour(expected.arrives))
        to_h = slots.hour(expected.departs)
        if expected.energy_wh <= 0 or to_h <= from_h or from_h >= slots.edges_h[-1]:
            continue
        need_kwh = expected.energy_wh / 1000
        task = _task(request, slots, expected.evse, expected.vehicle, from_h, to_h, need_kwh)
        found.append(replace(task, share=min(1.0, max(0.0, expected.weight_pct / 100))))
    return found if request.expected else found + _strangers(request, slots, found)


def _strangers(request: PlanRequest, slots: Slots, here: list[Task]) -> list[Task]:
    """Nobody is announced, but every free EVSE may yet get a vehicle like those that are here. What they would need
    keeps the program from putting off what only fits now; they come last when something goes short."""
    told = [task for task in here if task.told and task.present is not None]
    if not told:
        return []
    taken = {present.evse for present in request.present}
    need_kwh = statistics.fmean(max(0.0, task.need_kwh) + _received_kwh(task) for task in told)
    to_h = statistics.median(task.to_h for task in told)
    from_h = float(slots.edges_h[1])
    if to_h <= from_h:
        return []
    free = sorted(evse for evse in request.site.evses if evse not in taken)
    return [
        replace(_task(request, slots, evse, None, from_h, to_h, need_kwh), share=STRANGER, guess=True)
        for evse in free
    ]


def _received_kwh(task: Task) -> float:
    return 0.0 if task.present is None else task.present.energy_wh / 1000


def departure_of(request: PlanRequest, present: Present) -> Departure | None:
    """The one of the vehicle counts before the one of the EVSE; one that lies behind still tells the need."""
    keys = [present.vehicle] if present.vehicle is not None else []
    known = [request.departures[key] for key in (*keys, present.evse) if key in request.departures]
    ahead = [departure for departure in known if departure.at > request.now.utc]
    return next(iter(ahead or known), None)


def missing_wh(request: PlanRequest, present: Present, departure: Departure) -> int | None:
    """What is still missing, or None when it cannot be known."""
    if departure.energy_wh is not None:
        return departure.energy_wh - present.energy_wh
    vehicle = None if present.vehicle is None else request.site.vehicles.get(present.vehicle)
    if vehicle is None or vehicle.battery_wh is None or present.soc is None or departure.soc is None:
        return None
    return vehicle.battery_wh * (departure.soc - present.soc) // 100


def _present(request: PlanRequest, slots: Slots, present: Present, lender: Lender | None) -> Task | None:
    if present.evse not in request.site.evses:
        return None
    departure = departure_of(request, present)
    told, to_h, need_kwh, stays = False, LINGER_H, None, np.ones(slots.count)
    if departure is not None:
        missing = missing_wh(request, present, departure)
        need_kwh = None if missing is None else missing / 1000
        left_h = slots.hour(departure.at)
        stays, to_h = _stay(request, slots, left_h)
        told = need_kwh is not None
    # what is lent shows in the state of charge alone: a target in kWh would forget to ask it back
    by_soc = departure is not None and departure.at > request.now.utc and departure.energy_wh is None
    battery_kwh = _battery_kwh(request, present)
    lends = lender is not None and by_soc and need_kwh is not None and battery_kwh is not None
    if present.drawn_ma == 0 and not lends:
        return None
    if need_kwh is not None and need_kwh <= DONE_KWH and not lends:
        if not present.granted_ma:
            return None
        need_kwh, told = MORE_KWH, False
    task = _task(request, slots, present.evse, present.vehicle, 0.0, to_h, need_kwh, present)
    task = replace(task, told=told, stays=stays)
    if not lends or battery_kwh is None or present.soc is None:
        return task
    return replace(task, lender=lender, stored_kwh=battery_kwh * present.soc / 100, battery_kwh=battery_kwh)


def _battery_kwh(request: PlanRequest, present: Present) -> float | None:
    known = None if present.vehicle is None else request.site.vehicles.get(present.vehicle)
    return None if known is None or known.battery_wh is None else known.battery_wh / 1000


def _stay(request: PlanRequest, slots: Slots, left_h: float) -> tuple[Floats, float]:
    """How sure the vehicle is to be here in each slot, given that it is here now, and when it is gone for certain."""
    errors_s = request.errors_s if len(request.errors_s) >= FEWEST else UNSEEN_S
    errors_h = np.sort(np.asarray(errors_s, dtype=np.float64) / 3600)
    ahead_h = left_h + errors_h[left_h + errors_h > 0]
    if not len(ahead_h):
        return np.ones(slots.count), left_h if left_h > 0 else LINGER_H
    to_h = max(min(left_h, LINGER_H), float(np.quantile(ahead_h, STAYS)))
    # of the part of a slot before it is gone: in its last minutes it is still here
    middle_h = (slots.edges_h[:-1] + np.minimum(slots.edges_h[1:], max(to_h, float(ahead_h[-1])))) / 2
    gone = np.searchsorted(ahead_h, middle_h, side="right") / len(ahead_h)
    return np.asarray(1.0 - gone), to_h


def _task(
    request: PlanRequest,
    slots: Slots,
    evse: EvseId,
    vehicle: VehicleId | None,
    from_h: float,
    to_h: float,
    need_kwh: float | None,
    present: Present | None = None,
) -> Task:
    unit = request.site.evses[evse]
    kw_per_a = limit_w(unit, 1_000_000, request.site.voltage_mv) / 1e6
    known = None if vehicle is None else request.site.vehicles.get(vehicle)
    power_w = None if known is None else known.max_power_w
    phases = None if present is None or present.phases is None else len(present.phases)
    if power_w is not None and unit.dc is None:
        phases = most_phases(unit, power_w, request.site.voltage_mv, phases)
    if phases is not None:
        kw_per_a *= min(1.0, phases / len(unit.phases))
    full_kw = unit.max_ma / 1000 * kw_per_a
    if power_w is not None:
        full_kw = min(full_kw, power_w / 1000)
    if present is not None and present.drawn_ma is not None:
        whole_ma = -(-present.drawn_ma // unit.step_ma) * unit.step_ma  # less would be a step too low
        full_kw = min(full_kw, max(unit.min_ma, whole_ma) / 1000 * kw_per_a)
    overlap_h = np.minimum(slots.edges_h[1:], to_h) - np.maximum(slots.edges_h[:-1], from_h)
    most_kw = full_kw * np.clip(overlap_h, 0.0, None) / slots.hours
    schedules = request.schedules.get(evse, ())
    if schedules:
        most_kw = np.minimum(most_kw, _allowed_kw(request, slots, evse, full_kw))
    return Task(
        evse=evse,
        vehicle=vehicle,
        present=present,
        from_h=from_h,
        to_h=to_h,
        need_kwh=full_kw * UNTOLD_H if need_kwh is None else need_kwh,
        full_kw=full_kw,
        most_kw=most_kw,
        phases=tuple(sorted(unit.phases)),
        kw_per_a=kw_per_a,
        supply=1.0 if unit.dc is None else 100 / unit.dc.efficiency_pct,
        told=need_kwh is not None,
        priority=min((rank for key, rank in request.priorities.items() if key in (vehicle, evse)), default=0),
        share=1.0,
        stays=np.ones(slots.count),
    )


def _allowed_kw(request: PlanRequest, slots: Slots, evse: EvseId, full_kw: float) -> Floats:
    """What the charging windows allow at the middle of each slot (readings as in `windows.window_at`)."""
    times = slots.times()
    allowed = np.full(slots.count, np.inf)
    charges = np.zeros(slots.count, dtype=bool)
    middle_h = (slots.edges_h[:-1] + slots.edges_h[1:]) / 2
    any_charge = False
    for schedule in request.schedules[evse]:
        for window in windows(schedule, times[0], times[-1]):
            inside = (middle_h >= slots.hour(window.start)) & (middle_h < slots.hour(window.end))
            if window.action is not SlotAction.CHARGE:
                allowed[inside] = 0.0
                continue
            any_charge = True
            charges |= inside
            if window.power_limit_w is not None:
                allowed[inside] = np.minimum(allowed[inside], window.power_limit_w / 1000)
    if any_charge:
        allowed[~charges] = 0.0
    return np.asarray(np.minimum(allowed, full_kw), dtype=np.float64)


def series(steps: list[tuple[datetime, float]], slots: Slots, missing: float) -> Floats:
    """A step function averaged over the slots. Beyond its ends: as a day earlier or later, else `missing`."""
    if not steps:
        return np.full(slots.count, missing)
    ordered = sorted(dict(steps).items())
    starts = np.array([slots.hour(at.astimezone(UTC)) for at, _ in ordered])
    values = np.array([value for _, value in ordered])
    values = np.where(np.isfinite(values), values, missing)
    gap_h = float(np.median(np.diff(starts))) if len(starts) > 1 else 1.0
    end_h = starts[-1] + gap_h
    points = slots.edges_h[:-1, None] + slots.hours[:, None] * np.array([[1, 3, 5, 7]]) / 8
    for _ in range(int(MOST_H // 24) + 1):
        points = np.where(points >= end_h, points - 24.0, points)
    index = np.searchsorted(starts, points, side="right") - 1
    found = np.where((index >= 0) & (points < end_h), values[np.clip(index, 0, None)], missing)
    return np.asarray(found.mean(axis=1), dtype=np.float64)
