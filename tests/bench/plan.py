"""`make bench-plan`: planning compared with what others do, on real sessions, in whole amps. Prints one table.

Sessions are replayed with decisions every five minutes and at every arrival and departure. A decision knows what was
known then: who is here, what drivers or the duty plan said, what was measured. Only the clairvoyant program (fractional
currents, quarter hours, energy first, then cost) knows all. Every way shares the room through the product's allocator.
At the end stands what planning costs (`plan_load`): time, memory, the loop beside it.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import numpy as np

from controller.core.allocator import Demand, allocate
from controller.core.model import (
    Departure,
    EvseId,
    Moment,
    Plan,
    Wish,
)
from controller.core.planning import Expected, PlanRequest, Present
from controller.planner import horizon, needs, program, rules
from tests.bench.plan_data import VOLTAGE_MV, Depot, Stay, read

STEP = timedelta(minutes=5)
KNOWN_AHEAD = timedelta(hours=36)


@dataclass
class Guest:
    """A stay under way. full: it was offered current and took none."""

    stay: Stay
    kwh: float = 0.0
    granted_ma: int = 0
    starts: int = 0
    full: bool = False


@dataclass(frozen=True)
class Score:
    met_pct: float
    ready_pct: float
    cost: float
    kwh: float
    starts: float
    above: int
    plan_ms: tuple[float, ...] = ()

    @property
    def price(self) -> float:
        return self.cost / self.kwh if self.kwh else 0.0


Way = Callable[[Depot, datetime, Sequence[Guest], Sequence[Expected]], dict[EvseId, Wish]]
SEEN = 200  # departures remembered


# --- the replay ---------------------------------------------------------------------------------------------------------


def replay(depot: Depot, way: Way, *, limited: bool = True) -> Score:
    guests: dict[int, Guest] = {}
    waiting = sorted(range(len(depot.stays)), key=lambda n: depot.stays[n].arrival)
    done: list[Guest] = []
    price_at = {price.start: price.amount for price in depot.prices}
    cost, above, times = 0.0, 0, []
    now = depot.stays[waiting[0]].arrival
    ends = max(stay.departure for stay in depot.stays)
    while now < ends:
        for n in [n for n, guest in guests.items() if guest.stay.departure <= now]:
            done.append(guests.pop(n))
        while waiting and depot.stays[waiting[0]].arrival <= now:
            n = waiting.pop(0)
            guests[n] = Guest(depot.stays[n])
        tick = datetime.fromtimestamp((now.timestamp() // 300 + 1) * 300, UTC)
        events = [tick, *(guest.stay.departure for guest in guests.values())]
        if waiting:
            events.append(depot.stays[waiting[0]].arrival)
        until = min(events)
        if guests:
            here = list(guests.values())
            began = time.perf_counter()
            wishes = way(depot, now, here, _announced(depot, now, waiting))
            times.append(1000 * (time.perf_counter() - began))
            _grant(depot, here, wishes, limited)
            sums = depot.grid.sums((guest.stay.evse, guest.granted_ma) for guest in here)
            above += any(ma > limit for ma, limit in zip(sums, depot.grid.limits_ma, strict=True))
            price = price_at.get(now.replace(minute=0, second=0, microsecond=0), 0.0)
            cost += price * sum(_charge(depot, guest, (until - now).total_seconds() / 3600) for guest in here)
        now = until
    done += guests.values()
    return _score(done, cost, above, times)


def _announced(depot: Depot, now: datetime, waiting: Sequence[int]) -> list[Expected]:
    found = []
    for n in waiting:
        stay = depot.stays[n]
        if stay.arrival > now + KNOWN_AHEAD + timedelta(hours=6):
            break
        if stay.planned_return is not None and stay.planned_return < now + KNOWN_AHEAD:
            found.append(
                Expected(stay.evse, stay.planned_return, stay.departure, int(1000 * stay.planned_kwh))
            )
    return found


def _grant(depot: Depot, guests: Sequence[Guest], wishes: dict[EvseId, Wish], limited: bool) -> None:
    demands = []
    for guest in guests:
        unit, wish = depot.site.evses[guest.stay.evse], wishes.get(guest.stay.evse, Wish())
        cap_ma = unit.max_ma if wish.cap_ma is None else min(unit.max_ma, wish.cap_ma)
        if guest.full:
            cap_ma = 0
        demands.append(
            Demand(
                unit.id,
                unit.min_ma,
                cap_ma,
                unit.step_ma,
                0,
                wish.tier,
                wish.rank,
                running=guest.granted_ma > 0,
            )
        )
    room = list(depot.grid.limits_ma) if limited else [10**9] * len(depot.grid.limits_ma)
    grants = allocate(depot.grid, demands, room)
    for guest in guests:
        current_ma = grants[guest.stay.evse].current_ma
        guest.starts += guest.granted_ma == 0 and current_ma > 0
        guest.granted_ma = current_ma


def _charge(depot: Depot, guest: Guest, hours: float) -> float:
    unit = depot.site.evses[guest.stay.evse]
    most_kwh = guest.granted_ma * VOLTAGE_MV * len(unit.phases) / 1e9 * hours
    taken_kwh = min(most_kwh, guest.stay.need_kwh - guest.kwh)
    guest.kwh += taken_kwh
    guest.full = guest.stay.need_kwh - guest.kwh < 1e-6
    return taken_kwh


def _score(done: Sequence[Guest], cost: float, above: int, times: list[float]) -> Score:
    needed = sum(guest.stay.need_kwh for guest in done)
    kwh = sum(guest.kwh for guest in done)
    ready = sum(guest.kwh >= guest.stay.need_kwh - guest.stay.tolerance_kwh for guest in done)
    return Score(
        100 * kwh / needed,
        100 * ready / len(done),
        cost,
        kwh,
        sum(guest.starts for guest in done) / len(done),
        above,
        tuple(times),
    )


# --- the ways -----------------------------------------------------------------------------------------------------------


def share(
    depot: Depot, now: datetime, guests: Sequence[Guest], coming: Sequence[Expected]
) -> dict[EvseId, Wish]:
    return {}


def deadline(
    depot: Depot, now: datetime, guests: Sequence[Guest], coming: Sequence[Expected]
) -> dict[EvseId, Wish]:
    order = sorted(guests, key=lambda guest: (guest.stay.told_departure, guest.stay.evse))
    return {guest.stay.evse: Wish(tier=n) for n, guest in enumerate(order)}


def laxity(
    depot: Depot, now: datetime, guests: Sequence[Guest], coming: Sequence[Expected]
) -> dict[EvseId, Wish]:
    def spare_h(guest: Guest) -> float:
        unit = depot.site.evses[guest.stay.evse]
        full_kw = unit.max_ma * VOLTAGE_MV * len(unit.phases) / 1e9
        left_h = (guest.stay.told_departure - now).total_seconds() / 3600
        return left_h - (guest.stay.told_kwh - guest.kwh) / full_kw

    order = sorted(guests, key=lambda guest: (spare_h(guest), guest.stay.evse))
    return {guest.stay.evse: Wish(tier=n) for n, guest in enumerate(order)}


def request_of(
    depot: Depot,
    now: datetime,
    guests: Sequence[Guest],
    coming: Sequence[Expected],
    errors_s: Sequence[float] = (),
) -> PlanRequest:
    present = tuple(
        Present(
            guest.stay.evse,
            None,
            guest.stay.arrival,
            int(1000 * guest.kwh),
            None,
            drawn_ma=0
            if guest.full
            else (guest.granted_ma and depot.site.evses[guest.stay.evse].max_ma) or None,
            granted_ma=guest.granted_ma,
        )
        for guest in guests
    )
    departures = {
        g.stay.evse: Departure(g.stay.evse, g.stay.told_departure, energy_wh=round(1000 * g.stay.told_kwh))
        for g in guests
    }
    prices = tuple(p for p in depot.prices if now - timedelta(hours=1) < p.start < now + KNOWN_AHEAD)
    return PlanRequest(
        Moment(0.0, now),
        depot.site,
        present,
        {},
        departures,
        expected=tuple(coming),
        prices=prices,
        errors_s=tuple(errors_s),
    )


class Ours:
    """The planner, with the reasons why it was not the horizon that answered."""

    def __init__(self) -> None:
        self.fallbacks: list[str] = []
        self._here: dict[tuple[EvseId, datetime], Stay] = {}
        self._errors_s: list[float] = []

    def __call__(
        self, depot: Depot, now: datetime, guests: Sequence[Guest], coming: Sequence[Expected]
    ) -> dict[EvseId, Wish]:
        here = {(guest.stay.evse, guest.stay.arrival): guest.stay for guest in guests}
        for left in self._here.keys() - here.keys():
            stay = self._here[left]
            self._errors_s.append((stay.departure - stay.told_departure).total_seconds())
        self._here = here
        plan: Plan = horizon.plan(request_of(depot, now, guests, coming, self._errors_s[-SEEN:]))
        if plan.by != "horizon":
            self.fallbacks.append(plan.why)
        return dict(plan.wishes)


def by_rules(
    depot: Depot, now: datetime, guests: Sequence[Guest], coming: Sequence[Expected]
) -> dict[EvseId, Wish]:
    """What stands in when the planner over the horizon is late or dead."""
    return dict(rules.plan(request_of(depot, now, guests, coming)).wishes)


def clairvoyant(depot: Depot) -> Score:
    """Everything known, fractional currents in quarter hours: what nobody can beat."""
    start = min(stay.arrival for stay in depot.stays).replace(minute=0, second=0)
    hours = (max(stay.departure for stay in depot.stays) - start).total_seconds() / 3600
    slots = needs.Slots(start, np.arange(0, hours + 0.5, 0.25))
    request = PlanRequest(Moment(0.0, start), depot.site, (), {}, {}, prices=tuple(depot.prices))
    tasks = []
    for stay in sorted(depot.stays, key=lambda s: (s.arrival, s.evse)):
        unit = depot.site.evses[stay.evse]
        kw_per_a = VOLTAGE_MV * len(unit.phases) / 1e6
        full_kw = unit.max_ma / 1000 * kw_per_a
        from_h, to_h = slots.hour(stay.arrival), slots.hour(stay.departure)
        overlap = np.clip(
            np.minimum(slots.edges_h[1:], to_h) - np.maximum(slots.edges_h[:-1], from_h), 0, None
        )
        tasks.append(
            needs.Task(
                stay.evse,
                None,
                None,
                from_h,
                to_h,
                stay.need_kwh,
                full_kw,
                full_kw * overlap / slots.hours,
                unit.phases,
                kw_per_a,
                True,
                0,
                1.0,
                np.ones(slots.count),
            )
        )
    outlook = program.Outlook.of(request, depot.grid, slots)
    known = {price.start: price.amount for price in depot.prices}
    price = np.array([known.get(at.replace(minute=0), 0.0) for at in slots.times()[:-1]])
    outlook = replace(outlook, price=price)
    found = program.solve(program.build(request, depot.grid, tasks, slots, outlook, small_first=0.0), 300.0)
    energy = found.power_kw * slots.hours
    ready = sum(
        short <= stay.tolerance_kwh
        for short, stay in zip(
            found.short_kwh, sorted(depot.stays, key=lambda s: (s.arrival, s.evse)), strict=True
        )
    )
    needed = sum(stay.need_kwh for stay in depot.stays)
    return Score(
        100 * energy.sum() / needed,
        100 * ready / len(tasks),
        float((energy.sum(axis=0) * price).sum()),
        energy.sum(),
        0,
        0,
    )


def p95(values: Sequence[float]) -> float:
    return statistics.quantiles(values, n=20)[-1] if len(values) > 1 else 0.0


def table(name: str, days: int, share_pct: int, announced: bool, ways: Sequence[str], first: int = 0) -> None:
    depot = read(name, days, share_pct / 100, announced=announced, first=first)
    best = clairvoyant(depot)
    told = "duty plan" if announced else "no duty plan"
    print(f"\n{name}, {share_pct} % limit, {told}, {len(depot.stays)} stays", flush=True)
    ours = Ours()
    known: dict[str, Way] = {
        "equal share": share,
        "deadline": deadline,
        "laxity": laxity,
        "our rules": by_rules,
        "ours": ours,
    }
    print(f"  {'way':<14}{'met %':>7}{'ready %':>9}{'cost':>8}{'starts':>8}{'above':>7}{'p95 ms':>8}")
    _line("clairvoyant", best, best)
    if "uncontrolled" in ways:
        _line("uncontrolled", replay(depot, share, limited=False), best)
    for label, way in known.items():
        if label in ways:
            _line(label, replay(depot, way), best)
    if ours.fallbacks:
        print(f"  fallbacks: {len(ours.fallbacks)}, e.g. {ours.fallbacks[0]}")


def _line(label: str, score: Score, best: Score) -> None:
    ratio = score.price / best.price if best.price else 0.0
    print(
        f"  {label:<14}{score.met_pct:>7.1f}{score.ready_pct:>9.1f}{ratio:>8.3f}{score.starts:>8.2f}"
        f"{score.above:>7}{p95(score.plan_ms):>8.1f}",
        flush=True,
    )


WAYS = ("uncontrolled", "equal share", "deadline", "laxity", "our rules", "ours")


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="make bench-plan", description=__doc__)
    parser.add_argument("--days", type=int, default=5, help="how many (5 take about ten minutes in all)")
    parser.add_argument("--first", type=int, default=0, help="the day of the file to begin with")
    parser.add_argument("--only", choices=("vans", "workplace", "unannounced"), help="one kind of depot")
    parser.add_argument("--limits", default="25,40,60", help="per cent of all chargers' ratings, e.g. 25,40")
    parser.add_argument("--ways", default=",".join(WAYS), help="which to compare, e.g. laxity,ours")
    options = parser.parse_args(arguments)
    ways = options.ways.split(",")
    for limit in map(int, options.limits.split(",")):
        for kind, name, announced in (
            ("vans", "vans_30", True),
            ("unannounced", "vans_30", False),
            ("workplace", "workplace", False),
        ):
            if options.only in (None, kind):
                table(name, options.days, limit, announced, ways, options.first)
    print(flush=True)
    # in a process of its own: only there the memory that the solver adds can be told
    subprocess.run([sys.executable, "-m", "tests.bench.plan_load"], check=True)


if __name__ == "__main__":
    main(sys.argv[1:])
