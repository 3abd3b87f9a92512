"""Victron AC load service: a meter of a load.

Source: evcc victron-gx.yaml. Function code 4, high word first. The sign of a current is that of its power.
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

KIND = "victron-load"
TITLE = "Victron AC load service"

i16 = partial(Register, type=Type.I16)
i32 = partial(Register, type=Type.I32)
u16 = partial(Register, type=Type.U16)
u32 = partial(Register, type=Type.U32)

MAP = MeterMap(
    blocks=(Block(READ_INPUT, 3910, 20),),
    max_registers=60,
    probe=(Bound(u16(3910, unit=Unit.V, scale=0.1), 80, 300),),
    voltage=(
        u16(3910, unit=Unit.V, scale=0.1),
        u16(3912, unit=Unit.V, scale=0.1),
        u16(3914, unit=Unit.V, scale=0.1),
    ),
    current=(
        i16(3911, unit=Unit.A, scale=0.1),
        i16(3913, unit=Unit.A, scale=0.1),
        i16(3915, unit=Unit.A, scale=0.1),
    ),
    current_is_magnitude=True,
    power=(
        i32(3924, unit=Unit.W),
        i32(3926, unit=Unit.W),
        i32(3928, unit=Unit.W),
    ),
    total_power=(
        i32(3924, unit=Unit.W),
        i32(3926, unit=Unit.W),
        i32(3928, unit=Unit.W),
    ),
    import_energy=(
        u32(3916, unit=Unit.KWH, scale=0.01),
        u32(3918, unit=Unit.KWH, scale=0.01),
        u32(3920, unit=Unit.KWH, scale=0.01),
    ),
)

# fmt: off
EXAMPLE = Example(
    raw=(
        (0x08FD, 0x007B, 0x0908, 0x006F, 0x08FB, 0xFFB3, 0, 0x2EE3,
         0, 0x2694, 0, 0x11D7, 0, 0, 0, 0x0AF0,
         0, 0x09C4, 0xFFFF, 0xF95C),
    ),
    measured=Measured(
        voltage_v=(230.1, 231.2, 229.9),
        current_a=(12.3, 11.1, -7.7),
        power_w=(2800.0, 2500.0, -1700.0),
        total_power_w=3600.0,
        import_wh=264460.0,
    ),
)
# fmt: on
