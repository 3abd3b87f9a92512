"""The life of alarms: raised, seen, returned, silenced, explained, grouped; with who, and over a restart.

This file is long because it is one life told from its beginning to its end; its parts share the small site and the clock.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.core.alarm_facts import CATALOGUE, MINUTE_S, OFF_S, AlarmFact
from controller.core.alarm_shelf import MOST_SHELF_S
from controller.core.alarms import (
    AGAIN_S,
    CHATTER_S,
    HIDDEN,
    INCIDENT_LEAST,
    RESTORED_S,
    Alarms,
)
from controller.core.commands import AlarmSaved, Audited, Entry, HushLifted, HushSaved
from controller.core.depot import Depot
from controller.core.events import (
    AlarmAcked,
    AlarmRestored,
    AlarmShelved,
    AlarmUnshelved,
    ChannelChanged,
    Event,
    FallbackStored,
    HushRestored,
    LinkDown,
    LinkUp,
    MeterReading,
    ServiceChanged,
)
from controller.core.model import (
    SITE,
    Circuit,
    CircuitId,
    Evse,
    Link,
    Meter,
    MeterId,
    MeterRole,
    Moment,
    Site,
    StationId,
    each_phase,
    evse_id,
)
from controller.core.snapshot import AlarmView, Snapshot
from controller.core.supervisor import Condition

START = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
ROW = CircuitId("row_a")
LINK = Link("ocpp1.6", lease_s=180, lease_slack_s=30, raise_gap_s=10, answer_s=12)
OFFLINE = Condition("offline", "CP1/1", 2, "offline", 30.0)
METER = Condition("meter", "main", 1, "no answer")
OVERDRAW = Condition("overdraw", "CP3/1", 1, "draws 32 A, more than it was allowed")
OVERLOAD = Condition("overload", "site", 1, "L1 at 120 A, limit 100 A")
CHANNEL = Condition("channel", "ocpp", 2, "down: port taken")
FAILSAFE = Condition("failsafe", "row_a", 1, "blind")


def a_site(stations: int = 6, plugs: int = 1) -> Site:
    evses = [
        Evse(
            evse_id(f"CP{number}", plug), StationId(f"CP{number}"), ROW, max_ma=32_000, min_ma=6_000, phases=(0, 1, 2),
            fallback_ma=6_000, link=LINK,
        )
        for number in range(1, stations + 1)
        for plug in range(1, plugs + 1)
    ]  # fmt: skip
    main = MeterId("main")
    return Site(
        name="Yard",
        timezone="Europe/Amsterdam",
        voltage_mv=230_000,
        circuits={
            SITE: Circuit(SITE, None, each_phase(100_000), meter=main),
            ROW: Circuit(ROW, SITE, each_phase(63_000)),
        },
        evses={evse.id: evse for evse in evses},
        meters={main: Meter(main, "sdm630", MeterRole.GRID, 1.0, 5.0)},
    )


def at(second: float) -> Moment:
    return Moment(1000.0 + second, START + timedelta(seconds=second))


class Desk:
    """Alarms, one second after the other, with everything that reached the ledger."""

    def __init__(self, site: Site | None = None) -> None:
        self.alarms = Alarms("7", site or a_site())
        self.second = 0
        self.entries: list[Entry] = []

    def run(self, seconds: int, *found: Condition) -> None:
        for _ in range(seconds):
            self.entries += self.alarms.update(iter(found), at(self.second))
            self.second += 1

    def tell(self, *events: object) -> list[Entry]:
        told = [entry for event in events for entry in self.alarms.heed(event, at(self.second))]  # type: ignore[arg-type]
        self.entries += told
        return told

    def ack(self, id: str, by: str = "anna") -> list[Entry]:
        return self.tell(AlarmAcked(by, id))

    def shelve(
        self, condition: Condition, for_s: float = 3600.0, reason: str = "cable is being laid"
    ) -> list[Entry]:
        return self.tell(AlarmShelved("anna", condition.kind, condition.source, for_s, reason))

    @property
    def calling(self) -> tuple[AlarmView, ...]:
        return self.alarms.views()[0]

    @property
    def quiet(self) -> tuple[AlarmView, ...]:
        return self.alarms.views()[1]

    def states(self) -> dict[tuple[str, str], str]:
        calling, quiet = self.alarms.views()
        return {(view.kind, view.source): view.state for view in (*calling, *quiet) if not view.members}

    def audited(self) -> list[tuple[str, str]]:
        return [(entry.by, entry.what) for entry in self.entries if isinstance(entry, Audited)]

    def saved(self) -> list[AlarmSaved]:
        return [entry for entry in self.entries if isinstance(entry, AlarmSaved)]


# --- raised and over --------------------------------------------------------------------------------------------


def test_a_condition_must_stand_for_its_delay() -> None:
    desk = Desk()
    desk.run(30, OFFLINE)
    assert desk.entries == []
    desk.run(30, OFFLINE)
    [saved] = desk.saved()
    assert (saved.since, saved.kind, saved.source, saved.cleared, saved.over) == (
        at(30).utc, "offline", "CP1/1", None, False,
    )  # fmt: skip
    assert [view.kind for view in desk.calling] == ["offline"]


def test_an_interrupted_condition_starts_again() -> None:
    desk = Desk()
    desk.run(29, OFFLINE)
    desk.run(2)
    desk.run(29, OFFLINE)
    assert desk.saved() == []
    desk.run(2, OFFLINE)
    assert len(desk.saved()) == 1


def test_an_alarm_clears_once_and_does_not_flicker() -> None:
    desk = Desk()
    desk.run(10, METER)
    desk.run(3)
    desk.run(7, METER)
    assert len(desk.saved()) == 1, "gone for 3 s: still the same alarm"
    desk.run(20)
    raised, cleared = desk.saved()
    assert (cleared.id, cleared.cleared, cleared.over) == (raised.id, at(19 + OFF_S + 1).utc, True)
    assert desk.alarms.views() == ((), ())


def test_the_strongest_comes_first() -> None:
    desk = Desk()
    desk.run(40, OFFLINE, METER)
    assert [view.kind for view in desk.calling] == ["meter", "offline"]


# --- acknowledged -----------------------------------------------------------------------------------------------


def test_an_alarm_is_acknowledged_by_somebody_and_goes_with_its_cause() -> None:
    desk = Desk()
    desk.run(2, METER)
    [view] = desk.calling
    desk.ack(view.id)
    [view] = desk.calling
    assert (view.state, view.by) == ("ack", "anna")
    assert desk.audited() == [("anna", "alarm-acked")]
    assert desk.ack(view.id, "bob") == [], "somebody has it already"
    desk.run(10)
    assert desk.calling == ()
    assert (desk.saved()[-1].acked_by, desk.saved()[-1].over) == ("anna", True)


def test_what_must_be_known_stays_until_somebody_has_seen_it() -> None:
    desk = Desk()
    desk.run(2, OVERDRAW)
    desk.run(3600)
    [view] = desk.calling
    assert view.state == "rtn-unack"
    assert not desk.saved()[-1].over and desk.saved()[-1].cleared is not None
    desk.ack(view.id)
    assert desk.calling == ()
    assert (desk.saved()[-1].over, desk.saved()[-1].acked_by) == (True, "anna")


def test_a_breaker_that_may_have_tripped_is_not_forgotten_while_it_cools() -> None:
    desk = Desk()
    desk.run(5, Condition("trip-margin", "site", 1, "may have tripped", 2.0))
    desk.run(60, Condition("trip-margin", "site", 2, "may trip", 2.0))
    desk.run(10)
    assert [view.state for view in desk.calling] == ["rtn-unack"]
    mild = Desk()
    mild.run(60, Condition("trip-margin", "site", 2, "may trip", 2.0))
    mild.run(10)
    assert mild.calling == ()


def test_one_that_comes_back_before_it_was_seen_is_the_same_alarm() -> None:
    desk = Desk()
    desk.run(2, OVERDRAW)
    [first] = desk.calling
    desk.run(100)
    desk.run(2, OVERDRAW)
    [again] = desk.calling
    assert (again.id, again.state, again.since) == (first.id, "unack", first.since)


def test_a_critical_alarm_that_stands_calls_again_after_a_quarter_of_an_hour() -> None:
    desk = Desk()
    desk.run(2, METER, OFFLINE)
    desk.run(30, METER, OFFLINE)
    for view in desk.calling:
        desk.ack(view.id)
    desk.run(int(AGAIN_S) - 1, METER, OFFLINE)
    assert {view.state for view in desk.calling} == {"ack"}
    desk.run(2, METER, OFFLINE)
    assert [(view.kind, view.state) for view in desk.calling] == [("meter", "unack"), ("offline", "ack")]
    assert "still there" in desk.calling[0].note
    assert desk.audited()[-1] == ("depot", "alarm-again")


def test_one_that_becomes_stronger_than_what_was_acknowledged_calls_again() -> None:
    desk = Desk()
    weak, strong = (
        Condition("trip-margin", "site", 2, "may trip"),
        Condition("trip-margin", "site", 1, "may have tripped"),
    )
    desk.run(2, weak)
    desk.ack(desk.calling[0].id)
    desk.run(2, strong)
    assert [(view.priority, view.state) for view in desk.calling] == [(1, "unack")]
    desk.ack(desk.calling[0].id)
    desk.run(2, weak)
    desk.run(2, strong)
    assert [view.state for view in desk.calling] == ["ack"], "that strong it was acknowledged"


def test_who_acknowledges_what_is_not_there_changes_nothing() -> None:
    desk = Desk()
    desk.run(2, METER)
    assert desk.ack("a7-99") == []
    assert [view.state for view in desk.calling] == ["unack"]


# --- silenced ---------------------------------------------------------------------------------------------------


def test_a_shelf_ends_by_itself_and_then_it_calls_as_if_new() -> None:
    desk = Desk()
    desk.run(2, METER)
    desk.ack(desk.calling[0].id)
    [saved, row] = desk.shelve(METER, for_s=600)
    assert isinstance(saved, HushSaved) and saved.until == at(desk.second + 600).utc
    assert isinstance(row, Audited) and "cable is being laid" in row.detail and row.by == "anna"
    desk.run(599, METER)
    assert desk.calling == ()
    [view] = desk.quiet
    assert (view.state, view.by, view.note) == ("shelved", "anna", "cable is being laid")
    desk.run(2, METER)
    assert [(view.state, view.by) for view in desk.calling] == [("unack", None)]
    assert desk.audited()[-1] == ("depot", "alarm-unshelved")
    assert any(isinstance(entry, HushLifted) for entry in desk.entries)


@pytest.mark.parametrize(
    ("for_s", "reason"), [(MOST_SHELF_S + 1, "x"), (0.0, "x"), (-5.0, "x"), (60.0, ""), (60.0, "  ")]
)
def test_no_shelf_without_a_reason_or_for_longer_than_a_shift(for_s: float, reason: str) -> None:
    desk = Desk()
    desk.run(2, METER)
    assert desk.shelve(METER, for_s, reason) == []
    assert [view.state for view in desk.calling] == ["unack"]


def test_what_returns_while_shelved_is_gone_and_a_new_one_stays_silent() -> None:
    desk = Desk()
    desk.run(2, OVERDRAW)
    desk.shelve(OVERDRAW)
    desk.run(10)
    assert desk.alarms.views() == ((), ())
    desk.run(2, OVERDRAW)
    assert desk.calling == () and [view.state for view in desk.quiet] == ["shelved"]
    desk.tell(AlarmUnshelved("bob", "overdraw", "CP3/1"))
    assert [view.state for view in desk.calling] == ["unack"]
    assert desk.audited()[-1] == ("bob", "alarm-unshelved")


def test_whoever_shelves_what_has_returned_has_seen_it() -> None:
    desk = Desk()
    desk.run(2, OVERDRAW)
    desk.run(10)
    desk.shelve(OVERDRAW)
    assert desk.alarms.views() == ((), ())
    assert desk.saved()[-1].over and desk.saved()[-1].acked_by == "anna"


def test_out_of_service_takes_all_of_a_station_and_nothing_else() -> None:
    desk = Desk(a_site(plugs=2))
    mine = [
        Condition("fault", "CP1/2", 2, "faulted"),
        Condition("fault-code", "CP1/1 F-0421", 2, "F-0421"),
        Condition("unproven", "CP1", 3, "not proven"),
    ]
    other = Condition("fault", "CP2/1", 2, "faulted")
    desk.run(2, *mine, other)
    desk.tell(ServiceChanged("anna", "CP1", True, "being replaced"))
    desk.run(20_000, *mine, other)
    assert [view.source for view in desk.calling] == ["CP2/1"]
    assert {view.state for view in desk.quiet} == {"out-of-service"} and len(desk.quiet) == 3
    desk.tell(ServiceChanged("bob", "CP1", False, ""))
    assert len(desk.calling) == 4
    assert [row for row in desk.audited() if "service" in row[1]] == [
        ("anna", "out-of-service"), ("bob", "in-service"),
    ]  # fmt: skip


# --- explained --------------------------------------------------------------------------------------------------


def test_a_channel_that_is_down_explains_its_stations() -> None:
    desk = Desk()
    lost = [replace(OFFLINE, source=f"CP{number}/1") for number in range(1, 7)]
    desk.run(40, CHANNEL, *lost)
    assert [view.kind for view in desk.calling] == ["channel"]
    assert {view.state for view in desk.quiet} == {"suppressed"} and len(desk.quiet) == 6
    assert desk.quiet[0].note == "explained by channel ocpp"
    desk.run(int(OFF_S) + MINUTE_S, *lost[:1])
    assert desk.calling == (), "it may take a while to come back"
    desk.run(20, *lost[:1])
    assert [(view.source, view.state) for view in desk.calling] == [("CP1/1", "unack")]


def test_a_channel_that_works_in_part_explains_nothing_stronger() -> None:
    desk = Desk()
    desk.run(40, replace(CHANNEL, priority=3), OFFLINE)
    assert [view.kind for view in desk.calling] == ["offline", "channel"]


def test_a_meter_explains_the_blindness_below_it() -> None:
    desk = Desk()
    desk.run(5, METER, FAILSAFE)
    assert [view.kind for view in desk.calling] == ["meter"]
    desk.run(12, FAILSAFE)
    desk.run(20)
    assert desk.alarms.views() == ((), ()), "it went with its reason: nobody need acknowledge it"


def test_what_is_silenced_hides_nothing_critical() -> None:
    desk = Desk()
    desk.run(5, METER, FAILSAFE)
    desk.shelve(METER)
    desk.run(MINUTE_S + 2, METER, FAILSAFE)
    assert [view.kind for view in desk.calling] == ["failsafe"]


def test_a_breaker_that_was_warm_before_its_meter_died_is_not_explained_by_that() -> None:
    warm = Condition("trip-margin", "site", 1, "may have tripped", 2.0)
    desk = Desk()
    desk.run(5, warm)
    desk.run(30, warm, METER)
    assert [(view.kind, view.first) for view in desk.calling] == [("trip-margin", True), ("meter", False)]


def test_of_a_station_that_is_away_one_outlet_stands_for_all_and_faults_stay() -> None:
    desk = Desk(a_site(plugs=2))
    found = [
        replace(OFFLINE, source="CP1/1", priority=3),
        replace(OFFLINE, source="CP1/2", priority=2),
        Condition("asleep", "CP1/2", 2, "takes nothing"),
        Condition("fault-code", "CP1/2 F-0421", 2, "F-0421"),
    ]
    desk.run(40, *found)
    assert sorted((view.kind, view.source) for view in desk.calling) == [
        ("fault-code", "CP1/2 F-0421"), ("offline", "CP1/2"),
    ]  # fmt: skip


# --- many -------------------------------------------------------------------------------------------------------


def test_fifty_at_once_are_one_incident_with_members() -> None:
    desk = Desk(a_site(stations=50))
    lost = [replace(OFFLINE, source=f"CP{number}/1", priority=2 + number % 2) for number in range(1, 51)]
    desk.run(40, *lost)
    [incident] = desk.calling
    assert (incident.priority, incident.state, len(incident.members)) == (2, "unack", 50)
    assert "and 47 more" in incident.text
    assert {view.incident for view in desk.quiet} == {incident.id} and len(desk.quiet) == 50
    for alarm in desk.alarms.named(incident.id):
        desk.ack(alarm.id)
    [incident] = desk.calling
    assert incident.state == "ack"
    desk.run(10, *lost[:3])
    assert len(desk.calling) == 3, "so few have names of their own"


def test_few_are_no_incident_and_later_ones_are_another_one() -> None:
    desk = Desk(a_site(stations=12))
    lost = [replace(OFFLINE, source=f"CP{number}/1") for number in range(1, 13)]
    desk.run(40, *lost[: INCIDENT_LEAST - 1])
    assert all(not view.members for view in desk.calling)
    desk.run(200, *lost[: INCIDENT_LEAST - 1])
    desk.run(40, *lost)
    [later] = [view for view in desk.calling if view.members]
    assert set(later.members) == {each.source for each in lost[INCIDENT_LEAST - 1 :]}


def test_the_first_of_a_cascade_is_marked_though_it_was_told_later() -> None:
    desk = Desk()
    warm = Condition("trip-margin", "site", 1, "may have tripped", 2.0)
    slow = replace(OVERLOAD, delay_s=5.0)
    desk.run(1, slow)
    desk.run(40, slow, warm, OFFLINE)
    assert {view.kind: view.first for view in desk.calling} == {
        "overload": True, "trip-margin": False, "offline": False,
    }  # fmt: skip


def test_what_is_elsewhere_or_much_later_is_no_cascade() -> None:
    desk = Desk()
    stranger = Condition("access", "10.0.0.9", 3, "turned away")
    desk.run(5, OVERLOAD, stranger)
    desk.run(120, OVERLOAD, stranger)
    desk.run(40, OVERLOAD, stranger, OFFLINE)
    assert [view.first for view in desk.calling] == [False] * 3


def test_what_comes_and_goes_is_latched_with_a_note() -> None:
    desk = Desk()
    for _ in range(2):
        desk.run(2, METER)
        desk.run(8)
    [view] = desk.calling
    assert view.state == "rtn-unack" and "chattering" in view.note
    before = len(desk.saved())
    for _ in range(20):
        desk.run(2, METER)
        desk.run(8)
    assert len(desk.saved()) == before + 1, "one more coming, then it holds: the disk is spared"
    desk.run(int(CHATTER_S) + 2)
    assert [view.state for view in desk.calling] == ["rtn-unack"]
    desk.ack(desk.calling[0].id)
    assert desk.calling == ()


def test_made_up_faults_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("controller.core.alarms.MOST", 5)
    desk = Desk()
    for number in range(12):
        made_up = Condition("fault-code", f"CP1/1 X-{number}", 2, "made up")
        for _ in range(2):
            desk.run(2, made_up)
            desk.run(8)
        assert len(desk.states()) <= 5
    assert ("fault-code", "CP1/1 X-11") in desk.states()
    assert restarted(desk).states().keys() == desk.states().keys()


# --- over a restart ---------------------------------------------------------------------------------------------


def restarted(desk: Desk) -> Desk:
    """With what a ledger would have kept of it."""
    after, alarms, hushes = Desk(), {}, {}
    for entry in desk.entries:
        match entry:
            case AlarmSaved():
                alarms[entry.id] = entry
            case HushSaved():
                hushes[entry.kind, entry.source] = entry
            case HushLifted():
                del hushes[entry.kind, entry.source]
    after.second = desk.second + 5
    after.tell(*(HushRestored(h.kind, h.source, h.by, h.reason, h.since, h.until) for h in hushes.values()))
    after.tell(
        *(
            AlarmRestored(
                a.id, a.kind, a.source, a.priority, a.text, a.since, a.cleared is None, a.acked_by, a.incident
            )
            for a in alarms.values()
            if not a.over
        )
    )
    assert after.entries == [], "what comes out of the ledger is in it"
    return after


def test_alarms_acknowledgements_and_shelves_outlive_a_restart() -> None:
    desk = Desk()
    refuses = Condition("refuses", "CP3/1", 2, "3 limits in a row")
    desk.run(40, METER, OFFLINE, refuses, OVERDRAW)
    desk.run(10, METER, OFFLINE, refuses)
    desk.ack(next(view.id for view in desk.calling if view.kind == "meter"))
    desk.shelve(refuses, for_s=600)
    before, ids = desk.states(), {view.id for view in desk.calling}
    after = restarted(desk)
    assert after.states() == before == {
        ("meter", "main"): "ack", ("offline", "CP1/1"): "unack", ("refuses", "CP3/1"): "shelved",
        ("overdraw", "CP3/1"): "rtn-unack",
    }  # fmt: skip
    after.run(int(RESTORED_S) - 10, METER)
    assert {view.id for view in after.calling} == ids, "stations need a while to come back"
    after.run(30, METER)
    assert {view.kind: view.state for view in after.calling} == {"overdraw": "rtn-unack", "meter": "ack"}
    after.run(600)
    assert after.alarms.hushes.all() == ()


def test_a_shelf_whose_time_came_meanwhile_is_lifted_and_said() -> None:
    desk = Desk()
    desk.run(2, METER)
    desk.shelve(METER, for_s=3)
    after = restarted(desk)
    after.run(2, METER)
    assert [view.state for view in after.calling] == ["unack"]
    assert after.audited() == [("depot", "alarm-unshelved")]


# --- the whole depot ----------------------------------------------------------------------------------------------


class House:
    """A depot of six stations whose meter and channel come and go."""

    def __init__(self) -> None:
        self.depot = Depot(a_site(), "1")
        self.second = 0
        self.snapshot: Snapshot | None = None

    def run(self, seconds: int, meter: bool = True) -> dict[str, str]:
        for _ in range(seconds):
            now = at(self.second)
            if meter:
                self.depot.apply(
                    MeterReading(
                        MeterId("main"),
                        now.mono_s,
                        each_phase(20_000 + self.second % 7),
                        13_800,
                        each_phase(230_000),
                    ),
                    now,
                )
            self.snapshot = self.depot.step(now).snapshot
            self.second += 1
        return {alarm.kind: alarm.source for alarm in self.snapshot.alarms} if self.snapshot else {}

    def tell(self, *events: Event) -> None:
        for event in events:
            self.depot.apply(event, at(self.second))


def a_living_house() -> House:
    house = House()
    stations = {evse.station: evse.id for evse in house.depot.site.evses.values()}
    for station, evse in stations.items():
        house.tell(LinkUp(station, "ocpp1.6", "peer"), FallbackStored(evse, "ocpp1.6", 6_000))
    house.tell(ChannelChanged("ocpp", "ok"))
    assert house.run(30) == {}
    return house


def test_a_silent_meter_is_one_alarm_from_its_first_second_to_its_last() -> None:
    house = a_living_house()
    seen = [house.run(1, meter=False) for _ in range(90)]
    assert {tuple(each.items()) for each in seen} == {(), (("meter", "main"),)}
    assert house.snapshot is not None and house.snapshot.state == "failsafe"
    assert {(a.kind, a.state) for a in house.snapshot.alarms_quiet} == {
        ("failsafe", "suppressed"), ("trip-margin", "suppressed"),
    }, "what is only assumed without a meter"  # fmt: skip
    back = [house.run(1) for _ in range(400)]
    assert all(set(each) <= {"meter"} for each in back) and back[-1] == {}


def test_a_broker_that_falls_is_no_channel_of_chargers() -> None:
    house = a_living_house()
    for channel, kind in (("mqtt", "feed"), ("ocpp/security", "door")):
        house.tell(ChannelChanged(channel, "degraded", "anybody may connect"))
        assert house.run(60) == {kind: channel}
        assert "Charging goes on" in CATALOGUE[kind].consequence
        house.tell(ChannelChanged(channel, "ok"))
        assert house.run(40) == {}


def test_a_channel_that_falls_takes_its_stations_along_in_one_alarm() -> None:
    house = a_living_house()
    house.tell(ChannelChanged("ocpp", "down", "port taken"))
    house.tell(*(LinkDown(StationId(f"CP{number}"), "ocpp1.6", "closed") for number in range(1, 7)))
    assert house.run(60) == {"channel": "ocpp"}
    house.tell(ChannelChanged("ocpp", "ok"))
    assert house.run(40) == {}, "they have a minute to come back"
    [incident] = house.run(40).items()
    assert incident == ("offline", "6 sources")
    assert house.snapshot is not None
    alarms = house.depot.alarms.named(house.snapshot.alarms[0].id)
    house.tell(*(AlarmAcked("anna", alarm.id) for alarm in alarms))
    house.run(1)
    assert [(view.state, len(view.members)) for view in house.snapshot.alarms] == [("ack", 6)]
    house.tell(*(LinkUp(StationId(f"CP{number}"), "ocpp1.6", "peer") for number in range(1, 7)))
    assert house.run(10) == {}


# --- laws -------------------------------------------------------------------------------------------------------

KINDS = {
    "meter": (METER,),
    "site": (OVERLOAD, OVERDRAW, replace(FAILSAFE, source="site"), FAILSAFE, CHANNEL),
    "stations": tuple(replace(OFFLINE, source=f"CP{n}/1", priority=p) for n in range(1, 7) for p in (2, 3)),
    "outlets": tuple(Condition("asleep", f"CP{n}/1", 2, "asleep") for n in range(1, 4)),
}
ALL = tuple(each for kind in KINDS.values() for each in kind)
STEPS = st.lists(
    st.tuples(
        st.integers(1, 90),
        st.lists(st.sampled_from(ALL), max_size=8, unique_by=lambda each: (each.kind, each.source)),
        st.sampled_from(["", "ack", "shelve", "unshelve", "out", "in"]),
        st.integers(0, 20),
    ),
    max_size=14,
)


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_the_laws_of_the_life(steps: Iterable[tuple[int, list[Condition], str, int]]) -> None:
    desk = Desk()
    for seconds, found, act, which in steps:
        known = ALL[which % len(ALL)]
        live = [view for views in desk.alarms.views() for view in views if not view.members]
        match act:
            case "ack" if live:
                desk.ack(live[which % len(live)].id)
            case "shelve":
                desk.shelve(known, for_s=30.0 * which)
            case "unshelve":
                desk.tell(AlarmUnshelved("anna", known.kind, known.source))
            case "out":
                desk.tell(ServiceChanged("anna", known.source, True, "why"))
            case "in":
                desk.tell(ServiceChanged("anna", known.source, False, ""))
        desk.run(seconds, *found)
        _lawful(desk, found, seconds)
    assert restarted(desk).states().keys() == {(a.kind, a.source) for a in _open(desk)}


def _lawful(desk: Desk, found: list[Condition], seconds: int) -> None:
    calling, quiet = desk.alarms.views()
    states = desk.states()
    keys = [(view.kind, view.source) for views in (calling, quiet) for view in views if not view.members]
    assert len(keys) == len(set(keys)), "every alarm is seen exactly once"
    for condition in found:
        if seconds > condition.delay_s:
            assert (condition.kind, condition.source) in states, "what stands long enough is an alarm"
    notes = {f"explained by {v.kind} {v.source}": v.note for v in quiet if v.state == "suppressed"}
    for view in (*calling, *quiet):
        if view.state == "suppressed":
            parents = desk.alarms.places.parents(view.kind, view.source)
            assert view.note.removeprefix("explained by ") in {" ".join(parent) for parent in parents}
            chain = [view.note]
            while explained := notes.get(chain[-1]):
                assert explained not in chain, "in a circle nobody would be told"
                chain.append(explained)
        if view.state == "shelved":
            assert view.until is not None and view.note, "with a reason, and an end"
    assert all(view.state not in HIDDEN for view in calling)
    assert {view.id for view in calling if not view.members} <= {a.id for a in _open(desk)}
    for hush in desk.alarms.hushes.all():
        assert hush.until_s - (1000.0 + desk.second) <= MOST_SHELF_S or not hush.kind
    rows = [entry for entry in desk.entries if isinstance(entry, Audited)]
    assert all(row.by and row.subject for row in rows)


def _open(desk: Desk) -> list[AlarmSaved]:
    last = {saved.id: saved for saved in desk.saved()}
    return [saved for saved in last.values() if not saved.over]


# --- the catalogue ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fact", CATALOGUE.values(), ids=lambda fact: fact.kind)
def test_every_entry_says_what_a_person_needs(fact: AlarmFact) -> None:
    assert fact.cause.endswith(".") and fact.consequence.endswith(".")
    assert 3 <= len(fact.steps) <= 5
    assert 60 <= fact.respond_s <= 7 * 24 * 3600
    assert set(fact.priorities) <= {1, 2, 3} and 1 <= len(fact.priorities) <= 2
    assert not fact.keeps or 1 in fact.priorities, "only what is critical stays when it is over"
    assert fact.off_s >= OFF_S
    if 1 in fact.priorities:
        assert fact.respond_s <= 15 * 60


def test_the_mix_is_one_that_people_can_bear() -> None:
    critical = [fact for fact in CATALOGUE.values() if max(fact.priorities) == 1]
    assert len(critical) <= len(CATALOGUE) // 4
