"""A tiny on-site host for the simulated charger of `drivers/sim/device`: takes everything, remembers it in order, and
hands out what a test puts into its hands. It checks nothing but tokens; the test judges what was said."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from aiohttp import web

from controller.clock import SystemClock
from drivers.sim.device import SimDevice
from drivers.sim.evse import NOTHING, SimEvse
from drivers.sim.quirks import DeviceQuirks
from drivers.sim.vehicle import Vehicle
from drivers.sim.world import SimCircuit, World

SPEED = 100.0
DEADLINE_S = 10.0
Json = dict[str, Any]


class Host:
    """`trouble`: answers (HTTP status, code, details) that the next requests to an operation get instead."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, Json]] = []
        self.polls: list[Json] = []
        self.identities: dict[str, Json] = {}
        self.tokens: set[str] = set()
        self.trouble: defaultdict[str, deque[tuple[int, int, Json]]] = defaultdict(deque)
        self.in_heartbeat: list[Json] = []
        self.wrapped_tokens = False
        self.token_life_s = 86400
        self.issued = 0
        self._waiting: defaultdict[int, deque[Json]] = defaultdict(deque)
        self._changed = asyncio.Condition()
        self._runner: web.AppRunner | None = None
        self._port = 0
        self._commands = 0

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._port}/v1"

    async def start(self) -> None:
        app = web.Application()
        app.add_routes(
            [web.post("/v1/device/{path:.+}", self._post), web.get("/v1/device/commands", self._poll)]
        )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.0, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        self._port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _post(self, request: web.Request) -> web.Response:
        path, body = request.match_info["path"], await request.json()
        async with self._changed:
            self.heard.append((path, body))
            self._changed.notify_all()
        refusal = self._refusal(request, path)
        if refusal is not None:
            return refusal
        if path == "register":
            if body["sn"] in self.identities:
                return _answer(409, 4001)
            identity = {
                "device_id": f"dvc_{len(self.identities) + 1}",
                "device_secret": "s",
                "expires_in": 86400,
            }
            self.identities[body["sn"]] = identity
            return _answer(200, 0, identity)
        if path == "token":
            self.issued += 1
            token = f"token-{self.issued}"
            self.tokens.add(token)
            bare = {"access_token": token, "token_type": "Bearer", "expires_in": self.token_life_s}
            return _answer(200, 0, bare) if self.wrapped_tokens else web.json_response(bare)
        if path == "heartbeat":
            commands, self.in_heartbeat = self.in_heartbeat, []
            return _answer(200, 0, {"commands": commands})
        return web.Response() if path == "telemetry" else _answer(200, 0)  # an empty answer is a success too

    async def _poll(self, request: web.Request) -> web.Response:
        number = int(request.query["connector_id"])
        async with self._changed:
            self.polls.append(dict(request.query))
            self._changed.notify_all()
        refusal = self._refusal(request, "commands")
        if refusal is not None:
            return refusal
        try:
            async with asyncio.timeout(int(request.query["wait"]) / SPEED), self._changed:
                await self._changed.wait_for(lambda: self._waiting[number])
                return _answer(200, 0, self._waiting[number].popleft())
        except TimeoutError:
            return _answer(200, 0)

    def _refusal(self, request: web.Request, path: str) -> web.Response | None:
        if self.trouble[path]:
            status, code, details = self.trouble[path].popleft()
            return _answer(status, code, details=details)
        if path in ("register", "token"):
            return None
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        return None if token in self.tokens else _answer(401, 2002)

    # --- what a test does with it -----------------------------------------------------------------------------

    def all(self, path: str, **fields: Any) -> list[Json]:
        return [body for heard, body in self.heard if heard == path and fields.items() <= body.items()]

    async def first(self, path: str, **fields: Any) -> Json:
        result: Json = (await self.until(lambda: self.all(path, **fields)))[0]
        return result

    async def until(self, condition: Callable[[], Any]) -> Any:
        async with asyncio.timeout(DEADLINE_S), self._changed:
            return await self._changed.wait_for(condition)

    async def offer(self, command: Any, connector: int = 1) -> None:
        async with self._changed:
            self._waiting[connector].append(command)
            self._changed.notify_all()

    async def next_poll(self, connector: int = 1) -> None:
        """Returns with the next poll: whatever was handed out before has been looked at."""
        seen = len(self.polls)
        await self.until(lambda: any(p["connector_id"] == str(connector) for p in self.polls[seen:]))

    def command(self, name: str, params: Json | None = None, expiry: Any = None) -> Json:
        self._commands += 1
        body: Json = {"command_id": f"cmd_{self._commands}", "command": name, "params": params or {}}
        return body if expiry is None else body | {"expiry": expiry}


