"""Days of a depot with roster, tariff, month's peak, sun and battery: ours beside charging at once and beside a program that
knows everything, and what it costs us not to know, cause by cause.

    .venv/bin/depot demo --plain --speed 1000 --days 7 --chargers 6 --keep /tmp/week
    .venv/bin/python -m tests.bench.plan_week /tmp/week

Runs `depot simulate`'s own parts over the files that the demo leaves, each time with one cause switched off. The bill is that
of the whole site: what is bought less what is fed in, the highest quarter hour, and what the battery holds at the end.
"""

from __future__ import annotations

import argparse
import io
import math
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np

from controller.cli.simulate import MOST_ITERATIONS
from controller.config import load
from controller.core.grid import Grid
from controller.core.model import EvseId, Moment, Plan, Site, Vehicle, VehicleId
from controller.core.planning import PlanRequest, Step, battery_of
from controller.core.tariff import MICRO, Tariff, series
from controller.core.watts import limit_w
from controller.planner import horizon, program
from controller.planner.needs import Slots, Task
from controller.simulation import result, setup
from controller.simulation.files import Series, Stay, read_series, read_sessions
from controller.simulation.knowledge import Knowledge
from controller.simulation.night import Night, Visit
from controller.simulation.plant import Plant
from controller.simulation.store import BEGINS_PCT

QUARTER = timedelta(minutes=15)
FINE_MA, FINE_STEP_MA = 500, 100
STEP_S, PLAN_EVERY_S = 60.0, 300.0


