"""A scripted Open Platform on a real socket and an operator client that talks to it, for the client's tests."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter, defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web

from controller.clock import SystemClock
from controller.core import events as ev
from controller.core.commands import SetLimit, StartCharging, StartDischarge, StopCharging
from controller.core.model import SITE, Evse, EvseId, Link, Moment, StationId, Verdict
from controller.ports import Clock
from drivers.openplatform import rest
from drivers.openplatform.operator import PlatformOperator
from drivers.openplatform.settings import CHANNEL, CloudDevice, CloudSettings

SECRET, TOKEN = "s3cret-of-the-depot", "token-of-the-day"
ALL = frozenset({"monitor", "control", "flexibility", "v2g"})
DEADLINE_S = 8.0
FAST = 120.0  # clock seconds per second: back-offs pass quickly, order stays

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


# --- the scripted platform --------------------------------------------------------------------------------------


def says(
    status: int, code: int | None = None, data: Any = None, body: str | None = None, **details: Any
) -> Handler:
    async def handle(_: web.Request) -> web.StreamResponse:
        if body is not None:
            return web.Response(status=status, text=body, content_type="text/html")
        envelope: dict[str, Any] = {"code": code, "message": f"for you: {SECRET} {TOKEN}1", "data": data}
        return web.json_response(envelope | ({"details": details} if details else {}), status=status)

    return handle


async def mute(_: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError


async def hang_up(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def drip(request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse(headers={"Content-Length": "1000"})
    await answer.prepare(request)
    with contextlib.suppress(ConnectionError):
        while True:
            await answer.write(b" ")
            await asyncio.sleep(0.05)
    return answer


HTML = says(200, body="<html><h1>Guest network</h1></html>")


class Platform:
    """Answers sensibly unless `script[operation]` holds something else for the next request."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.script: defaultdict[str, deque[Handler]] = defaultdict(deque)
        self.always: dict[str, Handler] = {}
        self.count: Counter[str] = Counter()
        self.bodies: list[tuple[str, str, Any]] = []
        self.heads: list[tuple[str, str, str, Any]] = []  # operation, raw path, raw body, headers
        self.seen_s: defaultdict[str, list[float]] = defaultdict(list)
        self.records: list[dict[str, Any]] = []
        self.devices: dict[str, dict[str, Any]] = {}
        self.sockets: list[web.WebSocketResponse] = []
        self.progress = "accepted"
        self.token_life_s = 86400
        self.changed = asyncio.Event()
        self._tokens = 0
        self._speaking: set[asyncio.Task[None]] = set()
        self._runner: web.AppRunner | None = None
        self.port = 0

    async def start(self) -> None:
        app = web.Application()
        app.router.add_route("*", "/v1/operator/{tail:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.01, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        for speaking in self._speaking:
            speaking.cancel()
        for socket in self.sockets:
            await socket.close()
        if self._runner is not None:
            await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        parts = request.match_info["tail"].split("/")
        operation = {
            "oauth": "token",
            "commands": "command",
            "control": "flexibility",
            "stream": "stream",
            "sites": "sites",
            "charging-records": "records",
            "aggregated": "energy",
        }.get(parts[0], parts[-1] if len(parts) > 2 else "device")
        self.count[operation] += 1
        self.seen_s[operation].append(self.clock.now().mono_s)
        text = await request.text()
        self.bodies.append(
            (operation, request.path, json.loads(text) if text else dict(request.query) or None)
        )
        self.heads.append((operation, request.raw_path, text, request.headers))
        self.changed.set()
        if self.script[operation]:
            return await self.script[operation].popleft()(request)
        if operation in self.always:
            return await self.always[operation](request)
        return await getattr(self, f"_{operation}", self._control)(request)

    async def _token(self, _: web.Request) -> web.StreamResponse:
        self._tokens += 1
        token = {
            "access_token": f"{TOKEN}{self._tokens}",
            "token_type": "Bearer",
            "expires_in": self.token_life_s,
        }
        return web.json_response(token)

    async def _device(self, request: web.Request) -> web.StreamResponse:
        found = self.devices.get(request.match_info["tail"].split("/")[1])
        if found is None:
            return await says(404, 3001)(request)
        return web.json_response({"code": 0, "message": "success", "data": found})

    async def _control(self, request: web.Request) -> web.StreamResponse:
        return await says(200, 0, {"command_id": f"cmd_{self.count.total()}", "status": "queued"})(request)

    async def _schedule(self, request: web.Request) -> web.StreamResponse:
        """The charger speaks soon after, which is what proves that it was reached."""
        device = request.match_info["tail"].split("/")[1]
        speaking = asyncio.create_task(self._speak(device))
        self._speaking.add(speaking)
        speaking.add_done_callback(self._speaking.discard)
        return await says(200, 0)(request)

    async def _speak(self, device: str) -> None:
        await asyncio.sleep(0.03)
        for socket in self.sockets:
            with contextlib.suppress(ConnectionError):
                await socket.send_json({"device_id": device, "connectors": []})

    async def _sites(self, request: web.Request) -> web.StreamResponse:
        items = [{"site_id": "st-1", "name": "Noord", "total_connectors": 4, "power_capacity": 88.5}]
        return await says(200, 0, {"items": items, "total": 1, "page": 1, "size": 100})(request)

    async def _records(self, request: web.Request) -> web.StreamResponse:
        since, until = (datetime.fromisoformat(request.query[f"{end}_time"]) for end in ("start", "end"))
        found = [r for r in self.records if since <= datetime.fromisoformat(r["start_time"]) < until]
        number, size = int(request.query["page"]), int(request.query["size"])
        page = found[(number - 1) * size : number * size]
        return await says(200, 0, {"items": page, "total": len(found), "page": number, "size": size})(request)

    async def _energy(self, request: web.Request) -> web.StreamResponse:
        series = [{"time": "2026-06-02T10:00:00Z", "charge_energy": 12.5, "discharge_energy": 0.25}]
        return await says(200, 0, {"granularity": "hour", "series": series})(request)

    async def _flexibility(self, request: web.Request) -> web.StreamResponse:
        return await says(200, 0, {"control_id": "flx", "status": "executing"})(request)

    async def _command(self, request: web.Request) -> web.StreamResponse:
        return await says(
            200, 0, {"command_id": "c", "status": self.progress, "result": {"message": "no car"}}
        )(request)

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.sockets.append(socket)
        self.changed.set()
        async for _ in socket:
            pass
        return socket

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not true():
                self.changed.clear()
                await self.changed.wait()

    async def push(self, device: str, connector: int = 1, **fields: Any) -> None:
        stamp = self.clock.now().utc.strftime("%Y-%m-%dT%H:%M:%SZ")
        frame = {
            "device_id": device,
            "timestamp": stamp,
            "connectors": [{"connector_id": connector, **fields}],
        }
        await self.sockets[-1].send_json(frame)


def a_device(firmware: str = "260420.0107", online: bool = True, **connector: Any) -> dict[str, Any]:
    idle = {"connector_id": 1, "status": "idle", "power": 0, "energy_delivered": 0}
    device = {"device_id": "ignored", "sn": "SN", "model": "TP-AC22", "manufacturer": "Tellus Power"}
    state = {"firmware_version": firmware, "status": "online" if online else "offline"}
    return device | state | {"connectors": [idle | connector]}


# --- the depot's side -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Said:
    verdict: Verdict = Verdict.ACCEPTED
    transaction: str | None = "77"


class Recorder:
    def __init__(self) -> None:
        self.events: list[Any] = []
        self._news = asyncio.Event()

    async def __call__(self, event: ev.Event) -> Said:
        self.events.append(event)
        self._news.set()
        return Said()

    def of(self, *kinds: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kinds)]

    def outcome(self, command: str) -> Any:
        ends = self.of(ev.CommandAccepted, ev.CommandRefused, ev.CommandLost, ev.CommandReplaced)
        found = [event for event in ends if event.command == command]
        assert len(found) <= 1, f"{command} ended twice: {found}"
        return found[0] if found else None

    async def until(self, true: Callable[[], Any]) -> Any:
        async with asyncio.timeout(DEADLINE_S):
            while not (found := true()):
                self._news.clear()
                await self._news.wait()
        return found

    async def ended(self, command: str) -> Any:
        return await self.until(lambda: self.outcome(command))


