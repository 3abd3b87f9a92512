"""What local clients may read of the past: finished sessions page by page, and energy per hour, day or month.

Owns the two queries and their words; the rows come from whoever keeps them (`Books`), one page at a time, so that years
of sessions never stand in memory at once. A session's energy is spread evenly over its duration, whole Wh, none lost.
Buckets are UTC and a bucket without data is missing, not zero (G-21); records are filtered by their start, half-open,
oldest first (G-20). There is no field for a vehicle's identity, and none for money.
Source: Open Platform REFERENCE section 7, openapi.yaml, GAPS G-14, G-20, G-21.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from controller.core.model import EvseId
from drivers.openplatform.answers import INVALID, ApiError, choice, digits, instant, missing, stamp, text
from drivers.openplatform.clients_words import LocalDevice, read_paging

PAGE = 1000
LONGEST_SESSION = timedelta(days=31)  # a session that began earlier does not count in an energy series
MOST_BUCKETS = 10_000
_LABELS = {"hour": "%Y-%m-%dT%H:00:00Z", "day": "%Y-%m-%d", "month": "%Y-%m"}


@dataclass(frozen=True, slots=True)
class Book:
    """A finished session. Energy in Wh, negative = discharged; unknown is None."""

    record: str
    evse: EvseId
    started: datetime
    ended: datetime
    energy_wh: int
    register_start_wh: int | None = None
    register_end_wh: int | None = None
    max_power_w: int | None = None
    soc_start: int | None = None
    soc_end: int | None = None
    reason: str | None = None


class Books(Protocol):
    async def __call__(
        self, since: datetime | None, until: datetime | None, evses: Collection[EvseId], skip: int, limit: int
    ) -> tuple[int, Sequence[Book]]:
        """How many finished sessions of these EVSEs started in [since, until) (None: open), and of those, ordered by
        start and record id, at most `limit` after the first `skip`."""
        ...


async def records_page(
    books: Books, devices: Mapping[str, LocalDevice], query: Mapping[str, str]
) -> dict[str, Any]:
    """One page of session records. An id that is not here has no records. Raises ApiError 1001."""
    page, size = read_paging(query)
    device_id, number = text(query, "device_id"), digits(query, "connector_id", 1, 10**6)
    since, until = instant(query, "start_time"), instant(query, "end_time")
    if since is not None and until is not None and until < since:
        raise ApiError(INVALID, "end_time lies before start_time", field="end_time")
    where = {
        evse.id: (device.device_id, n)
        for device in devices.values()
        for n, evse in device.evses.items()
        if device_id in (None, device.device_id) and number in (None, n)
    }
    total, rows = (0, ()) if not where else await books(since, until, where.keys(), (page - 1) * size, size)
    items = [_record(book, *where[book.evse]) for book in rows]
    return {"items": items, "total": total, "page": page, "size": size}


def _record(book: Book, device_id: str, number: int) -> dict[str, Any]:
    lasted_s = (book.ended - book.started).total_seconds()
    energy_wh = abs(book.energy_wh)
    fields = {
        "record_id": book.record,
        "device_id": device_id,
        "connector_id": number,
        "start_time": stamp(book.started),
        "end_time": stamp(book.ended),
        "energy": energy_wh / 1e3,
        "max_power": _thousandth(book.max_power_w),
        "avg_power": round(energy_wh * 3.6 / lasted_s, 3) if lasted_s > 0 else None,
        "meter_start": _thousandth(book.register_start_wh),
        "meter_end": _thousandth(book.register_end_wh),
        "stop_reason": book.reason,
    }
    charge = {
        name: soc
        for name, soc in (("soc_start", book.soc_start), ("soc_end", book.soc_end))
        if soc is not None
    }
    known = {name: value for name, value in fields.items() if value is not None}
    return known | {"vehicle_info": charge} if charge else known


async def energy_series(
    books: Books, devices: Mapping[str, LocalDevice], query: Mapping[str, str], site_id: str, operator_id: str
) -> dict[str, Any]:
    """Charged and discharged energy per bucket that has any. Raises ApiError 1001, 1002."""
    granularity = choice(query, "granularity", tuple(_LABELS))
    since, until = instant(query, "start_time"), instant(query, "end_time")
    if granularity is None or since is None or until is None:
        names = ("granularity", granularity), ("start_time", since), ("end_time", until)
        raise missing(next(name for name, value in names if value is None))
    if until < since:
        raise ApiError(INVALID, "end_time lies before start_time", field="end_time")
    shortest = timedelta(hours=1) if granularity == "hour" else timedelta(days=1)
    if (until - since) / shortest > MOST_BUCKETS:
        raise ApiError(INVALID, f"more than {MOST_BUCKETS} buckets; ask for less at a time", field="end_time")
    group = choice(query, "group_by", ("site", "operator"))
    wanted = text(query, "site_ids", longest=4096, shortest=0)
    evses = [evse.id for device in devices.values() for evse in device.evses.values()]
    sums: dict[datetime, list[int]] = defaultdict(lambda: [0, 0])  # bucket -> charged, discharged Wh
    if evses and (wanted is None or site_id in wanted.split(",")):
        await _add_up(books, evses, granularity, since, until, sums)
    label = {} if group is None else {"group_id": site_id if group == "site" else operator_id}
    series = [
        _point(start, granularity, since, until, *energy_wh) | label
        for start, energy_wh in sorted(sums.items())
    ]
    total = {
        "charge_energy": sum(energy[0] for energy in sums.values()) / 1e3,
        "discharge_energy": sum(energy[1] for energy in sums.values()) / 1e3,
    }
    span = {"granularity": granularity, "start_time": stamp(since), "end_time": stamp(until)}
    return span | {"series": series, "total": total}


async def _add_up(
    books: Books,
    evses: Collection[EvseId],
    granularity: str,
    since: datetime,
    until: datetime,
    sums: dict[datetime, list[int]],
) -> None:
    skip = 0
    while True:
        total, rows = await books(since - LONGEST_SESSION, until, evses, skip, PAGE)
        for book in rows:
            for bucket, energy_wh in _shares(book, granularity, since, until):
                sums[bucket][energy_wh < 0] += abs(energy_wh)
        skip += PAGE
        if skip >= total or not rows:
            return


def _shares(book: Book, granularity: str, since: datetime, until: datetime) -> Iterator[tuple[datetime, int]]:
    """The whole Wh of a session that fall into each bucket of [since, until); a session's shares add up to it."""
    if book.ended <= book.started:
        if since <= book.started < until and book.energy_wh:
            yield _bucket(book.started, granularity), book.energy_wh
        return
    at, end = max(book.started, since), min(book.ended, until)
    while at < end:
        bucket = _bucket(at, granularity)
        upto = min(end, _next(bucket, granularity))
        energy_wh = _delivered_wh(book, upto) - _delivered_wh(book, at)
        if energy_wh:
            yield bucket, energy_wh
        at = upto


