"""Screen 2, one EVSE: its five amps, its session, its circuits, and the five verbs.

Every verb shows what it will do and waits for `y`. Nothing on this screen changes because a key was pressed: it
changes when the controller reports that the order was sent, accepted, applied and measured.
"""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from textual.binding import Binding, BindingType

from controller.core.model import CircuitId
from controller.core.snapshot import CircuitView, EvseView, OrderView, Snapshot
from ui import format as fmt
from ui import verbs
from ui.lines import BLANK, Line, Span, Tone, emphasised, line, wrapped
from ui.picture import TONES, Picture, alarms_of, attention
from ui.screens import frame, grid
from ui.screens.base import DepotScreen
from ui.verbs import Order, Verb

STAGES = ("sent", "accepted", "applied", "measured")


class EvseScreen(DepotScreen):
    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(key, f"verb('{verb}')") for key, verb in verbs.KEYS.items()),
        Binding("y", "confirm"),
        Binding("n", "cancel"),
        Binding("escape", "back"),
        Binding("backspace", "back"),
    ]

    _asking: Order | None = None  # waits for y or n
    _typing: Verb | None = None  # waits for its arguments in the input line
    _notice: tuple[str, Tone] = ("", Tone.PLAIN)
    _handing_over = False

    # --- keys --------------------------------------------------------------------------------------------------

    def action_verb(self, name: str) -> None:
        verb, evse = Verb(name), self._evse()
        if self._asking or self._typing or evse is None:
            return
        reason = self._refusal(verb, evse)
        if reason is not None:
            self._say(f"{verb} is not possible: {reason}", Tone.HIGH)
        elif verb in verbs.QUESTIONS:
            self._typing = verb
            self._say("")
            self.ask_line("", lambda text: self._typed(verb, text))
        else:
            self._ask(Order(verb))
        self.repaint()

    def action_confirm(self) -> None:
        order, evse = self._asking, self._evse()
        self._asking = None
        if order is None or evse is None:
            return
        reason = self._refusal(order.verb, evse)  # the world may have moved on while the question stood
        if reason is not None:
            self._say(f"{order.verb} was not sent: {reason}", Tone.HIGH)
        else:
            self._handing_over = True
            self._say(f"{order.verb}: handing over to the controller...")
            self.depot.give_order(order, evse.id, self._handed_over)
        self.repaint()

    def action_cancel(self) -> None:
        if self._asking is not None:
            self._say(f"{self._asking.verb} cancelled, nothing was sent")
            self._asking = None
            self.repaint()

    def action_back(self) -> None:
        if self.asking_line:
            self._typing = None
            self.close_line()
            self.repaint()
        elif self._asking is not None:
            self.action_cancel()
        else:
            self.depot.action_go("overview")

    def on_screen_suspend(self) -> None:
        self._asking = self._typing = None
        self._say("")
        self.close_line()

    # --- an order on its way to the controller --------------------------------------------------------------------

    def _typed(self, verb: Verb, text: str) -> None:
        self._typing = None
        if verb is Verb.LIMIT and not text.strip():
            self._say("limit cancelled: nothing was typed")
            return
        try:
            self._ask(Order(verb, verbs.parse(verb, text)))
        except ValueError as error:
            self._say(str(error), Tone.HIGH)

    def _ask(self, order: Order) -> None:
        self._asking = order
        self._say("")

    def _handed_over(self, text: str, taken: bool) -> None:
        self._handing_over = False
        self._say(text, Tone.PLAIN if taken else Tone.HIGH)
        self.repaint()

    def _say(self, text: str, tone: Tone = Tone.PLAIN) -> None:
        self._notice = (text, tone)

    def _refusal(self, verb: Verb, evse: EvseView) -> str | None:
        if self._handing_over:
            return "the last order is still being handed over"
        return verbs.refusal(verb, evse, self.picture, self.depot.read_only)

    def _evse(self) -> EvseView | None:
        return self.picture.evse(self.depot.selected)

    # --- lines -------------------------------------------------------------------------------------------------

    def compose_lines(self, width: int, height: int) -> list[Line]:
        picture, snapshot, evse = self.picture, self.picture.snapshot, self._evse()
        lines = [frame.header(picture, "2 EVSE", width, self.depot.read_only)]
        if snapshot is None:
            return frame.page(
                [*lines, *frame.waiting(picture, width)], [frame.footer(_KEYS, "", width)], height
            )
        lines += frame.banners(picture, width)
        if evse is None:
            missing = "no EVSE selected: go back (Esc), choose a row and press Enter"
            return frame.page([*lines, BLANK, line(f" {missing}")], [frame.footer(_KEYS, "", width)], height)
        alarms = alarms_of(evse, snapshot)[:3]
        lines += [frame.alarm_row(alarm, snapshot.time, picture.place, width) for alarm in alarms]
        lines += self._facts(evse, picture, snapshot, width)
        lines += [BLANK, *order_lines(picture, evse, width)]
        return frame.page(lines, self._foot(evse, width), height)

    def _facts(self, evse: EvseView, picture: Picture, snapshot: Snapshot, width: int) -> list[Line]:
        tone = TONES.get(attention(evse, snapshot), Tone.PLAIN)
        link = ", ".join(evse.channels) or "no channel"
        rows = [
            line(
                Span(f" {evse.id}  ", Tone.STRONG),
                Span(grid.state_word(evse), tone),
                f"  {evse.identity or 'identity unknown'}  ",
                Span(
                    link if evse.connected else f"NOT CONNECTED ({link})",
                    Tone.PLAIN if evse.connected else Tone.HIGH,
                ),
            )
        ]
        if evse.fault:
            rows.append(line(Span(fmt.fit(f" fault: {evse.fault}", width), Tone.HIGH)))
        rows += [
            line(f" bound by {evse.bound_by or 'nothing'}{_operator(evse)}"),
            line(f" fallback {fmt.limit_amps(evse.fallback_ma)} A {_fallback(evse)}"),
            BLANK,
            *amps_lines(evse, picture, width, self.glyphs),
            BLANK,
            _session_line(evse, picture, snapshot),
            BLANK,
        ]
        for circuit in path(snapshot, evse.circuit):
            phase = frame.worst_phase(circuit)
            rows += frame.circuit_rows(circuit, picture, width, self.glyphs, range(phase, phase + 1))
        return rows

    def _foot(self, evse: EvseView, width: int) -> list[Line]:
        """The question, the notice, and the keys; they stay at the bottom whatever is above."""
        if self._asking is not None:
            rows = list(map(emphasised, wrapped(verbs.preview(self._asking, evse, self.picture), width)))
            return [
                *rows,
                frame.footer(f"{self._asking.verb} {evse.id}?   y = do it   n = cancel", "", width),
            ]
        if self._typing is not None:
            return [frame.footer(verbs.QUESTIONS[self._typing], "", width)]
        text, tone = self._notice
        rows = [line(Span(fmt.fit(f" {text}", width), tone))] if text else []
        keys = [self._key_word(key, verb, evse) for key, verb in verbs.KEYS.items()]
        return [*rows, frame.footer(f"{'  '.join(keys)}   Esc back  ? help", "", width)]

    def _key_word(self, key: str, verb: Verb, evse: EvseView) -> str:
        return f"[{key} {verb}]" if self._refusal(verb, evse) else f"{key} {verb}"


