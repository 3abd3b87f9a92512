"""Screen 5, alarms: most urgent first, and for the chosen one its cause, consequence, time to respond and steps.

The list comes with every picture; the words of the chosen alarm come from the console when it is chosen. Silenced
alarms stand below the others: what is hidden elsewhere is seen here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from textual.binding import Binding, BindingType

from controller.core.snapshot import AlarmView, Snapshot
from controller.core.units import parse_duration_s
from ui import format as fmt
from ui.lines import BLANK, Line, Span, Tone, emphasised, line, wrapped
from ui.picture import NORMAL, ranked_alarms
from ui.screens import frame
from ui.screens.base import Call
from ui.screens.confirming import ConfirmingScreen, Question
from ui.screens.rows import Row, RowsScreen

HEAD = "    SINCE STATE SOURCE      TEXT"


class AlarmsScreen(ConfirmingScreen, RowsScreen):
    TITLE = "5 ALARMS"
    DETAILS = 13
    FILTERS = "source, text, state, kind"
    HELP: ClassVar[str] = """\
 Most urgent first, silenced ones last. Below or at the right: why, what
 follows, how long there is, what to do.   a acknowledge   z shelve (with a
 reason, for 8 h at most)   Z take off the shelf   o its source out of service
 (with a reason, until i puts it back)   Enter opens the EVSE it is about"""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("a", "acknowledge"),
        Binding("z", "shelve"),
        Binding("Z", "unshelve"),
        Binding("o", "out_of_service"),
        Binding("i", "in_service"),
    ]

    def wanted(self) -> Mapping[str, Call]:
        """The words of the chosen alarm, kept under its id: they stay right while the cursor moves on."""
        row = self.row()
        return {} if row is None else {row.key: ("alarm", {"alarm": row.key})}

    # --- lines -----------------------------------------------------------------------------------------------------

    def rows(self, snapshot: Snapshot) -> list[Row]:
        quiet = [self._row(alarm, NORMAL, snapshot) for alarm in snapshot.alarms_quiet]
        return [*(self._row(alarm, alarm.priority, snapshot) for alarm in ranked_alarms(snapshot)), *quiet]

    def _row(self, alarm: AlarmView, rank: int, snapshot: Snapshot) -> Row:
        def paint(width: int, under_cursor: bool) -> Line:
            row = frame.alarm_row(alarm, snapshot.time, self.picture.place, width)
            return (Span(">", Tone.STRONG), *emphasised(row[1:])) if under_cursor else row

        words = f"{alarm.source} {alarm.text} {alarm.state} {alarm.kind}"
        return Row(alarm.id, rank, words, paint)

    def head(self, width: int) -> list[Line]:
        return [line(Span(HEAD, Tone.STRONG))]

    def empty(self, snapshot: Snapshot) -> list[Line]:
        return [line("    no alarm: nothing here needs a person")]

    def details(self, chosen: Row, width: int, room: int) -> list[Line]:
        alarm = self._alarm(chosen.key)
        if alarm is None:
            return []
        told = self.told(chosen.key)
        if told.loading:
            self.ask_again()  # the cursor moved, or an alarm came above it
        lines = [BLANK, *map(emphasised, wrapped(f"{alarm.source}: {alarm.text}", width))]
        for text in (alarm.note, _silenced(alarm, self.picture), _members(alarm)):
            lines += wrapped(text, width) if text else []
        if told.document is None:
            return [*lines, *wrapped(told.trouble or "loading cause and steps...", width)][:room]
        return [*lines, *_words(told.document, width)][:room]

    def verbs(self) -> str:
        alarm = self._alarm(None)
        if alarm is None:
            return "/ filter   Esc back"
        acted = {
            "a acknowledge": alarm.state in ("unack", "rtn-unack"),
            "z shelve": alarm.state not in ("shelved", "out-of-service"),
            "Z unshelve": alarm.state == "shelved",
            "o out of service": alarm.state != "out-of-service",
            "i in service": alarm.state == "out-of-service",
        }
        words = [word if able and not self.barred() else f"[{word}]" for word, able in acted.items()]
        return f"{'  '.join(words)}\nEnter EVSE   / filter   n/N abnormal   Esc back"

    # --- keys ------------------------------------------------------------------------------------------------------

    def action_acknowledge(self) -> None:
        alarm = self._alarm(None)
        if alarm is not None:
            text = f"ACKNOWLEDGE {alarm.source}: you have seen '{alarm.text}' and see to it. It stays until it is over."
            refusal = None if alarm.state in ("unack", "rtn-unack") else f"it is {alarm.state} already"
            args: dict[str, object] = {"alarm": alarm.id}
            self.ask(Question("acknowledge", alarm.id, "alarm-ack", args, lambda: text, lambda: refusal))

    def action_shelve(self) -> None:
        alarm = self._alarm(None)
        if alarm is None or self.busy:
            return
        if reason := self.barred():
            self.say(f"shelve is not possible: {reason}", Tone.HIGH)
        else:
            prompt = 'shelve for how long and why, like "30m cable ordered": Enter, Esc = cancel'
            self.ask_line("", prompt, lambda typed: self._shelve(alarm, typed))
        self.repaint()

    def _shelve(self, alarm: AlarmView, typed: str) -> None:
        span, _, reason = typed.strip().partition(" ")
        try:
            for_s = parse_duration_s(span)
        except ValueError:
            for_s = 0.0
        if for_s <= 0 or not reason.strip():
            self.say("shelve cancelled: it needs a time like 30m or 2h, and a reason", Tone.HIGH)
            return
        text = (
            f"SHELVE {alarm.source} '{alarm.text}' for {span} ({reason.strip()}):"
            " it calls nobody until then; what it is about goes on."
        )
        args: dict[str, object] = {"alarm": alarm.id, "for_s": round(for_s), "reason": reason.strip()}
        self.ask(Question("shelve", alarm.id, "alarm-shelve", args, lambda: text))

    def action_unshelve(self) -> None:
        alarm = self._alarm(None)
        if alarm is not None:
            refusal = None if alarm.state == "shelved" else "it is not shelved"
            text = f"UNSHELVE {alarm.source}: it calls again at once if it still stands."
            args: dict[str, object] = {"alarm": alarm.id}
            self.ask(Question("unshelve", alarm.id, "alarm-unshelve", args, lambda: text, lambda: refusal))

    def action_out_of_service(self) -> None:
        alarm = self._alarm(None)
        if alarm is None or self.busy:
            return
        if reason := self.barred():
            self.say(f"out of service is not possible: {reason}", Tone.HIGH)
        else:
            prompt = f"why is {alarm.source} out of service, until somebody puts it back: Enter, Esc = cancel"
            self.ask_line("", prompt, lambda typed: self._out_of_service(alarm, typed))
        self.repaint()

    def _out_of_service(self, alarm: AlarmView, typed: str) -> None:
        if not typed.strip():
            self.say("out of service cancelled: it needs a reason", Tone.HIGH)
            return
        text = f"OUT OF SERVICE {alarm.source}: no alarm of it calls anybody until it is put back; it goes on as it is."
        args: dict[str, object] = {"source": alarm.source, "out": True, "reason": typed.strip()}
        refusal = None if alarm.state != "out-of-service" else "it is already"
        self.ask(Question("out of service", alarm.source, "service", args, lambda: text, lambda: refusal))

    def action_in_service(self) -> None:
        alarm = self._alarm(None)
        if alarm is not None:
            refusal = None if alarm.state == "out-of-service" else "it is not out of service"
            text = f"IN SERVICE {alarm.source}: its alarms call again, at once if they still stand."
            args: dict[str, object] = {"source": alarm.source, "out": False}
            self.ask(Question("in service", alarm.source, "service", args, lambda: text, lambda: refusal))

    def action_open(self) -> None:
        alarm, snapshot = self._alarm(None), self.picture.snapshot
        evses = snapshot.evses if snapshot is not None and alarm is not None else ()
        found = next((evse for evse in evses if alarm and alarm.source in (evse.id, evse.station)), None)
        if found is not None:
            self.depot.selected = found.id
            self.depot.action_go("evse")

    def _alarm(self, key: str | None) -> AlarmView | None:
        """The one with this id, or under the cursor."""
        snapshot = self.picture.snapshot
        if key is None:
            row = self.row()
            key = None if row is None else row.key
        alarms = (*snapshot.alarms, *snapshot.alarms_quiet) if snapshot is not None else ()
        return next((alarm for alarm in alarms if alarm.id == key), None)


def _silenced(alarm: AlarmView, picture: Any) -> str:
    by = f" by {alarm.by}" if alarm.by else ""
    until = f" until {fmt.clock(alarm.until, picture.place)}" if alarm.until else ""
    return f"{alarm.state}{by}{until}" if by or until else ""


def _members(alarm: AlarmView) -> str:
    return f"{len(alarm.members)} sources: {', '.join(alarm.members)}" if alarm.members else ""


def _words(document: Mapping[str, Any], width: int) -> list[Line]:
    """Cause, consequence, time to respond, steps, and how often it came before."""
    lines: list[Line] = []
    fact = document.get("fact") or {}
    for name in ("cause", "consequence"):
        if text := fact.get(name):
            lines += _hanging(f"{name:<12}", str(text), width)
    respond_s = fact.get("respond_s")
    if isinstance(respond_s, int | float):
        lines += _hanging("respond in  ", fmt.age(respond_s), width)
    for number, step in enumerate(fact.get("steps") or (), 1):
        lines += _hanging(f"{number:>2}. ", str(step), width)
    before = len(document.get("history") or ()) - 1
    if before > 0:
        lines.append(line(f" came {before} times before" if before > 1 else " came once before"))
    return lines


def _hanging(label: str, text: str, width: int) -> list[Line]:
    first, *others = wrapped(text, width, " " * (len(label) + 1))
    return [line(Span(f" {label}", Tone.STRONG), first[0].text[len(label) + 1 :]), *others]
