"""What a station is given in its own time: the local list of id tokens, firmware, and a plan for when we are gone.

Owns one waiting command of each kind (the newest wins) and what became of it. Everything goes in the housekeeping lane:
limits, starts and stops pass by. Names no version: the words come in. Must not decide who gets what when; how a list
gets in is `lists`, how a plan lies in it `keeping`. Source: OCPP 1.6 sections 5.15 and 5.19, 2.0.1 part 2 sections D01 and L01-L02.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import assert_never

from controller.core.commands import DropPlan, StorePlan, StoreTokens, UpgradeFirmware
from controller.core.events import (
    CommandAccepted,
    CommandLost,
    CommandRefused,
    CommandReplaced,
    CommandSent,
    Event,
)
from controller.core.model import Evse
from controller.ports import Clock
from drivers.errors import DriverError, Misconfigured, Nonsense, Refused, Unreachable
from drivers.ocpp import keeping, lists
from drivers.ocpp.delivery import Delivery
from drivers.ocpp.frames import Payload
from drivers.ocpp.memory import Memory
from drivers.ocpp.queues import Lane
from drivers.ocpp.settings import Policy
from drivers.ocpp.station import CallError, Session
from drivers.ocpp.words import Capabilities, Layer, Words, status_of

log = logging.getLogger(__name__)

Errand = StoreTokens | UpgradeFirmware | StorePlan | DropPlan


class Clerk:
    """`put` at any time; `run` works until the session ends; `close` gives back what was not begun."""

    def __init__(
        self,
        words: Words,
        session: Session,
        evses: Mapping[int, Evse],
        memory: Memory,
        policy: Policy,
        clock: Clock,
        tell: Callable[[Event], None],
        delivery: Delivery,
    ) -> None:
        self._words = words
        self._session = session
        self._evses = {evse.id: (number, evse) for number, evse in evses.items()}
        self._delivery = delivery
        self._memory = memory
        self._policy = policy
        self._clock = clock
        self._tell = tell
        self._waiting: dict[type, Errand] = {}
        self._filled = asyncio.Event()
        self._closed = False

    def put(self, command: Errand) -> None:
        if self._closed:
            self._tell(_never_left(command))
            return
        older = self._waiting.get(type(command))
        if older is not None:
            self._tell(CommandReplaced(older.id))
        self._waiting[type(command)] = command
        self._filled.set()

    async def run(self) -> None:
        """Until it is cancelled; without a connection every command ends at once."""
        while True:
            await self._filled.wait()
            while self._waiting:
                await self._carry_out(self._waiting.pop(next(iter(self._waiting))))
            self._filled.clear()

    def close(self) -> None:
        self._closed = True
        for command in self._waiting.values():
            self._tell(_never_left(command))
        self._waiting.clear()

    async def _carry_out(self, command: Errand) -> None:
        sent = False
        outcome: Event = CommandLost(command.id, "the connection was closed")

        def on_wire() -> None:
            nonlocal sent
            if not sent:
                self._tell(CommandSent(command.id))
            sent = True

        async def send(action: str, payload: Payload) -> Payload:
            async with self._session.turn(Lane.HOUSEKEEPING):
                return await self._session.exchange(action, payload, Lane.HOUSEKEEPING, on_wire)

        try:
            match command:
                case StoreTokens():
                    memory, words, now = self._memory, self._words.lists, self._clock.now()
                    kept = memory.kept_list
                    await lists.store(command, memory.station, kept, words, send, self._policy, now)
                case UpgradeFirmware():
                    await self._upgrade(command, send)
                case StorePlan():
                    await self._keep(command, send)
                case DropPlan():
                    await self._drop(command, send)
                case _:
                    assert_never(command)
            outcome = CommandAccepted(command.id)
        except (Refused, Misconfigured) as error:
            perhaps = isinstance(error, CallError) and (error.perhaps_done or error.too_early)
            # a no to a plan whose transaction is over says nothing about the station
            perhaps = perhaps or (isinstance(command, StorePlan) and self._is_over(command))
            outcome = (CommandLost if perhaps else CommandRefused)(command.id, str(error))
        except DriverError as error:
            outcome = CommandLost(command.id, str(error)) if sent else _never_left(command)
        finally:
            if isinstance(outcome, CommandLost | CommandRefused):
                log.info("%s: %s: %s", self._session.station, type(command).__name__, outcome.reason)
            self._tell(outcome)

    async def _upgrade(self, command: UpgradeFirmware, send: lists.Send) -> None:
        """A station of 1.6 answers with nothing; progress follows as messages of its own."""
        answer = await send(*self._words.upgrade(command, self._clock.now().utc))
        match status_of(answer).casefold():
            case "" | "accepted" | "acceptedcanceled":
                self._memory.upgrade = command.version
            case "rejected" | "invalidcertificate" | "revokedcertificate" as status:
                raise Refused(f"the station said {status}")
            case other:
                raise Nonsense(f'the station answered "{other}"')

    async def _keep(self, command: StorePlan, send: lists.Send) -> None:
        if command.evse not in self._evses:
            raise Misconfigured(f"{command.evse} is not configured")
        memory, (number, evse) = self._memory, self._evses[command.evse]
        if self._is_over(command):
            raise Unreachable("the transaction is over")
        if not memory.configuration:
            raise Unreachable("it has not said yet what it can hold")
        able, cut = self._delivery.prepared(evse)
        switches, clock_off_s = memory.manners.switches, memory.hearing.offset_s
        now = self._clock.now().utc
        layer = keeping.layer(command, cut, able, switches, len(self._evses), clock_off_s, now)
        await self._lay(command, number, cut, able, layer, send)

    async def _drop(self, command: DropPlan, send: lists.Send) -> None:
        """One whose transaction is over has gone with it."""
        if command.evse not in self._evses:
            raise Misconfigured(f"{command.evse} is not configured")
        if self._is_over(command):
            return
        number, evse = self._evses[command.evse]
        able, cut = self._delivery.prepared(evse)
        layer = keeping.ended(cut, able, self._memory.manners.switches, self._clock.now().utc)
        if layer is not None:
            await self._lay(command, number, cut, able, layer, send)

    async def _lay(
        self,
        command: StorePlan | DropPlan,
        number: int,
        evse: Evse,
        able: Capabilities,
        layer: Layer,
        send: lists.Send,
    ) -> None:
        """And the lease once more, for a station that keeps only the newest profile of a kind."""
        status = status_of(await send(*self._words.plan(command.transaction, number, evse, able, layer)))
        if status.casefold() != "accepted":
            raise Refused(f'the station said "{status}"')
        self._delivery.say_again(command.evse)

    def _is_over(self, command: StorePlan | DropPlan) -> bool:
        return command.transaction not in self._memory.evse_of


def _never_left(command: Errand) -> Event:
    """What is not firmware is tried again; that must be ordered again."""
    if isinstance(command, UpgradeFirmware):
        return CommandRefused(command.id, "not connected")
    return CommandLost(command.id, "not connected")
