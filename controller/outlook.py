"""What a plan needs beyond what the core knows: prices, and load and sun as forecast from our own telemetry.

Owns the learning of quarter-hour means (kept in telemetry.db) and the completion of a `PlanRequest`. Forecasts are
given to the planner with their usual error added against us: load higher, sun lower. Without at least a day of
experience there is no forecast, and the load measured now is taken to last.
"""

from __future__ import annotations

import logging
import sqlite3
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from controller.core.depot import Depot
from controller.core.model import SITE, MeterRole, Quality
from controller.core.planning import Battery, PlanRequest, battery_of
from controller.core.profile import Profile, quarter_start
from controller.core.snapshot import Snapshot
from controller.core.tariff import MICRO, series
from controller.core.watts import overcount_ma
from controller.migrations import LedgerError
from controller.ports import Clock
from controller.storage import TELEMETRY, Storage

log = logging.getLogger(__name__)

SAMPLE_S = 10.0
FEWEST = 45  # samples that make the mean of a quarter hour, of 90
LATELY = timedelta(minutes=5)
AHEAD = timedelta(hours=75)  # longer than any plan
DAY = timedelta(hours=24)
LEARNT_FROM = timedelta(weeks=7)
KEPT = timedelta(days=400)


@dataclass(slots=True)
class _Quarter:
    start: datetime
    load_w: list[int] = field(default_factory=list)
    sun_w: list[int] = field(default_factory=list)
    import_w: list[int] = field(default_factory=list)


