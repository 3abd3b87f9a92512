"""The load that is not ours: a building with a daily curve, noise and machines that switch on and off.

A pure function of time and seed, so that a run can be repeated and a test can ask for any instant.
"""

from __future__ import annotations

import math
from random import Random

from drivers.sim.evse import Amps

NOISE_S = 20.0  # spacing of the noise points; between them it is interpolated
MACHINE_S = 90.0  # a machine runs or rests for at least this long
TABLE = 1021  # prime, so that phases and times do not repeat together


class Building:
    """`worst_a` per phase is never exceeded. `starts_at_s`: time of day (seconds) at elapsed time 0. `machine`: the
    share of `worst_a` that a machine switches on or off at once.

    Called with the elapsed seconds; returns amps (l1, l2, l3).
    """

    def __init__(self, seed: int, worst_a: Amps, starts_at_s: float = 0.0, machine: float = 0.40) -> None:
        rng = Random(f"building {seed}")
        self._worst_a = worst_a
        self._starts_at_s = starts_at_s
        self._machine = machine
        self._noise = [rng.random() for _ in range(TABLE)]
        # each phase has its share of the building, a little different from the others
        self._share = tuple(rng.uniform(0.85, 1.0) for _ in range(3))

    def __call__(self, elapsed_s: float) -> Amps:
        day = (elapsed_s + self._starts_at_s) % 86400.0 / 86400.0
        curve = (
            0.30 + 0.20 * (1.0 - math.cos(2.0 * math.pi * (day - 0.125))) / 2.0
        )  # low at 03:00, high at 15:00
        return (
            self._load_a(0, elapsed_s, curve),
            self._load_a(1, elapsed_s, curve),
            self._load_a(2, elapsed_s, curve),
        )

    def _load_a(self, phase: int, elapsed_s: float, curve: float) -> float:
        at = elapsed_s / NOISE_S
        index = math.floor(at)
        low, high = self._at(phase, index), self._at(phase, index + 1)
        noise = 0.10 * (low + (high - low) * (at - index))
        machine = self._machine if self._at(phase + 3, math.floor(elapsed_s / MACHINE_S)) > 0.75 else 0.0
        return self._worst_a[phase] * min(1.0, self._share[phase] * (curve + noise + machine))

    def _at(self, lane: int, index: int) -> float:
        return self._noise[(index * 31 + lane * 337) % TABLE]
