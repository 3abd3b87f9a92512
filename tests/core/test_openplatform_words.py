"""The platform's words and ours, both ways; leased limits as schedules; the quota; slots. No I/O, no clock.

This file is long because every word of one API, both ways, in the order of its description.
"""

from __future__ import annotations

import base64
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.commands import SetLimit, StartCharging, StartDischarge, StopCharging
from controller.core.model import (
    SITE,
    Evse,
    EvseId,
    EvseState,
    Link,
    Moment,
    Schedule,
    ScheduleType,
    SlotAction,
    StationId,
    TimeSlot,
)
from controller.core.readings import Readings
from drivers.errors import Misconfigured
from drivers.openplatform import books, limits, samples, signing, words
from drivers.openplatform.budget import Budget, Kind
from drivers.openplatform.records import day_windows
from drivers.openplatform.settings import CHANNEL, CloudSettings, address
from drivers.openplatform.slots import Slots

LINK = Link(CHANNEL, lease_s=900, lease_slack_s=120, raise_gap_s=60, answer_s=60)
READINGS = Readings()


def an_evse(
    phases: tuple[int, ...] = (0, 1, 2), max_ma: int = 32_000, fallback_ma: int = 6_000, name: str = "CP1/1"
):
    return Evse(EvseId(name), StationId(name[:-2]), SITE, max_ma, 6_000, phases, fallback_ma, LINK)


# --- firmware gate ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("firmware", "passes"),
    [
        ("260420.0107", True),
        ("260420.0108", True),
        ("260421.0001", True),
        ("270101.0000", True),
        ("260420.0106", False),
        ("260419.9999", False),
        ("250901.0300", False),
        ("3.1.0", False),
        ("4.1.0", False),
        ("v260420.0107", False),
        ("260420.0107 ", False),
        ("260420.107", False),
        ("2604200.0107", False),
        ("٢٦٠٤٢٠.٠١٠٧", False),
        ("", False),
        (None, False),
    ],
)
def test_firmware_gate(firmware: str | None, passes: bool) -> None:
    assert words.firmware_passes(firmware, "260420.0107") is passes


# --- reading ----------------------------------------------------------------------------------------------------


def test_device_as_the_reference_prints_it() -> None:
    device = words.read_device(
        {
            "device_id": "dvc_5f20c9be7714",
            "sn": "TPX24000917",
            "model": "TP-DC180",
            "manufacturer": "Tellus Power",
            "firmware_version": "260420.0107",
            "status": "online",
            "connectors": [
                {"connector_id": 1, "status": "charging", "power": 94.6, "voltage": 711.2, "current": 133.0}
                | {"energy_delivered": 21.7, "soc": 63, "last_telemetry_time": "2026-06-02T05:41:25Z"},
                {"connector_id": 2, "status": "idle", "power": 0, "energy_delivered": 0},
            ],
            "connectedHost": "kept out",
        }
    )
    first, second = device.connectors
    assert (device.serial, device.firmware, device.online) == ("TPX24000917", "260420.0107", True)
    assert (first.state, first.power_w, first.current_ma) == (EvseState.CHARGING, 94_600, 133_000)
    assert (first.energy_wh, first.soc) == (21_700, 63)
    assert first.taken == datetime(2026, 6, 2, 5, 41, 25, tzinfo=UTC)
    assert (second.state, second.power_w, second.energy_wh, second.soc) == (EvseState.AVAILABLE, 0, 0, None)


@pytest.mark.parametrize(
    ("connector", "state", "power_w", "soc"),
    [
        ({"connector_id": 1}, None, None, None),
        ({"connector_id": 1, "state": "auth_ok"}, None, None, None),
        ({"connector_id": 1, "state": "preparing", "power": "7"}, EvseState.PREPARING, None, None),
        ({"connector_id": 1, "state": "discharging", "power": -22.1}, EvseState.DISCHARGING, -22_100, None),
        ({"connector_id": 1, "state": "fault", "power": math.nan}, EvseState.FAULTED, None, None),
        (
            {"connector_id": 1, "state": "charging", "power": 1e308, "soc": 300},
            EvseState.CHARGING,
            None,
            None,
        ),
        ({"connector_id": 1, "state": "charging", "power": 10**400}, EvseState.CHARGING, None, None),
        (
            {"connector_id": 1, "state": "charging", "power": 7.0001, "soc": 55.0},
            EvseState.CHARGING,
            7_001,
            55,
        ),
        ({"connector_id": 1, "state": ["charging"], "soc": True}, None, None, None),
    ],
)
def test_frame_tolerates(
    connector: dict[str, Any], state: EvseState | None, power_w: int | None, soc: int | None
):
    frame = words.read_frame(
        {"device_id": "d", "timestamp": "yesterday", "connectors": [connector], "new": 1}
    )
    assert frame is not None and frame.taken is None
    assert [(c.state, c.power_w, c.soc) for c in frame.connectors] == [(state, power_w, soc)]


