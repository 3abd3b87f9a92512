"""Frames drawn from a grammar, in all three versions, against the whole controller: whatever stations send, the process
lives, what the depot budgets for does not move, its memory stays small, and a good neighbour is answered as before.

Three stations attack at once: they are set up as usual, answer none of our calls usefully, and say what Hypothesis makes of
the messages of their version. None of them has proven anything, so the depot must go on counting each at its maximum.
"""

from __future__ import annotations

import asyncio
import json
import logging
import statistics
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as drawing
from hypothesis import strategies as st
from ocpp_peer import WITHIN_S, Peer, now_text, peer, running
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from controller.cli.compose import House
from controller.clock import SystemClock
from controller.config import load
from controller.core.events import FallbackRefused, FallbackStored
from controller.core.frames import MOST_FRAMES
from controller.core.model import StationId, station_of
from controller.core.snapshot import EvseView, Snapshot
from drivers.ocpp import memory

Json = dict[str, Any]
ATTACKERS = {"A16": "1.6", "A201": "2.0.1", "A21": "2.1"}
MAX_MA, CALM_MA = 32_000, 16_000
CONFIG = """
[site]
name = "Fuzz"
timezone = "Europe/Amsterdam"
limit = "200 A"
assumed_load = "10 A"
[ocpp]
listen = "127.0.0.1:0"
unknown_tokens = "accept"
[station.GOOD]
circuit = "site"
fallback = "6 A"
evse.1 = { max = "16 A", min = "6 A" }
ocpp = { allow_insecure = true }
""" + "".join(
    f"""[station.{name}]
circuit = "site"
fallback = "6 A"
evse.1 = {{ max = "32 A", min = "6 A" }}
ocpp = {{ allow_insecure = true, version = "{version}" }}
"""
    for name, version in ATTACKERS.items()
)
PLACES = '[storage]\npath = "state"\n[control]\nsocket = "s"\n'

# --- the grammar ----------------------------------------------------------------------------------------------

