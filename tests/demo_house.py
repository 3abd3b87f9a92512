"""The simulated depot of `depot demo` with the real controller above it, in the loop of a test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from controller.cli.compose import House
from controller.config import load
from controller.runtime import Runtime
from drivers.sim.site import DemoSite


@asynccontextmanager
async def demo_house(site: DemoSite, folder: Path) -> AsyncIterator[Runtime]:
    await site.start()
    house = House(load(site.write(folder)), site.clock)
    work: list[asyncio.Task[None]] = []
    try:
        async with house.open() as runtime:
            assert house.ocpp is not None
            work.append(asyncio.create_task(house.run(runtime)))
            await house.ocpp.ready()
            work.insert(0, asyncio.create_task(site.run(house.ocpp.port)))  # the world ends first
            yield runtime
            await ended(work)
    finally:
        await ended(work)
        await site.stop()


async def ended(work: list[asyncio.Task[None]]) -> None:
    for task in work:
        task.cancel()
    await asyncio.gather(*work, return_exceptions=True)
