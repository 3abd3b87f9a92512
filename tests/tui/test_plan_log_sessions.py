"""Plan, log and sessions in the variants the common table does not have, what if, frames, and what can be taken along."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from ui.client import CallRefused, Disconnected, NotReachable
from ui.format import ASCII
from ui.screens.copying import takes_copies

from . import depot_documents as documents
from . import depot_values as values
from .conftest import Run
from .depot_values import ScriptedSource
from .screen_text import assert_screen, screen_text, until

KEYS = {"sessions": "3", "plan": "4", "log": "7"}
SHOWN = {"sessions": "3 sessions in 7 days", "plan": "ready 1/3", "log": "session began"}
DENIED = CallRefused("not-allowed", "guest may look but not act; join the group depot-operators")
LOST = "no controller, connection refused: /run/depot/control.sock"


async def opened(pilot: Pilot[None], source: ScriptedSource, name: str, **answers: Any) -> None:
    source.documents.update(documents.everything() | answers)
    await pilot.press(KEYS[name])
    await until(lambda: f"{KEYS[name]} {name.upper()}" in screen_text(pilot.app))


async def shows(pilot: Pilot[None], *words: str) -> None:
    await until(lambda: all(word in screen_text(pilot.app).replace("\n ", " ") for word in words))


# --- variants --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KEYS)
async def test_abnormal(running: Run, name: str) -> None:
    async with running(values.abnormal()) as (pilot, source):
        await opened(pilot, source, name)
        await shows(pilot, SHOWN[name])
        assert_screen(pilot.app, f"{name}-abnormal-80x24")


@pytest.mark.parametrize("name", ["sessions", "log"])
async def test_stale(running: Run, name: str) -> None:
    async with running(values.stale()) as (pilot, source):
        await opened(pilot, source, name)
        await shows(pilot, SHOWN[name], "DEGRADED")
        assert_screen(pilot.app, f"{name}-stale-80x24")


@pytest.mark.parametrize("name", KEYS)
async def test_loading(running: Run, name: str) -> None:
    async with running(values.normal()) as (pilot, source):
        source.hold.clear()
        await opened(pilot, source, name)
        await shows(pilot, "loading...")
        assert_screen(pilot.app, f"{name}-loading-80x24")
        source.hold.set()
        await shows(pilot, SHOWN[name])


@pytest.mark.parametrize("name", KEYS)
async def test_without_colour_nothing_is_lost(
    running: Run, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    async with running(values.abnormal()) as (pilot, source):
        await opened(pilot, source, name)
        await shows(pilot, SHOWN[name])
        assert_screen(pilot.app, f"{name}-abnormal-80x24")
        segments = [part for strip in pilot.app.screen._compositor.render_strips() for part in strip]
        marked = {
            part.text.strip() for part in segments if part.style is not None and part.style.color is not None
        }
        plain = [part for part in segments if part.text.strip() in marked and part.text.strip()]
        assert all(text in screen_text(pilot.app) for text in marked) and (plain or not marked)


# --- what if ---------------------------------------------------------------------------------------------------------


ASKED = [*"BUS-03 -9h; add", "enter"]


@pytest.mark.parametrize("size", [(80, 24), (160, 50)], ids=["80x24", "160x50"])
async def test_what_if(running: Run, size: tuple[int, int]) -> None:
    async with running(values.normal(), size) as (pilot, source):
        await opened(pilot, source, "plan")
        await shows(pilot, SHOWN["plan"])
        await pilot.press("m")
        await shows(pilot, "what if (")
        await pilot.press(*ASKED)
        await shows(pilot, "WHAT IF", "difference")
        assert [args for name, args in source.asked if name == "what-if"] == [{"change": "BUS-03 -9h; add"}]
        assert source.calls == [], "asking orders nothing"
        assert_screen(pilot.app, f"plan-what-if-{size[0]}x{size[1]}")
        await pilot.press("escape")
        await until(lambda: "WHAT IF" not in screen_text(pilot.app))
        assert "4 PLAN" in screen_text(pilot.app)
        await pilot.press("escape")
        await shows(pilot, "1 OVERVIEW")


async def test_what_if_in_ascii(running: Run) -> None:
    async with running(values.normal(), glyphs=ASCII) as (pilot, source):
        await opened(pilot, source, "plan")
        await shows(pilot, SHOWN["plan"])
        await pilot.press("m", *ASKED)
        await shows(pilot, "difference")
        assert screen_text(pilot.app).isascii()
        assert_screen(pilot.app, "plan-what-if-ascii-80x24")


async def test_what_if_while_both_plans_are_made(running: Run) -> None:
    async with running(values.normal()) as (pilot, source):
        await opened(pilot, source, "plan")
        await shows(pilot, SHOWN["plan"])
        source.hold.clear()
        await pilot.press("m", *ASKED)
        await shows(pilot, "planning both...")
        assert_screen(pilot.app, "plan-what-if-loading-80x24")
        await pilot.press("escape")  # nobody wants the answer any more
        source.hold.set()
        await until(lambda: "WHAT IF" not in screen_text(pilot.app))


@pytest.mark.parametrize(
    ("name", "answer", "said"),
    [
        ("refused", CallRefused("bad-request", "BUS-03 -9h: Sun 10:30 lies in the past"), "lies in the past"),
        ("no-permission", DENIED, "no permission: guest may look"),
        ("other-version", CallRefused("unknown-call", "no call 'what-if'"), "is it of another version?"),
        ("lost", NotReachable(LOST), "connection refused"),
    ],
)
async def test_what_if_without_an_answer_says_why(
    running: Run, name: str, answer: Exception, said: str
) -> None:
    async with running(values.normal()) as (pilot, source):
        await opened(pilot, source, "plan", **{"what-if": answer})
        await shows(pilot, SHOWN["plan"])
        await pilot.press("m", *ASKED)
        await shows(pilot, "WHAT IF BUS-03 -9h; add", said)
        if name in ("refused", "no-permission"):
            assert_screen(pilot.app, f"plan-what-if-{name}-80x24")


async def test_what_if_says_which_planner_answered(running: Run) -> None:
    answer = documents.what_if()
    answer["then"] |= {"by": "rules", "why": "the solver did not answer within 3 s"}
    async with running(values.normal()) as (pilot, source):
        await opened(pilot, source, "plan", **{"what-if": answer})
        await shows(pilot, SHOWN["plan"])
        await pilot.press("m", *ASKED)
        await shows(pilot, "then planned by rules: the solver did not answer")


async def test_what_if_in_an_empty_depot(running: Run) -> None:
    nobody = {**documents.plan(), "evses": [], "expected": []}
    answer = documents.what_if() | {"now": nobody}
    async with running(values.normal()) as (pilot, source):
        await opened(pilot, source, "plan", plan=nobody, **{"what-if": answer})
        await shows(pilot, "no vehicle is charging")
        await pilot.press("m", *"add 3 30 kWh 06:00", "enter")
        await shows(pilot, "WHAT IF", "0/0      1/4", "CP004/1: not there -> ready yes at 06:30")
        await pilot.press("escape")
        await until(lambda: "WHAT IF" not in screen_text(pilot.app))


async def test_what_if_is_not_asked_without_a_link_or_words(running: Run) -> None:
    async with running(values.normal()) as (pilot, source):
        await opened(pilot, source, "plan")
        await shows(pilot, SHOWN["plan"])
        await pilot.press("m", "enter")
        await pilot.press("m", *"add", "escape")
        source.feed(Disconnected(LOST))
        await shows(pilot, "NOT CONNECTED")
        await pilot.press("m")
        await shows(pilot, "what if is not possible: not connected")
        assert "what-if" not in [name for name, _ in source.asked]


# --- frames ----------------------------------------------------------------------------------------------------------


async def at_the_fault(pilot: Pilot[None], source: ScriptedSource, **answers: Any) -> None:
    """The frames around the alarm of CP005."""
    await opened(pilot, source, "log", **answers)
    await shows(pilot, SHOWN["log"])
    await pilot.press("g", "n")
    await until(lambda: ">!  19:12:07  alarm 2" in screen_text(pilot.app))
    await pilot.press("enter")
    await shows(pilot, "FRAMES of CP005 around 19:12:07")


@pytest.mark.parametrize("size", [(80, 24), (160, 50)], ids=["80x24", "160x50"])
async def test_frames_around_a_line(running: Run, size: tuple[int, int]) -> None:
    async with running(values.abnormal(), size) as (pilot, source):
        await at_the_fault(pilot, source)
        await shows(pilot, "GroundFailure", "Accepted")
        until_text = (values.NOW - timedelta(minutes=30) + timedelta(seconds=30)).isoformat()
        assert ("frames", {"about": "CP005", "until": until_text}) in source.asked
        assert_screen(pilot.app, f"log-frames-{size[0]}x{size[1]}")
        await pilot.press("n")
        await until(lambda: ">~  19:12:09.0 <- CP005" in screen_text(pilot.app))
        await pilot.press("escape")
        await shows(pilot, SHOWN["log"])


async def test_frames_in_ascii(running: Run) -> None:
    async with running(values.abnormal(), glyphs=ASCII) as (pilot, source):
        await at_the_fault(pilot, source)
        await shows(pilot, "GroundFailure", "Accepted")
        assert screen_text(pilot.app).isascii()
        assert_screen(pilot.app, "log-frames-ascii-80x24")


async def test_frames_of_all_follow_the_newest(running: Run) -> None:
    async with running(values.normal()) as (pilot, source):
        await opened(pilot, source, "log")
        await shows(pilot, SHOWN["log"])
        await pilot.press("f")
        await shows(pilot, "FRAMES of all stations", ">   19:12:12.0 <- CP005")
        newer = documents.frames()
        newer["frames"].append(documents.frame(False, '[2,"1","Heartbeat",{}]', "CP001", seconds=1))
        source.documents["frames"] = newer
        await pilot.press("R")
        await shows(pilot, ">   19:42:06.0 <- CP001")
        assert ("frames", {"about": None, "until": None}) in source.asked
        await pilot.press("f")
        await shows(pilot, SHOWN["log"])


async def test_frames_loading_and_none(running: Run) -> None:
    async with running(values.abnormal()) as (pilot, source):
        await opened(pilot, source, "log", frames={"frames": [], "more": False})
        await shows(pilot, SHOWN["log"])
        source.hold.clear()
        await pilot.press("f")
        await shows(pilot, "loading...")
        assert_screen(pilot.app, "log-frames-loading-80x24")
        source.hold.set()
        await shows(pilot, "no frames are kept of it")
        assert_screen(pilot.app, "log-frames-empty-80x24")


async def test_who_may_not_see_frames_is_told_once(running: Run) -> None:
    async with running(values.normal()) as (pilot, source):
        await opened(pilot, source, "log", frames=DENIED)
        await shows(pilot, SHOWN["log"])
        await pilot.press("f")
        await shows(pilot, "no permission: guest may look")
        assert_screen(pilot.app, "log-frames-no-permission-80x24")
        await pilot.press("R", "R")
        await pilot.pause()
        assert [name for name, _ in source.asked].count("frames") == 1, "a refusal is not asked for again"


async def test_frames_stay_when_the_link_breaks(running: Run) -> None:
    async with running(values.abnormal()) as (pilot, source):
        await at_the_fault(pilot, source)
        await shows(pilot, "GroundFailure", "Accepted")
        source.feed(Disconnected(LOST))
        source.documents["frames"] = NotReachable(LOST)
        await pilot.press("R")
        await shows(pilot, "NOT CONNECTED", "OLD, as last told", "GroundFailure")
        assert_screen(pilot.app, "log-frames-disconnected-80x24")


async def test_a_frame_cannot_paint(running: Run) -> None:
    nasty = {
        "frames": [documents.frame(False, "[2,\x1b[2J\r\n充電" + "x" * 5_000, "CP\x1b[0m", seconds=1)],
        "more": False,
    }
    async with running(values.normal()) as (pilot, source):
        await opened(pilot, source, "log", frames=nasty)
        await shows(pilot, SHOWN["log"])
        await pilot.press("f")
        await shows(pilot, "[2,?[2J")
        assert screen_text(pilot.app).replace("\n", "").isprintable()


@pytest.mark.parametrize(
    ("typed", "said"),
    [("what-if", "what if ("), ("frames", "FRAMES of all stations"), ("export", "write what is listed")],
)
async def test_the_command_line_reaches_them_too(running: Run, typed: str, said: str) -> None:
    async with running(values.normal()) as (pilot, source):
        source.documents.update(documents.everything())
        await pilot.press("colon", *typed, "enter")
        await shows(pilot, said)


# --- taken along -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "keys", "copied"),
    [
        ("plan", [], "BUS-07 CP002/1: leaves 2026-11-23 06:30, 96.0 kWh planned, ready NO\n12.0 kWh short: circuit row_a is full\n"
         "what would help: 10 A more on row_a brings 12.0 kWh for 1.20 EUR"),
        ("log", [], "2026-11-22 19:40:07 alarm over CP005/1 GroundFailure"),
        ("log", ["f", "N"], '2026-11-22 19:12:09.000000 from CP005 (ocpp1.6): [4,"9f3a-18","InternalError","",{}]'),
    ],
)  # fmt: skip
async def test_copies_the_row(
    running: Run, name: str, keys: list[str], copied: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    async with running(values.normal()) as (pilot, source):
        await opened(pilot, source, name)
        await shows(pilot, SHOWN[name])
        for key in keys:
            await pilot.press(key)
            await shows(pilot, "FRAMES", "InternalError")
        await pilot.press("c")
        await shows(pilot, "sent to the clipboard of your terminal")
        assert pilot.app.clipboard == copied


async def test_a_copied_session_has_no_whole_token(running: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    async with running(values.normal()) as (pilot, source):
        await opened(pilot, source, "sessions")
        await shows(pilot, SHOWN["sessions"])
        await pilot.press("c")
        await shows(pilot, "sent to the clipboard")
        assert "evse CP001/1" in pilot.app.clipboard and "…7F2A" in pilot.app.clipboard
        assert "04A2B3C47F2A" not in pilot.app.clipboard


async def test_a_console_without_a_clipboard_is_spared(running: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "linux")
    async with running(values.normal()) as (pilot, source):
        await opened(pilot, source, "log")
        await shows(pilot, SHOWN["log"])
        await pilot.press("c")
        await shows(pilot, "the terminal linux has no clipboard")
        assert pilot.app.clipboard == ""
    taken = {
        name: takes_copies({"TERM": name}) for name in ("xterm", "tmux-256color", "screen", "vt100", "dumb")
    }
    assert taken == {"xterm": True, "tmux-256color": True, "screen": True, "vt100": False, "dumb": False}
    assert takes_copies({})


def files_in(folder: Path) -> list[str]:
    return [each.name for each in folder.iterdir()]


async def export(pilot: Pilot[None], source: ScriptedSource, path: Path) -> None:
    await opened(pilot, source, "sessions")
    await shows(pilot, SHOWN["sessions"])
    await pilot.press("e")
    await shows(pilot, "write what is listed to this file", "~/sessions-2026-11-22.csv")
    await pilot.press("ctrl+u", *str(path), "enter")


async def test_sessions_into_a_file(running: Run, tmp_path: Path) -> None:
    path = tmp_path / "night.csv"
    async with running(values.normal()) as (pilot, source):
        await export(pilot, source, path)
        await until(path.exists)
        await shows(pilot, "3 sessions written to")
        assert ("sessions", {"tokens": "hashed"}) in [
            (name, {key: args[key] for key in ("tokens",) if key in args}) for name, args in source.asked
        ], "id tokens leave as aliases"
    head, *rows = path.read_text().splitlines()
    assert head.startswith("id,evse,transaction,token,vehicle,started,") and len(rows) == 3
    assert path.stat().st_mode & 0o777 == 0o600


async def test_only_what_is_listed_is_written(running: Run, tmp_path: Path) -> None:
    path = tmp_path / "night.csv"
    async with running(values.normal()) as (pilot, source):
        await opened(pilot, source, "sessions")
        await pilot.press("slash", *"bus-09", "enter")
        await shows(pilot, "1-1/1")
        await pilot.press("e", "ctrl+u", *str(path), "enter")
        await shows(pilot, "1 sessions written to")
    assert [row.split(",")[4] for row in path.read_text().splitlines()] == ["vehicle", "BUS-09"]


@pytest.mark.parametrize("where", ["there.csv", "no/such/folder.csv", ""])
async def test_a_file_that_cannot_be_made_is_said(running: Run, tmp_path: Path, where: str) -> None:
    (tmp_path / "there.csv").write_text("mine")
    async with running(values.normal()) as (pilot, source):
        await export(pilot, source, tmp_path / where)
        await shows(pilot, "nothing written:")
    assert (tmp_path / "there.csv").read_text() == "mine"
    assert files_in(tmp_path) == ["there.csv"]


async def test_a_locked_or_lonely_dashboard_writes_nothing(running: Run) -> None:
    async with running(values.normal()) as (pilot, source):
        await opened(pilot, source, "sessions")
        await shows(pilot, SHOWN["sessions"])
        await pilot.press("L", "e")
        await shows(pilot, "export is not possible: locked")
    async with running(values.normal()) as (pilot, source):
        await opened(pilot, source, "sessions")
        source.feed(Disconnected(LOST))
        await shows(pilot, "NOT CONNECTED")
        await pilot.press("e")
        await shows(pilot, "export is not possible: not connected")


async def test_a_refusal_while_pages_are_read_writes_nothing(running: Run, tmp_path: Path) -> None:
    async with running(values.normal()) as (pilot, source):
        await opened(pilot, source, "sessions")
        await shows(pilot, SHOWN["sessions"])
        source.documents["sessions"] = CallRefused("failed", "the disk is full")
        await pilot.press("e", "ctrl+u", *str(tmp_path / "x.csv"), "enter")
        await shows(pilot, "nothing written: the disk is full")
    assert files_in(tmp_path) == []
