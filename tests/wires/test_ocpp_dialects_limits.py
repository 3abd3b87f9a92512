"""Dialects of limits: what stations do with them, and that each row of the table is what makes it right."""

from __future__ import annotations

import pytest
from ocpp_ways import CP1, STATION, Way, needs_its_row, way, without

from controller.core.commands import SetLimit
from controller.core.events import (
    CommandAccepted,
    CommandRefused,
    EvseSample,
    StatusChanged,
    TransactionEnded,
)
from controller.core.model import EvseState
from drivers.ocpp.dialects import Dialects
from drivers.sim.quirks import Quirks

VERSIONS = pytest.mark.parametrize("version", ["1.6", "2.0.1", "2.1"])


async def follows(one: Way, amps: float, within_s: float = 2.0) -> bool:
    """The copper carries this much, after the vehicle had time to follow."""
    return await one.eventually(lambda: abs(max(one.evse.current_a) - amps) < 0.2, within_s)


@VERSIONS
async def test_row_29_only_relative_profiles(version: str) -> None:
    async def works(table: Dialects) -> bool:
        async with way(Quirks(only_relative=True), table, version=version) as one:
            transaction = await one.session()
            first = await one.accepts(16_000, transaction)
            tried = len(one.calls("SetChargingProfile"))
            again = await one.accepts(12_000, transaction)
            if first:
                assert again and await follows(one, 12.0)
                assert len(one.calls("SetChargingProfile")) == tried + 1, "what worked is remembered"
                assert one.counted("relative") >= 2
            return first

    await needs_its_row(works)


async def test_row_29_is_known_of_the_maker() -> None:
    async def at_once(table: Dialects) -> bool:
        async with way(Quirks(only_relative=True), table, vendor="Wallbox Chargers", model="CPB1") as one:
            transaction = await one.session()
            before = len(one.calls("SetChargingProfile"))
            await one.limit(16_000, transaction)
            return (
                one.limits_a() == [16.0]
                and len(one.calls("SetChargingProfile")) == before + 1
                and one.counted("relative") > 0
            )

    await needs_its_row(at_once)


@VERSIONS
async def test_row_24_only_stack_level_0(version: str) -> None:
    async def works(table: Dialects) -> bool:
        async with way(Quirks(stack_levels=frozenset({0})), table, version=version) as one:
            transaction = await one.session()
            if not await one.accepts(16_000, transaction):
                return False
            assert await follows(one, 16.0)
            assert one.counted("onelevel")
            assert await one.eventually(one.reserved), "the depot counts it at its maximum"
            assert not await one.accepts(16_000, None), "between sessions it stays at its fallback"
            return True

    await needs_its_row(works)


async def test_row_24_is_known_of_the_maker() -> None:
    async def reserved(table: Dialects) -> bool:
        async with way(dialects=table, vendor="ABB", model="TAC-W22-T-RD-MC-0", firmware="1.8.30") as one:
            return one.reserved()

    await needs_its_row(reserved)


@VERSIONS
async def test_row_25_the_purpose_that_is_taken_is_remembered(version: str) -> None:
    async def works(table: Dialects) -> bool:
        async with way(Quirks(refuses_tx_profile=True), table, version=version) as one:
            transaction = await one.session()
            assert not await one.accepts(16_000, transaction), "one no may have another reason"
            if not await one.accepts(16_000, transaction):
                return False
            assert await follows(one, 16.0)
            tried = len(one.calls("SetChargingProfile"))
            assert await one.accepts(10_000, transaction) and await follows(one, 10.0)
            assert len(one.calls("SetChargingProfile")) == tried + 1
            assert one.counted("notx")
            return True

    await needs_its_row(works)


async def test_row_25_its_lease_does_not_outlive_the_transaction() -> None:
    async with way(Quirks(refuses_tx_profile=True)) as one:
        transaction = await one.session()
        assert not await one.accepts(20_000, transaction)
        assert await one.accepts(20_000, transaction)
        one.evse.unplug()
        await one.depot.until_a(TransactionEnded)
        assert await one.eventually(lambda: one.limits_a()[-1] == 6.0), "nobody is allowed 20 A any more"

        def footing() -> list[str]:
            return [type(event).__name__ for event in one.depot.events if "Fallback" in type(event).__name__]

        # until that is said yes to, the depot counts with the most the EVSE can
        assert await one.eventually(lambda: footing()[-2:] == ["FallbackRefused", "FallbackStored"])
        commands = [event.command for event in one.depot.events if hasattr(event, "command")]
        assert "" not in commands, "no command asked for it"


async def test_row_25_a_purpose_that_does_not_help_is_forgotten() -> None:
    async with way(Quirks(refuses_tx_profile=True, ignores_limits=True), speed=100.0) as one:
        transaction = await one.session()
        assert not await one.accepts(10_000, transaction)
        assert await one.accepts(10_000, transaction)
        assert await one.eventually(lambda: one.counted("unapplied"))
        assert not await one.accepts(10_000, transaction), "as the book says again"


