"""The control socket as a client sees it: one call, one answer; or a watch that brings the newest picture.

Owns the line protocol of INTERFACE section 7 on the client side. Must not import textual (commands use it too) and
must not interpret what it carries: the status document is read by `controller.core.wire`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from controller.core.snapshot import Snapshot

ANSWER_S = 10.0  # a healthy controller answers in milliseconds; after this a person has long stopped waiting
PATIENCE_S = {"station-ask": 330.0}  # a report of a slow station; the controller gives up before
SILENCE_S = 5.0  # the depot steps every second: five missed pictures are worth a question
RETRY_S = 1.0
LINE_BYTES = 4 * 1024 * 1024  # a status document of fifty EVSEs is about 60 kB; more than this is not ours


class CallRefused(Exception):
    """The controller understood and said no. `code` is for programs, `text` is one line for people."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class NotReachable(Exception):
    """No answer came: nobody listens, the peer hung up, or what listens is not a depot controller."""


@dataclass(frozen=True, slots=True)
class Disconnected:
    """In a watch: from now on the last picture is old. `text` says why, in one line."""

    text: str


class Source(Protocol):
    """Where a dashboard gets its pictures and hands over its orders."""

    def watch(self) -> AsyncGenerator[Snapshot | Disconnected, None]: ...

    async def call(self, name: str, /, **args: object) -> dict[str, Any]: ...


class Client:
    """A client of the control socket at `socket_path`. Holds no connection between calls.

    answer_s: how long one call may take; silence_s: how long a watch waits before it asks whether the controller
    still lives; retry_s: pause between two attempts to connect.
    """

    def __init__(
        self,
        socket_path: str | Path,
        *,
        answer_s: float = ANSWER_S,
        silence_s: float = SILENCE_S,
        retry_s: float = RETRY_S,
    ) -> None:
        self._path = str(socket_path)
        self._answer_s = answer_s
        self._silence_s = silence_s
        self._retry_s = retry_s

    async def call(self, name: str, /, **args: object) -> dict[str, Any]:
        """Sends one call and returns its answer. Raises CallRefused and NotReachable."""
        answer_s = max(self._answer_s, PATIENCE_S.get(name, 0.0))
        try:
            async with asyncio.timeout(answer_s), self._connection() as (reader, writer):
                await _write(writer, {"id": 1, "call": name, "args": args})
                return await _answer(reader)
        except TimeoutError as error:
            raise NotReachable(f"no answer from {self._path} within {answer_s:g} s") from error

    async def watch(self) -> AsyncGenerator[Snapshot | Disconnected, None]:
        """Yields a Snapshot for every change and one Disconnected per failed attempt; never ends, never raises.

        A silent controller is asked for its status; only when that stays unanswered too the watch counts as lost.
        """
        while True:
            try:
                async with self._connection() as (reader, writer):
                    await _write(writer, {"id": 1, "call": "watch"})
                    while True:
                        yield await self._next_picture(reader)
            except (NotReachable, CallRefused) as error:
                yield Disconnected(str(error))
            await asyncio.sleep(self._retry_s)

    async def _next_picture(self, reader: asyncio.StreamReader) -> Snapshot:
        from controller.core import wire  # costs more to load than the rest of a command that only calls

        try:
            async with asyncio.timeout(self._silence_s):
                document = await _answer(reader)
        except TimeoutError:
            document = await self.call("status")
        try:
            return wire.snapshot_from(document)
        except ValueError as error:
            raise NotReachable(
                f"the controller is of another version ({error}); restart both with the same one"
            ) from error

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        try:
            reader, writer = await asyncio.open_unix_connection(self._path, limit=LINE_BYTES)
        except (OSError, ValueError) as error:  # ValueError: a path that no socket can have
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise NotReachable(f"no controller, {reason.lower()}: {self._path}") from error
        try:
            yield reader, writer
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


async def _write(writer: asyncio.StreamWriter, message: dict[str, Any]) -> None:
    try:
        writer.write(json.dumps(message, separators=(",", ":")).encode() + b"\n")
        await writer.drain()
    except OSError as error:
        raise NotReachable("the controller closed the connection") from error


async def _answer(reader: asyncio.StreamReader) -> dict[str, Any]:
    """The next `ok` of a connection. Raises CallRefused and NotReachable."""
    try:
        line = await reader.readline()
        message = json.loads(line) if line.endswith(b"\n") else None
    except OSError as error:
        raise NotReachable("the controller closed the connection") from error
    except ValueError as error:  # not JSON, not UTF-8, or longer than LINE_BYTES
        raise NotReachable("what answers is not a depot controller") from error
    if message is None:
        raise NotReachable("the controller closed the connection")
    match message:
        case {"ok": dict() as ok}:
            return ok
        case {"error": {"code": str() as code, "text": str() as text}}:
            raise CallRefused(code, text)
    raise NotReachable("what answers is not a depot controller")
