"""The customer's switch: off is off within seconds, everywhere, for good, and only people on site turn it on again."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from small_depot import Caller
from two_backends import CLOUD, USER, Site, TwoBackends, site

from controller import channel_calls
from controller.clock import SystemClock
from controller.consent import Channel, Decision, Decisions, Switch
from controller.core.commands import Command, StartCharging
from controller.core.events import (
    ChannelChanged,
    CommandAccepted,
    CommandLost,
    CommandRefused,
    CommandSent,
    Event,
    LinkDown,
    LinkUp,
)
from controller.core.model import EvseId, StationId, Verdict
from controller.ports import Report
from controller.storage import LEDGER, Storage
from tests.audit_rows import audit_tail

DEADLINE_S = 10.0
CHANNEL = Channel(
    CLOUD, "platform.example", "eu", "J. de Vries, 2026-11-20", frozenset({"monitor", "control"})
)
NOW = SystemClock().now().utc
OFF = Decision("open-platform", False, "anna", NOW)
ON = Decision("open-platform", True, "anna", NOW, frozenset({"monitor"}))


# --- the switch around any driver ---------------------------------------------------------------------------------


class Said:
    verdict = Verdict.ACCEPTED
    transaction = None


class Book:
    """A report that writes down."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.news = asyncio.Event()
        self.takes_channels = asyncio.Event()  # clear: whoever reports a channel's state waits
        self.takes_channels.set()

    async def __call__(self, event: Event) -> Said:
        self.events.append(event)
        self.news.set()
        if isinstance(event, ChannelChanged):
            await self.takes_channels.wait()
        return Said()

    async def until(self, *wanted: Event) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not all(event in self.events for event in wanted):
                self.news.clear()
                await self.news.wait()


class Line:
    """A driver with one station that leaves every command where it is."""

    def __init__(self, enabled_by: str, purposes: frozenset[str]) -> None:
        self.enabled_by, self.purposes = enabled_by, purposes
        self.sent: list[Command] = []
        self.running = False
        self.report: Report | None = None
        self.failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.lingers = 0

    async def run(self, report: Report) -> None:
        self.report, self.running = report, True
        try:
            await report(LinkUp(StationId("TP1"), CLOUD, "test"))
            await self.failure
        finally:
            for _ in range(self.lingers):
                await asyncio.sleep(0)
            self.running = False

    def send(self, command: Command) -> None:
        self.sent.append(command)


class Bench:
    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.book = Book()
        self.switch = Switch(CHANNEL, self._make)
        self.task = asyncio.create_task(self.switch.run(self.book))

    def _make(self, enabled_by: str, purposes: frozenset[str]) -> Line:
        self.lines.append(Line(enabled_by, purposes))
        return self.lines[-1]

    async def started(self, times: int) -> None:
        """A driver has brought its link up so many times in all."""
        async with asyncio.timeout(DEADLINE_S):
            while sum(isinstance(event, LinkUp) for event in self.book.events) < times:
                self.book.news.clear()
                await self.book.news.wait()


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    await made.book.until(LinkUp(StationId("TP1"), CLOUD, "test"))
    yield made
    made.task.cancel()
    await asyncio.wait({made.task})
    assert not any(line.running for line in made.lines)


def command(id: str) -> StartCharging:
    return StartCharging(id, EvseId("TP1/1"), CLOUD, None, 6_000)


async def test_off_ends_the_driver_its_links_and_every_open_command_once(bench: Bench) -> None:
    (line,) = bench.lines
    assert line.report is not None
    for id in ("unsent", "sent", "done"):
        bench.switch.send(command(id))
    for event in (CommandSent("sent"), CommandSent("done"), CommandAccepted("done")):
        await line.report(event)
    assert bench.switch.waiting == 1, "two have left"
    line.lingers = 3
    bench.switch.decide(OFF)
    bench.switch.send(command("late"))
    await bench.switch.closed()
    assert not line.running
    reason = f"channel {CLOUD} was switched off"
    text = f"disabled by anna, {NOW:%Y-%m-%d}"
    off = ChannelChanged(CLOUD, "off", text, "platform.example", "eu", "J. de Vries, 2026-11-20")
    await bench.book.until(off)
    bench.switch.send(command("later"))
    refused = CommandRefused("later", f"channel {CLOUD} is off")
    await bench.book.until(refused)
    assert bench.book.events[4:] == [
        CommandRefused("unsent", reason),
        CommandLost("sent", reason),
        CommandRefused("late", f"channel {CLOUD} is off"),
        LinkDown(StationId("TP1"), CLOUD, reason),
        off,
        refused,
    ]
    assert [sent.id for sent in line.sent] == ["unsent", "sent", "done"]
    assert bench.switch.purposes == frozenset()


