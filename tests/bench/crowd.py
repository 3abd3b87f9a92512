"""Fifty light-weight stations and one meter, in a process of their own: `python -m tests.bench.crowd PORT [options]`.

Raw frames on real sockets, no simulator behind them: they must not cost what they are meant to measure. Each station
charges whatever it was allowed, and the meter sees the sum. Says on stdout, one JSON object a line, what happened;
takes words on stdin: `storm` drops every link at once, `steps N` raises the building N times.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import itertools
import json
import sys
import time
from datetime import UTC, datetime
from random import Random
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage

from drivers.sim.meter import MeterTruth, SimMeter

PASSWORD = "bench-password-0001"
VOLTS = 230.0
RETRY_S = 0.2
TELL_AFTER_S = 0.3  # a station reports its current this long after it changed
SAMPLE_S = 5.0
GAP_S = (3.0, 4.0)  # between two steps of the building, drawn evenly: any phase of the poll
STEP_A = 120.0  # of the building; with 50 stations each must come down by 2 A
GIVE_UP_S = 10.0
CALM_S = 17.0  # after a rise, before the first step: the controller remembers the least drawn for 15 s
LEAST_A = 9.0  # below this a ramp is over: stations may pause instead of coming down


def say(**what: object) -> None:
    print(json.dumps({"at": time.monotonic(), **what}), flush=True)


class Crowd:
    """All stations. `building_a` is the load per phase that is not theirs, `step_a` what `steps` adds to it."""

    def __init__(self, port: int, stations: int, building_a: float, step_a: float) -> None:
        self.port = port
        self.building_a, self.step_a = building_a, step_a
        self.stations = [Station(f"B{n:03}", self) for n in range(stations)]
        self.changed = asyncio.Condition()
        self.first = True

    def truth(self) -> MeterTruth:
        amps = self.building_a + sum(station.limit_a for station in self.stations if station.transaction)
        watts = amps * VOLTS
        return MeterTruth((amps, amps, amps), (VOLTS, VOLTS, VOLTS), (watts, watts, watts), 1e6, 0.0)

    async def until(self, wanted: Any, within_s: float = 60.0) -> bool:
        try:
            async with asyncio.timeout(within_s), self.changed:
                await self.changed.wait_for(wanted)
        except TimeoutError:
            return False
        return True

    async def news(self) -> None:
        async with self.changed:
            self.changed.notify_all()

    async def storm(self) -> None:
        """Every link is cut at once and dialled again at once; over when every station is set up again."""
        for station in self.stations:
            station.settled = False
            if station.socket is not None:
                station.socket.transport.abort()
        began_s = time.monotonic()
        done = await self.until(lambda: all(station.settled for station in self.stations))
        say(event="storm", seconds=time.monotonic() - began_s, complete=done)

    async def steps(self, count: int, random: Random) -> None:
        """Ramps of load steps; each is over when the last station has its lower limit. Between ramps the building
        rests until everybody charges high again."""
        calm_a, taken, misses = self.building_a, 0, 0
        while taken + misses < count:
            high = await self.until(lambda: min(s.limit_a for s in self.stations) >= 28, 120)
            say(event="ramp", high=high)
            await asyncio.sleep(CALM_S)
            while taken + misses < count and min(s.limit_a for s in self.stations) >= LEAST_A:
                await asyncio.sleep(random.uniform(*GAP_S))
                before = {station.name: station.limit_a for station in self.stations}
                self.building_a += self.step_a
                began_s = time.monotonic()
                lower = await self.until(
                    lambda before=before: all(s.limit_a < before[s.name] for s in self.stations), GIVE_UP_S
                )
                last_s = max(station.heard_s for station in self.stations) - began_s
                taken, misses = taken + lower, misses + (not lower)
                limits = sorted(station.limit_a for station in self.stations)
                say(event="step", seconds=last_s if lower else None, low=limits[0], high=limits[-1])
            self.building_a = calm_a
        say(event="steps", taken=taken, misses=misses)


class Station:
    def __init__(self, name: str, crowd: Crowd) -> None:
        self.name, self.crowd = name, crowd
        self.socket: ClientConnection | None = None
        self.settled = False  # setup has asked its last question on this link
        self.limit_a = 32.0
        self.fallback_a = 32.0
        self.heard_s = 0.0
        self.transaction: int | None = None
        self.ids = itertools.count(1)
        self.answers: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self.sample_soon = asyncio.Event()

    async def run(self, charges: bool) -> None:
        secret = base64.b64encode(f"{self.name}:{PASSWORD}".encode()).decode()
        while True:
            try:
                async with connect(
                    f"ws://127.0.0.1:{self.crowd.port}/ocpp/{self.name}",
                    subprotocols=["ocpp1.6"],  # type: ignore[list-item]
                    additional_headers={"Authorization": f"Basic {secret}"},
                    ping_interval=None,
                    compression=None,
                    close_timeout=0.2,
                    proxy=None,
                ) as self.socket:
                    talking = asyncio.create_task(self.talk(self.socket, charges))
                    try:
                        await self.listen(self.socket)
                    finally:
                        talking.cancel()
                        await asyncio.gather(talking, return_exceptions=True)
            except (OSError, ConnectionClosed, InvalidHandshake, InvalidMessage, TimeoutError):
                await asyncio.sleep(RETRY_S)

    async def talk(self, socket: ClientConnection, charges: bool) -> None:
        await self.ask(socket, "BootNotification", {"chargePointVendor": "Bench", "chargePointModel": "B"})
        await self.status(socket, "Charging" if self.transaction else "Available")
        await self.crowd.until(lambda: self.settled)
        if charges and self.transaction is None:
            start = {"connectorId": 1, "idTag": "BENCH", "meterStart": 0, "timestamp": stamp()}
            self.limit_a = self.fallback_a
            self.transaction = (await self.ask(socket, "StartTransaction", start))["transactionId"]
            await self.status(socket, "Charging")
        while True:
            if self.transaction is not None:
                await self.sample(socket)
            try:
                async with asyncio.timeout(SAMPLE_S):
                    await self.sample_soon.wait()
                await asyncio.sleep(TELL_AFTER_S)
            except TimeoutError:
                pass
            self.sample_soon.clear()

    async def sample(self, socket: ClientConnection) -> None:
        phases = [
            {"value": f"{self.limit_a:.1f}", "measurand": "Current.Import", "phase": f"L{n}", "unit": "A"}
            for n in (1, 2, 3)
        ]
        energy = {
            "value": str(int(time.monotonic())),
            "measurand": "Energy.Active.Import.Register",
            "unit": "Wh",
        }
        value = {"timestamp": stamp(), "sampledValue": [*phases, energy]}
        payload = {"connectorId": 1, "transactionId": self.transaction, "meterValue": [value]}
        await self.ask(socket, "MeterValues", payload)

    async def status(self, socket: ClientConnection, status: str) -> None:
        await self.ask(
            socket, "StatusNotification", {"connectorId": 1, "status": status, "errorCode": "NoError"}
        )

    async def ask(self, socket: ClientConnection, action: str, payload: dict[str, Any]) -> dict[str, Any]:
        name = f"{self.name}-{next(self.ids)}"
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self.answers[name] = answer
        await socket.send(json.dumps([2, name, action, payload]))
        return await answer

    async def listen(self, socket: ClientConnection) -> None:
        async for text in socket:
            match json.loads(text):
                case [2, name, action, payload]:
                    await socket.send(json.dumps([3, name, self.obey(action, payload)]))
                    await self.crowd.news()
                case [_, name, *rest]:
                    self.answers.pop(name).set_result(rest[0])

    def obey(self, action: str, payload: dict[str, Any]) -> dict[str, Any]:
        if action == "GetConfiguration":
            return {"configurationKey": [], "unknownKey": []}
        if action == "TriggerMessage" and payload["requestedMessage"] == "StatusNotification":
            self.settled = True
        if action == "SetChargingProfile":
            profile = payload["csChargingProfiles"]
            limit_a = float(profile["chargingSchedule"]["chargingSchedulePeriod"][0]["limit"])
            leased = profile["chargingProfilePurpose"] == "TxProfile"
            if self.crowd.first or (leased and self.heard_s == 0.0):
                self.crowd.first = False
                say(event="leased" if leased else "fallback", station=self.name, amps=limit_a)
            if leased:
                self.heard_s = time.monotonic()
                if limit_a != self.limit_a:
                    self.sample_soon.set()
                self.limit_a = limit_a
            else:
                self.fallback_a = limit_a
        return {"status": "Accepted"}


def stamp() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


async def words() -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    return reader


async def main(options: argparse.Namespace) -> None:
    crowd = Crowd(options.port, options.stations, options.building, options.step)
    meter = SimMeter(crowd.truth, port=options.meter_port)
    await meter.start()
    say(event="meter", port=meter.port)
    listener = await words()
    async with asyncio.TaskGroup() as group:
        for number, station in enumerate(crowd.stations):
            if number < options.present:
                group.create_task(station.run(options.charge))
        ready = await crowd.until(lambda: all(s.settled for s in crowd.stations[: options.present]), 120)
        say(event="settled", complete=ready)
        while line := (await listener.readline()).decode().split():
            match line:
                case ["storm"]:
                    await crowd.storm()
                case ["steps", count]:
                    await crowd.steps(int(count), Random("bench"))
        raise SystemExit(0)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.crowd", description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("--stations", type=int, default=50)
    parser.add_argument("--present", type=int, default=50, help="how many of them ever connect")
    parser.add_argument("--charge", action="store_true", help="every present station starts a transaction")
    parser.add_argument("--meter-port", type=int, default=0)
    parser.add_argument("--building", type=float, default=100.0, help="amps per phase")
    parser.add_argument(
        "--step", type=float, default=STEP_A, help="amps per phase that `steps` adds each time"
    )
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(main(arguments()))
