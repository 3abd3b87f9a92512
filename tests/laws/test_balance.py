"""Imbalance at the grid connection: never above the contract but for seconds, or where the building alone breaks it; and
no ampere left lying that it allows."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from yard import Yard, a_site, an_evse

SETTLE_S = (
    60  # raises take 10 s each and the load of the last half minute counts; the contract is about minutes
)
D_MA = 20_000
SINGLES = [(0,), (1,), (2,), (0,), (0, 1), (0, 1, 2)]


def spread_ma(flows: Sequence[int]) -> int:
    return max(flows) - min(flows)


def a_yard(
    phases: Sequence[tuple[int, ...]], building: tuple[int, int, int] = (0, 0, 0), metered: bool = True
) -> Yard:
    evses = [an_evse(number, wired) for number, wired in enumerate(phases)]
    return Yard(a_site(evses, metered=metered, max_imbalance_ma=D_MA), lambda second: building)


def settled(yard: Yard, seconds: int = SETTLE_S) -> int:
    """The worst second of the last 20."""
    return max(spread_ma(flows) for flows in list(yard.run(seconds))[-20:])


def test_three_on_one_phase_share_what_the_contract_leaves() -> None:
    yard = a_yard([(0,)] * 3)
    names = [yard.plug(number) for number in range(3)]
    assert settled(yard) <= D_MA
    assert sorted(yard.grants_ma()[name] or 0 for name in names) == [6_000, 7_000, 7_000]
    assert {yard.bound_by(name) for name in names} == {"imbalance L1"}


def test_one_on_each_phase_get_all_they_can_take() -> None:
    """None of them may rise above 20 A before the others draw; then what the others draw counts."""
    yard = a_yard([(0,), (1,), (2,)])
    names = [yard.plug(number) for number in range(3)]
    assert settled(yard, 120) == 0
    assert [yard.grants_ma()[name] for name in names] == [32_000] * 3


def test_who_leaves_takes_the_room_along() -> None:
    yard = a_yard([(0,), (1,), (2,)])
    for number in range(3):
        yard.plug(number)
    settled(yard, 120)
    yard.unplug(2)
    above = [spread_ma(flows) > D_MA for flows in yard.run(60)]
    assert above[0], "the vehicle that left unbalances the others at once"
    assert not any(above[20:])


def test_three_phase_vehicles_do_not_count() -> None:
    yard = a_yard([(0, 1, 2), (2, 0, 1)])
    names = [yard.plug(number) for number in range(2)]
    assert settled(yard) == 0
    assert [yard.grants_ma()[name] for name in names] == [32_000] * 2


def test_a_single_phase_vehicle_at_a_three_phase_station_counts_once_it_is_known() -> None:
    yard = a_yard([(0, 1, 2)])
    name = yard.plug(0, 32_000, 0, 0)
    assert settled(yard, 30) == 32_000
    assert settled(yard, 120) <= D_MA
    assert yard.bound_by(name) == "imbalance L1"


def test_the_building_counts_and_where_it_breaks_the_contract_we_add_nothing() -> None:
    yard = a_yard([(0,), (1,)], building=(15_000, 0, 0))
    one, two = yard.plug(0), yard.plug(1)
    assert settled(yard, 120) <= D_MA
    assert yard.grants_ma()[one] == 0 and yard.grants_ma()[two] == 20_000
    worse = a_yard([(0,), (1,)], building=(40_000, 0, 0))
    one, two = worse.plug(0), worse.plug(1)
    assert settled(worse, 120) == 40_000, "not worse than the building alone"
    assert worse.grants_ma()[one] == 0 and (worse.grants_ma()[two] or 0) > 0


def test_without_a_meter_our_own_part_is_kept() -> None:
    yard = a_yard([(0,), (0,)], metered=False)
    for number in range(2):
        yard.plug(number)
    assert settled(yard) <= D_MA


def test_without_the_limit_nothing_is_held_back() -> None:
    evses = [an_evse(number, (0,)) for number in range(3)]
    yard = Yard(a_site(evses))
    for number in range(3):
        yard.plug(number)
    assert settled(yard) == 96_000


@pytest.mark.parametrize("step_a", [-12, 25])
def test_a_building_that_jumps_is_followed(step_a: int) -> None:
    evses = [an_evse(number, (0,)) for number in range(2)]
    yard = Yard(
        a_site(evses, max_imbalance_ma=D_MA),
        lambda second: (max(0, step_a * 1000), 0, 0) if second > 90 else (12_000, 0, 0),
    )
    for number in range(2):
        yard.plug(number)
    settled(yard, 90)
    most = max(D_MA, step_a * 1000)
    assert settled(yard, 60) <= most


@settings(derandomize=True, max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(SINGLES), st.integers(6, 32), st.booleans()), min_size=1, max_size=6),
    st.tuples(st.integers(0, 30), st.integers(0, 30), st.integers(0, 30)),
)
def test_never_above_unless_the_building_alone_is(
    seats: list[tuple[tuple[int, ...], int, bool]], building_a: tuple[int, int, int]
) -> None:
    one, two, three = building_a
    building = (one * 1000, two * 1000, three * 1000)
    yard = a_yard([phases for phases, _, _ in seats], building)
    for number, (phases, cap_a, charges) in enumerate(seats):
        if charges:
            yard.plug(number, *(cap_a * 1000 for _ in phases))
    assert settled(yard, 150) <= max(D_MA, spread_ma(building))
