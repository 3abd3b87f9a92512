"""Phase switching: which EVSEs charge on their first conductor alone, and how they get there without harm.

Owns the choice, per EVSE whose station can be told (`phase_switching`), and whether it does what it says. One phase where
the minimum on all of them does not fit and that on one does, or where the surplus makes no more; all of them again when
they have fitted for 5 min; no change within 5 min of the last, and none without a pause, which some vehicles need. The
choice rests on the allocator's own answer to the demands as they would be; nothing is searched for.

A yes to a limit for one phase counts (`commitments`) until current on another conductor shows that it is not so: then the
EVSE counts on all of them, and is not switched again before its link comes up anew. Numbers and the pause: peers C2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from controller.core.allocator import Demand, Grant
from controller.core.commitments import OVERDRAW_HOLD_S, STUBBORN, Account, Commitments
from controller.core.grid import Grid
from controller.core.model import Evse, EvseId, PerPhase, Site, StationId
from controller.core.supervisor import Condition
from controller.core.units import power_for_current_w

AGAIN_S = 300.0  # between two switches of one EVSE
FITS_S = 300.0  # all phases have fitted for so long
LESS_S = 60.0  # a vehicle that charges is switched down only after the surplus was small for so long
LOOK_S = 5.0
STRAY_MA = 1000  # on a conductor that should carry nothing
SWITCHES = "switches phases"

Uses = Mapping[EvseId, tuple[int, ...]]
Trial = Callable[
    [Sequence[Demand], Uses], Mapping[EvseId, Grant]
]  # demands, and what grants load that they do not


@dataclass(slots=True)
class _Switch:
    """phases: 1 or None (as wired), what its grants are for. first: the resources of its first conductor. since_s: since
    when the other is called for. unsure: nobody knows how it charges now, since a process before this one told it."""

    evse: Evse
    first: tuple[int, ...]
    phases: int | None = None
    changed_s: float = float("-inf")
    since_s: float | None = None
    looked_s: float = float("-inf")
    unsure: bool = True
    distrusted: bool = False

    def change(self, phases: int | None, now_s: float) -> None:
        self.phases, self.changed_s, self.since_s = phases, now_s, None

    def distrust(self) -> None:
        self.distrusted, self.phases, self.since_s = True, None, None


class Switching:
    """All EVSEs that can. Falsy where there are none."""

    def __init__(self, grid: Grid, site: Site) -> None:
        self._switches = {
            evse.id: _Switch(
                evse, tuple(r for r in grid.uses[evse.id] if grid.resources[r][1] == evse.phases[0])
            )
            for evse in site.evses.values()
            if evse.phase_switching
        }
        self._wired = {evse.id: len(evse.phases) for evse in site.evses.values()}
        self._voltage_mv = site.voltage_mv
        self._looked_s = float("-inf")

    def __bool__(self) -> bool:
        return bool(self._switches)

    # --- for the books -------------------------------------------------------------------------------------------

    def asked(self, learnt: Uses) -> Uses:
        """The resources that grants load, of those that load fewer than they are wired to. learnt: as `Usage.fewer`."""
        if not self._switches:
            return learnt
        return {**learnt, **{evse: each.first for evse, each in self._switches.items() if each.phases}}

    def booked(self, learnt: Uses, commitments: Commitments, now_s: float) -> Uses:
        """The same of what may really be drawn."""
        if not self._switches:
            return learnt
        accounts = commitments.accounts
        on_one = {e: each.first for e, each in self._switches.items() if accounts[e].one_phase(now_s)}
        return {**learnt, **on_one}

    def one_phase(self) -> frozenset[EvseId]:
        return frozenset(evse for evse, each in self._switches.items() if each.phases)

    def phases(self, evse: EvseId) -> int | None:
        each = self._switches.get(evse)
        return None if each is None else each.phases

    # --- facts ---------------------------------------------------------------------------------------------------

    def sample(
        self, account: Account, current_ma: PerPhase[int | None], taken_s: float, now_s: float
    ) -> bool:
        """Whether it tells what the vehicle uses: not while the station may have switched. Current per conductor."""
        each = self._switches.get(account.evse.id)
        if each is None or not any(limit_ma and phases for limit_ma, phases in account.live(now_s)):
            return True
        stray_ma = max((abs(value) for value in current_ma[1:] if value is not None), default=0)
        settled = taken_s > account.switched_s + account.evse.link.settle_s
        if account.accepted_phases and account.accepted_now_ma(now_s) and settled and stray_ma > STRAY_MA:
            account.distrust_phases()
            account.overdraw_ma = max(stray_ma, account.overdrawn_ma(now_s))
            account.overdraw_until_s = now_s + OVERDRAW_HOLD_S
            each.distrust()
        return False

    def refused(self, commitments: Commitments, command: str) -> None:
        """Before the books hear of it. A station that will not be told is told no more."""
        for evse, each in self._switches.items():
            account = commitments.accounts[evse]
            refused = next((sent for sent in account.sent if sent.command == command), None)
            if refused is None or account.refusals + 1 < STUBBORN:
                continue
            if refused.phases or (each.phases and not refused.limit_ma):  # the pause before it is part of it
                each.distrust()

    def link_up(self, station: StationId) -> None:
        for each in self._switches.values():
            if each.evse.station == station:
                each.distrusted = False

    def session_over(self, evse: EvseId) -> None:
        if (each := self._switches.get(evse)) is not None:
            each.phases = each.since_s = None

    def conditions(self) -> Iterator[Condition]:
        for evse, each in self._switches.items():
            if each.distrusted:
                yield Condition(
                    "phase-switching", evse, 3, "does not switch phases: counts on all it is wired to"
                )

    # --- what is asked for ---------------------------------------------------------------------------------------

    def paced(
        self, demands: list[Demand], commitments: Commitments, running: Mapping[EvseId, object], now_s: float
    ) -> list[Demand]:
        """Nothing, until what was told before is over: a switch is made without current."""
        if not self._switches:
            return demands
        made = []
        for demand in demands:
            each = self._switches.get(demand.evse)
            if each is not None and demand.evse not in running:
                each.unsure = False
            elif each is not None and demand.cap_ma >= demand.min_ma:
                if _is_free(each, commitments.accounts[demand.evse], now_s):
                    each.unsure = False
                else:
                    caps = (*demand.caps, (0, SWITCHES))
                    demand = demand._replace(cap_ma=0, cap_why=SWITCHES, caps=caps, held=False)
            made.append(demand)
        return made

    # --- the choice ----------------------------------------------------------------------------------------------

    def look(
        self,
        asked: Sequence[Demand],
        demands: Sequence[Demand],
        grants: Mapping[EvseId, Grant],
        trial: Trial,
        learnt: Uses,
        living: Mapping[EvseId, int],
        now_s: float,
    ) -> None:
        """For the steps to come. asked, demands: before and after surplus and tempo. living: of those that live on surplus
        what is left of it for each, in watts, those before it served."""
        if not self._switches or now_s - self._looked_s < LOOK_S:
            return
        self._looked_s = now_s
        self._narrow(demands, grants, trial, learnt, now_s)
        for demand in asked:
            if demand.evse in living and demand.evse in self._switches:
                self._follow_surplus(demand, living[demand.evse], learnt, now_s)
        self._widen(demands, grants, trial, learnt, living, now_s)

    def shares(self, living: Sequence[Demand], offered_w: int) -> dict[EvseId, int]:
        """What of a surplus is left for each that lives on it, when those before it have their minima."""
        left_w, found = offered_w, {}
        for demand in sorted(living, key=lambda d: (d.tier, d.rank, d.after, d.evse)):
            found[demand.evse] = left_w
            all_w, one_w = self._least_w(demand, self._wired[demand.evse]), self._least_w(demand, 1)
            takes_w = one_w if demand.evse in self._switches and left_w < all_w else all_w
            left_w -= takes_w if takes_w <= left_w else 0
        return found

    def _narrow(
        self,
        demands: Sequence[Demand],
        grants: Mapping[EvseId, Grant],
        trial: Trial,
        learnt: Uses,
        now_s: float,
    ) -> None:
        """One phase for those that are left out for want of room, where that is enough and costs nobody his minimum."""
        left_out = {
            demand.evse: each.first
            for demand in demands
            if (each := self._switches.get(demand.evse)) is not None
            and demand.cap_ma >= demand.min_ma
            and not grants[demand.evse].current_ma
            and self._may_narrow(each, learnt, now_s)
        }
        if not left_out:
            return
        instead = [d._replace(uses=left_out[d.evse]) if d.evse in left_out else d for d in demands]
        found = trial(instead, {**self.asked(learnt), **left_out})
        if _keeps_all(grants, found):
            for evse in left_out:
                if found[evse].current_ma:
                    self._switches[evse].change(1, now_s)

    def _widen(
        self,
        demands: Sequence[Demand],
        grants: Mapping[EvseId, Grant],
        trial: Trial,
        learnt: Uses,
        living: Mapping[EvseId, int],
        now_s: float,
    ) -> None:
        """All phases again, one EVSE at a time."""
        on_one = [d for d in demands if self.phases(d.evse) and d.cap_ma >= d.min_ma]
        if not on_one:
            return
        demand = min(on_one, key=lambda d: (self._switches[d.evse].looked_s, d.evse))
        each = self._switches[demand.evse]
        each.looked_s = now_s
        wider = demand._replace(uses=None)
        fewer = {evse: uses for evse, uses in self.asked(learnt).items() if evse != demand.evse}
        found = trial([wider if d is demand else d for d in demands], fewer)
        all_ma, one_ma = found[demand.evse].current_ma, grants[demand.evse].current_ma
        if demand.evse in living:
            worth = living[demand.evse] >= self._least_w(demand, len(each.evse.phases))
        else:
            worth = all_ma * len(each.evse.phases) >= one_ma
        if not all_ma or not worth or not _keeps_all(grants, found):
            each.since_s = None
            return
        each.since_s = now_s if each.since_s is None else each.since_s
        if now_s - each.since_s >= FITS_S and now_s - each.changed_s >= AGAIN_S:
            each.change(None, now_s)

    def _follow_surplus(self, demand: Demand, left_w: int, learnt: Uses, now_s: float) -> None:
        """One phase where there is no more than that."""
        each = self._switches[demand.evse]
        if each.phases:
            return
        enough_w, one_w = self._least_w(demand, len(each.evse.phases)), self._least_w(demand, 1)
        if not one_w <= left_w < enough_w or not self._may_narrow(each, learnt, now_s):
            each.since_s = None
            return
        each.since_s = now_s if each.since_s is None else each.since_s
        if not demand.running or now_s - each.since_s >= LESS_S:
            each.change(1, now_s)

    def _may_narrow(self, each: _Switch, learnt: Uses, now_s: float) -> bool:
        uses = learnt.get(each.evse.id)
        single = uses is not None and len(uses) == len(each.first)  # the vehicle does it by itself
        return not (each.phases or each.distrusted or single) and now_s - each.changed_s >= AGAIN_S

    def _least_w(self, demand: Demand, phases: int) -> int:
        return power_for_current_w(demand.min_ma, self._voltage_mv, phases)


def _keeps_all(before: Mapping[EvseId, Grant], after: Mapping[EvseId, Grant]) -> bool:
    return all(after[evse].current_ma for evse, grant in before.items() if grant.current_ma)


def _is_free(each: _Switch, account: Account, now_s: float) -> bool:
    """Nothing that it was told for other phases may still be in force, and what it does alone is not either."""
    live = account.live(now_s)
    if any(limit_ma and phases != each.phases for limit_ma, phases in live):
        return False
    alone = account.accepted_now_ma(now_s) is None and account.heard_floor_ma() >= each.evse.min_ma
    return not (alone and (each.phases or each.unsure))
