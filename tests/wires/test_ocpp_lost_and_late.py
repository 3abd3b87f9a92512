"""Transactions that never get lost, end to end: a raw peer, the real server, core and ledger (field notes 8, 9, 11, 12, 44).

Time belongs to the test: the clock leaps, the sockets and the disk are real.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from ocpp_peer import WITHIN_S, Peer, an_evse, peer, settings
from test_ocpp_v2 import boot, station, token

from controller.clock import SystemClock
from controller.core import events as ev
from controller.core.depot import Depot
from controller.core.model import SITE, Circuit, EvseId, IdToken, Moment, Site, each_phase
from controller.ledger import Ledger
from controller.notify import Notifier
from controller.planner import rules
from controller.runtime import Runtime
from controller.storage import Storage
from drivers.ocpp.server import OcppServer

EVSE = EvseId("CP1/1")
REGISTER = "Energy.Active.Import.Register"


class LeapClock(SystemClock):
    """The wall's time, and what the test adds to it."""

    leapt_s = 0.0

    def now(self) -> Moment:
        now = super().now()
        return Moment(now.mono_s + self.leapt_s, now.utc + timedelta(seconds=self.leapt_s))

    def text(self, offset_s: float = 0) -> str:
        return (self.now().utc + timedelta(seconds=offset_s)).strftime("%Y-%m-%dT%H:%M:%SZ")


class Books:
    """The box: a server, the core and its ledger."""

    def __init__(self, clock: LeapClock, server: OcppServer, runtime: Runtime) -> None:
        self.clock, self.server, self.runtime = clock, server, runtime

    async def rows(self) -> list[dict[str, Any]]:
        await asyncio.shield(self.runtime.ledger.append(()))  # what was not waited for is stored too
        return await self.runtime.ledger.sessions()

    async def the_row(self) -> dict[str, Any]:
        (row,) = await self.rows()
        return row

    def step(self) -> None:
        self.runtime.ledger.append(self.runtime.depot.step(self.clock.now()).entries)


@asynccontextmanager
async def the_box(folder: Path, clock: LeapClock) -> AsyncIterator[Books]:
    unit = an_evse("CP1", 1)
    site = Site("depot", "UTC", 230_000, {SITE: Circuit(SITE, None, each_phase(63_000))}, {EVSE: unit})
    storage = Storage(folder / "state")
    await storage.open()
    try:
        ledger = Ledger(storage)
        known = await ledger.restore()
        depot = Depot(site, str(known.boot))
        runtime = Runtime(depot, clock, storage, ledger, rules.plan, Notifier(""))
        await runtime.restore(known)
        server = OcppServer(settings(), clock)
        task = asyncio.create_task(server.run(runtime.report))
        try:
            async with asyncio.timeout(WITHIN_S):
                await server.ready()
            await runtime.report(ev.TokenSet("ann", IdToken("TAG1")))
            await runtime.report(ev.TokenSet("ann", IdToken("BAD", blocked=True)))
            yield Books(clock, server, runtime)
        finally:
            task.cancel()
            await asyncio.wait({task})
    finally:
        await storage.close()


async def asked(one: Peer, action: str, payload: dict[str, Any]) -> dict[str, Any]:
    reply = await one.ask(action, payload)
    assert reply[0] == 3, reply
    return dict(reply[2])


async def starts(one: Peer, box: Books, register: int = 1000) -> int:
    payload = {"connectorId": 1, "idTag": "TAG1", "meterStart": register, "timestamp": box.clock.text()}
    return int((await asked(one, "StartTransaction", payload))["transactionId"])


async def stops(one: Peer, box: Books, transaction: int, register: int) -> None:
    payload = {"transactionId": transaction, "meterStop": register, "timestamp": box.clock.text()}
    await asked(one, "StopTransaction", payload)


