"""The quarter-hour peak: what the chargers may take for the rest of this clock quarter so that its mean stays in.

Owns the energy of the quarter so far and the month's highest quarter. Decides nothing: `rooms_w` is one source of
`bounds`. Pure: readings in, watts out.

Grid operators bill the highest mean over the fixed quarters of the clock (in every zone they begin at :00, :15, :30 and
:45 of UTC as well, so daylight saving changes nothing). Energy so far is the integral of the import at the site's meter;
its register bridges the gaps in which it was silent, and where that is no help the gap counts at all the fuse lets
through. Whatever the register shows above the integral counts too. Back-feed counts as it is metered: as no import.

What the quarter has left is spread over the time it has left, so what early minutes did not use is spent later. Three
things keep the end from breaking it. The load that is not ours may rise to its worst just after we have looked, and
chargers need `react_s` to come down: even then the rest of the quarter must fit. Raises use a slower background and
keep a margin, so a ripple undoes nothing. And nothing rises any more in the last seconds beyond what the next quarter
allows.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple
from zoneinfo import ZoneInfo

from controller.core.commands import PeakSaved
from controller.core.events import MeterReading, PeakRestored
from controller.core.model import SITE, Circuit, MeterId, Moment, Site
from controller.core.snapshot import PeakView

QUARTER_S = 900.0
KEPT_S = QUARTER_S + 60.0
LOG_STEP_S = 1.0
STILL_WH = 1000  # a register that did not move for so much energy counts nothing
CLOCK_STEP_S = 0.5  # a wall clock that moved by more makes another window
AIM_PCT = 99.5  # what one sample a second cannot see, and our own seconds
RAISE_PCT = 97
RISE_PCT = 25  # how much a load may rise at once where nobody told its worst
FOLLOW_S = 6.0  # beside the settling time of the links: our own step, and the meter's


class _Mark(NamedTuple):
    """Running totals at one instant: energy that was seen, energy that gaps may have hidden, and the register."""

    at_s: float
    seen_ws: float
    doubt_ws: float
    register_wh: int | None


@dataclass(slots=True)
class _Window:
    """One quarter: its start on both clocks, and what the totals were then. `settled`: by readings on both sides."""

    start: datetime
    start_s: float
    base: _Mark
    settled: bool


class Peak:
    """The site's quarter hours. `worst_w`: what the fuse lets through; `load_w`: the worst that is not ours, if told."""

    def __init__(self, site: Site, meter: MeterId, target_w: int, follows_month: bool) -> None:
        root = site.circuits[SITE]
        self.meter = meter
        self.load_w = None if root.assumed_load_ma is None else _sum_w(root.assumed_load_ma, site.voltage_mv)
        self.worst_w = _worst_w(site, root, self.load_w)
        self.react_s = FOLLOW_S + max((evse.link.settle_s for evse in site.evses.values()), default=0.0)
        self._target_w, self._follows_month = target_w, follows_month
        self._timezone = site.timezone
        self._voltage_mv = site.voltage_mv
        self._gap_s = site.meters[meter].stale_after_s
        self._log: deque[_Mark] = deque()
        self._still_ws = 0.0  # energy since the register last moved
        self._last: _Mark | None = None
        self._last_w = 0
        self._window: _Window | None = None
        self._restored: PeakRestored | None = None
        self._month, self._month_w = "", 0

    @classmethod
    def of(cls, site: Site) -> Peak | None:
        meter = site.circuits[SITE].meter
        if site.peak_w is None or meter is None:
            return None
        return cls(site, meter, site.peak_w, site.peak_follows_month)

    @property
    def target_w(self) -> int:
        return max(self._target_w, self._month_w) if self._follows_month else self._target_w

    # --- facts --------------------------------------------------------------------------------------------------

    def fold(self, fact: MeterReading) -> None:
        power_w = fact.power_w if fact.power_w is not None else _apparent_w(fact, self._voltage_mv)
        last = self._last
        if power_w is None or (last is not None and fact.taken_s <= last.at_s):
            return
        seen_ws, doubt_ws, register_wh = 0.0, 0.0, fact.import_wh
        if last is not None:
            seen_ws, doubt_ws = last.seen_ws, last.doubt_ws
            past_s = fact.taken_s - last.at_s
            register_ws = _difference_ws(last.register_wh, fact.import_wh, self.worst_w * past_s)
            if past_s <= self._gap_s:
                imported_ws = (max(0, self._last_w) + max(0, power_w)) / 2 * past_s
                seen_ws += imported_ws
                self._still_ws = 0.0 if register_ws else self._still_ws + imported_ws
            elif register_ws is not None:
                seen_ws += register_ws
            else:
                doubt_ws += self.worst_w * past_s
            if self._still_ws > STILL_WH * 3600.0:
                register_wh = None
        self._last, self._last_w = _Mark(fact.taken_s, seen_ws, doubt_ws, register_wh), power_w
        if not self._log or fact.taken_s - self._log[-1].at_s >= LOG_STEP_S:
            self._log.append(self._last)
            while len(self._log) > 1 and self._log[1].at_s < fact.taken_s - KEPT_S:
                self._log.popleft()

    def restore(self, fact: PeakRestored) -> None:
        self._restored, self._month, self._month_w = fact, fact.month, fact.highest_w

    def tick(self, now: Moment) -> list[PeakSaved]:
        """Find the quarter we are in. Returns what a restart must know of a new one."""
        if not now.utc_trusted:
            self._window = None
            return []
        utc_s = now.utc.timestamp()
        since_s = utc_s % QUARTER_S
        start_s = now.mono_s - since_s
        known = self._window
        if known is not None and abs(known.start_s - start_s) <= CLOCK_STEP_S:
            if not known.settled and self._seen_since(known.start_s):
                known.base, known.settled = self._base(known.start, known.start_s), True
            return []
        self._window = None
        if self._last is None:
            return []
        start = datetime.fromtimestamp(round(utc_s - since_s), UTC)
        base = self._base(start, start_s)
        self._window = _Window(start, start_s, base, self._seen_since(start_s))
        if known is not None and abs(start_s - known.start_s - QUARTER_S) <= CLOCK_STEP_S:
            self._close(known, base)
        if known is None and self._restored is not None and self._restored.window == start:
            return []
        return [PeakSaved(*self._remembered(start), start, base.register_wh)]

    def _seen_since(self, start_s: float) -> bool:
        return self._last is not None and self._last.at_s >= start_s

    # --- what is left -------------------------------------------------------------------------------------------

    def rooms_w(self, fast_w: int, slow_w: int, now: Moment) -> tuple[int, int]:
        """What the chargers may take: as long as they keep it, and to rise to. `fast_w`, `slow_w`: the load that is not
        ours, as assumed for lowering and for raising."""
        window = self._window
        if (
            window is None
        ):  # nobody knows where the quarter began: no moment above the target, no quarter above it
            return max(0, self.target_w - fast_w), max(0, self.target_w - slow_w) * RAISE_PCT // 100
        left_ws = self.target_w * QUARTER_S * AIM_PCT / 100 - self._used_ws(window, now.mono_s)
        left_s = max(1.0, window.start_s + QUARTER_S - now.mono_s)
        lower_w = self._room_w(left_ws, left_s, fast_w)
        raise_w = self._room_w(left_ws, left_s, slow_w) * RAISE_PCT // 100
        if left_s <= self.react_s:
            raise_w = min(raise_w, max(0, self.target_w - slow_w))
        return lower_w, min(lower_w, raise_w)

    def pace_w(self, now: Moment) -> int | None:
        """The import at which the rest of the quarter would use up what is left of it."""
        window = self._window
        if window is None:
            return None
        left_ws = self.target_w * QUARTER_S * AIM_PCT / 100 - self._used_ws(window, now.mono_s)
        return int(left_ws / max(1.0, window.start_s + QUARTER_S - now.mono_s))

    def _room_w(self, left_ws: float, left_s: float, load_w: int) -> int:
        share_w = left_ws / left_s - load_w
        if self.load_w is None:
            risen_w = load_w + abs(load_w) * RISE_PCT / 100
        elif self.load_w <= self.target_w:
            risen_w = max(load_w, self.load_w)
        else:  # the building alone can break the peak: half of the share is the reserve
            risen_w = max(load_w, min(self.load_w, load_w + max(0.0, share_w) / 2))
        robust_w = (left_ws - left_s * risen_w) / min(left_s, self.react_s)
        return max(0, int(min(share_w, robust_w)))

    def view(self, now: Moment) -> PeakView:
        window = self._window
        if window is None:
            return PeakView(self.target_w, None, None, None, self._month_w or None)
        used_ws = self._used_ws(window, now.mono_s)
        past_s = max(1.0, now.mono_s - window.start_s)
        return PeakView(
            self.target_w,
            round(used_ws / 3600),
            window.start,
            round(used_ws / past_s),
            self._month_w or None,
        )

    # --- energy -------------------------------------------------------------------------------------------------

    def _used_ws(self, window: _Window, now_s: float) -> float:
        last = self._last
        assert last is not None, "there is no window before the first reading"
        age_s = max(0.0, now_s - max(last.at_s, window.start_s))
        tail_w = max(0, self._last_w) if age_s <= self._gap_s else self.worst_w
        seen_ws = last.seen_ws - window.base.seen_ws
        doubt_ws = last.doubt_ws - window.base.doubt_ws
        register_ws = _difference_ws(window.base.register_wh, last.register_wh, self.worst_w * QUARTER_S)
        spent_ws = seen_ws + doubt_ws if register_ws is None else max(seen_ws, register_ws)
        return spent_ws + tail_w * age_s

    def _base(self, start: datetime, start_s: float) -> _Mark:
        """The totals at the start of a quarter. What is not known of it counts at the worst."""
        before: _Mark | None = None
        after: _Mark | None = None
        for mark in reversed(self._log):
            if mark.at_s <= start_s:
                before = mark
                break
            after = mark
        if before is not None:
            return self._between(before, after or self._last or before, start_s)
        assert after is not None, "there is no window before the first reading"
        known = self._restored
        if known is not None and known.window == start:
            most_ws = self.worst_w * (after.at_s - start_s)
            spent_ws = _difference_ws(known.register_wh, after.register_wh, most_ws)
            if spent_ws is not None:
                return _Mark(start_s, after.seen_ws - spent_ws, after.doubt_ws, known.register_wh)
        unseen_s = after.at_s - start_s
        if unseen_s <= self._gap_s:
            return _Mark(start_s, after.seen_ws - max(0, self._last_w) * unseen_s, 0.0, after.register_wh)
        unseen_ws = self.worst_w * unseen_s
        return _Mark(start_s, after.seen_ws, after.doubt_ws - unseen_ws, None)

    def _between(self, before: _Mark, after: _Mark, at_s: float) -> _Mark:
        """The totals at an instant between two marks. Of a gap as much as can be lies behind it."""
        apart_s, rest_s = after.at_s - before.at_s, after.at_s - at_s
        if apart_s <= 0 or rest_s <= 0:
            return before
        if apart_s <= self._gap_s:
            seen_ws = (after.seen_ws - before.seen_ws) * rest_s / apart_s
            doubt_ws = (after.doubt_ws - before.doubt_ws) * rest_s / apart_s
        else:
            seen_ws = min(after.seen_ws - before.seen_ws, self.worst_w * rest_s)
            doubt_ws = min(after.doubt_ws - before.doubt_ws, self.worst_w * rest_s)
        register_wh = before.register_wh if at_s - before.at_s <= self._gap_s else None
        return _Mark(at_s, after.seen_ws - seen_ws, after.doubt_ws - doubt_ws, register_wh)

    def _close(self, window: _Window, end: _Mark) -> None:
        """A quarter is over. What nobody saw of it counts in no month."""
        seen_ws = end.seen_ws - window.base.seen_ws
        register_ws = _difference_ws(
            window.base.register_wh, end.register_wh, self.worst_w * (QUARTER_S + self._gap_s)
        )
        mean_w = round(max(seen_ws, register_ws or 0.0) / QUARTER_S)
        month, highest_w = self._remembered(window.start)
        self._month, self._month_w = month, max(highest_w, mean_w)

    def _remembered(self, start: datetime) -> tuple[str, int]:
        """The month of this quarter on the site's calendar, and its highest one so far; a new month begins at 0."""
        month = f"{start.astimezone(ZoneInfo(self._timezone)):%Y-%m}"
        if month != self._month:
            self._month, self._month_w = month, 0
        return self._month, self._month_w


