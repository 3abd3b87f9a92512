"""What the fallback budget says beside the amps: limits in kW, the imbalance, and stations nobody has proven yet.

Owns that arithmetic of stations left alone; the amps per phase are in `budget`. A limit in kW must hold like the amps;
the imbalance is a contract, and stations without a proof are the operator's to prove: both are told, not refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from controller.config.fewest import fewest
from controller.config.values import in_amps, in_kw
from controller.core.grid import PHASE_NAMES
from controller.core.model import Circuit, CircuitId, Evse, PerPhase, Site, StationId
from controller.core.power_limit import UNSEEN_PCT


@dataclass(frozen=True, slots=True)
class PowerBudget:
    """At the highest supply voltage. assumed_w None: nobody told us, and then `spare_w` is None too."""

    circuit: CircuitId
    limit_w: int
    assumed_w: int | None
    fallbacks_w: int
    spare_w: int | None


def below(site: Site, circuit: CircuitId) -> list[Evse]:
    return [
        evse for evse in site.evses.values() if any(node.id == circuit for node in site.path(evse.circuit))
    ]


def power_budgets(site: Site) -> Iterator[PowerBudget]:
    for circuit in site.circuits.values():
        if circuit.limit_w is None:
            continue
        fallbacks_w = sum(_alone_w(site, evse) for evse in below(site, circuit.id))
        assumed_w = None
        if circuit.assumed_load_ma is not None:
            assumed_w = _watts(sum(circuit.assumed_load_ma), highest_mv(site))
        spare_w = None if assumed_w is None else circuit.limit_w - assumed_w - fallbacks_w
        yield PowerBudget(circuit.id, circuit.limit_w, assumed_w, fallbacks_w, spare_w)


def infeasible_power(site: Site) -> Iterator[tuple[CircuitId, str, str]]:
    """Circuits whose limit in kW does not carry the fallbacks: which, by how much, the cheapest change."""
    for budget in power_budgets(site):
        over_w = budget.fallbacks_w + (budget.assumed_w or 0) - budget.limit_w
        if over_w <= 0:
            continue
        load = "" if not budget.assumed_w else f" and the assumed load of {in_kw(budget.assumed_w)}"
        volts = f"at {highest_mv(site) / 1e3:.0f} V"
        said = (
            f"the fallbacks of {in_kw(budget.fallbacks_w)}{load} {volts} are {in_kw(over_w)}"
            f" above the limit of {in_kw(budget.limit_w)}"
        )
        raised = f"raise the limit to {in_kw(budget.limit_w + over_w)} where that is allowed"
        alone: dict[StationId, int] = {}
        for evse in below(site, budget.circuit):
            alone[evse.station] = alone.get(evse.station, 0) + _alone_w(site, evse)
        paused = fewest([(watts,) for watts in alone.values()], [over_w])
        if paused is None:
            yield budget.circuit, said, f"lower assumed_load, or {raised}"
        else:
            many = "1 station" if paused == 1 else f"{paused} stations"
            yield budget.circuit, said, f'set fallback = "0 A" on {many} of {budget.circuit}, or {raised}'


def alone_told(site: Site) -> list[str]:
    """Sentences on what the stations may do alone beyond amps and kilowatts that must fit."""
    return [*_imbalance_told(site), *_unproven_told(site)]


def highest_mv(site: Site) -> int:
    return site.voltage_mv * UNSEEN_PCT // 100


def _imbalance_told(site: Site) -> Iterator[str]:
    most_ma = site.max_imbalance_ma
    if most_ma is None:
        return
    uneven = [evse for evse in site.evses.values() if len(evse.phases) < 3 or not evse.rotation_known]
    loads = [sum(evse.fallback_ma for evse in uneven if phase in evse.phases) for phase in range(3)]
    worst = max(range(3), key=lambda phase: loads[phase])
    if loads[worst] > most_ma:
        yield (
            f"alone, stations may draw {in_amps(loads[worst])} on {PHASE_NAMES[worst]} that the other phases need not"
            f' draw, and max_imbalance is {in_amps(most_ma)}: wire them to other phases, or set fallback = "0 A" on'
            f" {_paused(uneven, worst, loads[worst] - most_ma)} of them"
        )


def _paused(evses: list[Evse], phase: int, over_ma: int) -> int:
    draws = sorted((evse.fallback_ma for evse in evses if phase in evse.phases), reverse=True)
    return fewest([(draw,) for draw in draws], [over_ma]) or 0


def _unproven_told(site: Site) -> Iterator[str]:
    """What stations without a passed `depot qualify` count at while they are out of reach, where that is too much."""
    for circuit in site.circuits.values():
        evses = below(site, circuit.id)
        worst = _worst(circuit, evses)
        if worst is not None and any(evse.link.needs_proof for evse in evses):
            phase, total_ma = worst
            yield (
                f"{circuit.id}: until `depot qualify` has seen them fall to their fallback, stations out of reach"
                f" count at their maximum, all together {in_amps(total_ma)} on {PHASE_NAMES[phase]} of"
                f" {in_amps(circuit.limit_ma[phase])}: the others then stay at their fallback"
            )


def _worst(circuit: Circuit, evses: list[Evse]) -> tuple[int, int] | None:
    """The phase that would be most above its limit, and its load; None where all of it fits."""
    assumed = circuit.assumed_load_ma or PerPhase(0, 0, 0)
    loads = [
        assumed[p]
        + sum(
            evse.max_ma if evse.link.needs_proof else evse.fallback_ma for evse in evses if p in evse.phases
        )
        for p in range(3)
    ]
    phase = max(range(3), key=lambda p: loads[p] - circuit.limit_ma[p])
    return (phase, loads[phase]) if loads[phase] > circuit.limit_ma[phase] else None


def _alone_w(site: Site, evse: Evse) -> int:
    """From the supply, at its fallback. A DC output's watts are the same at any voltage."""
    volts_mv = highest_mv(site) if evse.dc is None else evse.dc.low_mv
    return _watts(evse.fallback_ma * len(evse.phases), volts_mv)


def _watts(current_ma: int, volts_mv: int) -> int:
    return -(-current_ma * volts_mv // 1_000_000)
