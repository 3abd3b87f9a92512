"""The language in which a meter file states its facts, and how raw registers become numbers.

Pure: no sockets, no time. A meter file says where each quantity is, in the words of the meter's manual; this module
checks those facts when the file is imported and turns one set of registers into one `Measured`. It decides nothing
about wiring (CT ratio, direction, phase order): that belongs to the installation and is applied in `bus`.

Source: Modbus Application Protocol V1.1b3 (registers are 16 bits, bytes inside a register big-endian; how wider
values are spread over registers is the vendor's choice, hence `Order`); "not available" patterns as in SunSpec,
ABB B23/B24 and Huawei manuals.

Addresses are the ones on the wire (0-based): a manual's 30001 or 40001 is 0.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Protocol

READ_HOLDING = 3
READ_INPUT = 4
MOST_REGISTERS = 125  # more do not fit into one Modbus answer


class Type(Enum):
    """How a number lies in its registers: struct letter, number of registers, patterns that mean "no value".

    All ones of a signed type is -1, an everyday value (a zero-export site sits around -1 W), so signed types use the
    two ends of their range as "no value". Floats say it with NaN or infinity.
    """

    U16 = ("H", 1, (0xFFFF,))
    I16 = ("h", 1, (0x8000, 0x7FFF))
    U32 = ("I", 2, (0xFFFF_FFFF,))
    I32 = ("i", 2, (0x8000_0000, 0x7FFF_FFFF))
    U64 = ("Q", 4, (0xFFFF_FFFF_FFFF_FFFF,))
    I64 = ("q", 4, (0x8000_0000_0000_0000, 0x7FFF_FFFF_FFFF_FFFF))
    ACC32 = ("I", 2, (0, 0xFFFF_FFFF))  # SunSpec's counter: it stands at 0 only while nobody counts
    F32 = ("f", 2, ())
    F64 = ("d", 4, ())

    def __init__(self, letter: str, words: int, unknown: tuple[int, ...]) -> None:
        self.letter = letter
        self.words = words
        self.unknown = unknown


class Order(Enum):
    """Which 16-bit word of a wider number comes first."""

    HI = "hi"
    LO = "lo"


class Unit(Enum):
    """The unit a register is in: what it measures, and its size in A, V, W, Wh or Hz."""

    V = ("voltage", 1)
    MV = ("voltage", 0.001)
    A = ("current", 1)
    MA = ("current", 0.001)
    W = ("power", 1)
    KW = ("power", 1000)
    WH = ("energy", 1)
    KWH = ("energy", 1000)
    MWH = ("energy", 1_000_000)
    HZ = ("frequency", 1)
    PCT = ("share", 1)
    NUMBER = ("number", 1)

    def __init__(self, measures: str, factor: float) -> None:
        self.measures = measures
        self.factor = factor


@dataclass(frozen=True, slots=True)
class Register:
    """One number: raw x `scale`, in `unit`. A negative scale is for a meter that counts export as positive.

    scale_at: a register whose signed value n scales by a further 10^n (SunSpec); without a value there, there is none here.
    """

    address: int
    type: Type
    unit: Unit
    scale: float = 1
    order: Order = Order.HI
    scale_at: int | None = None

    @property
    def addresses(self) -> range:
        return range(self.address, self.address + self.type.words)


Quantity = Register | tuple[Register, ...]  # several registers are added up

MOST_SCALE = 10  # SunSpec's scale factors go from -10 to 10


@dataclass(frozen=True, slots=True)
class Block:
    """One read: `count` registers from `address` with one function code. Only read across gaps the meter allows."""

    function: int
    address: int
    count: int

    @property
    def addresses(self) -> range:
        return range(self.address, self.address + self.count)


@dataclass(frozen=True, slots=True)
class Bound:
    """A register that tells this kind of meter from another one: live, its value lies between `low` and `high`."""

    register: Register
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class MeterMap:
    """The facts of one kind of meter. A quantity it does not measure is left out, and reads as unknown.

    voltage, current, power: one quantity per conductor; voltage is phase to neutral, import positive.
    current_is_magnitude: the meter has no sign in its currents; each takes the sign of its conductor's power, or of the total
    where there is no other.
    max_registers: the longest read every variant of this kind answers.
    soc: state of charge of a battery. settle_s: what the device needs after a connection before it answers.

    Raises ValueError on facts that contradict each other, so that a wrong meter file cannot even be imported.
    """

    blocks: tuple[Block, ...]
    max_registers: int
    probe: tuple[Bound, ...]
    voltage: tuple[Quantity, ...] = ()
    current: tuple[Quantity, ...] = ()
    power: tuple[Quantity, ...] = ()
    total_power: Quantity | None = None
    frequency: Quantity | None = None
    import_energy: Quantity | None = None
    export_energy: Quantity | None = None
    current_is_magnitude: bool = False
    soc: Quantity | None = None
    settle_s: float = 0

    def __post_init__(self) -> None:
        covered: set[int] = set()
        for block in self.blocks:
            if block.function not in (READ_HOLDING, READ_INPUT):
                raise ValueError(f"{block}: function code {block.function} does not read registers")
            if not 1 <= block.count <= min(self.max_registers, MOST_REGISTERS):
                raise ValueError(f"{block}: reads more than {self.max_registers} registers, or none")
            if not covered.isdisjoint(block.addresses):
                raise ValueError(f"{block}: overlaps another block")
            covered.update(block.addresses)
        inside = [set(block.addresses) for block in self.blocks]
        for measures, register in self._named():
            if register.unit.measures != measures:
                raise ValueError(f"{register}: {register.unit.name} is not a unit of {measures}")
            if not any(set(register.addresses) <= block for block in inside):
                raise ValueError(f"{register}: not inside one block")
            if register.scale_at is not None and register.scale_at not in covered:
                raise ValueError(f"{register}: its scale factor is not inside a block")
        if not self.probe:
            raise ValueError("a meter without a probe cannot be told from another")
        if not self.current and self.total_power is None:
            raise ValueError("a meter that measures neither current nor power is of no use here")

    @property
    def registers(self) -> tuple[Register, ...]:
        """Every number this map reads."""
        return tuple(register for _, register in self._named())

    def _named(self) -> Iterator[tuple[str, Register]]:
        quantities: list[tuple[str, Quantity | None]] = [
            *(("voltage", one) for one in self.voltage),
            *(("current", one) for one in self.current),
            *(("power", one) for one in (*self.power, self.total_power)),
            ("frequency", self.frequency),
            ("energy", self.import_energy),
            ("energy", self.export_energy),
            ("share", self.soc),
            *((bound.register.unit.measures, bound.register) for bound in self.probe),
        ]
        for measures, quantity in quantities:
            for register in parts(quantity):
                yield measures, register


def parts(quantity: Quantity | None) -> tuple[Register, ...]:
    """The registers that are added up."""
    if quantity is None:
        return ()
    return quantity if isinstance(quantity, tuple) else (quantity,)


@dataclass(frozen=True, slots=True)
class Measured:
    """What the registers of one meter say, per conductor where it is a tuple. Unknown is None; import positive."""

    voltage_v: tuple[float | None, ...] = ()
    current_a: tuple[float | None, ...] = ()
    power_w: tuple[float | None, ...] = ()
    total_power_w: float | None = None
    frequency_hz: float | None = None
    import_wh: float | None = None
    export_wh: float | None = None
    soc_pct: float | None = None


@dataclass(frozen=True, slots=True)
class Example:
    """Raw registers, one tuple per block in the map's order, and what they mean. Every meter file carries one."""

    raw: tuple[tuple[int, ...], ...]
    measured: Measured