_SAMPLE = {"value": "12.5", "measurand": "Current.Import", "unit": "A", "context": "Sample.Periodic"}
_EVENT: Json = {
    "eventType": "Started", "timestamp": now_text(), "triggerReason": "Authorized", "seqNo": 0,
    "transactionInfo": {"transactionId": "t1", "chargingState": "Charging"}, "evse": {"id": 1, "connectorId": 1},
    "idToken": {"idToken": "04A2B3C4", "type": "ISO14443"},
    "meterValue": [{"timestamp": now_text(), "sampledValue": [{"value": 12.5, "measurand": "Current.Import"}]}],
}  # fmt: skip
SAID_16: dict[str, Json] = {
    "BootNotification": {"chargePointVendor": "V", "chargePointModel": "M", "firmwareVersion": "1"},
    "StatusNotification": {
        "connectorId": 1,
        "status": "Charging",
        "errorCode": "NoError",
        "timestamp": now_text(),
    },
    "Authorize": {"idTag": "04A2B3C4"},
    "StartTransaction": {"connectorId": 1, "idTag": "04A2B3C4", "meterStart": 0, "timestamp": now_text()},
    "StopTransaction": {"transactionId": 1, "meterStop": 10, "timestamp": now_text(), "reason": "Local"},
    "MeterValues": {"connectorId": 1, "meterValue": [{"timestamp": now_text(), "sampledValue": [_SAMPLE]}]},
    "FirmwareStatusNotification": {"status": "Installed"},
    "SecurityEventNotification": {"type": "Tamper", "timestamp": now_text()},
    "DataTransfer": {"vendorId": "V", "data": "x"},
    "SignCertificate": {"csr": "PEM"},
    "SetChargingProfile": {"connectorId": 1, "csChargingProfiles": {"chargingProfileId": 1, "stackLevel": 9}},
}
SAID_2: dict[str, Json] = {
    "BootNotification": {"reason": "PowerUp", "chargingStation": {"vendorName": "V", "model": "M"}},
    "StatusNotification": {"timestamp": now_text(), "connectorStatus": "Occupied", "evseId": 1, "connectorId": 1},
    "Authorize": {"idToken": {"idToken": "04A2B3C4", "type": "ISO14443"}},
    "TransactionEvent": _EVENT,
    "MeterValues": {"evseId": 1, "meterValue": _EVENT["meterValue"]},
    "NotifyEvent": {"generatedAt": now_text(), "seqNo": 0, "eventData": [{"eventId": 1, "actualValue": "true"}]},
    "NotifyReport": {"requestId": 1, "generatedAt": now_text(), "seqNo": 0, "reportData": [{"component": {"name": "EVSE"}}]},
    "NotifyChargingLimit": {"evseId": 1, "chargingLimit": {"chargingLimitSource": "EMS"}},
    "ReportChargingProfiles": {"requestId": 1, "chargingLimitSource": "CSO", "evseId": 1, "chargingProfile": [{"id": 1}]},
    "NotifyEVChargingNeeds": {"evseId": 1, "chargingNeeds": {"requestedEnergyTransfer": "DC"}},
    "FirmwareStatusNotification": {"status": "Installed", "requestId": 1},
    "SignCertificate": {"csr": "PEM", "certificateType": "V2GCertificate"},
    "NotifyMonitoringReport": {"requestId": 1, "seqNo": 0, "generatedAt": now_text()},
    "GetCertificateStatus": {"ocspRequestData": {"hashAlgorithm": "SHA256"}},
    "PullDynamicScheduleUpdate": {"chargingProfileId": 1},
}  # fmt: skip
ODD: list[object] = [
    None, True, 0, -1, 1.5, 2**31, 10**19, -(10**18), 1e308, "", " ", "1", "-5", "NaN", "1e999", "Accepted", "A" * 300, "\u0000\u202e",
    "\ud800", "1970-01-01T00:00:00Z", "2099-12-31T23:59:59+14:00", "tomorrow", [], {}, [[]], [None], {"id": 1}, [{"value": "x"}],
]  # fmt: skip


def warped(template: object) -> st.SearchStrategy[object]:
    """The template, or a part of it gone, replaced, doubled or of another kind."""
    odd: st.SearchStrategy[object] = st.sampled_from(ODD)
    whole: st.SearchStrategy[object] = st.just(template)
    if isinstance(template, dict):
        parts = {key: st.one_of(st.just(value), warped(value)) for key, value in template.items()}
        whole = st.builds(
            lambda built, gone, more: {
                key: value for key, value in {**built, **more}.items() if key not in gone
            },
            st.fixed_dictionaries(parts),
            st.sets(st.sampled_from(sorted(template)), max_size=1),
            st.dictionaries(st.sampled_from(["customData", "transactionId", "evseId", "x"]), odd, max_size=1),
        )
    elif isinstance(template, list):
        whole = st.lists(warped(template[0]), max_size=3)
    return st.one_of(whole, whole, whole, odd)


def frames_of(said: dict[str, Json]) -> st.SearchStrategy[str]:
    good, bad = ["1", "2", "x" * 36, "é"], ["x" * 37, "", 5, None, "\u0000"]
    ids = st.one_of([st.sampled_from(good)] * 9 + [st.sampled_from(bad)])
    calls = st.one_of(
        [st.tuples(st.just(2), ids, st.just(name), warped(body)) for name, body in said.items()]
    )
    strange: st.SearchStrategy[Any] = st.tuples(
        st.just(2),
        ids,
        st.sampled_from(["Heartbeat", "Nonsense", "Reset", "", 7, [], None]),
        warped({"a": [1]}),
    )
    results = st.tuples(
        st.sampled_from([3, 4, 5, 6, 7, -1, "2", True, 2.0]),
        ids,
        st.sampled_from(ODD),
        warped({"status": "Accepted"}),
    )
    texts = st.one_of(calls, calls, calls, calls, calls, calls, strange, results).map(json.dumps)
    broken = st.builds(lambda text, at, more: text[: at % (len(text) + 1)] + more, texts, st.integers(0, 2000),
                       st.sampled_from(["", "]", "}}", '"', "[" * 50, "9" * 30, "\\ud800", ",,", "\u0000"]))  # fmt: skip
    return st.one_of(*[texts] * 9, broken)


