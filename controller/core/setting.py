"""Facts that people set and that stand until they change: schedules, departures, proofs."""

from __future__ import annotations

from typing import assert_never

from controller.core import events as ev
from controller.core.applied import NOTHING, Applied
from controller.core.commands import (
    Audited,
    DepartureSaved,
    Entry,
    QualificationSaved,
    ScheduleRemoved,
    ScheduleSaved,
)
from controller.core.model import Moment
from controller.core.state import State

HELD_MOST_S = 600.0  # a proof that was forgotten ends by itself


def planned(
    state: State, event: ev.ScheduleSet | ev.ScheduleCleared | ev.DepartureSet, now: Moment
) -> Applied:
    entries: list[Entry] = []
    match event:
        case ev.ScheduleSet():
            mine = state.schedules.setdefault(event.evse, {})
            mine.pop(event.schedule.id, None)  # in the order they were set last
            mine[event.schedule.id] = event.schedule
            entries.append(ScheduleSaved(event.evse, event.schedule))
            entries.append(Audited(now.utc, event.by, "schedule-set", event.evse, event.schedule.id))
        case ev.ScheduleCleared():
            stored = state.schedules.get(event.evse, {})
            names = list(stored) if event.schedule is None else [event.schedule]
            for name in names:
                if stored.pop(name, None) is not None:
                    entries.append(ScheduleRemoved(event.evse, name))
            entries.append(Audited(now.utc, event.by, "schedule-cleared", event.evse, ", ".join(names)))
        case ev.DepartureSet():
            departure = event.departure
            state.departures[departure.target] = departure
            state.agenda.changed()
            entries.append(DepartureSaved(departure))
            entries.append(
                Audited(now.utc, event.by, "departure-set", departure.target, departure.at.isoformat())
            )
        case _:
            assert_never(event)
    return Applied(tuple(entries), urgent=True)


def proved(
    state: State, event: ev.StationQualified | ev.QualificationRestored | ev.RenewalHeld, now: Moment
) -> Applied:
    if isinstance(event, ev.RenewalHeld):
        state.memory[event.evse].held_until_s = min(event.until_s, now.mono_s + HELD_MOST_S)
        return NOTHING
    if event.station not in state.belief.stations:
        return NOTHING
    if event.passed:
        state.qualified[event.station] = event.firmware
    else:
        state.qualified.pop(event.station, None)
    state.judge_proof(event.station)
    if isinstance(event, ev.QualificationRestored):
        return NOTHING
    saved = QualificationSaved(event.station, event.firmware, now.utc, event.by, event.passed, event.findings)
    outcome = "passed" if event.passed else "failed"
    audited = Audited(now.utc, event.by, "qualified", event.station, f"{event.firmware} {outcome}")
    return Applied((saved, audited), urgent=True)
