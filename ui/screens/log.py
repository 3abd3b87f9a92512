"""Screen 7, the log: audit, alarms, orders and sessions in one list, newest last; it follows until somebody looks back.

Frozen by space: what stands there stays while the depot goes on. Enter opens the messages on the wire around a line, `f`
those of all stations. The twins are `depot log -f` and `depot log --frames`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, ClassVar

from textual.binding import Binding, BindingType

from controller.core.snapshot import Snapshot
from ui import format as fmt
from ui import frames
from ui.lines import BLANK, Line, Span, Tone, line, wrapped
from ui.picture import MARKS, NORMAL, TONES
from ui.screens.base import Call
from ui.screens.copying import CopyingScreen
from ui.screens.rows import Row, aged, not_there
from ui.told import REFUSED, Told

MOST = 500
AFTER = timedelta(seconds=30)  # so much of what followed is shown with the frames around a line
HEAD = "    TIME      WHAT               ABOUT        DETAIL"


@dataclass(frozen=True, slots=True)
class _Around:
    """Which frames: of one station or meter (None: of all stations), around a time (None: the newest)."""

    about: str | None = None
    at: datetime | None = None


class LogScreen(CopyingScreen):
    TITLE = "7 LOG"
    FILTERS = "what, source, person, text"
    EVERY_S = 2.0
    DETAILS = 8
    HELP: ClassVar[str] = """\
 What happened, newest last. It follows while the cursor is on the newest line.
 Enter the frames around a line: what was said on the wire, secrets masked
 f frames of all stations, and back   space freeze and go on   c copy the line
 G newest (follow again)   the twins: depot log -f, depot log --frames"""
    BINDINGS: ClassVar[list[BindingType]] = [Binding("space", "freeze"), Binding("f", "frames")]

    _frozen = False
    _around: _Around | None = None  # frames are shown instead

    def wanted(self) -> Mapping[str, Call]:
        if self._frozen:
            return {}
        if (around := self._around) is None:
            return {"log": ("log", {"last": MOST})}
        if (self.told("frames").trouble or "").startswith(REFUSED):
            return {}  # who may not look now may not in two seconds either
        until = None if around.at is None else (around.at + AFTER).isoformat()
        return {"frames": ("frames", {"about": around.about, "until": until})}

    # --- keys --------------------------------------------------------------------------------------------------

    def action_freeze(self) -> None:
        self._frozen = not self._frozen
        self.ask_again()
        self.repaint()

    def action_frames(self) -> None:
        self._look(_Around() if self._around is None else None)

    def action_open(self) -> None:
        row, snapshot = self.row(), self.picture.snapshot
        if row is None or snapshot is None or self._around is not None:
            return
        each = next(each for each in self.told("log").rows("lines") if str(each["id"]) == row.key)
        source = str(each.get("source") or "")
        known: dict[str, str] = {meter.id: meter.id for meter in snapshot.meters}
        for evse in snapshot.evses:
            known |= {evse.id: evse.station, evse.station: evse.station}
        self._look(_Around(known.get(source), datetime.fromisoformat(str(each["time"]))))

    def leave(self) -> None:
        if self._around is not None and not self._filter:
            self._look(None)
        else:
            super().leave()

    def _look(self, around: _Around | None) -> None:
        """At the frames, or back at the log."""
        self._around, self._frozen, self._chosen, self._filter = around, False, None, ""
        self._told.pop("frames", None)
        self.ask_again()
        self.repaint()

    def action_move(self, by: int) -> None:
        rows = self.shown()
        if (
            rows
            and self.index(rows) + by >= len(rows) - 1
            and (self._around is None or self._around.at is None)
        ):
            self._chosen = None  # the newest, whichever that will be
            self.repaint()
        else:
            super().action_move(by)

    @property
    def chosen(self) -> str | None:
        if self._chosen is None and self._around is not None and self._around.at is not None:
            return frames.nearest(self._shown().rows("frames"), self._around.at)
        return self._chosen

    def index(self, rows: list[Row]) -> int:
        chosen = self.chosen
        return next((at for at, row in enumerate(rows) if row.key == chosen), max(0, len(rows) - 1))

    # --- lines -------------------------------------------------------------------------------------------------

    def _shown(self) -> Told:
        return self.told("log" if self._around is None else "frames")

    def rows(self, snapshot: Snapshot) -> list[Row]:
        if self._around is not None:
            return [self._frame(each) for each in self._shown().rows("frames")]
        return [self._row(each, snapshot) for each in self._shown().rows("lines")]

    def _row(self, each: Mapping[str, Any], snapshot: Snapshot) -> Row:
        at = datetime.fromisoformat(str(each["time"]))
        what, source, text = (str(each.get(name) or "") for name in ("what", "source", "text"))
        near = abs((snapshot.time - at).total_seconds()) < 86400
        when = (
            fmt.clock(at, self.picture.place) if near else f"{at.astimezone(self.picture.place):%d%b %H:%M}"
        )
        by = f"  by {each['by']}" if each.get("by") else ""
        words = f"{fmt.fit(when, 9)} {fmt.fit(what, 18)} {fmt.tail(source, 12)} {text}{by}"
        return _painted(str(each["id"]), _rank(what), words, f"{what} {source} {text}{by}")

    def _frame(self, each: Mapping[str, Any]) -> Row:
        words = frames.summary(each, self.picture.place)
        return _painted(frames.key(each), frames.rank(each), words, words)

    def above(self, snapshot: Snapshot, width: int, room: int) -> list[Line]:
        lines = [line(Span(" FROZEN: space goes on", Tone.LOW))] if self._frozen else []
        if (around := self._around) is not None:
            of = around.about or "all stations"
            when = "" if around.at is None else f" around {fmt.clock(around.at, self.picture.place)}"
            lines.append(
                line(Span(f" FRAMES of {of}{when}, -> sent, <- heard (Esc: the log)"[:width], Tone.STRONG))
            )
        return [*lines, *aged(self._shown(), width)]

    def head(self, width: int) -> list[Line]:
        head = HEAD if self._around is None else frames.HEAD
        return [line(Span(head, Tone.STRONG))] if self._shown().document else []

    def empty(self, snapshot: Snapshot) -> list[Line]:
        return not_there(
            self._shown(), "nothing happened yet" if self._around is None else "no frames are kept of it"
        )

    def details(self, chosen: Row, width: int, room: int) -> list[Line]:
        """Only what its row cannot hold."""
        if self._around is not None:
            found = self._chosen_frame(chosen)
            return [] if found is None else [BLANK, *frames.pieces(found, width, self.picture.place)][:room]
        return [BLANK, *wrapped(chosen.words, width)][:room] if len(chosen.words) > width - 36 else []

    def _chosen_frame(self, row: Row) -> Mapping[str, Any] | None:
        return next((each for each in self._shown().rows("frames") if frames.key(each) == row.key), None)

    def copied(self, row: Row) -> str:
        if self._around is not None:
            found = self._chosen_frame(row)
            return "" if found is None else frames.whole(found, self.picture.place)
        each = next(each for each in self.told("log").rows("lines") if str(each["id"]) == row.key)
        at = datetime.fromisoformat(str(each["time"])).astimezone(self.picture.place)
        return f"{at:%Y-%m-%d %H:%M:%S} {row.words}"

    def verbs(self) -> str:
        state = "space go on" if self._frozen else "space freeze"
        if self._around is not None:
            return f"{state}   G newest   c copy   / filter   n/N next refusal   Esc the log"
        return f"Enter frames there  f frames  {state}  c copy  / filter  n/N alarm  Esc"


def _painted(key: str, rank: int, text: str, searched: str) -> Row:
    def paint(width: int, under_cursor: bool) -> Line:
        quiet = Tone.STRONG if under_cursor else Tone.PLAIN
        mark = Span(f"{MARKS.get(rank, ''):2} ", TONES.get(rank, quiet))
        return line(Span(">" if under_cursor else " ", quiet), mark, Span(fmt.fit(text, width - 4), quiet))

    return Row(key, rank, searched, paint)


def _rank(what: str) -> int:
    """`alarm 2` is as urgent as that alarm was."""
    book, _, priority = what.partition(" ")
    return int(priority) if book == "alarm" and priority.isdecimal() and int(priority) in MARKS else NORMAL
