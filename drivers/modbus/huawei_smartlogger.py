"""Huawei SmartLogger: the grid meter of a plant.

Source: evcc huawei-smartlogger.yaml, Tinkerforge huawei.py. Function code 3, integers, high word first. Here positive
is import, other than in the SUN2000.
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

KIND = "huawei-smartlogger"
TITLE = "Huawei SmartLogger"

i32 = partial(Register, type=Type.I32)
i64 = partial(Register, type=Type.I64)

MAP = MeterMap(
    blocks=(
        Block(READ_HOLDING, 32272, 8),
        Block(READ_HOLDING, 32349, 12),
    ),
    max_registers=64,
    probe=(
        Bound(i32(32278, unit=Unit.W), -9000000, 9000000),
        Bound(i64(32349, unit=Unit.KWH, scale=0.01), 1, 10000000000000.0),
    ),
    current=(
        i32(32272, unit=Unit.A, scale=0.1),
        i32(32274, unit=Unit.A, scale=0.1),
        i32(32276, unit=Unit.A, scale=0.1),
    ),
    total_power=i32(32278, unit=Unit.W),
    import_energy=i64(32349, unit=Unit.KWH, scale=0.01),
    export_energy=i64(32357, unit=Unit.KWH, scale=0.01),
    settle_s=1.0,
)

# fmt: off
EXAMPLE = Example(
    raw=(
        (0, 0x04B5, 0, 0x04A0, 0xFFFF, 0xFF85, 0, 0xCB84),
        (0, 0, 0x0096, 0xB43F, 0, 0, 0, 0,
         0, 0, 0, 0x3039),
    ),
    measured=Measured(
        current_a=(120.5, 118.4, -12.3),
        total_power_w=52100.0,
        import_wh=98765430.0,
        export_wh=123450.0,
    ),
)
# fmt: on
