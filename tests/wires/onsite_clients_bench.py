"""The operator surface on a real socket, over a snapshot that tests set and a core that only remembers what it was told."""

from __future__ import annotations

import asyncio
import socket as sockets
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
from aiohttp import web

from controller.core.events import Event
from controller.core.model import (
    SITE,
    CircuitId,
    Evse,
    EvseId,
    EvseState,
    Link,
    Moment,
    PerPhase,
    StationId,
    VehicleId,
    Verdict,
    each_phase,
)
from controller.core.readings import Readings
from controller.core.snapshot import CircuitView, EvseView, OrderView, SessionView, Snapshot
from drivers.openplatform.answers import guard
from drivers.openplatform.clients import CHANNEL, ClientSurface, LocalClient
from drivers.openplatform.clients_books import Book
from drivers.openplatform.clients_words import LocalDevice

NOON = datetime(2026, 6, 2, 12, 0, 0, tzinfo=UTC)
PURPOSES = frozenset({"monitor", "control", "flexibility", "v2g"})
SLOT = {"start": "22:00", "end": "06:00", "action": "charge"}
PLAN = {
    "schedule_id": "nights",
    "enabled": True,
    "type": "daily",
    "timezone": "Europe/Berlin",
    "time_slots": [SLOT],
}
PAUSE = {"target_type": "all", "command": "pause_charging", "params": {"duration": 600}}
CLIENTS = (
    LocalClient("ems", "ems-secret", frozenset({"read", "write"})),
    LocalClient("viewer", "viewer-secret", frozenset({"read"})),
    LocalClient("hand", "hand-secret", frozenset({"write"})),
    LocalClient("void", "", frozenset({"read", "write"})),
)


class HandClock:
    """Time that passes only when told."""

    def __init__(self) -> None:
        self.mono_s = 1000.0
        self._sleepers: list[tuple[float, asyncio.Event]] = []

    def now(self) -> Moment:
        return Moment(self.mono_s, NOON + timedelta(seconds=self.mono_s - 1000.0))

    async def sleep(self, seconds: float) -> None:
        due = asyncio.Event()
        self._sleepers.append((self.mono_s + seconds, due))
        await due.wait()

    def advance(self, seconds: float) -> None:
        self.mono_s += seconds
        for due_s, event in self._sleepers:
            if due_s <= self.mono_s:
                event.set()


@dataclass
class Said:
    verdict: Verdict = Verdict.ACCEPTED
    transaction: str | None = None


def evse(station: str, number: int, phases: tuple[int, ...] = (0, 1, 2)) -> Evse:
    id = EvseId(f"{station}/{number}")
    return Evse(id, StationId(station), SITE, 32_000, 6_000, phases, 6_000, Link(CHANNEL, 120, 5, 1, 10))


def devices() -> dict[str, LocalDevice]:
    return {
        "dvc_1": LocalDevice(
            "dvc_1",
            {1: evse("CP1", 1), 2: evse("CP1", 2, (0,))},
            "SN1",
            "Tellus Power",
            "TP-DC180",
            "260420.0107",
            NOON,
        ),
        "dvc_2": LocalDevice("dvc_2", {1: evse("CP2", 1)}),
    }


def view(evse: str, state: EvseState = EvseState.AVAILABLE, **more: Any) -> EvseView:
    unknown: PerPhase[int | None] = each_phase(None)
    plain = EvseView(
        EvseId(evse), StationId(evse.partition("/")[0]), SITE, True, (CHANNEL,), state, 32_000, None, None, None,
        unknown, None, 6_000, "", False, None, 6_000, True, None, None, None, "",
    )  # fmt: skip
    return plain._replace(**more)


def session(id: str = "s-1", energy_wh: int = 5_400, soc: int | None = 58) -> SessionView:
    return SessionView(id, "…F00D", VehicleId("WZZTST00000000042"), NOON, energy_wh, soc, None, None)


def charging(evse: str, power_w: int = 22_100, **more: Any) -> EvseView:
    currents = PerPhase(32_000, 31_900, 31_800)
    return view(evse, EvseState.CHARGING, power_w=power_w, measured_ma=currents, session=session(**more))


def picture(*views: EvseView, orders: Sequence[OrderView] = (), at: datetime = NOON) -> Snapshot:
    limits = each_phase(250_000)
    unknown: PerPhase[int | None] = each_phase(None)
    sites = [(SITE, None, limits), (CircuitId("row"), SITE, each_phase(100_000))]
    circuits = tuple(
        CircuitView(id, parent, limit, unknown, unknown, each_phase(0), None, None, None)
        for id, parent, limit in sites
    )
    default = [view("CP1/1"), view("CP1/2"), view("CP2/1", connected=False, state=EvseState.OFFLINE)]
    shown = {one.id: one for one in [*default, *views]}
    return Snapshot(
        at,
        "Depot Noord",
        "auto",
        "",
        "Europe/Amsterdam",
        circuits,
        tuple(shown.values()),
        (),
        (),
        (),
        tuple(orders),
    )


