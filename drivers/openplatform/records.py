"""Sites, session records and aggregated energy: what is asked of the platform's books, when, and how often.

Owns the paging, the day windows and the de-duplication of records (G-20): a look covers the last 48 h in closed days,
once a day and at start-up the last 7 days, because chargers upload late after an offline phase and offset paging
shifts. A record is reported when it is seen first and again when it changed; after a restart the last week is reported
once more, and the ledger keeps one row per record. Waits politely: device reads and command status come first.
In mode "companion" sessions belong to OCPP, so no record is asked for (G-13, G-27).
Source: Open Platform REFERENCE sections 4, 6, 7, GAPS G-19 to G-21.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, Literal
from zoneinfo import ZoneInfo

from controller.core.events import Event, RecordReceived
from controller.ports import Clock
from drivers.errors import DriverError, Misconfigured
from drivers.openplatform.bell import Bell
from drivers.openplatform.books import (
    EnergyPoint,
    Page,
    RecordReading,
    SiteReading,
    contradiction,
    read_energy,
    read_page,
    read_record,
    read_site,
)
from drivers.openplatform.budget import Kind
from drivers.openplatform.fleet import Fleet
from drivers.openplatform.health import Health
from drivers.openplatform.limits import stamp
from drivers.openplatform.orders import backoff_s
from drivers.openplatform.rest import Declined, Garbled, LockedOut, Rest, Throttled
from drivers.openplatform.settings import CHANNEL, CloudSettings

log = logging.getLogger(__name__)

PAGE_SIZE = 100
_MAX_PAGES = 100  # of one day or list: a server that pages without end must not keep us
_MAX_KNOWN = 20_000
_ATTEMPTS = 4
_ROOM = 3  # requests of the quota that are left to others
_DAY_S = 86_400.0
_UPLOAD_S = 60.0  # so long after a session its record should be there
_REFUSED_S = 3600.0
_BOOKS = "session records"  # the subject of a complaint

Granularity = Literal["hour", "day", "month"]
Tell = Callable[[Sequence[Event | None]], Awaitable[None]]


class Books:
    """Reads of what the platform remembers. Every method raises DriverError: Declined (never retried), the others
    after four attempts with back-off."""

    def __init__(self, settings: CloudSettings, rest: Rest, clock: Clock, random: Random) -> None:
        self._site_ids = settings.site_ids
        by_site = settings.readings.energy_bucket_zone == "site"
        self._bucket_zone = ZoneInfo(settings.timezone) if by_site else UTC
        self._rest = rest
        self._clock = clock
        self._random = random

    async def sites(self) -> tuple[SiteReading, ...]:
        """All sites this client may see."""
        items = [item async for item in self._items("sites", "/operator/sites", {})]
        return tuple(site for site in map(read_site, items) if site is not None)

    async def records(self, since: datetime, until: datetime) -> Sequence[RecordReading]:
        """Records of sessions that started in [since, until), as often as the pages named them."""
        query = {"start_time": stamp(since), "end_time": stamp(until)}
        items = [item async for item in self._items("records", "/operator/charging-records", query)]
        found = [record for record in map(read_record, items) if record is not None]
        if len(found) < len(items):
            log.warning("%s: %d records of %s cannot be read", CHANNEL, len(items) - len(found), since.date())
        return found

    async def energy(
        self, since: datetime, until: datetime, granularity: Granularity
    ) -> Mapping[str, tuple[EnergyPoint, ...]]:
        """Buckets, as a rule in UTC, per configured site, one request each because the answer names no group (G-21). Raises also
        Misconfigured without site_ids, ValueError for an empty period."""
        if not self._site_ids:
            raise Misconfigured("open platform: no site_ids, so there is no site to ask energy of")
        if since >= until:
            raise ValueError("the period of an energy query ends before it begins")
        period = {"granularity": granularity, "start_time": stamp(since), "end_time": stamp(until)}
        found = {}
        for site_id in self._site_ids:
            data = await self._read("energy", "/operator/aggregated/energy", period | {"site_ids": site_id})
            try:
                found[site_id] = read_energy(data, self._bucket_zone)
            except ValueError as error:
                raise Garbled(f"{self._rest.address.host} energy: {error}") from None
        return found

    async def _items(self, operation: str, path: str, query: Mapping[str, str]) -> Any:
        """The items of all pages; a page that repeats the one before is the end."""
        before: Page | None = None
        for number in range(1, _MAX_PAGES + 1):
            paged = {**query, "page": str(number), "size": str(PAGE_SIZE)}
            data = await self._read(operation, path, paged)
            try:
                page = read_page(data)
            except ValueError as error:
                raise Garbled(f"{self._rest.address.host} {operation}: {error}") from None
            if before is not None and page.items == before.items:
                return
            for item in page.items:
                yield item
            if page.is_last(number, PAGE_SIZE):
                return
            before = page
        log.warning("%s %s: more than %d pages, the rest is left", CHANNEL, operation, _MAX_PAGES)

    async def _read(self, operation: str, path: str, query: Mapping[str, str]) -> Any:
        attempt = 0
        while True:
            while self._rest.budget.affords(Kind.GET, self._clock.now().mono_s, 0.0) < _ROOM:
                await self._clock.sleep(1.0)
            try:
                return await self._rest.read(operation, path, query)
            except (Declined, Misconfigured):
                raise
            except DriverError as error:
                pause_s = backoff_s(attempt, self._random)
                if isinstance(error, Throttled):
                    pause_s = error.wait_s or pause_s
                    self._rest.budget.shut(Kind.GET, self._clock.now().mono_s + pause_s)
                attempt += 1
                if attempt == _ATTEMPTS:
                    raise
            await self._clock.sleep(pause_s)


class Records:
    """Turns new session records of our chargers into `RecordReceived`."""

    def __init__(
        self, settings: CloudSettings, books: Books, fleet: Fleet, health: Health, clock: Clock, tell: Tell
    ) -> None:
        self._readings = settings.readings
        self._is_wanted = settings.mode == "sole"
        self._books = books
        self._fleet = fleet
        self._health = health
        self._clock = clock
        self._tell = tell
        self._bell = Bell(clock)
        self._known: dict[str, RecordReading] = {}
        self._due_s = float("inf")
        self._week_due_s = float("-inf")

    def session_ended(self) -> None:
        """A record should come soon."""
        self._due_s = min(self._due_s, self._clock.now().mono_s + _UPLOAD_S)
        self._bell.ring()

    async def run(self) -> None:
        """Looks now and then, until cancelled."""
        if not self._is_wanted:
            return
        self._due_s = self._clock.now().mono_s + self._readings.records_after_s
        while True:
            wait_s = self._due_s - self._clock.now().mono_s
            if wait_s > 0:
                await self._bell.wait(wait_s)
                continue
            self._due_s = float("inf")
            again_s = await self._look()
            self._due_s = min(self._due_s, self._clock.now().mono_s + again_s)

    async def _look(self) -> float:
        """One look; returns after how many seconds the next is due."""
        now = self._clock.now()
        if not now.utc_trusted:
            return self._readings.records_after_s
        whole_week = now.mono_s >= self._week_due_s
        back_s = (
            self._readings.records_repeat_days * _DAY_S if whole_week else self._readings.records_overlap_s
        )
        try:
            for since, until in day_windows(now.utc - timedelta(seconds=back_s), now.utc):
                await self._take(await self._books.records(since, until))
        except DriverError as error:
            await self._tell([self._health.complain(_BOOKS, str(error))])
            lasting = isinstance(error, Declined | Misconfigured) and not isinstance(error, LockedOut)
            return _REFUSED_S if lasting else self._readings.records_every_s
        if whole_week:
            self._week_due_s = now.mono_s + _DAY_S
        self._forget(now.utc)
        await self._tell([self._health.complain(_BOOKS, "")])
        return self._readings.records_every_s

    async def _take(self, records: Sequence[RecordReading]) -> None:
        for record in records:
            evse = self._fleet.evse_at(record.device_id, record.connector)
            if evse is None or self._known.get(record.record_id) == record:
                continue
            self._known[record.record_id] = record
            event = RecordReceived(
                evse=evse,
                channel=CHANNEL,
                record=record.record_id,
                started=record.started,
                ended=record.ended,
                energy_wh=record.energy_wh,
                register_start_wh=record.register_start_wh,
                register_end_wh=record.register_end_wh,
                reason=record.reason,
            )
            if doubt := contradiction(event, self._readings):
                log.warning("%s: record %s: %s", evse, record.record_id, doubt)
            await self._tell([event])

    def _forget(self, now: datetime) -> None:
        """What no look covers any more; beyond the bound the oldest sessions go first and may be told twice."""
        oldest = now - timedelta(days=self._readings.records_repeat_days + 2)
        kept = [item for item in self._known.items() if item[1].started >= oldest]
        kept.sort(key=lambda item: item[1].started)
        self._known = dict(kept[-_MAX_KNOWN:])


def day_windows(since: datetime, until: datetime) -> Iterator[tuple[datetime, datetime]]:
    """The UTC days that touch [since, until), oldest first."""
    day = since.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    while day < until:
        yield day, day + timedelta(days=1)
        day += timedelta(days=1)
