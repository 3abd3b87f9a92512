"""One outlet of a simulated Open Platform charger: its session, its limit, its stored schedules.

Owns what becomes of one connector's orders and when a session is over; how it decides stands in the docstring of
`cloudcharger`. Sets the pilot and the contactor of a `SimEvse` and leaves its reports in the charger's `outbox`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from controller.core.model import Moment, Schedule, SlotAction
from drivers.sim.cloudschedule import StoredSchedule, is_empty, store
from drivers.sim.cloudwords import DISCHARGE_FLOOR_SOC, DischargeOrder, LimitOrder, StartOrder, stamp
from drivers.sim.evse import SimEvse
from drivers.sim.v2g import V2gEvse
from drivers.sim.vehicle import Vehicle

if TYPE_CHECKING:
    from drivers.sim.cloudcharger import CloudCharger

Result = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Progress:
    """Charger's word on a command: accepted, rejected, completed or failed."""

    command_id: str
    status: str
    result: Result | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """One finished session, in the platform's fields."""

    fields: Mapping[str, Any]


@dataclass(slots=True)
class Session:
    """Exactly one of a charging and a discharging session; `discharge_kw` tells which. `ends_s` is a `mono_s`."""

    command_id: str
    vehicle: Vehicle
    began: Moment
    meter_start_wh: int
    soc_start: int
    charge_kw: float | None = None
    discharge_kw: float | None = None
    ends_s: float | None = None
    target_soc: int | None = None
    min_soc: int = DISCHARGE_FLOOR_SOC
    max_power_w: float = 0.0


@dataclass(frozen=True, slots=True)
class Limit:
    command_id: str
    power_w: float
    ends_s: float


