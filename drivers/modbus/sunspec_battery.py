"""SunSpec batteries (models 714 and 802 for the power; 713, 802 and 124 for the state of charge).

Source: SunSpec models 124, 713, 714 and 802. Injecting is positive in 714 and turned round here: charging is import. The
definition of 802 does not say which way its power counts; discharging is taken as positive as in the other models, so
look at a charging battery once, and set `invert` if it shows export. The model of a battery bank (803) only repeats this
by string. No AC currents, so it cannot guard a circuit.
"""

from __future__ import annotations

from drivers.modbus.registers import READ_HOLDING, Block, Example, Measured, MeterMap, Type, Unit
from drivers.modbus.sunspec import Charge, exporting, identified, point

KIND = "sunspec-battery"
TITLE = "SunSpec battery (models 714 with 713 or 124, 802)"
MAKER = ""

_PORTS = identified(714, 19)
_BASE = identified(802, 64)

MODELS = {
    714: exporting(
        MeterMap(
            **_PORTS,
            total_power=point(6, Type.I16, Unit.W, 17),
            import_energy=point(11, Type.U64, Unit.WH, 18),
            export_energy=point(7, Type.U64, Unit.WH, 18),
        )
    ),
    802: exporting(
        MeterMap(**_BASE, total_power=point(47, Type.I16, Unit.W, 63), soc=point(11, Type.U16, Unit.PCT, 56))
    ),
}
CHARGES = {
    713: Charge(Block(READ_HOLDING, 0, 9), point(4, Type.U16, Unit.PCT, 8)),
    124: Charge(Block(READ_HOLDING, 0, 26), point(8, Type.U16, Unit.PCT, 22)),
}
# fmt: off
EXAMPLES = {
    714: Example(
        raw=(
            (0x02CA, 0x002B, 0xFFFF, 0xFFFF, 0x0001, 0x8000, 0xFE5C, 0,
             0, 0x0001, 0xB276, 0, 0, 0x0005, 0x1684, 0x8000,
             0x8000, 0x0001, 0),
        ),
        measured=Measured(total_power_w=4200.0, import_wh=333444.0, export_wh=111222.0),
    ),
}
# fmt: on
