"""Polls the site's Modbus meters: one connection and one task per bus, its units one after the other.

Owns the wire (Modbus TCP through pymodbus), the polling grid and the installation's facts: CT ratio, direction,
phase order. It does not know what a register means (the meter files do) nor what a reading is good for (the core).

A reading is all blocks of a meter or nothing, stamped with the moment its first request left: its age is never
flattered. pymodbus accepts short, long and foreign answers and returns exceptions instead of raising them, so every
answer is checked here. No retries: a lost poll is a lost reading, the next poll is the retry, and a bus that does not
connect is tried once per poll, for all units that are due.

Source: Modbus Messaging on TCP/IP Implementation Guide V1.0b; Modbus Application Protocol V1.1b3 section 7
(exceptions); pymodbus 3.16.1 behaviour as measured on loopback (field notes 3.3).
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pymodbus.client import AsyncModbusTcpClient
from pymodbus.exceptions import ModbusException
from pymodbus.pdu import DecodePDU, ExceptionResponse, ModbusPDU
from pymodbus.pdu.register_message import ReadHoldingRegistersResponse

from controller.core.events import MeterFailed, MeterReading
from controller.core.model import MeterId, PerPhase
from controller.core.units import load_ma, load_w, whole
from controller.ports import Clock, Report
from drivers.errors import DriverError, Misconfigured, Nonsense, Refused, Unreachable
from drivers.modbus import find
from drivers.modbus.registers import READ_HOLDING, Block, Measured, decode, unfit

log = logging.getLogger(__name__)
# Every failure reaches us as an answer or an exception and is logged on change; the library would log each poll.
logging.getLogger("pymodbus").setLevel(logging.CRITICAL + 1)

TIMEOUT_S = 0.7  # to connect, and per request: a dead unit must leave room for the others within a 1 s poll
STUCK_S = (
    60.0  # real meters jitter in the last digit; the same bits for a minute under load are a hung gateway
)
STUCK_ABOVE_W = 1000

_MOST_A = 10_000.0
_LIVE_V = (80.0, 300.0)
_LIVE_HZ = (45.0, 65.0)
_MOST_W = 3 * _MOST_A * _LIVE_V[1]

_EXCEPTIONS = {
    1: "illegal function",
    2: "illegal data address",
    3: "illegal data value",
    4: "device failure",
    5: "acknowledged, not done yet",
    6: "device busy",
    10: "gateway path unavailable",
    11: "gateway target does not respond",
}
_TRY_LATER = {5, 6, 10, 11}


@dataclass(frozen=True, slots=True)
class MeterSettings:
    """One meter as installed. `poll_s` of the driver's clock. `ct_ratio` multiplies currents, powers and energies.

    invert: the meter hangs the other way round: flips current and power, swaps import and export.
    phases: the grid phase (0, 1, 2) of each of the meter's conductors; shorter than 3 ignores the others.

    Raises Misconfigured on values no meter can have.
    """

    id: MeterId
    kind: str
    host: str
    port: int
    unit: int
    poll_s: float
    invert: bool = False
    ct_ratio: float = 1.0
    phases: tuple[int, ...] = (0, 1, 2)

    def __post_init__(self) -> None:
        if not 0 <= self.unit <= 255:
            raise Misconfigured(f"meter {self.id}: unit {self.unit} is not between 0 and 255")
        if not (math.isfinite(self.poll_s) and self.poll_s > 0):
            raise Misconfigured(f"meter {self.id}: a poll every {self.poll_s:g} s is not possible")
        if not (math.isfinite(self.ct_ratio) and self.ct_ratio > 0):
            raise Misconfigured(f"meter {self.id}: ct_ratio {self.ct_ratio:g} is not above 0")
        if not self.phases or len(set(self.phases)) < len(self.phases) or not set(self.phases) <= {0, 1, 2}:
            raise Misconfigured(
                f"meter {self.id}: phases {self.phases} do not name each grid phase at most once"
            )


class ModbusMeters:
    """The driver (`ports.Driver`) for all Modbus meters of a site; one that fails does not disturb another bus.

    Raises Misconfigured for a kind without a file.
    """

    def __init__(self, meters: Sequence[MeterSettings], clock: Clock) -> None:
        buses: dict[tuple[str, int], list[MeterSettings]] = {}
        for meter in meters:
            find(meter.kind)
            buses.setdefault((meter.host, meter.port), []).append(meter)
        self._buses = [_Bus(host, port, units, clock) for (host, port), units in buses.items()]

    async def run(self, report: Report) -> None:
        """Report one MeterReading or MeterFailed per poll and meter, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for bus in self._buses:
                group.create_task(bus.run(report))


