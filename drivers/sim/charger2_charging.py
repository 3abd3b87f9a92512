"""What a simulated OCPP 2.x station answers about charging profiles.

One function per action: `(station, payload) -> answer`. Source: OCPP 2.0.1 part 2 K; OCPP 2.1 K and Q (dynamic
profiles, priority charging, set-points).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from drivers.sim import merge
from drivers.sim.charger2_evse import Evse
from drivers.sim.charger2_merge import (
    EXTERNAL,
    PRIORITY,
    STATION_MAX,
    Profile,
    clashes,
    read_profile,
    updated,
)
from drivers.sim.outbox import Json, Slip

if TYPE_CHECKING:
    from drivers.sim.charger2 import SimStation

ENTRIES = 20
EXTERNAL_ID = 2_000_000_000  # no central system uses such a number
OPERATION_MODES = ("Idle", "ChargingOnly", "CentralSetpoint")
SETPOINT_MODES = {"CentralSetpoint"}
UPDATE_FIELDS = ("limit", "dischargeLimit", "setpoint")


def rejected(reason: str, text: str = "") -> Json:
    info = {"reasonCode": reason, **({"additionalInfo": text[:512]} if text else {})}
    return {"status": "Rejected", "statusInfo": info}


def set_profile(station: SimStation, payload: Json) -> Json:
    number, raw = int(payload["evseId"]), payload["chargingProfile"]
    try:
        profile = read_profile(raw, number, station.utc(), station.link.version)
    except ValueError as error:
        return rejected("InvalidProfile", str(error))
    problem = unfit(station, profile)
    if problem is not None:
        return rejected(problem)
    if profile.purpose == merge.TX:
        evse = station.evse(number)
        if evse is None:
            return rejected("InvalidValue", "a TxProfile is for one EVSE")
        running = evse.transaction
        if running is None or profile.transaction != running.id:
            return rejected("TxNotFound")
    return install(station, profile)


def unfit(station: SimStation, profile: Profile) -> str | None:
    """Why this station's firmware takes no such profile, as a reason code; None when it does."""
    quirks, variables = station.quirks, station.memory.variables
    if not variables.says_yes("SmartChargingCtrlr", "Enabled"):
        return "NotEnabled"
    if profile.connector and station.evse(profile.connector) is None:
        return "UnknownEvse"
    if profile.purpose == STATION_MAX and (profile.connector != 0 or profile.kind == "Relative"):
        return "InvalidProfile"
    if not 0 <= profile.stack <= variables.number("SmartChargingCtrlr", "ProfileStackLevel"):
        return "InvalidStackLevel"
    if len(profile.periods) > variables.number("SmartChargingCtrlr", "PeriodsPerSchedule"):
        return "InvalidSchedule"
    starts = [period.start_s for period in profile.periods]
    if starts != sorted(set(starts)):
        return "InvalidSchedule"
    modes = {getattr(period, "mode", "ChargingOnly") for period in profile.periods}
    if not modes <= set(OPERATION_MODES) or (modes & SETPOINT_MODES and not station.v2x):
        return "UnsupportedParam"
    if profile.purpose == merge.TX and quirks.refuses_tx_profile:
        return "UnsupportedPurpose"
    if quirks.stack_levels is not None and profile.stack not in quirks.stack_levels:
        return "InvalidStackLevel"
    if not quirks.take_limits(profile.unit, (period.limit for period in profile.periods)):
        return "UnsupportedRateUnit"
    return "UnsupportedKind" if quirks.only_relative and profile.kind != "Relative" else None


def install(station: SimStation, profile: Profile) -> Json:
    """A profile replaces the one with its id; a second one in the same place is refused."""
    memory = station.memory
    if clashes(memory.profiles, profile):
        return rejected("DuplicateProfile")
    if station.quirks.ignores_expiry:
        profile = replace(profile, valid_to=None, duration_s=None, offline_s=None)
    kept = [old for old in memory.profiles if old.id != profile.id]
    if station.quirks.newest_only:
        kept = list(merge.others(kept, profile))
    if len(kept) >= ENTRIES:
        return rejected("NoRoom")
    memory.profiles = (*kept, profile)
    now_s = station.clock.now().mono_s
    for evse in station.evses:
        if profile.connector in (0, evse.number) and evse.transaction is not None:
            evse.written_while_charging(now_s)
    return {"status": "Accepted"}