@pytest.mark.parametrize("junk", [None, 7, [], "x", {}, {"device_id": 5}])
def test_frame_of_nobody_is_none(junk: Any) -> None:
    assert words.read_frame(junk) is None


@pytest.mark.parametrize(
    "connectors", [None, 7, "abc", {"connector_id": 1}, [None, 3, {"connector_id": "1"}]]
)
def test_frame_without_usable_connectors(connectors: Any) -> None:
    frame = words.read_frame({"device_id": "d", "connectors": connectors})
    assert frame is not None and frame.connectors == ()


@pytest.mark.parametrize("body", ["<html>", "", '{"a":', "[" * 100_000, b"\xff\xfe", "9" * 5000])
def test_broken_json_is_a_value_error(body: str | bytes) -> None:
    with pytest.raises(ValueError):
        words.read_json(body)


def test_token_bare_and_wrapped() -> None:
    bare = {"access_token": "abc", "token_type": "Bearer", "expires_in": 86400}
    assert (
        words.read_token(bare) == words.read_token({"code": 0, "data": bare}) == words.Token("abc", 86400.0)
    )
    assert words.read_token({"access_token": "abc"}).expires_s == 3600.0
    for broken in ({}, None, [], {"access_token": ""}, {"access_token": "a\r\nX: y"}, {"data": 3}):
        with pytest.raises(ValueError):
            words.read_token(broken)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"command_id": "c", "status": "queued"}, ("c", "queued", "")),
        ({"command_id": "c", "status": "failed", "result": {"message": "no car"}}, ("c", "failed", "no car")),
        ({"command_id": "c", "status": "rejected", "result": "no car"}, ("c", "failed", "no car")),
        (
            {"command_id": "c", "status": "completed", "result": {"energy_delivered": 5}},
            ("c", "completed", ""),
        ),
        ({"command_id": 7, "status": "exploded"}, (None, None, "")),
        (None, (None, None, "")),
    ],
)
def test_command_progress(data: Any, expected: tuple[str | None, str | None, str]) -> None:
    command_id, status = words.read_command(data)
    assert (command_id, status.progress, status.reason) == expected


# --- writing ----------------------------------------------------------------------------------------------------


def test_requests_carry_nothing_but_the_platforms_words() -> None:
    assert words.start_request(4.14, "depot-1") == {"charge_power": 4.14, "transaction_id": "depot-1"}
    assert words.stop_request("asked by J. de Vries") == {"reason": "user_request"}
    assert words.stop_request("time_limit") == {"reason": "time_limit"}
    assert words.discharge_request(7.0, 1799.9, 20) == {
        "discharge_power": 7.0,
        "duration": 1799,
        "min_soc": 20,
    }
    pause = words.flexibility_request(None, None, 60, "grid request")
    assert pause == {
        "target_type": "all",
        "command": "pause_charging",
        "params": {"duration": 60, "reason": "grid request"},
    }
    flex = words.flexibility_request(["a"], 35, 299.5)
    assert (
        flex["target_type"] == "site" and flex["target_ids"] == ["a"] and flex["command"] == "set_power_limit"
    )
    assert flex["params"]["power_limit_percent"] == 35 and flex["params"]["duration"] == 300


# --- limits -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("current_ma", "phases", "power_w"),
    [
        (16_000, (0, 1, 2), 11_040),
        (16_000, (1,), 3_680),
        (6_000, (0, 1, 2), 4_140),
        (6_100, (0, 1, 2), 4_200),
        (50_000, (0, 1, 2), 22_080),
        (0, (0,), 0),
        (-5, (0,), 0),
    ],
)
def test_a_limit_rounds_down_and_stays_below_the_maximum(
    current_ma: int, phases: tuple[int, ...], power_w: int
):
    assert limits.limit_w(current_ma, an_evse(phases), READINGS) == power_w


