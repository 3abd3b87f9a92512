"""OCPP 2.0.1, blocks D, F, G, H, I and K of the compliance suite, against a raw station (the ids are its case ids;
`tests/ocpp_cases.toml`)."""

from __future__ import annotations

from typing import Any

import pytest
from ocpp_peer import now_text
from octt_bench import suite_and_station
from octt_steps import Json, Says, Step, Told, authorize2, event2, play, status2, token2

from controller.core.events import (
    FaultReported,
    StatusChanged,
    TokenPresented,
    TransactionEnded,
    TransactionStarted,
)

LATER = now_text(3600)
TOKEN = token2()["idToken"]
REJECTED = {"status": "Rejected"}
FREE, PLUG = status2("Available"), status2("Occupied")
AUTHORIZED = event2("Started", 0, "RemoteStart", token=True)
CHARGING = event2("Updated", 1, "ChargingStateChanged", "Charging")
BEGUN: tuple[Step, ...] = (PLUG, AUTHORIZED, CHARGING)
GONE = event2("Ended", 2, "EVDeparted", "Idle", stoppedReason="EVDisconnected")
REMOTE = {"idToken": TOKEN, "remoteStartId": 5, "evseId": 1}
Case = tuple[tuple[Step, ...], tuple[type, ...]]


def entry(text: str, status: str = "Accepted") -> Json:
    return {**token2(text), "idTokenInfo": {"status": status}}


def listed(version: int, kind: str, *entries: Json) -> Told:
    body: Json = {"versionNumber": version, "updateType": kind}
    return Told("SendLocalList", body | ({"localAuthorizationList": list(entries)} if entries else {}))


def version_is(number: int) -> Told:
    return Told("GetLocalListVersion", {}, {"versionNumber": number})


def triggers(word: str, *then: Step, evse: Json | None = None, answer: str = "Accepted") -> Case:
    body: Json = {"requestedMessage": word} | ({} if evse is None else {"evse": evse})
    return (Told("TriggerMessage", body, {"status": answer}), *then), ()


def values(evse: int) -> Says:
    sample = [{"timestamp": now_text(), "sampledValue": [{"value": 1.0, "context": "Trigger"}]}]
    return Says("MeterValues", {"evseId": evse, "meterValue": sample})


def available(word: str, evse: Json | None, answer: str, *then: Step) -> tuple[Step, ...]:
    body: Json = {"operationalStatus": word} | ({} if evse is None else {"evse": evse})
    return (Told("ChangeAvailability", body, {"status": answer}), *then)


DOWN, UP = status2("Unavailable"), FREE
EVSE, CONNECTOR = {"id": 1}, {"id": 1, "connectorId": 1}
OFF = (StatusChanged,)
RESERVE: Json = {"id": 3, "expiryDateTime": LATER, "idToken": TOKEN}


def reserved(answer: str = "Accepted", **more: Any) -> Told:
    return Told("ReserveNow", {**RESERVE, **more}, {"status": answer})


USED = event2("Started", 0, "Authorized", token=True, reservationId=3)


def profile(number: int = 31, purpose: str = "TxDefaultProfile", kind: str = "Absolute", **more: Any) -> Json:
    schedule: Json = {
        "id": 1,
        "chargingRateUnit": "A",
        "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 6.0}],
    }
    if kind == "Absolute":
        schedule |= {"startSchedule": now_text(), "duration": 3600}
    if kind == "Recurring":
        more = {**more, "recurrencyKind": "Daily"}
        schedule |= {"startSchedule": now_text(), "duration": 86400}
    return {
        "id": number, "stackLevel": 1, "chargingProfilePurpose": purpose, "chargingProfileKind": kind,
        "chargingSchedule": [schedule], **more,
    }  # fmt: skip


def put(evse: int = 1, answer: str = "Accepted", **more: Any) -> Told:
    return Told(
        "SetChargingProfile", {"evseId": evse, "chargingProfile": profile(**more)}, {"status": answer}
    )


