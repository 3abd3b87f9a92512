"""The brain as a whole: what one fact causes at once, and what has to be in the ledger before anything leaves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from controller.core import events as ev
from controller.core.commands import CeilingSaved, FallbackSaved, SetLimit, StartCharging, StopCharging
from controller.core.decide import CEILING_REVIEW_S, Decision
from controller.core.depot import Depot
from controller.core.model import (
    EvseId,
    EvseState,
    Link,
    MeterId,
    Moment,
    PerPhase,
    Site,
    StationId,
    Vehicle,
    VehicleId,
    Verdict,
    each_phase,
)
from controller.core.observing import URGENT_RISE_MA
from tests.small_site import MAIN, a_site, an_evse

START = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
LINK = Link("wire", lease_s=60, lease_slack_s=10, raise_gap_s=10, answer_s=12)
ONE = EvseId("CP1/1")


def site(autostart: bool = False, metered: bool = False) -> Site:
    unit = an_evse(ONE, LINK, phases=(0,), autostart=autostart)
    van = Vehicle(VehicleId("van"), 60_000, None, ("TAG1",))
    return a_site(unit, metered=metered, load_a=0, vehicles={van.id: van})


def at(second: float) -> Moment:
    return Moment(1000.0 + second, START + timedelta(seconds=second))


def connected(autostart: bool = False) -> Depot:
    depot = Depot(site(autostart), "1")
    depot.apply(ev.LinkUp(StationId("CP1"), "wire", "peer"), at(0))
    depot.apply(ev.FallbackStored(ONE, "wire", 6_000), at(0))
    depot.apply(ev.StatusChanged(ONE, "wire", EvseState.PREPARING), at(0))
    return depot


def begun(token: str | None = "TAG1", second: float = 20) -> ev.TransactionStarted:
    return ev.TransactionStarted(ONE, "wire", "T1", token, 0, at(second).utc)


def limits(decision: Decision) -> list[tuple[int, bool]]:
    return [(c.limit_ma, c.raises) for c in decision.commands if isinstance(c, SetLimit)]


def ceilings(decision: Decision) -> list[int]:
    return [entry.limit_ma for entry in decision.entries if isinstance(entry, CeilingSaved)]


def accept(depot: Depot, decision: Decision, second: float) -> None:
    for command in decision.commands:
        depot.apply(ev.CommandAccepted(command.id), at(second))


@pytest.mark.parametrize(
    ("token", "verdict"),
    [
        ("TAG1", Verdict.ACCEPTED),
        ("tag1", Verdict.ACCEPTED),
        ("TAG9", Verdict.INVALID),
        (None, Verdict.ACCEPTED),
    ],
)
def test_who_may_charge(token: str | None, verdict: Verdict) -> None:
    assert connected().apply(begun(token), at(20)).verdict is verdict
    if token is not None:
        assert connected().apply(ev.TokenPresented(StationId("CP1"), token), at(20)).verdict is verdict


def test_facts_about_strangers_change_nothing() -> None:
    depot = connected()
    stranger = EvseId("XX/1")
    before = depot.step(at(1)).snapshot
    for fact in (
        ev.StatusChanged(stranger, "wire", EvseState.CHARGING),
        ev.TransactionStarted(stranger, "wire", "T", None, 0, START),
        ev.LinkUp(StationId("XX"), "wire", "peer"),
        ev.CommandAccepted("nobody's"),
        ev.MeterReading(MeterId("xx"), 1.0, each_phase(None), None, each_phase(None)),
    ):
        assert depot.apply(fact, at(1)).entries == ()
    assert depot.step(at(1)).snapshot == before


def test_a_raise_comes_with_the_ceiling_it_needs_and_a_lower_limit_with_none() -> None:
    depot = connected()
    depot.apply(begun(), at(20))
    decision = depot.step(at(20))
    assert (limits(decision), ceilings(decision)) == ([(32_000, True)], [32_000])
    accept(depot, decision, 21)
    depot.apply(ev.LimitWished("o1", "ann", ONE, 10_000), at(22))
    decision = depot.step(at(22))
    assert (limits(decision), ceilings(decision)) == ([(10_000, False)], [])
    accept(depot, decision, 23)
    depot.apply(ev.LimitWished("o2", "ann", ONE, None), at(40))
    assert limits(depot.step(at(40))) == [(32_000, False)], "the ledger knows 32 A already"


def test_ceilings_come_down_rarely() -> None:
    depot = connected()
    depot.apply(begun(), at(20))
    accept(depot, depot.step(at(20)), 21)
    depot.apply(ev.TransactionEnded(StationId("CP1"), ONE, "T1", "Local", 0, at(60).utc), at(60))
    saved = {second: ceilings(depot.step(at(second))) for second in range(61, 1000, 10)}
    found = {second: values for second, values in saved.items() if values}
    assert list(found.values()) == [[6_000]]
    assert min(found) >= 20 + CEILING_REVIEW_S


def test_after_a_restart_an_old_lease_may_still_run() -> None:
    depot = Depot(site(), "2")
    depot.apply(ev.FallbackStored(ONE, "ledger", 6_000), at(0))
    depot.apply(ev.CeilingRestored(ONE, 20_000), at(0))
    for second, wanted in ((9, 20_000), (69, 20_000), (71, 6_000)):
        assert depot.step(at(second)).snapshot.evses[0].commitment_ma == wanted


def test_command_names_are_never_used_twice() -> None:
    names = set()
    for boot in ("1", "2"):
        depot = Depot(site(), boot)
        depot.apply(ev.LinkUp(StationId("CP1"), "wire", "peer"), at(0))
        depot.apply(begun(), at(1))
        names |= {command.id for command in depot.step(at(1)).commands}
    assert len(names) == 2


def test_a_refused_fallback_counts_at_the_maximum() -> None:
    depot = connected()
    applied = depot.apply(ev.FallbackRefused(ONE, "wire", "Rejected"), at(20))
    assert applied.entries == (FallbackSaved(ONE, None),)
    assert depot.step(at(20)).snapshot.evses[0].commitment_ma == 32_000


@pytest.mark.parametrize(
    ("order", "reason"),
    [
        (ev.StopWished("o", "ann", ONE), "no session is running"),
        (ev.PauseWished("o", "ann", ONE), "no session is running"),
        (ev.StartWished("o", "ann", ONE), None),
        (ev.LimitWished("o", "ann", ONE, 8_000), None),
    ],
)
def test_an_order_that_cannot_be_is_refused_with_its_reason(order: ev.Event, reason: str | None) -> None:
    depot = connected()
    depot.apply(order, at(20))
    (view,) = depot.step(at(20)).snapshot.orders
    assert view.reason == reason


def test_a_start_that_was_ordered_is_sent_once_and_its_token_is_known() -> None:
    depot = connected()
    depot.apply(ev.StartWished("o", "ann", ONE), at(20))
    sent = [c for s in range(20, 100) for c in depot.step(at(s)).commands if isinstance(c, StartCharging)]
    assert [command.limit_ma for command in sent] == [6_000]
    assert depot.apply(begun(sent[0].token, 101), at(101)).verdict is Verdict.ACCEPTED


def test_a_session_that_has_its_energy_is_stopped() -> None:
    depot = connected()
    depot.apply(ev.StartWished("o", "ann", ONE, token="TAG1", energy_wh=1_000), at(20))
    depot.step(at(20))
    depot.apply(begun(), at(21))
    for register, wanted in ((900, []), (1_000, ["energy reached"])):
        second = 30 + register
        depot.apply(ev.EvseSample(ONE, "wire", 1000.0 + second, each_phase(None), None, register), at(second))
        stops = [c.reason for c in depot.step(at(second)).commands if isinstance(c, StopCharging)]
        assert stops == wanted


def test_only_a_steep_rise_of_the_meter_is_urgent() -> None:
    depot = Depot(site(metered=True), "1")
    urgent = []
    for second, current in enumerate((5_000, 5_000 + URGENT_RISE_MA - 1, 9_000, 2_000)):
        reading: PerPhase[int | None] = PerPhase(current, 0, 0)
        fact = ev.MeterReading(MAIN, 1000.0 + second, reading, None, each_phase(None))
        urgent.append(depot.apply(fact, at(second)).urgent)
    assert urgent == [False, False, True, False]


def test_what_a_session_drew_is_not_shown_once_it_is_over() -> None:
    """A station says nothing of the current between its sessions; the last sample is that of the vehicle that stopped."""
    depot = connected()

    def sample(current_ma: int, second: float) -> None:
        drawn = PerPhase(current_ma, None, None)
        depot.apply(ev.EvseSample(ONE, "wire", 1000.0 + second, drawn, current_ma * 230 // 1000), at(second))

    def shown(second: float) -> tuple[int | None, int | None]:
        (view,) = depot.step(at(second)).snapshot.evses
        return view.measured_ma.l1, view.power_w

    depot.apply(begun(), at(20))
    sample(16_000, 30)
    assert shown(31) == (16_000, 3_680)
    depot.apply(ev.TransactionEnded(StationId("CP1"), ONE, "T1", "Local", 0, at(32).utc), at(32))
    assert shown(33) == (None, None)
    sample(500, 40)
    assert shown(41) == (500, 115), "a station that tells it all the same is believed"


def test_who_charged_before_our_restart_is_not_paused_while_its_station_has_not_said_how_it_is() -> None:
    depot = Depot(site(), "2")
    depot.apply(ev.FallbackRestored(ONE, 6_000), at(0))
    depot.apply(ev.SessionRestored("s", ONE, "1", "TAG1", at(0).utc, 0, 0, 0), at(0))
    depot.apply(ev.LinkUp(StationId("CP1"), "wire", "peer"), at(1))
    assert all(limit_ma >= 6_000 for limit_ma, _ in limits(depot.step(at(1))))
    assert [view.grant_ma for view in depot.step(at(2)).snapshot.evses] != [0]
    depot.apply(ev.StatusChanged(ONE, "wire", EvseState.UNAVAILABLE), at(3))
    assert [limit_ma for limit_ma, _ in limits(depot.step(at(3)))] == [0], "now it has"
