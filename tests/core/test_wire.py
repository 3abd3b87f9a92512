"""Wire documents: every event comes back as it went, and the status document is the one INTERFACE section 4 promises."""

from __future__ import annotations

import dataclasses
import json
import math
import typing
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from enum import Enum
from types import NoneType, UnionType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.core import events
from controller.core.events import Event, MeterReading, PlanReady, TransactionStarted
from controller.core.model import (
    EvseId,
    EvseState,
    MeterId,
    PerPhase,
    Plan,
    Quality,
    Schedule,
    ScheduleType,
    SlotAction,
    StationId,
    TimeSlot,
    VehicleId,
    Wish,
    each_phase,
    evse_id,
)
from controller.core.snapshot import (
    AlarmView,
    ChannelView,
    CircuitView,
    EvseView,
    MeterView,
    OrderView,
    SessionView,
    Snapshot,
)
from controller.core.wire import (
    event_from_dict,
    event_to_dict,
    from_plain,
    instant,
    instant_text,
    snapshot_from,
    status,
    to_plain,
)

NOON = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)

# --- any value of any type of the dictionary ---------------------------------------------------------------------

ZONES = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
TIMES = st.builds(
    lambda seconds, micros, zone: (NOON + timedelta(seconds=seconds, microseconds=micros)).astimezone(zone),
    st.integers(-(10**9), 10**9),
    st.sampled_from([0, 1, 999_999]),
    ZONES,
)


def values(hint: object) -> st.SearchStrategy:
    """A strategy for a type hint, written without a look at how wire reads it."""
    if isinstance(hint, typing.NewType):
        return values(hint.__supertype__)
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, UnionType):
        return st.one_of([values(arg) for arg in args])
    if origin is PerPhase:
        return st.tuples(*[values(args[0])] * 3).map(lambda triple: PerPhase(*triple))
    if origin is tuple:
        if args[1] is not Ellipsis:
            return st.tuples(*map(values, args))
        return st.lists(values(args[0]), max_size=3).map(tuple)
    if origin is Mapping:
        return st.dictionaries(values(args[0]), values(args[1]), max_size=3)
    simple = {
        NoneType: st.none(),
        bool: st.booleans(),
        int: st.integers(-(2**63), 2**63 - 1),
        float: st.floats(allow_nan=False),
        str: st.text(max_size=12),
        datetime: TIMES,
    }
    if hint in simple:
        return simple[hint]
    assert isinstance(hint, type)
    if issubclass(hint, Enum):
        return st.sampled_from(hint)
    hints = typing.get_type_hints(hint)
    return st.builds(hint, **{name: values(kind) for name, kind in hints.items()})


@pytest.mark.parametrize("kind", typing.get_args(Event), ids=lambda kind: kind.__name__)
def test_every_event_survives_json(kind: type) -> None:
    @settings(max_examples=25, deadline=None)
    @given(values(kind))
    def round_trip(event: Event) -> None:
        back = event_from_dict(json.loads(json.dumps(event_to_dict(event))))
        assert back == event
        assert type(back) is type(event)
        assert repr(back) == repr(_in_utc(event))  # types inside too: PerPhase, enums, tuples, 1 against 1.0

    round_trip()


def _in_utc(value: object) -> object:
    """The same value with every time in UTC (a wire document keeps the instant, not the zone it was written in)."""
    if isinstance(value, datetime):
        return value.astimezone(UTC)
    if isinstance(value, PerPhase):
        return PerPhase(*map(_in_utc, value))
    if isinstance(value, tuple):
        return tuple(map(_in_utc, value))
    if isinstance(value, dict):
        return {key: _in_utc(each) for key, each in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = {field.name: _in_utc(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return type(value)(**parts)
    return value


def test_the_union_names_every_event_class() -> None:
    defined = {
        value
        for value in vars(events).values()
        if dataclasses.is_dataclass(value) and getattr(value, "__module__", "") == events.__name__
    }
    assert defined == set(typing.get_args(Event))


def test_an_event_document_looks_like_this() -> None:
    reading = MeterReading(
        MeterId("main"), 12.5, PerPhase(1000, None, -3), 690, each_phase(None), import_wh=7
    )
    assert event_to_dict(reading) == {
        "v": 1,
        "event": "MeterReading",
        "meter": "main",
        "taken_s": 12.5,
        "current_ma": [1000, None, -3],
        "power_w": 690,
        "voltage_mv": [None, None, None],
        "import_wh": 7,
        "export_wh": None,
        "latency_ms": None,
        "soc_pct": None,
    }


def test_fields_with_a_default_may_be_missing() -> None:
    started = TransactionStarted(EvseId("CP1/1"), "ocpp1.6", "1", None, None, NOON)
    doc = event_to_dict(started)
    del doc["offline"], doc["inferred"]
    assert event_from_dict(doc) == started


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"v": 2}, "version 2"),
        ({"event": "Nothing"}, '"Nothing" is not an event'),
        ({"event": []}, "is not an event"),
        ({"colour": "red"}, "unknown field colour"),
        ({"taken_s": "12"}, "taken_s: '12' is not float"),
        ({"taken_s": True}, "taken_s: True is not float"),
        ({"power_w": 1.5}, "power_w: 1.5 is not int"),
        ({"current_ma": [1, 2]}, "current_ma: 2 values where three phases belong"),
        ({"current_ma": None}, "current_ma: None is not list"),
    ],
)
def test_bad_event_documents_are_named(change: dict[str, object], complaint: str) -> None:
    reading = MeterReading(MeterId("main"), 12.5, each_phase(1000), 690, each_phase(None))
    with pytest.raises(ValueError) as caught:
        event_from_dict({**event_to_dict(reading), **change})
    assert complaint in str(caught.value)


