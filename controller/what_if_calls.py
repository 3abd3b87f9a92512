"""The console's call about what would be if something were different: two plans made now, one of it as it is.

Owns the asking: one question at a time, planned beside the loop and within the planner's time. Looks only, so a viewer may
ask: the plan that steers stays the newest one of `plan_loop`, and nothing here is kept.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Mapping
from typing import Any

from controller.calls import takes
from controller.channel_calls import Call
from controller.console import Args, Peer, Refusal, _text
from controller.core.model import Plan
from controller.core.planning import PlanRequest
from controller.plan_calls import PlanCalls, plan_document
from controller.plan_loop import Planner
from controller.runtime import Runtime
from controller.what_if import changed

LONGEST = 500  # characters


class WhatIfCalls:
    """`table` is for `Console`: name -> (whether only operators may, the call). `planner`: one of its own, so that a
    question never waits for the plan that steers, nor that for a question."""

    def __init__(self, runtime: Runtime, plans: PlanCalls, planner: Planner) -> None:
        self._runtime = runtime
        self._plans = plans
        self._planner = planner
        self._asking = asyncio.Lock()
        self.table: Mapping[str, tuple[bool, Call]] = {"what-if": (False, self._what_if)}

    @takes("change")
    async def _what_if(self, args: Args, peer: Peer) -> Any:
        """`now` and `then`: documents as `plan` gives, both planned at this moment. `change`: what is different, in words."""
        text = _text(args, "change") or ""
        if len(text) > LONGEST:
            raise Refusal("bad-request", f"ask in up to {LONGEST} characters")
        runtime = self._runtime
        request = runtime.planning.complete(runtime.depot.plan_request(runtime.clock.now()))
        try:
            other, words = changed(request, text)
        except (ValueError, OverflowError) as error:
            raise Refusal("bad-request", str(error)) from None
        if self._asking.locked():
            raise Refusal("busy", "another question is being planned; ask again in some seconds")
        async with self._asking:
            plans = [(each, await self._plan(each)) for each in (request, other)]
        now, then = (self._plans.frame() | plan_document(*plan) for plan in plans)
        return {"change": list(words), "now": now, "then": then}

    async def _plan(self, request: PlanRequest) -> Plan:
        answer = self._planner(request)
        return await answer if inspect.isawaitable(answer) else answer
