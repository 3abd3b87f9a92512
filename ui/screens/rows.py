"""A screen that is mostly a list: a cursor, a filter, next and previous abnormal, and details of the chosen row.

Owns which rows are seen and which one is chosen (by its key: rows may move below the cursor). Must not know what
the rows are about.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from textual.binding import Binding, BindingType

from controller.core.snapshot import Snapshot
from ui.lines import Line, Span, Tone, beside, line
from ui.picture import NORMAL
from ui.screens.base import DepotScreen
from ui.told import Told

WIDE = 120  # from here on details stand at the right of the list instead of below
LEAST_ROWS = 4  # and the head of the list


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a list. `words` are what the filter looks in; `paint(width, under the cursor)` draws it."""

    key: str
    attention: int
    words: str
    paint: Callable[[int, bool], Line]


class RowsScreen(DepotScreen):
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)"),
        Binding("down,j", "move(1)"),
        Binding("pageup", "move(-10)"),
        Binding("pagedown", "move(10)"),
        Binding("home,g", "move(-100000)"),
        Binding("end,G", "move(100000)"),
        Binding("n", "abnormal(1)"),
        Binding("N", "abnormal(-1)"),
        Binding("enter", "open"),
    ]
    BESIDE: ClassVar[bool] = True  # details stand at the right where there is room for both
    DETAILS: ClassVar[int] = 4  # lines details get even where the list could use them
    FILTERS: ClassVar[str] = ""  # what a filter looks in, for the person who types one

    _filter = ""
    _top = 0
    _chosen: str | None = None

    # --- what a list says of itself --------------------------------------------------------------------------------

    def rows(self, snapshot: Snapshot) -> list[Row]:
        raise NotImplementedError

    def above(self, snapshot: Snapshot, width: int, room: int) -> list[Line]:
        """What stands above the list."""
        return []

    def head(self, width: int) -> list[Line]:
        return []

    def empty(self, snapshot: Snapshot) -> list[Line]:
        """What stands there instead of rows."""
        raise NotImplementedError

    def details(self, chosen: Row, width: int, room: int) -> list[Line]:
        """Of the row under the cursor; below the list, or at its right on a wide terminal."""
        return []

    # --- keys ------------------------------------------------------------------------------------------------------

    def action_move(self, by: int) -> None:
        rows = self.shown()
        if rows:
            at = self.index(rows) + by
            self.choose(rows[max(0, min(len(rows) - 1, at))].key)

    def action_abnormal(self, by: int) -> None:
        """To the next (1) or previous (-1) abnormal row, around the end."""
        rows = self.shown()
        at = self.index(rows)
        for step in range(1, len(rows) + 1):
            row = rows[(at + by * step) % len(rows)]
            if row.attention != NORMAL:
                self.choose(row.key)
                return

    def action_filter(self) -> None:
        prompt = f"filter by {self.FILTERS}: Enter keeps it, Esc cancels"
        self.ask_line(self._filter, prompt, self.set_filter)
        self.repaint()

    def action_open(self) -> None:
        """Enter: a list whose rows lead nowhere has nothing to do."""

    def set_filter(self, text: str) -> None:
        self._filter = text.strip()

    def leave(self) -> None:
        """Escape takes away the filter first."""
        if self._filter:
            self._filter = ""
            self.repaint()
        else:
            super().leave()

    # --- which rows, which one -------------------------------------------------------------------------------------

    def shown(self) -> list[Row]:
        snapshot, wanted = self.picture.snapshot, self._filter.casefold()
        return (
            [] if snapshot is None else [row for row in self.rows(snapshot) if wanted in row.words.casefold()]
        )

    @property
    def chosen(self) -> str | None:
        return self._chosen

    def choose(self, key: str) -> None:
        self._chosen = key
        self.repaint()

    def index(self, rows: list[Row]) -> int:
        return next((at for at, row in enumerate(rows) if row.key == self.chosen), 0)

    def row(self) -> Row | None:
        """The one under the cursor."""
        rows = self.shown()
        return rows[self.index(rows)] if rows else None

    # --- lines -----------------------------------------------------------------------------------------------------

    def body(self, snapshot: Snapshot, width: int, room: int) -> list[Line]:
        above = self.above(snapshot, width, room)
        if self._filter:
            above.append(line(Span(f" filter '{self._filter}' (Esc clears)", Tone.STRONG)))
        room -= len(above)
        rows = self.shown()
        if not rows:
            self.position = ""
            nothing = [line(f" nothing matches '{self._filter}'")] if self._filter else self.empty(snapshot)
            return [*above, *self.head(width), *nothing]
        chosen = rows[self.index(rows)]
        side = self.BESIDE and width >= WIDE
        if side and (right := self.details(chosen, width - width // 2 - 1, room)):
            left = self._list(rows, width // 2, room)
            return [*above, *beside(left, right[:room], width // 2, self.glyphs.tick)]
        spare = max(min(self.DETAILS, room - LEAST_ROWS), room - len(rows) - len(self.head(width)))
        below = self.details(chosen, width, spare) if not side and spare > 0 else []
        lines = self._list(rows, width, max(LEAST_ROWS, room - len(below)))
        return [*above, *lines, *below]

    def _list(self, rows: list[Row], width: int, room: int) -> list[Line]:
        head = self.head(width)
        room = max(0, room - len(head))
        at = self.index(rows)
        self._top = max(min(self._top, at, max(0, len(rows) - room)), at - room + 1, 0)
        window = rows[self._top : self._top + room]
        self.position = f"{self._top + 1}-{self._top + len(window)}/{len(rows)}"
        return [*head, *(row.paint(width, self._top + n == at) for n, row in enumerate(window))]


def not_there(told: Told, nothing: str) -> list[Line]:
    """What stands where a document's rows would: loading, why not, or that there are none."""
    if told.trouble is not None:
        return [line(Span(f" {told.trouble}", Tone.HIGH))]
    return [line(" loading..." if told.loading else f" {nothing}")]


def aged(told: Told, width: int) -> list[Line]:
    """Says that a document is not of now."""
    if told.trouble is None or told.document is None:
        return []
    return [line(Span(f" OLD, as last told: {told.trouble}"[:width], Tone.HIGH))]
