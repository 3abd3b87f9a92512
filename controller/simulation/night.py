"""Virtual time: the core, the planner and the plant taken through the sessions, step by step.

Owns the order of things in a step: vehicles leave and come, meters and stations report, the plan is renewed when it is
due, the core decides, its commands arrive. After a change the core decides again some seconds later, as in life: what was
lowered has settled by then and others may rise. Deterministic: it reads no clock but to tell how long planning took.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from controller.core import events as ev
from controller.core.applied import Applied
from controller.core.commands import Command, SetLimit, StartDischarge, StaySaved
from controller.core.depot import Depot
from controller.core.model import Departure, EvseId, EvseState, Moment, Plan, Site, VehicleId, station_of
from controller.core.planning import PlanRequest, battery_of
from controller.plan_loop import EVERY_S, QUARTER_S, next_edge
from controller.simulation.files import Stay
from controller.simulation.knowledge import Knowledge
from controller.simulation.plant import Plant, Plug

STEP_S = 60.0
SAMPLE_S = 20.0
AGAIN_S = 10.0  # a decision after a change comes this much later, ...
AGAIN_MOST = 3  # ... this often in a step
WARM_UP_S = 60  # before the first step: links come up, meters prove themselves, what is unproven settles
FIRMWARE = "simulated"

Planning = Callable[[PlanRequest], Plan]


@dataclass(frozen=True, slots=True)
class Visit:
    """A stay and the EVSEs it may take."""

    stay: Stay
    evses: tuple[EvseId, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """One session in one step."""

    start: datetime
    plug: Plug
    stay: Stay
    current_ma: int
    kw: float
    kwh: float  # so far, at the end of the step


@dataclass(slots=True)
class Ended:
    stay: Stay
    kwh: float
    starts: int
    plugged: bool  # False: no EVSE was free before it left


@dataclass(slots=True)
class Told:
    """What came out beside the rows."""

    ended: list[Ended] = field(default_factory=list)
    plan_ms: list[float] = field(default_factory=list)
    fallbacks: list[str] = field(default_factory=list)  # why it was not the horizon that planned
    waited: int = 0  # vehicles that found their EVSE taken


@dataclass(frozen=True, slots=True)
class _Planned:
    """The newest plan: when it was made, when what it was made for changes by itself, and what it was made from."""

    at: datetime
    edge: datetime
    watched: object

    def is_due(self, now: datetime, watched: object, every_s: float) -> bool:
        quarter, before = int(now.timestamp()) // QUARTER_S, int(self.at.timestamp()) // QUARTER_S
        old = (now - self.at).total_seconds() >= every_s
        return old or quarter != before or self.edge <= now or watched != self.watched


@dataclass(slots=True)
class Night:
    """One run. `visits` by arrival; `hear` gets the rows of every step with anybody there."""

    site: Site
    plant: Plant
    knowledge: Knowledge
    planning: Planning
    visits: Sequence[Visit]
    step_s: float = STEP_S
    plan_every_s: float = EVERY_S
    told: Told = field(default_factory=Told)
    _depot: Depot = field(init=False)
    _now: datetime = field(init=False)
    _here: dict[EvseId, Plug] = field(default_factory=dict)
    _waiting: list[Visit] = field(default_factory=list)
    _shown: dict[EvseId, EvseState] = field(default_factory=dict)
    _next: int = 0
    _planned: _Planned | None = None
    _transactions: int = 0

    # --- time -------------------------------------------------------------------------------------------------------

    def run(self, hear: Callable[[datetime, list[Row]], None], look: Callable[[datetime], None]) -> Told:
        """Through all visits. `look` is told the time now and then."""
        first = self.visits[0].stay.arrival.timestamp()
        self._now = datetime.fromtimestamp(first // self.step_s * self.step_s, UTC)
        self._warm_up()
        step = timedelta(seconds=self.step_s)
        while self._next < len(self.visits) or self._here or self._waiting:
            self._leave()
            self._arrive()
            if self._here or self.plant.stores:
                rows = self._step(step)
                hear(self._now, rows)
            look(self._now)
            self._now += step
            quiet = not (self._here or self._waiting or self.plant.stores)
            if quiet and self._next < len(self.visits):
                # nobody is there: nothing to decide until the next one comes
                comes = self.visits[self._next].stay.arrival.timestamp()
                later = datetime.fromtimestamp(comes // self.step_s * self.step_s, UTC)
                self._now = max(self._now, later)
        return self.told

    def _moment(self, after_s: float = 0.0) -> Moment:
        at = self._now + timedelta(seconds=after_s)
        return Moment(at.timestamp(), at)

    def _tell(self, event: ev.Event, after_s: float = 0.0) -> Applied:
        return self._depot.apply(event, self._moment(after_s))

    def _warm_up(self) -> None:
        self._depot = Depot(self.site, "simulation")
        for station in dict.fromkeys(evse.station for evse in self.site.evses.values()):
            self._tell(ev.QualificationRestored(station, FIRMWARE, True), -WARM_UP_S)
        for plug in self.plant.plugs.values():
            evse, channel = plug.evse, plug.evse.link.channel
            self._tell(ev.LinkUp(evse.station, channel, "simulation"), -WARM_UP_S)
            self._tell(ev.StationBooted(evse.station, channel, "", "", FIRMWARE), -WARM_UP_S)
            self._tell(ev.FallbackStored(evse.id, channel, evse.fallback_ma), -WARM_UP_S)
            self._tell(ev.StatusChanged(evse.id, channel, plug.state(0.0)), -WARM_UP_S)
        for second in range(-WARM_UP_S + 1, 0):
            self._measure(second)
        self._depot.step(self._moment(-1.0))

    # --- vehicles ---------------------------------------------------------------------------------------------------

    def _leave(self) -> None:
        for evse, plug in list(self._here.items()):
            stay = plug.stay
            if stay is None or stay.departure > self._now:
                continue
            ended = ev.TransactionEnded(
                station_of(evse),
                evse,
                plug.transaction,
                "EVDisconnected",
                int(plug.register_wh),
                stay.departure,
            )
            entries = self._tell(ended).entries
            drew = next((entry for entry in entries if isinstance(entry, StaySaved)), None)
            self.told.ended.append(Ended(stay, plug.kwh, plug.starts, True))
            self.knowledge.left(evse, stay, plug.kwh, drew)
            plug.leave()
            del self._here[evse]
            self._shown.pop(evse, None)
            self._tell(ev.StatusChanged(evse, plug.evse.link.channel, plug.state(0.0)))

    def _arrive(self) -> None:
        waited = tuple(self._waiting)
        while self._next < len(self.visits) and self.visits[self._next].stay.arrival <= self._now:
            visit = self.visits[self._next]
            self._next += 1
            self.knowledge.came(visit.stay)
            self._waiting.append(visit)
        waiting, self._waiting = self._waiting, []
        for visit in waiting:
            free = next((evse for evse in visit.evses if evse not in self._here), None)
            if visit.stay.departure <= self._now:
                self.told.ended.append(Ended(visit.stay, 0.0, 0, False))
            elif free is None:
                self.told.waited += visit not in waited
                self._waiting.append(visit)
            else:
                self._plug_in(self.plant.plugs[free], visit.stay)

    def _plug_in(self, plug: Plug, stay: Stay) -> None:
        evse, channel = plug.evse.id, plug.evse.link.channel
        self._transactions += 1
        plug.plug_in(stay, f"t{self._transactions}")
        self._here[evse] = plug
        register_wh = int(plug.register_wh)
        token = self._token(stay)
        self._tell(ev.TransactionStarted(evse, channel, plug.transaction, token, register_wh, self._now))
        need_wh = round(1000 * stay.told_kwh)
        self._tell(ev.DepartureSet("simulation", Departure(evse, stay.told_departure, energy_wh=need_wh)))
        self._tell(ev.DrawTold(evse, channel, stay.phases, plug.most_ma))

    def _token(self, stay: Stay) -> str:
        """By which the vehicle is known again; a stranger is another one every time."""
        known = self.site.vehicles.get(VehicleId(stay.vehicle or ""))
        return known.tokens[0] if known is not None and known.tokens else stay.vehicle or stay.session

    # --- a step -----------------------------------------------------------------------------------------------------

    def _step(self, step: timedelta) -> list[Row]:
        before = {evse: plug.kwh for evse, plug in self._here.items()}
        self._measure(0.0)
        self.knowledge.metered(self._now, self.plant.import_wh)
        now_s = self._now.timestamp()
        for fact in self.knowledge.news(self._now):
            self._tell(fact)
        self._plan()
        passed_s, rounds = 0.0, 0
        while self._decide(passed_s) and rounds < AGAIN_MOST and passed_s + AGAIN_S < self.step_s:
            self._charge(passed_s, passed_s + AGAIN_S)
            passed_s, rounds = passed_s + AGAIN_S, rounds + 1
            self._measure(passed_s)
        self._charge(passed_s, self.step_s)
        hours = step.total_seconds() / 3600
        return [
            Row(
                self._now,
                plug,
                plug.stay,
                plug.allowed_ma(now_s + passed_s),
                (plug.kwh - before[evse]) / hours,
                plug.kwh,
            )
            for evse, plug in self._here.items()
            if plug.stay is not None
        ]

    def _measure(self, after_s: float) -> None:
        """Stations first: what the meter shows beside them is told by their newest samples."""
        now_s = self._now.timestamp() + after_s
        for evse, plug in self._here.items():
            state = plug.state(now_s)
            if state is not self._shown.get(evse):
                self._shown[evse] = state
                self._tell(ev.StatusChanged(evse, plug.evse.link.channel, state), after_s)
            self._tell(plug.sample(now_s), after_s)
        for reading in self.plant.readings(now_s, self._now):
            self._tell(reading, after_s)
        for limit in self.site.grid_limits:  # nobody outside limits a simulated site
            self._tell(ev.InputRead(limit.id, now_s, not limit.active_closed), after_s)

    def _plan(self) -> None:
        """When something relevant changed, else when it is due: as `plan_loop` does."""
        now, request = self._now, self._depot.plan_request(self._moment())
        here = tuple((p.evse, p.vehicle, p.started, p.drawn_ma == 0) for p in request.present)
        coming = tuple((e.evse, e.vehicle, e.departs) for e in request.expected)
        watched = (here, coming, request.departures, self._depot.tariff)
        if self._planned is not None and not self._planned.is_due(now, watched, self.plan_every_s):
            return
        socs = {name: store.soc_pct for name, store in self.plant.stores.items()}
        request = replace(self.knowledge.complete(request), battery=battery_of(self.site, socs))
        edge = next_edge(request, now + timedelta(seconds=self.plan_every_s))
        began = time.perf_counter()
        plan = self.planning(request)
        self.told.plan_ms.append(1000 * (time.perf_counter() - began))
        if plan.by != "horizon":
            self.told.fallbacks.append(plan.why)
        self._planned = _Planned(now, edge, watched)
        self._tell(ev.PlanReady(plan))

    def _decide(self, after_s: float) -> bool:
        """Whether a limit was changed."""
        changed = False
        decision = self._depot.step(self._moment(after_s))
        for set_point in decision.set_points:
            self.plant.stores[set_point.battery].set_point(
                set_point.power_w, set_point.lease_s, self._now.timestamp() + after_s
            )
            self._tell(ev.CommandSent(set_point.id), after_s)
            self._tell(ev.CommandAccepted(set_point.id), after_s)
        for command in decision.commands:
            changed |= self._obey(command, after_s)
        return changed

    def _obey(self, command: Command, after_s: float) -> bool:
        self._tell(ev.CommandSent(command.id), after_s)
        if isinstance(command, StartDischarge):
            self._tell(ev.CommandRefused(command.id, "no simulated vehicle feeds back"), after_s)
            return False
        changed, now_s = False, self._now.timestamp() + after_s
        if isinstance(command, SetLimit):
            plug = self.plant.plugs[command.evse]
            before_ma = plug.allowed_ma(now_s)
            plug.set_limit(command.limit_ma, now_s, command.phases)
            changed = plug.allowed_ma(now_s) != before_ma
        self._tell(ev.CommandAccepted(command.id), after_s)
        return changed

    def _charge(self, from_s: float, to_s: float) -> None:
        """Until its departure, if that comes first."""
        charged_kwh = 0.0
        for plug in self._here.values():
            assert plug.stay is not None
            left_s = (plug.stay.departure - self._now).total_seconds()
            until_s, at_s = min(to_s, left_s), from_s
            # fewer phases than the EVSE has are only believed while samples come often
            every_s = SAMPLE_S if plug.phases < len(plug.evse.phases) else self.step_s
            while at_s < until_s:
                upto_s = min(until_s, at_s + every_s)
                charged_kwh += plug.charge(self._now.timestamp() + at_s, upto_s - at_s)
                at_s = upto_s
                if at_s < until_s:
                    self._tell(plug.sample(self._now.timestamp() + at_s), at_s)
        charged_kwh += self.plant.flow(self._now.timestamp() + from_s, to_s - from_s)
        self.plant.imported(charged_kwh, to_s - from_s, self._now)
