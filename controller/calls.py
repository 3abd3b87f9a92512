"""Which arguments a call of the control socket takes: declared at the call itself, and refused beyond that.

Owns that a mistyped argument is an error, as an unknown key of the config is: an order given without the limit its writer
meant is a different order. Knows no call; what an argument may hold is each call's own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

TOLD, LONGEST = 3, 40  # unknown names that are repeated, and characters of each
_DECLARED = "takes"

C = TypeVar("C", bound=Callable[..., Any])


class Refusal(Exception):
    """A call that is answered with an error. `code` is for programs, the text one line for people."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


def takes(names: str = "") -> Callable[[C], C]:
    """Declares the arguments of a call, separated by spaces. Every call has it; tests find one that has not."""

    def declare(call: C) -> C:
        setattr(call, _DECLARED, tuple(names.split()))
        return call

    return declare


def refuse_untaken(name: str, call: Callable[..., Any], given: Iterable[str]) -> None:
    """Raises Refusal for an argument that the call does not take. A call that declares nothing takes nothing."""
    known: tuple[str, ...] = getattr(call, _DECLARED, ())
    unknown = [json.dumps(each[:LONGEST]) for each in given if each not in known]
    if unknown:
        text = f"{name} takes no {', '.join(unknown[:TOLD])}; it takes {', '.join(known) or 'no arguments'}"
        raise Refusal("bad-request", text)
