"""The session with one station on one connection: frames in, frames out, in order and in time.

Owns the read loop, the table of open calls, the queue of calls to answer, the turn of our own calls, the liveness of the
link. It must not know any action, any version or any event: words come in as a `Dialect` and a handler. Whatever the
peer sends, nothing but the end of this one session can follow. Source: OCPP-J 1.6 section 4, 2.0.1 part 4; it answers the
weaknesses of stock session loops (one bad frame ends the loop, mute peers hold up everybody, replies get no answer).
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, assert_never

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from controller.core.model import StationId
from drivers.errors import DriverError, Misconfigured, Nonsense, Refused, Unreachable
from drivers.ocpp.frames import (
    Aside,
    BadCall,
    Call,
    Error,
    Flaw,
    Malformed,
    Payload,
    Result,
    clean,
    encode_call,
    encode_error,
    encode_result,
    parse,
)
from drivers.ocpp.queues import Inbox, Lane, Pace, Turns
from drivers.ocpp.schemas import Schemas
from drivers.ocpp.settings import Patience

log = logging.getLogger(__name__)

CLOSE_S = 2.0  # a peer that does not read would hold a polite close for ever
MOST_NONSENSE = 20  # frames per minute that fit nothing, before we hang up
FRAMES_PER_S = 100  # after a burst of one second's worth; a station that floods waits, its neighbours do not
MOST_UNANSWERED = 3  # calls in a row: the station still sends but no longer listens (seen after about a day)

# OCPP gives none of these a meaning of "perhaps"; only these two may hide a change that took place.
_PERHAPS_DONE = frozenset({"InternalError", "GenericError"})

Handler = Callable[[str, Payload], Awaitable[Payload | None]]
Recorder = Callable[[bool, str], None]
Answered = Callable[[str, float], None]  # an action, and how long its answer took


@dataclass(frozen=True, slots=True)
class Dialect:
    """What the session must know of an OCPP version: its spelling of flaws, its schemas, what may be dropped, and which
    messages must never be answered with an error. `nobody`: the message id of an error about a frame without one.
    `boots_once`: a station introduces itself once per boot, not once per connection."""

    channel: str
    codes: Mapping[Flaw, str]
    schemas: Schemas
    sheddable: Callable[[str], bool]
    sacred: Callable[[str], bool]
    nobody: str | None = None
    boots_once: bool = False


class CallError(Refused):
    """The station answered with a CALLERROR. `perhaps_done`: it may have acted all the same; `too_early`: it has not
    taken in yet that its introduction was accepted."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(f"{code}: {text}" if text else code)
        self.too_early = code == "SecurityError"
        self.perhaps_done = code in _PERHAPS_DONE


