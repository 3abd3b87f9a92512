"""Time that runs as fast as the machine can follow: an event loop whose clock stands still while anything is being done.

Owns the loop and the clock of fast simulated sites. Time passes only when no socket has anything to read and nobody holds
it (`hold`: work in threads, which the loop cannot see); then it jumps to the next timer, on average not faster than `speed`.
A long computation or a slow disk therefore costs wall time and no simulated time, and every deadline on this loop, of a
wire operation too, is in simulated seconds. Never for a real site.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from controller.core.model import Moment

HOLD_S = 0.002  # wall seconds between two looks at who holds time
LONGEST_HOLD_S = 2.0  # of wall time: a disk that refuses must not stop everything
CREDIT_S = 0.25  # wall seconds that may be caught up after the machine was held up
FINEST_S = 0.001  # of wall time; shorter sleeps are saved up
TICK_S = 1e-6  # the shortest sleep: one too short to move the clock would be slept again, for ever


class _Idle(selectors.BaseSelector):
    """The selector of a loop, which knows when nothing is going on."""

    def __init__(self, speed: float) -> None:
        self.now_s = 0.0
        self.held: list[Callable[[], bool]] = []
        self.speed = speed
        self._tired = False
        self._inner = selectors.DefaultSelector()
        self._due_s = time.monotonic()  # wall time at which `now_s` was due

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = self._inner.select(0)
        if events or (timeout is not None and timeout <= 0):
            return events
        if self._is_held():
            return []
        if timeout is None:
            return self._inner.select(None)
        wall_s = time.monotonic()
        due_s = max(self._due_s, wall_s - CREDIT_S) + timeout / self.speed
        if due_s - wall_s >= FINEST_S:
            events = self._inner.select(due_s - wall_s)
            if events:  # from a thread or from outside: time has passed as far as the wall says
                passed_s = min(timeout, max(0.0, time.monotonic() - wall_s) * self.speed)
                self.now_s += passed_s
                self._due_s = due_s - (timeout - passed_s) / self.speed
                return events
        self.now_s += timeout
        self._due_s = due_s
        return []

    def _is_held(self) -> bool:
        """Waits while somebody holds time, as long as nothing else is to be done. Who held it too long is passed over
        until it has let go."""
        began_s = time.monotonic()
        while any(held() for held in self.held):
            if self._tired or time.monotonic() - began_s > LONGEST_HOLD_S:
                self._tired = True
                return False
            if self._inner.select(HOLD_S):
                return True
        self._tired = False
        return bool(self._inner.select(0))

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._inner.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._inner.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._inner.modify(fileobj, events, data)

    def close(self) -> None:
        self._inner.close()

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._inner.get_map()


class WarpedLoop(asyncio.SelectorEventLoop):
    """Its `time` is simulated seconds since it began."""

    def __init__(self, speed: float) -> None:
        self._idle = _Idle(speed)
        super().__init__(self._idle)

    def time(self) -> float:
        return self._idle.now_s

    def hold(self, held: Callable[[], bool]) -> None:
        """Time stands still while `held()` is true; it is asked in the loop's thread."""
        self._idle.held.append(held)


class WarpedClock:
    """`began`: what the calendar says when the loop begins."""

    def __init__(self, loop: WarpedLoop, began: datetime) -> None:
        self._loop, self._began = loop, began.astimezone(UTC)

    def now(self) -> Moment:
        passed_s = self._loop.time()
        return Moment(passed_s, self._began + timedelta(seconds=passed_s), True)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(TICK_S, seconds) if seconds > 0 else 0)
