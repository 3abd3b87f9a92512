"""Who is next: the turns of our calls and the inbox of theirs."""

from __future__ import annotations

import asyncio

import pytest

from drivers.errors import Unreachable
from drivers.ocpp.frames import Call, Flaw, Malformed
from drivers.ocpp.queues import Inbox, Lane, Turns


async def queue_up(turns: Turns, lane: Lane, name: str, order: list[str]) -> asyncio.Task[None]:
    async def work() -> None:
        async with turns.take(lane):
            order.append(name)
            await asyncio.sleep(0)

    task = asyncio.create_task(work())
    await asyncio.sleep(0)  # it has asked for its turn
    return task


async def test_safety_overtakes_housekeeping_and_each_lane_keeps_its_order() -> None:
    turns, order = Turns(), list[str]()
    async with turns.take(Lane.HOUSEKEEPING):
        tasks = [
            await queue_up(turns, Lane.HOUSEKEEPING, "h1", order),
            await queue_up(turns, Lane.HOUSEKEEPING, "h2", order),
            await queue_up(turns, Lane.SAFETY, "s1", order),
            await queue_up(turns, Lane.SAFETY, "s2", order),
        ]
        await asyncio.wait_for(turns.safety_waits(), 1)
    await asyncio.wait_for(asyncio.gather(*tasks), 1)
    assert order == ["s1", "s2", "h1", "h2"]


async def test_one_who_gives_up_does_not_keep_the_turn() -> None:
    turns, order = Turns(), list[str]()
    async with turns.take(Lane.SAFETY):
        waiting = await queue_up(turns, Lane.SAFETY, "gone", order)
        handed = await queue_up(turns, Lane.SAFETY, "handed", order)
        last = await queue_up(turns, Lane.HOUSEKEEPING, "last", order)
        waiting.cancel()
        await asyncio.sleep(0)
    handed.cancel()  # the turn is its own already, but it has not run yet
    await asyncio.wait_for(last, 1)
    assert order == ["last"]
    async with asyncio.timeout(1), turns.take(Lane.HOUSEKEEPING):
        pass


async def test_everybody_who_waits_hears_of_the_end() -> None:
    turns = Turns()
    async with turns.take(Lane.SAFETY):
        waiting = [await queue_up(turns, lane, "x", []) for lane in Lane]
        turns.close()
        results = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 1)
    assert [type(result) for result in results] == [Unreachable, Unreachable]
    with pytest.raises(Unreachable):
        async with turns.take(Lane.SAFETY):
            pass


def call(action: str, id: str = "x") -> Call:
    return Call(id, action, {})


async def test_a_full_inbox_drops_the_oldest_that_may_be_dropped() -> None:
    inbox = Inbox(lambda action: action == "MeterValues", size=3)
    assert all(
        inbox.put(call(*each)) for each in (("Start", "1"), ("MeterValues", "2"), ("MeterValues", "3"))
    )
    assert inbox.put(call("Stop", "4"))
    assert inbox.put(call("Stop", "5"))
    assert inbox.put(call("MeterValues", "6"))  # taken and dropped: it is the only one that may be
    assert not inbox.put(call("Stop", "7"))
    assert inbox.dropped == 3
    left = [await inbox.get() for _ in range(3)]
    assert [each.id for each in left] == ["1", "4", "5"]


async def test_an_error_to_answer_is_dropped_before_a_transaction() -> None:
    inbox = Inbox(lambda action: False, size=1)
    assert inbox.put(Malformed("1", Flaw.FORMATION, ""))
    assert inbox.put(call("Start"))
    assert await inbox.get() == call("Start")
