"""Dialects of setup and of the link: questions that hurt, introductions in storms, pings, versions, missing headers."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest
from ocpp_peer import PASSWORD, QUICK, a_station, basic, peer, running, settings
from ocpp_ways import CP1, STATION, configured, needs_its_row, way
from websockets.exceptions import InvalidStatus
from websockets.frames import Frame, Opcode

from controller.core.commands import SetLimit
from controller.core.events import (
    AccessRefused,
    CommandAccepted,
    FallbackStored,
    LinkDown,
    LinkUp,
    StationBooted,
    StatusChanged,
)
from drivers.errors import Refused
from drivers.ocpp.dialects import Dialects, shipped
from drivers.sim.quirks import Quirks

ABB = {"vendor": "ABB", "model": "Terra AC W22", "firmware": "1.8.21"}
WALLBOX = {"vendor": "Wall Box Chargers", "model": "CPB1-S-2-4-8", "firmware": "6.7.21"}


async def test_row_14_a_key_that_makes_it_reboot_is_not_asked_for() -> None:
    async def survives(table: Dialects) -> bool:
        quirks = Quirks(fatal_reads=frozenset({"MeterValuesSampledData"}))
        async with way(quirks, table, world=False, **ABB) as one:
            boots = len(one.depot.all(StationBooted))
            for keys in (["MeterValuesSampledData"], []):
                try:
                    await one.server.request(STATION, "GetConfiguration", {"key": keys} if keys else {})
                except Refused as refused:
                    assert "reboots" in str(refused)
            await one.passes(20)
            return len(one.depot.all(StationBooted)) == boots

    await needs_its_row(survives)


async def test_row_14_newer_firmware_may_be_asked() -> None:
    async with way(world=False, **{**ABB, "firmware": "1.8.32"}) as one:
        answer = await one.server.request(STATION, "GetConfiguration", {"key": ["MeterValuesSampledData"]})
        assert answer["configurationKey"]


async def test_row_14_a_boot_loop_ends() -> None:
    async def ends(table: Dialects) -> bool:
        quirks = Quirks(fatal_writes=frozenset({"MeterValuesSampledData"}))
        async with way(quirks, table, world=False, speed=60.0) as one:
            if not await one.eventually(lambda: one.counted("deadlykey"), within_s=1.5):
                return False
            boots = len(one.depot.all(StationBooted))
            await one.passes(30)
            assert len(one.depot.all(FallbackStored)) >= boots, "what is safe is done all the same"
            return len(one.depot.all(StationBooted)) == boots == 3

    await needs_its_row(ends)


async def test_row_15_nothing_is_said_right_after_the_introduction() -> None:
    async def stays(table: Dialects) -> bool:
        async with way(Quirks(fragile_s=4.0), table, world=False, settle=False, **WALLBOX) as one:
            stored = await one.eventually(lambda: one.depot.all(FallbackStored), within_s=1.0)
            assert stored == (one.counted("early") > 0)
            return stored and not one.depot.all(LinkDown)

    await needs_its_row(stays)


async def test_row_15_commands_wait_as_well() -> None:
    async with way(world=False, settle=False, **WALLBOX) as one:
        await one.depot.until_a(StationBooted)
        one.server.send(SetLimit("c", CP1, "ocpp", 6_000, 60.0, None))
        begun_s = one.clock.now().mono_s
        await one.depot.until_a(CommandAccepted, command="c")
        assert one.clock.now().mono_s - begun_s > 4.0


async def test_row_16_questions_of_setup_take_their_time() -> None:
    async def stays(table: Dialects) -> bool:
        quirks = Quirks(calls_apart_s=0.9)
        async with way(quirks, table, world=False, settle=False, vendor="StarCharge") as one:
            await one.depot.until_a(LinkUp)
            await one.eventually(lambda: one.calls("TriggerMessage") or one.depot.all(LinkDown), within_s=3.0)
            return not one.depot.all(LinkDown) and one.counted("hasty") > 0

    await needs_its_row(stays)


async def test_row_17_setup_does_not_feed_a_storm_of_introductions() -> None:
    async def calm(table: Dialects) -> bool:
        async with running(configured(table)) as (server, depot), peer(server) as station:
            for number in range(1, 9):
                await station.boot()
                await depot.until(lambda _, number=number: len(depot.all(StationBooted)) == number)
                await asyncio.sleep(0.05)
            profiles = [name for name, _ in station.calls if name == "SetChargingProfile"]
            assert profiles, "the first introductions are met at once"
            return len(profiles) <= 2 and server.quirks(STATION).get("bootstorm", 0) > 0

    await needs_its_row(calm)


async def test_row_19_the_whole_station_is_asked_where_connectors_are_not_answered_for() -> None:
    async def told(table: Dialects) -> bool:
        async with way(Quirks(triggers_at=frozenset({0})), table, world=False) as one:
            found = await one.eventually(lambda: one.depot.all(StatusChanged), within_s=0.7)
            assert found == (one.counted("nostatus") > 0)
            return found

    await needs_its_row(told)


async def test_row_20_it_comes_back_with_the_version_it_speaks_well() -> None:
    boot = {"reason": "PowerUp", "chargingStation": {"vendorName": "FoxESS", "model": "A7300S1"}}

    async def comes_back(table: Dialects) -> bool:
        async with running(configured(table)) as (server, depot):
            both = ["ocpp2.0.1", "ocpp1.6"]
            async with peer(server, subprotocols=both) as first:
                assert first.socket.subprotocol == "ocpp2.0.1"
                await first.send([2, "b", "BootNotification", boot])
                await depot.until_a(StationBooted)
                if table is shipped():
                    await first.closed()
            async with peer(server, subprotocols=both) as second:
                again = second.socket.subprotocol
            async with peer(server, subprotocols=["ocpp2.0.1"]) as third:
                assert third.socket.subprotocol == "ocpp2.0.1", "better than nothing"
            return again == "ocpp1.6"

    await needs_its_row(comes_back)


async def test_row_45_what_it_cannot_measure_is_not_asked_for() -> None:
    async def measures(table: Dialects) -> bool:
        quirks = Quirks(mute_with=frozenset({"Current.Offered"}))
        async with way(quirks, table, world=False, speed=60.0, vendor="Wallbox", model="CMX2") as one:
            await one.session()
            await one.passes(25)
            heard = any('"MeterValues"' in frame.text for frame in one.server.frames(STATION))
            assert heard == (one.counted("measurands") > 0)
            return heard

    await needs_its_row(measures)


async def test_row_46_the_interval_it_keeps() -> None:
    async def kept(table: Dialects) -> bool:
        quirks = Quirks(samples_apart_s=30, configuration={"MeterValueSampleInterval": "900"})
        async with way(quirks, table, world=False) as one:
            value = one.charger.flash.configuration["MeterValueSampleInterval"]  # type: ignore[union-attr]
            return value == "30" and one.counted("slowmeter") > 0

    await needs_its_row(kept)


async def test_row_46_is_known_of_the_maker() -> None:
    async def known(table: Dialects) -> bool:
        async with way(dialects=table, world=False, vendor="Mennekes", model="AMTRON") as one:
            asked = [
                c["value"] for c in one.calls("ChangeConfiguration") if c["key"] == "MeterValueSampleInterval"
            ]
            return asked == ["60"] or not asked  # the factory's value is 60: nothing to write

    await needs_its_row(known)


async def test_row_47_a_station_that_does_not_stand_pings_stays() -> None:
    async def stays(table: Dialects) -> bool:
        config = replace(configured(table), patience=replace(QUICK, ping_s=0.05))
        async with running(config) as (server, _), peer(server) as station:
            boot = {"chargePointVendor": "EN+", "chargePointModel": "AC7000"}
            await station.ask("BootNotification", boot)
            receive = station.socket.protocol.recv_frame

            def dies_of_pings(frame: Frame) -> None:
                if frame.opcode is Opcode.PING:
                    station.socket.transport.abort()
                receive(frame)

            station.socket.protocol.recv_frame = dies_of_pings  # type: ignore[method-assign]
            await asyncio.wait({station._reader}, timeout=0.4)
            assert (not station._reader.done()) == (server.quirks(STATION).get("noping", 0) > 0)
            return not station._reader.done()

    await needs_its_row(stays)


async def test_row_49_no_subprotocol_where_the_config_names_the_version() -> None:
    async def let_in(table: Dialects) -> bool:
        async with running(configured(table, version="1.6", assume_version=True)) as (server, depot):
            try:
                async with peer(server, subprotocols=None) as station:
                    await station.boot_and_settle()
            except InvalidStatus as refused:
                assert refused.response.status_code == 400
                return False
            assert (await depot.until_a(LinkUp)).channel == "ocpp1.6"
            return server.quirks(STATION)["noprotocol"] == 1

    await needs_its_row(let_in)


async def test_row_49_where_the_config_does_not_say_so_it_stays_outside() -> None:
    async with running(configured(shipped(), version="1.6")) as (server, depot):
        with pytest.raises(InvalidStatus):
            async with peer(server, subprotocols=None):
                pass
        assert "offered: none" in (await depot.until_a(AccessRefused)).reason


async def test_row_50_a_missing_upgrade_is_named() -> None:
    async with running() as (server, depot):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        credentials = basic("CP1", PASSWORD)["Authorization"]
        writer.write(f"GET /ocpp/CP1 HTTP/1.1\r\nHost: h\r\nAuthorization: {credentials}\r\n\r\n".encode())
        assert b"426" in await reader.readline()
        writer.close()
        assert "no Upgrade header" in (await depot.until_a(AccessRefused)).reason


@pytest.mark.parametrize("status", ["Rejected", "NotSupported", "RebootRequired"])
async def test_row_59_a_key_that_cannot_be_written_stays_and_setup_goes_on(status: str) -> None:
    async with running() as (server, depot), peer(server) as station:
        station.answers["ChangeConfiguration"] = {"status": status}
        await station.boot_and_settle()
        keys = [payload["key"] for name, payload in station.calls if name == "ChangeConfiguration"]
        assert "HeartbeatInterval" in keys
        assert not [payload for name, payload in station.calls if name == "Reset"], (
            "people decide about reboots"
        )
        assert not depot.all(LinkDown)


async def test_row_60_scheduled_is_an_answer_and_no_failure() -> None:
    async with running() as (server, _), peer(server) as station:
        station.answers["ChangeAvailability"] = {"status": "Scheduled"}
        await station.boot_and_settle()
        answer = await server.request(
            STATION, "ChangeAvailability", {"connectorId": 1, "type": "Inoperative"}
        )
        assert answer == {"status": "Scheduled"}


@pytest.mark.parametrize(
    "answer", [{"status": "Rejected"}, {"status": "Accepted"}, {"status": "NotImplemented"}]
)
async def test_row_61_a_trigger_that_comes_to_nothing_is_not_repeated(answer: dict[str, Any]) -> None:
    async with running() as (server, depot), peer(server) as station:
        station.answers["TriggerMessage"] = answer
        await station.boot_and_settle()
        server.send(SetLimit("c", CP1, "ocpp", 6_000, 60.0, None))
        await depot.until_a(CommandAccepted, command="c")
        asked = [json.dumps(payload) for name, payload in station.calls if name == "TriggerMessage"]
        assert len(asked) == len(set(asked)) <= 2


def test_the_config_of_these_tests_has_one_station() -> None:
    assert list(configured(shipped()).stations) == [STATION] != list(settings().stations)
    assert a_station("CP1").version is None
