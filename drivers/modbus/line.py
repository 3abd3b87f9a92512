"""One Modbus connection: Modbus TCP, RTU frames over TCP, or a serial line; every answer is checked here.

Owns the wire. It does not know what a register means, nor when to read: the bus does. pymodbus accepts short, long and
foreign answers and returns exceptions instead of raising them. No retries: the next poll is the retry.

Source: Modbus Messaging on TCP/IP Implementation Guide V1.0b; Modbus over Serial Line V1.02 (RTU frames: unit, PDU,
CRC, and silence between frames); Modbus Application Protocol V1.1b3 section 7 (exceptions); pymodbus 3.16.1 behaviour
as measured on loopback.
"""

from __future__ import annotations

import asyncio
import logging
import os
import termios
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial

from pymodbus.client import AsyncModbusSerialClient, AsyncModbusTcpClient
from pymodbus.exceptions import ModbusException
from pymodbus.framer import FramerType
from pymodbus.pdu import DecodePDU, ExceptionResponse, ModbusPDU
from pymodbus.pdu.bit_message import ReadCoilsResponse
from pymodbus.pdu.register_message import ReadHoldingRegistersResponse, WriteMultipleRegistersResponse

from drivers.errors import Nonsense, Refused, Unreachable
from drivers.modbus.registers import READ_HOLDING, Block

# Every failure reaches us as an answer or an exception and is logged on change; the library would log each poll.
logging.getLogger("pymodbus").setLevel(logging.CRITICAL + 1)

TCP, RTU_OVER_TCP, RTU = "tcp", "rtu+tcp", "rtu"
TRANSPORTS = (TCP, RTU_OVER_TCP, RTU)
READ_COILS = 1

PAUSE_S = (
    0.02  # silence between two RTU frames: 3.5 characters are enough at 9600 baud, slow meters want more
)

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
_WRONG_REGISTERS = {2, 3}


class RefusedRegisters(Refused):
    """These registers are not to be had in one read; perhaps they are in smaller pieces."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a line is. `host` is the path of the device on a serial line, and `port` 0."""

    host: str
    port: int
    transport: str = TCP
    baud: int = 9600
    parity: str = "N"
    stop_bits: int = 1

    def __str__(self) -> str:
        return self.host if self.transport == RTU else f"{self.host}:{self.port}"