def _delivered_wh(book: Book, at: datetime) -> int:
    """The energy delivered up to `at`: exact at both ends, whole Wh between."""
    return round(book.energy_wh * ((at - book.started) / (book.ended - book.started)))


def _point(
    bucket: datetime, granularity: str, since: datetime, until: datetime, charged_wh: int, discharged_wh: int
) -> dict[str, Any]:
    hours = (min(until, _next(bucket, granularity)) - max(since, bucket)) / timedelta(hours=1)
    return {
        "time": bucket.strftime(_LABELS[granularity]),
        "charge_energy": charged_wh / 1e3,
        "discharge_energy": discharged_wh / 1e3,
        "avg_power": round((charged_wh - discharged_wh) / 1e3 / hours, 3),
    }


def _bucket(at: datetime, granularity: str) -> datetime:
    hour = at.replace(minute=0, second=0, microsecond=0)
    match granularity:
        case "hour":
            return hour
        case "day":
            return hour.replace(hour=0)
        case _:
            return hour.replace(day=1, hour=0)


def _next(bucket: datetime, granularity: str) -> datetime:
    match granularity:
        case "hour":
            return bucket + timedelta(hours=1)
        case "day":
            return bucket + timedelta(days=1)
        case _:
            return (bucket + timedelta(days=32)).replace(day=1)


def _thousandth(whole: int | None) -> float | None:
    return None if whole is None else whole / 1e3
