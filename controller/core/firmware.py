"""Firmware versions in the two notations that stations use, and what can be said of their order.

Owns the order of versions: date-coded builds (260420.0107) compare as two numbers, releases (3.1.0) as three, and no
rule orders one notation against the other. Which build is good enough for what is not judged here.
Source: Open Platform REFERENCE section 14, GAPS G-23.
"""

from __future__ import annotations

import re

BUILD, RELEASE, OTHER = "build", "release", "other"

_NUMBERS = {
    BUILD: re.compile(r"([0-9]{6})\.([0-9]{4})", re.ASCII),
    RELEASE: re.compile(r"([0-9]{1,4})\.([0-9]{1,4})\.([0-9]{1,4})", re.ASCII),
}


def notation(version: str) -> str:
    """BUILD, RELEASE or OTHER."""
    return next((name for name, form in _NUMBERS.items() if form.fullmatch(version)), OTHER)


def is_same(one: str, other: str) -> bool:
    return one == other or is_older(one, other) is is_older(other, one) is False


def is_older(one: str, other: str) -> bool | None:
    """Whether `one` comes before `other`; None where no rule says so."""
    kind = notation(one)
    if kind == OTHER or notation(other) != kind:
        return None
    return _numbers(kind, one) < _numbers(kind, other)


def _numbers(kind: str, version: str) -> tuple[int, ...]:
    match = _NUMBERS[kind].fullmatch(version)
    assert match is not None, "its notation was asked before"
    return tuple(int(group) for group in match.groups())