def test_a_limit_for_any_vehicle_is_written_for_one_phase() -> None:
    careful = Readings(kw_limit_spreads="vehicle")
    assert limits.limit_w(16_000, an_evse(), careful) == 3_680  # 16 A even if one phase carries all of it
    assert limits.start_power_w(16_000, an_evse(), careful) == 1_380
    assert limits.is_pause(5_999, an_evse(), careful) and not limits.is_pause(6_000, an_evse(), careful)
    assert limits.brake_percent(16_000, an_evse(), 64_000, careful) == 8


def test_a_start_leaves_at_most_the_fallback_and_never_zero() -> None:
    assert limits.start_power_w(16_000, an_evse(), READINGS) == 4_140
    assert limits.start_power_w(2_000, an_evse(), READINGS) == 1_380
    assert limits.start_power_w(16_000, an_evse(fallback_ma=0), READINGS) == 10
    assert limits.base_is_fallback(an_evse(fallback_ma=0), READINGS)
    assert not limits.base_is_fallback(an_evse(fallback_ma=0), Readings(below_minimum_pauses=False))


def a_schedule(
    now: str, lease_s: float, zone: str = "Europe/Amsterdam", limit_ma: int = 10_000
) -> dict[str, Any]:
    at = datetime.fromisoformat(now)
    until = at + timedelta(seconds=lease_s)
    return limits.leased_schedule(an_evse(), 2, limit_ma, at, until, zone, READINGS)


def test_leased_schedule() -> None:
    body = a_schedule("2026-06-02T10:00:30+00:00", 900)
    assert body == {
        "schedule_id": "depot-limit-2",
        "enabled": True,
        "type": "once",
        "time_slots": [{"start": "11:59", "end": "12:16", "action": "charge", "power_limit": 6.9}],
        "effective_from": "2026-06-02T09:59:00Z",
        "effective_until": "2026-06-02T10:16:00Z",
        "timezone": "Europe/Amsterdam",
    }


def test_below_the_minimum_is_idle_without_a_power() -> None:
    for limit_ma in (0, 5_999):
        slot = a_schedule("2026-06-02T10:00:30+00:00", 900, limit_ma=limit_ma)["time_slots"][0]
        assert slot == {"start": "11:59", "end": "12:16", "action": "idle"}
    assert (
        a_schedule("2026-06-02T10:00:30+00:00", 900, limit_ma=6_000)["time_slots"][0]["power_limit"] == 4.14
    )


@pytest.mark.parametrize(
    ("now", "start", "end"),
    [
        ("2026-06-02T21:59:10+00:00", "23:58", "00:15"),  # over midnight
        ("2026-06-02T22:00:20+00:00", "23:59", "00:16"),  # the skew alone reaches back over midnight
        ("2026-03-29T00:55:00+00:00", "01:54", "03:10"),  # short night: 02:00 is 03:00
        ("2026-03-29T01:00:30+00:00", "01:59", "03:16"),
    ],
)
def test_slot_over_midnight_and_the_short_night(now: str, start: str, end: str) -> None:
    body = a_schedule(now, 900)
    slot = body["time_slots"][0]
    assert (slot["start"], slot["end"], body["timezone"]) == (start, end, "Europe/Amsterdam")


@pytest.mark.parametrize(
    "now", ["2026-10-25T00:20:00+00:00", "2026-10-25T00:50:00+00:00", "2026-10-25T01:20:00+00:00"]
)
def test_the_hour_that_happens_twice_is_written_in_utc(now: str) -> None:
    body = a_schedule(now, 900)
    assert body["timezone"] == "UTC"
    assert body["time_slots"][0]["start"] == body["effective_from"][11:16]
    assert body["time_slots"][0]["end"] == body["effective_until"][11:16]


@pytest.mark.parametrize(
    "zone", ["Europe/Amsterdam", "America/Los_Angeles", "Asia/Kolkata", "Australia/Lord_Howe"]
)
def test_a_charger_that_reads_the_slot_as_g11_says_follows_it_exactly_for_the_lease(zone: str) -> None:
    """Every five minutes of the year's odd days: the slot's instants, computed the way G-11 prescribes, are ours."""
    days = ("2026-03-08", "2026-03-29", "2026-04-05", "2026-10-04", "2026-10-25", "2026-11-01", "2026-12-31")
    for day in days:
        for minute in range(0, 24 * 60, 5):
            now = datetime.fromisoformat(f"{day}T00:00:17+00:00") + timedelta(minutes=minute)
            body = a_schedule(now.isoformat(), 900, zone)
            first, last = _as_a_charger_reads(body)
            assert first <= now - timedelta(seconds=60)
            assert timedelta(seconds=900) <= last - now <= timedelta(seconds=960)


