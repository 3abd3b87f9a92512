"""The allocator: circuits, demands and room -> grants. The law of the house, a pure function in integers (mA).

Per tier: admit minima in order (already charging first, then rank), raise the lowest level until a cap or a full
resource stops each one (weighted max-min above the minima), floor to the station's step, hand whole steps back.
Why that is right, its properties and its oracle: README "The life of an amp"; tests/laws/test_allocator.py.

Two budgets are kept at once. A station's fallback (`floor_ma`) counts on every resource whether it is used or not,
since the station may draw it without asking; so a grant costs only what it adds above the floor. Where even the
floors do not fit (a foreign load above what the site was designed for), the resource is *short*: commitments cannot
be kept there, so grants stay at or below the floor and what is drawn now is what has to fit.

Beside the copper there may be *quotas*: sums over some EVSEs that only grants must keep, whatever stations could do
alone (the imbalance between phases: a contract, no fuse). They are filled and handed back together with the copper.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from controller.core.grid import Grid
from controller.core.model import EvseId

NO_NAMES: Mapping[int, str] = {}


class Demand(NamedTuple):
    """What one EVSE may ask for now.

    cap_ma 0 = wants nothing (its floor still counts). `running`: it holds a grant already, so it is admitted before
    newcomers of its tier. Lower tier and lower rank come first. cap_why names what set the cap. `uses`: the resources
    that what lies above the floor loads, where that is known to be fewer than the EVSE is wired to. `caps`: all of which
    cap_ma was the lowest, for explanations. `held`: it may not be paused without need; a running one keeps its minimum
    before a higher tier fills up. `after`: the lowest comes first among those of one rank.
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
    uses: tuple[int, ...] | None = None
    caps: tuple[tuple[int, str], ...] = ()
    held: bool = False
    after: int = 0


@dataclass(frozen=True, slots=True)
class Quota:
    """What the grants of `members` may sum up to."""

    members: frozenset[EvseId]
    room_ma: int
    why: str


@dataclass(frozen=True, slots=True)
class Grant:
    """`current_ma` is 0 or between minimum and cap, a multiple of the step. bound_by says what kept it there."""

    evse: EvseId
    current_ma: int
    bound_by: str


class _Room:
    """What is left on each resource once every floor is paid for; on short resources and for quotas, which follow the
    resources of the grid, what may be drawn at all (`drawn`)."""

    def __init__(
        self, grid: Grid, room_ma: Sequence[int], demands: Sequence[Demand], quotas: Sequence[Quota]
    ) -> None:
        floors = grid.sums((demand.evse, demand.floor_ma) for demand in demands)
        self.short = [floor > left for floor, left in zip(floors, room_ma, strict=True)]
        self.any_short = True in self.short
        self.free = [
            max(0, left) if short else left - floor
            for floor, left, short in zip(floors, room_ma, self.short, strict=True)
        ]
        self.quotas = quotas
        self.drawn = self.short + [True] * len(quotas)
        self.free += [max(0, quota.room_ma) for quota in quotas]

    def name(self, grid: Grid, names: Mapping[int, str], resource: int) -> str:
        copper = len(self.short)
        if resource >= copper:
            return self.quotas[resource - copper].why
        return names.get(resource) or grid.name(resource)


@dataclass(slots=True)
class _Seat:
    """A demand at work: its resources, effective minimum and cap, and the current it holds so far."""

    demand: Demand
    uses: tuple[int, ...]
    min_ma: int
    cap_ma: int
    cap_why: str
    mixed: bool  # some of them count all that is drawn
    current_ma: int = 0

    def blocker(self, room: _Room, new_ma: int) -> int | None:
        """The first resource that cannot carry the change to `new_ma`, or None."""
        floor, old_ma, free = self.demand.floor_ma, self.current_ma, room.free
        # only what lies above the floor costs; written out because this runs some hundred times per decision
        above = (new_ma - floor if new_ma > floor else 0) - (old_ma - floor if old_ma > floor else 0)
        if self.mixed:
            for r in self.uses:
                if (new_ma - old_ma if room.drawn[r] else above) > free[r]:
                    return r
        elif above > 0:
            for r in self.uses:
                if above > free[r]:
                    return r
        return None

    def rise_to(self, room: _Room, new_ma: int) -> None:
        floor, old_ma, free = self.demand.floor_ma, self.current_ma, room.free
        above = (new_ma - floor if new_ma > floor else 0) - (old_ma - floor if old_ma > floor else 0)
        if self.mixed:
            for r in self.uses:
                free[r] -= new_ma - old_ma if room.drawn[r] else above
        elif above:
            for r in self.uses:
                free[r] -= above
        self.current_ma = new_ma


