"""Values as people read them: amps, energy, ages, clock times, bars. Pure; Unicode and ASCII.

Limits are cut down and loads rounded up, so a picture never flatters. Unknown is `----`; a value that may be old or
wrong ends in `?`. One character is one cell: everything else that strangers may put into a name (wide characters,
control sequences) becomes `?`, so no station can move the cursor of the person who looks at it.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

UNKNOWN = "----"
CUT = "~"


@dataclass(frozen=True, slots=True)
class Glyphs:
    """The characters of a bar, and whether letters beyond ASCII can be shown at all."""

    drawn: str
    promised: str
    tick: str
    free: str
    ascii_only: bool


UNICODE = Glyphs(drawn="█", promised="▒", tick="│", free="·", ascii_only=False)
ASCII = Glyphs(drawn="#", promised="-", tick="|", free=".", ascii_only=True)


def glyphs_for(environ: Mapping[str, str], encoding: str) -> Glyphs:
    """DEPOT_ASCII=1, or a terminal that does not speak UTF-8, gets ASCII."""
    if environ.get("DEPOT_ASCII", "0") not in ("", "0"):
        return ASCII
    return UNICODE if encoding.lower().replace("-", "") == "utf8" else ASCII


def clean(text: str, glyphs: Glyphs) -> str:
    """The text with every character that is not exactly one printable cell replaced, length unchanged."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_one_cell(character, glyphs.ascii_only) for character in text)


def _one_cell(character: str, ascii_only: bool) -> str:
    if ascii_only:
        character = unicodedata.normalize("NFKD", character)[:1]  # the letter below its accent
        return character if character.isascii() and character.isprintable() else "?"
    one_wide = unicodedata.east_asian_width(character) not in ("W", "F")
    stands_alone = unicodedata.category(character) not in ("Mn", "Me", "Cf")
    return character if character.isprintable() and one_wide and stands_alone else "?"


def fit(text: str, width: int, align: str = "<") -> str:
    """Exactly `width` characters: padded (`<` left, `>` right) or cut with a `~` at the end."""
    if len(text) > width:
        return text[: max(0, width - 1)] + CUT[:width]
    return f"{text:{align}{width}}" if width > 0 else ""


def tail(name: str, width: int) -> str:
    """A name that is too long keeps its end: there the stations of a yard differ."""
    return f"{CUT}{name[1 - width :]}" if len(name) > width > 1 else fit(name, width)


def limit_amps(milli: int | None, width: int = 5) -> str:
    """A limit in at most `width` cells: 32000 is `32`, 12550 is `12.5` (or `12` when narrow)."""
    if milli is None:
        return UNKNOWN[:width]
    tenths = milli // 100
    if tenths % 10 and len(exact := f"{tenths / 10:.1f}") <= width:
        return exact
    return str(milli // 1000)


def load_amps(milli: int | None, width: int = 5) -> str:
    """A load, rounded away from zero, one decimal where it fits: 15710 is `15.8`."""
    if milli is None:
        return UNKNOWN[:width]
    sign, size = ("-", -milli) if milli < 0 else ("", milli)
    exact = f"{sign}{-(-size // 100) / 10:.1f}"
    return exact if len(exact) <= width else f"{sign}{-(-size // 1000)}"


def doubted(text: str, doubtful: bool) -> str:
    """The value, with a `?` when it may be old or wrong; unknown stays `----`."""
    return f"{text}?" if doubtful and not text.startswith("--") else text


def drawn_amps(milli: int | None, doubtful: bool) -> str:
    """Eight cells for the draw beside a bar: ` 142.1A `, ` 142.1A?`, `  ----  `."""
    if milli is None:
        return f"{UNKNOWN:>6}  "
    return f"{load_amps(milli, 6):>6}A{'?' if doubtful else ' '}"


def commitment_amps(milli: int | None, width: int = 5) -> str:
    """A commitment, rounded up, without decimals where it is whole: 16000 is `16`, 6010 is `6.1` (or `7`)."""
    if milli is not None and milli % 1000 == 0:
        return str(milli // 1000)
    return load_amps(milli, width)


def kilo(value: int | None, width: int = 5) -> str:
    """W as kW or Wh as kWh with one decimal (none when narrow), cut towards zero: 12399 is `12.3`."""
    if value is None:
        return UNKNOWN[:width]
    sign, size = ("-", -value) if value < 0 else ("", value)
    exact = f"{sign}{size // 100 / 10:.1f}"
    return exact if len(exact) <= width else f"{sign}{size // 1000}"


def percent(value: int | None, width: int = 3) -> str:
    return UNKNOWN[:width] if value is None else str(value)


def age(seconds: float | None) -> str:
    """How long ago: `0.8s`, `42s`, `12m`, `5h`, `3d`; never seen is `never`."""
    if seconds is None:
        return "never"
    if seconds < 10:
        return f"{max(0.0, seconds):.1f}s"
    for unit, size, below in (("s", 1, 100), ("m", 60, 100), ("h", 3600, 48)):
        if seconds < below * size:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds / 86400:.0f}d"


def zone(name: str) -> tzinfo:
    """The site's zone; UTC when this computer does not know the name (the times then end in Z)."""
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, LookupError):
        return UTC


def clock(when: datetime, place: tzinfo) -> str:
    return when.astimezone(place).strftime("%H:%M:%S") + ("Z" if place is UTC else "")


def day_and_clock(when: datetime, place: tzinfo) -> str:
    return when.astimezone(place).strftime("%a %d %b ") + clock(when, place)


def short_time(when: datetime | None, now: datetime, place: tzinfo) -> str:
    """`05:30` within a day of now, else `24Nov`; five cells; unknown is `-----`-like."""
    if when is None:
        return UNKNOWN
    near = abs(when - now) < timedelta(hours=24)
    return when.astimezone(place).strftime("%H:%M" if near else "%d%b")


def span(seconds: float) -> str:
    """A stretch of time: `+0.2s`, `+12s`, `+3m`."""
    return "+" + age(seconds)


def bar(measured_ma: int | None, worst_ma: int | None, limit_ma: int, width: int, glyphs: Glyphs) -> str:
    """`[####---|......]`: drawn, promised, the commitment mark at the worst case, free up to the limit.

    Drawn rounds up to whole cells. Unknown draw is `?` up to the mark, an unknown worst case is `?` to the end,
    feeding back starts with `<`, and a worst case or draw beyond the limit ends in `!` instead of hiding.
    """
    if width < 1:
        return "[]"

    def cells(milli: int) -> int:
        return max(0, -(-milli * width // limit_ma)) if limit_ma > 0 else (width + 1 if milli > 0 else 0)

    drawn = 0 if measured_ma is None else cells(measured_ma)
    mark = width if worst_ma is None else cells(worst_ma)
    promised = "?" if measured_ma is None or worst_ma is None else glyphs.promised
    body = [glyphs.free] * width
    for index in range(min(mark, width)):
        body[index] = promised
    for index in range(min(drawn, width)):
        body[index] = glyphs.drawn
    if worst_ma is not None and 0 < mark <= width:
        body[mark - 1] = glyphs.tick
    if measured_ma is not None and measured_ma < 0:
        body[0] = "<"
    if max(measured_ma or 0, worst_ma or 0) > limit_ma:
        body[-1] = "!"
    return f"[{''.join(body)}]"
