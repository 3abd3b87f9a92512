"""Facts about the world: what meters and stations measured, who is there, what broke."""

from __future__ import annotations

from collections.abc import Iterator
from typing import assert_never

from controller.core import coming
from controller.core import events as ev
from controller.core.applied import NOTHING, URGENT, Applied
from controller.core.belief import SAMPLE_FRESH_S
from controller.core.commands import Audited, Entry, FallbackSaved, StationSaved
from controller.core.model import EvseState, Moment, StationId
from controller.core.outlive import outlasting
from controller.core.state import State

URGENT_RISE_MA = 2000  # a meter that rose by this since its last reading is worth a step at once


def observed(
    state: State, event: ev.MeterReading | ev.MeterFailed | ev.EvseSample | ev.StatusChanged, now: Moment
) -> Applied:
    belief, commitments = state.belief, state.commitments
    match event:
        case ev.MeterReading():
            rise_ma = belief.meter_reading(event, commitments)
            state.detective.reading(event)
            if state.peak is not None and event.meter == state.peak.meter:
                state.peak.fold(event)
            return URGENT if rise_ma >= URGENT_RISE_MA else NOTHING
        case ev.MeterFailed():
            belief.meter_failed(event)
            return NOTHING
        case ev.EvseSample():
            highest_ma = belief.evse_sample(event)
            if highest_ma is not None and now.mono_s - event.taken_s <= SAMPLE_FRESH_S:
                commitments.measured(event.evse, highest_ma, now.mono_s)
                seat, session = state.site.evses[event.evse], state.sessions.running.get(event.evse)
                account = commitments.accounts[event.evse]
                if state.switching.sample(account, event.current_ma, event.taken_s, now.mono_s):
                    state.usage.sample(seat, session, event.current_ma, event.taken_s)
                else:
                    state.usage.forget(event.evse)
                state.detective.sample(event.evse, event.current_ma, event.taken_s)
            entries = state.sessions.sample(event, now)
            coming.sampled(state, event)
            allowed_ma = commitments.accounts[event.evse].accepted_now_ma(now.mono_s)
            running = state.sessions.running.get(event.evse)
            state.appetites.sample(running, allowed_ma, highest_ma, event.taken_s)
            return Applied(tuple(entries))
        case ev.StatusChanged():
            belief.status(event, now.mono_s)
            is_free = event.state is EvseState.AVAILABLE
            state.sessions.available(event.evse, is_free, now)
            if is_free:
                state.memory[event.evse].had_session = False
            return URGENT if event.state in (EvseState.PREPARING, EvseState.FAULTED) else NOTHING
        case _:
            assert_never(event)


def connected(
    state: State,
    event: ev.LinkUp
    | ev.LinkDown
    | ev.StationBooted
    | ev.AccessRefused
    | ev.ChannelChanged
    | ev.BooksChanged
    | ev.ClockJudged,
    now: Moment,
) -> Applied:
    belief = state.belief
    match event:
        case ev.LinkUp():
            belief.link_up(event, now.mono_s)
            state.switching.link_up(event.station)
        case ev.LinkDown():
            belief.link_down(event, now.mono_s)
            _out_of_sight(state, event.station)
        case ev.StationBooted():
            belief.booted(event)
            if event.station in belief.stations:
                state.judge_proof(event.station)
            state.lists.rebooted(event.station)
            state.standbys.rebooted(event.station)
            for evse in state.site.evses.values():
                if evse.station == event.station:
                    state.commitments.rebooted(evse.id, now.mono_s)
            saved = StationSaved(event.station, event.vendor, event.model, event.firmware, event.serial)
            upgraded = state.campaigns.booted(event.station, event.firmware, now)
            return Applied((saved, *upgraded), urgent=True)
        case ev.AccessRefused():
            belief.access_refused(event, now.mono_s)
            return Applied((Audited(now.utc, event.channel, "access-refused", event.identity, event.reason),))
        case ev.BooksChanged(source, text):
            belief.books[source] = text
        case ev.ClockJudged():
            belief.clock = event
            return Applied(tuple(_clock_set(state, event, now)), urgent=True)
        case ev.ChannelChanged():
            belief.channels[event.channel] = event
            state.stored.channel(event.channel, event.state)
        case _:
            assert_never(event)
    return URGENT


def _clock_set(state: State, event: ev.ClockJudged, now: Moment) -> Iterator[Entry]:
    if event.set_s:
        state.commitments.clock_set(event.set_s, now.mono_s)
        yield from outlasting(state, event.set_s, now)
        yield Audited(now.utc, "depot", "clock-set", "clock", f"{event.set_s:+.0f} s")
    if not event.doubt:
        yield from state.sessions.clock_believed(event.set_s, now)


def _out_of_sight(state: State, station: StationId) -> None:
    for evse in state.site.evses.values():
        if evse.station == station and not state.belief.connected(evse.id):
            state.commitments.lost_sight(evse.id)
            state.usage.forget(evse.id)


def fell_back(state: State, event: ev.FallbackStored | ev.FallbackRefused, now: Moment) -> Applied:
    """What the station will do alone."""
    limit_ma = event.limit_ma if isinstance(event, ev.FallbackStored) else None
    state.commitments.fallback(event.evse, limit_ma, now.mono_s)
    return Applied((FallbackSaved(event.evse, limit_ma),))


def diagnosed(
    state: State,
    event: ev.FaultReported | ev.RecordReceived | ev.FirmwareReported | ev.SecurityEvent | ev.StationAsked,
    now: Moment,
) -> Applied:
    match event:
        case ev.FaultReported():
            state.belief.fault(event, now.mono_s)
            what = "fault" if event.active else "fault-over"
            subject = event.evse or event.station
            return Applied((Audited(now.utc, event.channel, what, subject, f"{event.code} {event.text}"),))
        case ev.RecordReceived():
            return Applied((state.sessions.reconcile(event),))
        case ev.FirmwareReported():
            text = f"{event.version} {event.status} {event.text}".rstrip()
            told = state.campaigns.reported(event, now)
            return Applied((Audited(now.utc, event.channel, "firmware", event.station, text), *told))
        case ev.SecurityEvent():
            text = f"{event.kind}: {event.text}"
            return Applied((Audited(now.utc, event.channel, "security", event.station, text),))
        case ev.StationAsked():
            text = f"{event.action}: {event.outcome}"
            return Applied((Audited(now.utc, event.by, "station-asked", event.station, text),))
        case _:
            assert_never(event)
