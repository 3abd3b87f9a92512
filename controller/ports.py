"""The ports between the controller and the world. Structural: nobody inherits from them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Protocol, runtime_checkable

from controller.core.commands import Command, SetBattery
from controller.core.events import Event
from controller.core.frames import Trace
from controller.core.model import Moment, Verdict


class Answer(Protocol):
    """What a driver gets back from `report`, once everything the event caused is committed."""

    @property
    def verdict(self) -> Verdict: ...

    @property
    def transaction(self) -> str | None: ...

    @property
    def group(self) -> str | None:
        """Of the presented token: tokens of one group may end each other's transactions."""

    @property
    def expires(self) -> datetime | None:
        """When the presented token does, aware."""


class Report(Protocol):
    """`answer = await report(event)`: hand a fact to the depot. Returns after the commit where the event needs one
    (transactions, tokens); at once otherwise. Never raises for bad facts; CancelledError passes through."""

    async def __call__(self, event: Event) -> Answer: ...


class Clock(Protocol):
    """Time as everybody in the process sees it; `depot demo --speed` makes it run faster than the wall.

    `sleep` waits that many seconds of *this* clock. Deadlines of single wire operations use the real loop time.
    """

    def now(self) -> Moment: ...

    async def sleep(self, seconds: float) -> None: ...


class Driver(Protocol):
    """Something with a wire. `run` works until it is cancelled and then leaves nothing behind."""

    async def run(self, report: Report) -> None: ...


class BatteryOutput(Driver, Protocol):
    """A driver that can also give set-points to batteries. `send` as for a Charger: the newest replaces an unsent one."""

    def send(self, command: SetBattery) -> None: ...


class Charger(Driver, Protocol):
    """A driver that can also command stations.

    `send` never blocks and never raises: the newest limit replaces an unsent one of the same EVSE (reported as
    CommandReplaced), a limit never displaces a stop, and every command ends in exactly one of CommandAccepted,
    CommandRefused, CommandLost or CommandReplaced, reported as events, after CommandSent when it went on the wire.
    """

    def send(self, command: Command) -> None: ...


@runtime_checkable
class Traced(Protocol):
    """A driver that keeps the last messages of its wires for people: bounded, without secrets, id tokens masked."""

    def traces(self) -> Iterable[Trace]: ...