def test_a_missing_field_is_named() -> None:
    doc = event_to_dict(PlanReady(Plan(NOON, "rules", {evse_id("CP1", 1): Wish(cap_ma=0, why="peak")})))
    del doc["plan"]["made"]
    with pytest.raises(ValueError, match="PlanReady: plan: missing field made"):
        event_from_dict(doc)


def test_times_without_a_zone_are_refused() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        instant("2026-11-22T12:00:00")
    with pytest.raises(ValueError, match="no time zone"):
        instant_text(datetime(2026, 11, 22))  # noqa: DTZ001
    assert instant("2026-11-22T13:00:00+01:00") == NOON
    assert instant_text(NOON.astimezone(timezone(timedelta(hours=2)))) == "2026-11-22T12:00:00Z"


def test_a_schedule_survives_storage() -> None:
    slot = TimeSlot(22 * 60, 6 * 60, SlotAction.CHARGE, 7000, (0, 1))
    schedule = Schedule("nights", ScheduleType.WEEKLY, True, "Europe/Amsterdam", (slot,), 90, NOON)
    assert from_plain(Schedule, json.loads(json.dumps(to_plain(schedule)))) == schedule


# --- the status document -----------------------------------------------------------------------------------------


def full_snapshot() -> Snapshot:
    """Every field set, every amp value a different one."""
    session = SessionView("s-1", "…7F2A", VehicleId("BUS-07"), NOON, 12300, 55, NOON + timedelta(hours=9), 0)
    evse = EvseView(
        id=evse_id("CP001", 1),
        station=StationId("CP001"),
        circuit="row_a",
        connected=True,
        channels=("ocpp1.6",),
        state=EvseState.CHARGING,
        limit_ma=32000,
        grant_ma=16000,
        commanded_ma=15000,
        accepted_ma=14000,
        measured_ma=PerPhase(15800, 15700, None),
        power_w=10900,
        commitment_ma=17001,
        bound_by="circuit row_a L2",
        paused=False,
        operator_limit_ma=20000,
        fallback_ma=6000,
        fallback_stored=True,
        lease_left_s=41.5,
        session=session,
        fault=None,
        identity="Vendor Model 1.2",
        contactor_cycles=3,
    )
    return Snapshot(
        time=NOON.replace(microsecond=250_000),
        site="Depot Noord",
        state="auto",
        text="",
        timezone="Europe/Amsterdam",
        circuits=(
            CircuitView(
                id="site",
                parent=None,
                limit_ma=each_phase(250_000),
                measured_ma=PerPhase(142_100, 139_000, 151_200),
                background_ma=PerPhase(40_200, None, 44_000),
                committed_ma=PerPhase(198_000, 192_000, 199_000),
                meter="main",
                meter_age_s=0.8,
                quality=Quality.GOOD,
            ),
        ),
        evses=(evse,),
        meters=(
            MeterView(
                "main", "sdm630", 0.8, Quality.GOOD, 98200, PerPhase(142_100, 1, None), 123456789, None
            ),
        ),
        channels=(ChannelView("open-platform/cloud", "ok", "", "platform.example", "eu", "J. de Vries"),),
        alarms=(AlarmView("a-1", "stale-meter", 1, "unack", "main", "no reading for 9 s", NOON),),
        orders=(
            OrderView("o-1", "limit", evse_id("CP001", 1), "anna", "10 A", (("sent", NOON),), None, None),
        ),
    )


