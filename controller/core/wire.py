"""Events and snapshots as plain dicts (what JSON can hold) and back: the one place that knows the wire names.

Owns the event documents of recordings, the stored form of schedules and departures, and the status document of
INTERFACE section 4. It does no I/O and no JSON text, only dicts, lists, strings, numbers and None.
Events are translated field by field from their dataclasses, exactly. The status document names its quantities by hand
(amps, not mA) because it is made for every dashboard every second.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from datetime import UTC, datetime
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, NewType, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from controller.core.model import EvseState, PerPhase, Quality
from controller.core.snapshot import (
    AlarmView,
    BatteryView,
    CampaignView,
    ChannelView,
    CircuitView,
    EvseView,
    GridLimitView,
    LooksLike,
    MeterView,
    OrderView,
    PeakView,
    SessionView,
    Snapshot,
    UpgradeView,
)
from controller.core.units import amps
from controller.core.wire_amps import amps_list, ma, phases_ma
from controller.core.wire_wiring import wiring_doc, with_wiring

if TYPE_CHECKING:
    from controller.core.events import Event

VERSION = 1

Plain = Any  # None, bool, int, float, str, list[Plain] or dict[str, Plain]
T = TypeVar("T")

# --- values of the dictionary, field by field -------------------------------------------------------------------

_LEAVES = frozenset({NoneType, bool, int, float, str})


def instant_text(at: datetime) -> str:
    """An aware datetime as ISO 8601 in UTC with "Z", exact to the microsecond. Raises ValueError without a zone."""
    if at.tzinfo is None:
        raise ValueError(f"{at} has no time zone")
    return at.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"


def instant(text: object) -> datetime:
    """The aware UTC datetime of an ISO 8601 text with zone. Raises ValueError."""
    at = datetime.fromisoformat(_leaf(str)(text))
    if at.tzinfo is None:
        raise ValueError(f'"{text}" has no time zone')
    return at.astimezone(UTC)


def to_plain(value: object) -> Plain:
    """Any value of the dictionary (dataclass, enum, time, PerPhase, tuple, mapping, number, text) as a plain one."""
    kind: Any = type(value)
    if kind in _LEAVES:
        return value
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime):
        return instant_text(value)
    if isinstance(value, tuple):  # PerPhase too
        return [to_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    return {name: to_plain(getattr(value, name)) for name in _names(kind)}


def from_plain(kind: type[T], doc: object) -> T:
    """The `kind` (a dataclass of the dictionary) that `to_plain` wrote. Raises ValueError that names the field."""
    return cast(T, _decoder(cast(Any, kind))(doc))


def event_to_dict(event: Event) -> dict[str, Plain]:
    """{"v": 1, "event": "MeterReading", ...the fields of the event}."""
    return {"v": VERSION, "event": type(event).__name__, **to_plain(event)}


def event_from_dict(doc: Mapping[str, Plain]) -> Event:
    """The inverse of `event_to_dict`. Raises ValueError on another version, unknown events or fields, wrong types."""
    body = dict(doc)
    version, name = body.pop("v", None), body.pop("event", None)
    if version != VERSION:
        raise ValueError(f"event document of version {version}; this software reads version {VERSION}")
    events = _events()
    if not isinstance(name, str) or name not in events:
        raise ValueError(f'"{name}" is not an event')
    try:
        return cast("Event", _decoder(events[name])(body))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


@cache
def _events() -> dict[str, type]:
    """All of them, by name; loaded when the first is read, since a dashboard never reads one."""
    from controller.core.events import Event

    return {kind.__name__: kind for kind in get_args(Event)}


@cache
def _names(kind: Any) -> tuple[str, ...]:
    if issubclass(kind, tuple):  # a named one
        return cast(tuple[str, ...], kind._fields)
    if not is_dataclass(kind):
        raise TypeError(f"{kind.__name__} is not a value of the dictionary")
    return tuple(field.name for field in fields(kind))


@cache
def _decoder(hint: Any) -> Callable[[object], object]:
    """The function that reads a plain value for one type hint."""
    if isinstance(hint, NewType):
        return _decoder(hint.__supertype__)
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        present = [arg for arg in args if arg is not NoneType]
        if len(present) != 1:
            raise TypeError(f"{hint} is not one type or None")
        some = _decoder(present[0])
        return lambda doc: None if doc is None else some(doc)
    if origin is PerPhase:
        return _phases(_decoder(args[0]))
    if origin is tuple and args[1] is Ellipsis:
        item = _decoder(args[0])
        return lambda doc: tuple(item(each) for each in _leaf(list)(doc))
    if origin is Mapping:
        key, item = map(_decoder, args)
        return lambda doc: {key(name): item(each) for name, each in _leaf(dict)(doc).items()}
    if hint is datetime:
        return instant
    if issubclass(hint, Enum):
        return lambda doc: hint(doc)
    return _record(hint) if hasattr(hint, "__dataclass_fields__") else _leaf(hint)


def _leaf(kind: type[T]) -> Callable[[object], T]:
    allowed: tuple[type, ...] = (int, float) if kind is float else (kind,)

    def read(doc: object) -> T:
        if type(doc) not in allowed:  # exactly: True is not a number here
            raise ValueError(f"{doc!r:.60} is not {kind.__name__}")
        return cast(T, doc)

    return read


def _phases(item: Callable[[object], T]) -> Callable[[object], PerPhase[T]]:
    def read(doc: object) -> PerPhase[T]:
        values = _leaf(list)(doc)
        if len(values) != 3:
            raise ValueError(f"{len(values)} values where three phases belong")
        return PerPhase(*map(item, values))

    return read


def _record(kind: type) -> Callable[[object], object]:
    hints = get_type_hints(kind)
    decoders = {name: _decoder(hints[name]) for name in _names(kind)}
    needed = {f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING}

    def read(doc: object) -> object:
        body = _leaf(dict)(doc)
        if unknown := body.keys() - decoders.keys():
            raise ValueError(f"unknown field {', '.join(sorted(unknown))}")
        if missing := needed - body.keys():
            raise ValueError(f"missing field {', '.join(sorted(missing))}")
        values = {}
        for name, value in body.items():
            try:
                values[name] = decoders[name](value)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
        return kind(**values)

    return read


# --- the status document (INTERFACE section 4) ------------------------------------------------------------------


def status(snapshot: Snapshot) -> dict[str, Plain]:
    """The status document: amps as floats, unknown as None, times as ISO 8601 UTC with "Z" to the millisecond."""
    return {
        "version": VERSION,
        "time": _stamp(snapshot.time),
        "site": {
            "name": snapshot.site,
            "state": snapshot.state,
            "text": snapshot.text,
            "timezone": snapshot.timezone,
        },
        "circuits": [_circuit_doc(view) for view in snapshot.circuits],
        "evses": [_evse_doc(view) for view in snapshot.evses],
        "meters": [_meter_doc(view) for view in snapshot.meters],
        "channels": [_flat(view) for view in snapshot.channels],
        "alarms": [_alarm_doc(view) for view in snapshot.alarms],
        "orders": [_order_doc(view) for view in snapshot.orders],
        "campaign": None if snapshot.campaign is None else _campaign_doc(snapshot.campaign),
        "peak": to_plain(snapshot.peak),
        "grid_limits": to_plain(snapshot.grid_limits),
        "batteries": to_plain(snapshot.batteries),
        "planner": {"by": snapshot.planner, "text": snapshot.planner_text},
        "alarms_quiet": [_alarm_doc(view) for view in snapshot.alarms_quiet],
    }


def snapshot_from(doc: Mapping[str, Plain]) -> Snapshot:
    """The snapshot behind a status document, exact but for times (milliseconds). Raises ValueError on another
    version or a document that is not one."""
    version = doc.get("version")
    if version != VERSION:
        raise ValueError(f"status document of version {version}; this software reads version {VERSION}")
    try:
        site = doc["site"]
        return Snapshot(
            time=instant(doc["time"]),
            site=site["name"],
            state=site["state"],
            text=site["text"],
            timezone=site["timezone"],
            circuits=tuple(_circuit_view(each) for each in doc["circuits"]),
            evses=tuple(_evse_view(each) for each in doc["evses"]),
            meters=tuple(_meter_view(each) for each in doc["meters"]),
            channels=tuple(ChannelView(**_named(ChannelView, each)) for each in doc["channels"]),
            alarms=tuple(_alarm_view(each) for each in doc["alarms"]),
            orders=tuple(_order_view(each) for each in doc["orders"]),
            campaign=_campaign_view(doc.get("campaign")),
            peak=None if (peak := doc.get("peak")) is None else from_plain(PeakView, _named(PeakView, peak)),
            grid_limits=tuple(
                from_plain(GridLimitView, _named(GridLimitView, each)) for each in doc.get("grid_limits", ())
            ),
            batteries=tuple(
                from_plain(BatteryView, _named(BatteryView, each)) for each in doc.get("batteries", ())
            ),
            planner=doc.get("planner", {}).get("by", ""),
            planner_text=doc.get("planner", {}).get("text", ""),
            alarms_quiet=tuple(_alarm_view(each) for each in doc.get("alarms_quiet", ())),
        )
    except KeyError as error:
        raise ValueError(f"status document without {error}") from None
    except (TypeError, AttributeError) as error:
        raise ValueError(f"not a status document: {error}") from None


def _stamp(at: datetime) -> str:
    exact = at.astimezone(UTC).replace(tzinfo=None)
    return exact.isoformat(timespec="milliseconds" if exact.microsecond >= 1000 else "seconds") + "Z"


def _stamp_or_none(at: datetime | None) -> str | None:
    return None if at is None else _stamp(at)


def _instant_or_none(text: object) -> datetime | None:
    return None if text is None else instant(text)


def _flat(view: Any) -> dict[str, Plain]:
    """The fields of a view whose names and values are already those of the document."""
    kind: Any = type(view)
    return {name: getattr(view, name) for name in _names(kind)}


def _named(kind: type, doc: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of `doc` that are fields of `kind`: a document may carry more than we know."""
    return {name: doc[name] for name in _names(kind)}


