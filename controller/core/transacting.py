"""Facts about transactions and the id tokens they run on: sessions begin and end, and drivers hear whether they may charge."""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from controller.core import coming
from controller.core import events as ev
from controller.core.applied import NOTHING, Applied
from controller.core.commands import Audited, Entry, SignedSaved, TokenReplaced
from controller.core.model import Moment, StationId, Verdict, station_of
from controller.core.session import REFUSED
from controller.core.state import State
from controller.core.view import mask

Transacted = (
    ev.TokenPresented
    | ev.TransactionStarted
    | ev.TransactionIdentified
    | ev.TransactionMeasured
    | ev.MeterSigned
    | ev.TransactionEnded
)


def transacted(state: State, event: Transacted, now: Moment) -> Applied:
    sessions = state.sessions
    match event:
        case ev.TokenPresented():
            verdict = _verdict(state, event.token, event.station, now)
            if verdict is Verdict.ACCEPTED:
                state.belief.charge_wished(event.station)
            return _with_token(state, Applied(verdict=verdict), event.token)
        case ev.TransactionStarted():
            verdict = _verdict(state, event.token, station_of(event.evse), now)
            replaced = sessions.running.get(event.evse)
            entries = sessions.start(event, now)
            if replaced is not None and sessions.running[event.evse].id != replaced.id:
                state.session_over(event.evse, now.mono_s)
            current = sessions.running.get(event.evse)
            started_now = current is not None and current.transaction == event.transaction
            if started_now and verdict is not Verdict.ACCEPTED and not event.offline:
                entries.append(sessions.refuse(event.evse))
            state.memory[event.evse].start_token = None
            state.belief.evses[event.evse].wished = False
            state.agenda.changed()
            applied = Applied(tuple(entries), verdict, event.transaction, urgent=True)
            return _with_token(state, applied, event.token)
        case ev.TransactionIdentified():
            verdict = _verdict(state, event.token, station_of(event.evse), now)
            entries = sessions.identify(event, verdict)
            state.agenda.changed()
            return _with_token(state, Applied(tuple(entries), verdict, urgent=True), event.token)
        case ev.TransactionMeasured():
            return Applied(tuple(sessions.closing(event)))
        case ev.MeterSigned():
            return Applied((SignedSaved(event.station, event.transaction, event.values),))
        case ev.TransactionEnded():
            before = dict(sessions.running)
            entries = sessions.end(event, now)
            stays = coming.ended(state, before, event)
            for evse in before.keys() - sessions.running.keys():
                state.session_over(evse, now.mono_s)
            return Applied((*entries, *stays), transaction=event.transaction, urgent=True)
        case _:
            assert_never(event)


def _verdict(state: State, token: str | None, station: StationId, now: Moment) -> Verdict:
    """One of our own starts carries a token of its own, which no book knows."""
    running = state.sessions.running
    if any(memory.start_token == token for memory in state.memory.values()) or any(
        token is not None and session.token == token and REFUSED not in session.marks
        for evse, session in running.items()
        if station_of(evse) == station
    ):
        return Verdict.ACCEPTED
    charging = {evse: session.token for evse, session in running.items()}
    return state.tokens.verdict(token, station, charging, now)


def _with_token(state: State, applied: Applied, token: str | None) -> Applied:
    """What else the station should know of the token."""
    known = None if token is None else state.tokens.find(token)
    return applied if known is None else replace(applied, group=known.group, expires=known.expires)


def keep_tokens(
    state: State, event: ev.TokenSet | ev.TokenRemoved | ev.TokenErased | ev.TokensRestored, now: Moment
) -> Applied:
    book = state.tokens
    match event:
        case ev.TokensRestored():
            return Applied(book.restore(event.tokens, event.version))
        case ev.TokenErased():
            state.sessions.forget(event.token, event.alias)
            erased = TokenReplaced(event.token, event.alias)
            audited = Audited(now.utc, event.by, "token-forgotten", event.alias, "")
            return Applied((*book.remove(event.token), erased, audited))
        case ev.TokenSet():
            changed: tuple[Entry, ...] = book.put(event.token)
            what, subject = "token-set", event.token.id
        case ev.TokenRemoved():
            changed = book.remove(event.token)
            what, subject = "token-removed", event.token
        case _:
            assert_never(event)
    if not changed:
        return NOTHING
    return Applied((*changed, Audited(now.utc, event.by, what, mask(subject) or "", "")))
