"""Phoenix Contact EMpro EEM-EM/EEM-MA: energy meters.

Source: OpenEMS PhoenixContactMeterImpl. Function code 3, IEEE-754, one of the few with the low word first. Positive
power flows from the grid to the load. The sign of a current is that of its power.
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
    Order,
    Register,
    Type,
    Unit,
)

KIND = "empro"
TITLE = "Phoenix Contact EMpro EEM-EM/EEM-MA"

f32 = partial(Register, type=Type.F32, order=Order.LO)

MAP = MeterMap(
    blocks=(
        Block(READ_HOLDING, 0x8006, 30),
        Block(READ_HOLDING, 0x8100, 8),
    ),
    max_registers=60,
    probe=(
        Bound(f32(0x8006, unit=Unit.V), 80, 300),
        Bound(f32(0x800C, unit=Unit.HZ), 45, 65),
    ),
    voltage=(
        f32(0x8006, unit=Unit.V),
        f32(0x8008, unit=Unit.V),
        f32(0x800A, unit=Unit.V),
    ),
    current=(
        f32(0x800E, unit=Unit.A),
        f32(0x8010, unit=Unit.A),
        f32(0x8012, unit=Unit.A),
    ),
    current_is_magnitude=True,
    power=(
        f32(0x801E, unit=Unit.W),
        f32(0x8020, unit=Unit.W),
        f32(0x8022, unit=Unit.W),
    ),
    total_power=f32(0x8016, unit=Unit.W),
    frequency=f32(0x800C, unit=Unit.HZ),
    import_energy=f32(0x8100, unit=Unit.WH),
    export_energy=f32(0x8106, unit=Unit.WH),
)

# fmt: off
EXAMPLE = Example(
    raw=(
        (0x8000, 0x4366, 0xC000, 0x4367, 0x4000, 0x4365, 0x0800, 0x4248,
         0, 0x41A4, 0, 0x419A, 0, 0x40E4, 0, 0,
         0x8200, 0x45ED, 0, 0, 0, 0, 0, 0,
         0xE000, 0x4592, 0xA400, 0x458C, 0x0800, 0xC4C8),
        (0x2B38, 0x4A0F, 0, 0, 0, 0, 0xF400, 0x4608),
    ),
    measured=Measured(
        voltage_v=(230.5, 231.75, 229.25),
        current_a=(20.5, 19.25, -7.125),
        power_w=(4700.0, 4500.5, -1600.25),
        total_power_w=7600.25,
        frequency_hz=50.007812,
        import_wh=2345678.0,
        export_wh=8765.0,
    ),
)
# fmt: on
