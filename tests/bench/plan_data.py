"""The depots of `bench-plan`: sessions and prices of tests/data as a site, its stays and what was announced of them."""

from __future__ import annotations

import csv
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from controller.core.grid import Grid
from controller.core.model import SITE, Circuit, Evse, EvseId, Link, PerPhase, Site, StationId, evse_id
from controller.core.planning import Price

DATA = Path(__file__).parents[1] / "data"
VOLTAGE_MV = 230_000
LINK = Link("bench", 180, 30, 10, 12)


@dataclass(frozen=True)
class Stay:
    evse: EvseId
    arrival: datetime
    departure: datetime
    need_kwh: float
    told_kwh: float
    told_departure: datetime
    planned_return: datetime | None = None
    planned_kwh: float = 0.0

    @property
    def tolerance_kwh(self) -> float:
        return max(0.25, 0.02 * self.need_kwh)


@dataclass
class Depot:
    name: str
    site: Site
    stays: list[Stay]
    prices: list[Price]
    grid: Grid = field(init=False)

    def __post_init__(self) -> None:
        self.grid = Grid.of(self.site)


def read(name: str, days: int, share: float, *, announced: bool, seed: int = 1, first: int = 0) -> Depot:
    """The first `days` days of a file; announced: with noisy planned returns."""
    rng = random.Random(seed)
    rows = list(csv.DictReader((DATA / f"{name}.csv").open()))
    start = _at(rows[0]["arrival"]).replace(hour=0, minute=0, second=0) + timedelta(days=first)
    stays, stations = [], {}
    for row in rows:
        stations.setdefault(row["station"], (float(row["max_kw"]), int(row["phases"])))
        arrival, departure = _at(row["arrival"]), _at(row["departure"])
        need_kwh = float(row["energy_kwh"])
        late_h, more = rng.gauss(0, 0.5), rng.gauss(0, 0.125)
        if not start <= arrival < start + timedelta(days=days) or departure <= arrival:
            continue
        stays.append(
            Stay(
                evse_id(row["station"], 1),
                arrival,
                departure,
                need_kwh,
                float(row.get("declared_kwh") or need_kwh),
                _at(row.get("declared_departure") or row["departure"]),
                arrival + timedelta(hours=late_h) if announced else None,
                need_kwh * (1 + more),
            )
        )
    return Depot(name, _site(stations, share), stays, _prices(start))


def _at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def _site(stations: dict[str, tuple[float, int]], share: float) -> Site:
    evses, total_ma = {}, [0, 0, 0]
    for number, (station, (most_kw, phases)) in enumerate(sorted(stations.items())):
        on = (0, 1, 2) if phases == 3 else (number % 3,)
        most_ma = int(most_kw * 1e9 / VOLTAGE_MV / phases + 1) // 1000 * 1000
        for phase in on:
            total_ma[phase] += most_ma
        name = evse_id(station, 1)
        evses[name] = Evse(name, StationId(station), SITE, most_ma, 6_000, on, 0, LINK)
    limit = PerPhase(*(int(share * ma) for ma in total_ma))
    return Site("bench", "UTC", VOLTAGE_MV, {SITE: Circuit(SITE, None, limit)}, evses)


def _prices(start: datetime) -> list[Price]:
    rows = list(csv.DictReader((DATA / "prices_2019.csv").open()))
    return [
        Price(_at(row["start"]).replace(year=start.year), float(row["value"]))
        for row in rows
        if not row["start"].startswith("2019-02-29")
    ]
