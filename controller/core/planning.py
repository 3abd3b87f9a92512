"""What a planner gets to know: one frozen request per run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from controller.core.model import CircuitId, Departure, EvseId, Moment, PerPhase, Schedule, Site, VehicleId


@dataclass(frozen=True, slots=True)
class Present:
    """A vehicle that is here: what its session has delivered and what is known of it.

    drawn_ma: the most it draws, learned by measurement; 0 = it takes nothing although it may. granted_ma: what it may
    draw now. Both speak against what was declared.
    """

    evse: EvseId
    vehicle: VehicleId | None
    started: datetime
    energy_wh: int
    soc: int | None
    drawn_ma: int | None = None
    granted_ma: int = 0
    phases: tuple[int, ...] | None = None  # those it uses, learned; None = all that its EVSE has
    wakes: bool = False  # it was seen to charge on after a pause in this session


@dataclass(frozen=True, slots=True)
class Expected:
    """A vehicle that is not here yet: announced by a roster, or by habit. weight_pct: how sure it is to come."""

    evse: EvseId
    arrives: datetime
    departs: datetime
    energy_wh: int
    vehicle: VehicleId | None = None
    weight_pct: int = 100


@dataclass(frozen=True, slots=True)
class Step:
    """A value from `start` on, until the next one begins."""

    start: datetime
    power_w: int


@dataclass(frozen=True, slots=True)
class Price:
    """Per kWh in the site's currency, from `start` on, until the next one begins. May be negative."""

    start: datetime
    amount: float


@dataclass(frozen=True, slots=True)
class Battery:
    """The stationary battery of the site."""

    capacity_wh: int
    stored_wh: int
    charge_w: int
    discharge_w: int
    floor_wh: int = 0
    efficiency_pct: int = 90  # there and back


@dataclass(frozen=True, slots=True)
class Lender:
    """A vehicle that may feed back (V2G): never below the floor, each kWh out of its battery at a price."""

    evse: EvseId
    power_w: int
    floor_wh: int
    cycle_price: float  # per kWh


@dataclass(frozen=True, slots=True)
class PlanRequest:
    now: Moment
    site: Site
    present: tuple[Present, ...]
    schedules: Mapping[EvseId, tuple[Schedule, ...]]
    departures: Mapping[str, Departure]  # by EVSE or vehicle id
    expected: tuple[Expected, ...] = ()
    prices: tuple[Price, ...] = ()
    feed_in: tuple[Price, ...] = ()  # what the grid pays for what we give; nothing where unknown
    peak_price: float = 0.0  # per kW of the month's highest quarter hour
    peak_w: int = 0  # the highest quarter hour of the month so far
    load: tuple[Step, ...] = ()  # of the site without its chargers, forecast
    pv: tuple[Step, ...] = ()  # forecast
    background_ma: Mapping[CircuitId, PerPhase[int]] = field(default_factory=dict)  # not ours, measured now
    battery: Battery | None = None
    lenders: tuple[Lender, ...] = ()
    priorities: Mapping[str, int] = field(
        default_factory=dict
    )  # by EVSE or vehicle id; lower goes short later
    errors_s: tuple[
        float, ...
    ] = ()  # learned: by how much departures differed from what was announced (late > 0)
    target_w: int | None = None  # the mean of a quarter hour at the grid connection to stay below
    floors_ma: Mapping[EvseId, int] = field(default_factory=dict)  # kept for each, whatever it is given


def battery_of(site: Site, socs_pct: Mapping[str, int | None]) -> Battery | None:
    """The one battery of the site; None where its capacity or its state of charge is not known."""
    if len(site.batteries) != 1:
        return None
    (unit,) = site.batteries
    soc_pct = socs_pct.get(unit.id)
    if unit.capacity_wh is None or soc_pct is None:
        return None
    stored_wh, floor_wh = (unit.capacity_wh * share // 100 for share in (soc_pct, unit.floor_pct))
    return Battery(unit.capacity_wh, stored_wh, unit.charge_w, unit.discharge_w, floor_wh)
