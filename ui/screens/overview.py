"""Screen 1, overview: what needs a person, the circuits against their limits, the grid of EVSEs.

Abnormal first, in the first lines: banners and alarms stand above everything, and troubled EVSEs above healthy ones.
"""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType

from controller.core.model import EvseId
from controller.core.snapshot import EvseView, Snapshot
from ui.format import fit, kilo
from ui.lines import Line, Span, Tone, line
from ui.picture import NORMAL, Picture, ranked_evses, vehicle_name
from ui.screens import frame, grid
from ui.screens.base import DepotScreen

KEYS = "1 Ovw  2 EVSE  Enter open  / filter  n/N abnormal  ? help  q quit"


class OverviewScreen(DepotScreen):
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)"),
        Binding("down,j", "move(1)"),
        Binding("pageup", "move(-10)"),
        Binding("pagedown", "move(10)"),
        Binding("home,g", "move(-100000)"),
        Binding("end,G", "move(100000)"),
        Binding("n", "abnormal(1)"),
        Binding("N", "abnormal(-1)"),
        Binding("slash", "filter"),
        Binding("enter", "open"),
        Binding("escape", "clear_filter"),
    ]

    _filter = ""
    _top = 0

    def shown(self) -> list[tuple[int, EvseView]]:
        """(attention, EVSE) of the rows that pass the filter, in the order of the screen."""
        snapshot = self.picture.snapshot
        if snapshot is None:
            return []
        wanted = self._filter.casefold()
        return [pair for pair in ranked_evses(snapshot) if wanted in _searchable(pair[1])]

    # --- keys --------------------------------------------------------------------------------------------------

    def action_move(self, by: int) -> None:
        rows = self.shown()
        if rows:
            at = self._index(rows) + by
            self._select(rows[max(0, min(len(rows) - 1, at))][1].id)

    def action_abnormal(self, by: int) -> None:
        """To the next (1) or previous (-1) abnormal row, around the end."""
        rows = self.shown()
        at = self._index(rows)
        for step in range(1, len(rows) + 1):
            attention, evse = rows[(at + by * step) % len(rows)]
            if attention != NORMAL:
                self._select(evse.id)
                return

    def action_open(self) -> None:
        rows = self.shown()
        if rows:
            self.depot.selected = rows[self._index(rows)][1].id
            self.depot.action_go("evse")

    def action_filter(self) -> None:
        self.ask_line(self._filter, self._set_filter)
        self.repaint()

    def action_clear_filter(self) -> None:
        if self.asking_line:
            self.close_line()
        else:
            self._filter = ""
        self.repaint()

    def _set_filter(self, text: str) -> None:
        self._filter = text.strip()

    def _select(self, evse: EvseId) -> None:
        self.depot.selected = evse
        self.repaint()

    def _index(self, rows: list[tuple[int, EvseView]]) -> int:
        ids = [evse.id for _, evse in rows]
        return ids.index(self.depot.selected) if self.depot.selected in ids else 0

    # --- lines -------------------------------------------------------------------------------------------------

    def compose_lines(self, width: int, height: int) -> list[Line]:
        picture = self.picture
        lines = [frame.header(picture, "1 OVERVIEW", width, self.depot.read_only)]
        if picture.snapshot is None:
            return frame.page([*lines, *frame.waiting(picture, width)], [self._footer("", width)], height)
        lines += frame.banners(picture, width)
        lines += frame.alarm_rows(picture, width, 4 if height < 40 else 8)
        lines += circuit_lines(picture.snapshot, picture, width, height, self)
        lines.append(grid.head(width))
        rows = self.shown()
        room = max(0, height - 1 - len(lines))
        if not rows:
            return frame.page([*lines, *self._no_rows(picture.snapshot)], [self._footer("", width)], height)
        at = self._index(rows)
        self._top = max(min(self._top, at, max(0, len(rows) - room)), at - room + 1, 0)
        window = rows[self._top : self._top + room]
        body = [
            grid.row(evse, attention, picture, width, self._top + offset == at)
            for offset, (attention, evse) in enumerate(window)
        ]
        position = f"{self._top + 1}-{self._top + len(window)}/{len(rows)}"
        return frame.page([*lines, *body], [self._footer(position, width)], height)

    def _no_rows(self, snapshot: Snapshot) -> list[Line]:
        if not snapshot.evses:
            return [line("    no EVSE configured: add a [station.NAME] table to the site file and restart")]
        return [line(f"    nothing matches '{self._filter}' (Esc shows all {len(snapshot.evses)} EVSEs)")]

    def _footer(self, position: str, width: int) -> Line:
        if self.asking_line:
            return frame.footer(
                "filter by id, state, vehicle, circuit: Enter keeps it, Esc cancels", position, width
            )
        if self._filter:
            return frame.footer(f"filter '{self._filter}' (Esc clears)  {KEYS}", position, width)
        return frame.footer(KEYS, position, width)


def circuit_lines(
    snapshot: Snapshot, picture: Picture, width: int, height: int, screen: DepotScreen
) -> list[Line]:
    """The site on three rows, then the worst phase of every circuit that fits, troubled ones first."""
    lines: list[Line] = []
    roots = [circuit for circuit in snapshot.circuits if circuit.parent is None]
    for circuit in roots:
        lines += frame.circuit_rows(circuit, picture, width, screen.glyphs, range(3))
    others = sorted((c for c in snapshot.circuits if c.parent is not None), key=frame.within_limits)
    room = max(1, (height - 18) // 2)
    shown = others if len(others) <= room else others[: room - 1]
    for circuit in shown:
        phase = frame.worst_phase(circuit)
        lines += frame.circuit_rows(circuit, picture, width, screen.glyphs, range(phase, phase + 1))
    if len(shown) < len(others):
        hidden = others[len(shown) :]
        fine = all(map(frame.within_limits, hidden))
        text = f" and {len(hidden)} more circuits" + (
            ", all within limits" if fine else ", NOT all within limits"
        )
        lines.append(line(Span(text, Tone.PLAIN if fine else Tone.HIGH)))
    return [*lines, *_other_meters(snapshot, picture, width)]


def _other_meters(snapshot: Snapshot, picture: Picture, width: int) -> list[Line]:
    """Meters that hang on no circuit (PV, battery) and what is wrong with any meter."""
    on_circuits = {circuit.meter for circuit in snapshot.circuits}
    spans: list[str | Span] = []
    for meter in snapshot.meters:
        if meter.id not in on_circuits:
            spans += ["  ", frame.meter_age(meter, picture.old), f" {kilo(meter.power_w, 6)} kW"]
    lines = [line(" meters ", *spans)] if spans else []
    for meter in snapshot.meters:
        if meter.error:
            lines.append(line(Span(fit(f" ! meter {meter.id}: {meter.error}", width), Tone.HIGH)))
    return lines[:2]


def _searchable(evse: EvseView) -> str:
    words = (evse.id, evse.state, grid.state_word(evse), vehicle_name(evse), evse.circuit)
    return " ".join(words).casefold()
