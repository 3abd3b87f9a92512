"""The simulated charger and the on-site host on one real socket: neither knows a line of the other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controller.clock import SystemClock
from controller.core.commands import Command, SetLimit, StartCharging, StartDischarge, StopCharging
from controller.core.events import (
    CommandAccepted,
    CommandRefused,
    EvseSample,
    LinkDown,
    LinkUp,
    RecordReceived,
    TransactionEnded,
    TransactionStarted,
)
from controller.core.model import CircuitId, Evse, EvseId, Link, StationId, Verdict
from drivers.openplatform.onsite import CHANNEL, OnsiteCharger, OnsiteHost, OnsiteSettings
from drivers.sim.device import SimDevice
from drivers.sim.evse import NOTHING
from drivers.sim.quirks import DeviceQuirks
from drivers.sim.v2g import V2gEvse
from drivers.sim.vehicle import Vehicle
from drivers.sim.world import SimCircuit, World

SPEED = 60.0
DEADLINE_S = 15.0
STATION, EVSE = StationId("TP1"), EvseId("TP1/1")


@dataclass(frozen=True)
class Answer:
    verdict: Verdict = Verdict.ACCEPTED
    transaction: str | None = "T1"


class Facts:
    """What the host reported, in order."""

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self._changed = asyncio.Condition()

    async def report(self, event: Any) -> Answer:
        async with self._changed:
            self.heard.append(event)
            self._changed.notify_all()
        return Answer()

    async def next(self, kind: type, fits: Callable[[Any], bool] = lambda _: True) -> Any:
        """The first fact of this kind that fits and was not taken before; takes everything before it too."""

        def at() -> int | None:
            places = (n for n, fact in enumerate(self.heard) if isinstance(fact, kind) and fits(fact))
            return next(places, None)

        async with asyncio.timeout(DEADLINE_S), self._changed:
            await self._changed.wait_for(lambda: at() is not None)
        place = at()
        assert place is not None
        fact = self.heard[place]
        del self.heard[: place + 1]
        return fact


async def test_a_charger_lives_on_the_onsite_host(tmp_path: Path) -> None:
    clock = SystemClock(SPEED)
    link = Link(CHANNEL, lease_s=60.0, lease_slack_s=120.0, raise_gap_s=5.0, answer_s=300.0)
    evse = Evse(EVSE, STATION, CircuitId("site"), 32_000, 6_000, (0, 1, 2), 6_000, link)
    settings = OnsiteSettings(
        listen_host="127.0.0.1",
        listen_port=0,
        tls_cert=None,
        tls_key=None,
        chargers={"SN1": OnsiteCharger(STATION, "TP-AC22", {1: evse})},
        clients=(),
        enabled_by="a test",
        purposes=frozenset({"monitor", "control", "v2g"}),
        site_zone="UTC",
    )
    host = OnsiteHost(settings, clock, tmp_path / "vault.json", lambda: None)
    facts, hardware = Facts(), V2gEvse("TP1/1", 32.0)
    world = World(clock, 1, {"site": SimCircuit(None, 63.0)}, [hardware], lambda _: NOTHING)
    tasks = [asyncio.create_task(host.run(facts.report)), asyncio.create_task(world.run())]
    await host.ready()
    device = SimDevice(
        "SN1",
        "TP-AC22",
        "260420.0107",
        f"http://127.0.0.1:{host.port}/v1",
        [hardware],
        clock,
        {},
        quirks=DeviceQuirks(spread_s=1.0),
    )
    tasks.append(asyncio.create_task(device.run()))
    try:
        await facts.next(LinkUp, lambda fact: fact.station == STATION)
        await _a_night(host, device, hardware, facts)
    finally:
        for task in tasks[::-1]:
            task.cancel()
            await asyncio.wait({task})
    assert [task.exception() for task in tasks if not task.cancelled()] == []


async def _a_night(host: OnsiteHost, device: SimDevice, hardware: V2gEvse, facts: Facts) -> None:
    async def command(order: Command) -> None:
        host.send(order)
        decided = await facts.next(CommandAccepted | CommandRefused, lambda fact: fact.command == order.id)  # type: ignore[arg-type]
        assert isinstance(decided, CommandAccepted), decided

    hardware.plug(Vehicle("VAN", None, battery_wh=80_000.0, soc=0.6, max_a=32.0))
    await command(StartCharging("c1", EVSE, CHANNEL, None, 16_000))
    await facts.next(TransactionStarted, lambda fact: fact.evse == EVSE)
    await facts.next(EvseSample, lambda fact: fact.current_ma is not None and fact.current_ma.l1 == 6_000)
    await command(SetLimit("c2", EVSE, CHANNEL, 10_000, 60.0))
    await facts.next(EvseSample, lambda fact: fact.current_ma is not None and fact.current_ma.l1 == 10_000)
    await facts.next(
        EvseSample, lambda fact: fact.current_ma is not None and fact.current_ma.l1 == 6_000
    )  # lapsed
    await command(StopCharging("c3", EVSE, CHANNEL, "T1", "test over"))
    await facts.next(TransactionEnded, lambda fact: fact.evse == EVSE)
    record = await facts.next(RecordReceived)
    assert record.energy_wh == record.register_end_wh - record.register_start_wh > 0
    await command(StartDischarge("c4", EVSE, CHANNEL, 6_900, 3600.0, 30))
    await facts.next(EvseSample, lambda fact: fact.power_w == -6_900)
    await command(StopCharging("c5", EVSE, CHANNEL, "T1", "test over"))
    assert (await facts.next(RecordReceived)).energy_wh > 0
    device.drop_link(150.0)
    await facts.next(LinkDown, lambda fact: fact.station == STATION)
    await facts.next(LinkUp, lambda fact: fact.station == STATION)
