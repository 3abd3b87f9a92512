"""The joint linear program: all tasks, circuits, tariff, peak, sun and battery, as CSC arrays for HiGHS.

Minimises cost plus the value of what stays short. That value is larger than any price, so energy goes first; it is
largest for the vehicle that needs least (a small need is filled whole before a large one is begun: most vehicles
ready), and doubles per step of priority. The quarter hour's target gives way only where the site's own load breaks it, and
what circuits keep for fallbacks is nobody else's room. Energy in a slot is average power times its length.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

import highspy
import numpy as np
import numpy.typing as npt

from controller.core.grid import Grid
from controller.core.model import SITE, EvseId
from controller.core.planning import PlanRequest
from controller.planner.needs import Floats, Slots, Task, series

Columns = npt.NDArray[np.int64]

INF = highspy.kHighsInf
SMALL_FIRST = 0.35  # how much dearer the smallest need is than the largest
UNTOLD_VALUE = 0.05  # a vehicle of unknown need counts less than any known one, and more than any price
EARLY = 1e-3  # of the mean price per hour: what is equal is charged early
STAY_ON = 5e-3  # of the mean price, within the hour: what is equal is given to who charges already


class NoPlan(Exception):
    """The program gave no answer that can be used; the text says why."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """What the request says about the slots, as arrays: prices per kWh, the site's other load (kW), room (A)."""

    price: Floats
    feed_in: Floats
    load_kw: Floats
    sun_kw: Floats
    room_a: Floats  # resource x slot, beside what is kept for fallbacks
    nets: bool  # whether what flows at the grid connection matters beyond the sum of energies
    floors_a: Mapping[EvseId, float]  # kept for each EVSE: what it gets up to this takes no room

    @classmethod
    def of(cls, request: PlanRequest, grid: Grid, slots: Slots) -> Outlook:
        known = [price.amount for price in request.prices if np.isfinite(price.amount)]
        mean = float(np.mean(known)) if known else 0.0
        price = series([(p.start, p.amount) for p in request.prices], slots, mean)
        feed_in = series([(p.start, p.amount) for p in request.feed_in], slots, 0.0)
        load_kw = series([(s.start, s.power_w / 1000) for s in request.load], slots, 0.0)
        sun_kw = series([(s.start, max(0, s.power_w) / 1000) for s in request.pv], slots, 0.0)
        if not request.load and (now_ma := request.background_ma.get(SITE)) is not None:
            # what the meter shows now has the sun in it
            load_kw = np.full(slots.count, sum(now_ma) * request.site.voltage_mv / 1e9 + sun_kw[0])
        room_a = np.empty((len(grid.resources), slots.count))
        per_phase_a = (load_kw - sun_kw) * 1e6 / (3 * request.site.voltage_mv)
        kept_ma = grid.sums(request.floors_ma.items())
        for r, (circuit, phase) in enumerate(grid.resources):
            node = request.site.circuits[circuit]
            other = request.background_ma.get(circuit) or node.assumed_load_ma
            used_a = np.full(slots.count, 0.0 if other is None else max(0, other[phase]) / 1000)
            if node.parent is None and request.load:
                # what is measured now holds for now, the forecast for later
                used_a[1:] = per_phase_a[1:]
                if circuit not in request.background_ma:
                    used_a[0] = per_phase_a[0]
            limit_ma = grid.limits_ma[r]
            if node.limit_w is not None:  # shared alike by the phases, as `power_limit` does
                limit_ma = min(limit_ma, node.limit_w * 1_000_000 // (3 * request.site.voltage_mv))
            left_a = (limit_ma - kept_ma[r]) / 1000
            room_a[r] = np.clip(left_a - np.clip(used_a, 0.0, None), 0.0, None)
        nets = bool(request.pv or request.battery or request.lenders or request.peak_price > 0)
        nets = nets or request.target_w is not None
        floors_a = {evse: ma / 1000 for evse, ma in request.floors_ma.items() if ma > 0}
        return cls(price, np.minimum(feed_in, price), load_kw, sun_kw, room_a, nets, floors_a)

    def taken_a(self, task: Task, power_kw: Floats) -> Floats:
        """Of the room of the circuits, per slot."""
        floor_a = self.floors_a.get(task.evse, 0.0)
        return np.asarray(np.clip(power_kw / task.kw_per_a - floor_a, 0.0, None), dtype=np.float64)


@dataclass(slots=True)
class Rows:
    """Triplets in the making. `rows`: a row for each piece of columns and values."""

    rows: list[int] = field(default_factory=list)
    cols: list[Floats] = field(default_factory=list)
    values: list[Floats] = field(default_factory=list)
    low: list[float] = field(default_factory=list)
    high: list[float] = field(default_factory=list)

    def add(self, cols: object, values: object, low: float, high: float) -> int:
        self.put(len(self.low), cols, values)
        self.low.append(low)
        self.high.append(high)
        return len(self.low) - 1

    def put(self, row: int, cols: object, values: object) -> None:
        cols_of = np.asarray(cols, dtype=np.float64)
        self.cols.append(cols_of)
        self.values.append(
            np.full(len(cols_of), values)
            if isinstance(values, float)
            else np.asarray(values, dtype=np.float64)
        )
        self.rows.append(row)

    def row_of(self) -> Floats:
        """The row of every value."""
        return np.repeat(np.array(self.rows, dtype=np.float64), [len(piece) for piece in self.cols])


@dataclass(slots=True)
class Program:
    """Columns are numbered as they are added; `power[n]` and `free[n]` map the slots of task n to columns (-1 = none).
    `free`: what it gets up to the fallback that is kept for its EVSE anyway; only `power` takes room of the circuits."""

    tasks: list[Task]
    slots: Slots
    outlook: Outlook
    cost: list[Floats] = field(default_factory=list)
    upper: list[Floats] = field(default_factory=list)
    lower: list[Floats] = field(default_factory=list)
    count: int = 0
    rows: Rows = field(default_factory=Rows)
    power: list[Columns] = field(default_factory=list)
    free: list[Columns] = field(default_factory=list)
    lent: dict[int, Columns] = field(default_factory=dict)
    short: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    circuit_rows: dict[tuple[int, int], int] = field(default_factory=dict)  # resource, slot -> row
    grid_in: Columns | None = None
    grid_out: Columns | None = None
    stored: tuple[Columns, Columns] | None = None  # battery: charge, discharge

    def columns(self, cost: object, lower: object, upper: object, n: int) -> Columns:
        for into, value in ((self.cost, cost), (self.lower, lower), (self.upper, upper)):
            into.append(np.broadcast_to(np.asarray(value, dtype=np.float64), (n,)))
        self.count += n
        return np.arange(self.count - n, self.count)

    def charging(self, number: int, slot: int) -> list[int]:
        """The columns of what this task gets in this slot."""
        return [int(each[slot]) for each in (self.power[number], self.free[number]) if each[slot] >= 0]


@dataclass(frozen=True, slots=True)
class Solution:
    """power_kw: task x slot, charging positive, feeding back negative. room_value: per resource and slot, what one
    more A would be worth in the terms of the objective. regret: per task and slot, what a kWh then costs more than at
    its best time, in the same terms (0 = as good as any)."""

    power_kw: Floats
    short_kwh: Floats
    weights: Floats
    battery_kw: Floats
    site_kw: Floats
    room_value: Floats
    regret: Floats


def build(
    request: PlanRequest,
    grid: Grid,
    tasks: list[Task],
    slots: Slots,
    outlook: Outlook,
    small_first: float = SMALL_FIRST,
) -> Program:
    program = Program(tasks, slots, outlook)
    program.weights = weights(tasks, request, outlook, small_first)
    scale = float(np.mean(np.abs(outlook.price))) or 1.0
    middle_h = (slots.edges_h[:-1] + slots.edges_h[1:]) / 2
    price = np.zeros(slots.count) if outlook.nets else outlook.price
    for number, task in enumerate(tasks):
        at = np.flatnonzero(task.most_kw > 1e-6)
        tilt = EARLY * scale * middle_h[at]
        if task.present is not None and task.present.granted_ma:
            tilt = tilt - STAY_ON * scale * (middle_h[at] < 1.0)
        # what is planned for a time when it may be gone is, in the mean, as good as short
        tilt = tilt + (1 - task.stays[at]) * program.weights[number]
        paid = outlook.price if task.guess else price
        cost = np.zeros(slots.count)
        cost[at] = (paid[at] + tilt) * slots.hours[at]
        free_kw = np.minimum(task.most_kw, outlook.floors_a.get(task.evse, 0.0) * task.kw_per_a)
        for into, upper_kw in ((program.power, task.most_kw - free_kw), (program.free, free_kw)):
            columns, some = np.full(slots.count, -1), np.flatnonzero(upper_kw > 1e-6)
            columns[some] = program.columns(cost[some], 0.0, upper_kw[some], len(some))
            into.append(columns)
        short = program.columns(program.weights[number], 0.0, max(0.0, task.need_kwh), 1)
        program.short.append(int(short[0]))
        least_kwh = task.need_kwh if task.lender else max(0.0, task.need_kwh)
        row = program.rows.add(short, 1.0, least_kwh, INF if task.lender else task.need_kwh)
        for columns in (program.power[number], program.free[number]):
            some = np.flatnonzero(columns >= 0)
            program.rows.put(row, columns[some], slots.hours[some])
        if task.lender is not None:
            _lend(program, number, task, row)
    _circuits(program, grid)
    if outlook.nets:
        _balance(program, request)
    return program


def weights(tasks: list[Task], request: PlanRequest, outlook: Outlook, small_first: float) -> list[float]:
    """Per kWh that stays short."""
    base = 20 * float(np.max(np.abs(outlook.price), initial=0.05)) + 8 * max(0.0, request.peak_price)
    most = max((task.need_kwh for task in tasks), default=1.0) or 1.0
    found = []
    for task in tasks:
        value = base * (1 + small_first * (1 - min(1.0, max(0.0, task.need_kwh) / most))) * task.share
        if not task.told:
            dearest = 2 * float(np.max(np.abs(outlook.price), initial=0.05)) + max(0.0, request.peak_price)
            value = max(base * UNTOLD_VALUE, dearest)
        found.append(value * 2.0 ** -max(-8, min(8, task.priority)))
    return found


def _lend(program: Program, number: int, task: Task, need_row: int) -> None:
    """V2G: the battery's content along the way, between the floor and full."""
    assert task.lender is not None
    slots = program.slots
    at = np.flatnonzero(task.most_kw > 1e-6)
    fraction = task.most_kw[at] / task.full_kw
    hours = slots.hours[at]
    lent = np.full(slots.count, -1)
    price = 0.0 if program.outlook.nets else program.outlook.price[at]
    lent[at] = program.columns(
        (task.lender.cycle_price - price) * hours, 0.0, task.lender.power_w / 1000 * fraction, len(at)
    )
    program.lent[number] = lent
    program.rows.put(need_row, lent[at], -hours)
    floor = min(task.lender.floor_wh / 1000, task.stored_kwh)
    held = program.columns(0.0, floor, max(task.battery_kwh, task.stored_kwh), len(at))
    for k, slot in enumerate(at):
        before = [held[k - 1]] if k else []
        start = 0.0 if k else task.stored_kwh
        charging = program.charging(number, int(slot))
        program.rows.add(
            [held[k], *before, *charging, lent[slot]],
            [1.0, *([-1.0] if k else []), *([-hours[k]] * len(charging)), hours[k]],
            start,
            start,
        )


def _circuits(program: Program, grid: Grid) -> None:
    """A row wherever the users of a resource could fill it; phases with the same users share the tightest row."""
    tasks, room_a = program.tasks, program.outlook.room_a
    users: dict[int, list[int]] = {}
    for number, task in enumerate(tasks):
        for resource in grid.uses[task.evse]:
            users.setdefault(resource, []).append(number)
    groups: dict[tuple[object, tuple[int, ...]], list[int]] = {}
    for resource, members in users.items():
        groups.setdefault((grid.resources[resource][0], tuple(members)), []).append(resource)
    for (_, chosen), resources in groups.items():
        columns = np.array([program.power[n] for n in chosen])
        most_a = np.array([program.outlook.taken_a(tasks[n], tasks[n].most_kw) for n in chosen])
        per_kw = np.array([1 / tasks[n].kw_per_a for n in chosen])
        tight = np.array(resources)[np.argmin(room_a[resources], axis=0)]
        # feeding back is not counted as room: a vehicle may stop it at any time
        for slot in np.flatnonzero(most_a.sum(axis=0) > np.min(room_a[resources], axis=0) - 1e-9):
            here = columns[:, slot] >= 0
            if here.any():
                resource = int(tight[slot])
                row = program.rows.add(columns[here, slot], per_kw[here], -INF, float(room_a[resource, slot]))
                program.circuit_rows[(resource, int(slot))] = row


def _balance(program: Program, request: PlanRequest) -> None:
    """What comes in minus what goes out = load + charging - sun + battery; the month's peak covers every slot, and what
    is above the target costs more than any vehicle that stays short."""
    slots, outlook, hours = program.slots, program.outlook, program.slots.hours
    n = slots.count
    program.grid_in = program.columns(outlook.price * hours, 0.0, INF, n)
    program.grid_out = program.columns(-outlook.feed_in * hours, 0.0, INF, n)
    stored = None
    if request.battery is not None:
        stored = program.stored = _battery(program, request)
    peak = None
    if request.peak_price > 0:
        peak = int(program.columns(request.peak_price, max(0, request.peak_w) / 1000, INF, 1)[0])
    over = None
    if request.target_w is not None:
        over = program.columns(2 * max(program.weights, default=1.0) * hours, 0.0, INF, n)
    known = [n for n, task in enumerate(program.tasks) if not task.guess]
    flows = [(program.grid_in, 1.0), (program.grid_out, -1.0)]
    flows += [(part[n], -program.tasks[n].supply) for n in known for part in (program.power, program.free)]
    flows += [(columns, 1.0) for columns in program.lent.values()]
    flows += [] if stored is None else [(stored[0], -1.0), (stored[1], 1.0)]
    columns_of, signs = np.array([columns for columns, _ in flows]), np.array([sign for _, sign in flows])
    for slot in range(n):
        some = columns_of[:, slot] >= 0
        rest = float(outlook.load_kw[slot] - outlook.sun_kw[slot])
        program.rows.add(columns_of[some, slot], signs[some], rest, rest)
        if peak is not None:
            program.rows.add([peak, program.grid_in[slot]], [1.0, -1.0], 0.0, INF)
        if over is not None and request.target_w is not None:
            program.rows.add([program.grid_in[slot], over[slot]], [1.0, -1.0], -INF, request.target_w / 1000)


def _battery(program: Program, request: PlanRequest) -> tuple[Columns, Columns]:
    battery, slots = request.battery, program.slots
    assert battery is not None
    n, hours = slots.count, slots.hours
    way = max(0.01, battery.efficiency_pct / 100) ** 0.5
    scale = float(np.mean(np.abs(program.outlook.price)))
    charge = program.columns(1e-4 * scale * hours, 0.0, battery.charge_w / 1000, n)
    discharge = program.columns(1e-4 * scale * hours, 0.0, battery.discharge_w / 1000, n)
    start, full = battery.stored_wh / 1000, battery.capacity_wh / 1000
    # what is left at the end is worth what it would cost to buy again in a cheap hour: neither sold off nor hoarded
    worth = np.zeros(n)
    worth[-1] = -_again(program, request) / way
    held = program.columns(worth, min(start, battery.floor_wh / 1000), max(full, start), n)
    for k in range(n):
        before = [held[k - 1]] if k else []
        begun = 0.0 if k else start
        program.rows.add(
            [held[k], *before, charge[k], discharge[k]],
            [1.0, *([-1.0] if k else []), -hours[k] * way, hours[k] / way],
            begun,
            begun,
        )
    return charge, discharge


def _again(program: Program, request: PlanRequest) -> float:
    """The price of the cheap quarter of the next day, as far as it is known."""
    since, until = request.now.utc, request.now.utc + timedelta(hours=24)
    ahead = [p.amount for p in request.prices if since <= p.start < until and np.isfinite(p.amount)]
    return float(np.quantile(ahead or program.outlook.price, 0.25))


def solve(program: Program, limit_s: float, iterations: int | None = None) -> Solution:
    """Runs HiGHS in the caller's thread (it lets other threads run meanwhile). Raises NoPlan. `iterations`: at most so
    many, where the answer must not depend on the speed of the machine."""
    highs = highspy.Highs()  # type: ignore[no-untyped-call]
    highs.silent()
    highs.setOptionValue("threads", 1)
    highs.setOptionValue("presolve", "off")  # costs more than it saves at this size
    highs.setOptionValue("time_limit", limit_s)
    if iterations is not None:
        highs.setOptionValue("simplex_iteration_limit", iterations)
    _pass(highs, program)
    highs.run()
    status = highs.getModelStatus()
    if status != highspy.HighsModelStatus.kOptimal:
        raise NoPlan(f"the solver says {highs.modelStatusToString(status).lower()}")
    answer = highs.getSolution()
    return _solution(
        program, np.array(answer.col_value), np.array(answer.row_dual), np.array(answer.col_dual)
    )


def _pass(highs: highspy.Highs, program: Program) -> None:
    rows = program.rows
    row_of = rows.row_of()
    col_of = np.concatenate(rows.cols) if rows.cols else np.array([])
    values = np.concatenate(rows.values) if rows.values else np.array([])
    order = np.lexsort((row_of, col_of))
    starts = np.searchsorted(col_of[order], np.arange(program.count + 1))
    highs.passModel(
        program.count,
        len(rows.low),
        len(values),
        1,  # by columns
        1,  # minimise
        0.0,
        np.concatenate(program.cost),
        np.concatenate(program.lower),
        np.concatenate(program.upper),
        np.array(rows.low),
        np.array(rows.high),
        starts.astype(np.int32),
        row_of[order].astype(np.int32),
        values[order],
        np.zeros(program.count, dtype=np.int32),
    )


def _solution(program: Program, x: Floats, duals: Floats, reduced: Floats) -> Solution:
    n = program.slots.count

    def at(columns: Columns, of: Floats = x) -> Floats:
        return np.where(columns >= 0, of[np.clip(columns, 0, None)], 0.0)

    pairs = list(zip(program.power, program.free, strict=True))
    power_kw = np.array([at(power) + at(free) for power, free in pairs]).reshape(len(pairs), n)
    for number, columns in program.lent.items():
        power_kw[number] -= at(columns)
    battery_kw = np.zeros(n)
    if program.stored is not None:
        battery_kw = at(program.stored[0]) - at(program.stored[1])
    supply = np.array([task.supply for task in program.tasks])
    site_kw = supply @ power_kw + program.outlook.load_kw - program.outlook.sun_kw + battery_kw
    room_value = np.zeros_like(program.outlook.room_a)
    for (resource, slot), row in program.circuit_rows.items():
        room_value[resource, slot] = max(0.0, -duals[row])
    regret = np.array([np.where(free >= 0, at(free, reduced), at(power, reduced)) for power, free in pairs])
    regret = regret.reshape(power_kw.shape)
    return Solution(
        power_kw,
        x[program.short],
        np.array(program.weights),
        battery_kw,
        site_kw,
        room_value,
        np.clip(regret, 0.0, None) / program.slots.hours,
    )
