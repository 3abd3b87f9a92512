"""OCPP 1.6, the modules beside Core, against a raw station (the ids are case ids of the suite; `tests/ocpp_cases.toml`)."""

from __future__ import annotations

from pathlib import Path

import pytest
from ocpp_peer import now_text, peer, running
from ocpp_tls_bench import Depot as Files
from octt_bench import a_suite
from octt_steps import BOOT16, Json, Says, Step, Told, act, authorize16, play, start16, status16, stop16
from websockets.exceptions import InvalidStatus

from controller.core.events import FirmwareReported, StatusChanged, TransactionEnded, TransactionStarted

REJECTED = {"status": "Rejected"}
LATER, SOON = now_text(3600), now_text(1)
ENTRY = {"idTag": "D001001", "idTagInfo": {"status": "Accepted"}}
UPDATE = {"location": "ftp://10.0.0.5/fw.bin", "retrieveDate": SOON}
SIGNED = {
    "requestId": 7,
    "firmware": {"location": "https://10.0.0.5/fw.bin", "retrieveDateTime": SOON, "signingCertificate": "PEM", "signature": "c2ln"},
}  # fmt: skip
RESERVE = {"connectorId": 1, "expiryDate": LATER, "idTag": "TAG-001", "reservationId": 3}
PROFILE: Json = {
    "chargingProfileId": 31, "stackLevel": 1, "chargingProfilePurpose": "TxDefaultProfile", "chargingProfileKind": "Absolute",
    "validFrom": now_text(), "validTo": LATER,
    "chargingSchedule": {"duration": 3600, "startSchedule": now_text(), "chargingRateUnit": "A",
                         "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 6.0}]},
}  # fmt: skip
HASH = {"hashAlgorithm": "SHA256", "issuerNameHash": "ab", "issuerKeyHash": "cd", "serialNumber": "01"}


def firmware(*words: str) -> tuple[Says, ...]:
    return tuple(Says("FirmwareStatusNotification", {"status": word}) for word in words)


def signed(*words: str) -> tuple[Says, ...]:
    return tuple(Says("SignedFirmwareStatusNotification", {"status": word, "requestId": 7}) for word in words)


def diagnostics(*words: str) -> tuple[Says, ...]:
    return tuple(Says("DiagnosticsStatusNotification", {"status": word}) for word in words)


def reserved(answer: str, **more: object) -> Told:
    return Told("ReserveNow", {**RESERVE, **more}, {"status": answer})


def installed(kind: str) -> tuple[Step, ...]:
    listed = {"status": "Accepted", "certificateHashData": [HASH]}
    return (
        Told("InstallCertificate", {"certificateType": kind, "certificate": "-----BEGIN CERTIFICATE-----"}),
        Told("GetInstalledCertificateIds", {"certificateType": kind}, listed),
    )


TRIGGERED: tuple[Step, ...] = tuple(
    step
    for word, says in (
        ("MeterValues", Says("MeterValues", {"connectorId": 1, "meterValue": [{"timestamp": SOON, "sampledValue": [{"value": "1"}]}]})),
        ("Heartbeat", Says("Heartbeat")),
        ("StatusNotification", status16("Available")),
        ("DiagnosticsStatusNotification", Says("DiagnosticsStatusNotification", {"status": "Idle"})),
        ("FirmwareStatusNotification", Says("FirmwareStatusNotification", {"status": "Idle"})),
    )
    for step in (Told("TriggerMessage", {"requestedMessage": word}), says)
)  # fmt: skip
LOG = {"logType": "SecurityLog", "requestId": 5, "log": {"remoteLocation": "https://10.0.0.5/log"}}

CASES: dict[str, tuple[tuple[Step, ...], tuple[type, ...]]] = {
    "TC_042_1": ((Told("GetLocalListVersion", {}, {"listVersion": -1}),), ()),
    "TC_042_2": ((Told("GetLocalListVersion", {}, {"listVersion": 0}),), ()),
    "TC_043_1": (
        (Told("SendLocalList", {"listVersion": 1, "updateType": "Full", "localAuthorizationList": [ENTRY]}, {"status": "NotSupported"}),),
        (),
    ),
    "TC_043_3": (
        (Told("SendLocalList", {"listVersion": 1, "updateType": "Full", "localAuthorizationList": [ENTRY]}, {"status": "Failed"}),),
        (),
    ),
    "TC_043_4": (
        (Told("SendLocalList", {"listVersion": 1, "updateType": "Full", "localAuthorizationList": [ENTRY]}),
         Told("GetLocalListVersion", {}, {"listVersion": 1})),
        (),
    ),
    "TC_043_5": (
        (Told("SendLocalList", {"listVersion": 2, "updateType": "Differential", "localAuthorizationList": [ENTRY, {"idTag": "D001002"}]}),
         Told("GetLocalListVersion", {}, {"listVersion": 2})),
        (),
    ),
    "TC_044_1": (
        (Told("UpdateFirmware", UPDATE, {}), *firmware("Downloading", "Downloaded", "Installing"), BOOT16, *firmware("Installed")),
        (FirmwareReported,),
    ),
    "TC_044_2": ((Told("UpdateFirmware", UPDATE, {}), *firmware("Downloading", "DownloadFailed")), (FirmwareReported,)),
    "TC_044_3": (
        (Told("UpdateFirmware", UPDATE, {}), *firmware("Downloading", "Downloaded", "Installing", "InstallationFailed")),
        (FirmwareReported,),
    ),
    "TC_045_1": (
        (Told("GetDiagnostics", {"location": "ftp://10.0.0.5/d"}, {"fileName": "d.zip"}), *diagnostics("Uploading", "Uploaded")),
        (),
    ),
    "TC_045_2": (
        (Told("GetDiagnostics", {"location": "ftp://10.0.0.5/d"}, {"fileName": "d.zip"}), *diagnostics("Uploading", "UploadFailed")),
        (),
    ),
    "TC_046": (
        (reserved("Accepted"), status16("Reserved"), authorize16(), status16("Preparing"),
         start16(reservationId=3), status16("Charging"), stop16()),
        (StatusChanged, TransactionStarted, TransactionEnded),
    ),
    "TC_047": ((reserved("Accepted"), status16("Reserved"), status16("Available")), (StatusChanged, StatusChanged)),
    "TC_048_1": ((status16("Faulted", error="OtherError"), reserved("Faulted")), (StatusChanged,)),
    "TC_048_2": ((start16(), status16("Charging"), reserved("Occupied"), stop16()), (TransactionStarted,)),
    "TC_048_3": ((status16("Unavailable"), reserved("Unavailable")), (StatusChanged,)),
    "TC_048_4": ((reserved("Rejected"),), ()),
    "TC_049": (
        (reserved("Accepted", connectorId=0), authorize16(), start16(reservationId=3), stop16()), (TransactionStarted, TransactionEnded),
    ),
    "TC_051": (
        (reserved("Accepted"), status16("Reserved"), Told("CancelReservation", {"reservationId": 3}), status16("Available")),
        (StatusChanged, StatusChanged),
    ),
    "TC_052": ((Told("CancelReservation", {"reservationId": 8}, REJECTED),), ()),
    "TC_053": (
        (reserved("Accepted", parentIdTag="VANS"), status16("Reserved"), authorize16("TAG-002"),
         start16(idTag="TAG-002", reservationId=3), stop16()),
        (StatusChanged, TransactionStarted, TransactionEnded),
    ),
    "TC_054": (TRIGGERED, (StatusChanged,)),
    "TC_055": ((Told("TriggerMessage", {"requestedMessage": "MeterValues", "connectorId": 9}, REJECTED),), ()),
    "TC_056": ((Told("SetChargingProfile", {"connectorId": 1, "csChargingProfiles": PROFILE}),), ()),
    "TC_057": (
        (start16(), status16("Charging"),
         Told("SetChargingProfile", {"connectorId": 1, "csChargingProfiles": {
             **PROFILE, "transactionId": 1001, "chargingProfilePurpose": "TxProfile"}}),
         stop16()),
        (TransactionStarted, TransactionEnded),
    ),
    "TC_059": (
        (Told("RemoteStartTransaction", {"idTag": "TAG-001", "connectorId": 1, "chargingProfile": {
            "chargingProfileId": 31, "stackLevel": 1, "chargingProfilePurpose": "TxProfile", "chargingProfileKind": "Relative",
            "chargingSchedule": {"chargingRateUnit": "A", "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 6.0}]}}}),
         authorize16(), status16("Preparing"), start16(), status16("Charging")),
        (TransactionStarted,),
    ),
    "TC_066": (
        (Told("SetChargingProfile", {"connectorId": 1, "csChargingProfiles": PROFILE}),
         Told("GetCompositeSchedule", {"connectorId": 1, "duration": 300, "chargingRateUnit": "A"},
              {"status": "Accepted", "connectorId": 1, "scheduleStart": SOON,
               "chargingSchedule": {"chargingRateUnit": "A", "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 6.0}]}})),
        (),
    ),
    "TC_067": (
        (Told("SetChargingProfile", {"connectorId": 1, "csChargingProfiles": PROFILE}), Told("ClearChargingProfile", {"id": 31}),
         Told("ClearChargingProfile", {"stackLevel": 1, "chargingProfilePurpose": "TxDefaultProfile"}),
         Told("ClearChargingProfile", {"id": 32}, {"status": "Unknown"})),
        (),
    ),
    "TC_075_1": (installed("ManufacturerRootCertificate"), ()),
    "TC_075_2": (installed("CentralSystemRootCertificate"), ()),
    "TC_076": (
        (Told("GetInstalledCertificateIds", {"certificateType": "ManufacturerRootCertificate"},
              {"status": "Accepted", "certificateHashData": [HASH]}),
         Told("DeleteCertificate", {"certificateHashData": HASH})),
        (),
    ),
    "TC_079": (
        (Told("GetLog", LOG, {"status": "Accepted", "filename": "log"}),
         *(Says("LogStatusNotification", {"status": word, "requestId": 5}) for word in ("Uploading", "Uploaded"))),
        (),
    ),
    "TC_080": (
        (Told("SignedUpdateFirmware", SIGNED),
         *signed("Downloading", "Downloaded", "SignatureVerified", "Installing", "InstallRebooting"), BOOT16, *signed("Installed")),
        (FirmwareReported,),
    ),
    "TC_081": (
        (Told("SignedUpdateFirmware", SIGNED), *signed("Downloading", "Downloaded", "InvalidSignature"),
         Says("SecurityEventNotification", {"type": "InvalidFirmwareSignature", "timestamp": SOON})),
        (FirmwareReported,),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
async def test_case(case: str) -> None:
    steps, facts = CASES[case]
    await play("1.6", steps, facts)


async def test_a_station_is_moved_to_a_better_security_profile(tmp_path: Path) -> None:
    """TC_083: told of profile 2, back over TLS, and from then on not let in without."""
    files = Files(tmp_path)
    async with running(files.settings()) as (server, depot), a_suite(server, depot) as suite:
        async with peer(server) as station:
            await station.boot_and_settle()
            steps = (
                *installed("CentralSystemRootCertificate"),
                Told("ChangeConfiguration", {"key": "SecurityProfile", "value": "2"}),
                Told("Reset", {"type": "Hard"}),
            )
            await act("1.6", steps, suite, station)
        async with peer(server, ssl=files.trusting()) as station:
            assert (await station.boot())["status"] == "Accepted"
        with pytest.raises(InvalidStatus, match="401"):
            async with peer(server):
                pass
