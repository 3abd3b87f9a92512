"""Firmware from the operator's command to chargers that install it: the real controller, its host on a real socket, and
simulated chargers that report their way. Time runs fast, so a minute of an upgrade is a second.
"""

from __future__ import annotations

import asyncio
import io
import json
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from onsite_devices_bench import onsite, some_settings

from controller.cli import main
from controller.cli.compose import House
from controller.clock import SystemClock
from controller.config import load
from controller.core.commands import UpgradeFirmware
from controller.core.events import CommandAccepted, CommandRefused, CommandSent, FirmwareReported
from controller.core.model import EvseId
from controller.core.snapshot import CampaignView, Snapshot
from controller.runtime import Runtime
from controller.storage import LEDGER
from drivers.sim.device import BAD_IMAGE, SimDevice
from drivers.sim.evse import NOTHING, SimEvse
from drivers.sim.quirks import DeviceQuirks
from drivers.sim.vehicle import Vehicle
from drivers.sim.world import SimCircuit, World
from ui.client import CallRefused, Client

SPEED = 60.0
DEADLINE_S = 20.0
OLD, NEW = "260420.0107", "260518.0002"
CHANNEL = "open-platform/onsite"

HEAD = """
[site]
name = "On its own"
timezone = "Europe/Amsterdam"
limit = "63 A"
assumed_load = "10 A"
[open_platform]
mode = "sole"
enabled_by = "J. de Vries, 2026-11-20"
purposes = ["monitor", "control"{more}]
[open_platform.onsite]
listen = "127.0.0.1:0"
clients = []
[storage]
path = "state"
[control]
socket = "control.sock"
"""
STATION = """
[station.{name}]
circuit = "site"
fallback = "6 A"
evse.1 = {{ max = "16 A", min = "6 A", phases = "L1 L2 L3" }}
open_platform = {{ serial = "SN-{name}", model = "TP-AC22", link = "onsite" }}
"""


@dataclass
class Yard:
    """A running depot and its chargers by station."""

    runtime: Runtime
    house: House
    socket: Path
    devices: dict[str, SimDevice] = field(default_factory=dict)
    evses: dict[str, SimEvse] = field(default_factory=dict)

    @property
    def client(self) -> Client:
        return Client(self.socket)

    async def until(self, condition: Callable[[Snapshot], object]) -> Snapshot:
        snapshot = self.runtime.snapshot
        try:
            async with asyncio.timeout(DEADLINE_S):
                while snapshot is None or not condition(snapshot):
                    snapshot = await self.runtime.next_snapshot(snapshot)
        except TimeoutError:
            raise AssertionError(f"never: {snapshot}") from None
        return snapshot

    async def campaign(self, *states: str) -> CampaignView:
        found = (await self.until(lambda s: s.campaign is not None and s.campaign.state in states)).campaign
        assert found is not None
        return found

    async def upgrade(self, *stations: str, version: str = NEW) -> str:
        answer = await self.client.call("firmware-upgrade", stations=list(stations), version=version)
        return str(answer["order"])

    async def depot(self, *arguments: str) -> tuple[int, str, str]:
        """A command as a process of its own would run it: code, stdout, stderr."""
        return await asyncio.to_thread(_run, [*arguments, "--socket", str(self.socket)])

    def firmware(self) -> list[str]:
        """What they really run."""
        return [device.charger.firmware_version for device in self.devices.values()]

    async def audit(self) -> list[tuple[str, str, str]]:
        def read(db: sqlite3.Connection) -> list[tuple[str, str, str]]:
            rows = db.execute("SELECT what, subject, detail FROM audit WHERE what LIKE 'firmware%'")
            return [(str(what), str(subject), str(detail)) for what, subject, detail in rows]

        return await self.house.storage.read(LEDGER, read)


def _run(arguments: list[str]) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main(arguments)
    return code, out.getvalue(), err.getvalue()


@asynccontextmanager
async def yard(folder: Path, more: str = ', "firmware"', **quirks: DeviceQuirks) -> AsyncIterator[Yard]:
    """Stations A and B, or as many as `quirks` name, all connected and idle."""
    quirks = quirks or {"A": DeviceQuirks(spread_s=1.0), "B": DeviceQuirks(spread_s=1.0)}
    file, clock = folder / "depot.toml", SystemClock(SPEED)
    file.write_text(HEAD.format(more=more) + "".join(STATION.format(name=name) for name in quirks))
    house, living = House(load(file), clock), []
    async with house.open() as runtime:
        made = Yard(runtime, house, folder / "control.sock")
        living.append(asyncio.create_task(house.run(runtime)))
        try:
            snapshot = await made.until(
                lambda s: any(c.id == CHANNEL and c.state == "ok" for c in s.channels)
            )
            host = next(c.host for c in snapshot.channels if c.id == CHANNEL)
            for name, quirk in quirks.items():
                evse = made.evses[name] = SimEvse(f"{name}/1", 16.0)
                made.devices[name] = SimDevice(
                    f"SN-{name}", "TP-AC22", OLD, f"http://{host}/v1", [evse], clock, {}, quirks=quirk
                )
            world = World(
                clock, 1, {"site": SimCircuit(None, 63.0)}, list(made.evses.values()), lambda _: NOTHING
            )
            living += [asyncio.create_task(one.run()) for one in (world, *made.devices.values())]
            await made.until(lambda s: all(e.connected and e.state == "available" for e in s.evses))
            yield made
        finally:
            for task in living[::-1]:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task


