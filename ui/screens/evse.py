"""Screen 2, one EVSE: its five amps, its session, its circuits, and its verbs.

Every verb shows what it will do and waits for `y`, or for a name where it cannot be taken back. Nothing on this screen changes because a key was pressed: it
changes when the controller reports that the order was sent, accepted, applied and measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import ClassVar

from textual.binding import Binding, BindingType

from controller.core.model import CircuitId
from controller.core.snapshot import CircuitView, EvseView, OrderView, Snapshot
from ui import consequences, verbs
from ui import format as fmt
from ui.history import Bin
from ui.lines import BLANK, Line, Span, Tone, line
from ui.picture import NORMAL, TONES, Picture, alarms_of, attention, lacking, ranked_evses
from ui.screens import charts, frame, grid
from ui.screens.base import Call
from ui.screens.confirming import ConfirmingScreen, Question
from ui.verbs import Order, Verb

STAGES = ("sent", "accepted", "applied", "measured")
LEAST_CHART = 4  # rows; less says nothing


class EvseScreen(ConfirmingScreen):
    TITLE = "2 EVSE"
    HELP: ClassVar[str] = """\
 s start  x stop  p pause  r resume  l limit  d departs when  w why this current
 u unlock the cable  t have it send a message  b restart  o out of service  i in
 Each verb shows what it will do; y does it, n cancels; what cannot be taken
 back wants its name typed. [brackets]: not possible now, press it to read why.
 Behind : also soc, discharge, firmware. n/N next/previous abnormal EVSE."""
    EVERY_S = 15.0
    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(key, f"verb('{verb}')") for key, verb in verbs.KEYS.items()),
        Binding("w", "why"),
    ]

    # --- keys --------------------------------------------------------------------------------------------------

    def action_verb(self, name: str) -> None:
        self.choose_verb(Verb(name), None)

    def choose_verb(self, verb: Verb, typed: str | None) -> None:
        """Asks for its arguments unless they were typed already, then for a yes."""
        evse = self._evse()
        if self.busy or evse is None:
            return
        reason = self.refused(self._about(Order(verb), evse))
        if reason is not None:
            self.say(f"{verb} is not possible: {reason}", Tone.HIGH)
        elif verb not in verbs.QUESTIONS:
            self.ask(self._about(Order(verb), evse))
        elif typed:
            self._typed(verb, evse, typed)
        else:
            self.say("")
            value = verbs.SUGGESTED.get(verb, "")
            self.ask_line(value, verbs.QUESTIONS[verb], lambda text: self._typed(verb, evse, text))
        self.repaint()

    def action_why(self) -> None:
        evse = self._evse()
        if evse is not None:
            self.say(f"asking why {evse.id} has its current...")
            self.repaint()
            self.depot.ask_why(evse.id, self._told_why)

    def _told_why(self, text: str, known: bool) -> None:
        self.say(text, Tone.PLAIN if known else Tone.HIGH)
        self.repaint()

    def action_abnormal(self, by: int) -> None:
        """To the next EVSE that needs a person, as the overview lists them."""
        snapshot = self.picture.snapshot
        names = (
            [] if snapshot is None else [evse.id for rank, evse in ranked_evses(snapshot) if rank != NORMAL]
        )
        if names and not self.busy:
            here = self.depot.selected
            at = names.index(here) + by if here in names else (0 if by > 0 else -1)
            self.depot.selected = names[at % len(names)]
            self.say("")
            self.ask_again()
            self.repaint()

    # --- an order on its way to the controller --------------------------------------------------------------------

    def _typed(self, verb: Verb, evse: EvseView, text: str) -> None:
        if verb is not Verb.START and not text.strip():
            self.say(f"{verb} cancelled: nothing was typed")
            return
        try:
            order = Order(verb, verbs.parse(verb, text, self.picture))
            self.ask(self._about(order, self.picture.evse(evse.id) or evse))
        except ValueError as error:
            self.say(str(error), Tone.HIGH)

    def _about(self, order: Order, evse: EvseView) -> Question:
        """The question about this EVSE, whichever one is chosen when it is answered."""

        def now() -> EvseView:
            return self.picture.evse(evse.id) or evse

        call, args = verbs.call_of(order, evse)
        return Question(
            str(order.verb),
            evse.id,
            call,
            args,
            lambda: self._consequence(order, now()),
            lambda: verbs.refusal(order.verb, now()),
            verbs.word(order, evse, self.picture),
            verbs.manner(order) if order.verb in verbs.ERRANDS else None,
        )

    def _consequence(self, order: Order, evse: EvseView) -> str:
        """What the controller foresees; until it has answered, what can be said from here."""
        foreseen = self.told(_key(order.verb, evse.id, verbs.call_of(order, evse)[1])).document
        if foreseen is not None and foreseen.get("text"):
            return f"{order.verb.upper()} {evse.id}: {'; '.join(map(str, foreseen['text']))}."
        return consequences.preview(order, evse, self.picture, self.told("plan").document)

    def _evse(self) -> EvseView | None:
        return self.picture.evse(self.depot.selected)

    def wanted(self) -> Mapping[str, Call]:
        """The plan says what an order costs its vehicle; the history what it drew before this dashboard looked."""
        wanted: dict[str, Call] = {}
        if (asked := self._asking) is not None and asked.name in verbs.PREVIEWED:
            name = _key(asked.name, asked.of, asked.args)
            wanted[name] = ("preview", {"order": asked.name, **asked.args})
        wanted["plan"] = ("plan", {})
        if self.depot.selected is not None:
            wanted["history"] = ("history", {"evse": self.depot.selected})
        return wanted

    # --- lines -------------------------------------------------------------------------------------------------

    def body(self, snapshot: Snapshot, width: int, room: int) -> list[Line]:
        picture, evse = self.picture, self._evse()
        if evse is None:
            nothing = "no EVSE selected: go back (Esc), choose a row and press Enter"
            return [BLANK, line(f" {nothing if snapshot.evses else 'no EVSE configured'}")]
        lines = [
            frame.alarm_row(alarm, snapshot.time, picture.place, width)
            for alarm in alarms_of(evse, snapshot)[:3]
        ]
        lines += self._facts(evse, picture, snapshot, width)
        lines += self._campaign(evse, snapshot, width)
        lines += order_lines(self._orders(evse), picture, width)
        if room - len(lines) > LEAST_CHART:
            height = min(10, room - len(lines) - 1)
            seen = self._history(evse, snapshot)
            lines += charts.amps(seen, evse.limit_ma, width, height, self.glyphs)
        return lines

    def _orders(self, evse: EvseView) -> list[OrderView]:
        """The depot's, and what this dashboard had the station asked; newest first."""
        both = [*self.picture.orders_of(evse.id), *self.depot.errands.of(evse.id)]
        return sorted(
            both, key=lambda order: order.stages[0][1].timestamp() if order.stages else 0.0, reverse=True
        )

    def _campaign(self, evse: EvseView, snapshot: Snapshot, width: int) -> list[Line]:
        """The upgrade its station is in, while that runs."""
        campaign = snapshot.campaign
        if campaign is None or campaign.state not in ("running", "stopping"):
            return []
        found = [each for each in campaign.stations if each.station == evse.station]
        percent = "" if not found or found[0].progress_pct is None else f" {found[0].progress_pct} %"
        texts = [
            f" firmware {campaign.version} by {campaign.by}: {each.state}{percent} {each.text}"
            for each in found
        ]
        return [line(fmt.fit(text.rstrip(), width)) for text in texts]

    def _history(self, evse: EvseView, snapshot: Snapshot) -> list[Bin | None]:
        told = self.told("history")
        if told.document is not None and told.document.get("evse") == evse.id:
            self.depot.history.recall(evse.id, told.rows("points"))
        return self.depot.history.of(evse.id, snapshot.time)

    def _facts(self, evse: EvseView, picture: Picture, snapshot: Snapshot, width: int) -> list[Line]:
        tone = TONES.get(attention(evse, snapshot), Tone.PLAIN)
        link = ", ".join(evse.channels) or "no channel"
        rows = [
            line(
                Span(f" {evse.id}  ", Tone.STRONG),
                Span(grid.state_word(evse), tone),
                "  ",
                Span(
                    link if evse.connected else f"NOT CONNECTED ({link})",
                    Tone.PLAIN if evse.connected else Tone.HIGH,
                ),
                f"  {evse.identity or 'identity unknown'}",  # last: what strangers say of themselves may be long
            )
        ]
        if evse.fault:
            rows.append(line(Span(fmt.fit(f" fault: {evse.fault}", width), Tone.HIGH)))
        rows += [
            line(f" bound by: {evse.bound_by or 'nothing'}{_operator(evse)}"),
            line(f" fallback {fmt.limit_amps(evse.fallback_ma)} A {_fallback(evse)}"),
            _session_line(evse, picture, snapshot),
            BLANK,
            *amps_lines(evse, picture, width, self.glyphs),
        ]
        for circuit in path(snapshot, evse.circuit):
            phase = frame.worst_phase(circuit)
            rows += frame.circuit_rows(circuit, picture, width, self.glyphs, range(phase, phase + 1))
        return [*rows, BLANK]

    def verbs(self) -> str:
        evse = self._evse()
        if evse is None:
            return "Esc back"
        words = [self._key_word(key, verb, evse) for key, verb in verbs.KEYS.items()]
        return f"{'  '.join(words[:5])}   w why  n/N next  Esc\n{'  '.join(words[5:])}"

    def _key_word(self, key: str, verb: Verb, evse: EvseView) -> str:
        word = f"{key} {verbs.SHORT.get(verb, verb)}"
        return f"[{word}]" if self.refused(self._about(Order(verb), evse)) else word


