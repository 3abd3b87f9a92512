"""What the core decides: commands for stations (imperative) and entries for the ledger (what must be remembered)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from controller.core.model import (
    Departure,
    EvseId,
    FlexAction,
    IdToken,
    Ordered,
    Schedule,
    StationId,
    VehicleId,
)
from controller.core.roster import RosterEntry
from controller.core.signed import SignedValue
from controller.core.standby import Standby

# --- commands -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SetLimit:
    """Allow at most `limit_ma` per phase for `lease_s`; after that the station is at its fallback by itself.

    `transaction` names the running transaction where there is one. `raises` says that the ceiling in the ledger
    must be committed before this leaves the box. phases: 1 = on the first conductor alone, None = as wired.
    """

    id: str
    evse: EvseId
    channel: str
    limit_ma: int
    lease_s: float
    transaction: str | None = None
    raises: bool = False
    phases: int | None = None


@dataclass(frozen=True, slots=True)
class StartCharging:
    """Start a transaction for `token`, drawing no more than `limit_ma` until a SetLimit says otherwise."""

    id: str
    evse: EvseId
    channel: str
    token: str | None
    limit_ma: int


@dataclass(frozen=True, slots=True)
class StopCharging:
    id: str
    evse: EvseId
    channel: str
    transaction: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class StartDischarge:
    """Feed back at most `power_w` (positive) for `duration_s`, not below `min_soc` per cent."""

    id: str
    evse: EvseId
    channel: str
    power_w: int
    duration_s: float
    min_soc: int


@dataclass(frozen=True, slots=True)
class StoreSchedule:
    """Have the station itself keep this schedule (capped by the driver to the stored fallback) for when we are gone.
    Accepted means: the driver has taken it and goes on until the station has it."""

    id: str
    evse: EvseId
    channel: str
    schedule: Schedule


@dataclass(frozen=True, slots=True)
class DropSchedule:
    """Take a stored schedule out of the station again."""

    id: str
    evse: EvseId
    channel: str
    schedule: str


@dataclass(frozen=True, slots=True)
class StorePlan:
    """Have the station follow this while we are gone: under every lease, never above its fallback, for this transaction
    only, and ending by itself. `started`: when the transaction began."""

    id: str
    evse: EvseId
    channel: str
    transaction: str
    started: datetime
    plan: Standby


@dataclass(frozen=True, slots=True)
class DropPlan:
    """Have nothing but the fallback follow the lease again. Accepted also when there was no plan."""

    id: str
    evse: EvseId
    channel: str
    transaction: str


@dataclass(frozen=True, slots=True)
class UpgradeFirmware:
    """Have the station install firmware. `url` None: the station knows where (Open Platform). `evse`: any of the
    station's; its progress comes back as FirmwareReported."""

    id: str
    evse: EvseId
    channel: str
    version: str
    url: str | None = None


@dataclass(frozen=True, slots=True)
class StoreTokens:
    """Have the station keep the whole local list of id tokens, for when we are gone. `version` counts the changes of
    the book. How it gets there (full, differential, in pieces) is the driver's business."""

    id: str
    evse: EvseId
    channel: str
    version: int
    tokens: tuple[IdToken, ...]


Steering = SetLimit | StartCharging | StopCharging | StartDischarge  # moves energy: drivers hurry
Care = StoreSchedule | DropSchedule | StorePlan | DropPlan | UpgradeFirmware | StoreTokens  # in its own time
Command = Steering | Care  # for stations


@dataclass(frozen=True, slots=True)
class SetBattery:
    """Have a stationary battery charge at `power_w`, negative: discharge, for `lease_s`; after that it is on its own."""

    id: str
    battery: str
    channel: str
    power_w: int
    lease_s: float


# --- ledger entries -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SessionSaved:
    """The newest state of a session; the ledger keeps one row per id. `ended` None = running."""

    id: str
    evse: EvseId
    transaction: str
    token: str | None
    vehicle: VehicleId | None
    started: datetime
    ended: datetime | None
    energy_wh: int
    register_start_wh: int | None
    register_wh: int | None
    stop_reason: str | None
    marks: tuple[
        str, ...
    ]  # anything inferred: "start-inferred", "offline", "register-reset", "orphan-stop" ...
    cost_micro: int | None = None  # millionths of `currency`; None = unknown, or no tariff
    currency: str | None = None
    counted: datetime | None = None  # up to when the energy has been priced


@dataclass(frozen=True, slots=True)
class CeilingSaved:
    """From now on this EVSE may be allowed up to `limit_ma`: a restart must budget for it."""

    evse: EvseId
    limit_ma: int


@dataclass(frozen=True, slots=True)
class LeasesOutlast:
    """Our clock was set back: until then (in the new time) a station may follow a lease for longer than it was given."""

    until: datetime


