"""A simulated Eastron SDM630 on Modbus TCP: an honest meter on a real socket, with switches for what goes wrong.

Owns its own register layout, written from the manual, over its own few lines of Modbus TCP. It shares no code with the reader it is meant to test, nor with the library that reader uses. It knows nothing of the
depot: whoever builds it passes a function that tells the physical truth of the moment.

Sources: Modbus Messaging on TCP/IP Implementation Guide V1.0b (header), Modbus Application Protocol V1.1b3
(exceptions), Eastron "SDM630 Modbus Protocol" (function code 4, float32, high word first, even addresses, at most
80 registers a read).
"""

from __future__ import annotations

import asyncio
import itertools
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from drivers.sim.modbus_tcp import ModbusTcp, write_frame

_READ_INPUT = 4
_LAST_REGISTER = 381
_MOST_REGISTERS = 80
_ILLEGAL_FUNCTION, _ILLEGAL_ADDRESS, _ILLEGAL_VALUE, _NO_SUCH_UNIT = 1, 2, 3, 11


@dataclass(frozen=True, slots=True)
class MeterTruth:
    """What flows through the meter, L1 to L3. Import positive; currents carry the sign of their power (the meter
    itself only shows magnitudes)."""

    current_a: tuple[float, float, float]
    voltage_v: tuple[float, float, float]
    power_w: tuple[float, float, float]
    import_wh: float
    export_wh: float


Source = Callable[[], MeterTruth]


@dataclass(slots=True)
class MeterFaults:
    """Switches of one unit, to be thrown while it runs.

    silent          takes requests, never answers
    exception       answers every request with this Modbus exception code
    short           leaves the last two registers out of each answer
    wrong_function  answers as if holding registers had been asked for
    undecodable     answers with a function code that does not exist
    nan             every value is not-a-number
    frozen          repeats the values of the moment the switch was thrown
    garbage         answers with bytes that are no Modbus
    delay_s         answers that much later (real seconds)
    """

    silent: bool = False
    exception: int | None = None
    short: bool = False
    wrong_function: bool = False
    undecodable: bool = False
    nan: bool = False
    frozen: bool = False
    garbage: bool = False
    delay_s: float = 0.0


class _Sdm630:
    """The registers of one unit."""

    def __init__(self, source: Source) -> None:
        self.faults = MeterFaults()
        self._source = source
        self._frozen: bytes | None = None
        self._wobble = itertools.cycle((0.0, 0.01, 0.02, 0.01, 0.0, -0.01, -0.02, -0.01))

    def registers(self) -> bytes:
        """All input registers from address 0, two bytes each."""
        if not self.faults.frozen:
            self._frozen = None
            return self._image()
        if self._frozen is None:
            self._frozen = self._image()
        return self._frozen

    def _image(self) -> bytes:
        truth = self._source()
        amps = [abs(one) for one in truth.current_a]
        values = dict(zip(range(0, 18, 2), (*truth.voltage_v, *amps, *truth.power_w), strict=True))
        values[52] = sum(truth.power_w)
        values[70] = 50.0 + next(self._wobble)  # no grid stands still
        values[72] = truth.import_wh / 1000
        values[74] = truth.export_wh / 1000
        if self.faults.nan:
            values = dict.fromkeys(values, float("nan"))
        image = bytearray(2 * len(range(0, _LAST_REGISTER, 2)) * 2)
        for address, value in values.items():
            struct.pack_into(">f", image, 2 * address, value)
        return bytes(image)


class SimMeter(ModbusTcp):
    """A Modbus TCP server with one SDM630 per unit id; `units` adds more behind the same address.

    `faults(unit)` gives the switches of a unit.
    """

    def __init__(
        self,
        source: Source,
        host: str = "127.0.0.1",
        port: int = 0,
        unit: int = 1,
        units: Mapping[int, Source] | None = None,
    ) -> None:
        super().__init__(host, port)
        self._units = {unit: _Sdm630(source), **{n: _Sdm630(other) for n, other in (units or {}).items()}}

    def faults(self, unit: int = 1) -> MeterFaults:
        """Raises KeyError for a unit that does not exist."""
        return self._units[unit].faults

    async def reply(self, writer: asyncio.StreamWriter, transaction: int, unit: int, request: bytes) -> None:
        known = self._units.get(unit)
        if known is None:
            write_frame(writer, transaction, unit, bytes((request[0] | 0x80, _NO_SUCH_UNIT)))
            return
        faults = known.faults
        if faults.delay_s:
            await asyncio.sleep(faults.delay_s)
        if faults.silent:
            return
        if faults.garbage:
            writer.write(b"\xde\xad\xbe\xef" * 3)
            return
        write_frame(writer, transaction, unit, _respond(known, request))


def _respond(unit: _Sdm630, request: bytes) -> bytes:
    """The answer to one request, function code first."""
    function, faults = request[0], unit.faults
    if faults.exception is not None:
        return bytes((function | 0x80, faults.exception))
    if faults.undecodable:
        return b"\x41\x00\x01\x02"
    if function != _READ_INPUT or len(request) != 5:
        return bytes((function | 0x80, _ILLEGAL_FUNCTION))
    address, count = struct.unpack(">HH", request[1:])
    if not 1 <= count <= _MOST_REGISTERS:
        return bytes((function | 0x80, _ILLEGAL_VALUE))
    if address % 2 or count % 2 or address + count > _LAST_REGISTER + 1:
        return bytes((function | 0x80, _ILLEGAL_ADDRESS))
    data = unit.registers()[2 * address : 2 * (address + count)]
    if faults.short:
        data = data[:-4]
    return bytes((3 if faults.wrong_function else function, len(data))) + data
