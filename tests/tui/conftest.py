"""The real app on a scripted source, ready when the first picture is on the screen."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
from textual.pilot import Pilot

from controller.core.snapshot import Snapshot
from ui.app import DepotApp
from ui.format import UNICODE, Glyphs

from .depot_values import ScriptedSource
from .screen_text import screen_text, until

Running = AbstractAsyncContextManager[tuple[Pilot[None], ScriptedSource]]
Run = Callable[..., Running]


@asynccontextmanager
async def _running(
    snapshot: Snapshot,
    size: tuple[int, int] = (80, 24),
    glyphs: Glyphs = UNICODE,
    read_only: bool = False,
) -> AsyncIterator[tuple[Pilot[None], ScriptedSource]]:
    source = ScriptedSource(snapshot)
    app = DepotApp(source, read_only=read_only, glyphs=glyphs)
    async with app.run_test(size=size) as pilot:
        await until(lambda: snapshot.site[:4] in screen_text(app))
        yield pilot, source


@pytest.fixture
def running() -> Run:
    return _running


@pytest.fixture(autouse=True)
def quick_repaints(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests wait for what a repaint shows; the pause between two repaints has a test of its own."""
    monkeypatch.setattr("ui.app.REPAINT_S", 0.02)
