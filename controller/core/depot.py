"""The brain: facts in (`apply`), decisions out (`step`). Calls the parts in order and remembers; computes nothing.

Deterministic: the same site, boot name and sequence of calls give the same decisions, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import assert_never

from controller.core import events as ev
from controller.core.allocator import Demand, Grant, allocate
from controller.core.background import Assumed, Sight
from controller.core.belief import Belief
from controller.core.commands import (
    Audited,
    CeilingSaved,
    Command,
    DepartureSaved,
    Entry,
    FallbackSaved,
    ScheduleRemoved,
    ScheduleSaved,
    SetLimit,
    StartCharging,
    StationSaved,
    StopCharging,
)
from controller.core.commitments import Commitments
from controller.core.demand import NO_WISH, Desk, demand_of
from controller.core.dispatch import Target, Write, committed_ma, dispatch, silent
from controller.core.grid import Grid
from controller.core.model import (
    CircuitId,
    Departure,
    EvseId,
    EvseState,
    Moment,
    Plan,
    Schedule,
    Site,
    Verdict,
)
from controller.core.orders import Evidence, Order, Orders
from controller.core.planning import PlanRequest, Present
from controller.core.sessions import Sessions
from controller.core.snapshot import Snapshot
from controller.core.supervisor import Alarms, conditions
from controller.core.view import picture

START_RETRY_S = 60.0
METER_MARGIN_PCT = 2  # meter class and ripple: this much of a metered circuit stays free
STOP_RETRY_S = 20.0
CEILING_REVIEW_S = 900.0  # ceilings in the ledger are lowered this often, all in one commit


@dataclass(frozen=True, slots=True)
class Applied:
    """What a fact caused at once. `urgent`: step now, do not wait for the next second."""

    entries: tuple[Entry, ...] = ()
    verdict: Verdict = Verdict.ACCEPTED
    transaction: str | None = None
    urgent: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    commands: tuple[Command, ...]
    entries: tuple[Entry, ...]
    snapshot: Snapshot


@dataclass(slots=True)
class _Memory:
    """What one EVSE's decisions need from step to step."""

    grant_ma: int = 0
    bound_by: str = ""
    ceiling_ma: int = 0
    start_token: str | None = None
    asked_s: float = field(default=float("-inf"))  # last start or stop that was sent


