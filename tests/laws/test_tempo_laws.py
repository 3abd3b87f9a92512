"""Tempo's laws, on random sites: nobody flaps without need, newcomers displace nobody who has just begun, no limit
bends for it, and where minima do not fit everybody gets turns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random

from drawn_sites import Case, cases, site_of
from hypothesis import given, settings
from hypothesis import strategies as st
from test_allocator import fits

from controller.core.allocator import Demand, Grant, allocate
from controller.core.belief import Belief
from controller.core.commitments import Commitments
from controller.core.grid import Grid
from controller.core.model import EvseId
from controller.core.tempo import OFF_S, ON_S, TURN_S, Tempo

law = settings(derandomize=True, max_examples=100, deadline=None)


def with_held(case: Case, seed: int) -> tuple[Demand, ...]:
    random = Random(seed)
    return tuple(
        d._replace(min_ma=max(1_000, d.min_ma), held=d.running and random.random() < 0.5)
        for d in case.demands
    )


@law
@given(cases(), st.integers(0, 1000))
def test_held_or_not_nothing_is_above_a_limit(case: Case, seed: int) -> None:
    grants = allocate(case.grid, with_held(case, seed), case.room_ma())
    assert fits(case, {evse: grant.current_ma for evse, grant in grants.items()})


@law
@given(cases(), st.integers(0, 1000))
def test_newcomers_displace_nobody_who_is_held(case: Case, seed: int) -> None:
    demands = with_held(case, seed)
    grants = allocate(case.grid, demands, case.room_ma())
    staying = [d if d.running else d._replace(cap_ma=0) for d in demands]
    alone = allocate(case.grid, staying, case.room_ma())
    for demand in demands:
        if demand.held:
            assert (grants[demand.evse].current_ma > 0) == (alone[demand.evse].current_ma > 0)


class Days:
    """A tempo and an allocator whose room changes at random. Every vehicle takes what it may."""

    def __init__(self, case: Case) -> None:
        self.case, self.grid = case, case.grid
        self.tempo = Tempo(case.site)
        self.belief = Belief(case.site, self.grid)
        self.commitments = Commitments(case.site)
        self.grants: Mapping[EvseId, Grant] = {}
        self.now_s = 0.0

    def running(self, evse: EvseId) -> bool:
        return evse in self.grants and self.grants[evse].current_ma > 0

    def demands(self) -> list[Demand]:
        paces, made = self.tempo.paces, []
        for demand in self.case.demands:
            least_ma = max(1_000, demand.min_ma)  # what is kept has to be something
            pace, runs = paces[demand.evse], self.running(demand.evse)
            held = runs and pace.held(self.now_s)
            made.append(demand._replace(min_ma=least_ma, running=runs, held=held, after=pace.after()))
        return made

    def step(self, room_ma: Sequence[int], passes_s: float) -> list[Demand]:
        self.now_s += passes_s
        for evse in self.case.site.evses:
            pace = self.tempo.paces[evse]
            if self.running(evse):
                pace.sleep.drew, pace.idle = True, False
                pace.received += self.grants[evse].current_ma * passes_s

        def trial(asked: Sequence[Demand]) -> Mapping[EvseId, Grant]:
            return allocate(self.grid, asked, room_ma)

        demands = self.demands()
        asked = self.tempo.paced(demands, self.belief, self.commitments, trial, self.now_s)
        self.grants = trial(asked)
        for demand in asked:
            self.tempo.noted(demand, self.grants[demand.evse].current_ma, False, self.now_s)
        return demands


@law
@given(cases(), st.integers(0, 1000))
def test_nobody_flaps_unless_a_limit_needs_it(case: Case, seed: int) -> None:
    random, days = Random(seed), Days(case)
    on_s: dict[EvseId, float] = {}
    off_s: dict[EvseId, float] = {}
    for _ in range(60):
        room_ma = [room + random.randint(-12_000, 12_000) for room in case.room_ma()]
        before = {d.evse for d in case.demands if days.running(d.evse)}
        demands = days.step(room_ma, random.choice([1.0, 20.0, 45.0]))
        staying = allocate(
            case.grid, [d if d.running else d._replace(cap_ma=0) for d in demands], room_ma
        )  # as if nobody new had asked
        for demand in demands:
            evse, runs = demand.evse, days.running(demand.evse)
            if runs and evse not in before:
                assert days.now_s - off_s.get(evse, -OFF_S) >= OFF_S
                on_s[evse] = days.now_s
            if not runs and evse in before:
                off_s[evse] = days.now_s
                assert days.now_s - on_s[evse] >= ON_S or staying[evse].current_ma == 0


@law
@given(
    st.integers(2, 7),
    st.integers(1, 6),
    st.lists(st.sampled_from([(0,), (1,), (0, 1, 2)]), min_size=7, max_size=7),
)
def test_nobody_starves_where_minima_do_not_fit(
    count: int, places: int, phases: list[tuple[int, ...]]
) -> None:
    site = site_of([], [(0, phases[n]) for n in range(count)])
    demands = tuple(Demand(evse, 6_000, 32_000, 1_000, 0) for evse in site.evses)
    room = dict.fromkeys(Grid.of(site).resources, places * 6_000 + 1_000)
    days = Days(Case(site, demands, room))
    served: dict[EvseId, float] = dict.fromkeys(site.evses, 0.0)
    for _ in range(round((count + 1) * 2 * TURN_S / 30)):
        days.step(days.case.room_ma(), 30.0)
        for evse in served:
            served[evse] += 30.0 * days.running(evse)
    assert min(served.values()) >= TURN_S, served