async def read_once(settings: MeterSettings, timeout_s: float) -> MeterReading:
    """One reading without a running driver, checked against the probe of its kind. `timeout_s` bounds each request.

    `taken_s` is the loop's monotonic time. Raises Unreachable, Refused, Nonsense or Misconfigured.
    """
    line = _Line(settings.host, settings.port, timeout_s)
    meter = find(settings.kind).MAP
    try:
        await line.open()
        taken_s = asyncio.get_running_loop().time()
        words = await line.read(settings.unit, meter.blocks)
        if why := unfit(meter, words):
            raise Nonsense(f"does not look like {settings.kind}: {why}")
        return reading(settings, decode(meter, words), taken_s)
    except DriverError as error:
        raise type(error)(f"{line} unit {settings.unit}: {error}") from error
    finally:
        line.close()


def reading(settings: MeterSettings, measured: Measured, taken_s: float) -> MeterReading:
    """What the meter says, as the installation means it. Raises Nonsense for what cannot be true."""
    _check(settings, measured)
    factor = -settings.ct_ratio if settings.invert else settings.ct_ratio
    energy_wh = [
        None if one is None else whole(one * settings.ct_ratio)
        for one in (measured.import_wh, measured.export_wh)
    ]
    import_wh, export_wh = reversed(energy_wh) if settings.invert else energy_wh
    total_w = measured.total_power_w
    return MeterReading(
        meter=settings.id,
        taken_s=taken_s,
        current_ma=_per_phase(
            settings, [None if a is None else load_ma(a * factor) for a in measured.current_a]
        ),
        power_w=None if total_w is None else load_w(total_w * factor),
        voltage_mv=_per_phase(settings, [None if v is None else whole(v * 1000) for v in measured.voltage_v]),
        import_wh=import_wh,
        export_wh=export_wh,
    )


def _check(settings: MeterSettings, measured: Measured) -> None:
    ratio = settings.ct_ratio
    for n, volts in enumerate(measured.voltage_v, 1):
        # exactly 0 is a dead phase; a whiff of a volt is swapped words or a loose wire
        if volts is not None and volts != 0 and not _LIVE_V[0] <= volts <= _LIVE_V[1]:
            raise Nonsense(f"voltage of conductor {n} is {volts:.4g} V")
    for n, amps in enumerate(measured.current_a, 1):
        if amps is not None and abs(amps * ratio) > _MOST_A:
            raise Nonsense(f"current of conductor {n} is {amps * ratio:.4g} A")
    for watts in (*measured.power_w, measured.total_power_w):
        if watts is not None and abs(watts * ratio) > _MOST_W:
            raise Nonsense(f"power is {watts * ratio:.4g} W")
    hertz = measured.frequency_hz
    if hertz is not None and hertz != 0 and not _LIVE_HZ[0] <= hertz <= _LIVE_HZ[1]:
        raise Nonsense(f"frequency is {hertz:.4g} Hz")
    for watt_hours in (measured.import_wh, measured.export_wh):
        if watt_hours is not None and watt_hours < 0:
            raise Nonsense(f"an energy register went below zero: {watt_hours:.4g} Wh")
    if measured.total_power_w is None and all(amps is None for amps in measured.current_a):
        raise Nonsense("the meter has no value for any current nor for its power")


def _per_phase(settings: MeterSettings, conductors: Sequence[int | None]) -> PerPhase[int | None]:
    grid: list[int | None] = [None, None, None]
    for phase, value in zip(settings.phases, conductors, strict=False):
        grid[phase] = value
    return PerPhase(*grid)


class _Unit:
    """One meter on the bus: when it is due, and what is remembered of it between polls."""

    def __init__(self, settings: MeterSettings, start_s: float) -> None:
        self.settings = settings
        self.map = find(settings.kind).MAP
        self.due_s = start_s
        self.trouble: str | None = None
        self._start_s = start_s
        self._last: tuple[Mapping[int, int], float] | None = None

    @property
    def turn_s(self) -> float:
        """Who is first when several are due. A failing unit yields, but not for ever: at most by one period."""
        return self.due_s if self.trouble is None else self.due_s + self.settings.poll_s

    def reschedule(self, now_s: float) -> None:
        """To the next point of the grid after now: no drift, and no burst to catch up what was missed."""
        poll_s = self.settings.poll_s
        self.due_s = self._start_s + (math.floor((now_s - self._start_s) / poll_s) + 1) * poll_s

    def read(self, words: Mapping[int, int], taken_s: float) -> MeterReading:
        """Raises Nonsense for values that cannot be true, or that have not moved for too long."""
        event = reading(self.settings, decode(self.map, words), taken_s)
        if self._last is None or self._last[0] != words:
            self._last = (words, taken_s)
        same_s = taken_s - self._last[1]
        if same_s > STUCK_S and event.power_w is not None and abs(event.power_w) >= STUCK_ABOVE_W:
            raise Nonsense(f"not one bit has changed for {same_s:.0f} s at {event.power_w} W")
        return event


