"""Discharge, flexibility, diagnosis and firmware on the command line, against a running depot whose chargers obey.

Stations T and U hang on the on-site host, H on the hosted platform, C on OCPP; N is announced and never came.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
from small_depot import DEADLINE_S, HandClock, Post, beside
from typed import Said, typed

from controller.cli import firmware
from controller.console import Console
from controller.core.commands import Command, StartDischarge
from controller.core.depot import Depot
from controller.core.events import (
    AccessRefused,
    ChannelChanged,
    Event,
    EvseSample,
    FallbackStored,
    FaultReported,
    FirmwareReported,
    LinkDown,
    LinkUp,
    StationBooted,
    StatusChanged,
    TransactionStarted,
)
from controller.core.model import (
    SITE,
    Circuit,
    CircuitId,
    Evse,
    EvseId,
    EvseState,
    Link,
    Site,
    StationId,
    each_phase,
)
from controller.core.readings import Readings
from controller.core.snapshot import UpgradeView
from controller.ledger import Ledger
from controller.notify import Notifier
from controller.planner import rules
from controller.runtime import Runtime, Wires
from controller.station_calls import StationCalls
from controller.storage import LEDGER, TELEMETRY, Storage
from drivers.openplatform import dictionary

ONSITE, CLOUD, OCPP = "open-platform/onsite", "open-platform/cloud", "ocpp"
CHANNELS = {"T": ONSITE, "U": ONSITE, "H": CLOUD, "C": OCPP, "N": ONSITE}
BUILDS = {"T": "260420.0107", "U": "260420.0107", "H": "3.1.0"}  # C never said
ROW = CircuitId("row")
T1, U1 = EvseId("T/1"), EvseId("U/1")


class Feeder(Post):
    """A Post that can discharge too."""

    async def _accept(self, command: Command) -> None:
        await super()._accept(command)
        assert self._report is not None
        if isinstance(command, StartDischarge):
            evse, now = command.evse, self.clock.now()
            await self._report(TransactionStarted(evse, "wire", f"t-{command.id}", None, None, now.utc))
            await self._report(StatusChanged(evse, "wire", EvseState.DISCHARGING))
            await self._report(
                EvseSample(evse, "wire", now.mono_s, each_phase(-7_000), power_w=-command.power_w)
            )


@dataclass
class Live:
    """A depot that lives in its own thread, and what tests do to it."""

    folder: Path
    loop: asyncio.AbstractEventLoop | None = None
    runtime: Runtime | None = None
    leaps: list[float] = field(default_factory=list)
    rest: threading.Event = field(default_factory=threading.Event)

    @property
    def socket(self) -> Path:
        return self.folder / "control.sock"

    def report(self, *events: Event) -> None:
        async def work() -> None:
            assert self.runtime is not None
            for event in events:
                await self.runtime.report(event)

        assert self.loop is not None
        asyncio.run_coroutine_threadsafe(work(), self.loop).result(DEADLINE_S)

    def pass_time(self, seconds: float) -> None:
        self.rest.clear()
        self.leaps.append(seconds)
        assert self.rest.wait(DEADLINE_S)

    def charges(self, evse: EvseId) -> None:
        assert self.runtime is not None
        now = self.runtime.clock.now()
        self.report(
            StatusChanged(evse, "wire", EvseState.CHARGING),
            TransactionStarted(evse, "wire", f"t-{evse}", None, 0, now.utc),
        )


def site() -> Site:
    evses = {}
    for name, channel in CHANNELS.items():
        link = Link(channel, 180, 30, 1, 60)
        circuit = ROW if name == "T" else SITE
        station, id = StationId(name), EvseId(f"{name}/1")
        evses[id] = Evse(id, station, circuit, 32_000, 6_000, (0, 1, 2), 6_000, link)
    circuits = {
        SITE: Circuit(SITE, None, each_phase(100_000), assumed_load_ma=each_phase(10_000)),
        ROW: Circuit(ROW, SITE, each_phase(63_000), assumed_load_ma=each_phase(0)),
    }
    return Site("Yard", "Europe/Amsterdam", 230_000, circuits, evses)


async def serve(live: Live, ready: threading.Event, over: threading.Event) -> None:
    clock, storage, post = HandClock(), Storage(live.folder / "state", 10_000), Feeder()
    await storage.open()
    try:
        ledger = Ledger(storage)
        known = await ledger.restore()
        runtime = Runtime(Depot(site(), str(known.boot)), clock, storage, ledger, rules.plan, Notifier(""))
        await runtime.restore(known)
        post.clock, live.runtime, live.loop = clock, runtime, asyncio.get_running_loop()
        console = Console(
            runtime, live.socket, StationCalls(runtime, storage, Readings().firmware_gate).table
        )
        wires = Wires((post,), dict.fromkeys((ONSITE, CLOUD, OCPP), post))
        task = asyncio.create_task(runtime.run(wires, (console.run,)))
        while not task.done() and not (runtime.snapshot is not None and live.socket.exists()):
            await clock.advance(0.25)
            await asyncio.sleep(0.001)
        for name, channel in CHANNELS.items():
            station, evse = StationId(name), EvseId(f"{name}/1")
            await runtime.report(ChannelChanged(channel, "ok"))
            if name == "N":
                continue
            await runtime.report(LinkUp(station, channel, "test"))
            if name in BUILDS:
                booted = StationBooted(station, channel, "Tellus", "TP-DC60", BUILDS[name], f"SN-{name}")
                await runtime.report(booted)
            await runtime.report(FallbackStored(evse, channel, 6_000))
            await runtime.report(StatusChanged(evse, channel, EvseState.AVAILABLE))
        ready.set()
        while not over.is_set():
            leap_s = live.leaps.pop() if live.leaps else None
            await clock.advance(leap_s or 0.25)
            await asyncio.sleep(0.002)
            if leap_s is not None:
                # what was decided meanwhile is on the disk when the test goes on
                await storage.write(LEDGER, lambda db: None)
                await storage.write(TELEMETRY, lambda db: None)
                live.rest.set()
        task.cancel()
        await asyncio.wait({task})
    finally:
        await storage.close()


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    made = Live(tmp_path)
    with beside(partial(serve, made)):
        yield made


Ask = Callable[..., Said]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Ask:
    return partial(typed, capsys)


@pytest.fixture
def ask(command: Ask, live: Live) -> Ask:
    return lambda *arguments: command(*arguments, "--socket", str(live.socket))


# --- discharge ----------------------------------------------------------------------------------------------------


def test_a_discharge_is_followed_until_it_is_measured(ask: Ask, live: Live) -> None:
    live.report(StatusChanged(T1, "wire", EvseState.PREPARING))
    said = ask("discharge", "T", "--power", "5 kW", "--min-soc", "40", "--for", "30m")
    assert (said.code, said.err) == (0, "")
    assert said.stages == ["sent", "accepted", "applied", "measured"]
    one = json.loads(ask("status", "T/1", "--json").out)
    assert (one["state"], one["power_w"]) == ("discharging", -5_000)


@pytest.mark.parametrize(
    ("evse", "why"),
    [("C/1", "discharge needs the Open Platform, or OCPP 2.1 with V2X"), ("U/1", "the EVSE is available")],
)
def test_a_discharge_that_cannot_be_is_refused(ask: Ask, evse: str, why: str) -> None:
    said = ask("discharge", evse, "--power", "5 kW")
    assert (said.code, said.out, said.err) == (1, "", f"depot: discharge {evse} refused: {why}\n")


# --- flexibility --------------------------------------------------------------------------------------------------


def test_flexibility_limits_pauses_and_ends(ask: Ask, live: Live) -> None:
    live.charges(T1)
    live.charges(U1)
    half = ask("flex", "limit", "50", "--for", "30m")
    assert (half.code, half.stages) == (0, ["applied", "measured"]), half
    grants = {evse["id"]: evse["grant_a"] for evse in json.loads(ask("status", "--json").out)["evses"]}
    assert (grants["T/1"], grants["U/1"]) == (16, 16)
    row = ask("flex", "pause", "--for", "10m", "--circuit", "row")
    assert (row.code, row.stages) == (0, ["applied", "measured"]), row
    grants = {evse["id"]: evse["grant_a"] for evse in json.loads(ask("status", "--json").out)["evses"]}
    assert (grants["T/1"], grants["U/1"]) == (0, 16), "only what hangs below the circuit"
    assert ask("flex", "end").out == "flexibility ended; the site's own limits stay\n"
    live.pass_time(60)
    grants = {evse["id"]: evse["grant_a"] for evse in json.loads(ask("status", "--json").out)["evses"]}
    assert min(grants["T/1"], grants["U/1"]) > 16


@pytest.mark.parametrize(
    ("arguments", "wrong", "part"),
    [
        (("limit", "50", "--for", "30m", "--circuit", "rwo"), 1, "no circuit 'rwo'; there are site, row"),
        (("pause", "--for", "5h"), 2, "a duration up to 4 h"),
    ],
)
def test_flexibility_that_cannot_be_is_refused(
    ask: Ask, arguments: tuple[str, ...], wrong: int, part: str
) -> None:
    said = ask("flex", *arguments)
    assert (said.code, said.out, said.err.count("\n")) == (wrong, "", 1)
    assert part in said.err


# --- diagnosis ----------------------------------------------------------------------------------------------------


def test_a_healthy_station_has_nothing_to_tell(ask: Ask) -> None:
    said = ask("diagnose", "T")
    assert (said.code, said.err) == (0, "")
    assert said.out.splitlines() == [
        "T  Tellus  TP-DC60  firmware 260420.0107",
        "link  open-platform/onsite: connected, no interruptions above 30 s in 24 h",
        "no fault is active",
    ]


def test_a_running_fault_is_explained_with_its_steps(ask: Ask, live: Live) -> None:
    for station, evse in (("T", T1), ("U", None)):
        live.report(FaultReported(StationId(station), evse, ONSITE, "F-0421", True, "no feedback"))
    live.pass_time(5)
    said = ask("diagnose", "T")
    assert said.code == 0
    words = " ".join(said.out.split())
    for part in (
        "F-0421 Contactor failed to engage on session start Error T/1 since 2026-11-22 19:",
        "said no feedback",
        "likely contactor stuck open",
        "first sort the occurrences by firmware version first",
        "build 3.0.0 - 3.0.2: regression in feedback timing; fixed in 3.0.3, 3.1.x",
        "also U, same code and same firmware",
        "see Charger faults on power-up",
        "5 Many chargers at once.",
        "see Connector hangs in preparing",
    ):
        assert part in words, part
    assert max(map(len, said.out.splitlines())) <= 100
    document = json.loads(ask("diagnose", "T", "--json").out)
    [fault] = document["faults"]
    assert (fault["code"], fault["severity"], fault["also_at"]) == ("F-0421", "Error", ["U"])
    assert [book["id"] for book in fault["runbooks"]] == ["power-up-fault", "stuck-in-preparing"]
    assert [step["title"] for step in fault["runbooks"][1]["steps"]][:2] == ["Vehicle", "Authorisation"]


def test_a_fault_that_is_over_stands_in_the_history(ask: Ask, live: Live) -> None:
    began = FaultReported(StationId("T"), T1, ONSITE, "F-0203", True)
    live.report(began)
    live.pass_time(5)
    live.report(FaultReported(StationId("T"), T1, ONSITE, "F-0203", False))
    live.pass_time(15)
    said = ask("diagnose", "T")
    assert "no fault is active" in said.out
    [row] = [line for line in said.out.splitlines() if "T/1 F-0203" in line]
    assert re.match(r"2026-11-22 19:\d\d:\d\d  2026-11-22 19:\d\d:\d\d  T/1 F-0203", row), row
    assert "F-0203" not in ask("diagnose", "U").out


def test_what_is_not_in_the_dictionary_goes_to_support(ask: Ask, live: Live) -> None:
    live.report(
        FaultReported(StationId("T"), None, ONSITE, "F-9999", True, "?"),
        StatusChanged(EvseId("C/1"), OCPP, EvseState.FAULTED, "GroundFailure"),
    )
    live.pass_time(5)
    words = " ".join(ask("diagnose", "T").out.split())
    assert "F-9999 not in the dictionary Error T since" in words
    assert "next ask support, with the code" in words
    assert "fault not in the dictionary Error C/1 said GroundFailure" in " ".join(
        ask("diagnose", "C").out.split()
    )


def test_a_charger_that_went_away_is_seen_from_here(ask: Ask, live: Live) -> None:
    live.report(*(LinkDown(StationId(name), CHANNELS[name], "silent") for name in ("T", "C")))
    live.pass_time(40)
    said = ask("diagnose", "T")
    assert "offline since 2026-11-22 19:" in said.out
    assert "1 interruption above 30 s in 24 h" in said.out
    assert "F-0301  Heartbeat lost  Error  T  since" in said.out
    assert "F-0301" not in ask("diagnose", "C").out, "the dictionary is the Open Platform's"
    live.report(ChannelChanged(ONSITE, "off", "disabled"))
    live.pass_time(10)  # the alarm about it clears
    off = ask("diagnose", "T").out
    assert "open-platform/onsite: the channel is off" in off
    assert "F-0301  Heartbeat lost" not in off, "it may not talk"


def test_one_that_never_came_has_not_lost_its_heartbeat(ask: Ask, live: Live) -> None:
    live.report(LinkDown(StationId("N"), ONSITE, "never"))
    live.pass_time(40)
    said = ask("diagnose", "N")
    assert said.out.splitlines()[1].startswith(
        "link  open-platform/onsite: never connected; check its address"
    )
    assert "F-0301" not in said.out


def test_one_that_was_turned_away_is_told(ask: Ask, live: Live) -> None:
    live.report(AccessRefused(ONSITE, "T", "10.0.0.9", "firmware 3.1.0 is not proven"))
    live.pass_time(2)
    assert "from 10.0.0.9: firmware 3.1.0 is not proven" in ask("diagnose", "T").out


def test_stuck_in_preparing_after_ten_minutes(ask: Ask, live: Live) -> None:
    live.report(StatusChanged(T1, "wire", EvseState.PREPARING))
    live.pass_time(500)
    assert "no fault is active" in ask("diagnose", "T").out
    live.pass_time(200)
    said = ask("diagnose", "T")
    assert re.search(r"T/1  in preparing since 2026-11-22 19:\d\d:\d\d, longer than 10 min", said.out), (
        said.out
    )
    assert "4       On site. Look at pins" in said.out


def test_a_stranger_cannot_be_diagnosed(ask: Ask) -> None:
    said = ask("diagnose", "Z9")
    assert (said.code, said.out) == (1, "")
    assert said.err == "depot: no station 'Z9'; `depot firmware status` lists them\n"


# --- firmware -----------------------------------------------------------------------------------------------------


def test_firmware_against_the_gate(ask: Ask) -> None:
    rows = {line.split()[0]: " ".join(line.split()) for line in ask("firmware", "status").out.splitlines()}
    assert rows["T"] == "T open-platform/onsite TP-DC60 260420.0107 build of 2026-04-20 yes open offered"
    assert rows["H"] == (
        "H open-platform/cloud TP-DC60 3.1.0 release no"
        " not proven: a release number is no proof of 260420.0107 not offered by the API"
    )
    assert rows["C"] == "C ocpp - - - - not known yet: it never said what it runs not offered here"
    document = json.loads(ask("firmware", "status", "--json").out)
    assert document["gate"] == "260420.0107"
    passes = {each["id"]: each["passes_gate"] for each in document["stations"]}
    assert passes == {"T": True, "U": True, "H": False, "C": None, "N": None}
    assert (document["stations"][0]["serial"], document["campaign"]) == ("SN-T", None)


@pytest.mark.parametrize(
    ("station", "build", "text"),
    [
        ("T", "260420.0106", "not proven: older than 260420.0107"),
        ("T", "beta", "not proven: no proof of 260420.0107"),
        ("C", "260420.0107", "possible: no open_platform at this station in the config"),
    ],
)
def test_what_blocks_the_second_backend(ask: Ask, live: Live, station: str, build: str, text: str) -> None:
    live.report(StationBooted(StationId(station), CHANNELS[station], "Tellus", "TP-DC60", build))
    live.pass_time(2)
    stations = json.loads(ask("firmware", "status", "--json").out)["stations"]
    assert next(each["second_backend"] for each in stations if each["id"] == station) == text


def test_a_channel_that_is_off_blocks_it_too(ask: Ask, live: Live) -> None:
    live.report(ChannelChanged(ONSITE, "off", "disabled"))
    live.pass_time(2)
    stations = json.loads(ask("firmware", "status", "--json").out)["stations"]
    assert stations[0]["second_backend"] == "possible: open-platform/onsite is off"


def progress(station: str, status: str, percent: int | None = None) -> FirmwareReported:
    return FirmwareReported(StationId(station), ONSITE, "260518.0002", status, percent)


def test_an_upgrade_in_the_table(ask: Ask, live: Live) -> None:
    assert ask("firmware", "status", "--follow").out == "no upgrade is under way\n"
    begun = ask("firmware", "upgrade", "U", "T", "--version", "260518.0002")
    assert (begun.code, begun.err) == (0, "")
    assert begun.out.startswith("begun: U, T, one after the other")
    live.report(progress("U", "downloading", 40))
    live.pass_time(2)
    lines = [" ".join(line.split()) for line in ask("firmware", "status").out.splitlines()]
    assert re.match(r"upgrade to 260518\.0002 by \S+, 2026-11-22 19:\d\d, running$", lines[-4]), lines
    assert lines[-2:] == ["U downloading 40 % -", "T waiting - -"]
    again = ask("firmware", "upgrade", "T", "--version", "260518.0002")
    assert (again.code, "refused: a campaign for 260518.0002 is under way" in again.err) == (1, True)
    assert ask("firmware", "stop").code == 0
    live.report(progress("U", "failed"))
    live.pass_time(2)
    campaign = json.loads(ask("firmware", "status", "--json").out)["campaign"]
    assert (campaign["state"], campaign["text"]) == ("failed", "U: it did not say why; 0 of 2 done")
    assert [row["state"] for row in campaign["stations"]] == ["failed", "left"]


def test_an_upgrade_is_followed_with_a_bar(ask: Ask, live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ask("firmware", "upgrade", "T", "--version", "260518.0002").code == 0
    live.report(progress("T", "upgrading", 50))
    live.pass_time(2)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    draw, drawn = firmware._Screen._draw, threading.Event()

    def draw_and_tell(screen: firmware._Screen, stations: Sequence[UpgradeView]) -> None:
        draw(screen, stations)
        drawn.set()

    monkeypatch.setattr(firmware._Screen, "_draw", draw_and_tell)

    def succeed() -> None:
        assert drawn.wait(DEADLINE_S)
        live.report(progress("T", "success"))

    later = threading.Thread(target=succeed)
    later.start()
    said = ask("firmware", "status", "--follow")
    later.join()
    assert (said.code, said.err) == (0, "")
    assert "T upgrading [##########..........] 50 %  0 of 1 done" in said.out
    assert said.out.endswith("\r\x1b[K1 of 1 done\n")


def test_the_hosted_platform_offers_no_upgrade(ask: Ask) -> None:
    said = ask("firmware", "upgrade", "T", "H", "--version", "260518.0002")
    assert (said.code, said.out) == (1, "")
    assert said.err == (
        "depot: H: on the hosted platform, whose API offers no upgrade; nothing was ordered\n"
    )
    assert json.loads(ask("firmware", "status", "--json").out)["campaign"] is None


def test_an_unknown_station_is_not_upgraded(ask: Ask) -> None:
    said = ask("firmware", "upgrade", "Z9", "--version", "260518.0002")
    assert (said.code, said.err) == (1, "depot: no station 'Z9'; `depot firmware status` lists them\n")


# --- use ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("discharge", "T/1"), "--power"),
        (("discharge", "T/1", "--power", "5 A"), "power unit"),
        (("discharge", "T/1", "--power", "-5 kW"), "--power"),
        (("discharge", "T/1", "--power", "5 kW", "--min-soc", "101"), "0 to 100"),
        (("discharge", "T/1", "--power", "5 kW", "--for", "0s"), "shorter than a second"),
        (("flex",), "WHAT"),
        (("flex", "limit", "--for", "1h"), "PERCENT"),
        (("flex", "limit", "101", "--for", "1h"), "0 to 100"),
        (("flex", "limit", "50"), "--for"),
        (("flex", "pause", "--for", "1h", "--site", "--circuit", "row"), "not allowed with"),
        (("firmware",), "WHAT"),
        (("firmware", "upgrade", "T"), "--version"),
        (("firmware", "upgrade", "--version", "3.1.0"), "STATION"),
        (("firmware", "status", "--json", "--follow"), "not allowed with"),
        (("diagnose",), "station"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, tuple) else "",
)
def test_wrong_use_is_exit_code_2(command: Ask, arguments: tuple[str, ...], part: str) -> None:
    said = command(*arguments)
    assert (said.code, said.out) == (2, "")
    assert part in said.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("discharge", "T/1", "--power", "5 kW"), ("flex", "limit", "50", "--for", "1h"), ("flex", "end"),
        ("diagnose", "T"), ("firmware", "status", "--json"),
        ("firmware", "status", "--follow"), ("firmware", "upgrade", "T", "--version", "3.1.0"), ("firmware", "stop"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_controller_that_is_away_is_exit_code_3(
    command: Ask, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    said = command(*arguments, "--socket", str(tmp_path / "nobody.sock"))
    assert (said.code, said.out, said.err.count("\n")) == (3, "", 1)


# --- the dictionary -----------------------------------------------------------------------------------------------


def test_every_entry_says_what_to_do_and_names_runbooks_that_exist() -> None:
    known, books = dictionary.faults(), dictionary.runbooks()
    assert len(known) == 12
    assert books.keys() == {"power-up-fault", "stuck-in-preparing", "v2g-no-power"}
    for code, fault in known.items():
        assert (code, bool(fault.causes), bool(fault.actions)) == (fault.code, True, True)
        assert set(fault.related) <= known.keys()
        assert len(dictionary.runbooks_of(fault)) == len(fault.runbooks)
    assert {name for fault in known.values() for name in fault.runbooks} == books.keys()
    assert [len(book.steps) for book in books.values()] == [6, 5, 6]
    assert dictionary.HEARTBEAT_LOST in known and dictionary.STUCK in books
