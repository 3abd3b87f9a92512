"""Facts, past tense: everything that can change what the depot believes. A closed union, `Event`.

Drivers, the console, the planner and the ledger (at start) report them; `Depot.apply` folds them in. Times named
`taken_s` are monotonic seconds of `Moment.mono_s`; `datetime` values are aware, UTC. This file is long because it is one
list, read from top to bottom.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from controller.core.habits import Draw, Habit
from controller.core.model import (
    CircuitId,
    Departure,
    EvseId,
    EvseState,
    FlexAction,
    IdToken,
    MeterId,
    Ordered,
    PerPhase,
    Plan,
    Schedule,
    StationId,
)
from controller.core.roster import RosterEntry
from controller.core.signed import SignedValue
from controller.core.tariff import Tariff

# --- meters ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MeterReading:
    """One sample of one meter, all values of the same instant. Import positive. A missing value is None."""

    meter: MeterId
    taken_s: float
    current_ma: PerPhase[int | None]
    power_w: int | None
    voltage_mv: PerPhase[int | None]
    import_wh: int | None = None
    export_wh: int | None = None
    latency_ms: int | None = None  # how long the device took to tell it
    soc_pct: int | None = None  # of a battery


@dataclass(frozen=True, slots=True)
class MeterFailed:
    """A poll gave no usable sample. `kind`: unreachable, refused or nonsense (drivers.errors); "stuck" is a meter that
    answers, always the same."""

    meter: MeterId
    kind: str
    text: str


# --- stations -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LinkUp:
    """A channel to a station is open and authenticated. Nothing is known yet about its limits."""

    station: StationId
    channel: str  # "ocpp1.6", "open-platform/cloud"
    peer: str


@dataclass(frozen=True, slots=True)
class LinkDown:
    station: StationId
    channel: str
    reason: str


@dataclass(frozen=True, slots=True)
class StationBooted:
    """The station introduced itself (BootNotification, device read). After a real reboot leases are gone."""

    station: StationId
    channel: str
    vendor: str
    model: str
    firmware: str
    serial: str = ""


@dataclass(frozen=True, slots=True)
class FallbackStored:
    """The station accepted to keep this limit by itself; from now on it counts with it when alone."""

    evse: EvseId
    channel: str
    limit_ma: int


@dataclass(frozen=True, slots=True)
class DischargeOffered:
    """The station says that it can feed power back when its leading channel asks for it (OCPP 2.1, V2X). It holds until
    the link goes or the station boots."""

    evse: EvseId
    channel: str


@dataclass(frozen=True, slots=True)
class FallbackRefused:
    """The station would not store its fallback: it counts at its hardware maximum when alone."""

    evse: EvseId
    channel: str
    reason: str


@dataclass(frozen=True, slots=True)
class StatusChanged:
    """`fault` is the station's own code or text when state is FAULTED, else None."""

    evse: EvseId
    channel: str
    state: EvseState
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class EvseSample:
    """What the station measured for one EVSE. Phases are the station's conductors, not yet grid phases.

    A phase that was not reported is None. `register_wh` is the station's energy register (monotonic, whole life
    or whole session: only differences count).
    """

    evse: EvseId
    channel: str
    taken_s: float
    current_ma: PerPhase[int | None]
    power_w: int | None = None
    register_wh: int | None = None
    soc: int | None = None
    offered_ma: int | None = None


@dataclass(frozen=True, slots=True)
class TokenPresented:
    """A driver presented an id token; the answer of apply is a Verdict."""

    station: StationId
    token: str


@dataclass(frozen=True, slots=True)
class TransactionStarted:
    """Energy may flow from here on. `transaction` is None where we give the number (OCPP 1.6): the runtime fills it
    from the ledger before the core sees the event. `offline`: replayed later, must not touch live state.
    """

    evse: EvseId
    channel: str
    transaction: str | None
    token: str | None
    register_wh: int | None
    started: datetime
    offline: bool = False
    inferred: bool = False  # no start message; concluded from status or samples
    marks: tuple[str, ...] = ()  # what was odd about the message, for the session's marks
    unsure: bool = False  # not even its number is certain: counts only where no session runs


@dataclass(frozen=True, slots=True)
class TransactionIdentified:
    """An id token for a transaction that runs already (OCPP 2.x: energy may flow before the driver is known); the answer
    of apply is a Verdict."""

    evse: EvseId
    channel: str
    transaction: str
    token: str
    offline: bool = False


