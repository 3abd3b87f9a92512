"""Polls the site's Modbus meters: one connection and one task per bus, its units one after the other.

Owns the polling grid, the patience with what does not answer, and what is remembered of a device between polls: where
its SunSpec models are, and which reads it refuses as too long. It does not know what a register means (the meter files
do), how a line works (`line`) nor what a reading is good for (the core).

A reading is all blocks of a meter or nothing, stamped with the moment its first request left: its age is never
flattered. No retries: a lost poll is a lost reading, the next poll is the retry, and a bus that does not connect is
tried once per poll, for all units that are due, and less often the longer it lasts: many gateways take one client, and
another one may be theirs.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from controller.core.events import MeterFailed, MeterReading
from controller.ports import Clock, Report
from drivers.errors import DriverError, Misconfigured, Nonsense
from drivers.modbus import find
from drivers.modbus.device import Device
from drivers.modbus.installed import MeterSettings, reading
from drivers.modbus.line import TRANSPORTS, Address, Line
from drivers.modbus.plausible import Continuity
from drivers.modbus.registers import decode, unfit

__all__ = ["MeterSettings", "ModbusMeters", "read_once"]

log = logging.getLogger(__name__)

TIMEOUT_S = 0.7  # to connect, and per request: a dead unit must leave room for the others within a 1 s poll
RETRY_FIRST_S, RETRY_MOST_S = 0.5, 5.0  # between two attempts to connect, doubled with each
MOST_SKIPPED = 4  # a silent unit among others is left out for so many points of its grid at most
# real meters jitter in the last digit; the same bits for a minute under load are a hung gateway
STUCK_S = 60.0
STUCK_ABOVE_W = 1000


class Stuck(Nonsense):
    """The meter answers, always the same."""

    kind = "stuck"


class ModbusMeters:
    """The driver (`ports.Driver`) for all Modbus meters of a site; one that fails does not disturb another bus.

    Raises Misconfigured for a kind without a file, and for a line that two meters describe differently.
    """

    def __init__(self, meters: Sequence[MeterSettings], clock: Clock) -> None:
        buses: dict[tuple[str, int], list[MeterSettings]] = {}
        for meter in meters:
            find(meter.kind)
            units = buses.setdefault((meter.host, meter.port), [])
            units.append(meter)
            if _address(meter) != _address(units[0]):
                raise Misconfigured(
                    f"meter {meter.id}: {_address(meter)} is described differently by meter {units[0].id}; "
                    "all meters of a line have the same framing, speed and parity"
                )
        self._buses = [_Bus(_address(units[0]), units, clock) for units in buses.values()]

    async def run(self, report: Report) -> None:
        """Report one MeterReading or MeterFailed per poll and meter, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for bus in self._buses:
                group.create_task(bus.run(report))


async def read_once(settings: MeterSettings, timeout_s: float) -> MeterReading:
    """One reading without a running driver, checked against the probe of its kind. `timeout_s` bounds each request.

    `taken_s` is the loop's monotonic time. Raises Unreachable, Refused, Nonsense or Misconfigured.
    """
    line = Line(_address(settings), timeout_s)
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


def _address(meter: MeterSettings) -> Address:
    if meter.transport not in TRANSPORTS:
        raise Misconfigured(
            f"meter {meter.id}: no transport {meter.transport}; there are {', '.join(TRANSPORTS)}"
        )
    return Address(meter.host, meter.port, meter.transport, meter.baud, meter.parity, meter.stop_bits)


