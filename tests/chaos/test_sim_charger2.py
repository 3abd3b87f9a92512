"""The simulated OCPP 2.x station: its life, its transactions and its drivers, every message against the schemas.

This file is long because one story of a station, told against one tiny central system.
"""

from __future__ import annotations

import asyncio
import base64
import ssl
from pathlib import Path
from typing import Any

import pytest
from central2 import BOOT, Central, bench, port_of
from sim_yard import root, server, sign
from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from controller.clock import SystemClock
from drivers.sim.certificates import Certificates
from drivers.sim.charger2_memory import RECORDS
from drivers.sim.quirks import Quirks
from drivers.sim.site import OCPP_VERSIONS, DemoSite

VERSIONS = ("ocpp2.0.1", "ocpp2.1")
Json = dict[str, Any]


def seq(events: list[Json]) -> list[int]:
    return [event["seqNo"] for event in events]


@pytest.mark.parametrize("version", VERSIONS)
async def test_boots_in_the_version_that_was_chosen(version: str) -> None:
    async with bench(version, versions=("ocpp2.1", "ocpp2.0.1")) as b:
        path, headers = b.central.headers[0]
        assert path == "/ocpp/CS1"
        assert headers["Authorization"] == "Basic " + base64.b64encode(b"CS1:s3cret").decode()
        assert headers["Sec-WebSocket-Protocol"].replace(" ", "") == "ocpp2.1,ocpp2.0.1"
        assert b.central.version == b.station.link.version == version
        action, boot = b.central.heard[0]
        assert (action, boot["reason"]) == ("BootNotification", "PowerUp")
        assert boot["chargingStation"]["firmwareVersion"] == "1.0.0"
        status = await b.central.first("StatusNotification")
        assert (status["connectorStatus"], status["evseId"], status["connectorId"]) == ("Available", 1, 1)


async def test_while_pending_it_says_only_what_it_is_asked_for() -> None:
    pending = {**BOOT, "status": "Pending", "interval": 3600}
    async with bench(wait=False, answers={"BootNotification": pending}) as b:
        await b.eventually(lambda: b.station.voice.standing == "Pending")
        b.plug()
        start = {"idToken": {"idToken": "A", "type": "Central"}, "remoteStartId": 1}
        assert (await b.call("RequestStartTransaction", start))["status"] == "Rejected"
        await b.call("GetBaseReport", {"requestId": 7, "reportBase": "SummaryInventory"})
        await b.central.first("NotifyReport", requestId=7, tbc=False)
        assert {action for action, _ in b.central.heard} == {"BootNotification", "NotifyReport"}
        b.central.answers["BootNotification"] = BOOT
        await b.call("TriggerMessage", {"requestedMessage": "BootNotification"})
        await b.central.first("StatusNotification", connectorStatus="Occupied")
        assert [boot["reason"] for boot in b.central.all("BootNotification")] == ["PowerUp", "Triggered"]


async def test_rejected_it_answers_nothing_and_comes_back_after_the_interval() -> None:
    rejected = {**BOOT, "status": "Rejected", "interval": 60}
    async with bench(wait=False, answers={"BootNotification": rejected}) as b:
        await b.eventually(lambda: b.station.voice.standing == "Rejected")
        assert await b.call("GetLocalListVersion", {}) == "SecurityError"
        b.central.answers["BootNotification"] = BOOT
        await b.central.first("StatusNotification")


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_session_is_a_row_of_numbered_events(version: str) -> None:
    async with bench(version) as b:
        id = await b.session()
        await b.drawing(32.0)
        await b.central.event("MeterValuePeriodic")
        b.evse.unplug()
        ended = await b.central.event("EVCommunicationLost", "Ended")
        events = b.central.all("TransactionEvent")
        assert seq(events) == list(range(len(events)))
        assert {e["transactionInfo"]["transactionId"] for e in events} == {id}
        started = events[0]
        assert (started["eventType"], started["triggerReason"]) == ("Started", "CablePluggedIn")
        assert started["evse"] == {"id": 1, "connectorId": 1}
        assert "idToken" not in started and "offline" not in started
        assert started["meterValue"][0]["sampledValue"][0]["context"] == "Transaction.Begin"
        authorized = await b.central.event("Authorized")
        assert authorized["idToken"] == {"idToken": "TAG", "type": "ISO14443"}
        assert sum("idToken" in e for e in events) == 1
        states = [e["transactionInfo"]["chargingState"] for e in events]
        assert list(dict.fromkeys(states)) == ["EVConnected", "SuspendedEV", "Charging", "Idle"]
        assert ended["transactionInfo"]["stoppedReason"] == "EVDisconnected"
        values = {v["measurand"]: v for v in ended["meterValue"][0]["sampledValue"]}
        assert values["Energy.Active.Import.Register"]["context"] == "Transaction.End"
        assert values["Energy.Active.Import.Register"]["value"] == int(b.evse.register_wh) > 0
        mark = b.central.heard.index(("TransactionEvent", ended))
        await b.central.first("StatusNotification", connectorStatus="Available", after=mark)


