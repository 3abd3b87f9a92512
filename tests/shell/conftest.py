"""Small depots, running: one in the test's own loop, and one that lives on its own for commands to talk to."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from small_depot import B1, DEADLINE_S, Post, SmallDepot, small_depot


@pytest.fixture
async def depot(tmp_path: Path) -> AsyncIterator[SmallDepot]:
    """Stations connected, nobody charging, time stands still."""
    async with small_depot(tmp_path) as running:
        await running.connect_stations()
        yield running


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Path]:
    """The control socket of a depot in a thread, whose time flies and whose chargers obey; B/1 is charging."""
    ready, over = threading.Event(), threading.Event()

    async def serve() -> None:
        async with small_depot(tmp_path, charger=Post()) as running:
            await running.connect_stations()
            await running.begin(B1, "t-live")
            await running.until(lambda: running.charger.limits(B1))
            ready.set()
            while not over.is_set():
                await running.clock.advance(0.25)
                await asyncio.sleep(0.002)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(DEADLINE_S)
        yield tmp_path / "control.sock"
    finally:
        over.set()
        thread.join()
