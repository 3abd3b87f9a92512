"""The cost of the allocator alone, and how it grows with the number of EVSEs. In time of the processor, so that what else
runs on the machine does not count.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Iterator
from random import Random

from controller.core.allocator import Demand, allocate
from controller.core.grid import Grid
from tests.bench.figures import Figure, percentile
from tests.bench.step import a_site

TARGETS_MS = {10: None, 50: 1.0, 200: 5.0, 500: None}
ROUNDS = 300


def allocator() -> Iterator[Figure]:
    typical_ms = {}
    for count, target_ms in TARGETS_MS.items():
        took_ms = _allocations_ms(count)
        typical_ms[count] = percentile(took_ms, 50)
        yield Figure(f"allocator alone, {count} EVSEs, p50", typical_ms[count], "ms")
        yield Figure("the same, p99", percentile(took_ms, 99), "ms", target_ms)
    for less, more in ((10, 50), (50, 200), (200, 500)):
        grown = typical_ms[more] / typical_ms[less]
        expected = more * math.log(more) / (less * math.log(less))
        yield Figure(f"growth from {less} to {more} EVSEs, of n log n", grown / expected, "", 1.0)


def _allocations_ms(evses: int) -> list[float]:
    """Three tiers, caps of all sizes, rooms that carry about half: the dear case, where everybody is cut."""
    site, random = a_site(evses), Random(evses)
    grid, took_ms = Grid.of(site), []
    gc.collect()
    gc.freeze()  # as `depot run` does
    for _ in range(ROUNDS):
        demands = [
            Demand(evse, 6_000, random.randrange(6_000, 33_000, 1_000), 1_000, 6_000, tier=random.randrange(3),
                   rank=random.random(), running=random.random() < 0.7)
            for evse in site.evses
        ]  # fmt: skip
        room = [limit - random.randrange(limit // 3) for limit in grid.limits_ma]
        began_s = time.thread_time()
        allocate(grid, demands, room)
        took_ms.append((time.thread_time() - began_s) * 1e3)
    return took_ms
