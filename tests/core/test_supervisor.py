"""Alarms: a condition has to stand, an alarm has to be gone for a while; one per kind and source."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from controller.core.commands import AlarmSaved
from controller.core.model import Moment
from controller.core.supervisor import CLEAR_S, Alarms, Condition

START = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
OFFLINE = Condition("offline", "CP1/1", 2, "offline", delay_s=30.0)
METER = Condition("meter", "main", 1, "no answer")


def at(second: float) -> Moment:
    return Moment(1000.0 + second, START + timedelta(seconds=second))


def run(alarms: Alarms, until: int, since: int = 0, *found: Condition) -> list[tuple[int, AlarmSaved]]:
    return [(s, saved) for s in range(since, until) for saved in alarms.update(iter(found), at(s))]


def test_a_condition_must_stand_for_its_delay() -> None:
    alarms = Alarms("1")
    assert run(alarms, 30, 0, OFFLINE) == []
    ((second, saved),) = run(alarms, 60, 30, OFFLINE)
    assert (second, saved.kind, saved.source, saved.cleared) == (30, "offline", "CP1/1", None)
    assert [view.kind for view in alarms.views()] == ["offline"]


def test_an_interrupted_condition_starts_again() -> None:
    alarms = Alarms("1")
    run(alarms, 29, 0, OFFLINE)
    run(alarms, 31, 29)
    assert run(alarms, 60, 31, OFFLINE) == []
    assert len(run(alarms, 62, 60, OFFLINE)) == 1


def test_an_alarm_clears_once_and_does_not_flicker() -> None:
    alarms = Alarms("1")
    ((_, raised),) = run(alarms, 10, 0, METER)
    assert run(alarms, 13, 10) == []
    assert run(alarms, 20, 13, METER) == [], "gone for 3 s: still the same alarm"
    ((second, cleared),) = run(alarms, 40, 20)
    assert second == 19 + CLEAR_S + 1
    assert (cleared.id, cleared.cleared) == (raised.id, at(second).utc)
    assert alarms.views() == ()


def test_the_strongest_comes_first() -> None:
    alarms = Alarms("1")
    run(alarms, 40, 0, OFFLINE, METER)
    assert [view.kind for view in alarms.views()] == ["meter", "offline"]
