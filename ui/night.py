"""Tonight as text: a bar per vehicle, the site's power against its limit, prices, and what would help.

Owns the drawing only, for `depot plan` and for the plan screen; the document is the console's answer to `plan`.
Letters and blocks of one cell each, ASCII where the terminal cannot show more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

from ui.format import Glyphs, tail
from ui.picture import SHORT_WH
from ui.screens.charts import level

NAME, CELLS = 18, 41  # columns of the name and, of 80, of the bars; the rest are figures
FIGURES = 21  # columns of the figures behind the bars
HEIGHT = 7  # rows of the chart
QUARTER_S = 900.0
SURE_PCT = 90  # ready with less than this is worth a look

Document = Mapping[str, Any]
Series = Sequence[float | None]


class Timeline:
    """Time across the width of the bars: a cell is a quarter hour or a whole number of them,
    or, stretched, what makes the night as wide as the room."""

    def __init__(
        self, edges: list[datetime], zone: tzinfo, glyphs: Glyphs, most: int = CELLS, stretched: bool = False
    ) -> None:
        self.room = most
        self.edges = edges  # of the slots
        self.zone = zone
        self.glyphs = glyphs
        hours = (edges[-1] - edges[0]).total_seconds()
        self.cell_s = QUARTER_S * max(1, -(-hours // (QUARTER_S * most)))
        if stretched and hours > 0:
            self.cell_s = hours / most
        self.count = min(most, int(-(-hours // self.cell_s)))

    @classmethod
    def of(
        cls, document: Document, zone: tzinfo, glyphs: Glyphs, most: int = CELLS, stretched: bool = False
    ) -> Timeline | None:
        edges = [datetime.fromisoformat(text) for text in document.get("slots") or ()]
        return cls(edges, zone, glyphs, most, stretched) if len(edges) > 1 else None

    def start(self, cell: int) -> datetime:
        return self.edges[0] + timedelta(seconds=cell * self.cell_s)

    def cells(self, series: Series) -> list[float | None]:
        """The mean of a series (a value per slot) over each cell; None where nothing of it is known."""
        found: list[float | None] = []
        for cell in range(self.count):
            begin, end = self.start(cell), self.start(cell + 1)
            total, weight = 0.0, 0.0
            for value, (slot, after) in zip(series, pairwise(self.edges), strict=False):
                overlap_s = (min(end, after) - max(begin, slot)).total_seconds()
                if overlap_s > 0 and value is not None:
                    total, weight = total + value * overlap_s, weight + overlap_s
            found.append(total / weight if weight else None)
        return found


def head(document: Document, zone: tzinfo, day: str = "%Y-%m-%d ") -> list[str]:
    if document["made"] is None:
        return [document["why"]]
    made = datetime.fromisoformat(document["made"]).astimezone(zone)
    said = f"plan of {made.strftime(day)}{made:%H:%M}, by {'the horizon' if document['by'] == 'horizon' else 'rules'}"
    lines = [said]
    if document["why"]:
        lines.append(f"  {document['why']}")
    energy_wh = sum(each["planned_wh"] or 0 for each in document["evses"])
    price = cost(document)
    if energy_wh:
        money = "" if price is None else f" for about {price:.2f} {document['currency']}"
        lines[0] += f": {energy_wh / 1000:.1f} kWh{money}"
    return lines


def cost(document: Document) -> float | None:
    """Of what the vehicles are to get, at the prices known; None where one is not."""
    edges = [datetime.fromisoformat(text) for text in document.get("slots") or ()]
    total = 0.0
    for each in document["evses"]:
        for watts, price, (start, end) in zip(
            each["power_w"], document["price_per_kwh"], pairwise(edges), strict=False
        ):
            if watts and price is None:
                return None
            total += watts / 1000 * (end - start).total_seconds() / 3600 * (price or 0.0)
    return total if document["currency"] is not None else None


def clock_line(timeline: Timeline, name: str, figures: str) -> list[str]:
    """Whole hours above the cells they begin in, as many as there is room for."""
    row = [" "] * timeline.count
    free = 0
    for cell in range(timeline.count):
        begin, end = (timeline.start(n).astimezone(timeline.zone) for n in (cell, cell + 1))
        whole = begin if begin.minute == begin.second == 0 else end.replace(minute=0, second=0)
        if begin <= whole < end and cell >= free and cell + 2 <= timeline.count:
            row[cell : cell + 2] = f"{whole:%H}"
            free = cell + 4
    return [f"{name:<{NAME}} {''.join(row):<{timeline.room}} {figures}"]


def vehicle(each: Document, timeline: Timeline, document: Document) -> list[str]:
    return [vehicle_row(each, timeline), *notes(each, document)]


def vehicle_row(each: Document, timeline: Timeline) -> str:
    departs = None if each["departs"] is None else datetime.fromisoformat(each["departs"])
    most = max((abs(watts) for watts in each["power_w"]), default=0)
    bar = ""
    for cell, watts in enumerate(timeline.cells(each["power_w"])):
        if departs is not None and timeline.start(cell) <= departs < timeline.start(cell + 1):
            bar += timeline.glyphs.tick
        elif departs is not None and timeline.start(cell) > departs:
            bar += " "
        elif watts is None or abs(watts) < 50:
            bar += timeline.glyphs.free
        else:
            bar += "v" if watts < 0 else level(watts / most, timeline.glyphs)
    leaves = "-" if departs is None else f"{departs.astimezone(timeline.zone):%H:%M}"
    energy = "-" if each["planned_wh"] is None else f"{each['planned_wh'] / 1000:.1f}"
    return f"{tail(vehicle_name(each), NAME)} {bar:<{timeline.room}} {leaves:>6} {energy:>6} {ready(each):>5}"


def plain_vehicle(each: Document, document: Document, zone: tzinfo) -> list[str]:
    """Where no series was planned: by rules."""
    at = None if each["departs"] is None else datetime.fromisoformat(each["departs"]).astimezone(zone)
    leaves = "no departure known" if at is None else f"leaves {at:%a %H:%M}"
    return [f"{tail(vehicle_name(each), NAME)} {leaves}  {each['why']}", *notes(each, document)]


def vehicle_name(each: Document) -> str:
    return f"{each['vehicle']} {each['evse']}" if each["vehicle"] else str(each["evse"])


def told(each: Document, zone: tzinfo) -> str:
    """A vehicle's night in one line without a picture."""
    energy = "" if each["planned_wh"] is None else f", {each['planned_wh'] / 1000:.1f} kWh planned"
    departs = None if each["departs"] is None else datetime.fromisoformat(each["departs"]).astimezone(zone)
    leaves = "no departure known" if departs is None else f"leaves {departs:%Y-%m-%d %H:%M}"
    return f"{vehicle_name(each)}: {leaves}{energy}, ready {ready(each)}"


