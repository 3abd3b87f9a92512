"""/metrics, /healthz and /readyz over HTTP, read only.

Owns the port. One page a second is made at most, whoever asks how often; a client gets one answer per connection, five
seconds, and no more than sixteen are let in at once. healthz: this process answers. readyz: the newest decision is fresh,
not blind, and the ledger takes what it says; neither gives a reason away. Must not change anything.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from importlib import metadata

from controller.core.proof import Proof
from controller.histogram import Histogram
from controller.metrics import CALL_S, LAG_S, STEP_S, Delivered, Inside, page
from controller.runtime import Runtime
from controller.storage import Storage
from drivers.errors import Misconfigured, deaf

log = logging.getLogger(__name__)

REQUEST_BYTES = 8 * 1024
CLIENTS = 16
PATIENCE_S = 5.0
FRESH_S = 5.0  # an older decision is none
TICK_S = 1.0
TEXT = "text/plain; version=0.0.4; charset=utf-8"
_REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}  # fmt: skip

Answer = tuple[int, str]


class MetricsDoor:
    """`run` serves until cancelled. `quirks`: what was repaired, by station. `queues`: what waits, by channel."""

    def __init__(
        self,
        address: tuple[str, int],
        runtime: Runtime,
        storage: Storage,
        quirks: Callable[[], Mapping[str, int]],
        queues: Callable[[], Mapping[str, int]] = dict,
    ) -> None:
        self.port = 0  # once it listens
        self._address = address
        self._runtime = runtime
        self._storage = storage
        self._quirks = quirks
        self._queues = queues
        self._delivered = Delivered()
        self._step = Histogram(STEP_S)
        self._lag = Histogram(LAG_S)
        self._calls: dict[str, Histogram] = {}
        self._decided_s: float | None = None
        self._page: tuple[float, str] | None = None  # when it was made
        self._version = metadata.version("depot-controller")
        self._clients: set[asyncio.Task[None]] = set()

    def observe(self, proof: Proof) -> None:
        """After every step."""
        self._decided_s = self._runtime.clock.now().mono_s
        self._step.add(self._runtime.step_s)
        if (snapshot := self._runtime.snapshot) is not None:
            self._delivered.observe(snapshot)

    def answered(self, action: str, seconds: float) -> None:
        """A station has answered one of our calls; there are no more kinds of them than OCPP knows."""
        if (found := self._calls.get(action)) is None:
            found = self._calls[action] = Histogram(CALL_S)
        found.add(seconds)

    async def run(self) -> None:
        """Raises Misconfigured when the port cannot be had."""
        host, port = self._address
        try:
            server = await asyncio.start_server(self._serve, host, port, limit=REQUEST_BYTES)
        except OSError as error:
            why = deaf(error, "[metrics] listen")
            raise Misconfigured(f"metrics cannot listen on {host}:{port}: {why}") from None
        self.port = server.sockets[0].getsockname()[1]
        log.info("metrics on %s, port %d", host, self.port)
        self._runtime.witnesses.append(self.observe)
        try:
            await self._feel_lag()
        finally:
            self._runtime.witnesses.remove(self.observe)
            server.close()
            for task in self._clients:
                task.cancel()
            if self._clients:
                await asyncio.wait(self._clients)

    async def _feel_lag(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due_s = loop.time() + TICK_S
            await asyncio.sleep(TICK_S)
            self._lag.add(max(0.0, loop.time() - due_s))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._clients) >= CLIENTS:
            writer.transport.abort()
            return
        self._clients.add(task)
        try:
            async with asyncio.timeout(PATIENCE_S):
                status, body = self._answer(await reader.readuntil(b"\r\n\r\n"))
                payload = body.encode()
                head = f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: {TEXT}\r\n"
                head += f"Content-Length: {len(payload)}\r\nConnection: close\r\n\r\n"
                writer.write(head.encode() + payload)
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            writer.transport.abort()  # gone, asleep or no client of ours: there is nobody to tell
        except asyncio.CancelledError:
            writer.transport.abort()  # shutting down: the task ends here, on purpose
        finally:
            self._clients.discard(task)
            writer.close()

    def _answer(self, request: bytes) -> Answer:
        words = request.split(b"\r\n", 1)[0].split(b" ")
        if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
            return 400, "not HTTP\n"
        if words[0] != b"GET":
            return 405, "GET only\n"
        match words[1].split(b"?", 1)[0]:
            case b"/metrics":
                return self._metrics()
            case b"/healthz":
                return 200, "ok\n"
            case b"/readyz":
                return (200, "ready\n") if self._ready() else (503, "not ready\n")
            case _:
                return 404, "/metrics, /healthz, /readyz\n"

    def _ready(self) -> bool:
        snapshot = self._runtime.snapshot
        if snapshot is None or self._decided_s is None or snapshot.state in ("starting", "failsafe"):
            return False
        fresh = self._runtime.clock.now().mono_s - self._decided_s <= FRESH_S
        return fresh and self._storage.alive_s <= FRESH_S and not self._storage.full

    def _metrics(self) -> Answer:
        snapshot = self._runtime.snapshot
        if snapshot is None:
            return 503, "nothing decided yet\n"
        now = self._runtime.clock.now()
        if self._page is None or now.mono_s - self._page[0] >= TICK_S:
            silence_s, full = self._storage.alive_s, self._storage.full
            inside = Inside(
                self._version, now.utc_trusted, silence_s, full, self._quirks(), self._queues(), self._calls,
                self._storage.commits,
            )  # fmt: skip
            self._page = (now.mono_s, page(snapshot, self._delivered, inside, self._step, self._lag))
        return 200, self._page[1]