def clear_profile(station: SimStation, payload: Json) -> Json:
    wanted = payload.get("chargingProfileCriteria") or {}
    id = payload.get("chargingProfileId")
    if id is None and not wanted:
        raise KeyError("chargingProfileCriteria")

    def meant(profile: merge.Profile) -> bool:
        if profile.purpose == EXTERNAL:
            return False
        if id is not None:
            return profile.id == int(id)
        return bool(
            wanted.get("evseId", profile.connector) == profile.connector
            and wanted.get("chargingProfilePurpose", profile.purpose) == profile.purpose
            and wanted.get("stackLevel", profile.stack) == profile.stack
        )

    kept = tuple(profile for profile in station.memory.profiles if not meant(profile))
    found = len(kept) < len(station.memory.profiles)
    station.memory.profiles = kept
    return {"status": "Accepted" if found else "Unknown"}


def get_profiles(station: SimStation, payload: Json) -> Json:
    id, wanted = int(payload["requestId"]), payload["chargingProfile"]
    groups: dict[tuple[int, str], list[Json]] = {}
    for profile in station.memory.profiles:
        source = "EMS" if profile.purpose == EXTERNAL else "CSO"
        asked = (
            payload.get("evseId", profile.connector) == profile.connector
            and wanted.get("chargingProfilePurpose", profile.purpose) == profile.purpose
            and wanted.get("stackLevel", profile.stack) == profile.stack
            and profile.id in wanted.get("chargingProfileId", [profile.id])
            and source in wanted.get("chargingLimitSource", [source])
        )
        if asked and isinstance(profile, Profile) and profile.raw is not None:
            groups.setdefault((profile.connector, source), []).append(profile.raw)
    for part, ((evse, source), found) in enumerate(groups.items(), start=1):
        report: Json = {"requestId": id, "chargingLimitSource": source, "evseId": evse}
        report |= {"chargingProfile": found, "tbc": part < len(groups)}
        station.tell(f"profiles/{id}/{part}", "ReportChargingProfiles", report)
    return {"status": "Accepted" if groups else "NoProfiles"}


def composite_schedule(station: SimStation, payload: Json) -> Json:
    number, duration_s = int(payload["evseId"]), int(payload["duration"])
    unit = payload.get("chargingRateUnit", "A")
    chosen = [evse for evse in station.evses if number in (0, evse.number)]
    if not chosen:
        return rejected("UnknownEvse")
    at = station.utc()

    def limit(moment: datetime) -> float:
        total = 0.0
        for evse in chosen:
            may, hardware = station.allowed(evse, moment), evse.hardware
            amps = -may.discharge_a if may.discharge_a else may.limit_a
            total += amps if unit == "A" else amps * hardware.voltage_v * hardware.conductors
        return total

    tx_start = next((evse.transaction.started for evse in chosen if evse.transaction is not None), None)
    periods = merge.composite(station.memory.profiles, at, duration_s, tx_start, limit)
    word = "limit" if station.link.version == "ocpp2.0.1" or not station.v2x else "setpoint"
    schedule = {
        "evseId": number,
        "duration": duration_s,
        "scheduleStart": at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "chargingRateUnit": unit,
        "chargingSchedulePeriod": [
            {"startPeriod": int(start_s), "limit" if amount >= 0 else word: round(amount, 1)}
            for start_s, amount in periods
        ],
    }
    return {"status": "Accepted", "schedule": schedule}


def update_dynamic(station: SimStation, payload: Json) -> Json:
    found = _profile(station, int(payload["chargingProfileId"]))
    if found is None or found.kind != "Dynamic":
        return rejected("NotFound")
    _refresh(station, found, payload["scheduleUpdate"])
    return {"status": "Accepted"}


