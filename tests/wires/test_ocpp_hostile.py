"""Whatever a peer sends, at most its own connection ends: the server lives and the neighbours notice nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from ocpp_peer import Depot, Peer, a_station, now_text, peer, running, settings
from websockets.exceptions import ConnectionClosed

from controller.core.events import EvseSample, LinkDown, TokenPresented, TransactionEnded, TransactionStarted
from drivers.ocpp.server import OcppServer


@asynccontextmanager
async def attacked(caplog: pytest.LogCaptureFixture) -> AsyncIterator[tuple[OcppServer, Depot, Peer]]:
    """A server with a good neighbour, who must still be served in the end, and no traceback in the log."""
    config = settings(CP1=a_station("CP1"), CP2=a_station("CP2"), CP3=a_station("CP3"))
    async with running(config) as (server, depot), peer(server, "CP2") as neighbour:
        await neighbour.boot()
        async with peer(server, "CP1") as attacker:
            yield server, depot, attacker
        assert (await neighbour.ask("Heartbeat", {}))[0] == 3
        async with peer(server, "CP1") as again:
            assert (await again.ask("Heartbeat", {}))[0] == 3
    assert not any(record.exc_info for record in caplog.records)
    assert not any(record.levelno >= logging.ERROR for record in caplog.records)


DEEP = "[" * 30_000 + "]" * 30_000

ANSWERED = [
    ('[2,"x",[],{}]', "FormationViolation"),
    ('[2,"x",{},{}]', "FormationViolation"),
    ('[2,"x",null,{}]', "FormationViolation"),
    ('[2,"x","Heartbeat",[]]', "FormationViolation"),
    ('[2,"x","Heartbeat",null]', "FormationViolation"),
    ('[2,"x","Heartbeat","text"]', "FormationViolation"),
    ('[2,"x","Heartbeat"]', "ProtocolError"),
    ('[2,"x"]', "ProtocolError"),
    ('[2,"x","Heartbeat",{},{}]', "FormationViolation"),
    ('[2,"x","Heartbeat",{"a":' + "9" * 5000 + "}]", "FormationViolation"),
    ('[2,"x","Heartbeat",{"a":' + DEEP + "}]", "FormationViolation"),
    ('[2,"x","Heartbeat",{"a":NaN}]', "FormationViolation"),
    ('[2,"x","Heartbeat",{"a":-Infinity}]', "FormationViolation"),
    ('[2,"x","Heartbeat",{', "FormationViolation"),
    ('[2,"x","Nonsense",{}]', "NotImplemented"),
    ('[2,"x","../../etc/passwd",{}]', "NotImplemented"),
    ('[2,"x","' + "A" * 5000 + '",{}]', "NotImplemented"),
    ('[2,"x","\\ud800",{}]', "NotImplemented"),
    ('[2,"x","SetChargingProfile",{}]', "NotSupported"),
    ('[2,"x","StatusNotification",{}]', "OccurenceConstraintViolation"),
    ('[2,"x","StatusNotification",{"connectorId":"one","status":"Available"}]', "TypeConstraintViolation"),
    ('[2,"x","StatusNotification",{"connectorId":-1,"status":"Available"}]', "PropertyConstraintViolation"),
    ('[2,"x","Authorize",{}]', "OccurenceConstraintViolation"),
    ('[2,"x","Authorize",{"idTag":{"a":1}}]', "TypeConstraintViolation"),
]


@pytest.mark.parametrize(("frame", "code"), ANSWERED, ids=[f"{n}-{c}" for n, (_, c) in enumerate(ANSWERED)])
async def test_a_bad_call_gets_its_error(frame: str, code: str, caplog: pytest.LogCaptureFixture) -> None:
    async with attacked(caplog) as (_, _, attacker):
        await attacker.send(frame)
        reply = await attacker.reply_to("x")
        assert (reply[0], reply[2]) == (4, code)
        assert len(reply) == 5
        assert (await attacker.ask("Heartbeat", {}))[0] == 3


UNANSWERABLE = [
    "",
    "not json",
    "null",
    "{}",
    "[]",
    "[2]",
    "[2,null,3,4]",
    '[2,{"a":1},"Heartbeat",{}]',
    '[2,5,"Heartbeat",{}]',
    '[2,"","Heartbeat",{}]',
    '[2,"' + "i" * 40_000 + '","Heartbeat",{}]',
    '[2,"bad\\u0000id","Heartbeat",{}]',
    '[2,"bad\\ud800id","Heartbeat",{}]',
    '["2","x","Heartbeat",{}]',
    '[true,"x","Heartbeat",{}]',
    '[[],"x","Heartbeat",{}]',
    '[5,"x","Heartbeat",{}]',
    '[6,"x","NotifyPeriodicEventStream",{}]',
    '[3,"never asked",{}]',
    '[4,"never asked","GenericError","",{}]',
    "[3]",
    DEEP,
    "9" * 5000,
    '"' + '\\"' * 30_000,
    b"\xff\xfe\x00binary",
    b"",
]


@pytest.mark.parametrize("frame", UNANSWERABLE, ids=range(len(UNANSWERABLE)))
async def test_what_nobody_can_answer_is_survived(
    frame: str | bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with attacked(caplog) as (_, _, attacker):
        await attacker.send(frame)
        assert (await attacker.ask("Heartbeat", {}))[0] == 3
        assert len(attacker.replies) == 1


async def test_a_call_in_a_binary_frame_is_understood(caplog: pytest.LogCaptureFixture) -> None:
    async with attacked(caplog) as (_, _, attacker):
        await attacker.send(b'[2,"x","Heartbeat",{}]')
        assert (await attacker.reply_to("x"))[0] == 3


async def test_unsolicited_results_end_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    async with attacked(caplog) as (_, _, attacker):
        with contextlib.suppress(ConnectionClosed):
            for _ in range(1500):
                await attacker.send([3, "x", {}])
        assert await attacker.closed() == 1008


async def test_a_frame_above_64_kb_ends_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    async with attacked(caplog) as (_, _, attacker):
        await attacker.send([2, "x", "DataTransfer", {"vendorId": "x", "data": "x" * 70_000}])
        assert await attacker.closed() == 1009


async def test_a_flood_drops_meter_values_first_and_keeps_transactions(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with attacked(caplog) as (_, depot, attacker):
        depot.commit.clear()
        begin = {"connectorId": 1, "idTag": "A", "meterStart": 0, "timestamp": now_text()}
        await attacker.send([2, "first", "StartTransaction", begin])  # holds the queue
        await depot.until_a(TransactionStarted)
        for number in range(90):
            await attacker.send([2, f"v{number}", "MeterValues", {"connectorId": 1, "meterValue": []}])
        await attacker.send([2, "stop", "StopTransaction", {"transactionId": 1001, "meterStop": 5}])
        depot.commit.set()
        assert (await attacker.reply_to("stop"))[0] == 3
        values = [reply for reply in attacker.replies if reply[1].startswith("v")]
        assert 0 < len(values) <= 64
        assert values[-1][1] == "v89"  # the oldest went


async def test_a_flood_of_what_cannot_be_dropped_ends_the_connection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with attacked(caplog) as (_, depot, attacker):
        depot.commit.clear()
        begin = {"connectorId": 1, "idTag": "A", "meterStart": 0, "timestamp": now_text()}
        with contextlib.suppress(ConnectionClosed):
            for number in range(100):
                await attacker.send([2, f"s{number}", "StartTransaction", begin])
        assert await attacker.closed() == 1013
        depot.commit.set()


async def test_a_peer_that_floods_and_never_reads_is_hung_up_on(caplog: pytest.LogCaptureFixture) -> None:
    async with attacked(caplog) as (server, depot, attacker), peer(server, "CP3") as neighbour:
        await attacker.boot()
        attacker.socket.transport.pause_reading()

        async def flood() -> None:
            with contextlib.suppress(ConnectionClosed):
                while True:
                    await attacker.send([2, "x", "Authorize", {"idTag": "A" * 20_000}])

        flooding = asyncio.create_task(flood())
        async with asyncio.timeout(20):
            while not depot.all(LinkDown):
                assert (await neighbour.ask("Heartbeat", {}))[0] == 3
        flooding.cancel()
        await asyncio.gather(flooding, return_exceptions=True)
        tokens = len(depot.all(TokenPresented))
        assert tokens < 1000, "a flood is slowed down to what one station may send"
        attacker.socket.transport.resume_reading()


# --- transaction messages are never answered with an error ------------------------------------------------------


@pytest.mark.parametrize(
    "payload",
    [
        {"connectorId": 1, "idTag": "A" * 21, "meterStart": 0.0, "timestamp": "tomorrow"},
        {"connectorId": 1.0, "idTag": 12345678, "meterStart": "17", "timestamp": None},
        {"connectorId": 1, "idTag": None, "meterStart": -1},
        {"connectorId": 1, "idTag": "A", "meterStart": 1e308, "timestamp": "1970-01-01T00:00:00Z", "x": [1]},
        {"idTag": "\ud800\u0000"},
        {"connectorId": 7, "idTag": "A", "meterStart": 0, "timestamp": now_text()},
        {"connectorId": [], "idTag": "A"},
        {},
    ],
)
async def test_any_start_gets_a_number(payload: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    async with attacked(caplog) as (_, depot, attacker):
        reply = await attacker.ask("StartTransaction", payload)
        assert reply[0] == 3
        assert isinstance(reply[2]["transactionId"], int)
        known = payload.get("connectorId", 1) in (1, []) or payload.get("connectorId") == 1.0
        assert len(depot.all(TransactionStarted)) == known
        assert reply[2]["idTagInfo"]["status"] == ("Accepted" if known else "Invalid")


@pytest.mark.parametrize(
    ("payload", "transaction"),
    [
        ({"transactionId": 5, "meterStop": 10, "idTag": "x" * 50, "timestamp": now_text()}, "5"),
        ({"transactionId": -1, "meterStop": 10.7}, "-1"),
        ({"transactionId": 0}, "0"),
        ({"transactionId": "12"}, "12"),
        ({"transactionId": None, "meterStop": []}, "unknown"),
        ({"transactionId": {"a": 1}, "reason": 7, "transactionData": "no"}, "unknown"),
        ({}, "unknown"),
        ({"transactionId": 10**19}, str(10**19)),
    ],
)
async def test_any_stop_is_taken(
    payload: dict[str, Any], transaction: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with attacked(caplog) as (_, depot, attacker):
        reply = await attacker.ask("StopTransaction", payload)
        assert reply[0] == 3
        assert [event.transaction for event in depot.all(TransactionEnded)] == [transaction]


@pytest.mark.parametrize(
    "values",
    [
        None,
        [],
        "text",
        [None, 5, []],
        [{"timestamp": now_text(), "sampledValue": []}],
        [{"timestamp": 5, "sampledValue": {"value": "1"}}],
        [{"sampledValue": [{"value": {}, "unit": []}, {"value": "NaN"}, {"value": "1e999"}, 7]}],
        [{"sampledValue": [{"value": True, "measurand": "Current.Import"}]}],
    ],
)
async def test_meter_values_that_say_nothing_are_acknowledged(
    values: object, caplog: pytest.LogCaptureFixture
) -> None:
    async with attacked(caplog) as (_, depot, attacker):
        reply = await attacker.ask("MeterValues", {"connectorId": 1, "meterValue": values})
        assert reply[0] == 3
        assert reply[2] == {}
        assert depot.all(EvseSample) == []


async def test_odd_answers_to_our_calls_do_no_harm(caplog: pytest.LogCaptureFixture) -> None:
    odd: list[Any] = [[], "yes", 7, {"configurationKey": 5}, {"configurationKey": [5, {"key": []}]}]
    async with attacked(caplog) as (_, _, attacker):
        answers = iter(odd * 10)
        for action in attacker.answers:
            attacker.answers[action] = lambda payload: json.loads(json.dumps(next(answers)))
        await attacker.boot_and_settle()
        assert (await attacker.ask("Heartbeat", {}))[0] == 3
