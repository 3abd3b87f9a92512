"""The client of the hosted platform: tasks that send, read chargers and listen, and one order of events.

Owns when something happens; what it means stands in `fleet`, how it is said in `words` and `limits`, how one command
is carried out in `orders`, site-wide actions in `flexibility`, schedules stored in chargers in `plans`, session records
and energy in `records`. Nothing opens without the purpose "monitor", nothing is commanded without "control".

- `send` puts a command into its EVSE's slot (`slots`); the dispatcher lets them out as the quota allows (`budget`).
- every charger is read at start, after each reconnect of the stream, when it is silent although active, and now and
  then; the stream tells the rest. A charger whose firmware is not proven is read, and never used.
- when more decreases wait than the quota lets out within 2 s, the site is braked with one flexibility action first.
- the stream tells power, not current: a charger that charges over several phases is also read to see how its power is
  spread over them (`samples`).

Source: Open Platform REFERENCE sections 5 to 16, GAPS; DESIGN sections 5 and 6.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterable, Mapping
from datetime import datetime
from random import Random

from controller.core.commands import (
    Command,
    DropPlan,
    DropSchedule,
    StartDischarge,
    Steering,
    StopCharging,
    StorePlan,
    StoreSchedule,
    StoreTokens,
    UpgradeFirmware,
)
from controller.core.events import (
    CommandAccepted,
    CommandRefused,
    CommandReplaced,
    CommandSent,
    Event,
    TransactionEnded,
    TransactionStarted,
)
from controller.core.frames import Trace
from controller.core.model import station_of
from controller.ports import Clock, Report
from drivers.errors import Misconfigured
from drivers.openplatform.bell import Bell
from drivers.openplatform.books import EnergyPoint, SiteReading
from drivers.openplatform.budget import Kind
from drivers.openplatform.fleet import Fleet
from drivers.openplatform.flexibility import Flexibility, Reason, Sent
from drivers.openplatform.health import Health
from drivers.openplatform.orders import Orders
from drivers.openplatform.plans import Plans
from drivers.openplatform.records import Books, Granularity, Records
from drivers.openplatform.rest import OnAnswer, OnRequest, Rest
from drivers.openplatform.rounds import Rounds
from drivers.openplatform.settings import CHANNEL, CloudSettings
from drivers.openplatform.slots import Slots
from drivers.openplatform.stream import Stream
from drivers.openplatform.words import Frame

log = logging.getLogger(__name__)

_FRESH_S = 5.0  # a reading this young is not repeated when the stream opens first


class PlatformOperator:
    """A `ports.Charger` on the channel "open-platform/cloud". `seed` makes jitter and transaction ids repeatable in
    tests; leave it None on site. Raises Misconfigured for an address that is not allowed and
    without stations."""

    def __init__(
        self,
        settings: CloudSettings,
        clock: Clock,
        *,
        seed: int | None = None,
        on_request: OnRequest | None = None,
        on_answer: OnAnswer | None = None,
    ) -> None:
        if not settings.devices:
            raise Misconfigured("open platform: no station is linked to it")
        self._settings = settings
        self._clock = clock
        self._random = Random(seed)
        self._rest = Rest(settings, clock, on_request, on_answer)
        host = self._rest.address.host
        self._fleet = Fleet(settings, host)
        self._health = Health(host, settings.region, settings.enabled_by)
        self._slots = Slots(self._fleet.is_flowing)
        self._plans = Plans(settings, self._rest, self._fleet, clock)
        self._order = asyncio.Lock()  # a belief changes and is said in one piece, so facts keep their order
        self._subscribed = asyncio.Event()  # set when the set of enabled chargers changed
        self._work = Bell(clock)
        self._rounds = Rounds(
            settings,
            self._rest,
            self._fleet,
            self._health,
            clock,
            self._random,
            self._order,
            self._say,
            self._subscribed.set,
            self._work.ring,
        )
        self._orders = Orders(
            settings,
            self._rest,
            self._fleet,
            self._slots,
            self._plans,
            clock,
            self._random,
            self._rounds.read,
        )
        self._flexibility = Flexibility(settings, self._rest, self._fleet, self._slots, clock)
        self._books = Books(settings, self._rest, clock, self._random)
        self._records = Records(settings, self._books, self._fleet, self._health, clock, self._tell)
        self._unsaid: deque[Event] = deque()  # what `send` found out; the dispatcher reports it at once
        self._opened: set[tuple[str, ...]] = set()  # chargers of sockets that were open before
        self._report: Report | None = None

    def traces(self) -> list[Trace]:
        """See `controller.ports.Traced`."""
        return self._rest.traces.told(CHANNEL)

    def send(self, command: Command) -> None:
        if isinstance(command, StoreSchedule | DropSchedule):
            self._unsaid.append(self._planned(command))
        elif isinstance(command, UpgradeFirmware | StoreTokens | StorePlan | DropPlan):
            where = "the API" if isinstance(command, UpgradeFirmware) else "this channel"
            self._unsaid.append(CommandRefused(command.id, f"not offered by {where}"))
        elif refusal := self._refusal(command):
            self._unsaid.append(CommandRefused(command.id, refusal))
        else:
            for gone in self._slots.put(command, self._clock.now().mono_s):
                self._unsaid.append(CommandReplaced(gone.id))
        self._work.ring()

    def _planned(self, command: StoreSchedule | DropSchedule) -> Event:
        """Has the charger keep a schedule, or no longer, as soon as nothing of ours runs there (`plans`)."""
        try:
            if isinstance(command, StoreSchedule):
                self._plans.keep(command.evse, command.schedule)
            else:
                self._plans.drop(command.evse, command.schedule)
        except (Misconfigured, ValueError) as error:
            return CommandRefused(command.id, str(error))
        return CommandAccepted(command.id)

    async def flexibility(
        self,
        percent: int | None,
        duration_s: float,
        reason: Reason = "site limit",
        *,
        everything: bool = False,
        confirmed: bool = False,
    ) -> Sent:
        """Limits the configured sites to `percent` of rated power, or pauses them (None: discharging ends too), for
        `duration_s` but at most `flex_max_s`, past everything that waits. A newer order replaces the older, the deeper of
        order and automatic brake holds, and it ends by the chargers' own clocks. `everything` addresses all chargers
        in reach and needs `confirmed`. The effect shows in telemetry only (G-12).

        Raises Misconfigured without consent ("flexibility") or site ids, ValueError for impossible values, and the
        errors of Rest.call."""
        return await self._flexibility.order(
            percent, duration_s, reason, everything=everything, confirmed=confirmed
        )

    async def end_flexibility(self) -> None:
        """Ends the ordered action early; a brake goes on. Raises as Rest.call."""
        await self._flexibility.end()

    async def sites(self) -> tuple[SiteReading, ...]:
        """The sites this client may see. Raises Misconfigured without consent ("monitor"), else as Books."""
        self._require_monitor()
        return await self._books.sites()

    async def energy(
        self, since: datetime, until: datetime, granularity: Granularity = "hour"
    ) -> Mapping[str, tuple[EnergyPoint, ...]]:
        """Energy per UTC bucket and configured site; a bucket without data is missing. Raises as Books.energy."""
        self._require_monitor()
        return await self._books.energy(since, until, granularity)

    async def run(self, report: Report) -> None:
        """Works until cancelled."""
        self._report = report
        if "monitor" not in self._settings.purposes:
            off = self._health.off('no consent to purpose "monitor"')
            await self._tell([] if off is None else [off])
            await self._dispatch(None)
        await self._rest.open()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._dispatch(tasks))
                tasks.create_task(self._rounds.run())
                tasks.create_task(self._listen())
                tasks.create_task(self._flexibility.run())
                tasks.create_task(self._plans.run())
                tasks.create_task(self._records.run())
        finally:
            await self._rest.close()

    # --- sending ------------------------------------------------------------------------------------------------

    async def _dispatch(self, tasks: asyncio.TaskGroup | None) -> None:
        """Lets commands out in order of urgency, as fast as the quota allows."""
        while True:
            while self._unsaid:
                await self._tell([self._unsaid.popleft()])
            now_s = self._clock.now().mono_s
            if tasks is not None:
                percent = self._flexibility.brake_due(now_s)
                if percent is not None:
                    tasks.create_task(self._flexibility.brake(percent))
            command = self._slots.next()
            if command is None or tasks is None:
                await self._work.wait()
                continue
            urgent = isinstance(command, StopCharging)
            wait_s = self._rest.budget.wait_s(Kind.CONTROL, now_s, urgent)
            if wait_s > 0:
                await self._work.wait(wait_s)
            elif refusal := self._refusal(command):  # it was up when the command came
                self._slots.leave(command)
                self._slots.finish(command)
                self._unsaid.append(CommandRefused(command.id, refusal))
            elif self._rest.budget.take(Kind.CONTROL, now_s, urgent):
                self._slots.leave(command)
                tasks.create_task(self._carry_out(command))

    async def _carry_out(self, command: Steering) -> None:
        await self._tell([CommandSent(command.id)])
        outcome = await self._orders.carry_out(command)
        self._slots.finish(command)
        self._work.ring()
        log.debug("%s: %s", command.evse, outcome)
        await self._tell([outcome])

    def _refusal(self, command: Steering) -> str:
        """Why this command cannot be sent at all; empty when it can."""
        station = station_of(command.evse)
        purpose = "v2g" if isinstance(command, StartDischarge) else "control"
        # whoever may discharge may also end it: a stop ends either direction (G-14)
        enough = {purpose, "v2g"} if isinstance(command, StopCharging) else {purpose}
        if "monitor" not in self._settings.purposes or not enough & self._settings.purposes:
            return f"purpose {purpose} not consented"
        if self._fleet.where(command.evse) is None:
            return "not on this platform"
        if not self._fleet.is_enabled(command.evse):
            return "not connected: its firmware was not proven yet"
        # the platform keeps a stop for a charger it cannot reach now, and a late stop is still wanted (G-08)
        if not self._fleet.is_up(station) and not isinstance(command, StopCharging):
            return "not connected over the platform"
        return ""

    def _require_monitor(self) -> None:
        if "monitor" not in self._settings.purposes:
            raise Misconfigured('open platform: no consent to purpose "monitor"')

    # --- listening (stream.Listener) ----------------------------------------------------------------------------

    async def _listen(self) -> None:
        """Keeps one socket per fifty enabled chargers."""
        await self._rounds.first_pass.wait()
        size = self._settings.readings.stream_ids
        while True:
            self._subscribed.clear()
            self._opened.clear()
            self._health.no_streams()
            ids = self._fleet.enabled_devices()
            groups = [ids[at : at + size] for at in range(0, len(ids), size)]
            streams = [
                Stream(group, self._rest, self._clock, self._random, self._settings.readings, self)
                for group in groups
            ]
            running = [asyncio.create_task(stream.run()) for stream in streams]
            change = asyncio.create_task(self._subscribed.wait())
            try:
                done, _ = await asyncio.wait([change, *running], return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()  # a stream ends only by an error of ours, which must not stay hidden
            finally:
                for task in (change, *running):
                    task.cancel()
                await asyncio.gather(change, *running, return_exceptions=True)

    def is_active(self, ids: tuple[str, ...]) -> bool:
        stations = (self._fleet.station_of_device(id) for id in ids)
        return any(station is not None and self._fleet.is_active(station) for station in stations)

    async def heard(self, frame: Frame) -> None:
        station = self._fleet.station_of_device(frame.device_id)
        if station is None:
            return
        async with self._order:
            now = self._clock.now()
            events = self._fleet.frame(frame, now)
            self._rounds.heard(station, now.mono_s)
            await self._say(events)

    async def opened(self, ids: tuple[str, ...]) -> None:
        async with self._order:
            now_s = self._clock.now().mono_s
            stations = [station for id in ids if (station := self._fleet.station_of_device(id)) is not None]
            if ids not in self._opened:  # at start everything was read a moment ago
                self._opened.add(ids)
                stations = [s for s in stations if now_s - self._fleet.tried_s(s) > _FRESH_S]
            self._rounds.soon(stations, now_s)
            await self._say([self._health.stream(ids, None)])

    async def closed(self, ids: tuple[str, ...], reason: str) -> None:
        async with self._order:
            await self._say([self._health.stream(ids, reason)])

    # --- reporting ----------------------------------------------------------------------------------------------

    async def _tell(self, events: Iterable[Event | None]) -> None:
        async with self._order:
            await self._say(events)

    async def _say(self, events: Iterable[Event | None]) -> None:
        """Reports in order; the caller holds `_order`."""
        assert self._report is not None, "events exist only while running"
        for event in events:
            if event is None:
                continue
            answer = await self._report(event)
            if isinstance(event, TransactionStarted):
                self._fleet.numbered(event.evse, answer.transaction)
            elif isinstance(event, TransactionEnded):
                self._records.session_ended()