_KEYS = "Esc back  1 overview  ? help  q quit"


def amps_lines(evse: EvseView, picture: Picture, width: int, glyphs: fmt.Glyphs) -> list[Line]:
    """The five amps by name, then what each phase draws against limit and commitment."""
    names = (
        ("limit", fmt.limit_amps(evse.limit_ma)),
        ("grant", fmt.limit_amps(evse.grant_ma)),
        ("commanded", fmt.limit_amps(evse.commanded_ma)),
        ("accepted", fmt.limit_amps(evse.accepted_ma)),
        ("commitment", fmt.commitment_amps(evse.commitment_ma)),
    )
    rows = [line(" amps     " + "   ".join(f"{name} {value}" for name, value in names))]
    for index, measured in enumerate(evse.measured_ma):
        draw = fmt.drawn_amps(measured, picture.old)
        drawing = fmt.bar(measured, evse.commitment_ma, evse.limit_ma, max(4, min(60, width - 40)), glyphs)
        power = f"   {fmt.kilo(evse.power_w, 6)} kW" if index == 0 else ""
        label = "measured" if index == 0 else ""
        rows.append(
            line(f" {label:8} L{index + 1} {draw}{drawing} {fmt.limit_amps(evse.limit_ma):>3}A{power}")
        )
    return rows


