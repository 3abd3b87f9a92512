"""Limits as OCPP 1.6 charging profiles: a stored low fallback underneath a leased limit that ends by itself.

Owns which profile says what. Pure. Source: OCPP 1.6 sections 3.13, 5.16 and 7.8-7.13. The layers: TxDefaultProfile at
level 0 without an end is what the station does alone, within ChargePointMaxProfile, the most it may ever do; the lease lies at the highest level the station offers and ends
after `lease_s`, so a dead controller makes the station fall to the fallback. Between them, one level below the lease, may
lie a plan for while we are gone (`keeping`). Limits only ever round down.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from controller.core.commands import SetLimit, StartCharging, StopCharging
from controller.core.model import Evse
from controller.core.units import floor_to_step
from controller.core.watts import limit_w
from drivers.errors import Refused
from drivers.ocpp.frames import Payload
from drivers.ocpp.words import Capabilities, Layer, utc_text

# Our start lies this far in the past: a station whose clock is behind would otherwise not follow us yet.
CLOCK_SLACK_S = 60
NOMINAL_MV = (
    230_000  # for stations that only take watts; a higher real voltage then means less current, never more
)
STEP_MA = 100  # the schema allows one decimal of an ampere
DEPOT_TOKEN = "DEPOT"  # for starts without a driver
LONGEST_TOKEN = 20

_FALLBACK, _LEASE, _TRANSACTION, PLAN = (
    1,
    2,
    3,
    4,
)  # profile ids are EVSE number x 10 + this: the same one is always replaced

MAXIMUM = 1  # the profile id of the station's maximum: below those of every EVSE

# what setup asks for; spelled as in OCPP 1.6 section 9
KEYS = (
    "SupportedFeatureProfiles",
    "ChargeProfileMaxStackLevel",
    "ChargingScheduleAllowedChargingRateUnit",
    "ChargingScheduleMaxPeriods",
    "MaxChargingProfilesInstalled",
    "NumberOfConnectors",
    "AuthorizeRemoteTxRequests",
    "MeterValueSampleInterval",
    "HeartbeatInterval",
    "LocalPreAuthorize",
    "LocalAuthorizeOffline",
    "AllowOfflineTxForUnknownId",
)


def read_configuration(answer: Payload) -> dict[str, str]:
    """The readable keys of a GetConfiguration answer, in small letters, without quotes and blanks around values."""
    entries = answer.get("configurationKey")
    found: dict[str, str] = {}
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict) and isinstance(entry.get("key"), str) and "value" in entry:
            found[entry["key"].strip().casefold()] = str(entry["value"]).strip(" \t\"'")
    return found


def capabilities(configuration: Mapping[str, str]) -> Capabilities:
    """Reads all spellings seen in the field: lists by comma or semicolon, A/Current and W/Power."""

    def number(key: str) -> int | None:
        text = configuration.get(key.casefold(), "")
        return int(text) if re.fullmatch(r"\d{1,9}", text) else None

    features = _words(configuration.get("supportedfeatureprofiles", ""))
    units = _words(configuration.get("chargingscheduleallowedchargingrateunit", ""))
    level = number("ChargeProfileMaxStackLevel")
    remote = configuration.get("authorizeremotetxrequests", "").casefold()
    return Capabilities(
        smart_charging=("smartcharging" in features) if features else None,
        max_stack_level=1 if level is None else level,
        in_watts=bool(units & {"w", "power"}) and not units & {"a", "current"},
        takes_watts=bool(units & {"w", "power"}),
        max_profiles=number("MaxChargingProfilesInstalled"),
        max_periods=number("ChargingScheduleMaxPeriods"),
        evses=number("NumberOfConnectors"),
        asks_for_remote_tokens={"true": True, "false": False}.get(remote),
    )


def fallback(number: int, evse: Evse, able: Capabilities) -> Payload:
    """SetChargingProfile that stores the EVSE's fallback for good."""
    profile: Payload = {
        "chargingProfileId": number * 10 + _FALLBACK,
        "stackLevel": 0,
        "chargingProfilePurpose": "TxDefaultProfile",
        "chargingProfileKind": "Relative",
        "chargingSchedule": _schedule(evse.fallback_ma, evse, able),
    }
    return {"connectorId": number, "csChargingProfiles": profile}


def maximum(limit_ma: int, evse: Evse, able: Capabilities, now: datetime) -> Payload:
    """SetChargingProfile that bounds the station as a whole for good; `evse`: the one with the most phases."""
    since = now.replace(microsecond=0) - timedelta(seconds=CLOCK_SLACK_S)
    profile: Payload = {
        "chargingProfileId": MAXIMUM,
        "stackLevel": 0,
        "chargingProfilePurpose": "ChargePointMaxProfile",
        "chargingProfileKind": "Absolute",
        "chargingSchedule": _schedule(limit_ma, evse, able) | {"startSchedule": utc_text(since)},
    }
    return {"connectorId": 0, "csChargingProfiles": profile}


