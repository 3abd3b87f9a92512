"""Alarms that no single fact justifies: reconnect storms, silence, stuck vehicles, the same fault at many stations."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from controller.core import events as ev
from controller.core.depot import Depot
from controller.core.model import (
    SITE,
    Circuit,
    Evse,
    EvseState,
    Link,
    Moment,
    Site,
    StationId,
    each_phase,
    evse_id,
)
from controller.core.snapshot import AlarmView
from controller.core.supervisor import PREPARING_S, SILENT_DELAY_S
from controller.core.trouble import CLUSTER_S, CODES_KEPT, STORM_S, Trouble

START = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
OCPP, CLOUD = "ocpp1.6", "open-platform/cloud"
A, B, C, D = (StationId(name) for name in "ABCD")


def at(second: float) -> Moment:
    return Moment(1000.0 + second, START + timedelta(seconds=second))


def depot(channel: str = "ocpp", autostart: bool = False, companion: str | None = None) -> Depot:
    link = Link(channel, lease_s=180, lease_slack_s=30, raise_gap_s=10, answer_s=12)
    evses = {
        evse_id(s, 1): Evse(
            evse_id(s, 1), s, SITE, 32_000, 6_000, (0,), 6_000, link, autostart=autostart, companion=companion
        )
        for s in (A, B, C, D)
    }
    circuit = Circuit(SITE, None, each_phase(200_000), None, each_phase(0))
    made = Depot(Site("d", "UTC", 230_000, {SITE: circuit}, evses, accept_unknown_tokens=True), "1")
    for station in (A, B, C, D):
        made.apply(ev.LinkUp(station, OCPP if channel == "ocpp" else channel, "peer"), at(0))
        made.apply(ev.FallbackStored(evse_id(station, 1), channel, 6_000), at(0))
        made.apply(ev.StatusChanged(evse_id(station, 1), channel, EvseState.AVAILABLE), at(0))
    return made


def alarms(place: Depot, second: float) -> Sequence[AlarmView]:
    return place.step(at(second)).snapshot.alarms


def kinds(place: Depot, second: float) -> list[tuple[str, str]]:
    return [(alarm.kind, alarm.source) for alarm in alarms(place, second)]


# --- links --------------------------------------------------------------------------------------------------------


def test_more_than_five_links_within_ten_minutes_are_a_storm() -> None:
    place = depot()
    for number in range(1, 5):
        place.apply(ev.LinkDown(A, OCPP, "reset"), at(number * 60))
        place.apply(ev.LinkUp(A, OCPP, "peer"), at(number * 60 + 1))
    assert kinds(place, 250) == [], "five"
    place.apply(ev.LinkUp(A, OCPP, "peer"), at(300))  # a link that replaces another counts as well
    [alarm] = alarms(place, 301)
    assert (alarm.kind, alarm.source, alarm.priority) == ("fault-code", "A F-0302", 3)
    assert alarm.text == "F-0302 reconnect storm: 6 links in 10 min, last over ocpp1.6"
    assert [kinds(place, STORM_S + wait) for wait in (20, 30)][1] == [], "the first is old now"


def test_a_charger_that_fell_silent_over_the_platform() -> None:
    place = depot(companion=CLOUD)
    place.apply(ev.LinkUp(A, CLOUD, "host"), at(1))
    place.apply(ev.LinkDown(A, CLOUD, "no heartbeat"), at(2))
    assert kinds(place, 3) == []
    [alarm] = alarms(place, 3 + SILENT_DELAY_S)
    assert (alarm.source, alarm.text) == ("A F-0301", f"F-0301 heartbeat lost over {CLOUD}: no heartbeat")
    place.apply(ev.LinkUp(A, CLOUD, "host"), at(60))
    assert [kinds(place, 61), kinds(place, 70)][1] == []


@pytest.mark.parametrize("state", ["off", "down"])
def test_while_the_whole_channel_is_gone_no_charger_is_blamed(state: str) -> None:
    place = depot(companion=CLOUD)
    place.apply(ev.LinkUp(A, CLOUD, "host"), at(1))
    place.apply(ev.ChannelChanged(CLOUD, state, "why"), at(2))
    place.apply(ev.LinkDown(A, CLOUD, "with it"), at(2))
    seen = [kinds(place, second) for second in range(3, 60)]
    assert {kind for found in seen for kind, _ in found} <= {"channel"}


def test_over_ocpp_the_offline_alarm_is_enough() -> None:
    place = depot()
    place.apply(ev.LinkDown(A, OCPP, "gone"), at(1))
    seen = [kinds(place, second) for second in range(1, 60)]
    assert seen[-1] == [("offline", "A/1")]


# --- stuck --------------------------------------------------------------------------------------------------------


def stuck(place: Depot, until: float) -> list[str]:
    seen = [alarms(place, second) for second in range(2, int(until), 10)]
    return [alarm.source for alarm in seen[-1] if alarm.kind == "stuck"]


def test_a_plugged_vehicle_whose_start_never_comes() -> None:
    place = depot()
    place.apply(ev.StatusChanged(evse_id(A, 1), OCPP, EvseState.PREPARING), at(1))
    place.apply(ev.StatusChanged(evse_id(B, 1), OCPP, EvseState.PREPARING), at(1))
    place.apply(ev.TokenPresented(A, "TAG1"), at(2))
    assert stuck(place, PREPARING_S - 10) == []
    assert stuck(place, PREPARING_S + 30) == ["A/1"], "nobody asked for anything at B"


def test_a_session_that_does_not_leave_preparing() -> None:
    place = depot()
    place.apply(ev.StatusChanged(evse_id(A, 1), OCPP, EvseState.PREPARING), at(1))
    place.apply(ev.TransactionStarted(evse_id(A, 1), OCPP, "T", "TAG1", 0, at(1).utc), at(1))
    assert stuck(place, PREPARING_S + 30) == ["A/1"]


def test_an_order_that_starts_nothing_and_its_end() -> None:
    place = depot()
    place.apply(ev.StatusChanged(evse_id(A, 1), OCPP, EvseState.PREPARING), at(1))
    place.apply(ev.StartWished("o", "me", evse_id(A, 1)), at(1))
    assert stuck(place, PREPARING_S + 30) == ["A/1"]
    place.apply(ev.StatusChanged(evse_id(A, 1), OCPP, EvseState.AVAILABLE), at(650))
    place.apply(ev.StatusChanged(evse_id(A, 1), OCPP, EvseState.PREPARING), at(660))
    seen = [alarms(place, second) for second in range(660, 2000, 10)]
    assert seen[-1] == (), "the next vehicle has not asked"


def test_an_autostart_evse_wishes_for_the_vehicle_once() -> None:
    place = depot(CLOUD, autostart=True)
    place.apply(ev.StatusChanged(evse_id(A, 1), CLOUD, EvseState.PREPARING), at(1))
    assert stuck(place, PREPARING_S + 30) == ["A/1"]
    place.apply(ev.TransactionStarted(evse_id(A, 1), CLOUD, "T", None, 0, at(640).utc), at(640))
    place.apply(ev.StatusChanged(evse_id(A, 1), CLOUD, EvseState.CHARGING), at(640))
    place.apply(ev.TransactionEnded(A, evse_id(A, 1), "T", "full", 0, at(650).utc), at(650))
    place.apply(ev.StatusChanged(evse_id(A, 1), CLOUD, EvseState.PREPARING), at(650))
    seen = [alarms(place, second) for second in range(660, 2000, 10)]
    assert [alarm.kind for alarm in seen[-1]] == [], "it had its session"


# --- clusters -----------------------------------------------------------------------------------------------------


def fault(place: Depot, station: StationId, code: str, second: float, firmware: str = "") -> None:
    if firmware:
        place.apply(ev.StationBooted(station, OCPP, "V", "M", firmware), at(second))
    place.apply(ev.FaultReported(station, evse_id(station, 1), OCPP, code, True), at(second))


def test_three_stations_with_one_code_are_one_story_told_first() -> None:
    place = depot()
    fault(place, A, "F-0421", 1, "3.0.1")
    fault(place, B, "F-0421", 2, "3.1.0")
    assert [kind for kind, _ in kinds(place, 3)] == ["fault-code"] * 2
    fault(place, C, "F-0421", 4)
    found = alarms(place, 5)
    assert [alarm.kind for alarm in found] == ["fault-cluster"] + ["fault-code"] * 3
    assert found[0].source == "F-0421"
    assert found[0].text == "F-0421 at 3 stations within 7 days, firmware 3.0.1, 3.1.0: A, B, C"


def test_two_of_the_same_firmware_are_enough_and_the_rest_is_not_named() -> None:
    place = depot()
    fault(place, A, "F-0421", 1, "3.0.1")
    fault(place, A, "F-0421", 2)
    assert "fault-cluster" not in dict(kinds(place, 3)), "one station, twice"
    fault(place, B, "F-0421", 4, "3.0.1")
    fault(place, C, "F-0204", 4, "3.0.1")
    [alarm] = [alarm for alarm in alarms(place, 5) if alarm.kind == "fault-cluster"]
    assert alarm.text == "F-0421 at 2 stations within 7 days, firmware 3.0.1: A, B"


def test_a_story_lasts_a_week_whether_or_not_the_faults_do() -> None:
    place = depot()
    for station in (A, B, C):
        fault(place, station, "F-0421", 1)
        place.apply(ev.FaultReported(station, evse_id(station, 1), OCPP, "F-0421", False), at(2))
    assert kinds(place, 60) == [("fault-cluster", "F-0421")]
    fault(place, A, "F-0421", CLUSTER_S)
    place.apply(ev.FaultReported(A, evse_id(A, 1), OCPP, "F-0421", False), at(CLUSTER_S))
    assert kinds(place, CLUSTER_S) == [("fault-cluster", "F-0421")]
    assert [kinds(place, CLUSTER_S + wait) for wait in (10, 20)][1] == []


@pytest.mark.parametrize(
    ("said", "clusters"),
    [("GroundFailure L2", 1), ("station: GroundFailure", 1), ("OtherError E7", 0), ("fault", 0)],
)
def test_a_status_tells_its_code_too(said: str, clusters: int) -> None:
    place = depot()
    for station in (A, B, C):
        place.apply(ev.StatusChanged(evse_id(station, 1), OCPP, EvseState.FAULTED, said), at(1))
    found = [source for kind, source in kinds(place, 2) if kind == "fault-cluster"]
    assert found == ["GroundFailure"] * clusters


def test_whoever_invents_codes_fills_no_memory() -> None:
    trouble = Trouble()
    for number in range(3 * CODES_KEPT):
        trouble.fault(A, f"X-{number}", "", 0.0)
        trouble.fault(A, "F-0421", "1", 0.0)
    trouble.fault(B, "F-0421", "1", 1.0)
    for number in range(1000):
        trouble.link_up(A, OCPP, float(number))
    assert len(trouble._codes) == CODES_KEPT
    assert [cluster.code for cluster in trouble.clusters(1.0)] == ["F-0421"], "what is told again stays"
    assert [storm.links for storm in trouble.storms(1000.0)] == [20]
