"""The telemetry sockets of the simulated platform.

Owns who listens to what. A listener has one slot per charger, and a newer frame replaces an unsent one: a slow reader
misses frames, it never holds up the platform. Frames are at-most-once (G-15).
Source: Open Platform REFERENCE section 12, G-15.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from aiohttp import WSCloseCode, web

from drivers.sim.cloudwords import Refusal

log = logging.getLogger(__name__)

MAX_IDS = 50


@dataclass(eq=False)
class Listener:
    client_id: str
    token: str
    devices: frozenset[str]
    socket: web.WebSocketResponse = field(default_factory=web.WebSocketResponse)
    request: web.Request | None = None
    pending: dict[str, str] = field(default_factory=dict)
    news: asyncio.Event = field(default_factory=asyncio.Event)
    is_cut: bool = False


class Streams:
    def __init__(self) -> None:
        self.listeners: set[Listener] = set()

    async def serve(self, request: web.Request, listener: Listener) -> web.WebSocketResponse:
        """Talks until either side closes. Raises Refusal 5001 for a second socket of a client on the same set."""
        if any(
            (one.client_id, one.devices) == (listener.client_id, listener.devices) for one in self.listeners
        ):
            raise Refusal(5001, "one connection per set of chargers")
        self.listeners.add(listener)
        try:
            await listener.socket.prepare(request)
            listener.request = request
            writer = asyncio.create_task(self._write(listener))
            try:
                async for _ in listener.socket:
                    pass  # nothing is said about messages from the client: they are read and forgotten
            finally:
                writer.cancel()
                await asyncio.wait({writer})
        finally:
            self.listeners.discard(listener)
        return listener.socket

    def publish(self, device_id: str, frame: str) -> None:
        for listener in self.listeners:
            if device_id in listener.devices:
                listener.pending[device_id] = frame
                listener.news.set()

    def drop(self) -> None:
        """Breaks every socket without a close frame, as a failing network does."""
        for listener in self.listeners:
            if listener.request is not None and listener.request.transport is not None:
                listener.request.transport.abort()

    def cut(self, expired: Callable[[str], bool]) -> None:
        """Closes the sockets whose token `expired` says is over; never waits for their clients."""
        for listener in self.listeners:
            if expired(listener.token):
                listener.is_cut = True
                listener.news.set()

    async def _write(self, listener: Listener) -> None:
        try:
            while True:
                await listener.news.wait()
                listener.news.clear()
                if listener.is_cut:
                    await listener.socket.close(code=WSCloseCode.POLICY_VIOLATION, message=b"token expired")
                    return
                while listener.pending:
                    device_id = next(iter(listener.pending))
                    await listener.socket.send_str(listener.pending.pop(device_id))
        except ConnectionError as error:  # the reader notices too and ends the conversation
            log.info("a listener of %s is gone: %s", listener.client_id, error)
