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
from datetime import UTC, datetime
from typing import Any, Literal

from controller.core.model import EvseState
from controller.core.units import load_ma, load_w, whole

_FIRMWARE = re.compile(r"([0-9]{6})\.([0-9]{4})", re.ASCII)
_MAX_KW = 2000.0  # no connector reaches this; a bigger number is a broken one
_MAX_KWH = 10_000.0
_STOP_REASONS = ("user_request", "time_limit", "fault")

_STATES = {
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
    wait_s = _number(details.get("retry_after_seconds")) if isinstance(details, Mapping) else None
    return Envelope(
        code=code if isinstance(code, int) and not isinstance(code, bool) else None,
        message=_text(document.get("message")) or "",
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
    expires_s = _number(document.get("expires_in"))
    # without a lifetime assume an hour: too short costs one request, too long costs a refused command
    return Token(value, expires_s if expires_s is not None and expires_s > 0 else 3600.0)


def read_device(data: Any) -> DeviceReading:
    """One charger. Raises ValueError when the answer is no charger."""
    if not isinstance(data, Mapping):
        raise ValueError("no charger in the answer")
    return DeviceReading(
        device_id=_text(data.get("device_id")) or "",
        serial=_text(data.get("sn")) or "",
        model=_text(data.get("model")) or "",
        vendor=_text(data.get("manufacturer")) or "",
        firmware=_text(data.get("firmware_version")),
        online=data.get("status") != "offline",
        connectors=_connectors(data.get("connectors"), "status"),
    )


def read_frame(document: Any) -> Frame | None:
    """One stream message; None when it names no charger."""
    if not isinstance(document, Mapping) or not isinstance(document.get("device_id"), str):
        return None
    return Frame(
        device_id=document["device_id"],
        taken=_instant(document.get("timestamp")),
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
    reason = next((text for text in map(_text, known) if text), "")
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


def flexibility_request(site_ids: Sequence[str], percent: int, duration_s: float) -> dict[str, Any]:
    return {
        "target_type": "site",
        "target_ids": list(site_ids),
        "command": "set_power_limit",
        "params": {"power_limit_percent": percent, "duration": math.ceil(duration_s), "reason": "site limit"},
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
    text = _text(item.get(state_field)) or _text(item.get("state")) or _text(item.get("status")) or ""
    state = _STATES.get(text)
    power_kw = _number(item.get("power"), _MAX_KW)
    current_a = _number(item.get("current"), _MAX_KW)
    energy_kwh = _number(item.get("energy_delivered"), _MAX_KWH)
    return ConnectorReading(
        number=number,
        state=state,
        state_text=text,
        power_w=None if power_kw is None else load_w(power_kw * 1000),
        voltage_v=_number(item.get("voltage")),
        current_ma=None if current_a is None else load_ma(current_a),
        energy_wh=None if energy_kwh is None else whole(abs(energy_kwh) * 1000),  # G-14: the magnitude counts
        soc=_percent(item.get("soc")),
        fault=_fault(item.get("fault_code")) if state is EvseState.FAULTED else None,
        taken=_instant(item.get("last_telemetry_time")),
    )


def _fault(code: Any) -> str:
    """Number or text (G-18), as it came; the platform's operator side publishes no field for it."""
    return str(code) if isinstance(code, int) and not isinstance(code, bool) else _text(code) or "fault"


def _text(value: Any) -> str | None:
    """Text fit for a log line: printable and short."""
    if not isinstance(value, str):
        return None
    return "".join(char for char in value[:200] if char.isprintable()).strip()


def _number(value: Any, bound: float = 1e9) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) and abs(number) <= bound else None


def _percent(value: Any) -> int | None:
    number = _number(value)
    return None if number is None or not 0 <= number <= 100 else whole(number)


def _instant(value: Any) -> datetime | None:
    """An ISO 8601 instant as UTC; a time without a zone is read as UTC, which is what the platform speaks."""
    if not isinstance(value, str) or len(value) > 40:
        return None
    try:
        at = datetime.fromisoformat(value)
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
