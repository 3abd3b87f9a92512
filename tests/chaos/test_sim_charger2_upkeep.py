"""The simulated OCPP 2.x station looked after: device model, firmware, logs, certificates, monitors, messages."""

from __future__ import annotations

import base64
import ssl
from pathlib import Path
from typing import Any

import pytest
from central2 import Bench, Central, bench, listening, port_of
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.ocsp import OCSPRequestBuilder
from sim_yard import file_server, root, sign, subject_of

from drivers.sim.certificates import hash_data
from drivers.sim.charger2_variables import ITEMS
from drivers.sim.quirks import Quirks

Json = dict[str, Any]


def variable(component: str, name: str, value: str | None = None, **more: Any) -> Json:
    row: Json = {"component": {"name": component}, "variable": {"name": name}, **more}
    return row if value is None else {**row, "attributeValue": value}


async def status_of(b: Bench, *rows: Json) -> list[str]:
    answer = await b.call("SetVariables", {"setVariableData": list(rows)})
    return [row["attributeStatus"] for row in answer["setVariableResult"]]


async def statuses(b: Bench, action: str, last: str) -> list[str]:
    """All that was said on the way to `last`."""
    await b.central.first(action, status=last)
    return [payload["status"] for payload in b.central.all(action)]


# --- device model -----------------------------------------------------------------------------------------------------


async def test_variables_are_read_as_they_are() -> None:
    async with bench() as b:
        evse = {"component": {"name": "EVSE", "evse": {"id": 1}}, "variable": {"name": "AvailabilityState"}}
        wanted = [
            evse,
            variable("TxCtrlr", "EVConnectionTimeOut"),
            variable("TxCtrlr", "Nonsense"),
            variable("Nonsense", "Enabled"),
            variable("SecurityCtrlr", "BasicAuthPassword"),
            variable("TxCtrlr", "EVConnectionTimeOut", attributeType="Target"),
        ]
        rows = (await b.call("GetVariables", {"getVariableData": wanted}))["getVariableResult"]
        assert [(row["attributeStatus"], row.get("attributeValue")) for row in rows] == [
            ("Accepted", "Available"),
            ("Accepted", "120"),
            ("UnknownVariable", None),
            ("UnknownComponent", None),
            ("Rejected", None),
            ("NotSupportedAttributeType", None),
        ]
        too_many = {"getVariableData": [evse] * (ITEMS + 1)}
        assert await b.call("GetVariables", too_many) == "OccurrenceConstraintViolation"


async def test_variables_are_written_if_they_fit() -> None:
    async with bench() as b:
        assert await status_of(
            b,
            variable("TxCtrlr", "EVConnectionTimeOut", "90"),
            variable("TxCtrlr", "EVConnectionTimeOut", "soon"),
            variable("TxCtrlr", "TxStartPoint", "Authorized,PowerPathClosed"),
            variable("TxCtrlr", "TxStartPoint", "Whenever"),
            variable("SmartChargingCtrlr", "ProfileStackLevel", "3"),
            variable("AuthCtrlr", "LocalPreAuthorize", "maybe"),
            variable("OCPPCommCtrlr", "NetworkConfigurationPriority", "1"),
        ) == ["Accepted", "Rejected", "Accepted", "Rejected", "Rejected", "Rejected", "RebootRequired"]
        assert b.station.memory.variables.number("TxCtrlr", "EVConnectionTimeOut") == 90


async def test_a_new_password_is_used_for_the_next_link() -> None:
    async with bench() as b:
        assert await status_of(
            b, variable("SecurityCtrlr", "BasicAuthPassword", "n3w-secret-n3w-secret")
        ) == ["Accepted"]
        await b.central.until(lambda: len(b.central.headers) == 2)
        secret = base64.b64decode(b.central.headers[1][1]["Authorization"].removeprefix("Basic "))
        assert secret == b"CS1:n3w-secret-n3w-secret"
        await b.central.first("SecurityEventNotification", type="ReconfigurationOfSecurityParameters")


