"""The console's call behind `depot log --frames`: the last messages as they passed the wires, out of all drivers in one order.

Looks only and keeps nothing: each driver keeps its own (`ports.Traced`), bounded and without secrets. For operators all the
same: what a maker's own fields hold, nobody can vouch for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from controller.calls import takes
from controller.channel_calls import Call
from controller.console import Args, Peer, Refusal, _text, _time, _whole
from controller.core.frames import Frame, Trace
from controller.core.wire import instant_text
from controller.runtime import Runtime

PAGE, LAST = 1000, 200
PAGE_CHARS = 400_000  # some milliseconds of the loop, and far below what a client reads
POLLED = "modbus"  # several a second: among all others they would be all there is to see


class FrameCalls:
    """`table` is for `Console`: name -> (whether only operators may, the call)."""

    def __init__(self, runtime: Runtime, traces: Callable[[], Iterable[Trace]]) -> None:
        self._runtime = runtime
        self._traces = traces
        self.table: Mapping[str, tuple[bool, Call]] = {"frames": (True, self._frames)}

    @takes("since until last about")
    async def _frames(self, args: Args, peer: Peer) -> Any:
        """`frames`, oldest first: the last ones until `until`, or all kept from `since` on; of one station, EVSE, meter,
        client or channel, where `about` names it, else all but Modbus. `more`: there are older ones (with `since`: newer)."""
        since, until = _time(args, "since"), _time(args, "until")
        most = _whole(args, "last", most=PAGE) or (PAGE if since else LAST)
        found = [
            (frame, trace)
            for trace in self._of(_text(args, "about"))
            for frame in trace.frames
            if (since is None or frame.at >= since) and (until is None or frame.at <= until)
        ]
        found.sort(key=lambda each: each[0].at)
        page = found[:most] if since is not None else found[-most:]
        lines, left = [], PAGE_CHARS
        for frame, trace in page if since is not None else reversed(page):
            left -= len(frame.text)
            if left < 0:
                break
            lines.append(_line(frame, trace))
        if since is None:
            lines.reverse()
        return {"frames": lines, "more": len(lines) < len(found)}

    def _of(self, about: str | None) -> list[Trace]:
        traces = list(self._traces())
        if about is None:
            return [trace for trace in traces if trace.channel != POLLED]
        known = self._runtime.depot.site.evses
        names = {about, f"meter {about}", *(evse.station for id, evse in known.items() if id == about)}
        found = [trace for trace in traces if trace.about in names or trace.channel == about]
        site_has = any(about in (evse.id, evse.station) for evse in known.values())
        if not found and not site_has:
            has = ", ".join(dict.fromkeys(trace.about for trace in traces if trace.about)) or "none"
            raise Refusal("unknown", f"no frames of {about!r}; there are some of: {has}")
        return found


def _line(frame: Frame, trace: Trace) -> dict[str, Any]:
    return {
        "time": instant_text(frame.at),
        "channel": trace.channel,
        "about": trace.about or None,
        "sent": frame.sent,
        "text": frame.text,
    }
