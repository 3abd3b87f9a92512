"""Siemens SENTRON PAC1600: three-phase DIN-rail meter.

Source: OpenEMS siemens pac1600, which found that a read must not cross a gap of the map. Function code 3, 32-bit
integers, high word first. The sign of a current is that of its power.

Not in this map: the energies (6687 and 6689, Wh); which of the two is import is not known.
"""

from __future__ import annotations

from functools import partial

from drivers.modbus.registers import (
    READ_HOLDING,
    Block,
    Bound,
    Example,
    Measured,
    MeterMap,
    Register,
    Type,
    Unit,
)

KIND = "pac1600"
TITLE = "Siemens SENTRON PAC1600"

i32 = partial(Register, type=Type.I32)
u32 = partial(Register, type=Type.U32)

MAP = MeterMap(
    blocks=(
        Block(READ_HOLDING, 1, 12),
        Block(READ_HOLDING, 19, 6),
        Block(READ_HOLDING, 49, 2),
        Block(READ_HOLDING, 57, 2),
    ),
    max_registers=50,
    probe=(
        Bound(u32(1, unit=Unit.V, scale=0.01), 80, 300),
        Bound(i32(49, unit=Unit.HZ, scale=0.01), 45, 65),
    ),
    voltage=(
        u32(1, unit=Unit.V, scale=0.01),
        u32(3, unit=Unit.V, scale=0.01),
        u32(5, unit=Unit.V, scale=0.01),
    ),
    current=(
        u32(7, unit=Unit.A, scale=0.0001),
        u32(9, unit=Unit.A, scale=0.0001),
        u32(11, unit=Unit.A, scale=0.0001),
    ),
    current_is_magnitude=True,
    power=(
        i32(19, unit=Unit.W, scale=0.01),
        i32(21, unit=Unit.W, scale=0.01),
        i32(23, unit=Unit.W, scale=0.01),
    ),
    total_power=i32(57, unit=Unit.W, scale=0.01),
    frequency=i32(49, unit=Unit.HZ, scale=0.01),
)

# fmt: off
EXAMPLE = Example(
    raw=(
        (0, 0x59E3, 0, 0x5A52, 0, 0x5995, 0x0001, 0xE240,
         0, 0xFF98, 0, 0x7D6D),
        (0x0004, 0x45C1, 0x0002, 0x49F2, 0xFFFE, 0xE2D5),
        (0, 0x1387),
        (0x0005, 0x7288),
    ),
    measured=Measured(
        voltage_v=(230.11, 231.22, 229.33),
        current_a=(12.3456, 6.5432, -3.2109),
        power_w=(2800.01, 1500.02, -730.03),
        total_power_w=3570.0,
        frequency_hz=49.99,
    ),
)
# fmt: on
