"""The Open Platform beside OCPP: what may pass between one of its channels and a station that OCPP leads.

Owns the border, on both sides and for both kinds of the channel. Outwards: a discharge and its end go through, starts,
stops and schedules only where the config permits them, and never with an id token or a transaction. Inwards: what the
channel takes for transactions is left out, because OCPP owns the sessions; everything else is the core's to judge.
Programs on site see a station's state and power over this channel, but no session that was learnt over OCPP.
Source: DESIGN section 6, Open Platform REFERENCE section 15, GAPS G-13, G-26, G-27.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import assert_never

from controller.core.applied import NOTHING
from controller.core.commands import (
    Command,
    DropPlan,
    DropSchedule,
    SetLimit,
    StartCharging,
    StartDischarge,
    StopCharging,
    StorePlan,
    StoreSchedule,
    StoreTokens,
    UpgradeFirmware,
)
from controller.core.events import CommandRefused, Event, TransactionEnded, TransactionStarted
from controller.core.model import EvseId, StationId, station_of
from controller.core.snapshot import Snapshot
from controller.ports import Answer, Charger, Report


class Companion:
    """A `ports.Charger` around the charger of one channel. `permits`: by station that OCPP leads; stations that are not
    in it belong to the channel alone and pass untouched."""

    def __init__(self, charger: Charger, channel: str, permits: Mapping[StationId, frozenset[str]]) -> None:
        self._charger = charger
        self._channel = channel
        self._permits = permits
        self._refusals: deque[CommandRefused] = deque()
        self._bell = asyncio.Event()

    def send(self, command: Command) -> None:
        """Never blocks, never raises; see `controller.ports.Charger`."""
        permit = self._permits.get(station_of(command.evse))
        if permit is None:
            self._charger.send(command)
        elif (needed := needed_permit(command)) is not None and needed not in permit:
            reason = f"OCPP leads here, and {self._channel} is not permitted to {needed}"
            self._refusals.append(CommandRefused(command.id, reason))
            self._bell.set()
        else:
            self._charger.send(unnamed(command))

    async def run(self, report: Report) -> None:
        async def heard(event: Event) -> Answer:
            return NOTHING if self._is_a_session_of_ocpp(event) else await report(event)

        async with asyncio.TaskGroup() as tasks:
            refusing = tasks.create_task(self._refuse(report))
            await self._charger.run(heard)
            refusing.cancel()

    async def _refuse(self, report: Report) -> None:
        while True:
            while self._refusals:
                await report(self._refusals.popleft())
            await self._bell.wait()
            self._bell.clear()

    def _is_a_session_of_ocpp(self, event: Event) -> bool:
        match event:
            case TransactionStarted(evse=evse):
                return station_of(evse) in self._permits
            case TransactionEnded(station=station):
                return station in self._permits
            case _:
                return False


def needed_permit(command: Command) -> str | None:
    """The word of the config that must permit this command beside OCPP; None: it is the companion's own business."""
    match command:
        case StartCharging():
            return "start"
        case StopCharging(transaction=transaction):
            return None if transaction is None else "stop"  # without one it ends a discharge
        case SetLimit() | StoreSchedule() | DropSchedule() | StorePlan() | DropPlan():
            return "schedule"
        case StartDischarge() | UpgradeFirmware():
            return None
        case StoreTokens():
            return "tokens"  # no config permits that
        case _:
            assert_never(command)


def unnamed(command: Command) -> Command:
    """Without what OCPP knows about who charges."""
    match command:
        case StartCharging():
            return replace(command, token=None)
        case StopCharging() | SetLimit():
            return replace(command, transaction=None)
        case _:
            return command


def without_sessions(snapshot: Snapshot, led: Collection[EvseId]) -> Snapshot:
    """The picture for programs on site: what OCPP knows of a session stays out."""
    views = (evse._replace(session=None) if evse.id in led else evse for evse in snapshot.evses)
    return replace(snapshot, evses=tuple(views))
