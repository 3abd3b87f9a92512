"""Live telemetry of the on-site host over real WebSockets: what is said when, who is dropped, how it ends."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket as sockets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from onsite_clients_bench import Bench, charging, onsite, session, view

from controller.core.model import EvseState
from drivers.openplatform import clients_stream

Socket = aiohttp.ClientWebSocketResponse


@asynccontextmanager
async def listening(bench: Bench, devices: str = "dvc_1", header: bool = True) -> AsyncIterator[Socket]:
    headers = {"Authorization": f"Bearer {bench.token}"} if header else {}
    params = {"devices": devices} | ({} if header else {"token": bench.token})
    async with bench.http.ws_connect(f"{bench.url}/stream", params=params, headers=headers) as socket:
        yield socket


async def frame(socket: Socket) -> dict[str, Any]:
    return dict(json.loads(await socket.receive_str(timeout=5)))


async def states(socket: Socket) -> list[str]:
    return [connector["state"] for connector in (await frame(socket))["connectors"]]


async def turn(bench: Bench, seconds: float) -> None:
    """Lets the surface live on; the call behind it returns after the surface has looked."""
    bench.clock.advance(seconds)
    await bench.get("/devices/dvc_1")


async def test_a_frame_says_what_is_streamed_and_no_more() -> None:
    async with onsite() as bench:
        discharging = view("CP1/1", EvseState.DISCHARGING, power_w=-22_100, session=session())
        bench.show(discharging)
        async with listening(bench) as socket:
            assert await frame(socket) == {
                "device_id": "dvc_1",
                "timestamp": "2026-06-02T12:00:00Z",
                "connectors": [
                    {
                        "connector_id": 1,
                        "state": "discharging",
                        "power": -22.1,
                        "energy_delivered": 5.4,
                        "soc": 58,
                    },
                    {"connector_id": 2, "state": "idle", "energy_delivered": 0},
                ],
            }


async def test_each_charger_speaks_on_opening_then_on_change_and_every_five_seconds_while_active() -> None:
    async with onsite() as bench, listening(bench, "dvc_2,dvc_1") as socket:
        assert [(await frame(socket))["device_id"] for _ in range(2)] == ["dvc_1", "dvc_2"]
        for _ in range(20):  # idle: nothing to say
            bench.show()
            await turn(bench, 1)
        bench.show(charging("CP1/1"))
        await turn(bench, 1)
        first = await frame(socket)
        assert (first["device_id"], first["timestamp"]) == ("dvc_1", "2026-06-02T12:00:20Z")
        for _ in range(10):
            bench.show(charging("CP1/1"))
            await turn(bench, 1)
        bench.show(view("CP1/1", EvseState.FAULTED))
        await turn(bench, 1)
        frames = [await frame(socket) for _ in range(3)]
        assert [one["timestamp"][17:] for one in frames] == ["25Z", "30Z", "31Z"]
        assert frames[-1]["connectors"][0]["state"] == "fault"


async def test_an_old_snapshot_is_not_told_twice() -> None:
    async with onsite() as bench:
        bench.show(charging("CP1/1"))
        async with listening(bench) as socket:
            await frame(socket)
            for _ in range(20):  # the core stands still
                await turn(bench, 1)
            bench.show(charging("CP1/1"))
            await turn(bench, 1)
            assert (await frame(socket))["timestamp"] == "2026-06-02T12:00:20Z"


async def test_the_token_may_stand_in_the_query() -> None:
    async with onsite() as bench, listening(bench, header=False) as socket:
        assert await states(socket) == ["idle", "idle"]


async def test_two_clients_and_two_sets_hear_the_same() -> None:
    async with onsite() as bench, listening(bench) as first, listening(bench, "dvc_1,dvc_2") as second:
        await bench.log_in("viewer")
        async with listening(bench) as third:
            for socket in (first, second, second, third):
                await frame(socket)
            bench.show(charging("CP1/2"))
            bench.clock.advance(1)
            for socket in (first, second, third):
                assert await states(socket) == ["idle", "charging"]


@pytest.mark.parametrize(
    ("devices", "refusal"),
    [
        (None, (400, 1002, "devices")),
        ("", (400, 1002, "devices")),
        ("dvc_1,", (400, 1001, "devices")),
        ("dvc_1,dvc_9", (400, 1001, "devices")),
        (",".join(f"d{n}" for n in range(51)), (400, 1001, "devices")),
        ("dvc_1", (400, 1001, None)),  # no WebSocket handshake
    ],
)
async def test_a_subscription_is_read_strictly(devices: str | None, refusal: Any) -> None:
    async with onsite() as bench:
        query = {} if devices is None else {"devices": devices}
        assert (await bench.get("/stream", **query)).refusal == refusal


async def test_tokens_and_scopes_count_here_too() -> None:
    async with onsite() as bench:
        assert (await bench.call("GET", "/stream", token="", devices="dvc_1")).refusal == (401, 2001, None)
        await bench.log_in("hand")
        assert (await bench.get("/stream", devices="dvc_1")).refusal == (403, 2003, None)


async def test_a_second_socket_on_the_same_set_is_refused_until_the_first_is_gone() -> None:
    async with onsite() as bench:
        async with listening(bench, "dvc_1,dvc_2") as socket:
            await frame(socket)
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                async with listening(bench, "dvc_2,dvc_1"):
                    raise AssertionError("opened")
            assert refused.value.status == 429
        async with asyncio.timeout(5), listening(bench, "dvc_1,dvc_2") as socket:
            await frame(socket)


async def test_sets_per_client_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients_stream, "SOCKETS_PER_CLIENT", 1)
    async with onsite() as bench, listening(bench) as socket:
        await frame(socket)
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            async with listening(bench, "dvc_2"):
                raise AssertionError("opened")
        assert refused.value.status == 429


async def test_what_a_client_says_is_forgotten_unless_it_shouts() -> None:
    async with onsite() as bench, listening(bench) as socket:
        await frame(socket)
        for garbage in ("hello", "{", "\x00"):
            await socket.send_str(garbage)
        await socket.send_bytes(b"\xff" * 100)
        bench.show(charging("CP1/1"))
        bench.clock.advance(1)
        assert await states(socket) == ["charging", "idle"]
        await socket.send_str("x" * 10_000)
        assert (await socket.receive(timeout=5)).type is aiohttp.WSMsgType.CLOSE
        assert socket.close_code == 1009


async def test_a_socket_ends_with_its_token() -> None:
    async with onsite() as bench:
        bench.clock.advance(10)
        async with listening(bench) as socket:
            await frame(socket)
            bench.clock.advance(86390)
            assert await frame(socket) == {"code": 2002, "message": "token expired", "data": None}
            assert (await socket.receive(timeout=5)).type is aiohttp.WSMsgType.CLOSE
            assert socket.close_code == 1008


async def test_the_end_of_the_surface_ends_every_socket() -> None:
    async with onsite() as bench:
        async with bench.http.ws_connect(
            f"{bench.url}/stream?devices=dvc_1", headers={"Authorization": f"Bearer {bench.token}"}
        ) as socket:
            await frame(socket)
            bench.stop()
            assert (await socket.receive(timeout=5)).type is aiohttp.WSMsgType.CLOSE
            assert socket.close_code == 1001
        async with listening(bench) as late:
            assert (await late.receive(timeout=5)).type is aiohttp.WSMsgType.CLOSE


async def test_a_client_that_does_not_read_is_dropped(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(clients_stream, "SLOW_S", 0.2)
    listen = sockets.socket()
    listen.setsockopt(sockets.SOL_SOCKET, sockets.SO_SNDBUF, 4096)
    listen.bind(("127.0.0.1", 0))
    async with onsite(listen=listen) as bench:
        deaf = sockets.socket()
        deaf.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4096)
        deaf.setblocking(False)
        loop = asyncio.get_running_loop()
        try:
            await loop.sock_connect(deaf, ("127.0.0.1", listen.getsockname()[1]))
            key = base64.b64encode(os.urandom(16)).decode()
            await loop.sock_sendall(
                deaf,
                f"GET /v1/operator/stream?devices=dvc_1&token={bench.token} HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\n"
                f"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode(),
            )
            assert (await loop.sock_recv(deaf, 12)).endswith(b"101")
            async with asyncio.timeout(5), listening(bench, "dvc_1,dvc_2") as reader:
                [await frame(reader) for _ in range(2)]
                told = 0
                while "does not read its stream" not in caplog.text:
                    # every change is a frame; the reader beside it gets them all
                    told += 1
                    bench.show(charging("CP1/1") if told % 2 else view("CP1/1"))
                    bench.clock.advance(1)
                    assert await states(reader) == ["charging" if told % 2 else "idle", "idle"]
        finally:
            deaf.close()
