"""One station on one connection: what it says becomes facts, what we decided becomes calls.

Owns the order of things on a connection: a fact is reported, and committed where that matters, before its message is
answered; setup follows the newest introduction; commands wait until the fallbacks were offered. No word of OCPP stands
here beyond BootNotification: the words are in `v16`, the profiles in `profiles`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine

from controller.core.commands import Command
from controller.core.events import Event, StationBooted, StatusChanged, TransactionEnded, TransactionStarted
from controller.core.model import EvseState, number_of
from controller.ports import Answer, Clock, Report
from drivers.errors import Unreachable
from drivers.ocpp import v16
from drivers.ocpp.desk import Desk
from drivers.ocpp.frames import Payload
from drivers.ocpp.memory import Memory
from drivers.ocpp.schemas import Schemas
from drivers.ocpp.settings import OcppSettings
from drivers.ocpp.setup import Setup
from drivers.ocpp.station import Dialect, Session

log = logging.getLogger(__name__)

DIALECT = Dialect(
    channel=v16.CHANNEL,
    codes=v16.CODES,
    schemas=Schemas("v16"),
    sheddable=v16.is_sheddable,
    sacred=v16.is_sacred,
)


class Dialogue:
    """`run` works until the connection has ended; `send` takes commands meanwhile."""

    def __init__(
        self,
        session: Session,
        settings: OcppSettings,
        memory: Memory,
        clock: Clock,
        report: Report,
        tell: Callable[[Event], None],
    ) -> None:
        self.session = session
        self._settings = settings
        self._evses = settings.stations[session.station].evses
        self._memory = memory
        self._clock = clock
        self._report = report
        self._statuses: dict[int, EvseState] = {}
        self._desk = Desk(session, self._evses, lambda: memory.able, clock, tell)
        self._setup = Setup(session, self._evses, settings, memory, tell)
        self._boot_was_asked = False
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def send(self, command: Command) -> None:
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
            for result in results:
                if isinstance(result, Exception):
                    log.error("%s: a helper failed", self.session.station, exc_info=result)

    async def _handle(self, action: str, payload: Payload) -> Payload | None:
        self._memory.note_quirks(DIALECT.schemas.deviations(action, payload))
        request = v16.read(action, payload, self._known(), self._clock.now())
        self._memory.note_quirks(request.remarks)
        answer: Answer | None = None
        for event in request.events:
            answer = await self._report(event)
            self._remember(event, answer, request.station_wide)
        return request.reply(answer)

    def _known(self) -> v16.Known:
        return v16.Known(
            station=self.session.station,
            evses=self._evses,
            heartbeat_s=self._settings.heartbeat_s,
            transactions=self._memory.evse_of,
            ended=frozenset(self._memory.ended),
            statuses=self._statuses,
        )

    def _remember(self, event: v16.Event, answer: Answer, station_wide: bool) -> None:
        match event:
            case StationBooted():
                self._introduced()
            case StatusChanged(evse=evse, state=state) if not station_wide:
                self._statuses[number_of(evse)] = state
            case TransactionStarted(evse=evse) if answer.transaction is not None:
                self._memory.note_start(answer.transaction, evse)
            case TransactionEnded(transaction=transaction):
                self._memory.note_end(transaction)

    # --- setup ------------------------------------------------------------------------------------------------

    def _introduced(self) -> None:
        """The newest introduction counts: whatever setup was doing starts again, unless we asked for this one."""
        if self._boot_was_asked:
            self._boot_was_asked = False
            return
        self._memory.measurands_written = False
        self._tasks["setup"].cancel()
        # the new task runs only after this handler has returned, so the station has its answer before our first call
        self._start("setup", self._setup.run(ask_for_boot=False, fallbacks_done=self._open_desk))

    async def _wait_for_introduction(self) -> None:
        await asyncio.sleep(self._settings.patience.boot_s)
        self._boot_was_asked = True
        await self._setup.run(ask_for_boot=True, fallbacks_done=self._open_desk)

    def _start(self, name: str, work: Coroutine[None, None, None]) -> None:
        self._tasks[name] = asyncio.create_task(work, name=f"{self.session.station} {name}")

    def _open_desk(self) -> None:
        if "desk" not in self._tasks:
            self._start("desk", self._work_desk())

    async def _work_desk(self) -> None:
        try:
            await self._desk.run()
        except Unreachable:
            log.debug("%s: the desk closes with its connection", self.session.station)