async def test_on_again_is_a_new_driver_with_the_new_consent(bench: Bench) -> None:
    bench.switch.decide(OFF)
    await bench.switch.closed()
    bench.switch.decide(ON)
    await bench.started(2)
    old, new = bench.lines
    assert not old.running
    assert (new.enabled_by, new.purposes) == (f"anna, {NOW:%Y-%m-%d}", {"monitor"})
    bench.switch.send(command("after"))
    assert [sent.id for sent in new.sent] == ["after"]


async def test_a_new_driver_under_another_consent_was_off_in_between(bench: Bench) -> None:
    """What the old one held is gone, so whoever relies on it must hear of it (`controller.core.stored`)."""
    bench.switch.decide(ON)
    await bench.started(2)
    told = [event.state for event in bench.book.events if isinstance(event, ChannelChanged)]
    assert "off" in told and len(bench.lines) == 2


async def test_on_while_off_is_still_being_told(bench: Bench) -> None:
    bench.book.takes_channels.clear()
    bench.switch.decide(OFF)
    text = f"disabled by anna, {NOW:%Y-%m-%d}"
    await bench.book.until(ChannelChanged(CLOUD, "off", text, "platform.example", "eu", CHANNEL.enabled_by))
    bench.switch.decide(ON)
    bench.book.takes_channels.set()
    await bench.started(2)
    assert len(bench.lines) == 2


async def test_a_decision_allows_no_more_than_the_config(bench: Bench) -> None:
    bench.switch.decide(Decision(CLOUD, True, "anna", NOW, frozenset({"monitor", "v2g"})))
    assert bench.switch.purposes == {"monitor"}


async def test_a_driver_that_fails_is_the_runtimes_business_and_goes_on_as_it_was(bench: Bench) -> None:
    (line,) = bench.lines
    bench.switch.send(command("kept"))
    line.failure.set_exception(OSError("cable cut"))
    await asyncio.wait({bench.task})
    with pytest.raises(OSError, match="cable cut"):
        bench.task.result()
    line.failure = asyncio.get_running_loop().create_future()
    bench.task = asyncio.create_task(bench.switch.run(bench.book))
    await bench.started(2)
    assert bench.lines == [line]
    assert not any(isinstance(event, CommandRefused | CommandLost | LinkDown) for event in bench.book.events)


async def test_off_while_the_driver_is_down_needs_no_waiting(bench: Bench) -> None:
    bench.lines[0].failure.set_exception(OSError("cable cut"))
    await asyncio.wait({bench.task})
    bench.switch.decide(OFF)
    async with asyncio.timeout(DEADLINE_S):
        await bench.switch.closed()
    bench.task = asyncio.create_task(bench.switch.run(bench.book))
    await bench.book.until(LinkDown(StationId("TP1"), CLOUD, f"channel {CLOUD} was switched off"))


async def test_the_newest_decision_counts_for_the_channel_and_its_family(tmp_path: Path) -> None:
    onsite = Channel("open-platform/onsite", None, None, "J", frozenset())
    storage = Storage(tmp_path)
    await storage.open()
    decisions = Decisions(storage)
    assert await decisions.newest(CHANNEL) is None
    await decisions.store(OFF, "root")
    assert await decisions.newest(CHANNEL) == OFF
    again = Decision(CLOUD, True, "anna", NOW, frozenset({"monitor", "control"}))
    await decisions.store(again, "root")
    assert await decisions.newest(CHANNEL) == again
    assert await decisions.newest(onsite) == OFF, "what was decided for one channel leaves the other alone"
    await storage.close()


# --- the whole controller -----------------------------------------------------------------------------------------


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Site]:
    async with site(tmp_path) as made:
        yield made