async def test_periodic_values_say_what_flows() -> None:
    async with bench() as b:
        await b.session()
        await b.drawing(32.0)
        mark = b.central.mark()
        event = await b.central.event("MeterValuePeriodic", after=mark)
        values = event["meterValue"][0]["sampledValue"]
        currents = {v["phase"]: v["value"] for v in values if v["measurand"] == "Current.Import"}
        assert currents == {"L1": 32.0, "L2": 32.0, "L3": 32.0}
        power = next(v for v in values if v["measurand"] == "Power.Active.Import")
        assert (power["value"], power["unitOfMeasure"]) == (pytest.approx(32 * 3 * 230.0), {"unit": "W"})
        assert {v["context"] for v in values} == {"Sample.Periodic"}
        assert any(v["measurand"] == "SoC" for v in values)


async def test_without_communication_with_the_vehicle_there_is_no_soc() -> None:
    async with bench(tells_soc=False) as b:
        await b.session()
        event = await b.central.event("MeterValuePeriodic")
        assert "SoC" not in {v["measurand"] for v in event["meterValue"][0]["sampledValue"]}


async def test_values_on_the_clock() -> None:
    variables = {"AlignedDataCtrlr.Interval": "60", "SampledDataCtrlr.TxUpdatedInterval": "0"}
    async with bench(variables=variables) as b:
        await b.central.until(lambda: len(b.central.all("MeterValues")) == 2)
        seconds = [float(v["meterValue"][0]["timestamp"][17:-1]) for v in b.central.all("MeterValues")]
        assert max(seconds) < 30.0  # soon after the full minute; 0.3 s of real time for a slow machine
        await b.session()
        event = await b.central.event("MeterValueClock")
        assert event["meterValue"][0]["sampledValue"][0]["context"] == "Sample.Clock"


async def test_offline_it_charges_on_and_replays_in_order() -> None:
    variables = {"SampledDataCtrlr.TxUpdatedInterval": "10"}
    async with bench(variables=variables, answer_s=0.5) as b:
        id = await b.session()
        mark = b.central.mark()
        b.station.drop_link(away_s=120.0)
        await b.central.until(lambda: not b.central.up)
        await b.eventually(lambda: sum("offline" in one.payload for one in b.station.memory.records) >= 2)
        b.evse.unplug()
        ended = await b.central.event("EVCommunicationLost", "Ended", after=mark)
        assert ended["offline"] is True
        events = b.central.all("TransactionEvent")
        numbers = seq(events)  # the one whose answer was lost with the link may come twice
        assert list(dict.fromkeys(numbers)) == list(range(numbers[-1] + 1)) and numbers == sorted(numbers)
        assert {e["transactionInfo"]["transactionId"] for e in events} == {id}
        stamps = [e["timestamp"] for e in events]
        assert stamps == sorted(stamps)
        assert len(b.central.all("BootNotification")) == 1  # a new link is no boot
        assert [e.get("offline", False) for e in events].count(True) >= 3


async def test_an_unanswered_event_is_said_again_as_it_was() -> None:
    async with bench(answers={"TransactionEvent": None}, answer_s=0.2) as b:
        b.plug()
        await b.central.until(lambda: len(b.central.all("TransactionEvent")) >= 2)
        b.central.answers["TransactionEvent"] = {}
        first, again = b.central.all("TransactionEvent")[:2]
        assert first == again


