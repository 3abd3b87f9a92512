"""OCPP 1.6, module Core of the compliance suite, against a raw station (the ids are its case ids; `tests/ocpp_cases.toml`)."""

from __future__ import annotations

import pytest
from ocpp_peer import now_text
from octt_steps import (
    BOOT16,
    Says,
    Step,
    Told,
    authorize16,
    play,
    start16,
    status16,
    stop16,
)

from controller.core.events import (
    EvseSample,
    StationBooted,
    StatusChanged,
    TokenPresented,
    TransactionEnded,
    TransactionStarted,
)

SAMPLE = Says(
    "MeterValues",
    {
        "connectorId": 1,
        "transactionId": 1001,
        "meterValue": [{"timestamp": now_text(), "sampledValue": [{"value": "500", "unit": "Wh"}]}],
    },
)
REJECTED = {"status": "Rejected"}
REMOTE_START = {"idTag": "TAG-001", "connectorId": 1}
SESSION = (TransactionStarted, TransactionEnded)

CASES: dict[str, tuple[tuple[Step, ...], tuple[type, ...]]] = {
    "TC_001": (
        (BOOT16, status16("Available", 0), status16("Available"), Says("Heartbeat")),
        (StationBooted, StatusChanged),
    ),
    "TC_003": (
        (status16("Preparing"), authorize16(), start16(), status16("Charging"), SAMPLE, status16("SuspendedEV"),
         authorize16(), stop16(), status16("Finishing"), status16("Available")),
        (TokenPresented, TransactionStarted, EvseSample, TransactionEnded),
    ),
    "TC_004_1": (
        (authorize16(), status16("Preparing"), start16(), status16("Charging"), stop16("Local"), status16("Available")),
        (TokenPresented, *SESSION),
    ),
    "TC_004_2": ((authorize16(), status16("Preparing"), status16("Available")), (TokenPresented, StatusChanged)),
    "TC_005_1": (
        (start16(), status16("Charging"), status16("SuspendedEV"), stop16("EVDisconnected"), status16("Finishing"),
         status16("Available")),
        SESSION,
    ),
    "TC_007": ((status16("Preparing"), start16(), status16("Charging"), stop16()), SESSION),
    "TC_010": (
        (status16("Preparing"), Told("RemoteStartTransaction", REMOTE_START), authorize16(), start16(), status16("Charging")),
        (TokenPresented, TransactionStarted),
    ),
    "TC_011_1": (
        (Told("RemoteStartTransaction", REMOTE_START), authorize16(), status16("Preparing"), start16(), status16("Charging")),
        (TokenPresented, TransactionStarted),
    ),
    "TC_011_2": (
        (Told("RemoteStartTransaction", REMOTE_START), authorize16(), status16("Preparing"), status16("Available")),
        (StatusChanged,),
    ),
    "TC_012": (
        (start16(), status16("Charging"), Told("RemoteStopTransaction", {"transactionId": 1001}), stop16("Remote"),
         status16("Finishing"), status16("Available")),
        SESSION,
    ),
    "TC_013": (
        (start16(), Told("Reset", {"type": "Hard"}), stop16("HardReset"), BOOT16, status16("Available", 0), status16("Available")),
        (*SESSION, StationBooted),
    ),
    "TC_014": (
        (start16(), Told("Reset", {"type": "Soft"}), stop16("SoftReset"), BOOT16, status16("Available", 0), status16("Available")),
        (*SESSION, StationBooted),
    ),
    "TC_017_1": ((Told("UnlockConnector", {"connectorId": 1}, {"status": "Unlocked"}),), ()),
    "TC_017_2": ((Told("UnlockConnector", {"connectorId": 1}, {"status": "NotSupported"}),), ()),
    "TC_018_1": (
        (start16(), Told("UnlockConnector", {"connectorId": 1}, {"status": "Unlocked"}), stop16("UnlockCommand"),
         status16("Finishing")),
        SESSION,
    ),
    "TC_019_1": (
        (Told("GetConfiguration", {}, {"configurationKey": [{"key": "HeartbeatInterval", "readonly": False, "value": "60"}]}),),
        (),
    ),
    "TC_019_2": (
        (Told("GetConfiguration", {"key": ["SupportedFeatureProfiles"]},
              {"configurationKey": [{"key": "SupportedFeatureProfiles", "readonly": True, "value": "Core"}]}),),
        (),
    ),
    "TC_021": ((Told("ChangeConfiguration", {"key": "MeterValueSampleInterval", "value": "10"}),), ()),
    "TC_024": (
        (authorize16(), status16("Preparing"), status16("Faulted", error="ConnectorLockFailure")),
        (TokenPresented, StatusChanged, StatusChanged),
    ),
    "TC_026": ((Told("RemoteStartTransaction", REMOTE_START, REJECTED),), ()),
    "TC_028": ((start16(), Told("RemoteStopTransaction", {"transactionId": 9}, REJECTED), stop16()), SESSION),
    "TC_030": ((start16(), Told("UnlockConnector", {"connectorId": 1}, {"status": "UnlockFailed"}), stop16()), SESSION),
    "TC_031": ((Told("UnlockConnector", {"connectorId": 9}, {"status": "NotSupported"}),), ()),
    "TC_032_1": (
        (start16(), BOOT16, status16("Available"), stop16("PowerLoss", offset_s=-30)),
        (TransactionStarted, StationBooted, TransactionEnded),
    ),
    "TC_037_1": (
        (start16(offset_s=-300), status16("Charging"), stop16("Local")),
        SESSION,
    ),
    "TC_039": ((start16(offset_s=-3600), stop16("Local", offset_s=-1800), status16("Available")), SESSION),
    "TC_040_1": ((Told("ChangeConfiguration", {"key": "Nobody", "value": "1"}, {"status": "NotSupported"}),), ()),
    "TC_040_2": ((Told("ChangeConfiguration", {"key": "MeterValueSampleInterval", "value": "-1"}, REJECTED),), ()),
    "TC_061": ((Told("ClearCache"), authorize16()), (TokenPresented,)),
    "TC_064": ((Says("DataTransfer", {"vendorId": "tzi", "messageId": "x", "data": "y"}, {"status": "UnknownVendorId"}),), ()),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
async def test_case(case: str) -> None:
    steps, facts = CASES[case]
    await play("1.6", steps, facts)
