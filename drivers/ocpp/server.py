"""The OCPP central system: one listening port, one dialogue per connected station.

Owns the socket, who is connected, and what happens when a station appears twice. Must not know words of OCPP. Satisfies
`controller.ports.Charger`. Source: OCPP-J 1.6 section 3; the rule for double connections answers two published attacks
(closing the old one lets anybody cut a station off, keeping the old one leaves it without control).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

from websockets.asyncio.server import ServerConnection, serve

from controller.core.commands import Command
from controller.core.events import AccessRefused, CommandRefused, Event, LinkDown, LinkUp
from controller.core.model import StationId, station_of
from controller.ports import Clock, Report
from drivers.errors import Misconfigured
from drivers.ocpp import v16
from drivers.ocpp.dialogue import DIALECT, Dialogue
from drivers.ocpp.door import Door, identity_of, peer_of
from drivers.ocpp.frames import MAX_FRAME, Frame, redacted
from drivers.ocpp.memory import Memory
from drivers.ocpp.settings import OcppSettings, Patience, StationSettings
from drivers.ocpp.station import CLOSE_S, Session

__all__ = ["OcppServer", "OcppSettings", "Patience", "StationSettings"]

log = logging.getLogger(__name__)

OPEN_S = 5.0  # for the whole opening handshake: a slow one is an attack or a dead link
MOST_REFUSALS_WAITING = 100


@dataclass(slots=True)
class _Link:
    """One live connection. `gone` is set when its end has been reported."""

    dialogue: Dialogue
    peer: str
    gone: asyncio.Event = field(default_factory=asyncio.Event)


class OcppServer:
    """`run` serves until it is cancelled; `send` may be called at any time."""

    def __init__(self, settings: OcppSettings, clock: Clock) -> None:
        self.port = settings.listen_port  # the real one once `ready`
        self._settings = settings
        self._clock = clock
        self._links: dict[StationId, _Link] = {}
        self._memories = {station: Memory(station) for station in settings.stations}
        self._bound = asyncio.Event()
        self._failure: Misconfigured | None = None
        self._stopping = False
        # What became of commands, on its way to the depot. Grows with the commands given, which the depot paces by
        # these very answers; refusals at the door are dropped beyond MOST_REFUSALS_WAITING.
        self._facts: asyncio.Queue[Event] = asyncio.Queue()

    async def run(self, report: Report) -> None:
        """Raises Misconfigured when the port cannot be had."""
        self._stopping, self._failure = False, None
        door = Door(self._settings.stations, v16.CHANNEL, v16.SUBPROTOCOL, self._tell_refusal)
        host, port = self._settings.listen_host, self._settings.listen_port
        try:
            server = await serve(
                lambda socket: self._welcome(socket, door, report),
                host,
                port,
                subprotocols=[v16.SUBPROTOCOL],  # type: ignore[list-item]
                process_request=door,
                compression=None,
                server_header=None,
                open_timeout=OPEN_S,
                close_timeout=CLOSE_S,
                ping_interval=None,  # the session feels the pulse itself: some stations cannot answer pings
                max_size=MAX_FRAME,
                logger=_wire_log(),
            )
        except OSError as error:
            self._failure = Misconfigured(f"OCPP cannot listen on {host}:{port}: {error.strerror or error}")
            self._bound.set()
            raise self._failure from None
        try:
            self.port = server.sockets[0].getsockname()[1]
            log.info("OCPP listens on %s:%d", host, self.port)
            self._bound.set()
            while True:
                await report(await self._facts.get())
        finally:
            self._stopping = True
            self._bound.clear()
            server.close(
                close_connections=False
            )  # by ourselves, below: the library waits for ever for a stalled peer
            sessions = [link.dialogue.session for link in self._links.values()]
            await asyncio.gather(*(session.close(1001, "the controller stops") for session in sessions))
            await server.wait_closed()

    async def ready(self) -> None:
        """Returns when the port is bound; raises Misconfigured when it could not be."""
        await self._bound.wait()
        if self._failure is not None:
            raise self._failure

    def send(self, command: Command) -> None:
        """Never blocks, never raises; see `controller.ports.Charger`."""
        link = self._links.get(station_of(command.evse))
        if link is None:
            self._facts.put_nowait(CommandRefused(command.id, "not connected"))
        else:
            link.dialogue.send(command)

    def frames(self, station: StationId) -> tuple[Frame, ...]:
        """The last frames of a station, oldest first, redacted; empty for an unknown one."""
        memory = self._memories.get(station)
        return tuple(memory.frames) if memory is not None else ()

    def quirks(self, station: StationId) -> Mapping[str, int]:
        """How often a station did which odd thing."""
        memory = self._memories.get(station)
        return dict(memory.quirks) if memory is not None else {}

    # --- one connection ---------------------------------------------------------------------------------------

    async def _welcome(self, socket: ServerConnection, door: Door, report: Report) -> None:
        station = identity_of(socket.request.path) if socket.request is not None else None
        if station is None or station not in self._memories:
            return  # the door lets nobody through without one
        try:
            await self._serve(station, socket, door, report)
        except Exception:
            log.exception("%s: the connection failed", station)

    async def _serve(self, station: StationId, socket: ServerConnection, door: Door, report: Report) -> None:
        peer = peer_of(socket)
        while (incumbent := self._links.get(station)) is not None:
            if not await self._gives_way(incumbent, peer):
                door.turn_away(station, peer, f"connected from {incumbent.peer} already")
                await _close(socket, 1008, "this station is connected already")
                return
        if self._stopping:
            await _close(socket, 1001, "the controller stops")
            return
        memory = self._memories[station]
        link = _Link(self._dialogue(station, socket, memory, report), peer)
        self._links[station] = link
        try:
            log.info("%s connected from %s", station, peer)
            await report(LinkUp(station, v16.CHANNEL, peer))
            reason = await link.dialogue.run()
            log.info("%s disconnected: %s", station, reason)
            await report(LinkDown(station, v16.CHANNEL, reason))
        finally:
            if self._links.get(station) is link:
                del self._links[station]
            link.gone.set()

    def _dialogue(
        self, station: StationId, socket: ServerConnection, memory: Memory, report: Report
    ) -> Dialogue:
        def record(sent: bool, text: str) -> None:
            memory.frames.append(Frame(self._clock.now().utc, sent, redacted(text)))

        silence_s = 3.0 * self._settings.heartbeat_s
        session = Session(station, socket, DIALECT, self._settings.patience, silence_s, record)
        return Dialogue(session, self._settings, memory, self._clock, report, self._facts.put_nowait)

    async def _gives_way(self, incumbent: _Link, newcomer: str) -> bool:
        """Whether the older connection is gone now: the same box again replaces it, a dead one does not defend it."""
        session = incumbent.dialogue.session
        if newcomer != incumbent.peer and await session.is_alive(self._settings.patience.takeover_s):
            return False
        await session.close(1001, "replaced by a newer connection")
        await incumbent.gone.wait()
        return True

    def _tell_refusal(self, event: AccessRefused) -> None:
        if self._facts.qsize() < MOST_REFUSALS_WAITING:
            self._facts.put_nowait(event)


async def _close(socket: ServerConnection, code: int, reason: str) -> None:
    try:
        async with asyncio.timeout(CLOSE_S):
            await socket.close(code, reason)
    except TimeoutError:
        socket.transport.abort()


class _OneLine(logging.Filter):
    """Strangers' broken handshakes are one line each, never a traceback."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and record.exc_info[1] is not None:
            record.msg = f"{record.getMessage()}: {record.exc_info[1]}"[:300]
            record.args, record.exc_info = (), None
            record.levelno, record.levelname = logging.INFO, "INFO"
        return True


def _wire_log() -> logging.Logger:
    wire = logging.getLogger(f"{__name__}.wire")
    if not wire.filters:
        wire.addFilter(_OneLine())
        wire.setLevel(logging.WARNING)  # the library tells every opening and closing at INFO; so do we, once
    return wire