class _Bus:
    """All units behind one address."""

    def __init__(self, host: str, port: int, meters: Sequence[MeterSettings], clock: Clock) -> None:
        self._line = _Line(host, port, TIMEOUT_S)
        self._meters = meters
        self._clock = clock

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
            await self._line.open()
        except DriverError as error:
            for unit in due:
                await self._failed(unit, error, report)
            return
        unit = min(due, key=lambda one: one.turn_s)
        taken_s = self._clock.now().mono_s
        try:
            event = unit.read(await self._line.read(unit.settings.unit, unit.map.blocks), taken_s)
        except DriverError as error:
            await self._failed(unit, error, report)
            return
        if unit.trouble is not None:
            log.info("meter %s reads again", unit.settings.id)
            unit.trouble = None
        unit.reschedule(self._clock.now().mono_s)
        await report(event)

    async def _failed(self, unit: _Unit, error: DriverError, report: Report) -> None:
        text = f"{self._line} unit {unit.settings.unit}: {error}"
        if unit.trouble != error.kind:
            log.warning("meter %s does not read: %s", unit.settings.id, text)
            unit.trouble = error.kind
        unit.reschedule(self._clock.now().mono_s)
        await report(MeterFailed(unit.settings.id, error.kind, text))


class _Line:
    """One Modbus TCP connection, opened again after each time-out so that no late answer can be taken for another."""

    def __init__(self, host: str, port: int, timeout_s: float) -> None:
        self._host, self._port, self._timeout_s = host, port, timeout_s
        self._client: AsyncModbusTcpClient | None = None

    def __str__(self) -> str:
        return f"{self._host}:{self._port}"

    async def open(self) -> None:
        """Connect unless connected. Raises Unreachable."""
        if self._client is not None and self._client.connected:
            return
        self.close()
        client = AsyncModbusTcpClient(
            self._host, port=self._port, timeout=self._timeout_s, retries=0, reconnect_delay=0
        )
        client.ctx.framer.decoder = _Decoder(False)
        self._client = client
        try:
            connected = await client.connect()
        except (OSError, ValueError) as error:  # ValueError: a host name that cannot be one
            raise Unreachable(f"no connection: {error}") from error
        finally:
            _pass_on_cancellation()
        if not connected:
            raise Unreachable("no connection")

    def close(self) -> None:
        """Safe at any time."""
        if self._client is not None:
            self._client.close()
            self._client = None

    async def read(self, unit: int, blocks: Sequence[Block]) -> dict[int, int]:
        """All blocks as raw words by address, or nothing. Needs `open`. Raises Unreachable, Refused or Nonsense."""
        words: dict[int, int] = {}
        for block in blocks:
            try:
                answer = await self._ask(unit, block)
            except (ModbusException, OSError) as error:
                alive = self._client is not None and self._client.connected
                self.close()
                silence = f"no answer within {self._timeout_s:g} s" if alive else "the connection was closed"
                raise Unreachable(f"{silence} ({_what(block)})") from error
            words.update(zip(block.addresses, _registers(answer, block), strict=True))
        return words

    async def _ask(self, unit: int, block: Block) -> ModbusPDU:
        client = self._client
        assert client is not None, "read before open"
        ask = client.read_holding_registers if block.function == READ_HOLDING else client.read_input_registers
        try:
            return await ask(block.address, count=block.count, device_id=unit)
        finally:
            _pass_on_cancellation()


def _pass_on_cancellation() -> None:
    """`asyncio.wait_for`, which pymodbus waits with, swallows a cancellation that meets the answer (Python below
    3.12): a polling loop would then never end."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


class _Decoder(DecodePDU):
    """pymodbus raises inside the event loop when it cannot decode an answer: a traceback in the log, then a
    time-out. Handing over an empty answer of that function code instead lets us call it what it is, at once."""

    def decode(self, frame: bytes) -> ModbusPDU:
        pdu = super().decode(frame)
        if pdu is None:
            pdu = ModbusPDU()
            pdu.function_code = frame[0]
        return pdu


def _registers(answer: ModbusPDU, block: Block) -> Sequence[int]:
    """The registers of an answer that fits its question. Raises Unreachable, Refused or Nonsense."""
    if answer.transaction_id == 0:  # pymodbus lets it pass; it could be the late answer to another question
        raise Nonsense(f"answered without the transaction id of the request ({_what(block)})")
    if isinstance(answer, ExceptionResponse):
        code = answer.exception_code
        text = f"exception {code}, {_EXCEPTIONS.get(code, 'not in the specification')} ({_what(block)})"
        raise Unreachable(text) if code in _TRY_LATER else Refused(text)
    if not isinstance(answer, ReadHoldingRegistersResponse):
        raise Nonsense(
            f"answered with function code {answer.function_code} and no registers ({_what(block)})"
        )
    if answer.function_code != block.function:
        raise Nonsense(f"answered with function code {answer.function_code} ({_what(block)})")
    if len(answer.registers) != block.count:
        raise Nonsense(f"answered with {len(answer.registers)} registers ({_what(block)})")
    return answer.registers


def _what(block: Block) -> str:
    return f"function code {block.function}, {block.count} registers at {block.address}"
