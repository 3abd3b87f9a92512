"""The planner in a thread of its own: one run at a time, newest request wins, late answers are dropped.

The control loop goes on while HiGHS computes (it lets go of the interpreter). A run that does not come back in time
is given up: the rules answer from then on, and the solver is tried again once its thread has come back.
Must not touch the loop's state: a request goes in, a plan comes out.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace

from controller.core.model import Plan, Wish
from controller.core.planning import PlanRequest
from controller.core.standby_plan import standbys
from controller.planner import horizon, rules

log = logging.getLogger(__name__)

Planning = Callable[[PlanRequest], Plan]
LATE_S = 3.0  # beyond the solver's own time limit


class PlanWorker:
    """`plan` never raises for what the planner does, and never takes longer than `late_s`."""

    def __init__(
        self, planning: Planning = horizon.plan, late_s: float = LATE_S, *, steers: bool = True
    ) -> None:
        self._planning = planning
        self._late_s = late_s
        self._steers = steers  # what only answers a question makes no line of log
        self.busy = False  # a run is under way
        self._lost: threading.Thread | None = None  # a run that was given up and still computes
        self._by = ""

    async def plan(self, request: PlanRequest) -> Plan:
        if self._lost is not None and self._lost.is_alive():
            return self._said(replace(rules.plan(request), why="the solver still hangs"))
        self._lost = None
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Plan] = loop.create_future()

        def settle(plan: Plan | None, error: BaseException | None) -> None:
            if not answer.done():
                if plan is not None:
                    answer.set_result(plan)
                else:
                    # what would end a program ends a run of the planner only
                    wrong = error if isinstance(error, Exception) else RuntimeError(repr(error or "no plan"))
                    answer.set_exception(wrong)

        def work() -> None:
            plan, failure = None, None
            try:
                plan = self._planning(request)
                if self._steers and isinstance(plan, Plan):
                    plan = replace(plan, standbys=standbys(request, plan))
            except BaseException as error:  # handed to the loop, whatever it is
                failure = error
            try:
                loop.call_soon_threadsafe(settle, plan, failure)
            except RuntimeError:
                log.info("a plan came after the loop had ended")

        # a daemon: a solver that hangs must not keep the process from ending
        thread = threading.Thread(target=work, name="planner", daemon=True)
        thread.start()
        self.busy = True
        try:
            async with asyncio.timeout(self._late_s):
                plan = await answer
        except TimeoutError:
            self._lost = thread
            plan = replace(rules.plan(request), why=f"the solver did not answer within {self._late_s:g} s")
        except asyncio.CancelledError:
            self._lost = thread
            raise
        except Exception as error:
            plan = replace(rules.plan(request), why=f"{type(error).__name__}: {error}")
        else:
            if (wrong := nonsense(plan, request)) is not None:
                plan = replace(rules.plan(request), why=f"the solver's plan is nonsense: {wrong}")
        finally:
            self.busy = False
        return self._said(plan)

    def _said(self, plan: Plan) -> Plan:
        """Tells of a switch between planners, once."""
        if self._steers and plan.by != self._by and self._by:
            log.warning("planned by %s now%s", plan.by, f": {plan.why}" if plan.why else "")
        self._by = plan.by
        return plan


def nonsense(plan: object, request: PlanRequest) -> str | None:
    """The first thing no planner may say, or None. Whether a plan is good is another question."""
    if not isinstance(plan, Plan) or not isinstance(plan.wishes, Mapping):
        return "it is not a plan"
    for evse, wish in plan.wishes.items():
        if evse not in request.site.evses:
            return f"there is no EVSE {evse}"
        if not isinstance(wish, Wish) or not math.isfinite(wish.rank) or not isinstance(wish.tier, int):
            return f"{evse}: not a wish"
        for amount in (wish.cap_ma, wish.short_wh):
            if amount is not None and (not isinstance(amount, int) or amount < 0):
                return f"{evse}: {amount} is not an amount"
    if plan.battery_w is not None and not isinstance(plan.battery_w, int):
        return f"{plan.battery_w} is not a power for the battery"
    return None