class Line:
    """Opened again after each time-out, so that no late answer can be taken for another.

    `answered`: something sensible has come since it was opened, were it an exception. `heard` is told of all bytes as they
    pass, with True for ours.
    """

    def __init__(self, address: Address, timeout_s: float) -> None:
        self.address, self._timeout_s = address, timeout_s
        self._client: AsyncModbusTcpClient | AsyncModbusSerialClient | None = None
        self._heard = 0
        self.answered = False
        self.heard: Callable[[bool, bytes], None] = _nobody

    def __str__(self) -> str:
        return str(self.address)

    @property
    def connected(self) -> bool:
        return self._client is not None and self._client.connected

    async def open(self, settle_s: float = 0) -> None:
        """Connect unless connected, and leave the device `settle_s` to get ready. Raises Unreachable."""
        if self.connected:
            return
        self.close()
        self._client = client = self._make()
        client.ctx.framer.decoder = _Decoder(False)
        self.answered = False
        try:
            connected = await client.connect()
        except (OSError, ValueError) as error:  # ValueError: a host name that cannot be one
            raise Unreachable(f"no connection: {error}") from error
        except termios.error as error:
            at = self.address
            settings = f"{at.baud} baud, parity {at.parity}, {at.stop_bits} stop bits"
            raise Unreachable(f"no connection: the line cannot be set to {settings}") from error
        finally:
            _pass_on_cancellation()
        if not connected:
            raise Unreachable(f"no connection{self._obstacle()}")
        if settle_s:
            await asyncio.sleep(settle_s)

    def close(self) -> None:
        """Safe at any time."""
        if self._client is not None:
            self._client.close()
            self._client = None

    async def read(self, unit: int, block: Block) -> dict[int, int]:
        """The raw words of a block by address. Needs `open`. Raises Unreachable, Refused or Nonsense."""
        client = self._opened()
        ask = client.read_holding_registers if block.function == READ_HOLDING else client.read_input_registers
        answer = await self._ask(partial(ask, block.address, count=block.count, device_id=unit), _what(block))
        return dict(zip(block.addresses, _registers(answer, block), strict=True))

    async def read_bit(self, unit: int, function: int, at: int) -> bool:
        """One coil (function code 1) or discrete input (2). Needs `open`. Raises Unreachable, Refused or Nonsense."""
        client = self._opened()
        ask = client.read_coils if function == READ_COILS else client.read_discrete_inputs
        what = f"function code {function}, 1 bit at {at}"
        answer = await self._ask(partial(ask, at, count=1, device_id=unit), what)
        _check_exception(answer, what)
        if not isinstance(answer, ReadCoilsResponse) or answer.function_code != function:
            raise Nonsense(f"answered with function code {answer.function_code} and no bits ({what})")
        if len(answer.bits) != 8:
            raise Nonsense(f"answered with {len(answer.bits) // 8} bytes of bits ({what})")
        return answer.bits[0]

    async def write(self, unit: int, at: int, words: Sequence[int]) -> None:
        """Several registers in one request (function code 16). Needs `open`. Raises Unreachable, Refused or Nonsense."""
        what = f"function code 16, {len(words)} registers at {at}"
        ask = partial(self._opened().write_registers, at, list(words), device_id=unit)
        answer = await self._ask(ask, what)
        _check_exception(answer, what)
        if not isinstance(answer, WriteMultipleRegistersResponse) or (answer.address, answer.count) != (
            at,
            len(words),
        ):
            raise Nonsense(
                f"answered with function code {answer.function_code}, not what was written ({what})"
            )

    def _make(self) -> AsyncModbusTcpClient | AsyncModbusSerialClient:
        at = self.address
        if at.transport == RTU:
            return AsyncModbusSerialClient(
                at.host, baudrate=at.baud, parity=at.parity, stopbits=at.stop_bits, timeout=self._timeout_s,
                retries=0, reconnect_delay=0, trace_packet=self._listen,
            )  # fmt: skip
        framer = FramerType.RTU if at.transport == RTU_OVER_TCP else FramerType.SOCKET
        return AsyncModbusTcpClient(
            at.host, port=at.port, framer=framer, timeout=self._timeout_s, retries=0, reconnect_delay=0,
            trace_packet=self._listen,
        )  # fmt: skip

    def _obstacle(self) -> str:
        path = self.address.host
        if self.address.transport != RTU:
            return ""
        if not os.path.exists(path):
            return ": there is no such device"
        if not os.access(path, os.R_OK | os.W_OK):
            return ": no right to use it (on most systems the user must be in the group dialout)"
        return ": it is in use, or no serial line"

    def _listen(self, sending: bool, data: bytes) -> bytes:
        if not sending:
            self._heard = len(data)
        self.heard(sending, data)
        return data

    def _silence(self, alive: bool) -> str:
        if not alive:
            return "the connection was closed (many gateways take one client only)"
        if not self._heard:
            return f"no answer within {self._timeout_s:g} s"
        cause = "" if self.address.transport == TCP else "; noise, or another speed, parity or framing?"
        return f"no answer within {self._timeout_s:g} s, only {self._heard} bytes that are none{cause}"

    def _opened(self) -> AsyncModbusTcpClient | AsyncModbusSerialClient:
        assert self._client is not None, "read before open"
        return self._client

    async def _ask(self, question: Callable[[], Awaitable[ModbusPDU]], what: str) -> ModbusPDU:
        """The answer, or an exception of ours."""
        if self.address.transport != TCP:
            await asyncio.sleep(PAUSE_S)
        self._heard = 0
        try:
            answer = await question()
        except (ModbusException, OSError) as error:
            alive = self.connected
            self.close()
            raise Unreachable(f"{self._silence(alive)} ({what})") from error
        finally:
            _pass_on_cancellation()
        if answer.transaction_id == 0 and self.address.transport == TCP:
            # pymodbus lets it pass; it could be the late answer to another question
            raise Nonsense(f"answered without the transaction id of the request ({what})")
        self.answered = True
        return answer


def _nobody(sending: bool, data: bytes) -> None:
    """Listens to a line that is read once."""


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
    _check_exception(answer, _what(block))
    if not isinstance(answer, ReadHoldingRegistersResponse):
        raise Nonsense(
            f"answered with function code {answer.function_code} and no registers ({_what(block)})"
        )
    if answer.function_code != block.function:
        raise Nonsense(f"answered with function code {answer.function_code} ({_what(block)})")
    if len(answer.registers) != block.count:
        raise Nonsense(f"answered with {len(answer.registers)} registers ({_what(block)})")
    return answer.registers


def _check_exception(answer: ModbusPDU, what: str) -> None:
    """Raises Unreachable or Refused for what the device would not or could not do."""
    if isinstance(answer, ExceptionResponse):
        code = answer.exception_code
        text = f"exception {code}, {_EXCEPTIONS.get(code, 'not in the specification')} ({what})"
        if code in _TRY_LATER:
            raise Unreachable(text)
        raise RefusedRegisters(text) if code in _WRONG_REGISTERS else Refused(text)


def _what(block: Block) -> str:
    return f"function code {block.function}, {block.count} registers at {block.address}"
