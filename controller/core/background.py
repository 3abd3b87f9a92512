"""Background load: what flows through a metered circuit that is not ours, and what to assume when the meter is silent.

The difference "meter minus our EVSEs" is never exact: stations report every few seconds, meters every second, and a
vehicle may change its draw in between. So each reading gives only bounds,

    meter - sum(what each EVSE may draw now)  <=  background  <=  meter - sum(least it drew of late)

and the estimate stays where it was unless the bounds move it. Two rules keep doubt on the safe side: an upper bound
that has stood for longer than every station needs to report is believed, and a meter above its limit makes
all of the doubt background at once.

Two peaks of the estimate are handed out: over 3 s for lowering, over 30 s for raising (a raise must not be undone
by the next ripple). Ageing follows DESIGN section 5.3.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import IntEnum

from controller.core.model import Circuit, PerPhase, each_phase

FAST_S = 3.0
SLOW_S = 30.0
EVIDENCE_S = 12.0  # longer than the slowest ordinary sample interval (10 s)
HOLD_S = 3.0  # a reading up to this age is as good as new
RAMP_END_S = 30.0
BLIND_S = 60.0
GOOD_AGAIN = 10  # readings in a row before a blind circuit is believed again
RECENT_MARGIN_PCT = 10
NONE_MA = each_phase(0)


class Sight(IntEnum):
    """How well we see a circuit. Higher is worse."""

    CLEAR = 0
    HOLD = 1  # no raises
    RAMP = 2  # background ramps to the worst case
    BLIND = 3  # every EVSE below at its fallback


@dataclass(frozen=True, slots=True)
class Bounds:
    """Per phase what our EVSEs below a circuit drew at least, and may draw at most, right now (mA)."""

    least_ma: PerPhase[int]
    most_ma: PerPhase[int]
    unseen_ma: PerPhase[int] = NONE_MA  # of the least: what was told to go and no sample shows yet


@dataclass(frozen=True, slots=True)
class Assumed:
    """Background to budget with: `lower_ma` decides what must come down, `raise_ma` what may go up."""

    lower_ma: PerPhase[int]
    raise_ma: PerPhase[int]
    sight: Sight


@dataclass(slots=True)
class _PhaseTrack:
    estimate_ma: int | None = None
    estimates: deque[tuple[float, int]] = field(default_factory=deque)
    uppers: deque[tuple[float, int]] = field(default_factory=deque)

    def fold(self, now_s: float, total_ma: int, bounds: Bounds, phase: int, limit_ma: int) -> None:
        upper, lower = total_ma - bounds.least_ma[phase], total_ma - bounds.most_ma[phase]
        surely = upper + bounds.unseen_ma[phase]
        self.uppers.append((now_s, surely))
        while self.uppers[0][0] < now_s - EVIDENCE_S:
            self.uppers.popleft()
        if self.estimate_ma is None or total_ma > limit_ma:
            estimate = upper
        else:
            believed = min(value for _, value in self.uppers)
            estimate = max(lower, believed, min(self.estimate_ma, surely))
        self.estimate_ma = estimate
        self.estimates.append((now_s, estimate))
        while self.estimates[0][0] < now_s - SLOW_S:
            self.estimates.popleft()

    def peak(self, now_s: float, window_s: float) -> int:
        inside = [value for at, value in self.estimates if at >= now_s - window_s]
        return max(inside, default=self.estimate_ma or 0)


class Background:
    """Tracks one metered circuit. Not thread-safe; all times are `Moment.mono_s`."""

    def __init__(self, circuit: Circuit, stale_after_s: float) -> None:
        self._circuit = circuit
        self._stale_after_s = max(stale_after_s, HOLD_S)
        self._tracks = (_PhaseTrack(), _PhaseTrack(), _PhaseTrack())
        self._last_s: float | None = None
        self._good = 0
        self._blind = True  # until the first readings prove otherwise
        self.was_clear = False

    def fold(self, taken_s: float, current_ma: PerPhase[int | None], bounds: Bounds) -> None:
        """One reading. A reading with a phase missing is no reading."""
        if any(value is None for value in current_ma) or (
            self._last_s is not None and taken_s <= self._last_s
        ):
            return
        if self._last_s is not None and taken_s - self._last_s > self._stale_after_s:
            self._good = 0
        self._last_s = taken_s
        self._good += 1
        if self._good >= GOOD_AGAIN:
            self._blind, self.was_clear = False, True
        for phase, track in enumerate(self._tracks):
            total = current_ma[phase]
            assert total is not None
            track.fold(taken_s, total, bounds, phase, self._circuit.limit_ma[phase])

    @property
    def good(self) -> int:
        """Good readings in a row."""
        return self._good

    def age_s(self, now_s: float) -> float | None:
        return None if self._last_s is None else now_s - self._last_s

    def estimate_ma(self) -> PerPhase[int | None]:
        """The present estimate, for people."""
        first, second, third = (track.estimate_ma for track in self._tracks)
        return PerPhase(first, second, third)

    def least_ma(self, now_s: float) -> PerPhase[int]:
        """The lowest estimate of the last half minute; 0 where there is none."""
        first, second, third = (
            min(
                (value for at, value in track.estimates if at >= now_s - SLOW_S),
                default=track.estimate_ma or 0,
            )
            for track in self._tracks
        )
        return PerPhase(first, second, third)

    def assumed(self, now_s: float) -> Assumed:
        """What to budget with now. Going blind is remembered here, so call it every step."""
        age = self.age_s(now_s)
        worst = self._circuit.assumed_load_ma
        if age is None or age > BLIND_S or (worst is None and age > self._stale_after_s):
            self._blind, self._good = True, 0
        if age is None:
            base = self._circuit.limit_ma if worst is None else worst
            return Assumed(base, base, Sight.BLIND)
        lower, raising = [], []
        for phase, track in enumerate(self._tracks):
            fast, slow = track.peak(now_s, FAST_S), track.peak(now_s, SLOW_S)
            limit = self._circuit.limit_ma[phase] if worst is None else worst[phase]
            if age > HOLD_S:
                # silence makes the last window the newest knowledge there is: nothing in it may fall out by ageing
                last = max((value for _, value in track.estimates), default=track.estimate_ma or 0)
                fast = slow = self._ramped(age, max(slow, last), limit)
            lower.append(fast)
            raising.append(slow)
        sight = Sight.CLEAR if age <= HOLD_S else Sight.HOLD if age <= self._stale_after_s else Sight.RAMP
        if self._blind:
            sight = Sight.BLIND
        return Assumed(PerPhase(*lower), PerPhase(*raising), sight)

    def _ramped(self, age_s: float, peak_ma: int, worst_ma: int) -> int:
        if age_s <= self._stale_after_s:
            return peak_ma
        goal = max(peak_ma, peak_ma + peak_ma * RECENT_MARGIN_PCT // 100, worst_ma)
        share = min(1.0, (age_s - self._stale_after_s) / max(1e-9, RAMP_END_S - self._stale_after_s))
        return peak_ma + int((goal - peak_ma) * share) + 1
