"""The judge's own books: what each station may still follow, from what was sent to it and what became of that.

Standard library only and no code of ours, like controller.checker, whose second pair of eyes this is. Knows less than
the controller's books (no overdraw, no fallback), and never claims more than it can be sure of.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

LATE_S = 0.01  # times are written in milliseconds


@dataclass(slots=True)
class _Limit:
    limit_ma: int
    until_s: float
    sent_s: float
    on_all: bool


@dataclass(slots=True)
class Books:
    _alive: dict[str, dict[str, _Limit]] = field(default_factory=dict)  # EVSE -> command
    _owner: dict[str, str] = field(default_factory=dict)

    def restarted(self, shift_s: float, clock_trusted: bool) -> None:
        """Another process. If the machine started anew too, so did its clock: `shift_s` is by how much."""
        if not clock_trusted:
            self._alive.clear()
        for limits in self._alive.values():
            for limit in limits.values():
                limit.until_s += shift_s

    def fold(self, site: Any, row: Any, t: float) -> Iterator[tuple[str, str]]:
        """Takes what a step heard and sent; yields (EVSE, command) of what was sent and is not in the controller's book."""
        for what, whose, at in row["h"]:
            evse = whose if what == "ended" else self._owner.get(whose)
            if evse is None or evse not in self._alive:
                continue
            limits, link = self._alive[evse], site["evses"][evse]["link"]
            if what in ("refused", "replaced"):
                limits.pop(whose, None)
                continue
            if (
                what == "accepted" and whose in limits
            ):  # what was sent before it is followed no more, once it settled
                sent_s = limits[whose].sent_s
                over = [limit for name, limit in limits.items() if name != whose and limit.sent_s <= sent_s]
            elif (
                what == "ended" and link["lease_ends_with_transaction"]
            ):  # what is on its way still may arrive
                under_way = {sent[0] for sent in row["e"][evse][5]}
                over = [limit for name, limit in limits.items() if name not in under_way]
            else:
                continue
            for limit in over:
                limit.until_s = min(limit.until_s, at + link["settle_s"])
        for evse, name, limit_ma, _, *phases in row["w"]:
            link = site["evses"][evse]["link"]
            until_s = t + link["lease_s"] + link["lease_slack_s"]
            self._alive.setdefault(evse, {})[name] = _Limit(limit_ma, until_s, t, not phases)
            self._owner[name] = evse
            if [name, limit_ma, *phases] not in [sent[:2] + sent[4:] for sent in row["e"][evse][5]]:
                yield evse, name

    def most_ma(self, t: float) -> Iterator[tuple[str, int, int]]:
        """Per EVSE the highest limit that it may still follow, and the highest on all its phases."""
        for evse, limits in self._alive.items():
            most = wide = 0
            for name, limit in list(limits.items()):
                if limit.until_s <= t + LATE_S:
                    del limits[name]
                    self._owner.pop(name, None)
                    continue
                most = max(most, limit.limit_ma)
                wide = max(wide, limit.limit_ma if limit.on_all else 0)
            yield evse, most, wide
