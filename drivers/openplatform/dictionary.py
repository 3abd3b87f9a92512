"""The fault dictionary and the runbooks of the Open Platform, as values. Pure: reads only this package's own files.

Owns what a fault code means and what to do about it; `faults.json` and `runbooks.toml` are the data (sources are named
in them). The dictionary is not complete: a code that is not in it is an error until it is known.
Source: Open Platform REFERENCE sections 18 and 19.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

UNKNOWN_SEVERITY = "Error"
STUCK = "stuck-in-preparing"
HEARTBEAT_LOST = "F-0301"


@dataclass(frozen=True, slots=True)
class Fault:
    """One entry. `causes` and `actions` with the likeliest and the first to do in front; `runbooks` by id."""

    code: str
    title: str
    severity: str
    category: str
    summary: str
    effect: str
    causes: tuple[str, ...]
    actions: tuple[str, ...]
    firmware: tuple[str, ...]  # builds that are known to cause it, and what mends that
    related: tuple[str, ...]
    runbooks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Step:
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Runbook:
    id: str
    title: str
    models: str
    steps: tuple[Step, ...]


@cache
def faults() -> Mapping[str, Fault]:
    """Every entry by its code, like "F-0421"."""
    document = json.loads(_data("faults.json"))
    return {entry["code"]: _fault(entry) for entry in document["faults"]}


@cache
def runbooks() -> Mapping[str, Runbook]:
    """Every runbook by the id that entries name."""
    document = tomllib.loads(_data("runbooks.toml"))
    return {
        name: Runbook(name, book["title"], book["models"], tuple(Step(**step) for step in book["step"]))
        for name, book in document.items()
    }


def runbooks_of(fault: Fault) -> tuple[Runbook, ...]:
    return tuple(runbooks()[name] for name in fault.runbooks)


def _fault(entry: Mapping[str, Any]) -> Fault:
    return Fault(
        code=entry["code"],
        title=entry["title"],
        severity=entry["severity"],
        category=entry["category"],
        summary=entry["summary"],
        effect=entry["effect"],
        causes=tuple(entry["causes"]),
        actions=tuple(entry["actions"]),
        firmware=tuple(
            f"{issue['affected']}: {issue['kind']}; fixed in {', '.join(issue['fixed_in'])}"
            for issue in entry["firmware"]["known_issues"]
        ),
        related=tuple(entry["related"]),
        runbooks=tuple(entry.get("runbooks", ())),
    )


def _data(name: str) -> str:
    return files("drivers.openplatform").joinpath(name).read_text(encoding="utf-8")