class MeterFile(Protocol):
    """A module of this folder that describes one kind of meter. TITLE: the devices, as on their label."""

    KIND: str
    TITLE: str
    MAP: MeterMap
    EXAMPLE: Example


def number(register: Register, words: Mapping[int, int]) -> float | None:
    """The value of one register in A, V, W, Wh or Hz; None when the meter says that it has none.

    words: raw 16-bit value by address. Raises KeyError when the register was not read.
    """
    raw = [words[address] for address in register.addresses]
    if register.order is Order.LO:
        raw.reverse()
    data = struct.pack(f">{len(raw)}H", *raw)
    if int.from_bytes(data) in register.type.unknown:
        return None
    value: float = struct.unpack(f">{register.type.letter}", data)[0]
    if not math.isfinite(value):
        return None
    if register.scale_at is not None:
        power = number(Register(register.scale_at, Type.I16, Unit.NUMBER), words)
        if power is None or abs(power) > MOST_SCALE:
            return None
        value *= 10.0**power
    return value * (register.scale * register.unit.factor)


def decode(meter: MeterMap, words: Mapping[int, int]) -> Measured:
    """All quantities of one meter. `words` holds every register of every block; KeyError otherwise.

    All ones everywhere is a bus nobody drives, though each -1 alone could be a value.
    """
    floating = all(word == 0xFFFF for word in words.values())

    def value(quantity: Quantity | None) -> float | None:
        if quantity is None or floating:
            return None
        total = 0.0
        for register in parts(quantity):
            part = number(register, words)
            if part is None:
                return None  # a sum with an unknown part is unknown
            total += part
        return total

    power_w = tuple(map(value, meter.power))
    current_a = tuple(map(value, meter.current))
    if meter.current_is_magnitude:
        direction_w = power_w or (value(meter.total_power),) * len(current_a)
        current_a = tuple(map(_signed, current_a, direction_w))
    return Measured(
        voltage_v=tuple(map(value, meter.voltage)),
        current_a=current_a,
        power_w=power_w,
        total_power_w=value(meter.total_power),
        frequency_hz=value(meter.frequency),
        import_wh=value(meter.import_energy),
        export_wh=value(meter.export_energy),
        soc_pct=value(meter.soc),
    )


