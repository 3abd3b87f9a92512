"""OCPP 2.0.1, blocks L, M, N, O and P of the compliance suite, against a raw station (the ids are its case ids;
`tests/ocpp_cases.toml`)."""

from __future__ import annotations

import pytest
from ocpp_peer import now_text
from octt_steps import Json, Says, Step, Told, boot2, event2, play, status2, token2

from controller.core.events import FirmwareReported, StationBooted, TransactionEnded, TransactionStarted

SOON = now_text()
REJECTED = {"status": "Rejected"}
FIRMWARE = {
    "location": "https://10.0.0.5/fw.bin",
    "retrieveDateTime": SOON,
    "signingCertificate": "PEM",
    "signature": "c2ln",
}
Case = tuple[tuple[Step, ...], tuple[type, ...]]
REPORTED = (FirmwareReported,)


def update(*words: str, answer: str = "Accepted", **more: object) -> tuple[Step, ...]:
    told = Told("UpdateFirmware", {"requestId": 7, "firmware": {**FIRMWARE, **more}}, {"status": answer})
    return (told, *progress(*words))


def progress(*words: str) -> tuple[Says, ...]:
    return tuple(Says("FirmwareStatusNotification", {"status": word, "requestId": 7}) for word in words)


def event(kind: str) -> Says:
    return Says("SecurityEventNotification", {"type": kind, "timestamp": SOON})


def published(*words: str) -> tuple[Step, ...]:
    told = Told(
        "PublishFirmware", {"location": "https://10.0.0.5/fw.bin", "checksum": "0" * 32, "requestId": 9}
    )
    where = {"location": ["https://10.0.0.9/fw.bin"]}
    told_of = tuple(
        Says(
            "PublishFirmwareStatusNotification",
            {"status": word, "requestId": 9, **(where if word == "Published" else {})},
        )
        for word in words
    )
    return (told, *told_of)


def unpublished(answer: str) -> Case:
    return (Told("UnpublishFirmware", {"checksum": "0" * 32}, {"status": answer}),), ()


HASH = {"hashAlgorithm": "SHA256", "issuerNameHash": "ab", "issuerKeyHash": "cd", "serialNumber": "01"}


def install(kind: str, answer: str = "Accepted") -> Case:
    return (
        Told(
            "InstallCertificate",
            {"certificateType": kind, "certificate": "-----BEGIN CERTIFICATE-----"},
            {"status": answer},
        ),
    ), ()


def retrieve(*kinds: str, answer: str = "Accepted") -> Case:
    body: Json = {"certificateType": list(kinds)} if kinds else {}
    chain = [{"certificateType": kind, "certificateHashData": HASH} for kind in kinds] or [
        {"certificateType": "CSMSRootCertificate", "certificateHashData": HASH}
    ]
    found = {"status": answer} | ({"certificateHashDataChain": chain} if answer == "Accepted" else {})
    return (Told("GetInstalledCertificateIds", body, found),), ()


def delete(answer: str) -> Case:
    return (*retrieve()[0], Told("DeleteCertificate", {"certificateHashData": HASH}, {"status": answer})), ()


COMPONENT = {"component": {"name": "EVSE"}, "variable": {"name": "AvailabilityState"}}
MONITOR = {"value": 1, "type": "UpperThreshold", "severity": 5, **COMPONENT}


def monitoring(**more: object) -> tuple[Step, ...]:
    told = Told("GetMonitoringReport", {"requestId": 3, **more})
    part: Json = {"requestId": 3, "seqNo": 0, "generatedAt": SOON, "tbc": True, "monitor": [
        {**COMPONENT, "variableMonitoring": [{"id": 1, "transaction": False, "value": 1, "type": "Delta", "severity": 5}]}]}  # fmt: skip
    return (
        told,
        Says("NotifyMonitoringReport", part),
        Says("NotifyMonitoringReport", {**part, "seqNo": 1, "tbc": False}),
    )


