"""The client of the hosted platform: one task that sends, one that reads chargers, one that listens, one event order.

Owns when something happens; what it means stands in `fleet`, how it is said in `words` and `limits`, how one command
is carried out in `orders`. Nothing opens without the purpose "monitor", nothing is commanded without "control".

- `send` puts a command into its EVSE's slot (`slots`); the dispatcher lets them out as the quota allows (`budget`).
- every charger is read at start, after each reconnect of the stream, when it is silent although active, and now and
  then; the stream tells the rest. A charger whose firmware is not proven is read, and never used.
- when more decreases wait than the quota lets out within 2 s, the site is braked with one flexibility action first.

Source: Open Platform REFERENCE sections 5 to 16, GAPS; DESIGN sections 5 and 6.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterable
from random import Random

from controller.core.commands import Command, StopCharging
from controller.core.events import (
    CommandRefused,
    CommandReplaced,
    CommandSent,
    Event,
    LinkUp,
    TransactionStarted,
)
from controller.core.model import StationId, station_of
from controller.ports import Clock, Report
from drivers.errors import DriverError, Misconfigured
from drivers.openplatform.bell import Bell
from drivers.openplatform.budget import Kind
from drivers.openplatform.fleet import Fleet
from drivers.openplatform.health import Health
from drivers.openplatform.limits import brake_percent
from drivers.openplatform.orders import Orders, backoff_s
from drivers.openplatform.rest import (
    Declined,
    Garbled,
    LockedOut,
    OnRequest,
    Rest,
    Throttled,
    device_path,
)
from drivers.openplatform.settings import CloudSettings
from drivers.openplatform.slots import Slots
from drivers.openplatform.stream import Stream
from drivers.openplatform.words import Frame, flexibility_request, read_device

log = logging.getLogger(__name__)

_REREAD_S = 300.0  # a charger that is up and idle
_REREAD_DOWN_S = 60.0  # offline, turned away, unknown
_LOCKED_OUT_S = 60.0
_FRESH_S = 5.0  # a reading this young is not repeated when the stream opens first
_BRAKE_WITHIN_S = 2.0
_BRAKE_AGAIN_S = 10.0


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
    ) -> None:
        if not settings.devices:
            raise Misconfigured("open platform: no station is linked to it")
        self._settings = settings
        self._clock = clock
        self._random = Random(seed)
        self._rest = Rest(settings, clock, on_request)
        host = self._rest.address.host
        self._fleet = Fleet(settings, host)
        self._health = Health(host, settings.region, settings.enabled_by)
        self._slots = Slots(self._fleet.is_flowing)
        self._orders = Orders(
            settings, self._rest, self._fleet, self._slots, clock, self._random, self._read_station
        )
        self._unsaid: deque[Event] = deque()  # what `send` found out; the dispatcher reports it at once
        self._work, self._reads = Bell(clock), Bell(clock)
        self._due_s = {station: float("-inf") for station in settings.devices}
        self._read_failures = dict.fromkeys(settings.devices, 0)
        self._first_pass = asyncio.Event()
        self._subscribed = asyncio.Event()  # set when the set of enabled chargers changed
        self._opened: set[tuple[str, ...]] = set()  # chargers of sockets that were open before
        self._brake_until_s = self._brake_again_s = float("-inf")
        self._brake_percent = 100
        self._order = (
            asyncio.Lock()
        )  # a belief changes and is reported in one piece, so facts keep their order
        self._report: Report | None = None

    def send(self, command: Command) -> None:
        refusal = self._refusal(command)
        if refusal:
            self._unsaid.append(CommandRefused(command.id, refusal))
        else:
            for gone in self._slots.put(command, self._clock.now().mono_s):
                self._unsaid.append(CommandReplaced(gone.id))
        self._work.ring()

    async def brake(self, percent: int, duration_s: float) -> None:
        """Limits the whole site to `percent` of rated power for `duration_s`, past everything that waits.

        Raises Misconfigured without consent ("flexibility") or site ids, ValueError for impossible values, and the
        errors of Rest.call; the effect shows in telemetry only (G-12)."""
        if "flexibility" not in self._settings.purposes or not self._settings.site_ids:
            raise Misconfigured('open platform: no consent to purpose "flexibility", or no site_ids')
        if not 0 <= percent <= 100 or not 0 < duration_s <= self._settings.readings.flex_max_s:
            raise ValueError(f"cannot brake to {percent} % for {duration_s} s")
        await self._rest.turn(Kind.CONTROL, urgent=True)
        await self._flex(percent, duration_s)

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
                tasks.create_task(self._read_all())
                tasks.create_task(self._listen())
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
                self._brake_if_needed(tasks, now_s)
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

    async def _carry_out(self, command: Command) -> None:
        await self._tell([CommandSent(command.id)])
        outcome = await self._orders.carry_out(command)
        self._slots.finish(command)
        self._work.ring()
        log.debug("%s: %s", command.evse, outcome)
        await self._tell([outcome])

    def _refusal(self, command: Command) -> str:
        """Why this command cannot be sent at all; empty when it can."""
        station = station_of(command.evse)
        if not {"monitor", "control"} <= self._settings.purposes:
            return "purpose control not consented"
        if self._fleet.where(command.evse) is None:
            return "not on this platform"
        if not self._fleet.is_enabled(command.evse):
            return "not connected: its firmware was not proven yet"
        # the platform keeps a stop for a charger it cannot reach now, and a late stop is still wanted (G-08)
        if not self._fleet.is_up(station) and not isinstance(command, StopCharging):
            return "not connected over the platform"
        return ""

    def _brake_if_needed(self, tasks: asyncio.TaskGroup, now_s: float) -> None:
        if "flexibility" not in self._settings.purposes or not self._settings.site_ids:
            return
        waiting = self._slots.waiting_decreases()
        if not waiting or len(waiting) <= self._rest.budget.affords(Kind.CONTROL, now_s, _BRAKE_WITHIN_S):
            return
        percent = 100
        for limit in waiting:
            found = self._fleet.where(limit.evse)
            if found is not None:
                charger_ma = self._fleet.charger_max_ma(limit.evse)
                needed = brake_percent(limit.limit_ma, found[2], charger_ma, self._settings.readings)
                percent = min(percent, needed)
        holds = now_s < self._brake_until_s and percent >= self._brake_percent
        if holds or now_s < self._brake_again_s:
            return
        if not self._rest.budget.take(Kind.CONTROL, now_s, urgent=True):
            return
        self._brake_again_s = now_s + _BRAKE_AGAIN_S
        tasks.create_task(self._brake_now(percent, len(waiting)))

    async def _brake_now(self, percent: int, waiting: int) -> None:
        duration_s = self._settings.readings.brake_s
        try:
            await self._flex(percent, duration_s)
        except DriverError as error:
            log.warning("brake to %d %% failed: %s", percent, error)
        else:
            log.warning("%d decreases wait: site braked to %d %% for %.0f s", waiting, percent, duration_s)
            self._brake_percent = percent
            self._brake_until_s = self._clock.now().mono_s + duration_s

    async def _flex(self, percent: int, duration_s: float) -> None:
        body = flexibility_request(self._settings.site_ids, percent, duration_s)
        await self._rest.call("flexibility", "POST", "/operator/control/flexibility", body)

    # --- reading ------------------------------------------------------------------------------------------------

    async def _read_all(self) -> None:
        """Reads the charger that is due longest; the first pass lets the stream open."""
        while True:
            station = min(self._due_s, key=self._due_s.__getitem__)
            wait_s = self._due_s[station] - self._clock.now().mono_s
            if wait_s <= 0:
                await self._read_station(station)
                continue
            if not self._health.is_down:
                self._first_pass.set()
            await self._reads.wait(wait_s)

    async def _read_station(self, station: StationId) -> bool:
        """One read of one charger, with everything that follows from it; False when there was no usable answer."""
        now_s = self._clock.now().mono_s
        self._due_s[station] = now_s + _REREAD_DOWN_S
        try:
            data = await self._rest.read("device", device_path(self._fleet.device_id(station)))
            try:
                reading = read_device(data)
            except ValueError as error:
                raise Garbled(f"{station}: {error}") from None
        except DriverError as error:
            await self._not_read(station, error)
            return False
        async with self._order:
            enabled = self._fleet.enabled_devices()
            now = self._clock.now()
            events = self._fleet.device_read(station, reading, now)
            self._read_failures[station] = 0
            self._postpone(station, now.mono_s)
            if enabled != self._fleet.enabled_devices():
                self._subscribed.set()
            if self._health.is_down:  # it is over: see what became of the others
                self._read_soon(self._due_s, now.mono_s)
                self._postpone(station, now.mono_s)
            await self._say([self._health.answered(station), *events])
        if any(isinstance(event, LinkUp) for event in events):
            self._work.ring()
        return True

    async def _not_read(self, station: StationId, error: DriverError) -> None:
        """A charger could not be read: perhaps it alone, perhaps nothing works."""
        async with self._order:
            now_s = self._clock.now().mono_s
            failures = self._read_failures[station]
            self._read_failures[station] = failures + 1
            retry_s = backoff_s(failures, self._random)
            events: list[Event] = []
            match error:
                case LockedOut() | Misconfigured():
                    told = self._health.failed(str(error), certain=True)
                    retry_s = _LOCKED_OUT_S
                case Declined():
                    told = self._health.answered(station, str(error))
                    events = self._fleet.lose(station, str(error))
                    retry_s = _REREAD_S
                case Throttled(wait_s=wait_s):
                    retry_s = retry_s if wait_s is None else wait_s
                    self._rest.budget.shut(Kind.GET, now_s + retry_s)
                    told = self._health.answered(station, "too many requests")
                case _:
                    told = self._health.failed(str(error))
            if self._health.is_down:
                events = self._fleet.lose_all(str(error))
                pause_s = max(retry_s, backoff_s(self._health.failures, self._random))
                # one charger is enough to find out when it is over
                self._due_s = {other: max(due, now_s + pause_s) for other, due in self._due_s.items()}
                retry_s = pause_s
            self._due_s[station] = now_s + retry_s
            await self._say([told, *events])

    def _postpone(self, station: StationId, now_s: float) -> None:
        """A charger that was heard is read again when it falls silent, or in some minutes."""
        if not self._fleet.is_up(station):
            due_s = now_s + _REREAD_DOWN_S
        elif self._fleet.is_active(station):
            due_s = now_s + self._settings.readings.silence_s
        else:
            due_s = now_s + _REREAD_S
        if due_s < self._due_s[station]:
            self._reads.ring()
        self._due_s[station] = due_s

    # --- listening (stream.Listener) ----------------------------------------------------------------------------

    async def _listen(self) -> None:
        """Keeps one socket per fifty enabled chargers."""
        await self._first_pass.wait()
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
            if self._fleet.is_up(station):
                self._postpone(station, now.mono_s)
            elif self._read_failures[station] == 0:  # it speaks although we think it is away
                self._read_soon([station], now.mono_s)
            await self._say(events)

    async def opened(self, ids: tuple[str, ...]) -> None:
        async with self._order:
            now_s = self._clock.now().mono_s
            stations = [station for id in ids if (station := self._fleet.station_of_device(id)) is not None]
            if ids not in self._opened:  # at start everything was read a moment ago
                self._opened.add(ids)
                stations = [s for s in stations if now_s - self._fleet.heard_s(s) > _FRESH_S]
            self._read_soon(stations, now_s)
            await self._say([self._health.stream(ids, None)])

    async def closed(self, ids: tuple[str, ...], reason: str) -> None:
        async with self._order:
            await self._say([self._health.stream(ids, reason)])

    def _read_soon(self, stations: Iterable[StationId], now_s: float) -> None:
        for station in stations:
            self._due_s[station] = min(self._due_s[station], now_s)
        self._reads.ring()

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