def ready(each: Document) -> str:
    if each["ready_pct"] is not None:
        return f"{each['ready_pct']} %"
    if each["departs"] is None or each["short_wh"] is None:
        return "-"
    return "yes" if each["short_wh"] < SHORT_WH else "NO"


def notes(each: Document, document: Document) -> list[str]:
    """What its station holds of it; what is missing, what binds, and the cheapest remedy with its price."""
    stored = stored_line(each, document)
    if not each["short_wh"] or each["short_wh"] < 50:
        return stored
    lines = [f"  {each['short_wh'] / 1000:.1f} kWh short: {each['binds']}"]
    best = each["best_remedy"]
    if best is not None:
        gain = f"brings {best['gain_wh'] / 1000:.1f} kWh"
        priced = best["cost"] is not None and document["currency"] is not None
        money = f" for {best['cost']:.2f} {document['currency']}" if priced else ""
        lines.append(f"  what would help: {best['text']} {gain}{money}")
    return lines + stored


def stored_line(each: Document, document: Document) -> list[str]:
    """Until when the charger itself would go on with the plan, or why it cannot."""
    if each.get("stored_until"):
        until = datetime.fromisoformat(each["stored_until"]).astimezone(ZoneInfo(document["timezone"]))
        return [f"  stored in the charger until {until:%H:%M}"]
    return [f"  not stored in the charger: {each['not_stored']}"] if each.get("not_stored") else []


