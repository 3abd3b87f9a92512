"""A DC output: three phases in, one pair of poles out.

Owns what a rectifier does to the figures: the supply carries `current_a` on three phases alike, the vehicle gets
`power_w` after losses, at the volts of its battery. A limit in amps says nothing here: such a station wants watts.
"""

from __future__ import annotations

from drivers.sim.evse import SimEvse
from drivers.sim.vehicle import Vehicle

BATTERY_V = 400.0


class DcEvse(SimEvse):
    """`max_w`: at the output. Vehicles are still told amps per phase of the supply."""

    def __init__(
        self, id: str, max_w: float, voltage_v: float = 230.0, circuit: str = "site", efficiency: float = 0.95
    ) -> None:
        output_v = voltage_v * efficiency
        super().__init__(id, max_w / (3 * output_v), min_a=1.0, voltage_v=voltage_v, circuit=circuit)
        self.output_v = output_v

    @property
    def battery_a(self) -> float:
        return self.power_w / BATTERY_V

    def _used(self, vehicle: Vehicle) -> int:
        return 3
