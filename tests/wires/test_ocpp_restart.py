"""What stations taught us outlives a restart: what they need, and which transactions run or are over."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ocpp_peer import Depot, Peer, now_text, peer, running, settings

from controller.cli.compose import House
from controller.clock import SystemClock
from controller.config import load
from controller.core.commands import SessionSaved, SetLimit
from controller.core.events import (
    CommandAccepted,
    CommandRefused,
    EvseSample,
    TransactionEnded,
    TransactionStarted,
)
from controller.core.model import StationId, evse_id
from controller.core.wire import instant
from controller.ledger import Ledger
from controller.storage import Storage
from drivers.ocpp.dialects import Manners
from drivers.ocpp.learnt import FILE, Learnt
from drivers.ocpp.memory import Memory
from drivers.ocpp.server import OcppServer, OcppSettings

CP1, STATION, CHANNEL = evse_id("CP1", 1), StationId("CP1"), "ocpp1.6"
SAID = ("ACME", "Wall 22", "1.0")


class Kept:
    """The file of one folder, and a station whose ways are kept in it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE

    def opened(self) -> Learnt:
        made = Learnt([STATION], self.path)
        made.open()
        return made

    def recalled(self, channel: str = CHANNEL) -> Manners:
        manners = Manners()
        self.opened().adopt(STATION, channel, manners)
        return manners

    async def learns(self, *names: str, said: tuple[str, str, str] = SAID, channel: str = CHANNEL) -> None:
        held, manners = self.opened(), Manners()
        held.adopt(STATION, channel, manners)
        manners.introduced(*said)
        for name in names:
            manners.learn(name)
        await held.settle()


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path)


# --- what it needs --------------------------------------------------------------------------------------------


async def test_what_was_learnt_counts_again_for_the_same_firmware(kept: Kept) -> None:
    await kept.learns("relative", "onelevel")
    assert kept.path.stat().st_mode & 0o777 == 0o600
    manners = kept.recalled()
    assert manners.switches.profile_kind == "Relative" and manners.switches.stack_levels == (0,)
    manners.introduced(*SAID)
    assert manners.learnt == ("relative", "onelevel")


async def test_another_firmware_and_another_version_are_learnt_anew(kept: Kept) -> None:
    await kept.learns("relative")
    assert kept.recalled("ocpp2.0.1").learnt == ()
    held, manners = kept.opened(), Manners()
    held.adopt(STATION, CHANNEL, manners)
    manners.introduced(*SAID[:2], "1.1")
    assert manners.learnt == () and manners.switches.profile_kind == ""
    await held.settle()
    assert kept.recalled().learnt == ()


async def test_what_did_not_help_is_forgotten_there_too(kept: Kept) -> None:
    await kept.learns("notx")
    held, manners = kept.opened(), Manners()
    held.adopt(STATION, CHANNEL, manners)
    manners.unlearn("notx")
    await held.settle()
    assert kept.recalled().learnt == ()


async def test_it_is_written_only_when_something_changed(kept: Kept) -> None:
    await kept.learns()
    assert not kept.path.exists()
    await kept.learns("relative")
    before = kept.path.stat()
    await kept.learns("relative")
    assert kept.path.stat().st_ino == before.st_ino


async def test_what_is_learnt_of_nobody_waits_for_the_introduction(kept: Kept) -> None:
    held, manners = kept.opened(), Manners()
    held.adopt(STATION, CHANNEL, manners)
    manners.learn("relative")
    await held.settle()
    assert not kept.path.exists()
    manners.introduced(*SAID)
    await held.settle()
    assert kept.recalled().learnt == ("relative",)


def document(**more: Any) -> str:
    fact = {"channel": CHANNEL, "said": list(SAID), "learnt": ["relative"], **more}
    return json.dumps({"version": 1, "stations": {"CP1": fact}})


