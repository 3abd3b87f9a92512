"""A station on the wire: full session, setup order, commands, priorities, silence, double connections."""

from __future__ import annotations

import asyncio
import socket as sockets
import time
from datetime import datetime
from typing import Any

import pytest
from ocpp_peer import (
    MAXIMUM,
    QUICK,
    Depot,
    a_station,
    now_text,
    peer,
    running,
    settings,
)

from controller.clock import SystemClock
from controller.core.commands import SetLimit, StartCharging, StopCharging
from controller.core.events import (
    AccessRefused,
    CommandAccepted,
    CommandLost,
    CommandRefused,
    CommandReplaced,
    CommandSent,
    EvseSample,
    FallbackRefused,
    FallbackStored,
    LinkDown,
    LinkUp,
    StationBooted,
    StatusChanged,
    TokenPresented,
    TransactionEnded,
    TransactionStarted,
)
from controller.core.model import EvseId, PerPhase, StationId, Verdict, evse_id
from drivers.errors import Misconfigured
from drivers.ocpp.server import OcppServer, OcppSettings, Patience

CP1 = evse_id("CP1", 1)


def limit(id: str, ma: int, evse: str = CP1, transaction: str | None = None) -> SetLimit:
    return SetLimit(id, EvseId(evse), "ocpp1.6", ma, 180.0, transaction)


def start(id: str) -> StartCharging:
    return StartCharging(id, CP1, "ocpp1.6", None, 10_000)


def stop(id: str, transaction: str | None = "1001") -> StopCharging:
    return StopCharging(id, CP1, "ocpp1.6", transaction, "operator")


def last_words(depot: Depot, command: str) -> list[type]:
    return [type(event) for event in depot.events if getattr(event, "command", None) == command]


async def test_full_session_reaches_the_depot_in_order() -> None:
    async with running() as (server, depot), peer(server) as station:
        booted = await station.boot()
        assert booted["status"] == "Accepted"
        assert booted["interval"] == 60
        assert abs(time.time() - _seconds(booted["currentTime"])) < 5
        await station.ask(
            "StatusNotification", {"connectorId": 1, "status": "Preparing", "errorCode": "NoError"}
        )
        reply = await station.ask("Authorize", {"idTag": "04A2B3C4"})
        assert reply[2] == {"idTagInfo": {"status": "Accepted"}}
        reply = await station.ask(
            "StartTransaction",
            {"connectorId": 1, "idTag": "04A2B3C4", "meterStart": 1200, "timestamp": now_text()},
        )
        assert reply[2] == {"transactionId": 1001, "idTagInfo": {"status": "Accepted"}}
        values = [
            {"value": "15.9", "measurand": "Current.Import", "phase": f"L{n}", "unit": "A"} for n in (1, 2, 3)
        ]
        values.append({"value": "11.0", "measurand": "Power.Active.Import", "unit": "kW"})
        values.append({"value": "1500", "measurand": "Energy.Active.Import.Register", "unit": "Wh"})
        reply = await station.ask(
            "MeterValues",
            {
                "connectorId": 1,
                "transactionId": 1001,
                "meterValue": [{"timestamp": now_text(), "sampledValue": values}],
            },
        )
        assert reply[2] == {}
        reply = await station.ask(
            "StopTransaction",
            {"transactionId": 1001, "meterStop": 9000, "timestamp": now_text(), "reason": "EVDisconnected"},
        )
        assert reply[2] == {}
        told = [event for event in depot.events if not isinstance(event, FallbackStored)]
        assert [type(event) for event in told] == [
            LinkUp,
            StationBooted,
            StatusChanged,
            TokenPresented,
            TransactionStarted,
            EvseSample,
            TransactionEnded,
        ]
        sample = depot.all(EvseSample)[0]
        assert sample.current_ma == PerPhase(15_900, 15_900, 15_900)
        assert (sample.power_w, sample.register_wh) == (11_000, 1500)
        ended = depot.all(TransactionEnded)[0]
        assert (ended.evse, ended.transaction, ended.register_wh) == (CP1, "1001", 9000)
    assert isinstance(depot.events[-1], LinkDown)


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


