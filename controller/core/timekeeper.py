"""Which time of day is to be believed, from what the wall clock shows, how time really passed, and what the kernel says.

Owns the judgement only; who reads the clocks is `controller.clock`. While the wall clock is in doubt our own time goes on by
the monotonic clock from where it was last believed: it never follows a jump before the jump has proved itself, so that
everybody sees one step, at a known moment, or none.

Believed at once: a clock that a time service keeps right (the kernel says so). Else: one that survived the power cut, or was
right in this same run of the machine. In doubt: a clock before the time at which it was last right; one that was set while
we watched, until it has stood still for SETTLE_S or a time service agrees; one that is set again and again; and, without a
battery-backed clock, any until a time service has answered. Source: DESIGN section 7, field notes 5.1 row 49.
"""

from __future__ import annotations

from collections import deque
from datetime import UTC, datetime, timedelta

# Nothing we plan is older than this software.
EARLIEST = datetime(2026, 1, 1, tzinfo=UTC)
JUMP_S = 2.0  # no slewing and no pause between two readings makes this
SETTLE_S = 300.0
RESTLESS, RESTLESS_S = (
    3,
    3600.0,
)  # set so often within that time, it is believed only that long after the last
NO_SERVICE = (
    "no time service has answered since the start, and this box has no clock that survives a power cut"
)
UNKEPT = "nothing keeps the clock right: no time service answers"


class Timekeeper:
    """`look` with every reading; `doubt` and `advice` are "" while there is nothing to say."""

    def __init__(self, last_right: datetime | None = None, survives: bool = True) -> None:
        """last_right: when a run before this one believed its clock last. survives: it does not start anew with the box."""
        self._floor: datetime | None = max(last_right or EARLIEST, EARLIEST)
        self._survives = survives
        self._seen: tuple[float, datetime] | None = None
        self._held: tuple[float, datetime] | None = None  # our own time goes on from here
        self._set_s: deque[float] = deque(maxlen=RESTLESS)
        self._why = ""
        self.doubt = ""
        self.advice = ""
        self.steps = 0  # how often our own time was set since the start
        self.step_s = 0.0  # by how much the last time
        self.steps_s = 0.0  # and all of them together

    def look(self, mono_s: float, wall: datetime, kept: bool | None) -> datetime:
        """Our own time now. kept: whether a time service keeps the wall clock right; None = the kernel does not say."""
        self._watch(mono_s, wall)
        self._survives = self._survives or bool(kept)
        wrong = self._wrong(wall, kept)
        if self._held is None and wrong:
            self._held = (mono_s, self._floor or EARLIEST)
        if self._held is not None and not wrong:
            self._settle(mono_s, wall, kept)
        self.doubt = "" if self._survives or kept is None else NO_SERVICE
        if self._held is not None:
            self.doubt = wrong or self._restless(mono_s) or self._why or self.doubt
        self.advice = UNKEPT if kept is False else ""
        return wall if self._held is None else self._ours(mono_s)

    def _ours(self, mono_s: float) -> datetime:
        assert self._held is not None
        since_s, at = self._held
        return at + timedelta(seconds=mono_s - since_s)

    def _watch(self, mono_s: float, wall: datetime) -> None:
        seen, self._seen = self._seen, (mono_s, wall)
        if seen is None:
            return
        expected = seen[1] + timedelta(seconds=mono_s - seen[0])
        by_s = (wall - expected).total_seconds()
        if abs(by_s) <= JUMP_S:
            return
        if self._held is None:
            self._held = (mono_s, expected)
        self._set_s.append(mono_s)
        self._floor = None  # somebody set it: what was right before this start proves nothing any more
        self._why = f"the clock was set {'forward' if by_s > 0 else 'back'} by {_span(abs(by_s))}"

    def _wrong(self, wall: datetime, kept: bool | None) -> str:
        if wall < EARLIEST:
            return f"the clock says {wall:%Y-%m-%d %H:%M}, which cannot be"
        if self._floor is not None and (self._floor - wall).total_seconds() > JUMP_S and not kept:
            return (
                f"the clock says {wall:%Y-%m-%d %H:%M}, but was right at {self._floor:%Y-%m-%d %H:%M} already"
            )
        return ""

    def _restless(self, mono_s: float) -> str:
        if len(self._set_s) < RESTLESS or mono_s - self._set_s[0] > RESTLESS_S:
            return ""
        return f"the clock was set {RESTLESS} times within {_span(mono_s - self._set_s[0])}: do two time services fight?"

    def _settle(self, mono_s: float, wall: datetime, kept: bool | None) -> None:
        """Ends the doubt where the wall clock has proved itself."""
        by_s = (wall - self._ours(mono_s)).total_seconds()
        back = abs(by_s) <= JUMP_S  # where it was, as if nothing had been
        stood_s = mono_s - self._set_s[-1] if self._set_s else 0.0
        if self._restless(mono_s) and stood_s < SETTLE_S:
            return
        if not (back or kept or stood_s >= SETTLE_S):
            return
        self._held = None
        self._survives = self._survives or not back
        if not back:
            self.steps, self.step_s, self.steps_s = self.steps + 1, by_s, self.steps_s + by_s


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 172_800 else f"{seconds / 86_400:.0f} days"
