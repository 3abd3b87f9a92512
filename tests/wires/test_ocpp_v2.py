"""OCPP 2.0.1 and 2.1 on the wire: sessions, setup, commands, version switches, and whatever a peer may send."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as drawing
from hypothesis import strategies as st
from ocpp_peer import QUICK, Depot, Peer, a_station, now_text, peer, running, settings
from websockets.exceptions import ConnectionClosed, InvalidStatus

from controller.core.commands import SetLimit, StartCharging, StartDischarge, StopCharging
from controller.core.events import (
    CommandAccepted,
    CommandLost,
    CommandRefused,
    CommandReplaced,
    DischargeOffered,
    EvseSample,
    FallbackRefused,
    FallbackStored,
    LinkDown,
    LinkUp,
    StationBooted,
    StatusChanged,
    TransactionEnded,
    TransactionStarted,
)
from controller.core.model import EvseState, StationId, Verdict, evse_id
from drivers.errors import Misconfigured, Refused, Unreachable
from drivers.ocpp.server import OcppServer

CP1, STATION = evse_id("CP1", 1), StationId("CP1")
VERSIONS = ["2.0.1", "2.1"]
BOTH = pytest.mark.parametrize("version", VERSIONS)

DEVICE = {
    "SmartChargingCtrlr.Available": "true",
    "SmartChargingCtrlr.ProfileStackLevel": "5",
    "SmartChargingCtrlr.RateUnit": "A,W",
    "OCPPCommCtrlr.HeartbeatInterval": "300",
    "SampledDataCtrlr.TxUpdatedInterval": "60",
    "SampledDataCtrlr.TxUpdatedMeasurands": "SoC",
    "V2XChargingCtrlr.Available": "true",
}


def variables(payload: dict[str, Any], device: dict[str, str]) -> dict[str, Any]:
    results = []
    for item in payload["getVariableData"]:
        name = f"{item['component']['name']}.{item['variable']['name']}"
        known = {"attributeStatus": "Accepted", "attributeValue": device[name]} if name in device else None
        results.append(
            {"component": item["component"], "variable": item["variable"]}
            | (known or {"attributeStatus": "UnknownVariable"})
        )
    return {"getVariableResult": results}


def written(payload: dict[str, Any]) -> dict[str, Any]:
    return {
        "setVariableResult": [
            {"component": item["component"], "variable": item["variable"], "attributeStatus": "Accepted"}
            for item in payload["setVariableData"]
        ]
    }


@asynccontextmanager
async def station(server: OcppServer, version: str, name: str = "CP1", **more: Any) -> AsyncIterator[Peer]:
    async with peer(server, name, **{"subprotocols": [f"ocpp{version}"], **more}) as one:
        one.answers = {
            "GetVariables": lambda payload: variables(payload, DEVICE),
            "SetVariables": written,
            "SetChargingProfile": {"status": "Accepted"},
            "TriggerMessage": {"status": "Accepted"},
            "RequestStartTransaction": {"status": "Accepted", "transactionId": "tx-9"},
            "RequestStopTransaction": {"status": "Accepted"},
            "Reset": {"status": "Accepted"},
        }
        yield one


async def boot(one: Peer, reason: str = "PowerUp") -> dict[str, Any]:
    payload = {"reason": reason, "chargingStation": {"vendorName": "ACME", "model": "Two"}}
    reply = await one.ask("BootNotification", payload)
    assert reply[0] == 3, reply
    return dict(reply[2])


async def settle(one: Peer, evses: int = 1) -> None:
    """Boots and waits until setup has asked its last question."""
    await boot(one)
    async with asyncio.timeout(5):
        async with one.news:
            await one.news.wait_for(
                lambda: any(
                    name == "TriggerMessage" and payload.get("evse", {}).get("id") == evses
                    for name, payload in one.calls
                )
            )


def event(kind: str, seq: int, state: str, name: str = "tx-1", **more: Any) -> dict[str, Any]:
    return {
        "eventType": kind, "timestamp": now_text(), "triggerReason": "ChargingStateChanged", "seqNo": seq,
        "transactionInfo": {"transactionId": name, "chargingState": state},
        "evse": {"id": 1, "connectorId": 1}, **more,
    }  # fmt: skip


def token(text: str = "04A2B3C4") -> dict[str, Any]:
    return {"idToken": {"idToken": text, "type": "ISO14443"}}


def values(amps: float, register: float) -> dict[str, Any]:
    samples = [
        {"value": amps, "measurand": "Current.Import", "phase": f"L{n}", "unitOfMeasure": {"unit": "A"}}
        for n in (1, 2, 3)
    ]
    samples.append({"value": register, "unitOfMeasure": {"unit": "Wh"}})
    return {"meterValue": [{"timestamp": now_text(), "sampledValue": samples}]}


def a_limit(id: str, ma: int = 16_000, transaction: str | None = "tx-1") -> SetLimit:
    return SetLimit(id, CP1, "ocpp", ma, 180.0, transaction)


# --- a session ------------------------------------------------------------------------------------------------


@BOTH
async def test_full_session_reaches_the_depot_in_order(version: str) -> None:
    async with running() as (server, depot), station(server, version) as one:
        assert server.version(STATION) == version
        booted = await boot(one)
        assert (booted["status"], booted["interval"]) == ("Accepted", 60)
        status = {"timestamp": now_text(), "connectorStatus": "Occupied", "evseId": 1, "connectorId": 1}
        assert (await one.ask("StatusNotification", status))[2] == {}
        assert (await one.ask("Authorize", token()))[2] == {"idTokenInfo": {"status": "Accepted"}}
        reply = await one.ask(
            "TransactionEvent", event("Started", 0, "EVConnected", **token(), **values(0, 1000))
        )
        assert reply[2] == {"idTokenInfo": {"status": "Accepted"}}
        assert (await one.ask("TransactionEvent", event("Updated", 1, "Charging", **values(15.9, 1500))))[
            2
        ] == {}
        ended = event("Ended", 2, "EVConnected", **values(0, 9000))
        ended["transactionInfo"]["stoppedReason"] = "EVDisconnected"
        assert (await one.ask("TransactionEvent", ended))[2] == {}
        started = await depot.until_a(TransactionStarted)
        assert (started.transaction, started.token, started.register_wh) == ("tx-1", "04A2B3C4", 1000)
        live = await depot.until_a(EvseSample, register_wh=1500)
        assert (live.channel, live.current_ma.l2) == (f"ocpp{version}", 15_900)
        assert [each.state for each in depot.all(StatusChanged)] == [EvseState.PREPARING, EvseState.CHARGING]
        over = await depot.until_a(TransactionEnded)
        assert (over.evse, over.reason, over.register_wh) == (CP1, "EVDisconnected", 9000)
        assert {each.channel for each in depot.all(LinkUp)} == {f"ocpp{version}"}
    assert isinstance(depot.events[-1], LinkDown)
    assert server.version(STATION) is None


@BOTH
async def test_a_start_is_answered_only_after_the_commit(version: str) -> None:
    async with running() as (server, depot), station(server, version) as one:
        depot.commit.clear()
        await one.send([2, "start", "TransactionEvent", event("Started", 0, "Charging", **token())])
        await depot.until_a(TransactionStarted)
        await one.send([2, "beat", "Heartbeat", {}])
        await asyncio.sleep(0.05)
        assert one.replies == []
        depot.verdict = Verdict.BLOCKED
        depot.commit.set()
        assert (await one.reply_to("start"))[2] == {"idTokenInfo": {"status": "Blocked"}}


async def test_a_restart_of_the_station_in_a_session_loses_nothing() -> None:
    async with running() as (server, depot):
        async with station(server, "2.0.1") as one:
            await one.ask("TransactionEvent", event("Started", 0, "Charging", **token()))
        async with station(server, "2.0.1") as one:
            await boot(one)
            replay = {**event("Updated", 1, "Charging", **values(10, 500)), "offline": True}
            await one.ask("TransactionEvent", replay)
            assert depot.all(EvseSample) == []
            await one.ask("TransactionEvent", {**event("Updated", 2, "Charging", **values(10, 600))})
            await depot.until_a(EvseSample, register_wh=600)
        assert len(depot.all(TransactionStarted)) == 1
        assert not any("seqNo" in quirk for quirk in server.quirks(STATION))


# --- setup ----------------------------------------------------------------------------------------------------


@BOTH
async def test_setup_in_order(version: str) -> None:
    async with running() as (server, depot), station(server, version) as one:
        await settle(one)
        stored = await depot.until_a(FallbackStored)
        assert (stored.limit_ma, stored.channel) == (6_000, f"ocpp{version}")
        names = [name for name, _ in one.calls]
        assert names[0] == "SetChargingProfile"
        assert names[-1] == "TriggerMessage"
        assert names[1:4] == ["GetVariables"] * 3  # two about ItemsPerMessage, then pieces
        sets = [
            item
            for name, payload in one.calls
            if name == "SetVariables"
            for item in payload["setVariableData"]
        ]
        assert {item["variable"]["name"]: item["attributeValue"] for item in sets}["TxUpdatedInterval"] == "5"
        assert (await one.call_of("TriggerMessage"))["requestedMessage"] == "StatusNotification"


@BOTH
async def test_a_station_that_does_not_introduce_itself_is_asked_to(version: str) -> None:
    async with running() as (server, depot), station(server, version) as one:
        assert await one.call_of("TriggerMessage") == {"requestedMessage": "BootNotification"}
        await boot(one, "Triggered")
        await depot.until_a(StationBooted)


@BOTH
async def test_a_station_that_comes_back_without_a_reboot_is_set_up_as_soon_as_it_speaks(
    version: str,
) -> None:
    """2.x introduces itself once per boot, not once per connection."""
    async with running(settings(replace(QUICK, boot_s=60.0))) as (server, depot):
        async with station(server, version) as one:
            await settle(one)
        await depot.until_a(LinkDown)
        async with station(server, version) as one:
            server.send(a_limit("c1"))
            await one.ask("Heartbeat", {})
            await depot.until_a(CommandAccepted, command="c1")
            first = (await one.call_of("SetChargingProfile"))["chargingProfile"]
            assert first["chargingProfilePurpose"] == "TxDefaultProfile"
            assert "BootNotification" not in [payload.get("requestedMessage") for _, payload in one.calls]


async def test_a_stranger_that_speaks_before_its_boot_is_waited_for() -> None:
    async with running(settings(replace(QUICK, boot_s=60.0))) as (server, _), station(server, "2.1") as one:
        await one.ask("Heartbeat", {})
        await asyncio.sleep(0.05)
        assert one.calls == []
        await settle(one)


async def test_a_refused_fallback_is_a_fact_and_setup_goes_on() -> None:
    async with running() as (server, depot), station(server, "2.0.1") as one:
        one.answers["SetChargingProfile"] = {"status": "Rejected", "statusInfo": {"reasonCode": "TxNotFound"}}
        one.answers["GetVariables"] = ("InternalError", "")
        one.answers["SetVariables"] = ("NotSupported", "no")
        await settle(one)
        assert "Rejected" in (await depot.until_a(FallbackRefused)).reason


async def test_a_station_can_be_made_to_wait_once() -> None:
    async with running() as (server, depot), station(server, "2.0.1") as one:
        server.hold_boot(STATION)
        assert (await boot(one))["status"] == "Pending"
        refused = await one.ask("Heartbeat", {})
        assert (refused[0], refused[2]) == (4, "SecurityError")
        assert depot.all(StationBooted) == []
        assert (
            await server.request(STATION, "TriggerMessage", {"requestedMessage": "BootNotification"})
        ) == {"status": "Accepted"}
        assert (await boot(one, "Triggered"))["status"] == "Accepted"
        assert (await one.ask("Heartbeat", {}))[0] == 3
        await depot.until_a(FallbackStored)


# --- commands -------------------------------------------------------------------------------------------------


@BOTH
async def test_limit_start_and_stop(version: str) -> None:
    async with running() as (server, depot), station(server, version) as one:
        await settle(one)
        server.send(a_limit("c1", 16_050))
        await depot.until_a(CommandAccepted, command="c1")
        profile = (await one.call_of("SetChargingProfile", 2))["chargingProfile"]
        (schedule,) = profile["chargingSchedule"]
        assert (profile["chargingProfilePurpose"], profile["transactionId"]) == ("TxProfile", "tx-1")
        assert (profile["stackLevel"], schedule["chargingRateUnit"]) == (5, "A")
        assert schedule["chargingSchedulePeriod"] == [{"startPeriod": 0, "limit": 16.0}]
        assert (175 <= profile.get("maxOfflineDuration", 0) <= 180) is (version == "2.1")
        server.send(StartCharging("c2", CP1, "ocpp", None, 10_000))
        await depot.until_a(CommandAccepted, command="c2")
        request = await one.call_of("RequestStartTransaction")
        assert request["idToken"] == {"idToken": "", "type": "NoAuthorization"}
        server.send(StopCharging("c3", CP1, "ocpp", "tx-1", "operator"))
        await depot.until_a(CommandAccepted, command="c3")
        assert await one.call_of("RequestStopTransaction") == {"transactionId": "tx-1"}


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        ({"status": "Rejected", "statusInfo": {"reasonCode": "InvalidProfile"}}, CommandRefused),
        (("NotImplemented", ""), CommandRefused),
        (("InternalError", ""), CommandLost),
        ({"status": "Perhaps"}, CommandLost),
        (None, CommandLost),
    ],
)
async def test_what_became_of_a_limit(answer: Any, outcome: type) -> None:
    async with running() as (server, depot), station(server, "2.1") as one:
        await settle(one)
        one.answers["SetChargingProfile"] = answer
        server.send(a_limit("c1"))
        await depot.until(lambda each: isinstance(each, outcome) and each.command == "c1")


async def test_discharge_needs_2_1_and_a_transaction() -> None:
    discharge = StartDischarge("c1", CP1, "ocpp", 5_000, 600.0, 40)
    async with running() as (server, depot):
        async with station(server, "2.0.1") as one:
            await settle(one)
            server.send(discharge)
            assert "2.0.1 has no word" in (await depot.until_a(CommandRefused, command="c1")).reason
        await depot.until_a(LinkDown)
        async with station(server, "2.1") as one:
            await settle(one)
            await one.ask("TransactionEvent", event("Started", 0, "Charging", "v2g-1", **token()))
            server.send(StartDischarge("c2", CP1, "ocpp", 5_000, 600.0, 40))
            await depot.until_a(CommandAccepted, command="c2")
            profile = (await one.call_of("SetChargingProfile", 2))["chargingProfile"]
            (period,) = profile["chargingSchedule"][0]["chargingSchedulePeriod"]
            assert profile["transactionId"] == "v2g-1"
            assert (period["operationMode"], period["setpoint"]) == ("CentralSetpoint", -5000.0)
            assert profile["maxOfflineDuration"] == 60, "its floor is watched from here"


async def test_the_depot_hears_what_the_station_can_feed_back() -> None:
    async with running() as (server, depot):
        async with station(server, "2.0.1") as one:
            await settle(one)
        await depot.until_a(LinkDown)
        assert depot.all(DischargeOffered) == [], "2.0.1 has no word for it"
        async with station(server, "2.1") as one:
            await settle(one)
            assert await depot.until_a(DischargeOffered) == DischargeOffered(CP1, "ocpp2.1")


async def test_a_limit_withdraws_the_discharge_that_it_would_overtake() -> None:
    async with running() as (server, depot), station(server, "2.1") as one:
        await settle(one)
        await one.ask("TransactionEvent", event("Started", 0, "Charging", "v2g-1", **token()))
        server.send(StartDischarge("c1", CP1, "ocpp", 5_000, 600.0, 40))
        server.send(a_limit("c2", 0, "v2g-1"))
        await depot.until_a(CommandReplaced, command="c1")
        await depot.until_a(CommandAccepted, command="c2")
        profiles = [payload for action, payload in one.calls if action == "SetChargingProfile"]
        assert "setpoint" not in str(profiles)


async def test_raw_requests() -> None:
    async with running() as (server, _):
        with pytest.raises(Unreachable, match="CP1 is not connected"):
            await server.request(STATION, "Reset", {"type": "OnIdle"})
        async with station(server, "2.0.1") as one:
            await settle(one)
            assert await server.request(STATION, "Reset", {"type": "OnIdle"}) == {"status": "Accepted"}
            assert await one.call_of("Reset") == {"type": "OnIdle"}
            for action, payload in (
                ("Reset", {"type": "Hard"}),
                ("Reset", {}),
                ("RemoteStartTransaction", {}),
            ):
                with pytest.raises(Misconfigured):
                    await server.request(STATION, action, payload)
            one.answers["Reset"] = ("NotSupported", "not today")
            with pytest.raises(Refused, match="NotSupported: not today"):
                await server.request(STATION, "Reset", {"type": "OnIdle"})
            one.answers["Reset"] = None
            with pytest.raises(Unreachable, match=r"within 0\.1 s"):
                await server.request(STATION, "Reset", {"type": "OnIdle"}, 0.1)
            waiting = asyncio.create_task(server.request(STATION, "Reset", {"type": "OnIdle"}, 20))
            await one.call_of("Reset", 4)
        with pytest.raises(Unreachable):
            await waiting


async def test_raw_requests_speak_the_words_of_the_station() -> None:
    async with running() as (server, _), peer(server) as one:
        assert server.version(STATION) == "1.6"
        one.answers["Reset"] = {"status": "Accepted"}
        assert await server.request(STATION, "Reset", {"type": "Hard"}) == {"status": "Accepted"}


# --- versions -------------------------------------------------------------------------------------------------


async def test_a_station_that_comes_back_with_another_version_is_met_anew() -> None:
    async with running() as (server, depot):
        async with peer(server) as old:
            old.answers["GetConfiguration"] = {
                "configurationKey": [{"key": "ChargeProfileMaxStackLevel", "readonly": True, "value": "0"}]
            }
            await old.boot_and_settle()
            assert any("one stack level" in quirk for quirk in server.quirks(STATION))
        async with station(server, "2.0.1", subprotocols=["ocpp1.6", "ocpp2.0.1"]) as new:
            assert new.socket.subprotocol == "ocpp2.0.1"
            assert server.quirks(STATION) == {}  # what it said in the older words counts no more
            await settle(new)
            server.send(a_limit("c1", transaction=None))
            await depot.until_a(CommandAccepted, command="c1")
        async with peer(server) as back:
            await back.boot_and_settle()
            server.send(a_limit("c2", transaction="7"))
            await depot.until_a(CommandAccepted, command="c2")
            assert (await back.call_of("SetChargingProfile", 2))["csChargingProfiles"]["transactionId"] == 7
        ups = [each.channel for each in depot.all(LinkUp)]
        assert ups == ["ocpp1.6", "ocpp2.0.1", "ocpp1.6"]
        texts = [frame.text for frame in server.frames(STATION)]
        assert any("chargePointModel" in text for text in texts)  # people still read what went before


async def test_a_pinned_version_is_the_only_one() -> None:
    config = settings(CP1=a_station("CP1", version="1.6"), CP2=a_station("CP2", version="2.1"))
    async with running(config) as (server, _):
        async with peer(server, subprotocols=["ocpp2.1", "ocpp2.0.1", "ocpp1.6"]) as one:
            assert one.socket.subprotocol == "ocpp1.6"
        with pytest.raises(InvalidStatus) as caught:
            async with peer(server, "CP2", subprotocols=["ocpp2.0.1", "ocpp1.6"]):
                raise AssertionError("was let in")
        assert b"ocpp2.1" in caught.value.response.body


# --- hostile --------------------------------------------------------------------------------------------------

ANSWERED = [
    ('[2,"x",[],{}]', "x", "FormatViolation"),
    ('[2,"x","Heartbeat",[]]', "x", "FormatViolation"),
    ('[2,"x","Heartbeat"]', "x", "RpcFrameworkError"),
    ('[2,"x","Heartbeat",{"a":NaN}]', "x", "FormatViolation"),
    ('[2,"x","StartTransaction",{}]', "x", "NotImplemented"),
    ('[2,"x","Reset",{}]', "x", "NotSupported"),
    ('[2,"x","StatusNotification",{}]', "x", "OccurrenceConstraintViolation"),
    ('[2,"x","StatusNotification",{"evseId":"one"}]', "x", "TypeConstraintViolation"),
    ('[2,"x","Authorize",{}]', "x", "OccurrenceConstraintViolation"),
    ("not json", "-1", "RpcFrameworkError"),
    ("{}", "-1", "RpcFrameworkError"),
    ('[2,null,"Heartbeat",{}]', "-1", "RpcFrameworkError"),
    ('[2,"' + "i" * 40 + '","Heartbeat",{}]', "-1", "RpcFrameworkError"),
    ('[7,"x","Heartbeat",{}]', "-1", "RpcFrameworkError"),
]


@BOTH
async def test_a_bad_call_gets_its_error(version: str, caplog: pytest.LogCaptureFixture) -> None:
    async with running() as (server, _), station(server, version) as one:
        for frame, message_id, code in ANSWERED:
            one.replies.clear()
            await one.send(frame)
            reply = await one.reply_to(message_id)
            assert (reply[0], reply[2], len(reply)) == (4, code, 5), frame
        assert (await one.ask("Heartbeat", {}))[0] == 3
    assert not any(record.exc_info or record.levelno >= logging.ERROR for record in caplog.records)


async def test_streams_and_errors_about_our_answers_are_not_answered() -> None:
    async with running() as (server, _), station(server, "2.1") as one:
        for frame in (
            [6, "x", "NotifyPeriodicEventStream", {"id": 1, "pending": 0, "data": []}],
            [5, "x", "FormatViolation", "your answer", {}],
            [6, "x"],
            [5, "x", 7, {}],
        ):
            for _ in range(10):
                await one.send(frame)
        assert (await one.ask("Heartbeat", {}))[0] == 3
        assert len(one.replies) == 1


SACRED = [
    {},
    {"eventType": "Started"},
    {"eventType": 7, "seqNo": "x", "transactionInfo": []},
    {"eventType": "Ended", "transactionInfo": {"transactionId": "t" * 500}},
    {**event("Started", 0, "Charging"), "evse": {"id": 99}},
    {**event("Started", 0, "Charging"), "idToken": "04A2"},
    {**event("Updated", -3, "Sleeping"), "timestamp": "tomorrow", "meterValue": "no"},
    {**event("Updated", 1, "Charging"), "meterValue": [{"sampledValue": [{"value": "1e999"}, None]}]},
]


@pytest.mark.parametrize("payload", SACRED, ids=range(len(SACRED)))
async def test_any_transaction_event_is_taken(
    payload: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    async with running() as (server, _), station(server, "2.0.1", "CP2") as one:
        assert (await one.ask("TransactionEvent", payload))[0] == 3
        assert (await one.ask("MeterValues", payload))[0] == 3
    assert not any(record.exc_info or record.levelno >= logging.ERROR for record in caplog.records)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
ACTIONS = st.sampled_from(
    ["TransactionEvent", "StatusNotification", "Authorize", "BootNotification", "NotifyEvent"]
)
FIELDS = st.sampled_from(["evseId", "evse", "idToken", "transactionInfo", "eventType", "seqNo", "meterValue"])
FRAMES = (
    st.tuples(st.integers(0, 8) | JSON, st.text(max_size=3) | JSON, ACTIONS | JSON,
              st.dictionaries(FIELDS, JSON, max_size=4) | JSON).map(list)
    | st.lists(JSON, max_size=5)
    | JSON
).map(lambda frame: json.dumps(frame)) | st.text(alphabet='[]{}",:\\0123456789.eE-ud8', max_size=60)  # fmt: skip


@BOTH
def test_no_frame_ends_anything_but_its_own_connection(version: str) -> None:
    """Fuzz: whatever comes, the server lives, no traceback is logged, and the next connection is served."""

    @given(frames=st.lists(FRAMES, min_size=18, max_size=40))
    @drawing(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
    def fuzz(frames: list[str]) -> None:
        asyncio.run(attack(frames))

    async def attack(frames: list[str]) -> None:
        async with running(settings(QUICK)) as (server, depot):
            async with station(server, version) as one:
                with contextlib.suppress(ConnectionClosed):
                    for frame in frames:
                        await one.send(frame)
                    heard = asyncio.create_task(one.ask("Heartbeat", {}))
                    hung_up = asyncio.create_task(one.socket.wait_closed())
                    await asyncio.wait({heard, hung_up}, timeout=5, return_when=asyncio.FIRST_COMPLETED)
                    assert heard.done() or hung_up.done()
                    for task in (heard, hung_up):
                        task.cancel()
                    await asyncio.gather(heard, hung_up, return_exceptions=True)
            async with station(server, version) as one:
                assert (await one.ask("Heartbeat", {}))[0] == 3
            assert_sane(depot)

    def assert_sane(depot: Depot) -> None:
        for started in depot.all(TransactionStarted):
            assert started.evse in (CP1,)
            assert len(started.transaction) <= 36

    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign]
    logging.getLogger("drivers").addHandler(handler)
    try:
        fuzz()
    finally:
        logging.getLogger("drivers").removeHandler(handler)
    assert not any(record.exc_info or record.levelno >= logging.ERROR for record in records)
