"""The planner's thread: the loop goes on, late answers are dropped, a hanging solver is told and tried again."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from dataclasses import replace

import pytest
from test_horizon import NOW, request, three

from controller.core.model import Plan
from controller.core.planning import PlanRequest
from controller.planner.worker import PlanWorker

ASKED = request(three(2), [(4, 20), (1, 11)])


async def test_a_plan_comes_from_the_thread() -> None:
    threads = []

    def planning(asked: PlanRequest) -> Plan:
        threads.append(threading.current_thread())
        return Plan(asked.now.utc, "horizon", {})

    assert await PlanWorker(planning).plan(ASKED) == Plan(NOW, "horizon", {})
    assert threads[0] is not threading.main_thread()


async def test_a_hanging_solver_is_given_up_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    go_on, ended = threading.Event(), threading.Event()
    runs = []

    def planning(asked: PlanRequest) -> Plan:
        runs.append(asked)
        if len(runs) == 2:
            go_on.wait(10)
            ended.set()
        return Plan(asked.now.utc, "horizon", {})

    worker = PlanWorker(planning, late_s=0.05)
    with caplog.at_level(logging.WARNING):
        assert (await worker.plan(ASKED)).by == "horizon"
        late = await worker.plan(ASKED)
        assert (late.by, late.why) == ("rules", "the solver did not answer within 0.05 s")
        assert late.wishes
        assert (await worker.plan(ASKED)).why == "the solver still hangs"
        assert len(runs) == 2
        go_on.set()
        async with asyncio.timeout(5):
            while (made := await worker.plan(ASKED)).by != "horizon":  # noqa: ASYNC110 - a thread ends
                await asyncio.sleep(0.01)
    assert made.why == ""
    assert ended.is_set()
    assert [record.getMessage() for record in caplog.records] == [
        "planned by rules now: the solver did not answer within 0.05 s",
        "planned by horizon now",
    ]


async def test_a_failing_planner_leaves_it_to_the_rules() -> None:
    def planning(asked: PlanRequest) -> Plan:
        raise MemoryError("no memory")

    made = await PlanWorker(planning).plan(ASKED)
    assert (made.by, made.why) == ("rules", "MemoryError: no memory")


async def test_the_loop_goes_on_while_the_solver_runs() -> None:
    big = request(three(50, 200), [(6 + n % 10, 30 + n) for n in range(50)])
    longest_s, done = 0.0, asyncio.Event()

    async def beat() -> None:
        nonlocal longest_s
        while not done.is_set():
            before_s = time.perf_counter()
            await asyncio.sleep(0.001)
            longest_s = max(longest_s, time.perf_counter() - before_s)

    async with asyncio.TaskGroup() as group:
        group.create_task(beat())
        made = await PlanWorker(late_s=10).plan(replace(big, peak_price=5.0))
        done.set()
    assert made.by == "horizon"
    assert longest_s < 0.25
