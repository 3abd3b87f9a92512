"""Waking: a vehicle that takes nothing although it may, since we let it wait (or since it came).

Owns the sequence: current taken away for a moment, the minimum again, then more of it, for some vehicles begin only at
8 A or at the edge of a fresh offer; three times an hour, then a person is told. A vehicle that stopped by itself is full
and is left in peace, and so is one whose current nobody measures. Must not decide whether there is room: the sequence
only asks for less or for the minimum. Source: field notes section 2 row 38, peers' issues on sleeping vehicles.
"""

from __future__ import annotations

from dataclasses import dataclass

from controller.core.allocator import Demand

AFTER_PAUSE_S = 60.0  # how long a vehicle may take to begin after a pause of ours ...
AFTER_PLUG_S = 180.0  # ... and after it was plugged in: its own handshake and timers come first
SHUT_S = 20.0  # the pilot's edge has to be seen: longer than a command and its answer need
ATTEMPTS = 3
AGAIN_S = 3600.0
STRONGER_MA = 8_000  # from the second attempt on
STRONGER_FROM = 2


@dataclass(slots=True)
class Sleep:
    """What was tried on one vehicle. `drew`: it took current since it was last allowed to; `ever`: in this session;
    `sated`: it had stopped by itself when it was last let wait."""

    drew: bool = False
    ever: bool = False
    sated: bool = False
    attempts: int = 0
    first_s: float = float("-inf")
    shut_until_s: float = float("-inf")
    least_ma: int = 0  # what it turned out to need for a start

    @property
    def stirred(self) -> bool:
        """Something was tried, or learnt from it."""
        return self.attempts > 0 or self.least_ma > 0

    def takes(self) -> None:
        """It draws: awake."""
        if self.attempts >= STRONGER_FROM and not self.drew:
            self.least_ma = STRONGER_MA
        self.drew = self.ever = True
        self.sated = False
        self.attempts = 0

    def gave_up(self, now_s: float) -> bool:
        """Nothing more is tried by ourselves for now."""
        return self.attempts >= ATTEMPTS and now_s >= self.shut_until_s and not self.drew

    def asked(self, demand: Demand, now_s: float) -> Demand:
        """What to ask for on its behalf."""
        if now_s < self.shut_until_s:
            why = f"wake-up {self.attempts} of {ATTEMPTS}: a moment without current"
            return demand._replace(cap_ma=0, cap_why=why, caps=(*demand.caps, (0, why)))
        least_ma = STRONGER_MA if self.attempts >= STRONGER_FROM else self.least_ma
        if demand.min_ma < least_ma <= demand.cap_ma:
            return demand._replace(min_ma=least_ma)
        return demand

    def try_again(self, offered_s: float, now_s: float) -> None:
        """It is offered current since `offered_s`, and measured to take none."""
        if self.drew or self.sated or now_s < self.shut_until_s:
            return
        if now_s - offered_s < (AFTER_PAUSE_S if self.ever or self.attempts else AFTER_PLUG_S):
            return
        if now_s - self.first_s >= AGAIN_S:
            self.attempts = 0
        if self.attempts < ATTEMPTS:
            self.first_s = now_s if self.attempts == 0 else self.first_s
            self.attempts += 1
            self.shut_until_s = now_s + SHUT_S
