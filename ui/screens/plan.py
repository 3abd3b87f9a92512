"""Screen 4, the plan: tonight's timeline with a bar per vehicle, readiness, the site's power against its limit, prices.

Those that will not be ready come first, with what keeps them from it and what would help.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from textual.binding import Binding, BindingType

from controller.core.model import EvseId
from controller.core.snapshot import Snapshot
from ui import night
from ui.lines import BLANK, Line, Span, Tone, line
from ui.picture import MARKS, NORMAL, TONES
from ui.screens.base import Call
from ui.screens.rows import Row, RowsScreen, aged, not_there

LEAST_CHART, MOST_CHART = 3, 12
SURE_PCT = 90  # ready with less than this is worth a look
FIGURES = f"{'LEAVES':>6} {'kWh':>6} {'READY':>5}"


class PlanScreen(RowsScreen):
    TITLE = "4 PLAN"
    FILTERS = "vehicle, EVSE"
    BESIDE = False
    DETAILS = 10
    HELP: ClassVar[str] = """\
 A bar per vehicle: blocks charge, v discharge, the line is its departure.
 READY: its chance, or yes/NO. Below the list what keeps the chosen one from being
 ready and what would help, then the site's power against its limit, and the price.
 Enter opens its EVSE   w why it has the current it has now"""
    BINDINGS: ClassVar[list[BindingType]] = [Binding("w", "why")]

    def wanted(self) -> Mapping[str, Call]:
        return {"plan": ("plan", {})}

    def rows(self, snapshot: Snapshot) -> list[Row]:
        found = [(need(each), each) for each in self.told("plan").rows("evses")]
        return [self._row(each, rank) for rank, each in sorted(found, key=lambda pair: pair[0])]

    def _row(self, each: Mapping[str, Any], rank: int) -> Row:
        name = night.vehicle_name(each)

        def paint(width: int, under_cursor: bool) -> Line:
            timeline = self._timeline(width)
            if timeline is not None:
                text = night.vehicle_row(each, timeline)
            else:
                text = night.plain_vehicle(each, self._document(), self.picture.place)[0]
            quiet = Tone.STRONG if under_cursor else Tone.PLAIN
            mark = Span(f"{MARKS.get(rank, ''):2} ", TONES.get(rank, quiet))
            return line(Span(">" if under_cursor else " ", quiet), mark, Span(text, quiet))

        return Row(each["evse"], rank, name, paint)

    def _document(self) -> Mapping[str, Any]:
        return self.told("plan").document or {}

    def _timeline(self, width: int) -> night.Timeline | None:
        room = max(8, min(96, width - 4 - night.NAME - 1 - night.FIGURES))
        return night.Timeline.of(self._document(), self.picture.place, self.glyphs, room, stretched=True)

    def above(self, snapshot: Snapshot, width: int, room: int) -> list[Line]:
        document = self._document()
        if not document:
            return []
        text, *why = night.head(document, self.picture.place, "")
        evses = self.told("plan").rows("evses")
        late = sum(need(each) != NORMAL for each in evses)
        ready = Span(f" ready {len(evses) - late}/{len(evses)}", TONES[2] if late else Tone.STRONG)
        return [*aged(self.told("plan"), width), line(ready, f"   {text}"), *map(line, why)]

    def head(self, width: int) -> list[Line]:
        timeline = self._timeline(width)
        if timeline is None:
            return []
        return [
            line(Span(f"    {row}", Tone.STRONG)) for row in night.clock_line(timeline, "VEHICLE", FIGURES)
        ]

    def empty(self, snapshot: Snapshot) -> list[Line]:
        return not_there(self.told("plan"), "no vehicle is charging")

    def details(self, chosen: Row, width: int, room: int) -> list[Line]:
        document = self._document()
        found = next((each for each in self.told("plan").rows("evses") if each["evse"] == chosen.key), None)
        notes = [] if found is None else night.notes(found, document)
        lines = [BLANK, *(line(Span(f"  {text}", Tone.HIGH)) for text in notes)]
        lines += [line(f"    {text}") for text in night.expected(document, self.picture.place)[1:3]]
        timeline = self._timeline(width)
        height = min(MOST_CHART, room - len(lines) - 2)
        if timeline is not None and height >= LEAST_CHART:
            chart = night.chart(document, timeline, height)
            lines += [line(f"    {text}") for text in (*chart, *night.price_line(document, timeline))]
        return lines

    def verbs(self) -> str:
        return "Enter open   w why   / filter   n/N next/previous not ready   Esc back"

    def action_open(self) -> None:
        row = self.row()
        if row is not None:
            self.depot.selected = EvseId(row.key)
            self.depot.action_go("evse")

    def action_why(self) -> None:
        row = self.row()
        if row is not None:
            self.depot.ask_why(EvseId(row.key), self._told_why)

    def _told_why(self, text: str, known: bool) -> None:
        self.say(text, Tone.PLAIN if known else Tone.HIGH)
        self.repaint()


def need(each: Mapping[str, Any]) -> int:
    """2: it will be short; 3: it may be; NORMAL otherwise."""
    short_wh, ready = each.get("short_wh"), each.get("ready_pct")
    if short_wh is not None and short_wh >= night.SHORT_WH:
        return 2
    return 3 if ready is not None and ready < SURE_PCT else NORMAL
