"""Fifty light-weight Open Platform chargers of two connectors and one meter, in a process of their own:
`python -m tests.bench.chargers PORT [options]`.

Plain requests on real sockets, no simulator behind them: they must not cost what they are meant to measure. Each
connector has a vehicle, an open long poll, and charges what it was allowed. Says on stdout, one JSON object a line,
what happened and when (CLOCK_MONOTONIC is the same in every process), until it is ended.
"""

from __future__ import annotations

import argparse
import asyncio
from dataclasses import dataclass
from typing import Any

import aiohttp

from drivers.sim.meter import MeterTruth, SimMeter
from tests.bench.crowd import VOLTS, say, stamp

MODEL, FIRMWARE = "TP-AC22", "260420.0107"
HEARTBEAT_S, TELEMETRY_S, POLL_S = 30.0, 5.0, 60
RETRY_S = 0.2
BUILDING_A = 100.0

Json = dict[str, Any]


@dataclass(slots=True)
class Connector:
    number: int
    base_kw: float = 0.0
    limit_kw: float | None = None
    charges: bool = False
    energy_kwh: float = 0.0

    @property
    def power_kw(self) -> float:
        if not self.charges:
            return 0.0
        return self.base_kw if self.limit_kw is None else self.limit_kw

    @property
    def amps(self) -> float:
        return self.power_kw * 1e3 / VOLTS

    def telemetry(self) -> Json:
        self.energy_kwh += self.power_kw * TELEMETRY_S / 3600
        body = {
            "timestamp": stamp(), "connector_id": self.number, "state": "charging" if self.charges else "idle",
            "voltage": VOLTS, "current": round(self.amps, 2), "power": round(self.power_kw, 3),
            "energy_delivered": round(self.energy_kwh, 4),
        }  # fmt: skip
        return {**body, "phase_details": {"phase_a": {"voltage": VOLTS, "current": round(self.amps, 2)}}}


def phase(charger: int, connector: int) -> int:
    """The grid phase (0, 1, 2) this connector hangs on, all of it."""
    return (charger * 2 + connector) % 3


class Charger:
    """One charger; `run` until cancelled."""

    def __init__(self, number: int, base_url: str, connectors: int) -> None:
        self.serial, self.base_url = f"SN{number:03}", base_url
        self.address = f"127.0.1.{number + 1}"  # quotas of strangers count by address
        self.connectors = [Connector(number + 1) for number in range(connectors)]
        self.ready = asyncio.Event()
        self.token = ""

    async def run(self, offset: float) -> None:
        """`offset`: its share of a period, so that fifty chargers do not speak in chorus."""
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=60, local_addr=(self.address, 0))
        timeout = aiohttp.ClientTimeout(total=POLL_S + 10)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as self.http:
            await self._talk(offset)

    async def _talk(self, offset: float) -> None:
        identity = {"sn": self.serial, "model": MODEL, "manufacturer": "Bench", "firmware_version": FIRMWARE}
        known = await self._ask("register", identity)
        secret = {name: known[name] for name in ("device_id", "device_secret")}
        self.token = (await self._ask("token", {**secret, "grant_type": "client_credentials"}))[
            "access_token"
        ]
        await self._beat()
        for one in self.connectors:
            await self._event("plug_in", one, vehicle_connected=True)
            await self._ask("telemetry", one.telemetry())
        self.ready.set()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._regularly(HEARTBEAT_S, offset, self._beat))
            for one in self.connectors:
                tasks.create_task(self._poll(one))
                tasks.create_task(self._report(one, offset))

    async def _beat(self) -> None:
        await self._ask("heartbeat", {"timestamp": stamp(), "status": "online", "fault_code": 0})

    async def _report(self, one: Connector, offset: float) -> None:
        async def upload() -> None:
            await self._ask("telemetry", one.telemetry())

        await self._regularly(TELEMETRY_S, (offset + (one.number - 1) / len(self.connectors)) % 1.0, upload)

    @staticmethod
    async def _regularly(every_s: float, offset: float, work: Any) -> None:
        await asyncio.sleep(every_s * offset)
        loop = asyncio.get_running_loop()
        due_s = loop.time()
        while True:
            await work()
            due_s += every_s
            await asyncio.sleep(max(0.0, due_s - loop.time()))

    async def _poll(self, one: Connector) -> None:
        path = f"commands?connector_id={one.number}&wait={POLL_S}"
        while True:
            command = await self._ask(path, None)
            if command is None:
                continue
            params = command["params"]
            say(event=command["command"], evse=f"{self.serial}/{one.number}", kw=params.get("power_limit"))
            word = {"command_id": command["command_id"], "timestamp": stamp(), "status": "accepted"}
            await self._ask("command-status", word)
            await self._obey(command["command"], params, one)

    async def _obey(self, command: str, params: Json, one: Connector) -> None:
        match command:
            case "start_charging":
                one.base_kw, one.charges = params["charge_power"], True
                await self._event("start", one, reason="remote")
            case "set_power_limit":
                one.limit_kw = params["power_limit"]
            case "stop_charging":
                one.charges = False
                await self._event("stop", one, reason="remote")
        await self._ask("telemetry", one.telemetry())

    async def _event(self, kind: str, one: Connector, **data: object) -> None:
        body = {"timestamp": stamp(), "event_type": kind, "connector_id": one.number, "data": data}
        await self._ask("events", body)

    async def _ask(self, path: str, body: Json | None) -> Any:
        """The answer's data; a host that is not there yet is asked again."""
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        method = "GET" if body is None else "POST"
        url = f"{self.base_url}/{path}"
        while True:
            try:
                async with self.http.request(method, url, json=body, headers=headers) as answer:
                    document = await answer.json()
                    if answer.status != 200:
                        raise RuntimeError(f"{path}: {document}")
                    return document["data"] if "code" in document else document
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(RETRY_S)


async def main(options: argparse.Namespace) -> None:
    base_url = f"http://127.0.0.1:{options.port}/v1/device"
    chargers = [Charger(n, base_url, options.connectors) for n in range(options.chargers)]

    def truth() -> MeterTruth:
        amps = [BUILDING_A] * 3
        for number, charger in enumerate(chargers):
            for one in charger.connectors:
                amps[phase(number, one.number)] += one.amps
        l1, l2, l3 = amps
        watts = (l1 * VOLTS, l2 * VOLTS, l3 * VOLTS)
        return MeterTruth((l1, l2, l3), (VOLTS, VOLTS, VOLTS), watts, 1e6, 0.0)

    meter = SimMeter(truth)
    await meter.start()
    say(event="meter", port=meter.port)
    async with asyncio.TaskGroup() as tasks:
        for number, charger in enumerate(chargers):
            tasks.create_task(charger.run(number / len(chargers)))
        for charger in chargers:
            await charger.ready.wait()
        say(event="settled")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.chargers", description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("--chargers", type=int, default=50)
    parser.add_argument("--connectors", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(main(arguments()))