async def test_two_chargers_one_after_the_other(tmp_path: Path) -> None:
    async with yard(tmp_path) as y:
        at_work: set[tuple[str, ...]] = set()
        following = asyncio.create_task(
            y.depot("firmware", "upgrade", "B", "A", "--version", NEW, "--follow")
        )
        while not following.done():
            snapshot = await y.runtime.next_snapshot(y.runtime.snapshot)
            rows = () if snapshot.campaign is None else snapshot.campaign.stations
            at_rest = ("waiting", "done", "failed", "left")
            at_work.add(tuple(row.station for row in rows if row.state not in at_rest))
        code, out, err = await following
        assert (code, err) == (0, "")
        assert at_work == {(), ("B",), ("A",)}, "never both"
        said = [line.split("  ", 1)[1] for line in out.splitlines()[:-1]]
        assert said.index("B  done") < said.index("A  ordered")
        assert {"A  waiting", "B  upgrading 50 %", "A  downloading 50 %", "A  done"} <= set(said)
        assert out.splitlines()[-1] == "2 of 2 done"
        assert y.firmware() == [NEW, NEW]
        assert [what for what, _, _ in await y.audit() if what != "firmware"] == [
            "firmware-campaign",
            *("firmware-ordered", "firmware-done") * 2,
            "firmware-campaign-over",
        ]
        _, document, _ = await y.depot("firmware", "status", "--json")
        assert {each["firmware"] for each in json.loads(document)["stations"]} == {NEW}


async def test_a_vehicle_finishes_first_and_none_is_started_meanwhile(tmp_path: Path) -> None:
    async with yard(tmp_path, A=DeviceQuirks(spread_s=1.0)) as y:
        y.evses["A"].plug(Vehicle("VAN", None, battery_wh=60_000.0, soc=0.3, max_a=16.0))
        await y.client.call("start", evse="A/1")
        await y.until(lambda s: s.evses[0].session is not None)
        await y.upgrade("A")
        shown = await y.until(lambda s: s.campaign is not None and s.campaign.stations[0].text)
        assert shown.campaign is not None
        assert shown.campaign.stations[0].text == "A/1 has a session"
        await y.client.call("stop", evse="A/1")
        await y.until(lambda s: s.evses[0].session is None)
        y.evses["A"].unplug()
        await y.until(lambda s: s.campaign is not None and s.campaign.stations[0].state == "downloading")
        order = (await y.client.call("start", evse="A/1"))["order"]
        found = await y.until(lambda s: any(o.id == order and o.outcome for o in s.orders))
        assert next(o.reason for o in found.orders if o.id == order) == "its firmware is being upgraded"
        assert (await y.campaign("done", "failed")).state == "done"
        assert y.firmware() == [NEW]


async def test_the_first_failure_leaves_the_other_alone(tmp_path: Path) -> None:
    failing, fine = DeviceQuirks(spread_s=1.0, upgrade="fails"), DeviceQuirks(spread_s=1.0)
    async with yard(tmp_path, A=failing, B=fine) as y:
        code, _, err = await y.depot("firmware", "upgrade", "A", "B", "--version", NEW, "--follow")
        assert (code, err) == (1, f"depot: firmware upgrade failed: A: {BAD_IMAGE}; 0 of 2 done\n")
        snapshot = await y.until(lambda s: any(alarm.kind == "firmware" for alarm in s.alarms))
        assert next(a.text for a in snapshot.alarms if a.kind == "firmware").endswith("left as they are: B")
        assert y.firmware() == [OLD, OLD]
        await y.until(lambda s: all(e.state == "available" for e in s.evses))


async def test_one_that_hangs_is_given_up_and_holds_nobody_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("controller.core.campaign.PATIENCE_S", 120.0)
    async with yard(tmp_path, A=DeviceQuirks(spread_s=1.0, upgrade="hangs")) as y:
        await y.upgrade("A")
        campaign = await y.campaign("failed")
        assert campaign.text == "A: no progress for 2 min (last: upgrading 50 %); 0 of 1 done"


@pytest.mark.parametrize(
    ("more", "version", "reason"),
    [
        ("", NEW, "purpose firmware not consented"),
        (', "firmware"', "3.1.0", f"3.1.0 is not proven to be {OLD} or newer: it could not come back"),
    ],
)
async def test_what_the_channel_refuses(tmp_path: Path, more: str, version: str, reason: str) -> None:
    async with yard(tmp_path, more, A=DeviceQuirks(spread_s=1.0)) as y:
        await y.upgrade("A", version=version)
        assert (await y.campaign("failed")).text == f"A: {reason}; 0 of 1 done"
        assert y.firmware() == [OLD]


