"""The OCPP central system: its listening ports, one dialogue per connected station.

Owns the socket, who is connected, and what happens when a station appears twice. Must not know words of OCPP. Satisfies
`controller.ports.Charger`. Source: OCPP-J 1.6 section 3; the rule for double connections answers two published attacks
(closing the old one lets anybody cut a station off, keeping the old one leaves it without control).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.typing import Subprotocol

from controller.core.commands import Command, DropPlan, StorePlan
from controller.core.events import AccessRefused, CommandLost, CommandRefused, Event, LinkDown, LinkUp
from controller.core.frames import Frame, Trace
from controller.core.model import EvseId, StationId, station_of
from controller.ports import Clock, Report
from drivers.errors import Misconfigured, Unreachable
from drivers.ocpp.asking import refuse_what_hurts
from drivers.ocpp.dialects import Manners
from drivers.ocpp.dialogue import Dialogue
from drivers.ocpp.door import Door, identity_of, peer_of
from drivers.ocpp.entrance import Entrance
from drivers.ocpp.frames import MAX_FRAME, Payload, redacted
from drivers.ocpp.learnt import FILE, Learnt
from drivers.ocpp.memory import Memory
from drivers.ocpp.parts import Reports
from drivers.ocpp.queues import Pace
from drivers.ocpp.security import Security
from drivers.ocpp.settings import OcppSettings, Patience, StationSettings
from drivers.ocpp.station import CLOSE_S, Answered, Session
from drivers.ocpp.versions import VERSIONS, choose, spoken
from drivers.ocpp.words import Words

__all__ = ["OcppServer", "OcppSettings", "Patience", "StationSettings"]

log = logging.getLogger(__name__)

OPEN_S = 5.0  # for the whole opening handshake: a slow one is an attack or a dead link
MOST_REFUSALS_WAITING = 100
CHANNEL = "ocpp"  # of refusals at the door, where no version was agreed yet


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
        self.tls_port: int | None = None
        self._settings = settings
        self._clock = clock
        self._links: dict[StationId, _Link] = {}
        self._memories = {
            station: Memory(station, manners=Manners(settings.dialects), since_s=clock.now().mono_s)
            for station in settings.stations
        }
        folder = settings.folder
        self._learnt = Learnt(settings.stations, folder / FILE if folder else None)
        self._paces = {station: Pace() for station in settings.stations}
        self._bound = asyncio.Event()
        self.answered: Answered = lambda action, seconds: None  # whoever counts how long answers take
        self._failure: Misconfigured | None = None
        self._stopping = False
        self._cut_until_s: dict[StationId, float] = {}
        self._stations = dict(settings.stations)  # a compliance test may ask more of one than the config does
        self._door: Door | None = None
        # What became of commands, on its way to the depot. Grows with the commands given, which the depot paces by
        # these very answers; refusals at the door are dropped beyond MOST_REFUSALS_WAITING.
        self._facts: asyncio.Queue[Event] = asyncio.Queue()
        self.security = Security(settings, clock, self._facts.put_nowait, self.request, self.version)

    async def run(self, report: Report) -> None:
        """Raises Misconfigured when the port cannot be had."""
        self._stopping, self._failure = False, None
        security = self.security
        try:
            security.open()
            self._learnt.open()
            door = self._door = Door(
                self._stations,
                CHANNEL,
                self._subprotocols,
                self._tell_refusal,
                security.keys,
                security.is_revoked,
            )
            security.shown = door.certificates
            door.assumes = lambda station: self._assumed(station) is not None
            door.is_cut = lambda station: self._cut_until_s.get(station, 0.0) > self._clock.now().mono_s
            entrance = Entrance(
                self._settings,
                door,
                security.certificates,
                lambda socket: self._welcome(socket, door, report),
                self._options(),
            )
            await entrance.open()
        except Misconfigured as error:
            self._failure = error
            self._bound.set()
            raise
        self.port, self.tls_port = entrance.port, entrance.tls_port
        watching = asyncio.create_task(security.watch())
        try:
            secured = f", with TLS on port {self.tls_port}" if self.tls_port is not None else ""
            log.info("OCPP listens on %s:%d%s", self._settings.listen_host, self.port, secured)
            self._bound.set()
            while True:
                await report(await self._facts.get())
        finally:
            self._stopping = True
            self._bound.clear()
            watching.cancel()
            entrance.stop_listening()
            sessions = [link.dialogue.session for link in self._links.values()]
            await asyncio.gather(*(session.close(1001, "the controller stops") for session in sessions))
            await entrance.closed()
            await security.close()
            await self._learnt.settle()

    def _options(self) -> dict[str, Any]:
        """For every listening port."""
        return {
            "subprotocols": [Subprotocol(words.subprotocol) for words in VERSIONS],
            "select_subprotocol": self._select,
            "compression": None,
            "server_header": None,
            "open_timeout": OPEN_S,
            "close_timeout": CLOSE_S,
            "ping_interval": None,  # the session feels the pulse itself: some stations cannot answer pings
            "max_size": MAX_FRAME,
            "logger": _wire_log(),
        }

    async def ready(self) -> None:
        """Returns when the port is bound; raises Misconfigured when it could not be."""
        await self._bound.wait()
        if self._failure is not None:
            raise self._failure

    def recall(self, running: Sequence[tuple[EvseId, str]], ended: Sequence[tuple[EvseId, str]] = ()) -> None:
        """Transactions of an earlier run, each with its EVSE, oldest first; before `run`. ended: whose end was told by the
        station. Those of other channels are passed over."""
        for station, memory in self._memories.items():
            of_station = {name: evse for evse, name in running if station_of(evse) == station}
            memory.recall(of_station, (name for evse, name in ended if station_of(evse) == station))

    def send(self, command: Command) -> None:
        """Never blocks, never raises; see `controller.ports.Charger`."""
        link = self._links.get(station_of(command.evse))
        if link is None:
            fact = CommandLost if isinstance(command, StorePlan | DropPlan) else CommandRefused
            self._facts.put_nowait(fact(command.id, "not connected"))
        else:
            link.dialogue.send(command)

    async def request(
        self, station: StationId, action: str, payload: Payload, timeout_s: float = 30.0
    ) -> Payload:
        """Sends a call in the housekeeping lane and returns the payload of the answer.

        Raises Misconfigured (not a legal request in the station's version; nothing was sent), Unreachable (not
        connected, no answer in time), Refused (the station answered with an error), Nonsense (with no object).
        """
        link = self._links.get(station)
        if link is None:
            raise Unreachable(f"{station} is not connected")
        if action.endswith(("Request", "Response")):  # so the schemas call them, not the wire
            raise Misconfigured(f"{action} is not an action; write it without Request or Response")
        refuse_what_hurts(self._memories[station].manners, action, payload)
        try:
            async with asyncio.timeout(timeout_s):
                return await link.dialogue.session.call(action, payload)
        except TimeoutError:
            raise Unreachable(f"no answer to {action} within {timeout_s:g} s") from None

    def knows(self, station: StationId) -> bool:
        return station in self._memories

    def configuration(self, station: StationId) -> Mapping[str, str]:
        """What the station said of its settings when it was set up, names in small letters."""
        memory = self._memories.get(station)
        return memory.configuration if memory is not None else {}

    def require_profile(self, station: StationId, profile: int) -> None:
        """The least security profile a station may come with from now on, whatever it came with before (conformance
        tests). Opens no door that the config keeps shut: without a password nobody comes in with profile 0."""
        self._stations[station] = replace(self._stations[station], security_profile=profile)
        if self._door is not None:
            self._door.forget_profile(station)

    def hold_boot(self, station: StationId, held: bool = True) -> None:
        """Whether the station's next BootNotification is answered Pending (conformance tests)."""
        if station in self._memories:
            self._memories[station].boot_held = held

    async def cut(self, station: StationId, seconds: float) -> None:
        """For a proof: the link is gone, and the station stays outside for so long (0: it may come back at once)."""
        self._cut_until_s[station] = self._clock.now().mono_s + seconds
        if (link := self._links.get(station)) is not None:
            await link.dialogue.session.close(1001, "come back later")

    def spare_fallback(self, station: StationId, spared: bool) -> None:
        """For a proof: whether the station is left with the fallback it has when it connects, so that it can be seen."""
        if station in self._memories:
            self._memories[station].fallback_spared = spared

    def set_up(self, station: StationId) -> None:
        """Gives the station its fallback and its settings again, if it is connected."""
        if (link := self._links.get(station)) is not None:
            link.dialogue.set_up()

    def version(self, station: StationId) -> str | None:
        """The OCPP version that a connected station speaks ("2.0.1"); None while it is not connected."""
        link = self._links.get(station)
        return link.dialogue.words.version if link is not None else None

    def reports(self, station: StationId) -> Reports:
        """What the station tells in parts; `station` must be a configured one."""
        return self._memories[station].reports

    def running_on(self, evse: EvseId) -> str | None:
        """The transaction of an EVSE that runs, as far as its station has told."""
        memory = self._memories.get(station_of(evse))
        return memory.running_on(evse) if memory is not None else None

    def frames(self, station: StationId) -> tuple[Frame, ...]:
        """The last frames of a station, oldest first, redacted; empty for an unknown one."""
        memory = self._memories.get(station)
        return tuple(memory.frames) if memory is not None else ()

    def traces(self) -> list[Trace]:
        """See `controller.ports.Traced`."""
        return [Trace(each.channel or "ocpp", name, each.frames) for name, each in self._memories.items()]

    def quirks(self, station: StationId) -> Mapping[str, int]:
        """How often a station did which odd thing."""
        memory = self._memories.get(station)
        return dict(memory.quirks) if memory is not None else {}

    def ways(self, station: StationId) -> tuple[Mapping[str, Any], ...]:
        """The same for people: the rows of the dialects with what they are about first, then the rest; often before seldom."""
        memory = self._memories.get(station)
        return memory.ways() if memory is not None else ()

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
        words = choose([socket.subprotocol or ""], None) or self._assumed(station)
        if words is None:
            return  # the door lets nobody through without one
        if self._memories[station].channel != words.channel:
            self._memories[station] = self._memories[station].afresh(words.channel, self._clock.now().mono_s)
            self._learnt.adopt(station, words.channel, self._memories[station].manners)
        memory = self._memories[station]
        memory.offered = _offered(socket)
        if socket.subprotocol is None:
            memory.note_repair("noprotocol")
        link = _Link(self._dialogue(station, words, socket, memory, report), peer)
        self._links[station] = link
        try:
            log.info("%s connected from %s with OCPP %s", station, peer, words.version)
            await report(LinkUp(station, words.channel, peer))
            reason = await link.dialogue.run()
            log.info("%s disconnected: %s", station, reason)
            await report(LinkDown(station, words.channel, reason))
        finally:
            if self._links.get(station) is link:
                del self._links[station]
            link.gone.set()

    def _dialogue(
        self, station: StationId, words: Words, socket: ServerConnection, memory: Memory, report: Report
    ) -> Dialogue:
        def record(sent: bool, text: str) -> None:
            memory.frames.append(Frame(self._clock.now().utc, sent, redacted(text)))

        silence_s = 3.0 * self._settings.heartbeat_s
        session = Session(
            station, socket, words.dialect, self._settings.patience, silence_s, record, self._paces[station],
            self.answered,
        )  # fmt: skip
        tell, hear = self._facts.put_nowait, partial(self.security.hear, station, words.channel)
        return Dialogue(words, session, self._settings, memory, self._clock, report, tell, hear)

    async def _gives_way(self, incumbent: _Link, newcomer: str) -> bool:
        """Whether the older connection is gone now: the same box again replaces it, a dead one does not defend it."""
        session = incumbent.dialogue.session
        if newcomer != incumbent.peer and await session.is_alive(self._settings.patience.takeover_s):
            return False
        await session.close(1001, "replaced by a newer connection")
        await incumbent.gone.wait()
        return True

    def _subprotocols(self, station: StationId) -> tuple[str, ...]:
        return tuple(words.subprotocol for words in spoken(self._settings.stations[station].version))

    def _select(self, socket: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
        station = identity_of(socket.request.path) if socket.request is not None else None
        settings = self._settings.stations.get(station) if station is not None else None
        if settings is None or station is None:
            return None
        pinned = self._memories[station].manners.pinned  # better than the newest, as long as it is offered
        words = (choose(offered, pinned) if pinned else None) or choose(offered, settings.version)
        return Subprotocol(words.subprotocol) if words is not None else None

    def _assumed(self, station: StationId) -> Words | None:
        """What a station speaks that names no subprotocol: only where the config says it (row 49)."""
        settings = self._settings.stations.get(station)
        if settings is None or settings.version is None or not settings.assume_version:
            return None
        return spoken(settings.version)[0] if self._memories[station].manners.knows("noprotocol") else None

    def _tell_refusal(self, event: AccessRefused) -> None:
        if self._facts.qsize() < MOST_REFUSALS_WAITING:
            self._facts.put_nowait(event)


def _offered(socket: ServerConnection) -> tuple[str, ...]:
    headers = socket.request.headers.get_all("Sec-WebSocket-Protocol") if socket.request is not None else []
    return tuple(name.strip() for header in headers for name in header.split(","))


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
