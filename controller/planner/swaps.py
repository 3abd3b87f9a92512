"""Would another bay help? Two vehicles that change places, or one that moves to a free bay, worked out without the solver.

The two are taken out of the plan, everybody else stays as planned. Who goes away from the better bay is filled first, in
the hours that are of least use to the other, with all that the plan gave it: nobody is made short. What the other gets
then beyond the plan is the gain; a whole plan could only find more. Bays with schedules are left out: windows belong to
bays.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from controller.core.grid import Grid
from controller.core.model import Evse, EvseId, Remedy
from controller.core.planning import PlanRequest
from controller.core.watts import limit_w
from controller.planner.needs import Floats, Slots, Task
from controller.planner.program import Outlook, Solution

MOST_SHORT, MOST_BAYS = 6, 8  # how many vehicles that go short are looked at, and how many bays for each
WORTH_KWH = 0.5  # below this nobody should walk
LIMITED_MA = 1000  # so far below its EVSE's maximum it is the vehicle that draws no more


def swaps(
    request: PlanRequest,
    grid: Grid,
    tasks: Sequence[Task],
    slots: Slots,
    outlook: Outlook,
    solution: Solution,
) -> list[Remedy]:
    """The best one for each of those that lack most."""
    short = [
        (float(kwh), number)
        for number, (task, kwh) in enumerate(zip(tasks, solution.short_kwh, strict=True))
        if task.present is not None and task.told and kwh > WORTH_KWH and task.lender is None
    ]
    yard = _Yard(request, grid, tasks, slots, outlook, solution)
    found = []
    for _, number in sorted(short, reverse=True)[:MOST_SHORT]:
        best = max((yard.trial(number, bay) for bay in yard.bays(number)), default=(0.0, ""))
        gain_kwh, text = best
        if gain_kwh >= WORTH_KWH:
            here = tasks[number].most_kw > 0
            price = float(outlook.price[here] @ slots.hours[here] / slots.hours[here].sum())
            cost_micro = round(1e6 * price * gain_kwh)
            found.append(Remedy(tasks[number].evse, "swap", text, round(1000 * gain_kwh), cost_micro))
    return found


class _Yard:
    def __init__(
        self,
        request: PlanRequest,
        grid: Grid,
        tasks: Sequence[Task],
        slots: Slots,
        outlook: Outlook,
        solution: Solution,
    ) -> None:
        self._request, self._grid, self._tasks = request, grid, tasks
        self._slots, self._outlook, self._solution = slots, outlook, solution
        self._free_a = outlook.room_a.copy()
        self._at: dict[EvseId, list[int]] = {}
        for number, task in enumerate(tasks):
            if task.guess:  # nobody who is here has to make room for who may never come
                continue
            self._at.setdefault(task.evse, []).append(number)
            taken_a = outlook.taken_a(task, solution.power_kw[number])
            for resource in grid.uses[task.evse]:
                self._free_a[resource] -= taken_a

    def bays(self, number: int) -> list[Evse]:
        """Those that may be better for it, the strongest first."""
        site, mine = self._request.site, self._request.site.evses[self._tasks[number].evse]
        taken = {present.evse for present in self._request.present}
        found = [
            bay
            for bay in site.evses.values()
            if bay.id != mine.id
            and (bay.dc is None) == (mine.dc is None)
            and not {bay.id, mine.id} & self._request.schedules.keys()
            and (bay.max_ma > mine.max_ma or bay.circuit != mine.circuit or bay.phases != mine.phases)
            and (bay.id not in taken or self._owner(bay.id) is not None)
        ]
        return sorted(found, key=lambda bay: (-bay.max_ma, bay.circuit == mine.circuit, bay.id))[:MOST_BAYS]

    def trial(self, number: int, bay: Evse) -> tuple[float, str]:
        """What it gains there, and how to say it."""
        mine, other = self._tasks[number], self._owner(bay.id)
        room_a = self._free_a.copy()
        self._give_back(room_a, number)
        text = f"move to {bay.id}"
        if other is not None:
            task = self._tasks[other]
            self._give_back(room_a, other)
            planned_kwh = float(self._solution.power_kw[other] @ self._slots.hours)
            # first the hours in which the one that is short is not here anyway
            order = np.argsort(mine.most_kw > 0, kind="stable")
            kwh = self._fill(room_a, task, self._request.site.evses[mine.evse], planned_kwh, order)
            if kwh < planned_kwh - 0.01:
                return 0.0, ""
            text = f"swap places with {task.vehicle or 'the vehicle'} at {bay.id}"
        now_kwh = float(self._solution.power_kw[number] @ self._slots.hours)
        there_kwh = self._fill(room_a, mine, bay, mine.need_kwh, np.arange(self._slots.count))
        return there_kwh - now_kwh, text

    def _owner(self, bay: EvseId) -> int | None:
        """The one vehicle there that may change places: it is here, its need is known, and nobody comes after it."""
        numbers = self._at.get(bay, [])
        if len(numbers) != 1:
            return None
        task = self._tasks[numbers[0]]
        return numbers[0] if task.present is not None and task.told and task.lender is None else None

    def _give_back(self, room_a: Floats, number: int) -> None:
        task = self._tasks[number]
        for resource in self._grid.uses[task.evse]:
            room_a[resource] += self._outlook.taken_a(task, self._solution.power_kw[number])

    def _fill(self, room_a: Floats, task: Task, bay: Evse, kwh: float, order: np.ndarray) -> float:
        """Charges it at that bay in these slots, one after the other, and takes that from the rooms."""
        kw_per_a, most_a = self._able(task, bay)
        floor_a = self._outlook.floors_a.get(bay.id, 0.0)
        uses = list(self._grid.uses[bay.id])
        here = np.where(task.full_kw > 0, task.most_kw / task.full_kw, 0.0)
        amps = np.minimum(most_a, room_a[uses].min(axis=0) + floor_a) * here
        could_kwh = (np.clip(amps, 0.0, None) * kw_per_a * self._slots.hours)[order]
        before = np.cumsum(could_kwh) - could_kwh
        took_kwh = np.zeros(self._slots.count)
        took_kwh[order] = np.clip(kwh - before, 0.0, could_kwh)
        for resource in uses:
            room_a[resource] -= np.clip(took_kwh / self._slots.hours / kw_per_a - floor_a, 0.0, None)
        return float(took_kwh.sum())

    def _able(self, task: Task, bay: Evse) -> tuple[float, float]:
        """kW per A, and the most amps, of this vehicle there."""
        site, present = self._request.site, task.present
        mine = site.evses[task.evse]
        kw_per_a = limit_w(bay, 1_000_000, site.voltage_mv) / 1e6
        most_ma = bay.max_ma
        if present is not None and present.phases is not None and len(present.phases) < len(mine.phases):
            kw_per_a *= min(1.0, len(present.phases) / len(bay.phases))
        if (
            present is not None
            and present.drawn_ma is not None
            and present.drawn_ma < mine.max_ma - LIMITED_MA
        ):
            most_ma = min(most_ma, max(bay.min_ma, present.drawn_ma))
        known = None if task.vehicle is None else site.vehicles.get(task.vehicle)
        if known is not None and known.max_power_w is not None:
            most_ma = min(most_ma, int(known.max_power_w / kw_per_a))
        return kw_per_a, most_ma / 1000
