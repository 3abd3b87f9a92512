"""OCPP 2.0.1, blocks A, B, C, E and J of the compliance suite, against a raw station (the ids are its case ids;
`tests/ocpp_cases.toml`)."""

from __future__ import annotations

from pathlib import Path

import pytest
from ocpp_peer import now_text, peer, running
from ocpp_tls_bench import Depot as Files
from ocpp_tls_bench import a_request
from octt_bench import a_suite, open_door, settle, written
from octt_steps import (
    Json,
    Says,
    Step,
    Told,
    act,
    authorize2,
    boot2,
    event2,
    play,
    status2,
    token2,
    values2,
)
from websockets.exceptions import InvalidStatus

from controller.core.events import (
    EvseSample,
    SecurityEvent,
    StationBooted,
    StatusChanged,
    TokenPresented,
    TransactionEnded,
    TransactionStarted,
)
from controller.core.model import Verdict

HEARTBEAT: Json = {"component": {"name": "OCPPCommCtrlr"}, "variable": {"name": "HeartbeatInterval"}}
MEASURANDS: Json = {"component": {"name": "AlignedDataCtrlr"}, "variable": {"name": "Measurands"}}


def got(*items: Json) -> Json:
    return {
        "getVariableResult": [
            {**item, "attributeStatus": "Accepted", "attributeValue": "1"} for item in items
        ]
    }


def did(*items: Json) -> Json:
    return {"setVariableResult": [{**item, "attributeStatus": "Accepted"} for item in items]}


def reported(number: int, *parts: bool) -> tuple[Says, ...]:
    """NotifyReport in as many parts as told whether another follows."""
    data = [{**HEARTBEAT, "variableAttribute": [{"type": "Actual", "value": "60"}]}]
    return tuple(
        Says("NotifyReport", {"requestId": number, "generatedAt": now_text(), "seqNo": seq, "tbc": more, "reportData": data})
        for seq, more in enumerate(parts)
    )  # fmt: skip


def base_report(kind: str) -> tuple[Step, ...]:
    return (Told("GetBaseReport", {"requestId": 4, "reportBase": kind}), *reported(4, True, False))


def reset(kind: str, answer: str, *then: Step, **more: int) -> tuple[Step, ...]:
    return (Told("Reset", {"type": kind, **more}, {"status": answer}), *then)


NETWORK = {
    "configurationSlot": 1,
    "connectionData": {"messageTimeout": 30, "ocppCsmsUrl": "wss://10.0.0.5/ocpp", "ocppInterface": "Wired0",
                       "ocppTransport": "JSON", "ocppVersion": "OCPP20", "securityProfile": 2},
}  # fmt: skip
PLUG = status2("Occupied")
FREE = status2("Available")
CONNECT = event2("Started", 0, "CablePluggedIn", "EVConnected")
AUTHORIZED = event2("Started", 0, "Authorized", token=True)
CHARGING = event2("Updated", 1, "ChargingStateChanged", "Charging")
BEGUN: tuple[Step, ...] = (PLUG, AUTHORIZED, CHARGING)
ENDS = (TransactionStarted, TransactionEnded)


def ended(trigger: str, reason: str, state: str | None = None, seq: int = 2, **more: object) -> Says:
    return event2("Ended", seq, trigger, state, stoppedReason=reason, **more)  # type: ignore[arg-type]


def status_of_tx(ongoing: bool | None, queued: bool) -> tuple[Step, ...]:
    answer: Json = {"messagesInQueue": queued} | ({} if ongoing is None else {"ongoingIndicator": ongoing})
    return (Told("GetTransactionStatus", {} if ongoing is None else {"transactionId": "tx-1"}, answer),)