async def test_reports_come_in_parts_and_are_whole() -> None:
    async with bench() as b:
        await b.call("GetBaseReport", {"requestId": 3, "reportBase": "FullInventory"})
        await b.central.first("NotifyReport", requestId=3, tbc=False)
        parts = b.central.all("NotifyReport")
        assert [part["seqNo"] for part in parts] == list(range(len(parts)))
        assert len(parts) > 2
        names = {
            (row["component"]["name"], row["variable"]["name"]) for p in parts for row in p["reportData"]
        }
        assert {("TxCtrlr", "TxStartPoint"), ("EVSE", "Power"), ("Connector", "AvailabilityState")} <= names
        mark = b.central.mark()
        await b.call("GetBaseReport", {"requestId": 4, "reportBase": "ConfigurationInventory"})
        last = await b.central.first("NotifyReport", after=mark, requestId=4, tbc=False)
        assert all(row["variableAttribute"][0]["mutability"] != "ReadOnly" for row in last["reportData"])
        one = {"requestId": 5, "componentVariable": [{"component": {"name": "EVSE", "evse": {"id": 1}}}]}
        await b.call("GetReport", one)
        report = await b.central.first("NotifyReport", requestId=5)
        assert {row["component"]["name"] for row in report["reportData"]} == {"EVSE"}
        none = {"requestId": 6, "componentVariable": [{"component": {"name": "Nonsense"}}]}
        assert await b.call("GetReport", none) == {"status": "EmptyResultSet"}


# --- firmware and logs --------------------------------------------------------------------------------------------------


async def test_firmware_is_fetched_installed_and_announced() -> None:
    async with file_server() as (files, url), bench() as b:
        files.fail = 1
        firmware = {"location": f"{url}sim-2.4.1.bin", "retrieveDateTime": b.in_s(5)}
        order = {"requestId": 11, "firmware": firmware, "retries": 2, "retryInterval": 5}
        assert await b.call("UpdateFirmware", order) == {"status": "Accepted"}
        said = await statuses(b, "FirmwareStatusNotification", "Installed")
        assert list(dict.fromkeys(said)) == [
            "DownloadScheduled",
            "Downloading",
            "Downloaded",
            "Installing",
            "InstallRebooting",
            "Installed",
        ]
        assert files.fetched == ["/sim-2.4.1.bin"] * 2
        boot = b.central.all("BootNotification")[1]
        assert (boot["reason"], boot["chargingStation"]["firmwareVersion"]) == ("FirmwareUpdate", "2.4.1")


async def test_firmware_waits_for_the_session() -> None:
    async with bench() as b:
        await b.session()
        firmware = {"location": "ftp://somewhere/9.9.bin", "retrieveDateTime": b.in_s(0)}
        await b.call("UpdateFirmware", {"requestId": 1, "firmware": firmware})
        await b.central.first("FirmwareStatusNotification", status="Downloaded")
        await b.central.event("MeterValuePeriodic")
        assert len(b.central.all("BootNotification")) == 1
        b.evse.unplug()
        await b.central.first("FirmwareStatusNotification", status="Installed")


@pytest.mark.parametrize(
    ("fails", "last"),
    [
        ("download", "DownloadFailed"),
        ("signature", "InvalidSignature"),
        ("install", "InstallationFailed"),
    ],
)
async def test_firmware_that_fails_changes_nothing(fails: str, last: str) -> None:
    async with bench(quirks=Quirks(fails=frozenset({fails}))) as b:
        firmware = {"location": "ftp://x/9.9.bin", "retrieveDateTime": b.in_s(0), "signature": "c2ln"}
        firmware["signingCertificate"] = "-----BEGIN CERTIFICATE-----"
        await b.call("UpdateFirmware", {"requestId": 1, "firmware": firmware})
        await b.central.first("FirmwareStatusNotification", status=last)
        assert b.station.memory.firmware == "1.0.0"
        await b.eventually(lambda: not b.station.errands.busy("firmware"))
        assert len(b.central.all("BootNotification")) == 1


async def test_a_log_is_handed_in() -> None:
    async with file_server() as (files, url), bench() as b:
        await b.call("GetLocalListVersion", {})
        order = {"requestId": 4, "logType": "DiagnosticsLog", "log": {"remoteLocation": url}}
        answer = await b.call("GetLog", order)
        assert answer == {"status": "Accepted", "filename": "CS1-DiagnosticsLog.log"}
        assert await statuses(b, "LogStatusNotification", "Uploaded") == ["Uploading", "Uploaded"]
        assert b"GetLocalListVersion" in files.taken["/CS1-DiagnosticsLog.log"]


async def test_a_log_nobody_takes_is_a_failure() -> None:
    async with bench() as b:
        order = {"requestId": 4, "logType": "SecurityLog", "log": {"remoteLocation": "http://127.0.0.1:9/"}}
        await b.call("GetLog", order)
        assert await statuses(b, "LogStatusNotification", "UploadFailure") == ["Uploading", "UploadFailure"]


# --- certificates and networks --------------------------------------------------------------------------------------------