async def test_a_transaction_is_answered_only_after_the_commit() -> None:
    async with running() as (server, depot), peer(server) as station:
        depot.commit.clear()
        frame = {"connectorId": 1, "idTag": "A", "meterStart": 0, "timestamp": now_text()}
        await station.send([2, "start", "StartTransaction", frame])
        await depot.until_a(TransactionStarted)
        await station.send([2, "beat", "Heartbeat", {}])
        await asyncio.sleep(0.05)
        assert station.replies == []  # and what comes behind it waits: order is kept
        depot.commit.set()
        await station.reply_to("beat")
        assert [reply[1] for reply in station.replies] == ["start", "beat"]


async def test_a_fact_that_cannot_be_committed_is_not_acknowledged() -> None:
    server = OcppServer(settings(), SystemClock())
    depot = Depot()

    async def broken(event: Any) -> Any:
        if isinstance(event, TransactionEnded | StationBooted):
            raise RuntimeError("disk full")
        return await depot.report(event)

    task = asyncio.create_task(server.run(broken))
    await server.ready()
    try:
        async with peer(server) as station:
            await station.send([2, "s", "StopTransaction", {"transactionId": 7, "meterStop": 1}])
            reply = await station.ask("BootNotification", {"chargePointVendor": "A", "chargePointModel": "B"})
            assert reply[0] == 4
            assert reply[2] == "InternalError"
            assert [frame[1] for frame in station.replies] == [reply[1]]
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_the_verdict_reaches_the_station() -> None:
    async with running() as (server, depot), peer(server) as station:
        depot.verdict = Verdict.BLOCKED
        reply = await station.ask("Authorize", {"idTag": "stolen"})
        assert reply[2] == {"idTagInfo": {"status": "Blocked"}}


# --- setup ----------------------------------------------------------------------------------------------------


async def test_the_fallback_is_stored_first_and_lasts() -> None:
    async with running() as (server, depot), peer(server, "CP2") as station:
        await station.boot()
        await depot.until_a(FallbackStored, evse=evse_id("CP2", 2), limit_ma=6000)
        first, second = station.calls[:2]
        assert [first[0], second[0]] == ["SetChargingProfile"] * 2
        assert [first[1]["connectorId"], second[1]["connectorId"]] == [1, 2]
        profile = first[1]["csChargingProfiles"]
        assert (profile["chargingProfilePurpose"], profile["stackLevel"]) == ("TxDefaultProfile", 0)
        assert not {"validFrom", "validTo"} & set(profile)
        assert "duration" not in profile["chargingSchedule"]
        assert profile["chargingSchedule"]["chargingSchedulePeriod"] == [{"startPeriod": 0, "limit": 6.0}]


async def test_nothing_is_asked_before_the_boot_is_answered() -> None:
    async with running() as (server, _), peer(server) as station:
        await station.boot()
        await station.call_of("SetChargingProfile")
        log = server.frames(StationId("CP1"))
        kinds = [frame.text[:2] for frame in log if frame.sent]
        assert kinds[0] == "[3"


async def test_a_station_that_does_not_introduce_itself_is_asked_to() -> None:
    async with running() as (server, depot), peer(server) as station:
        trigger = await station.call_of("TriggerMessage")
        assert trigger == {"requestedMessage": "BootNotification"}
        assert station.calls[0][0] == "SetChargingProfile"
        await station.boot()
        await depot.until_a(StationBooted)
        await station.call_of("TriggerMessage", 2)
        fallbacks = [payload for name, payload in station.calls if name == "SetChargingProfile"]
        assert len(fallbacks) == 1  # the boot we asked for does not start setup again


async def test_setup_starts_again_with_every_boot() -> None:
    async with running() as (server, _), peer(server) as station:
        await station.boot()
        await station.call_of("SetChargingProfile", 1)
        await station.boot()
        await station.call_of("SetChargingProfile", 2)


