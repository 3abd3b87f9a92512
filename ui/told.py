"""What a call of the console last answered, and whether that is still true. Pure but for the one question `ask`.

A screen that shows more than the snapshot keeps one `Told` per call. A refusal or a lost link never takes away what
was known: the old document stays, and the trouble is said beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ui.client import CallRefused, NotReachable, Source

REFUSED = "no permission"  # how the trouble begins with who may not


@dataclass(frozen=True, slots=True)
class Told:
    """`document` is None before the first answer; `trouble` says in one line why there is no newer one."""

    document: Mapping[str, Any] | None = None
    trouble: str | None = None

    @property
    def loading(self) -> bool:
        return self.document is None and self.trouble is None

    def rows(self, name: str) -> list[Mapping[str, Any]]:
        """The list of objects under `name`; empty while unknown, and without what is no object."""
        found = None if self.document is None else self.document.get(name)
        return [each for each in found if isinstance(each, Mapping)] if isinstance(found, list) else []


async def ask(source: Source, before: Told, name: str, args: Mapping[str, object]) -> Told:
    """One call; never raises for what a controller or its absence can do."""
    try:
        return Told(await source.call(name, **args))
    except CallRefused as refused:
        match refused.code:
            case "not-allowed":
                return Told(None, f"{REFUSED}: {refused.text}")
            case "unknown-call":
                return Told(None, f"this controller does not know '{name}': is it of another version?")
            case _:
                return Told(before.document, refused.text)
    except NotReachable as error:
        return Told(before.document, str(error))


def why_words(document: Mapping[str, Any]) -> str:
    """The answer of `why` in one line."""
    text = f"{document.get('evse')} has {_amps(document.get('grant_a'))}, bound by {document.get('bound_by')}"
    if document.get("set_by"):
        text += f", set by {document['set_by']}"
    more = document.get("with_one_more_a")
    if more is None:
        return f"{text}; no ampere more would change that"
    if more != document.get("grant_a"):
        return f"{text}; with one ampere more there {_amps(more)}, then bound by {document.get('next_by')}"
    gains = document.get("gains") or ()
    return f"{text}; one ampere more there would go to {' and '.join(map(str, gains)) or document.get('next_by')}"


def _amps(value: Any) -> str:
    return f"{value:g} A" if isinstance(value, int | float) else "----"
