"""What people and dashboards see: one immutable picture per step. Unknown is None.

The five amps of an EVSE are never mixed: `limit_ma` (what copper and station allow), `grant_ma` (what we decided),
`commanded_ma` (sent), `accepted_ma` (the station said yes), `measured_ma`. `commitment_ma` is the worst it may draw
from now on without hearing from us again.

What is made for every EVSE in every step is a named tuple: as immutable as a frozen dataclass, for half the time.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from controller.core.model import (
    CircuitId,
    EvseId,
    EvseState,
    MeterId,
    PerPhase,
    Quality,
    StationId,
    VehicleId,
)


@dataclass(frozen=True, slots=True)
class CircuitView:
    id: CircuitId
    parent: CircuitId | None
    limit_ma: PerPhase[int]
    measured_ma: PerPhase[int | None]
    background_ma: PerPhase[int | None]
    committed_ma: PerPhase[int]
    meter: MeterId | None
    meter_age_s: float | None
    quality: Quality | None
    trip_margin_pct: int | None = None  # 100 = cold, 30 = fully loaded for ever, 0 = may have tripped


@dataclass(frozen=True, slots=True)
class LooksLike:
    """Which vehicle a session without a known token could be, and why. A suggestion."""

    vehicle: VehicleId
    confidence_pct: int
    why: str


class SessionView(NamedTuple):
    id: str
    token: str | None  # masked: last four characters
    vehicle: VehicleId | None
    started: datetime
    energy_wh: int
    soc: int | None
    departs: datetime | None
    short_wh: int | None
    departs_by: str | None = None  # who says so: "order", "roster" with its block, or the habit in words
    looks_like: LooksLike | None = None


@dataclass(frozen=True, slots=True)
class RotationView:
    """How an EVSE seems to be wired (as `Evse.phases`), how sure that is (0 to 1), from how many observations."""

    likely: tuple[int, ...]
    confidence: float
    seen: int


class EvseView(NamedTuple):
    id: EvseId
    station: StationId
    circuit: CircuitId
    connected: bool
    channels: tuple[str, ...]
    state: EvseState
    limit_ma: int
    grant_ma: int | None
    commanded_ma: int | None
    accepted_ma: int | None
    measured_ma: PerPhase[int | None]
    power_w: int | None
    commitment_ma: int
    bound_by: str
    paused: bool
    operator_limit_ma: int | None
    fallback_ma: int
    fallback_stored: bool
    lease_left_s: float | None
    session: SessionView | None
    fault: str | None
    identity: str  # "vendor model firmware", empty while unknown
    phases: tuple[int, ...] | None = None  # as configured; None: unknown rotation, or a DC output
    phases_used: tuple[int, ...] | None = None  # by the vehicle, where that is surely fewer
    rotation: RotationView | None = None
    contactor_cycles: int = 0  # stops of a drawing vehicle by a limit, since our start


@dataclass(frozen=True, slots=True)
class MeterView:
    id: MeterId
    kind: str
    age_s: float | None
    quality: Quality
    power_w: int | None
    current_ma: PerPhase[int | None]
    import_wh: int | None
    error: str | None
    errors: int = 0  # polls without a usable reading, since the start
    latency_ms: int | None = None


@dataclass(frozen=True, slots=True)
class ChannelView:
    id: str
    state: str
    text: str
    host: str | None = None
    region: str | None = None
    enabled_by: str | None = None


@dataclass(frozen=True, slots=True)
class AlarmView:
    id: str
    kind: str
    priority: int  # 1 critical, 2 high, 3 low
    state: str  # "unack", "ack", "rtn-unack"; or quiet: "shelved", "suppressed", "out-of-service"
    source: str
    text: str
    since: datetime
    incident: str = ""  # that it belongs to
    members: tuple[str, ...] = ()  # of an incident that stands for its alarms: their sources
    first: bool = False  # of a cascade: it began before the others
    note: str = ""
    by: str | None = None  # who has acknowledged it, shelved it or taken it out of service
    until: datetime | None = None  # shelved


@dataclass(frozen=True, slots=True)
class OrderView:
    """An operator's order and how far it has come. Stages in sequence, each with the time it was reached."""

    id: str
    kind: str  # start, stop, pause, resume, limit
    evse: EvseId
    by: str
    text: str
    stages: tuple[tuple[str, datetime], ...]  # ("sent", t), ("accepted", t), ("applied", t), ("measured", t)
    outcome: str | None  # None while under way; "done", "refused", "failed"
    reason: str | None


@dataclass(frozen=True, slots=True)
class UpgradeView:
    """`state`: waiting, ordered, accepted, downloading, upgrading, done, failed or left (the campaign ended before)."""

    station: StationId
    state: str
    progress_pct: int | None
    text: str  # why it waits, or how it ended


@dataclass(frozen=True, slots=True)
class CampaignView:
    """The firmware campaign that runs or was the last. `state`: running, stopping, done, failed or stopped."""

    order: str
    by: str
    version: str
    state: str
    text: str
    started: datetime
    stations: tuple[UpgradeView, ...]


@dataclass(frozen=True, slots=True)
class GridLimitView:
    """An external limit. signal: on, off or lost. holds: why it holds now, "" while it does not."""

    id: str
    circuit: CircuitId
    signal: str
    holds: str
    power_w: int
    text: str
    since: datetime | None


@dataclass(frozen=True, slots=True)
class BatteryView:
    """A stationary battery, charging positive: measured, wanted and accepted power, and why that is wanted."""

    id: str
    circuit: CircuitId
    power_w: int | None
    soc_pct: int | None
    wanted_w: int | None
    accepted_w: int | None
    why: str


@dataclass(frozen=True, slots=True)
class PeakView:
    """The clock quarter hour at the grid connection. `mean_w`: so far; None while the clock or the meter is not known."""

    target_w: int
    used_wh: int | None
    window_start: datetime | None
    mean_w: int | None
    month_w: int | None  # the month's highest quarter so far


@dataclass(frozen=True, slots=True)
class Snapshot:
    time: datetime
    site: str
    state: str  # "auto", "degraded" (meter stale), "failsafe" (blind), "starting"
    text: str  # one line for people: why not auto
    timezone: str
    circuits: tuple[CircuitView, ...]
    evses: tuple[EvseView, ...]
    meters: tuple[MeterView, ...]
    channels: tuple[ChannelView, ...]
    alarms: tuple[AlarmView, ...]
    orders: tuple[OrderView, ...]
    campaign: CampaignView | None = None
    peak: PeakView | None = None
    grid_limits: tuple[GridLimitView, ...] = ()
    batteries: tuple[BatteryView, ...] = ()
    planner: str = ""  # who made the plan that is followed: "horizon" or "rules"; empty before the first
    planner_text: str = ""  # why it was not the horizon
    # what calls nobody: shelved, suppressed, out of service, and the single alarms of incidents
    alarms_quiet: tuple[AlarmView, ...] = ()
