"""Is a solution fit for use? Sums of our own against room, chargers, windows, needs and batteries: what the solver
and the rows it was given claim is not believed."""

from __future__ import annotations

import math

import numpy as np

from controller.core.grid import Grid
from controller.core.planning import Battery
from controller.planner.needs import Slots, Task
from controller.planner.program import Outlook, Solution

LOOSE_A = 1e-3
LOOSE_KW = 1e-4
LOOSE_KWH = 1e-3


def broken(
    grid: Grid, tasks: list[Task], slots: Slots, outlook: Outlook, solution: Solution, battery: Battery | None
) -> str | None:
    """The first thing that is wrong with it, or None."""
    if solution.power_kw.shape != (len(tasks), slots.count):
        return "it does not fit the request"
    if not all(
        np.isfinite(part).all()
        for part in (solution.power_kw, solution.short_kwh, solution.site_kw, solution.battery_kw)
    ):
        return "it contains what is not a number"
    for task, power_kw, short_kwh in zip(tasks, solution.power_kw, solution.short_kwh, strict=True):
        lends_kw = 0.0 if task.lender is None else task.lender.power_w / 1000
        if (power_kw > task.most_kw + LOOSE_KW).any() or (power_kw < -lends_kw - LOOSE_KW).any():
            return f"{task.evse}: a power its charger or its window does not allow"
        charged = math.fsum(power_kw * slots.hours)
        if task.lender is None and charged > task.need_kwh + LOOSE_KWH:
            return f"{task.evse}: more energy than it needs"
        if charged + short_kwh < task.need_kwh - LOOSE_KWH:
            return f"{task.evse}: less energy than it claims"
        if task.lender is not None:
            content = task.stored_kwh + np.cumsum(power_kw * slots.hours)
            if content.min() < min(task.stored_kwh, task.lender.floor_wh / 1000) - LOOSE_KWH:
                return f"{task.evse}: below the floor of its battery"
    charge_kw, discharge_kw = (
        (0.0, 0.0) if battery is None else (battery.charge_w / 1000, battery.discharge_w / 1000)
    )
    if (solution.battery_kw > charge_kw + LOOSE_KW).any() or (
        solution.battery_kw < -discharge_kw - LOOSE_KW
    ).any():
        return "a power the battery does not have"
    sums_a = np.zeros((len(grid.resources), slots.count))
    for task, power_kw in zip(tasks, solution.power_kw, strict=True):
        for resource in grid.uses[task.evse]:
            sums_a[resource] += outlook.taken_a(task, power_kw)
    above = np.argwhere(sums_a > outlook.room_a + LOOSE_A)
    if len(above):
        resource, slot = (int(n) for n in above[0])
        return f"{grid.name(resource)} overloaded at {slots.times()[slot]:%H:%M}"
    return None
