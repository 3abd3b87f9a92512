"""The border between OCPP and its companion: which commands pass, what they may carry, which facts come in."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from controller.cli.compose import House
from controller.clock import SystemClock
from controller.companion import Companion, without_sessions
from controller.config import load
from controller.consent import Switch
from controller.core import events as ev
from controller.core.applied import Applied
from controller.core.commands import (
    Command,
    DropSchedule,
    SetLimit,
    StartCharging,
    StartDischarge,
    StopCharging,
    StoreSchedule,
    StoreTokens,
    UpgradeFirmware,
)
from controller.core.depot import Depot
from controller.core.model import (
    SITE,
    Circuit,
    Evse,
    EvseId,
    EvseState,
    Link,
    Moment,
    PerPhase,
    Schedule,
    ScheduleType,
    Site,
    StationId,
    each_phase,
)
from controller.ports import Answer, Report
from drivers.openplatform.onsite import OnsiteHost

CLOUD = "open-platform/cloud"
LED, OWN = EvseId("LED/1"), EvseId("OWN/1")
NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
PLAN = Schedule("nights", ScheduleType.DAILY, True, "UTC", ())


class Beyond:
    """The charger on the other side of the border."""

    def __init__(self, *facts: ev.Event) -> None:
        self.sent: list[Command] = []
        self.facts = facts
        self.answers: list[Answer] = []

    def send(self, command: Command) -> None:
        self.sent.append(command)

    async def run(self, report: Report) -> None:
        for fact in self.facts:
            self.answers.append(await report(fact))
        await asyncio.Event().wait()


class Here:
    """The depot's side: what was reported."""

    def __init__(self) -> None:
        self.heard: list[ev.Event] = []
        self.news = asyncio.Event()

    async def __call__(self, event: ev.Event) -> Applied:
        self.heard.append(event)
        self.news.set()
        return Applied(transaction="77")

    async def until(self, count: int) -> None:
        async with asyncio.timeout(5):
            while len(self.heard) < count:
                self.news.clear()
                await self.news.wait()


@contextlib.asynccontextmanager
async def border(
    *permit: str, facts: tuple[ev.Event, ...] = ()
) -> AsyncIterator[tuple[Companion, Beyond, Here]]:
    beyond, here = Beyond(*facts), Here()
    companion = Companion(beyond, CLOUD, {StationId("LED"): frozenset(permit)})
    running = asyncio.create_task(companion.run(here))
    try:
        yield companion, beyond, here
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


NEEDS = [
    (StartCharging("c", LED, CLOUD, "TAG1", 6_000), "start"),
    (StopCharging("c", LED, CLOUD, "T1", "operator"), "stop"),
    (SetLimit("c", LED, CLOUD, 6_000, 60.0, "T1"), "schedule"),
    (StoreSchedule("c", LED, CLOUD, PLAN), "schedule"),
    (DropSchedule("c", LED, CLOUD, "nights"), "schedule"),
]


@pytest.mark.parametrize(("command", "word"), NEEDS)
async def test_what_belongs_to_sessions_needs_a_permit(command: Command, word: str) -> None:
    others = {"start", "stop", "schedule"} - {word}
    async with border(*others) as (companion, beyond, here):
        companion.send(command)
        await here.until(1)
        assert here.heard == [
            ev.CommandRefused("c", f"OCPP leads here, and {CLOUD} is not permitted to {word}")
        ]
        assert beyond.sent == []
    async with border(word) as (companion, beyond, here):
        companion.send(command)
        [sent] = beyond.sent
        assert (getattr(sent, "token", None), getattr(sent, "transaction", None)) == (None, None)
        assert (sent.id, sent.evse) == ("c", LED)


async def test_id_tokens_never_pass() -> None:
    async with border("start", "stop", "schedule") as (companion, beyond, here):
        companion.send(StoreTokens("c", LED, CLOUD, 1, ()))
        await here.until(1)
        assert beyond.sent == []


@pytest.mark.parametrize(
    "command",
    [
        StartDischarge("c", LED, CLOUD, 5_000, 600.0, 20),
        StopCharging("c", LED, CLOUD, None, "discharge over"),
        UpgradeFirmware("c", LED, CLOUD, "260420.0107"),
        StartCharging("c", OWN, CLOUD, "TAG1", 6_000),
        StopCharging("c", OWN, CLOUD, "T1", "operator"),
    ],
)
async def test_its_own_business_and_its_own_stations_pass_untouched(command: Command) -> None:
    async with border() as (companion, beyond, _):
        companion.send(command)
        assert beyond.sent == [command]


