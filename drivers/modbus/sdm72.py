"""Eastron SDM72D-M (first version): three-phase DIN-rail meter that tells only its totals, so it cannot guard a
circuit.

Source: mbmd sdm72.go, openWB sdm.py (some of these meters refuse long reads, some take only 10 registers at once).
Function code 4, IEEE-754, high word first. Version 2 has the map of the SDM630.
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

KIND = "sdm72"
TITLE = "Eastron SDM72D-M (first version)"

f32 = partial(Register, type=Type.F32)

MAP = MeterMap(
    blocks=(
        Block(READ_INPUT, 52, 2),
        Block(READ_INPUT, 72, 4),
        Block(READ_INPUT, 342, 2),
    ),
    max_registers=10,
    probe=(
        Bound(f32(342, unit=Unit.KWH), 1, 1000000000.0),
        Bound(f32(72, unit=Unit.KWH), 0, 1000000000.0),
    ),
    total_power=f32(52, unit=Unit.W),
    import_energy=f32(72, unit=Unit.KWH),
    export_energy=f32(74, unit=Unit.KWH),
)

# fmt: off
EXAMPLE = Example(
    raw=(
        (0x45A0, 0x2C00),
        (0x449A, 0x5000, 0x3F00, 0),
        (0x449A, 0x6000),
    ),
    measured=Measured(
        total_power_w=5125.5,
        import_wh=1234500.0,
        export_wh=500.0,
    ),
)
# fmt: on
