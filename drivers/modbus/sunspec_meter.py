"""SunSpec meters (models 201..204 with scale factors, 211..214 in floats): smart meters and the grid meter behind many
inverters (Fronius, Kostal KSEM and others).

Source: SunSpec models 201 to 204 and 211 to 214; evcc sunspec-meter.yaml, fronius-gen24.yaml, kostal-ksem.yaml. Which of
the two forms a device has depends on its settings, so it is found by model id. Positive is import for a meter at the
grid connection by most vendors (SolarEdge: kind solaredge-meter). Vendors differ in signed currents: the sign of a
current is that of its power. A delta meter (204, 214) has no voltage to neutral.
"""

from __future__ import annotations

from drivers.modbus.registers import Example, Measured, MeterMap, Type, Unit
from drivers.modbus.sunspec import Charge, identified, point, span

KIND = "sunspec-meter"
TITLE = "SunSpec meter (models 201-204, 211-214), such as Fronius Smart Meter, Kostal KSEM"
MAKER = ""

_CONDUCTORS = {1: 1, 2: 2, 3: 3, 4: 3}


def _integers(model: int) -> MeterMap:
    count = _CONDUCTORS[model % 10]
    facts = identified(model, 55)
    return MeterMap(
        **facts,
        voltage=span(8, Type.I16, Unit.V, count, scale_at=15),
        current=span(3, Type.I16, Unit.A, count, scale_at=6),
        current_is_magnitude=True,
        power=span(19, Type.I16, Unit.W, count, scale_at=22),
        total_power=point(18, Type.I16, Unit.W, 22),
        frequency=point(16, Type.I16, Unit.HZ, 17),
        import_energy=point(46, Type.ACC32, Unit.WH, 54),
        export_energy=point(38, Type.ACC32, Unit.WH, 54),
    )


def _floats(model: int) -> MeterMap:
    count = _CONDUCTORS[model % 10]
    facts = identified(model, 70)
    return MeterMap(
        **facts,
        voltage=span(12, Type.F32, Unit.V, count),
        current=span(4, Type.F32, Unit.A, count),
        current_is_magnitude=True,
        power=span(30, Type.F32, Unit.W, count),
        total_power=point(28, Type.F32, Unit.W),
        frequency=point(26, Type.F32, Unit.HZ),
        import_energy=point(68, Type.F32, Unit.WH),
        export_energy=point(60, Type.F32, Unit.WH),
    )


MODELS = {
    model: _floats(model) if model > 210 else _integers(model)
    for model in (213, 203, 214, 204, 212, 202, 211, 201)
}
CHARGES: dict[int, Charge] = {}
# fmt: off
EXAMPLES = {
    203: Example(
        raw=(
            (0x00CB, 0x0069, 0x0078, 0x0029, 0xFFD8, 0x0027, 0, 0x08FC,
             0x08FD, 0x08FB, 0x0908, 0x8000, 0x8000, 0x8000, 0x8000, 0xFFFF,
             0x1389, 0xFFFE, 0x04E2, 0x03A4, 0xFC6D, 0x04D1, 0x0001, 0x8000,
             0x8000, 0x8000, 0x8000, 0x8000, 0x8000, 0x8000, 0x8000, 0x8000,
             0x8000, 0x8000, 0x8000, 0x8000, 0x8000, 0x8000, 0, 0x10E1,
             0, 0, 0, 0, 0, 0, 0x000F, 0x1206,
             0, 0, 0, 0, 0, 0, 0),
        ),
        measured=Measured(voltage_v=(230.1, 229.9, 231.2), current_a=(41.0, -40.0, 39.0), power_w=(9320.0, -9150.0, 12330.0),
                          total_power_w=12500.0, frequency_hz=50.01, import_wh=987654.0, export_wh=4321.0),
    ),
    213: Example(
        raw=(
            (0x00D5, 0x007C, 0x42C9, 0, 0x4226, 0, 0x4221, 0,
             0xC148, 0, 0x7FC0, 0, 0x4366, 0x8000, 0x4367, 0x4000,
             0x4365, 0xC000, 0x7FC0, 0, 0x7FC0, 0, 0x7FC0, 0,
             0x7FC0, 0, 0x4247, 0xF000, 0x467A, 0x0200, 0x4614, 0x7100,
             0x4611, 0x5200, 0xC52F, 0x0400, 0x7FC0, 0, 0x7FC0, 0,
             0x7FC0, 0, 0x7FC0, 0, 0x7FC0, 0, 0x7FC0, 0,
             0x7FC0, 0, 0x7FC0, 0, 0x7FC0, 0, 0x7FC0, 0,
             0x7FC0, 0, 0x7FC0, 0, 0x449A, 0x5000, 0x7FC0, 0,
             0x7FC0, 0, 0x7FC0, 0, 0x493A, 0xDF80),
        ),
        measured=Measured(voltage_v=(230.5, 231.25, 229.75), current_a=(41.5, 40.25, -12.5), power_w=(9500.25, 9300.5, -2800.25),
                          total_power_w=16000.5, frequency_hz=49.984375, import_wh=765432.0, export_wh=1234.5),
    ),
}
# fmt: on
