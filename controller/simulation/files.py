"""Reading what is to be simulated: sessions and series as comma-separated values.

Owns the columns of INTERFACE section 5 and what is said about a file that breaks them: every mistake at once, each with
its line. Times are ISO 8601, local to the site unless they carry an offset; on the long night of a year a time that
stands there twice is taken in its order.
"""

from __future__ import annotations

import csv
import itertools
import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar
from zoneinfo import ZoneInfo

from controller.config.values import nearest, quoted

T = TypeVar("T")

NEEDED = ("session", "station", "arrival", "departure", "energy_kwh")
OPTIONAL = (
    "max_kw", "phases", "declared_kwh", "declared_departure", "planned_return", "planned_kwh", "vehicle",
)  # fmt: skip
MOST_BYTES = 100_000_000
MOST_TOLD = 10  # mistakes listed before "and N more"
MOST_KWH, MOST_KW = 10_000.0, 100_000.0
YEARS = (1970, 2200)
WEEKS_52 = timedelta(days=364)  # keeps the day of the week


class BadInput(Exception):
    """What was given cannot be simulated; one line per mistake."""

    def __init__(self, *lines: str) -> None:
        shown = list(lines[:MOST_TOLD])
        if len(lines) > MOST_TOLD:
            shown.append(f"and {len(lines) - MOST_TOLD} more")
        super().__init__("\n".join(shown))


@dataclass(frozen=True, slots=True)
class Stay:
    """One session as it was, or as it is to be. Times in UTC; what is None was not told.

    declared: what the driver said on arrival (the truth where the file has none). planned: what the duty plan said before.
    """

    session: str
    station: str
    arrival: datetime
    departure: datetime
    energy_kwh: float
    max_kw: float | None = None
    phases: int | None = None
    declared_kwh: float | None = None
    declared_departure: datetime | None = None
    planned_return: datetime | None = None
    planned_kwh: float | None = None
    vehicle: str | None = None

    @property
    def told_kwh(self) -> float:
        return self.energy_kwh if self.declared_kwh is None else self.declared_kwh

    @property
    def told_departure(self) -> datetime:
        return self.declared_departure or self.departure

    @property
    def tolerance_kwh(self) -> float:
        """So little missing at departure is ready."""
        return max(0.25, 0.02 * self.energy_kwh)


@dataclass(frozen=True, slots=True)
class Series:
    """A value from each start on, until the next. `held`: how many gaps longer than the usual step stand in it."""

    name: str
    starts: tuple[datetime, ...]
    values: tuple[float, ...]
    step: timedelta = field(default=timedelta(hours=1))

    @property
    def end(self) -> datetime:
        return self.starts[-1] + self.step

    def at(self, when: datetime) -> float | None:
        """None before its first value, after its last and in its gaps; one missing value (a clock put back) is bridged."""
        n = bisect_right(self.starts, when) - 1
        if n < 0 or when >= self.starts[n] + (2 * self.step if n + 1 < len(self.starts) else self.step):
            return None
        return self.values[n]

    def covering(self, since: datetime) -> Series:
        """Itself, or moved to the year of `since` where it is of another."""
        by = moved_by(self.starts[0], self.end, since)
        if not by:
            return self
        return Series(self.name, tuple(start + by for start in self.starts), self.values, self.step)


def moved_by(first: datetime, end: datetime, since: datetime) -> timedelta:
    """By how much values of another year (a typical one) are moved to hold for `since`; whole weeks, 0 where none fits."""
    if first <= since < end or end - first < timedelta(days=7):
        return timedelta(0)
    by = (since - first) // WEEKS_52 * WEEKS_52
    return by if first + by <= since < end + by else timedelta(0)


# --- sessions ---------------------------------------------------------------------------------------------------


def read_sessions(path: Path, zone: ZoneInfo) -> list[Stay]:
    """In the order of their arrival. Raises BadInput."""
    rows = _Rows(path, NEEDED, OPTIONAL)
    stays: list[Stay] = []
    seen: dict[str, int] = {}
    for row in rows:
        if (stay := _stay(row, zone)) is None:
            continue
        if stay.session in seen:
            row.wrong(f"session {quoted(stay.session)} stands in line {seen[stay.session]} already")
        seen.setdefault(stay.session, row.line)
        stays.append(stay)
    rows.judge()
    if not stays:
        raise BadInput(f"{path}: no session in it")
    return sorted(stays, key=lambda stay: (stay.arrival, stay.departure, stay.session))


def _stay(row: _Row, zone: ZoneInfo) -> Stay | None:
    session, station = row.text("session"), row.text("station")
    arrival, departure = row.time("arrival", zone), row.time("departure", zone)
    energy = row.number("energy_kwh", 0.0, MOST_KWH)
    phases = row.number("phases", 1.0, 3.0)
    stay = (
        None
        if session is None or station is None or arrival is None or departure is None or energy is None
        else Stay(
            session,
            station,
            arrival,
            _after(departure, arrival, zone),
            energy,
            row.number("max_kw", 0.0, MOST_KW) or None,
            None if phases is None else int(phases),
            row.number("declared_kwh", 0.0, MOST_KWH),
            row.time("declared_departure", zone),
            row.time("planned_return", zone),
            row.number("planned_kwh", 0.0, MOST_KWH),
            row.text("vehicle"),
        )
    )
    for column in NEEDED:
        if row.text(column) is None:
            row.wrong(f"{column} is empty")
    if stay is not None and stay.departure < stay.arrival:
        row.wrong("departure lies before arrival")
    return stay


