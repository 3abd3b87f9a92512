"""Inepro PRO380-Mod: three-phase DIN-rail meter.

Source: mbmd inepro.go, evcc inepro.yaml. Function code 3, IEEE-754, high word first, powers in kW. Positive power
flows from the grid to the load. The sign of a current is that of its power.
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

KIND = "pro380"
TITLE = "Inepro PRO380-Mod"

f32 = partial(Register, type=Type.F32)

MAP = MeterMap(
    blocks=(
        Block(READ_HOLDING, 0x5002, 24),
        Block(READ_HOLDING, 0x600C, 14),
    ),
    max_registers=50,
    probe=(
        Bound(f32(0x5002, unit=Unit.V), 80, 300),
        Bound(f32(0x5008, unit=Unit.HZ), 45, 65),
    ),
    voltage=(
        f32(0x5002, unit=Unit.V),
        f32(0x5004, unit=Unit.V),
        f32(0x5006, unit=Unit.V),
    ),
    current=(
        f32(0x500C, unit=Unit.A),
        f32(0x500E, unit=Unit.A),
        f32(0x5010, unit=Unit.A),
    ),
    current_is_magnitude=True,
    power=(
        f32(0x5014, unit=Unit.KW),
        f32(0x5016, unit=Unit.KW),
        f32(0x5018, unit=Unit.KW),
    ),
    total_power=f32(0x5012, unit=Unit.KW),
    frequency=f32(0x5008, unit=Unit.HZ),
    import_energy=f32(0x600C, unit=Unit.KWH),
    export_energy=f32(0x6018, unit=Unit.KWH),
)

# fmt: off
EXAMPLE = Example(
    raw=(
        (0x4367, 0x8000, 0x4366, 0xC000, 0x4365, 0x8000, 0x4247, 0xF800,
         0, 0, 0x4168, 0, 0x4154, 0, 0x4048, 0,
         0x40B4, 0, 0x4054, 0, 0x4040, 0, 0xBF30, 0),
        (0x458E, 0xBC00, 0, 0, 0, 0, 0, 0,
         0, 0, 0, 0, 0x3E80, 0),
    ),
    measured=Measured(
        voltage_v=(231.5, 230.75, 229.5),
        current_a=(14.5, 13.25, -3.125),
        power_w=(3312.5, 3000.0, -687.5),
        total_power_w=5625.0,
        frequency_hz=49.992188,
        import_wh=4567500.0,
        export_wh=250.0,
    ),
)
# fmt: on