class _Unit:
    """One meter on the bus: when it is due, and what is remembered of it between polls."""

    def __init__(self, settings: MeterSettings, start_s: float) -> None:
        self.settings = settings
        self.device = Device(settings.kind, settings.unit)
        self.due_s = start_s
        self.trouble: str | None = None
        self._start_s = start_s
        self._last: tuple[Mapping[int, int], float] | None = None
        self._continuity = Continuity()
        self._silent = 0

    @property
    def turn_s(self) -> float:
        """Who is first when several are due. A failing unit yields, but not for ever: at most by one period."""
        return self.due_s if self.trouble is None else self.due_s + self.settings.poll_s

    def reschedule(self, now_s: float, yields: bool = False) -> None:
        """To the next point of the grid after now: no drift, and no burst to catch up what was missed. `yields`: it did
        not answer while others wait; the next points are theirs, more of them each time."""
        poll_s = self.settings.poll_s
        self._silent = self._silent + 1 if yields else 0
        skipped = min(2 ** max(0, self._silent - 2), MOST_SKIPPED) if self._silent > 1 else 0
        points = math.floor((now_s - self._start_s) / poll_s) + 1 + skipped
        self.due_s = self._start_s + points * poll_s

    async def read(self, line: Line, taken_s: float) -> MeterReading:
        """Raises DriverError; Nonsense and Stuck for values that cannot be true, or have not moved for too long."""
        began_s = asyncio.get_running_loop().time()
        meter, words = await self.device.read(line)
        latency_ms = round((asyncio.get_running_loop().time() - began_s) * 1000)
        event = reading(self.settings, decode(meter, words), taken_s)
        if self._last is None or self._last[0] != words:
            self._last = (words, taken_s)
        same_s = taken_s - self._last[1]
        if same_s > STUCK_S and event.power_w is not None and abs(event.power_w) >= STUCK_ABOVE_W:
            raise Stuck(f"not one bit has changed for {same_s:.0f} s at {event.power_w} W")
        if why := self._continuity.objection(event.current_ma, taken_s):
            raise Nonsense(why)
        return replace(event, latency_ms=latency_ms)


class _Bus:
    """All units behind one address."""

    def __init__(self, address: Address, meters: Sequence[MeterSettings], clock: Clock) -> None:
        self._line = Line(address, TIMEOUT_S)
        self._meters = meters
        self._clock = clock
        self._unanswered = 0  # polls in a row to which nothing came
        self._failures = 0  # in a row, of connecting or of all units
        self._retry_s = -math.inf
        self._why: DriverError | None = None

    async def run(self, report: Report) -> None:
        start_s = self._clock.now().mono_s
        units = [_Unit(meter, start_s) for meter in self._meters]
        try:
            while True:
                now_s = self._clock.now().mono_s
                due = [unit for unit in units if unit.due_s <= now_s]
                if due:
                    await self._poll(due, report)
                else:
                    await self._clock.sleep(min(unit.due_s for unit in units) - now_s)
        finally:
            self._line.close()

    async def _poll(self, due: list[_Unit], report: Report) -> None:
        try:
            await self._open(max(unit.device.settle_s for unit in due))
        except DriverError as error:
            for unit in due:
                await self._failed(unit, error, report)
            return
        unit = min(due, key=lambda one: one.turn_s)
        taken_s = self._clock.now().mono_s
        try:
            event = await unit.read(self._line, taken_s)
        except DriverError as error:
            self._unanswered = 0 if self._line.answered else self._unanswered + 1
            if self._unanswered >= len(self._meters):  # not one of them: it is the gateway
                self._postpone(error)
            await self._failed(
                unit, error, report, yields=error.kind == "unreachable" and len(self._meters) > 1
            )
            return
        self._failures = self._unanswered = 0
        if unit.trouble is not None:
            log.info("meter %s reads again", unit.settings.id)
            unit.trouble = None
        unit.reschedule(self._clock.now().mono_s)
        await report(event)

    async def _open(self, settle_s: float) -> None:
        if self._why is not None and not self._line.connected and self._clock.now().mono_s < self._retry_s:
            raise self._why
        try:
            await self._line.open(settle_s)
        except DriverError as error:
            self._postpone(error)
            raise

    def _postpone(self, error: DriverError) -> None:
        self._retry_s = self._clock.now().mono_s + min(RETRY_FIRST_S * 2**self._failures, RETRY_MOST_S)
        self._failures = min(self._failures + 1, 10)
        self._why = error

    async def _failed(self, unit: _Unit, error: DriverError, report: Report, yields: bool = False) -> None:
        text = f"{self._line} unit {unit.settings.unit}: {error}"
        if unit.trouble != error.kind:
            log.warning("meter %s does not read: %s", unit.settings.id, text)
            unit.trouble = error.kind
        unit.reschedule(self._clock.now().mono_s, yields)
        await report(MeterFailed(unit.settings.id, error.kind, text))