def use_priority(station: SimStation, payload: Json) -> Json:
    evse = evse_of(station, payload["transactionId"])
    if evse is None or evse.transaction is None:
        return rejected("TxNotFound")
    on = bool(payload["activate"])
    mine = (one for one in station.memory.profiles if one.connector in (0, evse.number))
    if on and not any(one.purpose == PRIORITY for one in mine):
        return {"status": "NoProfile"}
    evse.transaction.priority = on
    return {"status": "Accepted"}


def limit_from_outside(station: SimStation, amps: float | None) -> None:
    """A limit the central system did not set: told, and followed (K11-K13)."""
    memory = station.memory
    memory.profiles = tuple(one for one in memory.profiles if one.id != EXTERNAL_ID)
    if amps is None:
        payload: Json = {"chargingLimitSource": "EMS"}
        station.voice.outbox.put("external", Slip("ClearedChargingLimit", payload))
        return
    schedule = {
        "id": 1,
        "chargingRateUnit": "A",
        "chargingSchedulePeriod": [{"startPeriod": 0, "limit": amps}],
    }
    raw = {
        "id": EXTERNAL_ID,
        "stackLevel": 0,
        "chargingProfilePurpose": EXTERNAL,
        "chargingProfileKind": "Absolute",
        "chargingSchedule": [schedule],
    }
    period = merge.Period(0.0, amps)
    made = Profile(EXTERNAL_ID, 0, 0, EXTERNAL, "Absolute", "A", (period,), station.utc(), raw=raw)
    memory.profiles = (*memory.profiles, made)
    limit = {"chargingLimitSource": "EMS", "isGridCritical": False}
    told = {"evseId": 0, "chargingLimit": limit, "chargingSchedule": [schedule]}
    station.voice.outbox.put("external", Slip("NotifyChargingLimit", told))


def ask_for_updates(station: SimStation, now_s: float) -> None:
    """Dynamic profiles that want to be asked for."""
    if not station.voice.online or station.link.version != "ocpp2.1":
        return
    for profile in station.memory.profiles:
        if isinstance(profile, Profile) and profile.update_s and now_s >= profile.ask_at_s:
            station.memory.profiles = tuple(
                replace(profile, ask_at_s=now_s + profile.update_s) if one is profile else one
                for one in station.memory.profiles
            )
            question = {"chargingProfileId": profile.id}
            slip = Slip("PullDynamicScheduleUpdate", question, _update_of(station, profile.id))
            station.voice.outbox.put(f"dynamic/{profile.id}", slip)


def evse_of(station: SimStation, transaction: object) -> Evse | None:
    for evse in station.evses:
        if evse.transaction is not None and evse.transaction.id == transaction:
            return evse
    return None


def _update_of(station: SimStation, id: int) -> Callable[[Json | None], None]:
    def take(answer: Json | None) -> None:
        found = _profile(station, id)
        if answer is not None and answer.get("status") == "Accepted" and found is not None:
            _refresh(station, found, answer.get("scheduleUpdate") or {})
            station.look()

    return take


def _refresh(station: SimStation, profile: Profile, update: Json) -> None:
    known = {name: float(update[name]) for name in UPDATE_FIELDS if name in update}
    fresh = updated(profile, known, station.link.version)
    station.memory.profiles = tuple(fresh if one.id == profile.id else one for one in station.memory.profiles)


def _profile(station: SimStation, id: int) -> Profile | None:
    return next((one for one in station.memory.profiles if one.id == id and isinstance(one, Profile)), None)


HANDLERS: Mapping[str, Callable[[SimStation, Json], Json]] = {
    "SetChargingProfile": set_profile,
    "ClearChargingProfile": clear_profile,
    "GetChargingProfiles": get_profiles,
    "GetCompositeSchedule": composite_schedule,
}
HANDLERS_21: Mapping[str, Callable[[SimStation, Json], Json]] = {
    "UpdateDynamicSchedule": update_dynamic,
    "UsePriorityCharging": use_priority,
}
