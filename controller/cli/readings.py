"""`depot check --readings`: every gap of the Open Platform's documentation, how it is read, and the settings with their
values in this config. Source: Open Platform GAPS.
"""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import wrap

from controller.cli.looks import WIDTH
from controller.config.readings import written
from controller.core.readings import Readings
from drivers.openplatform.gaps import Assumption, assumptions


def describe(readings: Readings) -> str:
    """The table in plain text, without a line break at the end."""
    return "\n\n".join("\n".join(_lines(gap, readings)) for gap in assumptions().values())


def _lines(gap: Assumption, readings: Readings) -> Iterator[str]:
    yield f"{gap.id}  {gap.title}"
    yield from _below(gap.reading)
    for name in gap.settings:
        value, default = getattr(readings, name), getattr(Readings(), name)
        changed = "" if value == default else f"  (default {written(default)})"
        yield f"        {name} = {written(value)}{changed}"
    if gap.keys:
        yield from _below(f"in the config: {', '.join(gap.keys)}")
    if gap.fixed:
        yield from _below(f"fixed: {gap.fixed}")
    if gap.not_offered:
        yield from _below(f"not offered: {gap.not_offered}")


def _below(text: str) -> list[str]:
    return wrap(text, WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 8)