async def test_a_no_that_has_another_reason_teaches_nothing() -> None:
    async with way() as one:
        transaction = await one.session()
        one.evse.unplug()
        await one.depot.until_a(TransactionEnded)
        assert not await one.accepts(16_000, transaction), "the transaction is over"
        assert len(one.limits_a()) == 1
        assert not one.counted("notx")


async def test_row_31_watts_are_learnt() -> None:
    quirks = Quirks(only_unit="W", configuration={"ChargingScheduleAllowedChargingRateUnit": "Current"})

    async def works(table: Dialects) -> bool:
        async with way(quirks, table) as one:
            transaction = await one.session()
            if not await one.accepts(16_000, transaction):
                return False
            assert await follows(one, 16.0)
            assert one.limits_a()[-1] == 16 * 230 * 3
            return one.counted("watts") > 0

    await needs_its_row(works)


async def test_row_31_a_low_voltage_makes_fewer_watts() -> None:
    quirks = Quirks(
        only_unit="W",
        configuration={"ChargingScheduleAllowedChargingRateUnit": "Power", "MeterValueSampleInterval": "5"},
    )

    async def never_above(table: Dialects) -> bool:
        async with way(quirks, table, voltage_v=210.0) as one:
            transaction = await one.session()
            await one.depot.until_a(EvseSample)
            one.charger.flash.configuration["MeterValuesSampledData"] += ",Voltage"  # type: ignore[union-attr]
            assert await one.eventually(
                lambda: any('"Voltage"' in f.text for f in one.server.frames(STATION))
            )
            assert await one.accepts(16_000, transaction)
            return one.limits_a()[-1] <= 16 * 210 * 3

    await needs_its_row(never_above)


async def test_row_32_watts_are_for_the_phases_in_use() -> None:
    quirks = Quirks(only_unit="W", configuration={"ChargingScheduleAllowedChargingRateUnit": "Power"})

    async def per_phase(table: Dialects) -> bool:
        async with way(quirks, table) as one:
            transaction = await one.session(phases=1)
            assert await one.accepts(10_000, transaction)
            await one.depot.until(
                lambda event: isinstance(event, EvseSample) and (event.current_ma.l1 or 0) > 1000
            )
            assert await one.accepts(12_000, transaction)
            return one.limits_a()[-1] == 12 * 230

    await needs_its_row(per_phase)


async def test_row_35_limits_are_cut_to_its_steps() -> None:
    quirks = Quirks(steps_a=frozenset({0.0, 6.0, 8.0, 10.0, 13.0, 16.0}))

    async def works(table: Dialects) -> bool:
        async with way(quirks, table, vendor="NEcharge", model="Pro") as one:
            transaction = await one.session()
            taken = [await one.accepts(ma, transaction) for ma in (15_900, 9_000, 6_000)]
            if all(taken):
                assert one.limits_a() == [13.0, 8.0, 6.0]
                assert one.counted("steps") == 2
            return all(taken)

    await needs_its_row(works)


async def test_row_36_a_pause_that_would_end_the_transaction() -> None:
    async def goes_on(table: Dialects) -> bool:
        async with way(Quirks(pause_ends=True), table, vendor="EN+", model="AC7000") as one:
            transaction = await one.session()
            assert await one.accepts(16_000, transaction) and await follows(one, 16.0)
            said = await one.limit(0, transaction)
            if isinstance(said, CommandAccepted):
                await one.depot.until_a(TransactionEnded)
                return False
            assert isinstance(said, CommandRefused) and "minimum" in said.reason
            assert one.limits_a() == [16.0, 6.0] and await follows(one, 6.0)
            await one.limit(0, transaction)
            assert one.limits_a() == [16.0, 6.0], "nothing more can be taken away"
            assert one.counted("pauseends") == 2
            return not one.depot.all(TransactionEnded)

    await needs_its_row(goes_on)


async def test_row_28_a_limit_by_configuration_key() -> None:
    quirks = Quirks(
        limit_key="SetCurrent",
        not_supported=frozenset({"SetChargingProfile"}),
        configuration={"SetCurrent": "32", "SupportedFeatureProfiles": "Core,RemoteTrigger"},
    )

    async def works(table: Dialects) -> bool:
        async with way(quirks, table) as one:
            transaction = await one.session()
            if not await one.accepts(16_900, transaction):
                return False
            assert await follows(one, 16.0)
            written = [call for call in one.calls("ChangeConfiguration") if call["key"] == "SetCurrent"]
            assert [call["value"] for call in written] == ["16"], "whole amperes, rounded down"
            assert await one.accepts(16_200, transaction)
            assert len([c for c in one.calls("ChangeConfiguration") if c["key"] == "SetCurrent"]) == 1, (
                "it wears out"
            )
            assert one.counted("keylimit") and one.reserved()
            return True

    await needs_its_row(works)


