"""Victron grid meter service (unit: its VRM instance): the currents of the grid meter.

Source: evcc victron-energy.yaml. Function code 4, 16-bit integers.
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

KIND = "victron-grid"
TITLE = "Victron grid meter service (unit: its VRM instance)"

i16 = partial(Register, type=Type.I16)

MAP = MeterMap(
    blocks=(Block(READ_INPUT, 2617, 5),),
    max_registers=60,
    probe=(Bound(i16(2617, unit=Unit.A, scale=0.1), -3000, 3000),),
    current=(
        i16(2617, unit=Unit.A, scale=0.1),
        i16(2619, unit=Unit.A, scale=0.1),
        i16(2621, unit=Unit.A, scale=0.1),
    ),
)

# fmt: off
EXAMPLE = Example(
    raw=(
        (0x020B, 0, 0x01F5, 0, 0xFFB3),
    ),
    measured=Measured(
        current_a=(52.3, 50.1, -7.7),
    ),
)
# fmt: on
