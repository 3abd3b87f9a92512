"""A screen of the depot: header, banners, body, notice, keys, all painted on one canvas; one line of input when asked
for; and the documents of the console this screen shows, asked again every few seconds while it is in front.

Screens never wait for I/O: they read `app.picture` and what was told last, and hand orders to the app.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, ClassVar, cast

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widgets import Input

from controller.core.snapshot import Snapshot
from ui import format as fmt
from ui import palette
from ui.format import Glyphs
from ui.lines import Line, Span, Tone, emphasised, line, wrapped
from ui.picture import Picture
from ui.screens import frame
from ui.told import Told, ask
from ui.widgets.canvas import Canvas

if TYPE_CHECKING:
    from ui.app import DepotApp

Call = tuple[str, Mapping[str, object]]

SUGGESTED = 10  # lines of the command line's list


class DepotScreen(Screen[None]):
    """Subclasses say what stands between header and keys (`body`) and which keys work now (`verbs`)."""

    AUTO_FOCUS = ""
    ALLOW_SELECT = False
    TITLE = ""
    HELP: ClassVar[str] = ""  # its keys, for the help screen
    EVERY_S: ClassVar[float] = 5.0  # its documents are asked for again
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("R", "reload"),
        Binding("escape", "back"),
        Binding("backspace", "back"),
    ]

    def __init__(self, glyphs: Glyphs) -> None:
        super().__init__()
        self.glyphs = glyphs
        self.position = ""  # right end of the last row; `body` says it
        self._canvas = Canvas(glyphs, self.compose_lines)
        self._answer: Callable[[str], None] | None = None
        self._prompt = ""
        self._commanding = False
        self._notice: tuple[str, Tone] = ("", Tone.PLAIN)
        self._told: dict[str, Told] = {}
        self._soon = asyncio.Event()

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

    # --- what a screen says of itself ------------------------------------------------------------------------------

    def body(self, snapshot: Snapshot, width: int, room: int) -> list[Line]:
        """What stands below header and banners, at most `room` lines of it; pure apart from reading the picture."""
        raise NotImplementedError

    def verbs(self) -> str:
        """The keys that work here now, in one row or two; those in [brackets] do not."""
        return ""

    def hint(self) -> str:
        """Why keys stand in brackets, where one reason holds for all of them."""
        return ""

    def question(self, width: int) -> list[Line]:
        """What waits for a yes or no, above the keys."""
        return []

    def wanted(self) -> Mapping[str, Call]:
        """The documents to show: name here -> call of the console and its arguments."""
        return {}

    def filter_text(self) -> str:
        return ""

    # --- painting --------------------------------------------------------------------------------------------------

    def compose_lines(self, width: int, height: int) -> list[Line]:
        picture = self.picture
        lines = [frame.header(picture, self.TITLE, width, self.depot.restriction)]
        foot = self._foot(width)
        if picture.snapshot is None:
            lines += frame.waiting(picture, width)
        else:
            lines += frame.banners(picture, width)
            lines += self.body(picture.snapshot, width, max(0, height - len(lines) - len(foot) - 1))
        return frame.page(lines, [*foot, frame.screens(self.position, width)], height)

    def _foot(self, width: int) -> list[Line]:
        """The question or the notice, and the keys; they stay at the bottom whatever is above."""
        if self._commanding:
            typed = self.query_one(Input).value
            found = palette.suggestions(typed, self.picture)
            shown = found[:SUGGESTED]
            rows = [line(Span(fmt.fit(f"  {each.text:<26} {each.what}", width))) for each in shown]
            more = f"   {len(found) - len(shown)} more: type on" if len(found) > len(shown) else ""
            hint = f" : command, Enter does it, Esc = cancel{more}" if found else f" : no command '{typed}'"
            return [*rows, line(Span(fmt.fit(hint, width), Tone.STRONG))]
        if asked := self.question(width):
            return asked
        if self._answer is not None:
            return [emphasised(row) for row in wrapped(self._prompt, width)]
        text, tone = self._notice
        rows = (
            [tuple(span._replace(tone=tone) for span in row) for row in wrapped(text, width)[:3]]
            if text
            else []
        )
        words = [each for each in (self.hint(), *self.verbs().splitlines()) if each]
        return [*rows, *(line(fmt.fit(f" {each}", width)) for each in words)]

    def repaint(self) -> None:
        self._canvas.repaint()

    def say(self, text: str, tone: Tone = Tone.PLAIN) -> None:
        self._notice = (text, tone)

    # --- documents -------------------------------------------------------------------------------------------------

    def told(self, name: str) -> Told:
        return self._told.get(name, Told())

    def ask_again(self) -> None:
        self._soon.set()

    @work(group="documents", exclusive=True)
    async def _keep_asking(self) -> None:
        while True:
            self._soon.clear()
            wanted = self.wanted()
            for name, (call, args) in wanted.items():
                self._told[name] = await ask(self.depot.source, self.told(name), call, args)
            if wanted:  # none while a screen is frozen: what it shows stays
                self._told = {name: told for name, told in self._told.items() if name in wanted}
            self.repaint()
            with suppress(TimeoutError):
                async with asyncio.timeout(self.EVERY_S):
                    await self._soon.wait()

    def on_screen_resume(self) -> None:
        self.repaint()
        if type(self).wanted is not DepotScreen.wanted:
            self._keep_asking()

    def on_screen_suspend(self) -> None:
        self.workers.cancel_group(self, "documents")
        self.say("")
        self.close_line()

    # --- the input line --------------------------------------------------------------------------------------------

    def ask_line(self, value: str, prompt: str, answer: Callable[[str], None]) -> None:
        """Opens the input line; `answer` gets its text on Enter, nothing happens on Escape."""
        field = self.query_one(Input)
        self._answer, self._prompt = answer, prompt
        field.value = value
        field.cursor_position = len(value)
        field.display = True
        self.set_focus(field)  # now, not soon: what is typed next belongs to the line

    @property
    def asking_line(self) -> bool:
        return self._answer is not None

    def close_line(self) -> None:
        self._answer, self._commanding = None, False
        self.query_one(Input).display = False
        self.set_focus(None)

    def on_input_changed(self) -> None:
        if self._commanding:
            self.repaint()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        answer = self._answer
        self.close_line()
        if answer is not None:
            answer(event.value)
        self.repaint()

    # --- keys ------------------------------------------------------------------------------------------------------

    def action_filter(self) -> None:
        """Screens without a list have nothing to filter."""

    def action_command(self) -> None:
        self._commanding = True
        self.ask_line("", "", self.depot.run_command)
        self.repaint()

    def action_reload(self) -> None:
        self.ask_again()

    def action_back(self) -> None:
        if self.asking_line:
            self.close_line()
            self.repaint()
        else:
            self.leave()

    def leave(self) -> None:
        self.depot.action_go("overview")

    def action_abnormal(self, by: int) -> None:
        """To the next or previous abnormal thing; screens without a list have none."""
