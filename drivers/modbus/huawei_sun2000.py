"""Huawei SUN2000 with DTSU666-H or DDSU666: the grid meter behind the inverter.

Source: evcc huawei-sun2000-hybrid.yaml, Tinkerforge huawei.py. Function code 3, 32-bit integers, high word first. The
device counts feeding in as positive, so every power and current is turned round here. It takes one client at a time
and wants about a second after the connection.
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

KIND = "huawei-sun2000"
TITLE = "Huawei SUN2000 with DTSU666-H or DDSU666"

i32 = partial(Register, type=Type.I32)

MAP = MeterMap(
    blocks=(Block(READ_HOLDING, 37101, 37),),
    max_registers=64,
    probe=(
        Bound(i32(37101, unit=Unit.V, scale=0.1), 80, 300),
        Bound(i32(37121, unit=Unit.KWH, scale=0.01), 0, 1000000000000.0),
    ),
    voltage=(
        i32(37101, unit=Unit.V, scale=0.1),
        i32(37103, unit=Unit.V, scale=0.1),
        i32(37105, unit=Unit.V, scale=0.1),
    ),
    current=(
        i32(37107, unit=Unit.A, scale=-0.01),
        i32(37109, unit=Unit.A, scale=-0.01),
        i32(37111, unit=Unit.A, scale=-0.01),
    ),
    power=(
        i32(37132, unit=Unit.W, scale=-1),
        i32(37134, unit=Unit.W, scale=-1),
        i32(37136, unit=Unit.W, scale=-1),
    ),
    total_power=i32(37113, unit=Unit.W, scale=-1),
    import_energy=i32(37121, unit=Unit.KWH, scale=0.01),
    export_energy=i32(37119, unit=Unit.KWH, scale=0.01),
    settle_s=1.0,
)

# fmt: off
EXAMPLE = Example(
    raw=(
        (0, 0x08FD, 0, 0x0908, 0, 0x0913, 0xFFFF, 0xF817,
         0xFFFF, 0xF8C6, 0, 0x0307, 0xFFFF, 0xE417, 0, 0,
         0, 0, 0, 0x0929, 0x000F, 0x1206, 0, 0,
         0, 0, 0, 0, 0, 0, 0, 0xFFFF,
         0xEDD1, 0xFFFF, 0xEF52, 0, 0x06F4),
    ),
    measured=Measured(
        voltage_v=(230.1, 231.2, 232.3),
        current_a=(20.25, 18.5, -7.75),
        power_w=(4655.0, 4270.0, -1780.0),
        total_power_w=7145.0,
        import_wh=9876540.0,
        export_wh=23450.0,
    ),
)
# fmt: on
