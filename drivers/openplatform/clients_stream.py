"""Live telemetry for local clients: one WebSocket per client and set of chargers.

Owns who listens to what. A listener has one slot per charger, and a newer frame replaces an unsent one; a listener that
does not read for `SLOW_S` is dropped. A charger speaks on every change of state and about every 5 s while a connector
of it is in use; on opening each charger speaks once. A socket ends with its token: an error envelope (2002), then close
code 1008. What a client sends is read and forgotten. Pings find half-open sockets.
Source: Open Platform REFERENCE section 12, GAPS G-15.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from aiohttp import WSCloseCode, web

from controller.core.snapshot import Snapshot
from drivers.openplatform.answers import EXPIRED, INVALID, TOO_MANY, ApiError
from drivers.openplatform.clients_words import LocalDevice, frame_fields, views_of

log = logging.getLogger(__name__)

SLOW_S = 5.0  # real seconds
SOCKETS_PER_CLIENT = 16
_PING_S = 20.0
_CLOSE_S = 2.0
_MAX_HEARD_BYTES = 4096
_ACTIVE = ("charging", "discharging")
_EXPIRED = json.dumps({"code": EXPIRED, "message": "token expired", "data": None})


def _socket() -> web.WebSocketResponse:
    return web.WebSocketResponse(
        timeout=_CLOSE_S, heartbeat=_PING_S, compress=False, max_msg_size=_MAX_HEARD_BYTES
    )


@dataclass(eq=False, slots=True)
class Listener:
    """`expires_s`: when its token ends (monotonic)."""

    client: str
    devices: frozenset[str]
    expires_s: float
    socket: web.WebSocketResponse = field(default_factory=_socket)
    pending: dict[str, str] = field(default_factory=dict)
    news: asyncio.Event = field(default_factory=asyncio.Event)
    ending: tuple[int, str] | None = None

    def tell(self, device_id: str, frame: str) -> None:
        self.pending[device_id] = frame
        self.news.set()

    def end(self, code: int, reason: str) -> None:
        self.ending = (code, reason)
        self.news.set()


@dataclass(frozen=True, slots=True)
class _Said:
    """What a charger said last, and when."""

    states: tuple[Any, ...]
    at_s: float


class Streams:
    """`devices` is read live. `tick` must be called often; it never waits. `every_s`: how often a charger in use
    speaks."""

    def __init__(
        self, devices: Mapping[str, LocalDevice], look: Callable[[], Snapshot | None], every_s: float
    ) -> None:
        self._devices = devices
        self._look = look
        self._every_s = every_s
        self._listeners: set[Listener] = set()
        self._said: dict[str, _Said] = {}
        self._seen: Snapshot | None = None
        self._closed = False

    async def serve(self, request: web.Request, listener: Listener, now_s: float) -> web.WebSocketResponse:
        """Talks until either side ends it. Raises ApiError 1001 (no WebSocket handshake), 5001 (a second socket on the
        same set, or too many sets)."""
        mine = [one for one in self._listeners if one.client == listener.client]
        if any(one.devices == listener.devices for one in mine):
            raise ApiError(TOO_MANY, "one connection per set of chargers")
        if len(mine) >= SOCKETS_PER_CLIENT:
            raise ApiError(TOO_MANY, f"at most {SOCKETS_PER_CLIENT} sets of chargers")
        if not listener.socket.can_prepare(request):
            raise ApiError(INVALID, "this is a WebSocket; ask for the upgrade")
        self._listeners.add(listener)
        try:
            await listener.socket.prepare(request)
            self._greet(listener, now_s)
            writer = asyncio.create_task(_write(request, listener))
            try:
                async for _ in listener.socket:
                    pass  # nothing is said about messages from the client
            finally:
                writer.cancel()
                await asyncio.wait({writer})
        finally:
            self._listeners.discard(listener)
        return listener.socket

    def tick(self, now_s: float) -> None:
        """Hands out what is new since the last call, and ends what has expired."""
        for listener in self._listeners:
            if now_s >= listener.expires_s and listener.ending is None:
                listener.end(WSCloseCode.POLICY_VIOLATION, "token expired")
        snapshot = self._look()
        if snapshot is None or snapshot is self._seen:
            return
        self._seen = snapshot
        wanted = frozenset[str]().union(*(listener.devices for listener in self._listeners))
        self._said = {device_id: said for device_id, said in self._said.items() if device_id in wanted}
        views = views_of(snapshot)
        for device_id in wanted & self._devices.keys():
            frame = frame_fields(self._devices[device_id], views, snapshot.time)
            if self._is_due(device_id, frame, now_s):
                text = json.dumps(frame)
                for listener in self._listeners:
                    if device_id in listener.devices:
                        listener.tell(device_id, text)

    def close(self) -> None:
        """Ends every socket; new ones are ended at once."""
        self._closed = True
        for listener in self._listeners:
            listener.end(WSCloseCode.GOING_AWAY, "closing")

    def _greet(self, listener: Listener, now_s: float) -> None:
        snapshot = self._look()
        if self._closed:
            listener.end(WSCloseCode.GOING_AWAY, "closing")
        elif snapshot is not None:
            views = views_of(snapshot)
            for device_id in sorted(listener.devices & self._devices.keys()):
                frame = frame_fields(self._devices[device_id], views, snapshot.time)
                self._said.setdefault(device_id, _Said(_states(frame), now_s))
                listener.tell(device_id, json.dumps(frame))

    def _is_due(self, device_id: str, frame: Mapping[str, Any], now_s: float) -> bool:
        said, states = self._said.get(device_id), _states(frame)
        active = any(state in _ACTIVE for _, state in states)
        if said is not None and states == said.states and not (active and now_s - said.at_s >= self._every_s):
            return False
        self._said[device_id] = _Said(states, now_s)
        return True


def _states(frame: Mapping[str, Any]) -> tuple[tuple[int, str], ...]:
    return tuple((connector["connector_id"], connector["state"]) for connector in frame["connectors"])


async def _write(request: web.Request, listener: Listener) -> None:
    """Sends what is pending, newest per charger, until the socket ends."""
    try:
        while True:
            await listener.news.wait()
            listener.news.clear()
            while listener.pending and listener.ending is None:
                device_id = next(iter(listener.pending))
                await _send(listener, listener.pending.pop(device_id))
            if listener.ending is not None:
                code, reason = listener.ending
                if code == WSCloseCode.POLICY_VIOLATION:
                    await _send(listener, _EXPIRED)
                await listener.socket.close(code=code, message=reason.encode())
                return
    except TimeoutError:
        log.warning("open platform host: %s does not read its stream, dropped", listener.client)
        if request.transport is not None:
            request.transport.abort()  # a close would wait for it to read what is buffered
    except ConnectionError:
        with suppress(ConnectionError):
            await listener.socket.close()


async def _send(listener: Listener, text: str) -> None:
    async with asyncio.timeout(SLOW_S):
        await listener.socket.send_str(text)
