"""Commands for one connector, between the depot's decision and the charger's word: handed out until answered.

Owns the slot before the charger's next poll (the newest limit replaces an unsent one, a stop clears everything and is
never displaced; schedules to store wait behind) and the commands that were handed out and wait for `accepted` or `rejected`. An answer to a poll may be
lost on the way, so an unanswered command is handed out again after `command_resend_s`, under the same id; the charger knows the
id and acts once (G-07). A newer order for the connector ends that. It cannot grow: one stop, one start and one limit
wait, and what was handed out is given up after the link's `answer_s` (an upgrade later). Every command ends in exactly
one event.

Must not do I/O or know HTTP. Source: ports.Charger, GAPS G-07, G-08.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from controller.core.commands import (
    SetLimit,
    StartCharging,
    StartDischarge,
    Steering,
    StopCharging,
    UpgradeFirmware,
)
from controller.core.events import (
    CommandAccepted,
    CommandLost,
    CommandRefused,
    CommandReplaced,
    Event,
)
from controller.core.model import EvseId
from controller.core.readings import Readings


@dataclass(frozen=True, slots=True)
class StorePlan:
    """Not the depot's: a schedule for the charger to keep (`devices_plans`). Goes last, and nothing displaces it."""

    id: str
    evse: EvseId
    body: Mapping[str, Any]


Order = Steering | StorePlan | UpgradeFirmware


@dataclass(slots=True)
class Offer:
    """A command under its name on the wire. `handed_s` None: still here. `stale`: not to be handed out again."""

    id: str
    command: Order
    issued_s: float
    handed_s: float | None = None
    stale: bool = False


class Desk:
    """Times are monotonic seconds of the site's clock."""

    def __init__(self, answer_s: float, readings: Readings) -> None:
        self._answer_s = answer_s
        self._readings = readings
        self._offers: dict[str, Offer] = {}  # unanswered, oldest first

    def put(self, wire_id: str, command: Order, now_s: float) -> list[Event]:
        """Takes a command in; returns what became of those that will never be sent because of it."""
        gone: list[Event] = []
        for offer in list(self._offers.values()):
            if isinstance(command, SetLimit) and isinstance(offer.command, StopCharging):
                if offer.handed_s is None:
                    return [CommandReplaced(command.id)]
            elif _displaces(command, offer.command):
                offer.stale = True
                if offer.handed_s is None:
                    del self._offers[offer.id]
                    gone.append(CommandReplaced(offer.command.id))
        self._offers[wire_id] = Offer(wire_id, command, now_s)
        return gone

    def next(self, now_s: float) -> Offer | None:
        """What the charger should hear now; `hand` must follow."""
        ready = [offer for offer in self._offers.values() if self._due_s(offer) <= now_s]
        return min(ready, key=_rank, default=None)

    def hand(self, offer: Offer, now_s: float) -> bool:
        """It leaves the house; True for the first time."""
        first = offer.handed_s is None
        offer.handed_s = now_s
        return first

    def refuse(self, offer: Offer, reason: str) -> Event:
        """It cannot be handed out after all."""
        self._offers.pop(offer.id, None)
        return _undone(offer, reason)

    def answer(self, wire_id: str, status: str, message: str) -> tuple[Order, Event] | None:
        """The charger's word; None when nobody waits for it any more (`completed` after `accepted`, a repetition)."""
        offer = self._offers.pop(wire_id, None)
        if offer is None:
            return None
        if status in ("accepted", "completed"):
            return offer.command, CommandAccepted(offer.command.id)
        return offer.command, CommandRefused(offer.command.id, message or f"{status} by the charger")

    def overdue(self, now_s: float) -> list[tuple[Order, Event]]:
        """Gives up what waited too long."""
        late = [o for o in self._offers.values() if now_s - o.issued_s >= self._patience_s(o)]
        for offer in late:
            del self._offers[offer.id]
        return [(offer.command, _undone(offer, "not fetched by the charger in time")) for offer in late]

    def _patience_s(self, offer: Offer) -> float:
        if isinstance(
            offer.command, UpgradeFirmware
        ):  # a charger that does not poll hears of it in a heartbeat
            return max(self._answer_s, self._readings.command_expiry_s)
        return self._answer_s

    def _due_s(self, offer: Offer) -> float:
        if offer.stale:
            return float("inf")
        return offer.issued_s if offer.handed_s is None else offer.handed_s + self._readings.command_resend_s


def _undone(offer: Offer, reason: str) -> Event:
    if offer.handed_s is None:
        return CommandRefused(offer.command.id, reason)
    return CommandLost(offer.command.id, "handed out, but the charger did not say what became of it")


def _displaces(newer: Order, older: Order) -> bool:
    match newer:
        case StopCharging():
            return not isinstance(older, StorePlan | UpgradeFirmware)
        case StorePlan() | UpgradeFirmware():
            return False
        case SetLimit():
            return isinstance(older, SetLimit)
        case StartCharging() | StartDischarge():
            return isinstance(older, StartCharging | StartDischarge)


def _rank(offer: Offer) -> tuple[int, float]:
    match offer.command:
        case StopCharging():
            return 0, offer.issued_s
        case StartCharging() | StartDischarge():
            return 1, offer.issued_s
        case SetLimit():
            return 2, offer.issued_s
        case StorePlan() | UpgradeFirmware():
            return 3, offer.issued_s
