"""What is learnt of a session after its start: its driver, its number, a stop whose start comes after a restart."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from controller.core import events as ev
from controller.core.applied import Applied
from controller.core.commands import SessionSaved, StopCharging
from controller.core.depot import Depot
from controller.core.model import (
    EvseId,
    IdToken,
    Link,
    Moment,
    StationId,
    Vehicle,
    VehicleId,
    Verdict,
)
from controller.core.orphans import MATCHED, ORPHAN
from controller.core.session import REFUSED
from tests.small_site import a_site, an_evse

START = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
CHANNEL = "ocpp2.0.1"
STATION, EVSE = StationId("CP1"), EvseId("CP1/1")
LINK = Link(CHANNEL, 180, 30, 10, 12)
SITE_ = a_site(
    an_evse(EVSE, LINK),
    vehicles={VehicleId("van"): Vehicle(VehicleId("van"), 50_000, 11_000, ("TAG1",))},
)


class Place:
    def __init__(self) -> None:
        self.depot = Depot(SITE_, "1")
        self.second = 0.0
        self.tell(ev.LinkUp(STATION, CHANNEL, "peer"))
        self.tell(ev.TokenSet("ann", IdToken("BAD", blocked=True)))

    @property
    def now(self) -> Moment:
        return Moment(1000.0 + self.second, START + timedelta(seconds=self.second))

    def tell(self, fact: ev.Event) -> Applied:
        return self.depot.apply(fact, self.now)

    def starts(self, transaction: str = "tx-1", token: str | None = None, **more: object) -> Applied:
        fact = ev.TransactionStarted(EVSE, CHANNEL, transaction, token, 1000, self.now.utc)
        return self.tell(replace(fact, **more))  # type: ignore[arg-type]

    def identified(self, token: str, transaction: str = "tx-1", offline: bool = False) -> Applied:
        return self.tell(ev.TransactionIdentified(EVSE, CHANNEL, transaction, token, offline))

    def stops(self) -> list[StopCharging]:
        return [each for each in self.depot.step(self.now).commands if isinstance(each, StopCharging)]


def saved(applied: Applied) -> SessionSaved:
    (entry,) = applied.entries
    assert isinstance(entry, SessionSaved)
    return entry


def test_a_token_that_comes_later_gives_the_session_its_driver_and_vehicle() -> None:
    place = Place()
    before = saved(place.starts())
    said = place.identified("tag1")
    assert said.verdict is Verdict.ACCEPTED
    assert saved(said) == replace(before, token="tag1", vehicle=VehicleId("van"))
    assert place.stops() == []
    assert place.identified("tag1").entries == (), "the same message again"


def test_a_refused_token_ends_the_transaction_as_at_its_start() -> None:
    place = Place()
    place.starts()
    said = place.identified("BAD")
    assert said.verdict is Verdict.BLOCKED and REFUSED in saved(said).marks
    assert [stop.transaction for stop in place.stops()] == ["tx-1"]
    assert place.identified("BAD").verdict is Verdict.BLOCKED, "still, when it asks again"


def test_who_has_a_driver_keeps_him_whatever_else_is_presented() -> None:
    place = Place()
    place.starts(token="TAG1")
    said = place.identified("BAD")
    assert (said.verdict, said.entries) == (Verdict.BLOCKED, ())
    assert place.stops() == [] and place.depot.token(EVSE) == "TAG1"


@pytest.mark.parametrize(("transaction", "offline"), [("tx-0", False), ("tx-1", True)])
def test_a_token_of_another_or_an_old_transaction_ends_nothing(transaction: str, offline: bool) -> None:
    place = Place()
    place.starts()
    assert place.identified("BAD", transaction, offline).verdict is Verdict.BLOCKED
    assert place.stops() == []
    assert place.depot.token(EVSE) == ("BAD" if offline else None)


def test_a_start_that_is_seen_again_with_a_token_names_the_driver() -> None:
    """A driver that is new takes up what flows: to it the token comes with the start."""
    place = Place()
    place.starts()
    assert saved(place.starts(token="TAG1", inferred=True)).vehicle == VehicleId("van")
    assert place.starts(token="TAG1").entries == ()


def test_an_unsure_start_counts_only_where_no_session_runs() -> None:
    place = Place()
    place.starts("41", "TAG1")
    assert place.starts("7", inferred=True, unsure=True).entries == ()
    place.tell(ev.TransactionEnded(STATION, EVSE, "41", "Local", 2000, place.now.utc))
    row = saved(place.starts("7", inferred=True, unsure=True, marks=("unknown-transaction",)))
    assert (row.transaction, row.marks) == ("7", ("start-inferred", "unknown-transaction"))
    place.second += 60
    row = saved(place.tell(ev.TransactionEnded(STATION, None, "7", "Local", 1200, place.now.utc)))
    assert (row.energy_wh, row.ended) == (200, place.now.utc)


def test_a_late_start_finds_its_stop_after_a_restart_too() -> None:
    place = Place()
    orphan = saved(place.tell(ev.TransactionEnded(STATION, EVSE, "tx-9", "Local", 3000, place.now.utc)))
    assert orphan.marks == (ORPHAN,)
    after = Place()
    after.second = 60
    after.tell(ev.ClosedRestored(EVSE, "tx-9", told=True))
    assert orphan.ended is not None
    after.tell(
        ev.OrphanRestored(
            orphan.id,
            EVSE,
            orphan.transaction,
            orphan.token,
            orphan.started,
            orphan.ended,
            orphan.register_start_wh,
            orphan.register_wh,
            orphan.energy_wh,
            orphan.stop_reason,
            orphan.marks,
        )
    )
    assert any(alarm.source == STATION for alarm in after.depot.step(after.now).snapshot.alarms)
    whole = saved(after.starts("tx-9", "TAG1", started=START - timedelta(hours=1), offline=True))
    assert (whole.id, whole.energy_wh, whole.token) == (orphan.id, 2000, "TAG1")
    assert whole.marks == (ORPHAN, MATCHED)
    assert after.depot.token(EVSE) is None, "and nobody charges"
    assert after.starts("tx-9", "TAG1").entries == ()