@dataclass(frozen=True, slots=True)
class TransactionEnded:
    """`evse` is None when the station names only a transaction. Unknown transactions become orphans, never errors."""

    station: StationId
    evse: EvseId | None
    transaction: str
    reason: str
    register_wh: int | None
    ended: datetime
    token: str | None = None
    offline: bool = False
    marks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TransactionMeasured:
    """A register value of a transaction that is over already (closing values that came late)."""

    station: StationId
    transaction: str
    register_wh: int


@dataclass(frozen=True, slots=True)
class MeterSigned:
    """Meter values of a transaction that the station's meter has signed: kept for those who can check the signature."""

    station: StationId
    transaction: str
    values: tuple[SignedValue, ...]


@dataclass(frozen=True, slots=True)
class AccessRefused:
    """Somebody was turned away at a door: unknown identity, wrong password, wrong subprotocol, old firmware."""

    channel: str
    identity: str
    peer: str
    reason: str


@dataclass(frozen=True, slots=True)
class ChannelChanged:
    """State of a whole channel: "ok", "degraded", "down", "off"; `text` says why."""

    channel: str
    state: str
    text: str = ""
    host: str | None = None
    region: str | None = None
    enabled_by: str | None = None


@dataclass(frozen=True, slots=True)
class BooksChanged:
    """What people must know of our own files: trouble with one (`source`), or how one was mended; "" when it is over."""

    source: str
    text: str


@dataclass(frozen=True, slots=True)
class ClockJudged:
    """What is to be said of the time of day (`core.timekeeper`). doubt: why it is not believed; advice: what would make it
    surer; "" when there is nothing. set_s: by how much our own time was set this very moment."""

    doubt: str
    advice: str
    set_s: float = 0.0


@dataclass(frozen=True, slots=True)
class FaultReported:
    """A fault begins (`active`) or ends. `code` in the dictionary's form "F-0421" where it can be read so, else the
    raw text; `evse` None = the whole station."""

    station: StationId
    evse: EvseId | None
    channel: str
    code: str
    active: bool
    text: str = ""


@dataclass(frozen=True, slots=True)
class RecordReceived:
    """The charger's own record of a finished session (Open Platform). Registers in Wh, energy as a magnitude."""

    evse: EvseId
    channel: str
    record: str
    started: datetime
    ended: datetime | None
    energy_wh: int
    register_start_wh: int | None
    register_end_wh: int | None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class FirmwareReported:
    """Progress of a firmware upgrade: downloading, upgrading, success or failed."""

    station: StationId
    channel: str
    version: str
    status: str
    progress_pct: int | None = None
    text: str = ""


@dataclass(frozen=True, slots=True)
class SecurityEvent:
    """Something about keys, certificates or tampering: said by the station, or done with it. `kind` as in the list of
    security events of OCPP, or ours."""

    station: StationId
    channel: str
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class StationAsked:
    """Somebody had the station asked something beside control (restart, unlock, variables, logs ...), and what it said."""

    by: str
    station: StationId
    action: str
    outcome: str


# --- what became of our commands ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CommandSent:
    command: str


@dataclass(frozen=True, slots=True)
class CommandAccepted:
    """The station said yes."""

    command: str


@dataclass(frozen=True, slots=True)
class CommandRefused:
    """The station said no; nothing changed there."""

    command: str
    reason: str


@dataclass(frozen=True, slots=True)
class CommandLost:
    """No answer: it may or may not have been carried out. Both must be budgeted."""

    command: str
    reason: str


@dataclass(frozen=True, slots=True)
class CommandReplaced:
    """Never left the box: a newer command took its place in the station's slot."""

    command: str


# --- wishes of people and planners ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StartWished:
    order: str
    by: str
    evse: EvseId
    token: str | None = None
    limit_ma: int | None = None
    energy_wh: int | None = None
    soc: int | None = None
    duration_s: float | None = None


@dataclass(frozen=True, slots=True)
class StopWished:
    order: str
    by: str
    evse: EvseId


@dataclass(frozen=True, slots=True)
class PauseWished:
    order: str
    by: str
    evse: EvseId


@dataclass(frozen=True, slots=True)
class ResumeWished:
    order: str
    by: str
    evse: EvseId


@dataclass(frozen=True, slots=True)
class LimitWished:
    """`limit_ma` None lifts the operator's limit again; the site's limits stay."""

    order: str
    by: str
    evse: EvseId
    limit_ma: int | None


