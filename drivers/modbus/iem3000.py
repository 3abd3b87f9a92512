"""Schneider iEM3155/3255/3355 and PowerLogic PM5xxx: three-phase meters with one layout.

Source: mbmd iem3000.go, evcc schneider-iem3000.yaml, SolarNetwork PM5100Register.java. Function code 3, the manual
prints each address one higher. IEEE-754, high word first, powers in kW; energies are 64-bit integers in Wh. Delivered
means imported. The sign of a current is that of its power.

Not in this map: the power factor (3083), which is coded by quadrant.
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

KIND = "iem3000"
TITLE = "Schneider iEM3155/3255/3355 and PowerLogic PM5xxx"

f32 = partial(Register, type=Type.F32)
i64 = partial(Register, type=Type.I64)

MAP = MeterMap(
    blocks=(
        Block(READ_HOLDING, 2999, 6),
        Block(READ_HOLDING, 3027, 6),
        Block(READ_HOLDING, 3053, 8),
        Block(READ_HOLDING, 3109, 2),
        Block(READ_HOLDING, 3203, 8),
    ),
    max_registers=100,
    probe=(
        Bound(f32(3027, unit=Unit.V), 80, 300),
        Bound(f32(3109, unit=Unit.HZ), 45, 65),
    ),
    voltage=(
        f32(3027, unit=Unit.V),
        f32(3029, unit=Unit.V),
        f32(3031, unit=Unit.V),
    ),
    current=(
        f32(2999, unit=Unit.A),
        f32(3001, unit=Unit.A),
        f32(3003, unit=Unit.A),
    ),
    current_is_magnitude=True,
    power=(
        f32(3053, unit=Unit.KW),
        f32(3055, unit=Unit.KW),
        f32(3057, unit=Unit.KW),
    ),
    total_power=f32(3059, unit=Unit.KW),
    frequency=f32(3109, unit=Unit.HZ),
    import_energy=i64(3203, unit=Unit.WH),
    export_energy=i64(3207, unit=Unit.WH),
)

# fmt: off
EXAMPLE = Example(
    raw=(
        (0x42CB, 0, 0x42C4, 0x8000, 0xC148, 0),
        (0x4369, 0x8000, 0x4368, 0xC000, 0x4367, 0),
        (0x41BA, 0, 0x41B4, 0, 0xC038, 0, 0x422B, 0x8000),
        (0x4247, 0xE000),
        (0, 0x0002, 0x4CB0, 0x16EA, 0, 0, 0x0009, 0xFBF1),
    ),
    measured=Measured(
        voltage_v=(233.5, 232.75, 231.0),
        current_a=(101.5, 98.25, -12.5),
        power_w=(23250.0, 22500.0, -2875.0),
        total_power_w=42875.0,
        frequency_hz=49.96875,
        import_wh=9876543210.0,
        export_wh=654321.0,
    ),
)
# fmt: on
