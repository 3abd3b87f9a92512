"""Pictures of a series: columns with a line across them. Pure; one character is one cell, ASCII where it must be.

A column of unknown is blank with a `?` on the ground: a gap is shown as a gap. Letters of a level go from low to high.
"""

from __future__ import annotations

from collections.abc import Sequence

from ui import format as fmt
from ui.history import BIN_S, BINS, Bin
from ui.lines import Line, Span, Tone, line

BLOCKS, LETTERS = "▁▂▃▄▅▆▇█", "_.-:=+*#"
LABEL = 8  # cells of the scale at the left


def level(share: float, glyphs: fmt.Glyphs) -> str:
    """One cell filled to this share of its height, never empty."""
    levels = LETTERS if glyphs.ascii_only else BLOCKS
    return levels[max(0, min(len(levels) - 1, int(share * len(levels) - 1e-9)))]


def columns(
    values: Sequence[float | None], marks: Sequence[float | None], top: float, height: int, glyphs: fmt.Glyphs
) -> list[str]:
    """`height` rows, highest first: a column per value, and a mark where the other series runs above it."""
    rows = []
    for row in range(height, 0, -1):
        floor, ceiling = top * (row - 1) / height, top * row / height
        cells = []
        for value, mark in zip(values, marks, strict=True):
            share = 0.0 if value is None else (abs(value) - floor) / (ceiling - floor)
            here = mark is not None and (floor < mark <= ceiling or (row == 1 and mark <= 0))
            if here and share < 1:
                cells.append("_" if row == 1 and mark == 0 else "-" if glyphs.ascii_only else "─")
            elif share > 0.02:
                cells.append(level(min(1.0, share), glyphs))
            else:
                cells.append("?" if value is None and row == 1 else " ")
        rows.append("".join(cells))
    return rows


def amps(
    seen: Sequence[Bin | None], limit_ma: int, width: int, height: int, glyphs: fmt.Glyphs
) -> list[Line]:
    """Set and measured amps over half an hour: `height` rows and one that names the axis."""
    count = max(1, min(BINS, width - LABEL - 2))
    seen = seen[-count:]
    measured = [None if each is None else each.measured_ma for each in seen]
    wanted = [None if each is None else each.set_ma for each in seen]
    highest = max((abs(each) for each in (*measured, *wanted) if each is not None), default=0)
    top = max(
        1, min(max(limit_ma, highest), max(2 * highest, 6000))
    )  # small currents must not lie on the ground
    rows = columns(measured, wanted, top, height, glyphs)
    labels = [f"{fmt.load_amps(top, 4)} A", *[""] * (height - 2), "0 A"]
    lines = [line(f" {label:>{LABEL - 2}} {row}") for label, row in zip(labels, rows, strict=True)]
    minutes = count * BIN_S // 60
    dash = "-" if glyphs.ascii_only else "─"
    return [
        *lines,
        line(Span(f" {'':>{LABEL - 2}} last {minutes} min, {dash} set, {glyphs.drawn} measured", Tone.PLAIN)),
    ]
