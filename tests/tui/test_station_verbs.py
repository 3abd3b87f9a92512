"""Verbs on a station through the real app: what they ask, what wants a name typed, and what is shown of the answer."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest
from textual.app import App

from controller.core.model import EvseState
from controller.core.snapshot import CampaignView, Snapshot, UpgradeView
from ui import verbs
from ui.client import CallRefused, NotReachable
from ui.errands import LOOKED_FOR, MOST, Errands
from ui.picture import Picture
from ui.verbs import Order, Verb

from . import depot_values as values
from .conftest import Run
from .screen_text import assert_screen, screen_text, until

PICTURE = Picture(values.normal(), None)
SAID: dict[str, Any] = {"said": "Accepted", "done": True, "rows": [], "action": "Reset"}


def after(seconds: float, **changes: Any) -> Snapshot:
    """The normal night, later, with CP001 changed."""
    night = values.normal()
    first = night.evses[0]._replace(**changes)
    return replace(night, time=night.time + timedelta(seconds=seconds), evses=(first, *night.evses[1:]))


def shows(app: App[None], *wanted: str) -> bool:
    shown = " ".join(screen_text(app).split())
    return all(each in shown for each in wanted)


def asked(question: str, **args: object) -> tuple[str, dict[str, object]]:
    return "station-ask", {"station": "CP001", "question": question, "args": args}


@pytest.mark.parametrize(
    ("keys", "told", "call"),
    [
        ("u", "UNLOCK CP001/1: the cable is released; the session of BUS-03 ends", asked("unlock", evse=1)),
        ("t\n", "TRIGGER CP001/1: the station sends status now", asked("trigger", message="status", evse=1)),
        ("b\n", "RESET CP001: it restarts after tidying up; the session of BUS-03 ends", asked("reset")),
        ("o", "OUT OF SERVICE CP001/1: nobody can charge here", asked("available", evse=1, off=True)),
        (":reset cp001 idle\n", "it restarts once nothing charges there", asked("reset", when_idle=True)),
        (":trigger cp001 boot\n", "the station sends boot now", asked("trigger", message="boot")),
        (":soc bus-03 40 %\n", "BUS-03 counts as 40 % full", ("soc", {"target": "BUS-03", "soc": 40})),
        (
            ":discharge cp001 5 kW, 30 %, 1 h\n",
            "BUS-03 feeds back 5.0 kW down to 30 % for 60m",
            ("discharge", {"evse": "CP001/1", "power_w": 5000, "min_soc": 30, "duration_s": 3600}),
        ),
        (
            "d05:15 80 %\n",
            "BUS-03 leaves 05:15 with 80 %, 06:30 until now",
            ("depart", {"target": "BUS-03", "at": "2026-11-23T05:15:00+01:00", "soc": 80}),
        ),
        (
            "d23:00 40 kWh\n",
            "BUS-03 leaves 23:00 with 40.0 kWh",
            ("depart", {"target": "BUS-03", "at": "2026-11-22T23:00:00+01:00", "energy_wh": 40_000}),
        ),
    ],
)
async def test_a_verb_asks_first_and_calls_what_it_said(
    running: Run, keys: str, told: str, call: tuple[str, dict[str, object]]
) -> None:
    async with running(values.normal()) as (pilot, source):
        source.answer = SAID
        await pilot.press("enter", *named(keys))
        await until(lambda: told in " ".join(screen_text(pilot.app).split()))
        assert source.calls == [] and "y = do it" in screen_text(pilot.app)
        await pilot.press("y")
        await until(lambda: source.calls == [call])


def named(keys: str) -> list[str]:
    """Keys of what is typed; a line break is Enter, \b takes a letter away."""
    names = {":": "colon", "\n": "enter", " ": "space", "%": "percent_sign", ",": "comma", "\b": "backspace",
             "/": "slash", ".": "full_stop"}  # fmt: skip
    return [names.get(key, key) for key in keys]


@pytest.mark.parametrize(
    ("keys", "word", "name"),
    [
        ("b\b\b\b\bhard\n", "CP001", "station-ask"),
        (":firmware cp001 1.8.34 https://host/i.bin\n", "CP001", "firmware-upgrade"),
        ("x", "CP001/1", "stop"),
        ("u", "CP001/1", "station-ask"),
        ("b\n", "CP001", "station-ask"),
    ],
    ids=[
        "hard reset",
        "firmware",
        "stop before it leaves",
        "unlock before it leaves",
        "reset before it leaves",
    ],
)
async def test_what_cannot_be_taken_back_wants_its_name(
    running: Run, keys: str, word: str, name: str
) -> None:
    leaving = values.session("BUS-03", departs=values.NOW + timedelta(minutes=40))
    async with running(after(0, session=leaving)) as (pilot, source):
        source.answer = SAID
        typed = named(keys)
        for wrong in (["y", "enter"], ["escape"], ["enter"]):
            await pilot.press("2", *typed)
            await until(partial(shows, pilot.app, f"type {word} and Enter = do it"))
            await pilot.press(*wrong)
            await until(lambda: f"type {word} and" not in screen_text(pilot.app))
        assert source.calls == []
        await pilot.press("2", *typed, *named(word.lower()), "enter")
        await until(lambda: [call for call, _ in source.calls] == [name])
        await pilot.press("y")
        assert len(source.calls) == 1


async def test_the_typed_question_reads_well(running: Run) -> None:
    async with running(values.normal()) as (pilot, _):
        await pilot.press("enter", "b", *["backspace"] * 4, *"hard", "enter")
        await until(partial(shows, pilot.app, "type CP001 and Enter"))
        await pilot.press(*"CP0")
        await until(lambda: screen_text(pilot.app).splitlines()[-1].strip() == "CP0")
        assert_screen(pilot.app, "evse-typed-80x24")


async def test_a_reset_is_followed_until_the_station_is_back(running: Run) -> None:
    async with running(values.normal()) as (pilot, source):
        source.answer = SAID
        source.hold.clear()
        await pilot.press("enter", "b", "enter", "y")
        await until(partial(shows, pilot.app, "ask-1 reset soft by this dashboard", "accepted ..."))
        await pilot.press("p")  # nothing waits for a slow station
        await until(partial(shows, pilot.app, "PAUSE CP001/1"))
        await pilot.press("n", "q")
        await until(partial(shows, pilot.app, "goes on without this screen"))
        source.hold.set()
        await until(partial(shows, pilot.app, "the station says: Accepted"))
        source.feed(after(3, connected=False, state=EvseState.OFFLINE))
        await until(partial(shows, pilot.app, "applied +3.0s > measured ..."))
        source.feed(after(40))
        await until(partial(shows, pilot.app, "measured +37s", "DONE"))
        assert_screen(pilot.app, "evse-errand-80x24")


@pytest.mark.parametrize(
    ("answer", "shown"),
    [
        ({"said": "Rejected", "done": False}, ["REFUSED", "Rejected"]),
        (CallRefused("refused", "CP001: OCPP 1.6 has no word for that"), ["REFUSED", "has no word for that"]),
        (NotReachable("the controller closed the connection"), ["REFUSED", "it may or may not have arrived"]),
        ({"said": "Unlocked", "done": True}, ["DONE", "the station says: Unlocked"]),
    ],
)
async def test_what_the_station_said_is_shown(running: Run, answer: Any, shown: list[str]) -> None:
    async with running(values.normal()) as (pilot, source):
        source.answer = answer
        await pilot.press("enter", "u", "y")
        await until(partial(shows, pilot.app, *shown))


async def test_a_station_elsewhere_and_an_evse_in_service_say_why_not(running: Run) -> None:
    async with running(values.normal()) as (pilot, source):
        await pilot.press("enter", "i", "y")
        await until(partial(shows, pilot.app, "available is not possible: it is not out of service"))
        await pilot.press("escape", "G", "enter", "u", "y")
        await until(
            partial(shows, pilot.app, "only an OCPP station can be asked; this one is on open-platform")
        )
        assert source.calls == []


@pytest.mark.parametrize(
    ("verb", "text", "why"),
    [
        (Verb.DEPART, "soon 80 %", '"soon" is not a time'),
        (Verb.DEPART, "25:00 80 %", '"25:00" is not a time'),
        (Verb.DEPART, "05:30 0 %", "is not a state of charge"),
        (Verb.DEPART, "05:30", "is not"),
        (Verb.RESET, "gently", "is none of soft, hard, idle"),
        (Verb.TRIGGER, "jokes", "is none of status"),
        (Verb.SOC, "full", "is not a state of charge"),
        (Verb.DISCHARGE, "30 %", "needs a power"),
        (Verb.DISCHARGE, "much", "much"),
        (Verb.FIRMWARE, "  ", "needs a version"),
    ],
)
def test_what_is_typed_wrong_is_said_in_a_line(verb: Verb, text: str, why: str) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]+$") as wrong:
        verbs.parse(verb, text, PICTURE)
    assert why in str(wrong.value)


def test_a_span_of_time_is_what_the_console_takes() -> None:
    """Whole seconds: it refuses 3600.0."""
    found = [verbs.parse(Verb.START, "1 h", PICTURE), verbs.parse(Verb.DISCHARGE, "5 kW, 1 h", PICTURE)]
    assert [type(each["duration_s"]) for each in found] == [int, int]


def test_a_departure_is_the_next_one_in_the_sites_time() -> None:
    at = verbs.parse(Verb.DEPART, "19:42 80%", PICTURE)["at"]  # the site's clock shows 19:42:07
    assert datetime.fromisoformat(str(at)) - values.NOW > timedelta(hours=23)


def test_a_departure_without_a_known_vehicle_is_the_evses() -> None:
    stranger = values.evse("CP001")._replace(session=values.session(None))
    assert verbs.call_of(Order(Verb.DEPART, {"soc": 80}), stranger) == (
        "depart",
        {"target": "CP001/1", "soc": 80},
    )


def test_errands_are_bounded_and_one_that_nothing_was_seen_of_says_so() -> None:
    errands, evse = Errands(), values.evse("CP001").id
    for _ in range(2 * MOST):
        id = errands.sent("reset", evse, "soft", values.NOW)
        errands.answered(id, "Accepted", True, values.NOW)
    assert len(errands.of(evse)) == MOST and len(errands.pending) == MOST
    errands.see(after(LOOKED_FOR.total_seconds() + 1))
    newest = errands.of(evse)[0]
    assert (newest.outcome, errands.pending) == ("not seen", [])
    assert newest.reason == "the station says: Accepted; nothing of it in 10 min"


async def test_an_upgrade_of_its_station_is_shown(running: Run) -> None:
    rows = (UpgradeView(values.evse("CP001").station, "downloading", 40, ""),)
    campaign = CampaignView("u-1", "tech", "1.8.34", "running", "", values.NOW, rows)
    async with running(replace(values.normal(), campaign=campaign)) as (pilot, _):
        await pilot.press("enter")
        await until(partial(shows, pilot.app, "firmware 1.8.34 by tech: downloading 40 %"))
