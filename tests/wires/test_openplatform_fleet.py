"""What readings of chargers make us believe and report: sessions, pauses, faults, old news. Values only, no sockets."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from controller.core import events as ev
from controller.core.model import SITE, Evse, EvseId, EvseState, Link, Moment, PerPhase, StationId
from controller.core.readings import Readings
from drivers.openplatform.fleet import Fleet
from drivers.openplatform.settings import CHANNEL, CloudDevice, CloudSettings
from drivers.openplatform.words import read_device, read_frame

STATION, EVSE = StationId("CP1"), EvseId("CP1/1")
NOON = datetime(2026, 6, 2, 12, 0, 0, tzinfo=UTC)


class Scene:
    """A fleet of one charger, and a clock that moves a second with every reading."""

    def __init__(self, fallback_ma: int = 6_000, readings: Readings | None = None) -> None:
        link = Link(CHANNEL, 900, 120, 60, 60)
        evse = Evse(EVSE, STATION, SITE, 32_000, 6_000, (0, 1, 2), fallback_ma, link)
        devices = {STATION: CloudDevice("dvc_1", {1: evse})}
        settings = CloudSettings(
            "https://h/v1",
            "eu",
            "me",
            "x",
            devices,
            "sole",
            frozenset(),
            "J",
            "UTC",
            (),
            readings or Readings(),
        )
        self.fleet = Fleet(settings, "h")
        self.now = Moment(100.0, NOON)

    def read(self, firmware: str | None = "260420.0107", online: bool = True, **connector: Any) -> list[Any]:
        self._tick()
        shown = {"connector_id": 1, "status": "idle"} | connector
        state = "online" if online else "offline"
        device = {"device_id": "dvc_1", "firmware_version": firmware, "status": state, "connectors": [shown]}
        return self._numbered(self.fleet.device_read(STATION, read_device(device), self.now))

    def frame(self, stamp: datetime | None = None, **connector: Any) -> list[Any]:
        self._tick()
        taken = (stamp or self.now.utc).isoformat()
        frame = read_frame(
            {"device_id": "dvc_1", "timestamp": taken, "connectors": [{"connector_id": 1} | connector]}
        )
        assert frame is not None
        return self._numbered(self.fleet.frame(frame, self.now))

    def _tick(self) -> None:
        self.now = Moment(self.now.mono_s + 1, self.now.utc + timedelta(seconds=1))

    def _numbered(self, events: list[Any]) -> list[Any]:
        for event in events:
            if isinstance(event, ev.TransactionStarted):
                self.fleet.numbered(event.evse, "7")
        return events


def kinds(events: list[Any]) -> list[str]:
    return [type(event).__name__ for event in events if not isinstance(event, ev.EvseSample)]


def sample(events: list[Any]) -> ev.EvseSample:
    return next(event for event in events if isinstance(event, ev.EvseSample))


def test_our_start_keeps_the_fallback_and_its_token() -> None:
    scene = Scene()
    scene.read()
    scene.fleet.start_sent(EVSE, "04A2", scene.now.mono_s)
    events = scene.frame(state="charging", energy_delivered=0.01)
    assert kinds(events) == ["StatusChanged", "TransactionStarted"]
    assert events[1].token == "04A2" and events[1].register_wh == 0
    scene.fleet.stop_sent(EVSE, "user")
    events = scene.frame(state="preparing", energy_delivered=0)
    assert kinds(events) == ["TransactionEnded", "StatusChanged"]
    assert (events[0].transaction, events[0].reason, events[0].register_wh) == ("7", "user", 10)


def test_a_session_found_running_counts_from_where_we_saw_it_and_at_the_maximum() -> None:
    scene = Scene()
    events = scene.read(status="charging", energy_delivered=3.5)
    assert kinds(events) == [
        "LinkUp",
        "StationBooted",
        "StatusChanged",
        "TransactionStarted",
        "FallbackRefused",
    ]
    assert events[3].register_wh == 3_500 and events[3].token is None
    scene.fleet.limit_sent(EVSE, 10_000, scene.now.mono_s)
    assert kinds(scene.read(status="idle")) == ["TransactionEnded", "StatusChanged", "FallbackStored"]


def test_a_refused_start_does_not_make_the_next_session_ours() -> None:
    scene = Scene()
    scene.read()
    scene.fleet.start_sent(EVSE, "04A2", scene.now.mono_s)
    scene.fleet.start_refused(EVSE)
    assert "FallbackRefused" in kinds(scene.frame(state="charging"))


def test_our_pause_reads_as_idle_and_does_not_end_the_session() -> None:
    scene = Scene()
    scene.read()
    scene.frame(state="charging", energy_delivered=1.0)
    scene.fleet.limit_sent(EVSE, 0, scene.now.mono_s)
    events = scene.frame(state="idle", power=0, energy_delivered=1.1)
    assert [e.state for e in events if isinstance(e, ev.StatusChanged)] == [EvseState.SUSPENDED_EVSE]
    scene.fleet.limit_sent(EVSE, 16_000, scene.now.mono_s)
    assert kinds(scene.frame(state="idle", energy_delivered=1.1)) == []  # the vehicle takes a moment
    assert kinds(scene.frame(state="charging", energy_delivered=1.2)) == ["StatusChanged"]
    assert kinds(scene.frame(state="idle", energy_delivered=1.2))[:2] == ["TransactionEnded", "StatusChanged"]


def test_a_vehicle_that_does_not_come_back_from_a_pause_has_ended() -> None:
    scene = Scene()
    scene.read()
    scene.frame(state="charging", energy_delivered=1.0)
    scene.fleet.limit_sent(EVSE, 0, scene.now.mono_s)
    scene.frame(state="idle", energy_delivered=1.0)
    scene.fleet.limit_sent(EVSE, 16_000, scene.now.mono_s)
    scene.now = Moment(scene.now.mono_s + 61, scene.now.utc + timedelta(seconds=61))
    assert kinds(scene.frame(state="idle", energy_delivered=1.0))[:2] == ["TransactionEnded", "StatusChanged"]


def test_a_pause_ends_with_the_session_when_its_energy_is_gone() -> None:
    scene = Scene()
    scene.read()
    scene.frame(state="charging", energy_delivered=1.0)
    scene.fleet.limit_sent(EVSE, 0, scene.now.mono_s)
    assert "TransactionEnded" in kinds(scene.frame(state="idle", energy_delivered=0))


def test_a_fault_is_shown_and_the_session_ends_with_what_comes_after() -> None:
    scene = Scene()
    scene.read()
    scene.frame(state="charging")
    events = scene.frame(state="fault", fault_code="F-0421")
    assert kinds(events) == ["StatusChanged"] and events[0].fault == "F-0421"
    assert "TransactionEnded" in kinds(scene.frame(state="unavailable"))


def test_less_session_energy_is_another_session() -> None:
    scene = Scene()
    scene.read()
    scene.frame(state="charging", energy_delivered=12.0)
    scene.fleet.lose_all("gone")
    events = scene.read(status="charging", energy_delivered=0.5)
    assert [k for k in kinds(events) if k.startswith("Transaction")] == [
        "TransactionEnded",
        "TransactionStarted",
    ]
    ended = next(e for e in events if isinstance(e, ev.TransactionEnded))
    assert ended.register_wh == 12_000


def test_unknown_states_keep_the_last_and_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene()
    scene.read()
    scene.frame(state="charging")
    for _ in range(3):
        assert kinds(scene.frame(state="thinking")) == []
    assert scene.fleet.is_flowing(EVSE)
    assert caplog.text.count("thinking") == 1


def test_old_news_is_dropped_and_a_stamp_from_the_future_is_none() -> None:
    scene = Scene()
    scene.read()
    scene.frame(state="charging", power=5)
    assert scene.frame(NOON - timedelta(minutes=1), state="idle") == []
    assert kinds(scene.frame(datetime(2099, 1, 1, tzinfo=UTC), state="idle"))[0] == "TransactionEnded"
    assert kinds(scene.frame(state="charging"))[0] == "StatusChanged"


def test_samples_carry_their_age_and_the_worst_phase() -> None:
    scene = Scene()
    scene.read()
    fresh = sample(scene.frame(state="charging", power=6.9, soc=40, energy_delivered=-2.5))
    assert (fresh.taken_s, fresh.power_w, fresh.soc, fresh.register_wh) == (
        scene.now.mono_s,
        6_900,
        40,
        2_500,
    )
    assert fresh.current_ma == PerPhase(10_000, 10_000, 10_000)
    late = sample(
        scene.read(status="charging", last_telemetry_time=(scene.now.utc - timedelta(seconds=0)).isoformat())
    )
    assert late.taken_s == scene.now.mono_s and late.current_ma == PerPhase(None, None, None)
    one_phase = sample(scene.read(status="charging", power=6.9, voltage=230.1, current=30.0))
    assert one_phase.current_ma == PerPhase(30_000, None, None)
    on_dc = sample(scene.read(status="charging", power=6.9, voltage=711.2, current=133.0))
    assert on_dc.current_ma == PerPhase(10_000, 10_000, 10_000)
    stream_later = sample(scene.frame(state="charging", power=6.9))
    assert stream_later.current_ma == PerPhase(10_000, 10_000, 10_000)
    exporting = sample(scene.frame(state="discharging", power=-6.9))
    assert exporting.current_ma == PerPhase(-10_000, -10_000, -10_000)


def test_a_single_phase_vehicle_is_booked_at_its_real_current_also_between_rest_reads() -> None:
    scene = Scene()
    scene.read()
    first = sample(scene.frame(state="charging", power=7.36))
    assert first.current_ma == PerPhase(10_667, 10_667, 10_667)  # nothing else is known yet
    assert scene.fleet.look_due_s(STATION) < scene.now.mono_s + 30
    scene.fleet.read_tried(STATION, scene.now.mono_s)
    read = sample(scene.read(status="charging", power=7.36, voltage=230.0, current=32.0))
    assert read.current_ma == PerPhase(32_000, None, None)
    later = sample(scene.frame(state="charging", power=6.9))
    assert later.current_ma == PerPhase(30_000, None, None)
    assert scene.fleet.look_due_s(STATION) >= scene.now.mono_s + 100
    scene.frame(state="idle", power=0)
    assert scene.fleet.look_due_s(STATION) == float("inf")
    again = sample(scene.frame(state="charging", power=11.04))  # another vehicle
    assert again.current_ma == PerPhase(16_000, 16_000, 16_000)


def test_a_charger_that_tells_no_current_is_not_asked_again_and_again() -> None:
    scene = Scene()
    scene.read()
    scene.frame(state="charging", power=7.36)
    for _ in range(3):
        scene.fleet.read_tried(STATION, scene.now.mono_s)
        scene.read(status="charging", power=7.36)
    assert scene.fleet.look_due_s(STATION) >= scene.now.mono_s + 100


def test_a_discharge_is_a_session_of_its_own_and_adds_nothing_to_the_import_register() -> None:
    scene = Scene()
    scene.read()
    scene.fleet.start_sent(EVSE, "04A2", scene.now.mono_s)
    scene.frame(state="charging", power=6.9, energy_delivered=5.0)
    scene.fleet.discharge_sent(EVSE, scene.now.mono_s)
    events = scene.frame(state="discharging", power=-6.9, energy_delivered=5.4)
    assert kinds(events) == ["TransactionEnded", "StatusChanged", "TransactionStarted"]
    assert (events[0].register_wh, events[0].token) == (5_000, "04A2")
    assert events[2].register_wh is None
    out = sample(events)
    assert (out.register_wh, out.power_w, out.current_ma[0]) == (None, -6_900, -10_000)
    assert scene.fleet.is_discharging(EVSE)
    ended = scene.frame(state="preparing", power=0, energy_delivered=0)
    assert kinds(ended)[0] == "TransactionEnded" and ended[0].register_wh is None


def test_a_foreign_discharge_or_one_that_may_turn_counts_at_the_maximum() -> None:
    foreign = Scene()
    foreign.read()
    assert "FallbackRefused" in kinds(foreign.frame(state="discharging", power=-5))
    turning = Scene(readings=Readings(discharge_ends_idle=False))
    turning.read()
    turning.fleet.discharge_sent(EVSE, turning.now.mono_s)
    assert "FallbackRefused" in kinds(turning.frame(state="discharging", power=-5))


def test_what_the_platform_remembers_is_no_sign_of_life() -> None:
    scene = Scene()
    old = (scene.now.utc - timedelta(seconds=50)).isoformat()
    scene.read(last_telemetry_time=old)
    assert scene.fleet.heard_s(STATION) < scene.now.mono_s - 49
    scene.read(last_telemetry_time=scene.now.utc.isoformat())
    assert scene.fleet.heard_s(STATION) >= scene.now.mono_s - 2


def test_an_old_reading_is_taken_when_it_was_taken() -> None:
    scene = Scene()
    stamp = scene.now.utc - timedelta(seconds=39)
    old = sample(scene.read(status="idle", power=0, last_telemetry_time=stamp.isoformat()))
    assert old.taken_s == scene.now.mono_s - 40


def test_firmware_and_link() -> None:
    scene = Scene()
    assert kinds(scene.read(firmware="250101.0001")) == ["AccessRefused"]
    assert kinds(scene.read(firmware="250101.0001")) == []
    assert scene.fleet.enabled_devices() == () and scene.frame(state="charging") == []
    assert kinds(scene.read())[:2] == ["LinkUp", "StationBooted"]
    assert scene.fleet.enabled_devices() == ("dvc_1",)
    assert kinds(scene.read(online=False)) == ["LinkDown"]
    assert kinds(scene.read(online=False)) == [] and scene.frame(state="charging") == []
    assert kinds(scene.read()) == ["LinkUp", "StatusChanged", "FallbackStored"]
    assert kinds(scene.read(firmware="260421.0001")) == ["StationBooted"]
    assert kinds(scene.read(firmware=None)) == ["LinkDown", "AccessRefused"]


@pytest.mark.parametrize(
    ("fallback_ma", "readings", "told"),
    [
        (6_000, Readings(), ev.FallbackStored),
        (0, Readings(), ev.FallbackStored),
        (0, Readings(below_minimum_pauses=False), ev.FallbackRefused),
        (6_000, Readings(idle_stays_idle=False), ev.FallbackRefused),
    ],
)
def test_fallback_follows_the_readings(fallback_ma: int, readings: Readings, told: type) -> None:
    events = Scene(fallback_ma, readings).read()
    assert [type(e) for e in events if isinstance(e, ev.FallbackStored | ev.FallbackRefused)] == [told]
