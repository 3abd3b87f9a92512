"""Works the site's Modbus units (meters, contacts, batteries): one connection and one task per bus, its units one after the other.

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
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial

from controller.core.commands import SetBattery
from controller.core.events import Event, MeterFailed
from controller.core.frames import Frame, Trace
from controller.ports import Clock, Report
from drivers.errors import DriverError, Misconfigured, Nonsense
from drivers.modbus import find
from drivers.modbus.device import Device
from drivers.modbus.installed import MeterSettings, reading
from drivers.modbus.line import Address, Line
from drivers.modbus.plausible import Continuity
from drivers.modbus.registers import decode
from drivers.modbus.sunspec_output import OutputSettings, SetPoint
from drivers.modbus.turns import Contact, ContactSettings, Turn, address

__all__ = ["ContactSettings", "MeterSettings", "ModbusMeters", "OutputSettings"]

log = logging.getLogger(__name__)

TIMEOUT_S = 0.7  # to connect, and per request: a dead unit must leave room for the others within a 1 s poll
RETRY_FIRST_S, RETRY_MOST_S = 0.5, 5.0  # between two attempts to connect, doubled with each
# real meters jitter in the last digit; the same bits for a minute under load are a hung gateway
STUCK_S = 60.0
STUCK_ABOVE_W = 1000
KEPT_FRAMES = 120  # requests and answers of a bus, of at most 260 bytes each


class Stuck(Nonsense):
    """The meter answers, always the same."""

    kind = "stuck"


class ModbusMeters:
    """The driver (`ports.Driver`) for all Modbus units of a site; one that fails does not disturb another bus.

    Raises Misconfigured for a kind without a file, and for a line that two of them describe differently.
    """

    def __init__(
        self,
        meters: Sequence[MeterSettings],
        clock: Clock,
        contacts: Sequence[ContactSettings] = (),
        outputs: Sequence[OutputSettings] = (),
    ) -> None:
        named: list[tuple[str, MeterSettings | ContactSettings | OutputSettings]] = [
            *((f"meter {meter.id}", meter) for meter in meters),
            *((f"input {contact.id}", contact) for contact in contacts),
            *((f"battery {output.id}", output) for output in outputs),
        ]
        start_s = clock.now().mono_s
        self._set_points: dict[str, SetPoint] = {}
        buses: dict[tuple[str, int], tuple[str, Address, list[Callable[[float], Turn]]]] = {}
        for name, settings in named:
            at = address(settings, name)
            if isinstance(settings, MeterSettings):
                find(settings.kind)
                made: Callable[[float], Turn] = partial(_Unit, settings)
            elif isinstance(settings, ContactSettings):
                made = partial(Contact, settings)
            else:
                self._set_points[settings.id] = point = SetPoint(settings, start_s)
                made = partial(_as_is, point)
            first, agreed, turns = buses.setdefault((settings.host, settings.port), (name, at, []))
            turns.append(made)
            if at != agreed:
                raise Misconfigured(
                    f"{name}: {at} is described differently by {first}; "
                    "all units of a line have the same framing, speed and parity"
                )
        self._buses = [_Bus(at, turns, clock) for _, at, turns in buses.values()]

    def send(self, command: SetBattery) -> None:
        """Never blocks, never raises; see `controller.ports.BatteryOutput`."""
        self._set_points[command.battery].put(command)

    def traces(self) -> list[Trace]:
        """See `controller.ports.Traced`."""
        return [trace for bus in self._buses for trace in bus.traces()]

    async def run(self, report: Report) -> None:
        """Report one reading or failure per poll and unit, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for bus in self._buses:
                group.create_task(bus.run(report))


def _as_is(point: SetPoint, start_s: float) -> Turn:
    """A set-point outlives a bus that is run again: commands may be waiting in it."""
    point.due_s = start_s
    return point


