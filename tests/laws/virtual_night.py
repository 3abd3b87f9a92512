"""One random night on a random site: vehicles come and go, the building moves, and everything that can break does.

Owns the physics of a second (what vehicles draw, what meters show of it) and the mishaps of one seed. Says nothing of
what is right: that is `virtual_oracle`, which looks at this truth and never at the controller's view. Deterministic per seed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from random import Random

from drawn_sites import ROTATIONS
from plant import OnWire, Plant, Plug

from controller.core import events as ev
from controller.core.applied import Applied
from controller.core.commands import Command, Entry, FlexSaved, OrderedSaved, StopCharging
from controller.core.decide import Decision
from controller.core.model import (
    SITE,
    Circuit,
    CircuitId,
    Evse,
    EvseId,
    FlexAction,
    Link,
    Meter,
    MeterId,
    MeterRole,
    Moment,
    Ordered,
    PerPhase,
    Site,
    StationId,
    each_phase,
    evse_id,
)

OCPP = Link("wire", lease_s=60, lease_slack_s=10, raise_gap_s=10, answer_s=12)
PLATFORM = Link(
    "wire",
    lease_s=90,
    lease_slack_s=40,
    raise_gap_s=10,
    answer_s=20,
    lease_ends_with_transaction=False,
    settle_s=10,
)
NO_CURRENT: PerPhase[int | None] = PerPhase(None, None, None)
STUCK_AFTER_S = 60.0  # the bus calls a meter that repeats itself for so long stuck
SETTLED_S = 30
BUSY_S, QUIET_S = 180, 125  # mishaps, and the time after the last of them has healed


def draw_site(chance: Random) -> Site:
    """A tree that `depot check` would let pass: fallbacks and the assumed load fit everywhere."""
    names = [SITE, *(CircuitId(f"c{n}") for n in range(chance.randint(0, 3)))]
    parents = {name: chance.choice(names[: at + 1]) for at, name in enumerate(names[1:])}
    evses: dict[EvseId, Evse] = {}
    for number in range(chance.randint(2, 6)):
        link = chance.choice([OCPP, PLATFORM])
        if chance.random() < 0.2:
            link = replace(link, needs_proof=True)
        evse = evse_id(f"s{number}", 1)
        most_ma, fallback_ma = chance.choice([16_000, 32_000]), chance.choice([0, 6_000, 6_000, 8_000])
        evses[evse] = Evse(
            evse, StationId(f"s{number}"), chance.choice(names), most_ma, 6_000, chance.choice(ROTATIONS), fallback_ma, link,
            step_ma=chance.choice([100, 1_000]),
        )  # fmt: skip
    assumed = {name: chance.randrange(0, 16) * 1000 for name in names}
    for name in reversed(names[1:]):
        assumed[parents[name]] += assumed[name]
    bare = Site("night", "UTC", 230_000, {n: Circuit(n, parents.get(n), each_phase(0)) for n in names}, evses)
    circuits, meters = {}, {}
    for name in names:
        meter = MeterId(f"m-{name}") if chance.random() < (0.75 if name == SITE else 0.3) else None
        if meter is not None:
            role = MeterRole.GRID if name == SITE else MeterRole.CIRCUIT
            meters[meter] = Meter(meter, "sdm630", role, 1.0, 5.0)
        alone = [0, 0, 0]
        for unit in evses.values():
            if any(node.id == name for node in bare.path(unit.circuit)):
                for phase in unit.phases:
                    alone[phase] += unit.fallback_ma
        limit_ma = (max(alone) + assumed[name]) * 104 // 100 + chance.choice(
            [chance.randrange(2, 16), chance.randrange(2, 60)]
        ) * 1000
        circuits[name] = Circuit(
            name, parents.get(name), each_phase(limit_ma), meter, each_phase(assumed[name])
        )
    return replace(bare, circuits=circuits, meters=meters)


class LastingPlug(Plug):
    """Its limit belongs to the connector and not to the transaction (`Link.lease_ends_with_transaction`)."""

    def allowed_ma(self, now_s: float) -> int:
        if self.limit_ma is not None and now_s < self.limit_ends_s:
            return self.limit_ma
        return self.alone_ma()

    def worst_ma(self, now_s: float) -> int:
        worst = max(self.alone_ma(), self.allowed_ma(now_s))
        if now_s < self.following_until_s:
            worst = max(worst, self.following_ma)
        for flying in (*self.wire, *self.stray):
            worst = max(worst, flying.command.limit_ma if now_s < flying.ends_s else 0)
        return min(worst, self.max_ma)


@dataclass
class Car:
    """The vehicle at one EVSE. follows_s: how long it takes to come down. phases: those it really uses."""

    most_ma: int
    phases: tuple[int, ...]
    follows_s: float
    drawn_ma: int = 0
    high_until_s: float = 0.0
    target_ma: int = 0

    def follow(self, allowed_ma: int, now_s: float) -> None:
        target_ma = min(allowed_ma, self.most_ma)
        if target_ma < self.drawn_ma and target_ma != self.target_ma and now_s >= self.high_until_s:
            self.high_until_s = now_s + self.follows_s
        self.target_ma = target_ma
        if target_ma >= self.drawn_ma or now_s >= self.high_until_s:
            self.drawn_ma = target_ma


@dataclass
class Wire:
    """How one station's channel and samples behave now, and when they last misbehaved."""

    delay_s: float = 0.0
    fate: str = ""  # "", "lost", "unheard", "refused", "half-open"
    silent: bool = False
    disobeys: bool = False
    over_ma: int = 0
    every_s: int = 5
    ill_s: float = float("-inf")  # of the link
    greedy_s: float = float("-inf")  # of what it draws


