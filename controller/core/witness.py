"""The witnesses against a meter: our own EVSEs below it. Gathers their steps, and says which readings not to believe.

A meter judged wrong counts as a silent one: its background ages, then its circuit is blind (`background`). Phases that are
swapped are told and no more: whoever wired them knows which side is wrong. Ten readings in a row that the fault cannot
have made end a verdict; so does a restart, after which the steps speak again.

What makes the steps comparable: stations report every few seconds, meters every second, so a step is taken between two
samples of every EVSE and some seconds before, in which a late sample's vehicle may have moved. Only rises count. We lower
because others draw more, so that the two hide each other in what the meter shows (a building that takes 20 A, of which
vehicles give back 10, looks reversed); but we raise only half a minute after others drew less (`background.SLOW_S`),
longer than a step may last here. A meter whose every current is mirrored from one reading to the next, while vehicles
charge, is turned round and needs no steps.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from controller.core.model import Evse, EvseId, MeterId, PerPhase
from controller.core.plausible import LEAST_STEPS, STEP_MA, STILL_MA, Doubt, Fault, Step, doubts

GOOD_AGAIN = 10
SAME_MA = 500  # an EVSE that moved by less stood still
LAG_S = 5.0  # a sample may show what was so long before it
WINDOW_S = 25.0  # shorter than background.SLOW_S, see above
WAIT_S = 12.0  # by then the other EVSEs have reported too (10 s is the ordinary interval)
NEAR_S = 4.0  # the meter has to have spoken so close to both ends of a step
FORGET_S = 60.0
MIRROR_GAP_S = 120.0  # the bus drops a mirrored reading for a minute before it passes it on
MIRROR_LEAST_MA, MIRROR_NEAR_MA, MIRROR_NEAR = 1_000, 1_000, 0.1
MENDS = {
    Fault.REVERSED: "turn the transformers round, or write invert = true (false, where it stands)",
    Fault.TENFOLD: "look at the transformers and at ct_ratio",
    Fault.TENTH: "look at the transformers and at ct_ratio",
    Fault.FROZEN: "look at the transformers, their wires and the meter",
    Fault.SWAPPED: "look at the wiring of the meter, and at phases in [meter] and [station]",
}

Sampled = deque[tuple[float, PerPhase[int]]]


class Draws:
    """What every EVSE drew in the last minute, on the phases of the grid."""

    def __init__(self, evses: Sequence[EvseId]) -> None:
        self._of: dict[EvseId, Sampled] = {evse: deque() for evse in evses}

    def add(self, evse: EvseId, at_s: float, current_ma: PerPhase[int]) -> tuple[float, int] | None:
        """When the sample before was, and by how much the highest phase rose since."""
        seen = self._of[evse]
        before = seen[-1] if seen else None
        if before is not None and at_s <= before[0]:
            return None
        seen.append((at_s, current_ma))
        while len(seen) > 2 and seen[1][0] < at_s - FORGET_S:
            seen.popleft()
        if before is None:
            return None
        return before[0], max(new - old for new, old in zip(current_ma, before[1], strict=True))

    def forget(self, evse: EvseId) -> None:
        self._of[evse].clear()

    def at(self, evse: EvseId, at_s: float) -> tuple[float, PerPhase[int]] | None:
        """The last sample until then."""
        return next((one for one in reversed(self._of[evse]) if one[0] <= at_s), None)

    def since(self, evse: EvseId, at_s: float) -> tuple[float, PerPhase[int]] | None:
        """The first sample from then on."""
        return next((one for one in self._of[evse] if one[0] >= at_s), None)

    def sum_ma(self, evses: Sequence[EvseId], at_s: float) -> PerPhase[int]:
        known = [one[1] for evse in evses if (one := self.at(evse, at_s)) is not None]
        return PerPhase(*(sum(current[phase] for current in known) for phase in range(3)))


@dataclass(slots=True)
class _Verdict:
    doubt: Doubt
    shown_ma: PerPhase[int]  # when it was found
    good: int = 0


class Witness:
    """What the EVSEs below one meter say against it."""

    def __init__(self, evses: Sequence[EvseId], draws: Draws) -> None:
        self._evses, self._draws = evses, draws
        self._readings: Sampled = deque()
        self._steps: deque[tuple[float, Step]] = deque(maxlen=8 * LEAST_STEPS)
        self._still: list[tuple[float, int, int] | None] = [None, None, None]  # since when, lowest, highest
        self._rise: tuple[float, float] | None = None  # between these samples, waiting for the others'
        self._verdict: _Verdict | None = None
        self.swapped: Doubt | None = None

    @property
    def verdict(self) -> Doubt | None:
        return None if self._verdict is None else self._verdict.doubt

    def rose(self, since_s: float, until_s: float) -> None:
        """One of its EVSEs drew more at its second sample than at its first."""
        if self._rise is None and until_s - since_s <= WINDOW_S - LAG_S and self._verdict is None:
            self._rise = (since_s, until_s)

    def objection(self, at_s: float, current_ma: PerPhase[int], was_nonsense: bool) -> Doubt | None:
        """Why this reading is not to be believed, or None. was_nonsense: the bus dropped those before it."""
        if self._verdict is None and self._mirrored(at_s, current_ma, was_nonsense):
            self._judge(Doubt(Fault.REVERSED, (0, 1, 2), "every current turned round at once"), current_ma)
        if self._verdict is None:
            self._remember(at_s, current_ma)
            self._weigh(at_s, current_ma)
        verdict = self._verdict
        if verdict is None:
            return None
        own_ma = self._draws.sum_ma(self._evses, at_s)
        verdict.good = verdict.good + 1 if _mended(verdict, current_ma, own_ma) else 0
        if verdict.good < GOOD_AGAIN:
            return verdict.doubt
        self._verdict = None
        return None

    def _judge(self, doubt: Doubt, current_ma: PerPhase[int]) -> None:
        self._verdict = _Verdict(doubt, current_ma)
        self._readings.clear()
        self._steps.clear()
        self._rise, self._still = None, [None, None, None]

    def _remember(self, at_s: float, current_ma: PerPhase[int]) -> None:
        self._readings.append((at_s, current_ma))
        while self._readings[0][0] < at_s - FORGET_S:
            self._readings.popleft()
        for phase, current in enumerate(current_ma):
            still = self._still[phase]
            since_s, low, high = (at_s, current, current) if still is None else still
            low, high = min(low, current), max(high, current)
            self._still[phase] = (since_s, low, high) if high - low < STILL_MA else (at_s, current, current)

    def _mirrored(self, at_s: float, current_ma: PerPhase[int], was_nonsense: bool) -> bool:
        if not self._readings or max(current_ma) > -MIRROR_LEAST_MA:
            return False
        then_s, then_ma = self._readings[-1]
        if min(then_ma) < MIRROR_LEAST_MA or at_s - then_s > (MIRROR_GAP_S if was_nonsense else NEAR_S):
            return False
        before_ma = self._draws.sum_ma(self._evses, then_s)
        own_ma = self._draws.sum_ma(self._evses, at_s)
        if max(*before_ma, *own_ma) < STEP_MA:
            return False
        expected = [then_ma[phase] + own_ma[phase] - before_ma[phase] for phase in range(3)]
        return all(
            abs(current + wanted) <= max(MIRROR_NEAR_MA, abs(wanted) * MIRROR_NEAR)
            for current, wanted in zip(current_ma, expected, strict=True)
        )

    def _weigh(self, at_s: float, current_ma: PerPhase[int]) -> None:
        """Once everybody has reported after a rise: what it says, and what all of them say together."""
        if self._rise is None or at_s < self._rise[1] + WAIT_S:
            return
        since_s, until_s = self._rise
        self._rise = None
        step = self._step(since_s, until_s)
        if step is None:
            return
        self._steps.append((since_s, step))
        self.swapped = None
        for doubt in doubts([one for _, one in self._steps]):
            if doubt.fault is Fault.SWAPPED:
                self.swapped = doubt
            elif self._holds(doubt, at_s, current_ma):
                self._judge(doubt, current_ma)
                return

    def _holds(self, doubt: Doubt, at_s: float, current_ma: PerPhase[int]) -> bool:
        """The slow look at what the quick one found: samples that come very late must not make a meter look dead."""
        if doubt.fault is Fault.FROZEN:
            return all(self._stood_still(phase) for phase in doubt.phases)
        if doubt.fault is Fault.TENTH:
            own_ma = self._draws.sum_ma(self._evses, at_s)
            return all(current_ma[phase] < own_ma[phase] for phase in doubt.phases)
        return True

    def _stood_still(self, phase: int) -> bool:
        """Since before the steps that were judged, and not only during them."""
        began_s = [at_s for at_s, step in self._steps if step.own_ma[phase] >= STEP_MA][-LEAST_STEPS]
        still = self._still[phase]
        return still is not None and still[0] <= began_s

    def _step(self, since_s: float, until_s: float) -> Step | None:
        """By how much all EVSEs and the meter rose; None where somebody's part in it is not known well enough."""
        own, begin_s, end_s = [0, 0, 0], since_s, until_s
        for evse in self._evses:
            before, after = self._draws.at(evse, since_s), self._draws.since(evse, until_s)
            if after is None:
                last = self._draws.at(evse, until_s)
                if last is None or max(map(abs, last[1])) < SAME_MA:
                    continue  # idle
                return None
            if before is None:
                return None
            change = [new - old for new, old in zip(after[1], before[1], strict=True)]
            if max(map(abs, change)) >= SAME_MA:
                begin_s, end_s = min(begin_s, before[0]), max(end_s, after[0])
                own = [total + one for total, one in zip(own, change, strict=True)]
        begin_s -= LAG_S
        if end_s - begin_s > WINDOW_S or min(own) < -SAME_MA or max(own) < STEP_MA:
            return None
        seen = self._seen(begin_s, end_s)
        return None if seen is None else Step(PerPhase(*own), seen)

    def _seen(self, begin_s: float, end_s: float) -> PerPhase[int] | None:
        first = next((one for one in reversed(self._readings) if one[0] <= begin_s), None)
        last = next((one for one in self._readings if one[0] >= end_s), None)
        if first is None or last is None or begin_s - first[0] > NEAR_S or last[0] - end_s > NEAR_S:
            return None
        return PerPhase(*(new - old for new, old in zip(last[1], first[1], strict=True)))


