"""The charger surface of the on-site host over real HTTP: admission, commands, what happens when answers get lost.

This file is long because the charger surface is told operation by operation on one bench.
"""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from onsite_devices_bench import (
    ALL,
    LINK,
    Bench,
    HandClock,
    Heard,
    Peer,
    discharge,
    limit,
    onsite,
    some_settings,
    start,
    stop,
)

from controller.core import events as ev
from controller.core.commands import DropSchedule, StoreSchedule
from controller.core.model import EvseId, EvseState, Schedule, ScheduleType, SlotAction, TimeSlot
from drivers.errors import Misconfigured
from drivers.ocpp.ca import Authority
from drivers.openplatform import devices_gate
from drivers.openplatform.onsite import CHANNEL, OnsiteHost


@pytest.fixture(autouse=True)
def no_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices_gate, "REFUSE_AFTER_S", 0.02)


# --- who may ------------------------------------------------------------------------------------------------------


async def test_an_announced_charger_registers_once_and_comes_up(tmp_path: Path) -> None:
    async with onsite(tmp_path) as b:
        peer = Peer(b, "TP-1")
        status, answer = await peer.register()
        assert (status, answer["code"]) == (200, 0) and answer["data"]["expires_in"] > 86400
        status, answer = await peer.login()
        assert status == 200 and answer["token_type"] == "Bearer" and answer["expires_in"] == 86400
        assert not b.heard.of(ev.LinkUp)
        assert await peer.heartbeat() == (200, {"code": 0, "message": "success", "data": {"commands": []}})
        assert [(e.station, e.channel) for e in b.heard.of(ev.LinkUp)] == [("CP1", "open-platform/onsite")]
        booted = b.heard.of(ev.StationBooted)
        assert [(e.vendor, e.model, e.firmware, e.serial) for e in booted] == [
            ("T", "TP-AC22", "260420.0107", "TP-1")
        ]
        status, answer = await peer.register()
        assert (status, answer["code"]) == (409, 4001)
        assert [e.identity for e in b.heard.of(ev.AccessRefused)] == ["CP1"]
        assert (await peer.heartbeat())[0] == 200  # what it had still works


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"serial": "TP-99"}, "not announced"),
        ({"model": "TP-DC60"}, "announced as TP-AC22"),
        ({"firmware": "260420.0106"}, "not proven"),
        ({"firmware": "4.1.0"}, "not proven"),
    ],
)
async def test_strangers_and_old_firmware_are_turned_away(
    tmp_path: Path, change: dict[str, str], reason: str
) -> None:
    async with onsite(tmp_path) as b:
        peer = Peer(b, "TP-1")
        for name, value in change.items():
            setattr(peer, name, value)
        for _ in range(2):
            status, answer = await peer.register()
            assert (status, answer["code"]) == (400, 1001)
        (refused,) = b.heard.of(ev.AccessRefused)  # told once
        assert reason in refused.reason
        good = Peer(b, "TP-1")
        assert (await good.register())[0] == 200


async def test_wrong_secrets_and_tokens_get_their_codes(tmp_path: Path) -> None:
    async with onsite(tmp_path) as b:
        peer = await b.charger()
        secret, token = peer.secret, peer.token
        peer.secret = "guess"
        assert (await peer.login())[1]["code"] == 2001
        assert [e.reason for e in b.heard.of(ev.AccessRefused)] == ["wrong secret"]
        peer.secret, peer.token = secret, "nonsense"
        assert (await peer.heartbeat())[1]["code"] == 2001
        peer.token = ""
        assert (await peer.heartbeat())[1]["code"] == 2001
        peer.token = token
        b.clock.advance(86401)
        status, answer = await peer.heartbeat()
        assert (status, answer["code"]) == (401, 2002)
        assert (await peer.login())[0] == 200 and (await peer.heartbeat())[0] == 200


