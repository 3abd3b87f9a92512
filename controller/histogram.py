"""Counts of durations below fixed bounds, for whoever measures itself; the page of metrics prints them.

Owns only its counts. One thread adds; another may read meanwhile and sees it at most one duration behind.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator


class Histogram:
    """`bounds_s` ascend; what lies above the last one is counted too."""

    def __init__(self, bounds_s: tuple[float, ...]) -> None:
        self._bounds_s = bounds_s
        self._counts = [0] * (len(bounds_s) + 1)
        self._sum_s = 0.0

    def add(self, seconds: float) -> None:
        self._counts[bisect_left(self._bounds_s, seconds)] += 1
        self._sum_s += seconds

    @property
    def sum_s(self) -> float:
        return self._sum_s

    def below(self) -> Iterator[tuple[str, int]]:
        """How many lasted at most so long; the last one, "+Inf", is how many there were."""
        total = 0
        for bound_s, count in zip((*self._bounds_s, None), tuple(self._counts), strict=True):
            total += count
            yield "+Inf" if bound_s is None else f"{bound_s:g}", total
