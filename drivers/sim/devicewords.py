"""What a simulated charger says to its host: the bodies of heartbeats, telemetry, events, records and statuses.

Owns the published fields and nothing but them (G-17, G-19: strict in what is sent). No state, no I/O.
Readings: powers are signed, negative while discharging (G-14); current and phase currents are magnitudes, the highest
phase and phase to neutral on AC (G-16); `preparing` and `unavailable` are read as idle because the upload has no word
for them (G-17); a fault is "F-nnnn" in events and a number in heartbeats (G-18).
Source: Open Platform REFERENCE section 13 and openapi.yaml.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from drivers.sim.cloudconnector import Connector
from drivers.sim.cloudwords import stamp
from drivers.sim.quirks import DeviceQuirks

UNLISTED_FAULT = 9999  # no entry of the dictionary
_F_CODE = re.compile(r"F-([0-9]{4})")
_PHASES = ("phase_a", "phase_b", "phase_c")
_SENT_STATES = ("charging", "discharging", "fault")

Json = dict[str, Any]


def heartbeat(connectors: Sequence[Connector], at: datetime) -> Json:
    fault = next((c.evse.fault for c in connectors if c.evse.fault is not None), None)
    status = "online" if fault is None else "fault"
    return {
        "timestamp": stamp(at),
        "status": status,
        "fault_code": 0 if fault is None else fault_number(fault),
    }


def telemetry(connector: Connector, at: datetime, quirks: DeviceQuirks) -> Json:
    values, evse = connector.telemetry(), connector.evse
    status = values.pop("status")
    body = {"timestamp": stamp(at), "state": status if status in _SENT_STATES else "idle", **values}
    if len(evse.phases) > 1 and not quirks.no_phases:
        amps = evse.conductor_a if evse.energised else (0.0,) * len(evse.phases)
        body["phase_details"] = {
            name: {"voltage": evse.voltage_v, "current": round(abs(current), 2)}
            for name, current in zip(_PHASES, amps, strict=False)
        }
    return body


def event(kind: str, number: int, at: datetime, data: Mapping[str, Any]) -> Json:
    return {"timestamp": stamp(at), "event_type": kind, "connector_id": number, "data": dict(data)}


def fault_data(fault: str, quirks: DeviceQuirks) -> Json:
    number = fault_number(fault)
    code: int | str = number if quirks.number_faults else f"F-{number:04}"
    return {"fault_code": code, "fault_message": fault, "details": {}}


def record(fields: Mapping[str, Any], quirks: DeviceQuirks) -> Json:
    """Without the charger's own id: the token says who it is."""
    left_out = {"device_id"} if quirks.stop_reasons else {"device_id", "stop_reason"}
    return {name: value for name, value in fields.items() if name not in left_out}


def status(command_id: str, word: str, at: datetime, details: Mapping[str, Any] | None) -> Json:
    body: Json = {"command_id": command_id, "status": word, "timestamp": stamp(at)}
    if not details:
        return body
    return body | {"message": str(details.get("reason", "")), "details": dict(details)}


def upgrade(version: str, status: str, percent: int | None, message: str) -> Json:
    body: Json = {"firmware_version": version, "status": status}
    if percent is not None:
        body["progress"] = percent
    return body | ({"message": message} if message else {})


def fault_number(fault: str) -> int:
    """421 for "F-0421"; a fault of the physics that the dictionary does not know has one number for all."""
    match = _F_CODE.fullmatch(fault)
    return UNLISTED_FAULT if match is None else int(match[1])
