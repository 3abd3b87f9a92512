"""A ring of the facts the core was told and the times it was asked, from which an incident replays bit for bit.

The core is deterministic: the same facts at the same moments make the same decisions. So facts and moments are all
that is kept, as compressed JSON lines in memory; nothing is written until somebody asks (`dump`).
A replay starts where the core was new (the start of the process) or at a checkpoint, of which one is taken every half
hour. When the ring is full the oldest segment falls out; what is left replays from the first checkpoint in it.
It knows neither the depot nor what a checkpoint holds (controller.checkpoint).

Lines, in order: a header {"recording": 1, "boot": n, "from_start": bool}, then
    {"m": mono_s, "u": utc, "e": event}      a fact (controller.core.wire)
    {"m": mono_s, "u": utc}                  a step
    {"m": mono_s, "u": utc, "c": {...}}      a checkpoint: the state before the next line
with "x": true added where the wall clock was not trusted.
"""

from __future__ import annotations

import json
import logging
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol, TypeVar

from controller.core.events import Event
from controller.core.model import Moment
from controller.core.wire import event_from_dict, event_to_dict, instant, instant_text

log = logging.getLogger(__name__)

VERSION = 1
ANCHOR_S = 1800.0  # between checkpoints: some 20 kB and 5 ms each at 50 chargers
SEGMENT_BYTES = 64 * 1024  # compresses in about a millisecond, to a tenth

D_co = TypeVar("D_co", covariant=True)
Checkpoint = Mapping[str, Any]


class Replayable(Protocol[D_co]):
    """The part of the core a replay needs."""

    def apply(self, event: Event, now: Moment) -> object: ...

    def step(self, now: Moment) -> D_co: ...


class Recorder:
    """Keeps at most about `capacity_bytes` (compressed) of recording: 8 MB is several hours of 50 chargers.

    Call `fact` before each `Depot.apply` and `step` before each `Depot.step`, with the same arguments. `look` makes the
    checkpoint of now.
    """

    def __init__(
        self,
        capacity_bytes: int = 8_000_000,
        boot: int = 0,
        look: Callable[[], Checkpoint] | None = None,
    ) -> None:
        self.capacity_bytes = capacity_bytes
        self.boot = boot
        self._look = look
        self._anchored_s: float | None = None
        self._from_start = True
        self._sealed: deque[bytes] = deque()
        self._sealed_bytes = 0
        self._open: list[str] = []
        self._open_bytes = 0

    def fact(self, event: Event, now: Moment) -> None:
        self._add({**_moment(now), "e": event_to_dict(event)})

    def step(self, now: Moment) -> None:
        if self._anchored_s is None:
            self._anchored_s = now.mono_s  # it starts at the start
        elif self._look is not None and now.mono_s - self._anchored_s >= ANCHOR_S:
            self._anchored_s = now.mono_s
            try:
                self.anchor(self._look(), now)
            except Exception:
                log.exception("no checkpoint; once the ring is full nothing replays")
                self._look = None
        self._add(_moment(now))

    def anchor(self, checkpoint: Checkpoint, now: Moment) -> None:
        """Marks a point where a replay can start: `checkpoint` (plain values) rebuilds the core as it is now."""
        self._seal()
        self._add({**_moment(now), "c": checkpoint})

    def dump(self) -> bytes:
        """The recording as JSON lines, oldest first."""
        header = {"recording": VERSION, "boot": self.boot, "from_start": self._from_start}
        sealed = b"".join(zlib.decompress(segment) for segment in self._sealed)
        return _line(header).encode() + sealed + "".join(self._open).encode()

    def _add(self, entry: Mapping[str, Any]) -> None:
        line = _line(entry)
        self._open.append(line)
        self._open_bytes += len(line)
        if self._open_bytes >= SEGMENT_BYTES:
            self._seal()

    def _seal(self) -> None:
        if not self._open:
            return
        segment = zlib.compress("".join(self._open).encode(), 1)
        self._open, self._open_bytes = [], 0
        self._sealed.append(segment)
        self._sealed_bytes += len(segment)
        while self._sealed_bytes > self.capacity_bytes:
            self._sealed_bytes -= len(self._sealed.popleft())
            self._from_start = False


def replay(
    lines: Iterable[str | bytes], make_depot: Callable[[int, Checkpoint | None], Replayable[D_co]]
) -> Iterator[D_co]:
    """What a fresh depot decides at each recorded step.

    `make_depot(boot, checkpoint)` builds it: checkpoint None is a new start. Raises ValueError if the lines are not a
    recording, or if its start is lost and it holds no checkpoint.
    """
    entries = (_entry(line) for line in lines)
    header = next(entries, {})
    if header.get("recording") != VERSION:
        raise ValueError(f"not a recording of version {VERSION}")
    boot: int = header.get("boot", 0)
    depot = make_depot(boot, None) if header.get("from_start") else None
    for entry in entries:
        now = Moment(entry["m"], instant(entry["u"]), not entry.get("x", False))
        if depot is None:
            if "c" in entry:
                depot = make_depot(boot, entry["c"])
        elif "e" in entry:
            depot.apply(event_from_dict(entry["e"]), now)
        elif "c" not in entry:
            yield depot.step(now)
    if depot is None:
        raise ValueError("the start of this recording was overwritten and it holds no checkpoint")


def _moment(now: Moment) -> dict[str, Any]:
    base: dict[str, Any] = {"m": now.mono_s, "u": instant_text(now.utc)}
    return base if now.utc_trusted else {**base, "x": True}


def _line(entry: Mapping[str, Any]) -> str:
    return json.dumps(entry, separators=(",", ":")) + "\n"


def _entry(line: str | bytes) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except ValueError:
        entry = None
    if not isinstance(entry, dict) or not (entry.keys() >= {"m", "u"} or "recording" in entry):
        raise ValueError(f"not a line of a recording: {line!r:.60}")
    return entry