async def test_setup_writes_only_what_differs() -> None:
    async with running() as (server, _), peer(server) as station:
        station.answers["GetConfiguration"] = {
            "configurationKey": [
                {"key": "metervaluesampleinterval", "readonly": False, "value": "5"},
                {"key": "HeartbeatInterval", "readonly": False, "value": "300"},
                {"key": "AuthorizeRemoteTxRequests", "readonly": False, "value": "true"},
            ]
        }
        station.answers["ChangeConfiguration"] = lambda payload: {
            "status": "Rejected" if "SoC" in payload["value"] else "Accepted"
        }
        await station.boot_and_settle()
        written = [(p["key"], p["value"]) for name, p in station.calls if name == "ChangeConfiguration"]
        assert written == [
            ("HeartbeatInterval", "60"),
            ("AuthorizeRemoteTxRequests", "false"),
            (
                "MeterValuesSampledData",
                "Current.Import,Power.Active.Import,Energy.Active.Import.Register,Current.Offered,SoC",
            ),
            ("MeterValuesSampledData", "Current.Import,Power.Active.Import,Energy.Active.Import.Register"),
        ]


async def test_a_refused_fallback_is_a_fact_and_setup_goes_on() -> None:
    async with running() as (server, depot), peer(server) as station:
        station.answers["SetChargingProfile"] = {"status": "NotSupported"}
        station.answers["GetConfiguration"] = ("NotImplemented", "")
        station.answers["ChangeConfiguration"] = ("InternalError", "no")
        await station.boot_and_settle()
        refused = await depot.until_a(FallbackRefused, evse=CP1)
        assert "NotSupported" in refused.reason


async def test_a_station_in_watts_gets_its_fallback_in_watts() -> None:
    async with running() as (server, depot), peer(server) as station:
        station.answers["SetChargingProfile"] = lambda payload: {
            "status": "Accepted"
            if payload["csChargingProfiles"]["chargingSchedule"]["chargingRateUnit"] == "W"
            else "Rejected"
        }
        station.answers["GetConfiguration"] = {
            "configurationKey": [
                {"key": "ChargingScheduleAllowedChargingRateUnit", "readonly": True, "value": "Power"}
            ]
        }
        await station.boot_and_settle()
        await depot.until_a(FallbackStored, evse=CP1)
        assert [type(e) for e in depot.events if isinstance(e, FallbackRefused | FallbackStored)] == [
            FallbackRefused,
            FallbackStored,
        ]
        period = (await station.call_of("SetChargingProfile", 2))["csChargingProfiles"]["chargingSchedule"]
        assert period["chargingSchedulePeriod"][0]["limit"] == 4140.0


async def test_commands_wait_until_the_fallbacks_were_offered() -> None:
    async with running() as (server, depot), peer(server, "CP2") as station:
        await depot.until_a(LinkUp)
        server.send(limit("c1", 9000, "CP2/1"))
        await station.boot()
        await depot.until_a(CommandAccepted, command="c1")
        profiles = [payload["csChargingProfiles"] for _, payload in station.calls[:3]]
        assert [profile["chargingProfileId"] for profile in profiles] == [11, 21, 12]


async def test_a_fallback_without_any_answer_counts_as_refused_in_the_end() -> None:
    patience = Patience(safety_s=0.2, housekeeping_s=30.0, boot_s=5.0, ping_s=5.0, takeover_s=0.3)
    async with running(settings(patience)) as (server, depot), peer(server) as station:
        station.answers["SetChargingProfile"] = None
        await station.boot()
        refused = await depot.until_a(FallbackRefused, evse=CP1)
        assert "no answer" in refused.reason
        assert len([1 for name, _ in station.calls if name == "SetChargingProfile"]) == 2


# --- commands -------------------------------------------------------------------------------------------------


