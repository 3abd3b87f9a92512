"""A simulated Open Platform with its chargers and a client that is logged in, for the tests of `drivers/sim`.

Time is moved by hand (`live`: physics, chargers and platform step together), so a test waits for nothing but sockets;
`running` lets it all run by itself on a fast clock.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp

from controller.core.model import Moment
from drivers.sim.evse import SimEvse
from drivers.sim.platform import CloudCharger, Quotas, SimPlatform
from drivers.sim.vehicle import Vehicle

NOON = datetime(2026, 6, 2, 12, 0, 20, tzinfo=UTC)
SECRET = "not-a-real-secret"


@dataclass
class HandClock:
    mono_s: float = 1000.0

    def now(self) -> Moment:
        return Moment(self.mono_s, NOON + timedelta(seconds=self.mono_s - 1000.0))

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("nobody sleeps on a clock that is moved by hand")


@dataclass
class Answer:
    status: int
    body: Any

    @property
    def code(self) -> int:
        return int(self.body["code"])

    @property
    def data(self) -> Any:
        assert (self.status, self.code) == (200, 0), self.body
        return self.body["data"]


@dataclass
class Bench:
    platform: SimPlatform
    clock: Any
    http: aiohttp.ClientSession
    token: str = ""
    evses: list[SimEvse] = field(default_factory=list)

    async def call(self, method: str, path: str, body: Any = None, **query: str) -> Answer:
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        url = f"{self.platform.base_url}/operator{path}"
        async with self.http.request(method, url, json=body, params=query, headers=headers) as response:
            return Answer(response.status, await response.json())

    async def get(self, path: str, **query: str) -> Answer:
        return await self.call("GET", path, **query)

    async def post(self, path: str, body: Any = None) -> Answer:
        return await self.call("POST", path, body)

    async def order(self, what: str, body: Any = None, device: str = "dvc_1") -> str:
        answer = await self.post(f"/devices/{device}/connectors/1/{what}", body)
        assert answer.data["status"] == "queued"
        return str(answer.data["command_id"])

    async def progress(self, command_id: str) -> tuple[str, Any]:
        data = (await self.get(f"/commands/{command_id}")).data
        return data["status"], data.get("result")

    async def connector(self, device: str = "dvc_1") -> dict[str, Any]:
        return dict((await self.get(f"/devices/{device}")).data["connectors"][0])

    async def log_in(self, client_id: str = "depot", secret: str = SECRET) -> Answer:
        body = {"client_id": client_id, "client_secret": secret, "grant_type": "client_credentials"}
        answer = await self.post("/oauth/token", body)
        if answer.status == 200:
            self.token = answer.body["access_token"]
        return answer

    def live(self, seconds: float) -> None:
        """Everything lives on for this long."""
        for _ in range(round(seconds * 2)):
            self.clock.mono_s += 0.5
            for evse in self.evses:
                evse.step(0.5, self.clock.mono_s)
            self.platform.tick()


def charger(device_id: str, evse: SimEvse, site_id: str = "st-a", **more: Any) -> CloudCharger:
    return CloudCharger(
        device_id, f"SN-{device_id}", "TP-AC22", "260420.0107", [evse], 22.0, site_id=site_id, **more
    )


def van(soc: float = 0.3, **more: Any) -> Vehicle:
    return Vehicle("VAN", None, battery_wh=80_000, soc=soc, max_a=32.0, **more)


@asynccontextmanager
async def bench(
    *evses: SimEvse, clock: Any = None, quotas: Quotas | None = None, **more: Any
) -> AsyncIterator[Bench]:
    evses = evses or (SimEvse("P1/1", 32.0), SimEvse("P2/1", 32.0))
    chargers = [charger(f"dvc_{n}", evse, **more) for n, evse in enumerate(evses, start=1)]
    clock = clock or HandClock()
    quotas = quotas or Quotas(10_000, 10_000, 10_000)
    platform = SimPlatform(chargers, clock, "depot", SECRET, quotas=quotas)
    await platform.start()
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as http:
            one = Bench(platform, clock, http, evses=list(evses))
            await one.log_in()
            yield one
    finally:
        await platform.stop()


def lease(start: str, end: str, kw: float, **more: Any) -> dict[str, Any]:
    slot = {"start": start, "end": end, "power_limit": kw, "action": "charge"}
    plan = {"schedule_id": "lease", "enabled": True, "type": "once", "timezone": "UTC", "time_slots": [slot]}
    return plan | more


PAUSE = {"target_type": "all", "command": "pause_charging", "params": {"duration": 60}}


def flex(percent: int, duration: int, kind: str = "site", ids: tuple[str, ...] = ("st-a",)) -> dict[str, Any]:
    params = {"power_limit_percent": percent, "duration": duration}
    ids_of = {} if kind == "all" else {"target_ids": list(ids)}
    return {"target_type": kind, "command": "set_power_limit", "params": params} | ids_of


async def frame(socket: aiohttp.ClientWebSocketResponse) -> dict[str, Any]:
    return dict(json.loads(await socket.receive_str(timeout=5)))


@asynccontextmanager
async def listening(
    depot: Bench, devices: str = "dvc_1,dvc_2", header: bool = True
) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    headers = {"Authorization": f"Bearer {depot.token}"} if header else {}
    params = {"devices": devices} | ({} if header else {"token": depot.token})
    url = f"{depot.platform.base_url}/operator/stream"
    async with depot.http.ws_connect(url, params=params, headers=headers) as socket:
        yield socket


@asynccontextmanager
async def running(depot: Bench) -> AsyncIterator[None]:
    """Platform and physics live by themselves on the bench's clock."""

    async def physics() -> None:
        while True:
            await depot.clock.sleep(0.2)
            for evse in depot.evses:
                evse.step(0.2, depot.clock.now().mono_s)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(depot.platform.run()), group.create_task(physics())]
        yield
        for task in tasks:
            task.cancel()