@dataclass(frozen=True, slots=True)
class FallbackSaved:
    evse: EvseId
    limit_ma: int | None  # None: refused, counts at hardware maximum


@dataclass(frozen=True, slots=True)
class ScheduleSaved:
    evse: EvseId
    schedule: Schedule


@dataclass(frozen=True, slots=True)
class ScheduleRemoved:
    evse: EvseId
    schedule: str


@dataclass(frozen=True, slots=True)
class DepartureSaved:
    departure: Departure


@dataclass(frozen=True, slots=True)
class AlarmSaved:
    id: str
    kind: str
    source: str
    priority: int
    text: str
    since: datetime
    cleared: datetime | None
    acked_by: str | None = None
    acked: datetime | None = None
    incident: str = ""
    over: bool = False  # it calls nobody any more; a restart need not know it


@dataclass(frozen=True, slots=True)
class Audited:
    """Who did what to whom. `by` is a user name, "depot" or a channel."""

    at: datetime
    by: str
    what: str
    subject: str
    detail: str


@dataclass(frozen=True, slots=True)
class StationSaved:
    station: StationId
    vendor: str
    model: str
    firmware: str
    serial: str


@dataclass(frozen=True, slots=True)
class RecordSaved:
    """A charger's own record beside ours: `session` is the one it belongs to, None if none fits; `gap_wh` its energy
    minus ours."""

    record: str
    evse: EvseId
    session: str | None
    started: datetime
    ended: datetime | None
    energy_wh: int
    gap_wh: int | None
    register_start_wh: int | None
    register_end_wh: int | None


@dataclass(frozen=True, slots=True)
class TokenSaved:
    """`version`: of the book with this change in it."""

    token: IdToken
    version: int


@dataclass(frozen=True, slots=True)
class OrderedSaved:
    evse: EvseId
    ordered: Ordered


@dataclass(frozen=True, slots=True)
class FlexSaved:
    """All flexibility actions that run now."""

    actions: tuple[FlexAction, ...]


@dataclass(frozen=True, slots=True)
class QualificationSaved:
    """The newest proof of a station with one firmware."""

    station: StationId
    firmware: str
    at: datetime
    by: str
    passed: bool
    findings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TokenForgotten:
    token: str
    version: int


@dataclass(frozen=True, slots=True)
class TokenReplaced:
    """In all that is kept of the past, `alias` stands in the place of this id token."""

    token: str
    alias: str


@dataclass(frozen=True, slots=True)
class SignedSaved:
    """Signed meter values of a transaction, as they came."""

    station: StationId
    transaction: str
    values: tuple[SignedValue, ...]


@dataclass(frozen=True, slots=True)
class InputSaved:
    """The contact of an external limit changed."""

    input: str
    on: bool


@dataclass(frozen=True, slots=True)
class PeakSaved:
    """At the start of a quarter hour: the highest one of the month so far, and the site meter's register then."""

    month: str  # "2026-11", on the site's calendar
    highest_w: int
    window: datetime
    register_wh: int | None


@dataclass(frozen=True, slots=True)
class RosterSaved:
    """The whole roster."""

    entries: tuple[RosterEntry, ...]


@dataclass(frozen=True, slots=True)
class SocSaved:
    """A state of charge that was told when the session had got `energy_wh`; one per EVSE."""

    evse: EvseId
    session: str
    soc: int
    energy_wh: int


@dataclass(frozen=True, slots=True)
class StaySaved:
    """What a finished session showed beside its energy. None: not seen. announced: the departure somebody had told.
    own_ma: the most it drew while it might have drawn clearly more: all that the vehicle takes."""

    session: str
    phases: int | None
    most_ma: int | None
    announced: datetime | None
    own_ma: int | None = None


@dataclass(frozen=True, slots=True)
class HushSaved:
    """Alarms of this kind and source are shelved until then; kind "": the source is out of service until it is lifted."""

    kind: str
    source: str
    by: str
    reason: str
    since: datetime
    until: datetime | None


@dataclass(frozen=True, slots=True)
class HushLifted:
    kind: str
    source: str


Entry = (
    SessionSaved
    | CeilingSaved
    | LeasesOutlast
    | FallbackSaved
    | ScheduleSaved
    | ScheduleRemoved
    | DepartureSaved
    | AlarmSaved
    | Audited
    | StationSaved
    | RecordSaved
    | TokenSaved
    | TokenForgotten
    | QualificationSaved
    | OrderedSaved
    | FlexSaved
    | PeakSaved
    | InputSaved
    | RosterSaved
    | SocSaved
    | StaySaved
    | HushSaved
    | HushLifted
    | TokenReplaced
    | SignedSaved
)
