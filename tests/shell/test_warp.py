"""Time on the fast loop: it passes only when nothing is going on, and as fast as was asked at most."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import pytest

from controller import warp
from controller.warp import WarpedClock, WarpedLoop

BEGAN = datetime(2026, 11, 23, 13, 0, tzinfo=UTC)
FAST = 1e6


def live(work: Callable[[WarpedLoop, WarpedClock], Awaitable[None]], speed: float = FAST) -> float:
    """The wall seconds it took."""
    began_s = time.monotonic()

    async def run() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, WarpedLoop)
        await work(loop, WarpedClock(loop, BEGAN))

    with asyncio.Runner(loop_factory=lambda: WarpedLoop(speed)) as runner:
        runner.run(run())
    return time.monotonic() - began_s


def test_a_day_passes_in_no_time_and_the_calendar_follows() -> None:
    async def work(loop: WarpedLoop, clock: WarpedClock) -> None:
        await clock.sleep(86_400.0)
        now = clock.now()
        assert 86_400.0 <= now.mono_s < 86_401.0
        assert (now.utc - BEGAN).total_seconds() == pytest.approx(now.mono_s, abs=1e-3)
        assert now.utc_trusted

    assert live(work) < 10.0


def test_a_sleep_too_short_to_count_does_not_stop_time() -> None:
    """Who sleeps what is left until a moment gets there, rounding or not."""

    async def work(loop: WarpedLoop, clock: WarpedClock) -> None:
        await clock.sleep(600_000.0)
        before_s = clock.now().mono_s
        await clock.sleep(1e-12)
        assert clock.now().mono_s > before_s

    live(work)


def test_it_is_never_faster_than_asked() -> None:
    async def work(loop: WarpedLoop, clock: WarpedClock) -> None:
        for _ in range(100):
            await clock.sleep(0.1)

    # what may be caught up after a busy start counts for a quarter of a second
    assert live(work, speed=10.0) >= 1.0 - warp.CREDIT_S


def test_sleepers_wake_in_the_order_of_their_time() -> None:
    woke: list[float] = []

    async def work(loop: WarpedLoop, clock: WarpedClock) -> None:
        async def sleeper(seconds: float) -> None:
            await clock.sleep(seconds)
            woke.append(clock.now().mono_s)

        await asyncio.gather(*(sleeper(seconds) for seconds in (500.0, 3.0, 0.25, 3.0, 60.0)))

    live(work)
    assert woke == pytest.approx([0.25, 3.0, 3.0, 60.0, 500.0], abs=0.01)


def test_computing_takes_no_time() -> None:
    async def work(loop: WarpedLoop, clock: WarpedClock) -> None:
        before_s = clock.now().mono_s
        time.sleep(0.05)  # noqa: ASYNC251 - as a long computation
        await asyncio.sleep(0)
        assert clock.now().mono_s == before_s

    live(work)


def test_talking_over_a_socket_takes_no_time_but_waiting_does() -> None:
    async def work(loop: WarpedLoop, clock: WarpedClock) -> None:
        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while line := await reader.readline():
                writer.write(line)
            writer.close()

        async def tick() -> None:
            while True:
                await clock.sleep(1.0)

        ticking = asyncio.create_task(tick())  # something is always due
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        before_s = clock.now().mono_s
        for _ in range(50):
            writer.write(b"hello\n")
            async with asyncio.timeout(120.0):  # of simulated time
                assert await reader.readline() == b"hello\n"
        # a kernel under load may hand over late; without standing still each round would take hours
        assert clock.now().mono_s - before_s < 120.0
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(60.0):
                await reader.readline()
        writer.close()
        await writer.wait_closed()
        server.close()
        ticking.cancel()

    assert live(work) < 20.0


def test_time_stands_still_for_who_works_in_a_thread() -> None:
    async def work(loop: WarpedLoop, clock: WarpedClock) -> None:
        busy, done = threading.Event(), asyncio.Event()
        loop.hold(busy.is_set)
        busy.set()

        def compute() -> None:
            time.sleep(0.1)
            loop.call_soon_threadsafe(finish)

        def finish() -> None:
            busy.clear()
            done.set()

        thread = threading.Thread(target=compute)
        thread.start()
        async with asyncio.timeout(3.0):
            await done.wait()
        assert clock.now().mono_s == 0.0
        thread.join()

    live(work)


def test_who_never_lets_go_holds_nothing_up_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warp, "LONGEST_HOLD_S", 0.05)

    async def work(loop: WarpedLoop, clock: WarpedClock) -> None:
        loop.hold(lambda: True)
        for _ in range(1000):
            await clock.sleep(0.01)
        assert clock.now().mono_s == pytest.approx(10.0)

    assert live(work) < 5.0