def unfit(meter: MeterMap, words: Mapping[int, int]) -> str | None:
    """Why these registers cannot come from this kind of meter, or None when its probe is satisfied."""
    for nothing in (0, 0xFFFF):
        if all(word == nothing for word in words.values()):
            return f"every register is {nothing}"
    for bound in meter.probe:
        value = number(bound.register, words)
        if value is None or not bound.low <= value <= bound.high:
            found = "no value" if value is None else f"{value:.4g}"
            return f"{bound.register.unit.measures} at {bound.register.address} is {found}, not {bound.low:g} to {bound.high:g}"
    return None


def halves(block: Block, meter: MeterMap) -> tuple[Block, ...]:
    """The block in two reads that cut no number, for a device that refuses a read of this length; empty where it holds
    one number only. What lies between the two halves and is not needed is not read."""
    spans = {tuple(one.addresses) for one in meter.registers if one.address in block.addresses}
    factors = {one.scale_at for one in meter.registers if one.scale_at in block.addresses}
    starts = sorted(spans | {(each,) for each in factors if each is not None})
    if len(starts) < 2:
        return ()
    middle = block.address + block.count / 2
    cut = min(range(1, len(starts)), key=lambda n: abs(starts[n][0] - middle))
    return tuple(
        Block(block.function, half[0][0], max(span[-1] for span in half) + 1 - half[0][0])
        for half in (starts[:cut], starts[cut:])
    )


def shifted(meter: MeterMap, by: int) -> MeterMap:
    """The same map that many registers further on (SunSpec: where a device put the model)."""

    def move(quantity: Quantity | None) -> Quantity | None:
        moved = tuple(_move(register, by) for register in parts(quantity))
        return moved if isinstance(quantity, tuple) else moved[0] if moved else None

    def all_of(quantities: tuple[Quantity, ...]) -> tuple[Quantity, ...]:
        return tuple(one for one in map(move, quantities) if one is not None)

    return replace(
        meter,
        blocks=tuple(replace(block, address=block.address + by) for block in meter.blocks),
        probe=tuple(replace(bound, register=_move(bound.register, by)) for bound in meter.probe),
        voltage=all_of(meter.voltage),
        current=all_of(meter.current),
        power=all_of(meter.power),
        total_power=move(meter.total_power),
        frequency=move(meter.frequency),
        import_energy=move(meter.import_energy),
        export_energy=move(meter.export_energy),
        soc=move(meter.soc),
    )


def _move(register: Register, by: int) -> Register:
    scale_at = None if register.scale_at is None else register.scale_at + by
    return replace(register, address=register.address + by, scale_at=scale_at)


def _signed(magnitude_a: float | None, power_w: float | None) -> float | None:
    """An unknown direction counts as load: the worse case for a fuse."""
    if magnitude_a is None:
        return None
    if power_w is None:
        return abs(magnitude_a)
    return -abs(magnitude_a) if power_w < 0 else abs(magnitude_a)
