"""The state of the whole channel, told on change only.

"ok": requests are answered and every stream is open; "degraded": telemetry or single chargers are missing; "down":
nothing can be commanded; "off": the customer did not consent. Must not do I/O.
"""

from __future__ import annotations

from controller.core.events import ChannelChanged
from drivers.openplatform.settings import CHANNEL

_FAILURES_TO_DOWN = 3  # one lost answer is weather


class Health:
    """Every method returns the event to report, or None when nothing changed."""

    def __init__(self, host: str, region: str, enabled_by: str) -> None:
        self._host, self._region, self._enabled_by = host, region, enabled_by
        self._told: tuple[str, str] | None = None
        self._answered = False
        self._failures = 0
        self._why = ""
        self._streams: dict[tuple[str, ...], str] = {}  # chargers of a socket -> why it is not open
        self._complaints: dict[str, str] = {}

    @property
    def is_down(self) -> bool:
        return not self._answered or self._failures >= _FAILURES_TO_DOWN

    @property
    def failures(self) -> int:
        return self._failures

    def off(self, reason: str) -> ChannelChanged | None:
        return self._tell("off", reason)

    def answered(self, station: str, complaint: str = "") -> ChannelChanged | None:
        """A request was answered; `complaint` is what is wrong with this one station, if anything."""
        self._answered, self._failures = True, 0
        return self.complain(station, complaint)

    def complain(self, subject: str, complaint: str) -> ChannelChanged | None:
        """What is wrong with one part of the channel while the rest works; empty: nothing any more."""
        if complaint:
            self._complaints[subject] = f"{subject}: {complaint}"
        else:
            self._complaints.pop(subject, None)
        return self._look()

    def failed(self, reason: str, certain: bool = False) -> ChannelChanged | None:
        """A request was not answered. `certain`: no use in waiting for a second opinion."""
        self._failures += _FAILURES_TO_DOWN if certain else 1
        self._why = reason
        return self._look()

    def stream(self, ids: tuple[str, ...], reason: str | None) -> ChannelChanged | None:
        """The socket of these chargers is open (None) or not, and why."""
        if reason is None:
            self._streams.pop(ids, None)
        else:
            self._streams[ids] = f"no telemetry stream: {reason}"
        return self._look()

    def no_streams(self) -> None:
        """The sets of chargers are made anew."""
        self._streams.clear()

    def _look(self) -> ChannelChanged | None:
        if self.is_down:
            return self._tell("down", self._why)
        trouble = [*self._streams.values(), *self._complaints.values()]
        if trouble:
            return self._tell("degraded", trouble[0])
        return self._tell("ok", "")

    def _tell(self, state: str, text: str) -> ChannelChanged | None:
        if self._told == (state, text):
            return None
        self._told = (state, text)
        return ChannelChanged(CHANNEL, state, text, self._host, self._region, self._enabled_by)