def test_of_other_stations_and_rows_nothing_is_taken(kept: Kept) -> None:
    kept.path.write_text(document(learnt=["relative", "steps", "nobody"]).replace('"CP1"', '"CP9"'))
    assert kept.recalled().learnt == ()
    kept.path.write_text(document(learnt=["relative", "steps", "nobody"]))
    assert kept.recalled().learnt == ("relative",), "only what the table says can be learnt"


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"stations": []}',
        '{"stations": {"CP1": []}}',
        "[" * 200_000,
        "\udcff",
        document(said=["a", "b"]),
        document(said="abc"),
        document(channel=1),
        document(learnt=[["relative"]]),
        document(learnt=["relative"] * 65),
    ],
)
async def test_a_file_that_cannot_be_read_is_one_line(
    kept: Kept, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    kept.path.write_bytes(content.encode(errors="surrogateescape"))
    with caplog.at_level(logging.WARNING, "drivers.ocpp.learnt"):
        assert kept.recalled().learnt == ()
    assert len(caplog.records) == 1 and caplog.records[0].exc_info is None
    await kept.learns("relative")
    assert kept.recalled().learnt == ("relative",), "it starts anew"


async def test_a_disk_that_does_not_take_it_is_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "drivers.ocpp.learnt"):
        await Kept(tmp_path / "gone").learns("relative")
    assert ["is not stored" in record.message for record in caplog.records] == [True]


def only_relative(payload: dict[str, Any]) -> dict[str, Any]:
    profile = payload["csChargingProfiles"]
    lease = profile["chargingProfilePurpose"] == "TxProfile"
    good = not lease or profile["chargingProfileKind"] == "Relative"
    return {"status": "Accepted" if good else "Rejected"}


async def kind_of_first_limit(config: OcppSettings) -> str:
    """A station that goes on charging 1001 over a restart of ours, and what it is sent for its first limit."""
    async with running(config) as (server, depot):
        server.recall([(CP1, "1001")])
        async with peer(server) as station:
            station.answers["SetChargingProfile"] = only_relative
            await station.boot_and_settle()
            before = [name for name, _ in station.calls].count("SetChargingProfile")
            server.send(SetLimit("c1", CP1, CHANNEL, 16_000, 600.0, "1001"))
            result = await depot.until(lambda event: isinstance(event, CommandAccepted | CommandRefused))
            assert isinstance(result, CommandAccepted)
            first = await station.call_of("SetChargingProfile", before + 1)
            return str(first["csChargingProfiles"]["chargingProfileKind"])


async def test_a_station_is_not_learnt_twice(tmp_path: Path) -> None:
    config = replace(settings(), folder=tmp_path)
    assert await kind_of_first_limit(config) == "Absolute"
    assert await kind_of_first_limit(config) == "Relative"
    (tmp_path / FILE).unlink()
    assert await kind_of_first_limit(config) == "Absolute", "removed, it is learnt anew"


# --- what runs ------------------------------------------------------------------------------------------------


def test_transactions_are_recalled_before_the_first_connection_only() -> None:
    memory = Memory(STATION)
    memory.recall({"1": CP1, "2": CP1}, ["0", "1"])
    assert memory.afresh(CHANNEL, 5.0) is memory and memory.channel == CHANNEL
    assert memory.running_on(CP1) == "2" and list(memory.ended) == ["0"], "what runs is not over"
    assert memory.afresh("ocpp2.0.1", 5.0).running_on(CP1) is None


def test_much_of_the_past_stays_bounded() -> None:
    memory = Memory(STATION)
    memory.recall({f"r{number}": CP1 for number in range(500)}, [f"e{number}" for number in range(500)])
    assert len(memory.evse_of) == len(memory.ended) == 64
    assert memory.running_on(CP1) == "r499" and memory.ended[-1] == "e499"


def saved(transaction: str, *marks: str, over: bool = False) -> SessionSaved:
    began = instant("2026-11-22T12:00:00Z")
    ended = began if over else None
    return SessionSaved(transaction, CP1, transaction, None, None, began, ended, 0, None, None, None, marks)


CONFIG = """
[site]
name = "Depot"
timezone = "Europe/Amsterdam"
limit = "100 A"
assumed_load = "10 A"
[ocpp]
listen = "127.0.0.1:0"
unknown_tokens = "accept"
[station.CP1]
circuit = "site"
fallback = "6 A"
evse.1 = { max = "32 A" }
ocpp = { allow_insecure = true }
[storage]
path = "store"
[control]
socket = "s"
"""


