"""The platform's words and ours, both ways. Pure.

Owns what an answer, a charger, a telemetry frame and a command's progress mean, and the bodies of the control calls.
Tolerant in what it reads: an unknown field, an unknown state or a missing value never fails, it is None; a number that
cannot be (NaN, a state of charge of 300) is None too. Must not do I/O, keep state, or put anything into a body that
the platform does not need: no tokens, no names, no reasons in free text.
Source: Open Platform REFERENCE sections 4 to 12, openapi.yaml, GAPS G-06, G-14 to G-18, G-23, G-29.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from controller.core.model import EvseState
from controller.core.units import load_ma, load_w, whole
from drivers.openplatform.fields import as_instant, as_number, as_percent, as_text

_FIRMWARE = re.compile(r"([0-9]{6})\.([0-9]{4})", re.ASCII)
_MAX_KW = 2000.0  # no connector reaches this; a bigger number is a broken one
_MAX_KWH = 10_000.0
_STOP_REASONS = ("user_request", "time_limit", "fault")

STATES = {
    "idle": EvseState.AVAILABLE,
    "preparing": EvseState.PREPARING,
    "charging": EvseState.CHARGING,
    "discharging": EvseState.DISCHARGING,
    "fault": EvseState.FAULTED,
    "unavailable": EvseState.UNAVAILABLE,
}

Progress = Literal["queued", "accepted", "completed", "failed"]


@dataclass(frozen=True, slots=True)
class Envelope:
    """`code` 0 is success. None: there was no readable code, only the HTTP status speaks."""

    code: int | None
    message: str
    data: Any
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Token:
    value: str
    expires_s: float


@dataclass(frozen=True, slots=True)
class ConnectorReading:
    """What one connector showed. Export is negative; `energy_wh` is of the running session."""

    number: int
    state: EvseState | None
    state_text: str
    power_w: int | None = None
    voltage_v: float | None = None
    current_ma: int | None = None
    energy_wh: int | None = None
    soc: int | None = None
    fault: str | None = None
    taken: datetime | None = None


@dataclass(frozen=True, slots=True)
class DeviceReading:
    device_id: str
    serial: str
    model: str
    vendor: str
    firmware: str | None
    online: bool
    connectors: tuple[ConnectorReading, ...]

    @property
    def uploaded(self) -> datetime | None:
        """When the charger itself was last heard, as far as its connectors show."""
        return max((item.taken for item in self.connectors if item.taken is not None), default=None)


@dataclass(frozen=True, slots=True)
class Frame:
    """One message of the stream: one charger, all connectors it chose to mention."""

    device_id: str
    taken: datetime | None
    connectors: tuple[ConnectorReading, ...]


@dataclass(frozen=True, slots=True)
class CommandStatus:
    progress: Progress | None  # None: a word we do not know
    reason: str


# --- reading ----------------------------------------------------------------------------------------------------


def read_json(body: bytes | str) -> Any:
    """The document, or ValueError for anything that is none (HTML, half an answer, nesting without end)."""
    try:
        return json.loads(body)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_envelope(document: Any) -> Envelope:
    """Raises ValueError when this is no envelope at all."""
    if not isinstance(document, Mapping):
        raise ValueError("no envelope")
    code = document.get("code")
    if isinstance(code, str) and code.isascii() and code.isdigit() and len(code) <= 6:
        code = int(code)
    details = document.get("details")
    wait_s = as_number(details.get("retry_after_seconds")) if isinstance(details, Mapping) else None
    return Envelope(
        code=code if isinstance(code, int) and not isinstance(code, bool) else None,
        message=as_text(document.get("message")) or "",
        data=document.get("data"),
        retry_after_s=wait_s if wait_s is not None and wait_s >= 0 else None,
    )


def read_token(document: Any) -> Token:
    """The token, bare or wrapped (G-06). Raises ValueError."""
    if isinstance(document, Mapping) and "access_token" not in document:
        document = document.get("data")
    if not isinstance(document, Mapping):
        raise ValueError("no access_token")
    value = document.get("access_token")
    if (
        not isinstance(value, str)
        or not value
        or not value.isprintable()
        or not value.isascii()
        or " " in value
    ):
        raise ValueError("no usable access_token")
    expires_s = as_number(document.get("expires_in"))
    # without a lifetime assume an hour: too short costs one request, too long costs a refused command
    return Token(value, expires_s if expires_s is not None and expires_s > 0 else 3600.0)


def read_device(data: Any) -> DeviceReading:
    """One charger. Raises ValueError when the answer is no charger."""
    if not isinstance(data, Mapping):
        raise ValueError("no charger in the answer")
    return DeviceReading(
        device_id=as_text(data.get("device_id")) or "",
        serial=as_text(data.get("sn")) or "",
        model=as_text(data.get("model")) or "",
        vendor=as_text(data.get("manufacturer")) or "",
        firmware=as_text(data.get("firmware_version")),
        online=data.get("status") != "offline",
        connectors=_connectors(data.get("connectors"), "status"),
    )


def read_frame(document: Any) -> Frame | None:
    """One stream message; None when it names no charger."""
    if not isinstance(document, Mapping) or not isinstance(document.get("device_id"), str):
        return None
    return Frame(
        device_id=document["device_id"],
        taken=as_instant(document.get("timestamp")),
        connectors=_connectors(document.get("connectors"), "state"),
    )


def read_command(data: Any) -> tuple[str | None, CommandStatus]:
    """The id and the progress of a command, from a control answer or from a status query; both may be missing."""
    if not isinstance(data, Mapping):
        return None, CommandStatus(None, "")
    progress: Progress | None
    match data.get("status"):
        case "queued" | "executing":
            progress = "queued"
        case "accepted":
            progress = "accepted"
        case "completed":
            progress = "completed"
        case "failed" | "rejected":
            progress = "failed"
        case _:
            progress = None
    command_id = data.get("command_id")
    result = data.get("result")
    known = [result.get(key) for key in ("reason", "message")] if isinstance(result, Mapping) else [result]
    reason = next((text for text in map(as_text, known) if text), "")
    return (command_id if isinstance(command_id, str) and command_id else None), CommandStatus(
        progress, reason
    )


def firmware_passes(firmware: str | None, gate: str) -> bool:
    """Whether this build is proven to hold a second backend (G-23): NNNNNN.NNNN compares as two numbers, anything
    else, a dotted triple above all, is no proof."""
    wanted = _FIRMWARE.fullmatch(gate)
    found = _FIRMWARE.fullmatch(firmware or "")
    if wanted is None or found is None:
        return False
    return (int(found[1]), int(found[2])) >= (int(wanted[1]), int(wanted[2]))


# --- writing ----------------------------------------------------------------------------------------------------


def token_request(client_id: str, client_secret: str) -> dict[str, Any]:
    return {"client_id": client_id, "client_secret": client_secret, "grant_type": "client_credentials"}


def start_request(charge_kw: float, transaction_id: str) -> dict[str, Any]:
    return {"charge_power": charge_kw, "transaction_id": transaction_id}


def stop_request(reason: str) -> dict[str, Any]:
    """Only the platform's own words leave the site: our reasons may hold names."""
    return {"reason": reason if reason in _STOP_REASONS else "user_request"}


