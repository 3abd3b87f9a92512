"""Sessions: the energy side of an EVSE, one per transaction, from start to stop.

Owns transaction bookkeeping: duplicates, replays, stops that name nothing we know (with `orphans`). What one session is
stands in `session`, what it costs in `costs`. Field notes section 2, rows 7-12, 40-44.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from controller.core.commands import RecordSaved, SessionSaved
from controller.core.costs import Costs
from controller.core.events import (
    ClosedRestored,
    EvseSample,
    OrphanRestored,
    RecordReceived,
    SessionRestored,
    TransactionEnded,
    TransactionIdentified,
    TransactionMeasured,
    TransactionStarted,
)
from controller.core.model import EvseId, Moment, Site, StationId, VehicleId, Verdict, station_of
from controller.core.orphans import Orphans
from controller.core.session import (
    CLOCK_CORRECTED,
    CLOCK_SET,
    CLOCK_UNSURE,
    FED_BACK,
    REFUSED,
    RESTARTED,
    Session,
    entry_of,
    max_w,
    overlap_s,
    possible_wh,
)

SAVE_EVERY_S = (
    300.0  # energy of a running session is written this often; a restart loses nothing, see `sample`
)
AVAILABLE_GRACE_S = 30.0  # a station that says "available" this long has no session any more
RECORD_APART_S = 600.0  # a record further from every session than this belongs to none
CLOSED_KEPT = (
    500  # ended sessions that late records and repeated messages are compared with: days of a full depot
)
CLOSING_S = 120.0  # closing values tell what flowed this long after the stop at most
NO_TRANSACTION = ("-1", "0", "unknown")  # what a station says that never learnt its transaction's number
CLOCK_SET_S = 60.0  # nobody misses less in a session
FEED_W = -100  # standby and rounding do not count


class Sessions:
    """The running session of each EVSE. Methods return the ledger entries that the fact caused."""

    def __init__(
        self, site: Site, boot: str, vehicle_of: Callable[[str | None], VehicleId | None] | None = None
    ) -> None:
        """`vehicle_of` knows more tokens than the site's own."""
        self._site = site
        self._boot = boot
        self._vehicle_of = vehicle_of or site.vehicle_of
        self.costs = Costs()
        self._strays = Orphans(site, self._vehicle_of, self.costs)
        self._count = 0
        self.running: dict[EvseId, Session] = {}
        self._past: dict[str, Session] = {}  # replayed while a newer one runs, by station/transaction
        # closed lately, oldest first, and whether the station told the stop: what it repeats changes nothing
        self._closed: dict[tuple[StationId, str], bool] = {}
        self._ended: deque[Session] = deque(maxlen=CLOSED_KEPT)
        self._available_since_s: dict[EvseId, float] = {}

    def restore(self, fact: SessionRestored, now: Moment) -> None:
        session = Session(
            id=fact.session,
            evse=fact.evse,
            transaction=fact.transaction,
            token=fact.token,
            vehicle=self._vehicle_of(fact.token),
            started=fact.started,
            started_s=now.mono_s - max(0.0, (now.utc - fact.started).total_seconds()),
            energy_wh=fact.energy_wh,
            register_start_wh=fact.register_start_wh,
            register_wh=fact.register_wh,
            marks=fact.marks,
            saved_s=now.mono_s,
        ).marked(RESTARTED)
        self.running[fact.evse] = self.costs.restored(session, fact.cost_micro, fact.currency, fact.counted)

    def restore_closed(self, fact: ClosedRestored) -> None:
        self._remember_closed(station_of(fact.evse), fact.transaction, told=fact.told)

    def restore_orphan(self, fact: OrphanRestored) -> None:
        self._strays.restore(fact)

    @property
    def orphans(self) -> Mapping[tuple[StationId, str], Session]:
        """Stops whose start is still looked for."""
        return self._strays.known

    def start(self, fact: TransactionStarted, now: Moment) -> list[SessionSaved]:
        assert fact.transaction is not None, "the runtime numbers transactions before the core sees them"
        current = self.running.get(fact.evse)
        if current is not None and current.transaction == fact.transaction:
            return self._named(current, fact.token)  # the same message again, perhaps with the driver by now
        if current is not None and fact.unsure:
            return []
        if (matched := self._strays.started(fact)) is not None:
            return [matched]
        past = f"{fact.evse}|{fact.transaction}"
        if past in self._past or (station_of(fact.evse), fact.transaction) in self._closed:
            return []
        self._count += 1
        session = Session(
            id=f"{self._boot}-{self._count}",
            evse=fact.evse,
            transaction=fact.transaction,
            token=fact.token,
            vehicle=self._vehicle_of(fact.token),
            started=fact.started,
            started_s=now.mono_s,
            register_start_wh=fact.register_wh,
            register_wh=fact.register_wh,
            register_at_s=None if fact.offline else now.mono_s,
            saved_s=now.mono_s,
        )
        if fact.inferred:
            session = session.marked("start-inferred")
        if fact.offline:
            session = session.marked("offline")
        elif not now.utc_trusted:
            session = session.marked(CLOCK_UNSURE)
        session = self.costs.opened(session.marked(*fact.marks), fact.started)
        saved = []
        if current is not None and fact.offline and fact.started < current.started:
            self._past[past] = session  # an old story told late: the vehicle on the EVSE is another one
        else:
            if current is not None:
                saved.append(self._close(current, fact.started, "superseded", now, "stop-missing"))
            self.running[fact.evse] = session
        saved.append(entry_of(session))
        return saved

    def continued(self, fact: TransactionStarted) -> str | None:
        """The transaction of the running session, if this start, which a driver concluded from what flows, only finds
        it again: the driver is new (we restarted, or its channel was off meanwhile) and the register goes on."""
        session = self.running.get(fact.evse)
        if session is None or not fact.inferred or fact.offline:
            return None
        if fact.register_wh is None:  # a discharge: export has no place in the import register
            return session.transaction if session.register_wh is None else None
        return session.transaction if fact.register_wh >= (session.register_wh or 0) else None

    def identify(self, fact: TransactionIdentified, verdict: Verdict) -> list[SessionSaved]:
        """Whose session it is, where nobody knew; one that has a driver keeps it (the other token may end it)."""
        session = self.running.get(fact.evse)
        if session is None or session.transaction != fact.transaction or session.token is not None:
            return []
        if verdict is not Verdict.ACCEPTED and not fact.offline:
            session = session.marked(REFUSED)
        return self._named(session, fact.token)

    def _named(self, session: Session, token: str | None) -> list[SessionSaved]:
        if token is None or session.token is not None:
            return []
        named = replace(session, token=token, vehicle=self._vehicle_of(token))
        self.running[session.evse] = named
        return [entry_of(named)]

    def end(self, fact: TransactionEnded, now: Moment) -> list[SessionSaved]:
        """Closes the session the stop belongs to; one that fits nothing is kept as an orphan."""
        if self._closed.get((fact.station, fact.transaction)):
            return []
        session = self._meant(fact)
        if session is None:
            self._remember_closed(fact.station, fact.transaction, told=True)
            return [self._past_end(fact) or self._strays.stopped(fact)]
        if session.transaction != fact.transaction:
            session = session.marked("stop-correlated")
            self._remember_closed(fact.station, session.transaction, told=True)
        if fact.transaction not in NO_TRANSACTION:
            self._remember_closed(fact.station, fact.transaction, told=True)
        most_w = self._max_w(session.evse, fact.offline)
        done = session.with_register(fact.register_wh, now.mono_s, most_w)
        at = fact.ended if fact.offline else now.utc
        session = self.costs.counted(session, done, at, now.utc_trusted).marked(*fact.marks)
        return [self._close(session, fact.ended, fact.reason, now, *(["offline"] if fact.offline else []))]

    def _meant(self, fact: TransactionEnded) -> Session | None:
        """The running session of this transaction. A stop that cannot name it (the station never learnt the number, rows
        8 and 11) means the one whose register goes on to the stop's, if there is just one."""
        running = [s for s in self.running.values() if self._site.evses[s.evse].station == fact.station]
        for session in running:
            if session.transaction == fact.transaction:
                return session
        if fact.transaction not in NO_TRANSACTION or fact.register_wh is None:
            return None
        fitting = [
            session
            for session in running
            if fact.evse in (None, session.evse)
            and session.started <= fact.ended
            and session.register_wh is not None
            and session.register_wh <= fact.register_wh
            and fact.register_wh - session.register_wh
            <= possible_wh(self._site, session.evse, (fact.ended - session.started).total_seconds())
        ]
        return fitting[0] if len(fitting) == 1 else None

    def _past_end(self, fact: TransactionEnded) -> SessionSaved | None:
        """The end of a session that was replayed while a newer one runs."""
        for key, session in self._past.items():
            station = self._site.evses[session.evse].station
            if session.transaction == fact.transaction and station == fact.station:
                del self._past[key]
                done = session.with_register(fact.register_wh, 0.0, float("inf")).marked(*fact.marks)
                done = self.costs.counted(session, done, fact.ended)
                return entry_of(replace(done, ended=fact.ended, stop_reason=fact.reason))
        return None

    def closing(self, fact: TransactionMeasured) -> list[SessionSaved]:
        """A closing value that came after the stop: it corrects its own session and touches no other (row 44)."""
        for index, session in enumerate(self._ended):
            if (
                session.transaction != fact.transaction
                or self._site.evses[session.evse].station != fact.station
            ):
                continue
            before_wh = session.register_wh
            if before_wh is None or session.ended is None or fact.register_wh <= before_wh:
                return []
            grown_wh = fact.register_wh - before_wh
            if grown_wh > possible_wh(self._site, session.evse, CLOSING_S):
                return []
            late = replace(
                session, register_wh=fact.register_wh, energy_wh=session.energy_wh + grown_wh
            ).marked("late-value")
            late = self.costs.counted(session, late, session.ended)
            self._ended[index] = late
            return [entry_of(late)]
        return []

    def clock_believed(self, set_s: float, now: Moment) -> list[SessionSaved]:
        """The time of day is known, after a doubt or at once after our own time was set by `set_s`. A session that began in
        doubt gets its true beginning: how long ago that was is known."""
        saved = []
        for evse, session in self.running.items():
            known = session
            if CLOCK_UNSURE in session.marks and RESTARTED not in session.marks:
                marks = tuple(mark for mark in session.marks if mark != CLOCK_UNSURE)
                known = replace(session, marks=marks)
                started = now.utc - timedelta(seconds=now.mono_s - session.started_s)
                off = started - session.started
                if set_s and abs(off.total_seconds()) >= 1.0:
                    counted = None if session.counted is None else session.counted + off
                    known = replace(known, started=started, counted=counted).marked(CLOCK_CORRECTED)
            elif abs(set_s) >= CLOCK_SET_S:
                known = session.marked(CLOCK_SET)
            if known is not session:
                self.running[evse] = known
                saved.append(entry_of(known))
        return saved

    def refuse(self, evse: EvseId) -> SessionSaved:
        """The running session has a token that may not charge."""
        self.running[evse] = refused = self.running[evse].marked(REFUSED)
        return entry_of(refused)

    def forget(self, token: str, alias: str) -> None:
        """`alias` in the place of this id token, so that nothing said of these sessions later brings it back."""

        def without(session: Session) -> Session:
            known = session.token is not None and session.token.casefold() == token.casefold()
            return replace(session, token=alias) if known else session

        self._ended = deque(map(without, self._ended), maxlen=CLOSED_KEPT)
        self.running.update({evse: without(session) for evse, session in self.running.items()})
        self._past.update({key: without(session) for key, session in self._past.items()})
        self._strays.known.update({key: without(session) for key, session in self._strays.known.items()})

    def reconcile(self, fact: RecordReceived) -> RecordSaved:
        """The charger's own record beside the session it belongs to: the one on its EVSE that overlaps it most."""
        lasting = [s for s in (*self._ended, *self.running.values()) if s.evse == fact.evse]
        best = max(lasting, key=lambda s: overlap_s(s, fact), default=None)
        if best is not None and overlap_s(best, fact) <= -RECORD_APART_S:
            best = None
        return RecordSaved(
            record=fact.record,
            evse=fact.evse,
            session=None if best is None else best.id,
            started=fact.started,
            ended=fact.ended,
            energy_wh=fact.energy_wh,
            gap_wh=None if best is None or FED_BACK in best.marks else fact.energy_wh - best.energy_wh,
            register_start_wh=fact.register_start_wh,
            register_end_wh=fact.register_end_wh,
        )

    def sample(self, fact: EvseSample, now: Moment) -> list[SessionSaved]:
        session = self.running.get(fact.evse)
        if session is None:
            if fact.register_wh is not None:
                self._strays.saw(fact.evse, fact.register_wh, now.utc)
            return []
        moved = session.with_register(fact.register_wh, now.mono_s, self._max_w(fact.evse, False))
        read = now.utc - timedelta(seconds=max(0.0, now.mono_s - fact.taken_s))
        session = self.costs.counted(session, moved, read, now.utc_trusted)
        if fact.soc is not None:
            session = replace(session, soc=fact.soc)
        if fact.power_w is not None and fact.power_w < FEED_W:
            session = session.marked(FED_BACK)
        self.running[fact.evse] = session
        return []

    def available(self, evse: EvseId, is_available: bool, now: Moment) -> None:
        """The station says whether the EVSE is free; a free EVSE cannot have a running session for long."""
        if is_available:
            self._available_since_s.setdefault(evse, now.mono_s)
        else:
            self._available_since_s.pop(evse, None)

    def tick(self, now: Moment) -> list[SessionSaved]:
        """Closes sessions whose stop never came, and saves running ones now and then (all in one commit)."""
        saved = []
        for evse, since_s in list(self._available_since_s.items()):
            session = self.running.get(evse)
            if session is not None and now.mono_s - max(since_s, session.started_s) > AVAILABLE_GRACE_S:
                saved.append(self._close(session, now.utc, "unknown", now, "stop-missing"))
        if any(now.mono_s - session.saved_s >= SAVE_EVERY_S for session in self.running.values()):
            for evse, session in self.running.items():
                self.running[evse] = replace(session, saved_s=now.mono_s)
                saved.append(entry_of(session))
        return saved

    def _close(
        self, session: Session, ended: datetime, reason: str, now: Moment, *marks: str
    ) -> SessionSaved:
        if self.running.get(session.evse, session).id == session.id:
            self.running.pop(session.evse, None)
        self._remember_closed(self._site.evses[session.evse].station, session.transaction, told=False)
        unsure = () if now.utc_trusted else (CLOCK_UNSURE,)
        done = replace(session, ended=max(ended, session.started), stop_reason=reason).marked(*marks, *unsure)
        if done.register_wh is not None and done.ended is not None:
            self._strays.saw(done.evse, done.register_wh, done.ended)
        self._ended.append(done)
        return entry_of(done)

    def _remember_closed(self, station: StationId, transaction: str, *, told: bool) -> None:
        self._closed[station, transaction] = told or self._closed.get((station, transaction), False)
        if len(self._closed) > CLOSED_KEPT:
            del self._closed[next(iter(self._closed))]

    def _max_w(self, evse: EvseId, offline: bool) -> float:
        """What the EVSE can deliver; unlimited for replays, whose time is not the time of the message."""
        return float("inf") if offline else max_w(self._site, evse)