async def test_roots_are_installed_listed_and_deleted(tmp_path: Path) -> None:
    pem = root(tmp_path)
    serial = f"{x509.load_pem_x509_certificate(pem.encode()).serial_number:x}"
    async with bench() as b:
        install = {"certificateType": "CSMSRootCertificate", "certificate": pem}
        assert await b.call("InstallCertificate", install) == {"status": "Accepted"}
        broken = {**install, "certificate": "-----BEGIN CERTIFICATE-----\nnonsense"}
        assert await b.call("InstallCertificate", broken) == {"status": "Rejected"}
        wanted = {"certificateType": ["CSMSRootCertificate"]}
        answer = await b.call("GetInstalledCertificateIds", wanted)
        data = answer["certificateHashDataChain"][0]["certificateHashData"]
        assert data["serialNumber"] == serial
        assert data == hash_data(pem)
        other = {"certificateType": ["ManufacturerRootCertificate"]}
        assert await b.call("GetInstalledCertificateIds", other) == {"status": "NotFound"}
        assert await b.call("DeleteCertificate", {"certificateHashData": data}) == {"status": "Accepted"}
        assert await b.call("DeleteCertificate", {"certificateHashData": data}) == {"status": "NotFound"}


def test_the_hash_data_is_what_others_compute(tmp_path: Path) -> None:
    pem = root(tmp_path)
    root_ = x509.load_pem_x509_certificate(pem.encode())
    asked = OCSPRequestBuilder().add_certificate(root_, root_, hashes.SHA256()).build()
    data = hash_data(pem)
    assert data["issuerNameHash"] == asked.issuer_name_hash.hex()
    assert data["issuerKeyHash"] == asked.issuer_key_hash.hex()
    assert data["serialNumber"] == f"{asked.serial_number:x}"


