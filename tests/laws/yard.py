"""A small yard in virtual time: a real Depot, stations that obey at once, vehicles that use some conductors, a building.

For laws about what flows (imbalance, kilowatts, phases in use); what lags and gets lost is the business of `plant`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from controller.core import events as ev
from controller.core.commands import SetLimit
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
)

START = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
LINK = Link("wire", lease_s=60, lease_slack_s=10, raise_gap_s=10, answer_s=12)
MAIN = MeterId("main")
SAMPLE_S = 5

Building = Callable[[int], tuple[int, int, int]]


def an_evse(
    number: int, phases: tuple[int, ...] = (0, 1, 2), circuit: CircuitId = SITE, **words: object
) -> Evse:
    name = EvseId(f"s{number}/1")
    usual = {"max_ma": 32_000, "min_ma": 6_000, "fallback_ma": 6_000, **words}
    return Evse(name, StationId(f"s{number}"), circuit, phases=phases, link=LINK, **usual)  # type: ignore[arg-type]


def a_site(evses: list[Evse], limit_ma: int = 200_000, metered: bool = True, **words: object) -> Site:
    power_w = words.pop("limit_w", None)
    root = Circuit(
        SITE, None, each_phase(limit_ma), MAIN if metered else None, each_phase(0 if metered else 10_000),
        limit_w=power_w,  # type: ignore[arg-type]
    )  # fmt: skip
    meters = {MAIN: Meter(MAIN, "sdm630", MeterRole.GRID, 1.0, 5.0)} if metered else {}
    units = {evse.id: evse for evse in evses}
    return Site("yard", "UTC", 230_000, {SITE: root}, units, meters, **words)  # type: ignore[arg-type]


@dataclass
class Vehicle:
    """conductors: what it draws at most on each of its EVSE's. wired: the grid phase of each, in truth."""

    cap_ma: tuple[int, ...]
    wired: tuple[int, ...]
    transaction: str
    limit_ma: int | None = None
    phases: int | None = None  # on how many conductors it may, None: on all

    def draws_ma(self, fallback_ma: int) -> tuple[int, ...]:
        allowed = fallback_ma if self.limit_ma is None else self.limit_ma
        draws = [min(cap, allowed) if allowed >= 6_000 else 0 for cap in self.cap_ma]
        return tuple(
            draws if self.phases is None else [*draws[: self.phases], *(0 for _ in draws[self.phases :])]
        )


def _quiet(second: int) -> tuple[int, int, int]:
    return (0, 0, 0)


@dataclass
class Yard:
    site: Site
    building: Building = _quiet
    voltage_mv: int | None = 230_000
    second: int = 0
    vehicles: dict[EvseId, Vehicle] = field(default_factory=dict)
    silent: set[EvseId] = field(default_factory=set)  # they send no samples
    ignores_phases: set[EvseId] = field(default_factory=set)  # they charge on all their conductors
    decision: Decision | None = None

    def __post_init__(self) -> None:
        self.depot = Depot(self.site, "1")
        for evse in self.site.evses.values():
            self.tell(ev.LinkUp(evse.station, "wire", "peer"))
            self.tell(ev.FallbackStored(evse.id, "wire", evse.fallback_ma))
            self.tell(ev.StatusChanged(evse.id, "wire", EvseState.AVAILABLE))

    @property
    def now(self) -> Moment:
        return Moment(1000.0 + self.second, START + timedelta(seconds=self.second))

    def tell(self, fact: ev.Event) -> None:
        self.depot.apply(fact, self.now)

    def plug(self, number: int, *cap_ma: int, wired: tuple[int, ...] | None = None) -> EvseId:
        """A vehicle begins; amps per conductor, all 32 A where none are named."""
        evse = self.site.evses[EvseId(f"s{number}/1")]
        caps = cap_ma or (32_000,) * len(evse.phases)
        vehicle = Vehicle(caps, wired or evse.phases, f"t{number}-{self.second}")
        self.vehicles[evse.id] = vehicle
        self.tell(ev.StatusChanged(evse.id, "wire", EvseState.CHARGING))
        self.tell(ev.TransactionStarted(evse.id, "wire", vehicle.transaction, None, 0, self.now.utc))
        return evse.id

    def unplug(self, number: int) -> None:
        evse = EvseId(f"s{number}/1")
        vehicle, station = self.vehicles.pop(evse), self.site.evses[evse].station
        self.tell(ev.TransactionEnded(station, evse, vehicle.transaction, "EVDisconnected", 0, self.now.utc))
        self.tell(ev.StatusChanged(evse, "wire", EvseState.AVAILABLE))

    def flows_ma(self) -> PerPhase[int]:
        """The truth at the grid connection."""
        total = list(self.building(self.second))
        for evse, vehicle in self.vehicles.items():
            draws = vehicle.draws_ma(self.site.evses[evse].fallback_ma)
            for phase, current in zip(vehicle.wired, draws, strict=False):
                total[phase] += current
        return PerPhase(*total)

    def run(self, seconds: int) -> Iterator[PerPhase[int]]:
        """What flowed in each second."""
        for _ in range(seconds):
            self.second += 1
            flows, now_s = self.flows_ma(), self.now.mono_s
            if MAIN in self.site.meters:
                volts = each_phase(self.voltage_mv)
                self.tell(ev.MeterReading(MAIN, now_s, PerPhase(*flows), None, volts))
            if self.second % SAMPLE_S == 0:
                self._samples()
            self.decision = self.depot.step(self.now)
            for command in self.decision.commands:
                if isinstance(command, SetLimit):
                    self._obeys(command)
                    self.tell(ev.CommandAccepted(command.id))
            yield flows

    def _obeys(self, command: SetLimit) -> None:
        vehicle = self.vehicles[command.evse]
        vehicle.limit_ma = command.limit_ma
        if command.evse not in self.ignores_phases:
            vehicle.phases = command.phases

    def _samples(self) -> None:
        for evse, vehicle in self.vehicles.items():
            if evse in self.silent:
                continue
            draws: list[int | None] = list(vehicle.draws_ma(self.site.evses[evse].fallback_ma))
            draws += [None] * (3 - len(draws))
            self.tell(ev.EvseSample(evse, "wire", self.now.mono_s, PerPhase(*draws)))

    def grants_ma(self) -> dict[EvseId, int | None]:
        assert self.decision is not None
        return {view.id: view.grant_ma for view in self.decision.snapshot.evses}

    def bound_by(self, evse: EvseId) -> str:
        assert self.decision is not None
        return next(view.bound_by for view in self.decision.snapshot.evses if view.id == evse)
