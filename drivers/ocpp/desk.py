"""Commands waiting for one station's wire, and what became of each.

Owns the slots: one unsent limit per EVSE (the newest wins), and every start and stop in order. Stops go first, then
limits, then starts; a limit never displaces a stop. Every command ends in exactly one of accepted, refused, lost or
replaced. Must not decide anything: what is safe was decided before. Words: OCPP 1.6.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import assert_never

from controller.core.commands import (
    Command,
    DropSchedule,
    SetLimit,
    StartCharging,
    StartDischarge,
    Steering,
    StopCharging,
    StoreSchedule,
    UpgradeFirmware,
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
from drivers.ocpp import profiles, v16
from drivers.ocpp.frames import Payload
from drivers.ocpp.profiles import Capabilities
from drivers.ocpp.queues import Lane
from drivers.ocpp.station import CallError, Session

log = logging.getLogger(__name__)

_NO_DISCHARGE = "discharge needs the Open Platform"


class Desk:
    """`put` at any time; `run` sends until the session ends; `close` refuses what never left."""

    def __init__(
        self,
        session: Session,
        evses: Mapping[int, Evse],
        able: Callable[[], Capabilities],
        clock: Clock,
        tell: Callable[[Event], None],
    ) -> None:
        self._session = session
        self._evses = {evse.id: (number, evse) for number, evse in evses.items()}
        self._able = able
        self._clock = clock
        self._tell = tell
        self._stops: deque[StopCharging] = deque()
        self._limits: dict[EvseId, SetLimit] = {}
        self._decided_s: dict[EvseId, float] = {}  # when the waiting limit of an EVSE was handed over
        self._starts: deque[StartCharging] = deque()
        self._filled = asyncio.Event()
        self._closed = False

    def put(self, command: Command) -> None:
        if self._closed:
            self._tell(CommandRefused(command.id, "not connected"))
            return
        match command:
            case StopCharging():
                self._stops.append(command)
            case StartCharging():
                self._starts.append(command)
            case SetLimit():
                older = self._limits.get(command.evse)
                self._limits[command.evse] = command
                self._decided_s[command.evse] = self._clock.now().mono_s
                if older is not None:
                    self._tell(CommandReplaced(older.id))
            case StartDischarge():
                self._tell(CommandRefused(command.id, _NO_DISCHARGE))
                return
            case StoreSchedule() | DropSchedule() | UpgradeFirmware():
                self._tell(CommandRefused(command.id, "not offered by this channel"))
                return
            case _:
                assert_never(command)
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
        while (command := self._next()) is not None:
            self._tell(CommandRefused(command.id, "not connected"))

    def _next(self) -> Steering | None:
        if self._stops:
            return self._stops.popleft()
        if self._limits:
            return self._limits.pop(next(iter(self._limits)))
        return self._starts.popleft() if self._starts else None

    async def _carry_out(self, command: Steering) -> None:
        outcome: Event = CommandLost(command.id, "the connection was closed")
        sent = False

        def on_wire() -> None:
            nonlocal sent
            sent = True
            self._tell(CommandSent(command.id))

        try:
            action, payload = self._words(command)
            answer = await self._session.exchange(action, payload, Lane.SAFETY, on_wire)
            status = v16.status_of(answer)
            outcome = _outcome(command.id, status)
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
            self._tell(outcome)

    def _words(self, command: Steering) -> tuple[str, Payload]:
        if command.evse not in self._evses:
            raise Misconfigured(f"{command.evse} is not configured")
        number, evse = self._evses[command.evse]
        moment, able = self._clock.now(), self._able()
        now = moment.utc
        match command:
            case SetLimit():
                # the depot budgets for the lease from its decision on: what waited here has less of it left
                left_s = command.lease_s - (moment.mono_s - self._decided_s[command.evse])
                if left_s <= 0:
                    raise Refused("its lease ran out before the station could be reached")
                timely = replace(command, lease_s=left_s)
                return "SetChargingProfile", profiles.limit(timely, number, evse, able, now)
            case StartCharging():
                return "RemoteStartTransaction", profiles.start(command, number, evse, able, now)
            case StopCharging():
                return "RemoteStopTransaction", profiles.stop(command)
            case StartDischarge():
                raise Refused(_NO_DISCHARGE)  # OCPP 1.6 has no word for it
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
