"""Carlo Gavazzi EM24-DIN: three-phase DIN-rail meter on RS-485; its map is not that of the EM24 E1 (kind em340).

Source: mbmd carlogavazzi-em24.go, Tinkerforge carlo_gavazzi.py (at most 11 registers a read), evcc cg-em24.yaml.
Function code 4, 32-bit integers, low word first. Positive power flows from the grid to the load. The sign of a
current is that of its power.

The projects disagree about the register of the total import (62 or 66), so it is the sum of the three phases; evcc
dropped the export of register 92 after a field report, and so do we.
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

KIND = "em24"
TITLE = "Carlo Gavazzi EM24-DIN"

i32 = partial(Register, type=Type.I32, order=Order.LO)
u16 = partial(Register, type=Type.U16)

MAP = MeterMap(
    blocks=(
        Block(READ_INPUT, 0, 6),
        Block(READ_INPUT, 12, 6),
        Block(READ_INPUT, 18, 6),
        Block(READ_INPUT, 40, 2),
        Block(READ_INPUT, 55, 1),
        Block(READ_INPUT, 70, 6),
    ),
    max_registers=11,
    probe=(
        Bound(i32(0, unit=Unit.V, scale=0.1), 80, 300),
        Bound(u16(55, unit=Unit.HZ, scale=0.1), 45, 65),
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
    frequency=u16(55, unit=Unit.HZ, scale=0.1),
    import_energy=(
        i32(70, unit=Unit.KWH, scale=0.1),
        i32(72, unit=Unit.KWH, scale=0.1),
        i32(74, unit=Unit.KWH, scale=0.1),
    ),
)

# fmt: off
EXAMPLE = Example(
    raw=(
        (0x0900, 0, 0x08FB, 0, 0x0907, 0),
        (0x3EFD, 0, 0x2140, 0, 0xEF66, 0xFFFF),
        (0x9103, 0, 0x4C6F, 0, 0xD9A2, 0xFFFF),
        (0xB714, 0),
        (0x01F4,),
        (0xA028, 0, 0x985D, 0, 0x9C41, 0),
    ),
    measured=Measured(
        voltage_v=(230.4, 229.9, 231.1),
        current_a=(16.125, 8.512, -4.25),
        power_w=(3712.3, 1956.7, -982.2),
        total_power_w=4686.8,
        frequency_hz=50.0,
        import_wh=12000600.0,
    ),
)
# fmt: on