async def test_row_21_the_first_limit_after_a_pause_is_said_twice_and_reserved_for() -> None:
    async def safe(table: Dialects) -> bool:
        async with way(
            Quirks(deaf_after_pause=True), table, speed=60.0, vendor="go-e", model="HOMEfix"
        ) as one:
            transaction = await one.session()
            assert await one.accepts(16_000, transaction) and await follows(one, 16.0)
            assert await one.accepts(0, transaction) and await follows(one, 0.0)
            assert await one.accepts(10_000, transaction)
            at_once = one.reserved()
            followed = await follows(one, 10.0, within_s=0.8)
            if not followed:
                return False
            assert at_once, "until it was measured it counts at its maximum"
            assert one.limits_a()[-2:] == [10.0, 10.0]
            assert await one.eventually(lambda: not one.reserved()), "measured: it counts as before"
            return one.counted("resume") > 0

    await needs_its_row(safe)


async def test_row_22_a_station_that_spikes_counts_at_its_maximum() -> None:
    async def reserved(table: Dialects) -> bool:
        async with way(dialects=table, vendor="Wall Box Chargers", model="PLP1-0-2-4") as one:
            return one.reserved() and one.counted("spike") > 0

    await needs_its_row(reserved)


async def test_row_22_spikes_are_learnt_from_samples() -> None:
    async def learnt(table: Dialects) -> bool:
        async with way(Quirks(spike_after_write_s=8.0), table, speed=80.0) as one:
            transaction = await one.session()
            for amps in (16, 15, 14, 13):
                samples = len(one.depot.all(EvseSample))
                assert await one.accepts(amps * 1000, transaction)
                assert await one.eventually(lambda least=samples + 3: len(one.depot.all(EvseSample)) > least)
                assert await follows(one, float(amps))
                assert await one.eventually(
                    lambda most=amps * 1000 + 500: one.depot.all(EvseSample)[-1].current_ma.l1 <= most
                )
            return one.reserved() and one.counted("spike") > 0

    await needs_its_row(learnt)


async def test_an_honest_station_is_not_taken_for_one_that_spikes() -> None:
    async with way(speed=80.0) as one:
        transaction = await one.session()
        for amps in (16, 10, 24, 8, 20, 6):
            samples = len(one.depot.all(EvseSample))
            assert await one.accepts(amps * 1000, transaction)
            assert await one.eventually(lambda least=samples + 2: len(one.depot.all(EvseSample)) > least)
        assert not one.reserved()
        assert not one.counted("spike") and not one.counted("unapplied")


async def test_row_27_a_limit_that_is_not_applied_is_counted() -> None:
    async def counted(table: Dialects) -> bool:
        async with way(Quirks(ignores_limits=True), table, speed=100.0) as one:
            transaction = await one.session()
            assert await one.accepts(10_000, transaction)
            return await one.eventually(lambda: one.counted("unapplied"), within_s=1.2)

    await needs_its_row(counted)


async def test_row_23_a_limit_takes_the_place_of_the_one_before() -> None:
    async with way() as one:
        transaction = await one.session()
        for ma in (16_000, 10_000):
            assert await one.accepts(ma, transaction)
        profiles = [call["csChargingProfiles"] for call in one.calls("SetChargingProfile")][-2:]
        assert len({(p["chargingProfileId"], p["stackLevel"]) for p in profiles}) == 1
        assert not one.calls("ClearChargingProfile")


async def test_row_38_a_sleeping_vehicle_is_woken() -> None:
    async def charges_again(table: Dialects) -> bool:
        async with way(dialects=table, speed=100.0) as one:
            transaction = await one.session(sleepy_s=30.0)
            assert await one.accepts(16_000, transaction) and await follows(one, 16.0)
            assert await one.accepts(0, transaction)
            await one.passes(45)
            assert await one.accepts(10_000, transaction)
            await one.depot.until_a(StatusChanged, state=EvseState.SUSPENDED_EV)
            await one.passes(80)
            woke = await one.eventually(lambda: max(one.evse.current_a) > 9.0, within_s=0.5)
            assert one.counted("asleep") == woke
            assert max(one.limits_a()[2:]) <= 10.0
            return woke

    await needs_its_row(charges_again)


async def test_a_limit_of_the_depot_stands_above_any_waking() -> None:
    async with way(speed=100.0) as one:
        transaction = await one.session(sleepy_s=30.0)
        assert await one.accepts(16_000, transaction) and await follows(one, 16.0)
        assert await one.accepts(0, transaction)
        await one.passes(45)
        assert await one.accepts(10_000, transaction)
        assert await one.eventually(lambda: one.limits_a()[-1] == 0.0 and len(one.limits_a()) == 4)
        assert await one.accepts(0, transaction)
        await one.passes(30)
        assert one.limits_a()[-1] == 0.0, "a pause that the depot ordered is not ended"


async def test_commands_for_nobody_are_still_refused() -> None:
    async with way(world=False) as one:
        one.server.send(SetLimit("x", CP1.__class__("CP1/9"), "ocpp", 1000, 60.0, None))
        await one.depot.until_a(CommandRefused, command="x")


def test_a_table_without_a_row_has_the_others() -> None:
    assert without("spike").named("spike") is None
    assert without("spike").named("relative") is not None