class Connector:
    """One outlet. `available` False takes it out of service."""

    def __init__(self, charger: CloudCharger, number: int, evse: SimEvse) -> None:
        self.charger = charger
        self.number = number
        self.evse = evse
        self.available = True
        self.session: Session | None = None
        self.limit: Limit | None = None
        self.schedules: dict[str, StoredSchedule] = {}  # non-volatile
        self._stopped_by_hand: Vehicle | None = None
        evse.watchers.append(self._look)

    @property
    def status(self) -> str:
        if self.evse.fault is not None:
            return "fault"
        if not self.available:
            return "unavailable"
        if self.session is not None:
            if self.session.discharge_kw is not None:
                return "discharging"
            return "charging" if self.evse.drawing else self.charger.paused_status
        return "idle" if self.evse.vehicle is None else "preparing"

    @property
    def meter_wh(self) -> int:
        """The register of the running session's direction."""
        if self.session is not None and self.session.discharge_kw is not None:
            return round(self.export_wh)
        return round(self.evse.register_wh)

    @property
    def export_wh(self) -> float:
        return self.evse.export_wh if isinstance(self.evse, V2gEvse) else 0.0

    @property
    def soc(self) -> int | None:
        return None if self.evse.vehicle is None else int(self.evse.vehicle.soc * 100)

    def telemetry(self) -> dict[str, Any]:
        """Device detail's fields. The meter says nothing flows as soon as the contactor is open."""
        energy_wh = 0 if self.session is None else self.meter_wh - self.session.meter_start_wh
        closed = self.evse.energised
        values: dict[str, Any] = {
            "connector_id": self.number,
            "status": self.status,
            "power": round(self.evse.power_w / 1e3, 3) if closed else 0.0,
            "voltage": self.evse.voltage_v,
            "current": round(max(map(abs, self.evse.conductor_a)), 2) if closed else 0.0,
            "energy_delivered": energy_wh / 1e3,
        }
        return values if self.soc is None else values | {"soc": self.soc}

    def why_not(self, what: object) -> str | None:
        """The reason for refusing this order now."""
        if isinstance(what, StartOrder):
            return "session_running" if self.session is not None else self._refusal()
        if not isinstance(what, DischargeOrder):
            return None
        vehicle = self.evse.vehicle
        refusal = "no_v2g_hardware" if not isinstance(self.evse, V2gEvse) else self._refusal()
        if refusal is not None or vehicle is None:
            return refusal
        if vehicle.soc * 100 <= max(what.min_soc, DISCHARGE_FLOOR_SOC):
            return "vehicle_refused_discharge"
        is_discharging = self.session is not None and self.session.discharge_kw is not None
        return "session_running" if is_discharging else None

    def start(self, order_id: str, order: StartOrder, now: Moment) -> None:
        """Begins to charge; nothing when `why_not` has a reason."""
        vehicle = self.evse.vehicle
        if vehicle is None or self.why_not(order) is not None:
            return
        self.session = self._session(order_id, vehicle, now, round(self.evse.register_wh), order.duration_s)
        self.session.charge_kw = order.charge_kw
        self.session.target_soc = order.target_soc

    def discharge(self, order_id: str, order: DischargeOrder, now: Moment) -> None:
        """Begins to discharge; nothing when `why_not` has a reason."""
        vehicle = self.evse.vehicle
        if vehicle is None or self.why_not(order) is not None:
            return
        self.end_session("discharge_ordered", now)
        self.session = self._session(order_id, vehicle, now, round(self.export_wh), order.duration_s)
        self.session.discharge_kw = order.discharge_kw
        self.session.min_soc = max(order.min_soc, DISCHARGE_FLOOR_SOC)

    def cap(self, order_id: str, order: LimitOrder, now: Moment) -> None:
        """Holds a limit for its duration; the newest replaces."""
        self.limit = Limit(order_id, order.limit_kw * 1e3, now.mono_s + order.duration_s)
        if order.limit_kw == 0 and self.session is not None and self.session.discharge_kw is not None:
            self.end_session("paused", now)

    def stop(self, reason: str, now: Moment) -> None:
        self._stopped_by_hand = self.evse.vehicle
        self.end_session(reason, now)

    def keep(self, plan: Schedule, at: datetime) -> None:
        """Stores a schedule that arrived `at` (UTC); the same id replaces, switched off with an empty validity deletes."""
        if not plan.enabled and is_empty(plan):
            self.schedules.pop(plan.id, None)
            return
        if plan.enabled:
            for other in self.schedules.values():
                self.schedules[other.plan.id] = replace(other, plan=replace(other.plan, enabled=False))
        self.schedules[plan.id] = store(plan, at)

    def base_kw(self, now: datetime) -> float | None:
        """What schedule, limit and start allow, None = nothing said (see the module's docstring)."""
        limit_kw = None if self.limit is None else self.limit.power_w / 1e3
        for stored in self.schedules.values():
            slot = stored.slot_at(now)
            if slot is None:
                continue
            target, soc = stored.plan.target_soc, self.soc
            if slot.action is not SlotAction.CHARGE or (
                target is not None and soc is not None and soc >= target
            ):
                return 0.0
            slot_kw = None if slot.power_limit_w is None else slot.power_limit_w / 1e3
            return min((kw for kw in (slot_kw, limit_kw) if kw is not None), default=None)
        if limit_kw is not None:
            return limit_kw
        return None if self.session is None else self.session.charge_kw

    def step(self, now: Moment, share_kw: float | None) -> None:
        """Ends what is over and sets the pilot. `share_kw`: what flexibility leaves to this connector."""
        if self.limit is not None and now.mono_s >= self.limit.ends_s:
            self.charger.outbox.append(Progress(self.limit.command_id, "completed", {"reason": "time_limit"}))
            self.limit = None
        if self.session is None and self.charger.schedule_starts:
            self._start_by_schedule(now)
        reason = self._over(now)
        if reason is not None:
            self.end_session(reason, now)
        session, evse = self.session, self.evse
        evse.energised = session is not None
        if isinstance(evse, V2gEvse):
            kw = None if session is None else session.discharge_kw
            evse.discharge_a = 0.0 if kw is None else self._amps(kw)
        limits = [kw for kw in (self.base_kw(now.utc), share_kw) if kw is not None]
        evse.limit_a = min([evse.max_a, *map(self._amps, limits)])
        if session is not None:
            session.max_power_w = max(session.max_power_w, abs(evse.power_w))

    def end_session(self, reason: str, now: Moment) -> None:
        """Opens the contactor, writes the record, finishes the command that began it; nothing without a session."""
        session = self.session
        if session is None:
            return
        self.evse.energised = False
        energy_kwh = (self.meter_wh - session.meter_start_wh) / 1e3
        hours = (now.mono_s - session.began.mono_s) / 3600.0
        self.charger.outbox.append(
            Record(
                {
                    "record_id": self.charger.next_record_id(),
                    "device_id": self.charger.device_id,
                    "connector_id": self.number,
                    "start_time": stamp(session.began.utc),
                    "end_time": stamp(now.utc),
                    "energy": energy_kwh,
                    "max_power": round(session.max_power_w / 1e3, 3),
                    "avg_power": round(energy_kwh / hours, 3) if hours > 0 else 0.0,
                    "meter_start": session.meter_start_wh / 1e3,
                    "meter_end": self.meter_wh / 1e3,
                    "vehicle_info": {
                        "soc_start": session.soc_start,
                        "soc_end": int(session.vehicle.soc * 100),
                    },
                    "stop_reason": reason,
                }
            )
        )
        status = "failed" if reason == "fault" else "completed"
        result = {"energy_delivered": energy_kwh, "reason": reason}
        self.charger.outbox.append(Progress(session.command_id, status, result))
        self.session = None

    def _session(
        self, order_id: str, vehicle: Vehicle, now: Moment, meter_wh: int, duration_s: int | None
    ) -> Session:
        ends_s = None if duration_s is None else now.mono_s + duration_s
        return Session(order_id, vehicle, now, meter_wh, int(vehicle.soc * 100), ends_s=ends_s)

    def _refusal(self) -> str | None:
        if self.evse.fault is not None:
            return "fault"
        if not self.available:
            return "unavailable"
        return "no_vehicle" if self.evse.vehicle is None else None

    def _over(self, now: Moment) -> str | None:
        session = self.session
        if session is None:
            return None
        if self.evse.vehicle is not session.vehicle:
            return "ev_disconnected"
        if self.evse.fault is not None:
            return "fault"
        if not self.available:
            return "unavailable"
        if session.ends_s is not None and now.mono_s >= session.ends_s:
            return "time_limit"
        percent = session.vehicle.soc * 100
        if session.discharge_kw is not None:
            if percent <= session.min_soc:
                return "soc_floor_reached"
            if any(action.pause for action in self.charger.flexibility.values()):
                return "flexibility"
            return "link_lost" if self.charger.lonely(now) else None
        return (
            "soc_target_reached" if session.target_soc is not None and percent >= session.target_soc else None
        )

    def _start_by_schedule(self, now: Moment) -> None:
        slots = (stored.slot_at(now.utc) for stored in self.schedules.values())
        wanted = any(slot is not None and slot.action is SlotAction.CHARGE for slot in slots)
        if wanted and self._stopped_by_hand is not self.evse.vehicle:
            self.start(f"schedule/{self.number}", StartOrder(), now)

    def _look(self) -> None:
        """Told by the EVSE at every change: the contactor opens with the plug, not a step later."""
        if self.session is not None and self.evse.vehicle is not self.session.vehicle:
            self.evse.energised = False
        if self.evse.vehicle is None:
            self._stopped_by_hand = None

    def _amps(self, kw: float) -> float:
        return min(self.evse.max_a, kw * 1e3 / (self.evse.voltage_v * len(self.evse.phases)))
