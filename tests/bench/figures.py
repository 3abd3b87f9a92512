"""What a bench hands back: numbers with a name, a target and a verdict."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """One number. `target` is the most it may be; None where nothing was promised."""

    name: str
    measured: float
    unit: str
    target: float | None = None

    @property
    def verdict(self) -> str:
        if self.target is None:
            return "-"
        return "ok" if self.measured <= self.target else "MISSED"

    def document(self) -> dict[str, object]:
        return {**asdict(self), "measured": round(self.measured, 4), "verdict": self.verdict}


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that is not below `percent` of all (nearest rank). Raises ValueError without values."""
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]
