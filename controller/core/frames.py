"""The last messages of a wire, kept for people who look for what was really said.

Owns the bounds: so many messages and so many characters, the oldest go first. What is put in must be free of secrets
already: who keeps it knows its protocol, who shows it does not.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

MOST_FRAMES = 200
MOST_CHARS = 64 * 1024
KEPT_TEXT = 2_000  # characters of one message


@dataclass(frozen=True, slots=True)
class Frame:
    """One message as people may see it. `sent`: by us."""

    at: datetime
    sent: bool
    text: str


class Frames:
    """Oldest first."""

    __slots__ = ("_chars", "_kept", "_most_chars")

    def __init__(self, most: int = MOST_FRAMES, most_chars: int = MOST_CHARS) -> None:
        self._kept: deque[Frame] = deque(maxlen=most)
        self._most_chars = most_chars
        self._chars = 0

    def append(self, frame: Frame) -> None:
        kept = self._kept
        if len(kept) == kept.maxlen:
            self._chars -= len(kept[0].text)  # leaves by itself
        kept.append(frame)
        self._chars += len(frame.text)
        while self._chars > self._most_chars:
            self._chars -= len(kept.popleft().text)

    def __iter__(self) -> Iterator[Frame]:
        return iter(self._kept)

    def __len__(self) -> int:
        return len(self._kept)


class Trace(NamedTuple):
    """Of one wire. `about`: the station, meter or client at its other end; empty where that is not known."""

    channel: str
    about: str
    frames: Iterable[Frame]
