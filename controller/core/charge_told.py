"""States of charge that a person told, where the vehicle tells none: they rise with the energy that flows.

Owns the note per EVSE and its end: with the session, with the first value that was measured, and with energy that flows
back (nobody counts that against a note). Charging loses a tenth on the way, so the estimate stays below the truth.
"""

from __future__ import annotations

from dataclasses import replace

from controller.core.applied import NOTHING, Applied
from controller.core.commands import Audited, SocSaved
from controller.core.events import EvseSample, SocRestored, SocTold
from controller.core.model import Departure, Moment
from controller.core.noted import Note
from controller.core.session import FED_BACK, Session
from controller.core.state import State

STORED_PCT = 90  # of what the station delivers


def battery_wh(state: State, session: Session) -> int | None:
    vehicle = None if session.vehicle is None else state.site.vehicles.get(session.vehicle)
    return None if vehicle is None else vehicle.battery_wh


def missing_wh(state: State, departure: Departure) -> int | None:
    """What it still has to get; None while nobody can know (no session, battery or state of charge)."""
    running = state.sessions.running.values()
    session = next((s for s in running if departure.target in (s.evse, s.vehicle)), None)
    if departure.energy_wh is not None:
        return departure.energy_wh - (0 if session is None else session.energy_wh)
    known_wh = None if session is None else battery_wh(state, session)
    if session is None or known_wh is None or session.soc is None or departure.soc is None:
        return None
    return known_wh * (departure.soc - session.soc) // 100


def told(state: State, event: SocTold | SocRestored, now: Moment) -> Applied:
    """Only of a running session whose vehicle's battery is known (the console says so): else it could not follow."""
    session = state.sessions.running.get(event.evse)
    if session is None or battery_wh(state, session) is None:
        return NOTHING
    if isinstance(event, SocRestored):
        if event.session == session.id:
            state.charges_told[event.evse] = Note(event.session, event.soc, event.energy_wh)
            _follow(state, session)
        return NOTHING
    state.charges_told[event.evse] = Note(session.id, event.soc, session.energy_wh)
    _follow(state, session)
    subject = f"{event.evse} {session.vehicle}"
    saved = SocSaved(event.evse, session.id, event.soc, session.energy_wh)
    return Applied((saved, Audited(now.utc, event.by, "soc-told", subject, f"{event.soc} %")), urgent=True)


def sampled(state: State, event: EvseSample) -> None:
    """After a sample was folded into its session."""
    note = state.charges_told.get(event.evse)
    if note is None:
        return
    session = state.sessions.running.get(event.evse)
    if session is None or session.id != note.session or event.soc is not None:
        del state.charges_told[event.evse]
    elif FED_BACK in session.marks:
        del state.charges_told[event.evse]
        state.sessions.running[event.evse] = replace(session, soc=None)
    else:
        _follow(state, session)


def _follow(state: State, session: Session) -> None:
    note, battery = state.charges_told[session.evse], battery_wh(state, session)
    assert battery is not None, "only notes on known batteries are kept"
    stored_wh = (session.energy_wh - note.energy_wh) * STORED_PCT // 100
    soc = min(100, note.soc + 100 * stored_wh // battery) if battery else note.soc
    if soc != session.soc:
        state.sessions.running[session.evse] = replace(session, soc=soc)
