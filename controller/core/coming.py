"""Facts about what is to come: rosters, habits, states of charge that people tell; and what a stay leaves for learning."""

from __future__ import annotations

from typing import assert_never

from controller.core import charge_told, recognition
from controller.core import events as ev
from controller.core.applied import NOTHING, Applied
from controller.core.commands import Audited, Entry, RosterSaved
from controller.core.model import EvseId, Moment
from controller.core.session import Session
from controller.core.state import State

Coming = ev.RosterSet | ev.HabitsLearned | ev.SocTold | ev.SocRestored | ev.DrawTold


def announced(state: State, event: Coming, now: Moment) -> Applied:
    match event:
        case ev.RosterSet():
            state.agenda.set_roster(event.entries, now)
            audited = Audited(now.utc, event.by, "roster-set", state.site.name, event.note)
            return Applied((RosterSaved(event.entries), audited), urgent=True)
        case ev.HabitsLearned():
            state.agenda.set_habits(event.habits, event.errors_s, event.draws)
            return NOTHING
        case ev.SocTold() | ev.SocRestored():
            return charge_told.told(state, event, now)
        case ev.DrawTold():
            recognition.told(state, event)
            return NOTHING
        case _:
            assert_never(event)


def sampled(state: State, event: ev.EvseSample) -> None:
    """After a sample was folded into its session."""
    recognition.sampled(state, event)
    charge_told.sampled(state, event)


def ended(state: State, sessions: dict[EvseId, Session], event: ev.TransactionEnded) -> list[Entry]:
    """Of those that ended with this stop; a stop told late tells nothing about now, but its time is its own."""
    gone = [session for evse, session in sessions.items() if evse not in state.sessions.running]
    stays = (recognition.stay_of(state, session, event.ended, event.reason) for session in gone)
    return [stay for stay in stays if stay is not None]


def refresh(state: State, now: Moment) -> None:
    """Once per step."""
    state.agenda.refresh(state.departures, state.sessions.running, now)
    recognition.look(state, now)
