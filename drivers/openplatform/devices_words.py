"""What a charger says to the on-site host and what the host hands to it, as values. Pure.

Owns the fields of the charger operations, read strictly: a missing field is 1002, an impossible value 1001, each named;
unknown fields and unknown words (a state, a kind of event) are not errors, because a charger may know more than we do.
A vehicle's identification number is never read. Must not keep state.
Source: Open Platform REFERENCE section 13, openapi.yaml DeviceRegisterRequest to FirmwareUpgradeStatus and
Command*Params, GAPS G-07, G-08, G-14 to G-19, G-29.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from controller.core.commands import SetLimit, StartCharging, StartDischarge, StopCharging, UpgradeFirmware
from controller.core.model import Evse, EvseState
from controller.core.readings import Readings
from controller.core.units import floor_to_step, load_ma, load_w, whole
from drivers.openplatform import answers
from drivers.openplatform.devices_desk import Order, StorePlan
from drivers.openplatform.limits import is_pause, kw, limit_w, start_power_w
from drivers.openplatform.words import STATES, stop_request

_STEP_W = 10

_KW, _KWH, _VOLTS, _AMPS = 2000.0, 1e9, 2000.0, 5000.0  # what no connector reaches
_CODE = re.compile(r"(?:F-?)?0*([1-9][0-9]{0,3})", re.ASCII | re.IGNORECASE)

Fields = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Introduction:
    serial: str
    model: str
    vendor: str
    firmware: str


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """`fault` None: healthy."""

    stamp: datetime
    status: str
    fault: str | None


@dataclass(frozen=True, slots=True)
class Telemetry:
    """Export is negative. `state` None: a word we do not know. `conductor_ma`: the phase block, None without one."""

    stamp: datetime
    number: int
    state: EvseState | None
    state_text: str
    voltage_v: float
    current_ma: int
    power_w: int
    energy_wh: int
    soc: int | None
    conductor_ma: tuple[int | None, int | None, int | None] | None


@dataclass(frozen=True, slots=True)
class DeviceEvent:
    """`code` and `text` of a fault or alarm; `whole`: it is the whole charger's. `reason` of a start or stop."""

    stamp: datetime
    kind: str
    number: int
    code: str = ""
    text: str = ""
    whole: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """`energy_wh` is a magnitude (G-14)."""

    id: str
    number: int
    started: datetime
    ended: datetime
    energy_wh: int
    register_start_wh: int
    register_end_wh: int
    reason: str | None


@dataclass(frozen=True, slots=True)
class CommandWord:
    command: str
    status: Literal["accepted", "rejected", "completed", "failed"]
    message: str


@dataclass(frozen=True, slots=True)
class UpgradeWord:
    version: str
    status: str
    progress_pct: int | None
    text: str


# --- reading (each raises ApiError 1001 or 1002) ----------------------------------------------------------------------


def read_introduction(body: Fields) -> Introduction:
    return Introduction(
        serial=_text(body, "sn"),
        model=_text(body, "model"),
        vendor=_text(body, "manufacturer"),
        firmware=_text(body, "firmware_version"),
    )


def read_credentials(body: Fields) -> tuple[str, str]:
    """Device id and secret."""
    device, secret = _text(body, "device_id"), _text(body, "device_secret")
    if _text(body, "grant_type") != "client_credentials":
        raise answers.invalid("grant_type", None, "client_credentials")
    return device, secret


def read_heartbeat(body: Fields, readings: Readings) -> Heartbeat:
    code = _whole(body, "fault_code", -(2**31), 2**31)
    fault = fault_name(code, readings) if code else None
    return Heartbeat(_stamp(body, "timestamp"), _text(body, "status"), fault)


def read_telemetry(body: Fields) -> Telemetry:
    text = _text(body, "state")
    power_w = load_w(_number(body, "power", _KW) * 1000)
    state = STATES.get(text)
    if state is EvseState.DISCHARGING:
        power_w = -abs(power_w)  # the sign of uploads is not published; the state is (G-14)
    answers.number(body, "temperature", -500, 5000)
    phases = body.get("phase_details")
    if phases is not None and not isinstance(phases, Mapping):
        raise answers.invalid("phase_details", phases, "an object")
    return Telemetry(
        stamp=_stamp(body, "timestamp"),
        number=_connector(body),
        state=state,
        state_text=text,
        voltage_v=_number(body, "voltage", _VOLTS),
        current_ma=load_ma(_number(body, "current", _AMPS)),
        power_w=power_w,
        energy_wh=whole(abs(_number(body, "energy_delivered", _KWH)) * 1000),
        soc=answers.integer(body, "soc", 0, 100),
        conductor_ma=_conductors(phases, exports=power_w < 0) if phases else None,
    )


def read_event(body: Fields, readings: Readings) -> DeviceEvent:
    data = body.get("data")
    if data is None:
        raise answers.missing("data")
    if not isinstance(data, Mapping):
        raise answers.invalid("data", data, "an object")
    kind = _text(body, "event_type")
    details = data.get("details")
    return DeviceEvent(
        stamp=_stamp(body, "timestamp"),
        kind=kind,
        number=_connector(body),
        code=fault_name(data.get("fault_code"), readings) if kind in ("fault", "alarm") else "",
        text=_words(data.get("fault_message")) or _words(data.get("message")),
        whole=isinstance(details, Mapping) and details.get("scope") == "charger",
        reason=_words(data.get("reason")),
    )


