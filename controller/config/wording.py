"""How limits and outputs are written for people in `depot check`. Words only."""

from __future__ import annotations

from collections.abc import Sequence

from controller.config.values import in_amps, in_kw
from controller.core.grid import PHASE_NAMES
from controller.core.model import SITE, Circuit, Evse, PerPhase, Site
from controller.core.watts import dc_limit_w


def phases_of(currents_ma: PerPhase[int]) -> str:
    if len(set(currents_ma)) == 1:
        return in_amps(currents_ma.l1)
    return " / ".join(in_amps(milli) for milli in currents_ma)


def wiring(phases: Sequence[int]) -> str:
    return " ".join(PHASE_NAMES[phase] for phase in phases)


def limit_of(circuit: Circuit) -> str:
    power = "" if circuit.limit_w is None else f"{in_kw(circuit.limit_w)} and "
    return power + phases_of(circuit.limit_ma)


def amount(evse: Evse, current_ma: int) -> str:
    """A DC output as it is commanded, in kW."""
    if evse.dc is None or current_ma == 0:
        return in_amps(current_ma)
    return in_kw(min(evse.dc.max_power_w, dc_limit_w(evse.dc, current_ma)) // 10 * 10)


def supply_of(evse: Evse) -> str:
    if evse.dc is not None:
        return f"DC, {in_amps(evse.max_ma)}"
    if evse.phase_switching:
        return f"{wiring(evse.phases)} or {wiring(evse.phases[:1])}"
    return wiring(evse.phases) if evse.rotation_known else "unknown"


def imbalance_of(site: Site) -> list[str]:
    if site.max_imbalance_ma is None:
        return []
    counted = "" if site.circuits[SITE].meter else ", of our EVSEs alone: no meter tells the rest"
    return [f"at most {in_amps(site.max_imbalance_ma)} between two phases{counted}"]
