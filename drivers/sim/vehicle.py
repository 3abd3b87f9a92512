"""A vehicle at a charging cable: what it draws when a current is offered to it.

Owns the vehicle's side of IEC 61851-1 mode 3 (it may take up to 5 s to follow a changed pilot, it ramps, it never
draws less than its minimum by will) and its battery (taper above 80 %). Knows nothing of protocols or circuits.
Source: reference notes, peers C4 (reaction 5 s typical, 11 s worst) and field notes row 38 (vehicles fall asleep).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

TAPER_FROM = 0.8  # above this state of charge the battery accepts less and less
TAPER_END = 0.1  # share of the full current that is left just before full


@dataclass(slots=True)
class Vehicle:
    """`soc` is 0..1. `phases` (1 or 3) is what its on-board charger can use.

    appetite_a  draws no more than this, whatever is offered; None = no such habit
    sleepy_s    after this long without an offer it sleeps: the next offer is ignored, the one after that wakes it
                (unplugging wakes it too); None = never sleeps
    leaves_s    `mono_s` at which it unplugs; None = stays
    reaction_s  how long it takes to notice a changed pilot
    charge_to   its own charge limit
    efficiency  share of the metered energy that reaches the battery
    """

    id: str
    token: str | None
    battery_wh: float
    soc: float
    phases: int = 3
    max_a: float = 16.0
    min_a: float = 6.0
    appetite_a: float | None = None
    sleepy_s: float | None = None
    leaves_s: float | None = None
    reaction_s: float = 2.0
    ramp_a_per_s: float = 8.0
    charge_to: float = 1.0
    efficiency: float = 0.9
    asleep: bool = False
    _age_s: float = field(default=0.0, repr=False)
    _idle_s: float = field(default=0.0, repr=False)
    _offers_slept_through: int = field(default=0, repr=False)
    _offered_a: float = field(default=0.0, repr=False)
    _pilot_a: float = field(default=0.0, repr=False)
    _drawn_a: float = field(default=0.0, repr=False)
    # pilots seen but not yet followed, with their due time; bounded by reaction_s over the world's step
    _seen: deque[tuple[float, float]] = field(default_factory=deque, repr=False)

    def wake(self) -> None:
        """A fresh plug-in: forgets every earlier offer."""
        self.asleep = False
        self._idle_s = self._offered_a = self._pilot_a = self._drawn_a = 0.0
        self._offers_slept_through = 0
        self._seen.clear()

    def cut(self) -> None:
        """The contactor opened: whatever it wanted, nothing flows."""
        self._drawn_a = 0.0

    def step(self, dt_s: float, offered_a: float) -> float:
        """Lets `dt_s` pass with `offered_a` on the pilot (0 = none); returns the amps on each phase it uses."""
        self._age_s += dt_s
        if offered_a != self._offered_a:
            self._notice(offered_a)
        while self._seen and self._seen[0][0] <= self._age_s:
            self._pilot_a = self._seen.popleft()[1]
        if offered_a >= self.min_a:
            self._idle_s = 0.0
        else:
            self._idle_s += dt_s
            if self.sleepy_s is not None and self._idle_s > self.sleepy_s and not self.asleep:
                self.asleep, self._offers_slept_through = True, 0
        change_a = self._wanted_a() - self._drawn_a
        reach_a = self.ramp_a_per_s * dt_s
        self._drawn_a += max(-reach_a, min(reach_a, change_a))
        return self._drawn_a

    def take(self, energy_wh: float) -> None:
        """Energy that arrived at the inlet."""
        self.soc = min(1.0, self.soc + energy_wh * self.efficiency / self.battery_wh)

    def _notice(self, offered_a: float) -> None:
        rises = offered_a >= self.min_a > self._offered_a
        if rises and self.asleep:
            self._offers_slept_through += 1
            self.asleep = self._offers_slept_through < 2
        self._offered_a = offered_a
        self._seen.append((self._age_s + self.reaction_s, offered_a))

    def _wanted_a(self) -> float:
        if self.asleep or self._pilot_a < self.min_a or self.soc >= self.charge_to:
            return 0.0
        wanted_a = min(self._pilot_a, self.max_a)
        if self.appetite_a is not None:
            wanted_a = min(wanted_a, self.appetite_a)
        if self.soc > TAPER_FROM:
            left = 1.0 - (self.soc - TAPER_FROM) / (1.0 - TAPER_FROM)
            wanted_a = min(wanted_a, self.max_a * (TAPER_END + (1.0 - TAPER_END) * left))
        return wanted_a
