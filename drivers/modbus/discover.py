"""Finds the SunSpec models of a device: the marker, then block after block. Owns the walk; knows no model."""

from __future__ import annotations

from typing import NamedTuple

from drivers.errors import Nonsense, Refused
from drivers.modbus.line import Line
from drivers.modbus.registers import READ_HOLDING, Block, MeterMap, shifted
from drivers.modbus.sunspec import (
    BASES,
    COMMON,
    END,
    MOST_MODELS,
    START,
    Model,
    ModelFile,
    chosen,
    text,
    with_charge,
)


class Common(NamedTuple):
    """Who the device says it is (model 1)."""

    manufacturer: str
    model: str
    version: str
    serial: str


async def models(line: Line, unit: int) -> list[Model]:
    """Every model in the order of the device; empty if it does not speak SunSpec. Raises Unreachable or Nonsense."""
    for base in BASES:
        try:
            if await _words(line, unit, base, 2) == list(START):
                return await _walk(line, unit, base + 2)
        except (Refused, Nonsense):
            continue
    return []


async def common(line: Line, unit: int, found: list[Model]) -> Common | None:
    for model, address, length in found:
        if model == COMMON and length >= 65:
            words = await _words(line, unit, address + 2, 64)
            return Common(text(words[:16]), text(words[16:32]), text(words[40:48]), text(words[48:64]))
    return None


async def locate(line: Line, unit: int, file: ModelFile) -> MeterMap:
    """The map of this kind where the device has it. Raises Unreachable, Refused or Nonsense."""
    found = await models(line, unit)
    if not found:
        raise Refused(
            f"no SunSpec marker at {', '.join(map(str, BASES))}: not a SunSpec device, or switched off in it"
        )
    choice = chosen(file, found)
    if choice is None:
        has = ", ".join(str(model) for model, _, _ in found)
        raise Refused(f"no model {' or '.join(map(str, file.MODELS))}; the device has {has}")
    meter, address = choice
    return with_charge(shifted(meter, address), file, found)


async def _walk(line: Line, unit: int, address: int) -> list[Model]:
    found: list[Model] = []
    while len(found) < MOST_MODELS and address < 65_534:
        model, length = await _words(line, unit, address, 2)
        if model == END or (model, length) == (0, 0):
            break
        found.append((model, address, length))
        address += 2 + length
    return found


async def _words(line: Line, unit: int, address: int, count: int) -> list[int]:
    words = await line.read(unit, Block(READ_HOLDING, address, count))
    return list(words.values())
