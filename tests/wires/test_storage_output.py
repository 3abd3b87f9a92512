"""Set-points for a battery on real sockets: both models, the lease that ends by itself, and every way to go wrong."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest
from test_separate_processes import process, running, until

from controller.clock import SystemClock
from controller.core.commands import SetBattery
from controller.core.events import (
    CommandAccepted,
    CommandLost,
    CommandRefused,
    CommandReplaced,
    CommandSent,
    Event,
    MeterReading,
)
from controller.core.model import MeterId
from drivers.errors import Refused
from drivers.modbus import bus
from drivers.modbus.bus import MeterSettings, ModbusMeters, OutputSettings
from drivers.modbus.line import Line
from drivers.modbus.registers import Block
from drivers.modbus.sunspec_output import SetPoint
from drivers.sim.storage import SimStorage

METER = MeterId("bat")


@dataclass
class Bench:
    """The driver beside a battery, and what it reports."""

    driver: ModbusMeters
    events: list[Event] = field(default_factory=list)
    news: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def __call__(self, event: Event) -> None:
        async with self.news:
            self.events.append(event)
            self.news.notify_all()

    def send(self, name: str, power_w: int, lease_s: float = 60.0) -> None:
        self.driver.send(SetBattery(name, "store", "battery/store", power_w, lease_s))

    async def until(self, wanted: Callable[[Event], bool]) -> Event:
        def found() -> Event | None:
            return next((event for event in self.events if wanted(event)), None)

        async with asyncio.timeout(10), self.news:
            await self.news.wait_for(lambda: found() is not None)
        event = found()
        assert event is not None
        return event

    async def ended(self, name: str) -> Event:
        ends = CommandAccepted | CommandRefused | CommandLost | CommandReplaced
        return await self.until(lambda event: isinstance(event, ends) and event.command == name)

    async def measured(self, power_w: int) -> MeterReading:
        event = await self.until(lambda e: isinstance(e, MeterReading) and e.power_w == power_w)
        assert isinstance(event, MeterReading)
        return event


@asynccontextmanager
async def bench(storage: SimStorage, metered: bool = True) -> AsyncIterator[Bench]:
    await storage.start()
    meter = MeterSettings(METER, "sunspec-battery", "127.0.0.1", storage.port, 1, 0.1)
    output = OutputSettings("store", "127.0.0.1", storage.port, 1)
    one = Bench(ModbusMeters([meter] if metered else [], SystemClock(), outputs=[output]))
    task = asyncio.create_task(one.driver.run(one))  # type: ignore[arg-type]
    try:
        yield one
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await storage.stop()


@pytest.mark.parametrize("models", [(704,), (124,), (124, 704)])
async def test_charging_and_discharging_are_set_and_measured(models: tuple[int, ...]) -> None:
    storage = SimStorage(time.monotonic, soc=0.5, models=models, follow_s=0.0)
    async with bench(storage) as one:
        one.send("c1", 4_000)
        assert isinstance(await one.ended("c1"), CommandAccepted)
        assert one.events.index(CommandSent("c1")) < one.events.index(CommandAccepted("c1"))
        seen = await one.measured(4_000)
        assert seen.soc_pct == 50
        one.send("c2", -2_500)
        assert isinstance(await one.ended("c2"), CommandAccepted)
        await one.measured(-2_500)
        one.send("c3", 0)
        assert isinstance(await one.ended("c3"), CommandAccepted)
        assert storage.connections == 1  # the meter's
        assert {model for model, _ in storage.writes} == {max(models)}


@pytest.mark.parametrize("model", [704, 124])
async def test_a_set_point_that_is_not_renewed_ends_by_itself(model: int) -> None:
    storage = SimStorage(time.monotonic, models=(model,), follow_s=0.0)
    async with bench(storage) as one:
        one.send("c1", 3_000, lease_s=1.0)
        await one.measured(3_000)
        one.events.clear()
        await one.measured(0)


async def test_a_renewed_one_goes_on() -> None:
    clock = [1000.0]
    storage = SimStorage(lambda: clock[0], follow_s=0.0)
    async with bench(storage) as one:
        one.send("c1", 3_000, lease_s=60.0)
        await one.measured(3_000)
        clock[0] += 40.0
        one.send("c2", 3_000, lease_s=60.0)
        await one.ended("c2")
        clock[0] += 40.0
        storage.tick()
        assert storage.power_w == 3_000
        clock[0] += 21.0
        storage.tick()
        assert storage.power_w == 0
        assert storage.stored_wh == pytest.approx(10_000 + 3_000 * 101 / 3600)


async def test_a_device_that_cannot_be_told_refuses() -> None:
    storage = SimStorage(time.monotonic, models=())
    async with bench(storage) as one:
        one.send("c1", 3_000)
        refused = await one.ended("c1")
        assert isinstance(refused, CommandRefused)
        assert "no SunSpec model 704 or 124 to write to; the device has 1, 713, 714" in refused.reason
        assert CommandSent("c1") not in one.events


async def test_what_never_left_is_refused_and_what_was_cut_off_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bus, "TIMEOUT_S", 0.2)
    storage = SimStorage(time.monotonic, follow_s=0.0)
    async with bench(storage, metered=False) as one:
        one.send("c1", 3_000)
        assert isinstance(await one.ended("c1"), CommandAccepted)
        storage.deaf_to = 22
        one.send("c2", 4_000)
        lost = await one.ended("c2")
        assert isinstance(lost, CommandLost)
        assert CommandSent("c2") in one.events
        storage.deaf_to = None
        await storage.stop()
        one.send("c3", 5_000)
        assert isinstance(await one.ended("c3"), CommandRefused)
        assert CommandSent("c3") not in one.events


@pytest.mark.parametrize(("offset", "outcome"), [(24, CommandRefused), (22, CommandLost)])
async def test_a_write_that_is_refused_changed_nothing_unless_another_was_taken(
    offset: int, outcome: type[Event]
) -> None:
    storage = SimStorage(time.monotonic, follow_s=0.0)
    storage.locked = offset
    async with bench(storage) as one:
        one.send("c1", 3_000)
        assert isinstance(await one.ended("c1"), outcome)


async def test_the_newest_replaces_one_that_waits() -> None:
    storage = SimStorage(time.monotonic, follow_s=0.0)
    async with bench(storage) as one:
        one.send("c1", 1_000)
        one.send("c2", 2_000)
        assert isinstance(await one.ended("c2"), CommandAccepted)
        assert isinstance(await one.ended("c1"), CommandReplaced)
        await one.measured(2_000)


async def test_an_empty_battery_gives_nothing_and_says_so() -> None:
    storage = SimStorage(time.monotonic, soc=0.0, follow_s=0.0)
    async with bench(storage) as one:
        one.send("c1", -3_000)
        assert isinstance(await one.ended("c1"), CommandAccepted)
        assert (await one.measured(0)).soc_pct == 0


def test_a_battery_in_another_process_is_read_and_told_by_a_running_depot(tmp_path: Path) -> None:
    def port_of(log: Path) -> int:
        return int(until(lambda: log.read_text().partition("127.0.0.1:")[2].partition("/")[0], "a port"))

    battery_log, meter_log = tmp_path / "battery.log", tmp_path / "meter.log"
    with (
        process(battery_log, "drivers.sim", "battery", "--model", "124", "--soc", "40"),
        process(meter_log, "drivers.sim", "meter", "--load", "10 A"),
    ):
        at = f'address = "tcp://127.0.0.1:{port_of(battery_log)}/1"'
        more = (
            f'\n[meter.bat]\nkind = "sunspec-battery"\n{at}\nrole = "battery"\npoll = "0.2 s"\n'
            f'[battery.store]\nmeter = "bat"\n{at}\ncharge = "5 kW"\ndischarge = "5 kW"\n'
        )
        with running(tmp_path, port_of(meter_log), more) as site:

            def shown() -> dict[str, object] | None:
                (battery,) = (site.status() or {"batteries": [{"accepted_w": None}]})["batteries"]
                return dict(battery) if battery["accepted_w"] is not None else None

            battery = until(shown, "a set-point is accepted")
            assert (battery["id"], battery["soc_pct"], battery["accepted_w"], battery["power_w"]) == (
                "store", 40, 0, 0,
            )  # fmt: skip


@pytest.mark.parametrize(("power_w", "scale"), [(4_000, -3), (-4_000, -3), (4_000, -4)])
async def test_a_rate_that_does_not_fit_its_register_is_not_written(power_w: int, scale: int) -> None:
    """100 % in thousandths is more than 16 bits hold: what is left of it would be a discharge."""

    class Registers:
        def __init__(self) -> None:
            self.written: list[tuple[int, list[int]]] = []

        async def read(self, unit: int, block: Block) -> dict[int, int]:
            return {block.address: {2: 4_000, 18: 0, 25: scale & 0xFFFF}[block.address]}

        async def write(self, unit: int, at: int, words: list[int]) -> None:
            self.written.append((at, words))

    point, line = SetPoint(OutputSettings("store", "127.0.0.1", 502, 1), 0.0), Registers()
    with pytest.raises(Refused, match="too fine"):
        await point._rate(cast(Line, line), 0, SetBattery("c", "store", "battery/store", power_w, 60.0))
    assert not line.written