class ManualClock:
    """Time that passes only when told."""

    def __init__(self, trusted: bool = True) -> None:
        self._now = Moment(1000.0, datetime(2026, 6, 2, 10, 0, 0, tzinfo=UTC), trusted)
        self._sleepers: list[tuple[float, asyncio.Event]] = []

    def now(self) -> Moment:
        return self._now

    async def sleep(self, seconds: float) -> None:
        due = asyncio.Event()
        self._sleepers.append((self._now.mono_s + max(0.0, seconds), due))
        self._wake()
        await due.wait()

    def advance(self, seconds: float) -> None:
        self._now = Moment(
            self._now.mono_s + seconds, self._now.utc + timedelta(seconds=seconds), self._now.utc_trusted
        )
        self._wake()

    def _wake(self) -> None:
        for due_s, event in self._sleepers:
            if due_s <= self._now.mono_s:
                event.set()
        self._sleepers = [sleeper for sleeper in self._sleepers if not sleeper[1].is_set()]


@dataclass
class Site:
    platform: Platform
    operator: PlatformOperator
    heard: Recorder
    clock: Clock


def a_site(
    platform: Platform, names: list[str], answer_s: float, records: bool = False, **changes: Any
) -> CloudSettings:
    link = Link(CHANNEL, lease_s=900, lease_slack_s=120, raise_gap_s=60, answer_s=answer_s)
    devices = {}
    for name in names:
        evse = Evse(EvseId(f"{name}/1"), StationId(name), SITE, 32_000, 6_000, (0, 1, 2), 6_000, link)
        devices[StationId(name)] = CloudDevice(f"dvc_{name}", {1: evse})
        platform.devices.setdefault(f"dvc_{name}", a_device())
    settings = CloudSettings(
        f"http://127.0.0.1:{platform.port}/v1",
        "eu",
        "me",
        SECRET,
        devices,
        "sole",
        ALL,
        "J",
        "Europe/Amsterdam",
    )
    settings = replace(settings, **changes)
    # records are asked for in tests of their own
    later = replace(settings.readings, records_after_s=settings.readings.records_after_s + 1e6)
    return settings if records else replace(settings, readings=later)


