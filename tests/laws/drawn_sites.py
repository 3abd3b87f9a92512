"""Random sites for the laws: trees of circuits, rotations, floors, tiers, steps; and the sums they are judged by.

The sums here are written from the meaning of the words (walk from the EVSE to the root, add its current on each of
its phases), not with controller.core.grid, which is among the things on trial.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hypothesis import strategies as st

from controller.core.allocator import Demand
from controller.core.grid import Grid
from controller.core.model import SITE, Circuit, CircuitId, Evse, EvseId, Link, PerPhase, Site, StationId

LINK = Link("wire", lease_s=180, lease_slack_s=30, raise_gap_s=10, answer_s=12)
ROTATIONS = (
    *((0,), (1,), (2,)),
    *((0, 1), (1, 2), (2, 0)),
    *((0, 1, 2), (1, 2, 0), (2, 0, 1), (0, 2, 1)),
)

Resource = tuple[CircuitId, int]


@dataclass(frozen=True)
class Case:
    """One question to the allocator."""

    site: Site
    demands: tuple[Demand, ...]
    room: Mapping[Resource, int]

    @property
    def grid(self) -> Grid:
        return Grid.of(self.site)

    def room_ma(self) -> list[int]:
        return [self.room[resource] for resource in self.grid.resources]

    def uses(self, evse: EvseId) -> list[Resource]:
        unit = self.site.evses[evse]
        found, at = [], unit.circuit
        while True:
            found += [(at, phase) for phase in unit.phases]
            parent = self.site.circuits[at].parent
            if parent is None:
                return found
            at = parent

    def sums(self, current_ma: Mapping[EvseId, int]) -> dict[Resource, int]:
        total = dict.fromkeys(self.room, 0)
        for evse, current in current_ma.items():
            for resource in self.uses(evse):
                total[resource] += current
        return total

    def short(self) -> set[Resource]:
        """Where not even the floors fit."""
        floors = self.sums({d.evse: d.floor_ma for d in self.demands})
        return {resource for resource, floor in floors.items() if floor > self.room[resource]}


def site_of(parents: list[int], seats: list[tuple[int, tuple[int, ...]]]) -> Site:
    """parents[n]: the index of circuit n + 1's parent. seats: circuit index and phases of each EVSE."""
    names = [SITE, *(CircuitId(f"c{n + 1}") for n in range(len(parents)))]
    big = PerPhase(1_000_000, 1_000_000, 1_000_000)
    circuits = {SITE: Circuit(SITE, None, big)}
    for name, parent in zip(names[1:], parents, strict=True):
        circuits[name] = Circuit(name, names[parent], big)
    evses = {}
    for n, (circuit, phases) in enumerate(seats):
        evse = EvseId(f"s{n}/1")
        evses[evse] = Evse(evse, StationId(f"s{n}"), names[circuit], 32_000, 6_000, phases, 6_000, LINK)
    return Site("law", "UTC", 230_000, circuits, evses)


@st.composite
def sites(draw: st.DrawFn, most_evses: int = 9) -> Site:
    """Trees of depth 1 to 4: every circuit hangs below an earlier one that is not too deep."""
    depths, parents = [1], []
    for _ in range(draw(st.integers(0, 5))):
        parent = draw(st.sampled_from([n for n, depth in enumerate(depths) if depth < 4]))
        parents.append(parent)
        depths.append(depths[parent] + 1)
    seat = st.tuples(st.integers(0, len(depths) - 1), st.sampled_from(ROTATIONS))
    return site_of(parents, draw(st.lists(seat, min_size=1, max_size=most_evses)))


def demands_of(site: Site, continuous: bool) -> st.SearchStrategy[tuple[Demand, ...]]:
    def one(evse: EvseId) -> st.SearchStrategy[Demand]:
        currents = st.integers(0, 40) if not continuous else st.integers(0, 40_000)
        scale = 1 if continuous else 1000
        return st.builds(
            lambda minimum, cap, step, floor, tier, rank, weight, running: Demand(
                evse, minimum, cap * scale, step, floor * scale, tier, rank, weight, running
            ),
            st.just(0) if continuous else st.sampled_from([0, 1_400, 6_000, 8_000]),
            currents,
            st.just(1) if continuous else st.sampled_from([1, 100, 1_000, 16_000]),
            st.one_of(st.just(0), currents if continuous else st.sampled_from([0, 6, 8, 32])),
            st.just(0) if continuous else st.integers(0, 2),
            st.sampled_from([0.0, 1.0, 2.5, float("inf")]),
            st.sampled_from([1, 2, 3]) if continuous else st.sampled_from([1, 1, 2, 5]),
            st.booleans(),
        )

    return st.tuples(*(one(evse) for evse in site.evses))


@st.composite
def cases(draw: st.DrawFn, *, continuous: bool = False, most_evses: int = 9) -> Case:
    """Rooms from "more than enough" to negative, so that every side of the law is met often."""
    site = draw(sites(most_evses))
    demands = draw(demands_of(site, continuous))
    low = 0 if continuous else -20
    rooms = {}
    for circuit in site.circuits:
        even = draw(st.integers(low, 150)) * 1000 + draw(st.sampled_from([0, 0, 1, 499, 999]))
        for phase in range(3):
            rooms[(circuit, phase)] = even if draw(st.booleans()) else draw(st.integers(low, 150)) * 1000
    return Case(site, demands, rooms)
