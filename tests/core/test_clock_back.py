"""Our clock is set back by hours: a station that heard so before it heard a new limit follows its old lease for as long."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from controller.config import stations
from controller.core import events as ev
from controller.core.commands import LeasesOutlast, SetLimit
from controller.core.depot import Depot
from controller.core.model import (
    SITE,
    Evse,
    EvseId,
    EvseState,
    Link,
    Moment,
    StationId,
)
from drivers.ocpp.profiles import CLOCK_SLACK_S
from drivers.ocpp.versions import VERSIONS
from drivers.ocpp.words import Capabilities, Words
from tests.small_site import a_site, an_evse

CHANNEL = "ocpp1.6"
LEASE_S, SLACK_S = 180, 30
LIMIT_MA = 32_000
BACK_S = 3 * 3600.0


class Station:
    """Its clock is ours whenever it hears from us, and it follows a lease until that clock says it is over."""

    def __init__(self, name: str, depot: Depot, now: Moment) -> None:
        self.id, self.evse = StationId(name), EvseId(f"{name}/1")
        self.depot, self.online, self.answers = depot, True, "accepted"
        self.lease: tuple[int, datetime] | None = None
        self.ahead = now.utc - now.utc

    def clock(self, now: Moment) -> datetime:
        return now.utc + self.ahead

    def hears(self, command: SetLimit, now: Moment) -> None:
        self.depot.apply(ev.CommandSent(command.id), now)
        if self.answers == "accepted":
            self.lease = (command.limit_ma, now.utc + timedelta(seconds=command.lease_s))
            self.depot.apply(ev.CommandAccepted(command.id), now)
        elif self.answers == "refused":
            self.depot.apply(ev.CommandRefused(command.id, "no"), now)
        else:
            self.depot.apply(ev.CommandLost(command.id, "no answer"), now)

    def draws_ma(self, now: Moment) -> int:
        if self.lease is not None and self.lease[1] > self.clock(now):
            return self.lease[0]
        return 6_000


class Depots:
    def __init__(self) -> None:
        self.outlast: datetime | None = None
        self.now = Moment(1000.0, datetime(2026, 11, 22, 12, tzinfo=UTC), True)
        link = Link(CHANNEL, LEASE_S, SLACK_S, 10, 12)
        names = ("CP1", "CP2")
        evses = (an_evse(EvseId(f"{name}/1"), link) for name in names)
        self.depot = Depot(a_site(*evses, limit_a=LIMIT_MA // 1000, load_a=0), "1")
        self.stations = [Station(name, self.depot, self.now) for name in names]
        for number, station in enumerate(self.stations):
            for fact in (
                ev.LinkUp(station.id, CHANNEL, "peer"),
                ev.FallbackStored(station.evse, CHANNEL, 6_000),
                ev.StatusChanged(station.evse, CHANNEL, EvseState.CHARGING),
                ev.TransactionStarted(station.evse, CHANNEL, str(number), None, 0, self.now.utc),
            ):
                self.depot.apply(fact, self.now)

    def passes(self, seconds: int) -> int:
        """The most that both drew together."""
        most_ma = 0
        for _ in range(seconds):
            self.now = self.now._replace(mono_s=self.now.mono_s + 1, utc=self.now.utc + timedelta(seconds=1))
            for command in self.depot.step(self.now).commands:
                station = next(each for each in self.stations if each.evse == getattr(command, "evse", None))
                if isinstance(command, SetLimit) and station.online:
                    station.hears(command, self.now)
            most_ma = max(most_ma, sum(each.draws_ma(self.now) for each in self.stations))
        return most_ma

    def set_back(self) -> None:
        self.set(-BACK_S)

    def set(self, by_s: float) -> None:
        self.now = self.now._replace(utc=self.now.utc + timedelta(seconds=by_s))
        for entry in self.depot.apply(ev.ClockJudged("", "", by_s), self.now).entries:
            if isinstance(entry, LeasesOutlast):
                self.outlast = entry.until

    def killed_and_started(self, ceiling_ma: int = 16_000) -> None:
        """The second station is back at once, the first stays away."""
        self.depot = Depot(self.depot.site, "2")
        for station in self.stations:
            station.depot = self.depot
            self.depot.apply(ev.FallbackRestored(station.evse, 6_000), self.now)
            self.depot.apply(ev.CeilingRestored(station.evse, ceiling_ma, self.outlast), self.now)
            began = ev.SessionRestored("s", station.evse, station.id, None, self.now.utc, 0, 0, 0)
            self.depot.apply(began, self.now)
        back = self.stations[1]
        self.depot.apply(ev.LinkUp(back.id, CHANNEL, "peer"), self.now)
        self.depot.apply(ev.StatusChanged(back.evse, CHANNEL, EvseState.CHARGING), self.now)

    def cut(self, station: Station) -> None:
        station.online = False
        self.depot.apply(ev.LinkDown(station.id, CHANNEL, "cut"), self.now)


def test_two_share_the_fuse() -> None:
    depots = Depots()
    assert depots.passes(60) == LIMIT_MA
    assert [each.draws_ma(depots.now) for each in depots.stations] == [16_000, 16_000]


def test_whose_link_goes_before_it_has_a_new_lease_counts_until_the_old_one_is_over_by_its_own_clock() -> (
    None
):
    depots = Depots()
    depots.passes(60)
    depots.set_back()
    depots.cut(depots.stations[0])
    assert depots.passes(900) <= LIMIT_MA
    assert depots.stations[0].draws_ma(depots.now) == 16_000, "else this proves nothing"


@pytest.mark.parametrize("answers", ["refused", "lost"])
def test_who_does_not_take_the_new_lease_counts_for_as_long(answers: str) -> None:
    depots = Depots()
    depots.passes(60)
    depots.set_back()
    depots.stations[0].answers = answers
    depots.passes(1)
    depots.cut(depots.stations[0])
    assert depots.passes(900) <= LIMIT_MA
    assert depots.stations[0].draws_ma(depots.now) == 16_000


def test_a_limit_on_its_way_when_the_clock_is_set_counts_for_as_long() -> None:
    depots = Depots()
    depots.passes(60)
    depots.stations[0].answers = "lost"
    depots.passes(int(LEASE_S / 2))
    depots.set_back()
    depots.cut(depots.stations[0])
    assert depots.passes(900) <= LIMIT_MA
    assert depots.stations[0].draws_ma(depots.now) == 16_000


@pytest.mark.parametrize(("later_s", "then_s"), [(0, 0.0), (120, 0.0), (120, 3600.0), (120, -600.0)])
def test_it_counts_on_over_a_restart_of_ours(later_s: int, then_s: float) -> None:
    """And over what is done to our clock after it was gone, which it has not heard."""
    depots = Depots()
    depots.passes(60)
    depots.set_back()
    depots.cut(depots.stations[0])
    depots.passes(later_s)
    if then_s:
        first = depots.stations[0]
        first.ahead -= timedelta(seconds=then_s)
        depots.set(then_s)
    depots.killed_and_started()
    assert depots.passes(900) <= LIMIT_MA
    assert depots.stations[0].draws_ma(depots.now) == 16_000
    depots.passes(int(BACK_S) + 1200)
    assert depots.stations[1].draws_ma(depots.now) == 26_000, "and no longer than that"


def test_who_is_back_after_our_restart_does_not_wait_for_hours_though_all_ceilings_together_do_not_fit() -> (
    None
):
    depots = Depots()
    depots.passes(60)
    depots.set_back()
    depots.killed_and_started(ceiling_ma=20_000)
    first = depots.stations[0]
    for station in depots.stations:
        station.lease = None  # whatever it still had, nobody else can know
    depots.depot.apply(ev.LinkUp(first.id, CHANNEL, "peer"), depots.now)
    depots.depot.apply(ev.StatusChanged(first.evse, CHANNEL, EvseState.CHARGING), depots.now)
    assert depots.passes(60) <= LIMIT_MA
    assert [each.draws_ma(depots.now) for each in depots.stations] == [16_000, 16_000]


def test_a_new_lease_ends_it() -> None:
    depots = Depots()
    depots.passes(60)
    depots.set_back()
    depots.passes(20)
    depots.cut(depots.stations[0])
    depots.passes(LEASE_S + SLACK_S + 30)
    assert [each.draws_ma(depots.now) for each in depots.stations] == [6_000, 26_000]


def test_a_session_that_ends_takes_its_lease_along() -> None:
    depots = Depots()
    depots.passes(60)
    depots.set_back()
    first = depots.stations[0]
    first.online = False
    first.lease = None
    ended = ev.TransactionEnded(first.id, first.evse, "0", "Local", 0, depots.now.utc)
    depots.depot.apply(ended, depots.now)
    depots.passes(60)
    assert depots.stations[1].draws_ma(depots.now) == 26_000


@pytest.mark.parametrize("words", VERSIONS, ids=lambda words: words.version)
@pytest.mark.parametrize("behind_s", [0, 30, CLOCK_SLACK_S])
def test_a_station_whose_clock_is_behind_ends_its_lease_within_what_is_counted(
    words: Words, behind_s: int
) -> None:
    """Limits begin a minute ago for such stations (row 30): they end as much later."""
    link = stations.OCPP_LINK
    evse = Evse(EvseId("CP/1"), StationId("CP"), SITE, 32_000, 6_000, (0, 1, 2), 6_000, link)
    now = datetime(2026, 11, 22, 12, 0, 0, 900_000, tzinfo=UTC)
    transaction = "7" if words.version == "1.6" else "tx"
    command = SetLimit("c", evse.id, "ocpp", 16_000, link.lease_s, transaction)
    payload = words.limit(command, 1, evse, Capabilities(), now).payload
    profile = payload.get("csChargingProfiles") or payload["chargingProfile"]
    begins, ends = (datetime.fromisoformat(profile[key]) for key in ("validFrom", "validTo"))
    behind = timedelta(seconds=behind_s)
    assert begins <= now - behind, "it follows at once"
    assert (ends - (now - behind)).total_seconds() <= link.lease_s + link.lease_slack_s
