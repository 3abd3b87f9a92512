"""Ways to control the plant: the product's core, an all-knowing allocator to compare with, and what others do.

Each sees the world as it may: the core through events alone (stations that answer late, sample seldom and drop out,
meters with lag and noise), the two simple ones through the same meter and the same delays, the all-knowing everything.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass, replace
from typing import Protocol

from controller.core import events as ev
from controller.core.allocator import Demand, allocate
from controller.core.commands import Command, SetLimit
from controller.core.grid import Grid
from controller.core.model import SITE, CircuitId, EvseId, EvseState, MeterId, PerPhase, station_of
from tests.bench.plant_world import FLOWS_A, LINK, MAIN, ROW_A, SIDE, Seat, World
from tests.laws.plant import Plant, Plug

CIRCUITS_OF: tuple[tuple[MeterId, CircuitId], ...] = ((MAIN, SITE), (SIDE, ROW_A))
SUSPENDED_S = 10  # a station says that its vehicle takes nothing after this long


class Way(Protocol):
    def moved(self, seat: Seat, came: bool) -> None: ...

    def before(self, second: int) -> dict[EvseId, float] | None:
        """What is allowed now goes to the seats; the all-knowing returns what is drawn."""
        ...

    def after(self, second: int) -> None: ...


class Ours(Plant):
    """The core as the runtime drives it: facts when they come, a step every second."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.random = world.chance("wire")
        self.due: list[tuple[float, int, str, EvseId]] = []
        self.count = 0
        super().__init__(world.site)
        self.start_s = self.now_s + 1.0
        self.every_s = {evse: self.random.randint(1, 10) for evse in world.seats}
        self.register_wh = dict.fromkeys(world.seats, 0.0)
        self.told: dict[EvseId, EvseState] = {}
        self.idle_s = dict.fromkeys(world.seats, 0)

    def _send(self, command: Command) -> None:
        super()._send(command)
        if isinstance(command, SetLimit):
            self.count += 1
            at_s = self.now_s + self.random.uniform(0.2, 1.2)
            heapq.heappush(self.due, (at_s, self.count, command.id, command.evse))

    def moved(self, seat: Seat, came: bool) -> None:
        plug = self.plugs[seat.evse.id]
        if came:
            self._status(seat, EvseState.PREPARING)
            self.begin(plug)
        else:
            self.end(plug)
            self._status(seat, EvseState.AVAILABLE)

    def before(self, second: int) -> None:
        now_s = self.start_s + second
        while self.due and self.due[0][0] <= now_s:
            at_s, _, command, evse = heapq.heappop(self.due)
            self.now_s = max(self.now_s, at_s)
            plug = self.plugs[evse]
            if plug.wire and plug.wire[0].command.id == command:
                self.deliver(plug)
        self.now_s = now_s
        for evse, plug in self.plugs.items():
            if self.world.cut_off[evse] and plug.link is self.world.is_cut_off(evse, second):
                self.link_down(plug) if plug.link else self.link_up(plug)
            self.world.seats[evse].allowed_ma = plug.allowed_ma(now_s) if plug.transaction else 0

    def after(self, second: int) -> None:
        for number, (evse, seat) in enumerate(self.world.seats.items()):
            self.register_wh[evse] += seat.drawn_a * 230 * len(seat.phases()) / 3600
            plug = self.plugs[evse]
            plug.register_wh = round(self.register_wh[evse])
            if plug.link and seat.vehicle is not None:
                self._station(seat, plug, second + number)
        if not self.world.is_silent(second):
            for meter, circuit in CIRCUITS_OF:
                unknown: PerPhase[int | None] = PerPhase(None, None, None)
                shown = self.world.metered_ma(circuit, self.random)
                self.tell(ev.MeterReading(meter, self.now_s, shown, None, unknown))
        elif second % 5 == 0:
            for meter, _ in CIRCUITS_OF:
                self.tell(ev.MeterFailed(meter, "unreachable", "no answer"))
        self.step()

    def _station(self, seat: Seat, plug: Plug, turn: int) -> None:
        """What the station tells by itself: its state on change, a sample in its interval."""
        evse = seat.evse.id
        offered = seat.allowed_ma >= seat.evse.min_ma
        self.idle_s[evse] = 0 if seat.drawn_a >= FLOWS_A else self.idle_s[evse] + 1
        if seat.drawn_a >= FLOWS_A:
            self._status(seat, EvseState.CHARGING)
        elif not offered:
            self._status(seat, EvseState.SUSPENDED_EVSE)
        elif self.idle_s[evse] >= SUSPENDED_S:
            self._status(seat, EvseState.SUSPENDED_EV)
        if turn % self.every_s[evse] == 0:
            shown = round(1e3 * (seat.drawn_a + seat.before_a) / 2 * self.random.gauss(1.0, 0.003))
            wired, used = len(seat.evse.phases), len(seat.phases())
            current = PerPhase(*(None if n >= wired else shown if n < used else 0 for n in range(3)))
            self.tell(ev.EvseSample(evse, LINK.channel, self.now_s, current, None, plug.register_wh))

    def _status(self, seat: Seat, state: EvseState) -> None:
        evse = seat.evse.id
        if self.plugs[evse].link and self.told.get(evse) is not state:
            self.told[evse] = state
            self.tell(ev.StatusChanged(evse, LINK.channel, state))

    def link_up(self, plug: Plug) -> None:
        super().link_up(plug)
        self.told.pop(plug.evse, None)
        if self.world.seats[plug.evse].vehicle is None:
            self.tell(ev.LinkUp(station_of(plug.evse), LINK.channel, "peer"))
            self._status(self.world.seats[plug.evse], EvseState.AVAILABLE)


