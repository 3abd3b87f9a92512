"""The physical truth of a simulated site: circuits, EVSEs, the building, and a monitor of what really flowed.

Owns the currents nobody may argue with: tests and the demo judge the controller by this, never by the
controller's own view. Must not know any protocol; meters and chargers read from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from controller.ports import Clock
from drivers.sim.building import Building
from drivers.sim.evse import NOTHING, Amps, SimEvse

ROOT = "site"
STEP_S = 0.1  # fine enough for a contactor, coarse enough for 50 EVSEs at 50 times real time
MOST_STEPS = 50  # when the process was held up, catch up with at most this many (longer) steps at once
DUST_A = 1e-6  # sums of floats: less than this above a limit is not above it


@dataclass(frozen=True, slots=True)
class SimCircuit:
    """`limit_a`: what the fuse stands, one number for all phases or one for each."""

    parent: str | None
    limit_a: float | Amps

    @property
    def limits_a(self) -> Amps:
        if isinstance(self.limit_a, tuple):
            return self.limit_a
        return (self.limit_a, self.limit_a, self.limit_a)


@dataclass(slots=True)
class Watch:
    """What one phase of one circuit went through. `run_s` is how long it has been above its limit now."""

    limit_a: float
    highest_a: float = 0.0
    highest_overload_a: float = 0.0
    run_s: float = 0.0
    longest_overload_s: float = 0.0
    overload_as: float = 0.0

    def observe(self, amps: float, dt_s: float) -> None:
        self.highest_a = max(self.highest_a, amps)
        above_a = amps - self.limit_a
        if above_a <= DUST_A:
            self.run_s = 0.0
            return
        self.run_s += dt_s
        self.overload_as += above_a * dt_s
        self.highest_overload_a = max(self.highest_overload_a, above_a)
        self.longest_overload_s = max(self.longest_overload_s, self.run_s)


@dataclass(slots=True)
class _Node:
    watches: tuple[Watch, Watch, Watch]
    above: tuple[str, ...]  # this circuit and all above it, root last
    amps: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    import_wh: float = 0.0
    export_wh: float = 0.0


class World:
    """`building` gives amps (l1, l2, l3) for the seconds since the world began; it hangs at the root, "site".

    Without one there is a building of at most 30 % of the site's limit. Raises ValueError for a circuit tree
    without a root "site", with an unknown parent or a loop, and for an EVSE on an unknown circuit.
    """

    def __init__(
        self,
        clock: Clock,
        seed: int,
        circuits: Mapping[str, SimCircuit],
        evses: Iterable[SimEvse],
        building: Callable[[float], Amps] | None = None,
        voltage_v: float = 230.0,
        step_s: float = STEP_S,
    ) -> None:
        self.clock = clock
        self.step_s = step_s
        self.circuits = dict(circuits)
        self.evses = {evse.id: evse for evse in evses}
        self.voltage_v = voltage_v
        self.elapsed_s = 0.0
        began = clock.now()
        self._began_s = began.mono_s
        self._nodes = {id: _node(id, self.circuits) for id in self.circuits}
        if ROOT not in self._nodes:
            raise ValueError(f'no circuit "{ROOT}"')
        for evse in self.evses.values():
            if evse.circuit not in self._nodes:
                raise ValueError(f'{evse.id}: no circuit "{evse.circuit}"')
        if building is None:
            utc = began.utc
            l1, l2, l3 = self.circuits[ROOT].limits_a
            time_of_day_s = utc.hour * 3600.0 + utc.minute * 60.0 + utc.second
            building = Building(seed, (l1 * 0.3, l2 * 0.3, l3 * 0.3), time_of_day_s)
        self.building = building
        self.building_a: Amps = NOTHING
        self._sum_up(0.0)

    async def run(self) -> None:
        """Lets time pass until cancelled."""
        while True:
            await self.clock.sleep(self.step_s)
            self.catch_up()

    def catch_up(self) -> None:
        """Steps the physics up to the clock's now."""
        behind_s = self.clock.now().mono_s - self._began_s - self.elapsed_s
        dt_s = max(self.step_s, behind_s / MOST_STEPS)
        for _ in range(int(behind_s / dt_s + 1e-9)):
            self.step(dt_s)

    def step(self, dt_s: float) -> None:
        """One step of physics, independent of the clock."""
        self.elapsed_s += dt_s
        now_s = self._began_s + self.elapsed_s
        for evse in self.evses.values():
            if evse.vehicle is not None:
                evse.step(dt_s, now_s)
        self._sum_up(dt_s)

    def current_a(self, circuit: str = ROOT) -> Amps:
        """Truth per grid phase: all EVSEs below, and the building at the root. Raises KeyError."""
        l1, l2, l3 = self._nodes[circuit].amps
        return (l1, l2, l3)

    def power_w(self, circuit: str = ROOT) -> float:
        return sum(self._nodes[circuit].amps) * self.voltage_v

    def import_wh(self, circuit: str = ROOT) -> float:
        """Energy register of the circuit, from 0 at the beginning; it never falls."""
        return self._nodes[circuit].import_wh

    def export_wh(self, circuit: str = ROOT) -> float:
        """The same for energy that left the circuit."""
        return self._nodes[circuit].export_wh

    def report(self) -> dict[str, object]:
        """What the monitor saw: `seconds`, `delivered_wh` of all EVSEs, and per circuit lists of three numbers:
        `limit_a`, `highest_a`, `highest_overload_a`, `longest_overload_s`, `overload_as` (ampere-seconds)."""
        fields = ("limit_a", "highest_a", "highest_overload_a", "longest_overload_s", "overload_as")
        return {
            "seconds": round(self.elapsed_s, 3),
            "delivered_wh": sum(evse.register_wh for evse in self.evses.values()),
            "circuits": {
                id: {name: [round(getattr(watch, name), 3) for watch in node.watches] for name in fields}
                for id, node in self._nodes.items()
            },
        }

    def overloads(self) -> dict[str, float]:
        """Circuits that were above a limit, with their worst ampere-seconds on one phase; empty is good."""
        worst = {id: max(watch.overload_as for watch in node.watches) for id, node in self._nodes.items()}
        return {id: overload_as for id, overload_as in worst.items() if overload_as > 0.0}

    def _sum_up(self, dt_s: float) -> None:
        nodes = self._nodes
        for node in nodes.values():
            node.amps = [0.0, 0.0, 0.0]
        for evse in self.evses.values():
            if evse.power_w:
                l1, l2, l3 = evse.current_a
                for id in nodes[evse.circuit].above:
                    amps = nodes[id].amps
                    amps[0] += l1
                    amps[1] += l2
                    amps[2] += l3
        self.building_a = self.building(self.elapsed_s)
        root = nodes[ROOT].amps
        for phase in range(3):
            root[phase] += self.building_a[phase]
        for node in nodes.values():
            energy_wh = sum(node.amps) * self.voltage_v * dt_s / 3600.0
            if energy_wh >= 0.0:
                node.import_wh += energy_wh
            else:
                node.export_wh -= energy_wh
            for watch, amps_now in zip(node.watches, node.amps, strict=True):
                watch.observe(abs(amps_now), dt_s)  # copper gets as warm from export


def _node(id: str, circuits: Mapping[str, SimCircuit]) -> _Node:
    above: list[str] = []
    at: str | None = id
    while at is not None:
        if at in above:
            raise ValueError(f'circuit "{id}": its parents form a loop')
        if at not in circuits:
            raise ValueError(f'circuit "{id}": no parent "{at}"')
        above.append(at)
        at = circuits[at].parent
    if above[-1] != ROOT:
        raise ValueError(f'circuit "{id}" does not hang below "{ROOT}"')
    l1, l2, l3 = circuits[id].limits_a
    return _Node((Watch(l1), Watch(l2), Watch(l3)), tuple(above))
