"""What energy costs, and when: a price at a time, the series a planner reads, the cost of energy over a period.

Pure calendar and integer arithmetic. Prices are millionths of the currency per kWh, so a Wh costs whole
billionths and sums are exact. A time that no band and no span covers has no price: None, never 0.
Bands go by the clock on the wall: in the hour that comes twice in autumn they hold twice, the one that is skipped in
spring they do not have.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from controller.core.planning import Price

DAY_MIN = 24 * 60
MICRO = 1_000_000
GRID = timedelta(
    hours=1
)  # the series for the planner has at least one value per hour, so that days can be told apart
AHEAD = timedelta(hours=25)  # how far a `Pricer` looks up at a time


@dataclass(frozen=True, slots=True)
class Band:
    """A price (per kWh) by the clock: minutes after midnight, `until_min` up to 1440. `until_min` <= `from_min` crosses midnight;
    the band belongs to the day it starts on. days: 0 = Monday; empty = every day."""

    from_min: int
    until_min: int
    price_micro: int
    days: tuple[int, ...] = ()

    def covers(self, weekday: int, minute: int) -> bool:
        if self.from_min < self.until_min:
            return self.from_min <= minute < self.until_min and self._on(weekday)
        return (minute >= self.from_min and self._on(weekday)) or (
            minute < self.until_min and self._on((weekday - 1) % 7)
        )

    def _on(self, weekday: int) -> bool:
        return not self.days or weekday in self.days


@dataclass(frozen=True, slots=True)
class Span:
    """A price from a prices file: [start, end) in UTC."""

    start: datetime
    end: datetime
    price_micro: int


@dataclass(frozen=True, slots=True)
class Rates:
    """Either bands or spans, the latter in order and without overlap."""

    timezone: str = "UTC"
    bands: tuple[Band, ...] = ()
    spans: tuple[Span, ...] = ()

    def at(self, when: datetime) -> int | None:
        """Millionths of the currency per kWh; None = unknown."""
        if self.bands:
            local = when.astimezone(ZoneInfo(self.timezone))
            weekday, minute = local.weekday(), local.hour * 60 + local.minute
            return next((b.price_micro for b in self.bands if b.covers(weekday, minute)), None)
        index = bisect_right(self.spans, when, key=_start) - 1
        return self.spans[index].price_micro if index >= 0 and when < self.spans[index].end else None

    def pieces(self, since: datetime, until: datetime) -> Iterator[tuple[datetime, datetime, int | None]]:
        """[since, until) in pieces of one price each, in order, without a gap."""
        edges = [since, *sorted(e for e in set(self._edges(since, until)) if since < e < until), until]
        begin, price = since, self.at(since)
        for edge in edges[1:]:
            following = self.at(edge) if edge < until else None
            if edge >= until or following != price:
                if begin < edge:
                    yield begin, edge, price
                begin, price = edge, following

    def within(self, since: datetime, until: datetime) -> Rates:
        """The same without the spans that lie outside."""
        kept = tuple(span for span in self.spans if span.end > since and span.start < until)
        return Rates(self.timezone, self.bands, kept)

    def _edges(self, since: datetime, until: datetime) -> Iterator[datetime]:
        if not self.bands:
            first = max(0, bisect_right(self.spans, since, key=_start) - 1)
            for span in self.spans[first:]:
                if span.start >= until:
                    return
                yield from (span.start, span.end)
            return
        zone = ZoneInfo(self.timezone)
        minutes = {minute for band in self.bands for minute in (band.from_min, band.until_min)} | {0}
        day, last = since.astimezone(zone).date(), until.astimezone(zone).date()
        while day <= last:
            for minute in minutes:
                yield from _instants(day, minute, zone)
            yield from _clock_change(day, zone)
            day += timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Tariff:
    """What the site pays, and gets for what it feeds in. peak_price_micro: per kW of the month's highest quarter hour.
    trouble: why the prices are older than their file; empty = they are not."""

    currency: str
    buy: Rates
    feed_in: Rates | None = None
    peak_price_micro: int = 0
    trouble: str = ""

    def within(self, since: datetime, until: datetime) -> Tariff:
        feed_in = None if self.feed_in is None else self.feed_in.within(since, until)
        return Tariff(
            self.currency, self.buy.within(since, until), feed_in, self.peak_price_micro, self.trouble
        )


def series(rates: Rates, since: datetime, until: datetime) -> tuple[Price, ...]:
    """For the planner: a value at least every hour, NaN where the price is unknown, nothing after the last known."""
    found: list[Price] = []
    for begin, end, micro in rates.pieces(since, until):
        at = begin
        while at < end:
            found.append(Price(at, math.nan if micro is None else micro / MICRO))
            at = min(end, at.replace(minute=0, second=0, microsecond=0) + GRID)
    while found and math.isnan(found[-1].amount):
        found.pop()
    return tuple(found)


@dataclass(slots=True)
class Pricer:
    """Costs of energy, quickly: remembers the prices around the last question."""

    rates: Rates
    _since: datetime | None = field(default=None, repr=False)
    _until: datetime | None = field(default=None, repr=False)
    _pieces: list[tuple[datetime, datetime, int | None]] = field(default_factory=list, repr=False)

    def cost_nano(self, energy_wh: int, begin: datetime, end: datetime) -> int | None:
        """Billionths of the currency for energy that flowed evenly from `begin` to `end`; None where a price is
        unknown. Whole: what rounding takes from one piece, the next one gets."""
        pieces = self._of(begin, end)
        whole_s = (end - begin).total_seconds()
        if whole_s <= 0 or len(pieces) == 1:
            price = pieces[0][2]
            return None if price is None else energy_wh * price
        cost, spent = 0, 0
        for _, until, price in pieces:
            if price is None:
                return None
            reached = round(1000 * energy_wh * ((min(until, end) - begin).total_seconds() / whole_s))
            cost, spent = cost + (reached - spent) * price, reached  # thousandths of a Wh
        return round(cost / 1000)

    def varies(self, begin: datetime, end: datetime) -> bool:
        """Whether it matters when in that time the energy flowed."""
        return len(self._of(begin, end)) > 1

    def _of(self, begin: datetime, end: datetime) -> list[tuple[datetime, datetime, int | None]]:
        end = max(end, begin + timedelta(microseconds=1))
        if self._since is None or self._until is None or not self._since <= begin or end > self._until:
            self._since, self._until = begin - GRID, max(end, begin + AHEAD)
            self._pieces = list(self.rates.pieces(self._since, self._until))
        first = bisect_right(self._pieces, begin, key=lambda piece: piece[0]) - 1
        found = []
        for piece in self._pieces[first:]:
            if piece[0] >= end:
                break
            found.append(piece)
        return found


def _start(span: Span) -> datetime:
    return span.start


def _instants(day: date, minute: int, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """The clock time of that day, both times where it comes twice."""
    day = day + timedelta(days=minute // DAY_MIN)
    local = datetime(day.year, day.month, day.day, minute % DAY_MIN // 60, minute % 60, tzinfo=zone)
    return local.astimezone(UTC), local.replace(fold=1).astimezone(UTC)


def _clock_change(day: date, zone: ZoneInfo) -> Iterator[datetime]:
    """The instant at which the clocks change on that day, to the minute."""
    low, high = _instants(day, 0, zone)[0], _instants(day, DAY_MIN, zone)[0]
    before = low.astimezone(zone).utcoffset()
    if before == high.astimezone(zone).utcoffset():
        return
    while high - low > timedelta(minutes=1):
        middle = low + (high - low) / 2
        middle = middle.replace(second=0, microsecond=0)
        if middle <= low:
            break
        low, high = (middle, high) if middle.astimezone(zone).utcoffset() == before else (low, middle)
    yield high
