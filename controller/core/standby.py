"""What a station is to do of the plan while we are gone: a few limits, one after the other, with an end.

Owns the value and its arithmetic: what it says at a moment, when two differ enough to be told, how it is cut to the few
periods a station can hold. Cutting only ever takes the higher of two limits, so that nobody gets less than was planned;
the highest is the fallback, so that is no more than what is kept for it anyway. Must not know plans or stations.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

MATERIAL_MA = 1000
MATERIAL_S = 900.0  # a difference has to last a quarter of an hour


@dataclass(frozen=True, slots=True)
class StandbyStep:
    """At most so much per phase from `start` on, until the next one begins."""

    start: datetime
    limit_ma: int


@dataclass(frozen=True, slots=True)
class Standby:
    """In order of time, at least one. From `until` on the fallback rules alone."""

    steps: tuple[StandbyStep, ...]
    until: datetime

    def limit_ma(self, at: datetime) -> int | None:
        """None: the fallback rules. Before the first step that one holds: the station's clock may be behind."""
        if at >= self.until:
            return None
        begun = [step for step in self.steps if step.start <= at]
        return (begun[-1] if begun else self.steps[0]).limit_ma


def remaining(standby: Standby, now: datetime) -> tuple[StandbyStep, ...]:
    """What is left of it, the first step beginning now; nothing once it is over."""
    limit_ma = standby.limit_ma(now)
    if limit_ma is None:
        return ()
    return (StandbyStep(now, limit_ma), *(step for step in standby.steps if step.start > now))


def differ(one: Standby, other: Standby, fallback_ma: int, now: datetime) -> bool:
    """Whether some 15 minutes ahead are worth telling the station of."""
    edges = {now, one.until, other.until, *(step.start for step in (*one.steps, *other.steps))}
    ahead = sorted(edge for edge in edges if edge >= now)
    apart_s = 0.0
    for start, end in pairwise(ahead):
        limits_ma = [each.limit_ma(start) for each in (one, other)]
        first_ma, second_ma = (fallback_ma if each is None else each for each in limits_ma)
        if abs(first_ma - second_ma) >= MATERIAL_MA:
            apart_s += (end - start).total_seconds()
    return apart_s >= MATERIAL_S


def joined(steps: Iterable[StandbyStep]) -> list[StandbyStep]:
    """Without steps that change nothing."""
    kept: list[StandbyStep] = []
    for step in steps:
        if not kept or kept[-1].limit_ma != step.limit_ma:
            kept.append(step)
    return kept


def fitted(steps: Sequence[StandbyStep], until: datetime, most: int) -> tuple[StandbyStep, ...]:
    """No more steps than `most` (at least 1): those neighbours become one, at the higher limit, that add least by it."""
    kept = joined(steps)
    if not kept:
        return ()
    ends = [*(step.start for step in kept[1:]), until]
    seconds = [(end - step.start).total_seconds() for step, end in zip(kept, ends, strict=True)]
    limits_ma = [step.limit_ma for step in kept]
    starts = [step.start for step in kept]
    while len(starts) > max(1, most):
        added = [
            abs(one_ma - two_ma) * (one_s if one_ma < two_ma else two_s)
            for (one_ma, one_s), (two_ma, two_s) in pairwise(zip(limits_ma, seconds, strict=True))
        ]
        at = added.index(min(added))
        limits_ma[at] = max(limits_ma[at], limits_ma.pop(at + 1))
        seconds[at] += seconds.pop(at + 1)
        del starts[at + 1]
    return tuple(joined(map(StandbyStep, starts, limits_ma)))
