"""What a planner gets to know: one frozen request per run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from controller.core.model import Departure, EvseId, Moment, Schedule, Site, VehicleId


@dataclass(frozen=True, slots=True)
class Present:
    """A vehicle that is here: what its session has delivered and what is known of it."""

    evse: EvseId
    vehicle: VehicleId | None
    started: datetime
    energy_wh: int
    soc: int | None


@dataclass(frozen=True, slots=True)
class PlanRequest:
    now: Moment
    site: Site
    present: tuple[Present, ...]
    schedules: Mapping[EvseId, tuple[Schedule, ...]]
    departures: Mapping[str, Departure]  # by EVSE or vehicle id