class Session:
    """`run` is the session; everything else may be called while it runs, and fails with Unreachable afterwards."""

    def __init__(
        self,
        station: StationId,
        socket: ServerConnection,
        dialect: Dialect,
        patience: Patience,
        silence_s: float,
        record: Recorder,
        pace: Pace | None = None,
        answered: Answered = lambda action, seconds: None,
    ) -> None:
        self.station = station
        self.dialect = dialect
        self.ended = False
        self.pings = True  # some stations cannot bear them
        self._socket = socket
        self._patience = patience
        self._silence_s = silence_s
        self._record = record
        self._answered = answered
        self._inbox = Inbox(dialect.sheddable)
        self._turns = Turns()
        self._open: dict[str, asyncio.Future[object]] = {}
        self._prefix = secrets.token_hex(4)  # ids never repeat over reconnects, so a late answer fits nothing
        self._calls_made = 0
        self._unanswered = 0
        self._nonsense_at: deque[float] = deque(maxlen=MOST_NONSENSE)
        self._heard_s = self._now_s()
        self._pace = pace or Pace()
        self._reason = ""
        self._closing: asyncio.Task[None] | None = None

    async def run(self, handle: Handler) -> str:
        """Works until the connection has ended and returns why. Calls of the station go to `handle` one by one; it
        returns the answer, None for no answer, or raises BadCall."""
        helpers = [asyncio.create_task(self._answer_calls(handle)), asyncio.create_task(self._feel_pulse())]
        try:
            await self._read()
        except ConnectionClosed as closed:
            frame = closed.rcvd or closed.sent
            self._reason = self._reason or clean(frame.reason if frame else "", 100) or "connection closed"
        finally:
            self.ended = True
            self._turns.close()
            for answer in self._open.values():
                if not answer.done():
                    answer.set_exception(Unreachable("the connection was closed before the answer"))
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)
            if self._closing is not None:
                await self._closing
        return self._reason

    @asynccontextmanager
    async def turn(self, lane: Lane) -> AsyncIterator[None]:
        """Only the holder of the turn may `exchange`: one call is open at a time. Raises Unreachable."""
        async with self._turns.take(lane):
            yield

    async def call(self, action: str, payload: Payload, lane: Lane = Lane.HOUSEKEEPING) -> Payload:
        """Waits for its turn, sends, and returns the answer. Raises as `exchange`."""
        async with self.turn(lane):
            return await self.exchange(action, payload, lane)

    async def exchange(
        self, action: str, payload: Payload, lane: Lane, on_wire: Callable[[], None] | None = None
    ) -> Payload:
        """Sends a call and returns the payload of its result; `on_wire` is called as it leaves.

        Raises Misconfigured (not legal, not sent), CallError, Nonsense (an answer that is none), Unreachable (no
        answer in time, or the connection ended).
        """
        self.dialect.schemas.check(action, payload)
        if self.ended or self._closing is not None:
            raise Unreachable("the connection is closed")
        self._calls_made += 1
        message_id = f"{self._prefix}-{self._calls_made}"
        answer: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        answer.add_done_callback(_look_at)
        self._open[message_id] = answer
        began_s = self._now_s()
        if on_wire is not None:
            on_wire()
        try:
            async with asyncio.timeout(self._patience.safety_s):
                await self._send(encode_call(message_id, action, payload))
            await self._wait_for(answer, lane)
        except TimeoutError:
            log.debug("%s: does not even read", self.station)
        finally:
            del self._open[message_id]
        if not answer.done():
            self._note_unanswered()
            raise Unreachable(f"no answer to {action}")
        self._unanswered = 0
        if not self.ended:
            self._answered(action, self._now_s() - began_s)
        result = answer.result()
        if not isinstance(result, dict):
            raise Nonsense(f"the answer to {action} is not an object")
        return result

    def hang_up(self, code: int, reason: str) -> None:
        """Begins to end the session, politely or, after CLOSE_S, not. The first reason given is the one that counts."""
        if self._closing is None:
            self._reason = reason
            self._closing = asyncio.create_task(self._close(code, reason))

    async def close(self, code: int, reason: str) -> None:
        """Ends the session; returns when the connection is closed, after CLOSE_S at the latest."""
        self.hang_up(code, reason)
        if self._closing is not None:
            await asyncio.shield(self._closing)

    async def is_alive(self, within_s: float) -> bool:
        """Whether the peer answers a ping in time; one that is not pinged, whether it has said anything of late."""
        if not self.pings:
            return self._now_s() - self._heard_s <= self._silence_s
        try:
            async with asyncio.timeout(within_s):
                pong = await self._socket.ping()
        except (TimeoutError, ConnectionClosed):
            return False
        future = asyncio.ensure_future(pong)
        future.add_done_callback(_look_at)
        await asyncio.wait({future}, timeout=within_s)
        return future.done() and future.exception() is None

    # --- from the station -------------------------------------------------------------------------------------

    async def _read(self) -> None:
        while True:
            message = await self._socket.recv()
            if self._closing is not None:
                continue  # read on, so that the peer's goodbye can arrive
            text = message if isinstance(message, str) else message.decode("utf-8", "replace")
            self._heard_s = self._now_s()
            if (ahead_s := self._pace.ahead_s(self._heard_s, FRAMES_PER_S)) > 0:
                await asyncio.sleep(ahead_s)
            self._record(False, text)
            match parse(text):
                case Call() as call:
                    self._queue(call)
                case Result(id=message_id, payload=payload):
                    self._resolve(message_id, payload)
                case Error(id=message_id, code=code, text=explanation):
                    self._resolve(message_id, CallError(code, explanation))
                case Malformed(id=None, text=what):
                    log.debug("%s: unreadable frame: %s", self.station, what)
                    self._note_nonsense()
                    if self.dialect.nobody is not None:
                        self._queue(Malformed(self.dialect.nobody, Flaw.PROTOCOL, what))
                case Aside(text=what):
                    log.info("%s: %s", self.station, what)
                case Malformed() as malformed:
                    self._queue(malformed)
                case other:
                    assert_never(other)

    def _queue(self, call: Call | Malformed) -> None:
        if not self._inbox.put(call):
            log.warning("%s: sends faster than it can be answered; closing", self.station)
            self.hang_up(1013, "too many calls")

    def _resolve(self, message_id: str, outcome: object) -> None:
        answer = self._open.get(message_id)
        if answer is None or answer.done():
            self._note_nonsense()
        elif isinstance(outcome, DriverError):
            answer.set_exception(outcome)
        else:
            answer.set_result(outcome)

    def _note_nonsense(self) -> None:
        now_s = self._now_s()
        full = len(self._nonsense_at) == MOST_NONSENSE
        oldest_s = self._nonsense_at[0] if full else now_s
        self._nonsense_at.append(now_s)
        if full and now_s - oldest_s < 60:
            log.warning("%s: more than %d senseless frames in a minute; closing", self.station, MOST_NONSENSE)
            self.hang_up(1008, "too many senseless frames")

    async def _answer_calls(self, handle: Handler) -> None:
        while True:
            call = await self._inbox.get()
            try:
                match call:
                    case Malformed():
                        await self._send_error(call.id or "", call.flaw, call.text)
                    case Call():
                        await self._answer(call, handle)
            except Unreachable:
                return

    async def _answer(self, call: Call, handle: Handler) -> None:
        try:
            payload = await handle(call.action, call.payload)
            if payload is None:
                return
            self.dialect.schemas.check(f"{call.action}Response", payload)
            reply = encode_result(call.id, payload)
        except BadCall as bad:
            await self._send_error(call.id, bad.flaw, bad.text)
            return
        except Misconfigured as illegal:
            log.error("%s: our answer would not be legal: %s", self.station, illegal)
            await self._give_up(call)
            return
        except Exception:
            log.exception("%s: %s could not be handled", self.station, call.action)
            await self._give_up(call)
            return
        await self._send(reply)

    async def _give_up(self, call: Call) -> None:
        """No answer makes the station repeat a transaction message; an error would make it forget the session."""
        if not self.dialect.sacred(call.action):
            await self._send_error(call.id, Flaw.INTERNAL, "could not be handled")

    # --- to the station ---------------------------------------------------------------------------------------

    async def _send_error(self, message_id: str, flaw: Flaw, text: str) -> None:
        await self._send(encode_error(message_id, self.dialect.codes[flaw], text))

    async def _send(self, text: str) -> None:
        self._record(True, text)
        try:
            await self._socket.send(text)
        except ConnectionClosed as closed:
            raise Unreachable("the connection is closed") from closed

    async def _close(self, code: int, reason: str) -> None:
        try:
            async with asyncio.timeout(CLOSE_S):
                await self._socket.close(code, reason[:100])
        except TimeoutError:
            self._socket.transport.abort()

    async def _wait_for(self, answer: asyncio.Future[object], lane: Lane) -> None:
        """Until the answer or the end of patience; housekeeping gives way as soon as a safety call waits."""
        await asyncio.wait({answer}, timeout=self._patience.safety_s)
        if answer.done() or lane is Lane.SAFETY:
            return
        safety = asyncio.create_task(self._turns.safety_waits())
        try:
            left_s = self._patience.housekeeping_s - self._patience.safety_s
            either: set[asyncio.Future[Any]] = {answer, safety}
            await asyncio.wait(either, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            safety.cancel()

    def _note_unanswered(self) -> None:
        self._unanswered += 1
        if self._unanswered >= MOST_UNANSWERED:
            log.warning("%s: %d calls in a row without an answer; closing", self.station, self._unanswered)
            self.hang_up(1011, "no answers")

    async def _feel_pulse(self) -> None:
        """Pings. A station that has answered pings is dead when it stops; one that never did (some cannot) is dead
        when it has been silent for three heartbeats."""
        answers_pings: bool | None = None
        while not self.ended:
            await asyncio.sleep(self._patience.ping_s)
            no_pings = answers_pings is False or not self.pings
            if no_pings and self._now_s() - self._heard_s <= self._silence_s:
                continue  # unanswered pings are kept by the library: do not pile them up
            if await self.is_alive(self._patience.ping_s):
                answers_pings = True
                continue
            silent_s = self._now_s() - self._heard_s
            patience_s = self._patience.ping_s if answers_pings and self.pings else self._silence_s
            answers_pings = answers_pings or False
            if silent_s > patience_s:
                log.warning("%s: no sign of life for %.0f s; closing", self.station, silent_s)
                self.hang_up(1011, "no sign of life")

    @staticmethod
    def _now_s() -> float:
        return asyncio.get_running_loop().time()


def _look_at(future: asyncio.Future[Any]) -> None:
    """A pong or an answer that fails after nobody waits for it any more is no news."""
    if not future.cancelled():
        future.exception()