@pytest.mark.parametrize(
    ("start", "stop", "triggers"),
    [
        ("Authorized", "Authorized", ["Authorized", "CablePluggedIn"]),
        ("PowerPathClosed", "EVConnected,Authorized", ["Authorized"]),
        ("EVConnected", "EVConnected", ["CablePluggedIn", "Authorized"]),
    ],
)
async def test_start_and_stop_points(start: str, stop: str, triggers: list[str]) -> None:
    variables = {"TxCtrlr.TxStartPoint": start, "TxCtrlr.TxStopPoint": stop}
    async with bench(variables=variables) as b:
        if triggers[0] == "CablePluggedIn":
            b.plug()
            b.evse.present("TAG")
        else:
            b.evse.present("TAG")
            await b.eventually(lambda: b.station.evses[0].permit is not None)
            b.plug()
        await b.central.state("Charging")
        events = b.central.all("TransactionEvent")
        assert events[0]["eventType"] == "Started"
        causes = [e["triggerReason"] for e in events if e["triggerReason"] != "ChargingStateChanged"]
        assert causes == triggers
        b.evse.present("TAG")
        stopped = await b.central.event("StopAuthorized")
        if "Authorized" in stop:
            assert stopped["eventType"] == "Ended"
            assert stopped["transactionInfo"]["stoppedReason"] == "Local"
        else:
            assert stopped["eventType"] == "Updated"
            assert stopped["transactionInfo"]["chargingState"] == "EVConnected"
            b.evse.unplug()
            await b.central.event("EVCommunicationLost", "Ended")
        await b.eventually(lambda: b.evse.power_w == 0.0)


async def test_a_cable_that_never_comes_ends_the_permit() -> None:
    async with bench(variables={"TxCtrlr.EVConnectionTimeOut": "30"}) as b:
        b.evse.present("TAG")
        await b.central.event("Authorized", "Started")
        ended = await b.central.event("EVConnectTimeout", "Ended")
        assert ended["transactionInfo"]["stoppedReason"] == "Timeout"


async def test_a_refused_token_stops_the_transaction_or_only_the_energy() -> None:
    def refuse(payload: Json) -> Json:
        return {"idTokenInfo": {"status": "Blocked"}} if "idToken" in payload else {}

    async with bench(answers={"TransactionEvent": refuse}) as b:
        b.plug()
        b.evse.present("TAG")
        ended = await b.central.event("Deauthorized", "Ended")
        assert ended["transactionInfo"]["stoppedReason"] == "DeAuthorized"
    lenient = {"TxCtrlr.StopTxOnInvalidId": "false"}
    async with bench(answers={"TransactionEvent": refuse}, variables=lenient) as b:
        b.plug()
        b.evse.present("TAG")
        await b.central.event("Deauthorized", "Updated")
        await b.eventually(lambda: not b.evse.energised)
        assert b.station.evses[0].transaction is not None


async def test_an_unknown_token_does_not_charge() -> None:
    async with bench(answers={"Authorize": {"idTokenInfo": {"status": "Unknown"}}}) as b:
        b.plug()
        await b.central.event("CablePluggedIn", "Started")
        b.evse.present("NOBODY")
        await b.central.first("Authorize")
        await b.call("TriggerMessage", {"requestedMessage": "Heartbeat"})
        assert not b.evse.energised


async def test_offline_the_list_the_cache_and_the_rule_for_strangers_decide() -> None:
    async with bench() as b:
        entries = [
            {"idToken": {"idToken": "LISTED", "type": "ISO14443"}, "idTokenInfo": {"status": "Accepted"}},
            {"idToken": {"idToken": "BLOCKED", "type": "ISO14443"}, "idTokenInfo": {"status": "Blocked"}},
        ]
        sent = {"versionNumber": 3, "updateType": "Full", "localAuthorizationList": entries}
        assert await b.call("SendLocalList", sent) == {"status": "Accepted"}
        assert await b.call("GetLocalListVersion", {}) == {"versionNumber": 3}
        older = {"versionNumber": 3, "updateType": "Differential", "localAuthorizationList": entries[:1]}
        assert await b.call("SendLocalList", older) == {"status": "VersionMismatch"}
        b.station.memory.variables.write(
            {
                "component": {"name": "AuthCtrlr"},
                "variable": {"name": "OfflineTxForUnknownIdEnabled"},
                "attributeValue": "true",
            }
        )
        b.station.drop_link(away_s=3600.0)
        await b.central.until(lambda: not b.central.up)
        await b.eventually(lambda: not b.station.connected)
        b.plug()
        for token, allowed in (("BLOCKED", False), ("listed", True), ("STRANGER", True)):
            b.evse.present(token)
            b.station.look()
            assert (b.station.evses[0].permit is not None) is allowed, token
            b.station.sessions.withdraw(b.station.evses[0], "StopAuthorized", "Local")