async def test_a_second_campaign_and_a_stop(tmp_path: Path) -> None:
    async with yard(tmp_path) as y:
        await y.upgrade("A", "B")
        await y.until(lambda s: s.campaign is not None and s.campaign.stations[0].state == "downloading")
        code, _, err = await y.depot("firmware", "upgrade", "B", "--version", NEW)
        assert code == 1
        assert err.startswith(f"depot: firmware upgrade refused: a campaign for {NEW} is under way")
        stopped = await y.depot("firmware", "stop")
        assert stopped == (0, f"no further station gets {NEW}; one that has begun goes on\n", "")
        assert (await y.campaign("stopped")).text.endswith("1 of 2 done")
        assert y.firmware() == [NEW, OLD]
        assert (await y.depot("firmware", "stop"))[1] == "no upgrade is under way\n"


@pytest.mark.parametrize(
    ("args", "code"),
    [
        ({"stations": ["X"], "version": NEW}, "unknown-station"),
        ({"stations": [["A"]], "version": NEW}, "unknown-station"),
        ({"stations": [], "version": NEW}, "bad-request"),
        ({"stations": "A", "version": NEW}, "bad-request"),
        ({"stations": ["A"]}, "bad-request"),
        ({"stations": ["A"], "version": "3.1 0"}, "bad-request"),
        ({"stations": ["A"], "version": "x" * 51}, "bad-request"),
        ({"stations": ["A"], "version": NEW, "url": "image.bin"}, "bad-request"),
        ({"stations": ["A"], "version": NEW, "url": 5}, "bad-request"),
    ],
    ids=lambda value: str(value)[:50],
)
async def test_bad_calls(tmp_path: Path, args: dict[str, Any], code: str) -> None:
    async with yard(tmp_path, A=DeviceQuirks(spread_s=1.0)) as y:
        with pytest.raises(CallRefused) as refused:
            await y.client.call("firmware-upgrade", **args)
        assert refused.value.code == code
        assert y.runtime.snapshot is not None
        assert y.runtime.snapshot.campaign is None


# --- the command on the wire ----------------------------------------------------------------------------------------

ALLOWED = frozenset({"monitor", "control", "firmware"})


def upgrade(name: str, url: str | None = None) -> UpgradeFirmware:
    return UpgradeFirmware(name, EvseId("CP1/1"), CHANNEL, NEW, url)


async def test_it_is_handed_out_until_it_is_answered_and_under_one_name(tmp_path: Path) -> None:
    async with onsite(tmp_path, some_settings(ALLOWED)) as b:
        peer = await b.charger()
        b.host.send(upgrade("c1", "https://images.example/tp.bin"))
        command = await peer.poll()
        assert (command["command"], command["params"]) == (
            "firmware_upgrade",
            {"firmware_version": NEW, "url": "https://images.example/tp.bin"},
        )
        assert "expiry" in command
        b.clock.advance(10)
        again = await peer.poll()
        assert again["command_id"] == command["command_id"]
        await peer.word(command, "accepted")
        await peer.word(command, "accepted")
        b.clock.advance(10)
        assert await peer.poll(wait=1) is None
        assert [e.command for e in b.heard.of(CommandSent)] == ["c1"]
        assert [e.command for e in b.heard.of(CommandAccepted)] == ["c1"]


async def test_one_without_a_poll_gets_it_with_its_heartbeat(tmp_path: Path) -> None:
    async with onsite(tmp_path, some_settings(ALLOWED)) as b:
        peer = await b.charger()
        b.host.send(upgrade("c1"))
        b.clock.advance(30)
        _, answer = await peer.heartbeat()
        [command] = answer["data"]["commands"]
        assert command["params"] == {"firmware_version": NEW}
        await peer.word(command, "accepted")
        assert isinstance(await b.heard.ended("c1"), CommandAccepted)


async def test_one_that_fails_after_it_began_is_heard_once(tmp_path: Path) -> None:
    async with onsite(tmp_path, some_settings(ALLOWED)) as b:
        peer = await b.charger()
        b.host.send(upgrade("c1"))
        command = await peer.poll()
        await peer.word(command, "accepted")
        for _ in range(2):
            await peer.word(command, "failed", message="no space")
        [failed] = b.heard.of(FirmwareReported)
        assert (failed.version, failed.status, failed.text) == (NEW, "failed", "no space")


async def test_an_image_comes_over_tls(tmp_path: Path) -> None:
    async with onsite(tmp_path, some_settings(ALLOWED)) as b:
        await b.charger()
        b.host.send(upgrade("c1", "http://images.example/tp.bin"))
        refused = await b.heard.ended("c1")
        assert isinstance(refused, CommandRefused)
        assert refused.reason == "the address of the image must begin with https://"