def _circuit_doc(view: CircuitView) -> dict[str, Plain]:
    return {
        "id": view.id,
        "parent": view.parent,
        "limit_a": amps_list(view.limit_ma),
        "measured_a": amps_list(view.measured_ma),
        "background_a": amps_list(view.background_ma),
        "committed_a": amps_list(view.committed_ma),
        "meter": view.meter,
        "meter_age_s": view.meter_age_s,
        "quality": None if view.quality is None else view.quality.value,
        "trip_margin_pct": view.trip_margin_pct,
    }


def _circuit_view(doc: Mapping[str, Any]) -> CircuitView:
    quality = doc["quality"]
    return CircuitView(
        id=doc["id"],
        parent=doc["parent"],
        limit_ma=phases_ma(doc["limit_a"]),
        measured_ma=phases_ma(doc["measured_a"]),
        background_ma=phases_ma(doc["background_a"]),
        committed_ma=phases_ma(doc["committed_a"]),
        meter=doc["meter"],
        meter_age_s=doc["meter_age_s"],
        quality=None if quality is None else Quality(quality),
        trip_margin_pct=doc.get("trip_margin_pct"),
    )


def _evse_doc(view: EvseView) -> dict[str, Plain]:
    return {
        "id": view.id,
        "station": view.station,
        "circuit": view.circuit,
        "connected": view.connected,
        "channels": list(view.channels),
        "state": view.state.value,
        "limit_a": amps(view.limit_ma),
        "grant_a": amps(view.grant_ma),
        "commanded_a": amps(view.commanded_ma),
        "accepted_a": amps(view.accepted_ma),
        "measured_a": amps_list(view.measured_ma),
        "power_w": view.power_w,
        "commitment_a": amps(view.commitment_ma),
        "bound_by": view.bound_by,
        "paused": view.paused,
        "operator_limit_a": amps(view.operator_limit_ma),
        "fallback_a": amps(view.fallback_ma),
        "fallback_stored": view.fallback_stored,
        "lease_left_s": view.lease_left_s,
        "fault": view.fault,
        "identity": view.identity,
        "contactor_cycles": view.contactor_cycles,
        "session": None if view.session is None else _session_doc(view.session),
        **wiring_doc(view),
    }


