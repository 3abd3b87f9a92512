"""Siemens SENTRON PAC3120/3200/3220/4200/4220: panel meters.

Source: Tinkerforge siemens.py. Function code 4, IEEE-754, high word first; energies are 64-bit floats of tariff 1,
which can be reset: with two tariffs this is not the whole energy. Positive power flows from the grid to the load. The
sign of a current is that of its power.
"""

from __future__ import annotations

from functools import partial

from drivers.modbus.registers import (
    READ_INPUT,
    Block,
    Bound,
    Example,
    Measured,
    MeterMap,
    Register,
    Type,
    Unit,
)

KIND = "pac3200"
TITLE = "Siemens SENTRON PAC3120/3200/3220/4200/4220"

f32 = partial(Register, type=Type.F32)
f64 = partial(Register, type=Type.F64)

MAP = MeterMap(
    blocks=(
        Block(READ_INPUT, 1, 6),
        Block(READ_INPUT, 13, 6),
        Block(READ_INPUT, 25, 6),
        Block(READ_INPUT, 55, 2),
        Block(READ_INPUT, 65, 2),
        Block(READ_INPUT, 801, 12),
    ),
    max_registers=100,
    probe=(
        Bound(f32(1, unit=Unit.V), 80, 300),
        Bound(f32(55, unit=Unit.HZ), 45, 65),
    ),
    voltage=(
        f32(1, unit=Unit.V),
        f32(3, unit=Unit.V),
        f32(5, unit=Unit.V),
    ),
    current=(
        f32(13, unit=Unit.A),
        f32(15, unit=Unit.A),
        f32(17, unit=Unit.A),
    ),
    current_is_magnitude=True,
    power=(
        f32(25, unit=Unit.W),
        f32(27, unit=Unit.W),
        f32(29, unit=Unit.W),
    ),
    total_power=f32(65, unit=Unit.W),
    frequency=f32(55, unit=Unit.HZ),
    import_energy=f64(801, unit=Unit.WH),
    export_energy=f64(809, unit=Unit.WH),
)

# fmt: off
EXAMPLE = Example(
    raw=(
        (0x4365, 0x8000, 0x4366, 0x4000, 0x4364, 0),
        (0x430C, 0x8000, 0x430D, 0x4000, 0x4282, 0x4000),
        (0x46F3, 0xC000, 0xC6F4, 0xED00, 0x465D, 0x1900),
        (0x4248, 0x2000),
        (0x465A, 0xBF00),
        (0x41AA, 0xA35C, 0x2B00, 0, 0, 0, 0, 0,
         0x40CC, 0x73A0, 0, 0),
    ),
    measured=Measured(
        voltage_v=(229.5, 230.25, 228.0),
        current_a=(140.5, -141.25, 65.125),
        power_w=(31200.0, -31350.5, 14150.25),
        total_power_w=13999.75,
        frequency_hz=50.03125,
        import_wh=223456789.5,
        export_wh=14567.25,
    ),
)
# fmt: on
