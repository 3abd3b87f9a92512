"""The tariff as the config and its prices files give it, kept up to date: `TariffRead` whenever it changes.

Owns the look at the files, once a minute at most. A file that cannot be used keeps the prices it had before in force,
and says so once in the log and as an alarm for as long as it lasts. The core gets only what lies around the present.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from controller.config.prices import BadPrices, read_prices
from controller.config.types import Config, TariffConfig
from controller.core.events import TariffRead
from controller.core.tariff import Rates, Tariff
from controller.ports import Clock, Report

log = logging.getLogger(__name__)

LOOK_S = 60.0
PAST, AHEAD = timedelta(days=7), timedelta(days=8)  # sessions told late, and the longest plan
MOVED = timedelta(days=1)  # how far the present may move on before the core gets the next piece


@dataclass(slots=True)
class _File:
    """`known`: what it said when it could last be used."""

    path: Path
    known: Rates
    stamp: tuple[int, int] | None = None
    trouble: str = ""


@dataclass(slots=True)
class TariffKeeper:
    """`config`: the table of the config. `timezone`: of the site, in which times without an offset are read."""

    config: TariffConfig
    timezone: str
    clock: Clock
    _files: dict[str, _File] = field(init=False)
    _told: Tariff | None = None
    _around: datetime | None = None  # the time of which the core was last given the prices around

    def __post_init__(self) -> None:
        named = (("prices", self.config.prices), ("feed_in", self.config.feed_in_prices))
        self._files = {name: _File(path, Rates(self.timezone)) for name, path in named if path is not None}

    async def run(self, report: Report) -> None:
        """Until cancelled. The first look comes at once."""
        while True:
            await self.look(report)
            await self.clock.sleep(LOOK_S)

    async def look(self, report: Report) -> None:
        """Reads what has changed and tells of it."""
        for file in self._files.values():
            await asyncio.to_thread(_refresh, file, self.timezone)
        now = self.clock.now().utc
        if self._around is None or not timedelta(0) <= now - self._around < MOVED:
            self._around = now
        tariff = self._tariff(self._around)
        if tariff != self._told:
            self._told = tariff
            await report(TariffRead(tariff))

    def _tariff(self, around: datetime) -> Tariff:
        prices, feed_in = self._files.get("prices"), self._files.get("feed_in")
        tariff = Tariff(
            self.config.currency,
            self.config.bands if prices is None else prices.known,
            self.config.feed_in if feed_in is None else feed_in.known,
            self.config.peak_price_micro,
            "; ".join(file.trouble for file in self._files.values() if file.trouble),
        )
        return tariff.within(around - PAST, around + AHEAD)


def prices_troubles(config: Config) -> list[str]:
    """What is wrong with the prices files now: a depot runs without them, but somebody should know before."""
    found = []
    tariff = config.tariff
    for path in () if tariff is None else (tariff.prices, tariff.feed_in_prices):
        if path is None:
            continue
        try:
            read_prices(path, config.site.timezone)
        except BadPrices as error:
            found.append(str(error))
    return found


def _refresh(file: _File, timezone: str) -> None:
    """Reads the file if it has changed since it was last read."""
    try:
        found = file.path.stat()
        stamp = (found.st_mtime_ns, found.st_size)
    except OSError:
        stamp = None  # the reader will say why
    if stamp is not None and stamp == file.stamp:
        return
    file.stamp = stamp
    before = file.trouble
    try:
        file.known, file.trouble = Rates(timezone, spans=read_prices(file.path, timezone)), ""
    except BadPrices as error:
        kept = "the prices read before stay in force" if file.known.spans else "there are no prices"
        file.trouble = f"{error}; {kept}"
    if file.trouble != before:
        log.warning("%s", file.trouble or f"{file.path}: {len(file.known.spans)} prices")
