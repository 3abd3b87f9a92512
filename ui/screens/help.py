"""Help: the keys of the screen it was asked on, then the marks and words. One page, no scrolling."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType

from ui.lines import BLANK, Line, Span, Tone, line
from ui.screens import frame
from ui.screens.base import DepotScreen

_TEXT = """\
 EVERYWHERE  1-7 screens  : command or EVSE  R ask again  L lock  q quit
 LISTS    up/down or j/k, PgUp/PgDn, g/G first/last, n/N next/previous abnormal
          / filter (Enter keeps, Esc clears)
 ORDERS   sent > accepted > applied > measured, each with its time
 AMPS     LIM limit (copper)   GRT grant (decided)   SET commanded, or
          commanded/accepted while they differ   MEAS measured (largest phase)
          CMT commitment: the worst it may draw without hearing from us again
 BARS     {bar}
 MARKS    !! critical   ! high   ~ low   ---- unknown   ? old or doubtful
          RTN: gone before anybody acknowledged it
 LINKS    how many of the channels work; broken ones are named below the header
 LOCK     read-only after 10 min without a key; L and the word unlock it
 ASCII    DEPOT_ASCII=1 depot ui          no colour: NO_COLOR=1 depot ui"""


class HelpScreen(DepotScreen):
    TITLE = "HELP"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,backspace,enter,question_mark", "app.pop_screen")
    ]

    def compose_lines(self, width: int, height: int) -> list[Line]:
        glyphs, about = self.glyphs, self.depot.helped
        bar = (
            f"{glyphs.drawn * 3} drawn  {glyphs.promised * 3} may be drawn  {glyphs.tick} worst case (commitment)  "
            f"{glyphs.free * 3} free"
        )
        own = [] if about is None else [line(Span(f" {about.TITLE}", Tone.STRONG)), *_lines(about.HELP)]
        lines = [line(Span(" HELP", Tone.STRONG)), *own, BLANK, *_lines(_TEXT.format(bar=bar))]
        return frame.page(lines, [frame.footer("Esc back", "", width)], height)


def _lines(text: str) -> list[Line]:
    return [line(row) for row in text.splitlines()]
