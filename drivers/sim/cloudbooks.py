"""What the simulated platform remembers: session records and energy per hour.

Owns the answers to the record and energy queries: records are filtered by start time, half-open, and paged in the
order they arrived (G-20); energy comes in UTC buckets, and a bucket nobody measured is missing, not zero (G-21).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from drivers.sim.cloudcharger import CloudCharger
from drivers.sim.cloudwords import Refusal, choice, digits, instant, paging, required, stamp, text

MAX_RECORDS = 10_000  # the oldest is forgotten first
# a bucket is all hours with the same label
_LABELS = {"hour": "%Y-%m-%dT%H:00:00Z", "day": "%Y-%m-%d", "month": "%Y-%m"}


@dataclass(slots=True)
class Bucket:
    charge_wh: float = 0.0
    discharge_wh: float = 0.0
    max_w: float = 0.0  # of one site
    hours: set[datetime] = field(default_factory=set)

    def add(self, other: Bucket) -> None:
        self.charge_wh += other.charge_wh
        self.discharge_wh += other.discharge_wh
        self.max_w = max(self.max_w, other.max_w)
        self.hours |= other.hours

    def fields(self) -> dict[str, Any]:
        return {
            "charge_energy": round(self.charge_wh / 1e3, 3),
            "discharge_energy": round(self.discharge_wh / 1e3, 3),
            "max_power": round(self.max_w / 1e3, 3),
        }


class Records:
    def __init__(self) -> None:
        self._kept: deque[Mapping[str, Any]] = deque(maxlen=MAX_RECORDS)

    def keep(self, record: Mapping[str, Any]) -> None:
        self._kept.append(record)

    def page(self, query: Mapping[str, str]) -> dict[str, Any]:
        """One page as the operator asked for it. Raises Refusal 1001."""
        page, size = paging(query)
        device_id, number = text(query, "device_id"), digits(query, "connector_id", low=1)
        since, until = instant(query, "start_time"), instant(query, "end_time")
        found = [
            record
            for record in self._kept
            if (device_id is None or record["device_id"] == device_id)
            and (number is None or record["connector_id"] == number)
            and (since is None or datetime.fromisoformat(record["start_time"]) >= since)
            and (until is None or datetime.fromisoformat(record["start_time"]) < until)
        ]
        return {
            "items": found[(page - 1) * size : page * size],
            "total": len(found),
            "page": page,
            "size": size,
        }


class Energy:
    """Integrates the registers of all chargers into hours, per site."""

    def __init__(self) -> None:
        self._hours: dict[tuple[str, datetime], Bucket] = {}
        self._registers: dict[str, tuple[float, float]] = {}

    def account(self, chargers: Iterable[CloudCharger], now: datetime) -> None:
        """One look at every register; what flowed since the last look belongs to the hour of `now` (UTC)."""
        hour = now.replace(minute=0, second=0, microsecond=0)
        power_w: dict[str, float] = {}
        for charger in chargers:
            bucket = self._hours.setdefault((charger.site_id, hour), Bucket(hours={hour}))
            for connector in charger.connectors:
                now_wh = (connector.evse.register_wh, connector.export_wh)
                before_wh = self._registers.get(connector.evse.id, now_wh)
                bucket.charge_wh += now_wh[0] - before_wh[0]
                bucket.discharge_wh += now_wh[1] - before_wh[1]
                self._registers[connector.evse.id] = now_wh
                power_w[charger.site_id] = power_w.get(charger.site_id, 0.0) + connector.evse.power_w
        for site_id, watts in power_w.items():
            bucket = self._hours[site_id, hour]
            bucket.max_w = max(bucket.max_w, abs(watts))

    def series(self, query: Mapping[str, str], known_sites: set[str]) -> dict[str, Any]:
        """The aggregated answer. Raises Refusal 1001, 1002, 3001 (unknown site)."""
        granularity = required(choice(query, "granularity", tuple(_LABELS)), "granularity")
        since = required(instant(query, "start_time"), "start_time")
        until = required(instant(query, "end_time"), "end_time")
        if until <= since:
            raise Refusal(
                1001, "end_time must be after start_time", field="end_time", value=query["end_time"]
            )
        group_by = choice(query, "group_by", ("site", "operator"))
        wanted = (text(query, "site_ids") or "").split(",") if "site_ids" in query else sorted(known_sites)
        if not set(wanted) <= known_sites:
            raise Refusal(3001, "no such resource", field="site_ids")
        buckets: dict[tuple[str, str], Bucket] = {}
        total = Bucket()
        for (site_id, hour), bucket in sorted(self._hours.items(), key=lambda item: item[0][1]):
            if site_id in wanted and since <= hour < until:
                label = hour.strftime(_LABELS[granularity])
                buckets.setdefault((label, site_id if group_by == "site" else ""), Bucket()).add(bucket)
                total.add(bucket)
        return {
            "granularity": granularity,
            "start_time": stamp(since),
            "end_time": stamp(until),
            "series": [
                {"time": label, **bucket.fields(), "avg_power": _average_kw(bucket)} | _group(site_id)
                for (label, site_id), bucket in buckets.items()
            ],
            "total": total.fields(),
        }


def _average_kw(bucket: Bucket) -> float:
    return round((bucket.charge_wh - bucket.discharge_wh) / len(bucket.hours) / 1e3, 3)


def _group(site_id: str) -> dict[str, str]:
    return {"group_id": site_id} if site_id else {}
