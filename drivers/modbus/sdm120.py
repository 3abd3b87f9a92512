"""Eastron SDM120: single-phase DIN-rail meter (RS-485).

Source: mbmd sdm120.go; the layout is the first conductor of the SDM630 (function code 4, IEEE-754, high word first).
Positive power flows from the grid to the load. The sign of a current is that of its power.
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

KIND = "sdm120"
TITLE = "Eastron SDM120"

f32 = partial(Register, type=Type.F32)

MAP = MeterMap(
    blocks=(
        Block(READ_INPUT, 0, 14),
        Block(READ_INPUT, 70, 6),
    ),
    max_registers=50,
    probe=(
        Bound(f32(0, unit=Unit.V), 80, 300),
        Bound(f32(70, unit=Unit.HZ), 45, 65),
    ),
    voltage=(f32(0, unit=Unit.V),),
    current=(f32(6, unit=Unit.A),),
    current_is_magnitude=True,
    power=(f32(12, unit=Unit.W),),
    total_power=f32(12, unit=Unit.W),
    frequency=f32(70, unit=Unit.HZ),
    import_energy=f32(72, unit=Unit.KWH),
    export_energy=f32(74, unit=Unit.KWH),
)

# fmt: off
EXAMPLE = Example(
    raw=(
        (0x4367, 0x4000, 0, 0, 0, 0, 0x4118, 0,
         0, 0, 0, 0, 0xC508, 0xE800),
        (0x4248, 0x147B, 0x43AC, 0xA000, 0x40E8, 0),
    ),
    measured=Measured(
        voltage_v=(231.25,),
        current_a=(-9.5,),
        power_w=(-2190.5,),
        total_power_w=-2190.5,
        frequency_hz=50.02,
        import_wh=345250.0,
        export_wh=7250.0,
    ),
)
# fmt: on
