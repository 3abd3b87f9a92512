"""Bad input on the on-site host, operation by operation: every one of the 21 against the same list of doors and bodies.

Each refusal has its documented status and code and leaves a log line, nothing reaches the core, and whoever behaves is
served as before. What single fields may hold stands in the tests of each surface, and what the API description rules
out in `test_onsite_contract`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from pathlib import Path

import aiohttp
import pytest
from onsite_place import GUARDED, OPERATIONS, WITH_BODY, Place, place

from controller.core import events as ev
from drivers.openplatform import answers


def refusals(caplog: pytest.LogCaptureFixture) -> set[int]:
    """The codes of which the log tells."""
    lines = [record.getMessage() for record in caplog.records if "refused" in record.getMessage()]
    return {int(found[1]) for line in lines if (found := re.search(r"127\.0\.0\.1: (\d{4}) ", line))}


def test_the_table_has_every_operation() -> None:
    assert len(OPERATIONS) == 21


@pytest.mark.parametrize("name", GUARDED)
async def test_nothing_opens_without_the_right_token(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with place(tmp_path) as p:
        expired = p.token(name)
        p.bench.clock.advance(86_400)
        await p.log_in()
        needs = OPERATIONS[name].needs
        doors = [
            ("", 401, 2001),
            ("guess", 401, 2001),
            ("x" * 5000, 401, 2001),
            (p.tokens["ems" if needs == "device" else "device"], 401, 2001),
            (expired, 401, 2002),
        ]
        if needs != "device":
            doors.append((p.tokens["hand" if needs == "read" else "viewer"], 403, 2003))
        before = p.told
        for token, status, code in doors:
            refused, answer = await p.ask(name, p.good(name), token)
            assert (refused, answer["code"], answer["data"]) == (status, code, None), token[:8]
        assert refusals(caplog) == {code for *_, code in doors}
        assert p.told == before
        await p.is_well(name)


@pytest.mark.parametrize("name", WITH_BODY)
async def test_a_body_nobody_can_read_is_refused_whole(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with place(tmp_path) as p:
        before = p.told
        for junk in (
            b"<html><h1>Guest network</h1></html>",
            b"[]",
            b'"text"',
            b'{"timestamp": ',
            b'{"timestamp": NaN}',
            b"\xff\xfe\x00",
            b"[" * 5000,
            b'{"a": "' + b"x" * answers.BODY_BYTES + b'"}',
        ):
            status, answer = await p.ask(name, data=junk)
            assert (status, answer["code"]) == (400, 1001), junk[:20]
        for head in (
            b"Content-Length: 900000000\r\n\r\n{",
            b"Content-Length: 100\r\n\r\n{",  # and the rest never comes
            b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
            b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\n\x1f\x8b\x08",
        ):
            with monkeypatch.context() as hurried:
                hurried.setattr(answers, "BODY_S", 0.05)
                assert await raw(p, name, head) == (400, 1001), head
        assert refusals(caplog) == {1001}
        assert p.told == before
        await p.is_well(name)


async def raw(p: Place, name: str, rest: bytes) -> tuple[int, int]:
    """Status and code of what comes back on a connection of its own."""
    p.bench.clock.advance(7)
    reader, writer = await asyncio.open_connection("127.0.0.1", p.bench.host.port)
    head = f"POST {p.path(OPERATIONS[name])} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {p.token(name)}\r\n"
    writer.write(head.encode() + rest)
    try:
        async with asyncio.timeout(5):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = re.search(r"Content-Length: (\d+)", head)
            assert length is not None, head
            return int(head.split()[1]), json.loads(await reader.readexactly(int(length[1])))["code"]
    finally:
        writer.transport.abort()


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("getDevice", {"device": "dvc_0"}),
        ("startCharging", {"device": "dvc_0"}),
        ("stopCharging", {"device": "dvc_0"}),
        ("startDischarge", {"device": "dvc_0"}),
        ("setSchedule", {"device": "dvc_0"}),
        ("getCommand", {"ordered": "cmd_0"}),
        ("reportCommandStatus", {"fetched": "c1.0.0"}),
    ],
)
async def test_an_id_nobody_knows_is_3001(
    tmp_path: Path, name: str, change: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    async with place(tmp_path) as p:
        known, before = dict(p.ids), p.told
        p.ids.update(change)
        status, answer = await p.ask(name, p.good(name))
        assert (status, answer["code"]) == (404, 3001)
        assert refusals(caplog) == {3001}
        assert p.told == before
        p.ids.update(known)
        await p.is_well(name)


@pytest.mark.parametrize(
    ("name", "fact"),
    [
        ("startCharging", ev.StartWished),
        ("uploadTelemetry", ev.StatusChanged),
        ("reportEvent", ev.TransactionStarted),
        ("uploadChargingRecord", ev.RecordReceived),
        ("reportCommandStatus", ev.CommandAccepted),
    ],
)
async def test_the_same_message_twice_is_one_fact(tmp_path: Path, name: str, fact: type[ev.Event]) -> None:
    async with place(tmp_path) as p:
        body, before = p.good(name), len(p.bench.heard.of(fact))
        told = [await p.ask(name, body) for _ in range(3)]
        assert [status for status, _ in told] == [200] * 3
        assert told[0][1] == told[1][1] == told[2][1]  # a start: the same command id
        assert len(p.bench.heard.of(fact)) == before + 1


async def test_a_charger_registers_once(tmp_path: Path) -> None:
    async with place(tmp_path) as p:
        first, *again = [await p.ask("registerDevice", p.good("registerDevice")) for _ in range(3)]
        assert first[0] == 200
        assert [(status, answer["code"]) for status, answer in again] == [(409, 4001)] * 2
        assert [e.identity for e in p.bench.heard.of(ev.AccessRefused)] == ["CP2"]


@pytest.mark.parametrize(
    "stamp", ["1970-01-01T00:00:00Z", "2026-06-02T02:00:00-14:00", "9998-12-31T23:59:59Z"]
)
async def test_a_clock_that_is_wrong_loses_nothing(
    tmp_path: Path, stamp: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with place(tmp_path) as p:
        for name in ("heartbeat", "uploadTelemetry", "reportEvent", "reportFirmwareStatus"):
            assert (await p.ask(name, p.good(name) | {"timestamp": stamp}))[0] == 200
        assert p.bench.heard.of(ev.TransactionStarted)
        assert not p.bench.heard.of(ev.LinkDown)
        assert any("clock" in record.getMessage() for record in caplog.records)


# --- the site ends where the local network does ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("peer", "own", "local"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("10.0.4.20", "10.0.4.1", True),
        ("192.168.7.2", "10.0.4.1", True),
        ("169.254.3.4", "169.254.3.1", True),
        ("100.64.0.9", "100.64.0.1", True),
        ("::1", "::1", True),
        ("::ffff:172.16.5.5", "::ffff:172.16.5.1", True),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("fd00:1::5", "fd00:1::1", True),
        ("2a02:1234:5:6::9", "2a02:1234:5:6::1", True),
        ("2a02:1234:5:7::9", "2a02:1234:5:6::1", False),
        ("2a02:1234:5:6::9", "10.0.4.1", False),
        ("8.8.8.8", "10.0.4.1", False),
        ("::ffff:8.8.8.8", "::ffff:8.8.8.1", False),
        ("8.8.8.8", None, False),
        ("", None, False),
        (None, None, False),
    ],
)
def test_who_is_on_site(peer: str | None, own: str | None, local: bool) -> None:
    assert answers.is_on_site(peer, own) is local


@pytest.mark.parametrize("name", OPERATIONS)
async def test_nothing_is_said_to_who_is_not_on_site(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with place(tmp_path) as p:
        before = p.told
        with monkeypatch.context() as abroad:
            abroad.setattr(answers, "is_on_site", lambda peer, own: False)
            with pytest.raises(aiohttp.ClientConnectionError):
                await p.ask(name, p.good(name))
        assert p.told == before
        [record] = caplog.records
        assert "127.0.0.1: 2003 not an address of the local network" in record.getMessage()
        await p.is_well(name)
