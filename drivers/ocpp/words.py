"""What an OCPP version must be able to say and to read: the one seam between the session machinery and the versions.

Owns the protocol `Words` and the values that cross it; server, dialogue, desk and setup speak only these and name no
version. Pure. The vocabulary is that of OCPP 2.0.1; a version that has an older word translates it in its own modules
(`v16`, `profiles`, `v16_setup`; `v2`, `v2_transactions`, `v2_orders`, `v2_setup` for 2.0.1 and 2.1).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple, Protocol

from controller.core.commands import SetLimit, StartCharging, StartDischarge, StopCharging, UpgradeFirmware
from controller.core.events import (
    DrawTold,
    EvseSample,
    FaultReported,
    FirmwareReported,
    StationBooted,
    StatusChanged,
    TokenPresented,
    TransactionEnded,
    TransactionIdentified,
    TransactionMeasured,
    TransactionStarted,
)
from controller.core.model import Dc, Evse, EvseId, EvseState, Moment, PerPhase, StationId, each_phase
from controller.core.watts import load_ma
from controller.ports import Answer
from drivers.ocpp import samples
from drivers.ocpp.frames import Payload, clean
from drivers.ocpp.samples import Values, is_plausible, number, parse_time
from drivers.ocpp.settings import OcppSettings
from drivers.ocpp.station import Dialect
from drivers.ocpp.story import Story

if TYPE_CHECKING:
    from drivers.ocpp.lists import ListWords

OLD_S = 120  # a stamp older than this is a replay of what happened while the link was down
LONGEST_TEXT = 50

Event = (
    StationBooted
    | StatusChanged
    | EvseSample
    | TokenPresented
    | TransactionStarted
    | TransactionIdentified
    | TransactionEnded
    | FirmwareReported
    | FaultReported
    | TransactionMeasured
    | DrawTold
)
Reply = Callable[[Answer | None], Payload | None]  # None: no answer at all, so that the station repeats
Ask = Callable[[str, Payload], Awaitable[Payload | None]]  # a question of setup; None: no usable answer


class Order(NamedTuple):
    """A call of ours, ready to be sent."""

    action: str
    payload: Payload


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a station said about itself; None where it did not.

    takes_watts: also understands watts, although amperes are preferred. discharge: it declares V2X.

    chooses_phase: asked for one phase it takes any, unless it is told which.

    What follows is no word of the station's but of its dialect (`dialects`): kind and purpose of the profiles it follows
    while a transaction runs; the voltage it makes watts of.
    """

    smart_charging: bool | None = None
    max_stack_level: int = 1
    in_watts: bool = False
    takes_watts: bool = False
    max_profiles: int | None = None
    max_periods: int | None = None
    evses: int | None = None
    asks_for_remote_tokens: bool | None = None
    discharge: bool = False
    profile_kind: str = "Absolute"
    tx_purpose: str = "TxProfile"
    voltage_mv: int | None = None
    chooses_phase: bool = False

    def shortcomings(self, evses: int) -> tuple[str, ...]:
        """Why limits may not hold here, in sentences for people."""
        checks = (
            (self.smart_charging is False, "it has no smart charging"),
            (
                self.max_stack_level < 1,
                "it has one stack level: no lease fits over the fallback between sessions",
            ),
            (_below(self.max_profiles, 3 * evses), f"it stores only {self.max_profiles} charging profiles"),
            (_below(self.max_periods, 1), "it accepts no schedule periods"),
            (_below(self.evses, evses), f"it has {self.evses} connectors, {evses} are configured"),
        )
        return tuple(text for applies, text in checks if applies)


@dataclass(frozen=True, slots=True)
class Layer:
    """How a plan lies in a station. periods: seconds after the schedule's start, and mA. validity: kind and bounds of the
    profile; timing: those of its schedule."""

    level: int
    periods: tuple[tuple[int, int], ...]
    validity: Mapping[str, str]
    timing: Mapping[str, str | int]


@dataclass(frozen=True, slots=True)
class Known:
    """What a request is read against.

    transactions: the EVSE of each transaction that runs; ended: those that are over, so that late values do not revive
    them; statuses: what each EVSE number last said of itself on this link; story: what OCPP 2.x tells in pieces.
    """

    station: StationId
    evses: Mapping[int, Evse]
    heartbeat_s: int
    transactions: Mapping[str, EvseId]
    ended: frozenset[str]
    statuses: Mapping[int, EvseState]
    story: Story = field(default_factory=Story)
    channel: str = ""
    upgrade: str = ""  # the firmware version it was told to install
    held: bool = False  # the next introduction is to be answered "not yet"
    waiting: bool = False  # the last one was: until the next, the station has nothing to say unasked


def nothing() -> None:
    pass


@dataclass(frozen=True, slots=True)
class Request:
    """A request as read: facts to report in this order, then `reply` with the answer to the first one.

    `remarks` are one line each for the log and counted: what was odd and what was made of it. `news` is a line for the
    log that is no oddity. `station_wide`: the statuses among the events follow from the station as a whole; they are
    not what the EVSEs said themselves. `remember`: run once every fact was taken.
    """

    events: tuple[Event, ...]
    reply: Reply
    remarks: tuple[str, ...] = ()
    station_wide: bool = False
    news: str = ""
    remember: Callable[[], None] = nothing


