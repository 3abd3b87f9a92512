"""What each setting of `Readings` changes, default against another value. Values only; what needs a wire is in
`tests/wires/test_readings_on_the_wire.py`, and older settings have their tests beside what they govern."""

from __future__ import annotations

import hmac
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from controller.core.commands import SetLimit, StartDischarge, UpgradeFirmware
from controller.core.events import RecordReceived
from controller.core.model import (
    SITE,
    Evse,
    EvseId,
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
from drivers.openplatform import books, limits, signing
from drivers.openplatform import clients_words as clients
from drivers.openplatform import devices_words as devices
from drivers.openplatform.answers import stamp
from drivers.openplatform.budget import Budget, Kind
from drivers.openplatform.devices_belief import DeviceBelief
from drivers.openplatform.devices_desk import Desk
from drivers.openplatform.settings import CHANNEL, address

DEFAULT = Readings()
NOON = datetime(2026, 6, 2, 12, 0, tzinfo=UTC)
ID = EvseId("A/1")
EVSE = Evse(ID, StationId("A"), SITE, 32_000, 6_000, (0, 1, 2), 6_000, Link(CHANNEL, 900, 120, 60, 60))
PATH, BODY = "/v1/operator/x", b'{"b":1,"a":"2"}'


# --- G-05 ---------------------------------------------------------------------------------------------------------


def signed(method: str = "POST", **readings: Any) -> str:
    return signing.sign("k", method, PATH, "t", BODY, Readings(**readings))


def digest(text: bytes) -> str:
    return hmac.digest(b"k", text, "sha256").hex()


def test_each_part_of_a_signature_is_a_choice() -> None:
    plain = digest(b"POST" + PATH.encode() + b"t" + BODY)
    assert signed() == signed("post") == plain
    assert signed(signature_method="lower") == digest(b"post" + PATH.encode() + b"t" + BODY)
    assert signed(signature_body="sorted") == digest(b"POST" + PATH.encode() + b"t" + b'{"a":"2","b":1}')
    assert signed(signature_encoding="hex-upper") == plain.upper()
    without = signing.sign("k", "GET", PATH, "t", b"", Readings(signature_body="sorted"))
    assert without == digest(b"GET" + PATH.encode() + b"t")


def test_the_time_of_a_signature_and_its_header() -> None:
    at = datetime(2026, 6, 2, 14, 0, 0, 900_000, tzinfo=ZoneInfo("Europe/Amsterdam"))
    readings = Readings(signature_time="epoch", signature_time_header="X-Time")
    headers = signing.signature_headers("k", "GET", PATH, b"", at, readings)
    assert headers.keys() == {"X-Signature", "X-Time"}
    assert headers["X-Time"] == str(int(NOON.timestamp()))
    assert headers["X-Signature"] == digest(b"GET" + PATH.encode() + headers["X-Time"].encode())


# --- G-07, G-08 ---------------------------------------------------------------------------------------------------


def a_limit(limit_ma: int = 16_000) -> SetLimit:
    return SetLimit("c1", ID, CHANNEL, limit_ma, 100.0)


@pytest.mark.parametrize("resend_s", [5.0, 12.0])
def test_an_unanswered_command_is_handed_out_again(resend_s: float) -> None:
    desk = Desk(60.0, Readings(command_resend_s=resend_s))
    desk.put("w", a_limit(), 0.0)
    offer = desk.next(0.0)
    assert offer is not None
    desk.hand(offer, 1.0)
    assert desk.next(0.9 + resend_s) is None and desk.next(1.0 + resend_s) is offer


@pytest.mark.parametrize(("expiry_s", "given_up_s"), [(120.0, 120.0), (30.0, 60.0)])
def test_an_upgrade_waits_as_long_as_it_is_good(expiry_s: float, given_up_s: float) -> None:
    desk = Desk(60.0, Readings(command_expiry_s=expiry_s))
    desk.put("w", UpgradeFirmware("u", ID, CHANNEL, "260518.0002"), 0.0)
    assert not desk.overdue(given_up_s - 0.1) and len(desk.overdue(given_up_s)) == 1


def body_of(command: Any, **readings: Any) -> tuple[str, dict[str, Any]]:
    return devices.command_body(command, EVSE, 1, 0.0, "tx", Readings(**readings))


def test_a_pause_is_a_limit_of_nothing_or_a_command_of_its_own() -> None:
    pause, by_name = a_limit(0), {"connector_id": 1, "duration": 100}
    assert body_of(pause) == ("set_power_limit", by_name | {"power_limit": 0.0})
    assert body_of(pause, pause_command="pause_charging") == ("pause_charging", by_name)
    assert body_of(a_limit(), pause_command="pause_charging")[0] == "set_power_limit"


# --- G-11 ---------------------------------------------------------------------------------------------------------


def test_the_end_of_a_slot_at_midnight() -> None:
    slots = (TimeSlot(22 * 60, 24 * 60, SlotAction.CHARGE), TimeSlot(60, 120, SlotAction.IDLE))
    plan = Schedule("p", ScheduleType.DAILY, True, "UTC", slots)
    until = NOON.replace(hour=0) + timedelta(days=1)
    for readings, midnight in ((DEFAULT, "00:00"), (Readings(slot_midnight_end="24:00"), "24:00")):
        stored = limits.stored_plan(EVSE, plan, False, readings)["time_slots"]
        assert [(slot["start"], slot["end"]) for slot in stored] == [("22:00", midnight), ("01:00", "02:00")]
        leased = limits.leased_schedule(EVSE, 1, 16_000, NOON.replace(hour=23), until, "UTC", readings)
        assert leased["time_slots"][0]["end"] == midnight
        begins = limits.leased_schedule(
            EVSE, 1, 16_000, until + timedelta(minutes=1), until + timedelta(hours=1), "UTC", readings
        )
        assert (begins["time_slots"][0]["start"], begins["time_slots"][0]["end"]) == ("00:00", "01:00")


def test_a_plan_is_removed_with_or_without_a_validity() -> None:
    body = limits.removed_plan("p", NOON, DEFAULT)
    assert body["effective_from"] == body["effective_until"] == "2026-06-02T12:00:00Z"
    short = limits.removed_plan("p", NOON, Readings(plan_removed_by="disabled"))
    assert short == {k: v for k, v in body.items() if not k.startswith("effective")} and not short["enabled"]


# --- G-14, G-34 ---------------------------------------------------------------------------------------------------


def test_what_a_client_leaves_open_of_a_discharge() -> None:
    def read(body: dict[str, Any], readings: Readings) -> tuple[int | None, float | None]:
        wish = clients.read_discharge({"discharge_power": 5} | body, "ems", EVSE, readings)
        return wish.min_soc, wish.duration_s

    other = Readings(discharge_floor_soc=35, discharge_default_s=600.0)
    assert read({}, DEFAULT) == (20, 3600.0)
    assert read({}, other) == (35, 600.0)
    assert read({"min_soc": 5, "duration": 60}, other) == (35, 60)
    assert read({"min_soc": 50, "duration": 7200}, other) == (50, 7200)


def test_no_order_to_discharge_outlives_the_link_for_long() -> None:
    order = StartDischarge("c1", ID, CHANNEL, 5_000, 3600.0, 20)
    assert body_of(order)[1]["duration"] == 900
    assert body_of(order, discharge_alone_s=120.0)[1]["duration"] == 120
    assert body_of(order, discharge_floor_soc=40)[1]["min_soc"] == 40


# --- G-16, G-17, G-29 ---------------------------------------------------------------------------------------------


class Charger:
    """One that is up, on a clock of its own."""

    def __init__(self, **readings: Any) -> None:
        self.now = Moment(1000.0, NOON)
        self.belief = DeviceBelief(StationId("A"), "TP-1", {1: EVSE}, Readings(**readings), {})
        self.belief.link.introduced("T", "M", "260420.0107", "here")
        self.belief.heard("here", self.now)

    def after(self, seconds: float) -> list[Any]:
        self.now = Moment(self.now.mono_s + seconds, self.now.utc + timedelta(seconds=seconds))
        return self.belief.tick(self.now)

    def says(self, state: str, ago_s: float = 0.0) -> list[Any]:
        at = stamp(self.now.utc - timedelta(seconds=ago_s))
        values = {"voltage": 230, "current": 0, "power": 0, "energy_delivered": 0}
        body = {"timestamp": at, "connector_id": 1, "state": state} | values
        return self.belief.telemetry(devices.read_telemetry(body), self.now)


@pytest.mark.parametrize("silent_s", [90.0, 60.0])
def test_a_silent_charger_is_away(silent_s: float) -> None:
    charger = Charger(device_silent_s=silent_s)
    assert not charger.after(silent_s - 1)
    assert [event.reason for event in charger.after(1)] == [f"silent for {silent_s:.0f} s"]


@pytest.mark.parametrize("late_s", [30.0, 10.0])
def test_late_telemetry_changes_nothing(late_s: float) -> None:
    charger = Charger(late_upload_s=late_s)
    assert charger.says("idle", ago_s=late_s + 1) == []
    assert charger.says("idle", ago_s=late_s - 1)


@pytest.mark.parametrize(("is_shutdown", "up"), [(True, False), (False, True)])
def test_an_offline_heartbeat(is_shutdown: bool, up: bool) -> None:
    charger = Charger(offline_beat_is_shutdown=is_shutdown)
    body = {"timestamp": stamp(NOON), "status": "offline", "fault_code": 0}
    charger.belief.heartbeat(devices.read_heartbeat(body, DEFAULT), charger.now)
    assert charger.belief.link.up is up


@pytest.mark.parametrize("ahead_s", [60.0, 20.0])
def test_a_stamp_of_the_future_is_none(ahead_s: float, caplog: pytest.LogCaptureFixture) -> None:
    link = Charger(stamp_ahead_s=ahead_s).belief.link
    now = Moment(1000.0, NOON)
    just, beyond = NOON + timedelta(seconds=ahead_s), NOON + timedelta(seconds=ahead_s + 1)
    assert link.place(just, now) == (just, 0.0) and not caplog.records
    assert link.place(beyond, now) == (NOON, 0.0) and "ahead" in caplog.text


# --- G-18, G-19, G-21 ---------------------------------------------------------------------------------------------


def test_a_bare_number_may_be_a_code_or_not() -> None:
    strict = Readings(bare_number_is_code=False)
    for code in (421, "421", "0421", "F-0421", "f421"):
        assert devices.fault_name(code, DEFAULT) == "F-0421"
    assert [devices.fault_name(c, strict) for c in (421, "0421")] == ["421", "0421"]
    assert [devices.fault_name(c, strict) for c in ("F-0421", "f421")] == ["F-0421", "F-0421"]


def a_record(energy_wh: int, start_wh: int | None, end_wh: int | None) -> RecordReceived:
    return RecordReceived(ID, CHANNEL, "r", NOON, NOON, energy_wh, start_wh, end_wh, None)


def test_a_record_that_contradicts_its_registers() -> None:
    assert books.contradiction(a_record(5_000, 1_000, 6_100), DEFAULT) == ""
    assert books.contradiction(a_record(5_000, 1_000, 6_101), DEFAULT).endswith("differ by 101 Wh")
    assert books.contradiction(a_record(5_000, 1_000, 6_101), Readings(record_tolerance_wh=200)) == ""
    for start_wh, end_wh in (
        (None, 9_000),
        (0, None),
        (7_000, 7_000),
        (7_000, 6_000),
    ):  # unknown, or a discharge
        assert books.contradiction(a_record(5_000, start_wh, end_wh), DEFAULT) == ""


def test_labels_without_a_zone_are_utc_or_the_sites() -> None:
    series = {"series": [{"time": "2026-06-02"}, {"time": "2026-06"}, {"time": "2026-06-02T10:00:00Z"}]}
    utc = [point.start for point in books.read_energy(series)]
    site = [point.start for point in books.read_energy(series, ZoneInfo("Europe/Amsterdam"))]
    shift = timedelta(hours=2)
    assert utc == [datetime(2026, 6, 2, tzinfo=UTC), datetime(2026, 6, 1, tzinfo=UTC), NOON - shift]
    assert utc[0] is not None and utc[1] is not None
    assert site == [utc[0] - shift, utc[1] - shift, NOON - shift]


# --- G-22, G-23, G-25 ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("share", "at_once"), [(0.1, 6), (0.5, 30)])
def test_how_many_requests_may_come_at_once(share: float, at_once: int) -> None:
    budget = Budget(Readings(burst_share=share))
    assert sum(budget.take(Kind.GET, 0.0) for _ in range(60)) == at_once


def test_an_upgrade_names_its_version_unless_the_image_is_enough() -> None:
    image = UpgradeFirmware("u", ID, CHANNEL, "260518.0002", "https://h/i.bin")
    bare = UpgradeFirmware("u", ID, CHANNEL, "260518.0002")
    named = {"firmware_version": "260518.0002"}
    assert body_of(image)[1] == named | {"url": "https://h/i.bin"}
    assert body_of(image, upgrade_names_version=False)[1] == {"url": "https://h/i.bin"}
    assert body_of(bare, upgrade_names_version=False)[1] == named  # else it would say nothing


def test_a_region_in_the_hosts_name() -> None:
    with pytest.raises(Misconfigured, match="names region us"):
        address("https://us.platform.example/v1", "eu")
    assert address("https://us.platform.example/v1", "eu", False).host == "us.platform.example"
