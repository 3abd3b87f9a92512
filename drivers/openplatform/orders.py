"""Carries out one command: what goes over the wire for it, what may be repeated, and how it ended.

Owns the difference between "refused" (nothing changed there), "lost" (perhaps carried out) and "accepted". Rules:
- 5001 was refused before queueing: waits as told and repeats, unless a newer order for the EVSE makes it wrong.
- an unanswered limit is lost, the depot decides anew; an unanswered stop is repeated; an unanswered start is repeated
  only after the charger was read, still shows no session after `start_repeat_after_s`, and with the same
  transaction_id, which also serves the next start of that EVSE (G-09). A discharge has no such name: an unanswered one
  is never repeated, the charger is read to see whether it began.
- an answer with a command id is followed with status reads after 2, 4, 8, 15 and 30 s.
Every command ends before its link's `answer_s` is over, because then the depot gives it up by itself.
Source: Open Platform REFERENCE sections 5, 8, 9, GAPS G-09 to G-11.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from random import Random
from typing import Any, assert_never

from controller.core.commands import SetLimit, StartCharging, StartDischarge, Steering, StopCharging
from controller.core.events import CommandAccepted, CommandLost, CommandRefused, Event
from controller.core.model import Evse, EvseId, StationId, station_of
from controller.ports import Clock
from drivers.errors import DriverError, Misconfigured
from drivers.openplatform.budget import Kind
from drivers.openplatform.fleet import Fleet
from drivers.openplatform.limits import floor_power_w, kw, leased_schedule, start_power_w
from drivers.openplatform.plans import Plans
from drivers.openplatform.rest import (
    NOTHING_DONE,
    Declined,
    NotSent,
    Rest,
    Throttled,
    command_path,
    device_path,
)
from drivers.openplatform.settings import CloudSettings
from drivers.openplatform.slots import Slots
from drivers.openplatform.words import (
    CommandStatus,
    discharge_request,
    read_command,
    start_request,
    stop_request,
)

log = logging.getLogger(__name__)

_STATUS_AFTER_S = (2.0, 4.0, 8.0, 15.0, 30.0)
_MARGIN_S = 3.0  # our own verdict should come before the depot gives up waiting
_SIGN_OF_LIFE_S = 1.0

Outcome = CommandAccepted | CommandRefused | CommandLost
ReadStation = Callable[[StationId], Awaitable[bool]]


def backoff_s(attempt: int, random: Random) -> float:
    """1, 2, 4 ... 30 s and up to 30 % more, so that many clients do not come back together."""
    return float(min(2 ** min(attempt, 5), 30)) * (1.0 + 0.3 * random.random())


class Orders:
    """`read_station` reads a charger over REST into the fleet and says whether that worked."""

    def __init__(
        self,
        settings: CloudSettings,
        rest: Rest,
        fleet: Fleet,
        slots: Slots,
        plans: Plans,
        clock: Clock,
        random: Random,
        read_station: ReadStation,
    ) -> None:
        self._timezone = settings.timezone
        self._readings = settings.readings
        self._rest = rest
        self._fleet = fleet
        self._slots = slots
        self._plans = plans
        self._clock = clock
        self._random = random
        self._read_station = read_station
        self._intents: dict[
            EvseId, tuple[str, float]
        ] = {}  # transaction_id, and until when it is known there

    async def carry_out(self, command: Steering) -> Event:
        """Sends the command (its budget is spent already) and returns how it ended; raises nothing but cancellation."""
        answer_s = self._where(command)[2].link.answer_s
        deadline_s = self._clock.now().mono_s + max(answer_s - _MARGIN_S, answer_s / 2)
        try:
            match command:
                case SetLimit():
                    return await self._limit(command, deadline_s)
                case StartCharging():
                    return await self._start(command, deadline_s)
                case StartDischarge():
                    return await self._discharge(command, deadline_s)
                case StopCharging():
                    return await self._stop(command, deadline_s)
                case _:
                    assert_never(command)
        except (*NOTHING_DONE, ValueError) as error:
            return CommandRefused(command.id, str(error))
        except DriverError as error:
            return CommandLost(command.id, str(error))

    # --- the four ---------------------------------------------------------------------------------------------

    async def _limit(self, command: SetLimit, deadline_s: float) -> Outcome:
        device_id, number, evse = self._where(command)

        def body() -> Mapping[str, Any]:
            now = self._clock.now()
            if not now.utc_trusted:
                raise ValueError("our clock is not trusted yet, and a lease is a matter of clock times")
            waited_s = now.mono_s - self._slots.issued_s(command)
            return leased_schedule(
                evse,
                number,
                command.limit_ma,
                now.utc,
                now.utc + timedelta(seconds=command.lease_s - waited_s),
                self._timezone,
                self._readings,
            )

        self._fleet.limit_sent(command.evse, command.limit_ma, self._clock.now().mono_s)
        self._plans.displaced(command.evse)
        data = await self._post(
            command, "schedule", device_path(device_id, number, "schedule"), body, deadline_s
        )
        command_id, status = read_command(data)
        if command_id is None and self._readings.schedule_confirmed_by == "telemetry":
            return await self._await_life(command, self._clock.now().mono_s, deadline_s)
        if command_id is None:
            return CommandAccepted(command.id)
        return await self._follow(command, command_id, status, deadline_s)

    async def _stop(self, command: StopCharging, deadline_s: float) -> Outcome:
        device_id, number, _ = self._where(command)
        self._fleet.stop_sent(command.evse, command.reason)
        self._intents.pop(command.evse, None)
        path, body = device_path(device_id, number, "stop"), stop_request(command.reason)
        perhaps, attempt = False, 0
        while True:
            try:
                data = await self._post(command, "stop", path, lambda: body, deadline_s)
                break
            except (Declined, Throttled, Misconfigured) as refused:
                if perhaps:
                    return CommandLost(command.id, str(refused))
                raise
            except DriverError as error:
                perhaps = perhaps or not isinstance(error, NotSent)
                if not await self._again(command, attempt, deadline_s):
                    return (CommandLost if perhaps else CommandRefused)(command.id, str(error))
                attempt += 1
        command_id, status = read_command(data)
        return await self._follow(command, command_id, status, deadline_s)

    async def _start(self, command: StartCharging, deadline_s: float) -> Outcome:
        device_id, number, evse = self._where(command)
        body = start_request(
            kw(start_power_w(command.limit_ma, evse, self._readings)), self._transaction_id(command.evse)
        )
        path = device_path(device_id, number, "start")
        began_s = self._clock.now().mono_s
        self._fleet.start_sent(command.evse, command.token, began_s)
        await self._plans.step_aside(command.evse)
        perhaps = False
        try:
            try:
                data = await self._post(command, "start", path, lambda: body, deadline_s)
            except NOTHING_DONE:
                raise
            except DriverError as error:
                perhaps = True
                repeat_s = began_s + self._readings.start_repeat_after_s
                ended = await self._look(command, str(error), self._fleet.is_flowing, deadline_s, repeat_s)
                if isinstance(ended, CommandAccepted):
                    self._intents.pop(command.evse, None)
                if ended is not None:
                    return ended
                data = await self._post(command, "start", path, lambda: body, deadline_s)
        except NOTHING_DONE as error:
            if perhaps:
                return CommandLost(command.id, str(error))
            self._forget_start(command)
            raise
        command_id, status = read_command(data)
        outcome = await self._follow(command, command_id, status, deadline_s)
        if isinstance(outcome, CommandRefused):
            self._forget_start(command)
        elif isinstance(outcome, CommandAccepted):
            self._intents.pop(command.evse, None)
        return outcome

    async def _discharge(self, command: StartDischarge, deadline_s: float) -> Outcome:
        device_id, number, _ = self._where(command)

        def body() -> Mapping[str, Any]:
            """Its time runs from the decision, like a lease; always bounded, and never below the floor (G-14)."""
            waited_s = self._clock.now().mono_s - self._slots.issued_s(command)
            duration_s = min(command.duration_s - waited_s, self._readings.discharge_alone_s)
            power_w = floor_power_w(command.power_w)
            if duration_s < 1 or power_w <= 0:
                raise ValueError("nothing left to discharge: its time is over or its power rounds to 0 kW")
            return discharge_request(
                kw(power_w), duration_s, max(command.min_soc, self._readings.discharge_floor_soc)
            )

        path = device_path(device_id, number, "discharge")
        already = self._fleet.is_discharging(command.evse)  # then seeing it discharge proves nothing
        self._fleet.discharge_sent(command.evse, self._clock.now().mono_s)
        await self._plans.step_aside(command.evse)
        try:
            data = await self._post(command, "discharge", path, body, deadline_s)
        except (*NOTHING_DONE, ValueError):
            self._fleet.start_refused(command.evse)
            raise
        except DriverError as error:
            if already:
                return CommandLost(command.id, str(error))
            ended = await self._look(command, str(error), self._fleet.is_discharging, deadline_s)
            assert ended is not None, "without a time to repeat from there is no repeat"
            return ended
        command_id, status = read_command(data)
        outcome = await self._follow(command, command_id, status, deadline_s)
        if isinstance(outcome, CommandRefused):
            self._fleet.start_refused(command.evse)
        return outcome

    # --- pieces -----------------------------------------------------------------------------------------------

    async def _post(
        self,
        command: Steering,
        operation: str,
        path: str,
        body: Callable[[], Mapping[str, Any]],
        deadline_s: float,
    ) -> Any:
        """The request, repeated only while the platform refuses it for quota. The body is made anew each time.
        Raises as Rest.call, and ValueError from `body`."""
        attempt = 0
        while True:
            made = body()
            self._slots.on_wire(command, True)
            try:
                return await self._rest.call(operation, "POST", path, made)
            except Throttled as throttled:
                pause_s = backoff_s(attempt, self._random) if throttled.wait_s is None else throttled.wait_s
                now_s = self._clock.now().mono_s
                self._rest.budget.shut(Kind.CONTROL, now_s + pause_s)
                if now_s + pause_s >= deadline_s:
                    raise
            finally:
                self._slots.on_wire(command, False)
            attempt += 1
            await self._clock.sleep(pause_s)
            await self._rest.turn(Kind.CONTROL, isinstance(command, StopCharging))
            if self._slots.overtaken(command):
                raise Declined("too many requests; a newer order took over", 5001)

    async def _again(self, command: Steering, attempt: int, deadline_s: float) -> bool:
        """Waits before a repeat; False when there is no time left for it or a newer order makes it wrong."""
        pause_s = backoff_s(attempt, self._random)
        if self._clock.now().mono_s + pause_s >= deadline_s:
            return False
        await self._clock.sleep(pause_s)
        await self._rest.turn(Kind.CONTROL, isinstance(command, StopCharging))
        return not self._slots.overtaken(command)

    async def _look(
        self,
        command: StartCharging | StartDischarge,
        error: str,
        began: Callable[[EvseId], bool],
        deadline_s: float,
        repeat_from_s: float = float("inf"),
    ) -> Outcome | None:
        """After an unanswered start: how it ended; None when it may be repeated, from `repeat_from_s` on."""
        station = station_of(command.evse)
        attempt = 0
        while True:
            pause_s = backoff_s(attempt, self._random)
            attempt += 1
            if self._clock.now().mono_s + pause_s >= deadline_s or self._slots.overtaken(command):
                return CommandLost(command.id, error)
            await self._clock.sleep(pause_s)
            now_s = self._clock.now().mono_s
            if now_s + self._rest.budget.wait_s(Kind.GET, now_s) >= deadline_s:
                return CommandLost(command.id, error)
            was_read = await self._read_station(station)
            if began(command.evse):
                return CommandAccepted(command.id)
            may_repeat = self._clock.now().mono_s >= repeat_from_s
            if was_read and self._fleet.is_up(station) and may_repeat:
                await self._rest.turn(Kind.CONTROL)
                return CommandLost(command.id, error) if self._slots.overtaken(command) else None

    async def _follow(
        self, command: Steering, command_id: str | None, status: CommandStatus, deadline_s: float
    ) -> Outcome:
        """Reads the progress of a command until it is decided."""
        gaps_s = iter(_STATUS_AFTER_S)
        deadline_s = min(deadline_s, self._clock.now().mono_s + self._readings.queued_failed_s)
        while True:
            match status.progress:
                case "accepted" | "completed":
                    return CommandAccepted(command.id)
                case "failed":
                    return CommandRefused(command.id, status.reason or "the charger did not do it")
                case _ if command_id is None:
                    return CommandLost(command.id, "the platform gave no command id to ask for")
            gap_s, now_s = next(gaps_s, None), self._clock.now().mono_s
            if gap_s is None or now_s >= deadline_s:
                return CommandLost(command.id, "not confirmed by the charger in time")
            await self._clock.sleep(min(gap_s, deadline_s - now_s))
            try:
                left_s = deadline_s - self._clock.now().mono_s + _MARGIN_S
                status = read_command(
                    await self._rest.read("command", command_path(command_id), patience_s=left_s)
                )[1]
            except Declined as unknown:
                return CommandLost(command.id, str(unknown))
            except DriverError as error:
                log.debug("%s: progress not read (%s)", command.evse, error)

    async def _await_life(self, command: SetLimit, answered_s: float, deadline_s: float) -> Outcome:
        station = station_of(command.evse)
        while self._clock.now().mono_s < deadline_s:
            if self._fleet.heard_s(station) > answered_s:
                return CommandAccepted(command.id)
            await self._clock.sleep(_SIGN_OF_LIFE_S)
        return CommandLost(command.id, "no sign of life of the charger since the platform took the limit")

    def _where(self, command: Steering) -> tuple[str, int, Evse]:
        found = self._fleet.where(command.evse)
        assert found is not None, "the operator lets only its own EVSEs through"
        return found

    def _transaction_id(self, evse: EvseId) -> str:
        """One per intent: a start that may still be under way is asked for again by the same name."""
        now_s = self._clock.now().mono_s
        known = self._intents.get(evse)
        if known is not None and now_s < known[1]:
            return known[0]
        fresh = f"depot-{self._random.getrandbits(64):016x}"
        self._intents[evse] = (fresh, now_s + self._readings.same_start_s)
        return fresh

    def _forget_start(self, command: StartCharging) -> None:
        self._intents.pop(command.evse, None)
        self._fleet.start_refused(command.evse)
