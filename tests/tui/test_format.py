"""Formatting and verbs as plain functions, and the canvas' promise: only what changed is repainted."""

from __future__ import annotations

from datetime import UTC, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from textual.app import App, ComposeResult
from textual.geometry import Region

from ui import format as fmt
from ui import verbs
from ui.lines import Line, Tone, line
from ui.picture import Picture
from ui.verbs import Verb
from ui.widgets.canvas import Canvas

from . import depot_values as values


@pytest.mark.parametrize(
    ("milli", "width", "text"),
    [
        (32_000, 3, "32"),
        (12_590, 5, "12.5"),
        (12_590, 3, "12"),
        (0, 3, "0"),
        (None, 3, "---"),
        (None, 5, "----"),
    ],
)
def test_limits_round_down(milli: int | None, width: int, text: str) -> None:
    assert fmt.limit_amps(milli, width) == text


@pytest.mark.parametrize(
    ("milli", "width", "text"),
    [(15_710, 5, "15.8"), (0, 5, "0.0"), (142_010, 4, "143"), (-14_320, 5, "-14.4"), (None, 6, "----")],
)
def test_loads_round_away_from_zero(milli: int | None, width: int, text: str) -> None:
    assert fmt.load_amps(milli, width) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "never"),
        (-0.1, "0.0s"),
        (0.84, "0.8s"),
        (42, "42s"),
        (200, "3m"),
        (20_000, "6h"),
        (400_000, "5d"),
    ],
)
def test_age(seconds: float | None, text: str) -> None:
    assert fmt.age(seconds) == text


def test_times_are_the_sites() -> None:
    place = fmt.zone("Europe/Amsterdam")
    assert fmt.day_and_clock(values.NOW, place) == "Sun 22 Nov 19:42:07"
    assert fmt.clock(values.NOW, fmt.zone("Not/AZone")) == "18:42:07Z"
    assert fmt.short_time(values.NOW + timedelta(hours=30), values.NOW, UTC) == "24Nov"
    assert fmt.short_time(None, values.NOW, UTC) == "----"


@pytest.mark.parametrize(
    ("measured", "worst", "limit", "text"),
    [
        (40, 70, 100, "[####--|...]"),
        (41, 70, 100, "[#####-|...]"),  # a load rounds up to the next cell
        (0, 0, 100, "[..........]"),
        (70, 70, 100, "[######|...]"),
        (None, 60, 100, "[?????|....]"),
        (50, 120, 100, "[#####----!]"),
        (120, 50, 100, "[####|####!]"),
        (40, None, 100, "[####??????]"),
        (-20, 30, 100, "[<-|.......]"),
        (0, 0, 0, "[..........]"),
        (5, 5, 0, "[#########!]"),
    ],
)
def test_bar(measured: int | None, worst: int | None, limit: int, text: str) -> None:
    assert fmt.bar(measured, worst, limit, 10, fmt.ASCII) == text


@given(
    st.none() | st.integers(-(10**6), 10**7),
    st.none() | st.integers(0, 10**7),
    st.integers(0, 10**6),
    st.integers(1, 80),
)
def test_a_bar_has_its_width_whatever_it_shows(
    measured: int | None, worst: int | None, limit: int, width: int
) -> None:
    assert len(fmt.bar(measured, worst, limit, width, fmt.UNICODE)) == width + 2


@given(st.text())
def test_clean_keeps_the_length_and_lets_no_control_sequence_through(text: str) -> None:
    for glyphs in (fmt.ASCII, fmt.UNICODE):
        shown = fmt.clean(text, glyphs)
        assert len(shown) == len(text) and shown.isprintable()
    assert fmt.clean(text, fmt.ASCII).isascii()


def test_clean_replaces_what_is_not_one_cell_wide() -> None:
    assert fmt.clean("Süd \x1b[2J 充 e\u0301", fmt.UNICODE) == "Süd ?[2J ? e?"
    assert fmt.clean("Süd", fmt.ASCII) == "Sud"


@pytest.mark.parametrize(
    ("environ", "encoding", "glyphs"),
    [
        ({}, "utf-8", fmt.UNICODE),
        ({}, "UTF8", fmt.UNICODE),
        ({}, "ISO-8859-1", fmt.ASCII),
        ({"DEPOT_ASCII": "1"}, "utf-8", fmt.ASCII),
        ({"DEPOT_ASCII": "0"}, "utf-8", fmt.UNICODE),
    ],
)
def test_which_glyphs(environ: dict[str, str], encoding: str, glyphs: fmt.Glyphs) -> None:
    assert fmt.glyphs_for(environ, encoding) is glyphs


@pytest.mark.parametrize("text", ["16 A, 10 A", "150 %", "x", "20 kWh 80 %", "-1 A", "80.5 %"])
def test_start_arguments_that_mean_nothing(text: str) -> None:
    with pytest.raises(ValueError):
        verbs.parse(Verb.START, text, Picture())


def test_start_arguments() -> None:
    assert verbs.parse(Verb.START, "", Picture()) == {}
    assert verbs.parse(Verb.START, "token 04A2B3C4, 90 min", Picture()) == {
        "token": "04A2B3C4",
        "duration_s": 5400.0,
    }


class _CanvasApp(App[None]):
    def __init__(self) -> None:
        super().__init__()
        self.shown: list[Line] = []
        self.canvas = Canvas(fmt.ASCII, lambda width, height: self.shown)

    def compose(self) -> ComposeResult:
        yield self.canvas


async def test_only_changed_cells_are_repainted(monkeypatch: pytest.MonkeyPatch) -> None:
    app = _CanvasApp()
    async with app.run_test(size=(40, 5)) as pilot:
        app.shown = [line("one 15.8 A"), line("two"), line("three")]
        app.canvas.repaint()
        await pilot.pause()
        asked: list[Region] = []
        monkeypatch.setattr(app.canvas, "refresh", lambda *regions: asked.extend(regions))
        app.shown = [line("one 15.9 A"), line("two"), line("three")]
        app.canvas.repaint()
        assert asked == [Region(7, 0, 1, 1)]
        asked.clear()
        app.canvas.repaint()
        assert asked == []
        app.shown = [line("one 15.9 A"), (line("two")[0]._replace(tone=Tone.HIGH),)]
        app.canvas.repaint()
        assert asked == [Region(0, 1, 3, 1), Region(0, 2, 5, 1)]
