"""A plan for while we are gone, as a station can hold it: one charging profile between the lease and the fallback.

Owns where it lies and what it looks like: a TxProfile one stack level below the lease, bound to its transaction, ending by
itself. While the lease holds, the higher level counts; when the lease lapses, this does; when it is over, or the
transaction, the stored TxDefaultProfile. No period is above the fallback that is stored, so a station that stacks its
profiles wrongly gives less, never more.

Not every station can: `layer` raises Refused with the reason, for people. A level of its own is not level 0, which is
that of the fallback: a station that replaces profiles by their level alone would lose its fallback for good. Where
profiles are not bound to a transaction, a plan would be the next vehicle's. A pause is kept only where a pause is a
profile of 0 and the first limit after it is followed. Pure. Source: OCPP 1.6 sections 3.13 and 5.16, 2.0.1 part 2 K01.
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta

from controller.core.commands import StorePlan
from controller.core.model import Evse
from controller.core.standby import StandbyStep, fitted, remaining
from drivers.errors import Refused
from drivers.ocpp.dialects import Switches
from drivers.ocpp.fitting import fit_ma
from drivers.ocpp.profiles import CLOCK_SLACK_S
from drivers.ocpp.words import Capabilities, Layer, utc_text

MOST_PERIODS = 10  # where a station does not say how many it takes
PROFILES_EACH = 4  # fallback, lease with and without a transaction, plan
CLOCK_WRONG_S = 600.0
LAST_S = 60.0


def layer(
    command: StorePlan,
    evse: Evse,
    able: Capabilities,
    switches: Switches,
    evses: int,
    clock_off_s: float,
    now: datetime,
) -> Layer:
    """`evse` and `able` as its limits are built of them (`fitting`). Raises Refused where the station has no place for it."""
    _check(able, switches, evses, clock_off_s)
    steps = _steps(command, evse, able, switches, now)
    since = now.replace(microsecond=0) - timedelta(seconds=CLOCK_SLACK_S)
    start = since if able.profile_kind == "Absolute" else command.started
    periods = [(max(0, round((step.start - start).total_seconds())), step.limit_ma) for step in steps]
    first, *others = periods
    return _laid(((0, first[1]), *others), since, command.plan.until, _level(able, switches), able)


def ended(evse: Evse, able: Capabilities, switches: Switches, now: datetime) -> Layer | None:
    """What takes the place of a plan that is to go: the fallback for a moment, then nothing. Clearing a profile would be
    the plain word for it, but a station that clears more than it was asked to loses lease and fallback by it. None:
    there is no place where one could be."""
    level = _level(able, switches)
    if level < 1 or able.tx_purpose != "TxProfile":
        return None
    since = now.replace(microsecond=0) - timedelta(seconds=CLOCK_SLACK_S)
    return _laid(((0, evse.fallback_ma),), since, now + timedelta(seconds=LAST_S), level, able)


def _laid(
    periods: tuple[tuple[int, int], ...], since: datetime, until: datetime, level: int, able: Capabilities
) -> Layer:
    validity = {
        "chargingProfileKind": able.profile_kind,
        "validFrom": utc_text(since),
        "validTo": utc_text(until),
    }
    timing: dict[str, str | int] = {}
    if able.profile_kind == "Absolute":  # a relative one counts from the start of the transaction
        timing = {
            "startSchedule": utc_text(since),
            "duration": math.ceil((until - since).total_seconds()),
        }
    return Layer(level, periods, validity, timing)


def _check(able: Capabilities, switches: Switches, evses: int, clock_off_s: float) -> None:
    needed = PROFILES_EACH * evses + 1
    checks = (
        (able.smart_charging is False, "it has no smart charging"),
        (
            able.tx_purpose != "TxProfile",
            "its limits are not bound to a transaction, a plan would outlive it",
        ),
        (_level(able, switches) < 1, "it has no stack level left between the lease and the fallback"),
        (
            able.max_profiles is not None and able.max_profiles < needed,
            f"it stores only {able.max_profiles} charging profiles, a plan needs {needed}",
        ),
        (
            able.max_periods is not None and able.max_periods < 2,
            "it takes schedules of one period only",
        ),
        (bool(switches.reserve), "what it has stored cannot be relied on"),
        (abs(clock_off_s) > CLOCK_WRONG_S, f"its clock is {clock_off_s / 60:+.0f} min off"),
    )
    reason = next((text for applies, text in checks if applies), None)
    if reason is not None:
        raise Refused(reason)


def _level(able: Capabilities, switches: Switches) -> int:
    """The highest below the lease's; below 1: there is none."""
    offered = switches.stack_levels or range(able.max_stack_level)
    return max((level for level in offered if level < able.max_stack_level), default=0)


def _steps(
    command: StorePlan, evse: Evse, able: Capabilities, switches: Switches, now: datetime
) -> tuple[StandbyStep, ...]:
    pauses = switches.pause == "zero" and not switches.resume_check
    least_ma = 0 if pauses else min(evse.min_ma, evse.fallback_ma)
    most = MOST_PERIODS if able.max_periods is None else able.max_periods
    left = remaining(command.plan, now)
    cut = [
        StandbyStep(step.start, fit_ma(min(evse.fallback_ma, max(least_ma, step.limit_ma)), switches))
        for step in left
    ]
    steps = fitted(cut, command.plan.until, most)
    if all(step.limit_ma >= evse.fallback_ma for step in steps):
        raise Refused("cut to what it can hold, the plan is its fallback")
    return steps
