"""Set-points for SunSpec batteries: model 704 where the device has it, else model 124. Each is a lease with a revert timer.

Owns the two ways to write one power and what a device must offer for that. It takes its turn on the bus like a meter, so
a gateway that allows one client has one. When our set-points stop the device's own timer ends the last one, and it goes
back to what it does alone; whatever that is, it is not ours any more.

Source: SunSpec models 124 and 704, offsets from the definitions in pysunspec2 1.3.7.
704: WSet in watts, injecting positive; the timer is WSetRvrtTms, and WSetEnaRvrt = 0 ends the control with it.
124: rates in per cent of WChaMax. InWRte = p and OutWRte = -p bound the power from both sides at once (a negative rate
turns a bound round), so both limits are put on (StorCtl_Mod = 3); the timer is InOutWRte_RvrtTms.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from controller.core.commands import SetBattery
from controller.core.events import (
    CommandAccepted,
    CommandLost,
    CommandRefused,
    CommandReplaced,
    CommandSent,
    Event,
)
from drivers.errors import DriverError, Nonsense, Refused, Unreachable
from drivers.modbus.discover import models
from drivers.modbus.line import Line
from drivers.modbus.registers import READ_HOLDING, Block
from drivers.modbus.sunspec import Model
from drivers.modbus.turns import Turn

LOOK_S = 0.25  # how soon a new set-point is on its way
CONTROLS, STORAGE = 704, 124
ENABLED, WATTS, BOTH = 1, 1, 3
NOT_IMPLEMENTED, MOST_I16 = 0x8000, 0x7FFF
LEAST_LENGTH = {CONTROLS: 57, STORAGE: 24}


@dataclass(frozen=True, slots=True)
class OutputSettings:
    """One battery as installed; host, port and the rest as for a meter."""

    id: str
    host: str
    port: int
    unit: int
    transport: str = "tcp"
    baud: int = 9600
    parity: str = "N"
    stop_bits: int = 1

    @property
    def poll_s(self) -> float:
        return LOOK_S


class SetPoint(Turn):
    """One battery on the bus. Writes the newest set-point, and nothing while there is none."""

    def __init__(self, settings: OutputSettings, start_s: float) -> None:
        super().__init__(f"battery {settings.id}", settings, start_s)
        self._waiting: SetBattery | None = None  # not begun yet
        self._begun: SetBattery | None = None
        self._said: list[Event] = []
        self._place: Model | None = None
        self._writing = False
        self._written = 0  # registers of it that the device took

    def put(self, command: SetBattery) -> None:
        if self._waiting is not None:
            self._said.append(CommandReplaced(self._waiting.id))
        self._waiting = command

    @property
    def idle(self) -> bool:
        return self._waiting is None and not self._said

    async def read(self, line: Line, taken_s: float) -> list[Event]:
        command, self._waiting = self._waiting, None
        if command is None:
            return self._take()
        self._begun, self._writing, self._written = command, False, 0
        if self._place is None:
            self._place = _chosen(await models(line, self.unit))
        try:
            if self._place[0] == CONTROLS:
                await self._control(line, self._place[1], command)
            else:
                await self._rate(line, self._place[1], command)
        except (Refused, Nonsense):
            self._place = None  # looked for again: another device may answer now
            raise
        return self._ended(command, CommandAccepted(command.id))

    def failed(self, error: DriverError, text: str) -> list[Event]:
        """What was not sent changed nothing; a write without an answer may have."""
        if self._begun is None:  # no connection
            self._begun, self._waiting = self._waiting, None
        command = self._begun
        if command is None:
            return self._take()
        if self._writing and (self._written or isinstance(error, Unreachable | Nonsense)):
            return self._ended(command, CommandLost(command.id, text))
        return self._ended(command, CommandRefused(command.id, text))

    def _ended(self, command: SetBattery, outcome: Event) -> list[Event]:
        if self._writing:
            self._said.append(CommandSent(command.id))
        self._said.append(outcome)
        self._begun, self._writing = None, False
        return self._take()

    def _take(self) -> list[Event]:
        said, self._said = self._said, []
        return said

    async def _control(self, line: Line, at: int, command: SetBattery) -> None:
        scale = await _scale(line, self.unit, at + 55)
        watts = _rounded(-command.power_w, 10.0**scale)
        await self._write(line, at + 24, [*_i32(watts), *_i32(0)])
        await self._write(line, at + 30, [0, *_i32(_seconds(command))])
        await self._write(line, at + 22, [ENABLED, WATTS])

    async def _rate(self, line: Line, at: int, command: SetBattery) -> None:
        most = await line.read(self.unit, Block(READ_HOLDING, at + 2, 1))
        most_w = most[at + 2] * 10.0 ** await _scale(line, self.unit, at + 18)
        step_pct = 10.0 ** await _scale(line, self.unit, at + 25)
        if not most_w:
            raise Refused("the storage model says that its battery can take 0 W")
        share = _rounded(max(-100.0, min(100.0, 100.0 * command.power_w / most_w)), step_pct)
        if abs(share) > MOST_I16:
            raise Refused(f"its rates are too fine: {share} does not fit into 16 bits")
        await self._write(line, at + 12, [_i16(-share), _i16(share), 0, _seconds(command)])
        await self._write(line, at + 5, [BOTH])

    async def _write(self, line: Line, at: int, words: list[int]) -> None:
        self._writing = True
        await line.write(self.unit, at, words)
        self._written += len(words)


def _chosen(found: list[Model]) -> Model:
    """Raises Refused."""
    for wanted in (CONTROLS, STORAGE):
        for model in found:
            if model[0] == wanted and model[2] >= LEAST_LENGTH[wanted]:
                return model
    has = ", ".join(str(model) for model, _, _ in found) or "none"
    raise Refused(f"no SunSpec model {CONTROLS} or {STORAGE} to write to; the device has {has}")


async def _scale(line: Line, unit: int, at: int) -> int:
    word = (await line.read(unit, Block(READ_HOLDING, at, 1)))[at]
    if word == NOT_IMPLEMENTED:
        return 0
    scale = word - 0x1_0000 if word >= 0x8000 else word
    if not -10 <= scale <= 10:
        raise Nonsense(f"a scale factor of {scale}")
    return scale


def _rounded(value: float, step: float) -> int:
    """In steps, towards zero: a set-point is a limit."""
    return math.trunc(round(value / step, 6))


def _seconds(command: SetBattery) -> int:
    """A timer of 0 would be none at all."""
    return max(1, round(command.lease_s))


def _i16(value: int) -> int:
    return value & 0xFFFF


def _i32(value: int) -> list[int]:
    return [(value >> 16) & 0xFFFF, value & 0xFFFF]
