"""How an OCPP 2.x station turns its charging profiles into one current: a pure function of profiles and time.

Adds to `merge` (the common grammar of profiles) what is new: transactions named by text, external constraints,
priority charging, and OCPP 2.1's set-points and profiles that end when the link was down too long. Written from the
specification: OCPP 2.0.1 K01-K10, OCPP 2.1 part 2 K and Q. Must not share code with drivers.ocpp.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from drivers.sim import merge
from drivers.sim.merge import Hardware
from drivers.sim.outbox import Json
from drivers.sim.stamps import read_time

STATION_MAX = "ChargingStationMaxProfile"
EXTERNAL = "ChargingStationExternalConstraints"
PRIORITY = "PriorityCharging"
PURPOSES = {
    "ocpp2.0.1": (STATION_MAX, merge.TX_DEFAULT, merge.TX),
    "ocpp2.1": (STATION_MAX, merge.TX_DEFAULT, merge.TX, PRIORITY),
}
KINDS = {"ocpp2.0.1": merge.KINDS, "ocpp2.1": (*merge.KINDS, "Dynamic")}


@dataclass(frozen=True, slots=True)
class Period(merge.Period):
    """`limit` is infinite where the period names none. `setpoint` < 0 asks for discharge."""

    setpoint: float | None = None
    lowest: float | None = None  # the discharge limit, <= 0
    mode: str = "ChargingOnly"


@dataclass(frozen=True, slots=True)
class Profile(merge.Profile):
    """`raw` is what the central system wrote. `offline_s`: ends when the link has been down that long (2.1)."""

    raw: Json | None = None
    offline_s: float | None = None
    dies_offline: bool = False
    update_s: float = 0.0  # a dynamic profile asks for its next value this often
    ask_at_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Allowed:
    """Amps per phase. `discharge_a` > 0: takes that much out of the vehicle instead."""

    limit_a: float
    discharge_a: float = 0.0
    phases: int | None = None


def allowed(
    profiles: Iterable[merge.Profile],
    evse: int,
    at: datetime,
    hardware: Hardware,
    tx_start: datetime | None,
    *,
    sharing: int = 1,
    priority: bool = False,
    v2x: bool = False,
) -> Allowed:
    """What EVSE `evse` may do at `at`; the hardware maximum when no profile speaks.

    tx_start  start of the running transaction; without one neither TxProfile nor PriorityCharging counts
    sharing   how many EVSEs share what the station's maximum allows
    """
    known = [profile for profile in profiles if profile.connector in (0, evse)]
    own = None
    purposes = (PRIORITY,) * priority + (merge.TX,) if tx_start is not None else ()
    for purpose in (*purposes, merge.TX_DEFAULT):
        own = own or _leading(known, purpose, at, tx_start)
    caps = [hardware.max_a]
    for purpose in (STATION_MAX, EXTERNAL):
        cap = _leading(known, purpose, at, None)
        if cap is not None:
            caps.append(_amps(*cap, hardware) / (max(1, sharing) if cap[0].connector == 0 else 1))
    if own is None:
        return Allowed(max(0.0, min(caps)))
    profile, period = own
    if isinstance(period, Period) and period.mode == "Idle":
        return Allowed(0.0)
    if (
        v2x
        and isinstance(period, Period)
        and period.setpoint is not None
        and period.mode == "CentralSetpoint"
    ):
        wanted = hardware.amps(profile.unit, replace(period, limit=abs(period.setpoint)))
        if period.setpoint < 0:
            if period.lowest is not None:
                wanted = min(wanted, hardware.amps(profile.unit, replace(period, limit=-period.lowest)))
            return Allowed(0.0, min(wanted, hardware.max_a))
        caps.append(wanted)
    return Allowed(max(0.0, min([*caps, _amps(profile, period, hardware)])), phases=period.phases)


def still_valid(profiles: Sequence[merge.Profile], offline_s: float) -> list[merge.Profile]:
    """Those that count after the link has been down for `offline_s` (0: it is up)."""
    return [profile for profile in profiles if not _too_long_offline(profile, offline_s)]


def survivors(profiles: Sequence[merge.Profile], offline_s: float) -> tuple[merge.Profile, ...]:
    """Those that can ever count again."""
    return tuple(
        profile
        for profile in profiles
        if not (
            isinstance(profile, Profile) and profile.dies_offline and _too_long_offline(profile, offline_s)
        )
    )


def clashes(profiles: Iterable[merge.Profile], new: merge.Profile) -> bool:
    """Whether another profile holds the same place at the same time (K01.FR.39): refused, not replaced."""
    return any(
        old.id != new.id
        and (old.connector, old.purpose, old.stack, old.transaction)
        == (new.connector, new.purpose, new.stack, new.transaction)
        and (old.valid_to is None or new.valid_from is None or new.valid_from < old.valid_to)
        and (new.valid_to is None or old.valid_from is None or old.valid_from < new.valid_to)
        for old in profiles
    )


def read_profile(raw: Json, evse: int, received: datetime, version: str) -> Profile:
    """A ChargingProfileType. Raises KeyError, TypeError or ValueError when this version knows no such profile."""
    schedule = raw["chargingSchedule"][0]  # more than one is for vehicles that choose, ISO 15118
    purpose, kind = raw["chargingProfilePurpose"], raw["chargingProfileKind"]
    unit, recurrence = schedule["chargingRateUnit"], raw.get("recurrencyKind")
    if purpose not in PURPOSES[version] or kind not in KINDS[version] or unit not in ("A", "W"):
        raise ValueError(f"{purpose}/{kind}/{unit} is not a known purpose/kind/unit")
    if (kind == "Recurring") != (recurrence in merge.RECURRENCE_S):
        raise ValueError(f"kind {kind} with recurrency {recurrence}")
    periods = tuple(_period(one, version) for one in schedule["chargingSchedulePeriod"])
    if not periods or periods[0].start_s != 0:
        raise ValueError("the first period must start at 0")
    duration, offline = schedule.get("duration"), raw.get("maxOfflineDuration")
    return Profile(
        id=int(raw["id"]),
        connector=evse,
        stack=int(raw["stackLevel"]),
        purpose=purpose,
        kind=kind,
        unit=unit,
        periods=periods,
        received=received,
        transaction=raw.get("transactionId"),
        start=read_time(schedule.get("startSchedule")),
        duration_s=None if duration is None else float(duration),
        valid_from=read_time(raw.get("validFrom")),
        valid_to=read_time(raw.get("validTo")),
        recurrence=recurrence,
        raw=raw,
        offline_s=None if offline is None else float(offline),
        dies_offline=bool(raw.get("invalidAfterOfflineDuration")),
        update_s=float(raw.get("dynUpdateInterval") or 0.0) if kind == "Dynamic" else 0.0,
    )


def updated(profile: Profile, update: Json, version: str) -> Profile:
    """A dynamic profile with the value that counts from now on."""
    raw = dict(profile.raw or {})
    schedule = dict(raw["chargingSchedule"][0])
    first, *rest = schedule["chargingSchedulePeriod"]
    schedule["chargingSchedulePeriod"] = [{**first, **update}, *rest]
    raw["chargingSchedule"] = [schedule]
    return replace(profile, raw=raw, periods=(_period({**first, **update}, version), *profile.periods[1:]))


def _period(raw: Json, version: str) -> Period:
    limit, setpoint, lowest = raw.get("limit"), raw.get("setpoint"), raw.get("dischargeLimit")
    if limit is None and version == "ocpp2.0.1":
        raise ValueError("a period without a limit")
    return Period(
        float(raw["startPeriod"]),
        math.inf if limit is None else float(limit),
        raw.get("numberPhases"),
        None if setpoint is None else float(setpoint),
        None if lowest is None else float(lowest),
        str(raw.get("operationMode", "ChargingOnly")),
    )


def _leading(
    profiles: Iterable[merge.Profile], purpose: str, at: datetime, tx_start: datetime | None
) -> tuple[merge.Profile, merge.Period] | None:
    """The highest stack level that says something now; its own EVSE beats the whole station."""
    speaking = [
        (profile, period)
        for profile in profiles
        if profile.purpose == purpose and (period := profile.period_at(at, tx_start)) is not None
    ]
    return max(speaking, key=lambda one: (one[0].stack, one[0].connector > 0), default=None)


def _amps(profile: merge.Profile, period: merge.Period, hardware: Hardware) -> float:
    return math.inf if math.isinf(period.limit) else hardware.amps(profile.unit, period)


def _too_long_offline(profile: merge.Profile, offline_s: float) -> bool:
    return isinstance(profile, Profile) and profile.offline_s is not None and offline_s > profile.offline_s