async def test_the_local_list_can_spare_the_question() -> None:
    async with bench(variables={"AuthCtrlr.LocalPreAuthorize": "true"}) as b:
        entry = {"idToken": {"idToken": "TAG", "type": "ISO14443"}, "idTokenInfo": {"status": "Accepted"}}
        sent = {"versionNumber": 1, "updateType": "Full", "localAuthorizationList": [entry]}
        await b.call("SendLocalList", sent)
        await b.session()
        assert b.central.all("Authorize") == []


async def test_another_card_of_the_group_may_stop() -> None:
    group = {"idToken": "FAMILY", "type": "Central"}
    async with bench(
        answers={"Authorize": {"idTokenInfo": {"status": "Accepted", "groupIdToken": group}}}
    ) as b:
        await b.session()
        b.evse.present("OTHER")
        ended = await b.central.event("StopAuthorized", "Ended")
        assert ended["idToken"]["idToken"] == "OTHER"


async def test_remote_start_and_stop() -> None:
    async with bench() as b:
        token = {"idToken": "REMOTE", "type": "Central"}
        raw = b.profile("TxProfile", 10.0)["chargingProfile"]
        started = await b.call(
            "RequestStartTransaction",
            {"evseId": 1, "idToken": token, "remoteStartId": 42, "chargingProfile": raw},
        )
        assert started["status"] == "Accepted"
        event = await b.central.event("RemoteStart", "Started")
        assert event["transactionInfo"]["remoteStartId"] == 42
        assert event["idToken"] == token
        b.plug()
        await b.drawing(10.0)
        id = event["transactionInfo"]["transactionId"]
        status = await b.call("GetTransactionStatus", {"transactionId": id})
        assert status["ongoingIndicator"] is True
        again = {"evseId": 1, "idToken": token, "remoteStartId": 43}
        assert (await b.call("RequestStartTransaction", again))["status"] == "Rejected"
        assert (await b.call("RequestStopTransaction", {"transactionId": "none"}))["status"] == "Rejected"
        assert (await b.call("RequestStopTransaction", {"transactionId": id}))["status"] == "Accepted"
        ended = await b.central.event("RemoteStop", "Ended")
        assert ended["transactionInfo"]["stoppedReason"] == "Remote"
        assert b.station.memory.profiles == ()
        # the cable is still in: nothing starts by itself, a new permit does
        mark = b.central.mark()
        assert (await b.call("RequestStartTransaction", {**again, "remoteStartId": 44}))[
            "status"
        ] == "Accepted"
        fresh = await b.central.event("RemoteStart", "Started", after=mark)
        assert fresh["transactionInfo"]["transactionId"] != id


async def test_a_plugged_cable_gives_remote_start_its_transaction() -> None:
    async with bench() as b:
        b.plug()
        started = await b.central.event("CablePluggedIn", "Started")
        order = {"idToken": {"idToken": "R", "type": "Central"}, "remoteStartId": 5}
        answer = await b.call("RequestStartTransaction", order)
        assert answer["transactionId"] == started["transactionInfo"]["transactionId"]
        await b.central.event("RemoteStart", "Updated")


async def test_reset_at_once_and_when_idle() -> None:
    async with bench() as b:
        await b.session()
        assert await b.call("Reset", {"type": "OnIdle"}) == {"status": "Scheduled"}
        assert len(b.central.all("BootNotification")) == 1
        b.evse.unplug()
        boot = await b.central.first("BootNotification", after=1)
        assert boot["reason"] == "RemoteReset"
        await b.eventually(lambda: b.station.connected)
        b.plug()
        b.evse.present("TAG")
        await b.central.state("Charging", after=b.central.mark())
        assert await b.call("Reset", {"type": "Immediate"}) == {"status": "Accepted"}
        ended = await b.central.event("ResetCommand", "Ended")
        assert ended["transactionInfo"]["stoppedReason"] == "ImmediateReset"


