"""SunSpec inverters (models 101..103, 111..113, 701): what a PV or battery inverter exchanges on its AC side.

Source: SunSpec models 101 to 103, 111 to 113 and 701 (IEEE 1547-2018). Generating is positive in all of them and turned
round here: import positive, and what was generated is export. The sign of a current is that of its power, in
the older models, which have no power per phase, that of the total.
"""

from __future__ import annotations

from drivers.modbus.registers import Example, Measured, MeterMap, Type, Unit
from drivers.modbus.sunspec import Charge, exporting, identified, point, span

KIND = "sunspec-inverter"
TITLE = "SunSpec inverter (models 101-103, 111-113, 701)"
MAKER = ""

_CONDUCTORS = {1: 1, 2: 2, 3: 3}


def _integers(model: int) -> MeterMap:
    count = _CONDUCTORS[model % 10]
    facts = identified(model, 27)
    return MeterMap(
        **facts,
        voltage=span(10, Type.U16, Unit.V, count, scale_at=13),
        current=span(3, Type.U16, Unit.A, count, scale_at=6),
        current_is_magnitude=True,
        total_power=point(14, Type.I16, Unit.W, 15),
        frequency=point(16, Type.U16, Unit.HZ, 17),
        export_energy=point(24, Type.ACC32, Unit.WH, 26),
    )


def _floats(model: int) -> MeterMap:
    count = _CONDUCTORS[model % 10]
    facts = identified(model, 34)
    return MeterMap(
        **facts,
        voltage=span(16, Type.F32, Unit.V, count),
        current=span(4, Type.F32, Unit.A, count),
        current_is_magnitude=True,
        total_power=point(22, Type.F32, Unit.W),
        frequency=point(24, Type.F32, Unit.HZ),
        export_energy=point(32, Type.F32, Unit.WH),
    )


def _grid_code() -> MeterMap:
    facts = identified(701, 121)
    return MeterMap(
        **facts,
        voltage=span(47, Type.U16, Unit.V, 3, scale_at=114, step=23),
        current=span(45, Type.I16, Unit.A, 3, scale_at=113, step=23),
        current_is_magnitude=True,
        power=span(41, Type.I16, Unit.W, 3, scale_at=116, step=23),
        total_power=point(10, Type.I16, Unit.W, 116),
        frequency=point(17, Type.U32, Unit.HZ, 115),
        import_energy=point(23, Type.U64, Unit.WH, 120),
        export_energy=point(19, Type.U64, Unit.WH, 120),
    )


_OLD = {
    model: _floats(model) if model > 110 else _integers(model) for model in (113, 103, 112, 102, 111, 101)
}
MODELS = {model: exporting(meter) for model, meter in {701: _grid_code(), **_OLD}.items()}
CHARGES: dict[int, Charge] = {}
# fmt: off
EXAMPLES = {
    103: Example(
        raw=(
            (0x0067, 0x0032, 0x0258, 0x00C9, 0x00C8, 0x00C7, 0xFFFF, 0xFFFF,
             0xFFFF, 0xFFFF, 0x08FE, 0x0907, 0x08FB, 0xFFFF, 0x361A, 0,
             0x1389, 0xFFFE, 0x8000, 0x8000, 0x8000, 0x8000, 0x8000, 0x8000,
             0x00BC, 0x614E, 0),
        ),
        measured=Measured(voltage_v=(230.2, 231.1, 229.9), current_a=(-20.1, -20.0, -19.9), total_power_w=-13850.0,
                          frequency_hz=50.01, export_wh=12345678.0),
    ),
}
# fmt: on