class AllKnowing:
    """The same allocator with the truth: what the building takes now, what each vehicle would take and on which phases;
    no margin, no delay, no ramp, tenths of an ampere."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.grid = self._grid()
        self.granted: dict[EvseId, int] = {}

    def _grid(self) -> Grid:
        site = self.world.site
        evses = {
            id: replace(evse, phases=self.world.seats[id].phases() or evse.phases)
            for id, evse in site.evses.items()
        }
        return Grid.of(replace(site, evses=evses))

    def moved(self, seat: Seat, came: bool) -> None:
        self.grid = self._grid()
        self.granted.pop(seat.evse.id, None)
        seat.vehicle = seat.vehicle if seat.vehicle is None else replace(seat.vehicle, sleepy_s=None)

    def before(self, second: int) -> dict[EvseId, float]:
        world = self.world
        demands = [
            Demand(id, 6_000, min(int(seat.appetite_a() * 1e3), seat.evse.max_ma), 100, 0,
                   running=self.granted.get(id, 0) > 0)
            for id, seat in world.seats.items() if seat.vehicle is not None
        ]  # fmt: skip
        taken = {SITE: world.building[second], ROW_A: (0.0, 0.0, 0.0)}
        room = [
            limit - (math.ceil(1e3 * (taken[circuit][phase] + world.side[second])) if circuit in taken else 0)
            for (circuit, phase), limit in zip(self.grid.resources, self.grid.limits_ma, strict=True)
        ]
        self.granted = {id: grant.current_ma for id, grant in allocate(self.grid, demands, room).items()}
        return {id: current_ma / 1e3 for id, current_ma in self.granted.items()}

    def after(self, second: int) -> None:
        pass


@dataclass(frozen=True)
class _Shown:
    """The last readings of the two meters, and what the stations measured."""

    metered_ma: dict[CircuitId, PerPhase[int | None]]
    drawn_ma: dict[EvseId, int]


class Periodic:
    """Control that looks at the meters every `every_s` and then sets what it thinks fit."""

    every_s = 30

    def __init__(self, world: World) -> None:
        self.world = world
        self.random = world.chance("wire")
        self.set_ma: dict[EvseId, int] = dict.fromkeys(world.seats, 0)
        self.due: list[tuple[float, int, EvseId, int]] = []
        self.count = 0
        self.metered_ma: dict[CircuitId, PerPhase[int | None]] = {}

    def moved(self, seat: Seat, came: bool) -> None:
        self.set_ma[seat.evse.id] = seat.allowed_ma = 0

    def before(self, second: int) -> None:
        while self.due and self.due[0][0] <= second:
            _, _, evse, current_ma = heapq.heappop(self.due)
            seat = self.world.seats[evse]
            seat.allowed_ma = 0 if seat.vehicle is None else current_ma

    def after(self, second: int) -> None:
        if not self.world.is_silent(second):
            self.metered_ma = {
                circuit: self.world.metered_ma(circuit, self.random) for _, circuit in CIRCUITS_OF
            }
        if second % self.every_s == 0 and self.metered_ma:
            drawn = {id: round(1e3 * seat.before_a) for id, seat in self.world.seats.items()}
            for id, current_ma in self.decide(_Shown(self.metered_ma, drawn)).items():
                if current_ma != self.set_ma[id] and not self.world.is_cut_off(id, second):
                    self.set_ma[id] = current_ma
                    self.count += 1
                    at_s = second + self.random.uniform(0.2, 1.2)
                    heapq.heappush(self.due, (at_s, self.count, id, current_ma))

    def decide(self, shown: _Shown) -> dict[EvseId, int]:
        raise NotImplementedError

    def _present(self) -> list[Seat]:
        return [seat for seat in self.world.seats.values() if seat.vehicle is not None]

    def _loads_ma(self, shown: _Shown) -> dict[tuple[CircuitId, int], int]:
        """Per circuit and phase: its meter, or the sum of what the stations below measured."""
        loads: dict[tuple[CircuitId, int], int] = {}
        for circuit in self.world.site.circuits:
            for phase in range(3):
                metered = shown.metered_ma.get(circuit)
                loads[circuit, phase] = (metered[phase] or 0) if metered is not None else 0
        for seat in self._present():
            if seat.evse.circuit not in shown.metered_ma:
                for phase in seat.phases():
                    loads[seat.evse.circuit, phase] += shown.drawn_ma[seat.evse.id]
        return loads


class Sequential(Periodic):
    """Every 30 s one charger after the other takes the room it sees, or gives back what is too much."""

    def decide(self, shown: _Shown) -> dict[EvseId, int]:
        site, loads = self.world.site, self._loads_ma(shown)
        wanted = {}
        for seat in self._present():
            evse, old_ma = seat.evse, shown.drawn_ma[seat.evse.id]
            uses = [(circuit.id, phase) for circuit in site.path(evse.circuit) for phase in evse.phases]
            room_ma = min(
                site.circuits[circuit].limit_ma[phase] - loads[circuit, phase] for circuit, phase in uses
            )
            new_ma = min(evse.max_ma, old_ma + room_ma) // 1000 * 1000
            wanted[evse.id] = new_ma = new_ma if new_ma >= evse.min_ma else 0
            for use in uses:
                loads[use] += new_ma - old_ma
        return wanted


class EqualShare(Periodic):
    """Every 10 s what the building leaves is shared equally; who comes last waits where 6 A are not left for all."""

    every_s = 10

    def decide(self, shown: _Shown) -> dict[EvseId, int]:
        site, loads = self.world.site, self._loads_ma(shown)
        seats = self._present()
        for seat in seats:  # what is left is the load that is not ours
            for circuit in site.path(seat.evse.circuit):
                for phase in seat.phases():
                    loads[circuit.id, phase] -= shown.drawn_ma[seat.evse.id]
        wanted = dict.fromkeys(self.world.seats, 0)
        while seats:
            share_ma = 32_000
            for (circuit, phase), load in loads.items():
                users = sum(1 for seat in seats if phase in seat.evse.phases and self._below(seat, circuit))
                if users:
                    share_ma = min(share_ma, (site.circuits[circuit].limit_ma[phase] - load) // users)
            if share_ma >= 6_000:
                for seat in seats:
                    wanted[seat.evse.id] = min(seat.evse.max_ma, share_ma // 1000 * 1000)
                break
            seats = seats[:-1]
        return wanted

    def _below(self, seat: Seat, circuit: CircuitId) -> bool:
        return circuit in (SITE, seat.evse.circuit)
