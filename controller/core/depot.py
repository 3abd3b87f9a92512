"""The brain: facts in (`apply`), decisions out (`step`). Deterministic: the same site, boot name and sequence of calls
give the same decisions, bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from controller.core import events as ev
from controller.core.commands import (
    Audited,
    DepartureSaved,
    Entry,
    FallbackSaved,
    ScheduleRemoved,
    ScheduleSaved,
    StationSaved,
)
from controller.core.decide import Decision, decide
from controller.core.model import EvseId, EvseState, Moment, Schedule, Site, Verdict
from controller.core.planning import PlanRequest, Present
from controller.core.state import State
from controller.core.wishes import Wished, apply_flex, apply_wish

URGENT_RISE_MA = 2000  # a meter that rose by this since its last reading is worth a step at once


@dataclass(frozen=True, slots=True)
class Applied:
    """What a fact caused at once. `urgent`: step now, do not wait for the next second."""

    entries: tuple[Entry, ...] = ()
    verdict: Verdict = Verdict.ACCEPTED
    transaction: str | None = None
    urgent: bool = False


NOTHING = Applied()
URGENT = Applied(urgent=True)


class Depot:
    """One site. `boot` makes ids unique over restarts (the ledger counts boots)."""

    def __init__(self, site: Site, boot: str) -> None:
        self.site = site
        self._state = State.new(site, boot)

    def step(self, now: Moment) -> Decision:
        return decide(self._state, now)

    def apply(self, event: ev.Event, now: Moment) -> Applied:
        """Fold one fact in. Facts about EVSEs that are not in the config are ignored here; doors report them."""
        evse = getattr(event, "evse", None)
        if evse is not None and evse not in self.site.evses:
            return NOTHING
        match event:
            case ev.MeterReading() | ev.MeterFailed() | ev.EvseSample() | ev.StatusChanged():
                return self._observed(event, now)
            case ev.LinkUp() | ev.LinkDown() | ev.StationBooted() | ev.AccessRefused() | ev.ChannelChanged():
                return self._connected(event, now)
            case ev.FallbackStored() | ev.FallbackRefused():
                limit_ma = event.limit_ma if isinstance(event, ev.FallbackStored) else None
                self._state.commitments.fallback(event.evse, limit_ma, now.mono_s)
                return Applied((FallbackSaved(event.evse, limit_ma),))
            case ev.TokenPresented() | ev.TransactionStarted() | ev.TransactionEnded():
                return self._transacted(event, now)
            case (
                ev.CommandSent()
                | ev.CommandAccepted()
                | ev.CommandRefused()
                | ev.CommandLost()
                | ev.CommandReplaced()
            ):
                return self._answered(event, now)
            case (
                ev.StartWished()
                | ev.StopWished()
                | ev.PauseWished()
                | ev.ResumeWished()
                | ev.LimitWished()
                | ev.DischargeWished()
            ):
                return self._wished(event, now)
            case ev.FlexWished():
                return Applied((apply_flex(self._state, event, now),), urgent=True)
            case ev.FlexEnded():
                self._state.flex.end()
                return Applied((Audited(now.utc, event.by, "flex-ended", self.site.name, ""),), urgent=True)
            case ev.UpgradeWished() | ev.UpgradeEnded():
                return NOTHING
            case ev.FaultReported() | ev.RecordReceived() | ev.FirmwareReported():
                return self._diagnosed(event, now)
            case ev.ScheduleSet() | ev.ScheduleCleared() | ev.DepartureSet():
                return self._planned(event, now)
            case ev.PlanReady():
                self._state.plan = event.plan
            case ev.FallbackRestored():
                self._state.commitments.known(event.evse, event.limit_ma)
            case ev.CeilingRestored():
                self._state.commitments.restored(event.evse, event.limit_ma, now.mono_s)
                self._state.memory[event.evse].ceiling_ma = event.limit_ma
            case ev.ClosedRestored():
                self._state.sessions.restore_closed(event)
            case ev.SessionRestored():
                self._state.sessions.restore(event, now)
            case _:
                assert_never(event)
        return NOTHING

    def plan_request(self, now: Moment) -> PlanRequest:
        state = self._state
        present = tuple(
            Present(evse, s.vehicle, s.started, s.energy_wh, s.soc)
            for evse, s in state.sessions.running.items()
        )
        schedules = {evse: tuple(stored.values()) for evse, stored in state.schedules.items() if stored}
        return PlanRequest(now, self.site, present, schedules, dict(state.departures))

    def schedules(self, evse: EvseId) -> tuple[Schedule, ...]:
        return tuple(self._state.schedules.get(evse, {}).values())

    # --- facts by kind ----------------------------------------------------------------------------------------------

    def _observed(
        self, event: ev.MeterReading | ev.MeterFailed | ev.EvseSample | ev.StatusChanged, now: Moment
    ) -> Applied:
        belief, commitments = self._state.belief, self._state.commitments
        match event:
            case ev.MeterReading():
                rise_ma = belief.meter_reading(event, commitments)
                return URGENT if rise_ma >= URGENT_RISE_MA else NOTHING
            case ev.MeterFailed():
                belief.meter_failed(event)
                return NOTHING
            case ev.EvseSample():
                belief.evse_sample(event)
                highest_ma = belief.evses[event.evse].highest_ma(now.mono_s)
                if highest_ma is not None:
                    commitments.measured(event.evse, highest_ma, now.mono_s)
                return Applied(tuple(self._state.sessions.sample(event, now)))
            case ev.StatusChanged():
                belief.status(event)
                is_free = event.state is EvseState.AVAILABLE
                self._state.sessions.available(event.evse, is_free, now)
                if is_free:
                    self._state.memory[event.evse].had_session = False
                return URGENT if event.state in (EvseState.PREPARING, EvseState.FAULTED) else NOTHING
            case _:
                assert_never(event)

    def _connected(
        self,
        event: ev.LinkUp | ev.LinkDown | ev.StationBooted | ev.AccessRefused | ev.ChannelChanged,
        now: Moment,
    ) -> Applied:
        belief = self._state.belief
        match event:
            case ev.LinkUp():
                belief.link_up(event)
            case ev.LinkDown():
                belief.link_down(event, now.mono_s)
            case ev.StationBooted():
                belief.booted(event)
                for evse in self.site.evses.values():
                    if evse.station == event.station:
                        self._state.commitments.rebooted(evse.id, now.mono_s)
                saved = StationSaved(event.station, event.vendor, event.model, event.firmware, event.serial)
                return Applied((saved,), urgent=True)
            case ev.AccessRefused():
                belief.access_refused(event, now.mono_s)
                return Applied(
                    (Audited(now.utc, event.channel, "access-refused", event.identity, event.reason),)
                )
            case ev.ChannelChanged():
                belief.channels[event.channel] = event
            case _:
                assert_never(event)
        return URGENT

    def _diagnosed(
        self, event: ev.FaultReported | ev.RecordReceived | ev.FirmwareReported, now: Moment
    ) -> Applied:
        match event:
            case ev.FaultReported():
                self._state.belief.fault(event)
                what = "fault" if event.active else "fault-over"
                subject = event.evse or event.station
                return Applied(
                    (Audited(now.utc, event.channel, what, subject, f"{event.code} {event.text}"),)
                )
            case ev.RecordReceived():
                return Applied((self._state.sessions.reconcile(event),))
            case ev.FirmwareReported():
                text = f"{event.version} {event.status} {event.text}".rstrip()
                return Applied((Audited(now.utc, event.channel, "firmware", event.station, text),))
            case _:
                assert_never(event)

    def _transacted(
        self, event: ev.TokenPresented | ev.TransactionStarted | ev.TransactionEnded, now: Moment
    ) -> Applied:
        sessions = self._state.sessions
        match event:
            case ev.TokenPresented():
                return Applied(verdict=self._verdict(event.token))
            case ev.TransactionStarted():
                verdict = self._verdict(event.token)
                replaced = sessions.running.get(event.evse)
                entries = sessions.start(event, now)
                if replaced is not None and sessions.running[event.evse].id != replaced.id:
                    self._state.session_over(event.evse, now.mono_s)
                self._state.memory[event.evse].start_token = None
                return Applied(tuple(entries), verdict, event.transaction, urgent=True)
            case ev.TransactionEnded():
                before = set(sessions.running)
                entries = sessions.end(event, now)
                for evse in before - set(sessions.running):
                    self._state.session_over(evse, now.mono_s)
                return Applied(tuple(entries), transaction=event.transaction, urgent=True)
            case _:
                assert_never(event)

    def _verdict(self, token: str | None) -> Verdict:
        """A start without a token is the station's own business; one of our own starts carries its own token."""
        if token is None or self.site.accept_unknown_tokens or self.site.vehicle_of(token) is not None:
            return Verdict.ACCEPTED
        ours = any(memory.start_token == token for memory in self._state.memory.values())
        return Verdict.ACCEPTED if ours else Verdict.INVALID

    def _answered(
        self,
        event: ev.CommandSent | ev.CommandAccepted | ev.CommandRefused | ev.CommandLost | ev.CommandReplaced,
        now: Moment,
    ) -> Applied:
        commitments, orders = self._state.commitments, self._state.orders
        match event:
            case ev.CommandSent():
                orders.sent(event.command, now)
                return NOTHING
            case ev.CommandAccepted():
                commitments.accepted(event.command, now.mono_s)
                orders.accepted(event.command, now)
            case ev.CommandRefused():
                commitments.refused(event.command, now.mono_s)
                orders.refused(event.command, event.reason, now)
            case ev.CommandLost():
                commitments.lost(event.command, now.mono_s)
                orders.lost(event.command, event.reason, now)
            case ev.CommandReplaced():
                commitments.replaced(event.command)
            case _:
                assert_never(event)
        return URGENT

    def _wished(self, event: Wished, now: Moment) -> Applied:
        return Applied((apply_wish(self._state, event, now),), urgent=True)

    def _planned(self, event: ev.ScheduleSet | ev.ScheduleCleared | ev.DepartureSet, now: Moment) -> Applied:
        entries: list[Entry] = []
        match event:
            case ev.ScheduleSet():
                self._state.schedules.setdefault(event.evse, {})[event.schedule.id] = event.schedule
                entries.append(ScheduleSaved(event.evse, event.schedule))
                entries.append(Audited(now.utc, event.by, "schedule-set", event.evse, event.schedule.id))
            case ev.ScheduleCleared():
                stored = self._state.schedules.get(event.evse, {})
                names = list(stored) if event.schedule is None else [event.schedule]
                for name in names:
                    if stored.pop(name, None) is not None:
                        entries.append(ScheduleRemoved(event.evse, name))
                entries.append(Audited(now.utc, event.by, "schedule-cleared", event.evse, ", ".join(names)))
            case ev.DepartureSet():
                departure = event.departure
                self._state.departures[departure.target] = departure
                entries.append(DepartureSaved(departure))
                entries.append(
                    Audited(now.utc, event.by, "departure-set", departure.target, departure.at.isoformat())
                )
            case _:
                assert_never(event)
        return Applied(tuple(entries), urgent=True)