class _Unit(Turn):
    """One meter on the bus, and what is remembered of it between polls."""

    def __init__(self, settings: MeterSettings, start_s: float) -> None:
        super().__init__(f"meter {settings.id}", settings, start_s)
        self.settings = settings
        self.device = Device(settings.kind, settings.unit)
        self._last: tuple[Mapping[int, int], float] | None = None
        self._continuity = Continuity()

    @property
    def settle_s(self) -> float:
        return self.device.settle_s

    def failed(self, error: DriverError, text: str) -> Sequence[Event]:
        return (MeterFailed(self.settings.id, error.kind, text),)

    async def read(self, line: Line, taken_s: float) -> Sequence[Event]:
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
        return (replace(event, latency_ms=latency_ms),)


def _passed(unit: Turn, now_s: float) -> bool:
    """One that has nothing to do is asked again at its next point."""
    if unit.idle:
        unit.reschedule(now_s)
    return unit.idle


class _Bus:
    """All units behind one address."""

    def __init__(self, at: Address, turns: Sequence[Callable[[float], Turn]], clock: Clock) -> None:
        self._line = Line(at, TIMEOUT_S)
        self._line.heard = self._hear
        self._turns = turns
        self._clock = clock
        self._turn = ""  # the name of the unit whose turn it is
        self._frames: deque[tuple[datetime, str, bool, bytes]] = deque(maxlen=KEPT_FRAMES)
        self._unanswered = 0  # polls in a row to which nothing came
        self._failures = 0  # in a row, of connecting or of all units
        self._retry_s = -math.inf
        self._why: DriverError | None = None

    def _hear(self, sending: bool, data: bytes) -> None:
        """Kept as it is, several a second: text is made of it when somebody asks."""
        self._frames.append((self._clock.now().utc, self._turn, sending, data))

    def traces(self) -> Iterator[Trace]:
        by_name: dict[str, list[Frame]] = {}
        for at, name, sending, data in self._frames:
            by_name.setdefault(name, []).append(Frame(at, sending, data.hex(" ")))
        return (Trace("modbus", name, frames) for name, frames in by_name.items())

    async def run(self, report: Report) -> None:
        start_s = self._clock.now().mono_s
        units = [turn(start_s) for turn in self._turns]
        try:
            while True:
                now_s = self._clock.now().mono_s
                due = [unit for unit in units if unit.due_s <= now_s and not _passed(unit, now_s)]
                if due:
                    await self._poll(due, report)
                else:
                    await self._clock.sleep(min(unit.due_s for unit in units) - now_s)
        finally:
            self._line.close()

    async def _poll(self, due: list[Turn], report: Report) -> None:
        try:
            await self._open(max(unit.settle_s for unit in due))
        except DriverError as error:
            for unit in due:
                await self._failed(unit, error, report)
            return
        unit = min(due, key=lambda one: one.turn_s)
        taken_s = self._clock.now().mono_s
        self._turn = unit.name
        try:
            events = await unit.read(self._line, taken_s)
        except DriverError as error:
            self._unanswered = 0 if self._line.answered else self._unanswered + 1
            if self._unanswered >= len(self._turns):  # not one of them: it is the gateway
                self._postpone(error)
            await self._failed(
                unit, error, report, yields=error.kind == "unreachable" and len(self._turns) > 1
            )
            return
        self._failures = self._unanswered = 0
        if unit.trouble is not None:
            log.info("%s reads again", unit.name)
            unit.trouble = None
        unit.reschedule(self._clock.now().mono_s)
        for event in events:
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

    async def _failed(self, unit: Turn, error: DriverError, report: Report, yields: bool = False) -> None:
        text = f"{self._line} unit {unit.unit}: {error}"
        if unit.trouble != error.kind:
            log.warning("%s does not read: %s", unit.name, text)
            unit.trouble = error.kind
        unit.reschedule(self._clock.now().mono_s, yields)
        for event in unit.failed(error, text):
            await report(event)
