"""How a charger turns its charging profiles into one current: a pure function of profiles and time.

Owns the charger's side of OCPP 1.6 sections 3.13 (stacking, purposes, kinds) and 5.16 (which profile replaces
which), written from the specification and not from what the controller expects. Must not share code with
drivers.ocpp: it is the judge of what that sends.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

STATION_MAX = "ChargePointMaxProfile"
TX_DEFAULT = "TxDefaultProfile"
TX = "TxProfile"
PURPOSES = (STATION_MAX, TX_DEFAULT, TX)
KINDS = ("Absolute", "Relative", "Recurring")
RECURRENCE_S = {"Daily": 86400.0, "Weekly": 604800.0}


@dataclass(frozen=True, slots=True)
class Period:
    """From `start_s` after the schedule's start: `limit` in the schedule's unit."""

    start_s: float
    limit: float
    phases: int | None = None


@dataclass(frozen=True, slots=True)
class Profile:
    """One installed profile. `connector` 0 is the whole station. `received` stands in for a start nobody gave."""

    id: int
    connector: int
    stack: int
    purpose: str
    kind: str
    unit: str  # "A" or "W"
    periods: tuple[Period, ...]
    received: datetime
    transaction: int | str | None = None
    start: datetime | None = None
    duration_s: float | None = None
    valid_from: datetime | None = None
    valid_to: datetime | None = None
    recurrence: str | None = None

    def valid(self, at: datetime) -> bool:
        return (self.valid_from is None or self.valid_from <= at) and (
            self.valid_to is None or at < self.valid_to
        )

    def begins(self, at: datetime, tx_start: datetime | None) -> datetime:
        """The start of the schedule run that `at` falls into."""
        if self.kind == "Relative" or self.start is None:
            return tx_start or self.received
        if self.recurrence is None or at < self.start:
            return self.start
        every_s = RECURRENCE_S[self.recurrence]
        return self.start + timedelta(seconds=(at - self.start).total_seconds() // every_s * every_s)

    def period_at(self, at: datetime, tx_start: datetime | None) -> Period | None:
        """The period in force, None while the profile says nothing."""
        if not self.valid(at):
            return None
        elapsed_s = (at - self.begins(at, tx_start)).total_seconds()
        if elapsed_s < 0 or (self.duration_s is not None and elapsed_s >= self.duration_s):
            return None
        return next((period for period in reversed(self.periods) if period.start_s <= elapsed_s), None)


@dataclass(frozen=True, slots=True)
class Hardware:
    """What the EVSE can do whatever the profiles say, and what W means on it."""

    max_a: float
    conductors: int
    voltage_v: float

    def amps(self, unit: str, period: Period) -> float:
        """Amps per phase, W rounded down to 0.1 A."""
        if unit == "A":
            return period.limit
        phases = min(period.phases or 3, self.conductors)
        return math.floor(period.limit / (self.voltage_v * phases) * 10.0 + 1e-9) / 10.0


def install(profiles: Sequence[Profile], new: Profile) -> tuple[Profile, ...]:
    """`new` replaces the one with its id, and the one with its connector, purpose and stack level (5.16)."""
    place = (new.connector, new.purpose, new.stack)
    kept = (old for old in profiles if old.id != new.id and (old.connector, old.purpose, old.stack) != place)
    return (*kept, new)


def others(profiles: Sequence[Profile], new: Profile) -> tuple[Profile, ...]:
    """What a station keeps that knows no stack levels."""
    place = (new.connector, new.purpose)
    return tuple(old for old in profiles if (old.connector, old.purpose) != place)


def limit_a(
    profiles: Iterable[Profile],
    connector: int,
    at: datetime,
    hardware: Hardware,
    tx_start: datetime | None = None,
    sharing: int = 1,
) -> float:
    """Amps per phase this connector may offer at `at`; the hardware maximum when no profile speaks.

    tx_start  start of the running transaction, None without one (then no TxProfile counts)
    sharing   how many connectors share what ChargePointMaxProfile allows the station
    """
    known = [profile for profile in profiles if profile.connector in (0, connector)]
    own = _leading(known, TX, at, hardware, tx_start) if tx_start is not None else None
    if own is None:
        own = _leading(known, TX_DEFAULT, at, hardware, tx_start)
    cap = _leading(known, STATION_MAX, at, hardware, None)
    limits = [hardware.max_a]
    if own is not None:
        limits.append(own)
    if cap is not None:
        limits.append(cap / max(1, sharing))
    return max(0.0, min(limits))


def phases(
    profiles: Iterable[Profile], connector: int, at: datetime, tx_start: datetime | None = None
) -> int | None:
    """On how many conductors the profile in force lets it charge; None where it does not say."""
    known = [profile for profile in profiles if profile.connector in (0, connector)]
    for purpose in (TX, TX_DEFAULT) if tx_start is not None else (TX_DEFAULT,):
        if (found := _in_force(known, purpose, at, tx_start)) is not None:
            return found[1].phases
    return None


def composite(
    profiles: Sequence[Profile],
    at: datetime,
    duration_s: float,
    tx_start: datetime | None,
    limit: Callable[[datetime], float],
) -> list[tuple[float, float]]:
    """(start_s, amps) for the next `duration_s`: `limit` asked wherever a profile may begin, change or end."""
    end = at + timedelta(seconds=duration_s)
    moments = sorted({at, *(moment for profile in profiles for moment in _turns(profile, at, end, tx_start))})
    schedule: list[tuple[float, float]] = []
    for moment in moments:
        amps = limit(moment)
        if not schedule or schedule[-1][1] != amps:
            schedule.append(((moment - at).total_seconds(), amps))
    return schedule


def _leading(
    profiles: Iterable[Profile], purpose: str, at: datetime, hardware: Hardware, tx_start: datetime | None
) -> float | None:
    found = _in_force(profiles, purpose, at, tx_start)
    return None if found is None else hardware.amps(found[0].unit, found[1])


def _in_force(
    profiles: Iterable[Profile], purpose: str, at: datetime, tx_start: datetime | None
) -> tuple[Profile, Period] | None:
    """The highest stack level that says something now; its own connector beats the whole station."""
    best: tuple[int, bool] | None = None
    found: tuple[Profile, Period] | None = None
    for profile in profiles:
        if profile.purpose != purpose:
            continue
        period = profile.period_at(at, tx_start)
        rank = (profile.stack, profile.connector > 0)
        if period is not None and (best is None or rank > best):
            best, found = rank, (profile, period)
    return found


def _turns(profile: Profile, at: datetime, end: datetime, tx_start: datetime | None) -> Iterable[datetime]:
    """All moments in (at, end) at which the profile may change its mind."""
    every_s = RECURRENCE_S.get(profile.recurrence or "")
    begin = profile.begins(at, tx_start)
    offsets = [period.start_s for period in profile.periods]
    if profile.duration_s is not None:
        offsets.append(profile.duration_s)
    runs = 1 if every_s is None else 2 + int((end - at).total_seconds() // every_s)
    moments = [
        begin + timedelta(seconds=offset_s + run * (every_s or 0.0))
        for run in range(runs)
        for offset_s in offsets
    ]
    moments += [moment for moment in (profile.valid_from, profile.valid_to) if moment is not None]
    return (moment for moment in moments if at < moment < end)