async def test_reset_of_one_evse_leaves_the_other_alone() -> None:
    async with bench(evses=2) as b:
        for number in (1, 2):
            b.plug(number)
            b.station.evses[number - 1].evse.present("TAG")
        await b.eventually(lambda: all(one.evse.drawing for one in b.station.evses))
        assert await b.call("Reset", {"type": "Immediate", "evseId": 2}) == {"status": "Accepted"}
        ended = await b.central.event("ResetCommand", "Ended")
        other = b.station.evses[0].transaction
        assert other is not None and other.id != ended["transactionInfo"]["transactionId"]
        assert len(b.central.all("BootNotification")) == 1


async def test_power_loss_ends_the_transaction_afterwards() -> None:
    async with bench() as b:
        await b.session()
        b.station.reboot()
        ended = await b.central.event("AbnormalCondition", "Ended")
        assert ended["transactionInfo"]["stoppedReason"] == "PowerLoss"
        heard = [action for action, _ in b.central.heard]
        assert heard.count("BootNotification") == 2


async def test_availability_waits_for_the_session_and_survives_a_reboot() -> None:
    async with bench(evses=2) as b:
        await b.session()
        off = {"operationalStatus": "Inoperative", "evse": {"id": 1}}
        assert await b.call("ChangeAvailability", off) == {"status": "Scheduled"}
        b.evse.unplug()
        await b.central.first("StatusNotification", connectorStatus="Unavailable", evseId=1)
        b.station.reboot()
        mark = b.central.mark()
        again = await b.central.first("StatusNotification", after=mark, evseId=1)
        assert again["connectorStatus"] == "Unavailable"
        assert await b.call("ChangeAvailability", {"operationalStatus": "Operative", "evse": {"id": 1}}) == {
            "status": "Accepted"
        }
        await b.central.first("StatusNotification", after=mark, connectorStatus="Available", evseId=1)
        unknown = {"operationalStatus": "Inoperative", "evse": {"id": 9}}
        assert (await b.call("ChangeAvailability", unknown))["status"] == "Rejected"


async def test_a_fault_is_an_event_and_ends_the_transaction() -> None:
    async with bench() as b:
        await b.session()
        b.evse.break_down("GroundFailure")
        ended = await b.central.event("AbnormalCondition", "Ended")
        assert ended["transactionInfo"]["stoppedReason"] == "GroundFault"
        await b.central.first("StatusNotification", connectorStatus="Faulted")
        told = (await b.central.first("NotifyEvent"))["eventData"][0]
        assert (told["techCode"], told["actualValue"]) == ("GroundFailure", "true")
        b.evse.break_down(None)
        await b.central.until(lambda: len(b.central.all("NotifyEvent")) == 2)
        assert b.central.all("NotifyEvent")[1]["eventData"][0]["cleared"] is True


async def test_a_reservation_keeps_the_evse_for_one_driver() -> None:
    async with bench() as b:
        order = {"id": 8, "evseId": 1, "expiryDateTime": b.in_s(3600)}
        mine = {**order, "idToken": {"idToken": "MINE", "type": "ISO14443"}}
        assert await b.call("ReserveNow", mine) == {"status": "Accepted"}
        await b.central.first("StatusNotification", connectorStatus="Reserved")
        stranger = {"idToken": {"idToken": "X", "type": "Central"}, "remoteStartId": 1}
        assert (await b.call("RequestStartTransaction", stranger))["status"] == "Rejected"
        b.evse.present("MINE")
        started = await b.central.event("Authorized", "Started")
        assert started["reservationId"] == 8
        assert await b.call("CancelReservation", {"reservationId": 8}) == {"status": "Rejected"}
        assert (await b.call("ReserveNow", {**mine, "id": 9}))["status"] == "Occupied"