def asked(criterion: Json, evse: int | None = None, answer: str = "Accepted") -> tuple[Step, ...]:
    body: Json = {"requestId": 8, "chargingProfile": criterion} | ({} if evse is None else {"evseId": evse})
    told = Told("GetChargingProfiles", body, {"status": answer})
    report = {
        "requestId": 8,
        "chargingLimitSource": "CSO",
        "evseId": 1 if evse is None else evse,
        "chargingProfile": [profile()],
    }
    return (
        told,
        Says("ReportChargingProfiles", {**report, "tbc": True}),
        Says("ReportChargingProfiles", report),
    )


def cleared(answer: str = "Accepted", **body: Any) -> Told:
    return Told("ClearChargingProfile", body, {"status": answer})


def composite(evse: int) -> Told:
    schedule = {"evseId": evse, "duration": 300, "scheduleStart": now_text(), "chargingRateUnit": "A",
                "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 6.0}]}  # fmt: skip
    return Told(
        "GetCompositeSchedule",
        {"evseId": evse, "duration": 300},
        {"status": "Accepted", "schedule": schedule},
    )


NEEDS = Says(
    "NotifyEVChargingNeeds",
    {"evseId": 1, "chargingNeeds": {"requestedEnergyTransfer": "AC_three_phase", "acChargingParameters": {
        "energyAmount": 20_000, "evMinCurrent": 6, "evMaxCurrent": 32, "evMaxVoltage": 400}}},
    {"status": "Accepted"},
)  # fmt: skip
PLANNED = Says(
    "NotifyEVChargingSchedule",
    {"timeBase": now_text(), "evseId": 1, "chargingSchedule": profile()["chargingSchedule"][0]},
    {"status": "Accepted"},
)
OF_TX: dict[str, Any] = {"purpose": "TxProfile", "transactionId": "tx-1"}
LIMITED = Says(
    "NotifyChargingLimit",
    {"evseId": 1, "chargingLimit": {"chargingLimitSource": "SO", "isGridCritical": True}, "chargingSchedule": profile()["chargingSchedule"]},
)  # fmt: skip
LIFTED = Says("ClearedChargingLimit", {"chargingLimitSource": "SO", "evseId": 1})

CASES: dict[str, Case] = {
    "TC_D_01": ((listed(1, "Full", entry("D001001")), version_is(1)), ()),
    "TC_D_02": ((listed(2, "Differential", entry("D001002")), version_is(2)), ()),
    "TC_D_03": ((listed(3, "Differential", token2("D001002")), version_is(3)), ()),
    "TC_D_04": ((listed(4, "Full"), version_is(4)), ()),
    "TC_D_08": ((version_is(1),), ()),
    "TC_D_09": ((version_is(0),), ()),
    "TC_F_01": (
        (PLUG, event2("Started", 0, "CablePluggedIn", "EVConnected"), Told("RequestStartTransaction", REMOTE, {"status": "Accepted", "transactionId": "tx-1"}),
         event2("Updated", 1, "RemoteStart", "EVConnected", token=True, remoteStartId=5), event2("Updated", 2, "ChargingStateChanged", "Charging")),
        (TransactionStarted,),
    ),
    "TC_F_02": (
        (Told("RequestStartTransaction", REMOTE), authorize2(), event2("Started", 0, "RemoteStart", token=True, remoteStartId=5), PLUG,
         event2("Updated", 1, "CablePluggedIn", "EVConnected"), event2("Updated", 2, "ChargingStateChanged", "Charging")),
        (TokenPresented, TransactionStarted),
    ),
    "TC_F_03": (
        (Told("RequestStartTransaction", REMOTE), event2("Started", 0, "RemoteStart", token=True, remoteStartId=5), PLUG, CHARGING),
        (TransactionStarted,),
    ),
    "TC_F_04": (
        (Told("RequestStartTransaction", REMOTE), event2("Started", 0, "RemoteStart", token=True, remoteStartId=5),
         event2("Ended", 1, "EVConnectTimeout", stoppedReason="Timeout")),
        (TransactionStarted, TransactionEnded),
    ),
    "TC_F_06": ((Told("UnlockConnector", {"evseId": 1, "connectorId": 1}, {"status": "Unlocked"}),), ()),
    "TC_F_11": triggers("MeterValues", values(1), evse=EVSE),
    "TC_F_12": triggers("MeterValues", values(1), values(0)),
    "TC_F_13": ((*BEGUN, *triggers("TransactionEvent", event2("Updated", 2, "Trigger"), evse=EVSE)[0]), (TransactionStarted,)),
    "TC_F_14": ((*BEGUN, *triggers("TransactionEvent", event2("Updated", 2, "Trigger"))[0]), (TransactionStarted,)),
    "TC_F_15": triggers("LogStatusNotification", Says("LogStatusNotification", {"status": "Idle"})),
    "TC_F_18": triggers("FirmwareStatusNotification", Says("FirmwareStatusNotification", {"status": "Idle"})),
    "TC_F_20": triggers("Heartbeat", Says("Heartbeat")),
    "TC_F_23": triggers("StatusNotification", FREE, evse=CONNECTOR),
    "TC_F_24": triggers("StatusNotification", PLUG, evse=CONNECTOR),
    "TC_F_27": triggers("SignCombinedCertificate", answer="NotImplemented"),
    "TC_G_03": (available("Inoperative", EVSE, "Accepted", DOWN), OFF),
    "TC_G_04": (available("Operative", EVSE, "Accepted", UP), OFF),
    "TC_G_05": (available("Inoperative", None, "Accepted", DOWN), OFF),
    "TC_G_06": (available("Operative", None, "Accepted", UP), OFF),
    "TC_G_07": (available("Inoperative", CONNECTOR, "Accepted", DOWN), OFF),
    "TC_G_08": (available("Operative", CONNECTOR, "Accepted", UP), OFF),
    "TC_G_11": ((*BEGUN, *available("Inoperative", EVSE, "Scheduled", GONE, DOWN)), (TransactionEnded, StatusChanged)),
    "TC_G_14": ((*BEGUN, *available("Inoperative", None, "Scheduled", GONE, DOWN)), (TransactionEnded, StatusChanged)),
    "TC_G_17": ((*BEGUN, *available("Inoperative", CONNECTOR, "Scheduled", GONE, DOWN)), (TransactionEnded, StatusChanged)),
    "TC_G_20": (
        (PLUG, authorize2(), Says("NotifyEvent", {"generatedAt": now_text(), "seqNo": 0, "eventData": [{
            "eventId": 1, "timestamp": now_text(), "trigger": "Delta", "actualValue": "true", "eventNotificationType": "HardWiredNotification",
            "component": {"name": "ConnectorPlugRetentionLock", "evse": CONNECTOR}, "variable": {"name": "Problem"}}]})),
        (TokenPresented, FaultReported),
    ),
    "TC_H_01": ((reserved(evseId=1), status2("Reserved"), authorize2(), USED), (StatusChanged, TokenPresented, TransactionStarted)),
    "TC_H_07": (
        (reserved(evseId=1), status2("Reserved"), Says("ReservationStatusUpdate", {"reservationId": 3, "reservationUpdateStatus": "Expired"}), FREE),
        (StatusChanged,),
    ),
    "TC_H_08": ((reserved(), authorize2(), USED), (TransactionStarted,)),
    "TC_H_14": ((reserved(), status2("Reserved")), (StatusChanged,)),
    "TC_H_15": ((reserved(connectorType="cType2"), authorize2(), USED), (TransactionStarted,)),
    "TC_H_17": (
        (reserved(evseId=1), status2("Reserved"), Told("CancelReservation", {"reservationId": 3}), FREE), (StatusChanged, StatusChanged),
    ),
    "TC_H_19": (
        (reserved(evseId=1, groupIdToken={"idToken": "VANS", "type": "Central"}), status2("Reserved"), authorize2("100000C39B"), USED),
        (TokenPresented, TransactionStarted),
    ),
    "TC_H_20": (
        (reserved(evseId=1), status2("Reserved"), status2("Faulted"),
         Says("ReservationStatusUpdate", {"reservationId": 3, "reservationUpdateStatus": "Removed"})),
        (StatusChanged, StatusChanged),
    ),
    "TC_H_22": ((reserved("Rejected", evseId=1),), ()),
    "TC_I_01": ((*BEGUN, Told("CostUpdated", {"totalCost": 3.31, "transactionId": "tx-1"}, {})), (TransactionStarted,)),
    "TC_K_01": ((put(),), ()),
    "TC_K_02": ((put(answer="Rejected", **OF_TX),), ()),
    "TC_K_03": ((put(0, purpose="ChargingStationMaxProfile"),), ()),
    "TC_K_04": ((put(), put()), ()),
    "TC_K_05": ((put(), cleared(chargingProfileId=31)), ()),
    "TC_K_06": ((put(), cleared(chargingProfileCriteria={"stackLevel": 1, "chargingProfilePurpose": "TxDefaultProfile", "evseId": 1})), ()),
    "TC_K_08": ((cleared("Unknown", chargingProfileId=99),), ()),
    "TC_K_10": ((put(0),), ()),
    "TC_K_19": ((put(kind="Recurring"),), ()),
    "TC_K_29": (asked({"chargingProfilePurpose": "TxDefaultProfile"}, 0), ()),
    "TC_K_30": (asked({"chargingProfilePurpose": "TxDefaultProfile"}, 1), ()),
    "TC_K_31": (asked({"chargingProfilePurpose": "TxDefaultProfile"}), ()),
    "TC_K_32": (asked({"chargingProfileId": [31]}), ()),
    "TC_K_33": (asked({"stackLevel": 1}, 1), ()),
    "TC_K_34": (asked({"chargingLimitSource": ["CSO"]}, 1), ()),
    "TC_K_35": (asked({"chargingProfilePurpose": "TxDefaultProfile"}, 1), ()),
    "TC_K_36": (asked({"chargingProfilePurpose": "TxDefaultProfile", "stackLevel": 1}, 1), ()),
    "TC_K_37": (
        (Told("RequestStartTransaction", {**REMOTE, "chargingProfile": profile(purpose="TxProfile", kind="Relative")}),
         event2("Started", 0, "RemoteStart", token=True, remoteStartId=5), PLUG, CHARGING),
        (TransactionStarted,),
    ),
    "TC_K_43": ((put(), composite(1)), ()),
    "TC_K_44": ((put(0, purpose="ChargingStationMaxProfile"), composite(0)), ()),
    "TC_K_48": ((LIMITED,), ()),
    "TC_K_50": ((LIMITED, LIFTED), ()),
    "TC_K_51": ((*BEGUN, LIMITED, LIFTED, event2("Updated", 2, "ChargingRateChanged", "Charging")), (TransactionStarted,)),
    "TC_K_52": (asked({"chargingProfilePurpose": "ChargingStationExternalConstraints"}, 1), ()),
    "TC_K_53": ((*BEGUN, NEEDS, put(**OF_TX), PLANNED), (TransactionStarted,)),
    "TC_K_57": ((*BEGUN, NEEDS, put(**OF_TX), PLANNED, NEEDS, put(**OF_TX), PLANNED), (TransactionStarted,)),
    "TC_K_58": ((*BEGUN, put(**OF_TX), PLANNED), (TransactionStarted,)),
    "TC_K_59": ((*BEGUN, put(**OF_TX), NEEDS, put(**OF_TX), PLANNED), (TransactionStarted,)),
    "TC_K_60": ((*BEGUN, put(**OF_TX)), (TransactionStarted,)),
    "TC_K_70": ((put(), put(number=32, stackLevel=2), put(0, number=33, purpose="ChargingStationMaxProfile")), ()),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
async def test_case(case: str) -> None:
    steps, facts = CASES[case]
    await play("2.0.1", steps, facts)


async def test_a_station_without_smart_charging_says_so() -> None:
    """TC_K_15: its error reaches the suite, and nothing else happens."""
    async with suite_and_station("2.0.1", SetChargingProfile=("NotSupported", "")) as (suite, _, _):
        body = {"evseId": 1, "chargingProfile": profile()}
        assert await suite.post("2.0.1/CP1/call/SetChargingProfile", body) == (502, {"error": "NotSupported"})
