"""Limits, starts and stops as OCPP 2.0.1 and 2.1 say them: the same layers of charging profiles as in `profiles`.

Owns which profile says what. Pure; payloads are built by hand. A stored TxDefaultProfile without an end underneath, the
lease above it; 2.1 also ends the lease by itself once the station has been offline for as long (maxOfflineDuration).
Limits only ever round down. Source: OCPP 2.0.1 part 2 sections F01-F03 and K01, 2.1 part 2 sections K29 and Q.
"""

from __future__ import annotations

import zlib
from datetime import datetime, timedelta

from controller.core.commands import SetLimit, StartCharging, StartDischarge, StopCharging
from controller.core.model import Evse
from controller.core.units import floor_to_step
from controller.core.watts import limit_w
from drivers.errors import Refused
from drivers.ocpp.frames import Payload
from drivers.ocpp.profiles import CLOCK_SLACK_S, MAXIMUM, NOMINAL_MV, PLAN, STEP_MA, told
from drivers.ocpp.words import Capabilities, Layer, utc_text

LONGEST_TRANSACTION = 36
BLIND_S = 60  # a discharge whose floor nobody watches ends so soon after the link has gone
LONGEST_TOKEN = {False: 36, True: 255}  # 2.1 made room for contract certificates

_FALLBACK, _LEASE, _TRANSACTION = (1, 2, 3)  # as in 1.6: EVSE number x 10 + this


def fallback(number: int, evse: Evse, able: Capabilities) -> Payload:
    """SetChargingProfile that stores the EVSE's fallback for good."""
    profile_id = number * 10 + _FALLBACK
    return _request(
        number,
        {
            "id": profile_id,
            "stackLevel": 0,
            "chargingProfilePurpose": "TxDefaultProfile",
            "chargingProfileKind": "Relative",
            "chargingSchedule": [
                _schedule(profile_id, _period(evse.fallback_ma, evse, able), _in_watts(evse, able))
            ],
        },
    )


def maximum(limit_ma: int, evse: Evse, able: Capabilities, now: datetime) -> Payload:
    """SetChargingProfile that bounds the station as a whole for good; `evse`: the one with the most phases."""
    since = now.replace(microsecond=0) - timedelta(seconds=CLOCK_SLACK_S)
    schedule = _schedule(MAXIMUM, _period(limit_ma, evse, able), _in_watts(evse, able))
    return _request(
        0,
        {
            "id": MAXIMUM,
            "stackLevel": 0,
            "chargingProfilePurpose": "ChargingStationMaxProfile",
            "chargingProfileKind": "Absolute",
            "chargingSchedule": [schedule | {"startSchedule": utc_text(since)}],
        },
    )


def limit(
    command: SetLimit, number: int, evse: Evse, able: Capabilities, now: datetime, is_21: bool
) -> Payload:
    """SetChargingProfile for a leased limit: of the running transaction if there is one, else of the next.

    Raises Refused where the station has no place for it.
    """
    evse = told(command, evse, able)
    period = _period(command.limit_ma, evse, able)
    if command.phases is not None and able.chooses_phase:
        period["phaseToUse"] = 1  # left to itself, the station takes any
    if command.transaction is None or able.tx_purpose != "TxProfile":
        if able.max_stack_level < 1:
            raise Refused("the station has one stack level: without a transaction it stays at its fallback")
        profile = _leased(
            number * 10 + _LEASE, command.lease_s, period, _in_watts(evse, able), able, now, is_21
        )
        profile["chargingProfilePurpose"] = "TxDefaultProfile"
        return _request(number, profile)
    profile = _leased(
        number * 10 + _TRANSACTION, command.lease_s, period, _in_watts(evse, able), able, now, is_21
    )
    return _request(number, profile | _of_transaction(command.transaction))


def plan(transaction: str, number: int, evse: Evse, able: Capabilities, layer: Layer) -> Payload:
    """SetChargingProfile for what the running transaction follows while no lease holds."""
    profile_id = number * 10 + PLAN
    periods = [
        {**_period(limit_ma, evse, able), "startPeriod": start_s} for start_s, limit_ma in layer.periods
    ]
    schedule = _schedule(profile_id, periods[0], _in_watts(evse, able))
    profile: Payload = {
        "id": profile_id,
        "stackLevel": layer.level,
        **layer.validity,
        "chargingSchedule": [{**schedule, **layer.timing, "chargingSchedulePeriod": periods}],
    }
    return _request(number, profile | _of_transaction(transaction))