def _key(verb: str, evse: str, args: Mapping[str, object]) -> str:
    """One preview is kept per order with its arguments: none is shown under another one's question."""
    return f"preview {verb} {evse} {sorted(args.items())}"


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
    return "".join(f"   {word}" for word in words if word != evse.bound_by)


def _fallback(evse: EvseView) -> str:
    stored = "stored in the station" if evse.fallback_stored else "NOT yet stored: counts at its maximum"
    lease = f"   lease {evse.lease_left_s:.0f} s left" if evse.lease_left_s is not None else ""
    return stored + lease


def _session_line(evse: EvseView, picture: Picture, snapshot: Snapshot) -> Line:
    session = evse.session
    if session is None:
        return line(" session none")
    now, place = snapshot.time, picture.place
    name = session.vehicle or "?"
    return line(
        f" session {fmt.tail(name, min(len(name), 12))}  {fmt.kilo(session.energy_wh, 6)} kWh"
        f"  SoC {fmt.percent(session.soc)}%  departs {fmt.short_time(session.departs, now, place)}",
        Span(f"  short {fmt.kilo(session.short_wh)} kWh ~", Tone.LOW) if lacking(session) else "",
        # last: what a narrow terminal can do without
        f"  since {fmt.short_time(session.started, now, place)}  token {session.token or '-'}",
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


def order_lines(orders: Sequence[OrderView], picture: Picture, width: int) -> list[Line]:
    """The orders of this EVSE, newest first, each with the time of every stage it reached."""
    return [row for order in orders for row in order_rows(order, picture, width)]


def order_rows(order: OrderView, picture: Picture, width: int) -> list[Line]:
    """`o-12 pause by tech  UNDER WAY` and below it the stages: reached with time, then `...`."""
    outcome = (order.outcome or "under way").upper()
    bad = order.outcome in ("refused", "failed", "not seen")
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
