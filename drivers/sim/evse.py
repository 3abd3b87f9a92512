"""One physical charging point: cable, contactor, pilot, meter and card reader.

Owns the electricity of one EVSE. What may flow (`energised`, `limit_a`) is decided by the protocol side that
drives it; who watches it is told of every change through `watchers`. Knows no protocol.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from drivers.sim.vehicle import Vehicle

Amps = tuple[float, float, float]

NOTHING: Amps = (0.0, 0.0, 0.0)
DRAWING_A = 0.5  # below this a station calls the vehicle suspended


@contextmanager
def watched(evses: Iterable[SimEvse], look: Callable[[], None]) -> Iterator[None]:
    """Meanwhile `look` is called in the loop's next turn, once for all that happened at these EVSEs until then."""
    loop, watching, waits = asyncio.get_running_loop(), list(evses), False

    def look_now() -> None:
        nonlocal waits
        waits = False
        look()

    def look_soon() -> None:
        nonlocal waits
        if not waits:
            waits = True
            loop.call_soon(look_now)

    for evse in watching:
        evse.watchers.append(look_soon)
    try:
        yield
    finally:
        for evse in watching:
            evse.watchers.remove(look_soon)


class SimEvse:
    """`phases`: the grid phase (0, 1, 2) each of its conductors hangs on. `circuit`: where in the world it hangs.

    energised   set by the protocol side: an authorised transaction holds the contactor
    limit_a     set by the protocol side: what its profiles allow now, per phase; below `min_a` the vehicle is paused
    current_a   truth now in grid phases; `conductor_a` the same on its own conductors
    register_wh energy meter, whole life, never falls
    switched    set by the protocol side: on how many of its conductors it may charge; None = all
    live_switches  how often that changed while current flowed, which some vehicles do not survive
    fault       OCPP 1.6 error code while faulted, else None; a faulted EVSE opens its contactor
    """

    def __init__(
        self,
        id: str,
        max_a: float,
        phases: tuple[int, ...] = (0, 1, 2),
        min_a: float = 6.0,
        voltage_v: float = 230.0,
        circuit: str = "site",
    ) -> None:
        if not phases or len(set(phases)) != len(phases) or not set(phases) <= {0, 1, 2}:
            raise ValueError(f"{id}: phases {phases} must name each grid phase (0, 1, 2) at most once")
        self.id = id
        self.max_a = max_a
        self.phases = phases
        self.min_a = min_a
        self.voltage_v = voltage_v
        self.output_v = voltage_v  # per amp on each phase, what arrives at the vehicle
        self.circuit = circuit
        self.energised = False
        self.limit_a = max_a  # a station without a profile offers what its hardware can
        self.switched: int | None = None
        self.live_switches = 0
        self.vehicle: Vehicle | None = None
        self.fault: str | None = None
        self.current_a: Amps = NOTHING
        self.conductor_a: tuple[float, ...] = (0.0,) * len(phases)
        self.power_w = 0.0
        self.register_wh = 0.0
        self.watchers: list[Callable[[], None]] = []
        self._card: str | None = None

    @property
    def offered_a(self) -> float:
        """What the pilot says now; 0 while the contactor is open or the limit is below the minimum."""
        if not self.energised or self.fault is not None or self.limit_a < self.min_a:
            return 0.0
        return min(self.limit_a, self.max_a)

    @property
    def drawing(self) -> bool:
        return self.power_w > DRAWING_A * self.voltage_v

    def plug(self, vehicle: Vehicle) -> None:
        """Raises ValueError when the cable is in use."""
        if self.vehicle is not None:
            raise ValueError(f"{self.id}: {self.vehicle.id} is already plugged in")
        vehicle.wake()
        self.vehicle = vehicle
        self._tell()

    def unplug(self) -> Vehicle | None:
        """Takes the cable out, whatever flows; returns who was there."""
        vehicle, self.vehicle = self.vehicle, None
        self._flow(0.0, 0)
        if vehicle is not None:
            self._tell()
        return vehicle

    def present(self, token: str) -> None:
        """Somebody holds a card to the reader; the protocol side takes it with `take_card`."""
        self._card = token
        self._tell()

    def take_card(self) -> str | None:
        card, self._card = self._card, None
        return card

    def switch(self, phases: int | None) -> None:
        if phases != self.switched:
            self.live_switches += self.drawing
            self.switched = phases

    def break_down(self, fault: str | None) -> None:
        """Faults the EVSE with an OCPP 1.6 error code ("GroundFailure"), or repairs it with None."""
        self.fault = fault
        self._tell()

    def step(self, dt_s: float, now_s: float) -> None:
        """Lets `dt_s` pass; `now_s` is the `mono_s` at its end."""
        vehicle = self.vehicle
        if vehicle is None:
            return
        if vehicle.leaves_s is not None and now_s >= vehicle.leaves_s:
            self.unplug()
            return
        was_drawing = self.drawing
        amps = vehicle.step(dt_s, self.offered_a)
        if amps and (not self.energised or self.fault is not None):
            vehicle.cut()
            amps = 0.0
        if amps or self.power_w:
            self._flow(amps, self._used(vehicle))
            energy_wh = self.power_w * dt_s / 3600.0
            self.register_wh += energy_wh
            vehicle.take(energy_wh)
            if self.drawing != was_drawing:
                self._tell()

    def _used(self, vehicle: Vehicle) -> int:
        return min(vehicle.phases, len(self.phases), self.switched or 3)

    def _flow(self, amps: float, used: int) -> None:
        grid = [0.0, 0.0, 0.0]
        for phase in self.phases[:used]:
            grid[phase] = amps
        self.current_a = (grid[0], grid[1], grid[2])
        self.conductor_a = (amps,) * used + (0.0,) * (len(self.phases) - used)
        self.power_w = amps * used * self.output_v

    def _tell(self) -> None:
        for watcher in self.watchers:
            watcher()
