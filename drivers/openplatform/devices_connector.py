"""One connector of a charger as we believe it to be, what of that survives our restart, and what its currents are.

Values and pure functions only; what changes them and why stands in `devices_belief`.
Source: GAPS G-14, G-16, G-34.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from controller.core import watts
from controller.core.model import Evse, EvseState, PerPhase, each_phase
from controller.core.readings import Readings
from controller.core.units import load_ma
from drivers.openplatform.devices_words import DeviceEvent, Telemetry
from drivers.openplatform.limits import base_is_fallback

NEVER = float("-inf")


@dataclass(slots=True)
class Session:
    """A running one. `told`: by an event. `ours`: we started it, with the fallback as its base."""

    began: datetime
    told: bool
    ours: bool
    token: str | None
    transaction: str = ""
    energy_wh: int | None = None
    exports: bool = False
    recalled: bool = False  # from before our restart, not yet told


@dataclass(slots=True)
class Connector:
    evse: Evse
    number: int
    state: EvseState | None = None
    plugged: bool | None = None
    plug_at: datetime | None = None
    served: bool = False  # this plug-in had its session
    session: Session | None = None
    ended: datetime | None = None
    start_until: datetime | None = None  # a start of ours may still take effect until then
    token: str | None = None
    stop_reason: str | None = None
    paused: bool = False
    resuming_until_s: float = NEVER
    doubt_s: float | None = None
    newest: datetime | None = None
    told_fallback: bool | None = None
    seen: deque[DeviceEvent] = field(default_factory=lambda: deque(maxlen=32))


def unsafe_alone(connector: Connector, readings: Readings) -> str:
    """Why this connector left alone might be above its fallback; empty when it stays within."""
    session = connector.session
    if session is not None and not session.ours:
        return "this session was not started by us: its start power is unknown"
    if session is not None and session.exports and not readings.discharge_ends_idle:
        return "after a discharge it may begin to charge by itself"
    if session is None and not readings.idle_stays_idle:
        return "an idle connector may start by itself"
    if not base_is_fallback(connector.evse, readings):
        return "a fallback below the minimum current may be rounded up"
    return ""


def currents(evse: Evse, reading: Telemetry, readings: Readings) -> PerPhase[int | None]:
    """Per conductor as measured; else the larger of what the power says over the wired phases and the current where
    that is the AC side (G-16), on every conductor: which of them carries it was not said."""
    wired = len(evse.phases) if evse.rotation_known else 1
    if evse.dc is not None:  # volts and amps are the vehicle's
        return each_phase(watts.load_ma(evse.dc, reading.power_w))
    if reading.conductor_ma is not None:
        return PerPhase(
            *(ma if index < len(evse.phases) else None for index, ma in enumerate(reading.conductor_ma))
        )
    known = [load_ma(reading.power_w * 1000 / (readings.phase_voltage_mv * wired))]
    if 0 < reading.voltage_v * 1000 <= readings.highest_ac_voltage_mv:
        known.append(-abs(reading.current_ma) if reading.power_w < 0 else reading.current_ma)
    worst_ma = max(known, key=abs)
    return PerPhase(*(worst_ma if index < wired else None for index in range(3)))


def to_memory(connector: Connector) -> dict[str, Any]:
    """JSON values only."""
    memory: dict[str, Any] = {"plugged": connector.plugged, "served": connector.served}
    if connector.start_until is not None:
        memory |= {"start_until": connector.start_until.isoformat(), "token": connector.token}
    if connector.ended is not None:
        memory["ended"] = connector.ended.isoformat()
    session = connector.session
    if session is not None and session.transaction:
        memory["session"] = {
            "transaction": session.transaction,
            "began": session.began.isoformat(),
            "token": session.token,
            "ours": session.ours,
            "exports": session.exports,
        }
    return memory


def recall(connector: Connector, memory: Mapping[str, Any]) -> None:
    connector.plugged, connector.served = memory.get("plugged"), bool(memory.get("served"))
    if "start_until" in memory:
        connector.start_until, connector.token = _utc(memory["start_until"]), memory["token"]
    if "ended" in memory:
        connector.ended = _utc(memory["ended"])
    if "session" in memory:
        known = memory["session"]
        # an idle reading alone does not end it: its `stop` may still be on the way
        connector.session = Session(
            _utc(known["began"]), True, known["ours"], known["token"], known["transaction"]
        )
        connector.session.exports, connector.session.recalled = known["exports"], True


def _utc(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