@dataclass(frozen=True, slots=True)
class DischargeWished:
    """V2G: `power_w` positive. A missing duration is one hour, a missing floor 20 % (G-14)."""

    order: str
    by: str
    evse: EvseId
    power_w: int
    min_soc: int | None = None
    duration_s: float | None = None


@dataclass(frozen=True, slots=True)
class FlexWished:
    """Load flexibility: every EVSE below `circuit` at most `percent` of its rating for `duration_s` (0 = pause).
    A newer one on the same circuit replaces the older; the lowest of all that apply wins; it ends by itself."""

    order: str
    by: str
    circuit: CircuitId
    percent: int
    duration_s: float


@dataclass(frozen=True, slots=True)
class FlexEnded:
    """Ends all flexibility now; the site's own limits stay."""

    by: str


@dataclass(frozen=True, slots=True)
class UpgradeWished:
    """Firmware for these stations, one after the other in this order (`url` None: the stations know where)."""

    order: str
    by: str
    stations: tuple[StationId, ...]
    version: str
    url: str | None = None


@dataclass(frozen=True, slots=True)
class UpgradeEnded:
    """No further station is upgraded; one that has begun goes on."""

    by: str


@dataclass(frozen=True, slots=True)
class ScheduleSet:
    by: str
    evse: EvseId
    schedule: Schedule


@dataclass(frozen=True, slots=True)
class ScheduleCleared:
    by: str
    evse: EvseId
    schedule: str | None  # None: all of this EVSE


@dataclass(frozen=True, slots=True)
class DepartureSet:
    by: str
    departure: Departure


@dataclass(frozen=True, slots=True)
class TokenSet:
    """This id token is known from now on, or known better."""

    by: str
    token: IdToken


@dataclass(frozen=True, slots=True)
class TokenRemoved:
    by: str
    token: str


@dataclass(frozen=True, slots=True)
class TokenErased:
    """Whoever this id token stands for is to be forgotten: `alias` takes its place wherever it may be taken out."""

    by: str
    token: str
    alias: str


@dataclass(frozen=True, slots=True)
class StationQualified:
    """The guided proof on site has ended. `findings`: one line per check, in their order."""

    by: str
    station: StationId
    firmware: str
    passed: bool
    findings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RenewalHeld:
    """For a proof: no limit goes to this EVSE until `until_s` (monotonic), so that its lease runs out."""

    by: str
    evse: EvseId
    until_s: float


@dataclass(frozen=True, slots=True)
class PlanReady:
    plan: Plan


# --- what the ledger knew when we started ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TariffRead:
    """What energy costs from now on. Of a prices file only what lies around the present; another one comes in time."""

    tariff: Tariff


@dataclass(frozen=True, slots=True)
class FallbackRestored:
    """The station stored this fallback before the last stop and has had it ever since."""

    evse: EvseId
    limit_ma: int


@dataclass(frozen=True, slots=True)
class CeilingRestored:
    """Before the last stop this EVSE may have been allowed up to `limit_ma`; a lease may still be running. outlasts: our
    clock was set back, so until then it may run for longer than it was given."""

    evse: EvseId
    limit_ma: int
    outlasts: datetime | None = None


@dataclass(frozen=True, slots=True)
class SessionRestored:
    """A session that was open when the process ended."""

    session: str
    evse: EvseId
    transaction: str
    token: str | None
    started: datetime
    register_start_wh: int | None
    register_wh: int | None
    energy_wh: int
    cost_micro: int | None = None
    currency: str | None = None
    counted: datetime | None = None
    marks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OrderedRestored:
    evse: EvseId
    ordered: Ordered


@dataclass(frozen=True, slots=True)
class FlexRestored:
    actions: tuple[FlexAction, ...]


@dataclass(frozen=True, slots=True)
class QualificationRestored:
    station: StationId
    firmware: str
    passed: bool


@dataclass(frozen=True, slots=True)
class TokensRestored:
    """The book of id tokens, and how often it has changed so far."""

    tokens: tuple[IdToken, ...]
    version: int


@dataclass(frozen=True, slots=True)
class ClosedRestored:
    """A transaction that was closed before the last stop; `told`: the station said so. Its repeats change nothing."""

    evse: EvseId
    transaction: str
    told: bool


@dataclass(frozen=True, slots=True)
class OrphanRestored:
    """A stop whose start is still looked for; its transaction is one of those restored as closed."""

    session: str
    evse: EvseId
    transaction: str
    token: str | None
    started: datetime
    ended: datetime
    register_start_wh: int | None
    register_wh: int | None
    energy_wh: int
    reason: str | None
    marks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class InputRead:
    """One look at the contact of an external limit."""

    input: str
    taken_s: float
    closed: bool