async def test_a_signed_identity_is_taken_if_it_fits_the_key(tmp_path: Path) -> None:
    root(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    async with bench(tls=None) as b:
        trigger = {"requestedMessage": "SignChargingStationCertificate"}
        assert await b.call("TriggerMessage", trigger) == {"status": "Accepted"}
        csr = (await b.central.first("SignCertificate"))["csr"]
        assert "CN=CS1" in subject_of(csr)
        chain = sign(tmp_path, csr)
        assert await b.call("CertificateSigned", {"certificateChain": chain}) == {"status": "Accepted"}
        assert b.station.memory.certificates.take(chain, context)
        foreign = (tmp_path / "ca.pem").read_text()
        refused = await b.call("CertificateSigned", {"certificateChain": foreign})
        assert refused["status"] == "Rejected"
        await b.central.first("SecurityEventNotification", type="InvalidChargingStationCertificate")


async def test_a_network_profile_counts_after_a_reboot_and_falls_back() -> None:
    async with bench() as b:
        other = Central(["ocpp2.0.1"])
        async with listening(other) as server:
            for slot, port in ((1, port_of(server)), (2, port_of(b.server))):
                data = {
                    "ocppVersion": "OCPP20",
                    "ocppTransport": "JSON",
                    "ocppCsmsUrl": f"ws://127.0.0.1:{port}/ocpp",
                    "messageTimeout": 30,
                    "securityProfile": 1,
                    "ocppInterface": "Wired0",
                }
                order = {"configurationSlot": slot, "connectionData": data}
                assert await b.call("SetNetworkProfile", order) == {"status": "Accepted"}
            order["connectionData"] = {**data, "securityProfile": 0}
            assert (await b.call("SetNetworkProfile", order))["status"] == "Rejected"
            rows = variable("OCPPCommCtrlr", "NetworkConfigurationPriority", "1,2")
            assert await status_of(b, rows) == ["RebootRequired"]
            await b.call("Reset", {"type": "Immediate"})
            await other.first("BootNotification", reason="RemoteReset")
            assert other.faults == []
        mark = b.central.mark()
        await b.central.first("Heartbeat", after=mark)  # the other one is gone: back to the second


# --- monitors, messages, customers -------------------------------------------------------------------------------------------


async def test_a_threshold_speaks_when_it_is_crossed_and_again_when_it_is_over() -> None:
    async with bench() as b:
        power = {"component": {"name": "EVSE", "evse": {"id": 1}}, "variable": {"name": "Power"}}
        row = {**power, "value": 10_000.0, "type": "UpperThreshold", "severity": 4}
        result = (await b.call("SetVariableMonitoring", {"setMonitoringData": [row]}))["setMonitoringResult"][
            0
        ]
        assert (result["status"], result["id"]) == ("Accepted", 1)
        results = await b.call(
            "SetVariableMonitoring",
            {
                "setMonitoringData": [
                    row,
                    {**row, **variable("TxCtrlr", "TxStartPoint")},
                    {**row, **variable("Nonsense", "Power")},
                ]
            },
        )
        assert [one["status"] for one in results["setMonitoringResult"]] == [
            "Duplicate",
            "UnsupportedMonitorType",
            "UnknownComponent",
        ]
        await b.session()
        event = (await b.central.first("NotifyEvent"))["eventData"][0]
        assert (event["variableMonitoringId"], event["cleared"], event["trigger"]) == (1, False, "Alerting")
        assert float(event["actualValue"]) > 10_000.0
        b.evse.unplug()
        await b.central.until(lambda: len(b.central.all("NotifyEvent")) == 2)
        assert b.central.all("NotifyEvent")[1]["eventData"][0]["cleared"] is True
        asked = {"requestId": 2, "monitoringCriteria": ["ThresholdMonitoring"]}
        assert await b.call("GetMonitoringReport", asked) == {"status": "Accepted"}
        report = await b.central.first("NotifyMonitoringReport", requestId=2)
        assert report["monitor"][0]["variableMonitoring"][0]["id"] == 1
        cleared = await b.call("ClearVariableMonitoring", {"id": [1, 7]})
        assert [one["status"] for one in cleared["clearMonitoringResult"]] == ["Accepted", "NotFound"]
        assert await b.call("GetMonitoringReport", asked) == {"status": "EmptyResultSet"}


async def test_quiet_monitors_and_delta() -> None:
    async with bench() as b:
        state = {"component": {"name": "EVSE", "evse": {"id": 1}}, "variable": {"name": "AvailabilityState"}}
        row = {**state, "value": 1.0, "type": "Delta", "severity": 6}
        await b.call("SetVariableMonitoring", {"setMonitoringData": [row]})
        assert await b.call("SetMonitoringLevel", {"severity": 5}) == {"status": "Accepted"}
        b.plug()
        await b.central.first("StatusNotification", connectorStatus="Occupied")
        await b.call("SetMonitoringLevel", {"severity": 9})
        assert b.central.all("NotifyEvent") == []
        b.evse.unplug()
        event = (await b.central.first("NotifyEvent"))["eventData"][0]
        assert (event["trigger"], event["actualValue"]) == ("Delta", "Available")
        assert await b.call("SetMonitoringBase", {"monitoringBase": "HardWiredOnly"}) == {
            "status": "Accepted"
        }
        assert b.station.memory.monitors == {}


async def test_messages_cost_customers_and_the_rest() -> None:
    async with bench() as b:
        id = await b.session()
        message = {"id": 1, "priority": "InFront", "message": {"format": "UTF8", "content": "Hello"}}
        assert await b.call("SetDisplayMessage", {"message": message}) == {"status": "Accepted"}
        html = {**message, "message": {"format": "HTML", "content": "x"}}
        assert await b.call("SetDisplayMessage", {"message": html}) == {"status": "NotSupportedMessageFormat"}
        gone = {**message, "transactionId": "none"}
        assert await b.call("SetDisplayMessage", {"message": gone}) == {"status": "UnknownTransaction"}
        assert await b.call("GetDisplayMessages", {"requestId": 1}) == {"status": "Accepted"}
        assert (await b.central.first("NotifyDisplayMessages"))["messageInfo"] == [message]
        assert await b.call("ClearDisplayMessage", {"id": 1}) == {"status": "Accepted"}
        assert await b.call("GetDisplayMessages", {"requestId": 2}) == {"status": "Unknown"}
        assert await b.call("CostUpdated", {"totalCost": 1.5, "transactionId": id}) == {}
        assert b.station.evses[0].shown_cost == 1.5
        token = {"idToken": "TAG", "type": "ISO14443"}
        order = {"requestId": 3, "report": True, "clear": True, "idToken": token}
        assert await b.call("CustomerInformation", order) == {"status": "Accepted"}
        assert (await b.central.first("NotifyCustomerInformation"))["data"] == "TAG Accepted"
        assert b.station.memory.cards.known("TAG") is None
        assert await b.call("CustomerInformation", {**order, "report": False, "clear": False}) == {
            "status": "Invalid"
        }
        assert await b.call("ClearCache", {}) == {"status": "Accepted"}
        assert await b.call("DataTransfer", {"vendorId": "Nobody"}) == {"status": "UnknownVendorId"}
