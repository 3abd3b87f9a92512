"""What keys do, through the real app: orders only after `y`, nothing pretends, nothing breaks."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from textual import events
from textual.app import App

from controller.core.model import CircuitId, EvseId, EvseState, MeterId, each_phase
from controller.core.snapshot import Snapshot
from ui.client import CallRefused, Disconnected, NotReachable

from . import depot_documents as documents
from . import depot_values as values
from .conftest import Run
from .depot_values import ROW_A
from .screen_text import screen_text, until


async def test_a_confirmed_pause_is_sent_once_and_shows_no_result_of_its_own(running: Run) -> None:
    async with running(values.normal()) as (pilot, source):
        await pilot.press("enter", "p")
        await until(lambda: "PAUSE CP001/1: grant 16 A becomes 0 A" in screen_text(pilot.app))
        assert source.calls == []
        await pilot.press("y", "y", "y")
        await until(lambda: "taken as order o-12" in screen_text(pilot.app))
        assert source.calls == [("pause", {"evse": "CP001/1"})]
        shown = screen_text(pilot.app)
        assert "CP001/1  charging" in shown and "grant 16" in shown  # nothing changed but the notice
        source.feed(replace(values.normal(), orders=(values.order("pause", 4, outcome="done"),)))
        await until(lambda: "measured +2.0s" in screen_text(pilot.app))
        assert "DONE" in screen_text(pilot.app)


@pytest.mark.parametrize("cancel", ["n", "escape"])
async def test_a_cancelled_order_calls_nothing(running: Run, cancel: str) -> None:
    async with running(values.normal()) as (pilot, source):
        await pilot.press("enter", "x")
        await until(lambda: "STOP CP001/1" in screen_text(pilot.app))
        await pilot.press(cancel)
        await until(lambda: "stop cancelled, nothing was sent" in screen_text(pilot.app))
        await pilot.press("y")
        assert source.calls == []


@pytest.mark.parametrize(
    ("typed", "said", "args"),
    [
        ("10", "at most 10 A", {"limit_ma": 10_000}),
        ("12.5 A", "at most 12.5 A", {"limit_ma": 12_500}),
        ("0", "0 A stops the charging", {"limit_ma": 0}),
        ("none", "is removed", {"limit_ma": None}),
    ],
)
async def test_limit_asks_for_a_value_then_for_a_yes(
    running: Run, typed: str, said: str, args: dict[str, Any]
) -> None:
    async with running(values.normal()) as (pilot, source):
        await pilot.press("enter", "l", *typed)
        await until(lambda: f" {typed}" in screen_text(pilot.app).splitlines()[-1])
        await pilot.press("enter")
        await until(lambda: said in screen_text(pilot.app))
        assert source.calls == []
        await pilot.press("y")
        await until(lambda: bool(source.calls))
        assert source.calls == [("limit", {"evse": "CP001/1", **args})]


@pytest.mark.parametrize("typed", ["ten", "-4 A", "10 kWh", ""])
async def test_a_limit_that_is_none_is_never_asked(running: Run, typed: str) -> None:
    async with running(values.normal()) as (pilot, source):
        await pilot.press("enter", "l", *typed, "enter", "y")
        await pilot.pause()
        assert "y = do it" not in screen_text(pilot.app)
        assert source.calls == []


async def test_start_takes_its_bounds(running: Run) -> None:
    idle = replace(values.normal(), evses=(values.free("CP001"),))
    async with running(idle) as (pilot, source):
        await pilot.press("enter", "s")
        pilot.app.post_message(events.Paste("16 A, 20 kWh, 80 %, 1 h"))
        await pilot.press("enter")
        await until(lambda: "until 20.0 kWh or 80 % or 60m" in screen_text(pilot.app))
        await pilot.press("y")
        await until(lambda: bool(source.calls))
        wanted = {"limit_ma": 16_000, "energy_wh": 20_000, "soc": 80, "duration_s": 3600.0}
        assert source.calls == [("start", {"evse": "CP001/1", **wanted})]


@pytest.mark.parametrize(
    ("key", "reason"),
    [("x", "no session to stop"), ("p", "no session to pause"), ("r", "not paused")],
)
async def test_an_idle_evse_says_why_a_verb_makes_no_sense(running: Run, key: str, reason: str) -> None:
    async with running(replace(values.normal(), evses=(values.free("CP001"),))) as (pilot, source):
        await pilot.press("enter", key, "y")
        await until(lambda: f"is not possible: {reason}" in screen_text(pilot.app))
        assert source.calls == []


async def test_resume_needs_a_pause(running: Run) -> None:
    paused = values.evse("CP001")._replace(paused=True, state=EvseState.SUSPENDED_EVSE)
    async with running(values.normal()) as (pilot, source):
        await pilot.press("enter", "r")
        await until(lambda: "resume is not possible: not paused" in screen_text(pilot.app))
        source.feed(replace(values.normal(), evses=(paused,)))
        await until(lambda: "CP001/1  paused" in screen_text(pilot.app))
        await pilot.press("r", "y")
        await until(lambda: source.calls == [("resume", {"evse": "CP001/1"})])


@pytest.mark.parametrize(
    ("answer", "shown"),
    [
        (CallRefused("forbidden", "viewer rights only"), "pause of CP001/1 refused: viewer rights only"),
        (NotReachable("the controller closed the connection"), "it may or may not have arrived"),
    ],
)
async def test_a_refusal_is_shown(running: Run, answer: CallRefused | NotReachable, shown: str) -> None:
    async with running(values.normal()) as (pilot, source):
        source.answer = answer
        await pilot.press("enter", "p", "y")
        await until(lambda: shown in screen_text(pilot.app))


async def test_an_answer_that_comes_late_waits_for_the_person(running: Run) -> None:
    async with running(values.normal()) as (pilot, source):
        source.answer = CallRefused("forbidden", "viewer rights only")
        source.hold.clear()
        await pilot.press("enter", "p", "y")
        await until(lambda: "handing over" in screen_text(pilot.app))
        await pilot.press("x")
        await until(lambda: "still being handed over" in screen_text(pilot.app))
        await pilot.press("escape")
        source.hold.set()
        await until(lambda: "1 OVERVIEW" in screen_text(pilot.app))
        await pilot.press("2")
        await until(lambda: "pause of CP001/1 refused: viewer rights only" in screen_text(pilot.app))
        assert len(source.calls) == 1


async def test_read_only_says_why_and_calls_nothing(running: Run) -> None:
    async with running(values.normal(), read_only=True) as (pilot, source):
        await pilot.press("enter", "p", "y")
        await until(lambda: "read-only dashboard" in screen_text(pilot.app))
        assert "[p pause]" in screen_text(pilot.app) and "READ-ONLY" in screen_text(pilot.app)
        assert source.calls == []


async def test_an_order_confirmed_after_the_link_broke_is_not_sent(running: Run) -> None:
    async with running(values.normal()) as (pilot, source):
        await pilot.press("enter", "p")
        source.feed(Disconnected("the controller closed the connection"))
        await until(lambda: "NOT CONNECTED" in screen_text(pilot.app))
        await pilot.press("y")
        await until(lambda: "pause was not sent: not connected" in screen_text(pilot.app))
        assert source.calls == []


async def test_verbs_do_nothing_on_the_overview(running: Run) -> None:
    async with running(values.normal()) as (pilot, source):
        await pilot.press("p", "y", "x", "y", "s", "y")
        await pilot.pause()
        assert source.calls == [] and "1 OVERVIEW" in screen_text(pilot.app)


async def test_the_cursor_follows_its_evse_and_n_finds_the_abnormal(running: Run) -> None:
    async with running(values.abnormal()) as (pilot, source):
        for key, station in [("n", "CP002"), ("n", "CP005"), ("n", "CP003"), ("N", "CP005"), ("j", "CP001")]:
            await pilot.press(key)
            await until(partial(_cursor_is_on, pilot.app, station))
        source.feed(values.normal())
        await until(lambda: "!!0" in screen_text(pilot.app))
        assert "CP001/1" in _cursor_row(screen_text(pilot.app))
        await pilot.press("G")
        await until(lambda: "DC01/1" in _cursor_row(screen_text(pilot.app)))


async def test_an_untouched_cursor_stays_on_top_when_trouble_comes(running: Run) -> None:
    crowd = values.big(50)
    async with running(crowd) as (pilot, source):
        assert "CP001/1" in _cursor_row(screen_text(pilot.app))
        troubled = tuple(evse._replace(connected=False) for evse in crowd.evses[20:])
        source.feed(replace(crowd, evses=(*crowd.evses[:20], *troubled)))
        await until(lambda: "CP021/1" in _cursor_row(screen_text(pilot.app)))


async def test_an_open_evse_stays_the_same_when_rows_move(running: Run) -> None:
    async with running(values.normal()) as (pilot, source):
        await pilot.press("2")
        await until(lambda: "CP001/1  charging" in screen_text(pilot.app))
        source.feed(values.abnormal())
        await until(lambda: "!!1" in screen_text(pilot.app))
        await pilot.press("p", "y")
        await until(lambda: source.calls == [("pause", {"evse": "CP001/1"})])


async def test_filter_keeps_matching_rows_and_escape_brings_all_back(running: Run) -> None:
    async with running(values.normal()) as (pilot, _):
        await pilot.press("slash", *"bus-07", "enter")
        await until(lambda: "1-1/1" in screen_text(pilot.app))
        assert "CP002/1" in _cursor_row(screen_text(pilot.app))
        await pilot.press("slash", *"xyz", "enter")
        await until(lambda: "nothing matches 'bus-07xyz'" in screen_text(pilot.app))
        await pilot.press("enter", "n", "j", "escape")
        await until(lambda: "1-6/6" in screen_text(pilot.app))


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (20, 5), (79, 23), (400, 120)])
async def test_any_size_and_back(running: Run, size: tuple[int, int]) -> None:
    async with running(values.abnormal()) as (pilot, _):
        before = screen_text(pilot.app)
        for keys in ([], ["enter"], ["question_mark"]):
            await pilot.press(*keys)
            await pilot.resize_terminal(*size)
            await pilot.resize_terminal(80, 24)
        await pilot.press("1", "escape")
        await until(lambda: _without_cursor(screen_text(pilot.app)) == _without_cursor(before))


@pytest.mark.parametrize("size", [(80, 24), (160, 50)], ids=["80x24", "160x50"])
async def test_a_strange_but_valid_picture_breaks_nothing(running: Run, size: tuple[int, int]) -> None:
    hostile = "A" * 60 + "\x1b[2J\x1b]0;owned\x07 充電"
    nothing = each_phase(None)
    odd = values.evse(
        "CP001", identity=hostile, fault=hostile, bound_by=hostile, channels=(), limit_ma=0, commitment_ma=10**9,
        grant_ma=None, commanded_ma=None, accepted_ma=None, measured_ma=nothing, power_w=None, lease_left_s=-3.0,
        session=values.session(None, token=None, soc=None, short_wh=None), circuit=CircuitId("nowhere"),
    )  # fmt: skip
    loop = values.circuit(
        id=ROW_A, parent=ROW_A, limit_ma=each_phase(0), measured_ma=nothing, background_ma=nothing
    )
    order = values.order(
        "limit", 2, by=hostile, stages=(("queued", values.NOW),), reason=hostile, outcome="failed"
    )
    snapshot = replace(
        values.normal(), text=hostile, state="unheard-of", timezone="Mars/Base", circuits=(loop,),
        evses=(odd, odd._replace(id=EvseId(hostile + "/1"))), meters=(values.meter(id=MeterId(hostile), age_s=None),),
        alarms=(values.alarm(9, "CP001", hostile, state="shelved"),), orders=(order,),
    )  # fmt: skip
    async with running(snapshot, size) as (pilot, _):
        for key in ("enter", "l"):
            await pilot.press(key)
        shown = screen_text(pilot.app)
        assert "2 EVSE" in shown and "FAILED" in shown
        assert shown.replace("\n", "").isprintable()


NAMED = [
    "escape",
    "enter",
    "slash",
    "colon",
    "question_mark",
    "backspace",
    "tab",
    "up",
    "down",
    "pageup",
    "space",
]
MASHED = [*"1234567sxprlnNjkgGawzZedALR09btuoi", *NAMED]  # neither y nor q
NEWS: list[Snapshot | Disconnected] = [values.normal(), values.abnormal(), Disconnected("gone")]
SIZES = [(80, 24), (1, 1), (160, 50), (20, 3)]


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.sampled_from(MASHED), min_size=20, max_size=60), min_size=1, max_size=4))
async def test_mashed_keys_never_break_it_and_never_order_without_a_yes(
    running: Run, bursts: list[list[str]]
) -> None:
    async with running(values.abnormal()) as (pilot, source):
        source.documents.update(documents.everything())
        for number, burst in enumerate(bursts):
            for key in burst:  # far faster than the app repaints, as a cat on the keyboard would
                pilot.app.simulate_key(key)
            await pilot.resize_terminal(*SIZES[number % len(SIZES)])
            source.feed(NEWS[number % len(NEWS)])
        await pilot.resize_terminal(80, 24)
        source.feed(values.abnormal())
        await pilot.press("escape", "escape", "escape", "escape", "1")
        await until(lambda: "1 OVERVIEW" in screen_text(pilot.app))
        assert source.calls == []


async def test_pictures_that_come_too_fast_replace_each_other(
    running: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ui.app.REPAINT_S", 0.25)
    async with running(values.normal()) as (pilot, source):
        repaints = 0
        repaint = pilot.app.screen.repaint  # type: ignore[attr-defined]

        def counted() -> None:
            nonlocal repaints
            repaints += 1
            repaint()

        monkeypatch.setattr(pilot.app.screen, "repaint", counted)
        for second in range(100):
            source.feed(replace(values.normal(), time=values.NOW + timedelta(seconds=second)))
        await until(lambda: "19:43:46" in screen_text(pilot.app))
        assert repaints <= 2


@pytest.mark.parametrize("key", ["q", "ctrl+c", "ctrl+q"])
async def test_quit(running: Run, key: str) -> None:
    async with running(values.normal()) as (pilot, _):
        await pilot.press(key)
        await until(lambda: not pilot.app.is_running)


def _cursor_is_on(app: App[None], station: str) -> bool:
    return f"{station}/1" in _cursor_row(screen_text(app))


def _cursor_row(shown: str) -> str:
    return next(row for row in shown.splitlines() if row.startswith(">"))


def _without_cursor(shown: str) -> str:
    return shown.replace(">", " ")
