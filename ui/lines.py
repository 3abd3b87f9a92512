"""Lines of text with meaning: what screens compute and the canvas paints.

A tone says what a piece of text means, never how it looks; the canvas owns the looks. Grey is the rule, a tone the
exception (ISA-101), and no meaning hangs on a tone alone: the text carries a mark or a word too.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import NamedTuple


class Tone(Enum):
    PLAIN = auto()
    STRONG = auto()  # titles and the row under the cursor
    BAR = auto()  # a whole row that frames the screen: header, footer
    CRITICAL = auto()  # priority 1
    HIGH = auto()  # priority 2
    LOW = auto()  # priority 3, doubtful values


class Span(NamedTuple):
    text: str
    tone: Tone = Tone.PLAIN


Line = tuple[Span, ...]

BLANK: Line = ()


def line(*parts: str | Span) -> Line:
    """Strings become plain spans; empty ones vanish."""
    spans = (part if isinstance(part, Span) else Span(part) for part in parts)
    return tuple(span for span in spans if span.text)


def emphasised(of: Line) -> Line:
    """The same line with its plain parts strong; parts that already mean something keep their tone."""
    return tuple(span._replace(tone=Tone.STRONG) if span.tone is Tone.PLAIN else span for span in of)


def wrapped(text: str, width: int, indent: str = " ") -> list[Line]:
    """Words of `text` in lines of at most `width` cells, each behind `indent`."""
    lines: list[Line] = []
    current = indent
    for word in text.split():
        if len(current) + len(word) + 1 > width and current.strip():
            lines.append(line(current.rstrip()))
            current = indent
        current += word + " "
    lines.append(line(current.rstrip()))
    return lines


def beside(left: list[Line], right: list[Line], width: int, edge: str) -> list[Line]:
    """Two columns: `left` cut or padded to `width` cells, an edge, `right`."""
    rows = max(len(left), len(right))
    pairs = zip([*left, *[BLANK] * (rows - len(left))], [*right, *[BLANK] * (rows - len(right))], strict=True)
    return [(*_cut(one, width), Span(edge), *other) for one, other in pairs]


def _cut(of: Line, width: int) -> Line:
    spans: list[Span] = []
    for span in of:
        spans.append(span._replace(text=span.text[:width]))
        width -= len(spans[-1].text)
    return line(*spans, " " * width)
