"""Small depots, running: one in the test's own loop, and one that lives on its own for commands to talk to."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from small_depot import B1, Post, SmallDepot, beside, flies, small_depot


@pytest.fixture
async def depot(tmp_path: Path) -> AsyncIterator[SmallDepot]:
    """Stations connected, nobody charging, time stands still."""
    async with small_depot(tmp_path) as running:
        await running.connect_stations()
        yield running


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Path]:
    """The control socket of a depot in a thread, whose time flies and whose chargers obey; B/1 is charging."""

    async def serve(ready: threading.Event, over: threading.Event) -> None:
        async with small_depot(tmp_path, charger=Post()) as running:
            await running.connect_stations()
            await running.begin(B1, "t-live")
            await running.until(lambda: running.charger.limits(B1))
            await flies(running, ready, over)

    with beside(serve):
        yield tmp_path / "control.sock"
