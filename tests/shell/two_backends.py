"""A whole controller between two backends: one station on OCPP, one charger on a simulated Open Platform behind a wire
tap that keeps every byte that leaves the site. On demand a third station, CP002, that hangs on both: its OCPP half is
`led_evse`, its half on the platform `beside_evse`, with a vehicle of its own each.

Owns the wiring and the tap. The tap is read with its own few lines of HTTP and WebSocket, not with the driver's.
"""

from __future__ import annotations

import asyncio
import getpass
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from small_depot import Caller, caller

from controller.cli.compose import House
from controller.clock import SystemClock
from controller.config import load
from controller.core.snapshot import ChannelView, EvseView, Snapshot
from controller.runtime import Runtime
from drivers.sim.charger import SimCharger
from drivers.sim.evse import SimEvse
from drivers.sim.platform import CloudCharger, SimPlatform
from drivers.sim.v2g import V2gEvse
from drivers.sim.world import SimCircuit, World

SPEED = 10.0
DEADLINE_S = 20.0
USER = getpass.getuser()
CLOUD = "open-platform/cloud"
SECRET = "wire-tap-platform-secret"


@dataclass
class Connection:
    """What the site sent on one connection; `open` while it lasts."""

    sent: bytearray = field(default_factory=bytearray)
    open: bool = True


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    fields: tuple[tuple[str, Any], ...]
    bytes: int


class Tap:
    """A TCP proxy in front of `target` (host, port) that writes down what goes there. While `flowing` is clear nothing
    passes and nothing is read: the other side of a half-open connection."""

    def __init__(self) -> None:
        self.target = ("", 0)
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.connections: list[Connection] = []
        self._server: asyncio.Server | None = None

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def open(self) -> int:
        return sum(connection.open for connection in self.connections)

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection()
        self.connections.append(connection)
        try:
            far_reader, far_writer = await asyncio.open_connection(*self.target)
        except OSError:
            connection.open = False
            writer.close()
            return

        async def back() -> None:
            try:
                while data := await far_reader.read(65_536):
                    await self.flowing.wait()
                    writer.write(data)
                    await writer.drain()
            except OSError:
                pass
            finally:
                writer.close()

        backwards = asyncio.create_task(back())
        try:
            while data := await reader.read(65_536):
                await self.flowing.wait()
                connection.sent += data
                far_writer.write(data)
        except OSError:
            pass
        finally:
            connection.open = False
            far_writer.close()
            await backwards

    def requests(self) -> list[Request]:
        """Every HTTP request of every connection (the client opens one per request)."""
        return [_request(bytes(each.sent)) for each in self.connections if each.sent]

    def plain(self) -> bytes:
        """Everything that left, with the masks of WebSocket frames taken off."""
        return b"\n".join(_unmasked(bytes(each.sent)) for each in self.connections)


