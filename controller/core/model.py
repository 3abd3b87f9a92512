"""The dictionary: ids, time, phases and the site as configured.

Owns the words every other module speaks (OCPP 2.0.1's terms). Everything is an immutable value. Events are in
`events`, commands and ledger entries in `commands`, what people see in `snapshot`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Generic, NamedTuple, NewType, TypeVar

from controller.core.standby import Standby

StationId = NewType("StationId", str)
EvseId = NewType("EvseId", str)  # "STATION/NUMBER"
CircuitId = NewType("CircuitId", str)
MeterId = NewType("MeterId", str)
VehicleId = NewType("VehicleId", str)

SITE = CircuitId("site")  # the root of the circuit tree: the grid connection

T = TypeVar("T")


class PerPhase(NamedTuple, Generic[T]):
    """One value per grid phase."""

    l1: T
    l2: T
    l3: T


def each_phase(value: T) -> PerPhase[T]:
    return PerPhase(value, value, value)


def evse_id(station: str, number: int) -> EvseId:
    return EvseId(f"{station}/{number}")


def station_of(evse: EvseId) -> StationId:
    return StationId(evse.rpartition("/")[0])


def number_of(evse: EvseId) -> int:
    return int(evse.rpartition("/")[2])


def family_of(channel: str) -> str:
    """The channel without the version it speaks: "ocpp1.6" and "ocpp2.0.1" are both "ocpp"."""
    return channel.rstrip("0123456789.")


class Moment(NamedTuple):
    """The time of a decision. `mono_s` drives ages, leases and time-outs; `utc` drives schedules and stamps.

    `utc_trusted` is False while the wall clock may be wrong (no time service yet): plans and deadlines rest then.
    """

    mono_s: float
    utc: datetime
    utc_trusted: bool = True


class EvseState(StrEnum):
    """EVSE states as shown and stored (INTERFACE section 4)."""

    AVAILABLE = "available"
    PREPARING = "preparing"
    CHARGING = "charging"
    DISCHARGING = "discharging"
    SUSPENDED_EV = "suspended-ev"
    SUSPENDED_EVSE = "suspended-evse"
    FINISHING = "finishing"
    RESERVED = "reserved"
    UNAVAILABLE = "unavailable"
    FAULTED = "faulted"
    OFFLINE = "offline"


class Verdict(StrEnum):
    """Our answer to a presented id token (OCPP 2.0.1 AuthorizationStatusEnumType, the part a depot needs)."""

    ACCEPTED = "Accepted"
    BLOCKED = "Blocked"
    EXPIRED = "Expired"
    INVALID = "Invalid"
    CONCURRENT_TX = "ConcurrentTx"


@dataclass(frozen=True, slots=True)
class IdToken:
    """What a driver may present (OCPP 2.0.1 IdTokenType), and what we know of it. Compared without regard to case.

    group: tokens of one group may end each other's transactions. expires: aware; None = never. concurrent: may charge at
    several stations at once (a depot's master card).
    """

    id: str
    group: str | None = None
    expires: datetime | None = None
    blocked: bool = False
    vehicle: VehicleId | None = None
    concurrent: bool = False
    configured: bool = False  # comes from [vehicle.*] of the config
    note: str = ""


class Quality(StrEnum):
    """How far a value can be trusted; it travels with the value."""

    GOOD = "good"
    STALE = "stale"
    STUCK = "stuck"  # it answers, always the same
    BAD = "bad"
    SUBSTITUTED = "substituted"


class MeterRole(StrEnum):
    GRID = "grid"
    CIRCUIT = "circuit"
    PV = "pv"
    BATTERY = "battery"
    LOAD = "load"


@dataclass(frozen=True, slots=True)
class Circuit:
    """A node of the limit tree. `limit_ma` is what the copper and the fuse allow, per phase.

    `assumed_load_ma` is the worst load that is not ours on this circuit while its meter is silent (or has none);
    None means nobody told us, and blind then means that every EVSE below stays at its fallback.
    breaker: what protects it, for the trip margin that is shown (`bimetal.KINDS`); None: the most sensitive is assumed.
    """

    id: CircuitId
    parent: CircuitId | None
    limit_ma: PerPhase[int]
    meter: MeterId | None = None
    assumed_load_ma: PerPhase[int] | None = None
    limit_w: int | None = None  # of all phases together, beside the amps
    breaker: str | None = None


@dataclass(frozen=True, slots=True)
class Link:
    """What a channel can do with limits for one EVSE.

    lease_s        how long a limit holds without renewal; after that the station is at its fallback
    lease_slack_s  how much later than `lease_s` after sending the station may still follow it (clock skew, slots
                   that end on whole minutes)
    raise_gap_s    shortest time between two raises (or renewals) of one EVSE
    answer_s       a command without an answer after this long counts as lost
    needs_proof    without a passed qualification (`depot qualify`) a station that is out of reach counts at its hardware
                   maximum, whatever it has accepted to store
    settle_s       how long the old current may still flow after the station said yes: 5 s of IEC 61851-1 for the vehicle
                   and some for the station (peers C4); longer where the channel itself is slow
    lease_ends_with_transaction   the limit dies with its transaction (OCPP TxProfile); else it stays till it expires
    stores_schedules, stores_plans   the station can keep a customer's schedule, and a plan of ours under its limits
    names_tokens   it tells of the id tokens that drivers present
    """

    channel: str
    lease_s: float
    lease_slack_s: float
    raise_gap_s: float
    answer_s: float
    lease_ends_with_transaction: bool = True
    settle_s: float = 8.0
    needs_proof: bool = False
    stores_schedules: bool = False
    stores_plans: bool = False
    names_tokens: bool = True


@dataclass(frozen=True, slots=True)
class Dc:
    """A DC output. Its supply loads three phases alike: at `low_mv` to neutral, losing 100 - `efficiency_pct` per cent,
    so that no supply and no losses we should expect make more amps of its watts than we count."""

    max_power_w: int
    low_mv: int
    efficiency_pct: int


@dataclass(frozen=True, slots=True)
class Evse:
    """The unit that serves one vehicle and gets one grant.

    phases: the grid phase (0, 1, 2) each of its conductors hangs on; length 1, 2 or 3. ("L2 L3 L1" is (1, 2, 0))
    link: the channel that leads: sessions, limits, starts and stops.
    fallback_ma: what the station does alone, once it has accepted to store it; until then it counts at `max_ma`.
    dc: a DC output, commanded in watts; all amps here are then those of its supply, per phase.
    rotation_known: False: it counts on every phase, whichever its conductors hang on.
    """

    id: EvseId
    station: StationId
    circuit: CircuitId
    max_ma: int
    min_ma: int
    phases: tuple[int, ...]
    fallback_ma: int
    link: Link
    step_ma: int = 1000
    autostart: bool = False  # start a plugged-in vehicle without a token (Open Platform, mode "sole")
    companion: str | None = (
        None  # a second channel to the same station, for what the first cannot do (discharge)
    )
    dc: Dc | None = None
    rotation_known: bool = True
    surplus: bool = False  # charges only from what would be exported else
    phase_switching: bool = False  # can be told to charge on its first conductor alone

    @property
    def discharge_channel(self) -> str:
        return self.companion or self.link.channel


@dataclass(frozen=True, slots=True)
class Meter:
    id: MeterId
    kind: str
    role: MeterRole
    poll_s: float
    stale_after_s: float


@dataclass(frozen=True, slots=True)
class Vehicle:
    id: VehicleId
    battery_wh: int | None
    max_power_w: int | None
    tokens: tuple[str, ...] = ()
    lends_w: int = 0  # what the plan may feed back from its battery (V2G), ...
    lends_above_pct: int = 100  # ... never below this, ...
    lends_for_micro: int = 0  # ... at this price per kWh, in millionths of the currency: its wear
    priority: int = 0  # the higher, the later it goes short: each step doubles what a missing kWh counts


@dataclass(frozen=True, slots=True)
class GridLimit:
    """A limit that somebody outside puts on by a contact: the EVSEs below `circuit` take at most `power_w` together.

    text: the same for people. active_closed: which position of the contact puts it on. on_loss: what a lost signal means
    that was off: "limit" or "hold"; one that was on stays on. within_s: how soon it has to be applied.
    """

    id: str
    circuit: CircuitId
    power_w: int
    text: str
    active_closed: bool = True
    stale_after_s: float = 10.0
    on_loss: str = "limit"
    within_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Battery:
    """A stationary battery that takes set-points. `meter` shows its power (charging positive) and its state of charge.

    phases: the grid phases it hangs on. floor_pct: below it nothing is discharged. lease_s: how long a set-point holds
    without renewal; lease_slack_s: how much longer we count with it.
    """

    id: str
    meter: MeterId
    circuit: CircuitId
    charge_w: int
    discharge_w: int
    floor_pct: int = 10
    phases: tuple[int, ...] = (0, 1, 2)
    lease_s: float = 60.0
    lease_slack_s: float = 10.0
    answer_s: float = 10.0
    capacity_wh: int | None = None  # None: no plan can be made for it

    @property
    def channel(self) -> str:
        return f"battery/{self.id}"


@dataclass(frozen=True, slots=True)
class Site:
    """Everything the core knows from the config. Circuits contain exactly one root named "site"."""

    name: str
    timezone: str
    voltage_mv: int
    circuits: Mapping[CircuitId, Circuit]
    evses: Mapping[EvseId, Evse]
    meters: Mapping[MeterId, Meter] = field(default_factory=dict)
    vehicles: Mapping[VehicleId, Vehicle] = field(default_factory=dict)
    accept_unknown_tokens: bool = False
    peak_w: int | None = None  # mean of a clock quarter hour at the grid connection to stay below
    peak_follows_month: bool = False  # where the month has a higher one already, that is the target
    grid_limits: tuple[GridLimit, ...] = ()
    batteries: tuple[Battery, ...] = ()
    max_imbalance_ma: int | None = None  # between any two phases of the grid connection

    def path(self, circuit: CircuitId) -> Iterator[Circuit]:
        """The circuit and all above it, root last."""
        at: CircuitId | None = circuit
        while at is not None:
            node = self.circuits[at]
            yield node
            at = node.parent

    def vehicle_of(self, token: str | None) -> VehicleId | None:
        """The vehicle that carries this id token; tokens compare case-insensitively (OCPP CiString)."""
        if token is None:
            return None
        wanted = token.casefold()
        for vehicle in self.vehicles.values():
            if any(wanted == known.casefold() for known in vehicle.tokens):
                return vehicle.id
        return None


class SlotAction(StrEnum):
    CHARGE = "charge"
    DISCHARGE = "discharge"
    IDLE = "idle"


class ScheduleType(StrEnum):
    ONCE = "once"
    DAILY = "daily"
    WEEKLY = "weekly"


@dataclass(frozen=True, slots=True)
class TimeSlot:
    """Clock times in the schedule's zone, minutes after midnight. `end_min` <= `start_min` crosses midnight;
    the slot belongs to the day it starts on (G-11). days: 0 = Monday; empty = every day."""

    start_min: int
    end_min: int
    action: SlotAction
    power_limit_w: int | None = None
    days: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Schedule:
    id: str
    type: ScheduleType
    enabled: bool
    timezone: str
    slots: tuple[TimeSlot, ...]
    target_soc: int | None = None
    effective_from: datetime | None = None
    effective_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Departure:
    """What must be ready when. `target` is an EVSE id or a vehicle id. Exactly one of energy_wh and soc is set."""

    target: str
    at: datetime
    energy_wh: int | None = None
    soc: int | None = None


@dataclass(frozen=True, slots=True)
class FeedBack:
    """What a schedule wants discharged (V2G): at most `power_w` (positive) until `until`, not below `min_soc` per cent."""

    schedule: str
    power_w: int
    until: datetime
    min_soc: int


@dataclass(frozen=True, slots=True)
class Ordered:
    """What an operator has ordered for one EVSE and not lifted yet. stop_after_s: counted from the session's start."""

    paused: bool = False
    limit_ma: int | None = None
    stop_energy_wh: int | None = None
    stop_soc: int | None = None
    stop_after_s: float | None = None
    stop: bool = False
    manual: bool = False  # started or resumed by hand: schedules do not hold it back


@dataclass(frozen=True, slots=True)
class FlexAction:
    """A flexibility action as it outlives a restart."""

    circuit: CircuitId
    order: str
    by: str
    percent: int
    until: datetime


@dataclass(frozen=True, slots=True)
class Wish:
    """A planner's advice for one EVSE: how much at most, how urgent, why. Advice, never law.

    cap_ma: None = no wish; 0 = do not charge now. rank: lower is served first. tier: lower tiers are served before
    higher ones.
    """

    cap_ma: int | None = None
    tier: int = 0
    rank: float = 0.0
    why: str = ""
    short_wh: int | None = None  # expected to be missing at departure
    feed_back: FeedBack | None = None


@dataclass(frozen=True, slots=True)
class Remedy:
    """What would make a vehicle readier: the energy it brings, and what that energy costs where a price is known."""

    evse: EvseId
    kind: str  # "circuit": more amps, "later": leave later, "swap": another bay
    text: str
    gain_wh: int
    cost_micro: int | None = None  # millionths of the currency
    circuit: CircuitId | None = None  # that is full


@dataclass(frozen=True, slots=True)
class Plan:
    made: datetime
    by: str  # "rules", "horizon"
    wishes: Mapping[EvseId, Wish]
    why: str = ""  # why it was not the horizon that made it
    slots: tuple[datetime, ...] = ()  # starts of the slots of the series below, and the end of the last
    evses_w: Mapping[EvseId, tuple[int, ...]] = field(
        default_factory=dict
    )  # charging positive, feeding back negative
    site_w: tuple[int, ...] = ()  # expected at the grid connection, import positive
    battery_w: int | None = (
        None  # set-point of the stationary battery now, charging positive; None = no battery
    )
    ready_pct: Mapping[EvseId, int] = field(
        default_factory=dict
    )  # how sure, where departures have been learned
    remedies: tuple[Remedy, ...] = ()
    standbys: Mapping[EvseId, Standby] = field(default_factory=dict)  # for when we are gone
