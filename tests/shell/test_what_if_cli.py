"""What if: over the socket and as a command; two plans are made, and nothing of what steers is touched."""

from __future__ import annotations

import asyncio
import json
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from small_depot import A1, START, SmallDepot, caller, small_depot

from controller.cli import main
from controller.core.events import DepartureSet
from controller.core.model import Departure, Plan
from controller.core.planning import PlanRequest
from controller.planner import horizon, rules
from controller.planner.worker import PlanWorker


async def busy(depot: SmallDepot) -> None:
    """BUS-07 charges and leaves at 10 h with 30 kWh."""
    await depot.connect_stations()
    await depot.runtime.report(DepartureSet("ann", Departure("BUS-07", START + timedelta(hours=10), 30_000)))
    await depot.begin(A1)
    await depot.until(lambda: depot.runtime.planning.newest is not None)


async def ask(depot: SmallDepot, change: str) -> Any:
    async with caller(depot.socket) as client:
        return await client.call("what-if", change=change)


async def test_two_plans_one_beside_the_other(tmp_path: Path) -> None:
    async with small_depot(tmp_path, planner=PlanWorker().plan) as depot:
        await busy(depot)
        before = depot.runtime.depot.plan_request(depot.clock.now())
        told = await ask(depot, "BUS-07 -9h; add 1")
        assert told["now"]["by"] == told["then"]["by"] == "horizon"
        (now,), then = told["now"]["evses"], {each["evse"]: each for each in told["then"]["evses"]}
        assert now["short_wh"] == 0 and then[A1]["short_wh"] > 5_000, "an hour is too short for 30 kWh"
        assert len(then) == 2 and len(told["change"]) == 2
        assert depot.runtime.depot.plan_request(depot.clock.now()) == before, "asking changed nothing"
        newest = depot.runtime.planning.newest
        assert newest is not None and set(newest[0].departures) == {"BUS-07"}


@pytest.mark.parametrize(
    ("args", "part"),
    [
        ({}, "say what would be different"),
        ({"change": 7}, "change must be text"),
        ({"change": "x" * 501}, "up to 500 characters"),
        ({"change": "BUS-99 +1h"}, "no vehicle that is here"),
    ],
)
async def test_bad_questions(depot: SmallDepot, args: dict[str, object], part: str) -> None:
    async with caller(depot.socket) as client:
        code, text = await client.refusal("what-if", **args)
    assert code == "bad-request" and part in text


async def test_one_question_at_a_time_and_steps_go_on(tmp_path: Path) -> None:
    """A solver that takes its time holds up neither the next question's refusal nor a step."""
    go, asked = threading.Event(), threading.Event()

    def slow(request: PlanRequest) -> Plan:
        asked.set()
        go.wait(5.0)
        return rules.plan(request)

    async with small_depot(tmp_path, what_if=PlanWorker(slow, steers=False).plan) as depot:
        await busy(depot)
        first = asyncio.create_task(ask(depot, "site.limit=20 A"))
        await depot.until(asked.is_set)
        async with caller(depot.socket) as client:
            assert (await client.refusal("what-if", change="add 1 9 kWh 20:00"))[0] == "busy"
        seen = depot.runtime.snapshot
        await depot.clock.advance(2.0)
        await depot.until(lambda: depot.runtime.snapshot is not seen)
        assert not first.done()
        go.set()
        told = await first
        assert told["then"]["by"] == "rules"


async def test_a_solver_that_hangs_is_given_up_and_said(tmp_path: Path) -> None:
    go = threading.Event()

    def hangs(request: PlanRequest) -> Plan:
        go.wait(5.0)
        return horizon.plan(request)

    async with small_depot(tmp_path, what_if=PlanWorker(hangs, late_s=0.05, steers=False).plan) as depot:
        await busy(depot)
        told = await ask(depot, "site.limit=20 A")
        assert "did not answer within" in told["now"]["why"] and "still hangs" in told["then"]["why"]
        go.set()


def test_the_command(live: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--what-if", "add 1 30 kWh 23:00; site.limit=30 A", "--socket", str(live)]) == 0
    out = capsys.readouterr().out
    assert (
        "what if: one more vehicle at A/1, leaving " in out
        and "what if: limit of site 30 A (now 60 A)" in out
    )
    assert "\nready          1/1      " in out and out.endswith("\nnothing was changed\n")
    assert max(map(len, out.splitlines())) <= 80
    assert main(["plan", "--what-if", "add 1 30 kWh 23:00", "--json", "--socket", str(live)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["figures"]["then"]["vehicles"] == 2 and told["figures"]["now"]["vehicles"] == 1
    assert main(["plan", "--what-if", "tomorrow", "--socket", str(live)]) == 2
    assert "site.limit=200 A" in capsys.readouterr().err
