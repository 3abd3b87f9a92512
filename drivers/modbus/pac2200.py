"""Siemens SENTRON PAC2200: three-phase DIN-rail meter.

Source: mbmd pac2200.go, Tinkerforge siemens.py, OpenEMS siemens pac2200, evcc siemens-pac2200.yaml. Function code 3
(4 works too), IEEE-754, high word first; energies are 64-bit floats. Positive power flows from the grid to the load.
The sign of a current is that of its power.

Not in this map: the frequency, which one project reads at 55 and another at 46.
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

KIND = "pac2200"
TITLE = "Siemens SENTRON PAC2200"

f32 = partial(Register, type=Type.F32)
f64 = partial(Register, type=Type.F64)

MAP = MeterMap(
    blocks=(
        Block(READ_HOLDING, 1, 6),
        Block(READ_HOLDING, 13, 6),
        Block(READ_HOLDING, 25, 6),
        Block(READ_HOLDING, 65, 2),
        Block(READ_HOLDING, 801, 12),
    ),
    max_registers=100,
    probe=(
        Bound(f32(1, unit=Unit.V), 80, 300),
        Bound(f32(3, unit=Unit.V), 0, 300),
        Bound(f64(801, unit=Unit.WH), 0, 1000000000000.0),
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
    import_energy=f64(801, unit=Unit.WH),
    export_energy=f64(809, unit=Unit.WH),
)

# fmt: off
EXAMPLE = Example(
    raw=(
        (0x4367, 0x8000, 0x4366, 0x4000, 0x4368, 0),
        (0x4222, 0, 0x4225, 0, 0x40A4, 0),
        (0x460F, 0xC000, 0x4612, 0x1A00, 0xC48F, 0xC800),
        (0x4687, 0xF080),
        (0x419D, 0x6F34, 0x5600, 0, 0, 0, 0, 0,
         0x40B1, 0xD740, 0, 0),
    ),
    measured=Measured(
        voltage_v=(231.5, 230.25, 232.0),
        current_a=(40.5, 41.25, -5.125),
        power_w=(9200.0, 9350.5, -1150.25),
        total_power_w=17400.25,
        import_wh=123456789.5,
        export_wh=4567.25,
    ),
)
# fmt: on
