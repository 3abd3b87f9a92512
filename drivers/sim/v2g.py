"""A charging point that can also take energy out of the vehicle.

Owns the reversed flow and the export register; everything else is `SimEvse`. The import register never runs
backwards, export has its own (G-14). Physics only: whoever drives the protocol sets `discharge_a`.
"""

from __future__ import annotations

from drivers.sim.evse import SimEvse


class V2gEvse(SimEvse):
    """`discharge_a`: amps per phase taken from the vehicle while energised; 0 = an ordinary EVSE."""

    discharge_a: float = 0.0
    export_wh: float = 0.0

    def step(self, dt_s: float, now_s: float) -> None:
        vehicle = self.vehicle
        gone = vehicle is not None and vehicle.leaves_s is not None and now_s >= vehicle.leaves_s
        if vehicle is None or gone or not self.discharge_a or not self.energised or self.fault is not None:
            super().step(dt_s, now_s)
            return
        vehicle.cut()
        amps = min(self.discharge_a, self.max_a, vehicle.max_a)
        self._flow(-amps, min(vehicle.phases, len(self.phases)))
        energy_wh = -self.power_w * dt_s / 3600.0
        self.export_wh += energy_wh
        vehicle.soc = max(0.0, vehicle.soc - energy_wh / vehicle.efficiency / vehicle.battery_wh)
