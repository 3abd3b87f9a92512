"""Snapshots built by hand, and a source that plays them to the app: values, no mocks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from controller.core.model import (
    SITE,
    CircuitId,
    EvseId,
    EvseState,
    MeterId,
    PerPhase,
    Quality,
    StationId,
    VehicleId,
    each_phase,
)
from controller.core.snapshot import (
    AlarmView,
    ChannelView,
    CircuitView,
    EvseView,
    MeterView,
    OrderView,
    SessionView,
    Snapshot,
)
from ui.client import CallRefused, Disconnected, NotReachable

NOW = datetime(2026, 11, 22, 18, 42, 7, tzinfo=UTC)
ROW_A = CircuitId("row_a")
MAIN = MeterId("main")


def session(vehicle: str | None = "BUS-03", **changes: Any) -> SessionView:
    base = SessionView(
        id="s-1",
        token="…7F2A",
        vehicle=VehicleId(vehicle) if vehicle else None,
        started=NOW - timedelta(hours=1, minutes=44),
        energy_wh=12_300,
        soc=55,
        departs=NOW + timedelta(hours=10, minutes=48),
        short_wh=0,
    )
    return base._replace(**changes)


def evse(station: str, **changes: Any) -> EvseView:
    """An AC EVSE that charges a bus with 16 A."""
    base = EvseView(
        id=EvseId(f"{station}/1"),
        station=StationId(station),
        circuit=ROW_A,
        connected=True,
        channels=("ocpp1.6",),
        state=EvseState.CHARGING,
        limit_ma=32_000,
        grant_ma=16_000,
        commanded_ma=16_000,
        accepted_ma=16_000,
        measured_ma=PerPhase(15_800, 15_710, 15_900),
        power_w=10_900,
        commitment_ma=16_000,
        bound_by="circuit row_a L2",
        paused=False,
        operator_limit_ma=None,
        fallback_ma=6_000,
        fallback_stored=True,
        lease_left_s=142.0,
        session=session(),
        fault=None,
        identity="Tellus TP-AC22 260420.0107",
    )
    return base._replace(**changes)


def free(station: str) -> EvseView:
    return evse(
        station,
        state=EvseState.AVAILABLE,
        grant_ma=0,
        commanded_ma=6_000,
        accepted_ma=6_000,
        measured_ma=each_phase(0),
        power_w=0,
        commitment_ma=6_000,
        session=None,
        bound_by="",
    )


def circuit(**changes: Any) -> CircuitView:
    base = CircuitView(
        id=SITE,
        parent=None,
        limit_ma=each_phase(250_000),
        measured_ma=PerPhase(142_100, 139_000, 151_200),
        background_ma=PerPhase(40_200, 38_100, 44_000),
        committed_ma=PerPhase(158_000, 152_000, 159_000),
        meter=MAIN,
        meter_age_s=0.8,
        quality=Quality.GOOD,
    )
    return replace(base, **changes)


def meter(**changes: Any) -> MeterView:
    base = MeterView(
        id=MAIN,
        kind="sdm630",
        age_s=0.8,
        quality=Quality.GOOD,
        power_w=98_200,
        current_ma=PerPhase(142_100, 139_000, 151_200),
        import_wh=123_456_789,
        error=None,
    )
    return replace(base, **changes)


def alarm(priority: int, source: str, text: str, state: str = "unack", minutes: int = 7) -> AlarmView:
    since = NOW - timedelta(minutes=minutes)
    return AlarmView(f"a-{source}-{priority}", "test", priority, state, source, text, since)


def order(kind: str = "pause", reached: int = 2, **changes: Any) -> OrderView:
    """An order that reached the first `reached` of its four stages, at 0, 0.2, 4 and 6 seconds."""
    given = NOW - timedelta(seconds=9)
    after = (("sent", 0.0), ("accepted", 0.2), ("applied", 4.0), ("measured", 6.0))
    stages = tuple((name, given + timedelta(seconds=seconds)) for name, seconds in after[:reached])
    base = OrderView("o-12", kind, EvseId("CP001/1"), "tech", "", stages, None, None)
    return replace(base, **changes)


def normal() -> Snapshot:
    return Snapshot(
        time=NOW,
        site="Depot Noord",
        state="auto",
        text="",
        timezone="Europe/Amsterdam",
        circuits=(
            circuit(),
            circuit(
                id=ROW_A,
                parent=SITE,
                limit_ma=PerPhase(100_000, 100_000, 80_000),
                measured_ma=PerPhase(47_400, 47_200, 47_700),
                background_ma=each_phase(0),
                committed_ma=each_phase(60_000),
                meter=None,
                meter_age_s=None,
                quality=None,
            ),
        ),
        evses=(
            evse("CP001"),
            evse("CP002", session=session("BUS-07", energy_wh=31_700, soc=81)),
            evse("CP003", session=session(None, soc=None, departs=None), bound_by="station limit"),
            free("CP004"),
            free("CP005"),
            evse(
                "DC01",
                state=EvseState.DISCHARGING,
                limit_ma=250_000,
                grant_ma=14_500,
                commanded_ma=14_500,
                accepted_ma=125_000,
                measured_ma=each_phase(-14_320),
                power_w=-9_900,
                commitment_ma=125_000,
                session=session("VAN-1", soc=90, energy_wh=-4_200),
                channels=("open-platform/cloud",),
            ),
        ),
        meters=(
            meter(),
            meter(id=MeterId("pv"), age_s=1.2, power_w=-18_000),
        ),
        channels=(
            ChannelView("ocpp", "ok", "listening on port 8887"),
            ChannelView("open-platform/cloud", "ok", "", "platform.example", "eu", "J. de Vries, 2026-11-20"),
        ),
        alarms=(),
        orders=(),
    )


def abnormal() -> Snapshot:
    """One station gone with a vehicle on it, one that does not obey, one fault, a link down."""
    good = normal()
    evses = list(good.evses)
    evses[2] = evse(
        "CP003",
        connected=False,
        state=EvseState.OFFLINE,
        grant_ma=6_000,
        commanded_ma=6_000,
        accepted_ma=None,
        measured_ma=each_phase(None),
        power_w=None,
        commitment_ma=32_000,
        fallback_stored=False,
        lease_left_s=None,
        session=session(None, soc=None, departs=None),
    )
    evses[4] = free("CP005")._replace(state=EvseState.FAULTED, fault="GroundFailure")
    evses[1] = evses[1]._replace(session=session("BUS-07", short_wh=12_000), measured_ma=each_phase(31_900))
    return replace(
        good,
        evses=tuple(evses),
        alarms=(
            alarm(3, "site", "clock set by 2.1 s", "ack", 300),
            alarm(2, "CP002/1", "draws 31.9 A, accepted 16 A: counted as load", "unack", 2),
            alarm(1, "CP003", "offline with vehicle, 32 A reserved", "unack", 7),
            alarm(2, "CP005", "GroundFailure", "rtn-unack", 30),
        ),
        channels=(
            ChannelView("ocpp", "ok", ""),
            ChannelView("open-platform/cloud", "reconnecting", "token refused: 401"),
        ),
    )


def stale() -> Snapshot:
    """The main meter has been silent for 12 s."""
    good = normal()
    old = circuit(meter_age_s=12.0, quality=Quality.STALE, background_ma=each_phase(None))
    dead = replace(good.circuits[1], measured_ma=each_phase(None), quality=Quality.BAD)
    return replace(
        good,
        state="degraded",
        text="main meter silent for 12 s: background ramps to its worst case, no raises",
        circuits=(old, dead),
        meters=(
            meter(age_s=12.0, quality=Quality.STALE, error="timeout after 0.8 s (unit 1)"),
            meter(id=MeterId("pv"), age_s=None, quality=Quality.BAD, power_w=None),
        ),
        alarms=(alarm(2, "main", "meter silent, last value 12 s old", minutes=0),),
    )


def big(count: int) -> Snapshot:
    good = normal()
    return replace(good, evses=tuple(evse(f"CP{number:03}") for number in range(1, count + 1)))


LOOKS = frozenset(
    {
        "plan",
        "why",
        "history",
        "sessions",
        "channels",
        "egress",
        "alarm",
        "log",
        "preview",
        "whoami",
        "what-if",
        "frames",
    }
)


class ScriptedSource:
    """Plays what the test feeds it; records every call; answers as told."""

    def __init__(self, *news: Snapshot | Disconnected) -> None:
        self._news: asyncio.Queue[Snapshot | Disconnected] = asyncio.Queue()
        self.calls: list[tuple[str, dict[str, object]]] = []  # orders; what is only asked stands in `asked`
        self.asked: list[tuple[str, dict[str, object]]] = []
        self.documents: dict[str, dict[str, Any] | CallRefused | NotReachable] = {}
        self.answer: dict[str, Any] | CallRefused | NotReachable = {"order": "o-12"}
        self.hold = asyncio.Event()  # cleared: calls wait before they answer
        self.hold.set()
        for one in news:
            self.feed(one)

    def feed(self, news: Snapshot | Disconnected) -> None:
        self._news.put_nowait(news)

    async def watch(self) -> AsyncGenerator[Snapshot | Disconnected, None]:
        while True:
            yield await self._news.get()

    async def call(self, name: str, /, **args: object) -> dict[str, Any]:
        if name in LOOKS:
            self.asked.append((name, args))
            await self.hold.wait()
            document = self.documents.get(name, CallRefused("unknown-call", f"no call {name!r}"))
            if isinstance(document, Exception):
                raise document
            return document
        self.calls.append((name, args))
        await self.hold.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer
