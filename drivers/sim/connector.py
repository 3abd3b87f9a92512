"""One connector of a simulated OCPP 1.6 charger: its state, its transaction and what it measures.

Owns what the charger knows about one EVSE. Sends nothing; `charger` does the talking.
Source: OCPP 1.6 sections 4.9 (status), 7.33 (measurands).
"""

from __future__ import annotations

from collections.abc import Iterator

from drivers.sim.evse import SimEvse
from drivers.sim.merge import Hardware
from drivers.sim.outbox import Json, Transaction
from drivers.sim.quirks import Quirks


class Connector:
    """`token` is authorised and waits for a cable until `token_until_s`; `finished`: a transaction ended and the
    cable is still in; `reported`: the status the central system last heard; `meter_due_s`: next sample."""

    def __init__(self, number: int, evse: SimEvse, quirks: Quirks) -> None:
        self.number = number
        self.evse = evse
        self.hardware = Hardware(evse.max_a, len(evse.phases), evse.voltage_v)
        self.transaction: Transaction | None = None
        self.token: str | None = None
        self.token_until_s = 0.0
        self.finished = False
        self.reported: tuple[str, str] | None = None
        self.meter_due_s = 0.0
        self._quirks = quirks
        self._register_zero_wh = 0.0
        self._spike_until_s = 0.0
        self._apply_at_s: float | None = None

    def forget(self) -> None:
        """Power gone: what was only in memory is lost and the contactor opens."""
        self.evse.energised = False
        self.evse.limit_a = self.evse.max_a
        self.transaction = self.token = self.reported = self._apply_at_s = None
        self.finished = False
        self._spike_until_s = 0.0

    def free(self) -> bool:
        return self.transaction is None and self.evse.fault is None

    def status(self, operative: bool) -> tuple[str, str]:
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
        return ("Available" if self.token is None else "Preparing"), "NoError"

    def offer(self, limit_a: float, now_s: float) -> None:
        """Follows the merged limit, as fast and as faithfully as the quirks let it."""
        evse = self.evse
        if self._quirks.ignores_limits or now_s < self._spike_until_s:
            limit_a = evse.max_a
        elif self._quirks.reaction_s and limit_a != evse.limit_a:
            if self._apply_at_s is None:
                self._apply_at_s = now_s + self._quirks.reaction_s
            if now_s < self._apply_at_s:
                return
        self._apply_at_s = None
        evse.limit_a = limit_a

    def profile_written(self, now_s: float) -> None:
        if self.transaction is not None:
            self._spike_until_s = now_s + self._quirks.spike_after_write_s

    def register_wh(self) -> int:
        """The energy register as this charger shows it, whole Wh."""
        return int(self.evse.register_wh - self._register_zero_wh)

    def zero_register(self) -> None:
        self._register_zero_wh = self.evse.register_wh

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
        for number, amps in enumerate(evse.conductor_a, start=1):
            yield "Current.Import", f"{amps:.2f}", "A", {"phase": f"L{number}", "location": "Outlet"}
        for number in range(1, len(evse.phases) + 1):
            yield "Voltage", f"{evse.voltage_v:.1f}", "V", {"phase": f"L{number}-N", "location": "Outlet"}
        yield "Current.Offered", f"{evse.offered_a:.1f}", "A", {}
        if evse.vehicle is not None:
            yield "SoC", f"{evse.vehicle.soc * 100.0:.0f}", "Percent", {"location": "EV"}
