"""Who says when a vehicle leaves: orders before the roster, the roster before habits; late, swapped and unknown ones."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from controller.core import events as ev
from controller.core.commands import RosterSaved, SocSaved, StaySaved
from controller.core.depot import Depot
from controller.core.habits import Draw, Habit, HabitDay
from controller.core.model import (
    Departure,
    EvseId,
    EvseState,
    Moment,
    PerPhase,
    Site,
    Vehicle,
    VehicleId,
    each_phase,
)
from controller.core.planning import Expected
from controller.core.roster import Repeat, RosterEntry
from controller.core.snapshot import SessionView
from controller.core.wire import event_from_dict, event_to_dict, snapshot_from, status
from tests.small_site import WIRE, a_site, an_evse

NOW = datetime(2026, 11, 23, 20, 0, tzinfo=UTC)  # a Monday, 21:00 on site
ONE, TWO, THREE = EvseId("CP1/1"), EvseId("CP2/1"), EvseId("CP3/1")
BUS, VAN, TRUCK = VehicleId("BUS"), VehicleId("VAN"), VehicleId("TRUCK")
SITE_ = a_site(
    *(an_evse(id) for id in (ONE, TWO, THREE)),
    timezone="Europe/Amsterdam",
    vehicles={
        BUS: Vehicle(BUS, 100_000, 22_000, ("B",)),
        VAN: Vehicle(VAN, 60_000, 11_000, ("V",)),
        TRUCK: Vehicle(TRUCK, None, None),  # has no token
    },
    accept_unknown_tokens=True,
)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(f"2026-11-{text}").replace(tzinfo=UTC)


class Night:
    """A depot whose clock a test sets."""

    def __init__(self, *entries: RosterEntry, at: datetime = NOW, site: Site = SITE_) -> None:
        self.depot = Depot(site, "1")
        self.at = at
        for evse in SITE_.evses.values():
            self.tell(ev.LinkUp(evse.station, "wire", "peer"))
        if entries:
            self.tell(ev.RosterSet("anna", entries))

    @property
    def now(self) -> Moment:
        return Moment((self.at - NOW).total_seconds() + 10_000.0, self.at)

    def tell(self, event: ev.Event) -> object:
        return self.depot.apply(event, self.now)

    def plug(self, evse: EvseId, token: str | None, transaction: str = "t") -> None:
        self.tell(ev.StatusChanged(evse, "wire", EvseState.CHARGING))
        self.tell(ev.TransactionStarted(evse, "wire", f"{transaction}-{evse}", token, 0, self.at))

    def unplug(self, evse: EvseId, transaction: str = "t", reason: str | None = "EVDisconnected") -> object:
        station = SITE_.evses[evse].station
        told = ev.TransactionEnded(station, evse, f"{transaction}-{evse}", reason, None, self.at)
        return self.tell(told)

    def departures(self) -> dict[str, datetime]:
        return {
            target: departure.at for target, departure in self.depot.plan_request(self.now).departures.items()
        }

    def expected(self) -> tuple[Expected, ...]:
        return self.depot.plan_request(self.now).expected

    def shown(self, evse: EvseId) -> SessionView:
        view = next(view for view in self.depot.step(self.now).snapshot.evses if view.id == evse)
        assert view.session is not None
        return view.session

    def order(self, target: str, at: datetime, energy_wh: int = 10_000) -> None:
        self.tell(ev.DepartureSet("anna", Departure(target, at, energy_wh)))


def bus(departs: str, **more: object) -> RosterEntry:
    return replace(RosterEntry("BUS", utc(departs), 30_000), **more)  # type: ignore[arg-type]


# --- the roster ---------------------------------------------------------------------------------------------------


def test_the_next_entry_is_the_departure_and_then_the_one_after() -> None:
    night = Night(bus("24T04:30"), bus("25T04:30"))
    night.plug(ONE, "B")
    assert night.departures() == {"BUS": utc("24T04:30")}
    assert night.depot.plan_request(night.now).departures["BUS"].energy_wh == 30_000
    night.unplug(ONE)
    assert night.departures() == {}, "who is not here cannot be charged"
    night.at = utc("24T04:31")
    night.plug(ONE, "B", "u")
    assert night.departures() == {"BUS": utc("25T04:30")}


def test_a_vehicle_that_is_late_keeps_its_departure_for_a_while() -> None:
    night = Night(bus("24T04:30"), bus("25T04:30"))
    night.plug(ONE, "B")
    night.at = utc("24T05:00")
    assert night.departures() == {"BUS": utc("24T04:30")}
    night.at = utc("24T05:31")
    assert night.departures() == {"BUS": utc("25T04:30")}


def test_who_is_back_from_the_trip_has_the_next_departure() -> None:
    night = Night(bus("24T04:30", returns=utc("24T04:40")), bus("24T09:00"))
    night.plug(ONE, "B")
    night.at = utc("24T04:41")
    assert night.departures() == {"BUS": utc("24T09:00")}
    other = Night(bus("24T04:30"), bus("24T09:00"), at=utc("24T04:35"))
    other.plug(ONE, "B")  # unannounced, it left and is back
    assert other.departures() == {"BUS": utc("24T09:00")}


def test_without_a_need_it_leaves_full_and_the_picture_says_by_whom() -> None:
    night = Night(bus("24T04:30", energy_wh=None, block="L1-12"))
    night.plug(ONE, "B")
    departure = night.depot.plan_request(night.now).departures["BUS"]
    assert (departure.energy_wh, departure.soc) == (None, 100)
    shown = night.shown(ONE)
    assert (shown.departs, shown.departs_by) == (utc("24T04:30"), "roster L1-12")


def test_a_roster_is_saved_and_audited_and_an_empty_one_ends_it() -> None:
    night = Night()
    entries = (bus("24T04:30"),)
    applied = night.depot.apply(ev.RosterSet("anna", entries, "week.csv: 1 entries"), night.now)
    assert applied.urgent and applied.entries[0] == RosterSaved(entries)
    night.plug(ONE, "B")
    night.tell(ev.RosterSet("anna", ()))
    assert night.departures() == {}
    assert night.shown(ONE).departs is None


def test_a_recorded_roster_is_the_same_roster() -> None:
    repeat = Repeat("Europe/Amsterdam", 2, (0, 4), utc("30T00:00"), (utc("26T04:30"),))
    told = ev.RosterSet("anna", (bus("24T04:30", repeat=repeat, evse=ONE, block="é"),), "week.csv")
    assert event_from_dict(event_to_dict(told)) == told
    learned = ev.HabitsLearned((habit(),), (1.5,))
    assert event_from_dict(event_to_dict(learned)) == learned


def test_days_go_by_without_anybody_touching_it() -> None:
    night = Night(bus("24T04:30", repeat=Repeat("Europe/Amsterdam")))
    night.depot.step(night.now)
    night.at = NOW + timedelta(days=30)
    night.depot.step(night.now)
    night.plug(ONE, "B")
    assert night.departures() == {"BUS": datetime(2026, 12, 24, 4, 30, tzinfo=UTC)}


# --- orders beat it -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["BUS", ONE])
@pytest.mark.parametrize("order", ["24T03:00", "24T06:00"])
def test_an_order_beats_the_roster_on_its_day(target: str, order: str) -> None:
    night = Night(bus("24T04:30"), bus("25T04:30"))
    night.plug(ONE, "B")
    night.order(target, utc(order))
    assert night.departures() == {target: utc(order)}
    assert night.shown(ONE).departs_by == "order"


def test_an_order_that_has_passed_does_not_bring_the_roster_back() -> None:
    night = Night(bus("24T04:30"), bus("25T04:30"))
    night.plug(ONE, "B")
    night.order("BUS", utc("24T03:00"))
    night.at = utc("24T03:30")
    assert night.departures() == {"BUS": utc("25T04:30")}


def test_an_order_for_another_day_waits_its_turn() -> None:
    night = Night(bus("24T04:30"), bus("25T04:30"))
    night.plug(ONE, "B")
    night.order("BUS", utc("25T06:00"))
    assert night.departures() == {"BUS": utc("24T04:30")}
    night.unplug(ONE)
    night.at = utc("24T17:00")
    night.plug(ONE, "B", "u")
    assert night.departures() == {"BUS": utc("25T06:00")}


def test_of_two_trips_on_one_day_the_nearest_is_the_one_that_was_ordered_otherwise() -> None:
    night = Night(bus("24T04:30"), bus("24T14:00"))
    night.plug(ONE, "B")
    night.order("BUS", utc("24T05:00"))
    assert night.departures() == {"BUS": utc("24T05:00")}
    night.at = utc("24T10:00")
    assert night.departures() == {"BUS": utc("24T14:00")}


# --- who is where -------------------------------------------------------------------------------------------------


def test_a_vehicle_that_changes_places_takes_its_departure_along() -> None:
    night = Night(
        bus("24T04:30", arrives=utc("23T18:00"), evse=ONE), bus("25T04:30", vehicle="VAN", evse=TWO)
    )
    night.plug(TWO, "B")
    night.plug(ONE, "V")
    assert night.departures() == {"BUS": utc("24T04:30"), "VAN": utc("25T04:30")}
    assert night.shown(TWO).departs == utc("24T04:30")
    night.unplug(TWO)
    night.plug(THREE, "B")
    assert night.shown(THREE).departs == utc("24T04:30")


def test_a_vehicle_nobody_can_recognise_is_where_the_roster_says() -> None:
    night = Night(
        bus("24T04:30", vehicle="TRUCK", evse=ONE),
        bus("24T05:30", vehicle="STRANGER", evse=TWO),
        bus("24T06:30", evse=THREE),
    )
    for evse in (ONE, TWO, THREE):
        night.plug(evse, None)
    departures = night.departures()
    assert departures[ONE] == utc("24T04:30") and departures[TWO] == utc("24T05:30")
    assert THREE not in departures, "the bus has a token: whoever stands there is not it"


def test_where_no_channel_tells_of_tokens_the_roster_says_who_stands_there() -> None:
    there = SITE_.evses[THREE]
    mute = replace(there, link=replace(WIRE, names_tokens=False))
    night = Night(bus("24T06:30", evse=THREE), site=replace(SITE_, evses={**SITE_.evses, THREE: mute}))
    night.plug(THREE, None)
    assert night.departures()[THREE] == utc("24T06:30")


def test_a_roster_of_strangers_disturbs_nobody() -> None:
    night = Night(bus("24T04:30", vehicle="STRANGER"))
    night.plug(ONE, "B")
    night.depot.step(night.now)
    assert night.shown(ONE).departs is None


# --- expected vehicles --------------------------------------------------------------------------------------------


def test_planned_returns_are_expected_with_their_next_need() -> None:
    night = Night(
        bus("23T05:00", returns=utc("23T22:00")),
        bus("24T04:30", evse=TWO),
        bus("24T06:00", vehicle="VAN", arrives=utc("23T21:00"), energy_wh=12_000),
    )
    assert night.expected() == (
        Expected(TWO, utc("23T22:00"), utc("24T04:30"), 30_000, BUS),
        Expected(ONE, utc("23T21:00"), utc("24T06:00"), 12_000, VAN),
    )
    night.plug(THREE, "B")  # early, and elsewhere
    assert [each.vehicle for each in night.expected()] == [VAN]
    assert night.departures() == {"BUS": utc("24T04:30")}


def test_arrivals_are_expected_a_day_ahead_and_also_of_who_is_here_now() -> None:
    night = Night(
        bus("24T04:30", returns=utc("24T17:00")),
        bus("25T04:30"),
        bus("25T06:00", vehicle="VAN", arrives=utc("24T21:00")),
    )
    night.plug(ONE, "B")
    assert [(each.vehicle, each.arrives) for each in night.expected()] == [(BUS, utc("24T17:00"))]
    night.at += timedelta(hours=2)
    assert [each.vehicle for each in night.expected()] == [BUS, VAN]


def test_who_is_long_overdue_is_doubted_and_then_gone() -> None:
    night = Night(bus("24T04:30", arrives=utc("23T21:00")))
    assert [each.weight_pct for each in night.expected()] == [100]
    night.at = utc("23T23:30")
    assert [each.weight_pct for each in night.expected()] == [50]
    night.at = utc("24T04:31")
    assert night.expected() == ()


def test_a_need_in_per_cent_of_who_is_not_here_is_estimated_or_left_out() -> None:
    night = Night(
        bus("24T04:30", arrives=utc("23T22:00"), energy_wh=None, soc=80),
        bus("24T04:30", vehicle="TRUCK", arrives=utc("23T22:00"), energy_wh=None, soc=80),
    )
    assert [(each.vehicle, each.energy_wh) for each in night.expected()] == [(BUS, 60_000)]


# --- habits -------------------------------------------------------------------------------------------------------


def habit(key: str = "BUS", seen: int = 12) -> Habit:
    days = tuple(HabitDay(day, 18 * 60 + 10, 30 * 60 + 30, seen, 14, 90) for day in range(7))
    return Habit(key, TWO, 25_000, days, phases=3, most_ma=16_000)


def test_what_is_usual_counts_where_nobody_said_anything() -> None:
    night = Night(at=utc("23T17:20"))
    night.tell(ev.HabitsLearned((habit(),)))
    night.plug(ONE, "B")
    departure = night.depot.plan_request(night.now).departures["BUS"]
    assert departure == Departure("BUS", utc("24T05:30"), 25_000)
    assert night.shown(ONE).departs_by == "usual 06:30, 12 of 14 days"
    night.order(ONE, utc("24T02:00"))
    assert night.departures() == {ONE: utc("24T02:00")}


def test_what_is_not_regular_or_not_its_time_is_no_habit() -> None:
    night = Night(at=utc("23T17:20"))
    night.tell(ev.HabitsLearned((habit(seen=5),)))
    night.plug(ONE, "B")
    assert night.departures() == {}
    noon = Night(at=utc("23T11:00"))
    noon.tell(ev.HabitsLearned((habit(),)))
    noon.plug(ONE, "B")
    assert noon.departures() == {}


def test_a_token_has_habits_too() -> None:
    night = Night(at=utc("23T17:20"))
    night.tell(ev.HabitsLearned((habit("CARD-9"),)))
    night.plug(ONE, "CARD-9")
    assert night.departures() == {ONE: utc("24T05:30")}


def test_usual_vehicles_are_expected_until_they_are_here_or_overdue() -> None:
    night = Night(at=utc("23T12:00"))
    night.tell(ev.HabitsLearned((habit(),)))
    usual = Expected(TWO, utc("23T17:10"), utc("24T05:30"), 25_000, BUS, 90)
    assert night.expected() == (usual,)
    night.at = utc("23T17:30")
    assert night.expected() == (usual,)
    night.at = utc("23T19:30")
    assert [each.arrives for each in night.expected()] == [utc("24T17:10")], "tomorrow then"
    night.plug(ONE, "B")
    assert night.expected() == ()


def test_learned_errors_reach_the_planner() -> None:
    night = Night()
    night.tell(ev.HabitsLearned((), (60.0, -120.0)))
    assert night.depot.plan_request(night.now).errors_s == (60.0, -120.0)


def test_how_a_vehicle_drew_before_is_planned_with_until_it_shows_otherwise() -> None:
    night = Night()
    night.tell(ev.HabitsLearned((), (), (Draw("BUS", 1, 15_800), Draw("VAN", 3, None))))
    night.plug(ONE, "B")
    night.plug(TWO, "V")

    def known() -> list[tuple[object, object]]:
        return [(each.phases, each.drawn_ma) for each in night.depot.plan_request(night.now).present]

    assert known() == [((0,), 15_800), (None, None)]
    sample(night, ONE, PerPhase(20_000, 0, 0))
    assert known()[0] == ((0,), None)
    sample(night, ONE, each_phase(16_000))
    assert known()[0] == (None, None)


# --- what a stay leaves -------------------------------------------------------------------------------------------


def stays(applied: object) -> list[StaySaved]:
    return [entry for entry in applied.entries if isinstance(entry, StaySaved)]  # type: ignore[attr-defined]


def sample(night: Night, evse: EvseId, current: PerPhase[int | None], **more: object) -> None:
    night.tell(ev.EvseSample(evse, "wire", night.now.mono_s, current, **more))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("reason", "announced"), [("EVDisconnected", True), ("Local", True), (None, True), ("Remote", False)]
)
def test_a_stay_leaves_what_it_drew_and_what_was_announced(reason: str | None, announced: bool) -> None:
    night = Night(bus("24T04:30"))
    night.plug(ONE, "B")
    night.depot.step(night.now)
    sample(night, ONE, PerPhase(15_800, 200, None))
    sample(night, ONE, PerPhase(14_000, 14_000, None))
    (stay,) = stays(night.unplug(ONE, reason=reason))
    assert (stay.phases, stay.most_ma) == (2, 15_800)
    assert stay.announced == (utc("24T04:30") if announced else None)


def test_a_habit_does_not_prove_itself() -> None:
    night = Night(at=utc("23T17:20"))
    night.tell(ev.HabitsLearned((habit(),)))
    night.plug(ONE, "B")
    assert night.shown(ONE).departs is not None
    sample(night, ONE, each_phase(16_000))
    (stay,) = stays(night.unplug(ONE))
    assert (stay.announced, stay.phases, stay.most_ma) == (None, 3, 16_000)


def test_a_stay_that_showed_nothing_leaves_nothing() -> None:
    night = Night()
    night.plug(ONE, "B")
    assert stays(night.unplug(ONE)) == []


# --- who could it be ----------------------------------------------------------------------------------------------


def test_a_stranger_like_the_bus_is_said_to_look_like_it_and_nothing_more() -> None:
    night = Night(at=utc("23T17:20"))
    night.tell(ev.HabitsLearned((habit(),)))
    night.plug(TWO, None)
    sample(night, TWO, each_phase(16_200))
    shown = night.shown(TWO)
    assert shown.vehicle is None and shown.departs is None, "suggested, not assumed"
    assert shown.looks_like is not None
    assert shown.looks_like.vehicle == BUS and shown.looks_like.confidence_pct >= 80
    assert shown.looks_like.why == "3 phases, 16 A, usually here at 18:10, its usual place"


def test_a_suggestion_travels_in_the_status_document() -> None:
    night = Night(at=utc("23T17:20"))
    night.tell(ev.HabitsLearned((habit(),)))
    night.plug(TWO, None)
    sample(night, TWO, each_phase(16_200))
    snapshot = night.depot.step(night.now).snapshot
    document = status(snapshot)
    (shown,) = (view["session"] for view in document["evses"] if view["session"] is not None)
    assert shown["looks_like"]["vehicle"] == "BUS" and shown["looks_like"]["confidence_pct"] >= 80
    assert snapshot_from(document).evses == snapshot.evses


@pytest.mark.parametrize("current", [PerPhase(16_000, 0, 0), each_phase(40_000)])
def test_who_draws_otherwise_does_not_look_like_it(current: PerPhase[int | None]) -> None:
    night = Night(at=utc("23T17:20"))
    night.tell(ev.HabitsLearned((habit(),)))
    night.plug(TWO, None)
    sample(night, TWO, current)
    assert night.shown(TWO).looks_like is None


def test_a_vehicle_that_is_here_already_is_nobody_else() -> None:
    night = Night(at=utc("23T17:20"))
    night.tell(ev.HabitsLearned((habit(),)))
    night.plug(TWO, None)
    night.plug(ONE, "B")
    sample(night, TWO, each_phase(16_000))
    assert night.shown(TWO).looks_like is None


def test_twins_are_not_guessed_between() -> None:
    night = Night(at=utc("23T17:20"))
    night.tell(ev.HabitsLearned((habit(), habit("VAN"))))
    night.plug(TWO, None)
    sample(night, TWO, each_phase(16_000))
    assert night.shown(TWO).looks_like is None


# --- states of charge that people tell ----------------------------------------------------------------------------


def energy(night: Night, register_wh: int, **more: object) -> None:
    night.at += timedelta(hours=2)
    sample(night, ONE, each_phase(16_000), register_wh=register_wh, **more)


def test_a_told_charge_rises_with_the_energy_and_gives_way_to_a_measured_one() -> None:
    night = Night()
    night.plug(ONE, "B")
    energy(night, 10_000)
    applied = night.depot.apply(ev.SocTold("anna", ONE, 55), night.now)
    assert SocSaved(ONE, "1-1", 55, 10_000) in applied.entries
    assert night.shown(ONE).soc == 55
    energy(night, 20_000)
    assert night.shown(ONE).soc == 64, "10 kWh of 100, a tenth lost"
    energy(night, 30_000, soc=70)
    energy(night, 40_000)
    assert night.shown(ONE).soc == 70


def test_a_told_charge_makes_a_departure_in_per_cent_energy() -> None:
    night = Night()
    night.plug(ONE, "B")
    night.tell(ev.DepartureSet("anna", Departure("BUS", utc("24T04:30"), soc=80)))
    night.tell(ev.SocTold("anna", ONE, 55))
    (present,) = night.depot.plan_request(night.now).present
    assert present.soc == 55


def test_a_told_charge_is_not_believed_once_energy_flows_back_or_the_session_is_another() -> None:
    night = Night()
    night.plug(ONE, "B")
    night.tell(ev.SocTold("anna", ONE, 55))
    sample(night, ONE, each_phase(-10_000), power_w=-6_900)
    assert night.shown(ONE).soc is None
    night.unplug(ONE)
    night.plug(ONE, "B", "u")
    night.tell(ev.SocRestored(ONE, "1-1", 55, 0))
    assert night.shown(ONE).soc is None
    night.tell(ev.SocRestored(ONE, "1-2", 40, 0))
    assert night.shown(ONE).soc == 40


def test_a_charge_of_an_unknown_battery_is_not_taken() -> None:
    night = Night()
    night.plug(ONE, None)
    assert night.depot.apply(ev.SocTold("anna", ONE, 55), night.now).entries == ()
    assert night.shown(ONE).soc is None


# --- what vehicles tell of themselves -----------------------------------------------------------------------------


def test_what_a_vehicle_says_is_planned_with_until_it_shows_more_and_is_forgotten_with_it() -> None:
    night = Night()
    night.tell(ev.DrawTold(ONE, "wire", 1, 16_000))  # nobody is there: nobody's word
    night.plug(ONE, "B")
    (present,) = night.depot.plan_request(night.now).present
    assert (present.phases, present.drawn_ma) == (None, None)
    night.tell(ev.DrawTold(ONE, "wire", 1, 16_000))
    (present,) = night.depot.plan_request(night.now).present
    assert (present.phases, present.drawn_ma) == ((0,), 16_000)
    sample(night, ONE, each_phase(30_000))
    (present,) = night.depot.plan_request(night.now).present
    assert (present.phases, present.drawn_ma) == (None, None), "it lied"


def test_what_a_vehicle_was_seen_to_draw_stands_above_what_it_says() -> None:
    night = Night()
    night.tell(ev.HabitsLearned((), draws=(Draw("BUS", 3, 20_000),)))
    night.plug(ONE, "B")
    night.tell(ev.DrawTold(ONE, "wire", 1, 16_000))
    (present,) = night.depot.plan_request(night.now).present
    assert (present.phases, present.drawn_ma) == (None, 20_000)
