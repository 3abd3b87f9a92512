"""Which schedule each station should hold, and what closes the gap."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from controller.core import events as ev
from controller.core.commands import Command, DropSchedule, StoreSchedule
from controller.core.depot import Depot
from controller.core.model import (
    EvseId,
    Link,
    Moment,
    Schedule,
    ScheduleType,
    SlotAction,
    TimeSlot,
)
from tests.small_site import WIRE, a_site, an_evse

CHANNEL = "open-platform/cloud"
LINK = Link(CHANNEL, 900, 120, 60, 60, stores_schedules=True)
ONE, TWO = EvseId("A/1"), EvseId("B/1")
NOW = Moment(1000.0, datetime(2026, 11, 22, 12, tzinfo=UTC))


class OneStores(Depot):
    def __init__(self) -> None:
        evses = an_evse(ONE, LINK, phases=(0,)), an_evse(TWO, WIRE, phases=(0,))
        super().__init__(a_site(*evses), "1")

    def told(self) -> list[Command]:
        commands = self.step(NOW).commands
        return [each for each in commands if isinstance(each, StoreSchedule | DropSchedule)]

    def set(self, schedule: Schedule, evse: EvseId = ONE) -> None:
        self.apply(ev.ScheduleSet("ann", evse, schedule), NOW)

    def yes(self) -> Command:
        (command,) = self.told()
        self.apply(ev.CommandAccepted(command.id), NOW)
        return command

    def no(self, reason: str) -> None:
        (command,) = self.told()
        self.apply(ev.CommandRefused(command.id, reason), NOW)

    def channel(self, state: str) -> None:
        self.apply(ev.ChannelChanged(CHANNEL, state), NOW)


def nights(id: str = "nights", enabled: bool = True) -> Schedule:
    slot = TimeSlot(22 * 60, 6 * 60, SlotAction.CHARGE, 7_000)
    return Schedule(id, ScheduleType.DAILY, enabled, "UTC", (slot,))


def saved(command: Command) -> str:
    assert isinstance(command, StoreSchedule)
    return command.schedule.id


def test_the_enabled_one_that_was_set_last_is_stored_once() -> None:
    depot = OneStores()
    depot.set(nights("a"))
    depot.set(nights("b"))
    depot.set(nights("c", enabled=False))
    depot.set(nights("a"), TWO)
    assert depot.stored(ONE) == {"b": "pending"} and depot.stored(TWO) == {}
    (command,) = depot.told()
    assert (command.evse, command.channel, saved(command)) == (ONE, CHANNEL, "b")
    assert depot.told() == [], "its answer comes first"
    depot.apply(ev.CommandAccepted(command.id), NOW)
    assert depot.stored(ONE) == {"b": "stored"} and depot.told() == []
    depot.set(nights("a"))
    assert depot.stored(ONE) == {"a": "pending"} and saved(depot.yes()) == "a"
    depot.set(replace(nights("a"), target_soc=80))
    assert saved(depot.yes()) == "a", "the same name with another content"


def test_a_cleared_one_gives_way_to_the_next_and_the_last_one_is_dropped() -> None:
    depot = OneStores()
    depot.set(nights("a"))
    depot.set(nights("b"))
    assert saved(depot.yes()) == "b"
    depot.apply(ev.ScheduleCleared("ann", ONE, "b"), NOW)
    assert saved(depot.yes()) == "a"
    depot.set(nights("a", enabled=False))
    assert depot.stored(ONE) == {}
    dropped = depot.yes()
    assert isinstance(dropped, DropSchedule) and (dropped.evse, dropped.schedule) == (ONE, "a")
    assert depot.told() == []


def test_a_refusal_stands_until_something_changes() -> None:
    depot = OneStores()
    depot.set(nights())
    depot.no("channel is off")
    assert depot.stored(ONE) == {"nights": "refused: channel is off"} and depot.told() == []
    depot.channel("ok")
    depot.no("no such zone")
    depot.channel("ok")
    assert depot.told() == [], "that was no change"
    depot.set(replace(nights(), timezone="Europe/Amsterdam"))
    assert depot.stored(ONE) == {"nights": "pending"}
    depot.yes()
    assert depot.stored(ONE) == {"nights": "stored"}


def test_what_a_channel_forgot_while_it_was_off_is_told_again() -> None:
    depot = OneStores()
    depot.channel("ok")
    depot.set(nights("a"))
    depot.yes()
    depot.channel("off")
    depot.no("channel is off")
    assert depot.stored(ONE) == {"a": "refused: channel is off"}
    depot.channel("ok")
    assert saved(depot.yes()) == "a" and depot.told() == []


def test_what_was_cleared_while_the_channel_was_off_is_dropped_afterwards() -> None:
    depot = OneStores()
    depot.channel("ok")
    depot.set(nights("a"))
    (unanswered,) = depot.told()
    depot.channel("off")
    depot.apply(ev.CommandLost(unanswered.id, "switched off"), NOW)
    depot.apply(ev.ScheduleCleared("ann", ONE, None), NOW)
    depot.set(nights("b"))
    depot.no("channel is off")
    depot.channel("ok")
    dropped = depot.yes()
    assert isinstance(dropped, DropSchedule) and dropped.schedule == "a", "it may be there"
    assert saved(depot.yes()) == "b" and depot.told() == []
