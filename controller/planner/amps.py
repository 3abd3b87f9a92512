"""From the program's first slot to whole amps with few starts: what each vehicle gets as its wish.

The program says how much is to be charged now and who must be charged at all; which of the equal vehicles charges
first is decided here: who runs goes on, then who has least time to spare. Currents are 0 or from the minimum on,
in the station's steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from controller.core.grid import Grid
from controller.core.model import EvseId, Site
from controller.planner.needs import Task

# below this much time to spare a vehicle gets what the program gives it, whoever runs; where energy is short, earlier; where
# a peak is to be kept, in time for whole amps and minima to find their place below it
PRESSING_H, TIGHT_PRESSING_H, FIRM_PRESSING_H = 0.1, 0.25, 0.5
LAST_H = 0.25
PROBE_MA = 2000  # more than a vehicle is known to take: else nobody would see that it takes more by now


@dataclass(frozen=True, slots=True)
class Claim:
    """One vehicle that is here: what the program gives it now and in all."""

    task: Task
    now_kw: float
    planned_kwh: float
    most_kw: float  # in the first slot, its windows respected
    least_kw: float  # at the minimum current
    good_h: float  # hours at full power in slots that are as good as any for it
    tight: bool  # energy is short: good_h counts to the departure
    firm: bool  # what the program spends is all there is
    waits: bool  # to charge now is worse than a pause and another start
    keeps: bool  # a pause and another start are worse than to charge now, whatever the plan has for it
    lacks: bool  # it leaves short: what it is not given now is lost, whoever gets it instead

    @property
    def spare_h(self) -> float:
        """How much of its good time it can do without."""
        return self.good_h - self.planned_kwh / self.task.full_kw if self.task.full_kw > 0 else self.good_h

    @property
    def last_h(self) -> float:
        """How long it can wait at all, whatever that costs."""
        return (
            self.task.to_h - self.planned_kwh / self.task.full_kw if self.task.full_kw > 0 else self.task.to_h
        )

    @property
    def ends(self) -> bool:
        """So little is left that the minimum current is more than the program can want."""
        return self.now_kw > 1e-3 and self.planned_kwh < LAST_H * self.least_kw

    @property
    def running(self) -> bool:
        return self.task.present is not None and self.task.present.granted_ma > 0


@dataclass(slots=True)
class _Seat:
    claim: Claim
    min_ma: int
    cap_ma: int
    step_ma: int
    kw_per_ma: float
    uses: tuple[int, ...]
    floor_ma: int  # kept for it anyway
    current_ma: int = 0

    def offered_ma(self, site: Site, room_ma: list[int]) -> int:
        """What it gets, and what is left for it to show that it takes more than was measured."""
        present = self.claim.task.present
        if not self.current_ma or self.current_ma < self.cap_ma or present is None or not present.drawn_ma:
            return self.current_ma
        before_ma, self.cap_ma = self.current_ma, site.evses[self.claim.task.evse].max_ma
        self.raise_to(before_ma + PROBE_MA, room_ma)
        return self.current_ma

    def raise_to(self, ma: int, room_ma: list[int]) -> bool:
        ma = min(ma, self.cap_ma)
        ma -= ma % self.step_ma
        more = max(ma, self.floor_ma) - max(self.current_ma, self.floor_ma)
        if ma < self.min_ma or ma <= self.current_ma or any(room_ma[r] < more for r in self.uses):
            return False
        for r in self.uses:
            room_ma[r] -= more
        self.current_ma = ma
        return True


def whole_amps(
    site: Site,
    grid: Grid,
    claims: Sequence[Claim],
    room_ma: Sequence[int],
    floors_ma: Mapping[EvseId, int] | None = None,
    ahead: Sequence[tuple[float, float]] | None = None,
) -> dict[EvseId, int]:
    """A cap per EVSE, in mA; together no more than the program spends now, rounded by less than one minimum, beside the
    minima of those that had better go on. `room_ma` is beside what is kept for each by `floors_ma`. `ahead`: hours and kW of
    the program's slots; nobody is started for what a quarter of an hour at the minimum would not use up."""
    room, floors = list(room_ma), floors_ma or {}
    seats = [
        _seat(site, grid, claim, floors.get(claim.task.evse, 0))
        for claim in claims
        if claim.planned_kwh > 1e-3
    ]
    budget = _Budget(sum(seat.claim.now_kw for seat in seats), ahead)
    seats.sort(key=lambda seat: (seat.claim.waits, seat.claim.spare_h, seat.claim.task.evse))
    for seat in seats:
        if _presses(seat.claim):
            budget.give(seat, max(seat.min_ma, round(seat.claim.now_kw / seat.kw_per_ma)), room)
        elif seat.claim.last_h < PRESSING_H:  # its part of the first slots begins before the next plan does
            budget.give(seat, seat.cap_ma, room, whatever=True)
    for seat in seats:
        if seat.claim.running and not seat.current_ma and not seat.claim.waits:
            budget.give(seat, seat.min_ma, room, whatever=seat.claim.keeps)
    for seat in seats:
        if seat.current_ma:
            budget.climb(seat, seat.cap_ma, room)
    for wanted in (True, False):
        for seat in seats:
            if not seat.current_ma and wanted == (seat.claim.now_kw > 1e-3) and budget.is_worth_a_start(seat):
                budget.give(seat, seat.cap_ma, room)
    return {seat.claim.task.evse: seat.offered_ma(site, room) for seat in seats}


