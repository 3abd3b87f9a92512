"""One station on one connection: what it says becomes facts, what we decided becomes calls.

Owns the order of things on a connection: a fact is reported, and committed where that matters, before its message is
answered; setup follows the newest introduction; commands wait until the fallbacks were offered. Names no version: the
words come in (`words.Words`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine

from controller.core.commands import Command, DropPlan, StorePlan, StoreTokens, UpgradeFirmware
from controller.core.events import (
    Event,
    EvseSample,
    FirmwareReported,
    StationBooted,
    StatusChanged,
    TransactionEnded,
    TransactionStarted,
)
from controller.core.model import EvseState, number_of
from controller.ports import Answer, Clock, Report
from drivers.errors import Unreachable
from drivers.ocpp.clerk import Clerk
from drivers.ocpp.desk import Desk
from drivers.ocpp.footing import Footing
from drivers.ocpp.frames import Payload
from drivers.ocpp.memory import Memory
from drivers.ocpp.settings import OcppSettings
from drivers.ocpp.setup import Setup
from drivers.ocpp.signed import signed_values
from drivers.ocpp.station import Session
from drivers.ocpp.words import Event as Fact
from drivers.ocpp.words import Known, Words

log = logging.getLogger(__name__)


class Dialogue:
    """`run` works until the connection has ended; `send` takes commands meanwhile."""

    def __init__(
        self,
        words: Words,
        session: Session,
        settings: OcppSettings,
        memory: Memory,
        clock: Clock,
        report: Report,
        tell: Callable[[Event], None],
        hear: Callable[[str, Payload], Payload | None] = lambda action, payload: None,
    ) -> None:
        self.words = words
        self.session = session
        self._settings = settings
        self._evses = settings.stations[session.station].evses
        self._memory = memory
        self._clock = clock
        self._report = report
        self._hear = hear  # answers what concerns keys and certificates
        memory.story.strangers.clear()  # what the station has to repeat comes now
        self._statuses: dict[int, EvseState] = {}
        self._news: dict[str, str] = {}  # the last line told about each action
        self._footing = Footing(memory.reserves, memory.manners, words.channel, tell)
        self._desk = Desk(words, session, self._evses, memory, clock, tell, self._footing)
        policy, delivery = settings.offline_tokens, self._desk.delivery
        self._clerk = Clerk(words, session, self._evses, memory, policy, clock, tell, delivery)
        self._setup = Setup(words, session, self._evses, settings, memory, clock, self._footing)
        self._boot_was_asked = False
        self._setup_began = False
        self._waiting = False  # it introduced itself and was told to wait
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def send(self, command: Command) -> None:
        match command:
            case StoreTokens() | UpgradeFirmware() | StorePlan() | DropPlan():
                self._clerk.put(command)
            case _:
                self._desk.put(command)

    async def run(self) -> str:
        """Returns why the connection ended; then nothing of it is left."""
        self._start("setup", self._wait_for_introduction())
        try:
            return await self.session.run(self._handle)
        finally:
            for task in self._tasks.values():
                task.cancel()
            results = await asyncio.gather(*self._tasks.values(), return_exceptions=True)
            self._desk.close()
            self._clerk.close()
            for result in results:
                if isinstance(result, Exception):
                    log.error("%s: a helper failed", self.session.station, exc_info=result)

    async def _handle(self, action: str, payload: Payload) -> Payload | None:
        self._memory.note_quirks(self.words.dialect.schemas.deviations(action, payload))
        self._memory.reports.hear(action, payload)
        if (heard := self._hear(action, payload)) is not None:
            return heard
        if (signed := signed_values(self.session.station, payload)) is not None:
            await self._report(signed)
        if self._memory.hearing.note_stamp(payload, self._clock.now()):
            self._desk.delivery.clock_told()
        payload = self._straightened(action, payload)
        request = self.words.read(action, payload, self._known(), self._clock.now())
        self._memory.note_quirks(request.remarks)
        if request.news and self._news.get(action) != request.news:
            self._news[action] = request.news
            log.info("%s: %s", self.session.station, request.news)
        answer: Answer | None = None
        for event in request.events:
            said = await self._report(event)
            answer = said if answer is None else answer
            self._remember(event, said, request.station_wide)
        request.remember()
        if action == "BootNotification":
            self._waiting, self._memory.boot_held = self._memory.boot_held, False
        elif self._memory.introduced and self.words.dialect.boots_once and not self._setup_began:
            self.set_up()  # it is back without a reboot, and tells by talking that it is ready
        return request.reply(answer)

    def _straightened(self, action: str, payload: Payload) -> Payload:
        """Its stamps in our time, where its clock is known to be wrong."""
        memory, hearing = self._memory, self._memory.hearing
        if memory.able.in_watts or memory.manners.switches.rate_unit == "W":
            hearing.note_voltage(payload)
        if not memory.manners.knows("localtime"):
            return payload
        straight = hearing.straighten(action, payload, self._clock.now())
        if straight is not payload:
            memory.note_repair("localtime")
        return straight

    def _known(self) -> Known:
        return Known(
            station=self.session.station,
            evses=self._evses,
            heartbeat_s=self._settings.heartbeat_s,
            transactions=self._memory.evse_of,
            ended=frozenset(self._memory.ended),
            statuses=self._statuses,
            story=self._memory.story,
            channel=self.words.channel,
            upgrade=self._memory.upgrade,
            held=self._memory.boot_held,
            waiting=self._waiting,
        )

    def _remember(self, event: Fact, answer: Answer, station_wide: bool) -> None:
        match event:
            case StationBooted():
                self._introduced(event)
            case StatusChanged(evse=evse, state=state) if not station_wide:
                self._statuses[number_of(evse)] = state
                self._desk.delivery.status(evse, state)
            case EvseSample():
                self._desk.delivery.sampled(event)
            case TransactionStarted(evse=evse) if (
                name := event.transaction or answer.transaction
            ) is not None:
                if name not in self._memory.ended:
                    self._memory.note_start(name, evse)
            case TransactionEnded(transaction=transaction):
                if (at := self._memory.evse_of.get(transaction)) is not None:
                    self._desk.delivery.transaction_ended(at)
                self._memory.note_end(transaction)
            case FirmwareReported(status="success" | "failed"):
                self._memory.upgrade = ""

    # --- setup ------------------------------------------------------------------------------------------------

    def _introduced(self, booted: StationBooted) -> None:
        """The newest introduction counts: whatever setup was doing starts again, unless we asked for this one."""
        memory = self._memory
        memory.manners.introduced(booted.vendor, booted.model, booted.firmware)
        memory.hearing.introduced()
        switches = memory.manners.switches
        self.session.pings = switches.ws_ping
        if not switches.ws_ping:
            memory.note_repairs("ws_ping")
        if switches.reserve:
            memory.note_repairs("reserve")
            self._footing.dialect_learnt(self._evses.values())
        if switches.version and self._speaks_better(switches.version):
            return
        if self._boot_was_asked:
            self._boot_was_asked = False
            return
        memory.boots.append(self._clock.now().mono_s)
        memory.introduced = True
        if not switches.read_deny:  # row 14: once is enough
            memory.measurands_written = memory.maximum_written = False
        # the new task runs only after this handler has returned, so the station has its answer before our first call
        self.set_up()

    def _speaks_better(self, version: str) -> bool:
        """Whether it is sent away to come back with another version of those it offers."""
        if self.words.version == version:
            return False
        self._memory.note_repairs("version")
        if f"ocpp{version}" not in self._memory.offered:
            log.warning("%s speaks OCPP %s better; set it there", self.session.station, version)
            return False
        self._memory.manners.pinned = version
        self.session.hang_up(1012, f"speak OCPP {version}")
        return True

    def set_up(self) -> None:
        """Whatever setup is doing starts again."""
        self._setup_began = True
        self._tasks["setup"].cancel()
        self._start("setup", self._setup.run(ask_for_boot=False, fallbacks_done=self._open_desk))

    async def _wait_for_introduction(self) -> None:
        easy = 3 if self._memory.manners.switches.quiet_s else 1
        await asyncio.sleep(easy * self._settings.patience.boot_s)
        if self._waiting:
            return  # setup follows the introduction that will be accepted
        self._setup_began = self._boot_was_asked = True
        await self._setup.run(ask_for_boot=True, fallbacks_done=self._open_desk)

    def _start(self, name: str, work: Coroutine[None, None, None]) -> None:
        self._tasks[name] = asyncio.create_task(work, name=f"{self.session.station} {name}")

    def _open_desk(self) -> None:
        if "desk" not in self._tasks:
            self._start("desk", self._work_desk())
            self._start("clerk", self._clerk.run())

    async def _work_desk(self) -> None:
        try:
            await self._desk.run()
        except Unreachable:
            log.debug("%s: the desk closes with its connection", self.session.station)
