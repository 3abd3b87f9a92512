"""`python -m tests.bench [NAME...] [--json]`: measures, prints a table, exits 0 whatever the numbers are."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence

from tests.bench import allocator, meters, ocpp, onsite, plant, processes, scale, screen, step, storage
from tests.bench.figures import Figure

BENCHES: dict[str, tuple[str, Callable[[], Iterator[Figure]]]] = {
    "step": ("5 s", step.step),
    "allocator": ("10 s", allocator.allocator),
    "plant": ("5 min", plant.plant),
    "storage": ("6 min", storage.storage),
    "meters": ("25 s", meters.meters),
    "start": ("10 s", processes.start),
    "memory": ("45 s", processes.memory),
    "storm": ("30 s", processes.storm),
    "onsite": ("45 s", onsite.onsite),
    "ocpp": ("40 s", ocpp.ocpp),
    "wire": ("35 s", processes.wire),
    "ui": ("80 s", screen.screen),
    "reaction": ("6 min", processes.reaction),
    "scale": ("6 min", scale.scale),
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    names = ", ".join(f"{name} ({takes})" for name, (takes, _) in BENCHES.items())
    parser.add_argument("name", nargs="*", metavar="NAME", help=f"all, or some of: {names}")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout, progress on stderr")
    options = parser.parse_args(arguments)
    unknown = set(options.name) - set(BENCHES)
    if unknown:
        parser.error(f"no bench {', '.join(sorted(unknown))}; there are {names}")
    figures: list[Figure] = []
    for name in options.name or BENCHES:
        takes, bench = BENCHES[name]
        print(f"{name}: takes about {takes}", file=sys.stderr, flush=True)
        began_s = time.monotonic()
        figures += bench()
        print(f"{name}: took {time.monotonic() - began_s:.0f} s", file=sys.stderr, flush=True)
    print(json.dumps([one.document() for one in figures], indent=2) if options.json else table(figures))
    return 0


def table(figures: Sequence[Figure]) -> str:
    width = max(len(one.name) for one in figures)
    lines = [f"{'NAME':{width}}  {'TARGET':>8}  {'MEASURED':>9}  UNIT  VERDICT"]
    for one in figures:
        target = "-" if one.target is None else f"{one.target:g}"
        lines.append(f"{one.name:{width}}  {target:>8}  {one.measured:9.3g}  {one.unit:4}  {one.verdict}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
