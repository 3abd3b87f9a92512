"""The sun on a simulated roof: a clear day's curve with clouds, by the seed.

A pure function of the time of day and the seconds that have passed. It knows no place and no season: always six to eight.
"""

from __future__ import annotations

import math
from random import Random

RISE_S, SET_S = 6 * 3600.0, 20 * 3600.0
CLOUD_S = 120.0  # a cloud comes or goes about so often; between them it is interpolated
DARKEST = 0.35  # of a clear sky
TABLE = 1021


class Sunshine:
    """Called with the elapsed seconds; returns watts, never below 0 and never above `peak_w`. `starts_at_s`: time of day
    (seconds) at elapsed time 0."""

    def __init__(self, seed: int, peak_w: float, starts_at_s: float) -> None:
        rng = Random(f"sun {seed}")
        self.peak_w = peak_w
        self._starts_at_s = starts_at_s
        self._sky = [rng.choice((1.0, 1.0, rng.uniform(DARKEST, 1.0))) for _ in range(TABLE)]

    def __call__(self, elapsed_s: float) -> float:
        day_s = (elapsed_s + self._starts_at_s) % 86_400.0
        if not RISE_S < day_s < SET_S:
            return 0.0
        clear = math.sin(math.pi * (day_s - RISE_S) / (SET_S - RISE_S))
        at = elapsed_s / CLOUD_S
        index = math.floor(at)
        low, high = self._sky[index % TABLE], self._sky[(index + 1) % TABLE]
        return self.peak_w * clear * (low + (high - low) * (at - index))
