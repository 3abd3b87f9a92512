"""The gaps of the Open Platform's documentation as a table: what is assumed, by which setting, or why there is none.

Owns the reading of `gaps.toml`. Pure: reads only this package's own file. Source: Open Platform GAPS.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class Assumption:
    """`settings` are fields of `Readings`, `keys` other keys of the config. `fixed` and `not_offered`: why there is no
    setting for the whole of it or a part; empty where there is."""

    id: str
    title: str
    reading: str
    settings: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    fixed: str = ""
    not_offered: str = ""


@cache
def assumptions() -> Mapping[str, Assumption]:
    """Every gap by its id, like "G-07", in their order."""
    text = files("drivers.openplatform").joinpath("gaps.toml").read_text(encoding="utf-8")
    return {id: _assumption(id, entry) for id, entry in tomllib.loads(text).items()}


def _assumption(id: str, entry: Mapping[str, str | list[str]]) -> Assumption:
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in entry.items()}
    return Assumption(id, **values)  # type: ignore[arg-type]  # what TOML holds is proven by tests/house
