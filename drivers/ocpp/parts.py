"""Answers that come in parts: reports that a 2.x station sends as messages of its own, after it has said yes.

Owns who waits for which requestId, and what has come so far: bounded in size, given up after a silence. A report that
nobody waits for is none of its business. Source: OCPP 2.0.1 part 2 sections B07, K09, N02, N09, O03 (`tbc`, `seqNo`).
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final

from drivers.ocpp.frames import Payload
from drivers.ocpp.words import integer

QUIET_S = 20.0  # between two parts; slow stations read their whole flash for one
MOST_S = 240.0  # for all parts
MOST_SIZE = 1_500_000  # characters: the inventory of a large station has about a quarter of that

# request: the message its answer comes in, and the field that holds it (None: the message itself)
TOLD_IN: Final[Mapping[str, tuple[str, str | None]]] = {
    "CustomerInformation": ("NotifyCustomerInformation", "data"),
    "GetBaseReport": ("NotifyReport", "reportData"),
    "GetChargingProfiles": ("ReportChargingProfiles", None),
    "GetDisplayMessages": ("NotifyDisplayMessages", "messageInfo"),
    "GetMonitoringReport": ("NotifyMonitoringReport", "monitor"),
    "GetReport": ("NotifyReport", "reportData"),
}


class Report:
    """What is told under one requestId."""

    def __init__(self, key: str | None) -> None:
        self._key = key
        self._parts: dict[int, list[Any]] = {}
        self._size = 0
        self._last: int | None = None
        self._news = asyncio.Event()

    @property
    def rows(self) -> list[Any]:
        return [row for number in sorted(self._parts) for row in self._parts[number]]

    @property
    def is_whole(self) -> bool:
        return self._last is not None and self._parts.keys() >= set(range(self._last + 1))

    @property
    def is_full(self) -> bool:
        return self._size > MOST_SIZE

    def hear(self, payload: Payload) -> None:
        number = integer(payload.get("seqNo"))
        if number is None or number < 0:  # some reports are not numbered: then they come in order
            number = len(self._parts)
        told: Any = payload if self._key is None else payload.get(self._key)
        self._size += len(str(told))
        if not self.is_full:
            self._parts[number] = told if isinstance(told, list) else [] if told is None else [told]
            if payload.get("tbc") is not True:
                self._last = number
        self._news.set()

    async def wait(self, quiet_s: float = QUIET_S) -> bool:
        """Until everything has come, or nothing more comes; returns whether it is everything."""
        with suppress(TimeoutError):
            async with asyncio.timeout(MOST_S):
                while not self.is_whole and not self.is_full:
                    self._news.clear()
                    async with asyncio.timeout(quiet_s):
                        await self._news.wait()
        return self.is_whole


class Reports:
    """All that one station is asked for."""

    def __init__(self) -> None:
        self._awaited: dict[tuple[str, int], Report] = {}

    @contextmanager
    def expect(self, action: str, number: int) -> Iterator[Report]:
        message, key = TOLD_IN[action]
        report = self._awaited[message, number] = Report(key)
        try:
            yield report
        finally:
            self._awaited.pop((message, number), None)

    def hear(self, action: str, payload: Payload) -> None:
        number = integer(payload.get("requestId"))
        if number is not None and (report := self._awaited.get((action, number))) is not None:
            report.hear(payload)


def new_number() -> int:
    """A requestId that a late report of an earlier question does not fit."""
    return secrets.randbelow(1_000_000_000) + 1
