"""A host on a real port, a clock moved by hand, a depot that writes down what it hears, and a charger made of requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import aiohttp

from controller.core import events as ev
from controller.core.commands import SetLimit, StartCharging, StartDischarge, StopCharging
from controller.core.model import SITE, Evse, EvseId, Link, Moment, StationId, Verdict, evse_id
from controller.core.readings import Readings
from controller.core.snapshot import Snapshot
from drivers.openplatform.onsite import CHANNEL, OnsiteCharger, OnsiteHost, OnsiteSettings

NOON = datetime(2026, 6, 2, 12, 0, 0, tzinfo=UTC)
PATIENCE_S = 5.0
LINK = Link(CHANNEL, 180, 125, 5, 45, lease_ends_with_transaction=False)
ALL = frozenset({"monitor", "control", "v2g", "flexibility"})

E = TypeVar("E")


class HandClock:
    """Time stands still until `advance`."""

    def __init__(self) -> None:
        self.mono_s, self.utc = 1000.0, NOON
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def now(self) -> Moment:
        return Moment(self.mono_s, self.utc)

    async def sleep(self, seconds: float) -> None:
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self.mono_s + seconds, woken))
        await woken

    def advance(self, seconds: float) -> None:
        self.mono_s += seconds
        self.utc += timedelta(seconds=seconds)
        for due_s, woken in self._sleepers:
            if due_s <= self.mono_s and not woken.done():
                woken.set_result(None)
        self._sleepers = [(due_s, woken) for due_s, woken in self._sleepers if not woken.done()]


@dataclass
class Said:
    verdict: Verdict = Verdict.ACCEPTED
    transaction: str | None = None


class Heard:
    """Numbers transactions as the ledger does."""

    def __init__(self) -> None:
        self.events: list[ev.Event] = []
        self._changed = asyncio.Condition()

    async def report(self, event: ev.Event) -> Said:
        async with self._changed:
            self.events.append(event)
            self._changed.notify_all()
        if isinstance(event, ev.TransactionStarted):
            return Said(transaction=event.transaction or f"tx{len(self.of(ev.TransactionStarted))}")
        return Said()

    def of(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    async def until(self, holds: Callable[[], object]) -> None:
        async with self._changed, asyncio.timeout(PATIENCE_S):
            await self._changed.wait_for(holds)

    async def ended(self, command: str) -> ev.Event:
        """How the command ended: exactly one event says so."""
        kinds = ev.CommandAccepted | ev.CommandRefused | ev.CommandLost | ev.CommandReplaced

        def ends() -> list[ev.Event]:
            return [e for e in self.events if isinstance(e, kinds) and e.command == command]

        await self.until(ends)
        assert len(ends()) == 1
        return ends()[0]


class Peer:
    """A charger by hand: every operation is one call, and returns (HTTP status, body)."""

    def __init__(self, bench: Bench, serial: str, model: str = "TP-AC22") -> None:
        self._bench = bench
        self.serial, self.model, self.firmware = serial, model, "260420.0107"
        self.device_id = self.secret = self.token = ""

    async def register(self) -> tuple[int, Any]:
        body = {
            "sn": self.serial,
            "model": self.model,
            "manufacturer": "T",
            "firmware_version": self.firmware,
        }
        status, answer = await self._bench.post("register", body)
        if status == 200:
            self.device_id, self.secret = answer["data"]["device_id"], answer["data"]["device_secret"]
        return status, answer

    async def login(self) -> tuple[int, Any]:
        body = {
            "device_id": self.device_id,
            "device_secret": self.secret,
            "grant_type": "client_credentials",
        }
        status, answer = await self._bench.post("token", body)
        if status == 200:
            self.token = answer["access_token"]
        return status, answer

    async def say(self, operation: str, **body: Any) -> tuple[int, Any]:
        """One upload; the timestamp is now unless given."""
        body = {"timestamp": self._bench.stamp()} | body
        return await self._bench.post(operation, body, self.token)

    async def heartbeat(self, **more: Any) -> tuple[int, Any]:
        return await self.say("heartbeat", **({"status": "online", "fault_code": 0} | more))

    async def telemetry(self, state: str, kwh: float = 0.0, kw: float = 0.0, **more: Any) -> tuple[int, Any]:
        values = {"connector_id": 1, "voltage": 230.0, "current": kw / 0.69, "power": kw}
        return await self.say("telemetry", **({"state": state, "energy_delivered": kwh} | values | more))

    async def event(self, kind: str, number: int = 1, at: str | None = None, **data: Any) -> tuple[int, Any]:
        stamp = {} if at is None else {"timestamp": at}
        return await self.say("events", event_type=kind, connector_id=number, data=data, **stamp)

    async def poll(self, number: int = 1, wait: int = 5) -> Any:
        """The data of a long poll: a command or None."""
        path = f"/v1/device/commands?connector_id={number}&wait={wait}"
        status, answer = await self._bench.request("GET", path, token=self.token)
        assert (status, answer["code"]) == (200, 0), answer
        return answer["data"]

    async def word(self, command: Mapping[str, Any], status: str, **more: Any) -> tuple[int, Any]:
        return await self.say("command-status", command_id=command["command_id"], status=status, **more)


class Bench:
    """One run of a host."""

    def __init__(self, host: OnsiteHost, clock: HandClock, heard: Heard, http: aiohttp.ClientSession) -> None:
        self.host, self.clock, self.heard, self.http = host, clock, heard, http

    def stamp(self, ago_s: float = 0.0) -> str:
        return (self.clock.utc - timedelta(seconds=ago_s)).strftime("%Y-%m-%dT%H:%M:%SZ")

    async def request(
        self, method: str, path: str, body: Any = None, token: str = "", data: bytes | None = None
    ) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        url = f"http://127.0.0.1:{self.host.port}{path}"
        json = body if data is None else None
        async with self.http.request(method, url, json=json, data=data, headers=headers) as answer:
            return answer.status, await answer.json()

    async def post(self, operation: str, body: Any, token: str = "") -> tuple[int, Any]:
        return await self.request("POST", f"/v1/device/{operation}", body, token)

    async def waiting(self, serial: str, *numbers: int, alive: bool = True) -> None:
        """Returns once the host holds an open poll of each of these connectors, or knows that it is dead."""
        surface = self.host._surface
        assert surface is not None
        polls = surface._chargers[serial].hatch._polls
        async with asyncio.timeout(PATIENCE_S):
            while not all(number in polls and polls[number].alive is alive for number in numbers):  # noqa: ASYNC110
                await asyncio.sleep(0.002)

    async def charger(self, serial: str = "TP-1") -> Peer:
        """Registered, with a token, heard once."""
        peer = Peer(self, serial)
        assert (await peer.register())[0] == 200
        assert (await peer.login())[0] == 200
        assert (await peer.heartbeat())[0] == 200
        return peer


def an_evse(
    station: str = "CP1", number: int = 1, fallback_ma: int = 6_000, phases: tuple[int, ...] = (0, 1, 2)
) -> Evse:
    return Evse(evse_id(station, number), StationId(station), SITE, 32_000, 6_000, phases, fallback_ma, LINK)


def a_charger(station: str = "CP1", connectors: int = 2) -> OnsiteCharger:
    evses = {number: an_evse(station, number) for number in range(1, connectors + 1)}
    return OnsiteCharger(StationId(station), "TP-AC22", evses)


def some_settings(
    purposes: frozenset[str] = ALL, readings: Readings | None = None, chargers: int = 2
) -> OnsiteSettings:
    known = {f"TP-{n}": a_charger(f"CP{n}") for n in range(1, chargers + 1)}
    return OnsiteSettings("127.0.0.1", 0, None, None, known, (), "J", purposes, "UTC", readings or Readings())


@asynccontextmanager
async def onsite(
    folder: Path,
    settings: OnsiteSettings | None = None,
    clock: HandClock | None = None,
    heard: Heard | None = None,
    look: Callable[[], Snapshot | None] = lambda: None,
) -> AsyncIterator[Bench]:
    """A running host; leaving stops it. The same folder again is the same host after a restart."""
    clock, heard = clock or HandClock(), heard or Heard()
    host = OnsiteHost(settings or some_settings(), clock, folder / "vault.json", look)
    running = asyncio.create_task(host.run(heard.report))
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as http:
        try:
            async with asyncio.timeout(PATIENCE_S):
                await host.ready()
            yield Bench(host, clock, heard, http)
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running


def limit(name: str, limit_ma: int = 16_000, evse: str = "CP1/1") -> SetLimit:
    return SetLimit(name, EvseId(evse), CHANNEL, limit_ma, 180.0, "tx1")


def start(name: str, limit_ma: int = 6_000, evse: str = "CP1/1") -> StartCharging:
    return StartCharging(name, EvseId(evse), CHANNEL, None, limit_ma)


def stop(name: str, evse: str = "CP1/1") -> StopCharging:
    return StopCharging(name, EvseId(evse), CHANNEL, "tx1", "operator")


def discharge(name: str, evse: str = "CP1/1") -> StartDischarge:
    return StartDischarge(name, EvseId(evse), CHANNEL, 5_005, 3600.0, 10)
