"""Proofs: a station that only promised to fall to its fallback counts at its maximum while nobody sees it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from controller.core import events as ev
from controller.core.commands import QualificationSaved, SetLimit
from controller.core.depot import Depot
from controller.core.model import (
    EvseId,
    EvseState,
    Link,
    Moment,
    PerPhase,
    StationId,
)
from controller.core.setting import HELD_MOST_S
from tests.small_site import a_site, an_evse

START = datetime(2026, 11, 22, 18, 0, tzinfo=UTC)
LINK = Link("ocpp", lease_s=180, lease_slack_s=30, raise_gap_s=10, answer_s=12, needs_proof=True)
A1, A, CHANNEL = EvseId("A/1"), StationId("A"), "ocpp1.6"


def at(second: float) -> Moment:
    return Moment(1000.0 + second, START + timedelta(seconds=second))


def depot(needs_proof: bool = True) -> Depot:
    return Depot(a_site(an_evse(A1, replace(LINK, needs_proof=needs_proof)), load_a=0), "1")


def connect(depot: Depot, second: float, firmware: str = "1.0") -> None:
    depot.apply(ev.LinkUp(A, CHANNEL, "test"), at(second))
    depot.apply(ev.StationBooted(A, CHANNEL, "V", "M", firmware), at(second))
    depot.apply(ev.FallbackStored(A1, CHANNEL, 6_000), at(second))


def committed_ma(depot: Depot, second: float) -> int:
    return depot.step(at(second)).snapshot.evses[0].commitment_ma


def qualified(firmware: str = "1.0", passed: bool = True) -> ev.StationQualified:
    return ev.StationQualified("anna", A, firmware, passed, ("limits followed",))


def test_what_it_promised_counts_while_it_answers_and_its_maximum_when_it_is_gone() -> None:
    house = depot()
    connect(house, 0)
    assert committed_ma(house, 30) == 6_000
    house.apply(ev.LinkDown(A, CHANNEL, "gone"), at(40))
    assert committed_ma(house, 41) == 32_000
    house.apply(ev.LinkUp(A, CHANNEL, "test"), at(60))
    assert committed_ma(house, 61) == 32_000, "connected is not yet answered"
    house.apply(ev.FallbackStored(A1, CHANNEL, 6_000), at(62))
    assert committed_ma(house, 63) == 32_000, "it may still draw it for the settling time"
    assert committed_ma(house, 80) == 6_000


def test_a_proven_station_counts_at_its_fallback_when_it_is_gone() -> None:
    house = depot()
    connect(house, 0)
    entries = house.apply(qualified(), at(10)).entries
    assert entries[0] == QualificationSaved(A, "1.0", at(10).utc, "anna", True, ("limits followed",))
    house.apply(ev.LinkDown(A, CHANNEL, "gone"), at(40))
    assert committed_ma(house, 41) == 6_000


@pytest.mark.parametrize("proof", [qualified(firmware="0.9"), qualified(passed=False)])
def test_a_proof_that_failed_or_of_other_firmware_is_none(proof: ev.StationQualified) -> None:
    house = depot()
    connect(house, 0)
    house.apply(qualified(), at(5))
    house.apply(proof, at(10))
    house.apply(ev.LinkDown(A, CHANNEL, "gone"), at(40))
    assert committed_ma(house, 41) == 32_000


def test_new_firmware_must_be_proven_again() -> None:
    house = depot()
    house.apply(ev.QualificationRestored(A, "1.0", True), at(0))
    connect(house, 0, firmware="1.1")
    house.apply(ev.LinkDown(A, CHANNEL, "gone"), at(40))
    assert committed_ma(house, 41) == 32_000
    connect(house, 50, firmware="1.0")
    house.apply(ev.LinkDown(A, CHANNEL, "gone"), at(90))
    assert committed_ma(house, 91) == 6_000, "and the old one is known still"


def test_the_operator_is_told_and_where_no_proof_is_asked_for_nobody_is() -> None:
    for needs_proof in (True, False):
        house = depot(needs_proof)
        connect(house, 0)
        house.step(at(1))
        alarms = house.step(at(90)).snapshot.alarms
        assert any(alarm.kind == "unproven" for alarm in alarms) is needs_proof
        house.apply(ev.LinkDown(A, CHANNEL, "gone"), at(91))
        assert committed_ma(house, 92) == (32_000 if needs_proof else 6_000)


def test_a_held_evse_gets_no_limit_until_the_hold_is_over() -> None:
    house = depot()
    connect(house, 0)
    house.apply(ev.StatusChanged(A1, CHANNEL, EvseState.CHARGING), at(1))
    house.apply(ev.TransactionStarted(A1, CHANNEL, "1", None, 0, at(1).utc), at(1))
    sample = ev.EvseSample(A1, CHANNEL, at(1).mono_s, PerPhase(0, 0, 0))
    house.apply(sample, at(1))
    house.apply(ev.RenewalHeld("anna", A1, at(100).mono_s), at(1))
    sent = [
        (second, command)
        for second in range(2, 130)
        for command in house.step(at(second)).commands
        if isinstance(command, SetLimit)
    ]
    assert [second for second, _ in sent][:1] == [100]
    house.apply(ev.RenewalHeld("anna", A1, at(10_000).mono_s), at(200))
    later = [c for c in house.step(at(200 + HELD_MOST_S)).commands if isinstance(c, SetLimit)]
    assert later, "a hold that was forgotten ends by itself"


def test_after_a_restart_a_proven_station_that_stays_away_counts_at_its_fallback() -> None:
    house = depot()
    house.apply(ev.QualificationRestored(A, "1.0", True), at(0))
    house.apply(ev.FallbackRestored(A1, 6_000), at(0))
    assert committed_ma(house, 1) == 6_000
    stranger = depot()
    stranger.apply(ev.FallbackRestored(A1, 6_000), at(0))
    assert committed_ma(stranger, 1) == 32_000