async def test_a_reservation_ends_by_time_by_order_and_by_fault() -> None:
    async with bench() as b:
        token = {"idToken": "MINE", "type": "ISO14443"}
        await b.call("ReserveNow", {"id": 1, "idToken": token, "expiryDateTime": b.in_s(100)})
        update = await b.central.first("ReservationStatusUpdate")
        assert update == {"reservationId": 1, "reservationUpdateStatus": "Expired"}
        await b.call("ReserveNow", {"id": 2, "idToken": token, "expiryDateTime": b.in_s(3600)})
        assert await b.call("CancelReservation", {"reservationId": 2}) == {"status": "Accepted"}
        await b.call("ReserveNow", {"id": 3, "idToken": token, "expiryDateTime": b.in_s(3600)})
        b.evse.break_down("GroundFailure")
        await b.central.first("ReservationStatusUpdate", reservationId=3, reservationUpdateStatus="Removed")


async def test_triggers() -> None:
    async with bench() as b:
        for wanted in (
            {"requestedMessage": "StatusNotification", "evse": {"id": 1, "connectorId": 1}},
            {"requestedMessage": "MeterValues", "evse": {"id": 1}},
            {"requestedMessage": "Heartbeat"},
            {"requestedMessage": "LogStatusNotification"},
            {"requestedMessage": "FirmwareStatusNotification"},
        ):
            mark = b.central.mark()
            assert await b.call("TriggerMessage", wanted) == {"status": "Accepted"}, wanted
            await b.central.first(str(wanted["requestedMessage"]), after=mark)
        for wanted, status in (
            ({"requestedMessage": "StatusNotification"}, "Rejected"),
            ({"requestedMessage": "TransactionEvent"}, "Rejected"),
            ({"requestedMessage": "MeterValues", "evse": {"id": 4}}, "Rejected"),
            ({"requestedMessage": "BootNotification"}, "Rejected"),
            ({"requestedMessage": "PublishFirmwareStatusNotification"}, "NotImplemented"),
        ):
            assert await b.call("TriggerMessage", wanted) == {"status": status}, wanted
        await b.session()
        await b.call("TriggerMessage", {"requestedMessage": "TransactionEvent", "evse": {"id": 1}})
        event = await b.central.event("Trigger", "Updated")
        assert event["meterValue"][0]["sampledValue"][0]["context"] == "Trigger"


async def test_unlocking() -> None:
    async with bench() as b:
        where = {"evseId": 1, "connectorId": 1}
        assert await b.call("UnlockConnector", where) == {"status": "Unlocked"}
        assert await b.call("UnlockConnector", {**where, "connectorId": 2}) == {"status": "UnknownConnector"}
        await b.session()
        assert await b.call("UnlockConnector", where) == {"status": "OngoingAuthorizedTransaction"}


async def test_malformed_and_unknown_calls_get_the_right_error() -> None:
    async with bench() as b:
        assert await b.central.call_anyhow("Reset", {}) == "OccurrenceConstraintViolation"
        assert (
            await b.central.call_anyhow("Reset", {"type": "Immediate", "evseId": []})
            == "TypeConstraintViolation"
        )
        wrong = {"requestId": 1, "firmware": {"location": "x", "retrieveDateTime": "tomorrow"}}
        assert await b.central.call_anyhow("UpdateFirmware", wrong) == "PropertyConstraintViolation"
        assert await b.central.call_anyhow("RemoteStartTransaction", {}) == "NotImplemented"
        assert await b.central.call_anyhow("UpdateDynamicSchedule", {}) == "NotImplemented"  # 2.1 only
        assert b.central.up


async def test_quirks_of_answering() -> None:
    quirks = Quirks(not_supported=frozenset({"Reset"}), forgets_stop=True)
    async with bench(quirks=quirks) as b:
        assert await b.call("Reset", {"type": "Immediate"}) == "NotSupported"
        await b.session()
        b.station.reboot()
        await b.central.until(lambda: len(b.central.all("BootNotification")) == 2)
        await b.central.first("StatusNotification", after=b.central.mark())
        ended = [e for e in b.central.all("TransactionEvent") if e["eventType"] == "Ended"]
        assert ended == []


