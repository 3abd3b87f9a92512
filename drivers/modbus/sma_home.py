"""SMA Sunny Home Manager 2.0 (unit 2): the grid meter of a house; no currents, so it cannot guard a circuit.

Source: evcc sma-homemanager-modbus.yaml. Function code 4, high word first. Import and export have a register each,
the power is their difference.
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

KIND = "sma-home-manager"
TITLE = "SMA Sunny Home Manager 2.0 (unit 2)"

i32 = partial(Register, type=Type.I32)
u32 = partial(Register, type=Type.U32)

MAP = MeterMap(
    blocks=(
        Block(READ_INPUT, 30581, 4),
        Block(READ_INPUT, 30865, 4),
    ),
    max_registers=100,
    probe=(Bound(u32(30581, unit=Unit.WH), 1, 1000000000000.0),),
    total_power=(
        i32(30865, unit=Unit.W),
        i32(30867, unit=Unit.W, scale=-1),
    ),
    import_energy=u32(30581, unit=Unit.WH),
    export_energy=u32(30583, unit=Unit.WH),
)

# fmt: off
EXAMPLE = Example(
    raw=(
        (0x00BC, 0x614E, 0x0005, 0x464E),
        (0, 0, 0, 0x1068),
    ),
    measured=Measured(
        total_power_w=-4200.0,
        import_wh=12345678.0,
        export_wh=345678.0,
    ),
)
# fmt: on
