"""The conformance door beside a server and a recording depot, and what a suite would send through it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from ocpp_peer import WITHIN_S, Depot, Peer, peer, running

from controller.clock import SystemClock
from controller.core.events import TokenSet
from controller.core.model import IdToken
from drivers.ocpp.octt import ConformanceDoor
from drivers.ocpp.server import OcppServer
from drivers.ocpp.settings import OcppSettings

Json = dict[str, Any]


class Suite:
    """What a compliance suite is to us: somebody who posts."""

    def __init__(self, port: int, http: aiohttp.ClientSession) -> None:
        self.base_url = f"http://127.0.0.1:{port}/api/octt"
        self._http = http

    async def post(self, path: str, body: object = None, **more: Any) -> tuple[int, Json]:
        data = body if isinstance(body, bytes) else json.dumps({} if body is None else body).encode()
        async with self._http.request("POST", f"{self.base_url}/{path}", data=data, **more) as answer:
            return answer.status, await answer.json()

    async def ask(self, path: str, body: object = None) -> Json:
        status, answer = await self.post(path, body)
        assert status == 200, answer
        return answer


@asynccontextmanager
async def open_door(config: OcppSettings | None = None) -> AsyncIterator[tuple[OcppServer, Depot, Suite]]:
    async with running(config) as (server, depot), a_suite(server, depot) as suite:
        yield server, depot, suite


@asynccontextmanager
async def a_suite(server: OcppServer, depot: Depot) -> AsyncIterator[Suite]:
    def find(token: str) -> IdToken | None:
        return next((e.token for e in reversed(depot.all(TokenSet)) if e.token.id == token), None)

    door = ConformanceDoor(("127.0.0.1", 0), server, SystemClock(), depot.report, find)
    task = asyncio.create_task(door.run())
    try:
        await asyncio.wait_for(door.ready.wait(), WITHIN_S)
        async with aiohttp.ClientSession() as http:
            yield Suite(door.port, http)
    finally:
        task.cancel()
        await asyncio.wait({task}, timeout=WITHIN_S)
        assert task.cancelled()


@asynccontextmanager
async def suite_and_station(
    version: str = "1.6", config: OcppSettings | None = None, **answers: Any
) -> AsyncIterator[tuple[Suite, Peer, Depot]]:
    """A connected station CP1 that has booted, was set up, and answers our calls as said."""
    async with (
        open_door(config) as (server, depot, suite),
        peer(server, subprotocols=[f"ocpp{version}"]) as station,
    ):
        if version == "1.6":
            await station.boot_and_settle()
        else:
            await settle(station)
        station.answers.update(answers)
        yield suite, station, depot


async def settle(station: Peer, variables: Any = None) -> None:
    """A 2.x station, booted and set up. `variables`: its answer to GetVariables; it says nothing of itself else."""
    station.answers = {
        "GetVariables": variables or {"getVariableResult": []},
        "SetVariables": written,
        "SetChargingProfile": {"status": "Accepted"},
        "TriggerMessage": {"status": "Accepted"},
    }
    about = {"reason": "PowerUp", "chargingStation": {"vendorName": "ACME", "model": "Two"}}
    assert (await station.ask("BootNotification", about))[2]["status"] == "Accepted"
    await station.call_of("TriggerMessage")


def written(payload: Json) -> Json:
    return {
        "setVariableResult": [
            {"component": item["component"], "variable": item["variable"], "attributeStatus": "Accepted"}
            for item in payload["setVariableData"]
        ]
    }
