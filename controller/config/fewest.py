"""The fewest stations that must pause so that the rest fits: exact, and quick because stations come in few kinds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence


def fewest(draws: Sequence[Sequence[int]], over: Sequence[int]) -> int | None:
    """How many of the `draws` (each a load per phase) must go to take `over` off every phase; None: all are not enough.

    Kinds that draw alike are interchangeable, so only their counts are tried; a branch that cannot beat the best, or
    cannot get there with all that is left, is left out.
    """
    counted = Counter(tuple(draw) for draw in draws if any(draw))
    kinds = sorted(counted.items(), key=lambda kind: sum(kind[0]), reverse=True)
    rest = [[0] * len(over)]  # what all kinds from here on draw together
    for draw, count in reversed(kinds):
        rest.append([total + count * each for total, each in zip(rest[-1], draw, strict=True)])
    rest.reverse()
    highest = [
        [max((draw[p] for draw, _ in kinds[at:]), default=0) for p in range(len(over))]
        for at in range(len(kinds) + 1)
    ]
    best: int | None = None

    def search(at: int, left: Sequence[int], gone: int) -> None:
        nonlocal best
        open_phases = [p for p, each in enumerate(left) if each > 0]
        if not open_phases:
            best = gone if best is None else min(best, gone)
            return
        if any(left[p] > rest[at][p] for p in open_phases):
            return
        needed = max(-(-left[p] // highest[at][p]) for p in open_phases)
        if best is not None and gone + needed >= best:
            return
        draw, count = kinds[at]
        useful = max((-(-left[p] // draw[p]) for p in open_phases if draw[p]), default=0)
        for number in range(min(count, useful), -1, -1):
            search(
                at + 1, [each - number * load for each, load in zip(left, draw, strict=True)], gone + number
            )

    search(0, list(over), 0)
    return best
