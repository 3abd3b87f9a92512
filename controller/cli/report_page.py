"""The monthly report as one page: no script, nothing to fetch, black on white, and it prints.

Owns the marks of HTML and SVG. Whatever is shown comes from chargers and people, so all of it is escaped.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from controller.monthly import Month

Table = tuple[Sequence[str], Sequence[Sequence[str]]]

WIDTH, HEIGHT, LEFT, BOTTOM = 720, 200, 44, 20  # of the chart, pixels; a day is the same width in every month
_STYLE = """
body { font: 14px/1.4 sans-serif; color: #000; background: #fff; margin: 2em auto; max-width: 60em; padding: 0 1em; }
h1 { font-size: 1.4em; } h2 { font-size: 1.1em; margin-top: 2em; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .2em .6em .2em 0; border-bottom: 1px solid #ccc; vertical-align: top; }
.n { text-align: right; } tr.sum td { font-weight: bold; border-top: 2px solid #000; }
thead { display: table-header-group; } tr { break-inside: avoid; }
svg { width: 100%; height: auto; } svg text { font: 10px sans-serif; }
@media print { body { margin: 0; max-width: none; font-size: 11px; } @page { margin: 15mm; } }
"""
_NUMBERS = frozenset({"Sessions", "kWh", "Hours", "Cost", "Records kWh", "Gap kWh", "Register kWh"})


def page(month: Month, head: Sequence[str], groups: Table, sessions: Table) -> str:
    title, *lines = head
    parts = [
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>",
        f"<h1>{escape(title)}</h1>",
        *(f"<p>{escape(line)}</p>" for line in lines),
        _table(groups, last_is_sum=True),
        "<h2>kWh per day, by the day of the end</h2>",
        _chart(month),
        "<h2>Sessions</h2>",
        _table(sessions) if sessions[1] else "<p>None.</p>",
        "<p>Sums are of unrounded amounts.</p>",
        "</body>\n</html>\n",
    ]
    return "\n".join(parts)


def _table(shown: Table, last_is_sum: bool = False) -> str:
    names, rows = shown
    kinds = [' class="n"' if name in _NUMBERS else "" for name in names]
    head = "".join(f"<th{kind}>{escape(name)}</th>" for name, kind in zip(names, kinds, strict=True))
    body = []
    for number, row in enumerate(rows, start=1):
        cells = "".join(f"<td{kind}>{escape(cell)}</td>" for cell, kind in zip(row, kinds, strict=True))
        body.append(
            f'<tr class="sum">{cells}</tr>' if last_is_sum and number == len(rows) else f"<tr>{cells}</tr>"
        )
    return f"<table><thead><tr>{head}</tr></thead>\n<tbody>{chr(10).join(body)}</tbody></table>"


def _chart(month: Month) -> str:
    """A bar per day; lines at the top of the scale and at its half."""
    top_wh = _round_up(max((energy_wh for _, energy_wh in month.days), default=0))
    tall, step = HEIGHT - BOTTOM - 10, (WIDTH - LEFT) / 31
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="kWh per day">']
    for share in (0.0, 0.5, 1.0):
        y = 10 + tall * (1 - share)
        parts.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH}" y2="{y:.1f}" stroke="#bbb"/>')
        told = f"{top_wh * share / 1e3:g}"
        parts.append(f'<text x="{LEFT - 4}" y="{y + 3:.1f}" text-anchor="end">{told}</text>')
    for number, (day, energy_wh) in enumerate(month.days):
        x, high = LEFT + number * step, tall * energy_wh / top_wh
        parts.append(
            f'<rect x="{x + 2:.1f}" y="{10 + tall - high:.1f}" width="{step - 4:.1f}" height="{high:.1f}" fill="#36c">'
            f"<title>{day.isoformat()}: {energy_wh / 1e3:.2f} kWh</title></rect>"
        )
        parts.append(f'<text x="{x + step / 2:.1f}" y="{HEIGHT - 6}" text-anchor="middle">{day.day}</text>')
    return "\n".join([*parts, "</svg>"])


def _round_up(most_wh: int) -> int:
    """To 1, 2 or 5 times a power of ten, in Wh, 1 kWh at least."""
    scale = 1000
    while True:
        for times in (1, 2, 5):
            if most_wh <= times * scale:
                return times * scale
        scale *= 10