async def test_sessions_of_led_stations_do_not_come_in_and_everything_else_does() -> None:
    began = ev.TransactionStarted(LED, CLOUD, None, None, 0, NOW, inferred=True)
    own = ev.TransactionStarted(OWN, CLOUD, None, None, 0, NOW, inferred=True)
    state = ev.StatusChanged(LED, CLOUD, EvseState.DISCHARGING)
    sample = ev.EvseSample(LED, CLOUD, 1.0, PerPhase(-1, None, None), -230)
    ended = ev.TransactionEnded(StationId("LED"), LED, "", "inferred", None, NOW)
    record = ev.RecordReceived(LED, CLOUD, "r1", NOW, NOW, 100, None, None)
    async with border(facts=(began, own, state, sample, ended, record)) as (_, beyond, here):
        await here.until(4)
        assert here.heard == [own, state, sample, record]
        assert [answer.transaction for answer in beyond.answers[:2]] == [None, "77"]


async def test_what_ends_the_driver_ends_the_border() -> None:
    class Broken(Beyond):
        async def run(self, report: Report) -> None:
            raise OSError("gone")

    with pytest.raises(ExceptionGroup) as caught:
        await Companion(Broken(), CLOUD, {}).run(Here())
    assert caught.group_contains(OSError, match="gone")


def test_programs_on_site_see_no_session_of_ocpp() -> None:
    link = Link("ocpp", 180, 30, 10, 12)
    evses = {id: Evse(id, StationId(id[:3]), SITE, 32_000, 6_000, (0,), 6_000, link) for id in (LED, OWN)}
    circuit = Circuit(SITE, None, each_phase(63_000), None, each_phase(0))
    depot = Depot(Site("d", "UTC", 230_000, {SITE: circuit}, evses, accept_unknown_tokens=True), "1")
    for id in evses:
        depot.apply(ev.LinkUp(StationId(id[:3]), "ocpp1.6", "peer"), Moment(1.0, NOW))
        depot.apply(ev.TransactionStarted(id, "ocpp1.6", "T", "TAG1", 0, NOW), Moment(1.0, NOW))
    snapshot = depot.step(Moment(2.0, NOW)).snapshot
    seen = without_sessions(snapshot, {LED})
    assert [(view.id, view.session is None) for view in seen.evses] == [(LED, True), (OWN, False)]
    assert seen.evses[0]._replace(session=snapshot.evses[0].session) == snapshot.evses[0]


def test_the_house_puts_the_border_where_ocpp_leads(tmp_path: Path) -> None:
    (tmp_path / "depot.toml").write_text(COMPOSED)
    (tmp_path / "platform.secret").touch(mode=0o600)
    (tmp_path / "platform.secret").write_text("secret")
    house = House(load(tmp_path / "depot.toml"), SystemClock())
    kinds = {channel: type(charger) for channel, charger in house.wires.chargers.items()}
    assert kinds["open-platform/onsite"] is Companion
    assert kinds["open-platform/cloud"] is Switch, "its only station is its own"
    assert [switch.channel.id for switch in house.switches] == ["open-platform/cloud", "open-platform/onsite"]
    host = house.switches[1].driver
    assert isinstance(host, OnsiteHost)
    assert host._settings.permits == {StationId("LED"): frozenset({"start"})}
    [charger] = host._settings.chargers.values()
    links = {evse.link.channel for evse in charger.evses.values()}
    assert links == {"open-platform/onsite"}, "the host sees the EVSE with its own link"
    assert house.config.site.evses[LED].link.channel == "ocpp"


COMPOSED = """
[site]
name = "Yard"
timezone = "UTC"
limit = "100 A"
assumed_load = "20 A"
[ocpp]
listen = "127.0.0.1:0"
[open_platform]
mode = "companion"
enabled_by = "J. de Vries, 2026-11-20"
purposes = ["monitor", "v2g"]
[open_platform.cloud]
base_url = "http://127.0.0.1:1/v1"
region = "site"
client_id = "depot"
client_secret_file = "platform.secret"
[open_platform.onsite]
listen = "127.0.0.1:0"
[station.LED]
circuit = "site"
fallback = "6 A"
evse.1 = { max = "32 A" }
ocpp = { allow_insecure = true }
open_platform = { serial = "TP-2", model = "TP-AC22", link = "onsite", permit = ["start"] }
[station.OWN]
circuit = "site"
fallback = "6 A"
evse.1 = { max = "32 A" }
open_platform = { device_id = "dvc_1", link = "cloud" }
[storage]
path = "state"
[control]
socket = "control.sock"
"""
