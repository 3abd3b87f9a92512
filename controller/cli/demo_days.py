"""`depot demo --days`: whole days of a fleet with a duty plan, told by the hour, and what came of them.

Owns the account of the simulated site by its own truth (copper, energy, readiness, cost as `depot simulate` counts it), and
the files with which `depot simulate` runs the same days. The controller under it is the real one, over real sockets.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from controller.core.snapshot import Snapshot
from controller.core.tariff import MICRO, Rates
from controller.runtime import Runtime
from drivers.errors import Misconfigured
from drivers.sim.duty import DutyFleet, series_file, sessions_file
from drivers.sim.site import VOLTS, ZONE, DemoSite

BEGINS = datetime(2026, 11, 23, 14, 0, tzinfo=ZoneInfo(ZONE))  # a Monday, before the first is back
ACCOUNT_S = 60.0
TOLD_S = 3600.0
QUARTER_S = 900
FILES = ("depot.toml", "station.secret", "platform.secret")


def line(site: DemoSite, seen: Snapshot) -> str:
    root = seen.circuits[0]
    measured = "/".join("----" if a is None else f"{a / 1e3:4.0f}" for a in root.measured_ma)
    truth = max(site.world.current_a())
    charging = [evse for evse in seen.evses if (evse.power_w or 0) > 0]
    online = sum(evse.connected for evse in seen.evses)
    return (
        f"{seen.time.astimezone(ZoneInfo(seen.timezone)):%H:%M:%S}  {seen.state:8}  meter {measured} A"
        f"  promised {max(root.committed_ma) / 1e3:4.0f} A  copper {truth:5.1f} of {site.limit_a} A"
        f"  online {online}/{len(seen.evses)}  charging {len(charging)}"
        f"  {sum(evse.power_w or 0 for evse in charging) / 1e3:6.1f} kW  alarms {len(seen.alarms)}"
    )


@dataclass(slots=True)
class Days:
    """`cost`: of what charging and the battery made the site buy more, at the prices of the tariff."""

    site: DemoSite
    duty: DutyFleet
    folder: Path | None
    began_s: float = field(default_factory=time.monotonic)
    cost: float = 0.0
    quarters_wh: dict[int, float] = field(default_factory=lambda: defaultdict(float))
    alarms: Counter[str] = field(default_factory=Counter)
    plans: Counter[str] = field(default_factory=Counter)
    calling: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, site: DemoSite, keep: str | None) -> Days | None:
        return None if site.duty is None else cls(site, site.duty, None if keep is None else Path(keep))

    def keep(self, written: Path) -> None:
        """Leaves what `depot simulate` needs. Raises Misconfigured."""
        if self.folder is None:
            return
        site, began = self.site, BEGINS.astimezone(ZoneInfo("UTC"))
        until_s = max(stay.leaves_s for stay in self.duty.stays) + 86400

        def load_w(elapsed_s: float) -> float:
            return VOLTS * sum(site.building(elapsed_s))

        texts = {
            "sessions.csv": sessions_file(self.duty.stays, began),
            "load.csv": series_file(load_w, began, until_s),
            "pv.csv": series_file(site.sun, began, until_s),
        }
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for name in FILES:
                shutil.copy(written / name, self.folder / name)
            for name, text in texts.items():
                (self.folder / name).write_text(text, encoding="utf-8")
        except OSError as error:
            raise Misconfigured(f"--keep {self.folder}: {error.strerror or error}") from None
        files = " ".join(f"--{name} {self.folder}/{name}.csv" for name in ("sessions", "load", "pv"))
        print(f"the same days: depot simulate {self.folder}/depot.toml {files} --out {self.folder}/rows.csv")

    async def over(self) -> None:
        """Returns once the last vehicle has left and its session had time to be closed."""
        while len(self.duty.outcomes) < len(self.duty.stays):  # noqa: ASYNC110 - the world's time decides
            await asyncio.sleep(ACCOUNT_S)
        await asyncio.sleep(2 * ACCOUNT_S)

    async def account(self, runtime: Runtime, rates: Rates) -> None:
        """Minute by minute what charging costs, by the simulator's own meters; by the hour a line for people."""
        clock, site = runtime.clock, self.site
        moved_wh, lines = self._moved_wh(), 0
        first = clock.now()
        while True:
            began = clock.now()
            seen = await runtime.next_snapshot(None)
            calling = {alarm.id: alarm.kind for alarm in seen.alarms}
            self.alarms.update(calling[key] for key in calling.keys() - self.calling)
            self.calling = set(calling)
            self.plans[seen.planner] += 1
            if (began.mono_s - first.mono_s) // TOLD_S >= lines:
                lines += 1
                print(f"{seen.time.astimezone(ZoneInfo(ZONE)):%a} {line(site, seen)}", flush=True)
            await clock.sleep(ACCOUNT_S)
            passed_h = (clock.now().mono_s - began.mono_s) / 3600
            elapsed_s = site.world.elapsed_s - passed_h * 1800
            without_wh = (VOLTS * sum(site.building(elapsed_s)) - site.sun(elapsed_s)) * passed_h
            before_wh, moved_wh = moved_wh, self._moved_wh()
            took_wh = moved_wh - before_wh
            bought_wh = max(0.0, without_wh + took_wh) - max(0.0, without_wh)
            self.cost += (rates.at(began.utc) or 0) / MICRO * bought_wh / 1000
            self.quarters_wh[int(began.utc.timestamp()) // QUARTER_S] += without_wh + took_wh

    def _moved_wh(self) -> float:
        """What vehicles and battery have taken so far."""
        return sum(evse.register_wh for evse in self.site.evses) + self.site.storage.stored_wh

    async def last_words(self, runtime: Runtime) -> None:
        """The figures of `depot simulate --json`, by the truth of the simulated site."""
        over = self.duty.outcomes
        needed_wh, got_wh = sum(one.stay.need_wh for one in over), sum(one.got_wh for one in over)
        ready = sum(one.ready for one in over)
        rows = await runtime.ledger.sessions(None, None)
        booked_wh = sum(row["energy_wh"] for row in rows)
        priced = sum(row["cost"] or 0.0 for row in rows)
        site_s, wall_s = self.site.world.elapsed_s, time.monotonic() - self.began_s
        storage = self.site.storage
        print(
            f"\nsessions        {len(over)}, ready at departure {ready} ({100 * ready / max(1, len(over)):.2f} %)"
        )
        print(f"energy          {got_wh / 1e3:.3f} of {needed_wh / 1e3:.3f} kWh ({100 * got_wh / max(1, needed_wh):.2f} %),"
              f" {self.cost:.2f} EUR")  # fmt: skip
        print(
            f"booked          {booked_wh / 1e3:.3f} kWh in {len(rows)} sessions, {priced:.2f} EUR at the tariff"
        )
        highest = max(self.quarters_wh.values(), default=0.0) * 3600 / QUARTER_S / 1e3
        print(f"highest quarter {highest:.3f} kW at the grid connection")
        print(
            f"battery         took {(storage.stored_wh - storage.capacity_wh / 2) / 1e3:.3f} kWh more than it gave"
        )
        print(
            "alarms          " + (", ".join(f"{code} {n}" for code, n in self.alarms.most_common()) or "none")
        )
        plans = sum(self.plans.values()) or 1
        print(
            f"planned by      {', '.join(f'{name or chr(45)} {n / plans:.0%}' for name, n in self.plans.items())}"
        )
        short = [one for one in over if not one.ready]
        for one in sorted(short, key=lambda one: one.got_wh - one.stay.need_wh)[:10]:
            print(
                f"  not ready: {one.stay.name:<12} {one.got_wh / 1e3:6.1f} of {one.stay.need_wh / 1e3:.1f} kWh"
            )
        print(
            f"{site_s / 86400:.2f} days in {wall_s / 60:.1f} min of wall time: {site_s / wall_s:.0f} times as fast"
        )
