"""Screen 1, overview: what needs a person, the circuits against their limits, the grid of EVSEs.

Abnormal first, in the first lines: banners and alarms stand above everything, and troubled EVSEs above healthy ones.
"""

from __future__ import annotations

from typing import ClassVar

from controller.core.model import EvseId
from controller.core.snapshot import EvseView, Snapshot
from ui.format import Glyphs, bar, clock, fit, kilo
from ui.lines import Line, Span, Tone, line
from ui.picture import Picture, ranked_evses, vehicle_name
from ui.screens import frame, grid
from ui.screens.base import DepotScreen
from ui.screens.rows import Row, RowsScreen


class OverviewScreen(RowsScreen):
    TITLE = "1 OVERVIEW"
    FILTERS = "id, state, vehicle, circuit"
    HELP: ClassVar[str] = """\
 Alarms, circuits against their limits, then EVSEs, those that need you first.
 Enter opens the EVSE under the cursor; its verbs are there."""

    def rows(self, snapshot: Snapshot) -> list[Row]:
        return [self._row(evse, attention) for attention, evse in ranked_evses(snapshot)]

    def _row(self, evse: EvseView, attention: int) -> Row:
        def paint(width: int, under_cursor: bool) -> Line:
            return grid.row(evse, attention, self.picture, width, under_cursor)

        return Row(evse.id, attention, _searchable(evse), paint)

    @property
    def chosen(self) -> str | None:
        return self.depot.selected

    def choose(self, key: str) -> None:
        self.depot.selected = EvseId(key)
        self.repaint()

    def action_open(self) -> None:
        row = self.row()
        if row is not None:
            self.depot.selected = EvseId(row.key)
            self.depot.action_go("evse")

    def verbs(self) -> str:
        return "Enter open   / filter   n/N next/previous abnormal   q quit"

    def above(self, snapshot: Snapshot, width: int, room: int) -> list[Line]:
        picture = self.picture
        lines = frame.alarm_rows(picture, width, 4 if room < 38 else 8)
        lines += limit_lines(snapshot, picture, width, self.glyphs)
        return [*lines, *circuit_lines(snapshot, picture, width, room, self)]

    def head(self, width: int) -> list[Line]:
        return [grid.head(width)]

    def empty(self, snapshot: Snapshot) -> list[Line]:
        return [line("    no EVSE configured: add a [station.NAME] table to the site file and restart")]


def limit_lines(snapshot: Snapshot, picture: Picture, width: int, glyphs: Glyphs) -> list[Line]:
    """What bounds the site from outside or by the clock: a grid operator's limit, the quarter hour's peak."""
    lines = []
    for limit in snapshot.grid_limits:
        if limit.holds:
            since = f" since {clock(limit.since, picture.place)}" if limit.since else ""
            text = (
                f" grid limit {limit.id}: {kilo(limit.power_w)} kW on {limit.circuit}{since}, {limit.holds}"
            )
            lines.append(line(Span(fit(text, width), Tone.LOW)))
    peak = snapshot.peak
    if peak is not None and peak.mean_w is not None:
        over = peak.mean_w > peak.target_w
        began = "" if peak.window_start is None else f" since {clock(peak.window_start, picture.place)[:5]}"
        month = "" if peak.month_w is None else f"  month {kilo(peak.month_w, 6)}"
        drawn = bar(peak.mean_w, peak.mean_w, peak.target_w, max(4, min(60, width - 60)), glyphs)
        text = f" quarter  {kilo(peak.mean_w, 8):>8} kW {drawn} {kilo(peak.target_w, 6)} kW{began}{month}"
        lines.append(line(Span(fit(text, width), Tone.HIGH if over else Tone.PLAIN)))
    return lines


def circuit_lines(
    snapshot: Snapshot, picture: Picture, width: int, height: int, screen: DepotScreen
) -> list[Line]:
    """The site on three rows, then the worst phase of every circuit that fits, troubled ones first."""
    lines: list[Line] = []
    roots = [circuit for circuit in snapshot.circuits if circuit.parent is None]
    for circuit in roots:
        lines += frame.circuit_rows(circuit, picture, width, screen.glyphs, range(3))
    others = sorted((c for c in snapshot.circuits if c.parent is not None), key=frame.within_limits)
    room = max(1, (height - 16) // 2)
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
