"""Every screen in its variants, as text files a reviewer can read (UPDATE_SCREENS=1 rewrites them)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from controller.core.model import EvseState
from controller.core.snapshot import Snapshot
from ui.app import DepotApp
from ui.client import Disconnected
from ui.format import ASCII, UNICODE
from ui.lines import Tone
from ui.widgets.canvas import LOOKS

from . import depot_values as values
from .conftest import Run
from .depot_values import ScriptedSource
from .screen_text import assert_screen, screen_text, until

EMPTY = replace(values.normal(), evses=(), circuits=values.normal().circuits[:1])
LOST = Disconnected("no controller, connection refused: /run/depot/control.sock")


@pytest.mark.parametrize("size", [(80, 24), (160, 50)], ids=["80x24", "160x50"])
@pytest.mark.parametrize(
    ("name", "snapshot"),
    [
        ("normal", values.normal()),
        ("abnormal", values.abnormal()),
        ("stale", values.stale()),
        ("empty", EMPTY),
    ],
)
async def test_overview(running: Run, size: tuple[int, int], name: str, snapshot: Snapshot) -> None:
    async with running(snapshot, size) as (pilot, _):
        assert_screen(pilot.app, f"overview-{name}-{size[0]}x{size[1]}")


async def test_overview_in_ascii_has_no_other_character(running: Run) -> None:
    foreign = replace(values.abnormal(), site="Dépôt Süd")
    async with running(values.normal(), glyphs=ASCII) as (pilot, source):
        source.feed(foreign)
        await until(lambda: "Depot Sud" in screen_text(pilot.app))
        assert screen_text(pilot.app).isascii()
        assert_screen(pilot.app, "overview-abnormal-ascii-80x24")


async def test_disconnected_keeps_the_last_values_and_marks_them_old(running: Run) -> None:
    async with running(values.abnormal()) as (pilot, source):
        source.feed(LOST)
        await until(lambda: "NOT CONNECTED" in screen_text(pilot.app))
        assert_screen(pilot.app, "overview-disconnected-80x24")
        source.feed(values.abnormal())
        await until(lambda: "NOT CONNECTED" not in screen_text(pilot.app))


async def test_without_a_controller_it_says_so_and_waits() -> None:
    source = ScriptedSource()
    app = DepotApp(source, glyphs=UNICODE)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: "connecting..." in screen_text(app))
        source.feed(LOST)
        await until(lambda: "connection refused" in screen_text(app))
        assert_screen(app, "overview-absent-80x24")
        await pilot.press("2")
        await until(lambda: "2 EVSE" in screen_text(app) and "connection refused" in screen_text(app))
        source.feed(values.normal())
        await until(lambda: "no EVSE selected" in screen_text(app))
        await pilot.press("escape", "2")
        await until(lambda: "CP001/1  charging" in screen_text(app))


@pytest.mark.parametrize("size", [(80, 24), (160, 50)], ids=["80x24", "160x50"])
async def test_evse(running: Run, size: tuple[int, int]) -> None:
    async with running(values.normal(), size) as (pilot, _):
        await pilot.press("enter")
        await until(lambda: "2 EVSE" in screen_text(pilot.app))
        assert_screen(pilot.app, f"evse-normal-{size[0]}x{size[1]}")


async def test_evse_offline(running: Run) -> None:
    async with running(values.abnormal()) as (pilot, _):
        await pilot.press("enter")
        await until(lambda: "2 EVSE" in screen_text(pilot.app))
        assert_screen(pilot.app, "evse-abnormal-80x24")


async def test_evse_with_orders_at_every_stage(running: Run) -> None:
    orders = (
        values.order("limit", 4, id="o-10", text="10 A", outcome="done"),
        values.order("start", 1, id="o-11", outcome="refused", reason="the station says: ConnectorOccupied"),
        values.order("pause", 2, evse="CP002/1", id="o-12"),
        values.order("pause", 2, id="o-13"),
    )
    async with running(replace(values.normal(), orders=orders)) as (pilot, _):
        await pilot.press("enter")
        await until(lambda: "o-13" in screen_text(pilot.app))
        assert_screen(pilot.app, "evse-orders-80x24")


@pytest.mark.parametrize("key", ["x", "p"])
async def test_confirmation(running: Run, key: str) -> None:
    async with running(values.normal()) as (pilot, _):
        await pilot.press("enter", key)
        await until(lambda: "y = do it" in screen_text(pilot.app))
        assert_screen(pilot.app, f"evse-confirm-{key}-80x24")


async def test_help(running: Run) -> None:
    async with running(values.normal()) as (pilot, _):
        await pilot.press("question_mark")
        await until(lambda: "HELP" in screen_text(pilot.app))
        assert_screen(pilot.app, "help-80x24")
        await pilot.press("escape")
        await until(lambda: "1 OVERVIEW" in screen_text(pilot.app))


async def test_the_abnormal_stands_in_the_first_twelve_lines_even_among_fifty(running: Run) -> None:
    crowd = values.big(50)
    last = crowd.evses[-1]._replace(state=EvseState.FAULTED, fault="GroundFailure")
    snapshot = replace(
        crowd, evses=(*crowd.evses[:-1], last), alarms=(values.alarm(1, "CP050", "GroundFailure"),)
    )
    async with running(snapshot) as (pilot, _):
        top = "\n".join(screen_text(pilot.app).splitlines()[:12])
        assert "!! 19:35 UNACK CP050" in top
        assert ">!! CP050/1    FAULTED" in top


async def test_priorities_differ_without_colour_and_use_only_eight_colours(running: Run) -> None:
    async with running(values.abnormal()) as (pilot, _):
        strips = pilot.app.screen._compositor.render_strips()
        rows = {strip.text[:14]: list(strip) for strip in strips}
        critical = next(part for part in rows[">!! CP003/1   "] if part.text.strip() == "!!")
        high = next(part for part in rows[" !  CP002/1   "] if part.text.strip() == "!")
        assert critical.style is not None and critical.style.reverse
        assert critical.style.color is not None and critical.style.color.name == "red"
        assert high.style is not None and not high.style.reverse
        numbers = [
            colour.number
            for row in rows.values()
            for part in row
            if part.style is not None
            for colour in (part.style.color, part.style.bgcolor)
            if colour is not None and colour.number is not None
        ]
        assert numbers and max(numbers) < 8
    assert not any(look.dim for look in LOOKS.values()) and set(LOOKS) == set(Tone)


async def test_a_paused_vehicle_that_will_be_short_says_both_within_80_columns(running: Run) -> None:
    bus = values.session("ARTICULATED-BUS-0007", short_wh=12_000)
    paused = values.evse("CP001", paused=True, bound_by="paused by operator", session=bus)
    async with running(replace(values.normal(), evses=(paused,))) as (pilot, _):
        await pilot.press("2")
        await until(lambda: "session" in screen_text(pilot.app))
        shown = screen_text(pilot.app)
        assert " bound by: paused by operator\n" in shown
        assert " session ~ED-BUS-0007 " in shown and "short 12.0 kWh ~" in shown


@pytest.mark.parametrize(("short_wh", "marked"), [(499, False), (500, True)])
async def test_a_little_less_than_it_needs_is_no_abnormal_thing(
    running: Run, short_wh: int, marked: bool
) -> None:
    """As the plan and the alarm see it."""
    evse = values.evse("CP001", session=values.session(short_wh=short_wh))
    async with running(replace(values.normal(), evses=(evse,))) as (pilot, _):
        assert (">~  CP001/1" in screen_text(pilot.app)) is marked


async def test_long_names_hide_neither_counts_nor_links_nor_which_station(running: Run) -> None:
    """Names keep their ends, and what strangers say of themselves stands last."""
    names = [f"NORTH-HALL-STATION-{number:04}" for number in range(3)]
    long = [values.evse(name, session=values.session(f"ARTICULATED-{name}")) for name in names]
    gone = values.evse("X" * 30, connected=False, identity="Y" * 60)
    alarms = tuple(values.alarm(1 + n % 3, names[2], "late " * 30, "unack", n) for n in range(50))
    crowded = replace(
        values.normal(),
        site="A depot of a very long name",
        evses=(*long, gone),
        alarms=alarms,
        state="failsafe",
    )
    async with running(replace(crowded, site="A de")) as (pilot, source):
        source.feed(crowded)
        await until(lambda: "A depot" in screen_text(pilot.app))
        shown = screen_text(pilot.app)
        assert " !!17 !17 ~16  links 2/2\n" in shown and "and 47 more alarms" in shown
        assert all(f"~ON-{number:04}/1 " in shown and f"~N-{number:04} " in shown for number in range(3))
        assert "~TION-0002" in shown, "where the alarm is"
        pilot.app.selected = gone.id  # type: ignore[attr-defined]
        await pilot.press("2")
        await until(lambda: "NOT CONNECTED (ocpp1.6)" in screen_text(pilot.app))
