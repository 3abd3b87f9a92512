"""SMA Data Manager (unit 2): the grid meter of a plant.

Source: evcc sma-datamanager.yaml. Function code 3, 32-bit integers, high word first. The device counts feeding in as
positive, so powers and currents are turned round here.
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

KIND = "sma-data-manager"
TITLE = "SMA Data Manager (unit 2)"

i32 = partial(Register, type=Type.I32)

MAP = MeterMap(
    blocks=(
        Block(READ_HOLDING, 31249, 2),
        Block(READ_HOLDING, 31535, 6),
    ),
    max_registers=100,
    probe=(
        Bound(i32(31249, unit=Unit.W, scale=-1), -9000000, 9000000),
        Bound(i32(31535, unit=Unit.A, scale=-0.001), -10000, 10000),
    ),
    current=(
        i32(31535, unit=Unit.A, scale=-0.001),
        i32(31537, unit=Unit.A, scale=-0.001),
        i32(31539, unit=Unit.A, scale=-0.001),
    ),
    total_power=i32(31249, unit=Unit.W, scale=-1),
)

# fmt: off
EXAMPLE = Example(
    raw=(
        (0xFFFF, 0x9D90),
        (0xFFFF, 0x1523, 0xFFFF, 0x1C76, 0, 0x2134),
    ),
    measured=Measured(
        current_a=(60.125, 58.25, -8.5),
        total_power_w=25200.0,
    ),
)
# fmt: on
