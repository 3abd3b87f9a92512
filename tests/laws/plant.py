"""Stations as they really are, for the commitments law: they lag, lose, refuse, forget and come back.

Knows the physical truth of every EVSE (its live lease, its stored fallback, what is still on the wire) and drives a
real Depot in virtual time through `apply` and `step`, as the runtime does. The law compares the book with this truth.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from controller.core import events as ev
from controller.core.applied import Applied
from controller.core.commands import (
    CeilingSaved,
    Command,
    Entry,
    FallbackSaved,
    LeasesOutlast,
    SessionSaved,
    SetLimit,
    StartCharging,
    StartDischarge,
    StopCharging,
)
from controller.core.decide import Decision
from controller.core.depot import Depot
from controller.core.model import (
    SITE,
    Circuit,
    CircuitId,
    Evse,
    EvseId,
    EvseState,
    Link,
    Meter,
    MeterId,
    MeterRole,
    Moment,
    PerPhase,
    Site,
    StationId,
    each_phase,
    station_of,
)

START = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
FOLLOW_S = 5.0  # a vehicle may take this long to come down (IEC 61851-1)
LINK = Link("wire", lease_s=60, lease_slack_s=10, raise_gap_s=10, answer_s=12)
MAIN = MeterId("main")
BOARD = CircuitId("board")
BUILDING_MA = 10_000
FALLBACK_MA = 6_000


def depot_site(metered: bool, limit_ma: int = 60_000) -> Site:
    """Four stations of 32 A: a board of 40 A with two on L1 and one on all phases, and one at the root."""
    seats = ((BOARD, (0,)), (BOARD, (1, 2, 0)), (BOARD, (0,)), (SITE, (2, 0, 1)))
    circuits = {
        SITE: Circuit(SITE, None, each_phase(limit_ma), MAIN if metered else None, each_phase(BUILDING_MA)),
        BOARD: Circuit(BOARD, SITE, each_phase(40_000)),
    }
    evses = {}
    for number, (circuit, phases) in enumerate(seats):
        name = EvseId(f"s{number}/1")
        evses[name] = Evse(name, StationId(f"s{number}"), circuit, 32_000, 6_000, phases, FALLBACK_MA, LINK)
    meters = {MAIN: Meter(MAIN, "sdm630", MeterRole.GRID, 1.0, 5.0)} if metered else {}
    return Site("law", "UTC", 230_000, circuits, evses, meters)


def loads(site: Site, current_ma: dict[EvseId, int]) -> dict[tuple[CircuitId, int], int]:
    """Per circuit and phase the sum over the EVSEs below it, walked from the meaning of the words."""
    total = {(circuit, phase): 0 for circuit in site.circuits for phase in range(3)}
    for evse, current in current_ma.items():
        for circuit in site.path(site.evses[evse].circuit):
            for phase in site.evses[evse].phases:
                total[circuit.id, phase] += current
    return total


@dataclass(frozen=True)
class OnWire:
    """A limit that left the box. `ends_s`: when the station would drop it, whenever it arrives."""

    command: SetLimit
    ends_s: float


@dataclass
class Plug:
    """The truth about one EVSE."""

    evse: EvseId
    max_ma: int
    fallback_ma: int | None
    transaction: str | None = None
    limit_ma: int | None = None
    limit_ends_s: float = 0.0
    link: bool = True
    wire: list[OnWire] = field(default_factory=list)  # not yet answered, oldest first
    stray: list[OnWire] = field(default_factory=list)  # answered as lost, may still arrive
    late_reports: list[ev.Event] = field(default_factory=list)  # happened while the link was down
    following_ma: int = 0  # a vehicle on its way down still draws this
    following_until_s: float = 0.0
    register_wh: int = 0
    clockless: bool = False  # what it is told from now on ends by a clock that nobody knows: perhaps never
    stays_ma: int = 0  # what its driver has told of that

    def alone_ma(self) -> int:
        return self.max_ma if self.fallback_ma is None else self.fallback_ma

    def allowed_ma(self, now_s: float) -> int:
        """What the station allows its vehicle at this instant."""
        if self.limit_ma is not None and self.transaction is not None and now_s < self.limit_ends_s:
            return self.limit_ma
        return self.alone_ma()

    def worst_ma(self, now_s: float) -> int:
        """The most it may draw from now on without hearing from us again."""
        worst = max(self.alone_ma(), self.allowed_ma(now_s))
        if now_s < self.following_until_s:
            worst = max(worst, self.following_ma)
        for flying in (*self.wire, *self.stray):
            alive = flying.command.transaction == self.transaction and now_s < flying.ends_s
            worst = max(worst, flying.command.limit_ma if alive else 0)
        return min(worst, self.max_ma)


class Plant:
    """A site, its depot and its stations. `now_s` is the only clock."""

    def __init__(self, site: Site, stored: bool = True) -> None:
        self.site = site
        self.now_s = 1000.0
        self.set_s = 0.0  # our wall clock, all in all
        self.boot = 1
        self.depot = Depot(site, "1")
        self.plugs = {
            evse.id: Plug(evse.id, evse.max_ma, evse.fallback_ma if stored else None)
            for evse in site.evses.values()
        }
        self.decision: Decision | None = None
        self.ceilings: dict[EvseId, int] = {}
        self.outlast: datetime | None = None
        self.sessions: dict[str, SessionSaved] = {}
        self.fallbacks: dict[EvseId, int | None] = {}
        self._numbers = itertools.count(1)
        for plug in self.plugs.values():
            self._hello(plug)
        self.now_s += 60.0  # whatever unproven fallback there was has settled
        self.step()

    # --- time and facts -------------------------------------------------------------------------------------------

    @property
    def now(self) -> Moment:
        return Moment(self.now_s, START + timedelta(seconds=self.now_s + self.set_s))

    def tell(self, fact: ev.Event) -> Applied:
        applied = self.depot.apply(fact, self.now)
        self._keep(applied.entries)
        return applied

    def step(self) -> Decision:
        self.decision = self.depot.step(self.now)
        self._keep(self.decision.entries)
        for command in self.decision.commands:
            self._send(command)
        return self.decision

    def _keep(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            match entry:
                case CeilingSaved():
                    self.ceilings[entry.evse] = entry.limit_ma
                case LeasesOutlast():
                    self.outlast = entry.until
                case FallbackSaved():
                    self.fallbacks[entry.evse] = entry.limit_ma
                case SessionSaved():
                    self.sessions[entry.id] = entry
                case _:
                    pass

    def _send(self, command: Command) -> None:
        plug = self.plugs[command.evse]
        match command:
            case SetLimit():
                # a raise must be in the ledger before it leaves
                assert not command.raises or self.ceilings[command.evse] >= command.limit_ma
                link = self.site.evses[command.evse].link
                ends_s = self.now_s + command.lease_s + link.lease_slack_s
                if plug.clockless:
                    ends_s = math.inf
                    self._stays(plug, max(plug.stays_ma, command.limit_ma))
                plug.wire.append(OnWire(command, ends_s))
                self.tell(ev.CommandSent(command.id))
            case StartCharging() | StopCharging() | StartDischarge():
                self.tell(ev.CommandRefused(command.id, "not here"))

    # --- what stations do ------------------------------------------------------------------------------------------

    def _hello(self, plug: Plug) -> None:
        station = station_of(plug.evse)
        self.tell(ev.LinkUp(station, "wire", "peer"))
        self.tell(ev.StatusChanged(plug.evse, "wire", EvseState.CHARGING))
        if plug.fallback_ma is not None:
            self.tell(ev.FallbackStored(plug.evse, "wire", plug.fallback_ma))

    def store_fallback(self, plug: Plug) -> None:
        """The station stores it, and says so."""
        if plug.link:
            self._comes_down(plug)
            plug.fallback_ma = self.site.evses[plug.evse].fallback_ma
            self.tell(ev.FallbackStored(plug.evse, "wire", plug.fallback_ma))

    def _stays(self, plug: Plug, limit_ma: int) -> None:
        """The driver counts a limit that may not end as what the station does alone."""
        plug.stays_ma = limit_ma if limit_ma > FALLBACK_MA else 0
        if plug.fallback_ma is not None:
            self.tell(ev.FallbackStored(plug.evse, "wire", max(plug.fallback_ma, plug.stays_ma)))

    def begin(self, plug: Plug) -> None:
        if plug.transaction is None:
            plug.transaction = f"t{next(self._numbers)}"
            fact = ev.TransactionStarted(
                plug.evse, "wire", plug.transaction, None, plug.register_wh, self.now.utc
            )
            self._say(plug, fact, replace(fact, offline=True))

    def end(self, plug: Plug) -> None:
        """The lease dies with its transaction (Link.lease_ends_with_transaction)."""
        if plug.transaction is not None:
            self._comes_down(plug)
            fact = ev.TransactionEnded(
                station_of(plug.evse),
                plug.evse,
                plug.transaction,
                "EVDisconnected",
                plug.register_wh,
                self.now.utc,
            )
            plug.transaction = plug.limit_ma = None
            self._say(plug, fact, replace(fact, offline=True))
            if plug.link and plug.stays_ma:
                self._stays(plug, 0)

    def _say(self, plug: Plug, fact: ev.Event, later: ev.Event) -> None:
        if plug.link:
            self.tell(fact)
        else:
            plug.late_reports.append(later)

    def _comes_down(self, plug: Plug) -> None:
        """Whatever happens next, the vehicle may draw for a moment what it was allowed until now."""
        allowed = plug.allowed_ma(self.now_s)
        if self.now_s >= plug.following_until_s or allowed >= plug.following_ma:
            plug.following_ma, plug.following_until_s = allowed, self.now_s + FOLLOW_S

    def _arrive(self, plug: Plug, flying: OnWire) -> bool:
        """The station reads a limit. It takes none of a transaction that is not running."""
        if flying.command.transaction != plug.transaction or plug.transaction is None:
            return False
        self._comes_down(plug)
        plug.limit_ma, plug.limit_ends_s = flying.command.limit_ma, flying.ends_s
        return True

    # --- what becomes of the oldest limit on the wire (a wire keeps order) --------------------------------------------

    def deliver(self, plug: Plug, heard: bool = True) -> None:
        """It arrives and is carried out. Not `heard`: the answer is lost on the way back."""
        if plug.wire and plug.link:
            plug.stray.clear()
            flying = plug.wire.pop(0)
            taken = self._arrive(plug, flying)
            name = flying.command.id
            if not heard:
                self.tell(ev.CommandLost(name, "no answer"))
            elif taken:
                self.tell(ev.CommandAccepted(name))
                if plug.stays_ma:
                    self._stays(plug, 0 if flying.ends_s < math.inf else flying.command.limit_ma)
            else:
                self.tell(ev.CommandRefused(name, "no such transaction"))

    def refuse(self, plug: Plug) -> None:
        if plug.wire and plug.link:
            plug.stray.clear()
            self.tell(ev.CommandRefused(plug.wire.pop(0).command.id, "busy"))

    def lose(self, plug: Plug) -> None:
        """No answer in time; it may still arrive, as long as nothing later has."""
        if plug.wire:
            flying = plug.wire.pop(0)
            plug.stray.append(flying)
            self.tell(ev.CommandLost(flying.command.id, "no answer"))

    def stray_arrives(self, plug: Plug) -> None:
        if plug.stray and not plug.wire:
            self._arrive(plug, plug.stray.pop(0))

    # --- links, reboots, restarts ---------------------------------------------------------------------------------------

    def link_down(self, plug: Plug) -> None:
        if plug.link:
            while plug.wire:
                self.lose(plug)
            plug.link = False
            self.tell(ev.LinkDown(station_of(plug.evse), "wire", "closed"))

    def link_up(self, plug: Plug) -> None:
        """What was on the old connection is gone; what happened meanwhile is told in order."""
        if not plug.link:
            plug.link = True
            plug.stray.clear()
            self.tell(ev.LinkUp(station_of(plug.evse), "wire", "peer"))
            self.tell(ev.StatusChanged(plug.evse, "wire", EvseState.CHARGING))
            reports, plug.late_reports = plug.late_reports, []
            for fact in reports:
                self.tell(fact)
                if isinstance(fact, ev.TransactionEnded) and plug.stays_ma:
                    self._stays(plug, 0)

    def reboot(self, plug: Plug, keeps_lease: bool) -> None:
        self.link_down(plug)
        self._comes_down(plug)
        plug.stray.clear()
        if not keeps_lease:
            plug.limit_ma = None
        self.link_up(plug)
        self.tell(ev.StationBooted(station_of(plug.evse), "wire", "V", "M", "1"))

    def restart(self) -> None:
        """Our own process dies and comes back with what the ledger holds. Answers on their way find nobody."""
        self.boot += 1
        self.depot = Depot(self.site, str(self.boot))
        for evse, limit_ma in self.fallbacks.items():
            if limit_ma is not None:
                self.depot.apply(ev.FallbackStored(evse, "ledger", limit_ma), self.now)
        for evse, ceiling_ma in self.ceilings.items():
            self.depot.apply(ev.CeilingRestored(evse, ceiling_ma, self.outlast), self.now)
        for saved in self.sessions.values():
            if saved.ended is None:
                self.depot.apply(_restored(saved), self.now)
        for plug in self.plugs.values():
            plug.stray += plug.wire
            plug.wire, plug.link = [], False

    def clock_back(self, by_s: float) -> None:
        """Ours, and with it that of every station: what was to end at a time of day ends so much later."""
        for plug in self.plugs.values():
            if plug.limit_ends_s > self.now_s:
                plug.limit_ends_s += by_s
            for flying in (plug.wire, plug.stray):
                flying[:] = [
                    replace(each, ends_s=each.ends_s + by_s) for each in flying if each.ends_s > self.now_s
                ]
        self.set_s -= by_s
        self.tell(ev.ClockJudged("", "", -by_s))

    # --- meters ------------------------------------------------------------------------------------------------------------

    def measure(self, meter: MeterId, background_ma: PerPhase[int]) -> None:
        """One reading of a meter at the root: the building and what every vehicle takes (all they may)."""
        total = list(background_ma)
        for plug in self.plugs.values():
            if plug.transaction is not None:
                for phase in self.site.evses[plug.evse].phases:
                    total[phase] += plug.allowed_ma(self.now_s)
        unknown: PerPhase[int | None] = PerPhase(None, None, None)
        self.tell(ev.MeterReading(meter, self.now_s, PerPhase(*total), None, unknown))


def _restored(saved: SessionSaved) -> ev.SessionRestored:
    return ev.SessionRestored(
        saved.id,
        saved.evse,
        saved.transaction,
        saved.token,
        saved.started,
        saved.register_start_wh,
        saved.register_wh,
        saved.energy_wh,
        marks=saved.marks,
    )
