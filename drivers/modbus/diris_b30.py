"""Socomec Diris B30 (Digiware): modular meter.

Source: OpenEMS MeterSocomecThreephaseImpl. Function code 3, integers, high word first. Positive power flows from the
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

KIND = "diris-b30"
TITLE = "Socomec Diris B30 (Digiware)"

i32 = partial(Register, type=Type.I32)
u32 = partial(Register, type=Type.U32)

MAP = MeterMap(
    blocks=(
        Block(READ_HOLDING, 0x480C, 6),
        Block(READ_HOLDING, 0x481A, 6),
        Block(READ_HOLDING, 0x482C, 2),
        Block(READ_HOLDING, 0x4838, 6),
        Block(READ_HOLDING, 0x4D83, 5),
    ),
    max_registers=60,
    probe=(
        Bound(u32(0x480C, unit=Unit.V, scale=0.01), 80, 300),
        Bound(u32(0x4D83, unit=Unit.KWH), 0, 1000000000000.0),
    ),
    voltage=(
        u32(0x480C, unit=Unit.V, scale=0.01),
        u32(0x480E, unit=Unit.V, scale=0.01),
        u32(0x4810, unit=Unit.V, scale=0.01),
    ),
    current=(
        u32(0x481A, unit=Unit.A, scale=0.001),
        u32(0x481C, unit=Unit.A, scale=0.001),
        u32(0x481E, unit=Unit.A, scale=0.001),
    ),
    current_is_magnitude=True,
    power=(
        i32(0x4838, unit=Unit.W),
        i32(0x483A, unit=Unit.W),
        i32(0x483C, unit=Unit.W),
    ),
    total_power=i32(0x482C, unit=Unit.W),
    import_energy=u32(0x4D83, unit=Unit.KWH),
    export_energy=u32(0x4D86, unit=Unit.KWH),
)

# fmt: off
EXAMPLE = Example(
    raw=(
        (0, 0x5A48, 0, 0x5AB7, 0, 0x5B26),
        (0x0001, 0x2575, 0x0001, 0x220A, 0, 0x5014),
        (0, 0x733C),
        (0, 0x4394, 0, 0x4204, 0xFFFF, 0xEDA4),
        (0, 0x021F, 0, 0, 0x0002),
    ),
    measured=Measured(
        voltage_v=(231.12, 232.23, 233.34),
        current_a=(75.125, 74.25, -20.5),
        power_w=(17300.0, 16900.0, -4700.0),
        total_power_w=29500.0,
        import_wh=543000.0,
        export_wh=2000.0,
    ),
)
# fmt: on
