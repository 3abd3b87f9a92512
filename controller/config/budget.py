"""The fallback budget: does every fuse hold when the controller is gone?

Owns the arithmetic of stations left alone: per circuit and phase, the fallbacks below it plus the load that
is not ours, against the limit. Source: DESIGN section 5 rule 2; static feasibility in the field notes.
"""

from __future__ import annotations

from controller.config.budget_beside import below, infeasible_power
from controller.config.fewest import fewest
from controller.config.lines import KeyPath
from controller.config.table import Findings
from controller.config.types import Budget
from controller.config.values import in_amps
from controller.core.model import SITE, Circuit, CircuitId, Evse, PerPhase, Site, StationId

PHASE_NAMES = ("L1", "L2", "L3")


def fallback_budget(site: Site) -> tuple[Budget, ...]:
    """One budget per circuit, in the site's order: the worst case with every station at its fallback.

    Every EVSE counts with its station's fallback, on the grid phases its conductors hang on, in its own
    circuit and in all above.
    """
    return tuple(_budget(circuit, _per_phase(below(site, circuit.id))) for circuit in site.circuits.values())


def note_infeasible(site: Site, findings: Findings) -> None:
    """Refuses circuits whose fallbacks do not fit, saying by how much and what the cheapest change is."""
    for budget in fallback_budget(site):
        over_ma = _over(budget)
        phase = over_ma.index(max(over_ma))
        if over_ma[phase] <= 0:
            continue
        sum_text = f"the fallbacks of {in_amps(budget.fallbacks_ma[phase])}"
        if budget.assumed_ma is not None and budget.assumed_ma[phase]:
            sum_text += f" and the assumed load of {in_amps(budget.assumed_ma[phase])}"
        findings.note(
            _path(budget.circuit, "limit"),
            f"{sum_text} on {PHASE_NAMES[phase]} are {in_amps(over_ma[phase])}"
            f" above the limit of {in_amps(budget.limit_ma[phase])}",
            _cheapest_change(site, budget, phase),
        )
    for circuit_id, said, change in infeasible_power(site):
        findings.note(_path(circuit_id, "limit"), said, change)
    for circuit in site.circuits.values():
        _note_lighter_than_children(site, circuit, findings)


def _budget(circuit: Circuit, fallbacks_ma: PerPhase[int]) -> Budget:
    limit_ma, assumed_ma = circuit.limit_ma, circuit.assumed_load_ma
    spare_ma = None
    if assumed_ma is not None:
        spare_ma = PerPhase(*(limit_ma[p] - assumed_ma[p] - fallbacks_ma[p] for p in range(3)))
    return Budget(circuit.id, limit_ma, assumed_ma, fallbacks_ma, spare_ma)


def _over(budget: Budget) -> list[int]:
    """mA above the limit per phase. An unknown load cannot be judged; the fallbacks must fit all the same."""
    assumed_ma = budget.assumed_ma or (0, 0, 0)
    return [budget.fallbacks_ma[p] + assumed_ma[p] - budget.limit_ma[p] for p in range(3)]


def _cheapest_change(site: Site, budget: Budget, phase: int) -> str:
    """The fewest stations that must pause when alone, or the load and limit when no pausing is enough."""
    over_ma = _over(budget)
    fuse = f"the limit to {in_amps(budget.limit_ma[phase] + over_ma[phase])} where the copper allows it"
    if any(over_ma[p] > budget.fallbacks_ma[p] for p in range(3)):
        return f"lower assumed_load, or raise {fuse}"
    stations: dict[StationId, list[Evse]] = {}
    for evse in below(site, budget.circuit):
        stations.setdefault(evse.station, []).append(evse)
    paused = fewest([_per_phase(evses) for evses in stations.values()], over_ma)
    many = "1 station" if paused == 1 else f"{paused} stations"
    return f'set fallback = "0 A" on {many} of {budget.circuit}, or raise {fuse}'


def _note_lighter_than_children(site: Site, circuit: Circuit, findings: Findings) -> None:
    """What flows through a child flows through its parent: it cannot assume less load."""
    if circuit.assumed_load_ma is None:
        return
    below = [child.assumed_load_ma for child in site.circuits.values() if child.parent == circuit.id]
    for phase, name in enumerate(PHASE_NAMES):
        children_ma = sum(load_ma[phase] for load_ma in below if load_ma is not None)
        if children_ma > circuit.assumed_load_ma[phase]:
            findings.note(
                _path(circuit.id, "assumed_load"),
                f"{in_amps(circuit.assumed_load_ma[phase])} on {name} is less than the circuits below assume"
                f" ({in_amps(children_ma)})",
                f'write "{in_amps(children_ma)}" or more',
            )
            return


def _per_phase(evses: list[Evse]) -> PerPhase[int]:
    return PerPhase(*(sum(evse.fallback_ma for evse in evses if phase in evse.phases) for phase in range(3)))


def _path(circuit: CircuitId, key: str) -> KeyPath:
    return (SITE, key) if circuit == SITE else ("circuit", circuit, key)
