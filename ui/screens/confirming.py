"""A screen that gives orders: choose, read what it will do, `y`, then wait for what the controller says. What cannot be
taken back wants the name of what it is done to, typed, instead of `y`.

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
    """`name` of `of`, like stop of CP001/1. `consequence` and `refusal` are computed while it stands, with fresh values.
    `word`: must be typed instead of `y`. `errand`: what to call it where the station is asked, not the depot."""

    name: str
    of: str
    call: str
    args: Mapping[str, object]
    consequence: Callable[[], str]
    refusal: Callable[[], str | None] = field(default=lambda: None)
    word: str | None = None
    errand: str | None = None


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
            if question.word is not None:
                self.ask_line("", "", lambda typed: self._typed_word(question, typed))
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

    def hint(self) -> str:
        return f"[in brackets]: {self.barred()}" if self.depot.restriction else ""

    @property
    def busy(self) -> bool:
        return self._asking is not None or self.asking_line

    def question(self, width: int) -> list[Line]:
        asked = self._asking
        if asked is None:
            return []
        rows = map(emphasised, wrapped(asked.consequence(), width))
        how = "y = do it   n = cancel"
        if asked.word is not None:
            how = f"type {asked.word} and Enter = do it   Esc = cancel"
        return [*rows, line(Span(f" {asked.name} {asked.of}?   {how}", Tone.STRONG))]

    def action_confirm(self) -> None:
        if not self.asking_line and (self._asking is None or self._asking.word is None):
            self._confirmed()

    def _typed_word(self, asked: Question, typed: str) -> None:
        if self._asking is not asked:
            return
        if typed.strip().casefold() == str(asked.word).casefold():
            self._confirmed()
        else:
            self._asking = None
            self.say(f"{asked.name} was not sent: '{typed.strip()}' is not {asked.word}", Tone.HIGH)

    def _confirmed(self) -> None:
        asked, self._asking = self._asking, None
        if asked is None:
            return
        reason = self.refused(asked)  # the world may have moved on while the question stood
        if reason is not None:
            self.say(f"{asked.name} was not sent: {reason}", Tone.HIGH)
        elif (
            asked.errand is not None
        ):  # a station may take minutes: other orders need not wait for its answer
            self.say(f"{asked.name}: handed over, what the station says shows above")
            self.depot.give_errand(asked)
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
        if self._asking is not None:
            self.close_line()
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
