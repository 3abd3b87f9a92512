"""The controller, killed from within at one point: `deadly.py POINT NUMBER run depot.toml`.

It dies as `kill -9` would have it, just before or after the NUMBER-th time of what POINT names. The controller itself knows
nothing of this: what it calls is wrapped from outside, before it starts.

    limit-before  limit-after      a charging profile goes out to a station
    answer-before answer-after     the answer to a started transaction goes out (its commit is done)
    commit-before commit-after     depot.db commits
    rename-before rename-after     a file gets another name (a mended file takes its place)

`commit-slow` does not die: from then on every commit takes SLOW_S. `driver-dies` and `console-dies` end one task of it with a
mistake, SOON_S after it began, NUMBER times.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from websockets.asyncio.connection import Connection

from controller.console import Console
from drivers.ocpp.server import OcppServer

SLOW_S = 2.5
SOON_S = 3.0


class Fate:
    """Counts, and ends the process."""

    def __init__(self, point: str, number: int) -> None:
        self.what, _, self.side = point.partition("-")
        self.left = number

    def meets(self, what: str, *, after: bool) -> None:
        if what != self.what:
            return
        self.left -= not after
        if self.left <= 0 and self.side == "slow" and not after:
            time.sleep(SLOW_S)
        elif self.left <= 0 and (self.side == "after") == after:
            os.kill(os.getpid(), signal.SIGKILL)


def fail(fate: Fate, kind: type[Console | OcppServer]) -> None:
    plain_run: Callable[..., Any] = kind.run

    async def run(self: Any, *more: Any) -> None:
        fate.left -= 1
        async with asyncio.TaskGroup() as group:
            running = group.create_task(plain_run(self, *more))
            if fate.left >= 0:
                await asyncio.sleep(SOON_S)
                raise ValueError(f"a mistake in {kind.__name__}")
            await running

    kind.run = run  # type: ignore[method-assign]


def arm(fate: Fate) -> None:
    if fate.side == "dies":
        fail(fate, {"driver": OcppServer, "console": Console}[fate.what])
    plain_send = Connection.send

    async def send(self: Connection, message: Any, *more: Any, **named: Any) -> None:
        text = message if isinstance(message, str) else ""
        what = ""
        if text.startswith("[2,") and '"SetChargingProfile"' in text:
            what = "limit"
        elif text.startswith("[3,") and '"transactionId"' in text:
            what = "answer"
        fate.meets(what, after=False)
        await plain_send(self, message, *more, **named)
        fate.meets(what, after=True)

    Connection.send = send  # type: ignore[method-assign,assignment]

    class Books(sqlite3.Connection):
        def execute(self, statement: str, *more: Any) -> sqlite3.Cursor:  # type: ignore[override]
            what = "commit" if statement.startswith("COMMIT") else ""
            fate.meets(what, after=False)
            done = super().execute(statement, *more)
            fate.meets(what, after=True)
            return done

    plain_connect = sqlite3.connect

    def connect(path: Any, *more: Any, **named: Any) -> sqlite3.Connection:
        if "depot.db" in str(path):
            named["factory"] = Books
        return plain_connect(path, *more, **named)

    sqlite3.connect = connect  # type: ignore[assignment]

    plain_rename: Callable[[Path, Any], Path] = Path.rename

    def rename(self: Path, target: Any) -> Path:
        what = "rename" if "depot.db" in str(self) else ""
        fate.meets(what, after=False)
        done = plain_rename(self, target)
        fate.meets(what, after=True)
        return done

    Path.rename = rename  # type: ignore[method-assign,assignment]


if __name__ == "__main__":
    arm(Fate(sys.argv[1], int(sys.argv[2])))
    sys.argv[1:] = sys.argv[3:]
    from controller.__main__ import main

    sys.exit(main())