def read_record(body: Fields) -> SessionRecord:
    started, ended = _stamp(body, "start_time"), _stamp(body, "end_time")
    if ended < started:
        raise answers.invalid("end_time", None, "not before start_time")
    for field in ("max_power", "avg_power"):
        _number(body, field, 1e6)
    return SessionRecord(
        id=_text(body, "record_id"),
        number=_connector(body),
        started=started,
        ended=ended,
        energy_wh=whole(abs(_number(body, "energy", _KWH)) * 1000),
        register_start_wh=whole(_number(body, "meter_start", _KWH) * 1000),
        register_end_wh=whole(_number(body, "meter_end", _KWH) * 1000),
        reason=_words(body.get("stop_reason")) or None,
    )


def read_command_word(body: Fields) -> CommandWord:
    _stamp(body, "timestamp")
    status = _text(body, "status")
    message = _words(body.get("message"))
    match status:
        case "accepted" | "rejected" | "completed" | "failed":
            return CommandWord(_text(body, "command_id"), status, message)
    raise answers.invalid("status", status, "one of accepted, rejected, completed, failed")


def read_upgrade_word(body: Fields) -> UpgradeWord:
    version, status = _text(body, "firmware_version"), _text(body, "status")
    if status not in ("downloading", "upgrading", "success", "failed"):
        raise answers.invalid("status", status, "one of downloading, upgrading, success, failed")
    progress = answers.integer(body, "progress", 0, 100)
    return UpgradeWord(version, status, progress, _words(body.get("message")))


def fault_name(code: Any, readings: Readings) -> str:
    """A code as the dictionary writes it, "F-0421", as a rule a bare number too; anything else as it came (G-18)."""
    shown = str(code) if isinstance(code, int) and not isinstance(code, bool) else _words(code)
    match = _CODE.fullmatch(shown) if readings.bare_number_is_code or not shown.isdigit() else None
    return f"F-{int(match[1]):04d}" if match else shown or "unknown"


# --- writing ----------------------------------------------------------------------------------------------------------


def command_body(
    command: Order, evse: Evse, number: int, waited_s: float, transaction_id: str, readings: Readings
) -> tuple[str, dict[str, Any]]:
    """The type and the params of a command that was decided `waited_s` ago. The connector is always named (G-07).

    Raises ValueError when its lease was over before it could be handed out."""
    params: dict[str, Any] = {"connector_id": number}
    match command:
        case SetLimit():
            left_s = int(command.lease_s - waited_s)
            if left_s < 1:
                raise ValueError("the lease was over before the limit could be handed out")
            pause = is_pause(command.limit_ma, evse, readings)
            if pause and readings.pause_command == "pause_charging":
                return "pause_charging", params | {"duration": left_s}
            limit_kw = 0.0 if pause else kw(limit_w(command.limit_ma, evse, readings))
            return "set_power_limit", params | {"power_limit": limit_kw, "duration": left_s}
        case StartCharging():
            power_kw = kw(start_power_w(command.limit_ma, evse, readings))
            return "start_charging", params | {"charge_power": power_kw, "transaction_id": transaction_id}
        case StopCharging():
            return "stop_charging", params | stop_request(command.reason)
        case StartDischarge():
            return "discharge", params | {
                "discharge_power": kw(max(_STEP_W, floor_to_step(command.power_w, _STEP_W))),
                "duration": max(1, int(min(command.duration_s, readings.discharge_alone_s))),
                "min_soc": min(100, max(readings.discharge_floor_soc, command.min_soc)),
            }
        case StorePlan():
            return "set_schedule", params | dict(command.body)
        case UpgradeFirmware():  # the whole charger's, so no connector is named
            image = {} if command.url is None else {"url": command.url}
            named = readings.upgrade_names_version or not image
            return "firmware_upgrade", ({"firmware_version": command.version} if named else {}) | image


# --- pieces -----------------------------------------------------------------------------------------------------------


def _text(body: Fields, name: str) -> str:
    value = answers.text(body, name)
    if value is None:
        raise answers.missing(name)
    return value


def _stamp(body: Fields, name: str) -> datetime:
    value = answers.instant(body, name)
    if value is None:
        raise answers.missing(name)
    return value


def _number(body: Fields, name: str, most: float) -> float:
    value = answers.number(body, name, -most, most)
    if value is None:
        raise answers.missing(name)
    return value


def _whole(body: Fields, name: str, low: int, high: int) -> int:
    value = answers.integer(body, name, low, high)
    if value is None:
        raise answers.missing(name)
    return value


def _connector(body: Fields) -> int:
    return _whole(body, "connector_id", 1, 999)


def _conductors(phases: Fields, exports: bool) -> tuple[int | None, int | None, int | None]:
    def one(name: str) -> int | None:
        detail = phases.get(name)
        if detail is None:
            return None
        if not isinstance(detail, Mapping):
            raise answers.invalid(f"phase_details.{name}", detail, "an object")
        _number(detail, "voltage", _VOLTS)
        current_ma = load_ma(_number(detail, "current", _AMPS))
        return -abs(current_ma) if exports else current_ma

    return one("phase_a"), one("phase_b"), one("phase_c")


def _words(value: Any) -> str:
    """Text for people: printable and short; anything else is none."""
    if not isinstance(value, str):
        return ""
    return "".join(char for char in value[:200] if char.isprintable()).strip()