def order(
    id: str, evse: str = "CP1/1", stages: str = "", outcome: str | None = None, reason: str | None = None
) -> OrderView:
    reached = tuple((stage, NOON) for stage in stages.split())
    return OrderView(id, "start", EvseId(evse), "client ems", "", reached, outcome, reason)


@dataclass
class Answer:
    status: int
    body: Any
    headers: Any

    @property
    def data(self) -> Any:
        assert (self.status, self.body["code"]) == (200, 0), self.body
        return self.body["data"]

    @property
    def refusal(self) -> tuple[int, int, str | None]:
        """HTTP status, code, and the field it names."""
        assert self.body["code"] != 0 and self.body["data"] is None, self.body
        return self.status, self.body["code"], self.body.get("details", {}).get("field")


@dataclass
class Bench:
    clock: HandClock
    http: aiohttp.ClientSession
    url: str
    surface: ClientSurface
    said: list[Event] = field(default_factory=list)
    books: list[Book] = field(default_factory=list)
    shown: list[Snapshot | None] = field(default_factory=lambda: [picture()])
    token: str = ""
    breaks: bool = False
    running: asyncio.Task[None] | None = None

    def stop(self) -> None:
        assert self.running is not None
        self.running.cancel()

    def show(self, *views: EvseView, orders: Sequence[OrderView] = ()) -> None:
        """A new snapshot, at the clock's now."""
        self.shown[0] = picture(*views, orders=orders, at=self.clock.now().utc)

    async def report(self, event: Event) -> Said:
        if self.breaks:
            raise RuntimeError("the core /secret/path/ broke")
        self.said.append(event)
        return Said()

    async def read_books(
        self, since: datetime | None, until: datetime | None, evses: Collection[EvseId], skip: int, limit: int
    ) -> tuple[int, Sequence[Book]]:
        found = sorted(
            (
                b
                for b in self.books
                if b.evse in evses
                and (since is None or b.started >= since)
                and (until is None or b.started < until)
            ),
            key=lambda book: (book.started, book.record),
        )
        return len(found), found[skip : skip + limit]

    async def call(
        self, method: str, path: str, body: Any = None, token: str | None = None, **query: str
    ) -> Answer:
        token = self.token if token is None else token
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        more = {"data": body} if isinstance(body, bytes) else {"json": body}
        async with self.http.request(
            method, f"{self.url}{path}", params=query, headers=headers, **more
        ) as answer:
            assert answer.content_type == "application/json"
            return Answer(answer.status, await answer.json(), answer.headers)

    async def get(self, path: str, **query: str) -> Answer:
        return await self.call("GET", path, **query)

    async def post(self, path: str, body: Any = None) -> Answer:
        return await self.call("POST", path, body)

    async def log_in(self, client: str = "ems", secret: str | None = None) -> Answer:
        body = {
            "client_id": client,
            "client_secret": f"{client}-secret" if secret is None else secret,
            "grant_type": "client_credentials",
        }
        answer = await self.call("POST", "/oauth/token", body, token="")
        if answer.status == 200:
            self.token = answer.body["access_token"]
        return answer

    async def progress(self, command_id: str) -> tuple[str, Any]:
        data = (await self.get(f"/commands/{command_id}")).data
        return data["status"], data.get("result")


AMPLE = replace(Readings(), gets_per_min=10_000, controls_per_min=10_000, tokens_per_min=10_000)


@asynccontextmanager
async def onsite(
    readings: Readings = AMPLE,
    purposes: frozenset[str] = PURPOSES,
    listen: sockets.socket | None = None,
    permits: Mapping[StationId, frozenset[str]] | None = None,
) -> AsyncIterator[Bench]:
    clock = HandClock()
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as http:
        bench: Bench = Bench(clock, http, "", None)  # type: ignore[arg-type]
        bench.surface = ClientSurface(
            CLIENTS,
            devices(),
            lambda: bench.shown[0],
            bench.report,
            clock,
            bench.read_books,
            purposes,
            readings,
            "st-a",
            permits or {},
        )
        app = web.Application(middlewares=[guard])
        app.add_routes(bench.surface.routes())
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0, lingering_time=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0) if listen is None else web.SockSite(runner, listen)
        await site.start()
        bench.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1/operator"
        bench.running = asyncio.create_task(bench.surface.run())
        try:
            await bench.log_in()
            yield bench
        finally:
            bench.stop()
            await asyncio.wait({bench.running})
            await runner.cleanup()
