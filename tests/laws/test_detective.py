"""The phase detective finds how an EVSE is wired, is not fooled by neighbours and ripples, and applies nothing."""

from __future__ import annotations

from random import Random

import pytest
from yard import Yard, a_site, an_evse

from controller.core.model import EvseId
from controller.core.snapshot import EvseView

ONE = EvseId("s0/1")


def ripple(seed: int, most_ma: int = 800) -> list[tuple[int, int, int]]:
    random = Random(seed)
    return [
        (
            20_000 + random.randrange(most_ma),
            15_000 + random.randrange(most_ma),
            10_000 + random.randrange(most_ma),
        )
        for _ in range(5000)
    ]


def a_yard(configured: tuple[int, ...], known: bool, others: int = 0, seed: int = 1) -> Yard:
    evses = [an_evse(0, configured, rotation_known=known)] + [an_evse(n + 1) for n in range(others)]
    loads = ripple(seed)
    return Yard(a_site(evses), lambda second: loads[second % len(loads)])


def come_and_go(yard: Yard, times: int, *caps_ma: int, wired: tuple[int, ...]) -> None:
    """Each stay is a step up and a step down."""
    for _ in range(times):
        yard.plug(0, *caps_ma, wired=wired)
        list(yard.run(60))
        yard.vehicles[ONE].cap_ma = (0,) * len(caps_ma)  # full, and still there
        list(yard.run(30))
        yard.unplug(0)
        list(yard.run(30))


def seen(yard: Yard) -> EvseView:
    assert yard.decision is not None
    return next(view for view in yard.decision.snapshot.evses if view.id == ONE)


@pytest.mark.parametrize("wired", [(0, 1, 2), (1, 2, 0), (2, 0, 1)])
def test_a_single_phase_vehicle_shows_the_first_conductor(wired: tuple[int, ...]) -> None:
    yard = a_yard((0, 1, 2), known=False)
    come_and_go(yard, 3, 16_000, 0, 0, wired=wired)
    rotation = seen(yard).rotation
    assert rotation is not None
    assert (rotation.likely, rotation.seen >= 3) == (wired, True)
    assert 0.7 < rotation.confidence < 0.9, "the order of the other two is only usual"


@pytest.mark.parametrize("wired", [(0, 2, 1), (1, 2, 0), (2, 1, 0)])
def test_unequal_phases_show_the_whole_rotation(wired: tuple[int, ...]) -> None:
    yard = a_yard((0, 1, 2), known=False)
    come_and_go(yard, 4, 28_000, 16_000, 6_000, wired=wired)
    rotation = seen(yard).rotation
    assert rotation is not None and rotation.likely == wired and rotation.confidence > 0.95


def test_three_phases_alike_tell_nothing() -> None:
    yard = a_yard((0, 1, 2), known=False)
    come_and_go(yard, 3, 16_000, 16_000, 16_000, wired=(1, 2, 0))
    assert seen(yard).rotation is None


def test_a_config_that_contradicts_the_meter_is_told_and_nothing_changes() -> None:
    yard = a_yard((0,), known=True)
    come_and_go(yard, 4, 20_000, wired=(2,))
    assert yard.decision is not None
    [alarm] = [alarm for alarm in yard.decision.snapshot.alarms if alarm.kind == "rotation"]
    assert (alarm.source, alarm.priority) == (ONE, 3)
    assert alarm.text.startswith("wired to L3, it seems (100 %,")
    assert seen(yard).phases == (0,), "shown, never applied"


def test_a_config_that_is_right_makes_no_alarm() -> None:
    yard = a_yard((1,), known=True)
    come_and_go(yard, 4, 20_000, wired=(1,))
    assert yard.decision is not None
    rotation = seen(yard).rotation
    assert rotation is not None and rotation.likely == (1,) and rotation.confidence > 0.99
    assert not any(alarm.kind == "rotation" for alarm in yard.decision.snapshot.alarms)


@pytest.mark.parametrize("seed", range(5))
def test_neighbours_that_move_along_do_not_fool_it(seed: int) -> None:
    """A neighbour on L2 follows whenever ours moves: such moments are no evidence."""
    random = Random(seed)
    evses = [an_evse(0, (0,)), an_evse(1, (1,))]
    loads = ripple(seed)
    yard = Yard(a_site(evses), lambda second: loads[second % len(loads)])
    yard.plug(1)
    for _ in range(8):
        yard.vehicles[EvseId("s1/1")].cap_ma = (6_000,)
        yard.plug(0, 16_000)
        list(yard.run(40 + random.randrange(9)))
        yard.vehicles[EvseId("s1/1")].cap_ma = (22_000,)
        yard.unplug(0)
        list(yard.run(40 + random.randrange(9)))
    rotation = seen(yard).rotation
    assert rotation is None or rotation.likely == (0,)


def test_an_unknown_rotation_counts_on_every_phase() -> None:
    """And what such an EVSE measures on one conductor is taken off no phase of the meter, but for the highest bound."""
    yard = Yard(a_site([an_evse(0, rotation_known=False), an_evse(1)], limit_ma=40_000))
    yard.plug(0, 16_000, 0, 0, wired=(1, 2, 0))
    yard.plug(1)
    list(yard.run(120))
    assert seen(yard).phases is None
    assert len(set(seen(yard).measured_ma)) == 1 and (seen(yard).measured_ma.l1 or 0) > 6_000
    assert max(yard.flows_ma()) <= 40_000
    grants = yard.grants_ma()
    assert sum(grant or 0 for grant in grants.values()) <= 40_000