def _operator(evse: EvseView) -> str:
    words = ["paused by operator"] if evse.paused else []
    if evse.operator_limit_ma is not None:
        words.append(f"operator limit {fmt.limit_amps(evse.operator_limit_ma)} A")
    return "".join(f"   {word}" for word in words)


def _fallback(evse: EvseView) -> str:
    stored = "stored in the station" if evse.fallback_stored else "NOT yet stored: counts at its maximum"
    lease = f"   lease {evse.lease_left_s:.0f} s left" if evse.lease_left_s is not None else ""
    return stored + lease


def _session_line(evse: EvseView, picture: Picture, snapshot: Snapshot) -> Line:
    session = evse.session
    if session is None:
        return line(" session none")
    now, place = snapshot.time, picture.place
    short = session.short_wh
    return line(
        f" session {session.vehicle or '?'}  token {session.token or '-'}"
        f"  since {fmt.short_time(session.started, now, place)}  {fmt.kilo(session.energy_wh, 6)} kWh"
        f"  SoC {fmt.percent(session.soc)}%  departs {fmt.short_time(session.departs, now, place)}",
        Span(f"  short {fmt.kilo(short)} kWh ~", Tone.LOW) if short else "",
    )


def path(snapshot: Snapshot, start: CircuitId) -> list[CircuitView]:
    """The circuit and those above it, root last; stops at an unknown parent or a loop."""
    known = {circuit.id: circuit for circuit in snapshot.circuits}
    found: list[CircuitView] = []
    at: CircuitId | None = start
    while at is not None and (circuit := known.pop(at, None)) is not None:
        found.append(circuit)
        at = circuit.parent
    return found


def order_lines(picture: Picture, evse: EvseView, width: int) -> list[Line]:
    """The orders of this EVSE, newest first, each with the time of every stage it reached."""
    return [row for order in picture.orders_of(evse.id) for row in order_rows(order, picture, width)]


def order_rows(order: OrderView, picture: Picture, width: int) -> list[Line]:
    """`o-12 pause by tech  UNDER WAY` and below it the stages: reached with time, then `...`."""
    outcome = (order.outcome or "under way").upper()
    bad = order.outcome in ("refused", "failed")
    tone = Tone.HIGH if bad else Tone.PLAIN if order.outcome else Tone.STRONG
    what = order.text if order.text.startswith(order.kind) else f"{order.kind} {order.text}".rstrip()
    title = fmt.fit(f" {order.id} {what} by {order.by}", max(8, width - 14))
    reached = dict(order.stages)
    words = []
    last: datetime | None = None
    for stage in (*STAGES, *(name for name in reached if name not in STAGES)):
        at = reached.get(stage)
        if at is None:
            words.append(f"{stage} {'-' if order.outcome else '...'}")
            continue
        words.append(f"{stage} {fmt.clock(at, picture.place) if last is None else _since(at, last)}")
        last = at
    rows = [line(title, " ", Span(outcome, tone)), line(f"   {' > '.join(words)}")]
    if order.reason:
        rows.append(line(Span(fmt.fit(f"   {order.reason}", width), tone)))
    return rows


def _since(at: datetime, earlier: datetime) -> str:
    return fmt.span((at - earlier).total_seconds())
