"""One connector of a simulated OCPP 1.6 charger: its state, its transaction and what it measures.

Owns what the charger knows about one EVSE. Sends nothing; `charger` does the talking.
Source: OCPP 1.6 sections 4.9 (status), 7.33 (measurands).
"""

from __future__ import annotations

from collections.abc import Iterator

from drivers.sim.dc import BATTERY_V, DcEvse
from drivers.sim.evse import SimEvse
from drivers.sim.outbox import Json, Transaction
from drivers.sim.outlet import Outlet
from drivers.sim.quirks import Quirks


class Connector(Outlet):
    """`token` is authorised and waits for a cable until `token_until_s`; `finished`: a transaction ended and the
    cable is still in; `reported`: the status the central system last heard; `meter_due_s`: next sample."""

    def __init__(self, number: int, evse: SimEvse, quirks: Quirks) -> None:
        super().__init__(number, evse, quirks)
        self.transaction: Transaction | None = None
        self.token: str | None = None
        self.token_until_s = 0.0
        self.finished = False
        self.reported: tuple[str, str] | None = None
        self.meter_due_s = 0.0

    def forget(self) -> None:
        super().forget()
        self.transaction = self.token = self.reported = None
        self.finished = False

    def free(self) -> bool:
        return self.transaction is None and self.evse.fault is None

    def status(self, operative: bool, reserved: bool = False) -> tuple[str, str]:
        """(status, errorCode) as OCPP 1.6 names them."""
        evse = self.evse
        if evse.fault is not None:
            return "Faulted", evse.fault
        if self.transaction is not None:
            if evse.drawing:
                return "Charging", "NoError"
            return ("SuspendedEV" if evse.offered_a > 0 else "SuspendedEVSE"), "NoError"
        if not operative:
            return "Unavailable", "NoError"
        if evse.vehicle is not None:
            return ("Finishing" if self.finished else "Preparing"), "NoError"
        if self.token is not None:
            return "Preparing", "NoError"
        return ("Reserved" if reserved else "Available"), "NoError"

    def profile_written(self, now_s: float) -> None:
        if self.transaction is not None:
            self.written_while_charging(now_s)

    def sample(self, measurands: set[str], context: str) -> list[Json]:
        """The sampledValue list: only what the configuration asks for, values as text."""
        return [
            {"value": value, "measurand": measurand, "unit": unit, "context": context, **where}
            for measurand, value, unit, where in self._measured()
            if measurand in measurands
        ]

    def _measured(self) -> Iterator[tuple[str, str, str, Json]]:
        evse = self.evse
        yield "Energy.Active.Import.Register", str(self.register_wh()), "Wh", {"location": "Outlet"}
        yield "Power.Active.Import", f"{evse.power_w:.0f}", "W", {"location": "Outlet"}
        if isinstance(evse, DcEvse):
            yield "Current.Import", f"{evse.battery_a:.2f}", "A", {"location": "Outlet"}
            yield "Voltage", f"{BATTERY_V:.1f}", "V", {"location": "Outlet"}
            yield from self._told()
            return
        for number, amps in enumerate(evse.conductor_a, start=1):
            yield "Current.Import", f"{amps:.2f}", "A", {"phase": f"L{number}", "location": "Outlet"}
        for number in range(1, len(evse.phases) + 1):
            yield "Voltage", f"{evse.voltage_v:.1f}", "V", {"phase": f"L{number}-N", "location": "Outlet"}
        yield "Current.Offered", f"{evse.offered_a:.1f}", "A", {}
        yield from self._told()

    def _told(self) -> Iterator[tuple[str, str, str, Json]]:
        evse = self.evse
        if evse.vehicle is not None:
            yield "SoC", f"{evse.vehicle.soc * 100.0:.0f}", "Percent", {"location": "EV"}
