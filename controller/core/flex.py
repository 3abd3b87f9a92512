"""Load flexibility: a percentage of every EVSE's rating below a circuit, for a bounded time (readings of G-12).

The newest action on a circuit replaces the older one there; of all circuits above an EVSE the lowest wins; each ends by
itself. Percent of the rating, not of the present power: constant and computable everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

from controller.core.events import FlexWished
from controller.core.model import CircuitId, Evse, Site

LONGEST_S = 4 * 3600.0  # nobody may bind the site for longer without asking again
BY = "flexibility by"  # begins the words for what it caps


@dataclass(frozen=True, slots=True)
class Action:
    order: str
    by: str
    percent: int
    until_s: float


class Flex:
    """The running actions, one per circuit."""

    def __init__(self) -> None:
        self.actions: dict[CircuitId, Action] = {}

    def wish(self, fact: FlexWished, now_s: float) -> None:
        until_s = now_s + min(fact.duration_s, LONGEST_S)
        self.actions[fact.circuit] = Action(fact.order, fact.by, fact.percent, until_s)

    def end(self) -> None:
        self.actions.clear()

    def expire(self, now_s: float) -> None:
        self.actions = {circuit: action for circuit, action in self.actions.items() if action.until_s > now_s}

    def cap(self, site: Site, evse: Evse) -> tuple[int, str] | None:
        """The lowest cap of all circuits above the EVSE (mA, 0 below its minimum) and who set it, or None."""
        caps = []
        for node in site.path(evse.circuit):
            action = self.actions.get(node.id)
            if action is not None:
                share_ma = evse.max_ma * action.percent // 100
                caps.append(
                    (
                        share_ma if share_ma >= evse.min_ma else 0,
                        f"{BY} {action.by}: {action.percent} %",
                    )
                )
        return min(caps, default=None)
