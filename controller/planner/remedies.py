"""What would help a vehicle that goes short, from the program's duals: linear advice, true for a small change.

A circuit row's dual says what one more ampere in that slot is worth; divided by the value of a missing kWh it is the
energy one ampere brings. To leave later brings what the charger gives meanwhile, where its circuits have room then.
"""

from __future__ import annotations

import numpy as np

from controller.core.grid import Grid
from controller.core.model import CircuitId, Remedy
from controller.core.planning import PlanRequest
from controller.planner.needs import Floats, Slots, Task
from controller.planner.program import Outlook, Solution
from controller.planner.swaps import swaps

SHORT_KWH = 0.25  # below this nobody needs advice
WORTH_WH = 10
MOST_A = 10
MOST_LATER_H = 2.0


def remedies(
    request: PlanRequest, grid: Grid, tasks: list[Task], slots: Slots, outlook: Outlook, solution: Solution
) -> tuple[Remedy, ...]:
    """The best of each kind for every vehicle that is here and goes short; the strongest first."""
    free_a = _free_a(grid, tasks, outlook, solution)
    elsewhere = {remedy.evse: remedy for remedy in swaps(request, grid, tasks, slots, outlook, solution)}
    found: list[Remedy] = []
    for number, task in enumerate(tasks):
        if task.present is None or not task.told or solution.short_kwh[number] <= SHORT_KWH:
            continue
        mine = [
            _circuit(grid, number, task, slots, outlook, solution),
            _later(grid, task, slots, outlook, float(solution.short_kwh[number]), free_a),
            elsewhere.get(task.evse),
        ]
        found += sorted((r for r in mine if r is not None), key=lambda r: -r.gain_wh)
    return tuple(found)


def _free_a(grid: Grid, tasks: list[Task], outlook: Outlook, solution: Solution) -> Floats:
    free = outlook.room_a.copy()
    for task, power_kw in zip(tasks, solution.power_kw, strict=True):
        for resource in grid.uses[task.evse]:
            free[resource] -= outlook.taken_a(task, power_kw)
    return free


def _circuit(
    grid: Grid, number: int, task: Task, slots: Slots, outlook: Outlook, solution: Solution
) -> Remedy | None:
    """The circuit on its way where one more ampere per phase brings most, and how many of them bring what is missing:
    as far as a line drawn from the first one may be believed."""
    here = task.most_kw > 0
    gains: dict[CircuitId, float] = {}
    for resource in grid.uses[task.evse]:
        circuit = grid.resources[resource][0]
        value = float(solution.room_value[resource, here].sum()) / float(solution.weights[number])
        gains[circuit] = gains.get(circuit, 0.0) + value
    best = max(gains, key=lambda circuit: (gains[circuit], circuit))
    short_kwh = float(solution.short_kwh[number])
    if 1000 * gains[best] < WORTH_WH:
        return None
    more_a = min(MOST_A, max(1, int(np.ceil(short_kwh / gains[best]))))
    gain_wh = round(1000 * min(short_kwh, more_a * gains[best]))
    price = float(outlook.price[here] @ slots.hours[here] / slots.hours[here].sum())
    return Remedy(
        task.evse, "circuit", f"{more_a} A more on {best}", gain_wh, round(1e3 * price * gain_wh), best
    )


def _later(
    grid: Grid, task: Task, slots: Slots, outlook: Outlook, short_kwh: float, free_a: Floats
) -> Remedy | None:
    """The minutes that bring what is missing, as far as the circuits have room after the departure."""
    uses = list(grid.uses[task.evse])
    gained, cost, until_h = 0.0, 0.0, task.to_h
    for slot in np.flatnonzero(slots.edges_h[1:] > task.to_h):
        begin_h = max(float(slots.edges_h[slot]), task.to_h)
        if begin_h >= task.to_h + MOST_LATER_H or gained >= short_kwh:
            break
        kw = min(task.full_kw, max(0.0, float(free_a[uses, slot].min())) * task.kw_per_a)
        more = min(kw * (float(slots.edges_h[slot + 1]) - begin_h), short_kwh - gained)
        if kw <= 0:
            continue
        gained, cost = gained + more, cost + more * float(outlook.price[slot])
        until_h = begin_h + more / kw
    gain_wh, minutes = round(1000 * gained), int(np.ceil(60 * (until_h - task.to_h)))
    if gain_wh < WORTH_WH:
        return None
    return Remedy(task.evse, "later", f"leave {minutes} minutes later", gain_wh, round(1e6 * cost))