async def test_a_limit_of_a_transaction_is_leased() -> None:
    async with running() as (server, depot), peer(server) as station:
        station.answers["GetConfiguration"] = {
            "configurationKey": [{"key": "ChargeProfileMaxStackLevel", "readonly": True, "value": "8"}]
        }
        await station.boot_and_settle()
        server.send(limit("c1", 16_050, transaction="1001"))
        await depot.until_a(CommandAccepted, command="c1")
        profile = (await station.call_of("SetChargingProfile", 2))["csChargingProfiles"]
        schedule = profile["chargingSchedule"]
        assert profile["chargingProfilePurpose"] == "TxProfile"
        assert profile["transactionId"] == 1001
        assert profile["stackLevel"] == 8
        assert profile["chargingProfileKind"] == "Absolute"
        assert (
            238 <= schedule["duration"] <= 240
        )  # whole seconds of what is left of 180 s, and 60 s before now
        assert schedule["chargingSchedulePeriod"] == [{"startPeriod": 0, "limit": 16.0}]
        assert _seconds(profile["validTo"]) - _seconds(profile["validFrom"]) == schedule["duration"]
        assert 58 <= time.time() - _seconds(schedule["startSchedule"]) <= 63
        assert last_words(depot, "c1") == [CommandSent, CommandAccepted]


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        ({"status": "Accepted"}, CommandAccepted),
        ({"status": "Rejected"}, CommandRefused),
        (("NotImplemented", ""), CommandRefused),
        (("InternalError", "perhaps"), CommandLost),
        ({"status": "Perhaps"}, CommandLost),
        ({}, CommandLost),
        (None, CommandLost),
    ],
)
async def test_what_became_of_a_limit(answer: Any, outcome: type) -> None:
    async with running() as (server, depot), peer(server) as station:
        await station.boot_and_settle()
        station.answers["SetChargingProfile"] = answer
        server.send(limit("c1", 10_000))
        await depot.until(lambda event: isinstance(event, outcome) and event.command == "c1")
        assert last_words(depot, "c1") == [CommandSent, outcome]


async def test_start_and_stop() -> None:
    async with running() as (server, depot), peer(server) as station:
        await station.boot_and_settle()
        server.send(start("c1"))
        await depot.until_a(CommandAccepted, command="c1")
        request = await station.call_of("RemoteStartTransaction")
        assert (request["connectorId"], request["idTag"]) == (1, "DEPOT")
        first = request["chargingProfile"]
        assert first["chargingProfilePurpose"] == "TxProfile"
        assert "transactionId" not in first
        assert first["chargingSchedule"]["chargingSchedulePeriod"][0]["limit"] == 10.0
        server.send(stop("c2"))
        await depot.until_a(CommandAccepted, command="c2")
        assert await station.call_of("RemoteStopTransaction") == {"transactionId": 1001}
        server.send(stop("c3", transaction=None))
        refused = await depot.until_a(CommandRefused, command="c3")
        assert refused.reason == "no running transaction is known"
        assert last_words(depot, "c3") == [CommandRefused]


async def test_commands_without_a_link_are_refused() -> None:
    async with running() as (server, depot):
        server.send(limit("c1", 6000))
        assert (await depot.until_a(CommandRefused, command="c1")).reason == "not connected"
        server.send(limit("c2", 6000, "NOBODY/1"))
        await depot.until_a(CommandRefused, command="c2")


async def test_an_evse_that_is_not_configured_is_refused() -> None:
    async with running() as (server, depot), peer(server) as station:
        await station.boot_and_settle()
        server.send(limit("c1", 6000, "CP1/9"))
        assert "not configured" in (await depot.until_a(CommandRefused, command="c1")).reason


async def test_the_newest_limit_replaces_an_unsent_one_and_never_a_stop() -> None:
    async with running(settings(QUICK, CP1=a_station("CP1"))) as (server, depot), peer(server) as station:
        await station.boot_and_settle()
        station.answers["SetChargingProfile"] = None
        server.send(limit("first", 20_000))
        await depot.until_a(CommandSent, command="first")  # mute: the turn is taken for a while
        station.answers["SetChargingProfile"] = {"status": "Accepted"}
        server.send(start("start"))
        server.send(limit("old", 18_000))
        server.send(stop("stop"))
        server.send(limit("new", 8_000))
        await depot.until_a(CommandAccepted, command="start")
        assert last_words(depot, "first") == [CommandSent, CommandLost]
        assert last_words(depot, "old") == [CommandReplaced]
        order = [event.command for event in depot.all(CommandSent)]
        assert order == ["first", "stop", "new", "start"]


