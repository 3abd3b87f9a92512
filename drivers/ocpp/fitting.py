"""Limits cut to what a station follows: its steps, its levels, its unit, its volts and the phases in use.

Owns the arithmetic between what the depot commands and what a dialect can say; everything here only lowers. Pure. Source:
field notes section 2, rows 24, 25, 29, 31, 32 and 35.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from controller.core.model import Evse
from drivers.ocpp.dialects import Switches
from drivers.ocpp.hearing import Hearing
from drivers.ocpp.profiles import NOMINAL_MV
from drivers.ocpp.words import Capabilities


def fit_ma(limit_ma: int, switches: Switches) -> int:
    """The largest step that is not above the limit; below the lowest nothing flows."""
    if not switches.steps_a:
        return limit_ma
    return max((step * 1000 for step in switches.steps_a if step * 1000 <= limit_ma), default=0)


def fit_able(able: Capabilities, switches: Switches) -> Capabilities:
    """What the station says it can, corrected by what it is known to do."""
    if switches.stack_levels:
        below = [level for level in switches.stack_levels if level <= able.max_stack_level]
        able = replace(able, max_stack_level=max(below, default=min(switches.stack_levels)))
    if switches.rate_unit:
        able = replace(able, in_watts=switches.rate_unit == "W")
    if switches.limit_key:
        able = replace(able, smart_charging=False)
    return replace(
        able,
        profile_kind=switches.profile_kind or able.profile_kind,
        tx_purpose=switches.tx_purpose or able.tx_purpose,
    )


def fit_volts(able: Capabilities, hearing: Hearing) -> Capabilities:
    """A grid below its nominal voltage makes more amperes of the same watts; one above it may make less."""
    if not able.in_watts or hearing.voltage_mv is None or hearing.voltage_mv >= NOMINAL_MV:
        return able
    return replace(able, voltage_mv=hearing.voltage_mv)


def fit_phases(evse: Evse, able: Capabilities, hearing: Hearing) -> Evse:
    """A vehicle on fewer conductors than there are would draw all the watts on those."""
    used = hearing.phases_used.get(evse.id)
    if not able.in_watts or used is None or used >= len(evse.phases):
        return evse
    return replace(evse, phases=evse.phases[:used])


def fitted(
    able: Capabilities,
    evse: Evse,
    switches: Switches,
    hearing: Hearing,
    knows: Callable[[str], bool],
) -> tuple[Capabilities, Evse, tuple[str, ...]]:
    """Both as an order is built of them, and the rows that are about volts and phases and changed something."""
    able = fit_able(able, switches)
    told = []
    if knows("watts") and (lower := fit_volts(able, hearing)) is not able:
        able = lower
        told.append("watts")
    if knows("onephase") and (fewer := fit_phases(evse, able, hearing)) is not evse:
        evse = fewer
        told.append("onephase")
    return able, replace(evse, fallback_ma=fit_ma(evse.fallback_ma, switches)), tuple(told)
