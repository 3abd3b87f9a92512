"""Connections to the on-site host that say half of it, nothing, or what is no HTTP and no WebSocket: each costs itself."""

from __future__ import annotations

import asyncio
import logging
import os
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from onsite_place import GUARDED, OPERATIONS, Place, place

from drivers.openplatform import clients_stream


async def test_connections_that_say_nothing_or_half_of_it_hold_up_nobody(tmp_path: Path) -> None:
    async with place(tmp_path) as p:
        halves = (b"", b"POST /v1/dev", b"POST /v1/device/heartbeat HTTP/1.1\r\nHost: h\r\nContent-Le")
        held = [await asyncio.open_connection("127.0.0.1", p.bench.host.port) for _ in range(60)]
        for n, (_, writer) in enumerate(held):
            writer.write(halves[n % 3])
            await writer.drain()
        try:
            async with asyncio.timeout(5):
                for name in GUARDED:
                    await p.is_well(name)
        finally:
            for _, writer in held:
                writer.transport.abort()


@pytest.mark.parametrize(
    "junk",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64,  # TLS to a plain port
        b"hello\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /?token=hush" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n",
        b"POST /v1/device/heartbeat HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        b"POST /v1/device/heartbeat HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
    ids=["TLS", "method", "version", "long line", "length", "chunk"],
)
async def test_what_is_no_http_is_one_line_in_the_log(
    tmp_path: Path, junk: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with place(tmp_path) as p:
        for _ in range(3):
            reader, writer = await asyncio.open_connection("127.0.0.1", p.bench.host.port)
            writer.write(junk)
            async with asyncio.timeout(5):
                assert (await reader.read()).startswith(b"HTTP/1.0 400 ")
            writer.close()
            await writer.wait_closed()
        [record] = caplog.records
        assert "cannot read what 127.0.0.1 sends" in record.getMessage()
        assert record.exc_info is None and "hush" not in caplog.text
        await p.is_well("heartbeat")


@asynccontextmanager
async def upgraded(p: Place) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """The stream on a connection that does by itself nothing a WebSocket does."""
    reader, writer = await asyncio.open_connection("127.0.0.1", p.bench.host.port)
    head = (
        f"GET {p.path(OPERATIONS['openStream'])} HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Authorization: Bearer {p.tokens['ems']}\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Key: {b64encode(os.urandom(16)).decode()}\r\n\r\n"
    )
    writer.write(head.encode())
    try:
        async with asyncio.timeout(5):
            assert (await reader.readuntil(b"\r\n\r\n")).split()[1] == b"101"
        yield reader, writer
    finally:
        writer.transport.abort()


async def stream_is_free(p: Place) -> None:
    """The one place for this client and set of chargers is taken by a listener that behaves."""
    url = f"ws://127.0.0.1:{p.bench.host.port}{p.path(OPERATIONS['openStream'])}"
    who = {"Authorization": f"Bearer {p.tokens['ems']}"}
    async with asyncio.timeout(5):
        while True:
            p.bench.clock.advance(7)
            try:
                async with p.bench.http.ws_connect(url, headers=who) as socket:
                    assert (await socket.receive_json())["device_id"] == p.ids["device"]
                    return
            except aiohttp.WSServerHandshakeError as refused:
                assert refused.status == 429


async def test_a_listener_that_is_gone_without_a_word_frees_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients_stream, "_PING_S", 0.1)
    async with place(tmp_path) as p, upgraded(p):
        await stream_is_free(p)
        await p.is_well("heartbeat")


@pytest.mark.parametrize(
    "junk", [b"\xff" * 100, b"\x83\x80\0\0\0\0", b"\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff"]
)
async def test_garbage_instead_of_frames_ends_that_stream_alone(
    tmp_path: Path, junk: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with place(tmp_path) as p, upgraded(p) as (_, writer):
        writer.write(junk)
        await stream_is_free(p)
        await p.is_well("heartbeat")
        assert not [
            record for record in caplog.records if record.exc_info or record.levelno > logging.WARNING
        ]
