"""What local clients say and see: requests of the operator surface -> wishes, the snapshot -> sites, chargers, frames.

Owns both directions of the words, nothing that lasts. Strict in what it takes (every error names its field), and it
shows only what is known: an unknown value is left out, never 0. Vehicle identities and id tokens have no way out.
Readings: a schedule without a zone is refused, its deletion is `enabled: false` with an empty validity, days may be
chosen in weekly schedules only (G-11); flexibility lasts at most 4 h, and `all`, the site and the client's own operator
are the same group here (G-12); states as in G-17.
Source: Open Platform REFERENCE sections 4 and 7 to 12, openapi.yaml, GAPS G-11, G-12, G-14, G-17.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from controller.core import watts
from controller.core.events import DischargeWished, StartWished
from controller.core.model import SITE, Evse, EvseId, EvseState, Schedule, ScheduleType, SlotAction, TimeSlot
from controller.core.readings import Readings
from controller.core.snapshot import EvseView, Snapshot
from controller.core.units import amps, limit_ma
from controller.core.windows import problems
from drivers.openplatform.answers import (
    INVALID,
    UNKNOWN,
    ApiError,
    choice,
    digits,
    flag,
    instant,
    integer,
    invalid,
    missing,
    number,
    stamp,
    text,
)

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
LONGEST_CHARGE_S = 7 * 86_400
LONGEST_DISCHARGE_S = 86_400
MOST_SLOTS = 100
_MAX_KW = 10_000.0
_COUNTED = ("idle", "charging", "fault")  # of the five states only these stand in `status_summary`

_STATUS = {
    EvseState.AVAILABLE: "idle",
    EvseState.PREPARING: "idle",
    EvseState.CHARGING: "charging",
    EvseState.DISCHARGING: "discharging",
    EvseState.SUSPENDED_EV: "idle",
    EvseState.SUSPENDED_EVSE: "idle",
    EvseState.FINISHING: "idle",
    EvseState.RESERVED: "unavailable",
    EvseState.UNAVAILABLE: "unavailable",
    EvseState.FAULTED: "fault",
    EvseState.OFFLINE: "unavailable",
}

Fields = dict[str, Any]


@dataclass(frozen=True, slots=True)
class LocalDevice:
    """A charger as local clients may see it; `evses` by connector number, from 1. What is unknown is None."""

    device_id: str
    evses: Mapping[int, Evse]
    serial: str | None = None
    vendor: str | None = None
    model: str | None = None
    firmware: str | None = None
    last_heartbeat: datetime | None = None


@dataclass(frozen=True, slots=True)
class Cleared:
    """A schedule call that deletes."""

    schedule: str


@dataclass(frozen=True, slots=True)
class Flexibility:
    """`percent` of the rating, 0 = pause."""

    percent: int
    duration_s: float


# --- what they see ------------------------------------------------------------------------------------------------


def status_of(view: EvseView) -> str:
    """The API's state of a connector; idle ones whose power flows are what the power says (G-17)."""
    word = _STATUS[view.state]
    if word == "idle" and view.power_w:
        return "charging" if view.power_w > 0 else "discharging"
    return word


def site_fields(
    snapshot: Snapshot, devices: Mapping[str, LocalDevice], site_id: str, phase_mv: int
) -> Fields:
    views = views_of(snapshot)
    served = [
        views[evse.id] for device in devices.values() for evse in device.evses.values() if evse.id in views
    ]
    states = [status_of(view) for view in served]
    site = next(circuit for circuit in snapshot.circuits if circuit.id == SITE)
    return {
        "site_id": site_id,
        "name": snapshot.site,
        "total_connectors": sum(len(device.evses) for device in devices.values()),
        "status_summary": {word: states.count(word) for word in _COUNTED},
        "power_capacity": sum(site.limit_ma) * phase_mv / 1e9,
    }


def device_fields(device: LocalDevice, views: Mapping[EvseId, EvseView], site_id: str) -> Fields:
    served = {n: views[evse.id] for n, evse in sorted(device.evses.items()) if evse.id in views}
    heartbeat = device.last_heartbeat
    return {
        "device_id": device.device_id,
        **_known(
            sn=device.serial,
            model=device.model,
            manufacturer=device.vendor,
            firmware_version=device.firmware,
            last_heartbeat=None if heartbeat is None else stamp(heartbeat),
        ),
        "status": "online" if any(view.connected for view in served.values()) else "offline",
        "connectors": [
            {"connector_id": n, "status": status_of(view), **_values(view)} for n, view in served.items()
        ],
        "site_id": site_id,
    }


