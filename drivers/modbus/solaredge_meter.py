"""SolarEdge meter behind the inverter (Modbus TCP, port 1502, unit 1): a SunSpec meter that counts export as positive.

Source: evcc solaredge-inverter.yaml (powers turned round); SunSpec models 201 to 204. The inverter takes one client only.
"""

from __future__ import annotations

from drivers.modbus import sunspec_meter
from drivers.modbus.registers import Example, Measured
from drivers.modbus.sunspec import exporting

KIND = "solaredge-meter"
TITLE = "SolarEdge meter behind the inverter (port 1502)"
MAKER = "SolarEdge"

MODELS = {model: exporting(meter) for model, meter in sunspec_meter.MODELS.items() if model < 210}
CHARGES = sunspec_meter.CHARGES
EXAMPLES = {
    203: Example(
        raw=sunspec_meter.EXAMPLES[203].raw,
        measured=Measured(
            voltage_v=(230.1, 229.9, 231.2),
            current_a=(-41.0, 40.0, -39.0),
            power_w=(-9320.0, 9150.0, -12330.0),
            total_power_w=-12500.0,
            frequency_hz=50.01,
            import_wh=987654.0,
            export_wh=4321.0,
        ),
    )
}
