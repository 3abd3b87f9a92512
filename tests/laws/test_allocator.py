"""The allocator's law, on random sites: never above any circuit on any phase, fair, without waste, same for any order.

Properties by number: scheduling reference, section 4. The oracle solves linear programs (max_min_oracle).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

import pytest
from drawn_sites import Case, cases, site_of
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from max_min_oracle import max_min_ma

from controller.core.allocator import Demand, Grant, allocate
from controller.core.model import SITE, CircuitId, EvseId

law = settings(derandomize=True, max_examples=120, deadline=None)
lp_law = settings(derandomize=True, max_examples=60, deadline=None)


def currents(case: Case, demands: tuple[Demand, ...] | None = None) -> dict[EvseId, int]:
    return {evse: g.current_ma for evse, g in granted(case, demands).items()}


def granted(case: Case, demands: tuple[Demand, ...] | None = None) -> dict[EvseId, Grant]:
    return allocate(case.grid, case.demands if demands is None else demands, case.room_ma())


def fits(case: Case, current_ma: dict[EvseId, int]) -> bool:
    """The law itself. Where the floors fit, reserved and granted together fit; elsewhere what is drawn must."""
    floors = {d.evse: d.floor_ma for d in case.demands}
    drawn = case.sums(current_ma)
    worst = case.sums({evse: max(floors[evse], current) for evse, current in current_ma.items()})
    short = case.short()
    for resource, room in case.room.items():
        if resource in short:
            if drawn[resource] > max(0, room):
                return False
        elif worst[resource] > room:
            return False
    return all(
        current <= floors[evse]
        for evse, current in current_ma.items()
        if any(resource in short for resource in case.uses(evse))
    )


def whole_minimum_ma(demand: Demand) -> int:
    """A station with 16 A steps cannot do 6 A: its least current is 16 A."""
    return -(-demand.min_ma // demand.step_ma) * demand.step_ma


@law
@given(cases())
def test_never_above_any_circuit_on_any_phase(case: Case) -> None:
    assert fits(case, currents(case))


@law
@given(cases())
def test_each_grant_is_nothing_or_between_minimum_and_cap_in_whole_steps(case: Case) -> None:
    grants = currents(case)
    assert set(grants) == {d.evse for d in case.demands}
    for demand in case.demands:
        grant = grants[demand.evse]
        assert grant % demand.step_ma == 0
        assert grant == 0 or demand.min_ma <= grant <= demand.cap_ma


@law
@given(cases())
def test_nothing_is_wasted(case: Case) -> None:
    """Nobody admitted could have one more step, and nobody paused its minimum."""
    grants = currents(case)
    for demand in case.demands:
        grant = grants[demand.evse]
        wanted = grant + demand.step_ma if grant else max(demand.step_ma, whole_minimum_ma(demand))
        if wanted <= demand.cap_ma:
            assert not fits(case, {**grants, demand.evse: wanted}), f"{demand.evse} could have {wanted}"


@law
@given(cases(), st.data())
def test_lower_tiers_never_cost_a_higher_tier_anything(case: Case, data: st.DataObject) -> None:
    """Silenced, not removed: what a station does alone (its floor) counts at every tier."""
    tier = data.draw(st.integers(1, 2))
    assume(any(d.tier >= tier and d.cap_ma for d in case.demands))
    quiet = tuple(d._replace(cap_ma=0) if d.tier >= tier else d for d in case.demands)
    before, after = currents(case), currents(case, quiet)
    assert [before[d.evse] for d in case.demands if d.tier < tier] == [
        after[d.evse] for d in case.demands if d.tier < tier
    ]


@law
@given(cases(), st.randoms(use_true_random=False))
def test_the_order_of_demands_does_not_matter(case: Case, random: Any) -> None:
    shuffled = list(case.demands)
    random.shuffle(shuffled)
    assert granted(case, tuple(shuffled)) == granted(case)


@law
@given(cases())
def test_who_was_admitted_stays_admitted(case: Case) -> None:
    """Property 7 as far as one call can show it: with nothing changed the same EVSEs run, so nobody toggles."""
    first = currents(case)
    again = currents(case, tuple(d._replace(running=first[d.evse] > 0) for d in case.demands))
    assert {evse for evse, current in again.items() if current} == {
        evse for evse, current in first.items() if current
    }


@law
@given(cases())
def test_no_room_is_no_grant_and_no_exception(case: Case) -> None:
    nothing = Case(case.site, case.demands, {resource: min(0, room) for resource, room in case.room.items()})
    floorless = tuple(d._replace(floor_ma=0) for d in case.demands)
    assert set(currents(Case(case.site, floorless, nothing.room)).values()) == {0}
    assert fits(nothing, currents(nothing))


@law
@given(cases())
def test_whole_steps_cost_nobody_a_whole_step(case: Case) -> None:
    """x >= floor(continuous) for the same admitted set (of the first tier: later ones live from what is left)."""
    first = min(d.tier for d in case.demands)
    smooth = tuple(
        d._replace(min_ma=whole_minimum_ma(d), cap_ma=d.cap_ma - d.cap_ma % d.step_ma, step_ma=1)
        for d in case.demands
    )
    stepped, continuous = currents(case), currents(case, smooth)
    count = len(case.demands)
    for demand in case.demands:
        # a mA per EVSE of slack: the continuous twin hands its last mA back too, in an order of its own
        if demand.tier == first and stepped[demand.evse] + demand.step_ma <= demand.cap_ma:
            least = continuous[demand.evse] - count
            assert stepped[demand.evse] >= least - least % demand.step_ma


@lp_law
@given(cases(continuous=True, most_evses=7))
def test_continuous_shares_are_those_of_the_oracle(case: Case) -> None:
    """Tolerance: the allocator counts whole mA. Each time somebody settles, less than 1 mA per EVSE is truncated and
    handed on, and there are at most as many settlings as EVSEs; 2 mA per EVSE covers both."""
    assume(not case.short())
    demands = case.demands
    found, wanted = currents(case), max_min_ma(case)
    for demand, share in zip(demands, wanted, strict=True):
        assert found[demand.evse] == pytest.approx(share, abs=2 * len(demands))


def test_the_oracle_can_disagree() -> None:
    """A first-come share of 20 A between two equals is not max-min, and the oracle says so."""
    site = site_of([], [(0, (0,)), (0, (0,))])
    demands = tuple(Demand(evse, 0, 16_000, 1, 0) for evse in site.evses)
    case = Case(site, demands, {(SITE, phase): 20_000 for phase in range(3)})
    assert max_min_ma(case) == pytest.approx([10_000, 10_000])
    assert max_min_ma(case) != pytest.approx([16_000, 4_000])


def test_the_law_can_be_broken() -> None:
    site = site_of([0], [(1, (1,)), (1, (1, 2, 0))])
    one, two = site.evses
    demands = (Demand(one, 0, 32_000, 1, 6_000), Demand(two, 0, 32_000, 1, 0))
    case = Case(site, demands, {(c, p): 20_000 for c in site.circuits for p in range(3)})
    assert fits(case, {one: 6_000, two: 14_000})
    assert fits(case, {one: 0, two: 14_000}), "the floor is paid for"
    assert not fits(case, {one: 0, two: 15_000}), "and cannot be given to somebody else"
    assert not fits(case, {one: 7_000, two: 14_000})


# --- known corners ----------------------------------------------------------------------------------------------------


def line_case(room_a: int, *demands: Demand) -> Case:
    site = site_of([], [(0, (0,))] * len(demands))
    return Case(site, demands, {(SITE, phase): room_a * 1000 for phase in range(3)})


def seat(number: int, **words: Any) -> Demand:
    usual = {"evse": f"s{number}/1", "min_ma": 6_000, "cap_ma": 32_000, "step_ma": 1_000, "floor_ma": 0}
    return Demand(**{**usual, **words})


@pytest.mark.parametrize(
    ("case", "wanted_a"),
    [
        (line_case(20, seat(0), seat(1)), [10, 10]),
        (line_case(21, seat(0), seat(1)), [11, 10]),
        (line_case(11, seat(0), seat(1)), [11, 0]),
        (line_case(11, seat(0), seat(1, running=True)), [0, 11]),
        (line_case(11, seat(0, rank=2.0), seat(1, rank=1.0)), [0, 11]),
        (line_case(30, seat(0, tier=1), seat(1)), [0, 30]),
        (line_case(40, seat(0, tier=1), seat(1)), [8, 32]),
        (line_case(30, seat(0, weight=2), seat(1)), [20, 10]),
        (line_case(30, seat(0, cap_ma=6_000), seat(1)), [6, 24]),
        (line_case(30, seat(0, floor_ma=10_000, cap_ma=10_000), seat(1)), [10, 20]),
        (line_case(30, seat(0, floor_ma=10_000, cap_ma=0), seat(1)), [0, 20]),
        (line_case(16, seat(0, floor_ma=10_000), seat(1, floor_ma=6_000)), [10, 6]),
        (line_case(15, seat(0, floor_ma=10_000), seat(1, floor_ma=6_000)), [9, 6]),
        (line_case(-5, seat(0, floor_ma=10_000), seat(1)), [0, 0]),
        (line_case(20, seat(0, step_ma=16_000), seat(1, step_ma=16_000)), [16, 0]),
    ],
)
def test_shares_an_electrician_would_expect(case: Case, wanted_a: list[int]) -> None:
    assert [currents(case)[d.evse] // 1000 for d in case.demands] == wanted_a


def test_a_grant_names_what_bounds_it() -> None:
    site = site_of([0], [(1, (1,)), (1, (2,)), (0, (0,))])
    one, two, three = site.evses
    demands = (
        seat(0),
        seat(1)._replace(cap_ma=10_000, cap_why="operator limit"),
        seat(2)._replace(cap_ma=0, cap_why="no session"),
    )
    room = {(c, p): 100_000 for c in site.circuits for p in range(3)} | {(CircuitId("c1"), 1): 12_000}
    grants = granted(Case(site, demands, room))
    assert grants == {
        one: Grant(one, 12_000, "circuit c1 L2"),
        two: Grant(two, 10_000, "operator limit"),
        three: Grant(three, 0, "no session"),
    }


# --- cost -------------------------------------------------------------------------------------------------------------


def lines_run(work: Callable[[], object]) -> int:
    """How many lines of Python a call runs: a cost that no other process can disturb."""
    count = 0

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def depot_case(evses: int, step_ma: int) -> Case:
    """A full depot: four sub-boards, mixed single- and three-phase cars, every one with another cap."""
    site = site_of([0, 0, 0, 0], [(1 + n % 4, (n % 3,) if n % 3 else (0, 1, 2)) for n in range(evses)])
    demands = tuple(
        seat(n, cap_ma=10_000 + 400 * n, floor_ma=8_000 * (n % 2), tier=n % 3, step_ma=step_ma)
        for n in range(evses)
    )
    share_ma = {circuit: 9_000 if circuit == SITE else 2_500 for circuit in site.circuits}
    return Case(site, demands, {(c, p): share_ma[c] * evses for c in site.circuits for p in range(3)})


@pytest.mark.parametrize("step_ma", [1_000, 1])
def test_cost_grows_no_faster_than_the_square(step_ma: int) -> None:
    """Without steps too: the filling itself must find the shares, not the hand-back, mA by mA."""
    costs = []
    for evses in (25, 50):
        case = depot_case(evses, step_ma)
        costs.append(lines_run(partial(allocate, case.grid, case.demands, case.room_ma())))
    assert costs[1] <= 4 * costs[0]
    assert costs[1] < 30_000
