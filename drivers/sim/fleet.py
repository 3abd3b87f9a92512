"""Vehicles with a mind of their own: they arrive, plug in, hold a card to the reader, and leave when they like.

Owns who is where. Everything random comes from one seeded generator, so a run can be repeated. Knows no protocol:
the card is held to the EVSE, and whoever drives the EVSE reads it.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from controller.ports import Clock
from drivers.sim.evse import SimEvse
from drivers.sim.vehicle import Vehicle

LOOK_S = 1.0  # how often the fleet looks at its watch


@dataclass(frozen=True, slots=True)
class Habits:
    """Ranges (least, most) drawn from evenly; shares are 0..1."""

    away_s: tuple[float, float] = (600.0, 3600.0)
    first_away_s: tuple[float, float] = (0.0, 120.0)  # how long before the first arrival after the start
    stay_s: tuple[float, float] = (1800.0, 14400.0)
    soc: tuple[float, float] = (0.1, 0.6)
    card_s: tuple[float, float] = (2.0, 15.0)  # between the plug and the card
    leave_early: float = 0.15  # share of visits that end at half the announced stay
    leave_late: float = 0.15  # share of visits that last half as long again
    picky: float = 0.15  # share of visits that draw less than offered
    sleepy: float = 0.1  # share of visits with a vehicle that falls asleep when paused


@dataclass(frozen=True, slots=True)
class Visit:
    """`announced_s` is what the duty plan says, `leaves_s` what happens (both `mono_s`)."""

    vehicle: Vehicle
    evse: SimEvse
    arrived_s: float
    announced_s: float
    leaves_s: float


class Fleet:
    """Moves `vehicles` between the road and `evses`. A vehicle that finds no free EVSE tries again later."""

    def __init__(
        self,
        clock: Clock,
        seed: int,
        evses: Sequence[SimEvse],
        vehicles: Sequence[Vehicle],
        habits: Habits | None = None,
    ) -> None:
        self.clock = clock
        self.habits = Habits() if habits is None else habits
        self.visits: dict[str, Visit] = {}  # newest of every vehicle, by vehicle id
        self._evses = list(evses)
        self._rng = Random(f"fleet {seed}")
        self._order = 0
        self._agenda: list[
            tuple[float, int, Vehicle, SimEvse | None]
        ] = []  # an EVSE there: hold the card to it
        now_s = clock.now().mono_s
        for vehicle in vehicles:
            self._later(now_s + self._draw(self.habits.first_away_s), vehicle)

    async def run(self) -> None:
        """Lets the fleet live until cancelled."""
        while True:
            self.step(self.clock.now().mono_s)
            await self.clock.sleep(LOOK_S)

    def step(self, now_s: float) -> None:
        """Does all that is due until `now_s`."""
        while self._agenda and self._agenda[0][0] <= now_s:
            due_s, _, vehicle, evse = heapq.heappop(self._agenda)
            if evse is None:
                self._arrive(vehicle, due_s)
            elif evse.vehicle is vehicle and vehicle.token is not None:
                evse.present(vehicle.token)

    def _arrive(self, vehicle: Vehicle, now_s: float) -> None:
        free = [evse for evse in self._evses if evse.vehicle is None and evse.fault is None]
        if not free:
            self._later(now_s + self._draw((60.0, 300.0)), vehicle)
            return
        evse = self._rng.choice(free)
        stay_s = self._draw(self.habits.stay_s)
        mood = self._rng.random()
        factor = 1.0
        if mood < self.habits.leave_early:
            factor = 0.5
        elif mood < self.habits.leave_early + self.habits.leave_late:
            factor = 1.5
        vehicle.leaves_s = now_s + stay_s * factor
        vehicle.soc = self._draw(self.habits.soc)
        picky = self._rng.random() < self.habits.picky
        vehicle.appetite_a = self._rng.uniform(vehicle.min_a, vehicle.max_a) if picky else None
        vehicle.sleepy_s = self._draw((120.0, 600.0)) if self._rng.random() < self.habits.sleepy else None
        vehicle.reaction_s = self._draw((1.0, 5.0))
        self.visits[vehicle.id] = Visit(vehicle, evse, now_s, now_s + stay_s, vehicle.leaves_s)
        evse.plug(vehicle)
        self._later(now_s + self._draw(self.habits.card_s), vehicle, evse)
        self._later(vehicle.leaves_s + self._draw(self.habits.away_s), vehicle)

    def _later(self, due_s: float, vehicle: Vehicle, evse: SimEvse | None = None) -> None:
        self._order += 1
        heapq.heappush(self._agenda, (due_s, self._order, vehicle, evse))

    def _draw(self, limits: tuple[float, float]) -> float:
        return self._rng.uniform(*limits)
