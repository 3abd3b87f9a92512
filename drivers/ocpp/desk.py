"""Commands waiting for one station's wire, and what became of each.

Owns the slots: one unsent limit per EVSE (the newest wins), and every start and stop in order. Stops go first, then
limits, then starts; a limit never displaces a stop. Every command ends in exactly one of accepted, refused, lost or
replaced. Must not decide anything: what is safe was decided before. Names no version: the words come in.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import assert_never

from controller.core.commands import (
    DropSchedule,
    SetLimit,
    StartCharging,
    StartDischarge,
    Steering,
    StopCharging,
    StoreSchedule,
)
from controller.core.events import (
    CommandAccepted,
    CommandLost,
    CommandRefused,
    CommandReplaced,
    CommandSent,
    Event,
)
from controller.core.model import Evse, EvseId
from controller.ports import Clock
from drivers.errors import DriverError, Misconfigured, Refused
from drivers.ocpp.delivery import Delivery
from drivers.ocpp.footing import Footing
from drivers.ocpp.memory import Memory
from drivers.ocpp.queues import Lane
from drivers.ocpp.station import CallError, Session
from drivers.ocpp.words import Order, Words, status_of

log = logging.getLogger(__name__)


class Desk:
    """`put` at any time; `run` sends until the session ends; `close` refuses what never left."""

    def __init__(
        self,
        words: Words,
        session: Session,
        evses: Mapping[int, Evse],
        memory: Memory,
        clock: Clock,
        tell: Callable[[Event], None],
        footing: Footing,
    ) -> None:
        self._words = words
        self._session = session
        self._evses = {evse.id: (number, evse) for number, evse in evses.items()}
        self._memory = memory
        self._clock = clock
        self._tell = tell
        self._stops: deque[StopCharging] = deque()
        self._limits: dict[EvseId, SetLimit] = {}
        self._decided_s: dict[EvseId, float] = {}  # when the waiting limit of an EVSE was handed over
        self._again: dict[EvseId, SetLimit] = {}  # limits said once more, which no command asked for
        self._starts: deque[StartCharging | StartDischarge] = deque()
        self.delivery = Delivery(words, session, evses, memory, clock, footing, self._put_again)
        self._filled = asyncio.Event()
        self._closed = False

    def put(self, command: Steering | StoreSchedule | DropSchedule) -> None:
        if self._closed:
            self._tell(CommandRefused(command.id, "not connected"))
            return
        match command:
            case StopCharging():
                self._withdraw(command.evse)
                self._stops.append(command)
            case StartCharging() | StartDischarge():
                self._starts.append(command)
            case SetLimit():
                self._withdraw(command.evse)
                older = self._limits.get(command.evse)
                self._limits[command.evse] = command
                self._again.pop(command.evse, None)
                self._decided_s[command.evse] = self._clock.now().mono_s
                if older is not None:
                    self._tell(CommandReplaced(older.id))
            case StoreSchedule() | DropSchedule():
                self._tell(CommandRefused(command.id, "not offered by this channel"))
                return
            case _:
                assert_never(command)
        self._filled.set()

    def _withdraw(self, evse: EvseId) -> None:
        """A discharge that has not left is over with the limit or stop that was to end it, which would overtake it."""
        for start in list(self._starts):
            if isinstance(start, StartDischarge) and start.evse == evse:
                self._starts.remove(start)
                self._tell(CommandReplaced(start.id))

    def _put_again(self, command: SetLimit) -> None:
        if not self._closed and command.evse not in self._limits:
            self._again[command.evse] = command
            self._decided_s[command.evse] = self._clock.now().mono_s
            self._filled.set()

    async def run(self) -> None:
        """Sends, one command at a time. The command is chosen when its turn has come, so the newest limit goes out.
        Raises Unreachable when the session has ended."""
        while True:
            await self._filled.wait()
            async with self._session.turn(Lane.SAFETY):
                command = self._next()
                if command is None:
                    self._filled.clear()
                else:
                    await self._carry_out(command)

    def close(self) -> None:
        """Nothing leaves any more; what waits is refused."""
        self._closed = True
        self.delivery.close()
        self._again.clear()
        while (command := self._next()) is not None:
            self._tell(CommandRefused(command.id, "not connected"))

    def _next(self) -> Steering | None:
        if self._stops:
            return self._stops.popleft()
        if self._limits:
            return self._limits.pop(next(iter(self._limits)))
        if self._again:
            return self._again.pop(next(iter(self._again)))
        return self._starts.popleft() if self._starts else None

    async def _carry_out(self, command: Steering) -> None:
        outcome: Event = CommandLost(command.id, "the connection was closed")
        sent = False

        def on_wire() -> None:
            nonlocal sent
            sent = True
            if command.id:
                self._tell(CommandSent(command.id))

        try:
            outcome = _outcome(command.id, await self._say(command, on_wire))
        except CallError as error:
            if error.perhaps_done:
                outcome = CommandLost(command.id, str(error))
            else:
                outcome = CommandRefused(command.id, str(error))
        except (Refused, Misconfigured) as error:
            outcome = CommandRefused(command.id, str(error))
        except DriverError as error:
            outcome = CommandLost(command.id, str(error)) if sent else CommandRefused(command.id, str(error))
        finally:
            if command.id:
                self._tell(outcome)

    async def _say(self, command: Steering, on_wire: Callable[[], None]) -> str:
        """The station's word about it."""
        if command.evse not in self._evses:
            raise Misconfigured(f"{command.evse} is not configured")
        number, evse = self._evses[command.evse]
        if isinstance(command, SetLimit):
            # the depot budgets for the lease from its decision on: what waited here has less of it left
            left_s = command.lease_s - (self._clock.now().mono_s - self._decided_s[command.evse])
            if left_s <= 0:
                raise Refused("its lease ran out before the station could be reached")
            return await self.delivery.carry(replace(command, lease_s=left_s), number, evse, on_wire)
        action, payload = self._order(command, number, evse)
        return status_of(await self._session.exchange(action, payload, Lane.SAFETY, on_wire))

    def _order(
        self, command: StartCharging | StopCharging | StartDischarge, number: int, evse: Evse
    ) -> Order:
        words, able, now = self._words, self._memory.able, self._clock.now().utc
        match command:
            case StartCharging():
                return self.delivery.start(command, number, evse)
            case StopCharging():
                return words.stop(command)
            case StartDischarge():
                transaction = self._memory.running_on(command.evse)
                return words.discharge(command, transaction, number, evse, able, now)
            case _:
                assert_never(command)


def _outcome(command: str, status: str) -> Event:
    """Only a clear no is a no; an answer that says neither may hide that it was done."""
    match status.casefold():
        case "accepted":
            return CommandAccepted(command)
        case "rejected" | "notsupported":
            return CommandRefused(command, f"the station said {status}")
        case _:
            return CommandLost(command, f'the station answered "{status}"')