def _evse_view(doc: Mapping[str, Any]) -> EvseView:
    session = doc["session"]
    return EvseView(
        id=doc["id"],
        station=doc["station"],
        circuit=doc["circuit"],
        connected=doc["connected"],
        channels=tuple(doc["channels"]),
        state=EvseState(doc["state"]),
        limit_ma=round(doc["limit_a"] * 1e3),
        grant_ma=ma(doc["grant_a"]),
        commanded_ma=ma(doc["commanded_a"]),
        accepted_ma=ma(doc["accepted_a"]),
        measured_ma=phases_ma(doc["measured_a"]),
        power_w=doc["power_w"],
        commitment_ma=round(doc["commitment_a"] * 1e3),
        bound_by=doc["bound_by"],
        paused=doc["paused"],
        operator_limit_ma=ma(doc["operator_limit_a"]),
        fallback_ma=round(doc["fallback_a"] * 1e3),
        fallback_stored=doc["fallback_stored"],
        lease_left_s=doc["lease_left_s"],
        session=None if session is None else _session_view(session),
        fault=doc["fault"],
        identity=doc["identity"],
        contactor_cycles=doc.get("contactor_cycles", 0),
        **with_wiring(doc),
    )


def _session_doc(view: SessionView) -> dict[str, Plain]:
    times = {"started": _stamp(view.started), "departs": _stamp_or_none(view.departs)}
    return {**_flat(view), **times, "looks_like": to_plain(view.looks_like)}


