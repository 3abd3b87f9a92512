"""Overview, EVSE, alarms and channels in the variants that the other files leave out; every screen without colour; and
that each of the seven screens has a text file of each variant (UPDATE_SCREENS=1 rewrites those written here)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

import pytest
from textual.app import App
from textual.pilot import Pilot

from controller.core.snapshot import Snapshot
from ui.app import SCREENS as ALL
from ui.client import Disconnected
from ui.format import ASCII, UNICODE

from . import depot_documents as documents
from . import depot_values as values
from .conftest import Run
from .depot_values import ScriptedSource
from .screen_text import SCREENS, assert_screen, screen_text, until

KEYS = {name: str(number) for number, name in enumerate(ALL, 1)}
MINE = ("overview", "evse", "alarms", "channels")
LOST = Disconnected("no controller, connection refused: /run/depot/control.sock")
STRANGER = Disconnected("guest may not look; join the group depot-viewers, or depot-operators to act")
VIEWER = {
    "name": "guest",
    "role": "viewer",
    "why": "guest may look but not act; join the group depot-operators",
}
EMPTY = replace(values.normal(), evses=(), channels=(), meters=(), circuits=values.normal().circuits[:1])


def shows(app: App[None], *wanted: str) -> bool:
    shown = " ".join(screen_text(app).split())
    return all(" ".join(each.split()) in shown for each in wanted)


@asynccontextmanager
async def at(
    running: Run, name: str, snapshot: Snapshot, loading: bool = False, ascii_only: bool = False
) -> AsyncIterator[tuple[Pilot[None], ScriptedSource]]:
    async with running(snapshot, glyphs=ASCII if ascii_only else UNICODE) as (pilot, source):
        if loading:
            source.hold.clear()
        source.documents.update(documents.everything())
        await pilot.press(KEYS[name])
        if name == "channels" and snapshot.channels:
            await pilot.press("slash", *"open-platform", "enter")
        await until(partial(shows, pilot.app, f"{KEYS[name]} {name.upper()}"))
        yield pilot, source


@pytest.mark.parametrize(
    ("name", "variant", "snapshot", "said"),
    [
        ("evse", "stale", values.stale(), "DEGRADED: main meter silent"),
        ("evse", "empty", EMPTY, "no EVSE configured"),
        ("alarms", "stale", values.stale(), "meter silent, last value 12 s old"),
        ("alarms", "abnormal", values.abnormal(), "Look at the lamp of the station"),
        ("channels", "abnormal", values.abnormal(), "token refused: 401"),
    ],
)
async def test_variant(running: Run, name: str, variant: str, snapshot: Snapshot, said: str) -> None:
    async with at(running, name, snapshot) as (pilot, _):
        if name == "evse" and variant == "stale":
            await until(partial(shows, pilot.app, "last 30 min"))
        if name == "alarms":
            await until(partial(shows, pilot.app, "came 2 times before"))
        if name == "channels":
            await until(partial(shows, pilot.app, "requests"))
        await until(partial(shows, pilot.app, said))
        assert_screen(pilot.app, f"{name}-{variant}-80x24")


@pytest.mark.parametrize("name", ["evse", "alarms", "channels"])
async def test_loading(running: Run, name: str) -> None:
    snapshot = values.abnormal() if name == "alarms" else values.normal()
    async with at(running, name, snapshot, loading=True) as (pilot, source):
        if name != "evse":
            await until(partial(shows, pilot.app, "loading"))
        assert_screen(pilot.app, f"{name}-loading-80x24")
        source.hold.set()


async def test_an_evse_of_a_lost_controller_is_old_and_its_keys_say_why(running: Run) -> None:
    async with at(running, "evse", values.normal()) as (pilot, source):
        await until(partial(shows, pilot.app, "█" * 40))
        source.feed(LOST)
        await until(partial(shows, pilot.app, "NOT CONNECTED", "[x stop]"))
        assert_screen(pilot.app, "evse-disconnected-80x24")


@pytest.mark.parametrize("name", MINE)
async def test_a_viewer_sees_everything_and_which_keys_are_not_his(running: Run, name: str) -> None:
    async with running(values.abnormal()) as (pilot, source):
        source.documents.update(documents.everything() | {"whoami": VIEWER})
        source.feed(Disconnected("restarted"))
        source.feed(values.abnormal())
        await until(partial(shows, pilot.app, "VIEWER"))
        await pilot.press(KEYS[name])
        if name == "channels":
            await pilot.press("slash", *"open-platform", "enter")
            await until(partial(shows, pilot.app, "requests"))
        if name == "alarms":
            await until(partial(shows, pilot.app, "came 2 times before"))
        if name != "overview":
            await until(partial(shows, pilot.app, "[in brackets]: guest may look"))
        assert_screen(pilot.app, f"{name}-viewer-80x24")


async def test_a_stranger_is_told_what_is_missing(running: Run) -> None:
    async with running(values.normal()) as (pilot, source):
        source.feed(STRANGER)
        await until(partial(shows, pilot.app, "guest may not look; join the group depot-viewers"))
        assert_screen(pilot.app, "overview-no-permission-80x24")
        await pilot.press("2")
        await until(partial(shows, pilot.app, "2 EVSE"))
        assert_screen(pilot.app, "evse-no-permission-80x24")


@pytest.mark.parametrize("name", ALL)
async def test_without_colour_everything_is_still_said(
    running: Run, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    async with at(running, name, values.abnormal()) as (pilot, _):
        await pilot.pause()
        strips = pilot.app.screen._compositor.render_strips()
        styles = {part.style for strip in strips for part in strip if part.style is not None}
        assert not [style for style in styles if style.color and style.color.name != "default"]
        marks = {
            part.text.strip(): part.style
            for strip in strips
            for part in strip
            if part.text.strip() in ("!!", "!")
        }
        if name in ("overview", "alarms"):
            assert marks["!!"].reverse and marks["!!"].bold and marks["!"].bold and not marks["!"].reverse
        assert f"!!{1}" in strips[0].text.replace(" ", "")


@pytest.mark.parametrize("ascii_only", [True, False], ids=["ascii", "unicode"])
async def test_an_abnormal_evse_stands_in_the_first_twelve_lines(running: Run, ascii_only: bool) -> None:
    async with at(running, "evse", values.abnormal(), ascii_only=ascii_only) as (pilot, _):
        top = "\n".join(screen_text(pilot.app).splitlines()[:12])
        assert "!! 19:35 UNACK CP003" in top and "OFFLINE" in top and "NOT CONNECTED (ocpp1.6)" in top
        assert screen_text(pilot.app).isascii() or not ascii_only


async def test_a_channel_that_is_down_comes_first_among_twenty(running: Run) -> None:
    many = tuple(replace(values.normal().channels[0], id=f"ocpp-{number}") for number in range(20))
    down = replace(many[0], id="zigbee", state="down", text="port taken")
    async with running(replace(values.normal(), channels=(*many, down))) as (pilot, _):
        await pilot.press("6")
        await until(partial(shows, pilot.app, "6 CHANNELS"))
        rows = screen_text(pilot.app).splitlines()
        assert any(row.startswith(">!  zigbee") for row in rows[:12])


@pytest.mark.parametrize("name", ALL)
def test_help_is_not_cut_at_eighty(name: str) -> None:
    assert max(map(len, ALL[name](UNICODE).HELP.splitlines())) <= 80


# The seven screens times what may be wrong with them: the file that shows it, where it is not NAME-VARIANT-80x24.
VARIANTS = (
    "normal",
    "abnormal",
    "stale",
    "empty",
    "loading",
    "disconnected",
    "no-permission",
    "ascii",
    "wide",
)
ELSEWHERE = {
    ("overview", "loading"): "overview-absent-80x24",
    ("overview", "ascii"): "overview-abnormal-ascii-80x24",
    ("evse", "ascii"): "evse-chart-ascii-80x24",
    **{(name, "wide"): f"{name}-normal-160x50" for name in ALL},
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", ALL)
def test_every_variant_of_every_screen_can_be_looked_at(name: str, variant: str) -> None:
    file = SCREENS / f"{ELSEWHERE.get((name, variant), f'{name}-{variant}-80x24')}.txt"
    rows = file.read_text(encoding="utf-8").splitlines()
    width, height = (160, 50) if variant == "wide" else (80, 24)
    assert len(rows) == height and max(map(len, rows)) <= width
    assert KEYS[name] in rows[0] and name.upper() in rows[0]
