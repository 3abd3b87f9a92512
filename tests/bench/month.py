"""A simulated month of the whole controller with random kills: `make soak ARGS=month`, or `python -m tests.bench.month`.

Everything is real but the wires: core, runtime, ledger, telemetry, journal, backups, console, in a process of its own whose
time the yard tells (month_box); fifty chargers and their vehicles are the truth (month_yard). At random moments, also in
the middle of a commit, the process is killed and started again on the same folder (month_run). At the end the books are held
against the truth (month_judge): every session once, its energy within 1 Wh, nothing lost that was acknowledged, no two at one
EVSE at once, chains and journal as `depot verify` judges them. Beside that it counts what was written, kept and held in memory.

    --days 30 --kills 45 --seed 1    how much
    --step 10                        seconds between two decisions (life: 1, which makes the journal some 7 MB a day larger)
    --calm 9                         days without kills at the beginning, so that memory shows
    --folder DIR                     where; it stays. Default: a folder that is removed
"""

from __future__ import annotations

import argparse
import os
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import takewhile
from pathlib import Path

from tests.bench.figures import Figure
from tests.bench.month_judge import ENERGY_WH, Verdict, judged, verified
from tests.bench.month_run import Day, Json, Month
from tests.bench.month_yard import DAY_S

READY_S = 60.0


def ready_s(month: Month) -> float:
    """Process start to READY, with the real command on the month's folder; the middle one of three."""
    return sorted(_ready_s(month) for _ in range(3))[1]


def _ready_s(month: Month) -> float:
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as systemd:
        address = month.folder / "notify"
        address.unlink(missing_ok=True)
        systemd.bind(str(address))
        systemd.settimeout(READY_S)
        began_s = time.monotonic()
        with (month.folder / "ready.log").open("wb") as log, subprocess.Popen(
            [sys.executable, "-m", "controller", "run", str(month.config)],
            stdout=log, stderr=log, env={**os.environ, "NOTIFY_SOCKET": str(address)},
        ) as process:  # fmt: skip
            try:
                while b"READY=1" not in systemd.recv(4096):
                    pass
                return time.monotonic() - began_s
            finally:
                process.terminate()


def kept(month: Month) -> Json:
    """What is on the disk: bytes by kind, rows and oldest row of each tier, files of the journal and backups."""
    state = month.folder / "state"
    found: Json = {"bytes": {}, "tiers": {}}
    for path in state.rglob("*"):
        if path.is_file() and path.name != "ballast":
            kind = (
                path.relative_to(state).parts[0] if path.parent != state else path.name.removesuffix("-wal")
            )
            found["bytes"][kind] = found["bytes"].get(kind, 0) + path.stat().st_size
    with closing(sqlite3.connect(state / "telemetry.db")) as db:
        for table in ("evse_samples", "evse_minutes", "evse_quarters"):
            rows, oldest = db.execute(f"SELECT count(*), min(at_s) FROM {table}").fetchone()
            age = None if oldest is None else round((month.yard.utc().timestamp() - oldest) / DAY_S, 1)
            found["tiers"][table] = {"rows": rows, "oldest_days": age}
    with closing(sqlite3.connect(state / "depot.db")) as db:
        for table in ("sessions", "audit", "alarms", "transactions", "stays"):
            found["tiers"][table] = {"rows": db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]}
    for folder in ("journal", "backups"):
        found[folder] = len(list((state / folder).glob("*")))
    return found


def slope_mb(days: Sequence[Day]) -> float:
    """Least squares of the highest memory of each day, in MB a day."""
    ys = [day.rss_kb / 1024 for day in days]
    mean_x, mean_y = (len(ys) - 1) / 2, sum(ys) / len(ys)
    spread = sum((x - mean_x) ** 2 for x in range(len(ys)))
    return sum((x - mean_x) * (y - mean_y) for x, y in enumerate(ys)) / spread if spread else 0.0


def told(number: int, day: Day) -> str:
    by = {
        name: f"{value / 1e6:.1f}" for name, value in sorted(day.by.items()) if not name.startswith("commits")
    }
    commits = {name[8:]: value for name, value in sorted(day.by.items()) if name.startswith("commits")}
    return f"day {number:2}: {day.rss_kb / 1024:.0f} MB held, {day.kills} kills, MB written {by}, {commits}, {day.took_s:.0f} s"


def figures(month: Month, verdict: Verdict, evidence: Json) -> Iterator[Figure]:
    whole = month.days[1:-1] or month.days
    disk = kept(month)
    yield Figure("what must not be, against the truth", len(verdict.broken), "", 0)
    yield Figure(
        "what `depot verify` finds",
        sum(len(evidence[each]) for each in ("broken", "breaches", "energy")),
        "",
        0,
    )
    yield Figure("kills", month.killed, "")
    yield Figure("sessions", verdict.sessions, "")
    yield Figure("energy of a session from the truth, worst", verdict.worst_wh, "Wh", ENERGY_WH)
    yield Figure("energy of all sessions from the truth", verdict.sum_wh / 1e3, "kWh")
    yield Figure("energy that flowed in them", verdict.true_wh / 1e3, "kWh")
    for name in sorted({name for day in whole for name in day.by}):
        if name.startswith("commits"):
            yield Figure(f"{name} per day", sum(day.by[name] for day in whole) / len(whole), "")
        else:
            target = 0.2 if name == "all" else None
            yield Figure(
                f"written per day: {name}",
                sum(day.by[name] for day in whole) / len(whole) / 1e9,
                "GB",
                target,
            )
    for name, size in sorted(disk["bytes"].items()):
        yield Figure(f"kept: {name}", size / 1e9, "GB")
    yield Figure("kept: all of it", sum(disk["bytes"].values()) / 1e9, "GB", 0.5)
    for name, tier in disk["tiers"].items():
        yield Figure(f"rows: {name}", tier["rows"], "")
        if tier.get("oldest_days") is not None:
            yield Figure(f"oldest: {name}", tier["oldest_days"], "d")
    yield Figure("journal files", disk["journal"], "", 15)
    yield Figure("backups", disk["backups"], "")
    yield Figure("resident memory, highest", max(day.rss_kb for day in month.days) / 1024, "MB", 150)
    calm = list(takewhile(lambda day: day.kills == 0, month.days))
    if len(calm) > 4:
        yield Figure("resident memory, growth per day, last four without kills", slope_mb(calm[-4:]), "MB")
    yield Figure("start to READY with these books", ready_s(month), "s", 3.0)


def main(words: Sequence[str] | None = None) -> int:
    from tests.bench.__main__ import table

    parser = argparse.ArgumentParser(
        prog="month", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--days", type=float, default=30)
    parser.add_argument("--kills", type=int, default=45)
    parser.add_argument("--step", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--calm", type=float, default=9)
    parser.add_argument("--folder", type=Path)
    asked = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as made:
        folder = asked.folder or Path(made)
        folder.mkdir(parents=True, exist_ok=True)
        month = Month(folder, asked.days, asked.kills, asked.step, asked.seed, asked.calm)
        for number, day in enumerate(month.run(), 1):
            print(told(number, day), flush=True)
        verdict, evidence = judged(month), verified(month)
        for line in [
            *verdict.broken,
            *evidence["broken"],
            *evidence["energy"],
            *map(str, evidence["breaches"]),
        ][:40]:
            print(f"BROKEN {line}", flush=True)
        print(table([*figures(month, verdict, evidence)]))
    return int(bool(verdict.broken) or not evidence["clean"])


if __name__ == "__main__":
    sys.exit(main())