async def test_no_secret_reaches_a_log_or_the_disk(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with onsite(tmp_path) as b:
        peer = await b.charger()
        peer_token = peer.token
        await b.post(
            "token",
            {
                "device_id": peer.device_id,
                "device_secret": peer.secret + "x",
                "grant_type": "client_credentials",
            },
        )
        stored = (tmp_path / "vault.json").read_text()
        for secret in (peer.secret, peer_token):
            assert secret not in stored and secret not in caplog.text


async def test_a_forgotten_charger_registers_again(tmp_path: Path) -> None:
    async with onsite(tmp_path) as b:
        peer = await b.charger()
        old = peer.device_id
        assert await b.host.forget("TP-1") and not await b.host.forget("TP-1")
        assert (await peer.heartbeat())[1]["code"] == 2001
        assert (await peer.login())[1]["code"] == 2001
        assert (await peer.register())[0] == 200 and peer.device_id == old
        assert (await peer.login())[0] == 200 and (await peer.heartbeat())[0] == 200


async def test_an_upgrade_below_the_gate_closes_the_link(tmp_path: Path) -> None:
    async with onsite(tmp_path) as b:
        peer = await b.charger()
        await peer.say("firmware/status", firmware_version="260518.0002", status="upgrading", progress=72)
        await peer.say("firmware/status", firmware_version="260518.0002", status="success")
        assert [(e.status, e.progress_pct) for e in b.heard.of(ev.FirmwareReported)] == [
            ("upgrading", 72),
            ("success", None),
        ]
        assert b.heard.of(ev.StationBooted)[-1].firmware == "260518.0002"
        await peer.say("firmware/status", firmware_version="250101.0001", status="success")
        assert "not proven" in b.heard.of(ev.LinkDown)[-1].reason
        assert (await peer.heartbeat())[1]["code"] == 2001
    async with onsite(tmp_path, heard=b.heard) as b:
        assert (await peer_again(b, peer).login())[1]["code"] == 2001


def peer_again(bench: Any, peer: Peer) -> Peer:
    """The same charger after a restart of the host."""
    again = Peer(bench, peer.serial)
    again.device_id, again.secret = peer.device_id, peer.secret
    return again


# --- bad input ----------------------------------------------------------------------------------------------------

GOOD: dict[str, dict[str, Any]] = {
    "heartbeat": {"status": "online", "fault_code": 0},
    "telemetry": {
        "connector_id": 1,
        "state": "idle",
        "voltage": 230,
        "current": 0,
        "power": 0,
        "energy_delivered": 0,
    },
    "events": {"connector_id": 1, "event_type": "plug_in", "data": {}},
    "charging-records": {
        "record_id": "r1",
        "connector_id": 1,
        "start_time": "2026-06-02T11:00:00Z",
        "end_time": "2026-06-02T11:30:00Z",
        "energy": 1.0,
        "max_power": 3,
        "avg_power": 2,
        "meter_start": 1,
        "meter_end": 2,
    },
    "firmware/status": {"firmware_version": "260420.0107", "status": "success"},
}


@pytest.mark.parametrize("operation", GOOD)
async def test_fields_that_are_missing_or_wrong_are_named(tmp_path: Path, operation: str) -> None:
    async with onsite(tmp_path) as b:
        peer = await b.charger()
        good = {"timestamp": b.stamp()} | GOOD[operation] | {"surprise": {"x": [1]}}
        assert (await b.post(operation, good, peer.token))[1]["code"] == 0
        for field in GOOD[operation]:
            b.clock.advance(10)
            status, answer = await b.post(
                operation, {k: v for k, v in good.items() if k != field}, peer.token
            )
            assert (status, answer["code"], answer["details"]["field"]) == (400, 1002, field)
            status, answer = await b.post(operation, good | {field: ["no"]}, peer.token)
            assert (status, answer["code"]) == (400, 1001)
        before = len(b.heard.events)
        b.clock.advance(10)
        for body in (b"<html>", b"[]", b"\xff", b'{"timestamp": NaN}', b"{" * 5000):
            status, answer = await b.request("POST", f"/v1/device/{operation}", token=peer.token, data=body)
            assert (status, answer["code"]) == (400, 1001)
        assert len(b.heard.events) == before
        assert (await peer.heartbeat())[0] == 200


async def test_values_that_cannot_be_are_refused(tmp_path: Path) -> None:
    async with onsite(tmp_path) as b:
        peer = await b.charger()
        for wrong in (
            {"connector_id": 3},
            {"connector_id": 0},
            {"power": 1e9},
            {"soc": 300},
            {"timestamp": "noon"},
        ):
            status, answer = await peer.telemetry("idle", **wrong)
            assert (status, answer["code"], answer["details"]["field"]) == (400, 1001, next(iter(wrong)))
        assert (await peer.telemetry("levitating", kw=1.0))[0] == 200  # a word we do not know is not an error
        assert (await peer.event("auth_ok"))[0] == 200
        assert (await peer.say("command-status", command_id="cmd_1", status="accepted"))[1]["code"] == 3001
        assert (await b.request("GET", "/v1/device/commands?wait=5", token=peer.token))[1]["code"] == 1002
        path = "/v1/device/commands?connector_id=1&wait=61"
        assert (await b.request("GET", path, token=peer.token))[1]["code"] == 1001


async def test_a_flood_is_told_to_wait_and_others_are_not(tmp_path: Path) -> None:
    async with onsite(tmp_path) as b:
        one, two = await b.charger("TP-1"), await b.charger("TP-2")
        codes = [(await one.event("plug_in"))[1]["code"] for _ in range(61)]
        assert codes[:60] == [0] * 60 and codes[60] == 5001
        status, answer = await one.event("plug_in")
        assert status == 429 and answer["details"]["retry_after_seconds"] >= 1
        assert (await two.event("plug_in"))[1]["code"] == 0
        assert (await one.heartbeat())[0] == 200  # another class of requests


# --- commands -----------------------------------------------------------------------------------------------------


async def test_a_command_reaches_the_open_poll_at_once(tmp_path: Path) -> None:
    async with onsite(tmp_path) as b:
        peer = await b.charger()
        polls = [asyncio.create_task(peer.poll(number, wait=60)) for number in (1, 2)]
        await b.waiting("TP-1", 1, 2)
        b.host.send(limit("a", evse="CP1/2"))
        command = await polls[1]
        assert command["command"] == "set_power_limit"
        assert command["params"] == {"connector_id": 2, "power_limit": 11.04, "duration": 180}
        assert command["expiry"] == "2026-06-02T12:02:00Z"
        assert not polls[0].done() and b.heard.of(ev.CommandSent) == [ev.CommandSent("a")]
        assert (await peer.word(command, "accepted"))[0] == 200
        assert await b.heard.ended("a") == ev.CommandAccepted("a")
        assert (await peer.word(command, "accepted"))[0] == 200  # the same word again changes nothing
        assert (await peer.word(command, "completed"))[0] == 200
        assert await b.heard.ended("a") == ev.CommandAccepted("a")
        b.host.send(stop("b"))
        assert (await polls[0])["params"] == {"connector_id": 1, "reason": "user_request"}


async def test_a_limit_expires_within_the_slack_of_its_lease(tmp_path: Path) -> None:
    settings, hasty = some_settings(), replace(LINK, lease_slack_s=30.0)
    known = settings.chargers["TP-1"]
    evses = {number: replace(evse, link=hasty) for number, evse in known.evses.items()}
    async with onsite(tmp_path, replace(settings, chargers={"TP-1": replace(known, evses=evses)})) as b:
        peer = await b.charger()
        b.host.send(limit("a"))
        b.clock.advance(10)
        body = await peer.poll()
        assert (body["expiry"], body["params"]["duration"]) == ("2026-06-02T12:00:25Z", 170)
        b.clock.advance(20)
        b.host.send(limit("b"))
        await peer.heartbeat(timestamp=b.stamp(ago_s=300))  # its clock is slow
        b.host.send(limit("c"))
        assert (await peer.poll())["expiry"] == "2026-06-02T11:55:55Z"


async def test_what_the_commands_say(tmp_path: Path) -> None:
    async with onsite(tmp_path) as b:
        peer = await b.charger()

        async def told(command: Any) -> dict[str, Any]:
            b.host.send(command)
            body = await peer.poll()
            await peer.word(body, "accepted")
            await b.heard.ended(command.id)
            return dict(body)

        body = await told(start("a", 20_000))
        assert body["params"].pop("transaction_id").startswith("depot-")
        assert body["params"] == {"connector_id": 1, "charge_power": 4.14}  # never above the fallback
        assert (await told(limit("b", 16_300)))["params"]["power_limit"] == 11.24  # rounded down
        assert (await told(limit("c", 5_900)))["params"]["power_limit"] == 0.0  # below the minimum: a pause
        body = await told(discharge("d"))
        assert (body["command"], body["params"]) == (
            "discharge",
            {"connector_id": 1, "discharge_power": 5.0, "duration": 900, "min_soc": 20},
        )
        body = await told(stop("e"))
        assert body["command"] == "stop_charging" and "expiry" not in body


async def test_a_heartbeat_carries_commands_only_without_a_poll(tmp_path: Path) -> None:
    async with onsite(tmp_path) as b:
        peer = await b.charger()
        poll = asyncio.create_task(peer.poll(1, wait=60))
        await b.waiting("TP-1", 1)
        b.host.send(limit("two", evse="CP1/2"))
        (command,) = (await peer.heartbeat())[1]["data"]["commands"]
        assert command["params"]["connector_id"] == 2
        assert (await peer.heartbeat())[1]["data"]["commands"] == []  # it has it; not again at once
        b.host.send(limit("one"))
        assert (await poll)["params"]["connector_id"] == 1


async def test_a_command_whose_delivery_was_lost_is_handed_out_again_under_its_name(tmp_path: Path) -> None:
    async with onsite(tmp_path) as b:
        peer = await b.charger()
        b.host.send(start("a"))
        first = await peer.poll()
        again = asyncio.create_task(peer.poll(wait=60))
        await b.waiting("TP-1", 1)
        assert not again.done()
        b.clock.advance(6)
        second = await again
        assert second["command_id"] == first["command_id"] and second["params"] == first["params"]
        assert second["expiry"] == first["expiry"]
        assert len(b.heard.of(ev.CommandSent)) == 1
        b.clock.advance(45)
        assert isinstance(await b.heard.ended("a"), ev.CommandLost)
        assert (await peer.word(first, "accepted"))[0] == 200  # late, and harmless
        b.host.send(start("b"))  # the same intent goes by the same transaction_id
        third = await peer.poll()
        assert third["command_id"] != first["command_id"]
        assert third["params"]["transaction_id"] == first["params"]["transaction_id"]


async def test_a_command_nobody_fetched_was_never_sent(tmp_path: Path) -> None:
    async with onsite(tmp_path) as b:
        await b.charger()
        b.host.send(limit("a"))
        b.clock.advance(46)
        assert isinstance(await b.heard.ended("a"), ev.CommandRefused)
        assert not b.heard.of(ev.CommandSent)


async def test_the_newest_limit_wins_and_never_displaces_a_stop(tmp_path: Path) -> None:
    async with onsite(tmp_path) as b:
        peer = await b.charger()
        for command in (limit("a"), limit("b"), start("c"), stop("d"), limit("e")):
            b.host.send(command)
        for name in "abce":
            assert await b.heard.ended(name) == ev.CommandReplaced(name)
        assert (await peer.poll())["command"] == "stop_charging"
        assert await peer.poll(wait=1) is None


async def test_a_stop_ends_the_repetition_of_a_start(tmp_path: Path) -> None:
    async with onsite(tmp_path) as b:
        peer = await b.charger()
        b.host.send(start("a"))
        await peer.poll()
        b.host.send(stop("b"))
        assert (await peer.poll())["command"] == "stop_charging"
        b.clock.advance(6)
        assert (await peer.poll(wait=1))["command"] == "stop_charging"
        assert await peer.poll(wait=1) is None
        b.clock.advance(46)
        assert isinstance(await b.heard.ended("a"), ev.CommandLost)


@pytest.mark.parametrize(
    ("word", "kind"), [("rejected", ev.CommandRefused), ("completed", ev.CommandAccepted)]
)
async def test_other_words_of_the_charger(tmp_path: Path, word: str, kind: type[ev.Event]) -> None:
    async with onsite(tmp_path) as b:
        peer = await b.charger()
        b.host.send(start("a"))
        await peer.word(await peer.poll(), word, message="no_vehicle")
        ended = await b.heard.ended("a")
        assert isinstance(ended, kind) and getattr(ended, "reason", "no_vehicle") == "no_vehicle"


async def test_a_second_poll_ends_the_first(tmp_path: Path) -> None:
    async with onsite(tmp_path) as b:
        peer = await b.charger()
        first = asyncio.create_task(peer.poll(1, wait=60))
        await b.waiting("TP-1", 1)
        second = asyncio.create_task(peer.poll(1, wait=60))
        assert await first is None
        b.host.send(limit("a"))
        assert (await second)["command"] == "set_power_limit"


async def test_a_poll_whose_connection_broke_swallows_nothing(tmp_path: Path) -> None:
    async with onsite(tmp_path) as b:
        peer = await b.charger()
        _, writer = await asyncio.open_connection("127.0.0.1", b.host.port)
        head = f"GET /v1/device/commands?connector_id=1&wait=60 HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {peer.token}\r\n\r\n"
        writer.write(head.encode())
        await writer.drain()
        await b.waiting("TP-1", 1)
        writer.transport.abort()
        await b.waiting("TP-1", 1, alive=False)
        b.host.send(limit("a"))
        (command,) = (await peer.heartbeat())[1]["data"]["commands"]
        assert command["params"]["connector_id"] == 1


async def test_commands_need_consent_and_a_link(tmp_path: Path) -> None:
    settings = some_settings(purposes=frozenset({"monitor", "control"}))
    async with onsite(tmp_path, settings) as b:
        b.host.send(limit("a"))
        assert await b.heard.ended("a") == ev.CommandRefused("a", "not connected")
        await b.charger()
        b.host.send(discharge("b"))
        assert "v2g" in getattr(await b.heard.ended("b"), "reason", "")
        b.host.send(limit("c", evse="CP9/1"))
        assert await b.heard.ended("c") == ev.CommandRefused("c", "not on this channel")


async def test_nothing_listens_without_consent(tmp_path: Path) -> None:
    async with onsite(tmp_path, some_settings(purposes=frozenset())) as b:
        assert [e.state for e in b.heard.of(ev.ChannelChanged)] == ["off"]
        b.host.send(limit("a"))
        assert isinstance(await b.heard.ended("a"), ev.CommandRefused)
        assert b.host.port == 0


# --- schedules in the charger -------------------------------------------------------------------------------------


def nights(id: str = "nights") -> Schedule:
    slots = (
        TimeSlot(22 * 60, 6 * 60, SlotAction.CHARGE, 11_000, (0, 4)),
        TimeSlot(12 * 60, 13 * 60, SlotAction.DISCHARGE, 5_000, (0,)),
    )
    return Schedule(id, ScheduleType.WEEKLY, True, "Europe/Amsterdam", slots)


async def keep(b: Bench, schedule: Schedule, evse: str = "CP1/1") -> ev.Event:
    """Has it stored, and says how that ended."""
    name = f"keep-{len(b.heard.events)}"
    b.host.send(StoreSchedule(name, EvseId(evse), CHANNEL, schedule))
    return await b.heard.ended(name)


async def drop(b: Bench, schedule: str) -> ev.Event:
    name = f"drop-{len(b.heard.events)}"
    b.host.send(DropSchedule(name, EvseId("CP1/1"), CHANNEL, schedule))
    return await b.heard.ended(name)


async def test_a_schedule_is_kept_by_the_charger_within_its_fallback(tmp_path: Path) -> None:
    settings, clock = some_settings(purposes=ALL - {"v2g"}), HandClock()
    async with onsite(tmp_path, settings, clock) as b:
        assert isinstance(await keep(b, nights()), ev.CommandAccepted)  # nobody is there yet
    async with onsite(tmp_path, settings, clock) as b:
        peer = await b.charger()
        clock.advance(1)
        body = await peer.poll()
        assert (body["command"], body["params"]["connector_id"]) == ("set_schedule", 1)
        charge, without_consent = body["params"]["time_slots"]
        assert (charge["start"], charge["power_limit"], without_consent["action"]) == ("22:00", 4.14, "idle")
        assert await peer.word(body, "accepted")
        assert isinstance(await keep(b, nights()), ev.CommandAccepted)
        clock.advance(1)
        assert await peer.poll(wait=1) is None, "it has that one already"
        await keep(b, nights("weekends"))
        clock.advance(1)
        removed = await peer.poll()
        assert removed["params"]["schedule_id"] == body["params"]["schedule_id"]
        assert removed["params"]["enabled"] is False
        await peer.word(removed, "completed")
        clock.advance(1)
        stored = await peer.poll()
        assert stored["params"]["schedule_id"] != body["params"]["schedule_id"]
        await peer.word(stored, "rejected", message="no room")
        clock.advance(3600)
        await peer.heartbeat()
        assert await peer.poll(wait=1) is None  # it said no: a person has to change it
        assert isinstance(await drop(b, "nights"), ev.CommandAccepted)  # long gone
        clock.advance(1)
        assert await peer.poll(wait=1) is None
        assert isinstance(await drop(b, "weekends"), ev.CommandAccepted)
        clock.advance(1)
        assert (await peer.poll())["params"]["enabled"] is False
        assert not b.heard.of(ev.CommandSent), "what the charger fetches here is no command of the depot's"


async def test_a_schedule_waits_behind_commands_and_is_told_until_answered(tmp_path: Path) -> None:
    async with onsite(tmp_path) as b:
        peer = await b.charger()
        await keep(b, nights())
        b.clock.advance(1)
        b.host.send(stop("a"))
        kinds = [(await peer.poll())["command"] for _ in range(2)]
        assert kinds == ["stop_charging", "set_schedule"]
        b.clock.advance(50)  # given up
        await b.heard.ended("a")
        await peer.heartbeat()
        b.clock.advance(61)
        body = await peer.poll()
        assert body["command"] == "set_schedule"


@pytest.mark.parametrize(
    ("evse", "purposes", "why"),
    [("CP9/1", ALL, "not on this channel"), ("CP1/1", ALL - {"control"}, "purpose control not consented")],
)
async def test_a_schedule_that_cannot_be_kept_is_refused_with_the_reason(
    tmp_path: Path, evse: str, purposes: frozenset[str], why: str
) -> None:
    settings = some_settings(purposes=purposes - {"v2g"})
    async with onsite(tmp_path, settings) as b:
        refused = await keep(b, nights(), evse)
        assert isinstance(refused, ev.CommandRefused) and why in refused.reason


async def test_who_may_only_discharge_may_also_stop(tmp_path: Path) -> None:
    async with onsite(tmp_path, some_settings(purposes=frozenset({"monitor", "v2g"}))) as b:
        peer = await b.charger()
        b.host.send(discharge("a"))
        assert (await peer.poll())["command"] == "discharge"
        b.host.send(stop("b"))
        assert (await peer.poll())["command"] == "stop_charging"
        b.host.send(start("c"))
        assert isinstance(await b.heard.ended("c"), ev.CommandRefused)


# --- silence and restarts -----------------------------------------------------------------------------------------


async def test_ninety_silent_seconds_are_the_end_of_the_link(tmp_path: Path) -> None:
    async with onsite(tmp_path) as b:
        peer = await b.charger()
        for _ in range(3):
            b.clock.advance(60)
            await peer.telemetry("idle")
        assert not b.heard.of(ev.LinkDown)
        b.clock.advance(91)
        await b.heard.until(lambda: b.heard.of(ev.LinkDown))
        await peer.poll(wait=1)
        assert len(b.heard.of(ev.LinkUp)) == 2 and len(b.heard.of(ev.StationBooted)) == 1
        await peer.heartbeat(status="offline")
        assert len(b.heard.of(ev.LinkDown)) == 2


async def test_a_restart_of_the_host_changes_nothing(tmp_path: Path) -> None:
    clock, heard = HandClock(), Heard()
    async with onsite(tmp_path, clock=clock, heard=heard) as b:
        peer = await b.charger()
        await peer.event("plug_in", at=b.stamp())
        await peer.telemetry("idle")
        b.host.send(start("a"))
        await peer.word(await peer.poll(), "accepted")
        await peer.event("start", at=b.stamp())
        clock.advance(5)
        await peer.telemetry("charging", 0.5, 4.1)
        b.host.send(limit("b"))
        handed = await peer.poll()
        record = {"timestamp": b.stamp()} | GOOD["charging-records"]
        assert (await b.post("charging-records", record, peer.token))[0] == 200
        started = b.stamp(5)
    clock.advance(60)
    before = len(heard.events)
    async with onsite(tmp_path, clock=clock, heard=heard) as b:
        again = peer_again(b, peer)
        again.token = peer.token
        assert (await again.heartbeat())[1]["code"] == 2001  # one new token, one retry
        await again.login()
        assert (await again.word(handed, "completed"))[0] == 200  # a command of the former run
        assert (await again.event("start", at=started))[0] == 200  # its answer was lost
        assert (await b.post("charging-records", record, again.token))[0] == 200
        clock.advance(2)
        await again.telemetry("charging", 1.0, 4.1)
        since = heard.events[before:]
        (resumed,) = [e for e in since if isinstance(e, ev.TransactionStarted)]
        assert resumed.transaction == "tx1"  # the number it had: the depot knows it already
        assert not [e for e in since if isinstance(e, ev.TransactionEnded | ev.RecordReceived)]
        assert [e.evse for e in since if isinstance(e, ev.FallbackStored)] == ["CP1/1"]  # still ours
        assert [e.state for e in since if isinstance(e, ev.StatusChanged)] == [EvseState.CHARGING]
        clock.advance(5)
        await again.event("stop", reason="target_soc")
        (ended,) = heard.of(ev.TransactionEnded)
        assert (ended.transaction, ended.reason, ended.register_wh) == ("tx1", "target_soc", 1000)
        assert heard.events[-1] == ev.StatusChanged(
            ended.evse or "", "open-platform/onsite", EvseState.FINISHING
        )


async def test_a_driver_that_runs_again_says_what_became_of_its_commands(tmp_path: Path) -> None:
    async with onsite(tmp_path) as b:
        peer = await b.charger()
        b.host.send(limit("a"))
        await peer.poll()
        b.host.send(limit("b", evse="CP1/2"))
    again = asyncio.create_task(b.host.run(b.heard.report))
    assert isinstance(await b.heard.ended("a"), ev.CommandLost)
    assert isinstance(await b.heard.ended("b"), ev.CommandRefused)
    again.cancel()
    await asyncio.wait([again])


async def test_a_record_is_reported_once(tmp_path: Path) -> None:
    async with onsite(tmp_path) as b:
        peer = await b.charger()
        record = GOOD["charging-records"] | {"vehicle_info": {"vin": "WZZTST00000000042"}, "energy": -1.5}
        for _ in range(3):
            assert (await b.post("charging-records", record, peer.token))[1]["code"] == 0
        (received,) = b.heard.of(ev.RecordReceived)
        assert (received.record, received.energy_wh, received.register_start_wh) == ("r1", 1500, 1000)
        assert "WZZTST" not in repr(b.heard.events)


async def test_a_full_disk_is_told_and_nothing_is_lost(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "state"
    async with onsite(folder) as b:
        peer = await b.charger()
        (folder / "vault.json.new").mkdir()  # stands in the way of every write
        for _ in range(2):
            status, answer = await peer.event("plug_in", at=b.stamp())
            assert (status, answer["code"]) == (500, 9001)
        assert len([r for r in caplog.records if "cannot be stored" in r.getMessage()]) == 1
        (folder / "vault.json.new").rmdir()
        assert (await peer.event("plug_in", at=b.stamp()))[0] == 200
        stored = json.loads((folder / "vault.json").read_text())
        assert stored["stations"]["CP1"]["1"]["plugged"] is True
        assert [e.state for e in b.heard.of(ev.StatusChanged)] == [EvseState.PREPARING]


# --- the door -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"listen_host": "0.0.0.0"}, "only 127.0.0.1"),
        ({"tls_cert": Path("server.pem")}, "go together"),
        ({"tls_cert": Path("/nowhere.pem"), "tls_key": Path("/nowhere.key")}, "nowhere.pem"),
    ],
)
def test_settings_that_would_show_secrets_are_refused(tmp_path: Path, change: Any, text: str) -> None:
    with pytest.raises(Misconfigured, match=text):
        OnsiteHost(replace(some_settings(), **change), HandClock(), tmp_path / "v", lambda: None)


