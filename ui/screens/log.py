"""Screen 7, the log: audit, alarms, orders and sessions in one list, newest last; it follows until somebody looks back.

Frozen by space: what stands there stays while the depot goes on. The twin is `depot log -f`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar

from textual.binding import Binding, BindingType

from controller.core.snapshot import Snapshot
from ui import format as fmt
from ui.lines import BLANK, Line, Span, Tone, line, wrapped
from ui.picture import MARKS, NORMAL, TONES
from ui.screens.base import Call
from ui.screens.rows import Row, RowsScreen, aged, not_there

MOST = 500
HEAD = "    TIME      WHAT               ABOUT        DETAIL"


class LogScreen(RowsScreen):
    TITLE = "7 LOG"
    FILTERS = "what, source, person, text"
    EVERY_S = 2.0
    HELP: ClassVar[str] = """\
 What happened, newest last. It follows while the cursor is on the newest line.
 space freeze and go on   G newest (follow again)   the twin: depot log -f"""
    BINDINGS: ClassVar[list[BindingType]] = [Binding("space", "freeze")]

    _frozen = False

    def wanted(self) -> Mapping[str, Call]:
        return {} if self._frozen else {"log": ("log", {"last": MOST})}

    def action_freeze(self) -> None:
        self._frozen = not self._frozen
        self.ask_again()
        self.repaint()

    def action_move(self, by: int) -> None:
        rows = self.shown()
        if rows and self.index(rows) + by >= len(rows) - 1:
            self._chosen = None  # the newest, whichever that will be
            self.repaint()
        else:
            super().action_move(by)

    def index(self, rows: list[Row]) -> int:
        return next((at for at, row in enumerate(rows) if row.key == self._chosen), max(0, len(rows) - 1))

    def rows(self, snapshot: Snapshot) -> list[Row]:
        return [self._row(each, snapshot) for each in self.told("log").rows("lines")]

    def _row(self, each: Mapping[str, Any], snapshot: Snapshot) -> Row:
        at = datetime.fromisoformat(str(each["time"]))
        what, source, text = (str(each.get(name) or "") for name in ("what", "source", "text"))
        rank = _rank(what)
        near = abs((snapshot.time - at).total_seconds()) < 86400
        when = (
            fmt.clock(at, self.picture.place) if near else f"{at.astimezone(self.picture.place):%d%b %H:%M}"
        )
        by = f"  by {each['by']}" if each.get("by") else ""

        def paint(width: int, under_cursor: bool) -> Line:
            quiet = Tone.STRONG if under_cursor else Tone.PLAIN
            mark = Span(f"{MARKS.get(rank, ''):2} ", TONES.get(rank, quiet))
            words = f"{fmt.fit(when, 9)} {fmt.fit(what, 18)} {fmt.fit(source, 12)} {text}{by}"
            return line(
                Span(">" if under_cursor else " ", quiet), mark, Span(fmt.fit(words, width - 4), quiet)
            )

        return Row(str(each["id"]), rank, f"{what} {source} {text}{by}", paint)

    def above(self, snapshot: Snapshot, width: int, room: int) -> list[Line]:
        frozen = [line(Span(" FROZEN: space goes on", Tone.LOW))] if self._frozen else []
        return [*frozen, *aged(self.told("log"), width)]

    def head(self, width: int) -> list[Line]:
        return [line(Span(HEAD, Tone.STRONG))] if self.told("log").document else []

    def empty(self, snapshot: Snapshot) -> list[Line]:
        return not_there(self.told("log"), "nothing happened yet")

    def details(self, chosen: Row, width: int, room: int) -> list[Line]:
        """Only what its row cannot hold."""
        return [BLANK, *wrapped(chosen.words, width)][:room] if len(chosen.words) > width - 36 else []

    def verbs(self) -> str:
        state = "space go on" if self._frozen else "space freeze"
        return f"{state}   G newest   / filter   n/N next/previous alarm   Esc back"


def _rank(what: str) -> int:
    """`alarm 2` is as urgent as that alarm was."""
    book, _, priority = what.partition(" ")
    return int(priority) if book == "alarm" and priority.isdecimal() and int(priority) in MARKS else NORMAL
