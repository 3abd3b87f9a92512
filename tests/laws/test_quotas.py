"""The allocator's law with quotas beside the copper (imbalance) and with vehicles that use fewer phases than their EVSE has.

Judged from the meaning of the words, as in test_allocator: floors and grants must fit the copper together, grants alone
the quotas; what lies above a floor loads only the phases in use.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from drawn_sites import Case, cases, site_of
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.core.allocator import Demand, Quota, allocate
from controller.core.model import SITE, EvseId

law = settings(derandomize=True, max_examples=150, deadline=None)


@dataclass(frozen=True)
class Bounded:
    """A case with quotas, and the phases each vehicle uses (None: not known, all of them)."""

    case: Case
    quotas: tuple[Quota, ...]
    used: Mapping[EvseId, frozenset[int] | None]

    def demands(self) -> tuple[Demand, ...]:
        grid = self.case.grid
        found = []
        for demand in self.case.demands:
            used = self.used[demand.evse]
            uses = grid.uses[demand.evse]
            kept = None if used is None else tuple(r for r in uses if grid.resources[r][1] in used)
            found.append(demand._replace(uses=kept))
        return tuple(found)

    def currents(self, demands: tuple[Demand, ...] | None = None) -> dict[EvseId, int]:
        grants = allocate(
            self.case.grid, self.demands() if demands is None else demands, self.case.room_ma(),
            quotas=self.quotas,
        )  # fmt: skip
        return {evse: grant.current_ma for evse, grant in grants.items()}

    def fits(self, current_ma: Mapping[EvseId, int]) -> bool:
        floors = {d.evse: d.floor_ma for d in self.case.demands}
        short = self.case.short()
        worst, drawn = dict.fromkeys(self.case.room, 0), dict.fromkeys(self.case.room, 0)
        for evse, current in current_ma.items():
            used = self.used[evse]
            for circuit, phase in self.case.uses(evse):
                loads = used is None or phase in used
                worst[circuit, phase] += max(floors[evse], current) if loads else floors[evse]
                drawn[circuit, phase] += current if loads else 0
                if loads and (circuit, phase) in short and current > floors[evse]:
                    return False
        for resource, room in self.case.room.items():
            if resource in short:
                if drawn[resource] > max(0, room):
                    return False
            elif worst[resource] > room:
                return False
        return all(
            sum(current_ma[member] for member in quota.members) <= max(0, quota.room_ma)
            for quota in self.quotas
        )


@st.composite
def bounded_cases(draw: st.DrawFn) -> Bounded:
    case = draw(cases())
    evses = sorted(case.site.evses)
    members = st.sets(st.sampled_from(evses)).map(frozenset)
    quota = st.builds(
        Quota, members, st.integers(-10, 80).map(lambda amps: amps * 1000 + 7), st.just("quota")
    )
    used = {}
    for evse in evses:
        phases = case.site.evses[evse].phases
        used[evse] = draw(st.none() | st.sets(st.sampled_from(phases), min_size=1).map(frozenset))
    return Bounded(case, tuple(draw(st.lists(quota, max_size=3))), used)


@law
@given(bounded_cases())
def test_never_above_copper_or_quota(case: Bounded) -> None:
    assert case.fits(case.currents())


@law
@given(bounded_cases())
def test_nothing_is_wasted(case: Bounded) -> None:
    """Nobody admitted could have one more step, and nobody paused its minimum."""
    grants = case.currents()
    for demand in case.case.demands:
        grant, step = grants[demand.evse], demand.step_ma
        assert grant % step == 0
        assert grant == 0 or demand.min_ma <= grant <= demand.cap_ma
        wanted = grant + step if grant else max(step, -(-demand.min_ma // step) * step)
        if wanted <= demand.cap_ma:
            assert not case.fits({**grants, demand.evse: wanted}), f"{demand.evse} could have {wanted}"


@law
@given(bounded_cases(), st.randoms(use_true_random=False))
def test_the_order_of_demands_does_not_matter(case: Bounded, random: Any) -> None:
    shuffled = list(case.demands())
    random.shuffle(shuffled)
    assert case.currents(tuple(shuffled)) == case.currents()


def test_a_quota_is_shared_fairly_and_named() -> None:
    """Three on L1 share what the imbalance leaves; the floors of 6 A that they could draw alone take nothing of it."""
    site = site_of([], [(0, (0,))] * 4)
    demands = tuple(Demand(evse, 6_000, 32_000, 1_000, 6_000) for evse in list(site.evses)[:3])
    idle = Demand(EvseId("s3/1"), 6_000, 0, 1_000, 6_000)
    case = Case(site, (*demands, idle), {(SITE, phase): 200_000 for phase in range(3)})
    quota = Quota(frozenset(site.evses), 20_000, "imbalance L1")
    grants = allocate(case.grid, case.demands, case.room_ma(), quotas=(quota,))
    assert sorted(grant.current_ma for grant in grants.values()) == [0, 6_000, 7_000, 7_000]
    assert {grants[d.evse].bound_by for d in demands} == {"imbalance L1"}


def test_a_vehicle_on_one_phase_leaves_the_others_to_the_rest() -> None:
    """Wired to three phases, used on L1 alone: above its floor it costs nothing on L2, where the other one is."""
    site = site_of([], [(0, (0, 1, 2)), (0, (1,))])
    one, other = site.evses
    room = {(SITE, phase): 40_000 for phase in range(3)}
    demands = (Demand(one, 6_000, 32_000, 1_000, 6_000), Demand(other, 6_000, 32_000, 1_000, 0))
    case = Bounded(Case(site, demands, room), (), {one: frozenset({0}), other: None})
    assert case.currents() == {one: 32_000, other: 32_000}
    unknown = replace(case, used={one: None, other: None})
    assert unknown.currents() == {one: 20_000, other: 20_000}
