"""The depot on a real broker: what it says, what it takes, and what happens when the broker goes."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import mosquitto
import pytest
from mosquitto import DEADLINE_S, broker, free_port, listener

from controller.clock import SystemClock
from controller.core.applied import Applied
from controller.core.events import ChannelChanged, Event, LimitWished, PauseWished
from controller.core.model import CircuitId, EvseId, EvseState, StationId, VehicleId, each_phase
from controller.core.snapshot import AlarmView, CircuitView, EvseView, SessionView, Snapshot
from drivers.mqtt import link as link_module
from drivers.mqtt import words
from drivers.mqtt.link import MqttLink
from drivers.mqtt.settings import MqttSettings
from drivers.ocpp.ca import Authority

pytestmark = mosquitto.needed

CP1, CP2 = EvseId("CP.1/1"), EvseId("CP_1/2")
TOKEN = "04A2B3C4"
T0 = datetime(2026, 11, 22, 18, 0, tzinfo=UTC)


def evse(id: EvseId, **more: Any) -> EvseView:
    shown = EvseView(
        id=id,
        station=StationId(id.rpartition("/")[0]),
        circuit=CircuitId("site"),
        connected=True,
        channels=("ocpp1.6",),
        state=EvseState.AVAILABLE,
        limit_ma=32_000,
        grant_ma=16_000,
        commanded_ma=16_000,
        accepted_ma=16_000,
        measured_ma=each_phase(None),
        power_w=None,
        commitment_ma=16_000,
        bound_by="",
        paused=False,
        operator_limit_ma=None,
        fallback_ma=6_000,
        fallback_stored=True,
        lease_left_s=100.0,
        session=None,
        fault=None,
        identity="Vendor Model 1.0",
    )
    return shown._replace(**more)


def snapshot(*evses: EvseView, alarms: tuple[AlarmView, ...] = ()) -> Snapshot:
    circuit = CircuitView(
        CircuitId("site"), None, each_phase(250_000), each_phase(100_500), each_phase(None), each_phase(16_000),
        None, None, None,
    )  # fmt: skip
    return Snapshot(T0, "Depot Noord", "auto", "", "UTC", (circuit,), evses, (), (), alarms, ())


CHARGING = evse(
    CP1,
    state=EvseState.CHARGING,
    power_w=7_400,
    measured_ma=each_phase(10_700),
    session=SessionView("s1", "****B3C4", VehicleId("BUS-07"), T0, 1_234, 55, None, None),
)


@dataclass
class Site:
    """What the link sees and what it reports."""

    snapshot: Snapshot = field(default_factory=lambda: snapshot(CHARGING, evse(CP2)))
    events: list[Event] = field(default_factory=list)

    async def report(self, event: Event) -> Applied:
        self.events.append(event)
        return Applied()

    def channel(self) -> list[str]:
        return [event.state for event in self.events if isinstance(event, ChannelChanged)]


def settings(port: int, **more: Any) -> MqttSettings:
    usual = MqttSettings(
        "127.0.0.1", port, False, "depot/noord", True, None, None, None, None, None, frozenset(),
        "Depot Noord", "0.1.0", {CP1: 32_000, CP2: 16_000},
    )  # fmt: skip
    return replace(usual, **more)


@asynccontextmanager
async def linked(site: Site, given: MqttSettings) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(MqttLink(given, SystemClock(), lambda: site.snapshot).run(site.report))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait({task})


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 - the condition is anything
            await asyncio.sleep(0.01)


@pytest.fixture(autouse=True)
def swift(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "LOOK_S", 0.02)
    monkeypatch.setattr(link_module, "ANSWER_S", 1.0)
    monkeypatch.setattr(link_module, "RETRY_S", (0.05, 0.2))


@pytest.fixture
def port(tmp_path: Path) -> Any:
    number = free_port()
    with broker(tmp_path, number):
        yield number


async def test_states_go_out_as_people_read_them(port: int) -> None:
    async with listener(port) as ear, linked(Site(), settings(port)):
        await until(lambda: ear.on("depot/noord/evse/CP_1/2"))
    found = ear.documents("depot/noord/evse/CP.1/1")[0]
    assert found["state"] == "charging" and found["power_w"] == 7_400 and found["measured_l1_a"] == 10.7
    assert found["vehicle"] == "BUS-07" and found["energy_wh"] == 1_234 and found["soc"] == 55
    other = ear.documents("depot/noord/evse/CP_1/2")[0]
    assert other["power_w"] is None and other["session"] is None
    assert ear.documents("depot/noord/site")[0] | {"text": ""} == {
        "state": "auto", "text": "", "charging": 1, "connected": 2, "evses": 2, "charging_w": 7_400, "alarms": 0,
        "worst_alarm": None, "peak_quarter_w": None,
    }  # fmt: skip
    assert ear.documents("depot/noord/circuit/site")[0]["measured_l3_a"] == 100.5
    assert not any(TOKEN[-4:] in payload for _, payload, _ in ear.heard), "not even a part of an id token"


async def test_availability_is_said_and_left_behind(port: int) -> None:
    async with listener(port) as ear:
        async with linked(Site(), settings(port)):
            await until(lambda: ear.on("depot/noord/status") == ["online"])
        await until(lambda: ear.on("depot/noord/status") == ["online", "offline"])
    async with listener(port) as late:
        await until(lambda: late.on("depot/noord/status"))
    assert ("depot/noord/status", "offline", True) in late.heard


async def test_a_depot_that_dies_is_offline_by_its_will(port: int) -> None:
    dies = (
        "import asyncio, os, test_mqtt as t\n"
        "async def main():\n"
        f"    async with t.linked(t.Site(), t.settings({port})): await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    async with listener(port) as ear:
        process = await asyncio.create_subprocess_exec(
            *_python(dies), cwd=Path(__file__).parents[2], env=_path(), stderr=subprocess.DEVNULL
        )
        try:
            await until(lambda: ear.on("depot/noord/status") == ["online"])
        finally:
            process.kill()
            await process.wait()
        await until(lambda: ear.on("depot/noord/status") == ["online", "offline"])


def _python(code: str) -> tuple[str, ...]:
    return sys.executable, "-c", code


def _path() -> dict[str, str]:
    here = Path(__file__).parent
    return {**os.environ, "PYTHONPATH": f"{here}:{here.parents[1]}"}


async def test_home_assistant_finds_site_circuits_and_chargers(port: int) -> None:
    given = settings(port, commands=frozenset({"limit", "pause"}))
    async with listener(port) as ear, linked(Site(), given):
        await until(lambda: ear.on("depot/noord/evse/CP_1/2"))  # the last to go out
        async with listener(port) as late:
            await until(lambda: len([t for t, _, kept in late.heard if kept and t.endswith("/config")]) == 4)
    devices = {
        topic: json.loads(payload) for topic, payload, retain in ear.heard if topic.endswith("/config")
    }
    assert all(topic.startswith("homeassistant/device/") and topic.count("/") == 3 for topic in devices)
    names = {each["device"]["name"]: each for each in devices.values()}
    assert set(names) == {"Depot Noord", "Circuit site", "CP.1", "CP_1"}
    ids = [id for each in devices.values() for id in each["device"]["identifiers"]]
    assert len(set(ids)) == 4 and all(set(id) <= set(_ID) for id in ids)
    site_id = names["Depot Noord"]["device"]["identifiers"][0]
    assert all(names[name]["device"]["via_device"] == site_id for name in ("Circuit site", "CP.1", "CP_1"))
    components = [part for each in devices.values() for part in each["components"].values()]
    assert len({part["unique_id"] for part in components}) == len(components)
    for each in devices.values():
        assert each["origin"]["name"] and each["availability"] == [{"topic": "depot/noord/status"}]
    states = {topic for topic, _, _ in ear.heard}
    sensors = [part for part in components if part["platform"].endswith("sensor")]
    assert all(part["expire_after"] >= 3 * words.PUBLISH_S for part in sensors)
    assert {part["state_topic"] for part in sensors} <= states, "every sensor has a state to read"
    number = next(p for p in names["CP_1"]["components"].values() if p["platform"] == "number")
    assert (number["command_topic"], number["max"]) == ("depot/noord/evse/CP_1/2/set/limit", 16)


_ID = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"


async def test_a_home_assistant_that_starts_is_told_everything_again(port: int) -> None:
    async with listener(port) as ear, linked(Site(), settings(port)):
        await until(lambda: ear.on("depot/noord/status"))
        before = len([t for t, _, _ in ear.heard if t.endswith("/config")])
        await ear.say("homeassistant/status", "online")
        await until(lambda: len([t for t, _, _ in ear.heard if t.endswith("/config")]) == 2 * before)
        await until(lambda: len(ear.on("depot/noord/site")) == 2)


async def test_no_home_assistant_no_discovery(port: int) -> None:
    async with listener(port) as ear, linked(Site(), settings(port, home_assistant=False)):
        await until(lambda: ear.on("depot/noord/evse/CP_1/2"))
    assert not [topic for topic, _, _ in ear.heard if topic.startswith("homeassistant")]


async def test_a_change_goes_out_at_once_and_sameness_waits(port: int) -> None:
    site = Site()
    async with listener(port) as ear, linked(site, settings(port)):
        await until(lambda: ear.on("depot/noord/evse/CP_1/2"))
        site.snapshot = snapshot(CHARGING, evse(CP2, state=EvseState.FAULTED))
        await until(lambda: len(ear.on("depot/noord/evse/CP_1/2")) == 2)
    assert ear.documents("depot/noord/evse/CP_1/2")[-1]["state"] == "faulted"
    assert len(ear.on("depot/noord/evse/CP.1/1")) == 1


async def test_sessions_and_alarms_are_told_when_they_begin_and_end(port: int) -> None:
    site = Site()
    alarm = AlarmView("a1", "meter", 1, "unack", "main", "no answer", T0)
    async with listener(port) as ear, linked(site, settings(port)):
        await until(lambda: ear.on("depot/noord/evse/CP_1/2"))
        site.snapshot = snapshot(evse(CP1), evse(CP2), alarms=(alarm,))
        await until(lambda: len(ear.on("depot/noord/event")) == 2)
        site.snapshot = snapshot(CHARGING, evse(CP2))
        await until(lambda: len(ear.on("depot/noord/event")) == 4)
    told = [
        (each["event"], each.get("evse") or each.get("source")) for each in ear.documents("depot/noord/event")
    ]
    assert told == [
        ("session-ended", CP1), ("alarm-raised", "main"), ("session-started", CP1), ("alarm-ended", "main"),
    ]  # fmt: skip


# --- orders ---------------------------------------------------------------------------------------------------------


async def ordered(port: int, allowed: set[str], *said: tuple[str, str]) -> Site:
    """What the depot got of these messages (topic below the EVSE's, payload), in order."""
    site = Site()
    given = settings(port, commands=frozenset(allowed))
    async with listener(port) as ear, linked(site, given):
        await until(lambda: ear.on("depot/noord/evse/CP_1/2"))
        for topic, payload in said:
            await ear.say(f"depot/noord/evse/{topic}", payload)
        await ear.say("depot/noord/evse/CP_1/2/set/pause", "PRESS")
        await until(lambda: any(isinstance(event, PauseWished) for event in site.events))
    return site


async def test_orders_that_are_allowed_reach_the_depot(port: int) -> None:
    site = await ordered(
        port, {"limit", "pause"}, ("CP.1/1/set/limit", "10.5"), ("CP.1/1/set/limit", "none"), ("CP.1/1/set/limit", "0")
    )  # fmt: skip
    wishes = [event for event in site.events if isinstance(event, LimitWished)]
    assert [(w.evse, w.by, w.limit_ma) for w in wishes] == [
        (CP1, "mqtt", 10_500), (CP1, "mqtt", None), (CP1, "mqtt", 0),
    ]  # fmt: skip
    assert len({wish.order for wish in wishes}) == 3


@pytest.mark.parametrize(
    ("topic", "payload"),
    [
        ("CP.1/1/set/start", "PRESS"),  # not allowed
        ("CP.9/1/set/limit", "10"),
        ("CP.1/x/set/limit", "10"),
        ("CP.1/1/set/limit", "-1"),
        ("CP.1/1/set/limit", "nan"),
        ("CP.1/1/set/limit", "1e3"),
        ("CP.1/1/set/limit", ""),
        ("CP.1/1/set/limit", "9" * 10_000),
        ("CP.1/1/set/limit", "\N{ARABIC-INDIC DIGIT ONE}"),
    ],
)
async def test_what_is_no_order_is_said_and_left(
    port: int, topic: str, payload: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, link_module.__name__):
        site = await ordered(port, {"limit", "pause"}, (topic, payload))
    orders = [event for event in site.events if not isinstance(event, ChannelChanged)]
    assert [type(event) for event in orders] == [PauseWished]
    assert "order not taken" in caplog.text


async def test_an_order_that_was_kept_by_the_broker_is_not_taken(port: int) -> None:
    site = Site()
    async with listener(port) as ear:
        await ear.say("depot/noord/evse/CP.1/1/set/limit", "32", retain=True)
        async with linked(site, settings(port, commands=frozenset({"limit", "pause"}))):
            await until(lambda: ear.on("depot/noord/evse/CP_1/2"))
            await ear.say("depot/noord/evse/CP_1/2/set/pause", "PRESS")
            await until(lambda: any(isinstance(event, PauseWished) for event in site.events))
    assert not [event for event in site.events if isinstance(event, LimitWished)]


# --- when it goes wrong ---------------------------------------------------------------------------------------------


async def test_a_broker_that_goes_and_comes_is_one_change_each(tmp_path: Path) -> None:
    port, site = free_port(), Site()
    link = MqttLink(settings(port), SystemClock(), lambda: site.snapshot)
    task = asyncio.create_task(link.run(site.report))
    try:
        await until(lambda: site.channel() == ["degraded"])
        with broker(tmp_path, port):
            await until(lambda: site.channel() == ["degraded", "ok"])
        await until(lambda: site.channel()[:3] == ["degraded", "ok", "degraded"])
        site.snapshot = snapshot(evse(CP1), evse(CP2))  # a session ends meanwhile
        await until(lambda: link._events)
        with broker(tmp_path, port):
            await until(lambda: site.channel()[-1] == "ok")
            await until(lambda: not link._events)  # goes only once the broker has it
    finally:
        task.cancel()
        await asyncio.wait({task})
    texts = [event.text for event in site.events if isinstance(event, ChannelChanged)]
    assert "charging goes on without it" in texts[0] and str(port) in texts[0]


async def test_what_happens_while_it_is_away_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_module, "EVENTS", 20)
    site = Site()
    link = MqttLink(settings(free_port()), SystemClock(), lambda: site.snapshot)
    task = asyncio.create_task(link.run(site.report))
    try:
        monkeypatch.setattr(link_module, "LOOK_S", 0.0)
        for number in range(3 * link_module.EVENTS):
            session = SessionView(f"s{number}", None, None, T0, 0, None, None, None)
            site.snapshot = snapshot(CHARGING._replace(session=session))
            await until(lambda: link._seen is site.snapshot)
        assert len(link._events) == link_module.EVENTS
    finally:
        task.cancel()
        await asyncio.wait({task})