@dataclass
class Bench:
    host: Host
    world: World
    clock: SystemClock
    evses: list[SimEvse]
    quirks: DeviceQuirks
    store: Json = field(default_factory=dict)
    device: SimDevice = field(init=False)
    _running: asyncio.Task[None] | None = None

    @property
    def evse(self) -> SimEvse:
        return self.evses[0]

    def switch_on(self) -> None:
        """A new process with the same memory and the same hardware."""
        self.device = SimDevice(
            "SN1",
            "TP-AC22",
            "260420.0107",
            self.host.base_url,
            self.evses,
            self.clock,
            self.store,
            quirks=self.quirks,
        )
        self._running = asyncio.create_task(self.device.run())

    async def switch_off(self) -> None:
        assert self._running is not None
        self._running.cancel()
        await asyncio.wait({self._running})
        if not self._running.cancelled():
            self._running.result()

    def plug(self, number: int = 1, soc: float = 0.3) -> Vehicle:
        vehicle = Vehicle("VAN", None, battery_wh=80_000.0, soc=soc, max_a=32.0, reaction_s=1.0)
        self.evses[number - 1].plug(vehicle)
        return vehicle

    def soon(self, seconds: float = 900.0) -> str:
        return (self.clock.now().utc + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")

    async def order(self, name: str, params: Json | None = None, connector: int = 1) -> str:
        """Offers a command with an expiry to a poll; returns its id when the charger has said its word on it."""
        command = self.host.command(name, params, self.soon())
        await self.host.offer(command, connector)
        await self.host.first("command-status", command_id=command["command_id"])
        return str(command["command_id"])

    async def word(self, command_id: str, *words: str) -> Json:
        """The status of these words in this order, and no other; returns the last one. One whose answer was cut off
        comes again, with the same words."""

        def said() -> list[str]:
            statuses = self.host.all("command-status", command_id=command_id)
            return list(dict.fromkeys(body["status"] for body in statuses))

        await self.host.until(lambda: len(said()) >= len(words))
        assert said() == list(words)
        return self.host.all("command-status", command_id=command_id, status=words[-1])[0]

    async def eventually(self, condition: Callable[[], Any]) -> None:
        """Polls physical truth, which tells nobody when it changes."""
        async with asyncio.timeout(DEADLINE_S):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.005)

    async def offered(self, amps: float) -> None:
        await self.eventually(lambda: abs(self.evse.offered_a - amps) < 0.01)


@asynccontextmanager
async def bench(*evses: SimEvse, on: bool = True, **quirks: Any) -> AsyncIterator[Bench]:
    """A charger that is connected (unless `on` is False); it dials again at once after trouble."""
    own = list(evses) or [SimEvse("SN1/1", 32.0)]
    clock = SystemClock(SPEED)
    host = Host()
    await host.start()
    world = World(clock, 1, {"site": SimCircuit(None, 200.0)}, own, lambda _: NOTHING)
    physics = asyncio.create_task(world.run())
    one = Bench(host, world, clock, own, DeviceQuirks(**{"spread_s": 1.0, **quirks}))
    try:
        if on:
            one.switch_on()
            await one.eventually(lambda: one.device.connected)
        yield one
    finally:
        physics.cancel()
        if one._running is not None:
            await one.switch_off()
        await host.stop()


def _answer(status: int, code: int, data: Any = None, details: Json | None = None) -> web.Response:
    body: Json = {"code": code, "message": "told so", "data": data}
    return web.json_response(body | ({"details": details} if details else {}), status=status)
