"""Tells the depot what is to be said of the time of day, and leaves for the next start when the clock was last right.

Owns when that is told (on change) and stamped; the judgement is `core.timekeeper`'s. Must not decide anything about charging.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from controller.clock import KeptClock, stamp
from controller.core.events import ClockJudged
from controller.core.model import Moment
from controller.runtime import Runtime

log = logging.getLogger(__name__)

LOOK_S = 1.0
STAMP_S = 600.0


class ClockWatch:
    """`run` belongs beside the runtime. `folder`: of the books; it must exist."""

    def __init__(self, runtime: Runtime, clock: KeptClock, folder: Path) -> None:
        self._runtime, self._clock, self._folder = runtime, clock, folder
        self._stamped_s: float | None = None
        self._trouble = ""

    @classmethod
    def of(cls, runtime: Runtime, folder: Path) -> list[Callable[[], Awaitable[None]]]:
        """Nothing where time is simulated."""
        clock = runtime.clock
        return [cls(runtime, clock, folder).run] if isinstance(clock, KeptClock) else []

    async def run(self) -> None:
        told, steps, steps_s = ("", ""), 0, 0.0
        while True:
            now = self._clock.now()
            keeper = self._clock.keeper
            said, before = (keeper.doubt, keeper.advice), (steps, steps_s)
            steps, steps_s = keeper.steps, keeper.steps_s  # the clock may be set while this is told
            if said != told or steps != before[0]:
                set_s = steps_s - before[1]
                if set_s:
                    log.warning("clock: set by %+.0f s", set_s)
                if keeper.doubt and keeper.doubt != told[0]:
                    log.error("clock: %s; schedules and departures rest", keeper.doubt)
                elif told[0] and not keeper.doubt:
                    log.warning("clock: believed again")
                await self._runtime.report(ClockJudged(*said, set_s))
                self._stamped_s = None
            told = said
            if now.utc_trusted and (self._stamped_s is None or now.mono_s - self._stamped_s >= STAMP_S):
                self._stamped_s = now.mono_s
                await self._stamp(now)
            await self._clock.sleep(LOOK_S)

    async def _stamp(self, now: Moment) -> None:
        trouble = ""
        try:
            await asyncio.to_thread(stamp, self._folder, now)
        except OSError as error:
            trouble = str(error)
        if trouble and trouble != self._trouble:
            log.warning("clock: the next start cannot know when it was right: %s", trouble)
        self._trouble = trouble
