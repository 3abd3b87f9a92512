"""What the driver of the meters reports, to wait for; and one reading without a running driver."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from controller.clock import SystemClock
from controller.core.applied import Applied
from controller.core.events import Event, MeterReading
from drivers.errors import DriverError, Nonsense
from drivers.modbus.bus import ModbusMeters
from drivers.modbus.device import Device
from drivers.modbus.installed import MeterSettings, reading
from drivers.modbus.line import Line
from drivers.modbus.registers import decode, unfit
from drivers.modbus.turns import address


class Reports:
    """Tests wait for facts, not for time."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._news = asyncio.Condition()

    async def __call__(self, event: Event) -> Applied:
        async with self._news:
            self.events.append(event)
            self._news.notify_all()
        return Applied()

    def of(self, kind: type[Event], meter: str = "main") -> list[Any]:
        return [one for one in self.events if isinstance(one, kind) and one.meter == meter]

    async def next(self, kind: type[Event], meter: str = "main", count: int = 1) -> Any:
        """The `count`-th report of this kind from now on."""
        wanted = len(self.of(kind, meter)) + count
        async with asyncio.timeout(10), self._news:
            await self._news.wait_for(lambda: len(self.of(kind, meter)) >= wanted)
        return self.of(kind, meter)[wanted - 1]


@asynccontextmanager
async def running(meters: Sequence[MeterSettings], speed: float = 1.0) -> AsyncIterator[Reports]:
    reports = Reports()
    task = asyncio.create_task(ModbusMeters(meters, SystemClock(speed)).run(reports))
    try:
        yield reports
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def read_once(settings: MeterSettings, timeout_s: float) -> MeterReading:
    """Checked against the probe of its kind; `timeout_s` bounds each request."""
    line = Line(address(settings, f"meter {settings.id}"), timeout_s)
    device = Device(settings.kind, settings.unit)
    try:
        await line.open(device.settle_s)
        taken_s = asyncio.get_running_loop().time()
        meter, words = await device.read(line)
        if why := unfit(meter, words):
            raise Nonsense(f"does not look like {settings.kind}: {why}")
        return reading(settings, decode(meter, words), taken_s)
    except DriverError as error:
        raise type(error)(f"{line} unit {settings.unit}: {error}") from error
    finally:
        line.close()