@dataclass
class Eye:
    """How one meter behaves now, and when it last misbehaved. shows_ma: frozen at that."""

    silent: bool = False
    nonsense: bool = False
    shows_ma: PerPhase[int] | None = None
    frozen_s: float = 0.0
    spike_ma: int = 0
    ill_s: float = float("-inf")


@dataclass(order=True)
class Mishap:
    """Something that begins and heals. `told` is what a failing seed prints."""

    at: int
    told: str
    happen: Callable[[], None] = field(compare=False)


class Night(Plant):
    """`second` counts from the start. `orders` and `flex`: what the ledger holds of them."""

    def __init__(self, seed: int) -> None:
        self.chance = chance = Random(seed)
        self.trusted = True
        self.down_until_s: float | None = None
        self.orders: dict[EvseId, Ordered] = {}
        self.flex: tuple[FlexAction, ...] = ()
        site = draw_site(chance)
        super().__init__(site)
        for evse in site.evses.values():
            if not evse.link.lease_ends_with_transaction:
                old = self.plugs[evse.id]
                self.plugs[evse.id] = LastingPlug(old.evse, old.max_ma, old.fallback_ma, wire=old.wire)
        self.second = 0
        self.wires = {
            evse: Wire(chance.choice([0.0, 0.0, 1.0, 2.0]), every_s=chance.choice([2, 5, 10]))
            for evse in site.evses
        }
        self.eyes = {meter: Eye() for meter in site.meters}
        self.cars: dict[EvseId, Car] = {}
        self.own_ma = {
            circuit: [chance.randint(0, most) for most in self._own_most_ma(circuit)]
            for circuit in site.circuits
        }
        self.mishaps: list[Mishap] = []  # to come, soonest first

    @property
    def now(self) -> Moment:
        return super().now._replace(utc_trusted=self.trusted)

    # --- the building ----------------------------------------------------------------------------------------------

    def _own_most_ma(self, circuit: CircuitId) -> list[int]:
        """What of its assumed load is its own and not that of the circuits below it."""
        assumed = self.site.circuits[circuit].assumed_load_ma
        assert assumed is not None
        below = [
            c.assumed_load_ma
            for c in self.site.circuits.values()
            if c.parent == circuit and c.assumed_load_ma
        ]
        return [assumed[phase] - sum(load[phase] for load in below) for phase in range(3)]

    def building_ma(self, circuit: CircuitId) -> list[int]:
        total = [0, 0, 0]
        for name, own in self.own_ma.items():
            if any(node.id == circuit for node in self.site.path(name)):
                total = [one + other for one, other in zip(total, own, strict=True)]
        return total

    def building_moves(self, to: float | None = None) -> None:
        """Somewhere, on one phase or all of them. `to`: the share of the worst it takes from now on."""
        circuit = self.chance.choice(list(self.own_ma))
        most, phases = self._own_most_ma(circuit), self.chance.choice([(0,), (1,), (2,), (0, 1, 2)])
        for phase in phases:
            self.own_ma[circuit][phase] = int(most[phase] * (self.chance.random() if to is None else to))

    # --- one second ---------------------------------------------------------------------------------------------------

    def live(self) -> None:
        """Everything of one second but the decision."""
        self.second += 1
        self.now_s += 1.0
        if self.down_until_s is not None and self.now_s >= self.down_until_s:
            self._comes_back()
        while self.mishaps and self.mishaps[0].at <= self.second:
            self.mishaps.pop(0).happen()
        if self.second % 20 == 0:
            self.building_moves()
        if self.chance.random() < 0.02 and self.second < BUSY_S + QUIET_S - SETTLED_S:
            self.car_comes_or_goes(self.chance.choice(list(self.plugs)))
        for evse, plug in self.plugs.items():
            self._drive(evse, plug)
        if self.down_until_s is None:
            for circuit in self.site.circuits.values():
                if circuit.meter is not None:
                    self._read(circuit.meter, self.load_ma(circuit.id))
            for number, evse in enumerate(self.plugs):
                if (self.second + number) % self.wires[evse].every_s == 0:
                    self._sample(evse)

    def decide(self) -> Decision | None:
        """The step, and what becomes of the limits on their way."""
        if self.down_until_s is not None:
            return None
        decision = self.step()
        for evse, plug in self.plugs.items():
            self._carry(self.wires[evse], plug)
        return decision

    def _drive(self, evse: EvseId, plug: Plug) -> None:
        car, wire = self.cars.get(evse), self.wires[evse]
        if car is None:
            return
        if wire.disobeys:
            car.drawn_ma = car.target_ma = min(plug.max_ma, car.most_ma)
            return
        # a station may end a lease that much before it surely has; then its vehicle has followed when it surely has
        allowed = plug.alone_ma() if self.now_s + 5.0 >= plug.limit_ends_s else plug.allowed_ma(self.now_s)
        car.follow(allowed if plug.transaction is not None else 0, self.now_s)

    def drawn_ma(self, evse: EvseId) -> PerPhase[int]:
        car, wire = self.cars.get(evse), self.wires[evse]
        drawn = 0 if car is None or not car.drawn_ma else car.drawn_ma + wire.over_ma
        return PerPhase(*(drawn if car is not None and phase in car.phases else 0 for phase in range(3)))

    def load_ma(self, circuit: CircuitId) -> list[int]:
        total = self.building_ma(circuit)
        for evse in self.site.evses.values():
            if any(node.id == circuit for node in self.site.path(evse.circuit)):
                total = [one + other for one, other in zip(total, self.drawn_ma(evse.id), strict=True)]
        return total

    def _read(self, meter: MeterId, load_ma: list[int]) -> None:
        eye = self.eyes[meter]
        if eye.silent or eye.nonsense:
            kind = "nonsense" if eye.nonsense else "unreachable"
            self.tell(ev.MeterFailed(meter, kind, "no answer"))
        elif eye.shows_ma is not None and self.now_s - eye.frozen_s > STUCK_AFTER_S:
            self.tell(ev.MeterFailed(meter, "stuck", "the same for a minute"))
        else:
            shown = eye.shows_ma or PerPhase(*(one + eye.spike_ma for one in load_ma))
            eye.spike_ma = 0
            reading: PerPhase[int | None] = PerPhase(*shown)
            self.tell(ev.MeterReading(meter, self.now_s, reading, None, NO_CURRENT))

    def _sample(self, evse: EvseId) -> None:
        plug, wire = self.plugs[evse], self.wires[evse]
        if plug.link and not wire.silent and wire.fate != "half-open" and plug.transaction is not None:
            drawn, phases = self.drawn_ma(evse), self.site.evses[evse].phases
            conductors = [drawn[phase] for phase in phases] + [None] * (3 - len(phases))
            self.tell(ev.EvseSample(evse, "wire", self.now_s, PerPhase(*conductors)))

    def _carry(self, wire: Wire, plug: Plug) -> None:
        """What is old enough arrives, or does not."""
        link = self.site.evses[plug.evse].link
        while plug.wire and plug.link:
            sent_s = plug.wire[0].ends_s - link.lease_s - link.lease_slack_s
            patience_s = link.answer_s if wire.fate in ("lost", "half-open") else wire.delay_s
            if self.now_s < sent_s + patience_s:
                return
            if wire.fate == "half-open" and self.chance.random() < 0.5:
                self.deliver(plug, heard=False)
            elif wire.fate in ("lost", "half-open"):
                self.lose(plug)
            elif wire.fate == "refused":
                self.refuse(plug)
            else:
                self.deliver(plug, heard=wire.fate != "unheard")

    # --- what stations of both families do ------------------------------------------------------------------------------

    def car_comes_or_goes(self, evse: EvseId) -> None:
        plug = self.plugs[evse]
        if plug.transaction is None:
            phases = self.site.evses[evse].phases
            used = phases if self.chance.random() < 0.7 else phases[:1]
            most = self.chance.choice([6_000, 10_000, 16_000, 32_000])
            self.cars[evse] = Car(min(most, plug.max_ma), used, self.chance.uniform(0.0, 5.0))
            self.begin(plug)
        else:
            self.end(plug)
            del self.cars[evse]

    def end(self, plug: Plug) -> None:
        limit_ma = plug.limit_ma
        super().end(plug)
        if isinstance(plug, LastingPlug):
            plug.limit_ma = limit_ma

    def _arrive(self, plug: Plug, flying: OnWire) -> bool:
        if isinstance(plug, LastingPlug):
            self._comes_down(plug)
            plug.limit_ma, plug.limit_ends_s = flying.command.limit_ma, flying.ends_s
            return True
        return super()._arrive(plug, flying)

    def _send(self, command: Command) -> None:
        if isinstance(command, StopCharging):
            self.tell(ev.CommandAccepted(command.id))
            later = Mishap(self.second + 1, "stops", partial(self._stops, command.evse))
            self.mishaps = sorted([*self.mishaps, later])
        else:
            super()._send(command)

    # --- ours --------------------------------------------------------------------------------------------------------------

    def tell(self, fact: ev.Event) -> Applied:
        assert self.down_until_s is None, "nobody is there to hear it"
        return super().tell(fact)

    def _keep(self, entries: Iterable[Entry]) -> None:
        entries = list(entries)
        super()._keep(entries)
        for entry in entries:
            if isinstance(entry, OrderedSaved):
                self.orders[entry.evse] = entry.ordered
            elif isinstance(entry, FlexSaved):
                self.flex = entry.actions

    def dies(self, seconds: float) -> None:
        """Our process is gone for so long; what stations and meters say meanwhile nobody hears."""
        self.down_until_s = self.now_s + seconds
        for plug in self.plugs.values():
            plug.stray += plug.wire
            plug.wire, plug.link = [], False
            self.wires[plug.evse].ill_s = self.now_s

    def _comes_back(self) -> None:
        self.down_until_s = None
        self.restart()
        for evse, ordered in self.orders.items():
            self.tell(ev.OrderedRestored(evse, ordered))
        self.tell(ev.FlexRestored(self.flex))
        for number, (evse, plug) in enumerate(self.plugs.items()):
            self.wires[evse].ill_s = self.now_s
            later = Mishap(self.second + 1 + 3 * number, "reconnects", partial(self._reconnects, plug))
            self.mishaps = sorted([*self.mishaps, later])

    def _stops(self, evse: EvseId) -> None:
        if self.plugs[evse].transaction is not None:
            self.car_comes_or_goes(evse)

    def _reconnects(self, plug: Plug) -> None:
        if self.down_until_s is None:
            self.link_up(plug)