@dataclass(frozen=True, slots=True)
class InputFailed:
    """A look that showed nothing; `kind` as for MeterFailed."""

    input: str
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class InputRestored:
    """What the contact said last before the stop."""

    input: str
    on: bool


@dataclass(frozen=True, slots=True)
class PeakRestored:
    """The month's highest quarter hour, and where the site meter's register stood at the start of `window`."""

    month: str
    highest_w: int
    window: datetime
    register_wh: int | None


@dataclass(frozen=True, slots=True)
class RosterSet:
    """The whole roster from now on; nothing of the one before stays. `note`: where it came from, for the audit."""

    by: str
    entries: tuple[RosterEntry, ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class HabitsLearned:
    """What the finished sessions in the ledger show. errors_s: by how much departures differed from what was announced.
    draws: how vehicles were seen to draw of late."""

    habits: tuple[Habit, ...]
    errors_s: tuple[float, ...] = ()
    draws: tuple[Draw, ...] = ()


@dataclass(frozen=True, slots=True)
class SocTold:
    """A person read the state of charge off the vehicle."""

    by: str
    evse: EvseId
    soc: int


@dataclass(frozen=True, slots=True)
class DrawTold:
    """What a vehicle says of itself when it is plugged in: on how many phases it can charge, and at most with how much."""

    evse: EvseId
    channel: str
    phases: int | None
    most_ma: int | None


@dataclass(frozen=True, slots=True)
class SocRestored:
    """As `SocTold`, when this session had got `energy_wh`."""

    evse: EvseId
    session: str
    soc: int
    energy_wh: int


@dataclass(frozen=True, slots=True)
class AlarmAcked:
    """A person has seen it."""

    by: str
    alarm: str


@dataclass(frozen=True, slots=True)
class AlarmShelved:
    """Alarms of this kind and source call nobody for a while; what they are about goes on."""

    by: str
    kind: str
    source: str
    for_s: float
    reason: str


@dataclass(frozen=True, slots=True)
class AlarmUnshelved:
    by: str
    kind: str
    source: str


@dataclass(frozen=True, slots=True)
class ServiceChanged:
    """`out`: all alarms of this source and of its parts call nobody until it is back in service."""

    by: str
    source: str
    out: bool
    reason: str


@dataclass(frozen=True, slots=True)
class AlarmRestored:
    """An alarm that was not over when the process ended; `active`: nor was what it is about."""

    id: str
    kind: str
    source: str
    priority: int
    text: str
    since: datetime
    active: bool
    acked_by: str | None = None
    incident: str = ""


@dataclass(frozen=True, slots=True)
class HushRestored:
    """As `HushSaved`."""

    kind: str
    source: str
    by: str
    reason: str
    since: datetime
    until: datetime | None


Event = (
    MeterReading
    | MeterFailed
    | LinkUp
    | LinkDown
    | StationBooted
    | FallbackStored
    | FallbackRefused
    | DischargeOffered
    | StatusChanged
    | EvseSample
    | TokenPresented
    | TransactionStarted
    | TransactionIdentified
    | TransactionEnded
    | TransactionMeasured
    | MeterSigned
    | AccessRefused
    | ChannelChanged
    | BooksChanged
    | ClockJudged
    | FaultReported
    | RecordReceived
    | FirmwareReported
    | SecurityEvent
    | StationAsked
    | CommandSent
    | CommandAccepted
    | CommandRefused
    | CommandLost
    | CommandReplaced
    | StartWished
    | StopWished
    | PauseWished
    | ResumeWished
    | LimitWished
    | DischargeWished
    | FlexWished
    | FlexEnded
    | UpgradeWished
    | UpgradeEnded
    | ScheduleSet
    | ScheduleCleared
    | DepartureSet
    | TokenSet
    | TokenRemoved
    | TokenErased
    | StationQualified
    | RenewalHeld
    | PlanReady
    | TariffRead
    | FallbackRestored
    | CeilingRestored
    | SessionRestored
    | ClosedRestored
    | OrphanRestored
    | TokensRestored
    | QualificationRestored
    | OrderedRestored
    | FlexRestored
    | PeakRestored
    | InputRead
    | InputFailed
    | InputRestored
    | RosterSet
    | HabitsLearned
    | SocTold
    | DrawTold
    | SocRestored
    | AlarmAcked
    | AlarmShelved
    | AlarmUnshelved
    | ServiceChanged
    | AlarmRestored
    | HushRestored
)
