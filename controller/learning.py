"""Learning from what has been: reads the finished stays, hands the habits in them to the depot.

Owns when that happens: at the start, and some time after sessions have ended. The arithmetic stands in `core.habits` and
runs in a thread, beside the steps.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime

from controller.core.events import Event, HabitsLearned, TransactionEnded
from controller.core.habits import Stay, draws, errors_s, learned
from controller.ledger import LedgerError
from controller.roster_store import finished_stays
from controller.runtime import Runtime
from controller.storage import Storage

log = logging.getLogger(__name__)

AFTER_S = 120.0  # several vehicles leave together: learn once from all of them
MOST_ERRORS = 500  # the newest departures


class Learning:
    """`run` works beside the runtime until cancelled."""

    def __init__(self, runtime: Runtime, storage: Storage, after_s: float = AFTER_S) -> None:
        self._runtime = runtime
        self._storage = storage
        self._after_s = after_s
        self._ended = asyncio.Event()

    async def run(self) -> None:
        self._runtime.hearers.append(self._hear)
        while True:
            await self._learn()
            await self._ended.wait()
            await self._runtime.clock.sleep(self._after_s)
            self._ended.clear()

    def _hear(self, event: Event) -> None:
        if isinstance(event, TransactionEnded):
            self._ended.set()

    async def _learn(self) -> None:
        now = self._runtime.clock.now().utc
        try:
            stays = await finished_stays(self._storage, now)
        except LedgerError as error:
            log.warning("habits are not learned now: %s", error)
            return
        habits = await asyncio.to_thread(habits_in, stays, self._runtime.depot.site.timezone, now)
        agenda = self._runtime.depot.agenda
        known = HabitsLearned(tuple(agenda.habits.values()), agenda.errors_s, tuple(agenda.draws.values()))
        if habits != known:
            await self._runtime.report(habits)


def habits_in(stays: list[Stay], timezone: str, now: datetime) -> HabitsLearned:
    """`stays` newest first."""
    return HabitsLearned(learned(stays, timezone, now), errors_s(stays)[:MOST_ERRORS], draws(stays))
