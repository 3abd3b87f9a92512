"""The physics of a simulated battery: it follows its set-point while that holds, between empty and full.

Owns what it holds. Losses are taken where the program takes them, half on each way. Knows nothing of plans.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from controller.core.model import Battery

BEGINS_PCT = 50
ROUND_TRIP = 0.90
UNKNOWN_H = 2.0  # at full power: what a battery holds whose capacity nobody told


@dataclass(slots=True)
class Store:
    """`moved_kwh`: what has gone into it less what came out, at its terminals."""

    battery: Battery
    capacity_kwh: float = field(init=False)
    stored_kwh: float = field(init=False)
    moved_kwh: float = 0.0
    flowed_kw: float = 0.0  # on average, in the newest stretch of time
    _told_kw: float = 0.0
    _until_s: float = float("-inf")

    def __post_init__(self) -> None:
        told_wh = self.battery.capacity_wh
        self.capacity_kwh = self.battery.charge_w / 1000 * UNKNOWN_H if told_wh is None else told_wh / 1000
        self.stored_kwh = self.capacity_kwh * BEGINS_PCT / 100

    @property
    def soc_pct(self) -> int:
        return round(100 * self.stored_kwh / self.capacity_kwh)

    def set_point(self, power_w: int, lease_s: float, now_s: float) -> None:
        self._told_kw, self._until_s = power_w / 1000, now_s + lease_s

    def power_kw(self, now_s: float) -> float:
        """What flows now, charging positive."""
        kw = self._told_kw if now_s < self._until_s else 0.0
        if (kw > 0 and self.stored_kwh >= self.capacity_kwh) or (kw < 0 and self.stored_kwh <= 0):
            return 0.0
        return kw

    def flow(self, now_s: float, seconds: float) -> float:
        """What it takes in these seconds, in kWh."""
        kw, way = self.power_kw(now_s), math.sqrt(ROUND_TRIP)
        kwh = kw * min(seconds, max(0.0, self._until_s - now_s)) / 3600
        kwh = max(-self.stored_kwh * way, min(kwh, (self.capacity_kwh - self.stored_kwh) / way))
        self.stored_kwh += kwh * way if kwh > 0 else kwh / way
        self.moved_kwh += kwh
        self.flowed_kw = kwh * 3600 / seconds if seconds > 0 else 0.0
        return kwh
