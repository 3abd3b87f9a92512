"""A real Mosquitto on a free port, and somebody who listens to it. Tests skip where it is not installed."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

DEADLINE_S = 10.0
PROGRAM = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
needed = pytest.mark.skipif(PROGRAM is None, reason="mosquitto is not installed (apt install mosquitto)")


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@contextmanager
def broker(folder: Path, port: int, more: str = "allow_anonymous true") -> Iterator[None]:
    """Runs until the end of the block. Stopped without mercy: a power cut."""
    assert PROGRAM is not None
    config = folder / f"mosquitto-{port}.conf"
    config.write_text(f"listener {port} 127.0.0.1\npersistence false\nuser {_user()}\n{more}\n")
    process = subprocess.Popen(
        [PROGRAM, "-c", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline_s = time.monotonic() + DEADLINE_S
        while not _answers(port):
            assert process.poll() is None, "mosquitto does not start"
            assert time.monotonic() < deadline_s
            time.sleep(0.02)
        yield
    finally:
        process.kill()
        process.wait()


def _user() -> str:
    return "root" if os.getuid() == 0 else os.environ.get("USER", "nobody")


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1.0).close()
    except OSError:
        return False
    return True


class Listener:
    """Hears everything and keeps it."""

    def __init__(self, client: aiomqtt.Client) -> None:
        self.client = client
        self.heard: list[tuple[str, str, bool]] = []  # topic, payload, retained

    async def listen(self) -> None:
        async for message in self.client.messages:
            assert isinstance(message.payload, bytes)
            self.heard.append((str(message.topic), message.payload.decode(), message.retain))

    def on(self, topic: str) -> list[str]:
        return [payload for heard, payload, _ in self.heard if heard == topic]

    def documents(self, topic: str) -> list[dict[str, Any]]:
        return [json.loads(payload) for payload in self.on(topic)]

    async def say(self, topic: str, payload: str, retain: bool = False) -> None:
        await self.client.publish(topic, payload, qos=1, retain=retain)


@asynccontextmanager
async def listener(port: int, **more: Any) -> AsyncIterator[Listener]:
    async with aiomqtt.Client("127.0.0.1", port, timeout=DEADLINE_S, **more) as client:
        found = Listener(client)
        await client.subscribe("#", qos=1)
        task = asyncio.create_task(found.listen())
        try:
            yield found
        finally:
            task.cancel()
            await asyncio.wait({task})