def monitored(*monitors: Json) -> tuple[Step, ...]:
    results = [
        {
            "status": "Accepted",
            "id": number,
            **{key: each[key] for key in ("type", "severity", "component", "variable")},
        }
        for number, each in enumerate(monitors)
    ]
    return (
        Told(
            "SetVariableMonitoring", {"setMonitoringData": list(monitors)}, {"setMonitoringResult": results}
        ),
    )


def alert(trigger: str = "Alerting", kind: str = "CustomMonitor", **more: object) -> Says:
    data = {"eventId": 1, "timestamp": SOON, "trigger": trigger, "actualValue": "2", "eventNotificationType": kind,
            "variableMonitoringId": 1, **COMPONENT, **more}  # fmt: skip
    return Says("NotifyEvent", {"generatedAt": SOON, "seqNo": 0, "tbc": False, "eventData": [data]})


PERIODIC = {"type": "Periodic", "value": 10, "severity": 5, **COMPONENT}


def log(kind: str, *words: str, answer: str = "Accepted", number: int = 5) -> tuple[Step, ...]:
    told = Told("GetLog", {"logType": kind, "requestId": number, "log": {"remoteLocation": "https://10.0.0.5/log"}},
                {"status": answer, "filename": "log"})  # fmt: skip
    return (told, *(Says("LogStatusNotification", {"status": word, "requestId": number}) for word in words))


def customer(
    report: bool, clear: bool, *, answer: str = "Accepted", data: str | None = None, **who: object
) -> tuple[Step, ...]:
    body = {"requestId": 6, "report": report, "clear": clear, **(who or {"idToken": token2()["idToken"]})}
    told = Told("CustomerInformation", body, {"status": answer})
    if data is None:
        return (told,)
    return (
        told,
        Says("NotifyCustomerInformation", {"requestId": 6, "seqNo": 0, "generatedAt": SOON, "data": data}),
    )


def message(number: int = 1, priority: str = "NormalCycle", **more: object) -> Json:
    return {
        "id": number,
        "priority": priority,
        "message": {"format": "UTF8", "content": "back at six"},
        **more,
    }


def show(answer: str = "Accepted", **more: object) -> Told:
    return Told("SetDisplayMessage", {"message": message(**more)}, {"status": answer})  # type: ignore[arg-type]


def shown(answer: str = "Accepted", **criteria: object) -> tuple[Step, ...]:
    told = Told("GetDisplayMessages", {"requestId": 2, **criteria}, {"status": answer})
    if answer != "Accepted":
        return (told,)
    part: Json = {"requestId": 2, "tbc": True, "messageInfo": [message()]}
    return (told, Says("NotifyDisplayMessages", part), Says("NotifyDisplayMessages", {**part, "tbc": False}))


BEGUN: tuple[Step, ...] = (
    status2("Occupied"),
    event2("Started", 0, "Authorized", token=True),
    event2("Updated", 1, "ChargingStateChanged", "Charging"),
)
GONE = event2("Ended", 2, "EVDeparted", "Idle", stoppedReason="EVDisconnected")
STAGES = ("Downloading", "Downloaded", "SignatureVerified", "Installing")

