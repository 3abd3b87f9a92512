"""The brain: facts in (`apply`), decisions out (`step`). Deterministic: the same site, boot name and sequence of calls
give the same decisions, bit for bit.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import assert_never

from controller.core import charge_told
from controller.core import events as ev
from controller.core.agenda import Agenda
from controller.core.alarms import Alarms
from controller.core.answering import answered
from controller.core.applied import NOTHING, Applied
from controller.core.beside import apply_beside, beside
from controller.core.coming import announced
from controller.core.commands import (
    Audited,
    Command,
)
from controller.core.decide import Decision, decide, part
from controller.core.foresight import advised, other_loads
from controller.core.lending import lenders, priorities
from controller.core.model import Departure, EvseId, Moment, Schedule, Site, StationId
from controller.core.observing import connected, diagnosed, fell_back, observed
from controller.core.outlive import restore, restore_ceiling, unsaved
from controller.core.peak import RAISE_PCT
from controller.core.planning import PlanRequest, Present
from controller.core.preview import Consequence, Previewed, preview, preview_departure
from controller.core.proof import Proof
from controller.core.readiness import apply_upgrade, refused_while_held
from controller.core.recognition import drawn_ma, fewer_phases
from controller.core.session import Session
from controller.core.setting import planned, proved
from controller.core.standby_kept import Standbys
from controller.core.state import State
from controller.core.tariff import Tariff
from controller.core.tokens import TokenBook
from controller.core.transacting import keep_tokens, transacted
from controller.core.wishes import apply_flex, apply_wish


class Depot:
    """One site. `boot` makes ids unique over restarts (the ledger counts boots)."""

    def __init__(self, site: Site, boot: str) -> None:
        self.site = site
        self._state = State.new(site, boot)

    def step(self, now: Moment) -> Decision:
        return decide(self._state, now)

    def part(self, now: Moment) -> list[Command]:
        """What to tell the stations before we leave them; no step follows."""
        return part(self._state, now)

    def owed(self, commands: Collection[Command]) -> bool:
        """Whether a limit among these is still unanswered."""
        names = {command.id for command in commands}
        accounts = self._state.commitments.accounts.values()
        return any(sent.command in names for account in accounts for sent in account.sent)

    def apply(self, event: ev.Event, now: Moment) -> Applied:
        """Fold one fact in. Facts about EVSEs that are not in the config are ignored here; doors report them."""
        evse = getattr(event, "evse", None)
        if evse is not None and evse not in self.site.evses:
            return NOTHING
        if (aside := beside(self.site, event)) is not None:
            return Applied(apply_beside(self._state, aside, now))
        match event:
            case ev.MeterReading() | ev.MeterFailed() | ev.EvseSample() | ev.StatusChanged():
                return observed(self._state, event, now)
            case (
                ev.LinkUp()
                | ev.LinkDown()
                | ev.StationBooted()
                | ev.AccessRefused()
                | ev.ChannelChanged()
                | ev.BooksChanged()
                | ev.ClockJudged()
            ):
                return connected(self._state, event, now)
            case ev.FallbackStored() | ev.FallbackRefused():
                return fell_back(self._state, event, now)
            case (
                ev.TokenPresented()
                | ev.TransactionStarted()
                | ev.TransactionIdentified()
                | ev.TransactionMeasured()
                | ev.MeterSigned()
                | ev.TransactionEnded()
            ):
                return transacted(self._state, event, now)
            case (
                ev.CommandSent()
                | ev.CommandAccepted()
                | ev.CommandRefused()
                | ev.CommandLost()
                | ev.CommandReplaced()
            ):
                return answered(self._state, event, now)
            case (
                ev.StartWished()
                | ev.StopWished()
                | ev.PauseWished()
                | ev.ResumeWished()
                | ev.LimitWished()
                | ev.DischargeWished()
            ):
                held = refused_while_held(self._state, event, now)
                told = held or apply_wish(self._state, event, now)
                return Applied((told, *unsaved(self._state, now)), urgent=True)
            case ev.FlexWished():
                told = apply_flex(self._state, event, now)
                return Applied((told, *unsaved(self._state, now)), urgent=True)
            case ev.FlexEnded():
                self._state.flex.end()
                ended = Audited(now.utc, event.by, "flex-ended", self.site.name, "")
                return Applied((ended, *unsaved(self._state, now)), urgent=True)
            case ev.UpgradeWished():
                return Applied((apply_upgrade(self._state, event, now),), urgent=True)
            case ev.UpgradeEnded():
                return Applied(tuple(self._state.campaigns.end(event.by, now)), urgent=True)
            case (
                ev.FaultReported()
                | ev.RecordReceived()
                | ev.FirmwareReported()
                | ev.SecurityEvent()
                | ev.StationAsked()
            ):
                return diagnosed(self._state, event, now)
            case ev.ScheduleSet() | ev.ScheduleCleared() | ev.DepartureSet():
                return planned(self._state, event, now)
            case ev.TokenSet() | ev.TokenRemoved() | ev.TokenErased() | ev.TokensRestored():
                return keep_tokens(self._state, event, now)
            case ev.StationQualified() | ev.QualificationRestored() | ev.RenewalHeld():
                return proved(self._state, event, now)
            case ev.PlanReady() | ev.TariffRead():
                advised(self._state, event, now)
            case ev.FallbackRestored():
                self._state.commitments.known(event.evse, event.limit_ma)
            case ev.CeilingRestored():
                restore_ceiling(self._state, event, now)
            case ev.DischargeOffered():
                self._state.belief.evses[event.evse].offers_discharge = True
            case ev.OrderedRestored() | ev.FlexRestored() | ev.ClosedRestored() | ev.OrphanRestored():
                restore(self._state, event, now)
            case ev.InputRead():
                entries, urgent = self._state.inputs.read(event)
                return Applied(tuple(entries), urgent=urgent)
            case ev.InputFailed():
                self._state.inputs.failed(event)
            case ev.InputRestored():
                self._state.inputs.restore(event)
            case ev.PeakRestored():
                if self._state.peak is not None:
                    self._state.peak.restore(event)
            case ev.RosterSet() | ev.HabitsLearned() | ev.SocTold() | ev.SocRestored() | ev.DrawTold():
                return announced(self._state, event, now)
            case ev.SessionRestored():
                self._state.sessions.restore(event, now)
            case (
                ev.AlarmAcked()
                | ev.AlarmShelved()
                | ev.AlarmUnshelved()
                | ev.ServiceChanged()
                | ev.AlarmRestored()
                | ev.HushRestored()
            ):
                return Applied(tuple(self._state.alarms.heed(event, now)), urgent=True)
            case _:
                assert_never(event)
        return NOTHING

    def plan_request(self, now: Moment) -> PlanRequest:
        state = self._state
        present = tuple(
            Present(
                evse,
                s.vehicle,
                s.started,
                s.energy_wh,
                s.soc,
                drawn_ma=drawn_ma(state, s),
                granted_ma=state.memory[evse].grant_ma,
                phases=state.usage.phases(evse, now.mono_s) or fewer_phases(state, s),
                wakes=state.tempo.paces[evse].wakes,
            )
            for evse, s in state.sessions.running.items()
        )
        schedules = {evse: tuple(stored.values()) for evse, stored in state.schedules.items() if stored}
        agenda, here = state.agenda, state.sessions.running
        departures = {
            target: told.departure for target, told in agenda.told(state.departures, here, now.utc).items()
        }
        expected = agenda.expected(here, now.utc)
        return PlanRequest(
            now,
            self.site,
            present,
            schedules,
            departures,
            expected=expected,
            errors_s=agenda.errors_s,
            background_ma=other_loads(state),
            peak_w=0 if state.peak is None else state.peak.view(now).month_w or 0,
            lenders=lenders(state, now),
            priorities=priorities(self.site),
            target_w=None if state.peak is None else state.peak.target_w * RAISE_PCT // 100,
            floors_ma={evse: account.floor_ma() for evse, account in state.commitments.accounts.items()},
        )

    @property
    def tariff(self) -> Tariff | None:
        return self._state.tariff

    @property
    def alarms(self) -> Alarms:
        """To look at; it changes by facts and steps only."""
        return self._state.alarms

    @property
    def agenda(self) -> Agenda:
        """To look at; it changes by facts only."""
        return self._state.agenda

    def session(self, target: str) -> Session | None:
        """The one that runs at this EVSE, or of this vehicle."""
        running = self._state.sessions.running
        return next((s for s in running.values() if target in (s.evse, s.vehicle)), None)

    def missing_wh(self, departure: Departure) -> int | None:
        """What it still has to get; None while nobody can know (no session, battery or state of charge)."""
        return charge_told.missing_wh(self._state, departure)

    def preview(self, proof: Proof, order: Previewed | ev.DepartureSet, now: Moment) -> Consequence:
        """What the order would bring; changes nothing. `proof`: of the newest step."""
        if isinstance(order, ev.DepartureSet):
            return preview_departure(self._state, order, now)
        return preview(self._state, proof, order, now)

    @property
    def tokens(self) -> TokenBook:
        """To look at; it changes by facts only."""
        return self._state.tokens

    def token_lists(self) -> Mapping[StationId, int]:
        """Which version of the book each station that keeps a list has said yes to."""
        return self._state.lists.versions()

    def stored(self, evse: EvseId) -> Mapping[str, str]:
        """Whether the station has taken over the schedule it should hold, by schedule id."""
        return self._state.stored.words(evse, self._state.schedules.get(evse, {}))

    @property
    def standbys(self) -> Standbys:
        """What the stations hold of the plan; to look at, it changes by facts and steps only."""
        return self._state.standbys

    def firmware(self, station: StationId) -> str:
        """What it runs as far as it has said; empty while unknown."""
        return self._state.belief.stations[station].firmware

    def proven_firmware(self, station: StationId) -> str | None:
        """The firmware whose fall to the fallback a person saw."""
        return self._state.qualified.get(station)

    def token(self, evse: EvseId) -> str | None:
        """Of the session that runs there."""
        session = self._state.sessions.running.get(evse)
        return None if session is None else session.token

    def continued(self, fact: ev.TransactionStarted) -> str | None:
        """The transaction of the running session that this inferred start only sees again."""
        return self._state.sessions.continued(fact)

    def schedules(self, evse: EvseId) -> tuple[Schedule, ...]:
        return tuple(self._state.schedules.get(evse, {}).values())
