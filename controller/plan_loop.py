"""Keeps advice fresh: asks the planner when something relevant changed, else every few minutes; never two at once.

Owns when a plan is made and the newest one in full. The core is told of it by `PlanReady`, without the long series
that only people look at. Nothing here can hold up a step: a planner works elsewhere, or takes microseconds.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime, timedelta

from controller.core.depot import Depot
from controller.core.events import PlanReady
from controller.core.model import Moment, Plan
from controller.core.planning import PlanRequest
from controller.core.windows import windows
from controller.ports import Clock, Report

log = logging.getLogger(__name__)

LOOK_S = 2.0  # a change that nobody announced is seen this soon
GAP_S = 1.0  # a burst of changes becomes two plans
EVERY_S = 300.0
QUARTER_S = 900  # plans begin anew with each clock quarter: prices, windows and peaks do
AGAIN_S = 30.0  # after a plan that is only a stopgap

Planner = Callable[[PlanRequest], Plan | Awaitable[Plan]]


class PlanLoop:
    """`complete` adds to a request what the core does not know; set it before `run`."""

    def __init__(self, depot: Depot, clock: Clock, report: Report, planner: Planner) -> None:
        self.wanted = asyncio.Event()
        self.complete: Callable[[PlanRequest], PlanRequest] = lambda request: request
        self.newest: tuple[PlanRequest, Plan] | None = None  # whole, with what it was made from
        self._depot = depot
        self._clock = clock
        self._report = report
        self._planner = planner
        self._failing = False
        self._edge: datetime | None = None  # when what is planned for changes by itself

    async def run(self) -> None:
        while True:
            self.wanted.clear()
            began = self._clock.now()
            seen = self._look(began)
            await self._plan(began)
            await self._until_due(began, seen)

    async def _plan(self, now: Moment) -> None:
        try:
            request = self.complete(self._depot.plan_request(now))
            self._edge = next_edge(request, now.utc + timedelta(seconds=EVERY_S))
            answer = self._planner(request)
            plan = await answer if inspect.isawaitable(answer) else answer
        except Exception:
            # the allocator goes on with the last advice
            if not self._failing:
                log.exception("the planner failed")
            self._failing = True
            return
        self._failing = False
        self.newest = (request, plan)
        await self._report(PlanReady(replace(plan, slots=(), evses_w={}, site_w=())))

    async def _until_due(self, made: Moment, seen: object) -> None:
        stopgap = self._failing or (self.newest is not None and bool(self.newest[1].why))
        every_s = AGAIN_S if stopgap and made.utc_trusted else EVERY_S
        while True:
            await self._pause(LOOK_S)
            now = self._clock.now()
            if self.wanted.is_set() or self._look(now) != seen:
                await self._clock.sleep(GAP_S - (now.mono_s - made.mono_s))
                return
            if now.mono_s - made.mono_s >= every_s or _quarter(now) != _quarter(made):
                return
            if self._edge is not None and made.utc < self._edge <= now.utc:
                return

    async def _pause(self, seconds: float) -> None:
        """Ends early when a plan is wanted."""
        if self.wanted.is_set():
            return
        waits = [asyncio.ensure_future(self._clock.sleep(seconds)), asyncio.ensure_future(self.wanted.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def _look(self, now: Moment) -> object:
        """What makes a new plan necessary when it changes: who is here, what was announced, what the clock opens."""
        request = self._depot.plan_request(now)
        watched = request.schedules  # whose schedule may have a target
        here = [
            (p.evse, p.vehicle, p.started, p.soc if p.evse in watched else None, p.drawn_ma == 0)
            for p in request.present
        ]
        coming = [(e.evse, e.vehicle, e.departs) for e in request.expected]
        return now.utc_trusted, here, coming, request.departures, watched, self._depot.tariff


def next_edge(request: PlanRequest, until: datetime) -> datetime:
    """When the next window opens or closes, or the next departure passes; `until` if nothing does before."""
    now = request.now.utc
    edges = [departure.at for departure in request.departures.values() if departure.at > now]
    for schedules in request.schedules.values():
        for schedule in schedules:
            for window in windows(schedule, now, until):
                edges += [edge for edge in (window.start, window.end) if edge > now]
    return min([until, *edges])


def _quarter(now: Moment) -> int:
    return int(now.utc.timestamp()) // QUARTER_S
