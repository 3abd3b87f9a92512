"""A station whose clock is behind and stays so: its leases end when the depot counts them as ended, or count for good."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from ocpp_ways import Way, way

from controller.config.stations import OCPP_LINK
from controller.core.events import CommandAccepted, EvseSample, FallbackRefused, FallbackStored
from controller.core.model import Moment
from drivers.ocpp.hearing import Hearing

VERSIONS = pytest.mark.parametrize("version", ["1.6", "2.0.1", "2.1"])
FAST = 60.0
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def drawn_a(one: Way) -> float:
    return max(one.evse.current_a)


def alone_ma(one: Way) -> int | None:
    """What the depot counts it with when it is out of reach."""
    told = [e for e in one.depot.events if isinstance(e, FallbackStored | FallbackRefused)]
    return told[-1].limit_ma if isinstance(told[-1], FallbackStored) else None


async def charging(one: Way, lease_s: float) -> str:
    transaction = await one.session(reaction_s=0.5, ramp_a_per_s=100.0)
    await one.depot.until(lambda event: isinstance(event, EvseSample))
    assert isinstance(await one.limit(16_000, transaction, lease_s=lease_s), CommandAccepted)
    return transaction


@VERSIONS
@pytest.mark.parametrize("behind_s", [50.0, 300.0, 590.0])
async def test_a_lease_is_followed_at_once_and_ends_in_time_by_a_clock_that_is_behind(
    version: str, behind_s: float
) -> None:
    async with way(version=version, speed=FAST, skew_s=-behind_s) as one:
        lease_s = OCPP_LINK.lease_s
        until_s = one.clock.now().mono_s + lease_s
        await charging(one, lease_s)
        until_s = one.clock.now().mono_s + lease_s + OCPP_LINK.lease_slack_s
        assert await one.eventually(lambda: abs(drawn_a(one) - 16.0) < 0.2)
        await one.server.cut(one.depot.events[0].station, 10_000.0)
        await one.clock.sleep(until_s - one.clock.now().mono_s + OCPP_LINK.settle_s)
        assert drawn_a(one) <= 6.0
        assert alone_ma(one) == 6_000


@VERSIONS
async def test_a_clock_that_is_hours_behind_ends_nothing_in_time_so_its_limit_counts_until_another_is_there(
    version: str,
) -> None:
    async with way(version=version, speed=FAST, skew_s=-3 * 3600.0) as one:
        transaction = await charging(one, 600.0)
        assert alone_ma(one) == 16_000
        assert isinstance(await one.limit(8_000, transaction), CommandAccepted)
        assert await one.eventually(lambda: alone_ma(one) == 8_000)
        one.evse.unplug()
        assert await one.eventually(lambda: alone_ma(one) == 6_000), "it went with its transaction"


async def test_a_clock_that_is_set_back_while_a_limit_holds_gets_it_anew() -> None:
    async with way(speed=FAST) as one:
        await charging(one, 600.0)
        assert await one.eventually(lambda: abs(drawn_a(one) - 16.0) < 0.2)
        said = len(one.limits_a())
        one.charger._skew = timedelta(seconds=-400)
        assert await one.eventually(lambda: len(one.limits_a()) > said)
        profile = one.calls("SetChargingProfile")[-1]["csChargingProfiles"]
        until = datetime.fromisoformat(profile["validTo"]) + timedelta(seconds=400)
        assert until <= one.clock.now().utc + timedelta(seconds=600)


def told(hearing: Hearing, behind_s: float, at_s: float) -> None:
    stamp = NOON + timedelta(seconds=at_s - behind_s)
    assert hearing.note_stamp({"timestamp": stamp.isoformat()}, at(at_s))


def at(mono_s: float, set_s: float = 0.0) -> Moment:
    return Moment(mono_s, NOON + timedelta(seconds=mono_s + set_s))


def test_one_stamp_tells_how_far_a_clock_is_behind_at_most() -> None:
    hearing = Hearing()
    assert hearing.behind_s(at(0)) is None
    assert not hearing.note_stamp({"status": "Available"}, at(0))
    assert not hearing.note_stamp({"timestamp": "1970-01-01T00:00:10Z"}, at(0)), "it says nothing"
    told(hearing, 3600, 1)  # was queued for an hour
    assert hearing.behind_s(at(1)) == 3600
    told(hearing, 20, 2)
    assert hearing.behind_s(at(900)) == 20
    told(hearing, 7200, 3)  # so was this
    assert hearing.behind_s(at(900)) == 20


def test_two_stamps_in_time_tell_that_it_was_set_back() -> None:
    hearing = Hearing()
    told(hearing, 0, 0)
    told(hearing, 300, 10)
    assert hearing.behind_s(at(10)) == 0
    told(hearing, 300, 20)
    assert hearing.behind_s(at(20)) == 300


def test_when_our_clock_is_set_forward_who_has_not_heard_of_it_is_behind() -> None:
    hearing = Hearing()
    told(hearing, 0, 0)
    assert hearing.behind_s(at(10, set_s=500)) == 500
    assert hearing.note_stamp({"timestamp": (NOON + timedelta(seconds=520)).isoformat()}, at(20, 500))
    assert hearing.behind_s(at(20, 500)) == 0


def test_a_station_that_boots_may_have_lost_its_clock() -> None:
    hearing = Hearing()
    told(hearing, 0, 0)
    hearing.introduced()
    assert hearing.behind_s(at(1)) is None
