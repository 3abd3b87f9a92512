"""Shelly Pro 3EM, 3EM-63 Gen3 (three-phase profile): energy meters.

Source: Tinkerforge shelly.py, evcc shelly-pro-3em.yaml. Function code 4, IEEE-754, low word first. Modbus must be
switched on in the device. Positive power flows from the grid to the load. The sign of a current is that of its power.
Import and export are counted per phase, without balancing.
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

KIND = "shelly-3em"
TITLE = "Shelly Pro 3EM, 3EM-63 Gen3 (three-phase profile)"

f32 = partial(Register, type=Type.F32, order=Order.LO)

MAP = MeterMap(
    blocks=(
        Block(READ_INPUT, 1013, 2),
        Block(READ_INPUT, 1020, 6),
        Block(READ_INPUT, 1033, 2),
        Block(READ_INPUT, 1040, 6),
        Block(READ_INPUT, 1060, 6),
        Block(READ_INPUT, 1162, 4),
    ),
    max_registers=50,
    probe=(
        Bound(f32(1020, unit=Unit.V), 80, 300),
        Bound(f32(1033, unit=Unit.HZ), 45, 65),
    ),
    voltage=(
        f32(1020, unit=Unit.V),
        f32(1040, unit=Unit.V),
        f32(1060, unit=Unit.V),
    ),
    current=(
        f32(1022, unit=Unit.A),
        f32(1042, unit=Unit.A),
        f32(1062, unit=Unit.A),
    ),
    current_is_magnitude=True,
    power=(
        f32(1024, unit=Unit.W),
        f32(1044, unit=Unit.W),
        f32(1064, unit=Unit.W),
    ),
    total_power=f32(1013, unit=Unit.W),
    frequency=f32(1033, unit=Unit.HZ),
    import_energy=f32(1162, unit=Unit.WH),
    export_energy=f32(1164, unit=Unit.WH),
)

# fmt: off
EXAMPLE = Example(
    raw=(
        (0xC400, 0x4541),
        (0x8000, 0x436A, 0, 0x4128, 0, 0x4516),
        (0xD000, 0x4247),
        (0x4000, 0x4369, 0, 0x4114, 0x4800, 0x4503),
        (0, 0x436B, 0, 0x40C4, 0x0800, 0xC4AF),
        (0xDF80, 0x493A, 0x3100, 0x4754),
    ),
    measured=Measured(
        voltage_v=(234.5, 233.25, 235.0),
        current_a=(10.5, 9.25, -6.125),
        power_w=(2400.0, 2100.5, -1400.25),
        total_power_w=3100.25,
        frequency_hz=49.953125,
        import_wh=765432.0,
        export_wh=54321.0,
    ),
)
# fmt: on
