"""One device behind a unit id: finds its registers, and reads them in pieces it answers.

Owns what is learnt from the device: where its SunSpec models are, and which reads it refuses as too long. Both are kept
until the device contradicts them. It knows no polling and no installation.
"""

from __future__ import annotations

import logging

from drivers.errors import Nonsense, Refused
from drivers.modbus import find
from drivers.modbus.discover import locate
from drivers.modbus.line import Line, RefusedRegisters
from drivers.modbus.registers import Block, MeterMap, halves, unfit
from drivers.modbus.sunspec import ModelFile

log = logging.getLogger(__name__)


class Device:
    """Raises Misconfigured for a kind without a file."""

    def __init__(self, kind: str, unit: int) -> None:
        self._file = find(kind)
        self._unit = unit
        self._map: MeterMap | None = None
        self._blocks: tuple[Block, ...] = ()

    @property
    def settle_s(self) -> float:
        """What the device needs after a connection."""
        return 0 if isinstance(self._file, ModelFile) else self._file.MAP.settle_s

    async def read(self, line: Line) -> tuple[MeterMap, dict[int, int]]:
        """The map and all its raw words, or nothing. Raises Unreachable, Refused or Nonsense."""
        if not isinstance(self._file, ModelFile):
            meter = self._file.MAP
            return meter, await self._all(line, meter)
        if self._map is None:
            self._map = await locate(line, self._unit, self._file)
        meter = self._map
        try:
            words = await self._all(line, meter)
            if why := unfit(meter, words):
                raise Nonsense(f"the SunSpec model is not where it was: {why}")
        except (Refused, Nonsense):
            self._map, self._blocks = None, ()
            raise
        return meter, words

    async def _all(self, line: Line, meter: MeterMap) -> dict[int, int]:
        """Splits a block where the device refuses it, and remembers how once everything could be read."""
        words: dict[int, int] = {}
        done: list[Block] = []
        planned = self._blocks or meter.blocks
        waiting = list(planned)
        while waiting:
            block = waiting.pop(0)
            try:
                words |= await line.read(self._unit, block)
            except RefusedRegisters:
                smaller = halves(block, meter)
                if not smaller:
                    raise
                waiting = [*smaller, *waiting]
            else:
                done.append(block)
        if len(done) != len(planned):
            most = max(block.count for block in done)
            log.info("%s unit %d takes at most %d registers at once", line, self._unit, most)
        self._blocks = tuple(done)
        return words
