"""A tiny OCPP 2.x (or 1.6) central system on a real socket that checks every word of the station against the schemas.

What does not fit is collected in `faults`; the bench fails the test for it at the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from functools import cache
from importlib.resources import files
from typing import Any

import jsonschema_rs
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from controller.clock import SystemClock
from drivers.sim.charger2 import SimStation
from drivers.sim.evse import SimEvse
from drivers.sim.stamps import stamp
from drivers.sim.v2g import V2gEvse
from drivers.sim.vehicle import Vehicle
from drivers.sim.world import SimCircuit, World

SPEED = 100.0
DEADLINE_S = 10.0
FOLDERS = {"ocpp1.6": "v16", "ocpp2.0.1": "v201", "ocpp2.1": "v21"}
Json = dict[str, Any]
BOOT = {"status": "Accepted", "interval": 300, "currentTime": "2026-11-22T12:00:00Z"}


@cache
def schema(version: str, action: str, answer: bool) -> Any:
    """The validator of a message; None where the version has no such message."""
    ending = "Response" if answer else ("" if version == "ocpp1.6" else "Request")
    path = files("ocpp") / FOLDERS[version] / "schemas" / f"{action}{ending}.json"
    return jsonschema_rs.validator_for(json.loads(path.read_text("utf-8-sig"))) if path.is_file() else None


class Central:
    """Answers what a friendly central system answers; remembers every call in order."""

    def __init__(self, versions: Sequence[str] = ("ocpp2.0.1",)) -> None:
        self.versions = versions
        self.heard: list[tuple[str, Json]] = []
        self.faults: list[str] = []
        self.answers: dict[str, Any] = {  # None: stays silent; a function gets the payload
            "BootNotification": BOOT,
            "Heartbeat": {"currentTime": "2026-11-22T12:00:00Z"},
            "Authorize": {"idTokenInfo": {"status": "Accepted"}},
            "SignCertificate": {"status": "Accepted"},
        }
        self.version = ""
        self.headers: list[Any] = []
        self.peers: list[bytes] = []  # certificates of the stations, in order of their links
        self._changed = asyncio.Condition()
        self._results: dict[str, list[Any]] = {}
        self._asked: dict[str, str] = {}
        self._socket: ServerConnection | None = None

    @property
    def up(self) -> bool:
        return self._socket is not None

    async def handle(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        self.headers.append((socket.request.path, socket.request.headers))
        self.version = str(socket.subprotocol)
        tls = socket.transport.get_extra_info("ssl_object")
        if tls is not None:
            self.peers.append(tls.getpeercert(binary_form=True))
        self._socket = socket
        async with self._changed:
            self._changed.notify_all()
        with contextlib.suppress(ConnectionClosed):
            async for frame in socket:
                await self._take(socket, json.loads(frame))
        if self._socket is socket:
            self._socket = None
        async with self._changed:
            self._changed.notify_all()

    async def _take(self, socket: ServerConnection, message: list[Any]) -> None:
        async with self._changed:
            if message[0] == 2:
                _, id, action, payload = message
                self._check(action, payload, False)
                self.heard.append((action, payload))
                answer = self.answers.get(action, {})
                if callable(answer):
                    answer = answer(payload)
                if answer is not None:
                    self._check(action, answer, True)
                    await socket.send(json.dumps([3, id, answer]))
            else:
                if message[0] == 3:
                    self._check(self._asked[message[1]], message[2], True)
                self._results[message[1]] = message
            self._changed.notify_all()

    def _check(self, action: str, payload: Json, answer: bool) -> None:
        validator = schema(self.version, action, answer)
        if validator is None:
            self.faults.append(f"{self.version} has no {action}")
            return
        for error in validator.iter_errors(payload):
            self.faults.append(f"{action}{' answer' if answer else ''}: {error.message} in {payload}")

    async def until(self, condition: Callable[[], Any]) -> Any:
        """Waits for something that a message or the end of a link brings about."""
        async with asyncio.timeout(DEADLINE_S), self._changed:
            await self._changed.wait_for(condition)
        return condition()

    async def call(self, action: str, payload: Json) -> Any:
        """The answer's payload, or the CALLERROR's code."""
        validator = schema(self.version, action, False)
        wrong = [error.message for error in validator.iter_errors(payload)] if validator is not None else []
        assert wrong == [], f"the test's own {action}: {wrong}"
        return await self.call_anyhow(action, payload)

    async def call_anyhow(self, action: str, payload: Json) -> Any:
        """The same without a look at what is sent."""
        assert self._socket is not None
        id = f"c{len(self._asked)}"
        self._asked[id] = action
        await self._socket.send(json.dumps([2, id, action, payload]))
        result = await self.until(lambda: self._results.get(id))
        return result[2]

    def all(self, action: str) -> list[Json]:
        return [payload for heard, payload in self.heard if heard == action]

    async def first(self, action: str, after: int = 0, **fields: Any) -> Json:
        """The first such message whose fields are these; `after` leaves out what was heard before that mark."""

        def found() -> list[Json]:
            return [
                payload
                for heard, payload in self.heard[after:]
                if heard == action and fields.items() <= payload.items()
            ]

        result: Json = (await self.until(found))[0]
        return result

    def mark(self) -> int:
        return len(self.heard)

    async def event(self, trigger: str, kind: str | None = None, after: int = 0, **fields: Any) -> Json:
        if kind is not None:
            fields["eventType"] = kind
        return await self.first("TransactionEvent", after, triggerReason=trigger, **fields)

    async def state(self, state: str, after: int = 0) -> Json:
        """The first event with this charging state."""

        def found() -> list[Json]:
            return [
                payload
                for heard, payload in self.heard[after:]
                if heard == "TransactionEvent" and payload["transactionInfo"].get("chargingState") == state
            ]

        result: Json = (await self.until(found))[0]
        return result


class Bench:
    def __init__(self, central: Central, station: SimStation, world: World, server: Server) -> None:
        self.central, self.station, self.world, self.server = central, station, world, server
        self.evse = station.evses[0].evse
        self.clock = world.clock
        self.call = central.call

    def plug(self, number: int = 1, **habits: Any) -> Vehicle:
        vehicle = Vehicle(
            **{"id": "VAN", "token": "TAG", "battery_wh": 60_000.0, "soc": 0.3, "max_a": 32.0, **habits}
        )
        self.station.evses[number - 1].evse.plug(vehicle)
        return vehicle

    async def session(self) -> str:
        """A vehicle that charges; returns the transaction's id."""
        self.plug()
        self.evse.present("TAG")
        event = await self.central.state("Charging")
        return str(event["transactionInfo"]["transactionId"])

    async def eventually(self, condition: Callable[[], Any]) -> None:
        """Polls physical truth, which tells nobody when it changes."""
        async with asyncio.timeout(DEADLINE_S):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.005)

    async def drawing(self, amps: float) -> None:
        await self.eventually(lambda: abs(self.evse.current_a[0] - amps) < 0.01)

    def in_s(self, seconds: float) -> str:
        return stamp(self.clock.now().utc + timedelta(seconds=seconds))

    def profile(self, purpose: str, amps: float | None, evse: int = 1, id: int = 1, **more: Any) -> Json:
        """A SetChargingProfile; `period` and `schedule` in `more` go there, the rest into the profile."""
        period = {"startPeriod": 0, **({} if amps is None else {"limit": amps}), **more.pop("period", {})}
        schedule = {
            "id": id,
            "chargingRateUnit": "A",
            "startSchedule": self.in_s(-60),
            "chargingSchedulePeriod": [period],
            **more.pop("schedule", {}),
        }
        profile = {
            "id": id,
            "stackLevel": 0,
            "chargingProfilePurpose": purpose,
            "chargingProfileKind": "Absolute",
            "chargingSchedule": [schedule],
            **more,
        }
        return {"evseId": evse, "chargingProfile": profile}