class _Budget:
    """What is left to spend now, in kW. The last minimum may overdraw it by half: the next plan makes up for it."""

    def __init__(self, kw: float, ahead: Sequence[tuple[float, float]] | None) -> None:
        self._kw = kw + 1e-6
        self._all_kw, self._ahead = kw, ahead

    def is_worth_a_start(self, seat: _Seat) -> bool:
        claim = seat.claim
        if self._ahead is None or claim.running or claim.ends or claim.tight:
            return True
        spent_kw, kwh = self._all_kw - self._kw, 0.0
        for hours, kw in self._ahead:
            if kw - spent_kw <= 1e-3:
                break
            kwh += (kw - spent_kw) * hours
        return kwh >= LAST_H * claim.least_kw

    def give(self, seat: _Seat, ma: int, room_ma: list[int], whatever: bool = False) -> bool:
        """`whatever`: it costs, the minimum is given."""
        cost_kw = ma * seat.kw_per_ma
        little = self._kw < seat.min_ma * seat.kw_per_ma / 2
        if cost_kw > self._kw and little and not (seat.claim.ends or whatever):
            return False
        ma = max(seat.min_ma, min(ma, int(self._kw / seat.kw_per_ma)))
        while ma >= seat.min_ma:
            if seat.raise_to(ma, room_ma):
                self._kw -= seat.current_ma * seat.kw_per_ma
                return True
            ma -= seat.step_ma
        return False

    def climb(self, seat: _Seat, ma: int, room_ma: list[int]) -> None:
        before = seat.current_ma
        start = max(before, seat.floor_ma)
        most = min(
            [ma, before + int(max(0.0, self._kw) / seat.kw_per_ma), *(start + room_ma[r] for r in seat.uses)]
        )
        if seat.raise_to(most, room_ma):
            self._kw -= (seat.current_ma - before) * seat.kw_per_ma


def _presses(claim: Claim) -> bool:
    if claim.lacks:
        return claim.now_kw > 1e-3
    if claim.tight:
        return claim.now_kw > 1e-3 and claim.spare_h < TIGHT_PRESSING_H
    return claim.now_kw > 1e-3 and claim.spare_h < (FIRM_PRESSING_H if claim.firm else PRESSING_H)


def _seat(site: Site, grid: Grid, claim: Claim, floor_ma: int) -> _Seat:
    unit = site.evses[claim.task.evse]
    step = unit.step_ma
    kw_per_ma = claim.task.kw_per_a / 1000
    cap_ma = min(unit.max_ma, -(-int(claim.most_kw / kw_per_ma) // step) * step)
    return _Seat(claim, -(-unit.min_ma // step) * step, cap_ma, step, kw_per_ma, grid.uses[unit.id], floor_ma)