async def test_a_password_is_given_and_a_wrong_one_is_told(tmp_path: Path) -> None:
    passwords, port = tmp_path / "passwords", free_port()
    command = ["mosquitto_passwd", "-c", "-b", str(passwords), "depot", "right"]
    await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True)
    with broker(tmp_path, port, f"allow_anonymous false\npassword_file {passwords}"):
        async with listener(port, username="depot", password="right") as ear:
            wrong = Site()
            async with linked(wrong, settings(port, username="depot", password="wrong")):
                await until(lambda: wrong.channel() == ["degraded"])
            async with linked(Site(), settings(port, username="depot", password="right")):
                await until(lambda: ear.on("depot/noord/status") == ["online"])
    [told] = [event.text for event in wrong.events if isinstance(event, ChannelChanged)]
    assert "wrong" not in told and ("not authori" in told.lower() or "bad user" in told.lower())


async def test_tls_with_a_certificate_of_our_own(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    authority.create("Depot Noord", datetime.now(UTC))
    files = {}
    for name, (chain, key) in {
        "server": authority.issue_server(("127.0.0.1",), datetime.now(UTC)),
        "client": authority.issue_station("depot", datetime.now(UTC)),
    }.items():
        files[name] = (tmp_path / f"{name}.pem", tmp_path / f"{name}.key")
        files[name][0].write_bytes(chain)
        files[name][1].write_bytes(key)
    ca, port = authority.certificate_file, free_port()
    conf = f"allow_anonymous true\ncafile {ca}\ncertfile {files['server'][0]}\nkeyfile {files['server'][1]}"
    with broker(tmp_path, port, f"{conf}\nrequire_certificate true"):
        good, bare = Site(), Site()
        async with linked(
            good, settings(port, tls=True, ca=ca, cert=files["client"][0], key=files["client"][1])
        ):
            await until(lambda: good.channel() == ["ok"])
        async with linked(bare, settings(port, tls=True, ca=ca)):
            await until(lambda: "degraded" in bare.channel())


async def test_somebody_else_on_the_port_does_no_harm() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 10)
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    site = Site()
    async with linked(site, settings(server.sockets[0].getsockname()[1])) as task:
        await until(lambda: site.channel() == ["degraded"])
        assert not task.done()
    server.close()
