"""ABB B23, B24, A43, A44: three-phase DIN-rail meters.

Source: mbmd abb.go, openWB b23.py, evcc abb-ab.yaml. Function code 3, integers, high word first. What is not
available is all ones (unsigned) or 0x7FFF... (signed). Positive power flows from the grid to the load. The sign of a
current is that of its power.

Not in this map: power factors (0x5B3A and up), serial number (0x8900, u32).
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

KIND = "b23"
TITLE = "ABB B23, B24, A43, A44"

i32 = partial(Register, type=Type.I32)
u16 = partial(Register, type=Type.U16)
u32 = partial(Register, type=Type.U32)
u64 = partial(Register, type=Type.U64)

MAP = MeterMap(
    blocks=(
        Block(READ_HOLDING, 0x5000, 8),
        Block(READ_HOLDING, 0x5B00, 6),
        Block(READ_HOLDING, 0x5B0C, 16),
        Block(READ_HOLDING, 0x5B2C, 1),
    ),
    max_registers=100,
    probe=(
        Bound(u32(0x5B00, unit=Unit.V, scale=0.1), 80, 300),
        Bound(u16(0x5B2C, unit=Unit.HZ, scale=0.01), 45, 65),
    ),
    voltage=(
        u32(0x5B00, unit=Unit.V, scale=0.1),
        u32(0x5B02, unit=Unit.V, scale=0.1),
        u32(0x5B04, unit=Unit.V, scale=0.1),
    ),
    current=(
        u32(0x5B0C, unit=Unit.A, scale=0.01),
        u32(0x5B0E, unit=Unit.A, scale=0.01),
        u32(0x5B10, unit=Unit.A, scale=0.01),
    ),
    current_is_magnitude=True,
    power=(
        i32(0x5B16, unit=Unit.W, scale=0.01),
        i32(0x5B18, unit=Unit.W, scale=0.01),
        i32(0x5B1A, unit=Unit.W, scale=0.01),
    ),
    total_power=i32(0x5B14, unit=Unit.W, scale=0.01),
    frequency=u16(0x5B2C, unit=Unit.HZ, scale=0.01),
    import_energy=u64(0x5000, unit=Unit.KWH, scale=0.01),
    export_energy=u64(0x5004, unit=Unit.KWH, scale=0.01),
)

# fmt: off
EXAMPLE = Example(
    raw=(
        (0, 0, 0x00BC, 0x614E, 0, 0, 0, 0x01B0),
        (0, 0x08FD, 0, 0x0908, 0, 0x08F5),
        (0, 0x0C35, 0, 0x0BEA, 0, 0x036B, 0, 0,
         0x0003, 0x441B, 0x000A, 0xE92F, 0xFFF5, 0x4DAD, 0x0003, 0x0D3F),
        (0x1386,),
    ),
    measured=Measured(
        voltage_v=(230.1, 231.2, 229.3),
        current_a=(31.25, -30.5, 8.75),
        power_w=(7150.55, -7010.11, 1999.99),
        total_power_w=2140.43,
        frequency_hz=49.98,
        import_wh=123456780.0,
        export_wh=4320.0,
    ),
)
# fmt: on
