"""What a battery's policy looks at, and what batteries take from the rooms of vehicles: sums over one step's state.

Owns these sums; what a battery does with them is the business of `battery`. A source of `bounds`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from controller.core.background import Assumed
from controller.core.battery import Scene, Unit
from controller.core.bounds import PEAK, Bound
from controller.core.model import SITE, Battery, Circuit, CircuitId, MeterId, Moment, PerPhase, Quality
from controller.core.state import State

USABLE_PCT = 98  # as for the amps of a metered circuit
PLAN_HOLDS_S = 1800.0


def measured(state: State, unit: Unit, now: Moment) -> tuple[int | None, int | None]:
    """Power and state of charge, None while they are not fresh."""
    meter = unit.battery.meter
    reading = state.belief.meters[meter].reading
    if reading is None or state.belief.quality(meter, now.mono_s) is not Quality.GOOD:
        return None, None
    return reading.power_w, reading.soc_pct


def scene(state: State, assumed: Mapping[CircuitId, Assumed], now: Moment, unit: Unit) -> Scene:
    power_w, soc_pct = measured(state, unit, now)
    import_w = _import_w(state, now)
    if power_w is None or import_w is None:
        return Scene(soc_pct, None, 0, "", 0, 0, None)
    others_w = import_w - power_w
    relief_w, why = max(
        (_peak_relief_w(state, others_w, now), PEAK),
        (_fuse_relief_w(state, unit.battery, power_w, now), "fuse"),
    )
    plan_w = _plan_w(state, now)
    room_w = 0 if plan_w is None else _room_w(state, assumed, unit.battery, power_w, others_w, now)
    return Scene(soc_pct, power_w, relief_w, why, max(0, -others_w), room_w, plan_w)


def reserved(
    state: State,
    assumed: Mapping[CircuitId, Assumed],
    lower_ma: Sequence[int],
    raise_ma: Sequence[int],
    now: Moment,
) -> Iterator[Bound]:
    """What the circuits leave once all that batteries may take, and nothing of what they give, is counted. `lower_ma`,
    `raise_ma`: what they leave otherwise, per resource."""
    takes: dict[CircuitId, list[int]] = {}
    gives: dict[CircuitId, list[int]] = {}
    for unit in state.batteries.units.values():
        power_w, _ = measured(state, unit, now)
        unit.see(power_w, now.mono_s)
        for node in state.site.path(unit.battery.circuit):
            # a circuit without a meter shows nothing
            taken_w = unit.unseen_w() if node.id in assumed else unit.told_w()
            taken_ma = _current_ma(state, unit.battery, taken_w)
            given_ma = _current_ma(state, unit.battery, max(0, -(power_w or 0)))
            for phase in unit.battery.phases:
                takes.setdefault(node.id, [0, 0, 0])[phase] += taken_ma
                gives.setdefault(node.id, [0, 0, 0])[phase] += given_ma
    for circuit, taken in takes.items():
        lower, rising = [], []
        for phase in range(3):
            resource = state.grid.index(circuit, phase)
            lower.append(lower_ma[resource] - taken[phase])
            load = assumed.get(circuit)
            relieved_ma = 0
            if load is not None:
                shown_ma = load.raise_ma[phase]
                relieved_ma = max(0, shown_ma + gives[circuit][phase]) - max(0, shown_ma)
            rising.append(raise_ma[resource] - taken[phase] - relieved_ma)
        yield Bound(circuit, PerPhase(*lower), PerPhase(*rising), "battery")


def _peak_relief_w(state: State, others_w: int, now: Moment) -> int:
    """What the site imports without the battery, and what vehicles miss for the quarter hour, above its pace."""
    pace_w = None if state.peak is None else state.peak.pace_w(now)
    if pace_w is None:
        return 0
    missing_w = 0
    for evse_id in state.sessions.running:
        memory, evse = state.memory[evse_id], state.site.evses[evse_id]
        if memory.bound_by == PEAK:
            missing_w += (
                (evse.max_ma - memory.grant_ma) * len(evse.phases) * state.site.voltage_mv // 1_000_000
            )
    return max(0, others_w + missing_w - pace_w)


def _fuse_relief_w(state: State, battery: Battery, power_w: int, now: Moment) -> int:
    """How far a circuit above the battery is above what it should carry, without what the battery does."""
    own_ma = power_w * 1_000_000 // (state.site.voltage_mv * len(battery.phases))
    over_ma = 0
    for node in state.site.path(battery.circuit):
        for phase in battery.phases:
            current_ma = _current_at(state, node, phase, now)
            if current_ma is not None:
                over_ma = max(over_ma, current_ma - own_ma - node.limit_ma[phase] * USABLE_PCT // 100)
    return _power_w(state, battery, over_ma)


def _room_w(
    state: State,
    assumed: Mapping[CircuitId, Assumed],
    battery: Battery,
    power_w: int,
    others_w: int,
    now: Moment,
) -> int:
    """What it may take from the grid: beside all that vehicles may draw, and within the quarter hour; nothing while the
    grid operator limits, for that is its load too."""
    path = list(state.site.path(battery.circuit))
    if any(limit.circuit in {node.id for node in path} for limit in state.inputs.holding(now.mono_s)):
        return max(0, -others_w)
    accounts = state.commitments.accounts
    ours = state.grid.sums((evse, account.commitment_ma(now.mono_s)) for evse, account in accounts.items())
    own_ma = max(0, power_w) * 1_000_000 // (state.site.voltage_mv * len(battery.phases))
    rooms_ma = []
    for node in path:
        load = assumed.get(node.id)
        for phase in battery.phases:
            usable_ma = node.limit_ma[phase] * USABLE_PCT // 100 - ours[state.grid.index(node.id, phase)]
            if load is not None:
                rooms_ma.append(usable_ma - max(0, load.raise_ma[phase] - own_ma))
            else:
                rooms_ma.append(usable_ma - (node.assumed_load_ma or (0, 0, 0))[phase])
    room_w = _power_w(state, battery, max(0, min(rooms_ma)))
    pace_w = None if state.peak is None else state.peak.pace_w(now)
    return room_w if pace_w is None else max(0, min(room_w, pace_w - others_w))


def _plan_w(state: State, now: Moment) -> int | None:
    """The set-point of the plan, while it is fresh; a plan knows one battery."""
    plan = state.plan
    if plan is None or len(state.batteries.units) != 1 or not now.utc_trusted:
        return None
    return plan.battery_w if (now.utc - plan.made).total_seconds() < PLAN_HOLDS_S else None


def _import_w(state: State, now: Moment) -> int | None:
    meter = state.site.circuits[SITE].meter
    if meter is None or state.belief.quality(meter, now.mono_s) is not Quality.GOOD:
        return None
    reading = state.belief.meters[meter].reading
    return None if reading is None else reading.power_w


def _current_at(state: State, node: Circuit, phase: int, now: Moment) -> int | None:
    meter: MeterId | None = node.meter
    if meter is None or state.belief.quality(meter, now.mono_s) is not Quality.GOOD:
        return None
    reading = state.belief.meters[meter].reading
    return None if reading is None else reading.current_ma[phase]


def _current_ma(state: State, battery: Battery, power_w: int) -> int:
    """Per phase, rounded up: it is a load."""
    return -(-power_w * 1_000_000 // (state.site.voltage_mv * len(battery.phases)))


def _power_w(state: State, battery: Battery, current_ma: int) -> int:
    return current_ma * state.site.voltage_mv * len(battery.phases) // 1_000_000