async def test_tls_on_a_network_address(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    authority.create("Depot", datetime.now(UTC))
    chain, secret = authority.issue_server(("127.0.0.1",), datetime.now(UTC))
    key, cert = tmp_path / "server.key", tmp_path / "server.pem"
    key.write_bytes(secret)
    cert.write_bytes(chain)
    settings = replace(some_settings(), listen_host="0.0.0.0", tls_cert=cert, tls_key=key)
    async with onsite(tmp_path, settings) as b:
        url = f"https://127.0.0.1:{b.host.port}/v1/device/heartbeat"
        trusting = ssl.create_default_context(cafile=str(authority.certificate_file))
        async with b.http.post(url, json={}, ssl=trusting) as answer:
            assert (answer.status, (await answer.json())["code"]) == (401, 2001)
        old = ssl.create_default_context(cafile=str(authority.certificate_file))
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        async with b.http.post(url, json={}, ssl=old) as answer:
            assert answer.status == 401
        with pytest.raises(aiohttp.ClientError):
            await b.http.post(url.replace("https", "http"), json={})


async def test_a_port_that_is_taken_is_told_in_one_line(tmp_path: Path) -> None:
    async with onsite(tmp_path) as b:
        taken = replace(some_settings(), listen_port=b.host.port)
        second = OnsiteHost(taken, HandClock(), tmp_path / "other.json", lambda: None)
        with pytest.raises(Misconfigured, match="cannot listen on"):
            await second.run(b.heard.report)
        with pytest.raises(Misconfigured):
            await second.ready()


async def test_both_surfaces_answer_with_envelopes_only(tmp_path: Path) -> None:
    async with onsite(tmp_path, some_settings(purposes=ALL)) as b:
        assert (await b.request("GET", "/v1/device/nothing"))[1]["code"] == 3001
        assert (await b.request("GET", "/v1/device/register"))[0] == 405
        status, answer = await b.request("GET", "/v1/operator/sites")
        assert (status, answer["code"]) == (401, 2001)
