"""What max-min fair shares are, by linear programs: nothing in common with the allocator but the definition.

Repeat: the highest level every free EVSE can have at once; then ask of each free EVSE whether it could have more while
the others keep that level; who cannot is settled there. At most one round per EVSE.
"""

from __future__ import annotations

import highspy
import numpy as np
from drawn_sites import Case, Resource

SAME_MA = 1e-4  # solver noise: feasibility tolerance 1e-7 on values up to 1e5


def max_min_ma(case: Case) -> list[float]:
    """Shares in mA, in the order of the demands. Without minima and steps; floors are paid for whether used or not,
    so nobody is below its floor (or below its cap, where that is lower)."""
    demands = case.demands
    count = len(demands)
    lowest = [float(min(d.cap_ma, d.floor_ma)) for d in demands]
    highest = [float(d.cap_ma) for d in demands]
    left = dict(case.room)
    for demand in demands:  # the part of a floor above the cap is nobody's gain, but it is reserved
        for resource in case.uses(demand.evse):
            left[resource] -= max(0, demand.floor_ma - demand.cap_ma)
    program = _program(case, lowest, highest, left)
    free = set(range(count))
    level_ma = 0.0
    while free:
        level_ma = _best(program, count, floors=[(n, demands[n].weight) for n in free])
        at = {n: max(lowest[n], level_ma * demands[n].weight) for n in free}
        for n in free:
            program.changeColBounds(n, at[n], highest[n])
        settled = {n for n in free if _best(program, n, floors=[]) <= at[n] + SAME_MA}
        assert settled, "somebody must be the bottleneck of the highest level"
        for n in settled:
            lowest[n] = highest[n] = at[n]
        free -= settled
        for n in range(count):
            program.changeColBounds(n, lowest[n], highest[n])
    return lowest


def _program(
    case: Case, lowest: list[float], highest: list[float], left: dict[Resource, int]
) -> highspy.Highs:
    """Columns: one current per EVSE, then the level. One row per resource."""
    program = highspy.Highs()
    program.setOptionValue("output_flag", False)
    program.changeObjectiveSense(highspy.ObjSense.kMaximize)
    for low, high in zip(lowest, highest, strict=True):
        program.addVar(low, high)
    program.addVar(0.0, 1e9)
    users: dict[Resource, list[int]] = {resource: [] for resource in left}
    for n, demand in enumerate(case.demands):
        for resource in case.uses(demand.evse):
            users[resource].append(n)
    for resource, columns in users.items():
        if columns:
            program.addRow(
                -highspy.kHighsInf,
                float(left[resource]),
                len(columns),
                np.array(columns),
                np.ones(len(columns)),
            )
    return program


def _best(program: highspy.Highs, column: int, floors: list[tuple[int, int]]) -> float:
    """The greatest value of one column. floors: (EVSE, weight) pairs that must reach the level."""
    columns = program.getNumCol()
    rows = program.getNumRow()
    for n, weight in floors:
        program.addRow(0.0, highspy.kHighsInf, 2, np.array([n, columns - 1]), np.array([1.0, -float(weight)]))
    program.changeColCost(column, 1.0)
    program.run()
    assert program.getModelStatus() == highspy.HighsModelStatus.kOptimal
    value = float(program.getSolution().col_value[column])
    program.changeColCost(column, 0.0)
    if floors:
        program.deleteRows(len(floors), np.arange(rows, rows + len(floors)))
    return value
