"""What a charger's words make the on-site host believe and report: sessions, pauses, faults, old news. No sockets."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from onsite_devices_bench import NOON, a_charger, an_evse

from controller.core import events as ev
from controller.core.model import EvseState, Moment, PerPhase
from controller.core.readings import Readings
from drivers.openplatform import devices_words as words
from drivers.openplatform.answers import stamp
from drivers.openplatform.devices_belief import DeviceBelief

EVSE = an_evse().id


class Scene:
    """A charger that is up. `ago_s` says how old a message is; every message moves the clock by a second."""

    def __init__(
        self, fallback_ma: int = 6_000, phases: tuple[int, ...] = (0, 1, 2), **readings: Any
    ) -> None:
        evses = dict(a_charger().evses) | {1: an_evse(fallback_ma=fallback_ma, phases=phases)}
        self._made = lambda memory: DeviceBelief(
            an_evse().station, "TP-1", evses, Readings(**readings), memory
        )
        self.now = Moment(1000.0, NOON)
        self.count = 0
        self.clock_off_s = 0.0
        self.belief = self._made({})
        self.up()

    def up(self) -> list[ev.Event]:
        told = self.belief.link.introduced("T", "TP-AC22", "260420.0107", "here")
        return told + self._numbered(self.belief.heard("here", self.now))

    def restart(self) -> list[ev.Event]:
        self.belief = self._made(self.belief.memory())
        return self.up()

    def wait(self, seconds: float) -> list[ev.Event]:
        self.now = Moment(self.now.mono_s + seconds, self.now.utc + timedelta(seconds=seconds))
        return self.belief.tick(self.now)

    def telemetry(
        self, state: str, kwh: float = 0.0, kw: float = 0.0, ago_s: float = 0, **more: Any
    ) -> list[ev.Event]:
        self.wait(1)
        body = {"timestamp": self._stamp(ago_s), "connector_id": 1, "state": state, "energy_delivered": kwh}
        values = {"power": kw, "voltage": 230.0, "current": abs(kw) / 0.69}
        reading = words.read_telemetry(body | values | more)
        return self._numbered(self.belief.telemetry(reading, self.now))

    def event(self, kind: str, ago_s: float = 0, **data: Any) -> list[ev.Event]:
        self.wait(1)
        body = {"timestamp": self._stamp(ago_s), "connector_id": 1, "event_type": kind, "data": data}
        return self._numbered(self.belief.event(words.read_event(body, Readings()), self.now))

    def heartbeat(self, fault_code: int = 0) -> list[ev.Event]:
        body = {"timestamp": self._stamp(0), "status": "online", "fault_code": fault_code}
        return self.belief.heartbeat(words.read_heartbeat(body, Readings()), self.now)

    def record(self, began_s: float, ended_s: float) -> list[ev.Event]:
        body = {"record_id": "r", "connector_id": 1, "start_time": self._stamp(began_s)}
        body |= {"end_time": self._stamp(ended_s), "energy": 1, "max_power": 1, "avg_power": 1}
        return self.belief.record(words.read_record(body | {"meter_start": 0, "meter_end": 1}), self.now)

    def ours(self) -> None:
        self.belief.start_handed(EVSE, None, self.now)

    def _stamp(self, ago_s: float) -> str:
        return stamp(self.now.utc - timedelta(seconds=ago_s + self.clock_off_s))

    def _numbered(self, events: list[ev.Event]) -> list[ev.Event]:
        for event in events:
            if isinstance(event, ev.TransactionStarted) and event.transaction is None:
                self.count += 1
                self.belief.numbered(event.evse, f"tx{self.count}")
        return events


def of(events: list[ev.Event], kind: type[Any]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def states(events: list[ev.Event]) -> list[EvseState]:
    return [event.state for event in of(events, ev.StatusChanged)]


# --- sessions -----------------------------------------------------------------------------------------------------


def test_a_session_told_by_events() -> None:
    s = Scene()
    assert states(s.event("plug_in")) == [EvseState.PREPARING]
    assert states(s.telemetry("idle")) == []
    s.ours()
    started = s.event("start")
    (begun,) = of(started, ev.TransactionStarted)
    assert (begun.register_wh, begun.inferred, begun.offline, begun.transaction) == (0, False, False, None)
    assert states(started) == [EvseState.CHARGING]
    (sample,) = of(s.telemetry("charging", 1.2345, 11.04), ev.EvseSample)
    assert (sample.register_wh, sample.power_w) == (1234, 11_040)
    stopped = s.event("stop", reason="target_soc")
    (ended,) = of(stopped, ev.TransactionEnded)
    assert (ended.transaction, ended.reason, ended.register_wh) == ("tx1", "target_soc", 1234)
    assert states(stopped) == [EvseState.FINISHING]
    assert states(s.telemetry("idle")) == []
    assert states(s.event("plug_out")) == [EvseState.AVAILABLE]


def test_a_session_seen_in_telemetry_only() -> None:
    s = Scene()
    s.telemetry("idle")
    (begun,) = of(s.telemetry("charging", 0.1, 4), ev.TransactionStarted)
    assert begun.inferred and begun.register_wh == 0
    (ended,) = of(s.telemetry("idle"), ev.TransactionEnded)
    assert ended.reason == "inferred from idle" and ended.register_wh == 100


def test_the_same_message_twice_changes_nothing() -> None:
    s = Scene()
    for kind in ("plug_in", "start", "stop", "plug_out"):
        s.wait(5)
        event = words.read_event(
            {"timestamp": stamp(s.now.utc), "connector_id": 1, "event_type": kind, "data": {}}, Readings()
        )
        assert s._numbered(s.belief.event(event, s.now))
        assert s.belief.event(event, s.now) == []


def test_a_start_event_after_the_telemetry_that_showed_it_is_the_same_session() -> None:
    s = Scene()
    s.telemetry("idle")
    s.telemetry("charging", 0.1, 4)
    assert of(s.event("start", ago_s=2), ev.TransactionStarted) == []
    assert of(s.telemetry("idle", 0.1), ev.TransactionEnded) == []  # told now: an idle reading is a pause
    assert len(of(s.event("stop"), ev.TransactionEnded)) == 1


def test_telemetry_taken_before_the_stop_does_not_begin_a_session() -> None:
    s = Scene()
    s.event("start")
    s.telemetry("charging", 1, 4)
    s.event("stop")
    assert of(s.telemetry("charging", 1, 4, ago_s=2), ev.TransactionStarted) == []
    same_second = s.telemetry("charging", 1, 4, ago_s=2)
    assert of(same_second, ev.TransactionStarted) == []
    assert len(of(s.telemetry("charging", 0.1, 4), ev.TransactionStarted)) == 1


def test_a_stop_older_than_the_power_that_flows_is_an_old_story() -> None:
    s = Scene()
    s.event("start")
    s.wait(60)
    s.telemetry("charging", 1, 4)
    assert of(s.event("stop", ago_s=30), ev.TransactionEnded) == []


def test_a_pulled_plug_ends_the_session() -> None:
    s = Scene()
    s.event("start")
    s.telemetry("charging", 1, 4)
    events = s.event("plug_out")
    assert [e.reason for e in of(events, ev.TransactionEnded)] == ["ev_disconnected"]
    assert states(events) == [EvseState.AVAILABLE]


def test_our_reason_for_a_stop_stands() -> None:
    s = Scene()
    s.event("start")
    s.belief.stop_handed(EVSE, "energy reached")
    assert of(s.event("stop", reason="user_request"), ev.TransactionEnded)[0].reason == "energy reached"


def test_a_session_that_passed_while_the_link_was_down_is_told_as_past() -> None:
    s = Scene()
    s.telemetry("idle")
    events = s.event("start", ago_s=3000) + s.event("stop", ago_s=1200)
    (begun,), (ended,) = of(events, ev.TransactionStarted), of(events, ev.TransactionEnded)
    assert begun.offline and ended.offline and ended.ended - begun.started == timedelta(seconds=1801)
    assert EvseState.CHARGING not in states(events)


def test_another_session_is_known_by_its_energy() -> None:
    s = Scene()
    s.telemetry("idle")
    s.telemetry("charging", 8.0, 4)
    s.wait(60)
    events = s.telemetry("charging", 0.2, 4)
    assert [e.register_wh for e in of(events, ev.TransactionEnded)] == [8000]
    assert [e.register_wh for e in of(events, ev.TransactionStarted)] == [0]


def test_a_stop_that_never_comes_is_inferred_after_some_doubt() -> None:
    s = Scene()
    s.event("plug_in")
    s.event("start")
    s.telemetry("charging", 2.0, 4)
    assert of(s.telemetry("idle", 0.0), ev.TransactionEnded) == []
    assert s.wait(5) == []
    events = s.wait(6)
    assert [(e.register_wh, e.reason) for e in of(events, ev.TransactionEnded)] == [
        (2000, "inferred: its energy is gone")
    ]
    assert states(events) == [EvseState.FINISHING]


def test_a_record_ends_the_session_whose_stop_was_lost() -> None:
    s = Scene()
    s.event("start")
    s.telemetry("charging", 2.0, 4)
    assert s.record(500, 100) == []  # of a session before
    assert len(of(s.record(2, 0), ev.TransactionEnded)) == 1


# --- pauses -------------------------------------------------------------------------------------------------------


def test_a_pause_of_ours_reads_as_suspended() -> None:
    s = Scene()
    s.telemetry("idle")
    s.ours()
    s.telemetry("charging", 1.0, 4)
    s.belief.limit_handed(EVSE, 0, s.now)
    assert states(s.telemetry("idle", 1.0)) == [EvseState.SUSPENDED_EVSE]
    s.belief.limit_handed(EVSE, 6_000, s.now)
    assert states(s.telemetry("idle", 1.0)) == []  # the vehicle may take a while
    assert states(s.telemetry("charging", 1.1, 4)) == [EvseState.CHARGING]


def test_a_vehicle_that_rests_keeps_its_session() -> None:
    s = Scene()
    s.event("start")
    s.telemetry("charging", 1.0, 4)
    assert states(s.telemetry("idle", 1.0)) == [EvseState.SUSPENDED_EV]
    s.wait(3600)
    assert states(s.telemetry("charging", 1.1, 4)) == [EvseState.CHARGING]
    assert s.count == 1


# --- fallback -----------------------------------------------------------------------------------------------------


def test_the_fallback_counts_while_idle_and_in_sessions_of_ours_only() -> None:
    s = Scene()
    assert of(s.telemetry("idle"), ev.FallbackStored)[0].limit_ma == 6_000
    (refused,) = of(s.telemetry("charging", 1, 4), ev.FallbackRefused)
    assert "not started by us" in refused.reason
    assert of(s.telemetry("idle"), ev.FallbackStored)
    s.ours()
    events = s.telemetry("charging", 0.1, 4)
    assert not of(events, ev.FallbackRefused) and of(events, ev.TransactionStarted)
    s.belief.link.lose("gone")
    s.belief.heard("here", s.now)
    assert of(s.telemetry("charging", 0.2, 4), ev.FallbackStored)


def test_a_start_the_charger_refused_makes_no_session_ours() -> None:
    s = Scene()
    s.telemetry("idle")
    s.ours()
    s.belief.start_refused(EVSE)
    assert of(s.telemetry("charging", 0.1, 4), ev.FallbackRefused)


def test_after_our_restart_a_session_of_ours_stays_ours() -> None:
    s = Scene()
    s.telemetry("idle")
    s.ours()
    s.event("start")
    s.telemetry("charging", 1.0, 4)
    (again,) = of(s.restart(), ev.TransactionStarted)
    assert again.transaction == "tx1" and again.inferred
    events = s.telemetry("charging", 1.1, 4)
    assert of(events, ev.FallbackStored) and not of(events, ev.TransactionStarted)
    assert len(of(s.event("stop"), ev.TransactionEnded)) == 1
    s.restart()
    assert states(s.telemetry("idle")) == [EvseState.AVAILABLE]


def test_a_start_on_its_way_survives_our_restart() -> None:
    s = Scene()
    s.event("plug_in")
    s.ours()
    s.restart()
    assert states(s.telemetry("idle")) == [EvseState.PREPARING]
    assert not of(s.telemetry("charging", 0.1, 4), ev.FallbackRefused)


# --- samples ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("phases", "more", "wanted"),
    [
        ((0, 1, 2), {}, (16_000, 16_000, 16_000)),
        ((0,), {"power": 3.68, "current": 16}, (16_000, None, None)),
        (
            (0, 1, 2),
            {"power": 3.68, "current": 16},
            (16_000, 16_000, 16_000),
        ),  # which one carries it was not said
        ((0, 1, 2), {"voltage": 711.2, "current": 133.0, "power": 94.6}, (137_102,) * 3),
        (
            (0, 1, 2),
            {
                "phase_details": {
                    "phase_a": {"voltage": 230, "current": 16.0001},
                    "phase_c": {"voltage": 230, "current": 0},
                }
            },
            (16_001, None, 0),
        ),
    ],
)
def test_currents(phases: tuple[int, ...], more: Any, wanted: Any) -> None:
    s = Scene(phases=phases)
    (sample,) = of(s.telemetry("charging", 1.0, 11.04, **more), ev.EvseSample)
    assert sample.current_ma == PerPhase(*wanted)


def test_discharge_is_negative_and_no_import() -> None:
    s = Scene()
    s.telemetry("idle")
    s.ours()
    events = s.telemetry("discharging", 0.5, 5.0)  # a charger that sends magnitudes
    assert states(events) == [EvseState.DISCHARGING]
    (begun,), (sample,) = of(events, ev.TransactionStarted), of(events, ev.EvseSample)
    assert begun.register_wh is None and sample.register_wh is None
    assert sample.power_w == -5_000 and sample.current_ma.l1 < 0
    assert of(s.event("stop"), ev.TransactionEnded)[0].register_wh is None


def test_late_telemetry_never_becomes_live() -> None:
    s = Scene()
    s.telemetry("idle")
    assert s.telemetry("charging", 1, 4, ago_s=600) == []
    (sample,) = of(s.telemetry("charging", 1, 4), ev.EvseSample)
    assert s.telemetry("idle", ago_s=20) == []  # overtaken on the way
    assert sample.taken_s == s.now.mono_s - 1


def test_a_sample_that_took_its_time_is_dated_back() -> None:
    s = Scene()
    (sample,) = of(s.telemetry("charging", 1, 4, ago_s=20), ev.EvseSample)
    assert sample.taken_s == s.now.mono_s - 20


@pytest.mark.parametrize("off_s", [400.0, -400.0])
def test_a_wrong_clock_is_corrected_by_heartbeats(off_s: float, caplog: pytest.LogCaptureFixture) -> None:
    s = Scene()
    s.clock_off_s = off_s
    s.heartbeat()
    s.heartbeat()
    assert states(s.telemetry("charging", 1, 4)) == [EvseState.CHARGING]
    (sample,) = of(s.telemetry("charging", 1, 4), ev.EvseSample)
    assert sample.taken_s == s.now.mono_s
    s.clock_off_s = 0.0  # its clock was set
    s.heartbeat()
    assert of(s.telemetry("charging", 1.1, 4), ev.EvseSample)
    assert len([r for r in caplog.records if "clock is" in r.getMessage()]) == 1


# --- faults -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "name"),
    [("F-0421", "F-0421"), (421, "F-0421"), ("421", "F-0421"), ("E7", "E7"), (None, "unknown")],
)
def test_a_fault_begins_once_and_ends(code: Any, name: str) -> None:
    s = Scene()
    (told,) = s.event("fault", fault_code=code, fault_message="no feedback")
    assert (told.code, told.active, told.evse, told.text) == (name, True, EVSE, "no feedback")
    assert s.event("fault", fault_code=code) == []
    (shown,) = of(s.telemetry("fault"), ev.StatusChanged)
    assert (shown.state, shown.fault) == (EvseState.FAULTED, name)
    (over,) = of(s.telemetry("idle"), ev.FaultReported)
    assert (over.code, over.active) == (name, False)


def test_faults_of_the_whole_charger_and_alarms_end_with_a_healthy_heartbeat() -> None:
    s = Scene()
    (whole,) = s.event("fault", fault_code="F-0204", details={"scope": "charger"})
    assert whole.evse is None
    s.event("alarm", fault_code="F-0601")
    assert of(s.telemetry("idle"), ev.FaultReported) == []
    assert s.heartbeat(204) == []  # the same one
    assert [e.code for e in s.heartbeat(411)] == ["F-0411"]
    assert {(e.code, e.active) for e in s.heartbeat()} == {
        ("F-0204", False),
        ("F-0601", False),
        ("F-0411", False),
    }


def test_a_fault_does_not_end_the_session() -> None:
    s = Scene()
    s.event("start")
    s.telemetry("charging", 1, 4)
    assert of(s.telemetry("fault", 1), ev.TransactionEnded) == []
    assert states(s.telemetry("charging", 1, 4)) == [EvseState.CHARGING]