@contextlib.asynccontextmanager
async def site(
    names: str = "CP1",
    clock: Clock | None = None,
    prepare: Callable[[Platform], Any] = lambda _: None,
    wait: str = "ok",
    answer_s: float = 600,  # far away: at this speed a busy machine loses seconds
    on_request: rest.OnRequest | None = None,
    **changes: Any,
) -> AsyncIterator[Site]:
    """A running client. `wait`: the channel state to wait for before the test goes on; "" = none."""
    clock = clock or SystemClock(speed=FAST)
    platform = Platform(clock)
    await platform.start()
    settings = a_site(platform, names.split(), answer_s, **changes)
    prepare(platform)
    try:
        operator, heard = PlatformOperator(settings, clock, seed=1, on_request=on_request), Recorder()
    except Exception:
        await platform.stop()
        raise
    task = asyncio.create_task(operator.run(heard))
    try:
        if wait:
            await heard.until(lambda: any(e.state == wait for e in heard.of(ev.ChannelChanged)))
        if wait == "ok":
            await heard.until(lambda: len(heard.of(ev.LinkUp)) == len(settings.devices))
            await platform.until(lambda: len(platform.sockets) == 1)
        yield Site(platform, operator, heard, clock)
        assert not task.done(), task
    finally:
        task.cancel()
        results = await asyncio.gather(task, return_exceptions=True)
        await platform.stop()
    assert isinstance(results[0], asyncio.CancelledError), results


def limit(id: str = "c1", limit_ma: int = 16_000, cp: str = "CP1", raises: bool = False) -> SetLimit:
    return SetLimit(id, EvseId(f"{cp}/1"), CHANNEL, limit_ma, 900, raises=raises)


def start(id: str = "c1", cp: str = "CP1") -> StartCharging:
    return StartCharging(id, EvseId(f"{cp}/1"), CHANNEL, "04A2B3C4", 16_000)


def stop(id: str = "c1", cp: str = "CP1") -> StopCharging:
    return StopCharging(id, EvseId(f"{cp}/1"), CHANNEL, "77", "asked by J.")


def discharge(
    id: str = "c1", power_w: int = 7_005, duration_s: float = 1800, min_soc: int = 30
) -> StartDischarge:
    return StartDischarge(id, EvseId("CP1/1"), CHANNEL, power_w, duration_s, min_soc)