async def test_a_lease_runs_from_the_decision_and_not_from_when_its_turn_came() -> None:
    # the mute call holds the turn for 0.4 s, which is 40 s of this clock
    async with running(settings(QUICK), speed=100.0) as (server, depot), peer(server) as station:
        await station.boot_and_settle()
        before = sum(action == "SetChargingProfile" for action, _ in station.calls)
        station.answers["SetChargingProfile"] = None
        server.send(limit("mute", 20_000))
        await depot.until_a(CommandSent, command="mute")
        server.send(limit("waited", 8_000))
        await depot.until_a(CommandLost, command="mute")
        calls = [await station.call_of("SetChargingProfile", before + n) for n in (1, 2)]
        first_s, second_s = (call["csChargingProfiles"]["chargingSchedule"]["duration"] for call in calls)
        assert 220 < first_s <= 240  # the lease of 180 s, and 60 s before now where it starts
        assert second_s <= first_s - 30


async def test_a_limit_whose_lease_ran_out_while_it_waited_is_not_sent() -> None:
    async with running(settings(QUICK), speed=1000.0) as (server, depot), peer(server) as station:
        await station.boot_and_settle()
        station.answers["SetChargingProfile"] = None
        server.send(limit("mute", 20_000))
        await depot.until_a(CommandSent, command="mute")
        server.send(limit("waited", 8_000))
        assert "lease ran out" in (await depot.until_a(CommandRefused, command="waited")).reason


async def test_safety_goes_before_housekeeping_and_cuts_its_patience() -> None:
    patience = Patience(safety_s=0.2, housekeeping_s=30.0, boot_s=5.0, ping_s=5.0, takeover_s=0.3)
    async with running(settings(patience)) as (server, depot), peer(server) as station:
        station.answers["GetConfiguration"] = None
        await station.boot()
        await station.call_of("GetConfiguration")  # housekeeping holds the turn for up to 30 s
        began_s = time.monotonic()
        server.send(limit("c1", 8000))
        await depot.until_a(CommandAccepted, command="c1")
        assert time.monotonic() - began_s < 2.0
        assert station.calls[2][0] == "SetChargingProfile"  # not the next question of setup


async def test_a_mute_station_does_not_delay_another() -> None:
    patience = Patience(safety_s=20.0, housekeeping_s=30.0, boot_s=5.0, ping_s=5.0, takeover_s=0.3)
    async with (
        running(settings(patience)) as (server, depot),
        peer(server, "CP1") as mute,
        peer(server, "CP2") as lively,
    ):
        mute.answers["SetChargingProfile"] = None
        await mute.boot()
        await lively.boot_and_settle(evses=2)
        server.send(limit("mute", 8000))
        server.send(limit("lively", 8000, "CP2/2"))
        await depot.until_a(CommandAccepted, command="lively")
        assert last_words(depot, "mute") == []


async def test_everything_pending_fails_at_once_when_the_link_goes() -> None:
    patience = Patience(safety_s=20.0, housekeeping_s=30.0, boot_s=5.0, ping_s=5.0, takeover_s=0.3)
    async with running(settings(patience)) as (server, depot):
        async with peer(server) as station:
            await station.boot_and_settle()
            station.answers["SetChargingProfile"] = None
            server.send(limit("sent", 8000))
            await depot.until_a(CommandSent, command="sent")
            server.send(stop("waiting"))
        began_s = time.monotonic()
        await depot.until_a(CommandLost, command="sent")
        await depot.until_a(CommandRefused, command="waiting")
        assert time.monotonic() - began_s < 2.0


async def test_three_calls_without_an_answer_end_the_connection() -> None:
    async with running() as (server, depot), peer(server) as station:
        await station.boot_and_settle()
        station.answers["SetChargingProfile"] = None
        for number in range(3):
            server.send(limit(f"c{number}", 8000 + number))
            await depot.until_a(CommandLost, command=f"c{number}")
        assert await station.closed() == 1011
        assert (await depot.until_a(LinkDown)).reason == "no answers"


async def test_a_call_while_ours_is_open_is_answered_all_the_same() -> None:
    async with running() as (server, _), peer(server) as station:
        station.answers["SetChargingProfile"] = None
        await station.boot()
        await station.call_of("SetChargingProfile")
        assert (await station.ask("Heartbeat", {}))[0] == 3


# --- liveness and double connections --------------------------------------------------------------------------


