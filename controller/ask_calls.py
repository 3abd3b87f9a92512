"""The console's call that has a station asked something: restart, unlock, variables, reports, logs and the like.

Owns that only operators ask, and that every question is audited with its outcome, also one that never left the box.
Must not know what can be asked, nor any protocol: that is behind `Asker`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Protocol

from controller.calls import takes
from controller.channel_calls import Call
from controller.console import Args, Peer, Refusal, _text
from controller.core.events import StationAsked
from controller.core.model import EvseId, StationId, number_of
from controller.core.view import mask
from controller.runtime import Runtime
from drivers.errors import DriverError, Misconfigured, Unreachable

_LONGEST = 200  # of a question in the audit
_URL_SECRET = re.compile(r"://[^/@\s]*@")
_UNTOLD = frozenset({"payload"})  # may hold anything


class Asker(Protocol):
    async def ask(
        self, station: StationId, evses: Mapping[int, EvseId], question: str, args: Mapping[str, object]
    ) -> dict[str, Any]:
        """The answer as a document with `said` and `done`. Raises DriverError."""


class AskCalls:
    """`table` is for `Console`: name -> (whether only operators may, the call)."""

    def __init__(self, runtime: Runtime, asker: Asker | None) -> None:
        self._runtime = runtime
        self._asker = asker
        self.table: Mapping[str, tuple[bool, Call]] = {"station-ask": (True, self._ask)}

    @takes("station question args")
    async def _ask(self, args: Args, peer: Peer) -> Any:
        name, question = StationId(_text(args, "station") or ""), _text(args, "question") or ""
        evses = {
            number_of(evse.id): evse.id
            for evse in self._runtime.depot.site.evses.values()
            if evse.station == name
        }
        if not evses:
            raise Refusal("unknown-station", f"no station {name!r}; `depot firmware status` lists them")
        if self._asker is None:
            raise Refusal("refused", "there is no [ocpp] in the config")
        details = args.get("args")
        if not isinstance(details, dict):
            raise Refusal("bad-request", "args must be an object")
        outcome = "broken off"
        try:
            answer = await self._asker.ask(name, evses, question, details)
            outcome = str(answer["said"])
        except DriverError as error:
            outcome = f"{error.kind}: {error}"
            code = {Misconfigured: "bad-request", Unreachable: "unreachable"}.get(type(error), "refused")
            raise Refusal(code, f"{name}: {error}") from None
        finally:
            action = _told(question, details)
            await self._runtime.report(StationAsked(peer.name, name, action, outcome[:_LONGEST]))
        return answer


def _told(question: str, details: Mapping[str, Any]) -> str:
    """The question in one line, without id tokens and passwords in addresses."""
    words = [question[:40]]
    for key, value in details.items():
        if value is None or value is False or key in _UNTOLD:
            continue
        shown = mask(value) if key == "token" and isinstance(value, str) else value
        words.append(key if value is True else f"{key}={shown}")
    return _URL_SECRET.sub("://***@", " ".join(words))[:_LONGEST]
