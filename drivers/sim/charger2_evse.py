"""One EVSE of a simulated OCPP 2.x station: permit, transaction, charging state, measured values.

Owns what the station knows about one EVSE with its one connector. Sends nothing and decides nothing; `charger2`
does. Source: OCPP 2.0.1 part 2 E (transactions), J (meter values), StatusNotification, ChargingStateEnumType.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from uuid import uuid4

from drivers.sim.dc import BATTERY_V, DcEvse
from drivers.sim.evse import DRAWING_A, SimEvse
from drivers.sim.outbox import Json
from drivers.sim.outlet import Outlet
from drivers.sim.quirks import Quirks
from drivers.sim.v2g import V2gEvse

CONNECTOR = 1  # each EVSE has exactly one


@dataclass(slots=True)
class Permit:
    """Somebody may charge. `token` is OCPP's own object. The cable has to come before `until_s`."""

    token: Json
    group: str | None
    until_s: float
    remote_id: int | None = None


@dataclass(slots=True)
class Transaction:
    """`seq` is the next number, `told_...` what the central system was told last. `priority`: PriorityCharging."""

    started: datetime
    id: str = field(default_factory=lambda: str(uuid4()))
    seq: int = 0
    told_state: str = ""
    told_permit: Permit | None = None
    told_plugged: bool = False
    told_offer_a: float = 0.0
    token: Json | None = None
    group: str | None = None
    remote_id: int | None = None
    sample_due_s: float = 0.0
    priority: bool = False


@dataclass(slots=True)
class EventRecord:
    """A TransactionEvent that must be answered."""

    payload: Json
    transaction: Transaction
    action: str = "TransactionEvent"
    attempts: int = 0
    due_s: float = 0.0

    def ready_payload(self) -> Json:
        return self.payload


class Evse(Outlet):
    """`finished`: a transaction ended and the cable is still in; `reported`: the status told last."""

    def __init__(self, number: int, evse: SimEvse, quirks: Quirks, tells_soc: bool) -> None:
        super().__init__(number, evse, quirks)
        self.permit: Permit | None = None
        self.transaction: Transaction | None = None
        self.finished = False
        self.reported: str | None = None
        self.told_fault: str | None = None
        self.shown_cost: float | None = None
        self._tells_soc = tells_soc

    @property
    def plugged(self) -> bool:
        return self.evse.vehicle is not None

    @property
    def flowing(self) -> bool:
        """In either direction."""
        return abs(self.evse.power_w) > DRAWING_A * self.evse.voltage_v

    def forget(self) -> None:
        super().forget()
        self.permit = self.transaction = self.reported = None
        self.finished = False

    def facts(self) -> set[str]:
        """Which of OCPP's transaction points (TxStartStopPointEnumType) hold now."""
        holds = {
            "EVConnected": self.plugged,
            "Authorized": self.permit is not None,
            "PowerPathClosed": self.plugged and self.permit is not None,
            "EnergyTransfer": self.flowing,
        }
        return {point for point, true in holds.items() if true}

    def status(self, operative: bool, reserved: bool) -> str:
        """ConnectorStatusEnumType."""
        if self.evse.fault is not None:
            return "Faulted"
        if self.plugged or self.transaction is not None:
            return "Occupied" if operative or self.transaction is not None else "Unavailable"
        if not operative:
            return "Unavailable"
        return "Reserved" if reserved else "Available"

    def charging_state(self) -> str:
        if not self.plugged:
            return "Idle"
        if not self.evse.energised:
            return "EVConnected"
        if self.flowing:
            return "Charging"
        discharges = isinstance(self.evse, V2gEvse) and self.evse.discharge_a > 0
        return "SuspendedEV" if self.evse.offered_a > 0 or discharges else "SuspendedEVSE"

    def sample(self, measurands: set[str], context: str) -> list[Json]:
        """The sampledValue list: only what is asked for; values are numbers."""
        found = []
        for measurand, value, unit, where in self._measured():
            if measurand in measurands:
                one: Json = {"value": value, "measurand": measurand, "context": context, **where}
                found.append({**one, "unitOfMeasure": {"unit": unit}})
        return found

    def _measured(self) -> Iterator[tuple[str, float, str, Json]]:
        evse, outlet = self.evse, {"location": "Outlet"}
        yield "Energy.Active.Import.Register", self.register_wh(), "Wh", outlet
        yield "Power.Active.Import", round(max(0.0, evse.power_w), 1), "W", outlet
        if isinstance(evse, DcEvse):
            yield "Current.Import", round(evse.battery_a, 2), "A", outlet
            yield "Voltage", BATTERY_V, "V", outlet
            yield from self._told()
            return
        for number, amps in enumerate(evse.conductor_a, start=1):
            yield "Current.Import", round(max(0.0, amps), 2), "A", {"phase": f"L{number}", **outlet}
        if isinstance(evse, V2gEvse):
            yield "Energy.Active.Export.Register", int(evse.export_wh), "Wh", outlet
            yield "Power.Active.Export", round(max(0.0, -evse.power_w), 1), "W", outlet
            for number, amps in enumerate(evse.conductor_a, start=1):
                yield "Current.Export", round(max(0.0, -amps), 2), "A", {"phase": f"L{number}", **outlet}
        for number in range(1, len(evse.phases) + 1):
            yield "Voltage", round(evse.voltage_v, 1), "V", {"phase": f"L{number}-N", **outlet}
        yield "Current.Offered", round(evse.offered_a, 1), "A", {}
        yield from self._told()

    def _told(self) -> Iterator[tuple[str, float, str, Json]]:
        evse = self.evse
        if evse.vehicle is not None and self._tells_soc:
            yield "SoC", round(evse.vehicle.soc * 100.0), "Percent", {"location": "EV"}
