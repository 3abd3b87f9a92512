"""The dashboard in a real terminal on a real controller, either of which is killed without warning."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

from tests.one_post import CONFIG
from ui.client import Client, Disconnected

from .screen_text import until
from .test_rough_terminals import DEADLINE_S, dashboard


@asynccontextmanager
async def a_controller(folder: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """`depot run`, once it answers."""
    file = folder / "depot.toml"
    await asyncio.to_thread(file.write_text, CONFIG)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "controller", "run", str(file),
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        async with asyncio.timeout(DEADLINE_S), aclosing(Client(folder / "control.sock").watch()) as pictures:
            async for news in pictures:
                if not isinstance(news, Disconnected):
                    break
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_a_controller_that_is_killed_and_comes_back(tmp_path: Path) -> None:
    """What was last known stays, marked; nobody restarts the dashboard; and its own death disturbs nothing."""
    async with a_controller(tmp_path) as first, dashboard(tmp_path / "control.sock") as terminal:
        await until(lambda: b"CP001/1" in terminal.written, DEADLINE_S)
        waiting = asyncio.ensure_future(terminal.shows(b"NOT CONNECTED"))
        first.send_signal(signal.SIGKILL)
        await waiting
        waiting = asyncio.ensure_future(
            terminal.shows(b"links 1/2")
        )  # the door without a password is the other
        async with a_controller(tmp_path):
            await waiting
            os.write(terminal.ours, b"2")
            await terminal.shows(b"CP001/1")
            terminal.process.send_signal(signal.SIGKILL)
            await terminal.ended()
            document = await Client(tmp_path / "control.sock").call("status")
            assert json.dumps(document["evses"]).count("CP001/1") >= 1
