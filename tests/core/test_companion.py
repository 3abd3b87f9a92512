"""Two channels to one station: OCPP leads, what the Open Platform says of it is evidence and never a session."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from controller.core import events as ev
from controller.core.commands import (
    Entry,
    SetLimit,
    StartDischarge,
    StationSaved,
    StopCharging,
)
from controller.core.commitments import OVERDRAW_HOLD_S
from controller.core.decide import Decision
from controller.core.depot import Depot
from controller.core.model import (
    EvseId,
    EvseState,
    Link,
    Moment,
    PerPhase,
    StationId,
    family_of,
)
from controller.core.snapshot import EvseView, OrderView
from tests.small_site import a_site, an_evse

START = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
LINK = Link("ocpp", lease_s=180, lease_slack_s=30, raise_gap_s=10, answer_s=12)
ONE, CP1 = EvseId("CP1/1"), StationId("CP1")
OCPP, CLOUD = "ocpp1.6", "open-platform/cloud"


def at(second: float) -> Moment:
    return Moment(1000.0 + second, START + timedelta(seconds=second))


def amps(value: int) -> PerPhase[int | None]:
    return PerPhase(value, value, value)


class Place:
    """One station with both channels up, its fallback stored and a vehicle plugged in."""

    def __init__(self, session: bool = True) -> None:
        site = a_site(an_evse(ONE, LINK, companion=CLOUD), load_a=0, accept_unknown_tokens=True)
        self.depot = Depot(site, "1")
        self.second = 0.0
        self.apply(ev.LinkUp(CP1, OCPP, "peer"))
        self.apply(ev.LinkUp(CP1, CLOUD, "host"))
        self.apply(ev.FallbackStored(ONE, OCPP, 6_000))
        self.apply(ev.StatusChanged(ONE, OCPP, EvseState.PREPARING))
        if session:
            self.apply(ev.TransactionStarted(ONE, OCPP, "T1", "TAG1", 0, at(0).utc))
            self.apply(ev.StatusChanged(ONE, OCPP, EvseState.CHARGING))
            for second in range(30):
                self.step(second)

    def apply(self, event: ev.Event) -> tuple[Entry, ...]:
        return self.depot.apply(event, at(self.second)).entries

    def step(self, second: float) -> Decision:
        """Everything that is sent is accepted."""
        self.second = second
        decision = self.depot.step(at(second))
        for command in decision.commands:
            self.apply(ev.CommandSent(command.id))
            self.apply(ev.CommandAccepted(command.id))
        return decision

    def view(self, second: float) -> EvseView:
        return self.step(second).snapshot.evses[0]

    def order(self) -> OrderView:
        """The newest."""
        return self.depot.step(at(self.second)).snapshot.orders[-1]

    def sample(self, current_ma: int, power_w: int, channel: str = CLOUD, **fields: Any) -> None:
        taken_s = at(self.second).mono_s
        self.apply(ev.EvseSample(ONE, channel, taken_s, amps(current_ma), power_w, **fields))

    def discharges(self) -> None:
        self.apply(ev.StatusChanged(ONE, CLOUD, EvseState.DISCHARGING))
        self.sample(-10_000, -6_900, soc=71)


@pytest.mark.parametrize(
    ("channel", "family"),
    [
        ("ocpp", "ocpp"),
        ("ocpp1.6", "ocpp"),
        ("ocpp2.0.1", "ocpp"),
        ("ocpp2.1", "ocpp"),
        (CLOUD, CLOUD),
        ("open-platform/onsite", "open-platform/onsite"),
    ],
)
def test_a_family_is_the_channel_without_its_version(channel: str, family: str) -> None:
    assert family_of(channel) == family


def test_the_leading_channel_decides_whether_the_evse_is_there() -> None:
    place = Place()
    assert (place.view(30).connected, place.view(30).channels) == (True, (OCPP, CLOUD))
    place.apply(ev.LinkDown(CP1, CLOUD, "gone"))
    assert (place.view(31).connected, place.view(31).channels) == (True, (OCPP,))
    place.apply(ev.LinkUp(CP1, CLOUD, "host"))
    place.apply(ev.LinkDown(CP1, OCPP, "reset"))
    view = place.view(32)
    assert (view.connected, view.channels, view.state) == (False, (CLOUD,), EvseState.OFFLINE)
    assert view.session is not None, "a lost link ends no session"
    offline = [alarm for alarm in place.step(70).snapshot.alarms if alarm.kind == "offline"]
    assert ["reset" in alarm.text for alarm in offline] == [True]
    place.apply(ev.LinkUp(CP1, "ocpp2.0.1", "peer"))
    assert place.view(71).connected


def test_what_a_companion_says_of_sessions_fallbacks_and_reboots_moves_nothing() -> None:
    place = Place()
    before = place.view(30)
    assert before.session is not None and before.accepted_ma == 32_000 and before.lease_left_s
    told = [
        ev.TransactionStarted(ONE, CLOUD, "X9", None, 0, at(30).utc, inferred=True),
        ev.StatusChanged(ONE, CLOUD, EvseState.AVAILABLE),
        ev.StatusChanged(ONE, CLOUD, EvseState.UNAVAILABLE),
        ev.FallbackRefused(ONE, CLOUD, "not ours"),
        ev.FallbackStored(ONE, CLOUD, 0),
    ]
    for fact in told:
        assert place.apply(fact) == ()
    place.apply(ev.StationBooted(CP1, CLOUD, "Tellus", "TP", "260420.0107"))
    for second in range(31, 80):
        place.step(second)
    after = place.view(80)
    assert after.session is not None and after.session.id == before.session.id
    assert after.state is EvseState.CHARGING
    assert (after.accepted_ma, after.commitment_ma, after.fallback_stored) == (32_000, 32_000, True)


def test_the_leading_channel_says_who_the_station_is() -> None:
    place = Place()
    companion = ev.StationBooted(CP1, CLOUD, "Tellus", "TP", "260420.0107", "SN")
    assert place.apply(companion) == (StationSaved(CP1, "Tellus", "TP", "260420.0107", "SN"),)
    assert place.view(30).identity == "Tellus TP 260420.0107"
    place.apply(ev.StationBooted(CP1, OCPP, "Tellus Power", "DC60", "3.1.0"))
    assert place.apply(companion) == ()
    assert place.view(31).identity == "Tellus Power DC60 3.1.0"


def test_more_current_than_allowed_is_booked_whoever_measures_it() -> None:
    place = Place()
    place.apply(ev.LimitWished("o1", "me", ONE, 10_000))
    for second in range(30, 60):
        place.step(second)
    assert place.view(60).commitment_ma == 10_000
    place.sample(9_500, 6_500)
    assert place.view(60).commitment_ma == 10_000
    place.sample(20_000, 13_800)
    view = place.view(61)
    assert view.commitment_ma == 20_000
    assert view.measured_ma == PerPhase(None, None, None), "it is evidence, not the measurement shown"
    assert "overdraw" in {alarm.kind for alarm in place.step(62).snapshot.alarms}
    assert place.view(62 + OVERDRAW_HOLD_S).commitment_ma == 10_000


def test_a_companion_that_lags_behind_a_new_limit_proves_nothing() -> None:
    place = Place()
    place.apply(ev.LimitWished("o1", "me", ONE, 10_000))
    for second in range(30, 42):
        place.step(second)
    place.sample(32_000, 22_000)  # from before the limit, a few seconds late
    assert place.view(43).commitment_ma == 10_000


def test_the_state_of_charge_may_come_from_the_companion() -> None:
    place = Place()
    place.sample(16_000, 11_000, soc=63, register_wh=9_999_999)
    session = place.view(30).session
    assert session is not None
    assert (session.soc, session.energy_wh) == (63, 0), "its register is not the transaction's"


# --- discharge ----------------------------------------------------------------------------------------------------


def test_a_discharge_goes_to_the_companion_and_so_does_its_end() -> None:
    place = Place()
    place.apply(ev.DischargeWished("o1", "me", ONE, 7_000, None, 60))
    [command] = [c for c in place.step(30).commands if isinstance(c, StartDischarge)]
    assert (command.channel, command.power_w, command.min_soc) == (CLOUD, 7_000, 20)
    place.discharges()
    view = place.view(31)
    assert (view.state, view.power_w, view.measured_ma) == (EvseState.DISCHARGING, -6_900, amps(-10_000))
    assert place.order().outcome == "done"
    assert not place.step(88).commands
    [stop] = [c for c in place.step(89).commands if isinstance(c, StopCharging)]
    assert (stop.channel, stop.transaction, stop.reason) == (CLOUD, None, "discharge over")
    place.apply(ev.StatusChanged(ONE, CLOUD, EvseState.PREPARING))
    view = place.view(91)
    assert (view.state, view.power_w) == (EvseState.CHARGING, None)
    assert view.session is not None


def test_what_ocpp_measures_meanwhile_is_evidence_only() -> None:
    place = Place()
    place.apply(ev.DischargeWished("o1", "me", ONE, 7_000))
    place.step(30)
    place.discharges()
    place.sample(0, 0, OCPP, register_wh=500)
    view = place.view(31)
    assert view.power_w == -6_900
    assert view.session is not None and view.session.energy_wh == 0
    place.second = 320
    place.depot.step(at(320))
    place.discharges()
    place.sample(25_000, 17_000, OCPP)
    assert place.view(321).commitment_ma == 25_000, "both cannot be true: the worse one is booked"


@pytest.mark.parametrize("session", [True, False])
def test_an_operators_stop_ends_both(session: bool) -> None:
    place = Place(session)
    place.apply(ev.DischargeWished("o1", "me", ONE, 7_000))
    place.step(30)
    place.discharges()
    place.apply(ev.StopWished("o2", "me", ONE))
    [stop] = [c for c in place.step(31).commands if isinstance(c, StopCharging)]
    assert (stop.channel, stop.transaction) == (CLOUD, None)
    assert place.order().outcome is None
    place.apply(ev.StatusChanged(ONE, CLOUD, EvseState.AVAILABLE))
    if session:
        stops = [c for s in range(32, 60) for c in place.step(s).commands if isinstance(c, StopCharging)]
        assert [(stop.channel, stop.transaction) for stop in stops] == [("ocpp", "T1")]
        place.apply(ev.TransactionEnded(CP1, ONE, "T1", "Remote", None, at(60).utc))
    place.step(61)
    assert (place.order().id, place.order().outcome) == ("o2", "done")
    place.apply(ev.TransactionStarted(ONE, OCPP, "T2", "TAG1", 0, at(62).utc))
    later = [c for s in range(62, 100) for c in place.step(s).commands if isinstance(c, StopCharging)]
    assert later == [], "the stop was for the session before"


def test_the_end_of_the_ocpp_session_is_not_the_end_of_the_discharge() -> None:
    place = Place()
    place.apply(ev.DischargeWished("o1", "me", ONE, 7_000, None, 60))
    place.step(30)
    place.discharges()
    place.apply(ev.TransactionEnded(CP1, ONE, "T1", "EVDisconnected", None, at(31).utc))
    assert place.view(32).state is EvseState.DISCHARGING
    [stop] = [c for c in place.step(90).commands if isinstance(c, StopCharging)]
    assert stop.channel == CLOUD


def test_a_discharge_that_ended_by_itself_is_not_stopped_again() -> None:
    place = Place()
    place.apply(ev.DischargeWished("o1", "me", ONE, 7_000, None, 60))
    place.step(30)
    place.discharges()
    place.apply(ev.StatusChanged(ONE, CLOUD, EvseState.PREPARING))
    later = [c for s in range(31, 120) for c in place.step(s).commands]
    assert not [c for c in later if isinstance(c, StopCharging)]
    assert [c.limit_ma for c in later if isinstance(c, SetLimit)], "limits are served again"


def test_out_of_the_companions_reach_a_stop_goes_to_the_leading_channel() -> None:
    place = Place()
    place.apply(ev.DischargeWished("o1", "me", ONE, 7_000))
    place.step(30)
    place.discharges()
    place.apply(ev.LinkDown(CP1, CLOUD, "gone"))
    place.apply(ev.StopWished("o2", "me", ONE))
    [stop] = [c for c in place.step(31).commands if isinstance(c, StopCharging)]
    assert (stop.channel, stop.transaction) == ("ocpp", "T1")
    assert place.view(62).state is EvseState.CHARGING, "over a link that is gone nothing is known"


def test_out_of_the_leading_channels_reach_the_companion_still_ends_it() -> None:
    place = Place()
    place.apply(ev.DischargeWished("o1", "me", ONE, 7_000, None, 60))
    place.step(30)
    place.discharges()
    place.apply(ev.LinkDown(CP1, OCPP, "gone"))
    place.apply(ev.StopWished("o2", "me", ONE))
    [stop] = [c for c in place.step(31).commands if isinstance(c, StopCharging)]
    assert stop.channel == CLOUD


def test_a_discharge_needs_its_channel() -> None:
    place = Place()
    place.apply(ev.LinkDown(CP1, CLOUD, "gone"))
    place.apply(ev.DischargeWished("o1", "me", ONE, 7_000))
    order = place.order()
    assert (order.outcome, order.reason) == ("refused", f"the station is not connected over {CLOUD}")


def test_a_refused_discharge_leaves_the_session_as_it_was() -> None:
    place = Place()
    place.apply(ev.DischargeWished("o1", "me", ONE, 7_000, None, 200))
    decision = place.depot.step(at(30))
    [command] = [c for c in decision.commands if isinstance(c, StartDischarge)]
    place.apply(ev.CommandRefused(command.id, "no V2G vehicle"))
    later = [c for s in range(31, 300) for c in place.step(s).commands]
    assert {type(c) for c in later} == {SetLimit}, "limits go on, and nothing is stopped"


# --- faults -------------------------------------------------------------------------------------------------------


def test_a_fault_the_companion_shows_is_an_alarm_and_stops_nothing() -> None:
    place = Place()
    place.apply(ev.StatusChanged(ONE, CLOUD, EvseState.FAULTED, "F-0204"))
    snapshot = place.step(30).snapshot
    assert [(a.kind, a.source) for a in snapshot.alarms] == [("fault-code", "CP1/1 F-0204")]
    assert (snapshot.evses[0].state, snapshot.evses[0].grant_ma) == (EvseState.CHARGING, 32_000)
    place.apply(ev.StatusChanged(ONE, CLOUD, EvseState.CHARGING))
    assert [place.step(s).snapshot.alarms for s in (31, 37)][-1] == ()


def test_a_fault_it_reported_outlives_its_state() -> None:
    place = Place()
    place.apply(ev.FaultReported(CP1, ONE, CLOUD, "F-0601", True, "fan"))
    place.apply(ev.StatusChanged(ONE, CLOUD, EvseState.FAULTED, "F-0601"))
    place.apply(ev.StatusChanged(ONE, CLOUD, EvseState.CHARGING))
    assert [a.text for a in place.step(40).snapshot.alarms] == ["F-0601 fan"]