async def test_faulty_events() -> None:
    quirks = Quirks(event_faults=frozenset({"no_connector", "every_evse", "seq_gaps"}))
    async with bench(quirks=quirks) as b:
        await b.session()
        await b.central.event("MeterValuePeriodic")
        b.evse.unplug()
        await b.central.event("EVCommunicationLost", "Ended")
        events = b.central.all("TransactionEvent")
        assert all(event["evse"] == {"id": 1} for event in events)
        assert set(range(events[-1]["seqNo"])) - set(seq(events))


async def test_a_shuffled_replay() -> None:
    quirks = Quirks(event_faults=frozenset({"shuffled"}))
    async with bench(quirks=quirks, variables={"SampledDataCtrlr.TxUpdatedInterval": "20"}) as b:
        await b.session()
        b.station.drop_link(away_s=90.0)
        await b.eventually(lambda: sum("offline" in one.payload for one in b.station.memory.records) >= 3)
        b.evse.unplug()
        await b.central.event("EVCommunicationLost", "Ended")
        await b.eventually(lambda: b.station.memory.records == [])
        numbers = seq(b.central.all("TransactionEvent"))
        assert numbers != sorted(numbers)


@pytest.mark.parametrize("version", VERSIONS)
async def test_the_memory_for_events_is_bounded(version: str) -> None:
    variables = {"SampledDataCtrlr.TxUpdatedInterval": "1"}
    async with bench(version, variables=variables) as b:
        id = await b.session()
        b.station.drop_link(away_s=100_000.0)
        await b.central.until(lambda: not b.central.up)
        evse = b.station.evses[0]
        for _ in range(RECORDS + 50):
            b.station.sessions.report_values(evse, "MeterValuePeriodic", "Sample.Periodic", {"Voltage"})
        b.evse.unplug()
        await b.eventually(lambda: b.station.memory.records[-1].payload["eventType"] == "Ended")
        assert len(b.station.memory.records) == RECORDS
        assert b.station.memory.records[-1].transaction.id == id


async def test_security_profile_3_with_a_certificate_that_is_renewed(tmp_path: Path) -> None:
    pem = root(tmp_path)
    first = Certificates()
    chain = sign(tmp_path, await first.request("CS1", "Depot"))
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.load_cert_chain(*server(tmp_path))
    theirs.load_verify_locations(cadata=pem)
    theirs.verify_mode = ssl.CERT_REQUIRED
    ours = ssl.create_default_context(cadata=pem)
    assert first.take(chain, ours)
    async with bench(tls=ours, server_tls=theirs, password=None) as b:
        assert "Authorization" not in b.central.headers[0][1]
        await b.call("TriggerMessage", {"requestedMessage": "SignChargingStationCertificate"})
        csr = (await b.central.first("SignCertificate"))["csr"]
        fresh = sign(tmp_path, csr)
        assert await b.call("CertificateSigned", {"certificateChain": fresh}) == {"status": "Accepted"}
        await b.central.until(lambda: len(b.central.peers) == 2)
        shown = [ssl.DER_cert_to_PEM_cert(peer).split() for peer in b.central.peers]
        assert shown == [ssl_text(chain), ssl_text(fresh)]


def ssl_text(chain: str) -> list[str]:
    return ssl.DER_cert_to_PEM_cert(ssl.PEM_cert_to_DER_cert(chain)).split()


@pytest.mark.parametrize("version", OCPP_VERSIONS)
async def test_a_depot_may_speak_every_version(version: str) -> None:
    site = DemoSite(4, SystemClock(), 1, [version, "1.6"])
    central = Central([OCPP_VERSIONS[version], "ocpp1.6"])
    heard: set[str] = set()

    async def listen(socket: ServerConnection) -> None:
        assert socket.request is not None
        heard.add(f"{socket.request.path} {socket.subprotocol}")
        await central.handle(socket)

    protocols = [Subprotocol(name) for name in central.versions]
    async with serve(listen, "127.0.0.1", 0, subprotocols=protocols, close_timeout=0.5) as server:
        await site.start()
        work = asyncio.create_task(site.run(port_of(server)))
        try:
            async with asyncio.timeout(5.0):
                while len(heard) < 2:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            assert heard == {f"/ocpp/CP001 {OCPP_VERSIONS[version]}", "/ocpp/CP002 ocpp1.6"}
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            await site.stop()