def _as_a_charger_reads(body: dict[str, Any]) -> tuple[datetime, datetime]:
    zone, slot = ZoneInfo(body["timezone"]), body["time_slots"][0]
    valid_from, valid_until = (datetime.fromisoformat(body[f"effective_{key}"]) for key in ("from", "until"))
    day = valid_from.astimezone(zone).date()

    def instant(date: Any, clock: str) -> datetime:
        hour, minute = map(int, clock.split(":"))
        return datetime(date.year, date.month, date.day, hour, minute, tzinfo=zone, fold=0).astimezone(UTC)

    crosses = slot["end"] <= slot["start"]
    start = instant(day, slot["start"])
    end = instant(day + timedelta(days=1) if crosses else day, slot["end"])
    return max(start, valid_from), min(end, valid_until)


def test_a_lease_no_slot_fits_is_refused() -> None:
    for lease_s in (0, -5, 23 * 3600 + 60):
        with pytest.raises(ValueError):
            a_schedule("2026-06-02T10:00:00+00:00", lease_s)


def test_brake_percent_rounds_down_and_takes_the_charger_as_base() -> None:
    evse = an_evse()
    assert limits.brake_percent(10_000, evse, 64_000, READINGS) == 15
    assert limits.brake_percent(10_000, evse, 64_000, Readings(flex_base="connector")) == 31
    assert limits.brake_percent(90_000, evse, 64_000, READINGS) == 100


# --- plans in the charger ----------------------------------------------------------------------------------------


def a_plan(*slots: TimeSlot, **changes: Any) -> Schedule:
    fields: dict[str, Any] = {"id": "night of J. de Vries", "type": ScheduleType.WEEKLY, "enabled": True}
    return Schedule(**fields | {"timezone": "Europe/Amsterdam", "slots": slots} | changes)


def test_a_stored_plan_never_exceeds_the_fallback() -> None:
    plan = a_plan(
        TimeSlot(22 * 60, 6 * 60, SlotAction.CHARGE, None, (0, 4)),
        TimeSlot(6 * 60, 7 * 60, SlotAction.CHARGE, 11_000, (5,)),
        TimeSlot(7 * 60, 8 * 60, SlotAction.CHARGE, 2_000, (5,)),
        TimeSlot(8 * 60, 24 * 60, SlotAction.IDLE, None, (6,)),
        target_soc=80,
        effective_until=datetime(2026, 12, 31, tzinfo=UTC),
    )
    body = limits.stored_plan(an_evse(), plan, False, READINGS)
    assert body["time_slots"] == [
        {"start": "22:00", "end": "06:00", "action": "charge", "day_of_week": ["mon", "fri"]}
        | {"power_limit": 4.14},
        {"start": "06:00", "end": "07:00", "action": "charge", "day_of_week": ["sat"], "power_limit": 4.14},
        {"start": "07:00", "end": "08:00", "action": "idle", "day_of_week": ["sat"]},  # below 6 A
        {"start": "08:00", "end": "00:00", "action": "idle", "day_of_week": ["sun"]},
    ]
    assert (body["type"], body["enabled"], body["timezone"]) == ("weekly", True, "Europe/Amsterdam")
    assert (body["target_soc"], body["effective_until"]) == (80, "2026-12-31T00:00:00Z")
    assert "Vries" not in str(body) and body["schedule_id"] != "depot-limit-1"
    assert limits.stored_plan(an_evse(), plan, False, READINGS)["schedule_id"] == body["schedule_id"]


def test_a_stored_plan_discharges_only_with_consent() -> None:
    plan = a_plan(
        TimeSlot(17 * 60, 19 * 60, SlotAction.DISCHARGE, 7_009), TimeSlot(0, 60, SlotAction.DISCHARGE)
    )
    slots = limits.stored_plan(an_evse(), plan, True, READINGS)["time_slots"]
    assert [slot["action"] for slot in slots] == ["discharge", "idle"]  # no power, no discharge
    assert slots[0]["power_limit"] == 7.0
    for alone, consent in ((plan, False), (replace(plan, target_soc=50), True)):
        slots = limits.stored_plan(an_evse(), alone, consent, READINGS)["time_slots"]
        assert [slot["action"] for slot in slots] == ["idle", "idle"]


