"""What the screen shows, as plain text, and its comparison with the files in tests/tui/screens."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path

from textual.app import App

SCREENS = Path(__file__).parent / "screens"


def screen_text(app: App[None]) -> str:
    """The compositor's picture, one line per row, trailing blanks cut."""
    strips = app.screen._compositor.render_strips()
    return "\n".join(strip.text.rstrip() for strip in strips) + "\n"


async def until(true: Callable[[], bool], deadline_s: float = 5.0) -> None:
    """Waits for a condition the app will reach by itself; AssertionError when it does not."""
    end = time.monotonic() + deadline_s
    while not true():
        assert time.monotonic() < end, "the app did not get there in time"
        await asyncio.sleep(0.01)


def assert_screen(app: App[None], name: str) -> None:
    """Compares with screens/NAME.txt; UPDATE_SCREENS=1 rewrites the file instead."""
    path = SCREENS / f"{name}.txt"
    shown = screen_text(app)
    if os.environ.get("UPDATE_SCREENS"):
        path.write_text(shown, encoding="utf-8")
    assert path.exists(), f"no {path.name}: look at the screen, then UPDATE_SCREENS=1\n{shown}"
    assert shown == path.read_text(encoding="utf-8"), f"{name} looks different:\n{shown}"
