"""What a simulation has to say: the rows of OUT.csv, the summary of INTERFACE section 5, and a page for people."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol
from zoneinfo import ZoneInfo

from controller.core.tariff import MICRO, Tariff
from controller.simulation.files import Stay
from controller.simulation.night import Ended, Row, Told
from controller.simulation.plant import Plant

HEAD = ("time", "session", "station", "l1_a", "l2_a", "l3_a", "power_kw", "energy_kwh")
QUARTER_S = 900
CHART_ROWS, CHART_WIDTH = 8, 72
SHORT_SHOWN = 10


class Text(Protocol):
    def write(self, text: str, /) -> object: ...


class _Writer(Protocol):
    def writerow(self, row: Sequence[object], /) -> object: ...


@dataclass(slots=True)
class Account:
    """Hears every step: writes its rows, and adds up what the summary needs."""

    plant: Plant
    zone: ZoneInfo
    step_s: float
    tariff: Tariff | None
    out: Text
    cost: float = 0.0
    unpriced_kwh: float = 0.0
    above: int = 0
    quarters_kwh: dict[int, float] = field(
        default_factory=dict
    )  # at the grid connection, by number since 1970
    highest_ma: list[int] = field(default_factory=list)  # per resource of the grid
    stored_kwh: float = 0.0  # in all batteries, up to the step before

    _writer: _Writer = field(init=False)

    def __post_init__(self) -> None:
        self.highest_ma = [0] * len(self.plant.grid.resources)
        self._writer = csv.writer(self.out, lineterminator="\n")
        self._writer.writerow(HEAD)

    def hear(self, start: datetime, rows: list[Row]) -> None:
        time = start.astimezone(self.zone).replace(tzinfo=None).isoformat()
        allowed_ma = [0] * len(self.plant.grid.resources)
        charging_kwh = 0.0
        for row in rows:
            on = row.plug.on_grid_ma(row.current_ma)
            self._writer.writerow(
                (time, row.stay.session, row.stay.station, *(f"{ma / 1000:g}" for ma in on),
                 f"{row.kw:.4f}", f"{row.kwh:.4f}")
            )  # fmt: skip
            self.plant.add(allowed_ma, row.plug, row.current_ma)
            charging_kwh += row.kw * self.step_s / 3600
        taken_kwh = self.plant.stored_kwh - self.stored_kwh
        self.stored_kwh = self.plant.stored_kwh
        self._limits(start, allowed_ma)
        self._energy(start, charging_kwh + taken_kwh)

    def _limits(self, start: datetime, allowed_ma: list[int]) -> None:
        load_kw, sun_kw = self.plant.other_kw(start)
        # beside the newest currents; what a battery gives may end at any time: no room for others
        battery_kw = sum(max(0.0, store.flowed_kw) for store in self.plant.stores.values())
        other_ma = max(0, self.plant.per_phase_ma(load_kw - sun_kw + battery_kw))
        broken = False
        grid = self.plant.grid
        for n, (ma, limit_ma) in enumerate(zip(allowed_ma, grid.limits_ma, strict=True)):
            self.highest_ma[n] = max(self.highest_ma[n], ma)
            circuit = self.plant.site.circuits[grid.resources[n][0]]
            other = other_ma if circuit.parent is None else 0
            broken |= ma > 0 and ma + other > limit_ma
        self.above += broken

    def _energy(self, start: datetime, charging_kwh: float) -> None:
        """What charging makes the site buy more: what the sun gives is free first."""
        load_kw, sun_kw = self.plant.other_kw(start)
        hours = self.step_s / 3600
        without_kwh = (load_kw - sun_kw) * hours
        bought_kwh = max(0.0, without_kwh + charging_kwh) - max(0.0, without_kwh)
        price = None if self.tariff is None else self.tariff.buy.at(start)
        if price is None:
            self.unpriced_kwh += bought_kwh
        else:
            self.cost += price / MICRO * bought_kwh
        quarter = int(start.timestamp() // QUARTER_S)
        self.quarters_kwh[quarter] = self.quarters_kwh.get(quarter, 0.0) + without_kwh + charging_kwh

    def summary(self, told: Told) -> dict[str, object]:
        """The document of `--json`."""
        ended = told.ended
        requested, delivered = sum(one.stay.energy_kwh for one in ended), sum(one.kwh for one in ended)
        ready = sum(is_ready(one) for one in ended)
        peak_kw = max((kwh * 3600 / QUARTER_S for kwh in self.quarters_kwh.values()), default=0.0)
        priced = self.tariff is not None and self.unpriced_kwh < 1e-6
        return {
            "sessions": len(ended),
            "requested_kwh": round(requested, 3),
            "delivered_kwh": round(delivered, 3),
            "ready": ready,
            "cost": round(self.cost, 4) if priced else None,
            "peak_kw": round(peak_kw, 3),
            "steps_above_limit": self.above,
            "starts_per_session": round(sum(one.starts for one in ended) / len(ended), 3) if ended else 0.0,
            "plan_ms": _times(told.plan_ms),
            "met_pct": round(100 * delivered / requested, 2) if requested else 100.0,
            "ready_pct": round(100 * ready / len(ended), 2) if ended else 100.0,
            "waited": told.waited,
            "not_plugged_in": sum(not one.plugged for one in ended),
            "plans": len(told.plan_ms),
            "plans_by_rules": len(told.fallbacks),
            "battery_kwh": round(self.plant.stored_kwh, 3) if self.plant.stores else None,
            "unpriced_kwh": round(self.unpriced_kwh, 3) if self.tariff is not None else None,
        }


def is_ready(one: Ended) -> bool:
    stay: Stay = one.stay
    return one.kwh >= stay.energy_kwh - stay.tolerance_kwh


def _times(values: Sequence[float]) -> dict[str, float]:
    if not values:
        return {"mean": 0.0, "p95": 0.0, "max": 0.0}
    p95 = statistics.quantiles(values, n=20)[-1] if len(values) > 1 else values[0]
    return {"mean": round(statistics.fmean(values), 2), "p95": round(p95, 2), "max": round(max(values), 2)}


# --- for people ---------------------------------------------------------------------------------------------------


def page(account: Account, told: Told, summary: Mapping[str, object]) -> Iterator[str]:
    """Lines of at most 80 columns."""
    times = summary["plan_ms"]
    assert isinstance(times, dict)
    cost = summary["cost"]
    currency = "" if account.tariff is None else account.tariff.currency
    price = "cost unknown" if cost is None else f"{cost:.2f} {currency}".rstrip()
    yield f"sessions        {summary['sessions']}, ready at departure {summary['ready']} ({summary['ready_pct']} %)"
    yield (
        f"energy          {summary['delivered_kwh']} of {summary['requested_kwh']} kWh ({summary['met_pct']} %),"
        f" {price}"
    )
    yield f"highest quarter {summary['peak_kw']} kW at the grid connection"
    if summary["battery_kwh"] is not None:
        yield f"battery         took {summary['battery_kwh']} kWh more than it gave; that is in the cost"
    yield f"starts          {summary['starts_per_session']} per session"
    yield f"above a limit   {summary['steps_above_limit']} steps"
    yield (
        f"plans           {summary['plans']}, {summary['plans_by_rules']} of them by rules;"
        f" {times['mean']:.0f} ms each, p95 {times['p95']:.0f} ms"
    )
    if told.waited:
        yield f"found their EVSE taken: {told.waited}; left before it was free: {summary['not_plugged_in']}"
    yield from _tightest(account)
    yield from _chart(account)
    yield from _short(told, account.zone)


def _tightest(account: Account) -> Iterator[str]:
    grid = account.plant.grid
    shares = [
        (ma / limit, grid.name(n), ma, limit)
        for n, (ma, limit) in enumerate(zip(account.highest_ma, grid.limits_ma, strict=True))
        if limit > 0
    ]
    for share, name, ma, limit in sorted(shares, key=lambda one: (-one[0], one[1]))[:3]:
        yield f"{name:<24}{ma / 1000:6.1f} of {limit / 1000:g} A for charging at most ({share:.0%})"


def _chart(account: Account) -> Iterator[str]:
    """The site's power over a day: the highest quarter hours of all days, on top of each other, against the limit."""
    day_kw = [0.0] * CHART_WIDTH
    for quarter, kwh in account.quarters_kwh.items():
        local = datetime.fromtimestamp(quarter * QUARTER_S, UTC).astimezone(account.zone)
        at = (local.hour * 60 + local.minute) * CHART_WIDTH // 1440
        day_kw[at] = max(day_kw[at], kwh * 3600 / QUARTER_S)
    root = next(circuit for circuit in account.plant.site.circuits.values() if circuit.parent is None)
    limit_kw = sum(root.limit_ma) * account.plant.site.voltage_mv / 1e9
    top = max(limit_kw, *day_kw) or 1.0
    marked = min(CHART_ROWS - 1, int(limit_kw / top * CHART_ROWS * 0.999))
    yield ""
    yield "kW at the grid connection over the day, highest of all days; - the limit"
    for level in reversed(range(CHART_ROWS)):
        empty = "-" if level == marked else " "
        bar = "".join("#" if kw / top * CHART_ROWS > level + 0.5 else empty for kw in day_kw)
        yield f"{top * (level + 1) / CHART_ROWS:6.0f} {bar}".rstrip()
    yield "       " + "".join(f"{hour:02}:00".ljust(CHART_WIDTH // 8) for hour in range(0, 24, 3)).rstrip()


def _short(told: Told, zone: ZoneInfo) -> Iterator[str]:
    short = [one for one in told.ended if not is_ready(one)]
    if not short:
        return
    yield ""
    yield f"not ready at departure: {len(short)}" + (", the worst:" if len(short) > SHORT_SHOWN else "")
    for one in sorted(short, key=lambda one: (one.kwh - one.stay.energy_kwh, one.stay.session))[:SHORT_SHOWN]:
        stay = one.stay
        left = stay.departure.astimezone(zone).strftime("%a %d %b %H:%M")
        yield f"  {stay.session:<18.18} {stay.station:<10.10} left {left}  {one.kwh:6.1f} of {stay.energy_kwh:.1f} kWh"
