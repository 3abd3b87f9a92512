"""`depot log`: what happened, out of all books, newest last; with --follow it goes on. With --frames the last messages on
the wires instead.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from contextlib import suppress
from datetime import timedelta
from typing import Any, Protocol

from controller.cli.looks import _local, _moment, _print_json, ask, socket_path
from controller.core.wire import instant, instant_text
from ui.client import CallRefused, Client, NotReachable
from ui.format import UNICODE, clean

POLL_S = 1.0
OVERLAP = timedelta(seconds=10)  # what is stored late is looked for so far back

Line = dict[str, Any]


class Reads(Protocol):
    """What comes is read once each, also when it is asked for again."""

    async def all(self) -> list[Line]: ...
    def from_now_on(self, now: str) -> None: ...


def log(options: argparse.Namespace) -> int:
    if options.station is not None and not options.frames:
        raise CallRefused("bad-request", "--station goes with --frames")
    status = ask(options, "status")
    zone = status["site"].get("timezone")
    client, since = Client(socket_path(options)), _moment(options.since, zone)
    reader: Reads = FrameReader(client, since, options.station) if options.frames else Reader(client, since)
    if not options.follow:
        lines = asyncio.run(reader.all())
        if options.json:
            return _print_json(lines)
        for line in lines:
            print(told(line, zone))
        return 0
    with suppress(TimeoutError, KeyboardInterrupt):
        asyncio.run(_follow(options, reader, status["time"], zone))
    return 0


class Reader:
    """Every line once. since: None = the last lines of the log."""

    def __init__(self, client: Client, since: str | None) -> None:
        self._client = client
        self._since = since
        self._seen: dict[str, str] = {}  # id -> time, as far back as lines are read again

    async def all(self) -> list[Line]:
        """What is new. Raises CallRefused and NotReachable."""
        found: list[Line] = []
        more, since, after = True, self._since, ""
        while more:
            answer = await self._client.call("log", since=since, after=after)
            fresh = [line for line in answer["lines"] if line["id"] not in self._seen]
            found += fresh
            self._seen |= {line["id"]: line["time"] for line in fresh}
            more = answer["more"]
            if more:
                since, after = answer["lines"][-1]["time"], answer["lines"][-1]["id"]
        return found

    def from_now_on(self, now: str) -> None:
        """Next time only what comes after the newest line (or `now`), and a little before it."""
        newest = max(self._seen.values(), default=now)
        self._since = instant_text(instant(newest) - OVERLAP)
        self._seen = {id: time for id, time in self._seen.items() if instant(time) >= instant(self._since)}


class FrameReader:
    """Every frame once, as long as it is kept. since: None = the last ones."""

    def __init__(self, client: Client, since: str | None, about: str | None) -> None:
        self._client = client
        self._since = since
        self._about = about
        self._seen: list[Line] = []  # those of the time that is read again

    async def all(self) -> list[Line]:
        """What is new. Raises CallRefused and NotReachable."""
        found: list[Line] = []
        more = True
        while more:
            answer = await self._client.call("frames", since=self._since, about=self._about)
            fresh = [each for each in answer["frames"] if each not in self._seen]
            found += fresh
            more = self._since is not None and answer["more"] and bool(fresh)
            if fresh:
                newest = fresh[-1]["time"]
                self._seen = [each for each in (*self._seen, *fresh) if each["time"] == newest]
                self._since = newest if more else self._since
        return found

    def from_now_on(self, now: str) -> None:
        """Next time only what is not older than the newest one."""
        self._since = self._seen[-1]["time"] if self._seen else self._since or now


async def _follow(options: argparse.Namespace, reader: Reads, now: str, zone: str | None) -> None:
    lost = False
    async with asyncio.timeout(options.duration_s):
        while True:
            try:
                for line in await reader.all():
                    print(
                        json.dumps(line, ensure_ascii=False) if options.json else told(line, zone), flush=True
                    )
                reader.from_now_on(now)
                if lost:
                    print("depot: the controller is back", file=sys.stderr)
                lost = False
            except NotReachable as error:
                if not lost:
                    print(f"depot: {error}; waiting for it", file=sys.stderr)
                lost = True
            await asyncio.sleep(POLL_S)


def told(line: Line, zone: str | None) -> str:
    if "sent" in line:
        return frame_told(line, zone)
    by = f" by {line['by']}" if line["by"] else ""
    text = f": {line['text']}" if line["text"] else ""
    return f"{_local(line['time'], zone)}  {line['what']}  {line['source']}{by}{text}".rstrip()


def frame_told(frame: Line, zone: str | None) -> str:
    """`18:41:58 > CP001 ocpp1.6: [2,...]`: `>` for ours. What a station says cannot move the cursor."""
    arrow = ">" if frame["sent"] else "<"
    about = f" {frame['about']}" if frame["about"] else ""
    return clean(f"{_local(frame['time'], zone)} {arrow}{about} {frame['channel']}: {frame['text']}", UNICODE)
