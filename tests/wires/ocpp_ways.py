"""A simulated station with ways of its own against the real OCPP server, with the dialects as shipped or with none."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from ocpp_peer import PASSWORD, QUICK, WITHIN_S, Depot, a_station, running, settings

from controller.clock import SystemClock
from controller.core.commands import SetLimit
from controller.core.events import (
    CommandAccepted,
    CommandLost,
    CommandRefused,
    FallbackRefused,
    FallbackStored,
    TransactionStarted,
)
from controller.core.model import EvseId, StationId, evse_id
from drivers.ocpp.dialects import Dialects, shipped
from drivers.ocpp.server import OcppServer, OcppSettings
from drivers.sim.charger import SimCharger
from drivers.sim.charger2 import SimStation
from drivers.sim.evse import SimEvse
from drivers.sim.quirks import HONEST, Quirks
from drivers.sim.vehicle import Vehicle
from drivers.sim.world import SimCircuit, World

CP1, STATION = evse_id("CP1", 1), StationId("CP1")
EMPTIED = Dialects()
SPEED = 20.0


def without(*names: str) -> Dialects:
    """The table as shipped, but for these rows."""
    return Dialects(entry for entry in shipped() if entry.name not in names)


async def needs_its_row(check: Callable[[Dialects], Awaitable[bool]]) -> None:
    """`check` is true with the dialects as shipped, and false without any."""
    assert await check(shipped())
    assert not await check(EMPTIED), "it works without its row: the test proves nothing"


def configured(dialects: Dialects, **more: Any) -> OcppSettings:
    return replace(settings(QUICK, CP1=a_station("CP1", **more)), dialects=dialects)


class Way:
    """One station with one EVSE, its vehicle, and the depot it reports to."""

    def __init__(
        self,
        server: OcppServer,
        depot: Depot,
        charger: SimCharger | SimStation,
        evse: SimEvse,
        clock: SystemClock,
    ) -> None:
        self.server, self.depot, self.charger, self.evse, self.clock = server, depot, charger, evse, clock
        self._names = iter(f"c{number}" for number in range(1000))

    async def session(self, **habits: Any) -> str:
        """A vehicle charges; the name of its transaction."""
        about = {"id": "VAN", "token": "TAG", "battery_wh": 60_000.0, "soc": 0.2, "max_a": 32.0, **habits}
        self.evse.plug(Vehicle(**about))
        self.evse.present("TAG")
        started = await self.depot.until_a(TransactionStarted)
        return started.transaction or "1001"

    async def limit(
        self, ma: int, transaction: str | None = "1001", evse: EvseId = CP1, lease_s: float = 600.0
    ) -> Any:
        """What became of a limit."""
        name = next(self._names)
        self.server.send(SetLimit(name, evse, "ocpp", ma, lease_s, transaction))
        return await self.depot.until(
            lambda event: (
                isinstance(event, CommandAccepted | CommandRefused | CommandLost) and event.command == name
            )
        )

    async def accepts(self, ma: int, transaction: str | None = "1001") -> bool:
        return isinstance(await self.limit(ma, transaction), CommandAccepted)

    async def settled(self) -> None:
        """The fallback was offered, and what setup asks last was answered."""
        await self.depot.until(lambda event: isinstance(event, FallbackStored | FallbackRefused))
        await self.eventually(lambda: self.calls("TriggerMessage"))

    def calls(self, action: str) -> list[dict[str, Any]]:
        """What the server has sent of these, as far as its frames are kept."""
        found = [
            json.loads(f.text) for f in self.server.frames(STATION) if f.sent and f'"{action}"' in f.text
        ]
        return [frame[3] for frame in found if frame[0] == 2]

    def limits_a(self) -> list[float]:
        """Every limit on the wire that was no fallback, in the order they left, whatever the version."""
        found = []
        for payload in self.calls("SetChargingProfile"):
            profile = payload.get("csChargingProfiles") or payload["chargingProfile"]
            schedule = profile["chargingSchedule"]
            schedule = schedule[0] if isinstance(schedule, list) else schedule
            if "validTo" in profile:
                found.append(schedule["chargingSchedulePeriod"][0]["limit"])
        return found

    def counted(self, name: str) -> int:
        return self.server.quirks(STATION).get(name, 0)

    def reserved(self) -> bool:
        """Whether the depot counts it at its maximum now."""
        told = [e for e in self.depot.events if isinstance(e, FallbackStored | FallbackRefused)]
        return isinstance(told[-1], FallbackRefused)

    async def eventually(self, condition: Callable[[], Any], within_s: float = WITHIN_S) -> bool:
        """Polls physical truth, which tells nobody when it changes; False when it never came."""
        try:
            async with asyncio.timeout(within_s):
                while not condition():  # noqa: ASYNC110
                    await asyncio.sleep(0.005)
        except TimeoutError:
            return False
        return True

    async def passes(self, seconds: float) -> None:
        """So much of the site's time."""
        await self.clock.sleep(seconds)


@asynccontextmanager
async def way(
    quirks: Quirks = HONEST,
    dialects: Dialects | None = None,
    *,
    version: str = "1.6",
    voltage_v: float = 230.0,
    speed: float = SPEED,
    settle: bool = True,
    world: bool = True,
    station: dict[str, Any] | None = None,
    **more: Any,
) -> AsyncIterator[Way]:
    table = shipped() if dialects is None else dialects
    async with running(configured(table, **(station or {})), speed) as (server, depot):
        clock = SystemClock(speed)
        evse = SimEvse("CP1/1", max_a=32.0, voltage_v=voltage_v)
        url = f"ws://127.0.0.1:{server.port}/ocpp"
        if version == "1.6":
            charger: SimCharger | SimStation = SimCharger(
                "CP1", url, [evse], clock=clock, password=PASSWORD, quirks=quirks, **more
            )
        else:
            charger = SimStation(
                "CP1", url, [evse], clock=clock, password=PASSWORD, quirks=quirks,
                versions=[f"ocpp{version}"], **more,
            )  # fmt: skip
        copper = World(clock, 1, {"site": SimCircuit(None, 63.0)}, [evse], lambda _: (0.0, 0.0, 0.0))
        tasks = [asyncio.create_task(charger.run()), *([asyncio.create_task(copper.run())] if world else [])]
        try:
            one = Way(server, depot, charger, evse, clock)
            if settle:
                await one.settled()
            yield one
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=WITHIN_S)
