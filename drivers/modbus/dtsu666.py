"""Chint DTSU666: three-phase DIN-rail meter with its own map (behind a Huawei inverter it is kind huawei-sun2000).

Source: mbmd dtsu666.go. Function code 3, IEEE-754, high word first, holding scaled integers: 2301.0 is 230.1 V.
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

KIND = "dtsu666"
TITLE = "Chint DTSU666"

f32 = partial(Register, type=Type.F32)

MAP = MeterMap(
    blocks=(
        Block(READ_HOLDING, 0x101E, 12),
        Block(READ_HOLDING, 0x2006, 20),
        Block(READ_HOLDING, 0x2044, 2),
    ),
    max_registers=50,
    probe=(
        Bound(f32(0x2006, unit=Unit.V, scale=0.1), 80, 300),
        Bound(f32(0x2044, unit=Unit.HZ, scale=0.01), 45, 65),
    ),
    voltage=(
        f32(0x2006, unit=Unit.V, scale=0.1),
        f32(0x2008, unit=Unit.V, scale=0.1),
        f32(0x200A, unit=Unit.V, scale=0.1),
    ),
    current=(
        f32(0x200C, unit=Unit.A, scale=0.001),
        f32(0x200E, unit=Unit.A, scale=0.001),
        f32(0x2010, unit=Unit.A, scale=0.001),
    ),
    current_is_magnitude=True,
    power=(
        f32(0x2014, unit=Unit.W, scale=0.1),
        f32(0x2016, unit=Unit.W, scale=0.1),
        f32(0x2018, unit=Unit.W, scale=0.1),
    ),
    total_power=f32(0x2012, unit=Unit.W, scale=0.1),
    frequency=f32(0x2044, unit=Unit.HZ, scale=0.01),
    import_energy=f32(0x101E, unit=Unit.KWH),
    export_energy=f32(0x1028, unit=Unit.KWH),
)

# fmt: off
EXAMPLE = Example(
    raw=(
        (0x458E, 0xBC00, 0, 0, 0, 0, 0, 0,
         0, 0, 0x3E80, 0),
        (0x450F, 0xD000, 0x450F, 0xB000, 0x4510, 0xA000, 0x45FD, 0xD800,
         0x467A, 0x0400, 0x451C, 0x4000, 0x473F, 0xD100, 0x4690, 0x9200,
         0x470E, 0x9400, 0xC5B8, 0x6000),
        (0x459C, 0x4800),
    ),
    measured=Measured(
        voltage_v=(230.1, 229.9, 231.4),
        current_a=(8.123, 16.001, -2.5),
        power_w=(1850.5, 3650.0, -590.0),
        total_power_w=4910.5,
        frequency_hz=50.01,
        import_wh=4567500.0,
        export_wh=250.0,
    ),
)
# fmt: on
