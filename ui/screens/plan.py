"""Screen 4, the plan: tonight's timeline with a bar per vehicle, readiness, the site's power against its limit, prices.

Those that will not be ready come first, with what keeps them from it and what would help. `m` asks what would be if
something were different: two plans in figures, below the list; nothing is changed by asking.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from textual import work
from textual.binding import Binding, BindingType

from controller.core.model import EvseId
from controller.core.snapshot import Snapshot
from ui import night
from ui.lines import BLANK, Line, Span, Tone, line, wrapped
from ui.picture import MARKS, NORMAL, SHORT_WH, TONES
from ui.screens.base import Call
from ui.screens.copying import CopyingScreen
from ui.screens.rows import Row, aged, not_there
from ui.told import Told, ask

LEAST_CHART, MOST_CHART = 3, 12
PROMPT = "what if (site.limit=160 A or 90 kW; BUS-07 -1h; BUS-07 05:30 40 kWh; add 2)?"
FIGURES = f"{'LEAVES':>6} {'kWh':>6} {'READY':>5}"


class PlanScreen(CopyingScreen):
    TITLE = "4 PLAN"
    FILTERS = "vehicle, EVSE"
    BESIDE = False
    DETAILS = 10
    HELP: ClassVar[str] = """\
 A bar per vehicle: blocks charge, v discharge, the line is its departure.
 READY: its chance, or yes/NO. Below the list what keeps the chosen one from it
 and what would help, then the site's power against its limit, and the price.
 Enter opens its EVSE   w why it has the current it has now   c copies its row
 m what if: a limit, a departure (earlier, later, another), more vehicles; a ;
 between several. Both plans in figures; nothing is changed; Esc ends it.
 The twin: depot plan --what-if "site.limit=160 A" [--json]"""
    BINDINGS: ClassVar[list[BindingType]] = [Binding("w", "why"), Binding("m", "what_if")]

    _asked = ""  # what would be different
    _answer_if: Told | None = None  # None: nothing was asked

    def wanted(self) -> Mapping[str, Call]:
        return {"plan": ("plan", {})}

    def rows(self, snapshot: Snapshot) -> list[Row]:
        found = [(need(each), each) for each in self.told("plan").rows("evses")]
        return [self._row(each, rank) for rank, each in sorted(found, key=lambda pair: pair[0])]

    def _row(self, each: Mapping[str, Any], rank: int) -> Row:
        name = night.vehicle_name(each)

        def paint(width: int, under_cursor: bool) -> Line:
            timeline = self._timeline(self._document(), width)
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

    def _timeline(self, document: Mapping[str, Any], width: int) -> night.Timeline | None:
        room = max(8, min(96, width - 4 - night.NAME - 1 - night.FIGURES))
        return night.Timeline.of(document, self.picture.place, self.glyphs, room, stretched=True)

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
        timeline = self._timeline(self._document(), width)
        if timeline is None:
            return []
        return [
            line(Span(f"    {row}", Tone.STRONG)) for row in night.clock_line(timeline, "VEHICLE", FIGURES)
        ]

    def empty(self, snapshot: Snapshot) -> list[Line]:
        lines = not_there(self.told("plan"), "no vehicle is charging")
        told = self._answer_if
        return lines if told is None else [*lines, *self._what_if_lines(told, self.app.size.width)]

    def details(self, chosen: Row, width: int, room: int) -> list[Line]:
        """Of the chosen vehicle and of the site; or of another plan, while somebody asks what if."""
        if (told := self._answer_if) is not None:
            lines = self._what_if_lines(told, width)
            if len(lines) > room:
                return [*lines[: room - 1], line(f" and {len(lines) - room + 1} more: depot plan --what-if")]
            then = (told.document or {}).get("then", {})
            return [*lines, BLANK, *self._chart(then, width, room - len(lines) - 1)]
        document = self._document()
        found = next((each for each in self.told("plan").rows("evses") if each["evse"] == chosen.key), None)
        notes = [] if found is None else night.notes(found, document)
        lines = [BLANK, *(line(Span(f"  {text}", Tone.HIGH)) for text in notes)]
        lines += [line(f"    {text}") for text in night.expected(document, self.picture.place)[1:3]]
        return [*lines, *self._chart(document, width, room - len(lines))]

    def _chart(self, document: Mapping[str, Any], width: int, room: int) -> list[Line]:
        """Of the site, with the prices below; nothing where there is not the room."""
        timeline = self._timeline(document, width)
        height = min(MOST_CHART, room - 2)
        if timeline is None or height < LEAST_CHART:
            return []
        chart = night.chart(document, timeline, height)
        return [line(f"    {text}") for text in (*chart, *night.price_line(document, timeline))]

    def _what_if_lines(self, told: Told, width: int) -> list[Line]:
        """Changes, both plans in figures, and whose night would be another one."""
        if told.document is None:
            text = told.trouble or "planning both..."
            tone = Tone.HIGH if told.trouble else Tone.PLAIN
            return [
                BLANK,
                line(Span(f" WHAT IF {self._asked}"[:width], Tone.STRONG)),
                *(tuple(span._replace(tone=tone) for span in row) for row in wrapped(text, width)),
            ]
        now, then = told.document["now"], told.document["then"]
        said = "; ".join(map(str, told.document["change"]))
        title = [
            tuple(span._replace(tone=Tone.STRONG) for span in row)
            for row in wrapped(f"WHAT IF {said}", width)[:2]
        ]
        lines = [BLANK, *title]
        lines += [line(f" {text}") for text in night.compared(now, then)]
        lines += [
            line(Span(f" {which} planned by {plan['by']}: {plan['why']}"[:width], Tone.HIGH))
            for which, plan in (("now", now), ("then", then))
            if plan["why"]
        ]
        lines += [line(f" {text}"[:width]) for text in night.differences(now, then, self.picture.place)]
        return lines

    def verbs(self) -> str:
        last = "Esc ends what if" if self._answer_if is not None else "Esc back"
        return f"Enter open  w why  m what if  c copy  / filter  n/N not ready  {last}"

    def copied(self, row: Row) -> str:
        found = next((each for each in self.told("plan").rows("evses") if each["evse"] == row.key), None)
        if found is None:
            return ""
        document, zone = self._document(), self.picture.place
        return "\n".join([night.told(found, zone), *(text.strip() for text in night.notes(found, document))])

    # --- what if -------------------------------------------------------------------------------------------------

    def action_what_if(self) -> None:
        if self.picture.lost is not None:
            self.say("what if is not possible: not connected to the controller", Tone.HIGH)
        else:
            self.ask_line(self._asked, PROMPT, self._what_if)
        self.repaint()

    def _what_if(self, text: str) -> None:
        self._asked = text.strip()
        self._answer_if = Told() if self._asked else None
        if self._asked:
            self._ask_what_if(self._asked)

    @work(group="what if", exclusive=True)
    async def _ask_what_if(self, text: str) -> None:
        self._answer_if = await ask(self.depot.source, Told(), "what-if", {"change": text})
        self.repaint()

    def leave(self) -> None:
        if self._answer_if is None:
            super().leave()
            return
        self.workers.cancel_group(self, "what if")
        self._answer_if = None
        self.repaint()

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
    if (each.get("short_wh") or 0) >= SHORT_WH:
        return 2
    return 3 if night.at_risk(each) else NORMAL