def frame_fields(device: LocalDevice, views: Mapping[EvseId, EvseView], at: datetime) -> Fields:
    """One message of the stream: no voltage, no current."""
    connectors = []
    for n, evse in sorted(device.evses.items()):
        view = views.get(evse.id)
        if view is not None:
            values = _values(view)
            values.pop("current", None)
            connectors.append({"connector_id": n, "state": status_of(view), **values})
    return {"device_id": device.device_id, "timestamp": stamp(at), "connectors": connectors}


def _values(view: EvseView) -> Fields:
    currents = [abs(current) for current in view.measured_ma if current is not None]
    session = view.session
    return _known(
        power=None if view.power_w is None else view.power_w / 1e3,
        current=amps(max(currents, default=None)),
        energy_delivered=0 if session is None else abs(session.energy_wh) / 1e3,
        soc=None if session is None else session.soc,
    )


def views_of(snapshot: Snapshot) -> dict[EvseId, EvseView]:
    return {view.id: view for view in snapshot.evses}


def _known(**fields: Any) -> Fields:
    return {name: value for name, value in fields.items() if value is not None}


# --- what they say ------------------------------------------------------------------------------------------------


def read_paging(query: Mapping[str, str]) -> tuple[int, int]:
    """Page from 1, size 1 to 100."""
    return digits(query, "page", 1, 10**9 - 1) or 1, digits(query, "size", 1, 100) or 20


def read_start(body: Fields, by: str, evse: Evse, phase_mv: int) -> StartWished:
    """The wish without its order's id. `charge_power` becomes the current it means on this EVSE's phases, rounded down and never above its rating."""
    _refuse_nulls(body, "charge_power", "duration", "target_soc", "transaction_id")
    power_kw = number(body, "charge_power", 0, _MAX_KW, above=True)
    most_ma = None
    if power_kw is not None:
        share_ma = watts.limit_ma(evse, _floor_w(power_kw), phase_mv)
        most_ma = min(evse.max_ma, share_ma)
    return StartWished(
        "",
        by,
        evse.id,
        limit_ma=most_ma,
        soc=integer(body, "target_soc", 0, 100),
        duration_s=integer(body, "duration", 1, LONGEST_CHARGE_S),
    )


def read_discharge(body: Fields, by: str, evse: Evse, readings: Readings) -> DischargeWished:
    """The wish without its order's id; what the client leaves open is a reading (G-14)."""
    _refuse_nulls(body, "duration", "min_soc")
    power_kw = number(body, "discharge_power", 0, _MAX_KW, above=True)
    if power_kw is None:
        raise missing("discharge_power")
    power_w = _floor_w(power_kw)
    if power_w < 1:
        raise invalid("discharge_power", power_kw, "at least 0.001")
    return DischargeWished(
        "",
        by,
        evse.id,
        power_w,
        min_soc=max(integer(body, "min_soc", 0, 100) or 0, readings.discharge_floor_soc),
        duration_s=integer(body, "duration", 1, LONGEST_DISCHARGE_S) or readings.discharge_default_s,
    )


def read_flexibility(body: Fields, site_id: str, operator_id: str, longest_s: float) -> Flexibility:
    """Raises ApiError 3001 when a target is not this site (or this client's operator): then nothing is done."""
    kind = choice(body, "target_type", ("site", "operator", "all"))
    if kind is None:
        raise missing("target_type")
    if kind != "all":
        targets = body.get("target_ids")
        if targets is None or targets == []:
            raise missing("target_ids")
        if not isinstance(targets, list) or not all(isinstance(target, str) for target in targets):
            raise invalid("target_ids", targets, "a list of texts")
        if any(target != (site_id if kind == "site" else operator_id) for target in targets):
            raise ApiError(UNKNOWN, f"no such {kind}", field="target_ids")
    command = choice(body, "command", ("set_power_limit", "pause_charging"))
    params = body.get("params")
    if command is None or params is None:
        raise missing("command" if command is None else "params")
    if not isinstance(params, dict):
        raise invalid("params", params, "an object")
    with _inside("params"):
        check_reason(params)
        percent = 0 if command == "pause_charging" else integer(params, "power_limit_percent", 0, 100)
        duration_s = integer(params, "duration", 1, int(longest_s))
        if percent is None or duration_s is None:
            raise missing("power_limit_percent" if percent is None else "duration")
    return Flexibility(percent, duration_s)