@given(
    slots=st.lists(
        st.tuples(st.sampled_from(SlotAction), st.none() | st.integers(0, 60_000)), min_size=1, max_size=5
    ),
    fallback_ma=st.sampled_from([0, 6_000, 10_000, 32_000]),
    spreads=st.sampled_from(["wired", "vehicle"]),
)
def test_whatever_is_stored_a_charger_alone_stays_within_its_fallback(
    slots: list[tuple[SlotAction, int | None]], fallback_ma: int, spreads: Any
) -> None:
    evse = replace(an_evse(), fallback_ma=fallback_ma)
    plan = a_plan(*(TimeSlot(60 * n, 60 * n + 60, action, w) for n, (action, w) in enumerate(slots)))
    readings = Readings(kw_limit_spreads=spreads)
    volts_phases = 230 * (len(evse.phases) if spreads == "wired" else 1)
    for slot in limits.stored_plan(evse, plan, True, readings)["time_slots"]:
        most_ma = {"charge": fallback_ma, "discharge": evse.max_ma, "idle": 0}[slot["action"]]
        watts = slot.get("power_limit", 0.0 if slot["action"] == "idle" else float("inf")) * 1000
        assert watts * 1000 <= most_ma * volts_phases + 1


def test_a_plan_is_deleted_by_an_empty_validity_and_needs_a_real_zone() -> None:
    body = limits.removed_plan("x", datetime(2026, 6, 2, 10, 0, tzinfo=UTC), READINGS)
    assert body["enabled"] is False and body["effective_from"] == body["effective_until"]
    with pytest.raises(ValueError, match="Mars"):
        limits.stored_plan(an_evse(), a_plan(timezone="Mars/Olympus"), False, READINGS)


# --- samples ----------------------------------------------------------------------------------------------------


def seen(
    power_w: int | None,
    current_ma: int | None = None,
    voltage_v: float | None = None,
    state: str = "charging",
):
    return words.ConnectorReading(
        1, EvseState(state), state, power_w=power_w, current_ma=current_ma, voltage_v=voltage_v, energy_wh=500
    )


@pytest.mark.parametrize(
    ("reading", "spread"),
    [
        (seen(11_040, 16_000, 230.0), 3.0),
        (seen(3_680, 16_000, 230.0), 1.0),
        (seen(11_960, 16_000, 249.0), 3.0),  # never more phases than wires
        (seen(6_900, 133_000, 711.2), 3.0),  # DC: the vehicle's side
        (seen(11_040, 16_000), None),
        (seen(11_040, None, 230.0), None),
        (seen(300, 1_300, 230.0), None),  # standby tells nothing
        (seen(None, 16_000, 230.0), None),
    ],
)
def test_rest_tells_over_how_many_phases_power_flows(
    reading: words.ConnectorReading, spread: float | None
) -> None:
    told = samples.spread_of(an_evse(), reading, READINGS)
    assert told == (None if spread is None else pytest.approx(spread))
    assert samples.spread_of(an_evse((1,)), reading, READINGS) == 1.0


@pytest.mark.parametrize(
    ("reading", "spread", "phases", "current_ma"),
    [
        (seen(11_040), None, (0, 1, 2), (16_000, 16_000, 16_000)),  # as the limit was written
        (seen(7_360), 1.0, (0, 1, 2), (32_000, None, None)),  # one phase, so measured before
        (seen(7_360), 1.0, (0,), (32_000, None, None)),
        (seen(11_040), 2.6, (0, 1, 2), (18_462, 18_462, 18_462)),  # low voltage, poor power factor
        (seen(7_360, 31_000, 229.0), 1.0, (0, 1, 2), (32_000, None, None)),  # the larger counts
        (seen(7_360, 33_000, 229.0), 1.0, (0, 1, 2), (33_000, None, None)),
        (seen(-7_360, 33_000, 229.0, "discharging"), 1.0, (0, 1, 2), (-33_000, None, None)),
        (seen(-6_900), None, (0, 1, 2), (-10_000, -10_000, -10_000)),
        (seen(0), None, (0, 1), (0, 0, None)),
        (seen(None), 3.0, (0, 1, 2), (None, None, None)),
        (seen(None, 20_000, 230.0), None, (0, 1, 2), (20_000, 20_000, 20_000)),
    ],
)
def test_sample_currents(reading: Any, spread: float | None, phases: Any, current_ma: Any) -> None:
    now = Moment(50.0, datetime(2026, 6, 2, tzinfo=UTC))
    assert samples.evse_sample(an_evse(phases), reading, spread, None, now, READINGS).current_ma == current_ma


