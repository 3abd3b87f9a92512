"""The brain: facts in (`apply`), decisions out (`step`). Deterministic: the same site, boot name and sequence of calls
give the same decisions, bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import assert_never

from controller.core import events as ev
from controller.core.answering import answered
from controller.core.applied import NOTHING, Applied
from controller.core.beside import apply_beside, beside
from controller.core.commands import (
    Audited,
)
from controller.core.decide import Decision, decide
from controller.core.model import EvseId, Moment, Schedule, Site, StationId
from controller.core.observing import connected, diagnosed, fell_back, observed
from controller.core.outlive import restore
from controller.core.planning import PlanRequest, Present
from controller.core.readiness import apply_upgrade, refused_while_held
from controller.core.setting import planned, proved
from controller.core.state import State
from controller.core.tokens import TokenBook
from controller.core.transacting import keep_tokens, transacted
from controller.core.wishes import apply_flex, apply_wish

HELD_MOST_S = 600.0  # a proof that was forgotten ends by itself
URGENT_RISE_MA = 2000  # a meter that rose by this since its last reading is worth a step at once


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
        if (aside := beside(self.site, event)) is not None:
            return Applied(apply_beside(self._state, aside, now))
        match event:
            case ev.MeterReading() | ev.MeterFailed() | ev.EvseSample() | ev.StatusChanged():
                return observed(self._state, event, now)
            case ev.LinkUp() | ev.LinkDown() | ev.StationBooted() | ev.AccessRefused() | ev.ChannelChanged():
                return connected(self._state, event, now)
            case ev.FallbackStored() | ev.FallbackRefused():
                return fell_back(self._state, event, now)
            case (
                ev.TokenPresented()
                | ev.TransactionStarted()
                | ev.TransactionIdentified()
                | ev.TransactionMeasured()
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
                return Applied((held or apply_wish(self._state, event, now),), urgent=True)
            case ev.FlexWished():
                return Applied((apply_flex(self._state, event, now),), urgent=True)
            case ev.FlexEnded():
                self._state.flex.end()
                return Applied((Audited(now.utc, event.by, "flex-ended", self.site.name, ""),), urgent=True)
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
            case ev.TokenSet() | ev.TokenRemoved() | ev.TokensRestored():
                return keep_tokens(self._state, event, now)
            case ev.StationQualified() | ev.QualificationRestored() | ev.RenewalHeld():
                return proved(self._state, event, now)
            case ev.PlanReady():
                self._state.plan = event.plan
            case ev.FallbackRestored():
                self._state.commitments.known(event.evse, event.limit_ma)
            case ev.CeilingRestored():
                self._state.commitments.restored(event.evse, event.limit_ma, now.mono_s)
                self._state.memory[event.evse].ceiling_ma = event.limit_ma
            case ev.DischargeOffered():
                self._state.belief.evses[event.evse].offers_discharge = True
            case ev.OrderedRestored() | ev.FlexRestored() | ev.ClosedRestored() | ev.OrphanRestored():
                restore(self._state, event, now)
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