class Words(Protocol):
    """One OCPP version. Stateless: what must be remembered is in `Known` and in the memory of the station."""

    @property
    def version(self) -> str: ...  # "2.0.1", as in the config

    @property
    def channel(self) -> str: ...  # in events: "ocpp2.0.1"

    @property
    def subprotocol(self) -> str: ...

    @property
    def dialect(self) -> Dialect: ...

    def read(self, action: str, payload: Payload, known: Known, now: Moment) -> Request:
        """Reads a request of the station. Raises BadCall for what is not one; never anything else."""

    # orders: Refused where the station or the version has no place for it; nothing is sent then
    def fallback(self, number: int, evse: Evse, able: Capabilities) -> Order: ...

    def maximum(self, limit_ma: int, evse: Evse, able: Capabilities, now: datetime) -> Order: ...

    def limit(
        self, command: SetLimit, number: int, evse: Evse, able: Capabilities, now: datetime
    ) -> Order: ...

    def start(
        self, command: StartCharging, number: int, evse: Evse, able: Capabilities, now: datetime
    ) -> Order: ...

    def stop(self, command: StopCharging) -> Order: ...

    def discharge(
        self,
        command: StartDischarge,
        transaction: str | None,
        number: int,
        evse: Evse,
        able: Capabilities,
        now: datetime,
    ) -> Order: ...

    # what it is given in its own time
    @property
    def lists(self) -> ListWords: ...

    def plan(self, transaction: str, number: int, evse: Evse, able: Capabilities, layer: Layer) -> Order: ...

    def upgrade(self, command: UpgradeFirmware, now: datetime) -> Order: ...

    # setup
    def ask_for_boot(self) -> Order: ...

    def ask_for_status(self, number: int) -> Order: ...  # 0: the station as a whole

    async def read_configuration(self, ask: Ask) -> Mapping[str, str]:
        """What the station says of its settings, names in small letters; empty when it says nothing."""

    def capabilities(self, configuration: Mapping[str, str]) -> Capabilities: ...

    async def configure(
        self,
        ask: Ask,
        configuration: Mapping[str, str],
        able: Capabilities,
        settings: OcppSettings,
        measurands_written: bool,
    ) -> bool:
        """Writes what differs; returns whether the station knows by now what to measure."""


def status_of(answer: Payload) -> str:
    """The `status` of a station's answer; empty when there is none."""
    return text_of(answer, "status")


def always(payload: Payload) -> Reply:
    return lambda answer: payload


def text_of(payload: Payload, key: str, most: int = LONGEST_TEXT) -> str:
    value = payload.get(key)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)  # badges and serials that a station took for numbers
    return clean(value, most) if isinstance(value, str) else ""


def integer(value: object) -> int | None:
    """1, 1.0 and "1" are all 1; anything else is unknown."""
    read_number = number(value)
    return int(read_number) if read_number is not None and read_number.is_integer() else None


def when(payload: Payload, now: Moment) -> tuple[datetime, bool]:
    """The station's time stamp and whether it is an old one.

    A stamp that cannot be true (none, 1970, ahead of us by more than OLD_S) is replaced by the time of receipt. While
    our own clock is not trusted nothing can be called old.
    """
    stamp = parse_time(payload.get("timestamp"))
    if stamp is None or not is_plausible(stamp):
        return now.utc, False
    if not now.utc_trusted:
        return stamp, False
    age_s = (now.utc - stamp).total_seconds()
    if age_s < -OLD_S:
        return now.utc, False
    return stamp, age_s > OLD_S


def odd_time(stamp: datetime, now: Moment) -> tuple[str, ...]:
    """The mark of a session whose time `when` had to take from the receipt."""
    return ("time-of-receipt",) if stamp is now.utc else ()


def sample_of(values: Values, evse: Evse, channel: str, taken_s: float) -> EvseSample:
    conductors = len(evse.phases)
    watts = samples.power_w(values, conductors) if evse.dc is None else samples.dc_power_w(values)
    return EvseSample(
        evse=evse.id,
        channel=channel,
        taken_s=taken_s,
        current_ma=samples.currents_ma(values, conductors) if evse.dc is None else supply_ma(evse.dc, watts),
        power_w=watts,
        register_wh=samples.register_wh(values),
        soc=samples.soc(values),
        offered_ma=samples.offered_ma(values) if evse.dc is None else None,
    )


def supply_ma(dc: Dc, power_w: int | None) -> PerPhase[int | None]:
    """What a DC output draws from its supply: its own amps are the vehicle's, and say nothing of that."""
    return each_phase(None if power_w is None else load_ma(dc, power_w))


def station_status(state: EvseState, fault: str | None, known: Known) -> tuple[StatusChanged, ...]:
    """What the station itself says: out of order, so is every EVSE; back again, each is what it last said."""
    if state in (EvseState.FAULTED, EvseState.UNAVAILABLE):
        text = f"station: {fault}" if fault else None
        return tuple(StatusChanged(evse.id, known.channel, state, text) for evse in known.evses.values())
    return tuple(
        StatusChanged(known.evses[each].id, known.channel, last)
        for each, last in known.statuses.items()
        if last is not EvseState.FAULTED  # that one has its own fault, and has reported it
    )


def firmware_progress(word: str, known: Known) -> tuple[FirmwareReported, ...]:
    """A FirmwareStatusNotification, which never names the version: it is the one we ordered; idle says nothing."""
    folded = word.casefold()
    if not folded or folded == "idle":
        return ()
    if "fail" in folded or folded == "invalidsignature":
        status = "failed"
    elif folded == "installed":
        status = "success"
    else:
        status = "upgrading" if folded.startswith("install") else "downloading"
    return (FirmwareReported(known.station, known.channel, known.upgrade, status, text=word),)


def utc_text(moment: datetime) -> str:
    """Whole seconds and a Z: some stations reject fractions and offsets."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _below(known: int | None, needed: int) -> bool:
    return known is not None and known < needed