@contextmanager
def held(storage: Storage) -> Iterator[None]:
    """The storage thread hangs; the watchdog of the test ends it in any case."""
    gate, reached = threading.Event(), threading.Event()
    storage.read(LEDGER, lambda _: (reached.set(), gate.wait(DEADLINE_S)))
    assert reached.wait(DEADLINE_S)
    try:
        yield
    finally:
        gate.set()


def is_up(two: TwoBackends) -> bool:
    return two.state() == "ok" and two.view("TP001").connected and two.tap.open > 0


async def switch_off(two: TwoBackends, client: Caller) -> float:
    """How long it took."""
    began_s = time.monotonic()
    answer = await client.call("channel-disable", channel="open-platform")
    assert [each["enabled"] for each in answer["channels"]] == [False]
    return time.monotonic() - began_s


async def the_channel(client: Caller) -> dict[str, Any]:
    (found,) = [each for each in (await client.call("channels"))["channels"] if each["id"] == CLOUD]
    return dict(found)


async def audit(two: TwoBackends) -> list[tuple[str, str, str, str]]:
    rows = await audit_tail(two.runtime.ledger, 50)
    return [(r["by"], r["what"], r["subject"], r["detail"]) for r in rows if r["what"].startswith("channel-")]


async def test_disable_closes_all_sockets_in_time_and_nothing_follows(place: Site) -> None:
    async with place.controller() as two, two.console() as client:
        await two.until(lambda: is_up(two))
        before = await the_channel(client)
        assert (before["enabled_by"], before["purposes"]) == (
            "J. de Vries, 2026-11-20",
            ["control", "monitor"],
        )
        took_s = await switch_off(two, client)
        assert took_s < 5.0
        assert two.tap.open == 0
        seen = len(two.tap.connections)
        await two.until(lambda: two.state() == "off" and not two.view("TP001").connected)
        two.platform.drop_streams()
        two.platform.expire_tokens()
        assert (await client.call("start", evse="TP001/1"))["order"]
        await two.until(lambda: two.snapshot.orders and two.snapshot.orders[-1].outcome is not None)
        await two.steps(15)
        assert len(two.tap.connections) == seen, "nothing knocks at the platform any more"
        assert two.snapshot.orders[-1].outcome in ("refused", "failed")
        after = await the_channel(client)
        assert (after["state"], after["purposes"]) == ("off", [])
        assert after["text"].startswith(f"disabled by {USER}, ")
        assert await audit(two) == [(USER, "channel-disabled", "open-platform", "")]
        assert two.view("CP001").connected, "OCPP is untouched"


@pytest.mark.parametrize("trouble", ["mute", "half-open", "away"])
async def test_a_platform_in_trouble_cannot_hold_a_connection(place: Site, trouble: str) -> None:
    async with place.controller() as two, two.console() as client:
        await two.until(lambda: is_up(two))
        match trouble:
            case "mute":
                two.platform.mute = True
            case "half-open":
                two.tap.flowing.clear()
            case _:
                await two.platform.stop()
        await client.call("stop", evse="TP001/1")
        await two.steps(3)
        assert await switch_off(two, client) < 5.0
        two.tap.flowing.set()
        await two.until(lambda: two.tap.open == 0)
        seen = len(two.tap.connections)
        await two.steps(10)
        assert len(two.tap.connections) == seen


async def test_with_a_dead_disk_off_is_off_at_once_and_on_waits(
    place: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel_calls, "WITHIN_S", 2.0)
    async with place.controller() as two, two.console() as client:
        await two.until(lambda: is_up(two))
        with held(two.house.storage):
            began_s = time.monotonic()
            code, text = await client.refusal("channel-disable", channel="open-platform")
            assert time.monotonic() - began_s < 5.0
            assert (code, two.tap.open) == ("not-stored", 0)
            assert text.startswith("open-platform is off, but that is not stored yet")
            code, text = await client.refusal("channel-enable", channel=CLOUD, by="A", purposes=["monitor"])
            assert (code, two.tap.open) == ("not-stored", 0)
            assert text.startswith(f"{CLOUD} waits for the disk")
        await two.until(lambda: is_up(two))
        assert [what for _, what, _, _ in await audit(two)] == ["channel-disabled", "channel-enabled"]


