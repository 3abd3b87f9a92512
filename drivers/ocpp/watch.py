"""Whether an EVSE did what it said yes to: spikes after a write, limits that were not applied, vehicles that do not wake.

Owns the last limit each EVSE accepted on this connection and the judgement of its samples against it. Must not send
anything: what follows from a judgement is `delivery`'s. Source: field notes section 2, rows 21, 22, 27 and 38.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto

from controller.core.model import EvseId, EvseState, PerPhase

OVER_MA = 1_000  # meter class and ripple
FOLLOW_S = 10.0  # a vehicle may take 5 s to follow a lower limit, a station some more
SPIKE_S = 20.0  # later than this it is no spike of the write
UNAPPLIED_S = 30.0
SPIKES = 3  # writes with one, until they are believed to be a habit


class Judgement(Enum):
    FINE = auto()  # within the limit, after it had time to do otherwise
    EARLY = auto()  # within the limit, but nothing is proven yet
    HIGH = auto()  # above it
    UNAPPLIED = auto()  # above it for so long that the limit was not applied; told once per limit
    SPIKES = auto()  # it went up and came down again after so many limits that it is a habit; told once


@dataclass(slots=True)
class Accepted:
    """limit_ma: what it follows; before_ma: what it followed until then, None if nobody knows. phases: as commanded."""

    limit_ma: int
    before_ma: int | None
    at_s: float
    until_s: float
    transaction: str | None
    high: bool = False
    told: bool = False
    phases: int | None = None


@dataclass(slots=True)
class Watch:
    accepted: dict[EvseId, Accepted] = field(default_factory=dict)
    states: dict[EvseId, EvseState] = field(default_factory=dict)
    spikes: dict[EvseId, int] = field(default_factory=dict)

    def note(
        self,
        evse: EvseId,
        limit_ma: int,
        now_s: float,
        lease_s: float,
        transaction: str | None,
        phases: int | None = None,
    ) -> None:
        before = self.accepted.get(evse)
        known_ma = before.limit_ma if before is not None and before.until_s > now_s else None
        self.accepted[evse] = Accepted(limit_ma, known_ma, now_s, now_s + lease_s, transaction, phases=phases)

    def limit_ma(self, evse: EvseId, now_s: float) -> int | None:
        """What it surely follows now."""
        held = self.accepted.get(evse)
        return held.limit_ma if held is not None and held.until_s > now_s else None

    def forget(self, evse: EvseId) -> None:
        self.accepted.pop(evse, None)

    def judge(self, evse: EvseId, current_ma: PerPhase[int | None], now_s: float) -> Judgement | None:
        """None where there is nothing to judge by."""
        held = self.accepted.get(evse)
        highest = max((each for each in current_ma if each is not None), default=None)
        if held is None or highest is None or held.until_s <= now_s:
            return None
        age_s = now_s - held.at_s
        may_ma = held.limit_ma
        if age_s < FOLLOW_S:
            if held.before_ma is None:
                return None
            may_ma = max(may_ma, held.before_ma)
        if highest > may_ma + OVER_MA:
            held.high = held.high or age_s <= SPIKE_S
            if age_s > UNAPPLIED_S and not held.told:
                held.told = True
                return Judgement.UNAPPLIED
            return Judgement.HIGH
        if held.high:
            held.high = False
            self.spikes[evse] = self.spikes.get(evse, 0) + 1
            if self.spikes[evse] == SPIKES:
                return Judgement.SPIKES
        return Judgement.FINE if age_s >= FOLLOW_S else Judgement.EARLY