def allocate(
    grid: Grid,
    demands: Sequence[Demand],
    room_ma: Sequence[int],
    names: Mapping[int, str] = NO_NAMES,
    quotas: Sequence[Quota] = (),
) -> dict[EvseId, Grant]:
    """Grants for every demand. `room_ma` per resource of the grid: limit minus background minus everything that
    is not in `demands` (stations out of reach). `names`: of the resources that something else than the circuit's limit
    narrows. Independent of the order of `demands`. Cost O((n + m) n d)."""
    room = _Room(grid, room_ma, demands, quotas)
    seats = [_seat(grid, room, demand, names) for demand in demands]
    order = sorted(seats, key=_place)
    _keep_held(room, order)
    grants = {}
    start = 0
    while start < len(order):
        tier = order[start].demand.tier
        stop = start
        while stop < len(order) and order[stop].demand.tier == tier:
            stop += 1
        members = order[start:stop]
        admitted = [seat for seat in members if seat.current_ma or _admit(room, seat)]
        _fill(room, admitted)
        _quantise(room, admitted)
        for seat in members:
            grants[seat.demand.evse] = Grant(
                seat.demand.evse, seat.current_ma, _bound(grid, room, seat, names)
            )
        start = stop
    return grants


def _seat(grid: Grid, room: _Room, demand: Demand, names: Mapping[int, str]) -> _Seat:
    uses = grid.uses[demand.evse] if demand.uses is None else demand.uses
    step = demand.step_ma
    short = room.any_short and any(room.short[r] for r in uses)
    cap, why = demand.cap_ma, demand.cap_why
    if short and demand.floor_ma < cap:
        bound_by = next((names[r] for r in uses if room.short[r] and r in names), None)
        cap, why = demand.floor_ma, bound_by or "fallback: more load than the site was designed for"
    shared: tuple[int, ...] = ()
    if room.quotas:
        shared = tuple(n for n, q in enumerate(room.quotas, len(room.short)) if demand.evse in q.members)
    least = -(-demand.min_ma // step) * step
    return _Seat(demand, uses + shared, least, cap - cap % step, why, short or bool(shared))


def _place(seat: _Seat) -> tuple[int, bool, float, int, EvseId]:
    demand = seat.demand
    return demand.tier, not demand.running, demand.rank, demand.after, demand.evse


def _keep_held(room: _Room, order: Sequence[_Seat]) -> None:
    """Minima of those that may not be paused; of the tiers above them, those that run go first as ever."""
    last = max((seat.demand.tier for seat in order if seat.demand.held), default=None)
    if last is None:
        return
    for seat in order:
        if seat.demand.held or (seat.demand.running and seat.demand.tier < last):
            _admit(room, seat)


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
    paying: dict[int, list[int]] = {}
    # level, 0 = begins to cost / 1 = leaves its floor / 2 = at its cap, seat
    points: list[tuple[int, int, int]] = []
    for number, seat in enumerate(seats):
        above_ma = max(seat.min_ma, seat.demand.floor_ma)
        start_ma = seat.min_ma if seat.mixed else above_ma
        if start_ma >= seat.cap_ma:
            seat.rise_to(room, seat.cap_ma)
            continue
        unit = scale // seat.demand.weight
        points += [(start_ma * unit, 0, number), (seat.cap_ma * unit, 2, number)]
        if seat.mixed and above_ma < seat.cap_ma:
            points.append((above_ma * unit, 1, number))
    level = 0
    active: set[int] = set()

    def settle(number: int) -> None:
        seat = seats[number]
        active.remove(number)
        seat.rise_to(room, min(seat.cap_ma, level * seat.demand.weight // scale))
        for r in paying[number]:
            slope[r] -= seat.demand.weight

    def charge(number: int, resources: Iterable[int]) -> None:
        """From here on the seat's rise costs these too."""
        for r in resources:
            slope[r] += seats[number].demand.weight
            users.setdefault(r, []).append(number)
            paying[number].append(r)

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
            paying[number] = []
            seat = seats[number]
            charge(number, [r for r in seat.uses if room.drawn[r]] if seat.mixed else seat.uses)
        elif number in active:
            climb(point, number)
            if number not in active:
                continue
            if kind == 1:
                charge(number, [r for r in seats[number].uses if not room.drawn[r]])
            else:
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
    return seat.cap_why if blocker is None else room.name(grid, names, blocker)