def _mended(verdict: _Verdict, current_ma: PerPhase[int], own_ma: PerPhase[int]) -> bool:
    """A reading that the fault cannot have made of what our EVSEs draw and of the load it was found at."""
    for phase in verdict.doubt.phases:
        current, own, found = current_ma[phase], own_ma[phase], verdict.shown_ma[phase]
        match verdict.doubt.fault:
            case Fault.REVERSED:
                good = current >= max(own - MIRROR_NEAR_MA, SAME_MA)
            case Fault.TENFOLD:
                good = abs(current) <= abs(found) / 4
            case Fault.TENTH:
                good = current >= max(own - MIRROR_NEAR_MA, 4 * found, SAME_MA)
            case Fault.FROZEN:
                good = abs(current - found) > STILL_MA
            case Fault.SWAPPED:
                good = True
        if not good:
            return False
    return True


class Witnesses:
    """All meters and all EVSEs of a site."""

    def __init__(self, below: Mapping[MeterId, Sequence[EvseId]]) -> None:
        self._draws = Draws([evse for evses in below.values() for evse in evses])
        self.of = {meter: Witness(evses, self._draws) for meter, evses in below.items()}
        self._above: dict[EvseId, list[Witness]] = {}
        for meter, evses in below.items():
            for evse in evses:
                self._above.setdefault(evse, []).append(self.of[meter])

    def sample(self, evse: Evse, at_s: float, current_ma: PerPhase[int | None]) -> None:
        """What an EVSE drew, on the phases of the grid."""
        l1, l2, l3 = current_ma
        if l1 is None or l2 is None or l3 is None or evse.id not in self._above:
            self.forget(evse.id)
            return
        rise = self._draws.add(evse.id, at_s, PerPhase(l1, l2, l3))
        if rise is not None and rise[1] >= STEP_MA:
            for witness in self._above[evse.id]:
                witness.rose(rise[0], at_s)

    def forget(self, evse: EvseId) -> None:
        """Out of sight; it will hardly step just when another does."""
        if evse in self._above:
            self._draws.forget(evse)

    def swapped(self) -> Iterator[tuple[MeterId, Doubt]]:
        """Meters whose phases are not those of our EVSEs."""
        for meter, witness in self.of.items():
            if witness.swapped is not None:
                yield meter, witness.swapped

    def objection(
        self, meter: MeterId, at_s: float, current_ma: PerPhase[int | None], was_nonsense: bool
    ) -> Doubt | None:
        witness, (l1, l2, l3) = self.of.get(meter), current_ma
        if witness is None or l1 is None or l2 is None or l3 is None:
            return None
        return witness.objection(at_s, PerPhase(l1, l2, l3), was_nonsense)


def told(doubt: Doubt) -> str:
    """For people: what is wrong, who says so, what to do."""
    return f"{doubt.text}, say the steps of our EVSEs: {MENDS[doubt.fault]}"
