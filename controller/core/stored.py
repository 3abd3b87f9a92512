"""Schedules in the stations: which one each should hold for when we are gone, and what closes the gap.

Owns what was told and what the driver said to it. A station keeps one enabled schedule per connector (Open Platform
G-11): the one that was set last counts. "Stored" is what the driver has taken over; it goes on by itself until the
station has it, through sessions and lost links, and caps it to the stored fallback. Only EVSEs whose leading channel can
(`Link.stores_schedules`) take part.

A driver forgets its copy while its channel is off, so from then on nothing is certain: what should be there is told
again, what should not be there is dropped again. What was refused is tried again only when something has changed: the
schedule, or the state of the channel. After a restart of ours everything wanted is told once more; a schedule that was
cleared while its channel was off, and forgotten by that restart, stays in the station until the next one replaces it.
Decides nothing about charging.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from controller.core.commands import Command, DropSchedule, StoreSchedule
from controller.core.model import EvseId, Schedule, Site

Schedules = Mapping[EvseId, Mapping[str, Schedule]]  # of one EVSE: in the order they were set


@dataclass(slots=True)
class _Copy:
    """stands: what the station's driver has. doubtful: ids that may be in the station without our wanting them."""

    stands: Schedule | None = None
    doubtful: set[str] = field(default_factory=set)
    command: str | None = None  # without an answer yet
    said: Schedule | str | None = None  # by it: store this, or drop that id
    refusal: tuple[Schedule | str, str] | None = None  # what was refused, and why


class Stored:
    def __init__(self, site: Site) -> None:
        self._site = site
        self._copies = {evse.id: _Copy() for evse in site.evses.values() if evse.link.stores_schedules}
        self._states: dict[str, str] = {}  # of channels

    def due(self, schedules: Schedules, next_command: Callable[[], str]) -> list[Command]:
        """At most one command per EVSE; the next one follows its answer."""
        commands: list[Command] = []
        for evse, copy in self._copies.items():
            gap = None if copy.command is not None else _gap(copy, _wanted(schedules.get(evse, {})))
            if gap is None or (copy.refusal is not None and copy.refusal[0] == gap):
                continue
            copy.command, copy.said, copy.refusal = next_command(), gap, None
            channel = self._site.evses[evse].link.channel
            if isinstance(gap, Schedule):
                commands.append(StoreSchedule(copy.command, evse, channel, gap))
            else:
                commands.append(DropSchedule(copy.command, evse, channel, gap))
        return commands

    def accepted(self, command: str) -> None:
        copy = self._of(command)
        if copy is None:
            return
        if isinstance(copy.said, Schedule):
            copy.stands = copy.said  # the driver takes the one before out of the station
            copy.doubtful.discard(copy.said.id)
        elif copy.said is not None:
            copy.doubtful.discard(copy.said)
            if copy.stands is not None and copy.stands.id == copy.said:
                copy.stands = None

    def failed(self, command: str, reason: str) -> None:
        """Refused, lost or replaced: it may or may not be there, so it counts as neither."""
        copy = self._of(command)
        if copy is not None and copy.said is not None:
            copy.refusal = (copy.said, reason)

    def channel(self, channel: str, state: str) -> None:
        """The state of a channel was reported."""
        before, self._states[channel] = self._states.get(channel), state
        for evse, copy in self._copies.items():
            if self._site.evses[evse].link.channel != channel or state == before:
                continue
            copy.refusal = None
            if state == "off":
                _doubt(copy)

    def words(self, evse: EvseId, schedules: Mapping[str, Schedule]) -> Mapping[str, str]:
        """How far each schedule of this EVSE that should be in the station is: "stored", "pending" or "refused: why"."""
        copy, wanted = self._copies.get(evse), _wanted(schedules)
        if copy is None or wanted is None:
            return {}
        if copy.stands == wanted:
            return {wanted.id: "stored"}
        if copy.refusal is not None and copy.refusal[0] == wanted:
            return {wanted.id: f"refused: {copy.refusal[1]}"}
        return {wanted.id: "pending"}

    def _of(self, command: str) -> _Copy | None:
        for copy in self._copies.values():
            if copy.command == command:
                copy.command = None
                return copy
        return None


def _wanted(schedules: Mapping[str, Schedule]) -> Schedule | None:
    """The enabled one that was set last."""
    return next((each for each in reversed(tuple(schedules.values())) if each.enabled), None)


def _gap(copy: _Copy, wanted: Schedule | None) -> Schedule | str | None:
    """What to say next: first what must not stay there, then what should be there."""
    doubtful = sorted(copy.doubtful - ({wanted.id} if wanted is not None else set()))
    if doubtful:
        return doubtful[0]
    if wanted is None:
        return None if copy.stands is None else copy.stands.id
    return None if copy.stands == wanted else wanted


def _doubt(copy: _Copy) -> None:
    """Whatever may be in the station has to be said again."""
    for perhaps in (copy.stands, copy.said if copy.command is not None else None):
        if perhaps is not None:
            copy.doubtful.add(perhaps.id if isinstance(perhaps, Schedule) else perhaps)
    copy.stands = copy.command = None
