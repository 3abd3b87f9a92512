"""One thing to do on a bus, and when it is due: a meter, the contact of an external limit, a battery's set-point.

Owns the polling grid of one thing and the reading of a contact. The bus decides whose turn it is; what a contact means
the core knows. Source: Modbus Application Protocol V1.1b3 sections 6.1 and 6.2 (function codes 1 and 2).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from controller.core.events import Event, InputFailed, InputRead
from drivers.errors import DriverError, Misconfigured
from drivers.modbus.line import READ_COILS, TRANSPORTS, Address, Line

MOST_SKIPPED = 4  # a silent unit among others is left out for so many points of its grid at most
READ_INPUTS = 2


@dataclass(frozen=True, slots=True)
class ContactSettings:
    """One contact as installed: a coil, or a discrete input (`table` "input"), at the address on the wire. host, port and
    the rest as for a meter."""

    id: str
    host: str
    port: int
    unit: int
    table: str
    at: int
    poll_s: float
    transport: str = "tcp"
    baud: int = 9600
    parity: str = "N"
    stop_bits: int = 1


class Settings(Protocol):
    """What a meter and a contact have in common."""

    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...
    @property
    def unit(self) -> int: ...
    @property
    def poll_s(self) -> float: ...
    @property
    def transport(self) -> str: ...
    @property
    def baud(self) -> int: ...
    @property
    def parity(self) -> str: ...
    @property
    def stop_bits(self) -> int: ...


class Turn(ABC):
    """When one thing is due. `trouble`: the kind of its last error, None while it reads."""

    def __init__(self, name: str, settings: Settings, start_s: float) -> None:
        self.name = name
        self.unit = settings.unit
        self.due_s = start_s
        self.trouble: str | None = None
        self._poll_s = settings.poll_s
        self._start_s = start_s
        self._silent = 0

    @property
    def settle_s(self) -> float:
        """What it needs after a connection."""
        return 0.0

    @property
    def turn_s(self) -> float:
        """Who is first when several are due. A failing one yields, but not for ever: at most by one period."""
        return self.due_s if self.trouble is None else self.due_s + self._poll_s

    def reschedule(self, now_s: float, yields: bool = False) -> None:
        """To the next point of the grid after now: no drift, and no burst to catch up what was missed. `yields`: it did
        not answer while others wait; the next points are theirs, more of them each time."""
        self._silent = self._silent + 1 if yields else 0
        skipped = min(2 ** max(0, self._silent - 2), MOST_SKIPPED) if self._silent > 1 else 0
        points = math.floor((now_s - self._start_s) / self._poll_s) + 1 + skipped
        self.due_s = self._start_s + points * self._poll_s

    @property
    def idle(self) -> bool:
        """Nothing to do: its turn passes without the wire."""
        return False

    @abstractmethod
    async def read(self, line: Line, taken_s: float) -> Sequence[Event]:
        """What to report. Raises DriverError."""

    @abstractmethod
    def failed(self, error: DriverError, text: str) -> Sequence[Event]:
        """What to report when that did not work."""


class Contact(Turn):
    """The contact of an external limit."""

    def __init__(self, settings: ContactSettings, start_s: float) -> None:
        super().__init__(f"input {settings.id}", settings, start_s)
        self._id = settings.id
        self._at = settings.at
        self._function = READ_COILS if settings.table == "coil" else READ_INPUTS

    async def read(self, line: Line, taken_s: float) -> Sequence[Event]:
        return (InputRead(self._id, taken_s, await line.read_bit(self.unit, self._function, self._at)),)

    def failed(self, error: DriverError, text: str) -> Sequence[Event]:
        return (InputFailed(self._id, error.kind, text),)


def address(settings: Settings, name: str) -> Address:
    """Raises Misconfigured."""
    if settings.transport not in TRANSPORTS:
        raise Misconfigured(f"{name}: no transport {settings.transport}; there are {', '.join(TRANSPORTS)}")
    return Address(
        settings.host, settings.port, settings.transport, settings.baud, settings.parity, settings.stop_bits
    )