def _head(sent: bytes) -> tuple[str, str, dict[str, str], bytes]:
    head, _, rest = sent.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.casefold(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return method, target, headers, rest


def _request(sent: bytes) -> Request:
    method, target, headers, rest = _head(sent)
    parts = urlsplit(target)
    fields = dict(parse_qsl(parts.query))
    length = int(headers.get("content-length", 0))
    if "upgrade" not in headers:
        assert len(rest) == length, "one request per connection, whole"
    if length:
        fields |= dict(_flat("", json.loads(rest[:length])))
    if "client_secret" in fields:
        assert fields["client_secret"] == SECRET
        fields["client_secret"] = "***"
    return Request(method, parts.path, tuple(sorted(fields.items())), length)


def _flat(name: str, value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, dict) and (value or not name):
        return [pair for key, each in value.items() for pair in _flat(f"{name}.{key}" if name else key, each)]
    if isinstance(value, list) and value:
        return [pair for place, each in enumerate(value) for pair in _flat(f"{name}.{place}", each)]
    return [(name, value)]


def _unmasked(sent: bytes) -> bytes:
    if not sent:
        return b""
    _, _, headers, rest = _head(sent)
    if "upgrade" not in headers:
        return sent
    plain = sent[: len(sent) - len(rest)]
    while rest:
        length, at = rest[1] & 0x7F, 2
        assert rest[1] & 0x80, "a client masks its frames"
        if length >= 126:
            wide = 2 if length == 126 else 8
            length, at = int.from_bytes(rest[at : at + wide], "big"), at + wide
        mask, data = rest[at : at + 4], rest[at + 4 : at + 4 + length]
        plain += bytes(byte ^ mask[place % 4] for place, byte in enumerate(data))
        rest = rest[at + 4 + length :]
    return plain


@dataclass
class TwoBackends:
    """One running controller; `folder` holds its config and its books."""

    folder: Path
    clock: SystemClock
    platform: SimPlatform
    tap: Tap
    ocpp_evse: SimEvse
    cloud_evse: SimEvse
    world: World
    house: House
    runtime: Runtime
    led_evse: SimEvse
    beside_evse: V2gEvse
    station: SimCharger | None = None
    led_station: SimCharger | None = None

    @property
    def snapshot(self) -> Snapshot:
        assert self.runtime.snapshot is not None
        return self.runtime.snapshot

    def channel(self) -> ChannelView | None:
        return next((each for each in self.snapshot.channels if each.id == CLOUD), None)

    def state(self) -> str | None:
        channel = self.channel()
        return None if channel is None else channel.state

    def view(self, station: str) -> EvseView:
        return next(evse for evse in self.snapshot.evses if evse.station == station)

    async def until(self, condition: Callable[[], object]) -> None:
        seen = None
        try:
            async with asyncio.timeout(DEADLINE_S):
                while not condition():
                    seen = await self.runtime.next_snapshot(seen)
        except TimeoutError:
            evses = [(e.id, e.state.value, e.connected, e.session) for e in self.snapshot.evses]
            raise AssertionError(f"never: {self.snapshot.channels} {evses} {self.snapshot.orders}") from None

    async def steps(self, count: int) -> None:
        """So many more decisions, a second of the site's clock apart or less."""
        seen = self.runtime.snapshot
        for _ in range(count):
            seen = await self.runtime.next_snapshot(seen)

    @asynccontextmanager
    async def console(self) -> AsyncIterator[Caller]:
        async with caller(self.folder / "control.sock") as client:
            yield client


def config(tap_port: int, purposes: str, tokens: str, companion: bool) -> str:
    mode = "companion" if companion else "sole"
    led = """[station.CP002]
circuit = "site"
fallback = "6 A"
evse.1 = { max = "32 A", min = "6 A", phases = "L1 L2 L3" }
ocpp = { allow_insecure = true }
open_platform = { device_id = "dvc_2", link = "cloud" }
"""
    evse = 'evse.1 = { max = "32 A", min = "6 A", phases = "L1 L2 L3" }\n'
    return f"""
[site]
name = "Two backends"
timezone = "Europe/Amsterdam"
limit = "100 A"
assumed_load = "10 A"
[ocpp]
listen = "127.0.0.1:0"
[open_platform]
mode = "{mode}"
enabled_by = "J. de Vries, 2026-11-20"
purposes = [{purposes}]
[open_platform.cloud]
base_url = "http://127.0.0.1:{tap_port}/v1"
region = "site"
client_id = "depot"
client_secret_file = "platform.secret"
site_ids = ["st-sim-01"]
[station.CP001]
circuit = "site"
fallback = "6 A"
{evse}ocpp = {{ allow_insecure = true }}
[station.TP001]
circuit = "site"
fallback = "6 A"
{evse}open_platform = {{ device_id = "dvc_1", link = "cloud" }}
{led if companion else ""}[vehicle.BUS-07]
battery = "94 kWh"
tokens = [{tokens}]
[storage]
path = "state"
[control]
socket = "control.sock"
"""


class Site:
    """What stays while controllers come and go: the platform, the tap, the copper and the folder."""

    def __init__(self, folder: Path, purposes: str, tokens: str, companion: bool) -> None:
        self.folder = folder
        self.clock = SystemClock(SPEED)
        self.tap = Tap()
        self.ocpp_evse, self.cloud_evse = SimEvse("CP001/1", 32.0), SimEvse("TP001/1", 32.0)
        self.led_evse, self.beside_evse = SimEvse("CP002/1", 32.0), V2gEvse("half of CP002/1", 32.0)
        evses = (self.ocpp_evse, self.cloud_evse, self.led_evse, self.beside_evse)
        self.world = World(self.clock, 1, {"site": SimCircuit(None, 100.0)}, evses, lambda _: (1.0, 1.0, 1.0))
        charger = CloudCharger("dvc_1", "SN-dvc_1", "TP-AC22", "260420.0107", [self.cloud_evse], 22.0)
        beside = CloudCharger("dvc_2", "SN-dvc_2", "TP-AC22", "260420.0107", [self.beside_evse], 22.0)
        chargers = [charger, beside] if companion else [charger]
        self._companion = companion
        self.platform = SimPlatform(chargers, self.clock, "depot", SECRET, latency=(0.1, 0.2))
        self._words = (purposes, tokens)

    async def start(self) -> None:
        await self.platform.start()
        parts = urlsplit(self.platform.base_url)
        self.tap.target = (str(parts.hostname), int(parts.port or 0))
        await self.tap.start()
        (self.folder / "depot.toml").write_text(config(self.tap.port, *self._words, self._companion))
        secret = self.folder / "platform.secret"
        secret.touch(mode=0o600)
        secret.write_text(SECRET)

    @asynccontextmanager
    async def controller(self, **station: Any) -> AsyncIterator[TwoBackends]:
        """A controller from start to end; `station` are more arguments of its SimCharger."""
        house = House(load(self.folder / "depot.toml"), self.clock)
        async with house.open() as runtime:
            two = TwoBackends(
                self.folder, self.clock, self.platform, self.tap, self.ocpp_evse, self.cloud_evse, self.world,
                house, runtime, self.led_evse, self.beside_evse,
            )  # fmt: skip

            async def live() -> None:
                assert house.ocpp is not None
                await house.ocpp.ready()
                url = f"ws://127.0.0.1:{house.ocpp.port}/ocpp"
                two.station = SimCharger("CP001", url, [self.ocpp_evse], clock=self.clock, **station)
                works = [self.world.run(), self.platform.run(), two.station.run()]
                if self._companion:
                    two.led_station = SimCharger("CP002", url, [self.led_evse], clock=self.clock, **station)
                    works.append(two.led_station.run())
                async with asyncio.TaskGroup() as group:
                    for work in works:
                        group.create_task(work)

            running = asyncio.create_task(house.run(runtime, [live]))
            try:
                await runtime.next_snapshot(None)
                await two.until(lambda: running.done() or (self.folder / "control.sock").exists())
                yield two
            finally:
                running.cancel()
                await asyncio.wait({running})
                if not running.cancelled():
                    running.result()


@asynccontextmanager
async def site(
    folder: Path,
    purposes: str = '"monitor", "control"',
    tokens: str = '"04A2B3C4"',
    companion: bool = False,
) -> AsyncIterator[Site]:
    made = Site(folder, purposes, tokens, companion)
    try:
        await made.start()
        yield made
    finally:
        await made.tap.stop()
        await made.platform.stop()