class Outlook:
    """`look` gives the newest picture. `open` before the first plan; `run` belongs beside the runtime."""

    def __init__(
        self, depot: Depot, clock: Clock, storage: Storage, look: Callable[[], Snapshot | None]
    ) -> None:
        self.load = Profile(depot.site.timezone)
        self.sun = Profile(depot.site.timezone, by_weekday=False)
        self._depot = depot
        self._clock = clock
        self._storage = storage
        self._look = look
        self._roles = {meter.id: meter.role for meter in depot.site.meters.values()}
        self._quarter: _Quarter | None = None
        self._lately: deque[tuple[datetime, int]] = deque(maxlen=round(LATELY.total_seconds() / SAMPLE_S))
        self._highest_w: dict[
            str, int
        ] = {}  # quarter hour's import, by month on the site's calendar; two at most

    async def open(self) -> None:
        """Learns from what earlier runs have seen."""
        since_s = int((self._clock.now().utc - LEARNT_FROM).timestamp())

        def work(db: sqlite3.Connection) -> list[tuple[int, int | None, int | None, int | None]]:
            query = "SELECT at_s, load_w, sun_w, import_w FROM load_quarters WHERE at_s >= ? ORDER BY at_s"
            return db.execute(query, (since_s,)).fetchall()

        try:
            rows = await self._storage.read(TELEMETRY, work)
        except LedgerError as error:
            log.warning("no forecast from earlier days: %s", error)
            return
        for at_s, load_w, sun_w, import_w in rows:
            self._learn(datetime.fromtimestamp(at_s, UTC), load_w, sun_w, import_w)

    async def run(self) -> None:
        while True:
            await self._clock.sleep(SAMPLE_S)
            now = self._clock.now()
            if now.utc_trusted and (seen := self._look()) is not None:
                self.observe(seen)

    def observe(self, seen: Snapshot) -> None:
        """One picture more of this quarter hour; what is not known is left out, never 0."""
        start = quarter_start(seen.time)
        if self._quarter is None or self._quarter.start != start:
            self._close()
            self._quarter = _Quarter(start)
        site = next(circuit for circuit in seen.circuits if circuit.id == SITE)
        import_w = self._metered_w(seen, MeterRole.GRID)
        if MeterRole.GRID in self._roles.values() and import_w is not None:
            self._quarter.import_w.append(import_w)
        sun_w = self._metered_w(seen, MeterRole.PV)
        if MeterRole.PV in self._roles.values() and sun_w is not None:
            self._quarter.sun_w.append(-sun_w)
        currents = [ma for ma in site.background_ma if ma is not None]
        battery_w = self._metered_w(seen, MeterRole.BATTERY)
        if site.meter is None or site.quality is not Quality.GOOD or len(currents) < 3:
            return
        if sun_w is not None and battery_w is not None:
            net_w = (sum(currents) + 3 * self._overcount_ma(seen)) * self._depot.site.voltage_mv // MICRO
            self._quarter.load_w.append(net_w - sun_w - battery_w)
            self._lately.append((seen.time, net_w - sun_w - battery_w))

    def _load_w(self, now: datetime) -> int | None:
        """Measured lately; None where that is long ago."""
        known = [load_w for at, load_w in self._lately if now - at <= LATELY]
        return round(sum(known) / len(known)) if known else None

    def _overcount_ma(self, seen: Snapshot) -> int:
        """Per phase: DC outputs are counted high, so what is not ours seems less."""
        site, over_ma = self._depot.site, 0
        for view in seen.evses:
            dc = site.evses[view.id].dc
            if dc is not None and view.power_w is not None:
                over_ma += overcount_ma(dc, view.power_w, site.voltage_mv)
        return over_ma

    def complete(self, request: PlanRequest) -> PlanRequest:
        """The request with prices and forecasts."""
        now, tariff = request.now.utc, self._depot.tariff
        if tariff is not None:
            request = replace(
                request,
                # with those of the day before: what is not published yet is taken to be like then
                prices=series(tariff.buy, now - DAY, now + AHEAD),
                feed_in=() if tariff.feed_in is None else series(tariff.feed_in, now - DAY, now + AHEAD),
                peak_price=tariff.peak_price_micro / MICRO,
            )
        return replace(
            request,
            load=self.load.forecast(now, now + DAY, self.load.error_w or 0, self._load_w(now)),
            pv=self.sun.forecast(now, now + DAY, -(self.sun.error_w or 0)),
            battery=self._battery(),
            peak_w=max(request.peak_w, self._highest_w.get(self._month(now), 0)),
        )

    def _battery(self) -> Battery | None:
        seen = self._look()
        socs = {} if seen is None else {view.id: view.soc_pct for view in seen.batteries}
        return battery_of(self._depot.site, socs)

    def _metered_w(self, seen: Snapshot, role: MeterRole) -> int | None:
        """What the meters of this role show together, import positive; 0 without such a meter, None if one is silent."""
        total_w = 0
        for view in seen.meters:
            if self._roles.get(view.id) is role:
                if view.power_w is None:
                    return None
                total_w += view.power_w
        return total_w

    def _close(self) -> None:
        """The quarter hour is over: learns from it and keeps it."""
        done = self._quarter
        if done is None:
            return
        load_w, sun_w, import_w = (
            round(sum(samples) / len(samples)) if len(samples) >= FEWEST else None
            for samples in (done.load_w, done.sun_w, done.import_w)
        )
        if load_w is None and sun_w is None and import_w is None:
            return
        self._learn(done.start, load_w, sun_w, import_w)
        at_s, oldest_s = int(done.start.timestamp()), int((done.start - KEPT).timestamp())

        def work(db: sqlite3.Connection) -> None:
            db.execute(
                "INSERT OR REPLACE INTO load_quarters VALUES (?, ?, ?, ?)", (at_s, load_w, sun_w, import_w)
            )
            db.execute("DELETE FROM load_quarters WHERE at_s < ?", (oldest_s,))

        self._storage.write(TELEMETRY, work)

    def _learn(self, start: datetime, load_w: int | None, sun_w: int | None, import_w: int | None) -> None:
        if load_w is not None:
            self.load.learn(start, max(0, load_w))
        if sun_w is not None:
            self.sun.learn(start, max(0, sun_w))
        if import_w is not None:
            month = self._month(start)
            self._highest_w[month] = max(import_w, self._highest_w.get(month, 0))
            if len(self._highest_w) > 2:
                del self._highest_w[min(self._highest_w)]

    def _month(self, at: datetime) -> str:
        return f"{at.astimezone(ZoneInfo(self._depot.site.timezone)):%Y-%m}"