async def metered(one: Peer, box: Books, register: int, transaction: int | None) -> None:
    values = [
        {"value": str(register), "measurand": REGISTER},
        {"value": "16", "measurand": "Current.Import"},
    ]
    payload: dict[str, Any] = {
        "connectorId": 1,
        "meterValue": [{"timestamp": box.clock.text(), "sampledValue": values}],
    }
    if transaction is not None:
        payload["transactionId"] = transaction
    assert await asked(one, "MeterValues", payload) == {}


async def status(one: Peer, word: str) -> None:
    await asked(one, "StatusNotification", {"connectorId": 1, "status": word, "errorCode": "NoError"})


async def test_a_repeated_start_is_one_session_over_a_restart_too(tmp_path: Path) -> None:
    """Rows 9 and 10: the reply was lost, the message comes again with another id, to a box that was restarted."""
    clock = LeapClock()
    start = {"connectorId": 1, "idTag": "TAG1", "meterStart": 1000, "timestamp": clock.text()}
    async with the_box(tmp_path, clock) as box, peer(box.server) as one:
        await one.boot()
        first = await asked(one, "StartTransaction", start)
        assert await asked(one, "StartTransaction", start) == first
    async with the_box(tmp_path, clock) as box, peer(box.server) as one:
        assert await asked(one, "StartTransaction", start) == first
        assert (await box.the_row())["transaction"] == str(first["transactionId"])


async def test_stops_without_a_number_end_the_session_that_fits(tmp_path: Path) -> None:
    """Row 8: started offline, so the station never learnt the number."""
    clock = LeapClock()
    async with the_box(tmp_path, clock) as box, peer(box.server) as one:
        await one.boot()
        number = await starts(one, box)
        clock.leapt_s += 600
        await stops(one, box, -1, 2500)
        row = await box.the_row()
        assert (row["transaction"], row["energy_wh"]) == (str(number), 1500)
        assert row["marks"] == ["stop-correlated"]
        await stops(one, box, 0, 2500)
        marks = [each["marks"] for each in await box.rows()]
        assert ["orphan-stop"] in marks and len(marks) == 2, "a second one fits nothing"


async def test_a_transaction_that_nobody_knows_becomes_a_session_and_its_stop_ends_it(tmp_path: Path) -> None:
    """Rows 8 and 11: the box lost its ledger while a vehicle charged."""
    clock = LeapClock()
    async with the_box(tmp_path / "old", clock) as box, peer(box.server) as one:
        await one.boot()
        number = await starts(one, box) + 40
    clock.leapt_s += 100
    async with the_box(tmp_path / "new", clock) as box, peer(box.server) as one:
        await status(one, "Charging")
        for second in range(4):
            await metered(one, box, 2000 + 100 * second, number)
            clock.leapt_s += 9
            assert await box.rows() == [], "its start may still be repeated"
        await metered(one, box, 2400, number)
        row = await box.the_row()
        assert (row["transaction"], row["token"], row["register_start_wh"]) == (str(number), None, 2400)
        assert row["marks"] == ["start-inferred", "unknown-transaction"]
        clock.leapt_s += 600
        await metered(one, box, 3400, number)
        await stops(one, box, number, 3500)
        row = await box.the_row()
        assert (row["energy_wh"], row["stop_reason"]) == (1100, "Local")


async def test_a_start_that_is_repeated_in_time_is_the_session(tmp_path: Path) -> None:
    clock = LeapClock()
    async with the_box(tmp_path, clock) as box, peer(box.server) as one:
        await one.boot()
        await metered(one, box, 2000, 77)
        clock.leapt_s += 20
        number = await starts(one, box)
        clock.leapt_s += 20
        await metered(one, box, 2100, 77)
        await metered(one, box, 2200, 77)
        assert (await box.the_row())["transaction"] == str(number)


async def test_a_restart_of_the_box_in_a_session_makes_no_second_one(tmp_path: Path) -> None:
    clock = LeapClock()
    async with the_box(tmp_path, clock) as box, peer(box.server) as one:
        await one.boot()
        number = await starts(one, box)
    async with the_box(tmp_path, clock) as box, peer(box.server) as one:
        for second in range(5):
            await metered(one, box, 1500 + second, number)
            clock.leapt_s += 15
        await stops(one, box, number, 1550)
        row = await box.the_row()
        assert (row["transaction"], row["energy_wh"], row["stop_reason"]) == (str(number), 550, "Local")