def _session_view(doc: Mapping[str, Any]) -> SessionView:
    times = {"started": instant(doc["started"]), "departs": _instant_or_none(doc["departs"])}
    guess = doc.get("looks_like")
    looks_like = None if guess is None else from_plain(LooksLike, _named(LooksLike, guess))
    known = _named(SessionView, {"departs_by": None, **doc, "looks_like": looks_like})
    return SessionView(**{**known, **times})


def _meter_doc(view: MeterView) -> dict[str, Plain]:
    return {
        "id": view.id,
        "kind": view.kind,
        "age_s": view.age_s,
        "quality": view.quality.value,
        "power_w": view.power_w,
        "current_a": amps_list(view.current_ma),
        "import_wh": view.import_wh,
        "error": view.error,
        "errors": view.errors,
        "latency_ms": view.latency_ms,
    }


def _meter_view(doc: Mapping[str, Any]) -> MeterView:
    return MeterView(
        id=doc["id"],
        kind=doc["kind"],
        age_s=doc["age_s"],
        quality=Quality(doc["quality"]),
        power_w=doc["power_w"],
        current_ma=phases_ma(doc["current_a"]),
        import_wh=doc["import_wh"],
        error=doc["error"],
        errors=doc["errors"],
        latency_ms=doc["latency_ms"],
    )


def _alarm_doc(view: AlarmView) -> dict[str, Plain]:
    return {**to_plain(view), "since": _stamp(view.since), "until": _stamp_or_none(view.until)}


def _alarm_view(doc: Mapping[str, Any]) -> AlarmView:
    return from_plain(AlarmView, {name: doc[name] for name in _names(AlarmView) if name in doc})


def _order_doc(view: OrderView) -> dict[str, Plain]:
    return {**_flat(view), "stages": [[stage, _stamp(at)] for stage, at in view.stages]}


def _order_view(doc: Mapping[str, Any]) -> OrderView:
    stages = tuple((str(stage), instant(at)) for stage, at in doc["stages"])
    return OrderView(**{**_named(OrderView, doc), "stages": stages})


def _campaign_doc(view: CampaignView) -> dict[str, Plain]:
    stations = [_flat(each) for each in view.stations]
    return {**_flat(view), "started": _stamp(view.started), "stations": stations}


def _campaign_view(doc: Mapping[str, Any] | None) -> CampaignView | None:
    """None too where a document is older than campaigns."""
    if doc is None:
        return None
    stations = tuple(UpgradeView(**_named(UpgradeView, each)) for each in doc["stations"])
    started = instant(doc["started"])
    return CampaignView(**{**_named(CampaignView, doc), "started": started, "stations": stations})