def read_schedule(body: Fields, now: datetime) -> Schedule | Cleared:
    """A `once` schedule without `effective_from` counts from `now`."""
    _refuse_nulls(body, "target_soc", "effective_from", "effective_until")
    name, zone = text(body, "schedule_id", longest=64), text(body, "timezone", longest=64)
    enabled, kind = flag(body, "enabled"), choice(body, "type", [kind.value for kind in ScheduleType])
    for field, value in (("schedule_id", name), ("enabled", enabled), ("type", kind), ("timezone", zone)):
        if value is None:
            raise missing(field)
    assert name is not None and enabled is not None and kind is not None and zone is not None
    try:
        ZoneInfo(zone)
    except (ValueError, OSError, KeyError):
        raise invalid("timezone", zone, "an IANA zone like Europe/Berlin") from None
    since, until = instant(body, "effective_from"), instant(body, "effective_until")
    slots = _read_slots(body, ScheduleType(kind))
    if since is not None and until is not None and until <= since:
        if enabled:
            raise invalid("effective_until", body["effective_until"], "after effective_from")
        return Cleared(name)
    schedule = Schedule(
        id=name,
        type=ScheduleType(kind),
        enabled=enabled,
        timezone=zone,
        slots=slots,
        target_soc=integer(body, "target_soc", 0, 100),
        effective_from=now if since is None and kind == ScheduleType.ONCE else since,
        effective_until=until,
    )
    found = problems(schedule)
    if found and (enabled or slots):
        raise ApiError(INVALID, "; ".join(found), field="time_slots")
    return schedule


def _read_slots(body: Fields, kind: ScheduleType) -> tuple[TimeSlot, ...]:
    given = body.get("time_slots")
    if given is None:
        raise missing("time_slots")
    if not isinstance(given, list) or len(given) > MOST_SLOTS:
        raise invalid("time_slots", given, f"a list of at most {MOST_SLOTS} slots")
    slots = []
    for place, slot in enumerate(given):
        with _inside(f"time_slots[{place}]"):
            if not isinstance(slot, dict):
                raise invalid("slot", slot, "an object")
            slots.append(_read_slot(slot, kind))
    return tuple(slots)


def _read_slot(slot: Fields, kind: ScheduleType) -> TimeSlot:
    action = choice(slot, "action", [action.value for action in SlotAction])
    if action is None:
        raise missing("action")
    _refuse_nulls(slot, "power_limit", "day_of_week")
    power_kw = number(slot, "power_limit", 0, _MAX_KW)
    return TimeSlot(
        start_min=_read_clock(slot, "start"),
        end_min=_read_clock(slot, "end"),
        action=SlotAction(action),
        power_limit_w=None if power_kw is None else _floor_w(power_kw),
        days=_read_days(slot, kind),
    )


def _read_days(slot: Fields, kind: ScheduleType) -> tuple[int, ...]:
    given = slot.get("day_of_week")
    if given is None or given == []:
        if kind is ScheduleType.WEEKLY:
            raise missing("day_of_week")
        return ()
    if not isinstance(given, list) or any(not isinstance(day, str) or day not in DAYS for day in given):
        raise invalid("day_of_week", given, f"a list of {', '.join(DAYS)}")
    days = tuple(sorted({DAYS.index(day) for day in given}))
    if kind is not ScheduleType.WEEKLY and len(days) < 7:
        # on which date such a slot would run is nowhere said; refusing is the reading that moves less
        raise invalid("day_of_week", given, "left out: only weekly schedules choose days")
    return days


def _read_clock(slot: Fields, name: str) -> int:
    value = slot.get(name)
    if value is None:
        raise missing(name)
    if isinstance(value, str) and len(value) == 5 and value[2] == ":" and value.isascii():
        hours, minutes = value[:2], value[3:]
        if hours.isdigit() and minutes.isdigit() and int(hours) < 24 and int(minutes) < 60:
            return int(hours) * 60 + int(minutes)
    raise invalid(name, value, "a clock time like 22:00")


def check_reason(fields: Fields) -> None:
    """Free text for people; it goes no further."""
    if not isinstance(fields.get("reason", ""), str):
        raise invalid("reason", fields["reason"], "a text")


def _refuse_nulls(fields: Fields, *optional: str) -> None:
    """An optional field is left out, not null: a client that sends null has lost a value, and should know."""
    for name in optional:
        if name in fields and fields[name] is None:
            raise invalid(name, None, "left out or have a value")


def _floor_w(power_kw: float) -> int:
    return limit_ma(power_kw)  # kW to W rounds as A to mA does: down, without binary dust


class _inside:
    """Puts the path of the surrounding object before the field of whatever is refused inside."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, refusal: object, trace: object) -> None:
        if isinstance(refusal, ApiError) and "field" in refusal.details:
            refusal.details["field"] = f"{self._path}.{refusal.details['field']}"
