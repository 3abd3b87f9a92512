"""SunSpec models as maps, their offsets counted from the model's id word; where a device has them is found by `discover`.

Pure. Owns the model data this project reads: a dozen points of nineteen models. Own data instead of `pysunspec2`: that
package ships all points of all models but reads them with blocking sockets of its own, and a bus has one connection.

Source: SunSpec Device Information Model Specification V1.1; offsets, types and scale factors of the model definitions in
pysunspec2 1.3.7, whose own encoder made the frames these maps are tested with. A scale factor, like any point, can be
"not implemented" (0x8000): then its values are unknown. A counter that stands at 0 is one nobody implements.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

from drivers.modbus.registers import (
    READ_HOLDING,
    Block,
    Bound,
    Example,
    MeterMap,
    Quantity,
    Register,
    Type,
    Unit,
    parts,
)

START = (0x5375, 0x6E53)  # "SunS"
BASES = (40000, 0, 50000)
COMMON = 1
END = 0xFFFF
MOST_MODELS = 64

Model = tuple[int, int, int]  # id, address of the id word, length without its two header words


@dataclass(frozen=True, slots=True)
class Charge:
    """Where a model that measures nothing else keeps the state of charge."""

    block: Block
    soc: Register


@runtime_checkable
class ModelFile(Protocol):
    """A module of this folder that describes a kind of SunSpec device.

    MAKER: whose devices only, as they call themselves; empty for all. MODELS: the first of these the device has is read.
    CHARGES: models that may add the state of charge.
    EXAMPLES: raw words of the model's one block.
    """

    KIND: str
    TITLE: str
    MAKER: str
    MODELS: Mapping[int, MeterMap]
    CHARGES: Mapping[int, Charge]
    EXAMPLES: Mapping[int, Example]


def point(at: int, kind: Type, unit: Unit, scale_at: int | None = None, scale: float = 1) -> Register:
    return Register(at, kind, unit, scale, scale_at=scale_at)


def span(
    at: int, kind: Type, unit: Unit, count: int, scale_at: int | None = None, step: int = 0
) -> tuple[Register, ...]:
    """One point per conductor, one after the other or `step` words apart."""
    apart = step or kind.words
    return tuple(point(at + n * apart, kind, unit, scale_at) for n in range(count))


def identified(model: int, words: int) -> dict[str, Any]:
    """What every model has: one block from its id word on, and the id itself as its probe."""
    return {
        "blocks": (Block(READ_HOLDING, 0, words),),
        "max_registers": 125,
        "probe": (Bound(point(0, Type.U16, Unit.NUMBER), model, model),),
    }


def exporting(meter: MeterMap) -> MeterMap:
    """The same map for a device that counts what it sends out as positive."""

    def turned(quantity: Quantity | None) -> Quantity | None:
        all_of = tuple(replace(one, scale=-one.scale) for one in parts(quantity))
        return all_of if isinstance(quantity, tuple) else all_of[0] if all_of else None

    power = tuple(one for one in map(turned, meter.power) if one is not None)
    return replace(meter, power=power, total_power=turned(meter.total_power))


def chosen(file: ModelFile, models: list[Model]) -> tuple[MeterMap, int] | None:
    """The map of the first model of the file the device has, not yet moved to its place, and that place."""
    for model, meter in file.MODELS.items():
        for each, address, length in models:
            if each == model and length + 2 >= meter.blocks[0].count:
                return meter, address
    return None


def with_charge(meter: MeterMap, file: ModelFile, models: list[Model]) -> MeterMap:
    """`meter` is in its place already."""
    if meter.soc is not None:
        return meter
    for model, charge in file.CHARGES.items():
        for each, address, _ in models:
            if each == model:
                block = replace(charge.block, address=charge.block.address + address)
                scale_at = None if charge.soc.scale_at is None else charge.soc.scale_at + address
                soc = replace(charge.soc, address=charge.soc.address + address, scale_at=scale_at)
                return replace(meter, blocks=(*meter.blocks, block), soc=soc)
    return meter


def text(words: list[int]) -> str:
    """A string of the common model: padded with zeros or blanks, sometimes with worse."""
    raw = b"".join(word.to_bytes(2) for word in words)
    said = raw.split(b"\0")[0].decode("ascii", "replace").strip()
    return "".join(one if one.isprintable() else "?" for one in said)
