"""What a simulated OCPP 2.x station answers about drivers, transactions and its own state.

One function per action, as in `charger2_charging`. Source: OCPP 2.0.1 part 2 B11-B12, C11, D, F, G, H, P.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from drivers.sim import merge
from drivers.sim.cards import Reservation, reserved
from drivers.sim.charger2_charging import evse_of, install, rejected, unfit
from drivers.sim.charger2_evse import CONNECTOR, Evse
from drivers.sim.charger2_merge import read_profile
from drivers.sim.charger2_sessions import read_card
from drivers.sim.charger2_upkeep import ask_for_certificate
from drivers.sim.outbox import Json
from drivers.sim.stamps import read_time

if TYPE_CHECKING:
    from drivers.sim.charger2 import SimStation

RESET_S = 1.0  # it answers first, then it goes down


def request_start(station: SimStation, payload: Json) -> Json:
    token, remote_id = dict(payload["idToken"]), int(payload["remoteStartId"])
    group = (payload.get("groupIdToken") or {}).get("idToken")
    evse = _where_to_start(station, payload.get("evseId"), token, group)
    if evse is None:
        return rejected("NoFreeEvse")
    raw = payload.get("chargingProfile")
    if raw is not None:
        try:
            profile = read_profile(raw, evse.number, station.utc(), station.link.version)
        except ValueError as error:
            return rejected("InvalidProfile", str(error))
        if profile.purpose != merge.TX or profile.transaction is not None:
            return rejected("InvalidProfile")
        problem = unfit(station, profile)
        if problem is not None:
            return rejected(problem)
        refusal = install(station, profile)
        if refusal["status"] != "Accepted":
            return refusal
    if station.memory.variables.says_yes("AuthCtrlr", "AuthorizeRemoteStart"):
        station.sessions.authorize(evse, token, remote_id)
    else:
        station.sessions.allow(evse, token, group, remote_id)
    running = evse.transaction
    return {"status": "Accepted", **({} if running is None else {"transactionId": running.id})}


def request_stop(station: SimStation, payload: Json) -> Json:
    evse = evse_of(station, payload["transactionId"])
    if evse is None:
        return rejected("TxNotFound")
    station.sessions.withdraw(evse, "RemoteStop", "Remote")
    return {"status": "Accepted"}


def transaction_status(station: SimStation, payload: Json) -> Json:
    wanted = payload.get("transactionId")
    queued = [record.transaction.id for record in station.memory.records]
    if wanted is None:
        return {"messagesInQueue": bool(queued)}
    running = evse_of(station, wanted) is not None
    return {"ongoingIndicator": running, "messagesInQueue": wanted in queued}


def change_availability(station: SimStation, payload: Json) -> Json:
    number = int((payload.get("evse") or {"id": 0})["id"])
    if number and station.evse(number) is None:
        return rejected("UnknownEvse")
    off = station.memory.inoperative
    if payload["operationalStatus"] == "Operative":
        off.discard(number)
        return {"status": "Accepted"}
    off.add(number)
    busy = any(evse.transaction is not None for evse in station.evses if number in (0, evse.number))
    return {"status": "Scheduled" if busy else "Accepted"}


def reset(station: SimStation, payload: Json) -> Json:
    number, at_once = int(payload.get("evseId", 0)), payload["type"] == "Immediate"
    chosen = [evse for evse in station.evses if number in (0, evse.number)]
    if not chosen:
        return rejected("UnknownEvse")
    if not at_once:
        station.reset_when_idle.add(number)
        busy = any(evse.transaction is not None for evse in chosen)
        if busy:
            return {"status": "Scheduled"}
        station.reset_when_idle.discard(number)
    if number == 0:
        station.reset_at_s = station.clock.now().mono_s + RESET_S
    else:
        station.sessions.end(chosen[0], "ResetCommand", "ImmediateReset")
        chosen[0].forget()
    return {"status": "Accepted"}


def unlock(station: SimStation, payload: Json) -> Json:
    evse = station.evse(int(payload["evseId"]))
    if evse is None or int(payload["connectorId"]) != CONNECTOR:
        return {"status": "UnknownConnector"}
    busy = evse.transaction is not None and evse.permit is not None
    return {"status": "OngoingAuthorizedTransaction" if busy else "Unlocked"}


def trigger(station: SimStation, payload: Json) -> Json:
    asked = payload.get("evse")
    number = 0 if asked is None else int(asked["id"])
    chosen = [evse for evse in station.evses if number in (0, evse.number)]
    if not chosen:
        return {"status": "Rejected"}
    names = station.memory.variables.names("AlignedDataCtrlr", "Measurands")
    match payload["requestedMessage"]:
        case "BootNotification":
            if station.voice.online:
                return {"status": "Rejected"}  # F06.FR.17: it has been accepted
            station.memory.boot_reason = "Triggered"
            station.voice.say_boot()
        case "Heartbeat":
            station.voice.say_heartbeat()
        case "StatusNotification":
            if asked is None or "connectorId" not in asked:
                return {"status": "Rejected"}  # F06.FR.13: for one connector
            for evse in chosen:
                station.send_status(evse, asked=True)
        case "MeterValues":
            for evse in chosen:
                station.send_values(evse, "Trigger", names)
        case "TransactionEvent":
            running = [evse for evse in chosen if evse.transaction is not None]
            if not running:
                return {"status": "Rejected"}
            updated = station.memory.variables.names("SampledDataCtrlr", "TxUpdatedMeasurands")
            for evse in running:
                station.sessions.report_values(evse, "Trigger", "Trigger", updated)
        case "SignChargingStationCertificate":
            return ask_for_certificate(station)
        case "FirmwareStatusNotification" | "LogStatusNotification" as action:
            station.say_again(action)
        case _:
            return {"status": "NotImplemented"}
    return {"status": "Accepted"}


def reserve(station: SimStation, payload: Json) -> Json:
    """Without an EVSE it keeps the first free one."""
    id, until = int(payload["id"]), read_time(payload["expiryDateTime"])
    number = int(payload.get("evseId", 0))
    wanted = [evse for evse in station.evses if number in (0, evse.number)]
    enabled = station.memory.variables.says_yes("ReservationCtrlr", "Enabled")
    if not enabled or not wanted or until is None or until <= station.utc():
        return {"status": "Rejected"}
    group = (payload.get("groupIdToken") or {}).get("idToken")
    held = station.memory.reservations
    for evse in wanted:
        mine = reserved(held.values(), evse.number)
        state = evse.status(station.operative(evse), False)
        if state == "Available" and (mine is None or mine.id == id):
            held[id] = Reservation(id, evse.number, str(payload["idToken"]["idToken"]), group, until)
            return {"status": "Accepted"}
    return {"status": state if state in ("Faulted", "Unavailable") else "Occupied"}


def cancel_reservation(station: SimStation, payload: Json) -> Json:
    found = station.memory.reservations.pop(int(payload["reservationId"]), None)
    return {"status": "Rejected" if found is None else "Accepted"}


def send_local_list(station: SimStation, payload: Json) -> Json:
    if not station.memory.cards.list_on:
        return {"status": "Failed", "statusInfo": {"reasonCode": "NotEnabled"}}
    changes = {
        str(entry["idToken"]["idToken"]): read_card(entry["idTokenInfo"]) if "idTokenInfo" in entry else None
        for entry in payload.get("localAuthorizationList") or ()
    }
    full = payload["updateType"] == "Full"
    return {"status": station.memory.cards.update(full, int(payload["versionNumber"]), changes)}


def local_list_version(station: SimStation, payload: Json) -> Json:
    return {"versionNumber": station.memory.cards.version if station.memory.cards.list_on else 0}


def clear_cache(station: SimStation, payload: Json) -> Json:
    if not station.memory.cards.cache_on:
        return rejected("NotEnabled")
    station.memory.cards.cache.clear()
    return {"status": "Accepted"}


def data_transfer(station: SimStation, payload: Json) -> Json:
    known = payload["vendorId"] == station.vendor
    return {"status": "UnknownMessageId" if known else "UnknownVendorId"}


def _where_to_start(station: SimStation, number: int | None, token: Json, group: str | None) -> Evse | None:
    """The EVSE asked for, else one with a cable in, else any free one; None when it cannot start."""
    free = [
        evse
        for evse in station.evses
        if evse.permit is None
        and evse.evse.fault is None
        and station.operative(evse)
        and station.sessions.may_use(evse, token, group)
    ]
    if number is not None:
        return next((evse for evse in free if evse.number == int(number)), None)
    plugged = [evse for evse in free if evse.plugged]
    return next(iter(plugged + free), None)


HANDLERS: Mapping[str, Callable[[SimStation, Json], Json]] = {
    "RequestStartTransaction": request_start,
    "RequestStopTransaction": request_stop,
    "GetTransactionStatus": transaction_status,
    "ChangeAvailability": change_availability,
    "Reset": reset,
    "UnlockConnector": unlock,
    "TriggerMessage": trigger,
    "ReserveNow": reserve,
    "CancelReservation": cancel_reservation,
    "SendLocalList": send_local_list,
    "GetLocalListVersion": local_list_version,
    "ClearCache": clear_cache,
    "DataTransfer": data_transfer,
}