def start(
    command: StartCharging, number: int, evse: Evse, able: Capabilities, now: datetime, is_21: bool
) -> Payload:
    """RequestStartTransaction with its first limit, leased like any other. Raises Refused for an unsendable token."""
    token = command.token or ""
    if len(token) > LONGEST_TOKEN[is_21]:
        raise Refused(f"an id token of this OCPP version has at most {LONGEST_TOKEN[is_21]} characters")
    request: Payload = {
        "evseId": number,
        "remoteStartId": zlib.crc32(command.id.encode()) & 0x7FFFFFFF,
        "idToken": {"idToken": token, "type": "Central" if token else "NoAuthorization"},
    }
    if able.smart_charging is not False and able.tx_purpose == "TxProfile":
        period = _period(command.limit_ma, evse, able)
        lease_s = evse.link.lease_s
        profile = _leased(
            number * 10 + _TRANSACTION, lease_s, period, _in_watts(evse, able), able, now, is_21
        )
        request["chargingProfile"] = profile | {"chargingProfilePurpose": "TxProfile"}
    return request


def stop(command: StopCharging) -> Payload:
    """RequestStopTransaction. Raises Refused when no transaction is known: nothing else can be stopped."""
    if command.transaction is None:
        raise Refused("no running transaction is known")
    return {"transactionId": _transaction(command.transaction)}


def discharge(
    command: StartDischarge,
    transaction: str | None,
    number: int,
    evse: Evse,
    able: Capabilities,
    now: datetime,
) -> Payload:
    """SetChargingProfile of OCPP 2.1 with a negative set-point for the running transaction.

    The floor of the battery is the depot's to watch: `limitAtSoC` knows charging only. Raises Refused unless the
    station declares V2X and a transaction runs.
    """
    if not able.discharge:
        raise Refused("the station does not declare V2X (V2XChargingCtrlr)")
    if transaction is None:
        raise Refused("no running transaction is known")
    if able.takes_watts or _in_watts(evse, able):
        in_watts, amount = True, float(command.power_w)
    else:
        phases = len(evse.phases)
        current_ma = command.power_w * 1_000_000 // (NOMINAL_MV * phases)
        in_watts, amount = False, floor_to_step(current_ma, STEP_MA) / 1000
    period: Payload = {"startPeriod": 0, "operationMode": "CentralSetpoint", "setpoint": -amount}
    profile_id = number * 10 + _TRANSACTION
    profile = _leased(profile_id, command.duration_s, period, in_watts, able, now, is_21=True)
    profile["maxOfflineDuration"] = min(BLIND_S, int(command.duration_s))
    return _request(number, profile | _of_transaction(transaction))


def _request(number: int, profile: Payload) -> Payload:
    return {"evseId": number, "chargingProfile": profile}


def _leased(
    profile_id: int,
    lease_s: float,
    period: Payload,
    in_watts: bool,
    able: Capabilities,
    now: datetime,
    is_21: bool,
) -> Payload:
    since = now.replace(microsecond=0) - timedelta(seconds=CLOCK_SLACK_S)
    duration_s = int(lease_s) + CLOCK_SLACK_S
    schedule = _schedule(profile_id, period, in_watts)
    if able.profile_kind == "Absolute":  # a relative one would count from the start of the transaction
        schedule |= {"startSchedule": utc_text(since), "duration": duration_s}
    profile: Payload = {
        "id": profile_id,
        "stackLevel": able.max_stack_level,
        "chargingProfileKind": able.profile_kind,
        "validFrom": utc_text(since),
        "validTo": utc_text(since + timedelta(seconds=duration_s)),
        "chargingSchedule": [schedule],
    }
    if is_21:
        profile["maxOfflineDuration"] = int(lease_s)
    return profile


def _schedule(schedule_id: int, period: Payload, in_watts: bool) -> Payload:
    unit = "W" if in_watts else "A"
    return {"id": schedule_id, "chargingRateUnit": unit, "chargingSchedulePeriod": [period]}


def _period(limit_ma: int, evse: Evse, able: Capabilities) -> Payload:
    if _in_watts(evse, able):
        amount = float(limit_w(evse, limit_ma, able.voltage_mv or NOMINAL_MV))
    else:
        amount = floor_to_step(limit_ma, STEP_MA) / 1000
    period: Payload = {"startPeriod": 0, "limit": amount}
    if len(evse.phases) == 1:
        period["numberPhases"] = 1
    return period


def _in_watts(evse: Evse, able: Capabilities) -> bool:
    """Amps of a DC output would be taken for the vehicle's."""
    return able.in_watts or evse.dc is not None


def _of_transaction(transaction: str) -> Payload:
    return {"chargingProfilePurpose": "TxProfile", "transactionId": _transaction(transaction)}


def _transaction(text: str) -> str:
    if not 0 < len(text) <= LONGEST_TRANSACTION:
        raise Refused(f'transaction "{text[:36]}" is not an OCPP 2 transaction id')
    return text