def test_a_vehicle_of_unknown_phases_draws_an_unknown_current_where_the_limit_is_not_known_to_spread() -> (
    None
):
    now, careful = Moment(50.0, datetime(2026, 6, 2, tzinfo=UTC)), Readings(kw_limit_spreads="vehicle")
    unknown = samples.evse_sample(an_evse(), seen(3_680), None, None, now, careful)
    assert unknown.current_ma == (None, None, None) and unknown.power_w == 3_680
    assert samples.evse_sample(an_evse(), seen(3_680), 1.0, None, now, careful).current_ma[0] == 16_000


def test_exported_energy_is_none_of_the_import_register() -> None:
    now = Moment(50.0, datetime(2026, 6, 2, tzinfo=UTC))
    assert samples.evse_sample(an_evse(), seen(6_900), 3.0, None, now, READINGS).register_wh == 500
    out = samples.evse_sample(an_evse(), seen(-6_900, state="discharging"), 3.0, None, now, READINGS)
    assert out.register_wh is None and out.power_w == -6_900


# --- signature --------------------------------------------------------------------------------------------------

SIGNED = (
    "demo-secret-not-real",
    "POST",
    "/v1/operator/devices/dvc_5f20c9be7714/connectors/1/stop",
    "2026-06-02T05:41:10Z",
    b'{"reason":"time_limit"}',
)


def test_the_two_fixed_vectors_of_g05() -> None:
    assert (
        signing.sign(*SIGNED, READINGS) == "816788cbfa020eebd3948408d903dce8bcb903988e03a8d848e311a4ec5572f5"
    )
    by_line = Readings(signature_joined_by="newline")
    assert (
        signing.sign(*SIGNED, by_line) == "ab421bed899383e4fc51d3d461fb33135dd30cae0e7bbee89246a38215537d1b"
    )
    in_base64 = signing.sign(*SIGNED, Readings(signature_encoding="base64"))
    assert base64.b64decode(in_base64).hex() == signing.sign(*SIGNED, READINGS)


def test_signature_headers_carry_the_time_and_leave_the_query_out_unless_told() -> None:
    now = datetime(2026, 6, 2, 7, 41, 10, 999, tzinfo=ZoneInfo("Europe/Amsterdam"))
    secret, method, path, _, body = SIGNED
    plain = signing.signature_headers(secret, method.lower(), f"{path}?page=1", body, now, READINGS)
    assert plain == {"X-Signature": signing.sign(*SIGNED, READINGS), "X-Timestamp": "2026-06-02T05:41:10Z"}
    whole = signing.signature_headers(
        secret, method, f"{path}?page=1", body, now, Readings(signature_path_has_query=True)
    )
    assert whole["X-Signature"] != plain["X-Signature"]


# --- the platform's books ---------------------------------------------------------------------------------------

RECORD = {
    "record_id": "rec_kx81m0402",
    "device_id": "dvc_5f20c9be7714",
    "connector_id": 1,
    "start_time": "2026-06-02T05:22:04Z",
    "end_time": "2026-06-02T06:03:47Z",
    "energy": 52.9,
    "max_power": 151.4,
    "avg_power": 76.1,
    "cost": 20.63,
    "meter_start": 80412.3,
    "meter_end": 80465.2,
    "vehicle_info": {"vin": "WZZTST00000000042", "soc_start": 31, "soc_end": 86},
}


def test_a_record_as_the_reference_prints_it_without_its_vin_and_cost() -> None:
    record = books.read_record(RECORD)
    assert record is not None and "WZZ" not in repr(record) and "20.63" not in repr(record)
    assert (record.energy_wh, record.register_start_wh, record.register_end_wh) == (
        52_900,
        80_412_300,
        80_465_200,
    )
    assert (record.record_id, record.connector, record.reason) == ("rec_kx81m0402", 1, None)
    assert record.started == datetime(2026, 6, 2, 5, 22, 4, tzinfo=UTC) and record.ended is not None
    discharged = books.read_record(RECORD | {"energy": -5.4, "end_time": None, "stop_reason": "time_limit\n"})
    assert discharged is not None and (discharged.energy_wh, discharged.ended) == (5_400, None)
    assert discharged.reason == "time_limit"


@pytest.mark.parametrize(
    "broken",
    [
        {"record_id": ""},
        {"record_id": 7},
        {"device_id": None},
        {"connector_id": "1"},
        {"connector_id": True},
        {"start_time": "soon"},
        {"energy": None},
        {"energy": "52.9"},
        {"energy": float("nan")},
        {"energy": 10**400},
    ],
)
def test_a_record_that_cannot_be_booked_is_none(broken: dict[str, Any]) -> None:
    assert books.read_record(RECORD | broken) is None


