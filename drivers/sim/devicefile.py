"""What a simulated charger remembers, in a file: it keeps its identity from one process to the next.

Owns reading and writing the dict of `devicememory`. Written in one piece and for nobody else's eyes, because the
device's secret is in it.
"""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

from drivers.sim.devicewire import Json

KEEP_S = 1.0


class MemoryFile:
    """`memory` is what the file holds, empty without one. Raises OSError, and ValueError for a file of another kind."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written = path.read_text(encoding="utf-8") if path.exists() else "{}"
        memory = json.loads(self._written)
        if not isinstance(memory, dict):
            raise ValueError("no JSON object")
        self.memory: Json = memory

    async def run(self) -> None:
        """Writes every second what has changed, until cancelled."""
        while True:
            await asyncio.sleep(KEEP_S)
            self.write()

    def write(self) -> None:
        text = json.dumps(self.memory)
        if text == self._written:
            return
        new = self._path.with_name(f"{self._path.name}.new")
        with os.fdopen(
            os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8"
        ) as file:
            file.write(text)
        new.replace(self._path)
        self._written = text