def port_of(server: Server) -> int:
    return int(next(iter(server.sockets)).getsockname()[1])


@asynccontextmanager
async def listening(central: Central, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    protocols = [Subprotocol(name) for name in central.versions]
    async with serve(
        central.handle, "127.0.0.1", 0, subprotocols=protocols, close_timeout=0.5, ssl=tls
    ) as server:
        yield server


@asynccontextmanager
async def bench(
    version: str = "ocpp2.0.1",
    *,
    evses: int = 1,
    v2g: bool = False,
    wait: bool = True,
    answers: Mapping[str, Any] | None = None,
    speed: float = SPEED,
    server_tls: ssl.SSLContext | None = None,
    **options: Any,
) -> AsyncIterator[Bench]:
    central = Central([version])
    central.answers |= answers or {}
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(listening(central, server_tls))
        clock = SystemClock(speed)
        make = V2gEvse if v2g else SimEvse
        points = [make(f"CS1/{number}", max_a=32.0) for number in range(1, evses + 1)]
        world = World(clock, 1, {"site": SimCircuit(None, 63.0)}, points, lambda _: (0.0, 0.0, 0.0))
        url = f"{'ws' if server_tls is None else 'wss'}://127.0.0.1:{port_of(server)}/ocpp"
        station = SimStation(
            "CS1", url, points, clock=clock, **{"password": "s3cret", "answer_s": 5.0, **options}
        )
        tasks = [asyncio.create_task(station.run()), asyncio.create_task(world.run())]
        try:
            if wait:
                await central.first("StatusNotification", evseId=evses)
            yield Bench(central, station, world, server)
        finally:
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert [error for error in ended if not isinstance(error, asyncio.CancelledError)] == []
        assert central.faults == []