def test_pages_end_when_short_or_complete() -> None:
    full = books.read_page({"items": [{}] * 100, "total": 200})
    assert not full.is_last(1, 100) and full.is_last(2, 100)
    assert books.read_page({"items": [{}] * 99, "total": 500}).is_last(1, 100)
    assert not books.read_page({"items": [{}] * 100, "total": "many"}).is_last(9, 100)
    for broken in (None, [], {"items": None}, {"items": "ab"}, {"total": 3}):
        with pytest.raises(ValueError):
            books.read_page(broken)


def test_energy_buckets_and_their_labels() -> None:
    points = books.read_energy(
        {
            "series": [
                {"time": "2026-06", "charge_energy": 1840.2, "discharge_energy": 96.4, "max_power": 300},
                {"time": "2026-06-02", "charge_energy": 0},
                {"time": "2026-06-02T10:00:00Z"},
                {"time": "week 23", "charge_energy": "much"},
                None,
            ]
        }
    )
    assert [point.start and point.start.isoformat()[:16] for point in points] == [
        "2026-06-01T00:00", "2026-06-02T00:00", "2026-06-02T10:00", None
    ]  # fmt: skip
    assert (points[0].charge_wh, points[0].discharge_wh, points[0].max_w) == (1_840_200, 96_400, 300_000)
    assert [(p.charge_wh, p.discharge_wh) for p in points[1:]] == [(0, None), (None, None), (None, None)]
    with pytest.raises(ValueError):
        books.read_energy({"total": {}})


def test_day_windows_are_closed_days() -> None:
    since, until = datetime(2026, 6, 1, 23, 59, tzinfo=UTC), datetime(2026, 6, 3, 0, 0, tzinfo=UTC)
    days = list(day_windows(since, until))
    assert [(a.day, b.day, (b - a).days) for a, b in days] == [(1, 2, 1), (2, 3, 1)]


# --- settings ---------------------------------------------------------------------------------------------------


def test_addresses() -> None:
    good = address("https://platform.example:8443/v1/")
    assert (good.http, good.ws) == ("https://platform.example:8443/v1", "wss://platform.example:8443/v1")
    assert (good.host, good.path) == ("platform.example:8443", "/v1")
    assert address("http://127.0.0.1:8080/v1").ws == "ws://127.0.0.1:8080/v1"
    for bad in (
        "http://platform.example/v1",
        "http://10.0.0.4/v1",
        "http://127.0.0.1.evil.example/v1",
        "ftp://127.0.0.1/v1",
        "https://user:pass@platform.example/v1",
        "https://platform.example/v1?x=1",
        "platform.example",
        "https://",
        "https://platform.example:port/v1",
    ):
        with pytest.raises(Misconfigured):
            address(bad)


def test_the_host_is_of_the_region_that_was_consented_to() -> None:
    address("https://api-eu.platform.example/v1", "eu")
    address("https://api.platform.example/v1", "eu")
    address("https://us.platform.example/v1", "site")
    address("https://platform.us/v1", "eu")  # a country's ending is no region
    for host, region in (("api-us.platform.example", "eu"), ("eu.platform.example", "us")):
        with pytest.raises(Misconfigured, match="names region"):
            address(f"https://{host}/v1", region)


def test_the_secret_is_not_in_the_repr() -> None:
    settings = CloudSettings(
        "https://h/v1", "eu", "me", "s3cret", {}, "sole", frozenset({"monitor"}), "J", "Europe/Amsterdam"
    )
    assert "s3cret" not in repr(settings)


# --- budget -----------------------------------------------------------------------------------------------------


def _spent_in_a_minute(budget: Budget, kind: Kind, urgent: bool = False) -> int:
    return sum(budget.take(kind, tenth / 10, urgent) for tenth in range(600))


def test_budget_stays_within_the_published_limit_with_head_room() -> None:
    for kind, limit in ((Kind.GET, 60), (Kind.CONTROL, 30), (Kind.TOKEN, 10)):
        assert 0.6 * limit <= _spent_in_a_minute(Budget(READINGS), kind) <= 0.8 * limit + 1
    assert _spent_in_a_minute(Budget(READINGS), Kind.CONTROL, urgent=True) <= 30


def test_budget_tells_how_long_to_wait_and_keeps_room_for_stops() -> None:
    budget = Budget(READINGS)
    while budget.take(Kind.CONTROL, 0.0):
        pass
    wait_s = budget.wait_s(Kind.CONTROL, 0.0)
    assert 2.8 < wait_s < 2.9
    assert budget.wait_s(Kind.CONTROL, 0.0, urgent=True) == 0.0
    assert budget.take(Kind.CONTROL, 0.0, urgent=True)
    assert not budget.take(Kind.CONTROL, wait_s - 0.01) and budget.take(Kind.CONTROL, wait_s)