def _after(when: datetime, before: datetime, zone: ZoneInfo) -> datetime:
    """On the long night the second of two equal clock times, where the first would lie before."""
    if when >= before:
        return when
    second = when.astimezone(zone).replace(fold=1).astimezone(UTC)
    return second if second >= before else when


# --- series -----------------------------------------------------------------------------------------------------


def read_series(path: Path, name: str, zone: ZoneInfo, least: float, most: float) -> Series:
    """`start,value`. Raises BadInput."""
    rows = _Rows(path, ("start", "value"), ())
    found: list[tuple[datetime, float]] = []
    for row in rows:
        start, value = row.time("start", zone), row.number("value", least, most)
        for column in ("start", "value"):
            if row.text(column) is None:
                row.wrong(f"{column} is empty")
        if start is None or value is None or row.skipped("start", zone):
            continue
        if found:
            start = _after(start, found[-1][0] + timedelta(seconds=1), zone)
            if start <= found[-1][0]:
                row.wrong("start does not lie after the one before: sort the file, one line per start")
        found.append((start, value))
    rows.judge()
    if not found:
        raise BadInput(f"{path}: no value in it")
    gaps = sorted((b - a for (a, _), (b, _) in itertools.pairwise(found)), key=lambda gap: gap)
    step = gaps[len(gaps) // 2] if gaps else timedelta(hours=1)
    return Series(name, tuple(start for start, _ in found), tuple(value for _, value in found), step)


# --- rows -------------------------------------------------------------------------------------------------------


class _Row:
    def __init__(self, rows: _Rows, line: int, cells: dict[str, str]) -> None:
        self.line = line
        self._rows, self._cells = rows, cells

    def wrong(self, text: str) -> None:
        self._rows.wrong.append(f"{self._rows.path}:{self.line}: {text}")

    def text(self, column: str) -> str | None:
        return self._cells.get(column) or None

    def number(self, column: str, least: float, most: float) -> float | None:
        return self._read(column, float, lambda value: math.isfinite(value) and least <= value <= most,
                          f"is not a number from {least:g} to {most:g}")  # fmt: skip

    def time(self, column: str, zone: ZoneInfo) -> datetime | None:
        def read(text: str) -> datetime:
            when = datetime.fromisoformat(text)
            if not YEARS[0] < when.year < YEARS[1]:
                raise ValueError(text)
            return (when if when.tzinfo else when.replace(tzinfo=zone)).astimezone(UTC)

        return self._read(column, read, lambda _: True, "is not a time like 2026-11-22T18:00:00")

    def skipped(self, column: str, zone: ZoneInfo) -> bool:
        """Whether it is a clock time that the short night of the year does not have."""
        at = datetime.fromisoformat(self._cells[column])
        local = at.replace(tzinfo=zone).astimezone(UTC).astimezone(zone).replace(tzinfo=None)
        return at.tzinfo is None and local != at

    def _read(self, column: str, read: Callable[[str], T], good: Callable[[T], bool], text: str) -> T | None:
        cell = self.text(column)
        if cell is None:
            return None
        try:
            value = read(cell)
        except (ValueError, OverflowError):
            value = None
        if value is None or not good(value):
            self.wrong(f"{column} {quoted(cell)} {text}")
            return None
        return value


class _Rows:
    """The rows of a file whose header has been understood. Iterating collects what is wrong; `judge` raises it."""

    def __init__(self, path: Path, needed: Sequence[str], optional: Sequence[str]) -> None:
        self.path = path
        self.wrong: list[str] = []
        lines = _lines(path)
        self._table = list(_cells(path, lines))
        if not self._table:
            raise BadInput(f"{path}: is empty; its first line must be {','.join(needed)}")
        self._columns = [cell.strip() for cell in self._table[0][1]]
        known = (*needed, *optional)
        missing = [column for column in needed if column not in self._columns]
        if missing and len(self._columns) == 1 and ";" in lines[0]:
            raise BadInput(f"{path}:1: columns are separated by commas, not by semicolons")
        strange = [column for column in self._columns if column not in known]
        advice = f"needed: {', '.join(needed)}"
        if missing:
            raise BadInput(
                *(
                    f"{path}:1: column {quoted(column)} is missing; {nearest(column, strange, advice)}"
                    for column in missing
                )
            )

    def __iter__(self) -> Iterator[_Row]:
        for line, cells in self._table[1:]:
            if len(cells) > len(self._columns):
                self.wrong.append(f"{self.path}:{line}: more cells than the first line has columns")
                continue
            yield _Row(
                self, line, {column: cell.strip() for column, cell in zip(self._columns, cells, strict=False)}
            )

    def judge(self) -> None:
        if self.wrong:
            raise BadInput(*self.wrong)


def _lines(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise BadInput(f"{path}: cannot be read: {reason}") from None
    if len(content) > MOST_BYTES:
        raise BadInput(f"{path}: is longer than {MOST_BYTES // 1_000_000} MB")
    try:
        return content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise BadInput(f"{path}: is not UTF-8 text") from None


def _cells(path: Path, lines: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """Cells with the number of the line they end on; empty lines are passed over."""
    reader = csv.reader(lines)
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield reader.line_num, cells
    except csv.Error as error:
        raise BadInput(f"{path}:{reader.line_num}: {error}") from None
