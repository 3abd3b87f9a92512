"""Help: the keys, the marks, the words. One page, no scrolling."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType

from ui.lines import Line, Span, Tone, line
from ui.screens import frame
from ui.screens.base import DepotScreen

_TEXT = """\
 SCREENS  1 overview   2 EVSE          Enter open   Esc back   q quit
 ROWS     up/down or j/k, PgUp/PgDn, g/G first/last
          n/N next/previous abnormal row    / filter (Enter keeps, Esc clears)
 EVSE     s start   x stop   p pause   r resume   l limit
          each shows what it will do; y does it, n cancels. [brackets]: not
          possible now, press the key to read why.
 ORDERS   sent > accepted > applied > measured, each with its time
 AMPS     LIM limit (copper)   GRT grant (decided)   SET commanded, or
          commanded/accepted while they differ   MEAS measured (largest phase)
          CMT commitment: the worst it may draw without hearing from us again
 BARS     {bar}
 MARKS    !! critical   ! high   ~ low   ---- unknown   ? old or doubtful
          RTN: gone before anybody acknowledged it
 LINKS    how many of the channels work; broken ones are named below the header
 ASCII    DEPOT_ASCII=1 depot ui          no colour: NO_COLOR=1 depot ui"""


class HelpScreen(DepotScreen):
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,backspace,enter,question_mark", "app.pop_screen")
    ]

    def compose_lines(self, width: int, height: int) -> list[Line]:
        glyphs = self.glyphs
        bar = (
            f"{glyphs.drawn * 3} drawn  {glyphs.promised * 3} may be drawn  {glyphs.tick} worst case (commitment)  "
            f"{glyphs.free * 3} free"
        )
        lines = [
            line(Span(" HELP", Tone.STRONG)),
            *(line(text) for text in _TEXT.format(bar=bar).splitlines()),
        ]
        return frame.page(lines, [frame.footer("Esc back", "", width)], height)
