"""A bare OCPP-J peer and a recording depot for the tests of the OCPP server: no code in common with what is tested."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from controller.clock import SystemClock
from controller.core.events import Event, TransactionStarted
from controller.core.model import CircuitId, Evse, Link, StationId, Verdict, evse_id
from drivers.ocpp.server import OcppServer, OcppSettings, Patience, StationSettings

WITHIN_S = 5.0
QUICK = Patience(safety_s=0.4, housekeeping_s=0.8, boot_s=0.15, ping_s=5.0, takeover_s=0.3)
PASSWORD = "correct horse"
LINK = Link("ocpp1.6", lease_s=180, lease_slack_s=5, raise_gap_s=30, answer_s=10)


def an_evse(station: str, number: int, phases: tuple[int, ...] = (0, 1, 2), fallback_ma: int = 6_000) -> Evse:
    return Evse(
        id=evse_id(station, number),
        station=StationId(station),
        circuit=CircuitId("site"),
        max_ma=32_000,
        min_ma=6_000,
        phases=phases,
        fallback_ma=fallback_ma,
        link=LINK,
    )


def a_station(name: str, evses: int = 1, fallback_ma: int = 6_000, **more: Any) -> StationSettings:
    numbers = range(1, evses + 1)
    return StationSettings(
        {number: an_evse(name, number, fallback_ma=fallback_ma) for number in numbers},
        **{"password": PASSWORD, **more},
    )


def settings(patience: Patience = QUICK, **stations: StationSettings) -> OcppSettings:
    chosen = stations or {"CP1": a_station("CP1"), "CP2": a_station("CP2", evses=2)}
    return OcppSettings(
        "127.0.0.1", 0, {StationId(name): each for name, each in chosen.items()}, patience=patience
    )


@dataclass(frozen=True)
class Said:
    verdict: Verdict = Verdict.ACCEPTED
    transaction: str | None = None
    group: str | None = None
    expires: datetime | None = None


@dataclass
class Depot:
    """Records what is reported; numbers transactions from 1001. `commit` holds their answers back."""

    events: list[Event] = field(default_factory=list)
    verdict: Verdict = Verdict.ACCEPTED
    commit: asyncio.Event = field(default_factory=asyncio.Event)
    news: asyncio.Condition = field(default_factory=asyncio.Condition)

    def __post_init__(self) -> None:
        self.commit.set()
        self._numbers = itertools.count(1001)

    async def report(self, event: Event) -> Said:
        self.events.append(event)
        async with self.news:
            self.news.notify_all()
        if isinstance(event, TransactionStarted):
            await self.commit.wait()
            return Said(self.verdict, str(next(self._numbers)))
        return Said(self.verdict)

    async def until(self, wanted: Callable[[Event], bool]) -> Any:
        """The first event that fits, now or within WITHIN_S."""

        def found() -> Event | None:
            return next((event for event in self.events if wanted(event)), None)

        async with self.news:
            try:
                return await asyncio.wait_for(self.news.wait_for(found), WITHIN_S)
            except TimeoutError:
                raise AssertionError(f"not reported; there was: {self.events[-20:]}") from None

    async def until_a(self, kind: type[Event], **fields: Any) -> Any:
        return await self.until(
            lambda event: (
                isinstance(event, kind)
                and all(getattr(event, name) == value for name, value in fields.items())
            )
        )

    def all(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


@asynccontextmanager
async def running(
    config: OcppSettings | None = None, speed: float = 1.0
) -> AsyncIterator[tuple[OcppServer, Depot]]:
    server, depot = OcppServer(config or settings(), SystemClock(speed)), Depot()
    task = asyncio.create_task(server.run(depot.report))
    try:
        await asyncio.wait_for(server.ready(), WITHIN_S)
        yield server, depot
    finally:
        task.cancel()
        await asyncio.wait({task}, timeout=WITHIN_S)
        assert task.cancelled(), "the server must live until it is cancelled, and end then"


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def now_text(offset_s: float = 0) -> str:
    moment = datetime.fromtimestamp(datetime.now(UTC).timestamp() + offset_s, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


LOADED = datetime.now(UTC)


def fresh(payload: Any) -> Any:
    """A payload that a table made when its module was loaded, as if it was made now: minutes may lie between, and a stamp
    of minutes ago is a replay."""
    if isinstance(payload, list):
        return [fresh(each) for each in payload]
    if not isinstance(payload, dict):
        return payload
    passed = datetime.now(UTC) - LOADED
    return {
        key: (datetime.fromisoformat(value) + passed).strftime("%Y-%m-%dT%H:%M:%SZ")
        if key == "timestamp" and isinstance(value, str)
        else fresh(value)
        for key, value in payload.items()
    }


ANSWERS: dict[str, dict[str, Any]] = {
    "GetConfiguration": {"configurationKey": [], "unknownKey": []},
    "ChangeConfiguration": {"status": "Accepted"},
    "SetChargingProfile": {"status": "Accepted"},
    "TriggerMessage": {"status": "Accepted"},
    "RemoteStartTransaction": {"status": "Accepted"},
    "RemoteStopTransaction": {"status": "Accepted"},
}


MAXIMUM = "SetChargingProfile of the station"


def _named(action: str, payload: dict[str, Any]) -> str:
    """The action; the station's own maximum goes by another name, so that counting limits stays simple."""
    profile = payload.get("csChargingProfiles") or payload.get("chargingProfile") or {}
    return MAXIMUM if 1 in (profile.get("chargingProfileId"), profile.get("id")) else action


