"""Vehicles that the plan may discharge (V2G), and who goes short last: as the config has it, where it can be done.

Owns which of those that are here may lend now. What a discharge is and when it ends stands in `discharge`; how much is
lent, and when, the planner works out. A vehicle whose charge, battery or target is not known lends nothing: nobody could
say what it must have back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from controller.core.discharge import FLOOR_PCT, PLAN, channel_of, lacks
from controller.core.model import EvseId, Moment, Site
from controller.core.planning import Lender
from controller.core.state import State
from controller.core.tariff import MICRO
from controller.core.watts import limit_w


def lenders(state: State, now: Moment) -> tuple[Lender, ...]:
    return tuple(_lenders(state, now))


def priorities(site: Site) -> Mapping[str, int]:
    """As planners want them: lower goes short later."""
    return {vehicle.id: -vehicle.priority for vehicle in site.vehicles.values() if vehicle.priority}


def _lenders(state: State, now: Moment) -> Iterator[Lender]:
    for evse_id, session in state.sessions.running.items():
        vehicle = None if session.vehicle is None else state.site.vehicles[session.vehicle]
        if vehicle is None or not vehicle.lends_w or vehicle.battery_wh is None or session.soc is None:
            continue
        if not _may(state, evse_id, now):
            continue
        evse = state.site.evses[evse_id]
        power_w = min(vehicle.lends_w, limit_w(evse, evse.max_ma, state.site.voltage_mv))
        floor_wh = vehicle.battery_wh * max(vehicle.lends_above_pct, FLOOR_PCT) // 100
        yield Lender(evse_id, power_w, floor_wh, vehicle.lends_for_micro / MICRO)


def _may(state: State, evse_id: EvseId, now: Moment) -> bool:
    evse, memory, desk = state.site.evses[evse_id], state.memory[evse_id], state.desks[evse_id]
    if channel_of(state, evse) is None or lacks(state, evse) is not None:
        return False
    refused = memory.discharge is not None and now.mono_s < memory.discharge.not_before_s
    ordered = (
        memory.discharge is not None and memory.discharge.schedule is None
    )  # by a person, who knows best
    if refused or ordered or memory.waived == PLAN:
        return False
    return not (desk.manual or desk.paused or desk.stop) and state.belief.reached_over(
        evse_id, evse.discharge_channel
    )
