"""Id tokens: who may charge, which list the stations get, and that the config's vehicles stay in the book."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from controller.core import events as ev
from controller.core.commands import Audited, SessionSaved, StoreTokens, TokenForgotten, TokenSaved
from controller.core.depot import Depot
from controller.core.model import (
    EvseId,
    EvseState,
    IdToken,
    Moment,
    Site,
    StationId,
    Vehicle,
    VehicleId,
    Verdict,
)
from controller.core.tokens import AGAIN_S, CALM_S, TokenBook
from tests.small_site import WIRE, a_site, an_evse

START = datetime(2026, 11, 22, 18, 0, tzinfo=UTC)
OCPP = replace(WIRE, channel="ocpp")
A1, B1 = EvseId("A/1"), EvseId("B/1")
BUS = VehicleId("BUS-07")


def at(second: float, trusted: bool = True) -> Moment:
    return Moment(1000.0 + second, START + timedelta(seconds=second), trusted)


def site(*tokens: str, accept_unknown: bool = False) -> Site:
    return a_site(
        an_evse(A1, OCPP),
        an_evse(B1, OCPP),
        vehicles={BUS: Vehicle(BUS, 94_000, 22_000, tokens)},
        accept_unknown_tokens=accept_unknown,
    )


def depot_with(*tokens: IdToken) -> Depot:
    depot = Depot(site("04A2"), "1")
    depot.apply(ev.TokensRestored(tokens, len(tokens)), at(0))
    for station in ("A", "B"):
        depot.apply(ev.LinkUp(StationId(station), "ocpp1.6", "test"), at(0))
    return depot


def started(evse: EvseId, token: str, transaction: str = "1", offline: bool = False) -> ev.TransactionStarted:
    return ev.TransactionStarted(evse, "ocpp1.6", transaction, token, 0, at(1).utc, offline)


@pytest.mark.parametrize(
    ("token", "verdict"),
    [
        (IdToken("card"), Verdict.ACCEPTED),
        (IdToken("CARD"), Verdict.ACCEPTED),
        (IdToken("card", blocked=True), Verdict.BLOCKED),
        (IdToken("card", expires=START - timedelta(seconds=1)), Verdict.EXPIRED),
        (IdToken("card", expires=START + timedelta(hours=1)), Verdict.ACCEPTED),
        (IdToken("card", blocked=True, expires=START - timedelta(days=1)), Verdict.BLOCKED),
        (IdToken("other"), Verdict.INVALID),
    ],
)
def test_the_verdict_on_a_token(token: IdToken, verdict: Verdict) -> None:
    book = TokenBook(site())
    book.put(token)
    assert book.verdict("card", StationId("A"), {}, at(0)) is verdict


def test_nobody_is_expired_by_a_clock_that_may_be_wrong() -> None:
    book = TokenBook(site())
    book.put(IdToken("card", expires=START - timedelta(days=300)))
    assert book.verdict("card", StationId("A"), {}, at(0, trusted=False)) is Verdict.ACCEPTED


def test_unknown_tokens_may_charge_only_where_the_config_says_so_and_blocked_ones_nowhere() -> None:
    open_house = TokenBook(site(accept_unknown=True))
    assert open_house.verdict("whoever", StationId("A"), {}, at(0)) is Verdict.ACCEPTED
    open_house.put(IdToken("whoever", blocked=True))
    assert open_house.verdict("WHOEVER", StationId("A"), {}, at(0)) is Verdict.BLOCKED


def test_a_token_charges_at_one_station_at_a_time_unless_it_may() -> None:
    depot = depot_with(IdToken("card"), IdToken("master", concurrent=True))
    assert depot.apply(started(A1, "card"), at(1)).verdict is Verdict.ACCEPTED
    assert depot.apply(ev.TokenPresented(StationId("A"), "CARD"), at(2)).verdict is Verdict.ACCEPTED, (
        "to stop"
    )
    assert depot.apply(ev.TokenPresented(StationId("B"), "card"), at(2)).verdict is Verdict.CONCURRENT_TX
    assert depot.apply(started(B1, "card", "2"), at(3)).verdict is Verdict.CONCURRENT_TX
    depot.apply(started(A1, "master", "3"), at(4))
    assert depot.apply(started(B1, "master", "4"), at(5)).verdict is Verdict.ACCEPTED


def test_a_station_that_charges_on_a_refused_token_is_stopped_and_the_energy_is_booked() -> None:
    depot = depot_with(IdToken("card", blocked=True))
    depot.apply(ev.StatusChanged(A1, "ocpp1.6", EvseState.CHARGING), at(1))
    applied = depot.apply(started(A1, "card"), at(1))
    assert applied.verdict is Verdict.BLOCKED
    assert [row.marks for row in applied.entries if isinstance(row, SessionSaved)][-1:] == [
        ("token-refused",)
    ]
    decision = depot.step(at(2))
    stops = [c for c in decision.commands if type(c).__name__ == "StopCharging"]
    assert [(stop.evse, stop.reason) for stop in stops] == [(A1, "token not accepted")]
    shown = next(evse for evse in decision.snapshot.evses if evse.id == A1)
    assert (shown.grant_ma, shown.bound_by) == (
        0,
        "token not accepted",
    )  # nothing is given until it has stopped
    closed = depot.apply(
        ev.TransactionEnded(StationId("A"), A1, "1", "DeAuthorized", 60, at(9).utc), at(9)
    ).entries
    assert [(row.energy_wh, "token-refused" in row.marks) for row in closed] == [(60, True)]


def test_a_replayed_start_stops_nobody() -> None:
    depot = depot_with(IdToken("card", expires=START - timedelta(minutes=1)))
    depot.apply(started(A1, "card", offline=True), at(1))
    assert not [c for c in depot.step(at(2)).commands if type(c).__name__ == "StopCharging"]


def test_group_and_expiry_go_with_the_answer() -> None:
    expires = START + timedelta(days=1)
    depot = depot_with(IdToken("card", group="night-shift", expires=expires))
    for fact in (ev.TokenPresented(StationId("A"), "card"), started(A1, "card")):
        answer = depot.apply(fact, at(1))
        assert (answer.verdict, answer.group, answer.expires) == (Verdict.ACCEPTED, "night-shift", expires)


def test_tokens_of_the_configs_vehicles_are_in_the_book_and_leave_with_them() -> None:
    book = TokenBook(site("04A2", "99ff"))
    saved = book.restore(
        [IdToken("gone", vehicle=BUS, configured=True), IdToken("04a2", group="g", blocked=True)], 7
    )
    assert TokenForgotten("gone", 8) in saved
    assert book.version == 7 + len(saved)
    assert book.find("04A2") == IdToken("04a2", group="g", blocked=True, vehicle=BUS), "what was said stays"
    assert book.find("99FF") == IdToken("99ff", vehicle=BUS, configured=True)
    assert TokenBook(site("04A2", "99ff")).restore(book.all(), book.version) == (), "once is enough"


def test_every_change_is_counted_stored_and_audited_without_the_token() -> None:
    depot = depot_with()
    version = depot.tokens.version
    entries = depot.apply(ev.TokenSet("anna", IdToken("04DEADBEEF")), at(1)).entries
    assert entries[0] == TokenSaved(IdToken("04DEADBEEF"), version + 1)
    assert isinstance(entries[1], Audited)
    assert "DEAD" not in str(entries[1])
    assert depot.apply(ev.TokenSet("anna", IdToken("04DEADBEEF")), at(2)).entries == ()
    removed = depot.apply(ev.TokenRemoved("anna", "04deadbeef"), at(3)).entries
    assert removed[0] == TokenForgotten("04DEADBEEF", version + 2)
    assert depot.apply(ev.TokenRemoved("anna", "04deadbeef"), at(4)).entries == ()


# --- the lists in the stations ------------------------------------------------------------------------------------------


def lists(depot: Depot, second: float) -> list[StoreTokens]:
    return [command for command in depot.step(at(second)).commands if isinstance(command, StoreTokens)]


def test_stations_get_the_list_once_it_stands_still() -> None:
    depot = depot_with(IdToken("card"))
    assert lists(depot, 0) == []
    sent = lists(depot, CALM_S)
    assert {command.evse for command in sent} == {A1, B1}
    assert {token.id for token in sent[0].tokens} == {"04A2", "card"}
    assert sent[0].version == depot.tokens.version
    for command in sent:
        depot.apply(ev.CommandAccepted(command.id), at(4))
    assert lists(depot, 5) == []
    assert set(depot.token_lists().values()) == {depot.tokens.version}


def test_a_lost_list_is_sent_again_a_refused_one_when_it_has_changed() -> None:
    depot = depot_with(IdToken("card"))
    lists(depot, 0)
    first, second = lists(depot, CALM_S)
    depot.apply(ev.CommandLost(first.id, "no answer"), at(4))
    depot.apply(ev.CommandRefused(second.id, "NotSupported"), at(4))
    assert lists(depot, 5) == []
    assert [command.evse for command in lists(depot, CALM_S + AGAIN_S)] == [first.evse]
    depot.apply(ev.TokenSet("anna", IdToken("more")), at(100))
    lists(depot, 100)
    assert [command.evse for command in lists(depot, 100 + CALM_S)] == [second.evse], "the other is under way"


def test_a_rebooted_station_is_given_the_list_again_and_an_absent_one_when_it_comes() -> None:
    depot = depot_with(IdToken("card"))
    lists(depot, 0)
    depot.apply(ev.LinkDown(StationId("B"), "ocpp1.6", "gone"), at(1))
    (sent,) = lists(depot, CALM_S)
    depot.apply(ev.CommandAccepted(sent.id), at(4))
    depot.apply(ev.StationBooted(StationId("A"), "ocpp1.6", "V", "M", "1"), at(5))
    depot.apply(ev.LinkUp(StationId("B"), "ocpp1.6", "test"), at(5))
    assert {command.evse for command in lists(depot, 6)} == {A1, B1}


def test_a_site_without_tokens_bothers_no_station() -> None:
    depot = Depot(replace(site("x"), vehicles={}), "1")
    depot.apply(ev.TokensRestored((), 0), at(0))
    depot.apply(ev.LinkUp(StationId("A"), "ocpp1.6", "test"), at(0))
    assert lists(depot, 0) == lists(depot, 60) == []