async def test_an_enable_that_was_taken_back_while_it_waited_stays_off(
    place: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel_calls, "WITHIN_S", 1.0)
    async with place.controller() as two, two.console() as client:
        await two.until(lambda: is_up(two))
        await switch_off(two, client)
        seen = len(two.tap.connections)
        with held(two.house.storage):
            await client.refusal("channel-enable", channel=CLOUD, by="A", purposes=["monitor"])
            await client.refusal("channel-disable", channel="open-platform")
        await two.steps(15)
        assert two.state() == "off"
        assert len(two.tap.connections) == seen
        decision = await Decisions(two.house.storage).newest(CHANNEL)
        assert decision is not None
        assert not decision.enabled


async def test_off_outlives_a_restart_and_on_does_too(place: Site) -> None:
    async with place.controller() as two, two.console() as client:
        await two.until(lambda: is_up(two))
        await switch_off(two, client)
        seen = len(two.tap.connections)
    async with place.controller() as two, two.console() as client:
        await two.until(lambda: two.state() == "off" and two.view("CP001").connected)
        await two.steps(20)
        assert len(two.tap.connections) == seen
        answer = await client.call(
            "channel-enable", channel=CLOUD, by="A. Jansen", purposes=["monitor", "control"]
        )
        (channel,) = answer["channels"]
        assert channel["enabled_by"].startswith("A. Jansen, 20")
        await two.until(lambda: is_up(two))
        assert (await the_channel(client))["enabled_by"] == channel["enabled_by"]
        assert (await audit(two))[1:] == [
            (USER, "channel-enabled", CLOUD, "by A. Jansen for control, monitor")
        ]
    async with place.controller() as two, two.console() as client:
        await two.until(lambda: is_up(two))
        assert (await the_channel(client))["enabled_by"].startswith("A. Jansen, 20")


async def test_a_narrower_consent_narrows_at_once(place: Site) -> None:
    async with place.controller() as two, two.console() as client:
        await two.until(lambda: is_up(two))
        await client.call("channel-enable", channel=CLOUD, by="A. Jansen", purposes=["monitor"])
        await two.until(lambda: is_up(two) and (two.channel() or place) and "Jansen" in str(two.channel()))
        await client.call("start", evse="TP001/1")
        await two.until(lambda: two.snapshot.orders and two.snapshot.orders[-1].outcome is not None)
        assert "purpose control not consented" in (two.snapshot.orders[-1].reason or "")
        assert not any(request.path.endswith("/start") for request in two.tap.requests())


@pytest.mark.parametrize(
    ("call", "args", "code", "text"),
    [
        ("channel-disable", {"channel": "ocpp"}, "unknown-channel", "the config has open-platform/cloud"),
        ("channel-disable", {}, "unknown-channel", "no channel ''"),
        ("channel-disable", {"channel": 7}, "bad-request", "channel must be text"),
        ("channel-enable", {"channel": CLOUD, "purposes": ["monitor"]}, "bad-request", "--by needs the name"),
        (
            "channel-enable",
            {"channel": CLOUD, "by": "  ", "purposes": ["monitor"]},
            "bad-request",
            "--by needs",
        ),
        (
            "channel-enable",
            {"channel": CLOUD, "by": "a\x1b[2J", "purposes": ["monitor"]},
            "bad-request",
            "--by",
        ),
        (
            "channel-enable",
            {"channel": CLOUD, "by": "A", "purposes": []},
            "bad-request",
            "--purpose is missing",
        ),
        ("channel-enable", {"channel": CLOUD, "by": "A", "purposes": "monitor"}, "bad-request", "--purpose"),
        (
            "channel-enable",
            {"channel": CLOUD, "by": "A", "purposes": ["v2g"]},
            "not-allowed",
            "v2g: not in the config",
        ),
        ("egress", {"since": "yesterday"}, "bad-request", "since must be a time"),
        ("egress", {"skip": -1}, "bad-request", "skip must be a whole number"),
    ],
)
async def test_what_cannot_be_switched_is_refused_in_one_line(
    tmp_path: Path, call: str, args: dict[str, Any], code: str, text: str
) -> None:
    async with site(tmp_path) as place, place.controller() as two, two.console() as client:
        refusal = await client.refusal(call, **args)
        assert refusal[0] == code
        assert text in refusal[1]
        assert "\n" not in refusal[1]
        assert await audit(two) == []
