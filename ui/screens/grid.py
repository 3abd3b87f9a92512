"""The table of EVSEs: columns as data, for 80 columns and for wide terminals. Pure.

The five amps stand side by side: limit (copper), grant (decided), set (commanded, and what the station accepted when
that differs), measured, commitment (the worst it may draw without hearing from us again).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from controller.core.model import EvseState
from controller.core.snapshot import EvseView
from ui import format as fmt
from ui.lines import Line, Span, Tone, line
from ui.picture import MARKS, NORMAL, TONES, Picture, vehicle_name
from ui.screens.frame import three_amps

_WORDS = {
    EvseState.DISCHARGING: "discharge",
    EvseState.SUSPENDED_EV: "susp-EV",
    EvseState.SUSPENDED_EVSE: "susp-EVSE",
    EvseState.UNAVAILABLE: "unavail",
    EvseState.FAULTED: "FAULTED",
    EvseState.OFFLINE: "OFFLINE",
}


def state_word(evse: EvseView) -> str:
    """One word of at most nine letters; capitals where a person is needed.

    `paused` only once the station really is suspended: an order on its way is not yet a state.
    """
    if evse.paused and evse.state is EvseState.SUSPENDED_EVSE:
        return "paused"
    return _WORDS.get(evse.state, str(evse.state))


def set_amps(evse: EvseView, width: int) -> str:
    """`16` when the station accepted what we commanded, else `16/32`; `16/--` while it has accepted nothing."""
    if evse.commanded_ma == evse.accepted_ma:
        return fmt.limit_amps(evse.commanded_ma, width)
    commanded, accepted = fmt.limit_amps(evse.commanded_ma), fmt.limit_amps(evse.accepted_ma)
    if (
        len(commanded) + 1 + len(accepted) > width
    ):  # whole amps, and as much of unknown as a slash leaves room for
        commanded, accepted = fmt.limit_amps(evse.commanded_ma, 3), fmt.limit_amps(evse.accepted_ma, 2)
    return f"{commanded}/{accepted}"


Cell = Callable[[EvseView, Picture, int], str]


@dataclass(frozen=True, slots=True)
class Column:
    title: str
    width: int
    cell: Cell
    align: str = ">"


def _phase(index: int) -> Cell:
    return lambda evse, picture, width: _load(evse.measured_ma[index], picture, width)


def _measured(evse: EvseView, picture: Picture, width: int) -> str:
    return _load(three_amps(evse.measured_ma), picture, width)


def _load(milli: int | None, picture: Picture, width: int) -> str:
    return fmt.doubted(fmt.load_amps(milli, width - picture.old), picture.old)


def _energy(evse: EvseView, picture: Picture, width: int) -> str:
    return fmt.kilo(evse.session.energy_wh, width) if evse.session else "-"


def _soc(evse: EvseView, picture: Picture, width: int) -> str:
    return fmt.percent(evse.session.soc, width) if evse.session else "-"


def _departs(evse: EvseView, picture: Picture, width: int) -> str:
    if evse.session is None or picture.snapshot is None:
        return "-"
    return fmt.short_time(evse.session.departs, picture.snapshot.time, picture.place)


_LIMIT = Column("LIM", 3, lambda evse, picture, width: fmt.limit_amps(evse.limit_ma, width))
_GRANT = Column("GRT", 3, lambda evse, picture, width: fmt.limit_amps(evse.grant_ma, width))
_SET = Column("SET", 6, lambda evse, picture, width: set_amps(evse, width))
_COMMIT = Column("CMT", 3, lambda evse, picture, width: fmt.commitment_amps(evse.commitment_ma, width))
_POWER = Column("kW", 5, lambda evse, picture, width: fmt.kilo(evse.power_w, width))
_ENERGY = Column("kWh", 5, _energy)
_SOC = Column("SoC", 3, _soc)
_DEPARTS = Column("DEPRT", 5, _departs)
_STATE = Column("STATE", 9, lambda evse, picture, width: state_word(evse), "<")


def _vehicle(width: int) -> Column:
    return Column("VEHICLE", width, lambda evse, picture, width: fmt.tail(vehicle_name(evse), width), "<")


def _id(width: int) -> Column:
    return Column("EVSE", width, lambda evse, picture, width: fmt.tail(evse.id, width), "<")


NARROW = (
    _id(10), _STATE, _vehicle(7), _LIMIT, _GRANT, _SET, Column("MEAS", 5, _measured), _COMMIT,
    _POWER, _ENERGY, _SOC, _DEPARTS,
)  # fmt: skip

WIDE = (
    _id(14), _STATE, _vehicle(12), Column("LIMIT", 5, _LIMIT.cell), Column("GRANT", 5, _GRANT.cell),
    Column("SET/ACC", 9, _SET.cell), Column("L1 A", 6, _phase(0)), Column("L2 A", 6, _phase(1)),
    Column("L3 A", 6, _phase(2)), Column("COMMIT", 6, _COMMIT.cell), Column("kW", 6, _POWER.cell),
    Column("kWh", 7, _ENERGY.cell), Column("SoC", 4, _SOC.cell), Column("DEPARTS", 7, _DEPARTS.cell),
    Column("BOUND BY", 22, lambda evse, picture, width: evse.bound_by, "<"),
)  # fmt: skip

WIDE_FROM = 4 + sum(column.width + 1 for column in WIDE)


def columns_for(width: int) -> tuple[Column, ...]:
    return WIDE if width >= WIDE_FROM else NARROW


def head(width: int) -> Line:
    titles = (fmt.fit(column.title, column.width, column.align) for column in columns_for(width))
    return line(Span("    " + " ".join(titles), Tone.STRONG))


def row(evse: EvseView, attention: int, picture: Picture, width: int, under_cursor: bool) -> Line:
    """One EVSE: cursor, mark, then its cells. The state carries the colour of the mark, nothing else does."""
    tone = TONES.get(attention, Tone.PLAIN)
    quiet = Tone.STRONG if under_cursor else Tone.PLAIN
    mark = MARKS.get(attention, "?" if picture.old else "")
    spans = [Span(">" if under_cursor else " ", quiet), Span(fmt.fit(mark, 2), tone), Span(" ", quiet)]
    for column in columns_for(width):
        text = fmt.fit(column.cell(evse, picture, column.width), column.width, column.align)
        loud = column.title == "STATE" and attention != NORMAL
        spans += [Span(text, tone if loud else quiet), Span(" ", quiet)]
    return line(*spans)
