"""The command line behind `:`, the lock, contextual help, and what an order costs its vehicle."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from textual.app import App

from controller.core.model import EvseState
from controller.core.snapshot import GridLimitView, PeakView
from ui import consequences, palette
from ui.client import CallRefused, Disconnected
from ui.format import ASCII
from ui.history import BINS, History
from ui.picture import Picture
from ui.verbs import Order, Verb

from . import depot_documents as documents
from . import depot_values as values
from .conftest import Run
from .screen_text import assert_screen, screen_text, until

PICTURE = Picture(values.normal(), None)


# --- what typed text means ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("plan", {"place": "plan"}),
        ("pl", {"place": "plan"}),
        ("cp002", {"evse": "CP002/1"}),
        ("BUS-07", {"evse": "CP002/1"}),
        ("pause cp002", {"evse": "CP002/1", "verb": Verb.PAUSE}),
        ("limit BUS-07 10 A", {"evse": "CP002/1", "verb": Verb.LIMIT, "args": "10 A"}),
        ("quit", {"action": "quit"}),
    ],
)
def test_a_command_means_one_thing(typed: str, meant: dict[str, Any]) -> None:
    found = palette.chosen(typed, PICTURE)
    assert isinstance(found, palette.Suggestion)
    assert {name: getattr(found, name) for name in meant} == meant


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("xyz", "no command 'xyz'"),
        ("s", "could be sessions, start, stop"),
        ("cp00", "could be CP001/1"),
        ("pause", "type more"),
        ("stop nobody", "no command 'stop nobody'"),
        ("plan now", "no command 'plan now'"),
    ],
)
def test_what_is_not_clear_is_asked_again(typed: str, said: str) -> None:
    found = palette.chosen(typed, PICTURE)
    assert isinstance(found, str) and said in found


@given(st.text(max_size=30))
def test_no_text_breaks_it_and_none_gives_an_order_without_an_evse(typed: str) -> None:
    for picture in (PICTURE, Picture()):
        found = palette.chosen(typed, picture)
        assert isinstance(found, str) or found.verb is None or found.evse is not None


# --- through the app ------------------------------------------------------------------------------------------------


async def test_while_typing_it_lists_what_can_be_typed(running: Run) -> None:
    async with running(values.normal()) as (pilot, _):
        await pilot.press("colon", "p")
        await until(lambda: "tonight: timeline" in screen_text(pilot.app))
        assert_screen(pilot.app, "palette-80x24")
        await pilot.press(*"xx")
        await until(lambda: "no command 'pxx'" in screen_text(pilot.app))
        await pilot.press("escape")
        await until(lambda: ": command, Enter" not in screen_text(pilot.app))


async def test_a_command_leads_to_the_question_never_past_it(running: Run) -> None:
    async with running(values.normal()) as (pilot, source):
        source.documents.update(documents.everything())
        await pilot.press("colon", *"pause bus-03", "enter")
        await until(lambda: "with 44.0 kWh less than planned" in " ".join(screen_text(pilot.app).split()))
        assert_screen(pilot.app, "evse-preview-80x24")
        assert source.calls == []
        await pilot.press("y")
        await until(lambda: source.calls == [("pause", {"evse": "CP001/1"})])
        await pilot.press("colon", *"limit CP002 10 A", "enter")
        await until(lambda: "LIMIT CP002/1: at most 10 A" in screen_text(pilot.app))


async def test_the_question_says_what_the_controller_foresees(running: Run) -> None:
    async with running(values.normal()) as (pilot, source):
        foreseen = ["BUS-03 gets 10 A, 16 A now; bound by operator", "BUS-03 leaves at 06:30 with 4 kWh less"]
        source.documents["preview"] = {"order": "limit", "subject": "CP001/1", "text": foreseen}
        await pilot.press("enter", "l", *"10", "enter")
        await until(lambda: "LIMIT CP001/1: BUS-03 gets 10 A" in screen_text(pilot.app))
        assert_screen(pilot.app, "evse-foreseen-80x24")
        assert ("preview", {"order": "limit", "evse": "CP001/1", "limit_ma": 10_000}) in source.asked
        source.documents["preview"] = CallRefused("failed", "nothing has been decided yet")
        await pilot.press("n", "l", *"12", "enter")
        await until(lambda: "at most 12 A until the limit is removed" in screen_text(pilot.app))
        assert source.calls == []


@pytest.mark.parametrize("place", palette.PLACES)
async def test_every_screen_can_be_typed_and_left(running: Run, place: str) -> None:
    async with running(values.normal()) as (pilot, source):
        source.documents.update(documents.everything())
        await pilot.press("colon", *place, "enter")
        await until(lambda: place.upper() in screen_text(pilot.app).splitlines()[0])
        await pilot.press("escape", "1")
        await until(lambda: "1 OVERVIEW" in screen_text(pilot.app))


async def test_help_tells_the_keys_of_the_screen_it_was_asked_on(running: Run) -> None:
    async with running(values.normal()) as (pilot, _):
        await pilot.press("5", "question_mark")
        await until(lambda: "z shelve" in screen_text(pilot.app))
        assert_screen(pilot.app, "help-alarms-80x24")
        await pilot.press("escape")
        await until(lambda: "5 ALARMS" in screen_text(pilot.app))


async def test_w_says_why_an_evse_has_its_current(running: Run) -> None:
    async with running(values.normal()) as (pilot, source):
        source.documents.update(documents.everything())
        await pilot.press("enter", "w")
        await until(lambda: "bound by circuit row_a L2, set by the site's config" in screen_text(pilot.app))
        assert source.calls == []


@pytest.mark.parametrize("keys", [":dy", ":xy", "/xy", "ly", "sy", "z y", "ey"])
@pytest.mark.parametrize("screen", ["2", "5", "6"])
async def test_what_is_typed_in_one_burst_never_becomes_an_order(
    running: Run, screen: str, keys: str
) -> None:
    async with running(values.abnormal()) as (pilot, source):
        source.documents.update(documents.everything())
        await pilot.press(screen)
        if screen == "6":
            await pilot.press("slash", *"open-platform", "enter")
        names = {":": "colon", "/": "slash", " ": "space"}
        for key in keys:
            pilot.app.simulate_key(names.get(key, key))
        await pilot.pause()
        await pilot.pause()
        assert source.calls == []


# --- the lock ---------------------------------------------------------------------------------------------------------


async def test_locked_at_once_and_unlocked_by_a_word_only(running: Run) -> None:
    async with running(values.normal()) as (pilot, source):
        await pilot.press("L", "enter", "p", "y")
        await until(
            lambda: "LOCKED" in screen_text(pilot.app) and "press L and type" in screen_text(pilot.app)
        )
        await pilot.press("L", *"what", "enter", "p", "y")
        assert source.calls == [] and pilot.app.locked  # type: ignore[attr-defined]
        await pilot.press("L", *"foo", "enter")
        await until(lambda: "still locked: that was not the word unlock" in screen_text(pilot.app))
        await pilot.press("L", *"unlock", "enter")
        await until(lambda: "LOCKED" not in screen_text(pilot.app))
        shown = screen_text(pilot.app)
        assert " unlocked\n" in shown and "press L" not in shown and "still locked" not in shown
        await pilot.press("p", "y")
        await until(lambda: source.calls == [("pause", {"evse": "CP001/1"})])


async def test_it_locks_when_nobody_touched_it(running: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ui.app.IDLE_S", 0.2)
    monkeypatch.setattr("ui.app.IDLE_LOOK_S", 0.02)
    async with running(values.normal()) as (pilot, _):
        await until(lambda: "LOCKED" in screen_text(pilot.app))
        assert_screen(pilot.app, "overview-locked-80x24")


VIEWER = "guest may look but not act; join the group night-shift"


def _shows(app: App[None], *wanted: str) -> bool:
    return all(each in screen_text(app) for each in wanted)


async def test_who_may_only_look_is_told_before_anything_is_tried(running: Run) -> None:
    async with running(values.abnormal()) as (pilot, source):
        source.documents["whoami"] = {"name": "guest", "role": "viewer", "why": VIEWER}
        source.feed(Disconnected("restarted"))
        source.feed(values.abnormal())
        await until(partial(_shows, pilot.app, "VIEWER"))
        for screen, brackets in (("2", "[o out]"), ("5", "[a acknowledge]"), ("6", "[d turn off]")):
            await pilot.press(screen, *(["slash", *"cloud", "enter"] if screen == "6" else []))
            await until(partial(_shows, pilot.app, brackets, f"[in brackets]: {VIEWER}"))
        await pilot.press("escape", "escape", "2", "p", "y")
        await until(partial(_shows, pilot.app, f"pause is not possible: {VIEWER}"))
        assert source.calls == []


async def test_whose_rights_changed_is_told_with_the_refusal_and_when_they_are_back(running: Run) -> None:
    async with running(values.normal()) as (pilot, source):
        source.answer = CallRefused("not-allowed", VIEWER)
        source.documents["whoami"] = {"name": "guest", "role": "viewer", "why": VIEWER}
        await pilot.press("enter", "p", "y")
        await until(lambda: "VIEWER" in screen_text(pilot.app) and "refused: guest" in screen_text(pilot.app))
        await pilot.press("p")
        await until(lambda: "[p pause]" in screen_text(pilot.app))
        assert len(source.calls) == 1
        source.documents["whoami"] = {"name": "guest", "role": "operator", "why": None}
        source.feed(Disconnected("restarted"))
        source.feed(values.normal())
        await until(lambda: "VIEWER" not in screen_text(pilot.app))


async def test_q_asks_once_more_while_an_order_of_ours_is_under_way(running: Run) -> None:
    async with running(values.normal()) as (pilot, source):
        await pilot.press("enter", "p", "y")
        await until(lambda: "taken as order o-12" in screen_text(pilot.app))
        source.feed(replace(values.normal(), orders=(values.order("pause", 2),)))
        await until(lambda: "UNDER WAY" in screen_text(pilot.app))
        await pilot.press("q")
        await until(lambda: "goes on without this screen" in screen_text(pilot.app))
        await pilot.press("q")
        await until(lambda: not pilot.app.is_running)


# --- pieces -----------------------------------------------------------------------------------------------------------


def test_a_stop_says_what_is_lacking_already_where_there_is_no_plan() -> None:
    short = values.evse("CP002", session=values.session("BUS-07", short_wh=12_000))
    assert "BUS-07 lacks 12.0 kWh for 06:30 already" in consequences.preview(Order(Verb.STOP), short, PICTURE)
    assert "lacks" not in consequences.preview(Order(Verb.RESUME), short, PICTURE)


def test_the_history_keeps_half_an_hour_and_gaps() -> None:
    history, evse = History(), values.evse("CP001").id
    for second in range(0, 7200, 10):
        at = values.NOW.fromtimestamp(values.NOW.timestamp() + second, values.NOW.tzinfo)
        state = EvseState.CHARGING if second < 6000 or second > 6600 else EvseState.AVAILABLE
        if state is EvseState.CHARGING:
            history.see(replace(values.normal(), time=at))
    seen = history.of(evse, at)
    assert len(seen) == BINS
    assert sum(each is None for each in seen) == pytest.approx(600 / 30, abs=1)
    assert {each.measured_ma for each in seen if each is not None} == {15_900}
    assert history.of(evse, values.NOW)[-1] is None  # too long ago


async def test_limits_from_outside_and_the_quarter_hour_are_shown(running: Run) -> None:
    peak = PeakView(180_000, 21_500, values.NOW.replace(minute=30, second=0), 98_200, 151_000)
    limit = GridLimitView("dso", values.circuit().id, "on", "signal on", 100_000, "", values.NOW)
    async with running(replace(values.normal(), peak=peak, grid_limits=(limit,)), glyphs=ASCII) as (pilot, _):
        assert_screen(pilot.app, "overview-limits-80x24")
        shown = screen_text(pilot.app)
        assert "quarter      98.2 kW [" in shown and "grid limit dso: 100.0 kW on site" in shown


TYPED = {
    "acknowledge": "you have seen",
    "shelve": "shelve for how long",
    "unshelve": "it is not shelved",
    "out-of-service": "why is CP003 out of service",
    "in-service": "it is not out of service",
    "disable": "there is nothing to turn off",  # the first channel stays on site
    "enable": "there is nothing to turn off",
}


@pytest.mark.parametrize("name", palette.KEYS_OF)
async def test_what_a_screens_key_does_can_be_typed(running: Run, name: str) -> None:
    place, key = palette.KEYS_OF[name]
    quiet = replace(values.abnormal(), channels=values.normal().channels)
    async with running(quiet) as (pilot, source):
        source.documents.update(documents.everything())
        await pilot.press("colon", *("minus" if each == "-" else each for each in name), "enter")
        await until(lambda: place.upper() in screen_text(pilot.app).splitlines()[0])
        await until(partial(_shows, pilot.app, TYPED.get(name, "")))
        assert callable(getattr(pilot.app.screen, f"action_{key}"))
        assert source.calls == []
