"""`make soak`: virtual nights without end, over all cores; says how far it is, and how to see each failure again.

make soak ARGS="--seeds 5000"        seeds 0 to 4999
make soak ARGS="--seeds 500 --from 20000"
make soak ARGS="--seed 1234"         one night: its story, and how it ends
make soak ARGS=month                 something else: a month of the whole controller, with kills (tests/bench/month.py)
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor

from virtual_oracle import judged

SAID_EVERY_S = 10.0
SHOWN = 20  # failures


def failure(seed: int, *, story: bool = False) -> str | None:
    """What broke in this night, in one line; with the story before it where wanted."""
    try:
        for line in judged(seed):
            if story:
                print(line)
    except Exception as error:
        if story:
            raise
        return f"seed {seed}: {type(error).__name__}: {error}"
    return None


def main(words: Sequence[str]) -> int:
    if words[:1] == ["month"]:
        os.execv(sys.executable, [sys.executable, "-m", "tests.bench.month", *words[1:]])
    parser = argparse.ArgumentParser(
        prog="make soak", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=1000, help="how many nights")
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first seed")
    parser.add_argument("--seed", type=int, help="one night only, with its story")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    asked = parser.parse_args(words)
    if asked.seed is not None:
        failure(asked.seed, story=True)
        print("every invariant held")
        return 0
    return _many(range(asked.first, asked.first + asked.seeds), asked.jobs)


def _many(seeds: range, jobs: int) -> int:
    began_s = said_s = time.monotonic()
    broken = 0
    with ProcessPoolExecutor(max_workers=jobs) as pool:
        for done, said in enumerate(pool.map(failure, seeds, chunksize=5), 1):
            if said is not None:
                broken += 1
                seed = seeds[done - 1]
                print(f'{said}\n    again: make soak ARGS="--seed {seed}"', flush=True)
            if broken >= SHOWN:
                print(f"stopped after {broken} failures", flush=True)
                pool.shutdown(cancel_futures=True)
                return 1
            if time.monotonic() - said_s >= SAID_EVERY_S:
                said_s = time.monotonic()
                print(f"{done} of {len(seeds)} nights, {broken} broken, {said_s - began_s:.0f} s", flush=True)
    print(f"{len(seeds)} nights in {time.monotonic() - began_s:.0f} s, {broken} broken")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
