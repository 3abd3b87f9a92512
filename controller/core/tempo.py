"""Tempo: how decisions behave in time, one `Pace` per EVSE. Between demand and allocator; breaks no limit, ever.

Owns four habits, each only a change of what is asked for:
- on for 5 min at least once it charges, off for 4 min at least once it pauses: plans and fuller tiers wait for that,
  limits do not (a minimum that does not fit is not granted), nor do people;
- turns of 15 min (5 for one that takes nothing) where not all minima fit: who has received least of late comes next;
- current that a vehicle does not take goes to others; it is asked again what it takes every 3 min, and at once when it
  takes all it has. It keeps its minimum, so that it can wake (`waking`);
- contactor cycles are counted: every stop of a vehicle that drew.
Must not know protocols or the room. Source: scheduling notes section 4, "one cycle" 3, 4 and 7.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from controller.core.allocator import Demand, Grant
from controller.core.belief import Belief, EvseBelief
from controller.core.commitments import Account, Commitments
from controller.core.events import EvseSample
from controller.core.model import Evse, EvseId, EvseState, Plan, Site, Wish
from controller.core.waking import Sleep

ON_S = 300.0
OFF_S = (
    240.0  # 2 min would do for contactors; load steps of minutes are then ridden out, and no energy is lost
)
TURN_S = 900.0
TURNS_EVERY_S = 10.0  # a change of turns is looked for this often at most ...
TRIED_S = 60.0  # ... and for one vehicle this often: a trial costs as much as a decision
LATELY_S = 3600.0
SEEN_MOST_S = 30.0  # what a sample tells of the time before it, at most
UNDER_MA = 1500  # this much below what it may is under-draw ...
UNDER_S = 25.0  # ... once it lasts this long
SPARE_MA = 1000  # what a vehicle keeps above its draw
PRESSES_MA = 500  # this near to its cap it takes all it has
PROBE_S = 180.0
IDLE_MA = 500
BEGAN = (EvseState.CHARGING, EvseState.SUSPENDED_EV)  # states in which a vehicle could take current

NO_WISH = Wish()

Trial = Callable[[Sequence[Demand]], Mapping[EvseId, Grant]]  # what the allocator would make of these demands


@dataclass(slots=True)
class Pace:
    """One EVSE. on_s: since when its vehicle may charge, None: it may not.

    received: current x phases x seconds of late, forgotten over an hour. under_s: since when it draws clearly less than it
    may, at most `peak_ma`; cap_ma: what it is left with then, until `probe_s`.
    """

    on_s: float | None = None
    rests_until_s: float = float("-inf")
    turn_until_s: float = float("-inf")  # its turn is over, others have theirs until then
    tried_s: float = float("-inf")  # when room was last looked for on its behalf
    received: float = 0.0
    seen: EvseSample | None = None
    seen_s: float = 0.0
    idle: bool = False
    under_s: float | None = None
    peak_ma: int = 0
    cap_ma: int | None = None
    probe_s: float = 0.0
    cycles: int = 0  # of the session
    cycles_before: int = 0
    sleep: Sleep = field(default_factory=Sleep)

    @property
    def contactor_cycles(self) -> int:
        """Since the start, over all sessions."""
        return self.cycles_before + self.cycles

    @property
    def wakes(self) -> bool:
        """It charged on after a pause of this session, without being woken."""
        resumed = self.cycles - (self.on_s is None)
        return resumed >= 1 and self.sleep.drew and not self.sleep.stirred

    def held(self, now_s: float) -> bool:
        """It charges, and not yet long enough to be stopped without need."""
        return self.on_s is not None and now_s - self.on_s < ON_S

    def had_turn(self, now_s: float) -> bool:
        return self.on_s is not None and now_s - self.on_s >= (ON_S if self.idle else TURN_S)

    def stopped(self, now_s: float, rest_s: float) -> None:
        if self.sleep.drew:
            self.cycles += not self.idle
            self.rests_until_s = max(self.rests_until_s, now_s + rest_s)
            self.sleep.sated = self.idle
        self.on_s = self.cap_ma = self.under_s = None

    def after(self) -> int:
        """Its place among those of the same rank: what it received lately, in whole A min."""
        return int(self.received // 60_000)


class Tempo:
    """All paces. `bound_s`: when somebody last wanted more than there was room for."""

    def __init__(self, site: Site) -> None:
        self.paces: dict[EvseId, Pace] = {evse: Pace() for evse in site.evses}
        self._steps_ma = {evse.id: evse.step_ma for evse in site.evses.values()}
        self.bound_s = float("-inf")
        self._looked_s = float("-inf")

    # --- what is asked for ---------------------------------------------------------------------------------------

    def wish(self, evse: Evse, plan: Plan, now_s: float) -> Wish:
        """A plan may stop a vehicle only once it has been on for a while. Feeding back is another matter."""
        wish = plan.wishes.get(evse.id, NO_WISH)
        cap_ma = wish.cap_ma
        if cap_ma is None or cap_ma >= evse.min_ma or wish.feed_back is not None:
            return wish
        return replace(wish, cap_ma=evse.min_ma) if self.paces[evse.id].held(now_s) else wish

    def paced(
        self,
        demands: Sequence[Demand],
        belief: Belief,
        commitments: Commitments,
        trial: Trial,
        now_s: float,
    ) -> list[Demand]:
        """The demands as they should be made now."""
        contended = now_s - self.bound_s < PROBE_S
        made, waiting, overdue = [], False, False
        for demand in demands:
            if demand.cap_ma < demand.min_ma:
                made.append(demand)
                continue
            evse = demand.evse
            pace, known = self.paces[evse], belief.evses[evse]
            if known.sample is not pace.seen:
                self._measure(pace, known, commitments.accounts[evse], now_s)
            if pace.idle and pace.on_s is not None and not pace.sleep.drew:
                self._watch_sleep(pace, known, commitments.accounts[evse], demand, now_s)
            if demand.running:
                overdue = overdue or pace.had_turn(now_s)
                if pace.cap_ma is not None or pace.sleep.stirred:
                    demand = self._asked(pace, demand, contended, now_s)
            elif now_s < pace.rests_until_s:
                demand = _capped(
                    demand, 0, "its turn is over" if now_s < pace.turn_until_s else "rests after a stop"
                )
            else:
                waiting = True
                if pace.sleep.stirred:
                    demand = pace.sleep.asked(demand, now_s)
            made.append(demand)
        if waiting and overdue and now_s - self._looked_s >= TURNS_EVERY_S:
            self._looked_s = now_s
            return self._turns(made, trial, now_s)
        return made

    def _asked(self, pace: Pace, demand: Demand, contended: bool, now_s: float) -> Demand:
        if pace.sleep.stirred:
            demand = pace.sleep.asked(demand, now_s)
        if pace.cap_ma is None:
            return demand
        if now_s >= pace.probe_s:
            pace.cap_ma = pace.under_s = None
        elif contended and max(pace.cap_ma, demand.min_ma) < demand.cap_ma:
            return _capped(demand, max(pace.cap_ma, demand.min_ma), "takes less than it may")
        return demand

    # --- what was seen -------------------------------------------------------------------------------------------

    def _measure(self, pace: Pace, known: EvseBelief, account: Account, now_s: float) -> None:
        """A new sample: what it received, whether it takes what it may. What is kept for one that takes nothing counts as
        received, or the full would be served first."""
        pace.seen = known.sample
        drawn_ma = known.highest_ma(now_s)
        if drawn_ma is None:
            pace.idle, pace.under_s = False, None
            return
        passed_s, pace.seen_s = min(SEEN_MOST_S, now_s - pace.seen_s), now_s
        allowed_ma = account.accepted_now_ma(now_s)
        pace.idle = drawn_ma < IDLE_MA
        if pace.idle:
            flows = (allowed_ma or 0) * len(account.evse.phases)
        else:
            flows = 0
            for value in known.current_ma:
                flows += value or 0
            pace.sleep.takes()
        pace.received += (flows - pace.received / LATELY_S) * passed_s
        if allowed_ma is None or drawn_ma > allowed_ma - UNDER_MA:
            pace.under_s = None
        elif pace.under_s is None:
            pace.under_s, pace.peak_ma = now_s, drawn_ma
        else:
            pace.peak_ma = max(pace.peak_ma, drawn_ma)
        if pace.cap_ma is not None:
            if drawn_ma > pace.cap_ma - PRESSES_MA:
                pace.cap_ma = pace.under_s = None
        elif pace.under_s is not None and now_s - pace.under_s >= UNDER_S:
            step_ma = self._steps_ma[account.evse.id]
            pace.cap_ma = -(-(pace.peak_ma + SPARE_MA) // step_ma) * step_ma
            pace.probe_s = now_s + PROBE_S

    def _watch_sleep(
        self, pace: Pace, known: EvseBelief, account: Account, demand: Demand, now_s: float
    ) -> None:
        offered_ma = account.accepted_now_ma(now_s)
        if known.state in BEGAN and offered_ma is not None and offered_ma >= demand.min_ma:
            assert pace.on_s is not None
            pace.sleep.try_again(pace.on_s, now_s)

    def noted(self, demand: Demand, grant_ma: int, by_hand: bool, now_s: float) -> None:
        """What became of the demand of an EVSE that takes limits. Call it in every step. by_hand: it is not to charge
        because a person paused it, or it feeds back; when that ends it may be on again at once."""
        pace = self.paces[demand.evse]
        if demand.cap_ma > 0 and grant_ma + demand.step_ma <= demand.cap_ma:
            self.bound_s = now_s
        if grant_ma > 0:
            if pace.on_s is None:
                pace.on_s, pace.sleep.drew = now_s, False
        elif pace.on_s is not None:
            pace.stopped(now_s, 0.0 if by_hand else OFF_S)

    def over(self, evse: EvseId) -> None:
        """The session ended: the next vehicle begins anew, the contactor is the same."""
        self.paces[evse] = Pace(cycles_before=self.paces[evse].contactor_cycles)

    def asleep(self, now_s: float) -> list[tuple[EvseId, bool]]:
        """Vehicles that nothing of ours could wake, and whether they have charged since they came."""
        return [
            (evse, pace.sleep.ever)
            for evse, pace in self.paces.items()
            if pace.sleep.attempts and pace.idle and pace.sleep.gave_up(now_s)
        ]

    # --- turns ---------------------------------------------------------------------------------------------------

    def _turns(self, demands: list[Demand], trial: Trial, now_s: float) -> list[Demand]:
        """Whose turn is over makes room, if that is what somebody waits for who received less."""
        grants = trial(demands)
        waiting = [
            d
            for d in demands
            if not d.running
            and d.cap_ma >= d.min_ma
            and not grants[d.evse].current_ma  # else it is on its way
            and now_s - self.paces[d.evse].tried_s >= TRIED_S
        ]
        if not waiting:
            return demands
        newcomer = min(waiting, key=lambda d: (d.tier, d.rank, d.after, d.evse))
        self.paces[newcomer.evse].tried_s = now_s
        leaving = self._leaving(demands, newcomer, trial, now_s)
        for evse in leaving:
            pace = self.paces[evse]
            pace.turn_until_s = pace.rests_until_s = now_s + OFF_S
        return _without(demands, leaving)

    def _leaving(
        self, demands: list[Demand], newcomer: Demand, trial: Trial, now_s: float
    ) -> frozenset[EvseId]:
        """Few whose turn is over and who received more, so that the newcomer's minimum fits; none if that cannot be."""
        done = [
            d
            for d in demands
            if d.running
            and (d.tier, d.rank) >= (newcomer.tier, newcomer.rank)
            and d.after > newcomer.after
            and self.paces[d.evse].had_turn(now_s)
        ]
        order = [d.evse for d in sorted(done, key=lambda d: (-d.after, d.evse))]

        def enough(leaving: frozenset[EvseId]) -> bool:
            return trial(_without(demands, leaving))[newcomer.evse].current_ma > 0

        if not order or not enough(frozenset(order)):
            return frozenset()
        low, high = 0, len(order)  # the first `high` are enough, the first `low` are not
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if enough(frozenset(order[:middle])) else (middle, high)
        leaving = frozenset(order[:high])
        for evse in order[: high - 1]:  # the last one is needed
            if enough(leaving - {evse}):
                leaving -= {evse}
        return leaving


def _without(demands: list[Demand], leaving: frozenset[EvseId]) -> list[Demand]:
    return [_capped(d, 0, "its turn is over") if d.evse in leaving else d for d in demands]


def _capped(demand: Demand, cap_ma: int, why: str) -> Demand:
    return demand._replace(cap_ma=cap_ma, cap_why=why, caps=(*demand.caps, (cap_ma, why)))
