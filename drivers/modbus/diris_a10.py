"""Socomec Diris A10: panel meter; only its energies are elsewhere than those of the Countis.

Source: OpenEMS MeterSocomecThreephaseImpl. Function code 3, integers, high word first. Powers come in steps of 10 W.
Positive power flows from the grid to the load. The sign of a current is that of its power.
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

KIND = "diris-a10"
TITLE = "Socomec Diris A10"

i32 = partial(Register, type=Type.I32)
u32 = partial(Register, type=Type.U32)

MAP = MeterMap(
    blocks=(
        Block(READ_HOLDING, 0xC558, 6),
        Block(READ_HOLDING, 0xC560, 22),
        Block(READ_HOLDING, 0xC65C, 8),
    ),
    max_registers=60,
    probe=(
        Bound(u32(0xC558, unit=Unit.V, scale=0.01), 80, 300),
        Bound(u32(0xC65C, unit=Unit.KWH), 0, 1000000000000.0),
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
    import_energy=u32(0xC65C, unit=Unit.KWH),
    export_energy=u32(0xC662, unit=Unit.KWH),
)

# fmt: off
EXAMPLE = Example(
    raw=(
        (0, 0x5980, 0, 0x5927, 0, 0x59FA),
        (0x0002, 0x5DF5, 0x0002, 0x5A8A, 0x0001, 0xAFA4, 0, 0,
         0, 0x0A00, 0, 0, 0, 0, 0, 0,
         0, 0x0DDE, 0xFFFF, 0xF240, 0, 0x09E2),
        (0, 0x1DE6, 0, 0, 0, 0, 0, 0x000C),
    ),
    measured=Measured(
        voltage_v=(229.12, 228.23, 230.34),
        current_a=(155.125, -154.25, 110.5),
        power_w=(35500.0, -35200.0, 25300.0),
        total_power_w=25600.0,
        import_wh=7654000.0,
        export_wh=12000.0,
    ),
)
# fmt: on
