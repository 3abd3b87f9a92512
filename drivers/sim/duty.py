"""A fleet with a duty plan: every evening vehicles come back to their bays, every morning they leave with what they need.

Owns the stays of whole days, by the seed, and says them in files that other programs read: sessions, the building's load,
the sun. Vehicles do not keep quite to the plan; what they need is told when they
are here. Knows no protocol.
"""

from __future__ import annotations

import csv
import heapq
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from zoneinfo import ZoneInfo

from controller.ports import Clock
from drivers.sim.evse import SimEvse
from drivers.sim.vehicle import Vehicle

LOOK_S = 5.0  # how often the fleet looks at its watch
CARD_S = 5.0
BACK_H, AWAY_H = (15.5, 19.5), (5.0, 8.0)  # of the day: planned return, planned departure on the next
BACK_NOISE_S, AWAY_NOISE_S, NEED_NOISE = 1800.0, 900.0, 0.10
HELD_OVER = 0.25  # share of weekend nights that last until Monday
NEED_WH = (8_000.0, 26_000.0)  # at the meter
FULL = 0.8  # vehicles stop where the taper would begin: what is planned can be told in kWh
ANNOUNCED_S = 36 * 3600.0  # so far ahead the duty plan is known
QUARTER_S = 900.0
FRIDAY = 4  # the night after it belongs to the weekend