class Peer:
    """One connection. Answers the server's calls from `answers` (None: stays mute) and keeps everything it got."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.answers: dict[str, Any] = dict(ANSWERS)
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.replies: list[list[Any]] = []
        self.news = asyncio.Condition()
        self._ids = itertools.count(1)
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for text in self.socket:
            frame = json.loads(text)
            if frame[0] == 2:
                self.calls.append((_named(frame[2], frame[3]), frame[3]))
                answer = self.answers[frame[2]]
                if callable(answer):
                    answer = answer(frame[3])
                if isinstance(answer, tuple):
                    await self.send([4, frame[1], *answer, {}])
                elif answer is not None:
                    await self.send([3, frame[1], answer])
            else:
                self.replies.append(frame)
            async with self.news:
                self.news.notify_all()
        async with self.news:
            self.news.notify_all()

    async def send(self, frame: object) -> None:
        await self.socket.send(frame if isinstance(frame, str | bytes) else json.dumps(frame))

    async def ask(self, action: str, payload: object) -> list[Any]:
        """Sends a call and returns the whole reply frame."""
        message_id = f"m{next(self._ids)}"
        await self.send([2, message_id, action, payload])
        return await self.reply_to(message_id)

    async def reply_to(self, message_id: str) -> list[Any]:
        def found() -> list[Any] | None:
            return next((frame for frame in self.replies if frame[1] == message_id), None)

        return await self._until(found)

    async def call_of(self, action: str, count: int = 1) -> dict[str, Any]:
        """The payload of the server's count-th call of `action`."""

        def found() -> dict[str, Any] | None:
            payloads = [payload for name, payload in self.calls if name == action]
            return payloads[count - 1] if len(payloads) >= count else None

        return await self._until(found)

    async def _until(self, found: Callable[[], Any]) -> Any:
        async with self.news:
            try:
                return await asyncio.wait_for(self.news.wait_for(found), WITHIN_S)
            except TimeoutError:
                raise AssertionError(f"did not come; calls {self.calls}, replies {self.replies}") from None

    async def boot(self) -> dict[str, Any]:
        reply = await self.ask(
            "BootNotification", {"chargePointVendor": "ACME", "chargePointModel": "Wall 22"}
        )
        assert reply[0] == 3
        return dict(reply[2])

    async def boot_and_settle(self, evses: int = 1) -> None:
        """Boots and waits until setup has asked its last question."""
        await self.boot()
        for number in range(1, evses + 1):
            await self._until(
                lambda number=number: any(
                    name == "TriggerMessage" and payload.get("connectorId") == number
                    for name, payload in self.calls
                )
            )

    async def closed(self) -> int:
        """The close code, once the server has hung up."""
        await asyncio.wait_for(self.socket.wait_closed(), WITHIN_S)
        await self.end()
        return self.socket.close_code or 0

    async def end(self) -> None:
        await self.socket.close()
        await asyncio.gather(self._reader, return_exceptions=True)


@asynccontextmanager
async def peer(
    server: OcppServer,
    name: str = "CP1",
    *,
    path: str | None = None,
    headers: dict[str, str] | None = None,
    **more: Any,
) -> AsyncIterator[Peer]:
    place = f"wss://127.0.0.1:{server.tls_port}" if "ssl" in more else f"ws://127.0.0.1:{server.port}"
    url = f"{place}{path or '/ocpp/' + name}"
    options: dict[str, Any] = {"subprotocols": ["ocpp1.6"], "close_timeout": 1, "ping_interval": None, **more}
    credentials = basic(name, PASSWORD) if headers is None else headers
    async with connect(url, additional_headers=credentials, **options) as socket:
        one = Peer(socket)
        try:
            yield one
        finally:
            await one.end()