async def test_a_power_cut_leaves_no_token_in_use(tmp_path: Path) -> None:
    """Row 12: the station boots, is free, and never tells the stop."""
    clock = LeapClock()
    async with the_box(tmp_path, clock) as box, peer(box.server) as one:
        await one.boot()
        await status(one, "Charging")
        await starts(one, box)
        await one.boot()
        await status(one, "Available")
        box.step()
        assert (await box.the_row())["ended"] is None, "perhaps it goes on"
        clock.leapt_s += 40
        box.step()
        row = await box.the_row()
        assert (row["stop_reason"], row["marks"]) == ("unknown", ["stop-missing"])


async def test_values_after_the_stop_correct_the_session_and_start_none(tmp_path: Path) -> None:
    """Row 44."""
    clock = LeapClock()
    async with the_box(tmp_path, clock) as box, peer(box.server) as one:
        await one.boot()
        number = await starts(one, box)
        clock.leapt_s += 600
        await stops(one, box, number, 2500)
        await metered(one, box, 2600, number)
        clock.leapt_s += 60
        await metered(one, box, 2600, number)
        row = await box.the_row()
        assert (row["energy_wh"], row["marks"]) == (1600, ["late-value"])
        assert box.runtime.depot.token(EVSE) is None


def event_2(box: Books, kind: str, seq: int, **more: Any) -> dict[str, Any]:
    return {
        "eventType": kind,
        "timestamp": box.clock.text(),
        "triggerReason": "ChargingStateChanged",
        "seqNo": seq,
        "transactionInfo": {"transactionId": "tx-1", "chargingState": "Charging"},
        "evse": {"id": 1, "connectorId": 1},
        **more,
    }


def register_2(register: float) -> dict[str, Any]:
    sampled = [{"value": register, "measurand": REGISTER, "context": "Transaction.End"}]
    return {"meterValue": [{"timestamp": "2026-11-22T12:00:00Z", "sampledValue": sampled}]}


async def test_a_driver_who_comes_after_the_energy_is_answered_and_stored(tmp_path: Path) -> None:
    clock = LeapClock()
    async with the_box(tmp_path, clock) as box, station(box.server, "2.0.1") as one:
        await boot(one)
        await asked(one, "TransactionEvent", event_2(box, "Started", 0))
        assert (await box.the_row())["token"] is None
        said = await asked(one, "TransactionEvent", event_2(box, "Updated", 1, **token("BAD")))
        assert said["idTokenInfo"]["status"] == "Blocked"
        row = await box.the_row()
        assert (row["token"], row["marks"]) == ("BAD", ["token-refused"])


async def test_a_late_start_finds_its_stop_in_the_ledger(tmp_path: Path) -> None:
    clock = LeapClock()
    async with the_box(tmp_path, clock) as box, station(box.server, "2.0.1") as one:
        await boot(one)
        await asked(one, "TransactionEvent", event_2(box, "Ended", 4, **register_2(3000)))
        assert (await box.the_row())["marks"] == ["orphan-stop"]
    async with the_box(tmp_path, clock) as box, station(box.server, "2.0.1") as one:
        late = event_2(box, "Started", 0, **token("TAG1"), **register_2(1000), offline=True)
        await asked(one, "TransactionEvent", late)
        row = await box.the_row()
        assert (row["energy_wh"], row["token"]) == (2000, "TAG1")
        assert row["marks"] == ["orphan-stop", "matched"]
        assert box.runtime.depot.token(EVSE) is None
    async with the_box(tmp_path, clock) as box, station(box.server, "2.0.1") as one:
        assert (await asked(one, "TransactionEvent", late))["idTokenInfo"]["status"] == "Accepted"
        assert (await box.the_row())["marks"] == ["orphan-stop", "matched"], "once found, it stays found"