def discharge_request(discharge_kw: float, duration_s: float, min_soc: int) -> dict[str, Any]:
    return {"discharge_power": discharge_kw, "duration": int(duration_s), "min_soc": min_soc}


def flexibility_request(
    site_ids: Sequence[str] | None, percent: int | None, duration_s: float, reason: str = "site limit"
) -> dict[str, Any]:
    """`site_ids` None means everything in reach; `percent` None pauses, which also ends discharging."""
    params: dict[str, Any] = {"duration": math.ceil(duration_s), "reason": reason}
    if percent is not None:
        params = {"power_limit_percent": percent} | params
    target = (
        {"target_type": "all"} if site_ids is None else {"target_type": "site", "target_ids": list(site_ids)}
    )
    return target | {
        "command": "pause_charging" if percent is None else "set_power_limit",
        "params": params,
    }


# --- pieces -----------------------------------------------------------------------------------------------------


def _connectors(items: Any, state_field: str) -> tuple[ConnectorReading, ...]:
    if not isinstance(items, Sequence) or isinstance(items, str | bytes):
        return ()
    read = (_connector(item, state_field) for item in items if isinstance(item, Mapping))
    return tuple(connector for connector in read if connector is not None)


def _connector(item: Mapping[str, Any], state_field: str) -> ConnectorReading | None:
    number = item.get("connector_id")
    if isinstance(number, bool) or not isinstance(number, int):
        return None
    text = as_text(item.get(state_field)) or as_text(item.get("state")) or as_text(item.get("status")) or ""
    state = STATES.get(text)
    power_kw = as_number(item.get("power"), _MAX_KW)
    current_a = as_number(item.get("current"), _MAX_KW)
    energy_kwh = as_number(item.get("energy_delivered"), _MAX_KWH)
    return ConnectorReading(
        number=number,
        state=state,
        state_text=text,
        power_w=None if power_kw is None else load_w(power_kw * 1000),
        voltage_v=as_number(item.get("voltage")),
        current_ma=None if current_a is None else load_ma(current_a),
        energy_wh=None if energy_kwh is None else whole(abs(energy_kwh) * 1000),  # G-14: the magnitude counts
        soc=as_percent(item.get("soc")),
        fault=_fault(item.get("fault_code")) if state is EvseState.FAULTED else None,
        taken=as_instant(item.get("last_telemetry_time")),
    )


def _fault(code: Any) -> str:
    """Number or text (G-18), as it came; the platform's operator side publishes no field for it."""
    return str(code) if isinstance(code, int) and not isinstance(code, bool) else as_text(code) or "fault"