@dataclass(frozen=True)
class Week:
    site: Site
    zone: ZoneInfo
    tariff: Tariff
    stays: tuple[Stay, ...]
    load: Series
    pv: Series

    @property
    def start(self) -> datetime:
        first_s = self.stays[0].arrival.timestamp()
        return datetime.fromtimestamp(first_s // 900 * 900, UTC)

    @property
    def quarters(self) -> list[datetime]:
        count = math.ceil((max(stay.departure for stay in self.stays) - self.start) / QUARTER)
        return [self.start + n * QUARTER for n in range(count)]


@dataclass(frozen=True)
class Score:
    met_pct: float
    ready: int
    starts: float
    energy: float  # money
    peak_kw: float
    peak: float  # money

    @property
    def bill(self) -> float:
        return self.energy + self.peak


def read(folder: Path) -> Week:
    config = load(folder / "depot.toml")
    zone = ZoneInfo(config.site.timezone)
    stays = tuple(read_sessions(folder / "sessions.csv", zone))
    tariff = setup.tariff(config, None, stays[0].arrival, stays[-1].departure, [])
    assert tariff is not None, "the week needs a tariff"
    site = setup.at_pace(replace(config.site, accept_unknown_tokens=True), STEP_S)
    files = (read_series(folder / f"{name}.csv", name, zone, 0.0, 1e6) for name in ("load", "pv"))
    return Week(site, zone, tariff, stays, *files)


def score(
    week: Week, net_kwh: Sequence[float], kept_kwh: float, done: Sequence[tuple[Stay, float, int]]
) -> Score:
    """`net_kwh`: at the grid connection, per quarter hour. `kept_kwh`: more in the battery than at the start."""
    energy = 0.0
    cheapest = min(week.tariff.buy.at(at) or 0 for at in week.quarters) / MICRO
    for at, kwh in zip(week.quarters, net_kwh, strict=True):
        fed = week.tariff.feed_in
        paid = (week.tariff.buy.at(at) or 0) if kwh > 0 else (0 if fed is None else fed.at(at) or 0)
        energy += paid / MICRO * kwh
    peak_kw = max(net_kwh) * 4
    return Score(
        100 * sum(kwh for _, kwh, _ in done) / sum(stay.energy_kwh for stay, _, _ in done),
        sum(kwh >= stay.energy_kwh - stay.tolerance_kwh for stay, kwh, _ in done),
        sum(starts for _, _, starts in done) / len(done),
        energy - kept_kwh * cheapest,
        peak_kw,
        week.tariff.peak_price_micro / MICRO * peak_kw,
    )


# --- ours, and what it does not know ---------------------------------------------------------------------------------


@dataclass(slots=True)
class Seer(Knowledge):
    """Load and sun as they will be."""

    def complete(self, request: PlanRequest) -> PlanRequest:
        request = Knowledge.complete(self, request)
        since = request.now.utc.replace(minute=request.now.utc.minute // 15 * 15, second=0, microsecond=0)
        ahead = [since + n * QUARTER for n in range(4 * 75)]
        assert self.load is not None and self.pv is not None
        return replace(request, load=steps(self.load, ahead), pv=steps(self.pv, ahead))


def steps(known: Series, times: Sequence[datetime]) -> tuple[Step, ...]:
    return tuple(Step(at, round(1000 * kw)) for at in times if (kw := known.at(at)) is not None)


def told_exactly(week: Week) -> Week:
    stays = tuple(
        replace(
            stay,
            declared_kwh=stay.energy_kwh,
            declared_departure=stay.departure,
            planned_return=stay.arrival,
            planned_kwh=stay.energy_kwh,
        )
        for stay in week.stays
    )
    return replace(week, stays=stays)


def known_vehicles(week: Week) -> Week:
    vehicles = dict(week.site.vehicles)
    for stay in week.stays:
        name = VehicleId(stay.vehicle or stay.session)
        known = vehicles.get(name) or Vehicle(name, None, None, (stay.vehicle or stay.session,))
        power_w = None if stay.max_kw is None else round(1000 * stay.max_kw)
        vehicles[name] = replace(known, max_power_w=power_w)
    return replace(week, site=replace(week.site, vehicles=vehicles))


def fine_currents(week: Week) -> Week:
    """From half an ampere on, in tenths."""
    evses = {
        name: replace(evse, min_ma=FINE_MA, step_ma=FINE_STEP_MA) for name, evse in week.site.evses.items()
    }
    return replace(week, site=replace(week.site, evses=evses))


def at_once(request: PlanRequest) -> Plan:
    return Plan(request.now.utc, "nobody", {})


def ours(request: PlanRequest) -> Plan:
    return horizon.plan(request, limit_s=math.inf, iterations=MOST_ITERATIONS)


def run(week: Week, planning: Callable[[PlanRequest], Plan], seer: bool) -> Score:
    plant = Plant(week.site, week.load, week.pv)
    visits = setup.visits(week.site, week.stays, False)
    announced = [(visit.evses[0], visit.stay) for visit in visits if visit.stay.planned_return is not None]
    kind = Seer if seer else Knowledge
    known = kind(week.zone, week.tariff, not week.tariff.buy.bands, week.load, week.pv, announced)
    night = Night(week.site, plant, known, planning, visits, STEP_S, PLAN_EVERY_S)
    account = result.Account(plant, week.zone, STEP_S, week.tariff, io.StringIO())
    stored_kwh = sum(store.stored_kwh for store in plant.stores.values())
    told = night.run(account.hear, lambda _: None)
    kept_kwh = sum(store.stored_kwh for store in plant.stores.values()) - stored_kwh
    numbers = [int(at.timestamp() // 900) for at in week.quarters]
    net_kwh = [account.quarters_kwh.get(n, 0.0) for n in numbers]
    return score(week, net_kwh, kept_kwh, [(one.stay, one.kwh, one.starts) for one in told.ended])


# --- who knows everything --------------------------------------------------------------------------------------------


def clairvoyant(week: Week) -> Score:
    """One program over all days: fractional currents, from 0 on."""
    slots = Slots(week.start, np.arange(len(week.quarters) + 1, dtype=np.float64) * 0.25)
    end = slots.times()[-1]
    begins_pct = {battery.id: BEGINS_PCT for battery in week.site.batteries}
    battery = battery_of(week.site, begins_pct)
    request = PlanRequest(
        Moment(0.0, week.start),
        week.site,
        (),
        {},
        {},
        prices=series(week.tariff.buy, week.start, end),
        feed_in=() if week.tariff.feed_in is None else series(week.tariff.feed_in, week.start, end),
        peak_price=week.tariff.peak_price_micro / MICRO,
        load=steps(week.load, week.quarters),
        pv=steps(week.pv, week.quarters),
        battery=battery,
    )
    visits = setup.visits(week.site, week.stays, False)
    tasks = [_task(week.site, slots, visit) for visit in visits]
    grid = Grid.of(week.site)
    outlook = program.Outlook.of(request, grid, slots)
    found = program.solve(program.build(request, grid, tasks, slots, outlook, small_first=0.0), 300.0)
    got_kwh = (found.power_kw * slots.hours).sum(axis=1)
    way = 1.0 if battery is None else (battery.efficiency_pct / 100) ** 0.5
    flows = found.battery_kw * slots.hours
    kept_kwh = float(np.where(flows > 0, flows * way, flows / way).sum())
    done = [(visit.stay, float(kwh), 1) for visit, kwh in zip(visits, got_kwh, strict=True)]
    return score(week, [float(kw) / 4 for kw in found.site_kw], kept_kwh, done)


def _task(site: Site, slots: Slots, visit: Visit) -> Task:
    stay, unit = visit.stay, site.evses[EvseId(visit.evses[0])]
    kw_per_a = limit_w(unit, 1_000_000, site.voltage_mv) / 1e6
    if unit.dc is None and stay.phases is not None:
        kw_per_a *= min(1.0, stay.phases / len(unit.phases))
    full_kw = min(unit.max_ma / 1000 * kw_per_a, stay.max_kw or math.inf)
    from_h, to_h = slots.hour(stay.arrival), slots.hour(stay.departure)
    overlap_h = np.minimum(slots.edges_h[1:], to_h) - np.maximum(slots.edges_h[:-1], from_h)
    most_kw = full_kw * np.clip(overlap_h, 0.0, None) / slots.hours
    return Task(
        unit.id, None, None, from_h, to_h, stay.energy_kwh, full_kw, most_kw, unit.phases, kw_per_a,
        True, 0, 1.0, np.ones(slots.count),
    )  # fmt: skip


# --- the table -------------------------------------------------------------------------------------------------------


def _way(folder: Path, name: str) -> Score:
    week = read(folder)
    exact, vehicles = told_exactly, known_vehicles
    ways: dict[str, Callable[[], Score]] = {
        "who knows everything": lambda: clairvoyant(week),
        "at once": lambda: run(week, at_once, False),
        "ours": lambda: run(week, ours, False),
        ".. load and sun known": lambda: run(week, ours, True),
        ".. stays told exactly": lambda: run(exact(week), ours, False),
        ".. vehicles known": lambda: run(vehicles(week), ours, False),
        ".. all of these": lambda: run(vehicles(exact(week)), ours, True),
        ".. and fine currents": lambda: run(fine_currents(vehicles(exact(week))), ours, True),
    }
    return ways[name]()


WAYS = (
    "who knows everything", "at once", "ours", ".. load and sun known", ".. stays told exactly",
    ".. vehicles known", ".. all of these", ".. and fine currents",
)  # fmt: skip


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="plan_week", description=__doc__)
    parser.add_argument("folder", type=Path, help="with depot.toml, sessions.csv, load.csv and pv.csv")
    parser.add_argument("--ways", default=",".join(WAYS), help="which lines, separated by commas")
    parser.add_argument("--jobs", type=int, default=1, help="how many at a time")
    options = parser.parse_args(arguments)
    names = options.ways.split(",")
    print(
        f"{'way':<24}{'met %':>7}{'ready':>7}{'starts':>8}{'energy':>9}{'peak kW':>9}{'peak':>8}{'bill':>9}"
    )
    with ProcessPoolExecutor(options.jobs) as pool:
        for name, one in zip(names, pool.map(partial(_way, options.folder), names), strict=True):
            print(
                f"{name:<24}{one.met_pct:>7.1f}{one.ready:>7}{one.starts:>8.2f}{one.energy:>9.2f}"
                f"{one.peak_kw:>9.2f}{one.peak:>8.2f}{one.bill:>9.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main(sys.argv[1:])