GRAMMAR = {"1.6": frames_of(SAID_16), "2.0.1": frames_of(SAID_2), "2.1": frames_of(SAID_2)}
USELESS: list[object] = [
    {},
    {"status": "Rejected"},
    [],
    "Accepted",
    None,
    {"status": None},
    {"status": ["Accepted"]},
]


LAST = '[2,"last","DataTransfer",{"vendorId":"V"}]'  # a heartbeat may be dropped


# --- the house ------------------------------------------------------------------------------------------------


class Fuzzed:
    """A running controller, one good station in a session, and the loop they live in between the drawn examples."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seen: list[Snapshot] = []
        self.believed: list[object] = []
        self.told: set[str] = set()
        self.house: House

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Peer]:
        (self.folder / "depot.toml").write_text(CONFIG + PLACES)
        self.house = house = House(load(self.folder / "depot.toml"), SystemClock())
        async with house.open() as runtime:
            self.runtime = runtime
            runtime.hearers.append(self._hear)
            task = asyncio.create_task(house.run(runtime, [self._watch]))
            try:
                assert house.ocpp is not None
                await asyncio.wait_for(house.ocpp.ready(), WITHIN_S)
                async with peer(house.ocpp, "GOOD", headers={}) as good:
                    good.answers["SendLocalList"] = {"status": "Accepted"}
                    await good.boot_and_settle()
                    plugged = {"connectorId": 1, "status": "Preparing", "errorCode": "NoError"}
                    await good.ask("StatusNotification", plugged)
                    start = {"connectorId": 1, "idTag": "04A2B3C4", "meterStart": 0, "timestamp": now_text()}
                    await good.ask("StartTransaction", start)
                    await good.ask(
                        "StatusNotification", {"connectorId": 1, "status": "Charging", "errorCode": "NoError"}
                    )
                    await self.until(lambda: self.view("GOOD").accepted_ma == CALM_MA)
                    await asyncio.gather(*map(self.introduce, ATTACKERS))
                    del self.seen[:-1]
                    yield good
                assert not task.done(), "the process must outlive everything"
            finally:
                task.cancel()
                await asyncio.wait({task}, timeout=WITHIN_S)
                for _ in range(10):  # what was closed just now is gone when the loop has had its turns
                    await asyncio.sleep(0)

    async def _watch(self) -> None:
        """Keeps what the depot thought while it was attacked."""
        seen = None
        while True:
            seen = await self.runtime.next_snapshot(seen)
            self.seen.append(seen)

    def _hear(self, event: object) -> None:
        """Not what a station is believed to have stored, but what it could make the depot believe for a moment."""
        if isinstance(event, FallbackStored | FallbackRefused):
            self.told.add(station_of(event.evse))
        if isinstance(event, FallbackStored) and station_of(event.evse) in ATTACKERS:
            self.believed.append(event)

    def view(self, station: str) -> EvseView:
        return next(evse for evse in self.seen[-1].evses if evse.station == station)

    async def until(self, true: Callable[[], bool]) -> None:
        try:
            async with asyncio.timeout(2 * WITHIN_S):
                seen = None
                while not self.seen or not true():
                    seen = await self.runtime.next_snapshot(seen)
                    await asyncio.sleep(0)
        except TimeoutError:
            raise AssertionError(f"never happened: {self.seen[-1:]}") from None

    async def introduce(self, name: str) -> None:
        """Boots and is set up like any station, with answers that are worth nothing, until the depot has judged them."""
        boot = (SAID_16 if ATTACKERS[name] == "1.6" else SAID_2)["BootNotification"]
        async with self.connection(name) as socket, asyncio.timeout(WITHIN_S):
            await socket.send(json.dumps([2, "boot", "BootNotification", boot]))
            async for text in socket:
                await self._hear_out(socket, json.loads(text))
                if name in self.told:
                    return

    async def attack(self, name: str, frames: list[str]) -> None:
        """Over as many connections as it takes: senseless frames get each closed after a while."""
        waiting = list(frames)
        while waiting:
            with suppress(ConnectionClosed):
                async with self.connection(name) as socket, asyncio.timeout(2 * WITHIN_S):
                    while waiting:
                        await socket.send(waiting[0])
                        waiting.pop(0)
                    await socket.send(LAST)
                    async for text in socket:
                        if await self._hear_out(socket, json.loads(text)) == "last":
                            break

    @staticmethod
    async def _hear_out(socket: ClientConnection, frame: list[Any]) -> object:
        """Our calls get answers that are worth nothing. The id of the frame."""
        if frame[0] == 2:
            await socket.send(json.dumps([3, frame[1], USELESS[len(frame[1] + frame[2]) % len(USELESS)]]))
        return frame[1]

    @asynccontextmanager
    async def connection(self, name: str) -> AsyncIterator[ClientConnection]:
        assert self.house.ocpp is not None
        url = f"ws://127.0.0.1:{self.house.ocpp.port}/ocpp/{name}"
        protocols: Any = [f"ocpp{ATTACKERS[name]}"]
        async with connect(
            url, subprotocols=protocols, close_timeout=1, ping_interval=None, compression=None
        ) as socket:
            yield socket

    def judge(self) -> None:
        """Nothing the attackers said made the depot count on less, or allow more, than before."""
        assert self.believed == []
        for snapshot in self.seen:
            for circuit in snapshot.circuits:
                assert max(circuit.committed_ma) <= max(circuit.limit_ma) - 10_000
            for evse in snapshot.evses:
                if evse.station in ATTACKERS:
                    assert evse.commitment_ma == MAX_MA and not evse.fallback_stored, evse
                else:
                    assert (evse.commitment_ma, evse.accepted_ma) == (CALM_MA, CALM_MA), evse
        del self.seen[:-1]

    def small(self) -> None:
        assert self.house.ocpp is not None
        for name in ATTACKERS:
            kept = self.house.ocpp._memories[StationId(name)]
            assert len(kept.frames) <= MOST_FRAMES
            assert len(kept.quirks) <= memory._MOST_QUIRKS + 100
            assert len(kept.evse_of) <= memory._KEPT_TRANSACTIONS >= len(kept.ended)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stations are slowed down to 100 frames a second; here nobody has the time."""
    monkeypatch.setattr("drivers.ocpp.station.FRAMES_PER_S", 5_000)


