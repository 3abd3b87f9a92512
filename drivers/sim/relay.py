"""A simulated relay box on Modbus TCP: the contacts through which a grid operator puts limits on.

Owns its contacts and the few function codes that read them. It knows nothing of limits or depots. Source: Modbus
Application Protocol V1.1b3 sections 6.1 and 6.2 (coils and discrete inputs, eight to a byte, lowest first) and 7.
"""

from __future__ import annotations

import asyncio
import struct

from drivers.sim.modbus_tcp import ModbusTcp

_READ_COILS, _READ_INPUTS = 1, 2
_CONTACTS = 16
_ILLEGAL_FUNCTION, _ILLEGAL_ADDRESS, _ILLEGAL_VALUE, _NO_SUCH_UNIT = 1, 2, 3, 11


class SimRelay(ModbusTcp):
    """`closed[n]` is contact n, readable as coil and as discrete input n of `unit`. `silent`: takes requests, never
    answers."""

    def __init__(self, port: int = 0, unit: int = 1) -> None:
        super().__init__(port=port)
        self.unit = unit
        self.closed = [False] * _CONTACTS
        self.silent = False

    async def reply(self, writer: asyncio.StreamWriter, transaction: int, unit: int, request: bytes) -> None:
        if not self.silent:
            await super().reply(writer, transaction, unit, request)

    def respond(self, unit: int, request: bytes) -> bytes:
        function = request[0]
        if unit != self.unit:
            return bytes((function | 0x80, _NO_SUCH_UNIT))
        if function not in (_READ_COILS, _READ_INPUTS) or len(request) != 5:
            return bytes((function | 0x80, _ILLEGAL_FUNCTION))
        first, count = struct.unpack(">HH", request[1:])
        if not count:
            return bytes((function | 0x80, _ILLEGAL_VALUE))
        if first + count > _CONTACTS:
            return bytes((function | 0x80, _ILLEGAL_ADDRESS))
        bits = sum(closed << at for at, closed in enumerate(self.closed[first : first + count]))
        data = bits.to_bytes(-(-count // 8), "little")
        return bytes((function, len(data))) + data
