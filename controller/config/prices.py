"""The prices file: CSV in, spans out, or one line that says what is wrong and where.

Grammar: a header `start,price_per_kwh` (or `start,value`), then a row per price: an ISO 8601 time, with an offset or
in the site's zone, and a decimal number, which may be negative. A price holds until the next row starts, but no longer
than an hour, or than a day where no two rows lie within an hour: a missing hour is a gap, an empty price too.
In autumn the hour that comes twice is told apart by its offset, or by standing twice; in spring the hour that is skipped
is passed over. Must not be asked for what a price means: see `core.tariff`.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

from controller.core.tariff import MICRO, Span

MOST_BYTES = 8_000_000  # quarter hours of several years
HIGHEST = Decimal(10_000)  # per kWh, in whatever currency
HEADERS = ("price_per_kwh", "value")
HOUR = timedelta(hours=1)
LONG_DAY = timedelta(hours=25)
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,2})?")


class BadPrices(ValueError):
    """One line: what, where, what to do."""


@dataclass(frozen=True, slots=True)
class _Row:
    line: int
    start: datetime
    price_micro: int | None


def read_prices(path: Path, timezone: str) -> tuple[Span, ...]:
    """The known prices, in order. Raises BadPrices."""
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise BadPrices(f"{path}: cannot be read: {reason}") from None
    if len(content) > MOST_BYTES:
        raise BadPrices(f"{path}: is longer than {MOST_BYTES} bytes; is it a prices file?")
    try:
        return parse_prices(content.decode("utf-8-sig"), timezone)
    except UnicodeDecodeError:
        raise BadPrices(f"{path}: is not UTF-8 text; save it as UTF-8") from None
    except BadPrices as error:
        raise BadPrices(f"{path}: {error}") from None


def parse_prices(text: str, timezone: str) -> tuple[Span, ...]:
    """As `read_prices`, from the text of the file."""
    rows = _rows(text, ZoneInfo(timezone))
    if not rows:
        raise BadPrices("no prices in it; write a row per hour, like 2026-11-22T18:00,0.24")
    rows.sort(key=lambda row: row.start)
    kept = rows[:1]
    for row in rows[1:]:
        if row.start != kept[-1].start:
            kept.append(row)
        elif row.price_micro != kept[-1].price_micro:
            raise BadPrices(
                f"lines {kept[-1].line} and {row.line} give different prices for the same time; keep one"
            )
    apart = [later.start - row.start for row, later in pairwise(kept)]
    holds = _holds(apart)
    ends = [min(later.start, row.start + holds) for row, later in pairwise(kept)]
    ends.append(kept[-1].start + min([holds, *apart]))
    return tuple(
        Span(row.start, end, row.price_micro)
        for row, end in zip(kept, ends, strict=True)
        if row.price_micro is not None
    )


def _holds(apart: list[timedelta]) -> timedelta:
    """How long a price may hold at most."""
    return HOUR if min(apart, default=HOUR) <= HOUR else LONG_DAY


def _rows(text: str, zone: ZoneInfo) -> list[_Row]:
    reader = csv.reader(text.splitlines(), skipinitialspace=True)
    found: list[_Row] = []
    seen: set[datetime] = set()  # local times so far, to know the second time an hour comes
    header = False
    try:
        for cells in reader:
            line = reader.line_num
            if not any(cell.strip() for cell in cells) or cells[0].lstrip().startswith("#"):
                continue
            if not header:
                _check_header(cells, line)
                header = True
                continue
            if len(cells) != 2:
                hint = "; decimals need a point, columns a comma" if len(cells) > 2 or ";" in cells[0] else ""
                raise BadPrices(f"line {line}: {len(cells)} columns where 2 belong{hint}")
            start = _start(cells[0].strip(), line, zone, seen)
            if start is not None:
                found.append(_Row(line, start, _micro(cells[1].strip(), line)))
    except csv.Error as error:
        raise BadPrices(f"line {reader.line_num}: {error}") from None
    if not header:
        raise BadPrices("is empty; begin with the line start,price_per_kwh")
    return found


def _check_header(cells: list[str], line: int) -> None:
    names = [cell.strip().lower() for cell in cells]
    if len(names) != 2 or names[0] != "start" or names[1] not in HEADERS:
        told = ",".join(cells)[:60]
        raise BadPrices(f'line {line}: "{told}" is not the header; begin with start,price_per_kwh')


def _start(text: str, line: int, zone: ZoneInfo, seen: set[datetime]) -> datetime | None:
    """The instant, or None for a clock time that is skipped in spring."""
    try:
        at = datetime.fromisoformat(text)
        if at.tzinfo is not None:
            return at.astimezone(UTC)
        again, local = at in seen, at.replace(tzinfo=zone)
        seen.add(at)
        instant = local.astimezone(UTC)
        if instant.astimezone(zone).replace(tzinfo=None) != at:
            return None
        second = local.replace(fold=1).astimezone(UTC)
        return second if again else instant
    except (ValueError, OverflowError):
        raise BadPrices(f'line {line}: "{text[:40]}" is not a time; write 2026-11-22T18:00') from None


def _micro(text: str, line: int) -> int | None:
    if not text:
        return None
    try:
        amount = Decimal(text) if _NUMBER.fullmatch(text) else Decimal("NaN")
    except InvalidOperation:
        amount = Decimal("NaN")
    if amount.is_nan() or abs(amount) > HIGHEST:
        raise BadPrices(f'line {line}: "{text[:40]}" is not a price per kWh; write it like 0.24')
    return round(amount * MICRO)
