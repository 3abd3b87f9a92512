"""A night's work from the keyboard: the real dashboard on the real control socket of a whole depot, with simulated
chargers on real sockets behind it. Nothing is fed to the screens, and nothing is done but by keys.
"""

from __future__ import annotations

import getpass
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from textual.app import App
from textual.pilot import Pilot

from controller.clock import SystemClock
from controller.runtime import Runtime
from drivers.sim.site import DemoSite
from tests.audit_rows import audit_tail
from tests.demo_house import demo_house
from ui.app import DepotApp
from ui.client import Client
from ui.format import ASCII

from .screen_text import screen_text, until

SPEED = 4.0
DEADLINE_S = 120.0  # real seconds, for each step; on a quiet machine it takes one or two


@asynccontextmanager
async def a_night(folder: Path) -> AsyncIterator[tuple[Runtime, DemoSite, Path]]:
    """Six stations, three of them on OCPP; every vehicle comes at once and stays."""
    clock = SystemClock(SPEED)
    site = DemoSite(6, clock, 1)
    assert site.fleet is not None
    site.fleet.habits = replace(
        site.fleet.habits, stay_s=(40_000.0, 40_000.0), soc=(0.1, 0.2), leave_early=0.0, leave_late=0.0,
        picky=0.0, sleepy=0.0,
    )  # fmt: skip
    async with demo_house(site, folder) as runtime:
        yield runtime, site, folder / "control.sock"


def shows(app: App[None], *wanted: str) -> bool:
    shown = " ".join(screen_text(app).split())
    return all(each in shown for each in wanted)


class Operator:
    """Presses keys, and reads."""

    def __init__(self, pilot: Pilot[None]) -> None:
        self.pilot = pilot

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)

    async def types(self, text: str) -> None:
        names = {" ": "space", "/": "slash", "%": "percent_sign", ":": "colon"}
        await self.pilot.press(*(names.get(key, key) for key in text), "enter")

    async def reads(self, *wanted: str) -> None:
        try:
            await until(partial(shows, self.pilot.app, *wanted), DEADLINE_S)
        except AssertionError:
            raise AssertionError(f"{wanted} is not on\n{screen_text(self.pilot.app)}") from None

    async def opens(self, name: str) -> None:
        await self.press("colon")
        await self.types(name)
        await self.reads("2 EVSE Demo depot", f"{name}/1")


async def test_a_whole_night_by_keyboard(tmp_path: Path) -> None:
    async with a_night(tmp_path) as (runtime, site, socket):
        app = DepotApp(Client(socket), glyphs=ASCII)
        async with app.run_test(size=(80, 24)) as pilot:
            night = Operator(pilot)
            await the_evening(night, site)
            await the_alarms(night)
            await the_vehicles(night)
            await a_station_that_hangs(night)
            await the_books(night)
            await the_lock(night)
            await night.press("q")
            await until(lambda: not app.is_running)
        await audited(runtime)
        circuits = site.world.report()["circuits"]
        assert isinstance(circuits, dict)
        assert max(circuits["site"]["longest_overload_s"]) < 10.0


async def the_evening(night: Operator, site: DemoSite) -> None:
    """At a glance; then something breaks, and `n` finds it."""
    await night.reads("1 OVERVIEW Demo depot", "AUTO", "CP001/1 charging", "CP003/1 charging")
    site.evses[2].break_down("GroundFailure")
    await night.reads("CP003/1 FAULTED")
    assert "CP003/1" in "".join(screen_text(night.pilot.app).splitlines()[:12]), "the five-second test"
    await night.press("n", "enter")
    await night.reads("2 EVSE", "CP003/1 FAULTED", "fault: GroundFailure")


async def the_alarms(night: Operator) -> None:
    await night.press("5", "slash")
    await night.types("CP003")
    await night.reads("5 ALARMS", "UNACK CP003", "respond in")
    await night.press("a")
    await night.reads("you have seen", "y = do it")
    await night.press("y")
    await night.reads("acked CP003")
    await night.press("z")
    await night.types("30m waiting for the electrician")
    await night.reads("SHELVE CP003", "for 30m")
    await night.press("y")
    await night.reads("shelved by", "waiting for the electrician")
    await night.press("escape", "escape")


async def the_vehicles(night: Operator) -> None:
    """Limited, sent away earlier, paused and set going again; each with what the vehicle gets in the end."""
    await night.opens("CP001")
    await night.press("l")
    await night.types("8")
    await night.reads("limit CP001/1?", "y = do it")
    await night.press("y")
    await night.reads("limit 8 A", "DONE", "grant 8 commanded 8 accepted 8")
    await night.press("d")
    await night.types("23:59 60 %")
    await night.reads("DEPART CP001/1", "y = do it")
    await night.press("y")
    await night.reads("depart of CP001/1: done")
    await night.press("p")
    await night.reads("PAUSE CP001/1")
    await night.press("y")
    await night.reads("paused by operator", "grant 0")
    await night.press("r")
    await night.reads("RESUME CP001/1")
    await night.press("y")
    await night.reads("grant 8 commanded 8 accepted 8", "CP001/1 charging")
    await night.press("l")
    await night.types("none")
    await night.press("y")
    await until(lambda: not shows(night.pilot.app, "operator limit"), DEADLINE_S)


async def a_station_that_hangs(night: Operator) -> None:
    """Asked for its status, then switched off and on the hard way, which takes its name."""
    await night.opens("CP002")
    await night.press("t", "enter")
    await night.reads("TRIGGER CP002/1", "y = do it")
    await night.press("y")
    await night.reads("trigger status by this dashboard DONE", "the station says: Accepted")
    await night.press("b", *["backspace"] * 4)
    await night.types("hard")
    await night.reads("HARD RESET CP002", "type CP002 and Enter")
    await night.types("CP002")
    await night.reads("reset hard by this dashboard", "the station says: Accepted")
    await night.reads("reset hard by this dashboard DONE")


async def the_books(night: Operator) -> None:
    await night.press("4")
    await night.reads("4 PLAN", "CP001/1", "ready")
    await night.press("w")
    await night.reads("bound by")
    await night.press("3")
    await night.reads("3 SESSIONS", "CP001/1", "open")
    await night.press("7")
    await night.reads("7 LOG", "station-asked")
    await night.press("6")
    await night.reads("6 CHANNELS", "ocpp", "open-platform/cloud")
    await night.press("question_mark")
    await night.reads("HELP")
    await night.press("escape", "1")
    await night.reads("1 OVERVIEW")


async def the_lock(night: Operator) -> None:
    await night.press("L", "enter", "p")
    await night.reads("LOCKED", "pause is not possible: locked: press L and type unlock")
    await night.press("L")
    await night.types("unlock")
    await until(lambda: not shows(night.pilot.app, "LOCKED"))


async def audited(runtime: Runtime) -> None:
    me = getpass.getuser()
    rows = [row for row in await audit_tail(runtime.ledger, 200) if row["by"] == me]
    done = [row["what"] for row in rows]
    assert done == [
        "alarm-acked", "alarm-shelved", "limit", "departure-set", "pause", "resume", "limit", "station-asked",
        "station-asked",
    ]  # fmt: skip
