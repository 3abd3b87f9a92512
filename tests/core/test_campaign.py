"""Firmware campaigns on a whole brain: facts in, orders out. The property at the end draws the order of facts."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from controller.core import events as ev
from controller.core import wire
from controller.core.campaign import PATIENCE_S
from controller.core.commands import Audited, Command, StartCharging, UpgradeFirmware
from controller.core.depot import Depot
from controller.core.firmware import is_older, is_same, notation
from controller.core.model import (
    EvseId,
    EvseState,
    Link,
    Moment,
    Site,
    StationId,
    evse_id,
)
from controller.core.orders import KEEP_S
from controller.core.readiness import START_S
from controller.core.snapshot import CampaignView, Snapshot
from tests.small_site import a_site, an_evse

CHANNEL = "open-platform/onsite"
OLD, NEW = "260420.0107", "260518.0002"
A, B, C = StationId("A"), StationId("B"), StationId("C")
A1, A2 = EvseId("A/1"), EvseId("A/2")
START = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def site() -> Site:
    link = Link(CHANNEL, lease_s=120, lease_slack_s=40, raise_gap_s=1, answer_s=20)
    ids = A1, A2, evse_id(B, 1), evse_id(C, 1)
    return a_site(*(an_evse(id, link, autostart=id == evse_id(B, 1)) for id in ids), limit_a=200, load_a=10)


@dataclass
class Yard:
    """A depot of three stations, all idle, and what it told."""

    depot: Depot = field(default_factory=lambda: Depot(site(), "1"))
    now_s: float = 1000.0
    sent: list[Command] = field(default_factory=list)
    audit: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for station in (A, B, C):
            self.tell(ev.LinkUp(station, CHANNEL, "peer"), self.booted(station, OLD))
        for evse in self.depot.site.evses:
            self.tell(ev.FallbackStored(evse, CHANNEL, 6_000), self.state(evse, EvseState.AVAILABLE))

    @property
    def now(self) -> Moment:
        return Moment(self.now_s, START + timedelta(seconds=self.now_s))

    def tell(self, *events: ev.Event) -> None:
        for event in events:
            self._note(self.depot.apply(event, self.now).entries)

    def step(self, seconds: float = 1.0) -> Snapshot:
        self.now_s += seconds
        decision = self.depot.step(self.now)
        self.sent += decision.commands
        self._note(decision.entries)
        return decision.snapshot

    def _note(self, entries: tuple[object, ...]) -> None:
        self.audit += [(e.what, e.subject) for e in entries if isinstance(e, Audited)]

    @property
    def upgrades(self) -> list[UpgradeFirmware]:
        return [command for command in self.sent if isinstance(command, UpgradeFirmware)]

    def view(self) -> CampaignView:
        campaign = self.step().campaign
        assert campaign is not None
        return campaign

    def rows(self) -> dict[str, str]:
        return {row.station: row.state for row in self.view().stations}

    # --- facts ----------------------------------------------------------------------------------------------------

    @staticmethod
    def state(evse: EvseId, state: EvseState) -> ev.Event:
        return ev.StatusChanged(evse, CHANNEL, state)

    @staticmethod
    def booted(station: StationId, version: str) -> ev.Event:
        return ev.StationBooted(station, CHANNEL, "Tellus", "TP-DC60", version)

    @staticmethod
    def said(station: StationId, status: str, percent: int | None = None, version: str = NEW) -> ev.Event:
        return ev.FirmwareReported(station, CHANNEL, version, status, percent, "disk" * (status == "failed"))

    def session(self, evse: EvseId) -> ev.Event:
        return ev.TransactionStarted(evse, CHANNEL, f"t{self.now_s}", None, 0, self.now.utc)

    def over(self, evse: EvseId, transaction: str) -> ev.Event:
        return ev.TransactionEnded(StationId(evse[0]), evse, transaction, "Local", 0, self.now.utc)

    @staticmethod
    def wish(*stations: StationId, order: str = "u-1", version: str = NEW) -> ev.Event:
        return ev.UpgradeWished(order, "ann", stations, version)


@pytest.fixture
def yard() -> Yard:
    return Yard()


# --- versions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other", "older", "same"),
    [
        ("260420.0107", "260420.0108", True, False),
        ("260421.0001", "260420.9999", False, False),
        ("3.1.0", "3.10.0", True, False),
        ("3.9.0", "3.10.0", True, False),
        ("03.1.0", "3.1.0", False, True),
        ("3.1.0", "260420.0107", None, False),
        ("260420.0107", "260420.0107", False, True),
        ("v5-rc1", "v5-rc1", None, True),
        ("v5-rc1", "v5-rc2", None, False),
        ("260420.107", "260420.0107", None, False),
    ],
)
def test_versions_compare_within_their_notation(one: str, other: str, older: bool | None, same: bool) -> None:
    assert (is_older(one, other), is_same(one, other)) == (older, same)


def test_notations() -> None:
    assert [notation(v) for v in ("260420.0107", "3.1.0", "3.1", "260420.0107 ", "٢60420.0107")] == [
        "build", "release", "other", "other", "other",
    ]  # fmt: skip


# --- the way of a campaign ----------------------------------------------------------------------------------------


def test_one_after_the_other_in_the_wished_order(yard: Yard) -> None:
    yard.tell(yard.wish(C, A))
    assert yard.rows() == {"C": "ordered", "A": "waiting"}
    [first] = yard.upgrades
    assert (first.evse, first.channel, first.version, first.url) == ("C/1", CHANNEL, NEW, None)
    yard.tell(ev.CommandSent(first.id), ev.CommandAccepted(first.id))
    assert yard.rows()["C"] == "accepted"
    yard.tell(yard.said(C, "downloading", 40))
    row = yard.view().stations[0]
    assert (row.state, row.progress_pct) == ("downloading", 40)
    assert len(yard.upgrades) == 1
    yard.tell(yard.said(C, "success", 100))
    assert yard.rows() == {"C": "done", "A": "ordered"}
    assert yard.upgrades[1].evse == "A/1"
    yard.tell(yard.booted(A, NEW))
    view = yard.view()
    assert (view.state, view.text) == ("done", "2 of 2 done"), "back with the wanted version is a success too"
    assert yard.audit[-1] == ("firmware-campaign-over", "C, A")
    for what in (("firmware-campaign", "C, A"), ("firmware-ordered", "A"), ("firmware-done", "C")):
        assert what in yard.audit
    [order] = yard.step().orders
    assert (order.id, order.outcome) == ("u-1", "done")
    assert [stage for stage, _ in order.stages] == ["C ordered", "C done", "A ordered", "A done"]
    assert yard.step(KEEP_S + 1).orders == ()


def test_one_that_has_the_version_is_passed_over(yard: Yard) -> None:
    yard.tell(yard.booted(A, NEW), yard.wish(A))
    view = yard.view()
    assert (view.state, view.stations[0].text, yard.upgrades) == ("done", "has it already", [])


def test_it_waits_until_every_evse_is_idle(yard: Yard) -> None:
    yard.tell(yard.state(A2, EvseState.CHARGING), yard.session(A2), yard.wish(A, C))
    assert yard.view().stations[0].text == "A/2 has a session"
    assert yard.step(PATIENCE_S * 3).campaign == yard.view(), "a session may last a night"
    yard.tell(yard.over(A2, "t1000.0"), yard.state(A2, EvseState.FINISHING))
    assert yard.view().stations[0].text == "A/2 is finishing"
    yard.tell(yard.state(A2, EvseState.FAULTED))
    yard.step()
    assert len(yard.upgrades) == 1, "a fault without a vehicle is no use"


def test_a_start_on_its_way_is_waited_for(yard: Yard) -> None:
    yard.tell(ev.StartWished("o-1", "ann", A1), yard.wish(A))
    yard.step()
    assert [type(c) for c in yard.sent if c.evse == A1] == [StartCharging]
    assert yard.view().stations[0].text == "A/1 may still start"
    yard.step(START_S)
    assert len(yard.upgrades) == 1


def test_nothing_begins_at_a_station_that_is_upgraded(yard: Yard) -> None:
    yard.tell(yard.wish(B))
    yard.step()
    yard.tell(ev.CommandAccepted(yard.upgrades[0].id), yard.state(EvseId("B/1"), EvseState.PREPARING))
    yard.tell(ev.StartWished("o-1", "ann", EvseId("B/1")), ev.StartWished("o-2", "ann", A1))
    found = {order.id: (order.outcome, order.reason) for order in yard.step().orders}
    assert found["o-1"] == ("refused", "its firmware is being upgraded")
    assert found["o-2"][0] is None
    yard.step(70)
    assert {c.evse for c in yard.sent if isinstance(c, StartCharging)} == {A1}, "an autostart waits too"
    yard.tell(yard.said(B, "success"))
    yard.step(70)
    assert {c.evse for c in yard.sent if isinstance(c, StartCharging)} == {A1, EvseId("B/1")}


def test_the_picture_crosses_the_wire(yard: Yard) -> None:
    yard.tell(yard.wish(A, C))
    yard.step()
    yard.tell(yard.said(A, "downloading", 40))
    snapshot = yard.step()
    document = wire.status(snapshot)
    assert document["campaign"]["stations"][0] == {
        "station": "A", "state": "downloading", "progress_pct": 40, "text": "",
    }  # fmt: skip
    assert wire.snapshot_from(document) == snapshot
    del document["campaign"]
    assert wire.snapshot_from(document).campaign is None, "from before there were campaigns"


# --- how it fails -------------------------------------------------------------------------------------------------


def test_the_first_failure_leaves_the_rest(yard: Yard) -> None:
    yard.tell(yard.wish(A, B, C))
    yard.step()
    yard.tell(yard.said(A, "success"))
    yard.step()
    yard.tell(yard.said(B, "failed"))
    view = yard.view()
    assert (view.state, view.text) == ("failed", "B: disk; 1 of 3 done")
    assert yard.rows() == {"A": "done", "B": "failed", "C": "left"}
    yard.step(100)
    assert len(yard.upgrades) == 2
    snapshot = yard.step()
    [alarm] = snapshot.alarms
    assert (alarm.kind, alarm.source) == ("firmware", "B")
    assert alarm.text == f"firmware {NEW} failed: disk; left as they are: C"
    assert [(o.outcome, o.evse) for o in snapshot.orders] == [("failed", "B")]
    yard.tell(ev.UpgradeEnded("ann"))
    yard.step(10)
    assert not yard.step(10).alarms, "a person has seen it"


def test_a_refused_order_is_a_failure_and_a_lost_one_is_waited_for(yard: Yard) -> None:
    yard.tell(yard.wish(A))
    yard.step()
    yard.tell(ev.CommandRefused(yard.upgrades[0].id, "not offered by the API"))
    assert yard.view().text == "A: not offered by the API; 0 of 1 done"
    yard.tell(yard.wish(C, order="u-2"))
    yard.step()
    yard.tell(ev.CommandLost(yard.upgrades[1].id, "no answer"))
    assert yard.rows() == {"C": "ordered"}, "it may have begun"
    yard.tell(yard.said(C, "success"))
    assert yard.view().state == "done"


def test_no_progress_is_a_failure(yard: Yard) -> None:
    yard.tell(yard.wish(A, C))
    yard.step()
    yard.tell(ev.CommandAccepted(yard.upgrades[0].id))
    for percent in (10, 20):
        yard.step(PATIENCE_S - 10)
        yard.tell(yard.said(A, "downloading", percent))
    yard.step(PATIENCE_S - 10)
    yard.tell(yard.said(A, "downloading", 20))  # said again: nothing moved
    assert yard.rows()["A"] == "downloading"
    yard.step(20)
    assert yard.view().text == "A: no progress for 60 min (last: downloading 20 %); 0 of 2 done"
    assert len(yard.upgrades) == 1


def test_one_that_stays_away_is_a_failure(yard: Yard) -> None:
    yard.tell(ev.LinkDown(A, CHANNEL, "gone"), yard.wish(A))
    assert yard.view().stations[0].text == "offline"
    yard.step(PATIENCE_S / 2)
    yard.tell(ev.LinkUp(A, CHANNEL, "p"), yard.state(A1, EvseState.PREPARING))
    yard.step()
    yard.tell(ev.LinkDown(A, CHANNEL, "gone"))
    yard.step(PATIENCE_S / 2)
    assert yard.view().state == "running", "it was there meanwhile"
    yard.step(PATIENCE_S)
    assert yard.view().text == "A: offline for 60 min; 0 of 1 done"


# --- people -------------------------------------------------------------------------------------------------------


def test_a_second_campaign_waits_for_a_person(yard: Yard) -> None:
    yard.tell(yard.wish(A), yard.wish(B, order="u-2"))
    snapshot = yard.step()
    refused = next(order for order in snapshot.orders if order.id == "u-2")
    assert refused.outcome == "refused"
    assert refused.reason == f"a campaign for {NEW} is under way; it ends early by `depot firmware stop`"
    assert ("firmware-campaign-refused", "B") in yard.audit
    assert [c.evse for c in yard.upgrades] == [A1]


def test_a_stop_lets_the_current_one_finish(yard: Yard) -> None:
    yard.tell(yard.wish(A, B))
    yard.step()
    yard.tell(ev.UpgradeEnded("bob"))
    assert (yard.view().state, yard.rows()) == ("stopping", {"A": "ordered", "B": "waiting"})
    yard.tell(yard.said(A, "success"))
    view = yard.view()
    assert (view.state, view.text) == ("stopped", "stopped by bob; 1 of 2 done")
    assert yard.rows() == {"A": "done", "B": "left"}
    assert len(yard.upgrades) == 1
    assert [order.outcome for order in yard.step().orders] == ["failed"]


def test_a_stop_before_anything_began_ends_it_at_once(yard: Yard) -> None:
    yard.tell(yard.session(A1), yard.wish(A))
    yard.step()
    yard.tell(ev.UpgradeEnded("bob"))
    assert (yard.view().state, yard.rows()) == ("stopped", {"A": "left"})
    yard.tell(ev.UpgradeEnded("bob"))
    assert yard.view().text == "stopped by bob; 0 of 1 done", "a second stop changes nothing"


def test_what_a_station_does_by_itself_is_respected(yard: Yard) -> None:
    yard.tell(yard.said(C, "upgrading", 10, "260601.0001"), yard.wish(A))
    assert yard.view().stations[0].text == "C: firmware is on its way already"
    yard.tell(yard.said(C, "failed", version="260601.0001"))
    yard.step()
    assert [c.evse for c in yard.upgrades] == [A1]
    yard.tell(yard.said(A, "success", version="250101.0001"))
    assert yard.rows() == {"A": "ordered"}, "a report about another version is not about ours"
    yard.tell(yard.said(A, "success", version=""))
    assert yard.view().state == "done", "OCPP 1.6 names none"


@pytest.mark.parametrize("stations", [(), ("X",), ("A", "X")])
def test_a_campaign_that_cannot_be(yard: Yard, stations: tuple[StationId, ...]) -> None:
    yard.tell(yard.wish(*stations))
    snapshot = yard.step()
    assert (snapshot.campaign, [order.outcome for order in snapshot.orders]) == (None, ["refused"])


# --- the law ------------------------------------------------------------------------------------------------------


class Truth:
    """What the test knows by itself: which orders may be under way, which EVSEs have a session or a vehicle."""

    def __init__(self) -> None:
        self.open: dict[str, StationId] = {}
        self.used: dict[EvseId, str] = {}
        self.plugged: set[EvseId] = set()

    def ended(self, station: StationId) -> None:
        self.open = {name: at for name, at in self.open.items() if at != station}

    def check(self, commands: list[Command]) -> None:
        for command in commands:
            at = StationId(command.evse[0])
            if isinstance(command, UpgradeFirmware):
                assert not self.open, (self.open, command)
                assert not [e for e in (*self.used, *self.plugged) if e[0] == at], (self, command)
                self.open[command.id] = at
            elif isinstance(command, StartCharging):
                assert at not in self.open.values(), command


@pytest.mark.parametrize("decade", range(6))
def test_at_most_one_station_and_none_in_use(decade: int) -> None:
    """Any order of facts. Time stays below the patience, so an order ends only by what stations say."""
    assert sum(a_story(seed) for seed in range(decade * 10, decade * 10 + 10)) >= 20, "much happened"


def a_story(seed: int) -> int:
    """Returns how many upgrades were ordered in it."""
    draw, yard, truth = random.Random(seed), Yard(), Truth()
    evses, orders, judged = list(yard.depot.site.evses), 0, 0
    for _ in range(200):
        station, evse = draw.choice((A, B, C)), draw.choice(evses)
        match draw.randrange(12):
            case 0:
                orders += 1
                stations = tuple(draw.sample((A, B, C), draw.randrange(1, 4)))
                yard.tell(
                    yard.wish(*stations, order=f"u-{orders}", version=draw.choice((NEW, "260601.0001")))
                )
            case 1 if draw.random() < 0.3:
                yard.tell(ev.UpgradeEnded("ann"))
            case 2 | 3 if evse in truth.used:
                yard.tell(yard.over(evse, truth.used.pop(evse)), yard.state(evse, EvseState.AVAILABLE))
                truth.plugged.discard(evse)
            case 2 | 3 if StationId(evse[0]) not in truth.open.values():
                event = yard.session(evse)
                assert isinstance(event, ev.TransactionStarted)
                truth.used[evse] = str(event.transaction)
                if (
                    evse not in truth.plugged or draw.random() < 0.5
                ):  # else the state comes later than the session
                    yard.tell(yard.state(evse, EvseState.CHARGING))
                yard.tell(event)
            case 4 if station in truth.open.values() or draw.random() < 0.1:
                yard.tell(yard.said(station, "downloading", draw.randrange(100), draw.choice((NEW, OLD))))
            case 5 | 6:
                version = next((c.version for c in yard.upgrades if c.id in truth.open), NEW)
                ours = truth.open.values()
                status = draw.choice(("success", "failed"))
                yard.tell(yard.said(station, status, None, version))
                if station in ours:
                    truth.ended(station)
            case 7:
                yard.tell(ev.LinkDown(station, CHANNEL, "gone"))
                yard.step()
                yard.tell(ev.LinkUp(station, CHANNEL, "p"), yard.booted(station, OLD))
            case 8 if evse not in truth.used:
                state = EvseState.AVAILABLE if evse in truth.plugged else EvseState.PREPARING
                truth.plugged ^= {evse}
                yard.tell(yard.state(evse, state))
            case 9 if truth.open:
                name = draw.choice(list(truth.open))
                kind = draw.choice(
                    (ev.CommandAccepted(name), ev.CommandLost(name, "?"), ev.CommandRefused(name, "no"))
                )
                yard.tell(kind)
                if isinstance(kind, ev.CommandRefused):
                    del truth.open[name]
            case 10 if draw.random() < 0.2:
                yard.tell(ev.StartWished(f"o-{yard.now_s}", "ann", evse))
            case _:
                yard.step(draw.choice((1.0, 15.0, 60.0)))
        truth.check(yard.sent[judged:])
        judged = len(yard.sent)
    return len(yard.upgrades)
