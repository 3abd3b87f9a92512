"""Between the watts of an EVSE and the amps of its supply, per phase. Limits round down, loads round up.

An AC outlet passes on what it draws: volts times amps on each of its conductors. A DC output hides its supply behind a
rectifier: its own volts and amps are the vehicle's, so only its power tells, and the amps are counted for a low supply
voltage and with losses (`model.Dc`). Both ways use the same figures, so what was granted in amps and is sent in watts
comes back as no more amps than that.
"""

from __future__ import annotations

from controller.core.model import Dc, Evse
from controller.core.units import current_for_power_ma, power_for_current_w


def limit_w(evse: Evse, current_ma: int, voltage_mv: int) -> int:
    """The most power at which no phase of the supply carries more than `current_ma`. voltage_mv: of an AC outlet, whose
    watts may all be on one phase where nobody knows how it is wired."""
    if evse.dc is None:
        return power_for_current_w(current_ma, voltage_mv, len(evse.phases) if evse.rotation_known else 1)
    return dc_limit_w(evse.dc, current_ma)


def dc_limit_w(dc: Dc, current_ma: int) -> int:
    return current_ma * _mw_per_a(dc) // 1_000_000


def limit_ma(evse: Evse, power_w: int, voltage_mv: int) -> int:
    """The most current per phase that makes no more than `power_w`."""
    if evse.dc is None:
        return current_for_power_ma(power_w, voltage_mv, len(evse.phases))
    return power_w * 1_000_000 // _mw_per_a(evse.dc)


def most_phases(evse: Evse, power_w: int, voltage_mv: int, seen: int | None) -> int:
    """On how many phases a vehicle of this power may draw there: as seen; on one, where on all it would be too little to
    charge with."""
    found = min(len(evse.phases), seen or len(evse.phases))
    return found if current_for_power_ma(power_w, voltage_mv, found) >= evse.min_ma else 1


def vehicle_ma(evse: Evse, power_w: int, voltage_mv: int, seen: int | None) -> int:
    """The most current per phase that a vehicle of this power can use; never too little to charge with."""
    if evse.dc is not None:
        most_ma = limit_ma(evse, power_w, voltage_mv)
    else:
        phases = most_phases(evse, power_w, voltage_mv, seen)
        most_ma = current_for_power_ma(power_w, voltage_mv, phases)
    return max(evse.min_ma, most_ma)


def load_ma(dc: Dc, power_w: int) -> int:
    """What a DC output's power may draw from each phase of the supply; below zero while it feeds back."""
    magnitude = -(-abs(power_w) * 1_000_000 // _mw_per_a(dc))
    return magnitude if power_w >= 0 else -magnitude


def overcount_ma(dc: Dc, power_w: int, voltage_mv: int) -> int:
    """By how much `load_ma` counts more than flows from a supply at its nominal voltage: right for a fuse, too much for what
    others draw behind the same meter, which would seem less."""
    if power_w <= 0:
        return 0
    return max(0, load_ma(dc, power_w) - power_w * 100_000_000 // (3 * voltage_mv * dc.efficiency_pct))


def _mw_per_a(dc: Dc) -> int:
    """mW at the output per A on each phase; never 0."""
    return max(1, 3 * dc.low_mv * dc.efficiency_pct // 100)