@dataclass(frozen=True, slots=True)
class Stay:
    """All in seconds since the beginning; what happens, and what the duty plan says."""

    vehicle: Vehicle
    evse: SimEvse
    arrives_s: float
    leaves_s: float
    need_wh: float
    back_s: float
    away_s: float
    planned_wh: float

    @property
    def name(self) -> str:
        return f"{self.vehicle.id}-{int(self.arrives_s // 86400) + 1}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """A stay that is over, and what the meter of its EVSE counted."""

    stay: Stay
    got_wh: float

    @property
    def ready(self) -> bool:
        return self.got_wh >= self.stay.need_wh - max(250.0, 0.02 * self.stay.need_wh)


def stays_of(
    pairs: Sequence[tuple[Vehicle, SimEvse]], days: int, began: datetime, zone: ZoneInfo, seed: int
) -> list[Stay]:
    """By arrival. Nobody comes before its bay is free; the last one leaves the morning after the last day."""
    rng = Random(f"duty {seed}")
    first = began.astimezone(zone).date()
    found = []
    for vehicle, evse in pairs:
        free_s = 0.0
        full_wh = 230.0 * min(vehicle.max_a, evse.max_a) * min(vehicle.phases, len(evse.phases))
        for day in range(days):
            at = datetime.combine(first + timedelta(days=day), datetime.min.time(), zone)
            weekend = at.weekday() >= FRIDAY
            nights = 1
            if weekend and day + 2 < days and rng.random() < HELD_OVER:
                nights = 2
            back_s = _clock_s(at, rng.uniform(*BACK_H)) - began.timestamp()
            away_s = _clock_s(at, nights * 24 + rng.uniform(*AWAY_H)) - began.timestamp()
            arrives_s = back_s + rng.uniform(-BACK_NOISE_S, BACK_NOISE_S)
            leaves_s = away_s + rng.uniform(-AWAY_NOISE_S, AWAY_NOISE_S)
            need_wh = min(rng.uniform(*NEED_WH), 0.8 * full_wh * (leaves_s - arrives_s) / 3600)
            planned_wh = need_wh * rng.uniform(1 - NEED_NOISE, 1 + NEED_NOISE)
            if arrives_s < max(0.0, free_s + 600):
                continue
            free_s = leaves_s
            arrives_s, leaves_s, back_s, away_s = map(round, (arrives_s, leaves_s, back_s, away_s))
            found.append(
                Stay(vehicle, evse, arrives_s, leaves_s, round(need_wh), back_s, away_s, round(planned_wh))
            )
    return sorted(found, key=lambda stay: (stay.arrives_s, stay.vehicle.id))


def _clock_s(midnight: datetime, hours: float) -> float:
    """By the clock on the wall, whatever it does in between; since 1970."""
    return (midnight + timedelta(hours=hours)).timestamp()


class DutyFleet:
    """Moves vehicles as their stays say. `run` ends when the last one has left."""

    def __init__(self, clock: Clock, stays: Sequence[Stay]) -> None:
        self.clock = clock
        self.outcomes: list[Outcome] = []
        self.stays = tuple(stays)
        self._began = clock.now()
        self._here: list[tuple[float, int, float]] = []  # leaves, number, register at the beginning
        self._cards: list[tuple[float, int]] = []
        self._next = 0

    async def run(self) -> None:
        while self._next < len(self.stays) or self._here:
            self.step(self.clock.now().mono_s - self._began.mono_s)
            await self.clock.sleep(LOOK_S)

    def step(self, elapsed_s: float) -> None:
        """Does all that is due."""
        while self._here and self._here[0][0] <= elapsed_s:
            _, number, register_wh = heapq.heappop(self._here)
            stay = self.stays[number]
            stay.evse.unplug()
            self.outcomes.append(Outcome(stay, stay.evse.register_wh - register_wh))
        while self._next < len(self.stays) and self.stays[self._next].arrives_s <= elapsed_s:
            stay = self.stays[self._next]
            vehicle = stay.vehicle
            vehicle.charge_to = FULL
            vehicle.soc = FULL - stay.need_wh * vehicle.efficiency / vehicle.battery_wh
            vehicle.leaves_s = None
            heapq.heappush(self._here, (stay.leaves_s, self._next, stay.evse.register_wh))
            heapq.heappush(self._cards, (elapsed_s + CARD_S, self._next))
            self._next += 1
            stay.evse.plug(vehicle)
        while self._cards and self._cards[0][0] <= elapsed_s:
            stay = self.stays[heapq.heappop(self._cards)[1]]
            if stay.evse.vehicle is stay.vehicle and stay.vehicle.token is not None:
                stay.evse.present(stay.vehicle.token)

    def duty_plan(self) -> str:
        """A roster (CSV) of who is here or announced, as it was planned; vehicles that left are gone from it."""
        elapsed_s = self.clock.now().mono_s - self._began.mono_s
        here = {number for _, number, _ in self._here}
        lines = ["vehicle,departs,energy,arrives,evse"]
        for number, stay in enumerate(self.stays):
            ahead = number >= self._next and stay.back_s < elapsed_s + ANNOUNCED_S
            if stay.away_s <= elapsed_s or not (number in here or ahead):
                continue
            departs, arrives = self._say(stay.away_s), self._say(stay.back_s)
            watt_hours = stay.planned_wh if ahead else stay.need_wh
            lines.append(
                f"{stay.vehicle.id},{departs},{watt_hours:.0f} Wh,{arrives if ahead else ''},{stay.evse.id}"
            )
        return "\n".join(lines)

    def _say(self, elapsed_s: float) -> str:
        return (self._began.utc + timedelta(seconds=elapsed_s)).replace(microsecond=0).isoformat()


# --- the same for other programs ----------------------------------------------------------------------------------


def sessions_file(stays: Sequence[Stay], began: datetime) -> str:
    """As `depot simulate` reads it."""
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(("session", "station", "arrival", "departure", "energy_kwh", "max_kw", "phases", "declared_kwh",
                   "declared_departure", "planned_return", "planned_kwh", "vehicle"))  # fmt: skip

    def at(elapsed_s: float) -> str:
        return (began + timedelta(seconds=elapsed_s)).isoformat()

    for stay in stays:
        used = min(stay.vehicle.phases, len(stay.evse.phases))
        most_kw = 0.23 * used * min(stay.vehicle.max_a, stay.evse.max_a)
        need, planned = f"{stay.need_wh / 1e3:.3f}", f"{stay.planned_wh / 1e3:.3f}"
        rows.writerow((stay.name, stay.evse.id.partition("/")[0], at(stay.arrives_s), at(stay.leaves_s),
                       need, f"{most_kw:.3f}", used, need, at(stay.away_s),
                       at(stay.back_s), planned, stay.vehicle.id))  # fmt: skip
    return out.getvalue()


def series_file(watts: Callable[[float], float], began: datetime, until_s: float) -> str:
    """Means of quarter hours in kW, `start,value`."""
    lines = ["start,value"]
    at_s = 0.0
    while at_s < until_s:
        mean_w = sum(watts(at_s + 15.0 + 30.0 * n) for n in range(30)) / 30
        lines.append(f"{(began + timedelta(seconds=at_s)).isoformat()},{mean_w / 1000:.4f}")
        at_s += QUARTER_S
    return "\n".join(lines) + "\n"
