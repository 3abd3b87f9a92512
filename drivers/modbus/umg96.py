"""Janitza UMG 96RM/96-PA/801/806/604-E, B-series: panel meters with the common list at 19000.

Source: mbmd janitza.go, Tinkerforge janitza.py, OpenEMS janitza umg96rme, openWB janitza, evcc janitza.yaml. Function
code 3, IEEE-754, high word first. Positive power flows from the grid to the load. The sign of a current is that of
its power.

The energies are 32-bit floats: above some 16.7 MWh they no longer show single watt-hours. OpenEMS reads the totals of
the UMG 806 elsewhere (19062, 19070).
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

KIND = "umg96"
TITLE = "Janitza UMG 96RM/96-PA/801/806/604-E, B-series"

f32 = partial(Register, type=Type.F32)

MAP = MeterMap(
    blocks=(
        Block(READ_HOLDING, 19000, 28),
        Block(READ_HOLDING, 19050, 2),
        Block(READ_HOLDING, 19068, 10),
    ),
    max_registers=60,
    probe=(
        Bound(f32(19000, unit=Unit.V), 80, 300),
        Bound(f32(19050, unit=Unit.HZ), 45, 65),
    ),
    voltage=(
        f32(19000, unit=Unit.V),
        f32(19002, unit=Unit.V),
        f32(19004, unit=Unit.V),
    ),
    current=(
        f32(19012, unit=Unit.A),
        f32(19014, unit=Unit.A),
        f32(19016, unit=Unit.A),
    ),
    current_is_magnitude=True,
    power=(
        f32(19020, unit=Unit.W),
        f32(19022, unit=Unit.W),
        f32(19024, unit=Unit.W),
    ),
    total_power=f32(19026, unit=Unit.W),
    frequency=f32(19050, unit=Unit.HZ),
    import_energy=f32(19068, unit=Unit.WH),
    export_energy=f32(19076, unit=Unit.WH),
)

# fmt: off
EXAMPLE = Example(
    raw=(
        (0x4366, 0x8000, 0x4366, 0x4000, 0x4365, 0xC000, 0, 0,
         0, 0, 0, 0, 0x437A, 0x8000, 0x4374, 0x4000,
         0x42C8, 0x4000, 0, 0, 0x475C, 0xB400, 0x4757, 0xD280,
         0xC6A4, 0x1080, 0x47B1, 0x3F20),
        (0x4248, 0x1000),
        (0x4B05, 0xBFF8, 0, 0, 0, 0, 0, 0,
         0x47F1, 0x2000),
    ),
    measured=Measured(
        voltage_v=(230.5, 230.25, 229.75),
        current_a=(250.5, 244.25, -100.125),
        power_w=(56500.0, 55250.5, -21000.25),
        total_power_w=90750.25,
        frequency_hz=50.015625,
        import_wh=8765432.0,
        export_wh=123456.0,
    ),
)
# fmt: on