@pytest.fixture
def complaints() -> Any:
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[assignment,method-assign]
    logging.getLogger().addHandler(handler)
    yield lambda: [each.getMessage() for each in records if each.exc_info or each.levelno >= logging.ERROR]
    logging.getLogger().removeHandler(handler)


def test_no_frame_moves_the_depot(tmp_path: Path, quick: None, complaints: Callable[[], list[str]]) -> None:
    fuzzed = Fuzzed(tmp_path)
    with asyncio.Runner() as runner:
        running = fuzzed.running()
        good = runner.run(running.__aenter__())

        @given(
            st.fixed_dictionaries(
                {
                    name: st.lists(GRAMMAR[version], min_size=10, max_size=25)
                    for name, version in ATTACKERS.items()
                }
            )
        )
        @drawing(
            max_examples=25, deadline=None, derandomize=True, database=None, phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        def fuzz(drawn: dict[str, list[str]]) -> None:
            runner.run(attacked(drawn))

        async def attacked(drawn: dict[str, list[str]]) -> None:
            async with asyncio.timeout(4 * WITHIN_S), asyncio.TaskGroup() as group:
                for name, frames in drawn.items():
                    group.create_task(fuzzed.attack(name, frames))
            assert (await good.ask("Heartbeat", {}))[0] == 3
            fuzzed.judge()
            fuzzed.small()

        try:
            fuzz()
            # the depot looks once a second: what it believes at the end is what all of it has led to
            runner.run(fuzzed.until(lambda: len(fuzzed.seen) > 2))
            fuzzed.judge()
        finally:
            runner.run(running.__aexit__(None, None, None))
    assert complaints() == []


def bulk(version: str, count: int) -> list[str]:
    """The same kinds of frames without an end of drawing: every template with every odd value in every place."""
    said = SAID_16 if version == "1.6" else SAID_2
    made = [
        json.dumps([2, f"b{number}", name, {**body, key: odd}])
        for name, body in said.items()
        for key in body
        for number, odd in enumerate(ODD)
    ]
    return (made * (count // len(made) + 1))[:count]


async def test_memory_stays_small(tmp_path: Path, quick: None) -> None:
    """The same flood a second time leaves next to nothing behind."""
    fuzzed = Fuzzed(tmp_path)
    async with fuzzed.running():
        await flood(fuzzed, 500)
        tracemalloc.start()
        try:
            await flood(fuzzed, 200)
            before, _ = tracemalloc.get_traced_memory()
            await flood(fuzzed, 800)
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        fuzzed.small()
        assert after - before < 4_000_000, f"{(after - before) / 1e6:.1f} MB more"


async def flood(fuzzed: Fuzzed, count: int) -> None:
    async with asyncio.TaskGroup() as group:
        for name, version in ATTACKERS.items():
            group.create_task(fuzzed.attack(name, bulk(version, count)))
    del fuzzed.seen[:-1]


async def test_a_good_neighbour_is_answered_as_before(tmp_path: Path) -> None:
    """With the real pace. In the middle of what was measured: a busy machine is slow now and then."""
    fuzzed = Fuzzed(tmp_path)
    async with fuzzed.running() as good:
        calm_s = await answer_s(good, 40)
        over = asyncio.Event()
        attacks = [asyncio.create_task(without_end(fuzzed, name, over)) for name in ATTACKERS]
        busy_s = await answer_s(good, 40)
        assert not any(each.done() for each in attacks), "or nothing was measured"
        over.set()
        await asyncio.gather(*attacks)
        fuzzed.judge()
    assert busy_s < 20 * calm_s + 0.005, f"{busy_s * 1e3:.1f} ms instead of {calm_s * 1e3:.1f} ms"


async def test_a_station_that_comes_back_brings_no_fresh_burst(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or one that is hung up on all the time could say as much as it likes."""
    monkeypatch.setattr("drivers.ocpp.station.FRAMES_PER_S", 20)
    async with running() as (server, _):
        began_s = time.monotonic()
        for _ in range(2):
            async with peer(server) as station:
                for _ in range(18):
                    assert (await station.ask("Heartbeat", {}))[0] == 3
    assert time.monotonic() - began_s > 0.7, "36 frames are a burst of 20 and 16 at 20 a second"


async def without_end(fuzzed: Fuzzed, name: str, over: asyncio.Event) -> None:
    frames = bulk(ATTACKERS[name], 1000)
    while not over.is_set():
        await fuzzed.attack(name, frames[:100])
        frames = frames[100:] + frames[:100]


async def answer_s(good: Peer, times: int) -> float:
    took = []
    for _ in range(times):
        began_s = time.perf_counter()
        assert (await good.ask("Heartbeat", {}))[0] == 3
        took.append(time.perf_counter() - began_s)
        await asyncio.sleep(0.005)
    return statistics.median(took)
