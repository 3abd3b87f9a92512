"""What a simulated OCPP 1.6 charger answers to the calls of its central system.

One function per action: `(charger, payload) -> answer`. KeyError, TypeError and ValueError mean a malformed payload
and become a CALLERROR. Source: OCPP 1.6 section 5. Must not share parsing code with drivers.ocpp.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from drivers.sim import merge
from drivers.sim.cards import Card, Reservation, reserved
from drivers.sim.connector import Connector
from drivers.sim.flash import SECRET_KEY
from drivers.sim.link import CallError
from drivers.sim.merge import Period, Profile
from drivers.sim.outbox import Json
from drivers.sim.stamps import read_time

if TYPE_CHECKING:
    from drivers.sim.charger import SimCharger

RESET_S = 1.0  # it answers first, then it goes down


def remote_start(charger: SimCharger, payload: Json) -> Json:
    token = str(payload["idTag"])
    connector = _where_to_start(charger, payload.get("connectorId"), token)
    if connector is None:
        return {"status": "Rejected"}
    raw = payload.get("chargingProfile")
    if raw is not None:
        profile = read_profile(raw, connector.number, charger.utc())
        if profile.purpose != merge.TX or not _takes(charger, profile):
            return {"status": "Rejected"}
        _install(charger, profile)
    if charger.flash.says_yes("AuthorizeRemoteTxRequests"):
        charger.authorize(connector, token)
    else:
        charger.allow(connector, token)
    return {"status": "Accepted"}


def remote_stop(charger: SimCharger, payload: Json) -> Json:
    wanted = int(payload["transactionId"])
    for connector in charger.connectors:
        if connector.transaction is not None and connector.transaction.id == wanted:
            charger.stop(connector, "Remote")
            return {"status": "Accepted"}
    return {"status": "Rejected"}


def set_profile(charger: SimCharger, payload: Json) -> Json:
    number = int(payload["connectorId"])
    profile = read_profile(payload["csChargingProfiles"], number, charger.utc())
    if not 0 <= number <= len(charger.connectors) or not _takes(charger, profile):
        return {"status": "Rejected"}
    if profile.purpose == merge.STATION_MAX and number != 0:
        return {"status": "Rejected"}
    if profile.purpose == merge.TX:
        running = charger.connectors[number - 1].transaction if number > 0 else None
        if running is None or profile.transaction not in (None, running.id):
            return {"status": "Rejected"}
    _install(charger, profile)
    return {"status": "Accepted"}


def clear_profile(charger: SimCharger, payload: Json) -> Json:
    def meant(profile: Profile) -> bool:
        if "id" in payload:
            return profile.id == int(payload["id"])
        return bool(
            payload.get("connectorId", profile.connector) == profile.connector
            and payload.get("chargingProfilePurpose", profile.purpose) == profile.purpose
            and payload.get("stackLevel", profile.stack) == profile.stack
        )

    kept = tuple(profile for profile in charger.flash.profiles if not meant(profile))
    if len(kept) == len(charger.flash.profiles):
        return {"status": "Unknown"}
    charger.flash.profiles = kept
    return {"status": "Accepted"}


def composite_schedule(charger: SimCharger, payload: Json) -> Json:
    number, duration_s = int(payload["connectorId"]), int(payload["duration"])
    unit = payload.get("chargingRateUnit", "A")
    if not 0 <= number <= len(charger.connectors) or unit not in ("A", "W"):
        return {"status": "Rejected"}
    chosen = [connector for connector in charger.connectors if number in (0, connector.number)]
    at = charger.utc()

    def limit(moment: datetime) -> float:
        amps = [charger.limit_a(connector, moment) for connector in chosen]
        if unit == "A":
            return sum(amps)
        hardware = [connector.hardware for connector in chosen]
        return sum(a * hw.voltage_v * hw.conductors for a, hw in zip(amps, hardware, strict=True))

    tx_start = next((c.transaction.started for c in chosen if c.transaction is not None), None)
    periods = merge.composite(charger.flash.profiles, at, duration_s, tx_start, limit)
    begin = at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    schedule = {
        "duration": duration_s,
        "startSchedule": begin,
        "chargingRateUnit": unit,
        "chargingSchedulePeriod": [
            {"startPeriod": int(start_s), "limit": round(amount, 1)} for start_s, amount in periods
        ],
    }
    return {"status": "Accepted", "connectorId": number, "scheduleStart": begin, "chargingSchedule": schedule}


def trigger(charger: SimCharger, payload: Json) -> Json:
    number = payload.get("connectorId")
    if number is not None and not 0 <= int(number) <= len(charger.connectors):
        return {"status": "Rejected"}
    chosen = [connector for connector in charger.connectors if number in (None, 0, connector.number)]
    match payload["requestedMessage"]:
        case "BootNotification":
            charger.voice.say_boot()
        case "Heartbeat":
            charger.voice.say_heartbeat()
        case "StatusNotification":
            if charger.quirks.triggers_at is not None and number not in charger.quirks.triggers_at:
                return {"status": "Rejected"}
            if not number:
                charger.send_status(None, asked=True)
            for connector in chosen:
                charger.send_status(connector, asked=True)
        case "MeterValues":
            for connector in chosen:
                charger.send_sample(connector, "Trigger")
        case "FirmwareStatusNotification" | "DiagnosticsStatusNotification" as action:
            charger.say_again(action)
        case _:
            return {"status": "NotImplemented"}
    return {"status": "Accepted"}


def get_configuration(charger: SimCharger, payload: Json) -> Json:
    wanted = [str(key) for key in payload.get("key") or ()]
    if charger.quirks.fatal_reads & set(wanted or charger.flash.configuration):
        charger.reset_in(RESET_S, "Watchdog")
    rows = [(key, False, value) for key, value in charger.flash.configuration.items() if key != SECRET_KEY]
    rows += [(key, True, value) for key, value in charger.flash.read_only.items()]
    known = {key for key, _, _ in rows}
    return {
        "configurationKey": [
            {"key": key, "readonly": readonly, "value": value}
            for key, readonly, value in rows
            if not wanted or key in wanted
        ],
        "unknownKey": [key for key in wanted if key not in known],
    }


def change_configuration(charger: SimCharger, payload: Json) -> Json:
    key, value = str(payload["key"]), str(payload["value"])
    if key == SECRET_KEY:
        charger.link.password = bytes.fromhex(value)  # used from the next connection on
        return {"status": "Accepted"}
    if key in charger.quirks.fatal_writes:
        charger.reset_in(RESET_S, "Watchdog")
    if key == "MeterValueSampleInterval" and 0 < int(value) < charger.quirks.samples_apart_s:
        return {"status": "Rejected"}
    status = charger.flash.write(key, value)
    if key == "MeterValueSampleInterval" and status == "Accepted":
        interval_s = int(value)
        due_s = charger.clock.now().mono_s + interval_s if interval_s else 0.0
        for connector in charger.connectors:
            connector.meter_due_s = due_s
    charger.flash.cards.list_on = charger.flash.says_yes("LocalAuthListEnabled")
    return {"status": status}


def change_availability(charger: SimCharger, payload: Json) -> Json:
    number, kind = int(payload["connectorId"]), payload["type"]
    if not 0 <= number <= len(charger.connectors) or kind not in ("Operative", "Inoperative"):
        return {"status": "Rejected"}
    chosen = [connector for connector in charger.connectors if number in (0, connector.number)]
    numbers = {connector.number for connector in chosen}
    if kind == "Operative":
        charger.flash.inoperative -= numbers
        return {"status": "Accepted"}
    charger.flash.inoperative |= numbers
    busy = any(connector.transaction is not None for connector in chosen)
    return {"status": "Scheduled" if busy else "Accepted"}


def reset(charger: SimCharger, payload: Json) -> Json:
    kind = payload["type"]
    if kind not in ("Soft", "Hard"):
        return {"status": "Rejected"}
    charger.reset_in(RESET_S, f"{kind}Reset")
    return {"status": "Accepted"}


def unlock(charger: SimCharger, payload: Json) -> Json:
    number = int(payload["connectorId"])
    if not 1 <= number <= len(charger.connectors):
        return {"status": "NotSupported"}
    charger.stop(charger.connectors[number - 1], "UnlockCommand")
    return {"status": "Unlocked"}


def clear_cache(charger: SimCharger, payload: Json) -> Json:
    charger.flash.cards.cache.clear()
    return {"status": "Accepted"}


def reserve(charger: SimCharger, payload: Json) -> Json:
    """Connector 0 is any: it keeps the first free one."""
    number, until = int(payload["connectorId"]), read_time(payload["expiryDate"])
    taken = charger.flash.reservations
    wanted = [connector for connector in charger.connectors if number in (0, connector.number)]
    if not wanted or until is None or until <= charger.utc():
        return {"status": "Rejected"}
    for connector in wanted:
        held = reserved(taken.values(), connector.number)
        status, _ = connector.status(charger.operative(connector))
        if status == "Available" and (held is None or held.id == int(payload["reservationId"])):
            id, group = int(payload["reservationId"]), payload.get("parentIdTag")
            taken[id] = Reservation(id, connector.number, str(payload["idTag"]), group, until)
            return {"status": "Accepted"}
    return {"status": status if status in ("Faulted", "Unavailable") else "Occupied"}


def cancel_reservation(charger: SimCharger, payload: Json) -> Json:
    found = charger.flash.reservations.pop(int(payload["reservationId"]), None)
    return {"status": "Rejected" if found is None else "Accepted"}


def send_local_list(charger: SimCharger, payload: Json) -> Json:
    if not charger.flash.says_yes("LocalAuthListEnabled"):
        return {"status": "NotSupported"}
    changes = {
        str(entry["idTag"]): read_card(entry["idTagInfo"]) if "idTagInfo" in entry else None
        for entry in payload.get("localAuthorizationList") or ()
    }
    full = payload["updateType"] == "Full"
    return {"status": charger.flash.cards.update(full, int(payload["listVersion"]), changes)}


def local_list_version(charger: SimCharger, payload: Json) -> Json:
    enabled = charger.flash.says_yes("LocalAuthListEnabled")
    return {"listVersion": charger.flash.cards.version if enabled else -1}


HANDLERS: Mapping[str, Callable[[SimCharger, Json], Json]] = {
    "RemoteStartTransaction": remote_start,
    "RemoteStopTransaction": remote_stop,
    "SetChargingProfile": set_profile,
    "ClearChargingProfile": clear_profile,
    "GetCompositeSchedule": composite_schedule,
    "TriggerMessage": trigger,
    "GetConfiguration": get_configuration,
    "ChangeConfiguration": change_configuration,
    "ChangeAvailability": change_availability,
    "Reset": reset,
    "UnlockConnector": unlock,
    "ClearCache": clear_cache,
    "ReserveNow": reserve,
    "CancelReservation": cancel_reservation,
    "SendLocalList": send_local_list,
    "GetLocalListVersion": local_list_version,
}


def read_profile(raw: Json, connector: int, received: datetime) -> Profile:
    """A csChargingProfiles object. Raises KeyError, TypeError or ValueError when it is not one."""
    schedule = raw["chargingSchedule"]
    purpose, kind = raw["chargingProfilePurpose"], raw["chargingProfileKind"]
    unit, recurrence = schedule["chargingRateUnit"], raw.get("recurrencyKind")
    if purpose not in merge.PURPOSES or kind not in merge.KINDS or unit not in ("A", "W"):
        raise ValueError(f"{purpose}/{kind}/{unit} is not a known purpose/kind/unit")
    if (kind == "Recurring") != (recurrence in merge.RECURRENCE_S):
        raise ValueError(f"kind {kind} with recurrency {recurrence}")
    periods = tuple(
        Period(float(period["startPeriod"]), float(period["limit"]), period.get("numberPhases"))
        for period in schedule["chargingSchedulePeriod"]
    )
    if not periods or periods[0].start_s != 0:
        raise ValueError("the first period must start at 0")
    duration = schedule.get("duration")
    return Profile(
        id=int(raw["chargingProfileId"]),
        connector=connector,
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
    )


def read_card(info: Json) -> Card:
    """An idTagInfo object."""
    return Card(str(info["status"]), info.get("parentIdTag"), read_time(info.get("expiryDate")))


def _where_to_start(charger: SimCharger, number: int | None, token: str) -> Connector | None:
    """The connector asked for, else one with a cable in, else any free one; None when it cannot start."""

    def kept_for_others(connector: Connector) -> bool:
        held = reserved(charger.flash.reservations.values(), connector.number)
        return held is not None and not held.serves(token, None)

    free = [
        connector
        for connector in charger.connectors
        if connector.free() and charger.operative(connector) and not kept_for_others(connector)
    ]
    if number is not None:
        return next((connector for connector in free if connector.number == int(number)), None)
    plugged = [connector for connector in free if connector.evse.vehicle is not None]
    return next(iter(plugged + free), None)


def _takes(charger: SimCharger, profile: Profile) -> bool:
    """Whether this charger's firmware accepts such a profile at all."""
    quirks = charger.quirks
    if profile.purpose == merge.TX and quirks.refuses_tx_profile:
        return False
    if quirks.stack_levels is not None and profile.stack not in quirks.stack_levels:
        return False
    if quirks.only_relative and profile.kind != "Relative":
        return False
    if not quirks.take_limits(profile.unit, (period.limit for period in profile.periods)):
        return False
    return 0 <= profile.stack <= charger.flash.number("ChargeProfileMaxStackLevel") and len(
        profile.periods
    ) <= charger.flash.number("ChargingScheduleMaxPeriods")


def _install(charger: SimCharger, profile: Profile) -> None:
    if charger.quirks.ignores_expiry:
        profile = replace(profile, valid_to=None, duration_s=None)
    before = charger.flash.profiles
    if charger.quirks.newest_only:
        before = merge.others(before, profile)
    profiles = merge.install(before, profile)
    if len(profiles) > charger.flash.number("MaxChargingProfilesInstalled"):
        raise CallError("InternalError", "no room for another profile")
    charger.flash.profiles = profiles
    now_s = charger.clock.now().mono_s
    for connector in charger.connectors:
        if profile.connector in (0, connector.number):
            connector.profile_written(now_s)
