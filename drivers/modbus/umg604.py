"""Janitza UMG 104/511/604: panel meters with their older list.

Source: OpenEMS janitza umg104 and umg604. Function code 3, IEEE-754, high word first. Positive power flows from the
grid to the load. The sign of a current is that of its power.
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

KIND = "umg604"
TITLE = "Janitza UMG 104/511/604"

f32 = partial(Register, type=Type.F32)

MAP = MeterMap(
    blocks=(
        Block(READ_HOLDING, 1317, 22),
        Block(READ_HOLDING, 1369, 2),
        Block(READ_HOLDING, 1439, 2),
        Block(READ_HOLDING, 9851, 14),
    ),
    max_registers=60,
    probe=(
        Bound(f32(1317, unit=Unit.V), 80, 300),
        Bound(f32(1439, unit=Unit.HZ), 45, 65),
    ),
    voltage=(
        f32(1317, unit=Unit.V),
        f32(1319, unit=Unit.V),
        f32(1321, unit=Unit.V),
    ),
    current=(
        f32(1325, unit=Unit.A),
        f32(1327, unit=Unit.A),
        f32(1329, unit=Unit.A),
    ),
    current_is_magnitude=True,
    power=(
        f32(1333, unit=Unit.W),
        f32(1335, unit=Unit.W),
        f32(1337, unit=Unit.W),
    ),
    total_power=f32(1369, unit=Unit.W),
    frequency=f32(1439, unit=Unit.HZ),
    import_energy=f32(9851, unit=Unit.WH),
    export_energy=f32(9863, unit=Unit.WH),
)

# fmt: off
EXAMPLE = Example(
    raw=(
        (0x4364, 0x8000, 0x4365, 0x4000, 0x4366, 0, 0, 0,
         0x424A, 0, 0x4231, 0, 0x4122, 0, 0, 0,
         0x4633, 0xB000, 0xC61D, 0x0A00, 0x450F, 0xC400),
        (0x456A, 0x5C00),
        (0x4247, 0xF000),
        (0x4A52, 0xFC54, 0, 0, 0, 0, 0, 0,
         0, 0, 0, 0, 0x47C0, 0xE680),
    ),
    measured=Measured(
        voltage_v=(228.5, 229.25, 230.0),
        current_a=(50.5, -44.25, 10.125),
        power_w=(11500.0, -10050.5, 2300.25),
        total_power_w=3749.75,
        frequency_hz=49.984375,
        import_wh=3456789.0,
        export_wh=98765.0,
    ),
)
# fmt: on