def test_the_status_document_is_the_published_one() -> None:
    assert status(full_snapshot()) == {
        "version": 1,
        "time": "2026-11-22T12:00:00.250Z",
        "site": {"name": "Depot Noord", "state": "auto", "text": "", "timezone": "Europe/Amsterdam"},
        "circuits": [
            {
                "id": "site",
                "parent": None,
                "limit_a": [250.0, 250.0, 250.0],
                "measured_a": [142.1, 139.0, 151.2],
                "background_a": [40.2, None, 44.0],
                "committed_a": [198.0, 192.0, 199.0],
                "meter": "main",
                "meter_age_s": 0.8,
                "quality": "good",
                "trip_margin_pct": None,
            }
        ],
        "evses": [
            {
                "id": "CP001/1",
                "station": "CP001",
                "circuit": "row_a",
                "connected": True,
                "channels": ["ocpp1.6"],
                "state": "charging",
                "limit_a": 32.0,
                "grant_a": 16.0,
                "commanded_a": 15.0,
                "accepted_a": 14.0,
                "measured_a": [15.8, 15.7, None],
                "power_w": 10900,
                "commitment_a": 17.001,
                "bound_by": "circuit row_a L2",
                "paused": False,
                "operator_limit_a": 20.0,
                "fallback_a": 6.0,
                "fallback_stored": True,
                "lease_left_s": 41.5,
                "fault": None,
                "identity": "Vendor Model 1.2",
                "contactor_cycles": 3,
                "phases": None,
                "phases_used": None,
                "rotation": None,
                "session": {
                    "id": "s-1",
                    "token": "…7F2A",
                    "vehicle": "BUS-07",
                    "started": "2026-11-22T12:00:00Z",
                    "energy_wh": 12300,
                    "soc": 55,
                    "departs": "2026-11-22T21:00:00Z",
                    "short_wh": 0,
                    "departs_by": None,
                    "looks_like": None,
                },
            }
        ],
        "meters": [
            {
                "id": "main",
                "kind": "sdm630",
                "age_s": 0.8,
                "quality": "good",
                "power_w": 98200,
                "current_a": [142.1, 0.001, None],
                "import_wh": 123456789,
                "error": None,
                "errors": 0,
                "latency_ms": None,
            }
        ],
        "channels": [
            {
                "id": "open-platform/cloud",
                "state": "ok",
                "text": "",
                "host": "platform.example",
                "region": "eu",
                "enabled_by": "J. de Vries",
            }
        ],
        "alarms": [
            {
                "id": "a-1",
                "kind": "stale-meter",
                "priority": 1,
                "state": "unack",
                "source": "main",
                "text": "no reading for 9 s",
                "since": "2026-11-22T12:00:00Z",
                "incident": "",
                "members": [],
                "first": False,
                "note": "",
                "by": None,
                "until": None,
            }
        ],
        "alarms_quiet": [],
        "orders": [
            {
                "id": "o-1",
                "kind": "limit",
                "evse": "CP001/1",
                "by": "anna",
                "text": "10 A",
                "stages": [["sent", "2026-11-22T12:00:00Z"]],
                "outcome": None,
                "reason": None,
            }
        ],
        "planner": {"by": "", "text": ""},
        "campaign": None,
        "peak": None,
        "grid_limits": [],
        "batteries": [],
    }


def test_the_snapshot_comes_back_from_its_document() -> None:
    snapshot = full_snapshot()
    assert snapshot_from(json.loads(json.dumps(status(snapshot)))) == snapshot


@settings(max_examples=40, deadline=None)
@given(values(Snapshot).filter(lambda snapshot: not _has_infinity(snapshot)))
def test_any_status_document_survives_the_dashboard(snapshot: Snapshot) -> None:
    small = _small(snapshot)
    doc = status(small)
    assert status(snapshot_from(json.loads(json.dumps(doc)))) == doc


def _has_infinity(snapshot: Snapshot) -> bool:
    ages = [view.age_s for view in snapshot.meters] + [view.lease_left_s for view in snapshot.evses]
    return any(age is not None and math.isinf(age) for age in ages)


def _small(value: object) -> object:
    """Currents as they occur on earth: a float holds mA exactly only up to 2**53."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value % 2_000_000
    if isinstance(value, tuple):
        small = map(_small, value)
        return type(value)(*small) if hasattr(value, "_fields") else tuple(small)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = {field.name: _small(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return type(value)(**parts)
    return value


def test_a_newer_status_document_may_carry_more() -> None:
    doc = status(full_snapshot())
    for part in (doc, doc["evses"][0], doc["channels"][0], doc["alarms"][0], doc["orders"][0]):
        part["news"] = 1
    assert snapshot_from(doc) == full_snapshot()


@pytest.mark.parametrize(
    ("path", "value", "complaint"),
    [
        (("version",), 2, "version 2"),
        (("time",), None, "None is not str"),
        (("site",), 3, "not a status document"),
        (("circuits", 0, "limit_a"), [1.0], "not enough values"),
        (("circuits", 0, "limit_a"), "abc", "not a status document"),
        (("evses", 0, "state"), "asleep", "asleep"),
        (("evses", 0, "limit_a"), None, "not a status document"),
        (("evses",), None, "not a status document"),
    ],
)
def test_bad_status_documents_are_value_errors(path: tuple, value: object, complaint: str) -> None:
    doc = status(full_snapshot())
    part = doc
    for step in path[:-1]:
        part = part[step]
    part[path[-1]] = value
    with pytest.raises(ValueError, match=complaint):
        snapshot_from(doc)


def test_a_status_document_without_a_part_is_a_value_error() -> None:
    doc = status(full_snapshot())
    del doc["evses"][0]["commitment_a"]
    with pytest.raises(ValueError, match="commitment_a"):
        snapshot_from(doc)
