"""A limit for one phase on its way to real stations: what they do by it, and what is never said behind the depot's back."""

from __future__ import annotations

import itertools

import pytest
from ocpp_ways import CP1, Way, way

from controller.core.commands import SetLimit
from controller.core.events import CommandAccepted, CommandLost, CommandRefused
from drivers.sim.quirks import Quirks

_NUMBERS = itertools.count(1)


async def told(one: Way, ma: int, transaction: str, phases: int | None) -> CommandAccepted | CommandRefused:
    name = f"p{next(_NUMBERS)}"
    one.server.send(SetLimit(name, CP1, "ocpp", ma, 600.0, transaction, phases=phases))
    answer = await one.depot.until(
        lambda event: (
            isinstance(event, CommandAccepted | CommandRefused | CommandLost) and event.command == name
        )
    )
    assert isinstance(answer, CommandAccepted | CommandRefused)
    return answer


def phases(one: Way) -> list[int | None]:
    """Of every limit on the wire that was no fallback."""
    profiles = [payload["csChargingProfiles"] for payload in one.calls("SetChargingProfile")]
    return [
        profile["chargingSchedule"]["chargingSchedulePeriod"][0].get("numberPhases")
        for profile in profiles
        if "validTo" in profile
    ]


async def test_a_charger_charges_on_one_phase_and_on_all_again() -> None:
    async with way() as one:
        transaction = await one.session()
        assert isinstance(await told(one, 16_000, transaction, 1), CommandAccepted)
        assert await one.eventually(lambda: one.evse.conductor_a == (16.0, 0.0, 0.0))
        assert isinstance(await told(one, 0, transaction, 1), CommandAccepted)
        assert await one.eventually(lambda: one.evse.conductor_a[0] == 0.0)
        assert isinstance(await told(one, 10_000, transaction, None), CommandAccepted)
        assert await one.eventually(lambda: one.evse.conductor_a == (10.0, 10.0, 10.0))


async def test_a_vehicle_is_woken_on_the_phases_it_was_told() -> None:
    async with way(speed=100.0) as one:
        transaction = await one.session(sleepy_s=30.0)
        assert isinstance(await told(one, 0, transaction, 1), CommandAccepted)
        await one.passes(45)
        assert isinstance(await told(one, 10_000, transaction, 1), CommandAccepted)
        assert await one.eventually(lambda: len(one.limits_a()) >= 4), "it was woken"
        assert one.limits_a()[:4] == [0.0, 10.0, 0.0, 10.0]
        assert phases(one)[:4] == [1, 1, 1, 1]


@pytest.mark.parametrize("said", [None, 1])
async def test_a_station_that_takes_watts_alone_is_told_nothing_of_one_phase(said: int | None) -> None:
    quirks = Quirks(only_unit="W", configuration={"ChargingScheduleAllowedChargingRateUnit": "Power"})
    async with way(quirks=quirks) as one:
        await one.settled()
        transaction = await one.session()
        before = len(one.limits_a())
        answer = await told(one, 16_000, transaction, said)
        assert isinstance(answer, CommandRefused if said else CommandAccepted)
        assert (len(one.limits_a()) == before) == bool(said)


async def test_a_station_whose_limit_is_a_setting_is_told_nothing_of_one_phase() -> None:
    quirks = Quirks(
        limit_key="SetCurrent",
        not_supported=frozenset({"SetChargingProfile"}),
        configuration={"SetCurrent": "32", "SupportedFeatureProfiles": "Core,RemoteTrigger"},
    )
    async with way(quirks) as one:
        transaction = await one.session()
        assert isinstance(await told(one, 16_000, transaction, None), CommandAccepted)
        answer = await told(one, 10_000, transaction, 1)
        assert isinstance(answer, CommandRefused) and "no phases" in answer.reason
        written = [call["value"] for call in one.calls("ChangeConfiguration") if call["key"] == "SetCurrent"]
        assert written == ["16"]
