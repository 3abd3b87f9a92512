"""The allocator: circuits, demands and room -> grants. The law of the house, a pure function in integers (mA).

Per tier: admit minima in order (already charging first, then rank), raise the lowest level until a cap or a full
resource stops each one (weighted max-min above the minima), floor to the station's step, hand whole steps back.
Why that is right, its properties and its oracle: README "The life of an amp"; tests/laws/test_allocator.py.

Two budgets are kept at once. A station's fallback (`floor_ma`) counts on every resource whether it is used or not,
since the station may draw it without asking; so a grant costs only what it adds above the floor. Where even the
floors do not fit (a foreign load above what the site was designed for), the resource is *short*: commitments cannot
be kept there, so grants stay at or below the floor and what is drawn now is what has to fit.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from controller.core.grid import Grid
from controller.core.model import EvseId

NO_NAMES: Mapping[int, str] = {}


@dataclass(frozen=True, slots=True)
class Demand:
    """What one EVSE may ask for now.

    cap_ma 0 = wants nothing (its floor still counts). `running`: it holds a grant already, so it is admitted before
    newcomers of its tier. Lower tier and lower rank come first. cap_why names what set the cap.
    """

    evse: EvseId
    min_ma: int
    cap_ma: int
    step_ma: int
    floor_ma: int
    tier: int = 0
    rank: float = 0.0
    weight: int = 1
    running: bool = False
    cap_why: str = "station maximum"


@dataclass(frozen=True, slots=True)
class Grant:
    """`current_ma` is 0 or between minimum and cap, a multiple of the step. bound_by says what kept it there."""

    evse: EvseId
    current_ma: int
    bound_by: str


class _Room:
    """What is left on each resource once every floor is paid for; on short resources, what may be drawn at all."""

    def __init__(self, grid: Grid, room_ma: Sequence[int], demands: Sequence[Demand]) -> None:
        floors = grid.sums((demand.evse, demand.floor_ma) for demand in demands)
        self.short = [floor > left for floor, left in zip(floors, room_ma, strict=True)]
        self.any_short = True in self.short
        self.free = [
            max(0, left) if short else left - floor
            for floor, left, short in zip(floors, room_ma, self.short, strict=True)
        ]


@dataclass(slots=True)
class _Seat:
    """A demand at work: its resources, effective minimum and cap, and the current it holds so far."""

    demand: Demand
    uses: tuple[int, ...]
    min_ma: int
    cap_ma: int
    cap_why: str
    short: bool
    current_ma: int = 0

    def blocker(self, room: _Room, new_ma: int) -> int | None:
        """The first resource that cannot carry the change to `new_ma`, or None."""
        floor, old_ma, free = self.demand.floor_ma, self.current_ma, room.free
        # only what lies above the floor costs; written out because this runs some hundred times per decision
        above = (new_ma - floor if new_ma > floor else 0) - (old_ma - floor if old_ma > floor else 0)
        if self.short:
            for r in self.uses:
                if (new_ma - old_ma if room.short[r] else above) > free[r]:
                    return r
        elif above > 0:
            for r in self.uses:
                if above > free[r]:
                    return r
        return None

    def rise_to(self, room: _Room, new_ma: int) -> None:
        floor, old_ma, free = self.demand.floor_ma, self.current_ma, room.free
        above = (new_ma - floor if new_ma > floor else 0) - (old_ma - floor if old_ma > floor else 0)
        if self.short:
            for r in self.uses:
                free[r] -= new_ma - old_ma if room.short[r] else above
        elif above:
            for r in self.uses:
                free[r] -= above
        self.current_ma = new_ma


def allocate(
    grid: Grid, demands: Sequence[Demand], room_ma: Sequence[int], names: Mapping[int, str] = NO_NAMES
) -> dict[EvseId, Grant]:
    """Grants for every demand. `room_ma` per resource of the grid: limit minus background minus everything that
    is not in `demands` (stations out of reach). `names`: of the resources that something else than the circuit's limit
    narrows. Independent of the order of `demands`. Cost O((n + m) n d)."""
    room = _Room(grid, room_ma, demands)
    seats = [_seat(grid, room, demand, names) for demand in demands]
    order = sorted(seats, key=lambda s: (s.demand.tier, not s.demand.running, s.demand.rank, s.demand.evse))
    grants = {}
    start = 0
    while start < len(order):
        tier = order[start].demand.tier
        stop = start
        while stop < len(order) and order[stop].demand.tier == tier:
            stop += 1
        members = order[start:stop]
        admitted = [seat for seat in members if _admit(room, seat)]
        _fill(room, admitted)
        _quantise(room, admitted)
        for seat in members:
            grants[seat.demand.evse] = Grant(
                seat.demand.evse, seat.current_ma, _bound(grid, room, seat, names)
            )
        start = stop
    return grants


def _seat(grid: Grid, room: _Room, demand: Demand, names: Mapping[int, str]) -> _Seat:
    uses = grid.uses[demand.evse]
    step = demand.step_ma
    short = room.any_short and any(room.short[r] for r in uses)
    cap, why = demand.cap_ma, demand.cap_why
    if short and demand.floor_ma < cap:
        bound_by = next((names[r] for r in uses if room.short[r] and r in names), None)
        cap, why = demand.floor_ma, bound_by or "fallback: more load than the site was designed for"
    return _Seat(demand, uses, -(-demand.min_ma // step) * step, cap - cap % step, why, short)


def _admit(room: _Room, seat: _Seat) -> bool:
    if seat.cap_ma < seat.min_ma or seat.cap_ma <= 0 or seat.blocker(room, seat.min_ma) is not None:
        return False
    seat.rise_to(room, seat.min_ma)
    return True


def _fill(room: _Room, seats: Sequence[_Seat]) -> None:
    """Raise a common level; each seat follows at weight x level between its minimum and its cap.

    Event driven: the level jumps to the next point where a seat begins to cost (above its minimum and its floor),
    reaches its cap, or fills a resource. Levels and room are scaled by the least common multiple of the weights, so
    that every such point is a whole number.
    """
    scale = math.lcm(*(seat.demand.weight for seat in seats))
    free = [scale * left for left in room.free]
    slope = [0] * len(free)
    users: dict[int, list[int]] = {}
    paying: list[tuple[int, ...]] = []
    points: list[tuple[int, int, int]] = []  # level, 0 = begins to cost / 1 = at its cap, seat
    for number, seat in enumerate(seats):
        start_ma = seat.min_ma if seat.short else max(seat.min_ma, seat.demand.floor_ma)
        paying.append(tuple(r for r in seat.uses if room.short[r]) if seat.short else seat.uses)
        if start_ma >= seat.cap_ma:
            seat.rise_to(room, seat.cap_ma)
            continue
        unit = scale // seat.demand.weight
        points += [(start_ma * unit, 0, number), (seat.cap_ma * unit, 1, number)]
        for r in paying[number]:
            users.setdefault(r, []).append(number)
    level = 0
    active: set[int] = set()

    def settle(number: int) -> None:
        seat = seats[number]
        active.remove(number)
        seat.rise_to(room, min(seat.cap_ma, level * seat.demand.weight // scale))
        for r in paying[number]:
            slope[r] -= seat.demand.weight

    def climb(goal: int, until: int) -> None:
        """Raise the level to `goal`, settling whoever meets a full resource; stops early once `until` has settled."""
        nonlocal level
        while level < goal and (until < 0 or until in active):
            rise = goal - level
            pressed = [r for r in users if free[r] < slope[r] * rise]
            if pressed:
                rise = min(free[r] // slope[r] for r in pressed)
            level += rise
            for r in users:
                free[r] -= slope[r] * rise
            full = [r for r in pressed if free[r] < slope[r]]
            for number in {number for r in full for number in users[r]} & active:
                settle(number)

    for point, kind, number in sorted(points):
        if kind == 0:
            climb(point, -1)
            active.add(number)
            for r in paying[number]:
                slope[r] += seats[number].demand.weight
        elif number in active:
            climb(point, number)
            if number in active:
                settle(number)


def _quantise(room: _Room, seats: Sequence[_Seat]) -> None:
    """Floor to whole steps (never below the admitted minimum), then hand whole steps back, lowest level first."""
    for seat in seats:
        rest_ma = seat.current_ma % seat.demand.step_ma
        if rest_ma:
            seat.rise_to(room, max(seat.min_ma, seat.current_ma - rest_ma))
    waiting = [
        (seat.current_ma // seat.demand.weight, seat.demand.rank, seat.demand.evse, seat)
        for seat in seats
        if seat.current_ma < seat.cap_ma
    ]
    heapq.heapify(waiting)
    while waiting:
        _, rank, evse, seat = waiting[0]
        raised = seat.current_ma + seat.demand.step_ma
        if raised > seat.cap_ma or seat.blocker(room, raised) is not None:
            heapq.heappop(waiting)  # room only shrinks: what does not fit now never will
        else:
            seat.rise_to(room, raised)
            heapq.heapreplace(waiting, (raised // seat.demand.weight, rank, evse, seat))


def _bound(grid: Grid, room: _Room, seat: _Seat, names: Mapping[int, str]) -> str:
    """What keeps this EVSE from one more step (or, when paused, from its minimum)."""
    if seat.cap_ma < seat.min_ma or seat.current_ma >= seat.cap_ma:
        return seat.cap_why
    wanted = seat.current_ma + seat.demand.step_ma if seat.current_ma else seat.min_ma
    blocker = seat.blocker(room, wanted)
    return seat.cap_why if blocker is None else names.get(blocker) or grid.name(blocker)
