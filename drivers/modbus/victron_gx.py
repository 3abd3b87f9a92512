"""Victron GX (com.victronenergy.system, unit 100): the grid power of the system; no currents, so it cannot guard a
circuit.

Source: evcc victron-energy.yaml, Tinkerforge victron_energy.py. Function code 4, 16-bit integers: a phase ends at
32.7 kW, which shows as "no value".
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

KIND = "victron-gx"
TITLE = "Victron GX (com.victronenergy.system, unit 100)"

i16 = partial(Register, type=Type.I16)

MAP = MeterMap(
    blocks=(Block(READ_INPUT, 820, 3),),
    max_registers=60,
    probe=(Bound(i16(820, unit=Unit.W), -32000, 32000),),
    power=(
        i16(820, unit=Unit.W),
        i16(821, unit=Unit.W),
        i16(822, unit=Unit.W),
    ),
    total_power=(
        i16(820, unit=Unit.W),
        i16(821, unit=Unit.W),
        i16(822, unit=Unit.W),
    ),
)

# fmt: off
EXAMPLE = Example(
    raw=(
        (0x2F44, 0xFBE6, 0x26AC),
    ),
    measured=Measured(
        power_w=(12100.0, -1050.0, 9900.0),
        total_power_w=20950.0,
    ),
)
# fmt: on
