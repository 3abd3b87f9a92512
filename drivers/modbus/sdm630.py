"""Eastron SDM630 (V1, V2, MCT; RS-485 and TCP): three-phase DIN-rail meter.

Source: Eastron "SDM630 Modbus Protocol" (input registers 30001 and up, IEEE-754, high word first; its own example
answers 0x4366 0x3334 for 230.2 V), compared with mbmd sdm.go, evcc eastron-sdm72v2_630.yaml, openWB sdm.py and
Tinkerforge eastron.py. Positive power flows from the grid to the load. The RS-485 meter answers up to 80 registers,
the TCP variants 50; registers between the two blocks are not needed. Currents are magnitudes.

Not in this map: energy per phase (import 346, 348, 350; export 352, 354, 356), power factor (30..34, total 62),
serial number (function code 3, 0xFC00, u32).
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

KIND = "sdm630"
TITLE = "Eastron SDM630 (V1, V2, MCT, TCP), SDM72D-M v2"

f32 = partial(Register, type=Type.F32)

MAP = MeterMap(
    blocks=(Block(READ_INPUT, 0, 18), Block(READ_INPUT, 52, 24)),
    max_registers=50,
    probe=(Bound(f32(0, unit=Unit.V), 80, 300), Bound(f32(70, unit=Unit.HZ), 45, 65)),
    voltage=(f32(0, unit=Unit.V), f32(2, unit=Unit.V), f32(4, unit=Unit.V)),
    current=(f32(6, unit=Unit.A), f32(8, unit=Unit.A), f32(10, unit=Unit.A)),
    current_is_magnitude=True,
    power=(f32(12, unit=Unit.W), f32(14, unit=Unit.W), f32(16, unit=Unit.W)),
    total_power=f32(52, unit=Unit.W),
    frequency=f32(70, unit=Unit.HZ),
    import_energy=f32(72, unit=Unit.KWH),
    export_energy=f32(74, unit=Unit.KWH),
)

# fmt: off
EXAMPLE = Example(
    raw=(
        (0x4366, 0x3334, 0x4367, 0x8000, 0x4365, 0xC000,   # 230.2 V (as in the manual), 231.5 V, 229.75 V
         0x4181, 0x0000, 0x4108, 0x0000, 0x4088, 0x0000,   # 16.125 A, 8.5 A, 4.25 A (no sign: feeding back on L3)
         0x4568, 0x0000, 0x44F5, 0xF800, 0xC474, 0x2000),  # 3712 W, 1967.75 W, -976.5 W
        (0x4592, 0xFA00, *(0,) * 16,                       # 4703.25 W
         0x4247, 0xEB85, 0x4640, 0xE6B6, 0x3FC0, 0x0000),  # 49.98 Hz, 12345.678 kWh in, 1.5 kWh out
    ),
    measured=Measured(
        voltage_v=(230.2, 231.5, 229.75),
        current_a=(16.125, 8.5, -4.25),
        power_w=(3712.0, 1967.75, -976.5),
        total_power_w=4703.25,
        frequency_hz=49.98,
        import_wh=12_345_678.0,
        export_wh=1500.0,
    ),
)
# fmt: on
