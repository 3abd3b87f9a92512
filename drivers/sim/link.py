"""The wire of a simulated charger: one WebSocket with OCPP-J frames, redialled for ever.

Owns connecting (Basic auth, subprotocols, jittered back-off), framing and matching answers to calls. It
reads and writes JSON by itself: the frames must be judged by other code than the one that made them. Knows no
action by name. Source: OCPP-J 1.6 section 4; OCPP 2.1 part 4.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import ssl
from collections.abc import Awaitable, Callable, Sequence
from random import Random

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException
from websockets.frames import CloseCode
from websockets.typing import Subprotocol

from controller.ports import Clock
from drivers.errors import Refused, Unreachable
from drivers.sim.outbox import Json

log = logging.getLogger(__name__)

FIRST_RETRY_S = 1.0
LONGEST_RETRY_S = 30.0
CALL, RESULT, ERROR = 2, 3, 4  # message types, OCPP-J section 4.1.3


class CallError(Exception):
    """Our answer to a call we do not carry out; `code` is an OCPP-J error code."""

    def __init__(self, code: str, text: str = "") -> None:
        super().__init__(text)
        self.code = code


class Link:
    """`obey(action, payload)` answers the central system's calls or raises CallError; None stays unanswered.
    `converse()` runs while the link is up and is cancelled when it is lost.

    answer_s      how long (real seconds: it is a wire) a call may stay unanswered
    subprotocols  what it offers, best first; `version` is what the central system chose for this link
    """

    def __init__(
        self,
        station: str,
        url: str,
        clock: Clock,
        obey: Callable[[str, Json], Json | None],
        converse: Callable[[], Awaitable[None]],
        *,
        password: str | bytes | None,
        answer_s: float,
        delay_s: float,
        tls: ssl.SSLContext | None,
        subprotocols: Sequence[str] = ("ocpp1.6",),
    ) -> None:
        self.password = password
        self.subprotocols = tuple(subprotocols)
        self.version = self.subprotocols[0]
        self.connected = False
        self.failures = 0  # attempts in a row that led to no link
        self._station = station
        self.url = url
        self._clock = clock
        self._obey = obey
        self._converse = converse
        self._answer_s = answer_s
        self._delay_s = delay_s
        self._tls = tls
        self._rng = Random(f"link {station}")
        self._socket: ClientConnection | None = None
        self._waiting: dict[str, asyncio.Future[Json]] = {}
        self._sent = 0
        self._back_at_s = 0.0
        self._audible = asyncio.Event()
        self._audible.set()
        self._silence: asyncio.Task[None] | None = None
        self._last_trouble = ""

    async def run(self) -> None:
        """Keeps the link up until cancelled; leaves no socket behind."""
        retry_s = FIRST_RETRY_S
        try:
            while True:
                await self._clock.sleep(max(0.0, self._back_at_s - self._clock.now().mono_s))
                try:
                    async with connect(
                        f"{self.url.rstrip('/')}/{self._station}",
                        subprotocols=[Subprotocol(name) for name in self.subprotocols],
                        additional_headers=self._headers(),
                        compression=None,
                        proxy=None,
                        ping_interval=None,  # a charger rarely pings (row 48)
                        close_timeout=1.0,
                        max_queue=None,
                        ssl=self._tls,
                    ) as socket:
                        retry_s = FIRST_RETRY_S
                        await self._serve(socket)
                    self._trouble("closed by the central system")
                except (OSError, WebSocketException, TimeoutError, Unreachable) as error:
                    self.failures += 1
                    self._trouble(f"{type(error).__name__}: {error}")
                await self._clock.sleep(retry_s * self._rng.uniform(0.5, 1.5))
                retry_s = min(retry_s * 2.0, LONGEST_RETRY_S)
        finally:
            if self._silence is not None:
                self._silence.cancel()

    async def call(self, action: str, payload: Json) -> Json:
        """Sends a call and returns the answer's payload.

        Raises Unreachable without a link or without an answer in time, Refused for a CALLERROR.
        """
        self._sent += 1
        message = f"{self._station}-{self._sent}"
        answer: asyncio.Future[Json] = asyncio.get_running_loop().create_future()
        self._waiting[message] = answer
        try:
            await self._send([CALL, message, action, payload])
            async with asyncio.timeout(self._answer_s):
                return await answer
        except TimeoutError:
            raise Unreachable(f"{action}: no answer within {self._answer_s:g} s") from None
        finally:
            self._waiting.pop(message, None)

    def drop(self, away_s: float = 0.0) -> None:
        """Cuts the TCP connection without a goodbye and does not dial for `away_s`."""
        self._back_at_s = self._clock.now().mono_s + away_s
        if self._socket is not None:
            self._socket.transport.abort()

    def go_silent(self, seconds: float) -> None:
        """The half-open link: TCP stays, nothing is read (not even pings), nothing is said, for `seconds`."""
        if self._silence is not None:
            self._silence.cancel()
        self._silence = asyncio.create_task(self._stay_silent(seconds))

    async def _stay_silent(self, seconds: float) -> None:
        self._audible.clear()
        if self._socket is not None:
            self._socket.transport.pause_reading()
        try:
            await self._clock.sleep(seconds)
        finally:
            self._audible.set()
            if self._socket is not None:
                self._socket.transport.resume_reading()

    async def _serve(self, socket: ClientConnection) -> None:
        self._socket = socket
        self.version = socket.subprotocol or self.subprotocols[0]
        self.connected = True
        self.failures = 0
        self._last_trouble = ""
        if not self._audible.is_set():
            socket.transport.pause_reading()
        if self._clock.now().mono_s < self._back_at_s:
            socket.transport.abort()  # told to stay away while it was dialling
        conversation = asyncio.ensure_future(self._converse())
        try:
            async for frame in socket:
                await self._receive(frame)
        except asyncio.CancelledError:
            if self._audible.is_set():
                await socket.close(CloseCode.GOING_AWAY)
            raise
        finally:
            self.connected = False
            self._socket = None
            if not self._audible.is_set():
                socket.transport.abort()  # a mute charger says no goodbye
            conversation.cancel()
            (ended,) = await asyncio.gather(conversation, return_exceptions=True)
            if isinstance(ended, Exception):
                log.error("%s: the conversation broke off", self._station, exc_info=ended)

    async def _receive(self, frame: str | bytes) -> None:
        try:
            message = json.loads(frame)
            id = str(message[1])
        except (ValueError, TypeError, LookupError):
            log.warning("%s: received a frame that is not OCPP-J", self._station)
            return
        match message:
            case [kind, _, str(action), dict(payload)] if kind == CALL:
                await self._answer(id, action, payload)
            case [kind, _, dict(payload)] if kind == RESULT:
                self._settle(id, payload)
            case [kind, _, code, text, *_] if kind == ERROR:
                self._settle(id, Refused(f"{code}: {text}"))
            case _:
                log.warning("%s: received a frame of unknown form", self._station)

    async def _answer(self, id: str, action: str, payload: Json) -> None:
        try:
            result = self._obey(action, payload)
            reply: list[object] = [RESULT, id, result]
        except CallError as error:
            result = {}
            reply = [ERROR, id, error.code, str(error), {}]
        if result is None:
            return
        if self._delay_s:
            await self._clock.sleep(self._delay_s)
        await self._send(reply)

    def _settle(self, id: str, outcome: Json | Refused) -> None:
        future = self._waiting.get(id)
        if future is None or future.done():
            log.debug("%s: answer %s came too late", self._station, id)
        elif isinstance(outcome, Refused):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)

    async def _send(self, frame: list[object]) -> None:
        await self._audible.wait()
        if self._socket is None:
            raise Unreachable("no link")
        try:
            await self._socket.send(json.dumps(frame))
        except WebSocketException as error:
            raise Unreachable(f"link lost: {error}") from None

    def _headers(self) -> dict[str, str]:
        if self.password is None:
            return {}
        secret = self.password if isinstance(self.password, bytes) else self.password.encode()
        return {"Authorization": "Basic " + base64.b64encode(self._station.encode() + b":" + secret).decode()}

    def _trouble(self, text: str) -> None:
        if text != self._last_trouble:
            log.info("%s: no link: %s", self._station, text)
            self._last_trouble = text
