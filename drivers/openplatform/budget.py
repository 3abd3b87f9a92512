"""How many requests per minute we may spend, and who goes first when they are scarce.

Owns one token bucket per class of request (G-22: nine tenths of it evenly, a tenth at once), with 30 % of the published
limit left unused. A stop may dip into that. Must not sleep or send: the caller asks how long to wait.
Times are monotonic seconds of the site's clock. Source: Open Platform REFERENCE section 6, GAPS G-22.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from controller.core.readings import Readings

_MINUTE_S = 60.0
_EPSILON = 1e-9  # sums of floats: a token that is there but for this is there


class Kind(Enum):
    GET = "get"
    CONTROL = "control"
    TOKEN = "token"


@dataclass(slots=True)
class _Bucket:
    rate_per_s: float
    burst: float
    level: float
    filled_s: float = float("-inf")
    shut_until_s: float = float("-inf")

    def at(self, now_s: float) -> float:
        """Tokens in the bucket at this time; 0 while the platform told us to wait."""
        if now_s < self.shut_until_s:
            return 0.0
        if self.filled_s == float("-inf"):
            return self.level
        return min(self.burst, self.level + max(0.0, now_s - self.filled_s) * self.rate_per_s)

    def spend(self, now_s: float) -> None:
        self.level, self.filled_s = self.at(now_s) - 1.0, now_s

    def wait_s(self, now_s: float) -> float:
        shut_s = max(0.0, self.shut_until_s - now_s)
        missing = 1.0 - _EPSILON - self.at(now_s + shut_s)
        return shut_s + max(0.0, missing / self.rate_per_s)


class Budget:
    """`take` spends one request or says no; `wait_s` says how long until it would say yes."""

    def __init__(self, readings: Readings) -> None:
        limits = {
            Kind.GET: readings.gets_per_min,
            Kind.CONTROL: readings.controls_per_min,
            Kind.TOKEN: readings.tokens_per_min,
        }
        burst_share = readings.burst_share
        self._plain = {
            kind: _bucket(limit, 1.0 - readings.headroom, burst_share) for kind, limit in limits.items()
        }
        # a third of the head-room for stops: with both bursts spent, a minute still ends within the printed limit
        self._urgent = _bucket(readings.controls_per_min, readings.headroom / 3, burst_share)

    def wait_s(self, kind: Kind, now_s: float, urgent: bool = False) -> float:
        waits = [bucket.wait_s(now_s) for bucket in self._buckets(kind, urgent)]
        return min(waits)

    def take(self, kind: Kind, now_s: float, urgent: bool = False) -> bool:
        for bucket in self._buckets(kind, urgent):
            if bucket.at(now_s) >= 1.0 - _EPSILON:
                bucket.spend(now_s)
                return True
        return False

    def affords(self, kind: Kind, now_s: float, within_s: float) -> int:
        """How many requests of this class could leave within the next seconds."""
        bucket = self._plain[kind]
        if now_s < bucket.shut_until_s:
            return 0
        return int(bucket.at(now_s) + within_s * bucket.rate_per_s + _EPSILON)

    def shut(self, kind: Kind, until_s: float) -> None:
        """The platform said too many requests: nothing of this class until then, stops neither."""
        for bucket in self._buckets(kind, urgent=True):
            bucket.shut_until_s = max(bucket.shut_until_s, until_s)

    def _buckets(self, kind: Kind, urgent: bool) -> tuple[_Bucket, ...]:
        plain = self._plain[kind]
        return (plain, self._urgent) if urgent and kind is Kind.CONTROL else (plain,)


def _bucket(per_min: int, share: float, burst_share: float) -> _Bucket:
    burst = max(1.0, per_min * burst_share)
    return _Bucket(rate_per_s=per_min * share / _MINUTE_S, burst=burst, level=burst)
