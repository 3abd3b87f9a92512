"""Socomec Countis E23/E24/E27/E28/E34/E44, Diris A14: three-phase meters.

Source: OpenEMS MeterSocomecThreephaseImpl and AbstractSocomecMeter. Function code 3, integers, high word first.
Powers come in steps of 10 W. Positive power flows from the grid to the load. The sign of a current is that of its
power.

Not in this map: the frequency (0xC55E), in thousandths or hundredths by model; the model name as text (0xC350).
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

KIND = "countis"
TITLE = "Socomec Countis E23/E24/E27/E28/E34/E44, Diris A14"

i32 = partial(Register, type=Type.I32)
u32 = partial(Register, type=Type.U32)

MAP = MeterMap(
    blocks=(
        Block(READ_HOLDING, 0xC558, 6),
        Block(READ_HOLDING, 0xC560, 22),
        Block(READ_HOLDING, 0xC702, 8),
    ),
    max_registers=60,
    probe=(
        Bound(u32(0xC558, unit=Unit.V, scale=0.01), 80, 300),
        Bound(u32(0xC702, unit=Unit.WH, scale=10), 0, 1000000000000.0),
    ),
    voltage=(
        u32(0xC558, unit=Unit.V, scale=0.01),
        u32(0xC55A, unit=Unit.V, scale=0.01),
        u32(0xC55C, unit=Unit.V, scale=0.01),
    ),
    current=(
        u32(0xC560, unit=Unit.A, scale=0.001),
        u32(0xC562, unit=Unit.A, scale=0.001),
        u32(0xC564, unit=Unit.A, scale=0.001),
    ),
    current_is_magnitude=True,
    power=(
        i32(0xC570, unit=Unit.W, scale=10),
        i32(0xC572, unit=Unit.W, scale=10),
        i32(0xC574, unit=Unit.W, scale=10),
    ),
    total_power=i32(0xC568, unit=Unit.W, scale=10),
    import_energy=u32(0xC702, unit=Unit.WH, scale=10),
    export_energy=u32(0xC708, unit=Unit.WH, scale=10),
)

# fmt: off
EXAMPLE = Example(
    raw=(
        (0, 0x59E4, 0, 0x5A53, 0, 0x5996),
        (0, 0xD755, 0, 0xD3EA, 0, 0x2904, 0, 0,
         0, 0x08CA, 0, 0, 0, 0, 0, 0,
         0, 0x04E2, 0, 0x04CE, 0xFFFF, 0xFF1A),
        (0x000B, 0xADF8, 0, 0, 0, 0, 0, 0x007B),
    ),
    measured=Measured(
        voltage_v=(230.12, 231.23, 229.34),
        current_a=(55.125, 54.25, -10.5),
        power_w=(12500.0, 12300.0, -2300.0),
        total_power_w=22500.0,
        import_wh=7654320.0,
        export_wh=1230.0,
    ),
)
# fmt: on
