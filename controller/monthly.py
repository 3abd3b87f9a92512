"""The month in sums: what was charged per vehicle or id token, and per day.

Owns the one rule by which a session belongs to a month: the one in which it ended, on the site's calendar, with all its
energy and cost. So each session stands in exactly one report, and reports of months add up to the sessions. One that still
runs stands in none; it is named as open. Sums are of whole watt-hours and of millionths of the currency; only what is shown
is rounded. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal
from zoneinfo import ZoneInfo

By = Literal["vehicle", "token"]
Row = dict[str, Any]  # a session as the console tells it (controller.session_store.document)

RULE = "A session counts whole in the month in which it ended, by the calendar of the site."


@dataclass(slots=True)
class Sum:
    """cost_micro: per currency. unpriced: sessions without a cost. record_wh, gap_wh: of the `recorded` sessions that the
    charger's own records cover; theirs minus ours. seconds: from start to end."""

    sessions: int = 0
    energy_wh: int = 0
    seconds: int = 0
    cost_micro: dict[str, int] = field(default_factory=dict)
    unpriced: int = 0
    recorded: int = 0
    record_wh: int = 0
    gap_wh: int = 0
    marked: int = 0

    def add(self, row: Row) -> None:
        self.sessions += 1
        self.energy_wh += row["energy_wh"]
        self.seconds += max(0, round((_at(row["ended"]) - _at(row["started"])).total_seconds()))
        self.marked += bool(row["marks"])
        if row["cost"] is None:
            self.unpriced += 1
        else:
            currency = row["currency"] or ""
            self.cost_micro[currency] = self.cost_micro.get(currency, 0) + round(row["cost"] * 1e6)
        if row["gap_wh"] is not None:
            self.recorded += 1
            self.record_wh += row["record_wh"]
            self.gap_wh += row["gap_wh"]

    def document(self) -> dict[str, Any]:
        return {
            "sessions": self.sessions,
            "energy_wh": self.energy_wh,
            "duration_s": self.seconds,
            "cost": {currency: micro / 1e6 for currency, micro in sorted(self.cost_micro.items())},
            "unpriced": self.unpriced,
            "recorded": self.recorded,
            "record_wh": self.record_wh,
            "gap_wh": self.gap_wh,
            "marked": self.marked,
        }


@dataclass(frozen=True, slots=True)
class Month:
    """days: one per day of the month, Wh by the day of the end. groups: by name, what nobody is known for last."""

    name: str
    by: By
    zone: ZoneInfo
    start: datetime
    end: datetime
    total: Sum
    groups: dict[str | None, Sum]
    days: tuple[tuple[date, int], ...]
    rows: tuple[Row, ...]  # by their end
    running: int  # sessions that had begun before the month was over and have not ended

    def document(self) -> dict[str, Any]:
        return {
            "month": self.name,
            "timezone": self.zone.key,
            "start": _text(self.start),
            "end": _text(self.end),
            "rule": RULE,
            "by": self.by,
            "total": self.total.document(),
            "groups": [{"name": name, **each.document()} for name, each in self.groups.items()],
            "days": [{"day": day.isoformat(), "energy_wh": energy_wh} for day, energy_wh in self.days],
            "sessions": list(self.rows),
            "running": self.running,
        }


def month_of(name: str, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """From its first midnight on site to the next month's, in UTC. Raises ValueError."""
    year, mark, number = name.partition("-")
    if not (mark and len(year) == 4 and len(number) == 2 and (year + number).isdecimal() and name.isascii()):
        raise ValueError(f'"{name}" is not a month like 2026-11')
    if not (1970 <= int(year) <= 9998 and 1 <= int(number) <= 12):
        raise ValueError(f'"{name}" is not a month of the calendar')
    first = datetime(int(year), int(number), 1, tzinfo=zone)
    after = datetime(int(year) + int(number) // 12, int(number) % 12 + 1, 1, tzinfo=zone)
    return first.astimezone(UTC), after.astimezone(UTC)


def last_whole(now: datetime, zone: ZoneInfo) -> str:
    return (now.astimezone(zone).replace(day=1) - timedelta(days=1)).strftime("%Y-%m")


def summed(name: str, by: By, rows: Iterable[Row], zone: ZoneInfo) -> Month:
    """`rows` may hold sessions of other months: they are left out. Raises ValueError where the name is no month."""
    start, end = month_of(name, zone)
    given = list(rows)
    within = sorted(
        (row for row in given if row["ended"] is not None and start <= _at(row["ended"]) < end),
        key=lambda row: (row["ended"], row["id"]),
    )
    total, groups = Sum(), dict[str | None, Sum]()
    first = start.astimezone(zone).date()
    days = dict.fromkeys(_days(first, end.astimezone(zone).date()), 0)
    for row in within:
        total.add(row)
        groups.setdefault(row[by], Sum()).add(row)
        days[_at(row["ended"]).astimezone(zone).date()] += row["energy_wh"]
    named = sorted(groups.items(), key=lambda each: (each[0] is None, each[0] or ""))
    running = sum(row["ended"] is None and _at(row["started"]) < end for row in given)
    return Month(name, by, zone, start, end, total, dict(named), tuple(days.items()), tuple(within), running)


def _days(first: date, after: date) -> Sequence[date]:
    return [first + timedelta(days=each) for each in range((after - first).days)]


def _at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _text(at: datetime) -> str:
    return at.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"
