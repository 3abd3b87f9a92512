"""The last requests, answers and stream messages of either surface, kept for people, by the charger or client they are about.

Owns what may be shown of them: secrets, tokens, cards and VINs are masked by the names they go by, wherever they stand
(G-25), and headers are not kept at all. Bounded by who is configured: strangers share one place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from controller.core.frames import KEPT_TEXT, Frame, Frames, Trace
from controller.ports import Clock
from drivers.openplatform.answers import ABOUT, BODY

_OPENS = ("secret", "token", "password", "signature", "authorization", "idtag", "id_tag", "card", "rfid")
_PERSONAL = ("vin", "driver")
_NAMES = rf"\w{{0,30}}(?:{'|'.join(_OPENS)})\w{{0,20}}|vin|driver\w{{0,20}}"
# strings match possessively and may be cut off, so that the scan stays linear whatever comes
_VALUE = re.compile(rf'("(?:{_NAMES})"\s*:\s*")((?:[^"\\]|\\.)*+)', re.IGNORECASE)
_QUERY = re.compile(rf"([?&](?:{_NAMES})=)[^&\s]*+", re.IGNORECASE)


class Traces:
    """`names`: what stands in a message for whom it is about, like the device id of a station."""

    def __init__(self, clock: Clock, names: Mapping[str, str]) -> None:
        self._clock = clock
        self._names = names
        self._kept = {about: Frames() for about in ("", *names.values())}

    def about(self, text: str) -> str:
        """Whom a message names; empty for nobody or somebody else."""
        return next((about for name, about in self._names.items() if name in text[:KEPT_TEXT]), "")

    def note(self, about: str, sent: bool, text: str) -> None:
        kept = self._kept.get(about)
        (self._kept[""] if kept is None else kept).append(Frame(self._clock.now().utc, sent, redacted(text)))

    def told(self, channel: str) -> list[Trace]:
        return [Trace(channel, about, frames) for about, frames in self._kept.items()]

    def middleware(self) -> Middleware:
        """Notes every exchange of a host once it is over, whatever came of it."""

        @web.middleware
        async def note(request: web.Request, handler: Handler) -> web.StreamResponse:
            answer = await handler(request)
            about = request.get(ABOUT, "")
            self.note(about, False, f"{request.method} {request.path_qs} {_text(request.get(BODY))}".rstrip())
            body = answer.body if isinstance(answer, web.Response) else None
            self.note(about, True, f"{answer.status} {_text(body)}".rstrip())
            return answer

        return note


def redacted(text: str) -> str:
    """Cut to what is kept, without what opens doors or names people."""
    kept = text[:KEPT_TEXT]
    folded = kept.casefold()  # to look for a word costs little, to look for what stands behind it much more
    if not any(word in folded for word in (*_OPENS, *_PERSONAL)):
        return kept
    return _QUERY.sub(r"\1***", _VALUE.sub(r"\1***", kept))


def _text(body: object) -> str:
    return body[:KEPT_TEXT].decode(errors="replace") if isinstance(body, bytes | bytearray) else ""
