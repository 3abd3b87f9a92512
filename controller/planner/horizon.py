"""The plan over the horizon: a joint linear program, checked, rounded to whole amps, with the rules to fall back on.

A pure function of the request: everything it knows is in there, and the solver runs in the caller's thread within
`limit_s`. Whatever goes wrong, the rules answer, and `Plan.by` and `Plan.why` say so.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from controller.core.discharge import FLOOR_PCT, PLAN
from controller.core.grid import Grid
from controller.core.model import EvseId, FeedBack, Plan, Wish
from controller.core.planning import PlanRequest
from controller.planner import program as programs
from controller.planner import rules
from controller.planner.amps import Claim, whole_amps
from controller.planner.check import broken
from controller.planner.needs import FEWEST, Floats, Slots, Task, slots_for, tasks_for
from controller.planner.program import NoPlan, Outlook, Solution
from controller.planner.remedies import remedies

log = logging.getLogger(__name__)

LIMIT_S = 1.0
PRESSING_TIER, CALM_TIER, UNTOLD_TIER = 0, 1, 2
SHORT_KWH, LACKS_KWH = 0.05, 0.5
READY_KWH = 0.25  # less than this missing is ready
TIGHT = 0.01  # of all needs
PAUSE = 0.15  # in mean prices per kWh: below this a pause and another start are not worth it, if there is power to spend, ...
KEEP = 0.07  # ... and below this in any case
LEAST_LENT_KW = 1.0  # less is not worth a discharge
LENT_SLOTS = 3  # of the plan, half an hour and more: a planner that dies must not go on discharging
REGRET = 0.03  # in mean prices: a slot this much dearer per kWh than the best one of a vehicle is not as good


def plan(request: PlanRequest, limit_s: float = LIMIT_S, iterations: int | None = None) -> Plan:
    """Advice for every EVSE that has a vehicle or a schedule. Never raises for what the solver does."""
    fallback = rules.plan(request)
    if not request.now.utc_trusted:
        return replace(fallback, why="the clock is not trusted")
    try:
        return _planned(request, fallback, limit_s, iterations)
    except NoPlan as error:
        return replace(fallback, why=str(error))
    except Exception as error:  # a planner that dies must not take the advice with it
        log.debug("the planner over the horizon failed", exc_info=True)  # told by `Plan.why`
        return replace(fallback, why=f"{type(error).__name__}: {error}")


def _planned(request: PlanRequest, fallback: Plan, limit_s: float, iterations: int | None) -> Plan:
    slots = slots_for(request)
    tasks = tasks_for(request, slots)
    grid = Grid.of(request.site)
    outlook = Outlook.of(request, grid, slots)
    if not tasks and request.battery is None:
        return replace(fallback, by="horizon")
    program = programs.build(request, grid, tasks, slots, outlook)
    solution = programs.solve(program, limit_s, iterations)
    wrong = broken(grid, tasks, slots, outlook, solution, request.battery)
    if wrong is not None:
        raise NoPlan(f"the result is not usable: {wrong}")
    return Plan(
        made=request.now.utc,
        by="horizon",
        wishes=_wishes(request, grid, tasks, slots, outlook, solution, fallback.wishes),
        slots=slots.times(),
        evses_w=_series(tasks, solution),
        site_w=tuple(round(1000 * float(kw)) for kw in solution.site_kw),
        battery_w=None if request.battery is None else round(1000 * float(solution.battery_kw[0])),
        ready_pct=_ready_pct(request, tasks, solution),
        remedies=remedies(request, grid, tasks, slots, outlook, solution),
    )


def _series(tasks: list[Task], solution: Solution) -> dict[EvseId, tuple[int, ...]]:
    found: dict[EvseId, np.ndarray] = {}
    for task, power_kw in zip(tasks, solution.power_kw, strict=True):
        found[task.evse] = found.get(task.evse, np.zeros_like(power_kw)) + power_kw
    return {evse: tuple(round(1000 * float(kw)) for kw in series) for evse, series in found.items()}


def _ready_pct(request: PlanRequest, tasks: list[Task], solution: Solution) -> dict[EvseId, int]:
    """How sure it is that a vehicle is still here when it is ready; only where departures have been learned."""
    found: dict[EvseId, int] = {}
    for task, power_kw, short_kwh in zip(tasks, solution.power_kw, solution.short_kwh, strict=True):
        if task.present is None or not task.told or len(request.errors_s) < FEWEST:
            continue
        last = int(np.max(np.flatnonzero(power_kw > 1e-3), initial=0))
        found[task.evse] = 0 if short_kwh > READY_KWH else int(100 * task.stays[last])
    return found


def _wishes(
    request: PlanRequest,
    grid: Grid,
    tasks: list[Task],
    slots: Slots,
    outlook: Outlook,
    solution: Solution,
    base: Mapping[EvseId, Wish],
) -> dict[EvseId, Wish]:
    scale = float(np.mean(np.abs(outlook.price))) or 1.0
    regrets = solution.regret / scale
    # where energy is short, the time to departure is what counts; else the hours that are as cheap as any
    tight = float(solution.short_kwh.sum()) > TIGHT * sum(task.need_kwh for task in tasks)
    # then, and where a peak is to be kept or sun to be met, what the program spends is all there is
    firm = tight or outlook.nets
    claims = {
        task.evse: _claim(
            request,
            task,
            slots,
            power_kw,
            regret,
            tight,
            firm,
            keeps=not firm and _keeps(outlook.price / scale, power_kw, regret),
            lacks=bool(short_kwh > LACKS_KWH),
        )
        for task, power_kw, regret, short_kwh in zip(
            tasks, solution.power_kw, regrets, solution.short_kwh, strict=True
        )
        if task.present is not None
    }
    numbers = {task.evse: n for n, task in enumerate(tasks) if task.present is not None}
    short = {
        task.evse: float(short_kwh)
        for task, short_kwh in zip(tasks, solution.short_kwh, strict=True)
        if task.present is not None and task.told
    }
    room_ma = [int(1000 * float(room)) for room in outlook.room_a[:, 0]]
    told = [claim for claim in claims.values() if claim.task.told]
    spent_kw = sum((solution.power_kw[numbers[claim.task.evse]] for claim in told), np.zeros(slots.count))
    ahead = [(float(hours), float(kw)) for hours, kw in zip(slots.hours, spent_kw, strict=True)]
    amps = whole_amps(request.site, grid, told, room_ma, request.floors_ma, ahead)
    wishes = dict(base)
    for present in request.present:
        evse = present.evse
        before = base.get(evse, Wish())
        claim = claims.get(evse)
        if claim is None or before.feed_back is not None:
            continue
        wish = _wish(before, claim, amps.get(evse, 0), short.get(evse))
        lent = _lent(claim.task, slots, solution.power_kw[numbers[evse]])
        wishes[evse] = wish if lent is None else replace(wish, cap_ma=0, why="plan: lends", feed_back=lent)
    return wishes


def _lent(task: Task, slots: Slots, power_kw: Floats) -> FeedBack | None:
    """What it is to feed back now, and for how long: not longer than the next plans may be waited for."""
    if task.lender is None or power_kw[0] > -LEAST_LENT_KW:
        return None
    run = int(np.argmax(power_kw > -LEAST_LENT_KW)) or slots.count
    until = slots.times()[min(run, LENT_SLOTS)]
    floor_pct = math.ceil(100 * task.lender.floor_wh / 1000 / task.battery_kwh - 1e-6)
    return FeedBack(PLAN, round(-1000 * float(power_kw[0])), until, max(FLOOR_PCT, floor_pct))


def _keeps(price: Floats, power_kw: Floats, regret: Floats) -> bool:
    """Whether who charges had better go on than pause and start again. What is charged beyond the plan now is not charged at
    the dearest time that is planned for later; the program's own figure alone would not do: where such times are all
    used up, it is any between two prices."""
    dearest = float(np.max(price[1:][power_kw[1:] > 1e-3], initial=-np.inf))
    return bool(max(regret[0], price[0] - dearest) <= KEEP)


def _claim(
    request: PlanRequest,
    task: Task,
    slots: Slots,
    power_kw: Floats,
    regret: Floats,
    tight: bool,
    firm: bool,
    keeps: bool,
    lacks: bool,
) -> Claim:
    good = regret <= REGRET
    here = min(1.0, task.to_h / float(slots.edges_h[1]))  # the part of the first slot before it leaves
    return Claim(
        task,
        now_kw=max(0.0, float(power_kw[0])) / here,
        planned_kwh=float(power_kw @ slots.hours),
        most_kw=float(task.most_kw[0]) / here,
        least_kw=request.site.evses[task.evse].min_ma / 1000 * task.kw_per_a,
        good_h=task.to_h if tight else float(slots.hours[good] @ task.most_kw[good]) / task.full_kw,
        tight=tight,
        firm=firm,
        keeps=keeps,
        lacks=lacks,
        waits=bool(power_kw[0] <= 1e-3 and regret[0] > PAUSE),
    )


def _wish(before: Wish, claim: Claim, planned_ma: int, short_kwh: float | None) -> Wish:
    if not claim.task.told:
        return replace(before, tier=UNTOLD_TIER, rank=rules.CALM_RANK)
    if before.cap_ma is not None and before.cap_ma <= planned_ma:
        cap_ma, why = before.cap_ma, before.why
    else:
        cap_ma, why = planned_ma, "plan" if planned_ma else "plan: later"
    if not planned_ma and claim.planned_kwh <= SHORT_KWH:
        why = "plan: others first"
    return Wish(
        cap_ma=cap_ma,
        tier=PRESSING_TIER if claim.spare_h < 1.0 else CALM_TIER,
        rank=claim.spare_h * 3600,
        why=why,
        short_wh=None if short_kwh is None else round(1000 * short_kwh),
        feed_back=before.feed_back,
    )