def test_budget_obeys_the_platform() -> None:
    budget = Budget(READINGS)
    budget.shut(Kind.CONTROL, 20.0)
    assert budget.wait_s(Kind.CONTROL, 5.0, urgent=True) == 15.0
    assert not budget.take(Kind.CONTROL, 19.9, urgent=True) and budget.affords(Kind.CONTROL, 5.0, 2.0) == 0
    assert budget.take(Kind.GET, 5.0) and budget.take(Kind.CONTROL, 20.0)


# --- slots ------------------------------------------------------------------------------------------------------


def a_limit(id: str, evse: str, limit_ma: int, raises: bool = False) -> SetLimit:
    return SetLimit(id, EvseId(evse), CHANNEL, limit_ma, 900, raises=raises)


def a_stop(id: str, evse: str) -> StopCharging:
    return StopCharging(id, EvseId(evse), CHANNEL, None, "")


def a_start(id: str, evse: str) -> StartCharging:
    return StartCharging(id, EvseId(evse), CHANNEL, None, 6_000)


def drain(slots: Slots) -> list[str]:
    order = []
    while (command := slots.next()) is not None:
        slots.leave(command)
        slots.finish(command)
        order.append(command.id)
    return order


def test_stops_first_then_decreases_then_the_rest_oldest_first() -> None:
    slots = Slots(lambda evse: evse == "B/1")
    for command in (
        a_limit("raise", "A/1", 20_000, raises=True),
        a_start("start", "D/1"),
        a_limit("down-idle", "C/1", 6_000),
        a_limit("down-drawing", "B/1", 6_000),
        a_stop("stop", "E/1"),
    ):
        assert slots.put(command, 0.0) == []
    assert [c.id for c in slots.waiting_decreases()] == ["down-drawing"]
    assert drain(slots) == ["stop", "down-drawing", "down-idle", "raise", "start"]


def test_the_newest_limit_replaces_and_never_displaces_a_stop() -> None:
    slots = Slots(lambda evse: True)
    assert slots.put(a_limit("one", "A/1", 9_000), 0.0) == []
    assert [c.id for c in slots.put(a_limit("two", "A/1", 8_000), 0.0)] == ["one"]
    slots.put(a_start("start", "A/1"), 0.0)
    assert [c.id for c in slots.put(a_stop("stop", "A/1"), 0.0)] == ["start", "two"]
    assert [c.id for c in slots.put(a_limit("three", "A/1", 7_000), 0.0)] == ["three"]
    assert [c.id for c in slots.put(a_stop("again", "A/1"), 0.0)] == ["stop"]
    assert drain(slots) == ["again"]


def test_a_discharge_takes_the_place_of_a_start_and_a_stop_ends_it() -> None:
    slots = Slots(lambda evse: True)
    discharge = StartDischarge("out", EvseId("A/1"), CHANNEL, 7_000, 3600, 20)
    slots.put(a_start("in", "A/1"), 0.0)
    assert [c.id for c in slots.put(discharge, 0.0)] == ["in"]
    assert slots.next() is discharge
    assert [c.id for c in slots.put(a_stop("stop", "A/1"), 0.0)] == ["out"]
    assert drain(slots) == ["stop"]


def test_one_request_per_evse_but_a_stop_overtakes_a_limit() -> None:
    slots = Slots(lambda evse: True)
    limit, newer, stop, start = (
        a_limit("l", "A/1", 9_000),
        a_limit("n", "A/1", 8_000),
        a_stop("s", "A/1"),
        a_start("b", "A/1"),
    )
    slots.put(limit, 0.0)
    slots.leave(limit)
    slots.put(newer, 0.0)
    assert slots.next() is None and slots.overtaken(limit)
    slots.put(stop, 0.0)
    assert slots.next() is stop
    slots.finish(limit)
    slots.leave(stop)
    slots.put(start, 1.0)
    assert slots.next() is None
    slots.finish(stop)
    assert slots.next() is start and not slots.overtaken(start) and slots.issued_s(start) == 1.0
    slots.leave(start)
    slots.put(a_stop("s2", "A/1"), 2.0)
    assert slots.next() is None  # a stop must not overtake the start it is meant to end
    slots.on_wire(start, False)
    assert slots.next() is not None and slots.overtaken(start)
