"""Single fields of the platform's answers, read so that nothing strange gets further: each is a value or None.

Pure, tolerant, bounded. Source: Open Platform REFERENCE section 4, GAPS posture 1 and G-29.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, tzinfo
from typing import Any

from controller.core.units import whole


def as_text(value: Any) -> str | None:
    """Text fit for a log line: printable and short."""
    if not isinstance(value, str):
        return None
    return "".join(char for char in value[:200] if char.isprintable()).strip()


def as_number(value: Any, bound: float = 1e9) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) and abs(number) <= bound else None


def as_percent(value: Any) -> int | None:
    number = as_number(value)
    return None if number is None or not 0 <= number <= 100 else whole(number)


def as_instant(value: Any, zone: tzinfo = UTC) -> datetime | None:
    """An ISO 8601 instant as UTC; a time without a zone is read as UTC, which is what the platform speaks, or as in
    `zone`."""
    if not isinstance(value, str) or len(value) > 40:
        return None
    try:
        at = datetime.fromisoformat(value)
        return (at.replace(tzinfo=zone) if at.tzinfo is None else at).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
