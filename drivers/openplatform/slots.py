"""Commands that wait for the wire: one slot per EVSE, the newest limit wins, a stop is never displaced.

This is the queue before the platform's request quota. It cannot grow: an EVSE holds at most one stop, one start (a
discharge is a start in the other direction) and one limit, and what a newer command makes pointless is handed back as
replaced. Order out: stops, then decreases (those of connectors that draw first), then everything else, oldest first.
At most one control request per EVSE is under way, because the platform promises no order between two; only a stop may
overtake a limit.
Must not do I/O. Source: DESIGN section 4, Open Platform GAPS G-22.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from controller.core.commands import SetLimit, StartCharging, StartDischarge, Steering, StopCharging
from controller.core.model import EvseId

_STOP, _DECREASE_DRAWING, _DECREASE, _REST = range(4)


@dataclass(slots=True)
class _Slot:
    stop: StopCharging | None = None
    start: StartCharging | StartDischarge | None = None
    limit: SetLimit | None = None
    on_wire: dict[str, Steering] = field(default_factory=dict)  # those whose request waits for its answer
    newest_stop: int = 0
    newest_limit: int = 0
    sent_ma: int | None = None  # the newest limit that left the box


class Slots:
    """`draws(evse)` says whether an EVSE is charging now."""

    def __init__(self, draws: Callable[[EvseId], bool]) -> None:
        self._draws = draws
        self._slots: dict[EvseId, _Slot] = {}
        self._number: dict[str, int] = {}  # order of arrival of every command that is not finished
        self._issued_s: dict[str, float] = {}
        self._count = 0

    def put(self, command: Steering, now_s: float) -> list[Steering]:
        """Takes a command in; returns the ones that will never be sent because of it (possibly the command itself)."""
        slot = self._slots.setdefault(command.evse, _Slot())
        gone: list[Steering | None] = []
        self._count += 1
        match command:
            case StopCharging():
                gone = [slot.stop, slot.start, slot.limit]
                slot.stop, slot.start, slot.limit = command, None, None
                slot.newest_stop = self._count
            case StartCharging() | StartDischarge():
                gone = [slot.start]
                slot.start = command
            case SetLimit():
                if slot.stop is not None:
                    return [command]
                gone = [slot.limit]
                slot.limit = command
                slot.newest_limit = self._count
        self._number[command.id] = self._count
        self._issued_s[command.id] = now_s
        replaced = [old for old in gone if old is not None]
        for old in replaced:
            self._forget(old)
        return replaced

    def next(self) -> Steering | None:
        """The command that should leave first; it stays in its slot until `leave`."""
        return min(self._ready(), key=self._rank, default=None)

    def leave(self, command: Steering) -> None:
        """The command leaves its slot for good; from here on `finish` must follow."""
        slot = self._slots[command.evse]
        match command:
            case StopCharging():
                slot.stop = None
            case StartCharging() | StartDischarge():
                slot.start = None
            case SetLimit():
                slot.limit = None
                slot.sent_ma = command.limit_ma
        slot.on_wire[command.id] = command

    def on_wire(self, command: Steering, waits: bool) -> None:
        """Whether a request of this command waits for its answer now."""
        slot = self._slots[command.evse]
        if waits:
            slot.on_wire[command.id] = command
        else:
            slot.on_wire.pop(command.id, None)

    def finish(self, command: Steering) -> None:
        self._slots[command.evse].on_wire.pop(command.id, None)
        self._forget(command)

    def issued_s(self, command: Steering) -> float:
        """When the depot decided it: its lease runs from there, not from when the quota let it go."""
        return self._issued_s[command.id]

    def overtaken(self, command: Steering) -> bool:
        """Whether a newer order for this EVSE makes repeating this one wrong."""
        slot = self._slots[command.evse]
        newest = max(slot.newest_stop, slot.newest_limit if isinstance(command, SetLimit) else 0)
        return newest > self._number[command.id]

    def waiting_decreases(self) -> list[SetLimit]:
        """Decreases of connectors that draw, not yet sent, whether or not their EVSE is busy."""
        limits = (slot.limit for slot in self._slots.values() if slot.limit is not None)
        return [limit for limit in limits if self._class(limit) == _DECREASE_DRAWING]

    def _forget(self, command: Steering) -> None:
        self._number.pop(command.id, None)
        self._issued_s.pop(command.id, None)

    def _ready(self) -> Iterator[Steering]:
        for slot in self._slots.values():
            if slot.stop is not None:
                if all(isinstance(other, SetLimit) for other in slot.on_wire.values()):
                    yield slot.stop
            elif not slot.on_wire:
                if slot.start is not None:
                    yield slot.start
                if slot.limit is not None:
                    yield slot.limit

    def _rank(self, command: Steering) -> tuple[int, int]:
        return self._class(command), self._number[command.id]

    def _class(self, command: Steering) -> int:
        match command:
            case StopCharging():
                return _STOP
            case SetLimit() if not command.raises and self._is_lower(command):
                return _DECREASE_DRAWING if self._draws(command.evse) else _DECREASE
            case _:
                return _REST

    def _is_lower(self, command: SetLimit) -> bool:
        sent_ma = self._slots[command.evse].sent_ma
        return sent_ma is None or command.limit_ma < sent_ma
