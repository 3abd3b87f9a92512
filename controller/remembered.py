"""What the ledger remembers, as the facts that tell a new process of it. Owns their order; applies nothing."""

from __future__ import annotations

from collections.abc import Iterator

from controller.core.events import (
    CeilingRestored,
    ClosedRestored,
    DepartureSet,
    Event,
    FallbackRestored,
    FlexRestored,
    OrderedRestored,
    OrphanRestored,
    QualificationRestored,
    RosterSet,
    ScheduleSet,
    SessionRestored,
)
from controller.core.orphans import MATCHED, ORPHAN
from controller.ledger import Restored

BY_LEDGER = "ledger"


def remembered(known: Restored) -> Iterator[Event]:
    """All but the id tokens, whose book is one fact."""
    for evse, limit_ma in known.fallbacks.items():
        if limit_ma is not None:
            yield FallbackRestored(evse, limit_ma)
    for evse, ceiling_ma in known.ceilings.items():
        yield CeilingRestored(evse, ceiling_ma, known.leases_outlast)
    for session in known.sessions:
        yield SessionRestored(
            session.id,
            session.evse,
            session.transaction,
            session.token,
            session.started,
            session.register_start_wh,
            session.register_wh,
            session.energy_wh,
            session.cost_micro,
            session.currency,
            session.counted,
            session.marks,
        )
    for session in known.closed:
        told = "stop-missing" not in session.marks
        yield ClosedRestored(session.evse, session.transaction, told)
        if ORPHAN in session.marks and MATCHED not in session.marks and session.ended is not None:
            yield OrphanRestored(
                session.id,
                session.evse,
                session.transaction,
                session.token,
                session.started,
                session.ended,
                session.register_start_wh,
                session.register_wh,
                session.energy_wh,
                session.stop_reason,
                session.marks,
            )
    for evse, schedule in known.schedules:
        yield ScheduleSet(BY_LEDGER, evse, schedule)
    for departure in known.departures:
        yield DepartureSet(BY_LEDGER, departure)
    for evse, ordered in known.ordered:
        yield OrderedRestored(evse, ordered)
    yield FlexRestored(known.flex)
    if known.peak is not None:
        yield known.peak
    yield from known.inputs
    if known.roster:
        yield RosterSet(BY_LEDGER, known.roster)
    yield from known.charges_told
    yield from known.alarms
    for station, firmware, passed in known.qualifications:
        yield QualificationRestored(station, firmware, passed)
