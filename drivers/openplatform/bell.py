"""A task that waits for work, but at most so long."""

from __future__ import annotations

import asyncio

from controller.ports import Clock


class Bell:
    """`ring` wakes the one task in `wait`; a ring while nobody waits is kept."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._rung = asyncio.Event()

    def ring(self) -> None:
        self._rung.set()

    async def wait(self, seconds: float | None = None) -> None:
        """Returns at the next ring, or after so many seconds of the site's clock."""
        if seconds is None:
            await self._rung.wait()
        elif not self._rung.is_set():
            waits = [
                asyncio.ensure_future(self._rung.wait()),
                asyncio.ensure_future(self._clock.sleep(seconds)),
            ]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in waits:
                    task.cancel()
                await asyncio.gather(*waits, return_exceptions=True)
        self._rung.clear()