class Depot:
    """One site. `boot` makes ids unique over restarts (the ledger counts boots)."""

    def __init__(self, site: Site, boot: str) -> None:
        self.site = site
        self._boot = boot
        self._commands = 0
        self._grid = Grid.of(site)
        self._commitments = Commitments(site)
        self._belief = Belief(site, self._grid)
        self._sessions = Sessions(site, boot)
        self._orders = Orders()
        self._alarms = Alarms(boot)
        self._desks = {evse: Desk() for evse in site.evses}
        self._memory = {evse: _Memory() for evse in site.evses}
        self._schedules: dict[EvseId, dict[str, Schedule]] = {}
        self._departures: dict[str, Departure] = {}
        self._plan: Plan | None = None
        self._reviewed_s: float | None = None

    # --- facts in -------------------------------------------------------------------------------------------------

    def apply(self, event: ev.Event, now: Moment) -> Applied:
        """Fold one fact in. Facts about EVSEs that are not in the config are ignored here; doors report them."""
        evse = getattr(event, "evse", None)
        if evse is not None and evse not in self.site.evses:
            return Applied()
        belief, commitments = self._belief, self._commitments
        match event:
            case ev.MeterReading():
                belief.meter_reading(event, commitments)
            case ev.MeterFailed():
                belief.meter_failed(event)
            case ev.EvseSample():
                return self._sample(event, now)
            case ev.StatusChanged():
                return self._status(event, now)
            case ev.LinkUp():
                belief.link_up(event)
            case ev.LinkDown():
                belief.link_down(event, now.mono_s)
                return Applied(urgent=True)
            case ev.StationBooted():
                return self._booted(event, now)
            case ev.FallbackStored():
                commitments.fallback(event.evse, event.limit_ma, now.mono_s)
                return Applied((FallbackSaved(event.evse, event.limit_ma),))
            case ev.FallbackRefused():
                commitments.fallback(event.evse, None, now.mono_s)
                return Applied((FallbackSaved(event.evse, None),))
            case ev.TokenPresented():
                return Applied(verdict=self._verdict(event.token))
            case ev.TransactionStarted():
                return self._started(event, now)
            case ev.TransactionEnded():
                return self._ended(event, now)
            case ev.AccessRefused():
                belief.access_refused(event, now.mono_s)
                return self._audit(now, event.channel, "access-refused", event.identity, event.reason)
            case ev.ChannelChanged():
                belief.channels[event.channel] = event
            case ev.CommandSent():
                self._orders.sent(event.command, now)
            case ev.CommandAccepted():
                commitments.accepted(event.command, now.mono_s)
                self._orders.accepted(event.command, now)
                return Applied(urgent=True)
            case ev.CommandRefused():
                commitments.refused(event.command, now.mono_s)
                self._orders.refused(event.command, event.reason, now)
            case ev.CommandLost():
                commitments.lost(event.command, now.mono_s)
                self._orders.lost(event.command, event.reason, now)
            case ev.CommandReplaced():
                commitments.replaced(event.command)
            case ev.StartWished() | ev.StopWished() | ev.PauseWished() | ev.ResumeWished() | ev.LimitWished():
                return self._wished(event, now)
            case ev.ScheduleSet():
                self._schedules.setdefault(event.evse, {})[event.schedule.id] = event.schedule
                applied = self._audit(now, event.by, "schedule-set", event.evse, event.schedule.id)
                return Applied((ScheduleSaved(event.evse, event.schedule), *applied.entries), urgent=True)
            case ev.ScheduleCleared():
                return self._schedule_cleared(event, now)
            case ev.DepartureSet():
                self._departures[event.departure.target] = event.departure
                text = event.departure.at.isoformat()
                applied = self._audit(now, event.by, "departure-set", event.departure.target, text)
                return Applied((DepartureSaved(event.departure), *applied.entries), urgent=True)
            case ev.PlanReady():
                self._plan = event.plan
            case ev.CeilingRestored():
                commitments.restored(event.evse, event.limit_ma, now.mono_s)
                self._memory[event.evse].ceiling_ma = event.limit_ma
            case ev.SessionRestored():
                self._sessions.restore(event, now)
            case _:
                assert_never(event)
        return Applied()

    def _sample(self, event: ev.EvseSample, now: Moment) -> Applied:
        self._belief.evse_sample(event)
        highest = self._belief.evses[event.evse].highest_ma(now.mono_s)
        if highest is not None:
            self._commitments.measured(event.evse, highest, now.mono_s)
        return Applied(tuple(self._sessions.sample(event, now)))

    def _status(self, event: ev.StatusChanged, now: Moment) -> Applied:
        self._belief.status(event)
        self._sessions.available(event.evse, event.state is EvseState.AVAILABLE, now)
        return Applied(urgent=event.state in (EvseState.PREPARING, EvseState.FAULTED))

    def _booted(self, event: ev.StationBooted, now: Moment) -> Applied:
        self._belief.booted(event)
        for evse in self.site.evses.values():
            if evse.station == event.station:
                self._commitments.rebooted(evse.id, now.mono_s)
        saved = StationSaved(event.station, event.vendor, event.model, event.firmware, event.serial)
        return Applied((saved,))

    def _verdict(self, token: str | None) -> Verdict:
        if token is None or self.site.vehicle_of(token) is not None or self.site.accept_unknown_tokens:
            return Verdict.ACCEPTED
        if any(memory.start_token == token for memory in self._memory.values()):
            return Verdict.ACCEPTED
        return Verdict.INVALID

    def _started(self, event: ev.TransactionStarted, now: Moment) -> Applied:
        entries = self._sessions.start(event, now)
        verdict = self._verdict(event.token)
        self._memory[event.evse].start_token = (
            None if verdict is Verdict.ACCEPTED else self._memory[event.evse].start_token
        )
        return Applied(tuple(entries), verdict, event.transaction, urgent=True)

    def _ended(self, event: ev.TransactionEnded, now: Moment) -> Applied:
        before = set(self._sessions.running)
        entries = self._sessions.end(event, now)
        for evse in before - set(self._sessions.running):
            self._session_over(evse, now)
        return Applied(tuple(entries), self._verdict(event.token), event.transaction, urgent=True)

    def _session_over(self, evse: EvseId, now: Moment) -> None:
        self._commitments.transaction_ended(evse, now.mono_s)
        self._desks[evse].clear()
        self._memory[evse].grant_ma = 0

    def _schedule_cleared(self, event: ev.ScheduleCleared, now: Moment) -> Applied:
        stored = self._schedules.get(event.evse, {})
        names = [event.schedule] if event.schedule is not None else list(stored)
        gone = [ScheduleRemoved(event.evse, name) for name in names if stored.pop(name, None) is not None]
        audit = self._audit(now, event.by, "schedule-cleared", event.evse, ", ".join(names))
        return Applied((*gone, *audit.entries), urgent=True)

    def _audit(self, now: Moment, by: str, what: str, subject: str, detail: str) -> Applied:
        return Applied((Audited(now.utc, by, what, subject, detail),))

    # --- operators --------------------------------------------------------------------------------------------------

    def _wished(
        self,
        event: ev.StartWished | ev.StopWished | ev.PauseWished | ev.ResumeWished | ev.LimitWished,
        now: Moment,
    ) -> Applied:
        desk, memory = self._desks[event.evse], self._memory[event.evse]
        kind = type(event).__name__.removesuffix("Wished").lower()
        order = Order(event.order, kind, event.evse, event.by, kind, now.mono_s)
        refusal = self._refusal(event)
        if refusal is not None:
            self._orders.refuse(order, now, refusal)
            return self._audit(now, event.by, f"{kind}-refused", event.evse, refusal)
        self._orders.open(order, now)
        match event:
            case ev.StartWished():
                desk.paused, desk.manual = False, True
                desk.limit_ma = desk.limit_ma if event.limit_ma is None else event.limit_ma
                desk.stop_energy_wh, desk.stop_soc, desk.stop_after_s = (
                    event.energy_wh,
                    event.soc,
                    event.duration_s,
                )
                self._commands += 1
                memory.start_token = event.token or f"DEPOT{self._boot}-{self._commands}"
                memory.asked_s = float("-inf")
            case ev.StopWished():
                memory.start_token, memory.asked_s = None, float("-inf")
                desk.stop = True
            case ev.PauseWished():
                desk.paused = True
            case ev.ResumeWished():
                desk.paused, desk.manual = False, True
            case ev.LimitWished():
                desk.limit_ma = order.limit_ma = event.limit_ma
                order.text = "limit none" if event.limit_ma is None else f"limit {event.limit_ma / 1e3:g} A"
            case _:
                assert_never(event)
        entries = self._audit(now, event.by, kind, event.evse, order.text).entries
        return Applied(entries, urgent=True)

    def _refusal(
        self, event: ev.StartWished | ev.StopWished | ev.PauseWished | ev.ResumeWished | ev.LimitWished
    ) -> str | None:
        running = event.evse in self._sessions.running
        if isinstance(event, ev.LimitWished):
            return None
        if not self._belief.connected(event.evse):
            return "the station is offline"
        if not running and not isinstance(event, ev.StartWished):
            return "no session is running"
        return None

    # --- decisions out ----------------------------------------------------------------------------------------------

    def step(self, now: Moment) -> Decision:
        """One decision: lower what must come down, raise what has room, renew what runs out."""
        now_s = now.mono_s
        entries: list[Entry] = list(self._close_overdue(now))
        for command in silent(self._commitments.accounts, now_s):
            self._commitments.lost(command, now_s)
        self._commitments.expire(now_s)
        assumed = {circuit: track.assumed(now_s) for circuit, track in self._belief.backgrounds.items()}
        sights = self._sights(assumed)
        lower_ma, raise_ma = self._rooms(assumed)
        demands, apart = self._demands(sights, now_s)
        room_low = [room - gone for room, gone in zip(lower_ma, apart, strict=True)]
        room_high = [room - gone for room, gone in zip(raise_ma, apart, strict=True)]
        ceiling = allocate(self._grid, demands, room_low)
        target = ceiling if room_high == room_low else allocate(self._grid, demands, room_high)
        targets = [
            self._target(demand, target, ceiling, sights) for demand in demands if self._served(demand)
        ]
        writes = dispatch(self._grid, self._commitments, targets, raise_ma, now_s)
        commands: list[Command] = [*self._starts_and_stops(now), *self._limits(writes, entries, now_s)]
        committed = committed_ma(self._grid, self._commitments, now_s)
        found = conditions(
            self.site,
            self._grid,
            self._belief,
            self._commitments,
            self._sessions.running,
            sights,
            committed,
            now,
        )
        entries += self._alarms.update(found, now)
        entries += self._review_ceilings(now_s)
        self._orders.tick(self._evidence_at(now_s), now)
        return Decision(tuple(commands), tuple(entries), self._picture(assumed, sights, committed, now))

    def plan_request(self, now: Moment) -> PlanRequest:
        present = tuple(
            Present(evse, self.site.vehicle_of(s.token), s.started, s.energy_wh, s.soc)
            for evse, s in self._sessions.running.items()
        )
        schedules = {evse: tuple(stored.values()) for evse, stored in self._schedules.items() if stored}
        return PlanRequest(now, self.site, present, schedules, dict(self._departures))

    def schedules(self, evse: EvseId) -> tuple[Schedule, ...]:
        return tuple(self._schedules.get(evse, {}).values())

    def _close_overdue(self, now: Moment) -> list[Entry]:
        before = set(self._sessions.running)
        saved = self._sessions.tick(now)
        for evse in before - set(self._sessions.running):
            self._session_over(evse, now)
        return list(saved)

    def _sights(self, assumed: dict[CircuitId, Assumed]) -> dict[CircuitId, Sight]:
        """The worst sight on the way to the root, per circuit."""
        return {
            circuit: max(
                (assumed[node.id].sight for node in self.site.path(circuit) if node.id in assumed),
                default=Sight.CLEAR,
            )
            for circuit in self.site.circuits
        }

    def _rooms(self, assumed: dict[CircuitId, Assumed]) -> tuple[list[int], list[int]]:
        """Limit minus background per resource: for lowering, and for raising."""
        lower, raising = [], []
        for (circuit, phase), limit in zip(self._grid.resources, self._grid.limits_ma, strict=True):
            load = assumed.get(circuit)
            fixed = self.site.circuits[circuit].assumed_load_ma
            if load is None:
                lower.append(limit - (0 if fixed is None else fixed[phase]))
                raising.append(lower[-1])
            else:
                usable = limit - limit * METER_MARGIN_PCT // 100
                lower.append(usable - max(0, load.lower_ma[phase]))
                raising.append(usable - max(0, load.raise_ma[phase]))
        return lower, raising

    def _demands(self, sights: dict[CircuitId, Sight], now_s: float) -> tuple[list[Demand], list[int]]:
        """Demands of the EVSEs within reach, and per resource what the others may draw."""
        demands, away = [], []
        for evse in self.site.evses.values():
            account = self._commitments.accounts[evse.id]
            if not self._belief.connected(evse.id):
                away.append((evse.id, account.commitment_ma(now_s)))
                self._memory[evse.id].grant_ma = 0
                continue
            demands.append(
                demand_of(
                    self.site,
                    account,
                    self._sessions.running.get(evse.id),
                    self._belief.state(evse.id),
                    self._desks[evse.id],
                    self._plan.wishes.get(evse.id, NO_WISH) if self._plan else NO_WISH,
                    self._memory[evse.id].grant_ma,
                    sights[evse.circuit] is Sight.BLIND,
                    now_s,
                )
            )
        return demands, self._grid.sums(away)

    def _served(self, demand: Demand) -> bool:
        """Only a running transaction takes limits; without one the stored fallback rules."""
        if demand.evse in self._sessions.running:
            return True
        memory = self._memory[demand.evse]
        memory.grant_ma, memory.bound_by = 0, demand.cap_why
        return False

    def _target(
        self,
        demand: Demand,
        target: dict[EvseId, Grant],
        ceiling: dict[EvseId, Grant],
        sights: dict[CircuitId, Sight],
    ) -> Target:
        """Lower to the ceiling at once, rise only to the target: between the two, stay."""
        memory = self._memory[demand.evse]
        low, high = target[demand.evse], ceiling[demand.evse]
        chosen = high if high.current_ma <= max(memory.grant_ma, low.current_ma) else low
        memory.grant_ma = min(max(memory.grant_ma, low.current_ma), high.current_ma)
        memory.bound_by = chosen.bound_by
        sight = sights[self.site.evses[demand.evse].circuit]
        # blind, an EVSE may still be set to its fallback: that adds nothing to what it does alone
        may_rise = sight is Sight.CLEAR or sight is Sight.BLIND
        return Target(demand.evse, memory.grant_ma, may_rise, (demand.tier, demand.rank))

    def _limits(self, writes: list[Write], entries: list[Entry], now_s: float) -> list[Command]:
        commands: list[Command] = []
        for write in writes:
            evse = self.site.evses[write.evse]
            memory = self._memory[write.evse]
            raises = write.limit_ma > memory.ceiling_ma
            if raises:
                memory.ceiling_ma = write.limit_ma
                entries.append(CeilingSaved(write.evse, write.limit_ma))
            name = self._next_id()
            session = self._sessions.running.get(write.evse)
            transaction = None if session is None else session.transaction
            self._commitments.sent(write.evse, name, write.limit_ma, now_s)
            self._orders.issued(write.evse, name, ("pause", "resume", "limit"))
            channel, lease_s = evse.link.channel, evse.link.lease_s
            commands.append(SetLimit(name, evse.id, channel, write.limit_ma, lease_s, transaction, raises))
        return commands

    def _starts_and_stops(self, now: Moment) -> list[Command]:
        commands: list[Command] = []
        for evse in self.site.evses.values():
            desk, memory = self._desks[evse.id], self._memory[evse.id]
            session = self._sessions.running.get(evse.id)
            if not self._belief.connected(evse.id):
                continue
            waited_s = now.mono_s - memory.asked_s
            if session is not None:
                reason = desk.finished(session, now.mono_s)
                if reason is not None and waited_s > STOP_RETRY_S:
                    memory.asked_s = now.mono_s
                    name = self._next_id()
                    self._orders.issued(evse.id, name, ("stop",))
                    commands.append(
                        StopCharging(name, evse.id, evse.link.channel, session.transaction, reason)
                    )
                continue
            plugged = (
                evse.autostart and self._belief.state(evse.id) is EvseState.PREPARING and not desk.paused
            )
            ordered = memory.start_token is not None and waited_s == float("inf")
            if (plugged or ordered) and waited_s > START_RETRY_S:
                memory.asked_s = now.mono_s
                name = self._next_id()
                self._orders.issued(evse.id, name, ("start",))
                fallback_ma = self._commitments.accounts[evse.id].fallback_ma or 0
                commands.append(
                    StartCharging(name, evse.id, evse.link.channel, memory.start_token, fallback_ma)
                )
        return commands

    def _review_ceilings(self, now_s: float) -> list[Entry]:
        """Lower the remembered ceilings to what is committed now, rarely and together (flash wears)."""
        if self._reviewed_s is not None and now_s - self._reviewed_s < CEILING_REVIEW_S:
            return []
        first, self._reviewed_s = self._reviewed_s is None, now_s
        saved: list[Entry] = []
        for evse, memory in self._memory.items():
            commitment = self._commitments.accounts[evse].commitment_ma(now_s)
            if not first and commitment < memory.ceiling_ma:
                memory.ceiling_ma = commitment
                saved.append(CeilingSaved(evse, commitment))
        return saved

    def _next_id(self) -> str:
        self._commands += 1
        return f"c{self._boot}-{self._commands}"

    def _evidence_at(self, now_s: float) -> Callable[[EvseId], Evidence]:
        def look(evse: EvseId) -> Evidence:
            belief, memory = self._belief.evses[evse], self._memory[evse]
            sample = belief.fresh(now_s)
            return Evidence(
                session=evse in self._sessions.running,
                suspended=belief.state is EvseState.SUSPENDED_EVSE,
                current_ma=belief.highest_ma(now_s),
                sample_s=None if sample is None else sample.taken_s,
                bound_by=memory.bound_by,
                grant_ma=memory.grant_ma,
            )

        return look

    def _picture(
        self,
        assumed: dict[CircuitId, Assumed],
        sights: dict[CircuitId, Sight],
        committed: list[int],
        now: Moment,
    ) -> Snapshot:
        return picture(
            self.site,
            self._grid,
            self._belief,
            self._commitments,
            self._sessions.running,
            self._desks,
            self._memory,
            self._plan,
            self._departures,
            assumed,
            sights,
            committed,
            self._alarms,
            self._orders,
            now,
        )
