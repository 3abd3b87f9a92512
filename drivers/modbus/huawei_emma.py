"""Huawei EMMA (built-in sensor): the grid meter of an energy manager.

Source: Tinkerforge huawei.py. Function code 3, integers, high word first; positive power is import. Tinkerforge turns
the currents round and not the powers, so here a current takes the sign of its power.
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

KIND = "huawei-emma"
TITLE = "Huawei EMMA (built-in sensor)"

i32 = partial(Register, type=Type.I32)
i64 = partial(Register, type=Type.I64)

MAP = MeterMap(
    blocks=(
        Block(READ_HOLDING, 31651, 20),
        Block(READ_HOLDING, 31679, 12),
    ),
    max_registers=64,
    probe=(
        Bound(i32(31657, unit=Unit.W), -9000000, 9000000),
        Bound(i64(31687, unit=Unit.KWH, scale=0.01), 1, 10000000000000.0),
    ),
    current=(
        i32(31651, unit=Unit.A, scale=0.1),
        i32(31653, unit=Unit.A, scale=0.1),
        i32(31655, unit=Unit.A, scale=0.1),
    ),
    current_is_magnitude=True,
    power=(
        i32(31665, unit=Unit.W),
        i32(31667, unit=Unit.W),
        i32(31669, unit=Unit.W),
    ),
    total_power=i32(31657, unit=Unit.W),
    import_energy=i64(31687, unit=Unit.KWH, scale=0.01),
    export_energy=i64(31679, unit=Unit.KWH, scale=0.01),
    settle_s=1.0,
)

# fmt: off
EXAMPLE = Example(
    raw=(
        (0, 0x0195, 0, 0x0180, 0xFFFF, 0xFF85, 0, 0x3BC4,
         0, 0, 0, 0, 0, 0, 0, 0x2454,
         0, 0x2260, 0xFFFF, 0xF510),
        (0, 0, 0, 0x3039, 0, 0, 0, 0,
         0, 0, 0x0096, 0xB43F),
    ),
    measured=Measured(
        current_a=(40.5, 38.4, -12.3),
        power_w=(9300.0, 8800.0, -2800.0),
        total_power_w=15300.0,
        import_wh=98765430.0,
        export_wh=123450.0,
    ),
)
# fmt: on
