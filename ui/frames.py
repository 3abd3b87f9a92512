"""Messages on the wires as lines of a list, and whole below it. Pure; the document is the console's answer to `frames`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, tzinfo
from typing import Any

from ui import format as fmt
from ui.lines import Line, line
from ui.picture import NORMAL

HEAD = "    TIME         ABOUT          MESSAGE"
ODD = 3
ERRORS = ("[4", "[5")  # how OCPP-J begins an error


def key(each: Mapping[str, Any]) -> str:
    return f"{each['time']} {each['sent']} {each['about']} {len(each['text'])}"


def rank(each: Mapping[str, Any]) -> int:
    """Answers that say no are worth a look."""
    text = str(each["text"])
    refused = text[:3].isdigit() and text[:3] >= "400" and str(each["channel"]).startswith("open-platform")
    return ODD if refused or text.lstrip().startswith(ERRORS) else NORMAL


def summary(each: Mapping[str, Any], place: tzinfo) -> str:
    at = datetime.fromisoformat(str(each["time"])).astimezone(place)
    arrow = "->" if each["sent"] else "<-"
    about = fmt.fit(str(each["about"] or "?"), 14)
    return f"{at:%H:%M:%S}.{at.microsecond // 100_000} {arrow} {about} {each['text']}"


def whole(each: Mapping[str, Any], place: tzinfo) -> str:
    """For the clipboard."""
    at = datetime.fromisoformat(str(each["time"])).astimezone(place)
    way = "to" if each["sent"] else "from"
    return f"{at:%Y-%m-%d %H:%M:%S.%f} {way} {each['about'] or '?'} ({each['channel']}): {each['text']}"


def pieces(each: Mapping[str, Any], width: int, place: tzinfo) -> list[Line]:
    """All of it: a message has few blanks to be wrapped at."""
    text, room = whole(each, place), max(1, width - 2)
    return [line(f" {text[at : at + room]}") for at in range(0, len(text), room)]


def nearest(rows: list[Mapping[str, Any]], at: datetime) -> str | None:
    """The key of the message closest to a time."""
    found = min(
        rows,
        key=lambda each: abs((datetime.fromisoformat(str(each["time"])) - at).total_seconds()),
        default=None,
    )
    return None if found is None else key(found)