async def test_the_books_are_handed_over(tmp_path: Path) -> None:
    (tmp_path / "depot.toml").write_text(CONFIG)
    config = load(tmp_path / "depot.toml")
    storage = Storage(config.storage_path)
    await storage.open()
    told, untold, nameless = (
        saved("1", over=True),
        saved("2", "stop-missing", over=True),
        saved("0", over=True),
    )
    await Ledger(storage).append([told, untold, nameless, saved("3")])
    await storage.close()
    house = House(config, SystemClock())
    async with house.open():
        assert house.ocpp is not None
        memory = house.ocpp._memories[STATION]
        assert memory.evse_of == {"3": CP1}
        assert list(memory.ended) == ["1"], "what nobody told to be over may come to light again"


def test_of_other_channels_nothing_is_recalled() -> None:
    server = OcppServer(settings(), SystemClock())
    server.recall([(CP1, "1"), (evse_id("elsewhere", 1), "2")], [(evse_id("CP2", 1), "3")])
    memories = server._memories.values()
    assert [list(memory.evse_of) for memory in memories] == [["1"], []]
    assert [list(memory.ended) for memory in memories] == [[], ["3"]]


def values(transaction: int) -> dict[str, Any]:
    sampled = [{"value": "1234", "measurand": "Energy.Active.Import.Register", "unit": "Wh"}]
    entry = {"timestamp": now_text(), "sampledValue": sampled}
    return {"connectorId": 1, "transactionId": transaction, "meterValue": [entry]}


def event(kind: str, transaction: str, sequence: int, **more: Any) -> dict[str, Any]:
    return {
        "eventType": kind,
        "timestamp": now_text(),
        "triggerReason": "MeterValuePeriodic",
        "seqNo": sequence,
        "transactionInfo": {"transactionId": transaction, "chargingState": "Charging"},
        "evse": {"id": 1},
        **more,
    }


@asynccontextmanager
async def restarted(
    version: str, recall: Callable[[OcppServer], None]
) -> AsyncIterator[tuple[OcppServer, Depot, Peer]]:
    async with running(settings()) as (server, depot):
        recall(server)
        async with peer(server, subprotocols=[f"ocpp{version}"]) as station:
            yield server, depot, station


async def test_an_honest_1_6_station_goes_on_without_a_remark() -> None:
    async with restarted("1.6", lambda server: server.recall([(CP1, "7")], [(CP1, "6")])) as (
        server,
        depot,
        station,
    ):
        await station.ask("MeterValues", values(7))
        await depot.until_a(EvseSample, evse=CP1)
        assert server.quirks(STATION) == {} and server.running_on(CP1) == "7"
        await station.ask("MeterValues", values(6))
        assert len(depot.all(EvseSample)) == 1, "late values revive nothing"
        await station.ask("MeterValues", values(5))
        assert "values of an unknown transaction" in server.quirks(STATION)
        stop = {"transactionId": 7, "meterStop": 1300, "timestamp": now_text()}
        await station.ask("StopTransaction", stop)
        assert (await depot.until_a(TransactionEnded)).evse == CP1


@pytest.mark.parametrize("version", ["2.0.1", "2.1"])
async def test_an_honest_2_x_station_goes_on_without_a_remark(version: str) -> None:
    def recall(server: OcppServer) -> None:
        server.recall([(CP1, "tx-7")], [(CP1, "tx-6")])

    async with restarted(version, recall) as (server, depot, station):
        await station.ask("TransactionEvent", event("Ended", "tx-6", 3))
        await station.ask("TransactionEvent", event("Updated", "tx-7", 4))
        assert server.quirks(STATION) == {} and depot.all(TransactionStarted) == []
        await station.ask("TransactionEvent", event("Updated", "tx-7", 6))
        assert server.quirks(STATION)["sequence"] == 1, "what is odd from now on is"
        without_evse = event("Ended", "tx-7", 7)
        del without_evse["evse"]
        await station.ask("TransactionEvent", without_evse)
        assert (await depot.until_a(TransactionEnded, transaction="tx-7")).evse == CP1
        await station.ask("TransactionEvent", event("Updated", "tx-8", 4))
        assert server.quirks(STATION)["a transaction came to light without its start"] == 1
        assert await depot.until_a(TransactionStarted, transaction="tx-8", inferred=True)