def _difference_ws(before_wh: int | None, after_wh: int | None, most_ws: float) -> float | None:
    """What a register counted meanwhile; None where it jumped, ran backwards or is not there."""
    if before_wh is None or after_wh is None or not 0 <= after_wh - before_wh <= most_ws * 1.1 / 3600 + 100:
        return None
    return (after_wh - before_wh) * 3600.0


def _apparent_w(fact: MeterReading, voltage_mv: int) -> int | None:
    """Without a power: the currents at their voltages."""
    total = 0
    for current, voltage in zip(fact.current_ma, fact.voltage_mv, strict=True):
        if current is None:
            return None
        total += current * (voltage or voltage_mv)
    return -(-total // 1_000_000)


def _sum_w(currents_ma: tuple[int, ...], voltage_mv: int) -> int:
    return -(-sum(currents_ma) * voltage_mv // 1_000_000)


def _worst_w(site: Site, root: Circuit, load_w: int | None) -> int:
    """No more can flow than the fuse lets through, or than there is."""
    fuse_w = _sum_w(root.limit_ma, site.voltage_mv)
    if load_w is None:
        return fuse_w
    ours_w = sum(_sum_w((evse.max_ma,) * len(evse.phases), site.voltage_mv) for evse in site.evses.values())
    return min(fuse_w, load_w + ours_w)
