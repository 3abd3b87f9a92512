"""When a vehicle may be said to leave: soon, and not at a time that can only be a slip of the pen. Pure.

Rosters have a bound of their own: they are laid out in windows (controller.core.roster).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

AHEAD = timedelta(days=31)  # a plan is laid up to the last departure


def wrong_with(at: datetime, now: datetime, zone: str) -> str | None:
    """Why nothing leaves `at`, in one line; None where it may."""
    if at > now + AHEAD:
        return f"a departure lies within the next {AHEAD.days} days, not farther ahead"
    if at > now:
        return None
    there = at.astimezone(ZoneInfo(zone)) if at.year > 1 else at  # not every zone has the first hours
    return f"{there:%Y-%m-%d %H:%M} on site lies in the past"
