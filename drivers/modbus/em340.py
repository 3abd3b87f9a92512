"""Carlo Gavazzi EM24 E1, EM330/EM340, ET330/ET340, EM530/EM540: three-phase meters.

Source: mbmd carlogavazzi-em24_e1.go and carlogavazzi-ex3x0.go, Tinkerforge carlo_gavazzi.py, OpenEMS carlo.gavazzi
em300, evcc cg-emt3xx.yaml. Function code 4, 32-bit integers, low word first. Positive power flows from the grid to
the load. The sign of a current is that of its power. Read in steps of at most 11 registers as its sister EM24 wants
it.

Not in this map: the frequency (51), which openWB saw in tenths from some units and in hundredths from others.
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

KIND = "em340"
TITLE = "Carlo Gavazzi EM24 E1, EM330/EM340, ET330/ET340, EM530/EM540"

i32 = partial(Register, type=Type.I32, order=Order.LO)

MAP = MeterMap(
    blocks=(
        Block(READ_INPUT, 0, 6),
        Block(READ_INPUT, 12, 6),
        Block(READ_INPUT, 18, 6),
        Block(READ_INPUT, 40, 2),
        Block(READ_INPUT, 52, 2),
        Block(READ_INPUT, 78, 2),
    ),
    max_registers=11,
    probe=(
        Bound(i32(0, unit=Unit.V, scale=0.1), 80, 300),
        Bound(i32(2, unit=Unit.V, scale=0.1), 0, 300),
    ),
    voltage=(
        i32(0, unit=Unit.V, scale=0.1),
        i32(2, unit=Unit.V, scale=0.1),
        i32(4, unit=Unit.V, scale=0.1),
    ),
    current=(
        i32(12, unit=Unit.A, scale=0.001),
        i32(14, unit=Unit.A, scale=0.001),
        i32(16, unit=Unit.A, scale=0.001),
    ),
    current_is_magnitude=True,
    power=(
        i32(18, unit=Unit.W, scale=0.1),
        i32(20, unit=Unit.W, scale=0.1),
        i32(22, unit=Unit.W, scale=0.1),
    ),
    total_power=i32(40, unit=Unit.W, scale=0.1),
    import_energy=i32(52, unit=Unit.KWH, scale=0.1),
    export_energy=i32(78, unit=Unit.KWH, scale=0.1),
)

# fmt: off
EXAMPLE = Example(
    raw=(
        (0x08EF, 0, 0x08FB, 0, 0x0902, 0),
        (0xEE4D, 0, 0xB7B0, 0xFFFF, 0x9D3A, 0),
        (0x1EF9, 0x0002, 0x5BEC, 0xFFFF, 0x695B, 0x0001),
        (0xE440, 0x0002),
        (0xC072, 0x000D),
        (0x000C, 0),
    ),
    measured=Measured(
        voltage_v=(228.7, 229.9, 230.6),
        current_a=(61.005, -18.512, 40.25),
        power_w=(13900.1, -4200.4, 9250.7),
        total_power_w=18950.4,
        import_wh=90123400.0,
        export_wh=1200.0,
    ),
)
# fmt: on
