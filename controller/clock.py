"""The system clock as a port: monotonic seconds, UTC, and whether UTC can be believed."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta

from controller.core.model import Moment

# A box without a real-time clock battery wakes up in the past. Nothing we plan is older than this software.
EARLIEST_PLAUSIBLE = datetime(2026, 1, 1, tzinfo=UTC)


class SystemClock:
    """`speed` > 1 makes simulated sites run faster than the wall; 1 everywhere else."""

    def __init__(self, speed: float = 1.0) -> None:
        if speed <= 0:
            raise ValueError(f"speed {speed} must be above 0")
        self.speed = speed
        self._mono_start = time.monotonic()
        self._utc_start = datetime.now(UTC)

    def now(self) -> Moment:
        mono_s = time.monotonic()
        utc = datetime.now(UTC)
        if self.speed != 1.0:
            elapsed_s = (mono_s - self._mono_start) * self.speed
            mono_s = self._mono_start + elapsed_s
            utc = self._utc_start + timedelta(seconds=elapsed_s)
        return Moment(mono_s, utc, utc >= EARLIEST_PLAUSIBLE)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds) / self.speed)
