"""Screen 3, sessions of the last days: who charged when, how much, at what cost, and what had to be inferred.

Open ones first, then the newest. `e` writes those that are listed into a file of the person's own; the twin for more is
`depot sessions --csv`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, ClassVar

from textual import work
from textual.binding import Binding, BindingType

from controller.core.model import EvseId
from controller.core.snapshot import Snapshot
from ui import format as fmt
from ui import sheet
from ui.client import CallRefused, NotReachable
from ui.lines import Line, Span, Tone, line, wrapped
from ui.picture import MARKS, NORMAL, TONES
from ui.screens.base import Call
from ui.screens.copying import CopyingScreen
from ui.screens.rows import Row, aged, not_there

SINCE = timedelta(days=7)
HEAD = "    EVSE       VEHICLE    STARTED      ENDED     kWh     COST  WHY"
LOW = 3


class SessionsScreen(CopyingScreen):
    TITLE = "3 SESSIONS"
    FILTERS = "EVSE, vehicle, token, reason, mark, open"
    HELP: ClassVar[str] = """\
 The last seven days, open sessions first, then the newest.
 ~ something had to be inferred: the marks say what. Enter opens the EVSE.
 e writes what is listed into a file (CSV, tokens as aliases)   c copies the row
 For more: depot sessions --since 30d --csv"""
    BINDINGS: ClassVar[list[BindingType]] = [Binding("e", "export")]

    def wanted(self) -> Mapping[str, Call]:
        snapshot = self.picture.snapshot
        return {} if snapshot is None else {"sessions": ("sessions", {"since": _since(snapshot)})}

    def rows(self, snapshot: Snapshot) -> list[Row]:
        found = reversed(self.told("sessions").rows("sessions"))
        return [
            self._row(each, snapshot)
            for each in sorted(found, key=lambda each: each.get("ended") is not None)
        ]

    def _row(self, each: Mapping[str, Any], snapshot: Snapshot) -> Row:
        rank = LOW if each.get("marks") else NORMAL
        text = self._text(each, snapshot)
        words = (each["evse"], each.get("vehicle"), masked(each.get("token")), each.get("stop_reason"))
        open_word = "" if each.get("ended") else "open"
        searched = " ".join([*map(str, words), *each.get("marks", ()), open_word])

        def paint(width: int, under_cursor: bool) -> Line:
            quiet = Tone.STRONG if under_cursor else Tone.PLAIN
            mark = Span(f"{MARKS.get(rank, ''):2} ", TONES.get(rank, quiet))
            return line(
                Span(">" if under_cursor else " ", quiet), mark, Span(fmt.fit(text, width - 4), quiet)
            )

        return Row(str(each["id"]), rank, searched, paint)

    def _text(self, each: Mapping[str, Any], snapshot: Snapshot) -> str:
        place, now = self.picture.place, snapshot.time
        started, ended = instant(each.get("started")), instant(each.get("ended"))
        began = fmt.UNKNOWN if started is None else f"{started.astimezone(place):%d%b %H:%M}"
        cost = each.get("cost")
        return (
            f"{fmt.tail(each['evse'], 10)} {fmt.tail(who(each), 10)} {began:11} "
            f"{'open' if ended is None else fmt.short_time(ended, now, place):>6} "
            f"{fmt.kilo(each.get('energy_wh'), 7):>7} {'-' if cost is None else f'{cost:.2f}':>8}  "
            f"{each.get('stop_reason') or ('' if ended else 'running')}"
        )

    def above(self, snapshot: Snapshot, width: int, room: int) -> list[Line]:
        told = self.told("sessions")
        found = told.rows("sessions")
        if told.document is None:
            return []
        running = sum(each.get("ended") is None for each in found)
        energy_wh = sum(each.get("energy_wh") or 0 for each in found)
        money: dict[str, float] = {}
        for each in found:
            if each.get("cost") is not None:
                currency = str(each.get("currency") or "")
                money[currency] = money.get(currency, 0.0) + each["cost"]
        costs = "".join(f", {amount:.2f} {currency}" for currency, amount in money.items())
        more = ", and more: depot sessions" if told.document.get("more") else ""
        text = f" {len(found)} sessions in 7 days, {running} open, {energy_wh / 1000:.1f} kWh{costs}{more}"
        return [*aged(told, width), line(fmt.fit(text, width))]

    def head(self, width: int) -> list[Line]:
        return [line(Span(HEAD, Tone.STRONG))] if self.told("sessions").document else []

    def empty(self, snapshot: Snapshot) -> list[Line]:
        return not_there(self.told("sessions"), "no session in the last seven days")

    def details(self, chosen: Row, width: int, room: int) -> list[Line]:
        each = next(row for row in self.told("sessions").rows("sessions") if str(row["id"]) == chosen.key)
        registers = [each.get("register_start_wh"), each.get("register_wh")]
        meters = " to ".join(fmt.kilo(value, 9) for value in registers)
        marks = ", ".join(each.get("marks") or ()) or "none: everything was told by the station"
        texts = (
            f"session {each['id']}   token {masked(each.get('token'))}   vehicle {each.get('vehicle') or '?'}",
            f"transaction {each.get('transaction') or '-'}   register {meters} kWh",
            f"inferred: {marks}",
        )
        return [line(), *(row for text in texts for row in wrapped(text, width))][:room]

    def verbs(self) -> str:
        return "Enter open EVSE   e export CSV   c copy   / filter   n/N inferred   Esc back"

    def copied(self, row: Row) -> str:
        found = self.told("sessions").rows("sessions")
        each = dict(next(each for each in found if str(each["id"]) == row.key))
        each["token"] = masked(each.get("token"))
        return "  ".join(f"{name} {value}" for name, value in each.items() if value not in (None, "", []))

    # --- into a file ---------------------------------------------------------------------------------------------

    def action_export(self) -> None:
        snapshot = self.picture.snapshot
        if self.depot.locked:
            self.say(f"export is not possible: {self.depot.why_restricted}", Tone.HIGH)
        elif self.picture.lost is not None or snapshot is None:
            self.say("export is not possible: not connected to the controller", Tone.HIGH)
        else:
            name = f"~/sessions-{snapshot.time.astimezone(self.picture.place):%Y-%m-%d}.csv"
            self.ask_line(name, "write what is listed to this file: Enter, Esc = cancel", self._named)
        self.repaint()

    def _named(self, text: str) -> None:
        if text.strip():
            self._export(text.strip(), _since(self.picture.snapshot), [row.key for row in self.shown()])

    @work(group="export", exclusive=True)
    async def _export(self, name: str, since: str, listed: list[str]) -> None:
        found: list[Mapping[str, Any]] = []
        try:
            more = True
            while more:
                page = await self.depot.source.call("sessions", since=since, skip=len(found), tokens="hashed")
                found += page["sessions"]
                more = bool(page.get("more") and page["sessions"])
            rows = [each for each in found if str(each["id"]) in listed]
            path = await asyncio.to_thread(sheet.save, name, rows)
        except (CallRefused, NotReachable, RuntimeError) as error:
            self.say(f"nothing written: {error}", Tone.HIGH)
        except OSError as error:
            self.say(f"nothing written: {name}: {error.strerror}; name another file", Tone.HIGH)
        else:
            self.say(f"{len(rows)} sessions written to {path}")
        self.repaint()

    def action_open(self) -> None:
        row = self.row()
        found = self.told("sessions").rows("sessions")
        evse = next((EvseId(each["evse"]) for each in found if row and str(each["id"]) == row.key), None)
        if evse is not None and self.picture.evse(evse) is not None:
            self.depot.selected = evse
            self.depot.action_go("evse")


def _since(snapshot: Snapshot | None) -> str:
    assert snapshot is not None  # there is a list
    return (snapshot.time - SINCE).replace(microsecond=0).isoformat()


def who(each: Mapping[str, Any]) -> str:
    return str(each.get("vehicle") or masked(each.get("token")))


def masked(token: str | None) -> str:
    """The last four characters: a screen is seen by whoever walks past."""
    return f"…{token[-4:]}" if token else "?"


def instant(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
