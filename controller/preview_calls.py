"""The console's call about what an order would bring, before anybody gives it.

Owns how the order is asked about: `order` names it, the rest are the arguments it would be given with. Looks only, so a
viewer may ask.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from controller.calls import takes
from controller.channel_calls import Call
from controller.console import Args, Peer, Refusal, _text, _whole, departure_of, evse_of
from controller.core.events import (
    DepartureSet,
    LimitWished,
    PauseWished,
    ResumeWished,
    StartWished,
    StopWished,
)
from controller.core.preview import Consequence, Previewed
from controller.core.proof import Proof
from controller.core.units import amps
from controller.core.wire import instant_text
from controller.runtime import Runtime

ORDERS = ("start", "stop", "pause", "resume", "limit", "depart")


class PreviewCalls:
    """`table` is for `Console`: name -> (whether only operators may, the call)."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._newest: Proof | None = None
        runtime.witnesses.append(self._see)
        self.table: Mapping[str, tuple[bool, Call]] = {"preview": (False, self._preview)}

    def _see(self, proof: Proof) -> None:
        self._newest = proof

    @takes("order evse token limit_ma energy_wh soc duration_s target at")
    async def _preview(self, args: Args, peer: Peer) -> Any:
        name = args.get("order")
        if name not in ORDERS:
            raise Refusal("bad-request", f"order must be one of {', '.join(ORDERS)}")
        order = _order(self._runtime, str(name), args, peer)
        if self._newest is None:
            raise Refusal("failed", "nothing has been decided yet; ask again in a second")
        found = self._runtime.depot.preview(self._newest, order, self._runtime.clock.now())
        return {"order": name, **_document(found)}


def _order(runtime: Runtime, name: str, args: Args, peer: Peer) -> Previewed | DepartureSet:
    if name == "depart":
        return DepartureSet(peer.name, departure_of(runtime, args))
    evse = evse_of(runtime, args)
    match name:
        case "start":
            return StartWished("", peer.name, evse, _text(args, "token"), _whole(args, "limit_ma"))
        case "stop":
            return StopWished("", peer.name, evse)
        case "pause":
            return PauseWished("", peer.name, evse)
        case "resume":
            return ResumeWished("", peer.name, evse)
    if "limit_ma" not in args:
        raise Refusal("bad-request", "limit_ma is missing (null lifts the limit)")
    return LimitWished("", peer.name, evse, _whole(args, "limit_ma"))


def _document(found: Consequence) -> dict[str, Any]:
    return {
        "subject": found.subject,
        "text": list(found.lines),
        "refused": found.refused,
        "now_a": amps(found.now_ma),
        "then_a": amps(found.then_ma),
        "others": [{"circuit": circuit, "more_a": ma / 1e3} for circuit, ma in found.others],
        "departs": None if found.departs is None else instant_text(found.departs),
        "less_wh": found.less_wh,
        "short_wh": found.short_wh,
    }
