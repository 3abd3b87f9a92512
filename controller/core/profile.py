"""A load by habit: what it was at this time of day on the same weekday, and how far that was off of late.

Pure memory of quarter-hour means, bounded. A forecast is only worth something with its error: `error_w` is the mean of
what this very profile would have missed by, each time before it learnt the truth.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from statistics import fmean
from zoneinfo import ZoneInfo

from controller.core.planning import Step

QUARTER = timedelta(minutes=15)
WEEKS_KEPT = 6
WEEKDAYS_NEEDED = 2  # weeks before the weekday is believed; until then any day of its kind
DAYS_KEPT = 5
ERRORS_KEPT = 7 * 96
WEEKEND = (5, 6)
FADES = timedelta(hours=2)  # what now differs by from habit is halved in one


def quarter_start(at: datetime) -> datetime:
    """Of the clock quarter that holds `at` (UTC: every zone's quarters are the same)."""
    return at.replace(minute=at.minute - at.minute % 15, second=0, microsecond=0)


@dataclass(slots=True)
class Profile:
    """`by_weekday`: False for what knows no weekdays, like the sun."""

    timezone: str
    by_weekday: bool = True
    _weeks: dict[tuple[int, int], deque[int]] = field(default_factory=dict)  # weekday, quarter of the day
    _days: dict[tuple[bool, int], deque[int]] = field(default_factory=dict)  # weekend, quarter of the day
    _errors_w: deque[int] = field(default_factory=lambda: deque(maxlen=ERRORS_KEPT))

    def learn(self, start: datetime, mean_w: int) -> None:
        """The mean of the quarter hour that began at `start`."""
        expected_w = self.expect(start)
        if expected_w is not None:
            self._errors_w.append(abs(mean_w - expected_w))
        weekday, quarter = self._place(start)
        weekend = self.by_weekday and weekday in WEEKEND
        self._weeks.setdefault((weekday, quarter), deque(maxlen=WEEKS_KEPT)).append(mean_w)
        self._days.setdefault((weekend, quarter), deque(maxlen=DAYS_KEPT)).append(mean_w)

    def expect(self, at: datetime) -> int | None:
        """The mean to be expected of the quarter hour that holds `at`; None where nothing like it was seen."""
        weekday, quarter = self._place(at)
        alike = self._weeks.get((weekday, quarter), ())
        if self.by_weekday and len(alike) >= WEEKDAYS_NEEDED:
            return round(fmean(alike))
        days = self._days.get((self.by_weekday and weekday in WEEKEND, quarter)) or alike
        return round(fmean(days)) if days else None

    @property
    def error_w(self) -> int | None:
        """None until a forecast has met its truth for a day."""
        return round(fmean(self._errors_w)) if len(self._errors_w) >= 96 else None

    def forecast(
        self, now: datetime, until: datetime, margin_w: int = 0, now_w: int | None = None
    ) -> tuple[Step, ...]:
        """Quarter by quarter, `margin_w` added; nothing at all where a part is unknown: half a day would pass for none. A first
        weekend is taken to be like the working days before it: nearer than that what flows now would last. `now_w`: as
        measured now; by how much it differs from what is expected now fades within `FADES`."""
        steps = tuple(self._steps(now, until, margin_w, now_w))
        return (
            () if any(step is None for step in steps) else tuple(step for step in steps if step is not None)
        )

    def _steps(
        self, now: datetime, until: datetime, margin_w: int, now_w: int | None
    ) -> Iterator[Step | None]:
        at = first = quarter_start(now)
        differs_w = 0
        while at < until:
            expected_w = self.expect(at)
            if expected_w is None:
                expected_w = self._of_any_day(at)
            if at == first and expected_w is not None and now_w is not None:
                differs_w = now_w - expected_w
            lasts_w = round(differs_w * max(0.0, 1 - (at - first) / FADES))
            yield None if expected_w is None else Step(at, max(0, expected_w + margin_w + lasts_w))
            at += QUARTER

    def _of_any_day(self, at: datetime) -> int | None:
        _, quarter = self._place(at)
        seen = [each for weekend in (False, True) for each in self._days.get((weekend, quarter), ())]
        return round(fmean(seen)) if seen else None

    def _place(self, at: datetime) -> tuple[int, int]:
        local = at.astimezone(ZoneInfo(self.timezone))
        return local.weekday(), local.hour * 4 + local.minute // 15
