"""What the platform remembers, in our words: sites, session records, energy per bucket. Pure.

Tolerant like `words`; an item that cannot be what it says it is (no id, no start) is left out. Reads no VIN, no cost and
no driver: what is not read cannot leak (G-25). Must not do I/O or decide what to ask for.
Source: Open Platform REFERENCE section 7, openapi.yaml (Site, ChargingRecord, AggregatedEnergy), GAPS G-14, G-19 to G-21.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any

from controller.core.events import RecordReceived
from controller.core.readings import Readings
from controller.core.units import whole
from drivers.openplatform.fields import as_instant, as_number, as_text

_MAX_KWH = 1e8  # a whole-life register of a big charger, with room


@dataclass(frozen=True, slots=True)
class SiteReading:
    site_id: str
    name: str
    connectors: int | None
    capacity_w: int | None


@dataclass(frozen=True, slots=True)
class RecordReading:
    """A finished session as the charger wrote it. Energy as a magnitude; registers may be missing."""

    record_id: str
    device_id: str
    connector: int
    started: datetime
    ended: datetime | None
    energy_wh: int
    register_start_wh: int | None
    register_end_wh: int | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class EnergyPoint:
    """One bucket; `start` is None where the label could not be read. A bucket without data is absent, not zero."""

    label: str
    start: datetime | None
    charge_wh: int | None
    discharge_wh: int | None
    max_w: int | None


@dataclass(frozen=True, slots=True)
class Page:
    """`items` as they came. `total` None: the platform did not say how many there are."""

    items: tuple[Mapping[str, Any], ...]
    total: int | None

    def is_last(self, number: int, size: int) -> bool:
        return len(self.items) < size or (self.total is not None and number * size >= self.total)


def read_page(data: Any) -> Page:
    """Raises ValueError when the answer is no page."""
    if not isinstance(data, Mapping) or not _is_list(data.get("items")):
        raise ValueError("no page in the answer")
    total = data.get("total")
    known = isinstance(total, int) and not isinstance(total, bool) and total >= 0
    return Page(tuple(item for item in data["items"] if isinstance(item, Mapping)), total if known else None)


def read_site(item: Mapping[str, Any]) -> SiteReading | None:
    site_id, connectors = as_text(item.get("site_id")), as_number(item.get("total_connectors"))
    if not site_id:
        return None
    return SiteReading(
        site_id=site_id,
        name=as_text(item.get("name")) or "",
        connectors=None if connectors is None else whole(connectors),
        capacity_w=_thousand(item.get("power_capacity")),
    )


def read_record(item: Mapping[str, Any]) -> RecordReading | None:
    """None for what cannot be booked: without id, charger, connector, start or energy."""
    record_id, device_id = as_text(item.get("record_id")), as_text(item.get("device_id"))
    connector, started = item.get("connector_id"), as_instant(item.get("start_time"))
    energy_wh = _thousand(item.get("energy"))
    if not record_id or not device_id or started is None or energy_wh is None:
        return None
    if isinstance(connector, bool) or not isinstance(connector, int):
        return None
    return RecordReading(
        record_id=record_id,
        device_id=device_id,
        connector=connector,
        started=started,
        ended=as_instant(item.get("end_time")),
        energy_wh=abs(energy_wh),
        register_start_wh=_thousand(item.get("meter_start")),
        register_end_wh=_thousand(item.get("meter_end")),
        reason=as_text(item.get("stop_reason")) or None,
    )


def contradiction(record: RecordReceived, readings: Readings) -> str:
    """What is wrong between the energy of a charging session and its registers (G-19); empty when nothing is. A record
    whose register stood still may be of a discharge, whose energy is in none."""
    start_wh, end_wh = record.register_start_wh, record.register_end_wh
    if start_wh is None or end_wh is None or end_wh <= start_wh:
        return ""
    off_wh = abs(end_wh - start_wh - record.energy_wh)
    return (
        f"its energy and its registers differ by {off_wh} Wh" if off_wh > readings.record_tolerance_wh else ""
    )


def read_energy(data: Any, zone: tzinfo = UTC) -> tuple[EnergyPoint, ...]:
    """The series of one site; `zone` is that of labels which name none. Raises ValueError when the answer holds none."""
    if not isinstance(data, Mapping) or not _is_list(data.get("series")):
        raise ValueError("no energy series in the answer")
    return tuple(_point(item, zone) for item in data["series"] if isinstance(item, Mapping))


def _point(item: Mapping[str, Any], zone: tzinfo) -> EnergyPoint:
    label = as_text(item.get("time")) or ""
    return EnergyPoint(
        label=label,
        start=as_instant(f"{label}-01" if len(label) == len("2026-06") else label, zone),
        charge_wh=_thousand(item.get("charge_energy")),
        discharge_wh=_thousand(item.get("discharge_energy")),
        max_w=_thousand(item.get("max_power")),
    )


def _thousand(value: Any) -> int | None:
    """kWh as Wh, kW as W."""
    number = as_number(value, _MAX_KWH)
    return None if number is None else whole(number * 1000)


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)