async def test_a_station_that_stops_answering_pings_is_hung_up_on() -> None:
    patience = Patience(safety_s=1.0, housekeeping_s=2.0, boot_s=5.0, ping_s=0.15, takeover_s=0.3)
    async with running(settings(patience)) as (server, depot), peer(server, max_queue=1) as station:
        await station.boot()
        await asyncio.sleep(0.4)  # has answered at least one ping by now
        station.socket.transport.pause_reading()
        down = await depot.until_a(LinkDown)
        assert down.reason == "no sign of life"
        station.socket.transport.resume_reading()


async def test_the_same_box_again_replaces_its_older_connection() -> None:
    async with running() as (server, depot), peer(server) as first:
        await first.boot()
        async with peer(server) as second:
            await second.boot()
            assert await first.closed() == 1001
            links = [type(event) for event in depot.events if isinstance(event, LinkUp | LinkDown)]
            assert links == [LinkUp, LinkDown, LinkUp]
            assert (await second.ask("Heartbeat", {}))[0] == 3


async def test_a_living_connection_is_not_taken_over_from_elsewhere() -> None:
    async with running() as (server, depot), peer(server) as first:
        await first.boot()
        async with peer(server, local_addr=("127.0.0.2", 0)) as second:
            assert await second.closed() == 1008
        refused = await depot.until_a(AccessRefused)
        assert (refused.identity, refused.peer) == ("CP1", "127.0.0.2")
        assert (await first.ask("Heartbeat", {}))[0] == 3
        assert depot.all(LinkDown) == []


async def test_a_dead_connection_is_taken_over_from_elsewhere() -> None:
    async with running() as (server, depot), peer(server) as first:
        await first.boot()
        first.socket.transport.pause_reading()
        async with peer(server, local_addr=("127.0.0.2", 0)) as second:
            await second.boot()
            assert (await second.ask("Heartbeat", {}))[0] == 3
        ups = depot.all(LinkUp)
        assert [up.peer for up in ups] == ["127.0.0.1", "127.0.0.2"]
        first.socket.transport.resume_reading()


async def test_a_taken_port_is_one_line_for_people() -> None:
    with sockets.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = OcppServer(OcppSettings("127.0.0.1", port, {}), SystemClock())
        with pytest.raises(Misconfigured, match=rf"OCPP cannot listen on 127\.0\.0\.1:{port}: "):
            await server.run(Depot().report)
        with pytest.raises(Misconfigured):
            await server.ready()


async def test_the_server_ends_soon_with_a_peer_that_does_not_read() -> None:
    server, depot = OcppServer(settings(), SystemClock()), Depot()
    task = asyncio.create_task(server.run(depot.report))
    await server.ready()
    async with peer(server) as station:
        await station.boot()
        station.socket.transport.pause_reading()
        task.cancel()
        await asyncio.wait({task}, timeout=4.0)
        assert task.cancelled()
        assert (await depot.until_a(LinkDown)).reason == "the controller stops"
        station.socket.transport.resume_reading()


async def test_frames_are_kept_without_secrets() -> None:
    async with running() as (server, _), peer(server) as station:
        await station.ask("Authorize", {"idTag": "04A2B3C4D5"})
        await station.ask("DataTransfer", {"vendorId": "x", "data": "ftp://user:hunter2@host/x"})
        texts = [frame.text for frame in server.frames(StationId("CP1"))]
        assert any('"idTag":"…C4D5"' in text.replace(": ", ":") for text in texts)
        assert not any("04A2B3" in text or "hunter2" in text for text in texts)
        assert server.frames(StationId("NOBODY")) == ()


async def test_the_station_is_bounded_as_a_whole_once_per_boot() -> None:
    two = settings(CP1=a_station("CP1", evses=2))
    async with running(two) as (server, _), peer(server) as station:
        await station.boot_and_settle()
        told = await station.call_of(MAXIMUM)
        profile = told["csChargingProfiles"]
        assert (told["connectorId"], profile["chargingProfilePurpose"], profile["stackLevel"]) == (
            0,
            "ChargePointMaxProfile",
            0,
        )
        (period,) = profile["chargingSchedule"]["chargingSchedulePeriod"]
        assert period["limit"] == 64.0, "both EVSEs at their maximum"
        assert "duration" not in profile["chargingSchedule"], "it has no end"
