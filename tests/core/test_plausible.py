"""What speaks against a meter: from its own values, and from the steps of our own EVSEs."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise

import pytest

from controller.core.model import PerPhase
from controller.core.plausible import Fault, Step, doubts
from drivers.modbus import plausible
from drivers.modbus.plausible import BELIEVED_AFTER_S, Continuity
from drivers.modbus.registers import Measured

Show = Callable[[list[int]], list[int]]
SINGLE = [(16, 0, 0), (0, 0, 0), (0, 16, 0), (0, 0, 0), (0, 0, 16), (0, 0, 0)] * 6


def steps(own_a: list[tuple[int, int, int]], show: Show, noise_ma: int = 0, seed: int = 1) -> list[Step]:
    """What a meter above EVSEs that draw this makes of it, next to 20 A of others."""
    chance = random.Random(seed)
    made = []
    for amps in own_a:
        own = [1000 * one for one in amps]
        true = [one + 20_000 + chance.randint(-noise_ma, noise_ma) for one in own]
        made.append((own, show(true)))
    return [
        Step(
            *(
                PerPhase(*(new - old for new, old in zip(*pair, strict=True)))
                for pair in zip(two, one, strict=True)
            )
        )
        for one, two in pairwise(made)
    ]


@pytest.mark.parametrize("seed", range(20))
def test_a_good_meter_is_not_blamed_for_what_others_draw(seed: int) -> None:
    assert doubts(steps(SINGLE, lambda true: true, noise_ma=4000, seed=seed)) == ()


@pytest.mark.parametrize(
    ("show", "fault", "phases"),
    [
        (lambda true: [-one for one in true], Fault.REVERSED, (0, 1, 2)),
        (lambda true: [true[0], -true[1], true[2]], Fault.REVERSED, (1,)),
        (lambda true: [10 * one for one in true], Fault.TENFOLD, (0, 1, 2)),
        (lambda true: [one // 10 for one in true], Fault.TENTH, (0, 1, 2)),
        (lambda true: [12_345, 12_345, 12_345], Fault.FROZEN, (0, 1, 2)),
        (lambda true: [true[1], true[0], true[2]], Fault.SWAPPED, (1, 0, 2)),
        (lambda true: [true[2], true[0], true[1]], Fault.SWAPPED, (1, 2, 0)),
    ],
)
def test_steps_of_our_own_find_what_is_wrong(show: Show, fault: Fault, phases: tuple[int, ...]) -> None:
    [doubt] = doubts(steps(SINGLE, show, noise_ma=1000))
    assert (doubt.fault, doubt.phases) == (fault, phases)
    assert doubt.text


def test_three_phase_steps_find_everything_but_swapped_phases() -> None:
    together = [(16, 16, 16), (0, 0, 0)] * 5
    assert doubts(steps(together, lambda true: [true[1], true[0], true[2]])) == ()
    [doubt] = doubts(steps(together, lambda true: [-one for one in true]))
    assert doubt.fault is Fault.REVERSED


def test_without_steps_there_is_no_verdict() -> None:
    steady = [(16, 16, 16)] * 50
    assert doubts(steps(steady, lambda true: [-one for one in true], noise_ma=5000)) == ()
    assert doubts([]) == ()
    assert doubts(steps(SINGLE[:3], lambda true: [0, 0, 0])) == ()


# --- from the meter alone -----------------------------------------------------------------------------------------


def measured(factors: tuple[float, float, float], amps: float = 20.0) -> Measured:
    watts = tuple(230.0 * amps * one for one in factors)
    signed = tuple(amps if one > 0 else -amps for one in factors)
    return Measured(voltage_v=(230.0,) * 3, current_a=signed, power_w=watts, total_power_w=sum(watts))


def test_an_ordinary_load_raises_no_doubt() -> None:
    assert plausible.doubts(measured((0.98, 0.95, 1.0))) == ()
    assert plausible.doubts(measured((-0.98, -0.95, 1.0), amps=2.0)) == ()  # too little to tell


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (measured((1.5, 1.0, 1.0)), "L1 shows 6900 W, more than 230 V and 20.0 A can be"),
        (measured((-0.5, -0.5, -0.5)), "power factor near 0.5"),
        (measured((0.98, 0.98, -0.97)), "L3 feeds back while others draw"),
        (measured((-0.98, -0.97, -0.97)), "invert = true"),
        (
            Measured(power_w=(100.0, 200.0, 300.0), total_power_w=6000.0, current_a=(1.0,)),
            "not the sum of the phases",
        ),
        (Measured(voltage_v=(230.0, 0.0, 230.0), current_a=(1.0,)), "L2 has no voltage"),
        (Measured(total_power_w=5.0), "tells no currents"),
    ],
)
def test_what_looks_wrong_is_said(values: Measured, said: str) -> None:
    assert any(said in doubt for doubt in plausible.doubts(values))


LOAD = PerPhase[int | None](20_000, 15_000, 9_000)


def scaled(factor: float) -> PerPhase[int | None]:
    return PerPhase(*(None if one is None else round(one * factor) for one in LOAD))


@pytest.mark.parametrize(
    ("factor", "said"), [(-1.0, "has turned round"), (-1.01, "turned round"), (0.1, "is a tenth")]
)
def test_a_load_that_turns_into_less_on_every_phase_at_once_is_not_believed_for_a_minute(
    factor: float, said: str
) -> None:
    watch = Continuity()
    assert watch.objection(LOAD, 0.0) is None
    for second in (1.0, 30.0, 1.0 + BELIEVED_AFTER_S):
        assert said in (watch.objection(scaled(factor), second) or "")
    assert watch.objection(scaled(factor), 2.0 + BELIEVED_AFTER_S) is None
    assert watch.objection(scaled(factor), 3.0 + BELIEVED_AFTER_S) is None


@pytest.mark.parametrize(
    "after",
    [
        scaled(10.0),  # more load than there is harms no fuse
        scaled(-0.5),
        scaled(0.5),
        PerPhase(-20_000, 15_000, 9_000),
        PerPhase(None, -15_000, -9_000),
        PerPhase(0, 0, 0),
    ],
)
def test_other_changes_are_believed(after: PerPhase[int | None]) -> None:
    watch = Continuity()
    watch.objection(LOAD, 0.0)
    assert watch.objection(after, 1.0) is None


def test_a_single_mirrored_reading_is_forgotten() -> None:
    watch = Continuity()
    watch.objection(LOAD, 0.0)
    assert watch.objection(scaled(-1.0), 1.0)
    assert watch.objection(LOAD, 2.0) is None
    assert watch.objection(scaled(-1.0), 100.0)


def test_feed_in_that_turns_into_load_is_believed() -> None:
    watch = Continuity()
    watch.objection(scaled(-1.0), 0.0)
    assert watch.objection(LOAD, 1.0) is None
