"""The client on a real Unix socket, against a small server that says what each test wants."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from controller.core import wire
from controller.core.snapshot import Snapshot
from ui.app import DepotApp, run_dashboard
from ui.client import CallRefused, Client, Disconnected, NotReachable

from . import depot_values as values
from .screen_text import screen_text, until

Send = Callable[[Any], Awaitable[None]]
Handler = Callable[[dict[str, Any], Send], Coroutine[Any, Any, None]]


@asynccontextmanager
async def serving(path: Path, handler: Handler) -> AsyncIterator[None]:
    """A controller's socket: every connection's requests go to `handler`, which sends what it likes."""

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def send(message: Any) -> None:
            raw = message if isinstance(message, bytes) else json.dumps(message).encode() + b"\n"
            writer.write(raw)
            await writer.drain()

        try:
            async with asyncio.TaskGroup() as requests:
                while line := await reader.readline():
                    requests.create_task(handler(json.loads(line), send))
        except* ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_unix_server(connection, path)
    try:
        yield
    finally:
        server.close()
        await server.wait_closed()


def status() -> dict[str, Any]:
    return wire.status(values.normal())


async def test_call_sends_one_line_and_returns_the_answer(tmp_path: Path) -> None:
    got = []

    async def handler(request: dict[str, Any], send: Send) -> None:
        got.append(request)
        await send({"id": request["id"], "ok": {"order": "o-12"}})

    async with serving(tmp_path / "s", handler):
        answer = await Client(tmp_path / "s").call("limit", evse="CP001/1", limit_ma=None)
    assert answer == {"order": "o-12"}
    assert got == [{"id": 1, "call": "limit", "args": {"evse": "CP001/1", "limit_ma": None}}]


async def test_a_refusal_keeps_code_and_text(tmp_path: Path) -> None:
    async def handler(request: dict[str, Any], send: Send) -> None:
        await send({"id": request["id"], "error": {"code": "unknown-evse", "text": "no EVSE CP9/1"}})

    async with serving(tmp_path / "s", handler):
        with pytest.raises(CallRefused, match="no EVSE CP9/1") as refused:
            await Client(tmp_path / "s").call("pause", evse="CP9/1")
    assert refused.value.code == "unknown-evse"


async def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(NotReachable, match="no such file"):
        await Client(tmp_path / "absent").call("status")
    with pytest.raises(NotReachable):
        await Client("/" + "x" * 200).call("status")


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 400 Bad Request\r\n", b"[]\n", b'{"id":1}\n', b"\xff\xfe\n", b'{"ok":3}\n']
)
async def test_something_else_listens_there(tmp_path: Path, answer: bytes) -> None:
    async def handler(request: dict[str, Any], send: Send) -> None:
        await send(answer)

    async with serving(tmp_path / "s", handler):
        with pytest.raises(NotReachable, match="not a depot controller"):
            await Client(tmp_path / "s").call("status")


async def test_a_silent_controller_is_not_waited_for_forever(tmp_path: Path) -> None:
    async def handler(request: dict[str, Any], send: Send) -> None:
        return

    async with serving(tmp_path / "s", handler):
        with pytest.raises(NotReachable, match="no answer"):
            await Client(tmp_path / "s", answer_s=0.05).call("status")


async def test_watch_yields_every_change(tmp_path: Path) -> None:
    async def handler(request: dict[str, Any], send: Send) -> None:
        assert request["call"] == "watch"
        await send({"id": request["id"], "ok": status()})
        await send({"id": request["id"], "ok": wire.status(values.abnormal())})

    async with serving(tmp_path / "s", handler):
        assert await _watched(Client(tmp_path / "s"), 2) == [values.normal(), values.abnormal()]


async def test_watch_reconnects_when_the_controller_comes_back(tmp_path: Path) -> None:
    async def handler(request: dict[str, Any], send: Send) -> None:
        await send({"id": request["id"], "ok": status()})

    async with aclosing(Client(tmp_path / "s", retry_s=0.01).watch()) as news:
        first = await anext(news)
        assert isinstance(first, Disconnected) and "no such file" in first.text
        async with serving(tmp_path / "s", handler):
            while isinstance(got := await anext(news), Disconnected):
                pass
            assert got == values.normal()


async def test_watch_survives_a_controller_of_another_version(tmp_path: Path) -> None:
    async def handler(request: dict[str, Any], send: Send) -> None:
        await send({"id": request["id"], "ok": {"version": 99}})

    async with serving(tmp_path / "s", handler):
        news = await _watched(Client(tmp_path / "s", retry_s=0.01), 2)
    assert all(isinstance(one, Disconnected) and "version 99" in one.text for one in news)


async def test_a_quiet_watch_asks_for_the_status_and_goes_on(tmp_path: Path) -> None:
    calls = []

    async def handler(request: dict[str, Any], send: Send) -> None:
        calls.append(request["call"])
        if request["call"] == "status":
            await send({"id": request["id"], "ok": status()})

    async with serving(tmp_path / "s", handler):
        assert await _watched(Client(tmp_path / "s", silence_s=0.02), 2) == [values.normal(), values.normal()]
    assert calls == ["watch", "status", "status"]


async def test_a_controller_that_hangs_counts_as_lost(tmp_path: Path) -> None:
    async def handler(request: dict[str, Any], send: Send) -> None:
        return

    async with serving(tmp_path / "s", handler):
        [news] = await _watched(Client(tmp_path / "s", silence_s=0.02, answer_s=0.02), 1)
    assert isinstance(news, Disconnected) and "no answer" in news.text


async def test_fifty_evses_fit_through_the_socket(tmp_path: Path) -> None:
    async def handler(request: dict[str, Any], send: Send) -> None:
        await send({"id": request["id"], "ok": wire.status(values.big(50))})

    async with serving(tmp_path / "s", handler):
        [got] = await _watched(Client(tmp_path / "s"), 1)
    assert got == values.big(50)


async def test_the_dashboard_on_the_socket_sends_a_confirmed_order(tmp_path: Path) -> None:
    orders = []

    async def handler(request: dict[str, Any], send: Send) -> None:
        if request["call"] == "watch":
            await send({"id": request["id"], "ok": status()})
        elif request["call"] in values.LOOKS:
            await send({"id": request["id"], "error": {"code": "unknown-call", "text": "no such call"}})
        else:
            orders.append((request["call"], request["args"]))
            await send({"id": request["id"], "ok": {"order": "o-1"}})

    async with serving(tmp_path / "s", handler):
        app = DepotApp(Client(tmp_path / "s"))
        async with app.run_test(size=(80, 24)) as pilot:
            await until(lambda: "Depot Noord" in screen_text(app))
            await pilot.press("enter", "p", "y")
            await until(lambda: "taken as order o-1" in screen_text(app))
    assert orders == [("pause", {"evse": "CP001/1"})]


def test_without_a_terminal_it_says_what_to_use_instead(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_dashboard("/nowhere") == 2
    assert "depot status" in capsys.readouterr().err


async def _watched(client: Client, count: int) -> list[Snapshot | Disconnected]:
    got: list[Snapshot | Disconnected] = []
    async with asyncio.timeout(5), aclosing(client.watch()) as news:
        async for one in news:
            got.append(one)
            if len(got) == count:
                break
    return got
