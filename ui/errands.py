"""What this dashboard had stations asked: sent, what the station said, and what the pictures showed of it since.

The depot makes no order of these (a restart, an unlock): its audit knows them, its snapshot does not. They are kept here
as orders are shown, so that they read alike. Owns a bounded list; must not claim what no picture showed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from controller.core.model import EvseId, EvseState
from controller.core.snapshot import EvseView, OrderView, Snapshot
from ui.verbs import Verb

MOST = 20
LOOKED_FOR = timedelta(minutes=10)  # a station that has not come back by then has troubles of another kind
BY = "this dashboard"

# What must be seen in turn, one picture after the other: the third and the fourth stage of an order.
_SIGNS: dict[str, tuple[tuple[str, Callable[[EvseView], bool]], ...]] = {
    Verb.RESET: (
        ("applied", lambda evse: not evse.connected),
        ("measured", lambda evse: evse.connected),
    ),
    Verb.OUT: (("applied", lambda evse: evse.state is EvseState.UNAVAILABLE),),
    Verb.IN: (("applied", lambda evse: evse.connected and evse.state is not EvseState.UNAVAILABLE),),
}


@dataclass(slots=True)
class Errand:
    view: OrderView
    known: datetime  # the newest picture it was compared with


class Errands:
    """Newest last. Times are those of the controller's pictures, so that one clock tells them all."""

    def __init__(self) -> None:
        self._kept: list[Errand] = []
        self._count = 0

    def of(self, evse: EvseId) -> list[OrderView]:
        """Newest first."""
        return [each.view for each in reversed(self._kept) if each.view.evse == evse]

    @property
    def pending(self) -> list[str]:
        return [each.view.id for each in self._kept if each.view.outcome is None]

    def sent(self, verb: str, evse: EvseId, text: str, at: datetime) -> str:
        self._count += 1
        id = f"ask-{self._count}"
        view = OrderView(id, verb, evse, BY, text, (("sent", at),), None, None)
        self._kept = [*self._kept, Errand(view, at)][-MOST:]
        return id

    def answered(self, id: str, said: str, yes: bool, at: datetime) -> None:
        """What the station said, or why nobody could ask it."""
        for each in self._kept:
            if each.view.id != id:
                continue
            if not yes:
                each.view = replace(each.view, outcome="refused", reason=said)
                return
            stages = (*each.view.stages, ("accepted", at))
            over = None if each.view.kind in _SIGNS else "done"
            each.view = replace(each.view, stages=stages, outcome=over, reason=f"the station says: {said}")

    def see(self, snapshot: Snapshot) -> None:
        """Follows what was accepted, one picture after the other."""
        for each in self._kept:
            if each.view.outcome is None and snapshot.time > each.known:
                each.known = snapshot.time
                evse = next((seen for seen in snapshot.evses if seen.id == each.view.evse), None)
                if evse is not None:
                    each.view = _followed(each.view, evse, snapshot.time)


def _followed(view: OrderView, evse: EvseView, at: datetime) -> OrderView:
    reached = dict(view.stages)
    if "accepted" not in reached:
        return view
    signs = _SIGNS.get(view.kind, ())
    wanted = next(((name, there) for name, there in signs if name not in reached), None)
    if wanted is not None and wanted[1](evse):
        view = replace(view, stages=(*view.stages, (wanted[0], at)))
        return replace(view, outcome="done") if wanted == signs[-1] else view
    if at - view.stages[0][1] > LOOKED_FOR:
        minutes = LOOKED_FOR.total_seconds() / 60
        return replace(view, outcome="not seen", reason=f"{view.reason}; nothing of it in {minutes:.0f} min")
    return view