CASES: dict[str, tuple[tuple[Step, ...], tuple[type, ...]]] = {
    "TC_B_01": ((boot2(), FREE, Says("Heartbeat")), (StationBooted, StatusChanged)),
    "TC_B_06": ((Told("GetVariables", {"getVariableData": [HEARTBEAT]}, got(HEARTBEAT)),), ()),
    "TC_B_07": ((Told("GetVariables", {"getVariableData": [HEARTBEAT, MEASURANDS]}, got(HEARTBEAT, MEASURANDS)),), ()),
    "TC_B_09": ((Told("SetVariables", {"setVariableData": [{**HEARTBEAT, "attributeValue": "60"}]}, did(HEARTBEAT)),), ()),
    "TC_B_10": (
        (Told("SetVariables", {"setVariableData": [{**each, "attributeValue": "1"} for each in (HEARTBEAT, MEASURANDS)]},
              did(HEARTBEAT, MEASURANDS)),),
        (),
    ),
    "TC_B_12": (base_report("ConfigurationInventory"), ()),
    "TC_B_13": (base_report("FullInventory"), ()),
    "TC_B_14": (base_report("SummaryInventory"), ()),
    "TC_B_18": (
        (Told("GetReport", {"requestId": 5, "componentCriteria": ["Active"], "componentVariable": [HEARTBEAT]}), *reported(5, False)),
        (),
    ),
    "TC_B_20": (reset("OnIdle", "Accepted", boot2("RemoteReset"), FREE), (StationBooted,)),
    "TC_B_21": (
        (*BEGUN, *reset("OnIdle", "Scheduled", ended("EVDeparted", "EVDisconnected", "Idle"), boot2("ScheduledReset"), FREE)),
        (*ENDS, StationBooted),
    ),
    "TC_B_22": (
        (*BEGUN, *reset("Immediate", "Accepted", ended("ResetCommand", "ImmediateReset"), boot2("RemoteReset"), PLUG)),
        (*ENDS, StationBooted),
    ),
    "TC_B_25": (reset("OnIdle", "Accepted", status2("Unavailable"), FREE, evseId=1), (StatusChanged, StatusChanged)),
    "TC_B_26": (
        (*BEGUN, *reset("OnIdle", "Scheduled", ended("EVDeparted", "EVDisconnected", "Idle"), status2("Unavailable"), FREE, evseId=1)),
        ENDS,
    ),
    "TC_B_27": ((*BEGUN, *reset("Immediate", "Accepted", ended("ResetCommand", "ImmediateReset"), FREE, evseId=1)), ENDS),
    "TC_B_42": ((Told("SetNetworkProfile", NETWORK),), ()),
    "TC_B_44": ((Told("SetNetworkProfile", NETWORK, {"status": "Failed"}),), ()),
    "TC_C_08": ((PLUG, AUTHORIZED, CHARGING), (TransactionStarted,)),
    "TC_C_37": ((Told("ClearCache"), authorize2()), (TokenPresented,)),
    "TC_C_38": ((Told("ClearCache", {}, {"status": "Rejected"}),), ()),
    "TC_E_01": (
        (PLUG, authorize2(), event2("Started", 0, "ChargingStateChanged", "Charging", token=True)), (TokenPresented, TransactionStarted),
    ),
    "TC_E_02": (
        (PLUG, authorize2(), event2("Started", 0, "ChargingStateChanged", "Charging", token=True)), (TokenPresented, TransactionStarted),
    ),
    "TC_E_03": (
        (PLUG, CONNECT, authorize2(), event2("Updated", 1, "Authorized", "EVConnected", token=True),
         event2("Updated", 2, "ChargingStateChanged", "Charging")),
        (TokenPresented, TransactionStarted),
    ),
    "TC_E_04": (
        (authorize2(), AUTHORIZED, PLUG, event2("Updated", 1, "CablePluggedIn", "EVConnected"),
         event2("Updated", 2, "ChargingStateChanged", "Charging")),
        (TokenPresented, TransactionStarted),
    ),
    "TC_E_07": ((*BEGUN, authorize2(), ended("StopAuthorized", "Local", "EVConnected", token=True)), ENDS),
    "TC_E_08": ((*BEGUN, authorize2(), ended("StopAuthorized", "Local", "EVConnected", token=True)), ENDS),
    "TC_E_09": ((PLUG, CONNECT), ()),
    "TC_E_10": ((authorize2(), AUTHORIZED), (TokenPresented, TransactionStarted)),
    "TC_E_11": ((PLUG, authorize2(), event2("Started", 0, "SignedDataReceived", "EVConnected", token=True)), (TransactionStarted,)),
    "TC_E_12": ((event2("Started", 0, "EVDetected"), PLUG, event2("Updated", 1, "CablePluggedIn", "EVConnected")), (StatusChanged,)),
    "TC_E_14": ((*BEGUN, ended("EVCommunicationLost", "EVDisconnected", "Idle"), FREE), ENDS),
    "TC_E_15": ((*BEGUN, authorize2(), ended("StopAuthorized", "Local", "EVConnected", token=True), FREE), ENDS),
    "TC_E_17": ((*BEGUN, event2("Updated", 2, "EVCommunicationLost", "Idle"), ended("Deauthorized", "DeAuthorized", seq=3)), ENDS),
    "TC_E_19": ((*BEGUN, event2("Updated", 2, "ChargingStateChanged", "EVConnected"), ended("EVDeparted", "Local", "Idle", seq=3), FREE), ENDS),
    "TC_E_20": ((*BEGUN, ended("EVCommunicationLost", "EVDisconnected", "Idle"), FREE), ENDS),
    "TC_E_21": (
        (*BEGUN, Told("RequestStopTransaction", {"transactionId": "tx-1"}), ended("RemoteStop", "Remote", "EVConnected"), FREE), ENDS,
    ),
    "TC_E_22": ((*BEGUN, ended("ChargingStateChanged", "StoppedByEV", "SuspendedEV")), ENDS),
    "TC_E_26": (
        (*BEGUN, event2("Updated", 2, "EVCommunicationLost", "SuspendedEVSE"), event2("Updated", 3, "CablePluggedIn", "EVConnected"),
         event2("Updated", 4, "ChargingStateChanged", "Charging")),
        (TransactionStarted,),
    ),
    "TC_E_29": ((*BEGUN, *status_of_tx(True, True), event2("Updated", 2, "MeterValuePeriodic", offline=True, offset_s=-60)), (TransactionStarted,)),
    "TC_E_30": ((*BEGUN, *status_of_tx(True, False)), (TransactionStarted,)),
    "TC_E_31": ((*BEGUN, *status_of_tx(False, True), ended("EVDeparted", "EVDisconnected", "Idle", offline=True, offset_s=-60)), ENDS),
    "TC_E_33": (status_of_tx(None, True), ()),
    "TC_E_34": (status_of_tx(None, False), ()),
    "TC_E_38": ((PLUG, AUTHORIZED, event2("Updated", 1, "ChargingStateChanged", "SuspendedEV"), CHARGING), (TransactionStarted,)),
    "TC_E_39": ((authorize2(), AUTHORIZED, ended("EVConnectTimeout", "Timeout", seq=1)), (TokenPresented, *ENDS)),
    "TC_E_53": (
        (AUTHORIZED, ended("StopAuthorized", "Local", seq=1),
         Says("TransactionEvent", {**AUTHORIZED.payload, "transactionInfo": {"transactionId": "tx-2"}}, {"idTokenInfo": {"status": "Accepted"}})),
        (*ENDS, TransactionStarted),
    ),
    "TC_J_01": ((Says("MeterValues", {"evseId": 1, "meterValue": values2("Sample.Clock")}),), (EvseSample,)),
    "TC_J_02": ((*BEGUN, event2("Updated", 2, "MeterValueClock", meterValue=values2("Sample.Clock"))), (TransactionStarted, EvseSample)),
    "TC_J_03": ((*BEGUN, ended("EVDeparted", "EVDisconnected", meterValue=values2("Sample.Clock"))), ENDS),
    "TC_J_04": (
        (*BEGUN, event2("Updated", 2, "MeterValueClock", meterValue=values2("Sample.Clock", signedMeterValue={
            "signedMeterData": "AA==", "signingMethod": "", "encodingMethod": "OCMF", "publicKey": "AA=="}))),
        (TransactionStarted, EvseSample),
    ),
    "TC_J_07": ((event2("Started", 0, "Authorized", token=True, meterValue=values2("Transaction.Begin")),), (TransactionStarted,)),
    "TC_J_08": (
        (Says("TransactionEvent", {key: value for key, value in AUTHORIZED.payload.items() if key != "evse"}),
         event2("Updated", 1, "CablePluggedIn", "EVConnected", meterValue=values2("Transaction.Begin")), CHARGING),
        (TransactionStarted,),
    ),
    "TC_J_09": ((*BEGUN, event2("Updated", 2, "MeterValuePeriodic", meterValue=values2("Sample.Periodic"))), (TransactionStarted, EvseSample)),
    "TC_J_10": ((*BEGUN, ended("EVDeparted", "EVDisconnected", meterValue=values2("Transaction.End"))), ENDS),
    "TC_J_11": (
        (*BEGUN, ended("EVDeparted", "EVDisconnected", meterValue=values2("Transaction.End", signedMeterValue={
            "signedMeterData": "AA==", "signingMethod": "", "encodingMethod": "OCMF", "publicKey": "AA=="}))),
        ENDS,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
async def test_case(case: str) -> None:
    steps, facts = CASES[case]
    await play("2.0.1", steps, facts)


async def test_a_station_that_waits_and_talks_gets_a_security_error() -> None:
    """TC_B_30: while it is told to wait it has nothing to say unasked."""
    waits = Says("BootNotification", boot2().payload, {"status": "Pending"})
    refused = Says("StatusNotification", status2("Available").payload, error="SecurityError")
    async with open_door() as (server, _, suite):
        await suite.ask("2.0.1/CP1/set-pending-boot", {"pending": True})
        async with peer(server, subprotocols=["ocpp2.0.1"]) as station:
            await act("2.0.1", (waits, refused), suite, station)
            station.answers = {
                "SetChargingProfile": {"status": "Accepted"},
                "TriggerMessage": {"status": "Accepted"},
            }
            station.answers |= {"GetVariables": {"getVariableResult": []}, "SetVariables": written}
            await act("2.0.1", (boot2("Triggered"), status2("Available")), suite, station)


async def test_a_certificate_that_the_station_does_not_take(tmp_path: Path) -> None:
    """TC_A_14: it says so twice, and people are told."""
    files = Files(tmp_path)
    async with running(files.settings()) as (server, depot):
        secure = peer(server, subprotocols=["ocpp2.0.1"], ssl=files.trusting())
        async with secure as station:
            await settle(station)
            station.answers["CertificateSigned"] = {"status": "Rejected"}
            asked = {"csr": a_request("CP1"), "certificateType": "ChargingStationCertificate"}
            assert (await station.ask("SignCertificate", asked))[2] == {"status": "Accepted"}
            assert "BEGIN CERTIFICATE" in (await station.call_of("CertificateSigned"))["certificateChain"]
            said = {"type": "InvalidChargingStationCertificate", "timestamp": now_text()}
            assert (await station.ask("SecurityEventNotification", said))[2] == {}
            await depot.until(
                lambda event: (
                    isinstance(event, SecurityEvent) and event.kind == "InvalidChargingStationCertificate"
                )
            )


async def test_a_station_is_moved_to_a_better_security_profile(tmp_path: Path) -> None:
    """TC_A_19: a network profile with TLS, a reset, back with it, and from then on not let in without."""
    files = Files(tmp_path)
    order = {"component": {"name": "OCPPCommCtrlr"}, "variable": {"name": "NetworkConfigurationPriority"}}
    steps = (
        Told("SetNetworkProfile", NETWORK),
        Told("SetVariables", {"setVariableData": [{**order, "attributeValue": "1"}]}, did(order)),
        Told("Reset", {"type": "OnIdle"}),
    )
    async with running(files.settings()) as (server, depot), a_suite(server, depot) as suite:
        async with peer(server, subprotocols=["ocpp2.0.1"]) as station:
            await settle(station)
            await act("2.0.1", steps, suite, station)
        async with peer(server, subprotocols=["ocpp2.0.1"], ssl=files.trusting()) as station:
            await settle(station)
        with pytest.raises(InvalidStatus, match="401"):
            async with peer(server, subprotocols=["ocpp2.0.1"]):
                pass


async def test_a_token_that_is_not_accepted_in_a_transaction() -> None:
    """TC_C_20, TC_E_16: started on what the station's cache believed, and told otherwise."""
    async with open_door() as (server, depot, _), peer(server, subprotocols=["ocpp2.0.1"]) as station:
        await settle(station)
        depot.verdict = Verdict.INVALID
        reply = await station.ask("TransactionEvent", {**AUTHORIZED.payload, **token2("100000C02")})
        assert reply[2]["idTokenInfo"]["status"] == "Invalid"
        gone = ended("Deauthorized", "DeAuthorized", seq=1)
        assert (await station.ask("TransactionEvent", gone.payload))[0] == 3
        await depot.until_a(TransactionEnded)
