"""Amps as the platform can hold them: a leased limit is a one-off schedule over a low start power.

The operator surface has no limit per connector. What it has is `charge_power` of a start, and schedules that the
charger runs by its own clock, also without a link. So:

- a start carries `charge_power` = the smaller of the commanded limit and the EVSE's fallback: that is the base;
- a limit is a schedule `once` with the one slot from now until the lease's end, `charge` with `power_limit` (kW,
  rounded down to 0.01 kW) or `idle` when the limit is below the minimum current. Its id is the same every time, so a
  new one replaces the old one (G-11), and `effective_from`/`effective_until` bound it a second time;
- when the lease lapses (we died, the link is cut, the platform is down), the slot ends by the charger's clock and the
  charger is at the base again: the fallback. A connector that is idle stays idle. It never goes up by itself, except
  from a pause or from a limit below the fallback back to the fallback, which is what the core budgets anyway;
- a transaction that somebody else started has an unknown base: it counts at the hardware maximum when alone.

Tonight's plan is not stored here (`StorePlan` is refused). The second enabled schedule that could hold it would switch
the lease off. The lease's own schedule could hold later slots, but only if `effective_until` were hours away instead of
at the lease's end: a charger that reads a `once` slot as a rule for its whole validity (G-11 leaves that open) would then
follow a raised limit all night, and that second bound is what makes the lease safe. Nor may a slot pause: where an idle
connector stays idle, nothing would start it again.

HH:MM has minutes only: the slot's end is rounded up, so the charger may follow up to 60 s longer than the lease, and
up to `clock_skew_s` longer again if its clock is slow. `Link.lease_slack_s` (120 s) budgets for both. The start is
rounded down after taking off the skew, so that a slow clock does not delay a decrease.

Currents become powers at nominal voltage over the phases the EVSE is wired with, or over one (`kw_limit_spreads`). At
a voltage below nominal a charger draws more per phase for the same power: measurement catches that (`samples`), not
this module.

A customer's real schedule (`stored_plan`) goes into the same charger so that it holds while we and the platform are
gone. Two rules keep it from harming the above. A charger runs one enabled schedule per connector and the newest
switches the others off: so while we lease limits the plan rests, and it is stored again when the session is over. And
the plan lies over the base like a lease, only for ever: no slot of it may exceed the fallback, so it is capped there.

Must not do I/O or read a clock. Source: REFERENCE section 9, GAPS G-11, G-12, G-29.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from controller.core import watts
from controller.core.model import Evse, Schedule, SlotAction, TimeSlot
from controller.core.readings import Readings
from controller.core.units import floor_to_step, power_for_current_w

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_STEP_W = 10  # kW with two decimals: 0.01 kW
_MINUTE = timedelta(minutes=1)
_LONGEST = timedelta(hours=23)  # one HH:MM slot names its end without a date


def limit_w(current_ma: int, evse: Evse, readings: Readings) -> int:
    """The power at which no phase carries more than `current_ma` (or the EVSE's maximum), in whole 0.01 kW; see
    `Readings.kw_limit_spreads`."""
    capped_ma = max(0, min(current_ma, evse.max_ma))
    if evse.dc is None and readings.kw_limit_spreads != "wired":
        return floor_power_w(power_for_current_w(capped_ma, readings.phase_voltage_mv, 1))
    return floor_power_w(watts.limit_w(evse, capped_ma, readings.phase_voltage_mv))


def floor_power_w(power_w: int) -> int:
    """What the platform can write of a power: whole 0.01 kW, rounded down."""
    return floor_to_step(power_w, _STEP_W)


def start_power_w(limit_ma: int, evse: Evse, readings: Readings) -> int:
    """The base a start leaves in the charger: never above the fallback, and never 0, which might mean "no limit"."""
    return max(_STEP_W, limit_w(min(limit_ma, evse.fallback_ma), evse, readings))


def base_is_fallback(evse: Evse, readings: Readings) -> bool:
    """Whether a start of ours keeps the charger at its fallback when alone: a fallback below the minimum current
    only does where such a power pauses."""
    return readings.below_minimum_pauses or evse.fallback_ma >= evse.min_ma


def is_pause(limit_ma: int, evse: Evse, readings: Readings) -> bool:
    """Whether a limit is sent as `idle`: what is left of it after rounding is below the minimum current."""
    return limit_w(limit_ma, evse, readings) < limit_w(evse.min_ma, evse, readings)


def leased_schedule(
    evse: Evse,
    connector: int,
    limit_ma: int,
    now: datetime,
    until: datetime,
    timezone: str,
    readings: Readings,
) -> dict[str, Any]:
    """The body that holds `limit_ma` from `now` up to `until` (both aware). Raises ValueError when no slot fits."""
    start = _floor_minute(now.astimezone(UTC) - timedelta(seconds=readings.clock_skew_s))
    end = _ceil_minute(until.astimezone(UTC))
    if until <= now:
        raise ValueError("the lease was over before the limit could be sent")
    if end - start > _LONGEST:
        raise ValueError("a lease this long does not fit one schedule slot")
    zone = _zone(start, end, timezone, readings)
    slot: dict[str, Any] = {"start": _clock(start, zone), "end": _end(_clock(end, zone), readings)}
    if is_pause(limit_ma, evse, readings):
        slot["action"] = "idle"
    else:
        slot |= {"action": "charge", "power_limit": kw(limit_w(limit_ma, evse, readings))}
    return {
        "schedule_id": f"depot-limit-{connector}",
        "enabled": True,
        "type": "once",
        "time_slots": [slot],
        "effective_from": stamp(start),
        "effective_until": stamp(end),
        "timezone": zone.key,
    }


def stored_plan(evse: Evse, plan: Schedule, can_discharge: bool, readings: Readings) -> dict[str, Any]:
    """The body that stores `plan` in the charger (G-11), capped to the fallback. A `discharge` slot becomes `idle`
    without consent to discharging or without a power. Raises ValueError for a plan that names none of our zones."""
    try:
        zone = ZoneInfo(plan.timezone)
    except (KeyError, ValueError, OSError):
        raise ValueError(f'unknown time zone "{plan.timezone}"') from None
    # a slot has no floor of charge: below the schedule's own target the charger must not go without us
    can_discharge = can_discharge and (plan.target_soc or 0) <= readings.discharge_floor_soc
    body: dict[str, Any] = {
        "schedule_id": plan_id(plan.id),
        "enabled": plan.enabled,
        "type": str(plan.type),
        "time_slots": [_plan_slot(evse, slot, can_discharge, readings) for slot in plan.slots],
        "timezone": zone.key,
    }
    if plan.target_soc is not None:
        body["target_soc"] = plan.target_soc
    if plan.effective_from is not None:
        body["effective_from"] = stamp(plan.effective_from)
    if plan.effective_until is not None:
        body["effective_until"] = stamp(plan.effective_until)
    return body


def removed_plan(id: str, now: datetime, readings: Readings) -> dict[str, Any]:
    """The body that deletes a stored plan: switched off, as a rule with an empty validity (G-11)."""
    body = {
        "schedule_id": plan_id(id),
        "enabled": False,
        "type": "once",
        "time_slots": [],
        "timezone": "UTC",
    }
    if readings.plan_removed_by == "empty-validity":
        body |= {"effective_from": stamp(now), "effective_until": stamp(now)}
    return body


def plan_id(id: str) -> str:
    """The name of a plan in the charger: never that of a lease, and nothing of the person who named it."""
    return f"depot-plan-{hashlib.sha256(id.encode()).hexdigest()[:12]}"


def _plan_slot(evse: Evse, slot: TimeSlot, can_discharge: bool, readings: Readings) -> dict[str, Any]:
    body: dict[str, Any] = {
        "start": f"{slot.start_min // 60 % 24:02}:{slot.start_min % 60:02}",
        "end": _end(f"{slot.end_min // 60 % 24:02}:{slot.end_min % 60:02}", readings),
        "action": "idle",
    }
    if slot.days:
        body["day_of_week"] = [_DAYS[day] for day in slot.days]
    if slot.action is SlotAction.CHARGE:
        most_w = limit_w(evse.fallback_ma, evse, readings)
        power_w = floor_power_w(most_w if slot.power_limit_w is None else min(most_w, slot.power_limit_w))
        if power_w >= limit_w(evse.min_ma, evse, readings):
            body |= {"action": "charge", "power_limit": kw(power_w)}
    elif slot.action is SlotAction.DISCHARGE and can_discharge:
        # what it feeds back is carried by the same copper, but is no load: the fallback does not bound it
        most_w = limit_w(evse.max_ma, evse, readings)
        power_w = floor_power_w(min(most_w, slot.power_limit_w or 0))
        if power_w > 0:
            body |= {"action": "discharge", "power_limit": kw(power_w)}
    return body


def brake_percent(limit_ma: int, evse: Evse, charger_max_ma: int, readings: Readings) -> int:
    """The share of rated power at which this EVSE is surely within `limit_ma`, whole percent rounded down.

    `charger_max_ma` is the sum over the station's EVSEs: if the share is taken of the whole charger, one connector
    could use all of it. Rated power is taken from the config; hardware rated higher obeys at a higher current, and the
    single limits that follow the brake put that right."""
    rated_ma = charger_max_ma if readings.flex_base == "charger" else evse.max_ma
    if readings.kw_limit_spreads == "vehicle" and evse.dc is None:
        rated_ma *= len(evse.phases)  # all of the rated power on one phase
    return max(0, min(100, limit_ma * 100 // rated_ma)) if rated_ma > 0 else 0


def kw(power_w: int) -> float:
    """W as the platform's kW; exact for whole 0.01 kW."""
    return power_w / 1000


def stamp(at: datetime) -> str:
    """A UTC instant as the platform wants it: `Z`, whole seconds (G-29)."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _zone(start: datetime, end: datetime, timezone: str, readings: Readings) -> ZoneInfo:
    """The zone in which the two clock times name these two instants and no others.

    On the long night an hour happens twice and a charger takes the first (G-11): there the slot is written in UTC."""
    zone = ZoneInfo(timezone)
    if readings.slot_time_zone == "utc" or not all(_is_unambiguous(at, zone) for at in (start, end)):
        return ZoneInfo("UTC")
    return zone


def _is_unambiguous(at: datetime, zone: ZoneInfo) -> bool:
    local = at.astimezone(zone)
    return local.replace(fold=0).astimezone(UTC) == local.replace(fold=1).astimezone(UTC)


def _clock(at: datetime, zone: ZoneInfo) -> str:
    return at.astimezone(zone).strftime("%H:%M")


def _end(clock: str, readings: Readings) -> str:
    return readings.slot_midnight_end if clock == "00:00" else clock


def _floor_minute(at: datetime) -> datetime:
    return at.replace(second=0, microsecond=0)


def _ceil_minute(at: datetime) -> datetime:
    floor = _floor_minute(at)
    return floor if floor == at else floor + _MINUTE
