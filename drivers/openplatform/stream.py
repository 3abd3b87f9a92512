"""One telemetry socket: opened, kept honest, opened again.

Owns the handshake, the silence rule and the reconnects (1, 2, 4 ... 30 s and up to 30 % more). Whatever a message says
wrong costs that message only. Frames are handed over one at a time: while the depot is busy the socket waits, and when
its small buffer is full TCP makes the platform wait. Follows no redirect, uses no proxy.
Source: Open Platform REFERENCE section 12, GAPS G-15.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from random import Random
from typing import Protocol
from urllib.parse import quote

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, InvalidStatus, WebSocketException

from controller.core.readings import Readings
from controller.ports import Clock
from drivers.errors import DriverError
from drivers.openplatform.orders import backoff_s
from drivers.openplatform.rest import CONNECT_S, Declined, Rest, Unanswered
from drivers.openplatform.words import Frame, read_envelope, read_frame, read_json

log = logging.getLogger(__name__)

_MAX_MESSAGE_BYTES = 1_000_000
_PING_S = 20.0
_LOOK_S = 5.0  # how often the socket is looked at


class Listener(Protocol):
    """Whom a stream serves."""

    def is_active(self, ids: tuple[str, ...]) -> bool:
        """Whether one of these chargers should be speaking now."""
        ...

    async def heard(self, frame: Frame) -> None: ...

    async def opened(self, ids: tuple[str, ...]) -> None: ...

    async def closed(self, ids: tuple[str, ...], reason: str) -> None: ...


class _Connect(connect):
    def process_redirect(self, exc: Exception) -> Exception | str:
        """A redirect would carry telemetry to a host nobody consented to: it stays the error it is."""
        return exc


class Stream:
    def __init__(
        self,
        ids: tuple[str, ...],
        rest: Rest,
        clock: Clock,
        random: Random,
        readings: Readings,
        listener: Listener,
    ) -> None:
        self._ids = ids
        self._rest = rest
        self._clock = clock
        self._random = random
        self._silence_s = readings.silence_s
        self._listener = listener
        self._last_s = float("-inf")  # last message, or last time nothing was to be expected
        self._got_frames = False
        self._ending = ""
        self._odd: set[str] = set()

    async def run(self) -> None:
        """Listens until cancelled."""
        attempt = 0
        while True:
            self._got_frames, self._ending = False, ""
            try:
                await self._listen()
                reason = self._ending or "closed by the platform"
            except DriverError as error:
                reason = str(error)
            if self._ending == "token renewed":
                attempt = 0
                continue  # the successor opens at once
            await self._listener.closed(self._ids, reason)
            attempt = 0 if self._got_frames else attempt
            await self._clock.sleep(backoff_s(attempt, self._random))
            attempt += 1

    async def _listen(self) -> None:
        """One socket from handshake to end. Raises DriverError when it could not be opened or broke."""
        token = await self._rest.bearer()
        renew_s = self._rest.renew_s
        devices = ",".join(quote(id, safe="") for id in self._ids)
        target = f"/operator/stream?devices={devices}"
        headers = {"Authorization": f"Bearer {token}"} | self._rest.signature("GET", target)
        announced = self._rest.announce("stream", "GET", "/operator/stream", {"devices": ",".join(self._ids)})
        try:
            async with _Connect(
                f"{self._rest.address.ws}{target}",
                additional_headers=headers,
                user_agent_header="depot",
                proxy=None,
                compression=None,
                open_timeout=2 * CONNECT_S,
                close_timeout=1.0,
                ping_interval=_PING_S,
                ping_timeout=_PING_S,
                max_size=_MAX_MESSAGE_BYTES,
                logger=_QUIET,
            ) as socket:
                self._rest.concluded(announced, 101)
                self._last_s = self._clock.now().mono_s
                await self._listener.opened(self._ids)
                guard = asyncio.create_task(self._guard(socket, renew_s))
                try:
                    async for message in socket:
                        self._last_s = self._clock.now().mono_s
                        await self._take(message, token)
                finally:
                    guard.cancel()
                    await asyncio.gather(guard, return_exceptions=True)
        except InvalidStatus as refused:
            self._rest.concluded(announced, refused.response.status_code)
            raise self._refused(refused.response.status_code, token) from refused
        except (InvalidHandshake, WebSocketException) as error:
            raise Unanswered(f"stream broken ({type(error).__name__})") from error
        except (OSError, TimeoutError) as error:
            text = "timed out" if isinstance(error, TimeoutError) else "no connection"
            raise Unanswered(f"stream: {text}") from error
        finally:
            self._rest.concluded(announced, None)

    async def _guard(self, socket: ClientConnection, renew_s: float) -> None:
        """Ends a socket that is silent although a connector is active, or whose token is about to expire."""
        while True:
            await self._clock.sleep(min(_LOOK_S, self._silence_s / 4))
            now_s = self._clock.now().mono_s
            if not self._listener.is_active(self._ids):
                self._last_s = now_s
            if now_s >= renew_s:
                self._ending = "token renewed"
            elif now_s - self._last_s > self._silence_s:
                self._ending = "silent although a connector is active"
            if self._ending:
                await socket.close()
                return

    async def _take(self, message: str | bytes, token: str) -> None:
        try:
            document = read_json(message)
        except ValueError:
            self._log_once("a message is not JSON")
            return
        if isinstance(document, Mapping) and "code" in document and "device_id" not in document:
            code = read_envelope(document).code
            if code in (2001, 2002):
                self._rest.forget(token)
            raise Declined(f"stream: the platform ended it ({code})", code)
        self._rest.heard(message if isinstance(message, str) else message.decode(errors="replace"))
        frame = read_frame(document)
        if frame is None:
            self._log_once("a message names no charger")
            return
        self._got_frames = True
        await self._listener.heard(frame)

    def _refused(self, status: int, token: str) -> DriverError:
        if status == 401:
            self._rest.forget(token)
            return Declined("stream: token not accepted", 2001)
        if 300 <= status < 400:
            return Declined("stream: redirected elsewhere, not followed")
        return Unanswered(f"stream: handshake answered {status}")

    def _log_once(self, text: str) -> None:
        if text not in self._odd:
            self._odd.add(text)
            log.warning("%s stream: %s; ignored", self._rest.address.host, text)


# websockets logs handshakes with their headers at DEBUG, and those carry the token
_QUIET = logging.getLogger(f"{__name__}.wire")
_QUIET.setLevel(logging.CRITICAL)
_QUIET.propagate = False