def chart(document: Document, timeline: Timeline, height: int = HEIGHT) -> list[str]:
    """The power at the grid connection against its limit; of the chargers alone while the rest is not known."""
    known = any(watts is not None for watts in document["site_w"])
    series = document["site_w"] if known else _chargers_w(document)
    kw = [None if watts is None else watts / 1000 for watts in timeline.cells(series)]
    most = max((value for value in kw if value is not None), default=0.0)
    if most <= 0:
        return []
    limit = document["limit_w"] / 1000
    top = limit if known and most > limit / 2 else most
    lines = []
    for row in range(height, 0, -1):
        floor, ceiling = top * (row - 1) / height, top * row / height
        bar = ""
        for value in kw:
            share = 0.0 if value is None else (value - floor) / (ceiling - floor)
            bar += level(min(1.0, share), timeline.glyphs) if share > 0.02 else " "
        label = f"{ceiling:.0f} kW" if row in (height, 1 + height // 2, 1) else ""
        said = ("site" if known else "chargers") if row == height else ""
        lines.append(f"{said:<9}{label:>{NAME - 9}} {bar}")
    if known:
        lines[0] = f"{lines[0]:<{NAME + timeline.room + 1}}  limit {limit:.0f} kW"
    lines[1] = f"{lines[1]:<{NAME + timeline.room + 1}}  highest {most:.0f} kW"
    if document.get("load_error_w") is not None:
        lines[2] = f"{lines[2]:<{NAME + timeline.room + 1}}  load +-{document['load_error_w'] / 1000:.1f} kW"
    return lines


def _chargers_w(document: Document) -> Series:
    planned = [each["power_w"] for each in document["evses"] if each["power_w"]]
    return [sum(slot) for slot in zip(*planned, strict=True)]


def price_line(document: Document, timeline: Timeline) -> list[str]:
    prices = timeline.cells(document["price_per_kwh"])
    known = [price for price in prices if price is not None]
    if not known:
        return []
    low, high = min(known), max(known)
    bar = "".join(
        "?" if price is None else level((price - low) / (high - low) if high > low else 0.0, timeline.glyphs)
        for price in prices
    )
    figures = f"{low:.2f}-{high:.2f}"
    unit = f"{document['currency']}/kWh"
    return [
        f"{'price':<{NAME}} {bar:<{timeline.room}}  {figures}",
        f"{'':<{NAME + timeline.room + 1}}  {unit}",
    ]


def expected(document: Document, zone: tzinfo) -> list[str]:
    lines = []
    for each in document.get("expected", ()):
        at, until = (datetime.fromisoformat(each[key]).astimezone(zone) for key in ("arrives", "departs"))
        sure = "" if each["weight_pct"] >= 100 else f", {each['weight_pct']} % sure"
        lines.append(
            f"expected: {each['vehicle'] or each['evse']} {at:%a %H:%M} to {until:%a %H:%M},"
            f" {each['energy_wh'] / 1000:.0f} kWh{sure}"
        )
    return ["", *lines] if lines else []


# --- two plans, one beside the other --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Figures:
    """What a plan comes to. None: not known."""

    ready: int
    vehicles: int
    short_wh: int
    energy_wh: int
    cost: float | None
    peak_w: int | None

    @classmethod
    def of(cls, document: Document) -> Figures:
        evses = document["evses"]
        return cls(
            ready=sum(not at_risk(each) for each in evses),
            vehicles=len(evses),
            short_wh=sum(each["short_wh"] or 0 for each in evses),
            energy_wh=sum(each["planned_wh"] or 0 for each in evses),
            cost=cost(document),
            peak_w=max((watts for watts in document.get("site_w") or () if watts is not None), default=None),
        )


def at_risk(each: Document) -> bool:
    """It will be short, or may be."""
    short_wh, ready_pct = each.get("short_wh"), each.get("ready_pct")
    return bool((short_wh or 0) >= SHORT_WH or (ready_pct is not None and ready_pct < SURE_PCT))


def compared(now: Document, then: Document) -> list[str]:
    """A line per figure that is known: as it is, as it would be, and the difference."""
    one, other = Figures.of(now), Figures.of(then)
    money = then["currency"] or ""
    rows: list[tuple[str, str, str, str]] = [
        (
            "ready",
            f"{one.ready}/{one.vehicles}",
            f"{other.ready}/{other.vehicles}",
            _signed(other.ready - one.ready, 0) if one.vehicles == other.vehicles else "",
        )
    ]
    for name, unit, before, after in (
        ("short", "kWh", one.short_wh / 1000, other.short_wh / 1000),
        ("charged", "kWh", one.energy_wh / 1000, other.energy_wh / 1000),
        ("cost", money, one.cost, other.cost),
        ("peak", "kW", _kilo(one.peak_w), _kilo(other.peak_w)),
    ):
        if before is None and after is None:
            continue
        digits = 2 if name == "cost" else 1
        difference = "" if before is None or after is None else _signed(after - before, digits)
        rows.append((name, _number(before, digits), _number(after, digits), f"{difference} {unit}".strip()))
    return [f"{'':<9}{'now':>9}{'then':>9}  difference"] + [
        f"{name:<9}{before:>9}{after:>9}  {difference}".rstrip() for name, before, after, difference in rows
    ]


def differences(now: Document, then: Document, zone: tzinfo) -> list[str]:
    """Whose night would be another one, those first who would be short."""
    before = {each["evse"]: each for each in now["evses"]}
    found = []
    for each in then["evses"]:
        was = before.get(each["evse"])
        if was is not None and _state(was, zone) == _state(each, zone):
            continue
        told = "not there" if was is None else _state(was, zone)
        found.append((not at_risk(each), f"{vehicle_name(each)}: {told} -> {_state(each, zone)}"))
    return [text for _, text in sorted(found)]


def _state(each: Document, zone: tzinfo) -> str:
    short_wh = each["short_wh"] or 0
    sure = ready(each)
    words = "need not known" if sure == "-" else f"ready {sure}"
    if short_wh >= SHORT_WH:
        words = f"{short_wh / 1000:.1f} kWh short"
    if each["departs"] is None:
        return words
    return f"{words} at {datetime.fromisoformat(each['departs']).astimezone(zone):%H:%M}"


def _signed(difference: float, digits: int) -> str:
    rounded = round(difference, digits)
    return f"{rounded:+.{digits}f}" if rounded else "0"


def _kilo(value: int | None) -> float | None:
    return None if value is None else value / 1000


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