def limit(command: SetLimit, number: int, evse: Evse, able: Capabilities, now: datetime) -> Payload:
    """SetChargingProfile for a leased limit: of the running transaction if there is one, else of the next.

    Raises Refused where the station has no place for it: nothing is sent then.
    """
    evse = told(command, evse, able)
    if command.transaction is None or able.tx_purpose != "TxProfile":
        if able.max_stack_level < 1:
            raise Refused("the station has one stack level: without a transaction it stays at its fallback")
        profile = _leased(command.limit_ma, command.lease_s, evse, able, now)
        profile |= {"chargingProfileId": number * 10 + _LEASE, "chargingProfilePurpose": "TxDefaultProfile"}
    else:
        profile = _leased(command.limit_ma, command.lease_s, evse, able, now)
        profile |= {
            "chargingProfileId": number * 10 + _TRANSACTION,
            "chargingProfilePurpose": "TxProfile",
            "transactionId": _transaction(command.transaction),
        }
    return {"connectorId": number, "csChargingProfiles": profile}


def told(command: SetLimit, evse: Evse, able: Capabilities) -> Evse:
    """The EVSE with the conductors that the limit is for. Watts for three phases may land on one, so a station that takes
    nothing else is not switched (field notes, row 34)."""
    if command.phases is None:
        return evse
    if able.in_watts:
        raise Refused("the station takes watts only: phases are switched with a limit in amperes")
    return replace(evse, phases=evse.phases[: command.phases])


def plan(transaction: str, number: int, evse: Evse, able: Capabilities, layer: Layer) -> Payload:
    """SetChargingProfile for what the running transaction follows while no lease holds."""
    schedules = [_schedule(limit_ma, evse, able) for _, limit_ma in layer.periods]
    periods = [
        {**schedule["chargingSchedulePeriod"][0], "startPeriod": start_s}
        for schedule, (start_s, _) in zip(schedules, layer.periods, strict=True)
    ]
    profile: Payload = {
        "chargingProfileId": number * 10 + PLAN,
        "stackLevel": layer.level,
        "chargingProfilePurpose": "TxProfile",
        "transactionId": _transaction(transaction),
        **layer.validity,
        "chargingSchedule": {**schedules[0], **layer.timing, "chargingSchedulePeriod": periods},
    }
    return {"connectorId": number, "csChargingProfiles": profile}


def start(command: StartCharging, number: int, evse: Evse, able: Capabilities, now: datetime) -> Payload:
    """RemoteStartTransaction with its first limit, leased like any other. Raises Refused for an unsendable token."""
    token = command.token or DEPOT_TOKEN
    if len(token) > LONGEST_TOKEN:
        raise Refused(f"an OCPP 1.6 id token has at most {LONGEST_TOKEN} characters")
    request: Payload = {"connectorId": number, "idTag": token}
    if able.smart_charging is not False and able.tx_purpose == "TxProfile":
        profile = _leased(command.limit_ma, evse.link.lease_s, evse, able, now)
        profile |= {"chargingProfileId": number * 10 + _TRANSACTION, "chargingProfilePurpose": "TxProfile"}
        request["chargingProfile"] = profile
    return request


def stop(command: StopCharging) -> Payload:
    """RemoteStopTransaction. Raises Refused when no transaction is known: 1.6 cannot stop anything else."""
    if command.transaction is None:
        raise Refused("no running transaction is known")
    return {"transactionId": _transaction(command.transaction)}


def _leased(limit_ma: int, lease_s: float, evse: Evse, able: Capabilities, now: datetime) -> Payload:
    since = now.replace(microsecond=0) - timedelta(seconds=CLOCK_SLACK_S)
    duration_s = int(lease_s) + CLOCK_SLACK_S
    schedule = _schedule(limit_ma, evse, able)
    if able.profile_kind == "Absolute":  # a relative one would count from the start of the transaction
        schedule |= {"startSchedule": utc_text(since), "duration": duration_s}
    return {
        "stackLevel": able.max_stack_level,
        "chargingProfileKind": able.profile_kind,
        "validFrom": utc_text(since),
        "validTo": utc_text(since + timedelta(seconds=duration_s)),
        "chargingSchedule": schedule,
    }


def _schedule(limit_ma: int, evse: Evse, able: Capabilities) -> Payload:
    if able.in_watts or evse.dc is not None:  # amps of a DC output would be taken for the vehicle's
        unit, amount = "W", float(limit_w(evse, limit_ma, able.voltage_mv or NOMINAL_MV))
    else:
        unit, amount = "A", floor_to_step(limit_ma, STEP_MA) / 1000
    period: Payload = {"startPeriod": 0, "limit": amount}
    if len(evse.phases) == 1:
        period["numberPhases"] = 1
    return {"chargingRateUnit": unit, "chargingSchedulePeriod": [period]}


def _transaction(text: str) -> int:
    if re.fullmatch(r"-?\d{1,10}", text) is None:
        raise Refused(f'transaction "{text[:36]}" is not an OCPP 1.6 number')
    return int(text)


def _words(text: str) -> frozenset[str]:
    return frozenset(
        word.strip(" \t\"'").casefold() for word in re.split(r"[,;]", text) if word.strip(" \t\"'")
    )
