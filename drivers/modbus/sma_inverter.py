"""SMA inverter (Modbus TCP, unit 3): what the inverter generates; no currents, so it cannot guard a circuit.

Source: evcc sma-inverter-modbus.yaml. Function code 4, high word first. Generating counts as export. At night the
power is "no value" (0x80000000): that is normal.
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

KIND = "sma-inverter"
TITLE = "SMA inverter (Modbus TCP, unit 3)"

i32 = partial(Register, type=Type.I32)
u64 = partial(Register, type=Type.U64)

MAP = MeterMap(
    blocks=(
        Block(READ_INPUT, 30513, 4),
        Block(READ_INPUT, 30775, 2),
    ),
    max_registers=100,
    probe=(Bound(u64(30513, unit=Unit.WH), 1, 10000000000000.0),),
    total_power=i32(30775, unit=Unit.W, scale=-1),
    export_energy=u64(30513, unit=Unit.WH),
)

# fmt: off
EXAMPLE = Example(
    raw=(
        (0, 0, 0x075B, 0xCD15),
        (0, 0x267A),
    ),
    measured=Measured(
        total_power_w=-9850.0,
        export_wh=123456789.0,
    ),
)
# fmt: on
