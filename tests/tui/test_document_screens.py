"""Screens 3 to 7 in every variant, as text files a reviewer can read (UPDATE_SCREENS=1 rewrites them)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from textual.pilot import Pilot

from controller.core.snapshot import Snapshot
from ui.client import CallRefused, Disconnected, NotReachable
from ui.format import ASCII, UNICODE, Glyphs

from . import depot_documents as documents
from . import depot_values as values
from .conftest import Run
from .depot_values import ScriptedSource
from .screen_text import assert_screen, screen_text, until

KEYS = {"sessions": "3", "plan": "4", "alarms": "5", "channels": "6", "log": "7"}
EMPTY: dict[str, dict[str, Any]] = {
    "sessions": {"sessions": [], "more": False},
    "plan": {"version": 1, "timezone": "UTC", "currency": None, "made": None, "by": None,
             "why": "no plan has been made yet", "evses": []},
    "alarm": {}, "channels": {"channels": []}, "egress": {"egress": [], "more": False}, "log": {"lines": []},
}  # fmt: skip
DENIED = CallRefused("not-allowed", "guest may look but not act; join the group depot-operators")
LOST = "no controller, connection refused: /run/depot/control.sock"
SHOWN = {  # what only the answered document brings
    "sessions": "3 sessions in 7 days, 1 open",
    "plan": "ready 1/3",
    "alarms": "Look at the lamp of the station",
    "channels": "purposes: control, monitor",
    "log": "session began",
}


async def opened(pilot: Pilot[None], source: ScriptedSource, name: str, answers: dict[str, Any]) -> None:
    source.documents.update(answers)
    await pilot.press(KEYS[name])
    if name == "channels":
        await pilot.press("slash", *"open-platform", "enter")
    await until(lambda: f"{KEYS[name]} {name.upper()}" in screen_text(pilot.app))


def snapshot_for(name: str) -> Snapshot:
    return values.abnormal() if name == "alarms" else values.normal()


@pytest.mark.parametrize("size", [(80, 24), (160, 50)], ids=["80x24", "160x50"])
@pytest.mark.parametrize("name", KEYS)
async def test_normal(running: Run, name: str, size: tuple[int, int]) -> None:
    async with running(snapshot_for(name), size) as (pilot, source):
        await opened(pilot, source, name, documents.everything())
        await until(lambda: SHOWN[name] in screen_text(pilot.app))
        assert_screen(pilot.app, f"{name}-normal-{size[0]}x{size[1]}")


@pytest.mark.parametrize("name", KEYS)
async def test_ascii_has_no_other_character(running: Run, name: str) -> None:
    async with running(snapshot_for(name), glyphs=ASCII) as (pilot, source):
        await opened(pilot, source, name, documents.everything())
        await until(lambda: SHOWN[name] in screen_text(pilot.app))
        assert screen_text(pilot.app).isascii()
        assert_screen(pilot.app, f"{name}-ascii-80x24")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("sessions", "no session in the last seven days"),
        ("plan", "no vehicle is charging"),
        ("alarms", "no alarm: nothing here needs a person"),
        ("channels", "no channel and no meter in the config"),
        ("log", "nothing happened yet"),
    ],
)
async def test_empty(running: Run, name: str, said: str) -> None:
    bare = replace(values.normal(), channels=(), meters=(), evses=())
    async with running(bare) as (pilot, source):
        source.documents.update(EMPTY)
        await pilot.press(KEYS[name])
        await until(lambda: said in screen_text(pilot.app))
        assert_screen(pilot.app, f"{name}-empty-80x24")


@pytest.mark.parametrize("name", KEYS)
async def test_loading_then_there(running: Run, name: str) -> None:
    async with running(snapshot_for(name)) as (pilot, source):
        source.hold.clear()
        await opened(pilot, source, name, documents.everything())
        await until(lambda: "loading" in screen_text(pilot.app))
        assert SHOWN[name] not in screen_text(pilot.app)
        source.hold.set()
        await until(lambda: SHOWN[name] in screen_text(pilot.app))


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (DENIED, "no permission: guest may look"),
        (CallRefused("unknown-call", "no call"), "is it of another version?"),
        (CallRefused("failed", "the disk is full"), "the disk is full"),
    ],
    ids=["no-permission", "other-version", "failed"],
)
@pytest.mark.parametrize("name", KEYS)
async def test_without_its_document_it_says_why(
    running: Run, name: str, answer: CallRefused, said: str
) -> None:
    async with running(snapshot_for(name)) as (pilot, source):
        await opened(pilot, source, name, dict.fromkeys(values.LOOKS, answer))
        await until(lambda: said in screen_text(pilot.app).replace("\n ", " "))
        if answer is DENIED:
            assert_screen(pilot.app, f"{name}-no-permission-80x24")


@pytest.mark.parametrize("name", KEYS)
async def test_a_lost_link_keeps_what_was_told_and_marks_it_old(running: Run, name: str) -> None:
    async with running(snapshot_for(name)) as (pilot, source):
        await opened(pilot, source, name, documents.everything())
        await until(lambda: SHOWN[name] in screen_text(pilot.app))
        source.feed(Disconnected(LOST))
        source.documents.update(dict.fromkeys(values.LOOKS, NotReachable(LOST)))
        await pilot.press("R")
        marks = (
            ["NOT CONNECTED"] if name in ("alarms", "channels") else ["NOT CONNECTED", "OLD, as last told"]
        )
        await until(lambda: all(mark in screen_text(pilot.app) for mark in marks))
        assert SHOWN[name] in screen_text(pilot.app)
        assert_screen(pilot.app, f"{name}-disconnected-80x24")
        source.documents.update(documents.everything())
        source.feed(replace(snapshot_for(name), site="Depot Noord again"))
        await until(lambda: "again" in screen_text(pilot.app) and "OLD" not in screen_text(pilot.app))


@pytest.mark.parametrize("name", KEYS)
async def test_a_stale_site_is_said_on_every_screen(running: Run, name: str) -> None:
    async with running(values.stale()) as (pilot, source):
        await opened(pilot, source, name, documents.everything())
        await until(lambda: "DEGRADED: main meter silent" in screen_text(pilot.app))
        if name == "channels":
            await pilot.press("escape")
            await until(lambda: "!  meter main" in screen_text(pilot.app))
        assert_screen(pilot.app, f"{name}-stale-80x24") if name in ("channels", "plan") else None


def above(text: str, lines: int = 12) -> str:
    return "\n".join(text.splitlines()[:lines])


@pytest.mark.parametrize(
    ("name", "abnormal"),
    [
        ("sessions", " ~  CP005/1    …7F2A"),
        ("plan", ">!  BUS-07 CP002/1"),
        ("alarms", ">!! 19:35 UNACK CP003"),
        ("channels", "open-platform/cloud  reconnecting"),
        ("log", " !  19:12:07  alarm 2            CP005/1"),
    ],
)
async def test_the_abnormal_stands_in_the_first_twelve_lines(running: Run, name: str, abnormal: str) -> None:
    async with running(values.abnormal()) as (pilot, source):
        await opened(pilot, source, name, documents.everything())
        await until(lambda: abnormal in above(screen_text(pilot.app)))


@pytest.mark.parametrize("glyphs", [UNICODE, ASCII], ids=["unicode", "ascii"])
async def test_an_evse_shows_what_it_was_set_to_and_drew(running: Run, glyphs: Glyphs) -> None:
    async with running(values.normal(), glyphs=glyphs) as (pilot, source):
        source.documents.update(documents.everything())
        await pilot.press("enter")
        full = "#" if glyphs is ASCII else "█"
        await until(lambda: full * 40 in "".join(screen_text(pilot.app).splitlines()[16:21]))
        assert_screen(pilot.app, f"evse-chart-{'ascii' if glyphs is ASCII else 'unicode'}-80x24")


Act = Callable[[Pilot[None]], Any]


@pytest.mark.parametrize(
    ("name", "keys", "call", "args"),
    [
        ("alarms", ["a"], "alarm-ack", {"alarm": "a-CP003-1"}),
        ("alarms", ["z", *"30m waiting for parts", "enter"], "alarm-shelve",
         {"alarm": "a-CP003-1", "for_s": 1800, "reason": "waiting for parts"}),
        ("alarms", ["o", *"new cable", "enter"], "service",
         {"source": "CP003", "out": True, "reason": "new cable"}),
    ],
)  # fmt: skip
async def test_acts_wait_for_a_yes(
    running: Run, name: str, keys: list[str], call: str, args: dict[str, Any]
) -> None:
    async with running(values.abnormal()) as (pilot, source):
        source.answer = {}
        await opened(pilot, source, name, documents.everything())
        await pilot.press(*keys)
        await until(lambda: "y = do it" in screen_text(pilot.app))
        assert source.calls == []
        await pilot.press("n")
        await until(lambda: "cancelled, nothing was sent" in screen_text(pilot.app))
        await pilot.press(*keys, "y")
        await until(lambda: ": done" in screen_text(pilot.app))
        assert source.calls == [(call, args)]


@pytest.mark.parametrize(
    ("keys", "word", "call", "args"),
    [
        (["d"], "stop", "channel-disable", {"channel": "open-platform/cloud"}),
        (["e", *"A. Bos for monitor, control", "enter"], "open-platform/cloud", "channel-enable",
         {"channel": "open-platform/cloud", "by": "A. Bos", "purposes": ["monitor", "control"]}),
    ],
)  # fmt: skip
async def test_a_channel_wants_a_word_typed(
    running: Run, keys: list[str], word: str, call: str, args: dict[str, Any]
) -> None:
    async with running(values.abnormal()) as (pilot, source):
        source.answer = {}
        await opened(pilot, source, "channels", documents.everything())
        for refused in (["y", "enter"], ["escape"], ["n"], ["enter"]):
            await pilot.press(*keys)
            await until(lambda: f"type {word} and Enter" in screen_text(pilot.app))
            await pilot.press(*refused, *(["escape"] if refused == ["n"] else []))
            await until(lambda: f"type {word} and Enter" not in screen_text(pilot.app))
            said = screen_text(pilot.app)
            assert "was not sent" in said or "cancelled, nothing was sent" in said
        assert source.calls == []
        await pilot.press(*keys, *word, "enter")
        await until(lambda: ": done" in screen_text(pilot.app))
        assert source.calls == [(call, args)]


@pytest.mark.parametrize("typed", ["", "soon because", "30m", "-5m why", "1 h"])
async def test_a_shelf_needs_a_time_and_a_reason(running: Run, typed: str) -> None:
    async with running(values.abnormal()) as (pilot, source):
        await opened(pilot, source, "alarms", documents.everything())
        await pilot.press("z", *typed, "enter", "y")
        await until(lambda: "it needs a time" in screen_text(pilot.app))
        assert source.calls == []


async def test_the_log_follows_until_somebody_looks_back_and_freezes(running: Run) -> None:
    async with running(values.normal()) as (pilot, source):
        await opened(pilot, source, "log", documents.everything())
        await until(lambda: "4-4/4" in screen_text(pilot.app) or "1-4/4" in screen_text(pilot.app))
        newer = documents.log()
        newer["lines"].append(documents.happened(5, "stop", "CP001/1", "newest", "tech", minutes=0))
        source.documents["log"] = newer
        await pilot.press("R")
        await until(lambda: ">   19:42:07  stop" in screen_text(pilot.app))
        await pilot.press("space")
        await until(lambda: "FROZEN" in screen_text(pilot.app))
        source.documents["log"] = EMPTY["log"]
        await pilot.press("R")
        await pilot.pause()
        assert "newest" in screen_text(pilot.app)
        await pilot.press("space")
        await until(lambda: "nothing happened yet" in screen_text(pilot.app))
