"""Why an EVSE has the current it has: which limit bound it, whose that is, and what one ampere more there would bring.

Owns the answer to `depot why`. Asks the real allocator again, with that one limit an ampere higher and everything else as
it was; tests/laws/test_why.py raises the limit in a twin of the depot and compares. Pure; changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from controller.core.allocator import Demand, allocate
from controller.core.background import Sight
from controller.core.bounds import bounded
from controller.core.demand import BY_OPERATOR
from controller.core.model import CircuitId, EvseId
from controller.core.proof import Proof, Rooms
from controller.core.share import METER_MARGIN_PCT

MORE_MA = 1000
OPERATOR = (BY_OPERATOR, "paused by operator")
_OWNERS = (  # how what bound it begins, and who set that
    ("station maximum", "the config: maximum of the station"),
    ("vehicle ", "the config: power of the vehicle"),
    ("surplus", "the config: charges on surplus only"),
    ("quarter-hour peak", "the config: peak of the site"),
    ("imbalance", "the config: max_imbalance of the site"),
    ("grid limit", "the grid operator"),
    ("flexibility by ", "who ordered the flexibility"),
    ("station ", "the station itself"),
    ("takes less than it may", "the vehicle: what it leaves, others get"),
    ("failsafe", "the controller: a meter is silent, so the fallback rules"),
    ("its turn is over", "the controller: vehicles take turns"),
    ("switches phases", "the controller: phases are switched without current"),
    ("rests after", "the controller: a contactor rests after a stop"),
    ("wake-up", "the controller: it wakes the vehicle"),
    ("its firmware", "the controller: nothing charges during an upgrade"),
    ("discharging", "who ordered the discharge"),
    ("no session", "nobody: no session runs"),
    ("offline", "nobody: the station is out of reach"),
)


@dataclass(frozen=True, slots=True)
class Why:
    """kind: "circuit", "bound" (a limit beside the copper), "cap" (what it may ask for) or "none" (no limit in amps).
    limit_ma: the limit as it stands. more_ma: what the EVSE would be granted with it one ampere higher, None where no ampere
    helps. next_by: what would bind then. gains: who else would be granted more."""

    evse: EvseId
    at: datetime
    grant_ma: int
    bound_by: str
    kind: str
    set_by: str
    limit_ma: int | None = None
    more_ma: int | None = None
    next_by: str | None = None
    gains: tuple[EvseId, ...] = ()


Outcome = Mapping[EvseId, tuple[int, str]]


def why(proof: Proof, evse: EvseId) -> Why:
    """Of an EVSE of the site."""
    grant_ma, bound_by, served = proof.grants[evse]
    found = Why(evse, proof.at.utc, grant_ma, bound_by, "none", _owner(bound_by))
    demand = next((demand for demand in proof.demands if demand.evse == evse), None)
    if demand is None or not served:
        return found
    now = outcome(proof, proof.rooms, proof.demands)
    raised = _raised(proof, demand, bound_by)
    if raised is None:
        return found
    kind, limit_ma, set_by, rooms, demands = raised
    then = outcome(proof, rooms, demands)
    gains = tuple(e for e, (ma, _) in then.items() if e != evse and ma > now[e][0] and proof.grants[e][2])
    more_ma, next_by = then[evse]
    return replace(
        found, kind=kind, limit_ma=limit_ma, set_by=set_by, more_ma=more_ma, next_by=next_by, gains=gains
    )


def outcome(proof: Proof, rooms: Rooms, demands: Sequence[Demand]) -> Outcome:
    """What the step makes of these rooms and demands: rise by the slow view, come down by the fast one (`decide`)."""
    grid, before = proof.grid, proof.before_ma
    lower, raising = list(rooms.lower_ma), list(rooms.raise_ma)
    names = bounded(grid, rooms.bounds, lower, raising)
    free = [room - away for room, away in zip(lower, rooms.away_ma, strict=True)]
    most = allocate(grid, demands, free, names, rooms.lower_quotas)
    free = [room - away for room, away in zip(raising, rooms.away_ma, strict=True)]
    rise = allocate(grid, demands, free, names, rooms.raise_quotas)
    found = {}
    for evse, high in most.items():
        grant_ma = min(max(before[evse], rise[evse].current_ma), high.current_ma)
        found[evse] = (grant_ma, (high if grant_ma == high.current_ma else rise[evse]).bound_by)
    return found


_Raised = tuple[str, int, str, Rooms, Sequence[Demand]]


def _raised(proof: Proof, demand: Demand, bound_by: str) -> _Raised | None:
    """The same with what bound it one ampere higher; None if that is not a matter of amps."""
    rooms = proof.rooms
    path = [node.id for node in proof.site.path(proof.site.evses[demand.evse].circuit)]
    caps = (*demand.caps, (demand.cap_ma, demand.cap_why))
    if (cap := min((ma for ma, name in caps if name == bound_by), default=None)) is not None:
        if (demand.cap_ma, demand.cap_why) not in demand.caps:
            return None  # decided beside all caps
        if not cap:
            return None  # it is not to charge: no matter of amps
        cap_ma, cap_why = min(
            ((ma + MORE_MA if name == bound_by else ma, name) for ma, name in demand.caps), key=lambda c: c[0]
        )
        higher = demand._replace(cap_ma=cap_ma, cap_why=cap_why)
        demands = [higher if each is demand else each for each in proof.demands]
        return "cap", cap, _owner(bound_by), rooms, demands
    if any(bound.why == bound_by and bound.circuit in path for bound in rooms.bounds):
        mine = [bound for bound in rooms.bounds if bound.why == bound_by and bound.circuit in path]
        wider = tuple(
            replace(
                bound,
                lower_ma=type(bound.lower_ma)(*(ma + MORE_MA for ma in bound.lower_ma)),
                raise_ma=type(bound.raise_ma)(*(ma + MORE_MA for ma in bound.raise_ma)),
            )
            if bound in mine
            else bound
            for bound in rooms.bounds
        )
        owner = _owner(bound_by, "the config")
        return "bound", min(mine[0].lower_ma), owner, replace(rooms, bounds=wider), proof.demands
    quotas = [quota for quota in rooms.lower_quotas if quota.why == bound_by and demand.evse in quota.members]
    if quotas:
        lower, raising = (
            tuple(
                replace(quota, room_ma=quota.room_ma + MORE_MA) if quota.why == bound_by else quota
                for quota in each
            )
            for each in (rooms.lower_quotas, rooms.raise_quotas)
        )
        higher_rooms = replace(rooms, lower_quotas=lower, raise_quotas=raising)
        return (
            "bound",
            quotas[0].room_ma,
            "the config: max_imbalance of the site",
            higher_rooms,
            proof.demands,
        )
    circuit = _circuit(proof, demand, bound_by)
    if circuit is None:
        return None
    limit_ma = min(proof.site.circuits[circuit].limit_ma)
    where = "site" if circuit == path[-1] else f"circuit.{circuit}"
    return "circuit", limit_ma, f"the config: limit of [{where}]", _wider(proof, circuit), proof.demands


def _circuit(proof: Proof, demand: Demand, bound_by: str) -> CircuitId | None:
    """Whose copper bound it: by name, or because what nobody can lower does not fit there."""
    grid, rooms = proof.grid, proof.rooms
    uses = grid.uses[demand.evse]
    named = next((r for r in uses if grid.name(r) == bound_by), None)
    if named is None and bound_by.startswith("fallback"):
        floors = grid.sums((each.evse, each.floor_ma) for each in proof.demands)
        named = next((r for r in uses if floors[r] > rooms.lower_ma[r] - rooms.away_ma[r]), None)
    return None if named is None else grid.resources[named][0]


def _wider(proof: Proof, circuit: CircuitId) -> Rooms:
    """Rooms if the limit of this circuit were one ampere higher, on every phase."""
    node, load = proof.site.circuits[circuit], proof.assumed.get(circuit)
    lower, raising = list(proof.rooms.lower_ma), list(proof.rooms.raise_ma)
    for phase in range(3):
        limit, resource = node.limit_ma[phase], proof.grid.index(circuit, phase)
        more = MORE_MA
        if load is not None:
            more -= (limit + MORE_MA) * METER_MARGIN_PCT // 100 - limit * METER_MARGIN_PCT // 100
            if load.sight is Sight.BLIND and node.assumed_load_ma is None:
                more -= MORE_MA  # nobody said what flows there at worst: all of it may be taken
        lower[resource] += more
        raising[resource] += more
    return replace(proof.rooms, lower_ma=tuple(lower), raise_ma=tuple(raising))


def _owner(bound_by: str, otherwise: str = "the plan") -> str:
    if bound_by in OPERATOR:
        return "an operator"
    return next((owner for begins, owner in _OWNERS if bound_by.startswith(begins)), otherwise)
