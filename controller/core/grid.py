"""The limit tree flattened: every circuit and phase is one resource, every EVSE knows the resources it loads.

Built once from the site; rotation ("L2 L3 L1") is applied here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from controller.core.model import CircuitId, EvseId, PerPhase, Site

PHASE_NAMES = ("L1", "L2", "L3")


@dataclass(frozen=True, slots=True)
class Grid:
    """resources: (circuit, phase) pairs. uses: the indices of resources each EVSE loads, leaf first."""

    resources: tuple[tuple[CircuitId, int], ...]
    limits_ma: tuple[int, ...]
    uses: Mapping[EvseId, tuple[int, ...]]
    below: Mapping[CircuitId, tuple[EvseId, ...]]
    _first: Mapping[CircuitId, int]

    @classmethod
    def of(cls, site: Site) -> Grid:
        order = tuple(site.circuits.values())
        first = {circuit.id: 3 * index for index, circuit in enumerate(order)}
        uses = {}
        below: dict[CircuitId, list[EvseId]] = {circuit.id: [] for circuit in order}
        for evse in site.evses.values():
            path = list(site.path(evse.circuit))
            uses[evse.id] = tuple(first[node.id] + phase for node in path for phase in sorted(evse.phases))
            for node in path:
                below[node.id].append(evse.id)
        return cls(
            resources=tuple((circuit.id, phase) for circuit in order for phase in range(3)),
            limits_ma=tuple(limit for circuit in order for limit in circuit.limit_ma),
            uses=uses,
            below={circuit: tuple(evses) for circuit, evses in below.items()},
            _first=first,
        )

    def name(self, resource: int) -> str:
        circuit, phase = self.resources[resource]
        return f"circuit {circuit} {PHASE_NAMES[phase]}"

    def index(self, circuit: CircuitId, phase: int) -> int:
        return self._first[circuit] + phase

    def per_phase(self, values: list[int], circuit: CircuitId) -> PerPhase[int]:
        first = self._first[circuit]
        return PerPhase(values[first], values[first + 1], values[first + 2])

    def sums(self, currents: Iterable[tuple[EvseId, int]]) -> list[int]:
        """Per resource the sum of one current per EVSE, in mA."""
        totals = [0] * len(self.resources)
        uses = self.uses
        for evse, current_ma in currents:
            if current_ma:
                for resource in uses[evse]:
                    totals[resource] += current_ma
        return totals
