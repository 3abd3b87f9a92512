"""A whole depot with nothing but the on-site host: the real controller, a simulated charger on a real socket, a program
on site. Owns the wiring of config and composition; what host and charger do in detail has tests of its own.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp

from controller.cli.books import FinishedSessions
from controller.cli.compose import House
from controller.clock import SystemClock
from controller.config import load
from controller.core.commands import RecordSaved, SessionSaved
from controller.core.model import EvseId
from controller.core.snapshot import EvseView, OrderView, Snapshot
from controller.ledger import Ledger
from controller.runtime import Runtime
from controller.storage import LEDGER, Storage
from drivers.sim.device import SimDevice
from drivers.sim.quirks import DeviceQuirks
from drivers.sim.v2g import V2gEvse
from drivers.sim.vehicle import Vehicle
from drivers.sim.world import SimCircuit, World
from ui.client import Client

SPEED = 10.0
DEADLINE_S = 20.0
CHANNEL = "open-platform/onsite"
SECRET = "the energy manager's own"


def config(port: int) -> str:
    return f"""
[site]
name = "On its own"
timezone = "Europe/Amsterdam"
limit = "63 A"
assumed_load = "10 A"
[open_platform]
mode = "sole"
enabled_by = "J. de Vries, 2026-11-20"
purposes = ["monitor", "control", "flexibility", "v2g"]
[open_platform.onsite]
listen = "127.0.0.1:{port}"
clients = [{{ id = "ems", secret_file = "ems.secret", scopes = ["read", "write"] }}]
[station.TP1]
circuit = "site"
fallback = "6 A"
evse.1 = {{ max = "32 A", min = "6 A", phases = "L1 L2 L3" }}
open_platform = {{ serial = "SN-1", model = "TP-AC22", link = "onsite", autostart = true }}
[storage]
path = "state"
[control]
socket = "control.sock"
"""


@dataclass
class Site:
    """What stays while controllers come and go: the copper and the charger with its memory. `port` is the host's, from
    its first start on."""

    folder: Path
    clock: SystemClock = field(default_factory=lambda: SystemClock(SPEED))
    evse: V2gEvse = field(default_factory=lambda: V2gEvse("TP1/1", 32.0))
    memory: dict[str, Any] = field(default_factory=dict)
    port: int = 0
    device: SimDevice | None = None
    _living: list[asyncio.Task[None]] = field(default_factory=list)

    def power_up(self) -> None:
        """The world begins, and the charger dials."""
        world = World(self.clock, 1, {"site": SimCircuit(None, 63.0)}, [self.evse], lambda _: (1.0, 1.0, 1.0))
        url = f"http://127.0.0.1:{self.port}/v1"
        quirks = DeviceQuirks(spread_s=1.0)
        self.device = SimDevice(
            "SN-1", "TP-AC22", "260420.0107", url, [self.evse], self.clock, self.memory, quirks=quirks
        )
        self._living = [asyncio.create_task(self.device.run()), asyncio.create_task(world.run())]

    async def power_down(self) -> None:
        for task in self._living:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    @asynccontextmanager
    async def controller(self) -> AsyncIterator[Depot]:
        secret = self.folder / "ems.secret"
        secret.touch(mode=0o600)
        secret.write_text(SECRET)
        file = self.folder / "depot.toml"
        file.write_text(config(self.port))
        house = House(load(file), self.clock)
        async with house.open() as runtime:
            depot = Depot(self, house, runtime, Client(self.folder / "control.sock"))
            running = asyncio.create_task(house.run(runtime))
            try:
                await depot.until(lambda: depot.channel()[0] == "ok" or running.done())
                self.port = int(depot.channel()[1].rpartition(":")[2])
                yield depot
            finally:
                running.cancel()
                await asyncio.wait({running})
                if not running.cancelled():
                    running.result()


@dataclass
class Depot:
    site: Site
    house: House
    runtime: Runtime
    client: Client

    @property
    def snapshot(self) -> Snapshot:
        assert self.runtime.snapshot is not None
        return self.runtime.snapshot

    @property
    def view(self) -> EvseView:
        [evse] = self.snapshot.evses
        return evse

    def channel(self) -> tuple[str, str]:
        """State and address of the on-site host."""
        found = [(each.state, each.host or "") for each in self.snapshot.channels if each.id == CHANNEL]
        return found[0] if found else ("", "")

    async def until(self, condition: Callable[[], object]) -> None:
        seen = None
        try:
            async with asyncio.timeout(DEADLINE_S):
                seen = await self.runtime.next_snapshot(seen)
                while not condition():
                    seen = await self.runtime.next_snapshot(seen)
        except TimeoutError:
            alarms = [(alarm.kind, alarm.text) for alarm in self.snapshot.alarms]
            raise AssertionError(f"never: {self.view} {self.snapshot.orders} {alarms}") from None

    async def order(self, name: str, **args: object) -> OrderView:
        """Gives an order over the control socket and follows it to its end."""
        order = (await self.client.call(name, **args))["order"]
        await self.until(lambda: any(o.id == order and o.outcome for o in self.snapshot.orders))
        return next(o for o in self.snapshot.orders if o.id == order)

    def drawn_a(self) -> float:
        """Truth, of the highest phase."""
        return max(map(abs, self.site.evse.current_a))

    async def the_session(self) -> dict[str, Any]:
        """The only session there ever was, once the charger's own record of it has come; `energy_wh` ends with the last
        sample before the stop (5 s apart), and the record tells what is missing."""
        query = "SELECT energy_wh, gap_wh FROM records WHERE session = ?"
        [session] = await self.runtime.ledger.sessions()
        async with asyncio.timeout(DEADLINE_S):
            while not (
                found := await self.house.storage.read(
                    LEDGER, lambda db: db.execute(query, (session["id"],)).fetchall()
                )
            ):
                await self.runtime.next_snapshot(self.runtime.snapshot)
        [(energy_wh, gap_wh)] = found
        assert session["energy_wh"] + gap_wh == energy_wh
        assert 0 <= gap_wh <= 22_000 * 6 / 3600
        return session | {"charger_wh": energy_wh}

    async def ask_host(self, path: str, **query: str) -> Any:
        """What the program on site reads with a token of its own."""
        credentials = {"client_id": "ems", "client_secret": SECRET, "grant_type": "client_credentials"}
        url = f"http://127.0.0.1:{self.site.port}/v1/operator"
        async with aiohttp.ClientSession() as http:
            async with http.post(f"{url}/oauth/token", json=credentials) as answer:
                token = (await answer.json())["access_token"]
            headers = {"Authorization": f"Bearer {token}"}
            async with http.get(f"{url}{path}", params=query, headers=headers) as answer:
                body = await answer.json()
                assert (answer.status, body["code"]) == (200, 0), body
                return body["data"]


@asynccontextmanager
async def living_site(folder: Path) -> AsyncIterator[tuple[Site, Depot]]:
    """A controller, and a charger that has found it."""
    site = Site(folder)
    try:
        async with site.controller() as depot:
            site.power_up()
            await depot.until(lambda: depot.view.connected and depot.view.fallback_stored)
            yield site, depot
            await site.power_down()
    finally:
        await site.power_down()


def bus(soc: float = 0.3) -> Vehicle:
    return Vehicle("BUS", None, battery_wh=94_000.0, soc=soc, max_a=32.0)


async def test_a_vehicle_charges_and_is_limited_and_its_session_is_in_the_books(tmp_path: Path) -> None:
    async with living_site(tmp_path) as (site, depot):
        site.evse.plug(bus())
        await depot.until(lambda: depot.drawn_a() > 31.0)
        assert depot.view.session is not None, "started by itself"

        began_s = asyncio.get_running_loop().time()
        order = (await depot.client.call("limit", evse="TP1/1", limit_ma=10_000))["order"]
        connector = site.device.connectors[0]
        await depot.until(lambda: connector.limit is not None and connector.limit.power_w == 6_900.0)
        assert asyncio.get_running_loop().time() - began_s < 1.0
        await depot.until(lambda: any(o.id == order and o.outcome == "done" for o in depot.snapshot.orders))
        assert 9.0 < depot.drawn_a() <= 10.0

        stopped = await depot.order("stop", evse="TP1/1")
        assert stopped.outcome == "done", stopped
        await depot.until(lambda: depot.view.session is None)
        session = await depot.the_session()
        assert session["ended"] is not None
        assert abs(session["charger_wh"] - site.evse.register_wh) <= 1

        read = await depot.ask_host("/charging-records")
        assert read["total"] == 1
        [record] = read["items"]
        assert (record["record_id"], record["energy"]) == (session["id"], session["energy_wh"] / 1e3)
        assert (record["meter_start"], record["meter_end"]) == (0, session["charger_wh"] / 1e3)
        assert "vin" not in json.dumps(read)
        sites = await depot.ask_host("/sites", status="active")
        assert sites["items"][0]["total_connectors"] == 1, "the snapshot is seen"


async def test_flexibility_brakes_and_lets_go(tmp_path: Path) -> None:
    async with living_site(tmp_path) as (site, depot):
        site.evse.plug(bus())
        await depot.until(lambda: depot.drawn_a() > 31.0)
        braked = await depot.order("flex", percent=30, duration_s=1800, circuit="site")
        assert (braked.outcome, [stage for stage, _ in braked.stages]) == ("done", ["applied", "measured"])
        assert 8.0 < depot.drawn_a() <= 9.6, "30 % of 32 A, in whole amps"
        assert "flexibility by" in depot.view.bound_by
        paused = await depot.order("flex", percent=0, duration_s=600)
        assert (paused.outcome, depot.drawn_a()) == ("done", 0.0)
        assert depot.view.session is not None, "paused, not stopped"
        await depot.client.call("flex-end")
        await depot.until(lambda: depot.drawn_a() > 31.0)


async def test_a_vehicle_feeds_back_and_is_left_above_its_floor(tmp_path: Path) -> None:
    async with living_site(tmp_path) as (site, depot):
        site.evse.plug(bus(0.6))
        await depot.until(lambda: depot.drawn_a() > 31.0)
        wanted = await depot.order("discharge", evse="TP1/1", power_w=5_000, min_soc=40, duration_s=1800)
        assert (wanted.outcome, [stage for stage, _ in wanted.stages]) == (
            "done", ["sent", "accepted", "applied", "measured"]
        ), wanted  # fmt: skip
        assert site.evse.power_w < -4_500.0
        assert depot.view.state == "discharging"
        assert (await depot.order("stop", evse="TP1/1")).outcome == "done"
        await depot.until(lambda: depot.drawn_a() == 0.0)


async def test_after_a_restart_of_the_host_the_charger_is_who_it_was(tmp_path: Path) -> None:
    site = Site(tmp_path)
    try:
        async with site.controller() as depot:
            site.power_up()
            await depot.until(lambda: depot.view.connected)
            site.evse.plug(bus())
            await depot.until(lambda: depot.drawn_a() > 6.0)
            before = depot.view.session
            identity = dict(site.memory["identity"])
        assert site.evse.energised, "it goes on alone"
        async with site.controller() as depot:
            await depot.until(lambda: depot.view.connected)
            await depot.until(lambda: depot.view.state == "charging" and depot.view.session)
            assert site.memory["identity"] == identity
            assert not [alarm for alarm in depot.snapshot.alarms if alarm.kind == "access"]
            after = depot.view.session
            assert before is not None and after is not None and after.id == before.id
            assert (await depot.order("stop", evse="TP1/1")).outcome == "done"
            session = await depot.the_session()
            assert abs(session["charger_wh"] - site.evse.register_wh) <= 1
            await site.power_down()
    finally:
        await site.power_down()


async def test_turned_off_by_the_customer_nothing_listens(tmp_path: Path) -> None:
    async with living_site(tmp_path) as (site, depot):
        told = await depot.client.call("channel-disable", channel=CHANNEL)
        assert [(each["id"], each["enabled"]) for each in told["channels"]] == [(CHANNEL, False)]
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", site.port)
        except ConnectionRefusedError:
            pass
        else:
            writer.close()
            raise AssertionError("the port is still open")
        await depot.until(lambda: not depot.view.connected)
        assert depot.channel()[0] == "off"


# --- the books that programs on site may read -----------------------------------------------------------------------

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def saved(name: str, evse: str, started: datetime, ended: datetime | None) -> SessionSaved:
    return SessionSaved(
        name, EvseId(evse), f"t-{name}", "04A2B3C4", None, started, ended, 5_000, 0, 5_000, "operator", ()
    )


async def test_books_hold_finished_sessions_of_these_evses_oldest_first(tmp_path: Path) -> None:
    storage = Storage(tmp_path / "state")
    await storage.open()
    try:
        hours = [NOON + timedelta(hours=n) for n in range(5)]
        ours = (EvseId("TP1/1"), EvseId("TP2/1"))
        first = RecordSaved("r1", ours[0], "s1", hours[0], hours[1], 2_000, 0, 10_000, 12_000)
        second = RecordSaved("r2", ours[0], "s1", hours[1], hours[2], 3_000, 0, 12_000, 15_000)
        entries = [
            saved("s2", "TP2/1", hours[1], hours[2]),
            saved("s1", "TP1/1", hours[0], hours[2]),
            saved("s3", "TP1/1", hours[2], hours[3]),
            saved("running", "TP1/1", hours[3], None),
            saved("theirs", "CP1/1", hours[1], hours[2]),
            first,
            second,
        ]
        await Ledger(storage).append(entries)
        books = FinishedSessions(storage, ours)

        async def names(*args: Any) -> tuple[int, list[str]]:
            total, found = await books(*args)
            return total, [book.record for book in found]

        assert await names(None, None, ours, 0, 10) == (3, ["s1", "s2", "s3"])
        assert await names(None, None, (*ours, EvseId("CP1/1")), 0, 10) == (3, ["s1", "s2", "s3"]), (
            "not OCPP's"
        )
        assert await names(None, None, ours, 1, 1) == (3, ["s2"]), "a page"
        assert await names(hours[1], hours[2], ours, 0, 10) == (1, ["s2"]), "from, and before"
        assert await names(None, None, ours[:1], 0, 10) == (2, ["s1", "s3"])
        _, [one, two] = await books(None, None, ours, 0, 2)
        assert (one.started, one.ended, one.energy_wh, one.reason) == (hours[0], hours[2], 5_000, "operator")
        assert (one.register_start_wh, one.register_end_wh) == (10_000, 15_000), "both records of it"
        assert (two.register_start_wh, two.register_end_wh) == (None, None), "not 0"
    finally:
        await storage.close()
