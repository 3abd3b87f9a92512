"""The rounds: which charger is read over REST, when, and what follows when that fails.

Owns the due times and the back-off: every charger once at start, after a reconnect of the stream, when it is silent
although active, while power flows over several phases (`samples`), and now and then. When nothing is answered one
charger is enough to find out when it is over. What a reading means stands in `fleet`.
Source: Open Platform REFERENCE sections 5, 6, 12, GAPS G-15, G-16.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from random import Random

from controller.core.events import Event, LinkUp
from controller.core.model import StationId
from controller.ports import Clock
from drivers.errors import DriverError, Misconfigured
from drivers.openplatform.bell import Bell
from drivers.openplatform.budget import Kind
from drivers.openplatform.fleet import Fleet
from drivers.openplatform.health import Health
from drivers.openplatform.orders import backoff_s
from drivers.openplatform.rest import Declined, Garbled, LockedOut, Rest, Throttled, device_path
from drivers.openplatform.settings import CloudSettings
from drivers.openplatform.words import read_device

_REFUSED_S = 300.0
_REREAD_DOWN_S = 60.0  # offline, turned away, unknown
_LOCKED_OUT_S = 60.0

Say = Callable[[Iterable[Event | None]], Awaitable[None]]


class Rounds:
    """`order` is held while a belief changes and is said. `enabled_changed`: the set of chargers to listen to is another
    one; `came_up`: a station can be commanded from now on."""

    def __init__(
        self,
        settings: CloudSettings,
        rest: Rest,
        fleet: Fleet,
        health: Health,
        clock: Clock,
        random: Random,
        order: asyncio.Lock,
        say: Say,
        enabled_changed: Callable[[], None],
        came_up: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._rest = rest
        self._fleet = fleet
        self._health = health
        self._clock = clock
        self._random = random
        self._order = order
        self._say = say
        self._enabled_changed = enabled_changed
        self._came_up = came_up
        self._bell = Bell(clock)
        self._due_s = {station: float("-inf") for station in settings.devices}
        self._failures = dict.fromkeys(settings.devices, 0)
        self.first_pass = asyncio.Event()  # every charger was tried, and the platform answers

    async def run(self) -> None:
        """Reads the charger that is due longest, until cancelled."""
        while True:
            station = min(self._due_s, key=self._due_s.__getitem__)
            wait_s = self._due_s[station] - self._clock.now().mono_s
            if wait_s <= 0:
                await self.read(station)
                continue
            if not self._health.is_down:
                self.first_pass.set()
            await self._bell.wait(wait_s)

    async def read(self, station: StationId) -> bool:
        """One read of one charger, with everything that follows from it; False when there was no usable answer."""
        now_s = self._clock.now().mono_s
        self._due_s[station] = now_s + _REREAD_DOWN_S
        self._fleet.read_tried(station, now_s)
        try:
            data = await self._rest.read("device", device_path(self._fleet.device_id(station)))
            try:
                reading = read_device(data)
            except ValueError as error:
                raise Garbled(f"{station}: {error}") from None
        except DriverError as error:
            await self._not_answered(station, error)
            return False
        async with self._order:
            enabled = self._fleet.enabled_devices()
            now = self._clock.now()
            events = self._fleet.device_read(station, reading, now)
            self._failures[station] = 0
            self._postpone(station, now.mono_s)
            if enabled != self._fleet.enabled_devices():
                self._enabled_changed()
            if self._health.is_down:  # it is over: see what became of the others
                self.soon(self._due_s, now.mono_s)
                self._postpone(station, now.mono_s)
            await self._say([self._health.answered(station), *events])
        if any(isinstance(event, LinkUp) for event in events):
            self._came_up()
        return True

    async def _not_answered(self, station: StationId, error: DriverError) -> None:
        """A charger could not be read: perhaps it alone, perhaps nothing works."""
        async with self._order:
            now_s = self._clock.now().mono_s
            failures = self._failures[station]
            self._failures[station] = failures + 1
            retry_s = backoff_s(failures, self._random)
            events: list[Event] = []
            match error:
                case LockedOut() | Misconfigured():
                    told = self._health.failed(str(error), certain=True)
                    retry_s = _LOCKED_OUT_S
                case Declined():
                    told = self._health.answered(station, str(error))
                    events = self._fleet.lose(station, str(error))
                    retry_s = _REFUSED_S
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
            due_s = min(now_s + self._settings.readings.silence_s, self._fleet.look_due_s(station))
        else:
            due_s = now_s + self._settings.readings.idle_read_s
        if due_s < self._due_s[station]:
            self._bell.ring()
        self._due_s[station] = due_s

    def heard(self, station: StationId, now_s: float) -> None:
        """The stream spoke of this charger."""
        if self._fleet.is_up(station):
            self._postpone(station, now_s)
        elif self._failures[station] == 0:  # it speaks although we think it is away
            self.soon([station], now_s)

    def soon(self, stations: Iterable[StationId], now_s: float) -> None:
        for station in stations:
            self._due_s[station] = min(self._due_s[station], now_s)
        self._bell.ring()
