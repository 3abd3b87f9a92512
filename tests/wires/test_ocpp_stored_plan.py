"""A plan in a station on the wire, for every version: it steps in when the lease lapses, never above the fallback, and is
over when it is over; stations that have no place for it say so."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from ocpp_ways import CP1, STATION, Way, way

from controller.core.commands import Command, DropPlan, StorePlan
from controller.core.events import CommandAccepted, CommandLost, CommandRefused, TransactionEnded
from controller.core.standby import Standby, StandbyStep
from drivers.sim.quirks import Quirks

VERSIONS = pytest.mark.parametrize("version", ["1.6", "2.0.1", "2.1"])
TEN_A = {"fallback_ma": 10_000}
FAST = 100.0
LEASE_S = 180.0  # 1.8 s of ours: a busy machine must not lose it


def plan(one: Way, *stretches: tuple[float, float]) -> Standby:
    """Seconds and amps, one after the other from now on."""
    at, steps = one.clock.now().utc, []
    for seconds, amps in stretches:
        steps.append(StandbyStep(at, round(1000 * amps)))
        at += timedelta(seconds=seconds)
    return Standby(tuple(steps), at)


async def outcome(one: Way, command: Command) -> Any:
    one.server.send(command)
    return await one.depot.until(
        lambda event: (
            isinstance(event, CommandAccepted | CommandRefused | CommandLost) and event.command == command.id
        )
    )


def store(one: Way, transaction: str, *stretches: tuple[float, float], name: str = "s1") -> StorePlan:
    began = one.clock.now().utc
    return StorePlan(name, CP1, "ocpp", transaction, began, plan(one, *stretches))


def drawn_a(one: Way) -> float:
    return max(one.evse.current_a)


async def reaches(one: Way, amps: float) -> None:
    assert await one.eventually(lambda: abs(drawn_a(one) - amps) < 0.2, 10.0), (amps, drawn_a(one))


async def followed_alone(one: Way, highest_a: float, seconds: float) -> list[float]:
    """What it draws, one value after the other, and never more than that."""
    seen: list[float] = []
    until_s = one.clock.now().mono_s + seconds
    while one.clock.now().mono_s < until_s:
        amps = round(drawn_a(one), 1)
        assert amps <= highest_a + 0.05, (amps, seen)
        if not seen or seen[-1] != amps:
            seen.append(amps)
        await one.passes(1.0)
    return seen


async def charging(one: Way) -> str:
    transaction = await one.session(reaction_s=0.5, ramp_a_per_s=100.0)
    assert isinstance(await one.limit(16_000, transaction, lease_s=LEASE_S), CommandAccepted)
    await reaches(one, 16.0)
    return transaction


@VERSIONS
async def test_when_the_controller_is_gone_the_plan_steps_in_and_then_the_fallback(version: str) -> None:
    async with way(version=version, speed=FAST, station=TEN_A) as one:
        transaction = await charging(one)
        stretches = ((320.0, 8.0), (100.0, 0.0), (100.0, 9.0))
        assert isinstance(await outcome(one, store(one, transaction, *stretches)), CommandAccepted)
        assert drawn_a(one) > 15.8, "while the lease holds, it does nothing"
        await one.server.cut(STATION, 100_000.0)
        await one.passes(LEASE_S + 10.0)
        seen = await followed_alone(one, 10.0, 400.0)
        turns = [amps for amps in seen if amps in (8.0, 0.0, 9.0, 10.0)]
        assert [amps for n, amps in enumerate(turns) if n == 0 or turns[n - 1] != amps] == [8, 0, 9, 10], seen


@VERSIONS
async def test_no_period_is_above_the_fallback_whatever_was_said(version: str) -> None:
    async with way(version=version, speed=FAST, station=TEN_A) as one:
        transaction = await charging(one)
        command = store(one, transaction, (260.0, 32.0), (400.0, 7.0))
        assert isinstance(await outcome(one, command), CommandAccepted)
        await one.server.cut(STATION, 100_000.0)
        await one.passes(LEASE_S + 10.0)
        assert (await followed_alone(one, 10.0, 100.0))[-1] == 7.0


@VERSIONS
async def test_a_plan_that_is_dropped_leaves_the_fallback(version: str) -> None:
    async with way(version=version, speed=FAST, station=TEN_A) as one:
        transaction = await charging(one)
        assert isinstance(await outcome(one, store(one, transaction, (2000.0, 7.0))), CommandAccepted)
        dropped = DropPlan("d1", CP1, "ocpp", transaction)
        assert isinstance(await outcome(one, dropped), CommandAccepted)
        again = DropPlan("d2", CP1, "ocpp", transaction)
        assert isinstance(await outcome(one, again), CommandAccepted), "none there is as good"
        await reaches(one, 10.0)


@VERSIONS
async def test_a_plan_goes_with_its_transaction(version: str) -> None:
    async with way(version=version, speed=FAST, station=TEN_A) as one:
        transaction = await charging(one)
        assert isinstance(await outcome(one, store(one, transaction, (9000.0, 7.0))), CommandAccepted)
        one.evse.unplug()
        await one.depot.until_a(TransactionEnded)
        late = await outcome(one, store(one, transaction, (9000.0, 7.0), name="s2"))
        assert isinstance(late, CommandLost), "that says nothing about the station"
        await one.session(reaction_s=0.5, ramp_a_per_s=100.0)
        await reaches(one, 10.0)


@VERSIONS
async def test_a_station_that_knows_no_levels_keeps_its_lease(version: str) -> None:
    async with way(Quirks(newest_only=True), version=version, speed=FAST, station=TEN_A) as one:
        transaction = await charging(one)
        limits = len(one.limits_a())
        assert isinstance(await outcome(one, store(one, transaction, (9000.0, 7.0))), CommandAccepted)
        assert await one.eventually(lambda: len(one.limits_a()) == limits + 2)
        assert one.limits_a()[-2:] == [7.0, 16.0], "the lease was said once more"
        await reaches(one, 16.0)
        await reaches(one, 10.0)


@VERSIONS
async def test_a_station_that_follows_relative_profiles_only_gets_a_relative_one(version: str) -> None:
    async with way(Quirks(only_relative=True), version=version, speed=FAST, station=TEN_A) as one:
        transaction = await charging(one)
        assert isinstance(
            await outcome(one, store(one, transaction, (280.0, 8.0), (9000.0, 6.0))), CommandAccepted
        )
        await one.server.cut(STATION, 100_000.0)
        await one.passes(LEASE_S + 10.0)
        seen = await followed_alone(one, 10.0, 150.0)
        assert 8.0 in seen and seen[-1] == 6.0, seen


ONE_LEVEL = "it has no stack level left between the lease and the fallback"


@pytest.mark.parametrize(
    ("quirks", "why"),
    [
        (Quirks(configuration={"ChargeProfileMaxStackLevel": "1"}), ONE_LEVEL),
        (Quirks(stack_levels=frozenset({0})), ONE_LEVEL),
        (Quirks(configuration={"ChargingScheduleMaxPeriods": "1"}), "it takes schedules of one period only"),
        (
            Quirks(configuration={"MaxChargingProfilesInstalled": "4"}),
            "it stores only 4 charging profiles, a plan needs 5",
        ),
    ],
)
async def test_a_station_without_a_place_for_it_says_why_and_hears_nothing(quirks: Quirks, why: str) -> None:
    async with way(quirks, station=TEN_A) as one:
        transaction = await one.session()
        await one.limit(16_000, transaction)
        before = len(one.calls("SetChargingProfile"))
        assert await outcome(one, store(one, transaction, (900.0, 7.0), (900.0, 8.0))) == CommandRefused(
            "s1", why
        )
        assert len(one.calls("SetChargingProfile")) == before


async def test_few_periods_are_enough() -> None:
    quirks = Quirks(configuration={"ChargingScheduleMaxPeriods": "2"})
    async with way(quirks, station=TEN_A) as one:
        transaction = await one.session()
        stretches = ((900.0, 7.0), (900.0, 8.0), (900.0, 0.0), (900.0, 6.0))
        assert isinstance(await outcome(one, store(one, transaction, *stretches)), CommandAccepted)
        periods = one.calls("SetChargingProfile")[-1]["csChargingProfiles"]["chargingSchedule"][
            "chargingSchedulePeriod"
        ]
        assert [each["limit"] for each in periods] == [8.0, 6.0]


async def test_without_a_connection_it_is_lost_not_refused() -> None:
    async with way(station=TEN_A) as one:
        transaction = await one.session()
        await one.server.cut(STATION, 100_000.0)
        assert isinstance(await outcome(one, store(one, transaction, (900.0, 7.0))), CommandLost)
