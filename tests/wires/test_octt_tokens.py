"""Cases of the compliance suite about id tokens: the whole controller, whose book of tokens gives the verdicts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from ocpp_peer import Peer, peer
from octt_bench import Suite, settle
from octt_steps import Says, act, boot2, event2, start16, status2, stop16, token2

from controller.cli.compose import House
from controller.clock import SystemClock
from controller.config import load
from controller.core.events import TokenSet
from controller.core.model import IdToken
from tests import one_post

TOKENS = (
    IdToken("100000C01", group="VANS"),
    IdToken("100000C39B", group="VANS"),
    IdToken("MASTERC47", group="MASTERS"),
)


@asynccontextmanager
async def a_house(folder: Path) -> AsyncIterator[tuple[House, Suite]]:
    """With its conformance door open and three tokens in the book."""
    (folder / "depot.toml").write_text(one_post.CONFIG.replace("CP001", "CP1"))
    house = House(load(folder / "depot.toml"), SystemClock())
    async with house.open() as runtime:
        door = house.conformance_door(house.conformance_address("127.0.0.1:0"), runtime)
        task = asyncio.create_task(house.run(runtime, [door.run]))
        try:
            async with asyncio.timeout(15), aiohttp.ClientSession() as http:
                assert house.ocpp is not None
                await house.ocpp.ready()
                await door.ready.wait()
                for token in TOKENS:
                    await runtime.report(TokenSet("test", token))
                yield house, Suite(door.port, http)
        finally:
            task.cancel()
            await asyncio.wait({task}, timeout=10)


@asynccontextmanager
async def a_station(house: House, version: str) -> AsyncIterator[Peer]:
    assert house.ocpp is not None
    async with peer(house.ocpp, headers={}, subprotocols=[f"ocpp{version}"]) as station:
        if version == "1.6":
            await station.boot()
        else:
            await settle(station)
        for action in ("SendLocalList", "SetChargingProfile", "RequestStopTransaction"):
            station.answers[action] = {"status": "Accepted"}
        yield station


CREATED = [
    ("TC_023_1", None, "Invalid"),
    ("TC_023_2", "Expired", "Expired"),
    ("TC_023_3", "Blocked", "Blocked"),
]


@pytest.mark.parametrize(
    ("status", "verdict"), [each[1:] for each in CREATED], ids=[each[0] for each in CREATED]
)
async def test_a_token_of_1_6(tmp_path: Path, status: str | None, verdict: str) -> None:
    """Made by the suite through the door, presented by the station."""
    async with a_house(tmp_path) as (house, suite), a_station(house, "1.6") as station:
        if status is not None:
            await suite.ask("create-token", {"token_id": "C0", "status": status})
        reply = await station.ask("Authorize", {"idTag": "C0"})
        assert reply[2]["idTagInfo"]["status"] == verdict


CREATED_2 = [
    ("TC_C_02", None, "Invalid"),
    ("TC_C_06", "Blocked", "Blocked"),
    ("TC_C_07", "Expired", "Expired"),
]


@pytest.mark.parametrize(
    ("status", "verdict"), [each[1:] for each in CREATED_2], ids=[each[0] for each in CREATED_2]
)
async def test_a_token_of_2(tmp_path: Path, status: str | None, verdict: str) -> None:
    async with a_house(tmp_path) as (house, suite), a_station(house, "2.0.1") as station:
        if status is not None:
            await suite.ask("create-token", {"token_id": "C0", "status": status})
        reply = await station.ask("Authorize", token2("C0"))
        assert reply[2]["idTokenInfo"]["status"] == verdict


async def test_an_offline_start_with_an_unknown_token(tmp_path: Path) -> None:
    """TC_037_3: it has its number, so that it can be booked, and the verdict that ends it."""
    async with a_house(tmp_path) as (house, _), a_station(house, "1.6") as station:
        payload = start16(offset_s=-300, idTag="100000C02").payload
        reply = await station.ask("StartTransaction", payload)
        assert reply[2]["idTagInfo"]["status"] == "Invalid" and reply[2]["transactionId"] > 0
        end = stop16("DeAuthorized", number=reply[2]["transactionId"])
        assert (await station.ask("StopTransaction", end.payload))[0] == 3


def grouped(text: str, group: str) -> Says:
    info = {"status": "Accepted", "groupIdToken": {"idToken": group}}
    return Says("Authorize", token2(text), {"idTokenInfo": info})


async def test_one_of_the_group_begins_and_another_ends(tmp_path: Path) -> None:
    """TC_C_39: both are told to be of one group, and the end is taken with the other's token."""
    end: dict[str, Any] = {
        **event2("Ended", 2, "StopAuthorized", stoppedReason="Local").payload,
        **token2("100000C39B"),
    }
    steps = (
        status2("Occupied"),
        grouped("100000C01", "VANS"),
        event2("Started", 0, "Authorized", token=True),
        event2("Updated", 1, "ChargingStateChanged", "Charging"),
        grouped("100000C39B", "VANS"),
        Says(
            "TransactionEvent",
            end,
            {"idTokenInfo": {"status": "Accepted"}},
        ),
    )
    async with a_house(tmp_path) as (house, suite), a_station(house, "2.0.1") as station:
        await act("2.0.1", steps, suite, station)


@pytest.mark.parametrize("reboots", [False, True])
async def test_a_master_pass_ends_what_another_began(tmp_path: Path, reboots: bool) -> None:
    """TC_C_47, TC_C_48, TC_C_49: a token of the group of masters is told as such; whom it stops is the station's choice."""
    end = event2("Ended", 2, "StopAuthorized", stoppedReason="MasterPass")
    begun = (
        status2("Occupied"),
        event2("Started", 0, "Authorized", token=True),
        event2("Updated", 1, "ChargingStateChanged", "Charging"),
    )
    stops = (
        grouped("MASTERC47", "MASTERS"),
        Says("TransactionEvent", {**end.payload, **token2("MASTERC47")}),
    )
    async with a_house(tmp_path) as (house, suite), a_station(house, "2.0.1") as station:
        await act("2.0.1", (*begun, *((boot2(),) if reboots else ()), *stops), suite, station)


@pytest.mark.parametrize("status", ["Accepted", "Invalid"], ids=["TC_C_40", "TC_C_43"])
async def test_a_group_goes_into_the_list_of_a_station(tmp_path: Path, status: str) -> None:
    info = {"status": status, "groupIdToken": {"idToken": "VANS", "type": "Central"}}
    body = {
        "versionNumber": 90, "updateType": "Full",
        "localAuthorizationList": [{**token2("100000C39B"), "idTokenInfo": info}, {**token2(), "idTokenInfo": info}],
    }  # fmt: skip
    async with a_house(tmp_path) as (house, suite), a_station(house, "2.0.1") as station:
        assert await suite.ask("2.0.1/CP1/call/SendLocalList", body) == {"status": "Accepted"}
        assert body in [payload for name, payload in station.calls if name == "SendLocalList"]
        steps = (
            event2("Started", 0, "Authorized", token=True),
            event2("Updated", 1, "ChargingStateChanged", "Charging"),
        )
        await act("2.0.1", steps, suite, station)