CASES: dict[str, Case] = {
    "TC_L_01": ((*update(*STAGES, "InstallRebooting"), boot2("FirmwareUpdate"), *progress("Installed"), event("FirmwareUpdated")),
                (FirmwareReported, StationBooted, FirmwareReported)),
    "TC_L_02": (update("Downloading", "Downloaded", "SignatureVerified", "InstallScheduled", "Installing", "Installed",
                       installDateTime=now_text(60)), REPORTED),
    "TC_L_03": (update("DownloadScheduled", *STAGES, "Installed", retrieveDateTime=now_text(60)), REPORTED),
    "TC_L_04": (update(answer="RevokedCertificate"), ()),
    "TC_L_05": ((*update(answer="InvalidCertificate"), event("InvalidFirmwareSigningCertificate")), ()),
    "TC_L_06": ((*update("Downloading", "Downloaded", "InvalidSignature"), event("InvalidFirmwareSignature")), REPORTED),
    "TC_L_07": (update("Downloading", "DownloadFailed"), REPORTED),
    "TC_L_08": (update(*STAGES, "InstallVerificationFailed"), REPORTED),
    "TC_L_09": (update(*STAGES, "InstallationFailed"), REPORTED),
    "TC_L_10": ((*update("Downloading"), *update(*STAGES, "Installed", answer="AcceptedCanceled")), REPORTED),
    "TC_L_11": ((*update("Downloading", "Downloaded", "Installing"), *update(answer="Rejected"), *progress("Installed")), REPORTED),
    "TC_L_13": ((*BEGUN, *update("Downloading", "Downloaded", "SignatureVerified", "InstallScheduled"), GONE, *progress("Installing", "Installed")),
                (TransactionStarted, TransactionEnded, FirmwareReported)),
    "TC_L_17": (published("Downloading", "Downloaded", "ChecksumVerified", "Published"), ()),
    "TC_L_19": (published("Downloading", "Downloaded", "InvalidChecksum"), ()),
    "TC_L_20": (published("Downloading", "Downloaded", "ChecksumVerified", "PublishFailed"), ()),
    "TC_L_21": unpublished("Unpublished"),
    "TC_L_22": unpublished("NoFirmware"),
    "TC_L_23": unpublished("DownloadOngoing"),
    "TC_L_24": (published("Downloading", "DownloadFailed"), ()),
    "TC_M_01": install("CSMSRootCertificate"),
    "TC_M_02": install("ManufacturerRootCertificate"),
    "TC_M_03": install("V2GRootCertificate"),
    "TC_M_04": install("MORootCertificate"),
    "TC_M_05": install("CSMSRootCertificate", "Failed"),
    "TC_M_12": retrieve("CSMSRootCertificate"),
    "TC_M_13": retrieve("ManufacturerRootCertificate"),
    "TC_M_14": retrieve("V2GRootCertificate"),
    "TC_M_15": retrieve("V2GCertificateChain"),
    "TC_M_16": retrieve("MORootCertificate"),
    "TC_M_17": retrieve("CSMSRootCertificate", "ManufacturerRootCertificate"),
    "TC_M_18": retrieve(),
    "TC_M_19": retrieve("CSMSRootCertificate", answer="NotFound"),
    "TC_M_20": delete("Accepted"),
    "TC_M_21": delete("Failed"),
    "TC_N_01": (monitoring(monitoringCriteria=["ThresholdMonitoring"]), ()),
    "TC_N_02": (monitoring(componentVariable=[COMPONENT]), ()),
    "TC_N_03": (monitoring(monitoringCriteria=["DeltaMonitoring"], componentVariable=[COMPONENT]), ()),
    "TC_N_05": ((Told("SetMonitoringBase", {"monitoringBase": "All"}),), ()),
    "TC_N_08": (monitored(MONITOR), ()),
    "TC_N_09": (monitored(MONITOR, {**MONITOR, "component": {"name": "ChargingStation"}}), ()),
    "TC_N_16": ((Told("SetMonitoringLevel", {"severity": 4}),), ()),
    "TC_N_17": ((Told("SetMonitoringLevel", {"severity": 9}, REJECTED),), ()),
    "TC_N_21": ((alert(kind="HardWiredMonitor"),), ()),
    "TC_N_24": ((*monitored(PERIODIC), alert("Periodic"), alert("Periodic")), ()),
    "TC_N_25": (log("DiagnosticsLog", "Uploading", "Uploaded"), ()),
    "TC_N_27": (customer(True, False, data="name: J."), ()),
    "TC_N_28": (customer(True, False, data=""), ()),
    "TC_N_29": (customer(True, False, answer="Rejected"), ()),
    "TC_N_30": (customer(True, True, data="name: J."), ()),
    "TC_N_31": (customer(True, True, data=""), ()),
    "TC_N_32": (customer(False, True), ()),
    "TC_N_34": (log("DiagnosticsLog", answer="Rejected"), ()),
    "TC_N_35": (log("SecurityLog", "Uploading", "Uploaded"), ()),
    "TC_N_36": (
        (*log("DiagnosticsLog", "Uploading"), *log("DiagnosticsLog", answer="AcceptedCanceled", number=6),
         Says("LogStatusNotification", {"status": "AcceptedCanceled", "requestId": 5}),
         Says("LogStatusNotification", {"status": "Uploaded", "requestId": 6})), (),
    ),
    "TC_N_44": (
        (Told("ClearVariableMonitoring", {"id": [1]}, {"clearMonitoringResult": [{"id": 1, "status": "Rejected"}]}),), (),
    ),
    "TC_N_46": (
        (*customer(True, True, data="x"), Told("SendLocalList", {"versionNumber": 5, "updateType": "Differential", "localAuthorizationList": [token2()]}),
         Told("GetLocalListVersion", {}, {"versionNumber": 5})), (),
    ),
    "TC_N_47": (monitoring(), ()),
    "TC_N_48": ((alert(actualValue=""),), ()),
    "TC_N_49": ((alert(), boot2(), alert(cleared=True)), (StationBooted,)),
    "TC_N_50": ((alert("Periodic"),), ()),
    "TC_N_60": (monitoring(monitoringCriteria=["PeriodicMonitoring"], componentVariable=[COMPONENT, {"component": {"name": "Connector"}}]), ()),
    "TC_N_62": (customer(True, True, data="x", customerIdentifier="OpenChargeAlliance"), ()),
    "TC_N_63": (customer(True, True, data="x", customerCertificate=HASH), ()),
    "TC_O_01": ((show(),), ()),
    "TC_O_02": (shown(), ()),
    "TC_O_03": (shown("Unknown"), ()),
    "TC_O_04": ((Told("ClearDisplayMessage", {"id": 1}),), ()),
    "TC_O_05": ((Told("ClearDisplayMessage", {"id": 99}, {"status": "Unknown"}),), ()),
    "TC_O_06": ((*BEGUN, show(transactionId="tx-1"), GONE), (TransactionStarted, TransactionEnded)),
    "TC_O_07": (shown(id=[1]), ()),
    "TC_O_08": (shown(priority="NormalCycle"), ()),
    "TC_O_09": (shown(state="Charging"), ()),
    "TC_O_10": ((show("UnknownTransaction", transactionId="tx-9"),), ()),
    "TC_O_11": (shown("Unknown", id=[99]), ()),
    "TC_O_12": ((show(), show(priority="AlwaysFront")), ()),
    "TC_O_13": ((show(startDateTime=now_text(60)),), ()),
    "TC_O_14": ((show(endDateTime=now_text(60)),), ()),
    "TC_O_17": ((show("NotSupportedPriority", priority="InFront"),), ()),
    "TC_O_18": ((show("NotSupportedState", state="Faulted"),), ()),
    "TC_O_19": ((show("NotSupportedMessageFormat"),), ()),
    "TC_O_25": ((show(state="Charging"),), ()),
    "TC_O_26": ((show("Rejected"),), ()),
    "TC_O_27": ((*BEGUN, show(transactionId="tx-1", startDateTime=now_text(60))), (TransactionStarted,)),
    "TC_O_28": ((*BEGUN, show(transactionId="tx-1", endDateTime=now_text(60))), (TransactionStarted,)),
    "TC_P_02": ((Says("DataTransfer", {"vendorId": "tzi", "messageId": "x", "data": {"a": 1}}, {"status": "UnknownVendorId"}),), ()),
    "TC_P_03": (
        (Says("BootNotification", {**boot2().payload, "customData": {"vendorId": "tzi", "more": [1]}}, {"status": "Accepted"}),
         Says("Heartbeat", {"customData": {"vendorId": "tzi"}})), (StationBooted,),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
async def test_case(case: str) -> None:
    steps, facts = CASES[case]
    await play("2.0.1", steps, facts)
