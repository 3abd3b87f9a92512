"""[open_platform.readings]: how the gaps of the Open Platform's documentation are read here.

Owns how each setting is written in the file and refused when it cannot be; names, defaults and ranges stand in
`controller.core.readings`. Values are plain: the unit is in the key's name. Source: Open Platform GAPS.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from controller.config.table import Table
from controller.config.values import Wrong, flag, one_of, quoted, shown, text
from controller.core.readings import Gap, Readings, gaps_by_setting


def read_readings(table: Table) -> Readings:
    """What stands below [open_platform.readings] over the defaults; wrong ones are noted."""
    gaps, default = gaps_by_setting(), Readings()
    below = table.table("readings", " ".join(gaps))
    if below is None:
        return default
    kinds = get_type_hints(Readings)
    values = {
        name: below.optional(name, _reader(kinds[name], gap, getattr(default, name)), getattr(default, name))
        for name, gap in gaps.items()
    }
    return replace(default, **values)


def written(value: object) -> str:
    """As it stands in the file."""
    return shown(int(value)) if isinstance(value, float) and value.is_integer() else shown(value)


def _reader(kind: type | UnionType, gap: Gap, default: object) -> Callable[[object], Any]:
    if get_origin(kind) is Literal:
        return one_of(*get_args(kind))
    if kind is bool:
        return flag
    if kind is str:
        return _form(gap, str(default))
    return _number(gap, whole=kind is int)


def _number(gap: Gap, whole: bool) -> Callable[[object], float]:
    span = f"{gap.least:g} to {gap.most:g}" if gap.most < 1e6 else f"{gap.least:.0f} to {gap.most:.0f}"

    def read(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            advice = f"write the number alone, {span}; its unit is in the name"
            raise Wrong(f"{shown(value)} is not a number", advice)
        if whole and not isinstance(value, int):
            raise Wrong(f"{shown(value)} is not a whole number", f"write one from {span}")
        if not gap.least <= value <= gap.most:
            raise Wrong(f"{shown(value)} is outside {span}", f"{gap.id} may be read within that only")
        return value if whole else float(value)

    return read


def _form(gap: Gap, default: str) -> Callable[[object], str]:
    def read(value: object) -> str:
        word = text(value)
        if re.fullmatch(gap.form, word, re.ASCII) is None:
            raise Wrong(f"{quoted(word)} cannot be used here", f"write it like {quoted(default)}")
        if word < gap.least_text:
            raise Wrong(
                f"{quoted(word)} is below {quoted(gap.least_text)}", "what is documented is the least"
            )
        return word

    return read
