"""The two waiting rooms of a session: calls from the station, and our calls to it.

Owns who is next, and how fast a station may talk; does no I/O. Both stand before something slower. `Inbox` is bounded: when full it drops what the
station repeats anyway (meter values, heartbeats) and otherwise says so, and the session closes. `Turns` is as long as
our own callers are many (one desk, one setup), and safety always goes before housekeeping.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from enum import IntEnum

from drivers.errors import Unreachable
from drivers.ocpp.frames import Call, Malformed

INBOX_SIZE = 64  # a station may have one call open; 64 is half a minute of a badly confused one


class Pace:
    """What a station may send: `per_s` frames, after a burst of one second's worth. Kept over its connections: a station
    that is hung up on and comes back must not bring a fresh burst every time."""

    def __init__(self) -> None:
        self._paid_until_s = 0.0

    def ahead_s(self, now_s: float, per_s: float) -> float:
        """How long to wait before the next frame is read; 0 or less: not at all."""
        self._paid_until_s = max(self._paid_until_s, now_s - 1.0) + 1 / per_s
        return self._paid_until_s - now_s


class Inbox:
    """Calls of one station in order of arrival. `sheddable` says which actions may be dropped when it is full."""

    def __init__(self, sheddable: Callable[[str], bool], size: int = INBOX_SIZE) -> None:
        self._sheddable = sheddable
        self._size = size
        self._waiting: deque[Call | Malformed] = deque()
        self._filled = asyncio.Event()
        self.dropped = 0

    def put(self, call: Call | Malformed) -> bool:
        """False: full, and nothing in it may be dropped."""
        if len(self._waiting) >= self._size:
            victim = next((old for old in (*self._waiting, call) if self._may_drop(old)), None)
            if victim is None:
                return False
            self.dropped += 1
            if victim is call:
                return True
            self._waiting.remove(victim)
        self._waiting.append(call)
        self._filled.set()
        return True

    async def get(self) -> Call | Malformed:
        while not self._waiting:
            self._filled.clear()
            await self._filled.wait()
        return self._waiting.popleft()

    def _may_drop(self, call: Call | Malformed) -> bool:
        return isinstance(call, Malformed) or self._sheddable(call.action)


class Lane(IntEnum):
    SAFETY = 0
    HOUSEKEEPING = 1


class Turns:
    """Who may have a call open now: one at a time, safety first, first come first served within a lane."""

    def __init__(self) -> None:
        self._busy = False
        self._closed = False
        self._waiting: dict[Lane, deque[asyncio.Future[None]]] = {lane: deque() for lane in Lane}
        self._safety_waits = asyncio.Event()

    @asynccontextmanager
    async def take(self, lane: Lane) -> AsyncIterator[None]:
        """Holds the turn; raises Unreachable once the session has ended."""
        if self._closed:
            raise Unreachable("the connection is closed")
        if self._busy:
            await self._wait(lane)
        self._busy = True
        try:
            yield
        finally:
            self._busy = False
            self._next()

    async def safety_waits(self) -> None:
        """Returns when a safety call is waiting for its turn."""
        await self._safety_waits.wait()

    def close(self) -> None:
        """Everybody who waits gets Unreachable at once."""
        self._closed = True
        for queue in self._waiting.values():
            for future in queue:
                if not future.done():
                    future.set_exception(Unreachable("the connection was closed"))
            queue.clear()

    async def _wait(self, lane: Lane) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[lane].append(future)
        self._note_safety()
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                self._busy = False  # the turn was ours already: hand it on
                self._next()
            raise
        finally:
            if future in self._waiting[lane]:
                self._waiting[lane].remove(future)
            self._note_safety()

    def _next(self) -> None:
        for queue in self._waiting.values():
            while queue:
                future = queue.popleft()
                if not future.done():
                    self._busy = True  # reserved: nobody slips in before the waiter runs
                    future.set_result(None)
                    return

    def _note_safety(self) -> None:
        if self._waiting[Lane.SAFETY]:
            self._safety_waits.set()
        else:
            self._safety_waits.clear()
