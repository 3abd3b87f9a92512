"""A screen of the depot: lines computed from the picture, painted on one canvas, one line of input when asked for.

Screens never do I/O; they read `app.picture` and hand orders to the app.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from textual.app import ComposeResult
from textual.screen import Screen
from textual.widgets import Input

from ui.format import Glyphs
from ui.lines import Line
from ui.picture import Picture
from ui.widgets.canvas import Canvas

if TYPE_CHECKING:
    from ui.app import DepotApp


class DepotScreen(Screen[None]):
    """Subclasses say in `compose_lines` what a size shows; everything about painting is here."""

    AUTO_FOCUS = ""
    ALLOW_SELECT = False

    def __init__(self, glyphs: Glyphs) -> None:
        super().__init__()
        self.glyphs = glyphs
        self._canvas = Canvas(glyphs, self.compose_lines)
        self._answer: Callable[[str], None] | None = None

    @property
    def depot(self) -> DepotApp:
        return cast("DepotApp", self.app)

    @property
    def picture(self) -> Picture:
        return self.depot.picture

    def compose(self) -> ComposeResult:
        yield self._canvas
        prompt = Input(compact=True, select_on_focus=False)
        prompt.cursor_blink = False  # a blinking cursor repaints a serial line twice a second
        prompt.display = False
        yield prompt

    def compose_lines(self, width: int, height: int) -> list[Line]:
        """The lines of this screen for a canvas of this size; pure apart from reading the picture."""
        raise NotImplementedError

    def repaint(self) -> None:
        self._canvas.repaint()

    def ask_line(self, value: str, answer: Callable[[str], None]) -> None:
        """Opens the input line; `answer` gets its text on Enter, nothing happens on Escape."""
        prompt = self.query_one(Input)
        self._answer = answer
        prompt.value = value
        prompt.cursor_position = len(value)
        prompt.display = True
        prompt.focus()

    @property
    def asking_line(self) -> bool:
        return self._answer is not None

    def close_line(self) -> None:
        self._answer = None
        self.query_one(Input).display = False
        self.set_focus(None)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        answer = self._answer
        self.close_line()
        if answer is not None:
            answer(event.value)
        self.repaint()

    def on_screen_resume(self) -> None:
        self.repaint()
