"""A stream that is no stream any more: half-open, garbage instead of frames, messages without end. The hosted platform's
client drops it, says why, and comes back; requests and commands go on meanwhile."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import web
from openplatform_bench import Handler, Site, limit, site

from controller.core import events as ev
from drivers.openplatform import stream


async def ends_and_returns(s: Site, reason: str) -> None:
    """The stream is given up for `reason`, a limit is taken as ever, and the next stream is open."""
    await s.heard.until(lambda: any(reason in e.text for e in s.heard.of(ev.ChannelChanged)))
    s.operator.send(limit())
    assert isinstance(await s.heard.ended("c1"), ev.CommandAccepted)
    await s.heard.until(lambda: s.heard.of(ev.ChannelChanged)[-1].state == "ok")
    assert not s.heard.of(ev.LinkDown)


def writes(junk: bytes) -> Handler:
    """Upgrades, then writes bytes as they are."""

    async def handle(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        assert request.transport is not None
        request.transport.write(junk)
        async for _ in socket:
            pass
        return socket

    return handle


@pytest.mark.parametrize(
    "junk",
    [
        b"\xff" * 100,
        b"<html><h1>Guest network</h1></html>",
        b"\x83\x00",  # a kind of frame that does not exist
        b"\x81\x02\xff\xfe",  # a text that is none
        b"\x81\x7f" + (2**40).to_bytes(8, "big"),  # a terabyte is announced
    ],
    ids=["noise", "HTML", "opcode", "UTF-8", "length"],
)
async def test_garbage_instead_of_frames(junk: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async with site() as s:
        s.platform.script["stream"].append(writes(junk))
        await s.platform.sockets[-1].close()
        await ends_and_returns(s, "stream broken")
    assert not [record for record in caplog.records if record.exc_info]


async def test_a_half_open_socket_is_found_by_its_pings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing comes and nothing breaks, and no connector is active whose silence would tell."""

    async def deaf(request: web.Request) -> Any:
        socket = web.WebSocketResponse(autoping=False)
        await socket.prepare(request)
        async for _ in socket:
            pass
        return socket

    async with site() as s:
        monkeypatch.setattr(stream, "_PING_S", 0.1)
        s.platform.script["stream"].append(deaf)
        await s.platform.sockets[-1].close()
        await ends_and_returns(s, "stream broken")
