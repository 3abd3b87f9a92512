"""A screen that gives orders: choose, read what it will do, `y`, then wait for what the controller says.

Nothing changes because a key was pressed. A question holds what it asks about: a list that moves meanwhile does not
change what `y` means, and the reason against it is looked for again when `y` comes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from textual.binding import Binding, BindingType

from ui.lines import Line, Span, Tone, emphasised, line, wrapped
from ui.screens.base import DepotScreen


@dataclass(frozen=True, slots=True)
class Question:
    """`name` of `of`, like stop of CP001/1. `consequence` and `refusal` are computed while it stands, with fresh values."""

    name: str
    of: str
    call: str
    args: Mapping[str, object]
    consequence: Callable[[], str]
    refusal: Callable[[], str | None] = field(default=lambda: None)


class ConfirmingScreen(DepotScreen):
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "confirm"),
        Binding("n", "no"),
        Binding("N", "abnormal(-1)"),
    ]

    _asking: Question | None = None
    _handing_over = False

    def ask(self, question: Question) -> None:
        """Puts a question, or says why it makes no sense now."""
        if self.busy:  # also while a line is typed: a key that came too early must not become an order
            return
        reason = self.refused(question)
        if reason is not None:
            self.say(f"{question.name} is not possible: {reason}", Tone.HIGH)
        else:
            self._asking = question
            self.say("")
            self.ask_again()  # what it would bring
        self.repaint()

    def refused(self, question: Question) -> str | None:
        if self._handing_over:
            return "the last order is still being handed over"
        return self.barred() or question.refusal()

    def barred(self) -> str | None:
        """Why no order at all can be given now."""
        if self.depot.restriction is not None:
            return self.depot.why_restricted
        return "not connected to the controller" if self.picture.lost is not None else None

    @property
    def busy(self) -> bool:
        return self._asking is not None or self.asking_line

    def question(self, width: int) -> list[Line]:
        asked = self._asking
        if asked is None:
            return []
        rows = map(emphasised, wrapped(asked.consequence(), width))
        return [*rows, line(Span(f" {asked.name} {asked.of}?   y = do it   n = cancel", Tone.STRONG))]

    def action_confirm(self) -> None:
        if self.asking_line:
            return
        asked, self._asking = self._asking, None
        if asked is None:
            return
        reason = self.refused(asked)  # the world may have moved on while the question stood
        if reason is not None:
            self.say(f"{asked.name} was not sent: {reason}", Tone.HIGH)
        else:
            self._handing_over = True
            self.say(f"{asked.name}: handing over to the controller...")
            self.depot.give_order(asked, self._handed_over)
        self.repaint()

    def action_no(self) -> None:
        if self._asking is None:
            self.action_abnormal(1)
            return
        self.say(f"{self._asking.name} cancelled, nothing was sent")
        self._asking = None
        self.repaint()

    def action_back(self) -> None:
        if self._asking is not None and not self.asking_line:
            self.action_no()
        else:
            super().action_back()

    def on_screen_suspend(self) -> None:
        self._asking = None
        super().on_screen_suspend()

    def _handed_over(self, text: str, taken: bool) -> None:
        self._handing_over = False
        self.say(text, Tone.PLAIN if taken else Tone.HIGH)
        self.ask_again()
        self.repaint()
