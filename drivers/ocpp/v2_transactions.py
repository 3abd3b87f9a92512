"""TransactionEvent of OCPP 2.x -> when energy may flow, what flows, and the end.

Owns what is made of a transaction told in pieces, some of them late, twice, out of order or never. Pure; what it learns
is kept in `story` once the facts were taken. Never raises: a rejected event is a lost session. Readings of the standard
(2.0.1 part 2 section E): a transaction may open at plug-in, long before a token (TxStartPoint), so the depot hears of a
start only when energy may flow; events flagged `offline` or stamped long ago touch no live state; Ended is terminal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from controller.core.events import (
    StatusChanged,
    TokenPresented,
    TransactionEnded,
    TransactionIdentified,
    TransactionMeasured,
    TransactionStarted,
)
from controller.core.model import EvseState, Moment, Verdict, number_of
from controller.ports import Answer
from drivers.ocpp import samples
from drivers.ocpp.frames import Payload
from drivers.ocpp.story import Opening
from drivers.ocpp.words import (
    OLD_S,
    Event,
    Known,
    Reply,
    Request,
    always,
    integer,
    nothing,
    odd_time,
    sample_of,
    text_of,
    utc_text,
    when,
)

LONGEST_TOKEN: Final = 255  # 2.1; 2.0.1 allows 36
LONGEST_TRANSACTION: Final = 36

PHASES = {
    "charging": EvseState.CHARGING,
    "evconnected": EvseState.PREPARING,
    "suspendedev": EvseState.SUSPENDED_EV,
    "suspendedevse": EvseState.SUSPENDED_EVSE,
}
_FLOWING = ("charging", "suspendedev", "suspendedevse")
_RESTING = ("evconnected", "idle")
_ALLOWED_BY = ("authorized", "remotestart")
_GONE = ("evdisconnected", "evdeparted")


@dataclass(frozen=True, slots=True)
class _Told:
    """One event as read; words in small letters. `presented`: an id token is in it; `anonymous`: of the type that needs
    none. `newest`: nothing later was told of this transaction. `values`: as they came. `odd`: marks for its session."""

    kind: str
    transaction: str
    number: int | None
    stamp: datetime
    offline: bool
    presented: bool
    anonymous: bool
    token: str | None
    phase: str
    trigger: str
    stopped: str
    remote: bool
    sequence: int | None
    newest: bool
    values: object
    odd: tuple[str, ...]


def read(payload: Payload, known: Known, now: Moment) -> Request:
    told = _told(payload, known, now)
    remarks = _remarks(told, known)
    if told.number is not None and told.number not in known.evses:
        # the station would repeat after an error; an invalid token makes it stop what we cannot budget
        refusal: Payload = {"idTokenInfo": {"status": Verdict.INVALID.value}} if told.presented else {}
        return Request((), always(refusal), (*remarks, "a transaction on an EVSE that is not configured"))
    events, remember = _ended(told, known) if told.kind == "ended" else _going_on(told, known)
    live, remember_live = _live(told, known, now)

    def remembered() -> None:
        if told.sequence is not None:
            known.story.note_sequence(told.transaction, told.sequence)
        if told.odd and told.kind != "ended":
            known.story.note_oddities(told.transaction, told.odd)
        remember()
        remember_live()

    return Request((*events, *live), _reply(told), remarks, remember=remembered)


def token_of(payload: Payload) -> tuple[str | None, bool]:
    """The id token of a message, and whether it is of the type that needs no authorization."""
    field = payload.get("idToken")
    if not isinstance(field, dict):
        return None, False
    anonymous = text_of(field, "type").casefold() == "noauthorization"
    return text_of(field, "idToken", LONGEST_TOKEN) or None, anonymous


def id_token_info(answer: Answer | None) -> Payload:
    if answer is None:
        return {"status": Verdict.INVALID.value}
    info: Payload = {"status": answer.verdict.value}
    if answer.group is not None and len(answer.group) <= 36:
        info["groupIdToken"] = {"idToken": answer.group, "type": "Central"}
    if answer.expires is not None:
        info["cacheExpiryDateTime"] = utc_text(answer.expires)
    return info


# --- reading --------------------------------------------------------------------------------------------------


def _told(payload: Payload, known: Known, now: Moment) -> _Told:
    info = payload.get("transactionInfo")
    info = info if isinstance(info, dict) else {}
    transaction = text_of(info, "transactionId", LONGEST_TRANSACTION) or "unknown"
    stamp, old = when(payload, now)
    token, anonymous = token_of(payload)
    sequence = integer(payload.get("seqNo"))
    last = known.story.sequence.get(transaction)
    return _Told(
        kind=text_of(payload, "eventType").casefold(),
        transaction=transaction,
        number=_number(payload, transaction, known),
        stamp=stamp,
        offline=old or payload.get("offline") is True,
        presented=payload.get("idToken") is not None,
        anonymous=anonymous,
        token=None if anonymous else token,
        phase=text_of(info, "chargingState").casefold(),
        trigger=text_of(payload, "triggerReason").casefold(),
        stopped=text_of(info, "stoppedReason"),
        remote=integer(info.get("remoteStartId")) is not None,
        sequence=sequence,
        newest=sequence is None or last is None or sequence > last,
        values=payload.get("meterValue"),
        odd=_odd(sequence, last) + odd_time(stamp, now),
    )


def _odd(sequence: int | None, last: int | None) -> tuple[str, ...]:
    if sequence is None or last is None or last <= sequence <= last + 1:
        return ()
    return ("reordered",) if sequence < last else ("seq-gap",)


def _number(payload: Payload, transaction: str, known: Known) -> int | None:
    """The EVSE number: as told, as told before, or the only one there is."""
    field = payload.get("evse")
    told = integer(field.get("id")) if isinstance(field, dict) else None
    if told:
        return told
    if transaction in known.transactions:
        return number_of(known.transactions[transaction])
    opening = known.story.openings.get(transaction)
    if opening is not None and opening.evse is not None:
        return opening.evse
    return next(iter(known.evses)) if len(known.evses) == 1 else None


def _remarks(told: _Told, known: Known) -> tuple[str, ...]:
    last = known.story.sequence.get(told.transaction)
    if told.sequence is None:
        return ("a transaction event without a readable seqNo",)
    if last is None:
        if told.transaction in known.transactions or told.transaction in known.ended:
            return ()  # we or the station started anew, and the books know it
        return ("a transaction came to light without its start",) if told.kind != "started" else ()
    if told.sequence <= last:
        return ("a transaction event came again, or later than its successor",)
    return ("transaction events are missing: a gap in seqNo",) if told.sequence > last + 1 else ()


# --- what it means --------------------------------------------------------------------------------------------


def _going_on(told: _Told, known: Known) -> tuple[tuple[Event, ...], Callable[[], None]]:
    """Started and Updated (and words we do not know): an opening, the moment energy may flow, or nothing new."""
    story, name = known.story, told.transaction
    opening = story.openings.get(name)
    evse = known.evses.get(told.number) if told.number is not None else None
    authorizes = told.presented and told.trigger != "stopauthorized"
    if name in known.transactions or name in known.ended:
        if evse is not None and told.kind == "started":
            return (_start(told, known, None),), nothing  # again: the depot knows, and answers for the token
        return (*_identified(told, known, authorizes), *_closing(told, known)), nothing
    begun = opening or Opening(told.number, told.token, _register(told), told.stamp, told.offline)
    silent = told.phase not in _FLOWING and (told.kind == "started" or opening is not None)
    resting = told.phase in _RESTING or silent
    allowed = (
        (authorizes and (told.token is not None or told.anonymous))
        or told.remote
        or told.trigger in _ALLOWED_BY
        or told.phase in _FLOWING
        or begun.allowed
        or not resting
    )
    if allowed and evse is not None:
        return (_start(told, known, opening),), lambda: story.drop_opening(name)
    kept = replace(begun, evse=told.number or begun.evse, token=told.token or begun.token, allowed=allowed)
    return _presented(told, known), lambda: story.note_opening(name, kept)


def _presented(told: _Told, known: Known) -> tuple[Event, ...]:
    return (TokenPresented(known.station, told.token),) if told.token is not None else ()


def _identified(told: _Told, known: Known, authorizes: bool) -> tuple[Event, ...]:
    if not authorizes or told.token is None:
        return ()
    if told.number is None:
        return _presented(told, known)
    evse = known.evses[told.number]
    return (TransactionIdentified(evse.id, known.channel, told.transaction, told.token, told.offline),)


def _closing(told: _Told, known: Known) -> tuple[Event, ...]:
    """Values after the end revive nothing, but may be the last word about the energy."""
    register_wh = _register(told) if told.transaction in known.ended else None
    if register_wh is None:
        return ()
    return (TransactionMeasured(known.station, told.transaction, register_wh),)


def _start(told: _Told, known: Known, opening: Opening | None) -> TransactionStarted:
    assert told.number is not None
    return TransactionStarted(
        evse=known.evses[told.number].id,
        channel=known.channel,
        transaction=told.transaction,
        token=told.token or (opening.token if opening is not None else None),
        register_wh=_register(told) if opening is None else opening.register_wh,
        started=told.stamp if opening is None else opening.started,
        offline=told.offline,
        inferred=told.kind != "started" and opening is None,
        marks=_marks(told, known),
    )


def _marks(told: _Told, known: Known) -> tuple[str, ...]:
    before = known.story.oddities.get(told.transaction, ())
    return before + tuple(mark for mark in told.odd if mark not in before)


def _ended(told: _Told, known: Known) -> tuple[tuple[Event, ...], Callable[[], None]]:
    story, name = known.story, told.transaction
    opening = story.openings.get(name)
    evse = known.evses.get(told.number) if told.number is not None else None
    register = _register(told)
    end = TransactionEnded(
        station=known.station,
        evse=evse.id if evse is not None else None,
        transaction=name,
        reason=told.stopped or "Local",  # part 2 section 1.62: may be left out only for Local
        register_wh=register,
        ended=told.stamp,
        token=told.token,
        offline=told.offline,
        marks=_marks(told, known),
    )
    events: tuple[Event, ...] = (end,)
    if opening is not None and name not in known.transactions:
        moved = None not in (register, opening.register_wh) and register != opening.register_wh
        if not moved and not opening.allowed:
            events = ()  # plugged in and out again: nothing could flow, so the depot never heard of it
        elif evse is not None:
            events = (_start(told, known, opening), end)
    return events, lambda: story.ended(name)


def _live(told: _Told, known: Known, now: Moment) -> tuple[tuple[Event, ...], Callable[[], None]]:
    """State and samples of now; nothing of the past."""
    number = told.number
    evse = known.evses.get(number) if number is not None else None
    if number is None or evse is None or not told.newest or told.transaction in known.ended:
        return (), nothing
    state = _state(told, known, number)
    events: list[Event] = []
    if state is not None and not told.offline and known.statuses.get(number) is not state:
        events.append(StatusChanged(evse.id, known.channel, state))
    if told.kind != "ended" and not told.offline:
        not_before = now.utc - timedelta(seconds=OLD_S) if now.utc_trusted else None
        values = samples.newest_values(told.values, not_before)
        if values:
            events.append(sample_of(values, evse, known.channel, now.mono_s))

    def remember() -> None:
        if state is not None:
            known.story.phases[number] = state

    return tuple(events), remember


def _state(told: _Told, known: Known, number: int) -> EvseState | None:
    if told.kind != "ended":
        return PHASES.get(told.phase)
    if (
        told.phase == "idle"
        or told.stopped.casefold() in _GONE
        or told.trigger in ("evdeparted", "evcommunicationlost")
    ):
        return None  # the connector tells that it is free
    words = {word for (at, _), word in known.story.connectors.items() if at == number}
    return None if words and "occupied" not in words else EvseState.FINISHING


def _register(told: _Told) -> int | None:
    return samples.register_wh(samples.newest_values(told.values, None, live=False))


def _reply(told: _Told) -> Reply:
    """Saying no to a token that ends something helps nobody: the vehicle would be kept."""
    if not told.presented:
        return always({})
    if told.kind == "ended" or told.trigger == "stopauthorized" or told.anonymous:
        return always({"idTokenInfo": {"status": Verdict.ACCEPTED.value}})
    return lambda answer: {"idTokenInfo": id_token_info(answer)}
