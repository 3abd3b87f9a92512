"""Carlo Gavazzi EM110/EM111/EM112, ET112: single-phase meters, read for power and energy only, so they cannot guard a
circuit.

Source: evcc cg-emt1xx.yaml. Function code 4. evcc reads the high word first, every other map of this maker has the
low word first, and that is taken here: a wrong order shows as megawatts, which no reading passes.
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
    Order,
    Register,
    Type,
    Unit,
)

KIND = "em111"
TITLE = "Carlo Gavazzi EM110/EM111/EM112, ET112"

i32 = partial(Register, type=Type.I32, order=Order.LO)

MAP = MeterMap(
    blocks=(
        Block(READ_INPUT, 4, 2),
        Block(READ_INPUT, 16, 2),
        Block(READ_INPUT, 32, 2),
    ),
    max_registers=11,
    probe=(
        Bound(i32(4, unit=Unit.W, scale=0.1), -30000, 30000),
        Bound(i32(16, unit=Unit.KWH, scale=0.1), 1, 1000000000.0),
    ),
    total_power=i32(4, unit=Unit.W, scale=0.1),
    import_energy=i32(16, unit=Unit.KWH, scale=0.1),
    export_energy=i32(32, unit=Unit.KWH, scale=0.1),
)

# fmt: off
EXAMPLE = Example(
    raw=(
        (0xCF27, 0xFFFF),
        (0x2AFF, 0x0001),
        (0x0C8A, 0),
    ),
    measured=Measured(
        total_power_w=-1250.5,
        import_wh=7654300.0,
        export_wh=321000.0,
    ),
)
# fmt: on
