"""Orders: what an operator asked for and how far it has come: sent, accepted, applied, measured.

No optimism: a stage is reached by evidence only. `applied` needs the station's behaviour (a transaction, a status, a
current), `measured` a sample taken after that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from controller.core.commands import Audited
from controller.core.model import EvseId, Moment
from controller.core.snapshot import OrderView

GIVE_UP_S = 120.0
KEEP_S = 300.0  # a finished order stays visible this long
IDLE_MA = 500  # below this nothing is charging
EVIDENCED = ("flex", "discharge")
NO_COMMAND_S = 4.0  # an order that needs no command (the limit is lower already) is judged after this


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of an EVSE now, as far as orders care. sample_s: when the newest sample was taken."""

    session: bool
    suspended: bool
    current_ma: int | None
    sample_s: float | None
    bound_by: str
    grant_ma: int | None
    feeding_back: bool = False
    feed_measured: bool = False  # by a sample that says so, not by a state
    within_flex: bool | None = (
        None  # all EVSEs below a circuit obey its flexibility action; None: not all known
    )


@dataclass(slots=True)
class Order:
    id: str
    kind: str
    evse: EvseId
    by: str
    text: str
    since_s: float
    limit_ma: int | None = (
        None  # of a start: only where a session runs already, else it goes along with the start
    )
    command: str | None = None
    accepted_s: float | None = None
    stages: list[tuple[str, datetime]] = field(default_factory=list)
    outcome: str | None = None
    reason: str | None = None
    ended_s: float | None = None

    def reached(self, stage: str) -> bool:
        return any(name == stage for name, _ in self.stages)

    def reach(self, stage: str, now: Moment) -> None:
        if not self.reached(stage):
            self.stages.append((stage, now.utc))

    def end(self, outcome: str, now: Moment, reason: str | None = None) -> None:
        self.outcome, self.reason, self.ended_s = outcome, reason, now.mono_s


def _evidence_row(order: Order, now: Moment) -> Audited:
    stages = ", ".join(f"{name} {at.isoformat(timespec='milliseconds')}" for name, at in order.stages)
    told = f"{order.text}: {stages or 'nothing reached'}; {order.outcome}"
    return Audited(now.utc, "depot", f"{order.kind}-evidence", order.evse, told)


def _is_applied(order: Order, seen: Evidence) -> bool:
    quiet = seen.current_ma is not None and seen.current_ma <= IDLE_MA
    match order.kind:
        case "start":
            return seen.session and _is_within(order, seen)
        case "stop":
            return not seen.session and not seen.feeding_back
        case "pause":
            return seen.suspended or quiet or not seen.session
        case "resume":
            return seen.current_ma is not None and seen.current_ma > IDLE_MA
        case "discharge":
            return seen.feeding_back
        case "flex":
            return seen.within_flex is True
        case _:
            return _is_within(order, seen)


def _is_within(order: Order, seen: Evidence) -> bool:
    limit = order.limit_ma
    return limit is None or (seen.current_ma is not None and seen.current_ma <= limit + IDLE_MA)


def _is_measured(order: Order, seen: Evidence) -> bool:
    if seen.sample_s is None or seen.sample_s < (order.accepted_s or order.since_s):
        return order.kind == "stop" and not seen.session  # after the end many stations stop sampling
    match order.kind:
        case "start" | "resume":
            return seen.current_ma is not None and seen.current_ma > IDLE_MA
        case "stop" | "pause":
            return seen.current_ma is None or seen.current_ma <= IDLE_MA
        case "discharge":
            return seen.feed_measured
        case _:
            return _is_applied(order, seen)


class Orders:
    """Orders under way and lately finished, by id."""

    def __init__(self) -> None:
        self._orders: dict[str, Order] = {}

    def open(self, order: Order, now: Moment) -> None:
        """A newer order ends the older one of the same EVSE; limits and the rest do not disturb each other."""
        for other in self._orders.values():
            same_matter = (other.kind == "limit") == (order.kind == "limit")
            if other.evse == order.evse and same_matter and other.outcome is None:
                other.end("failed", now, "replaced by a newer order")
        self._orders[order.id] = order

    def refuse(self, order: Order, now: Moment, reason: str) -> None:
        """Kept to be seen; it changes nothing, so orders under way go on."""
        self._orders[order.id] = order
        order.end("refused", now, reason)

    def issued(self, evse: EvseId, command: str, kinds: tuple[str, ...]) -> None:
        """A command for this EVSE is on its way out; an order of one of these kinds waits for it."""
        for order in self._orders.values():
            limits = order.kind == "start" and order.limit_ma is not None and "limit" in kinds
            waits = order.outcome is None and not order.accepted_s and (order.kind in kinds or limits)
            if order.evse == evse and waits:
                order.command = command

    def sent(self, command: str, now: Moment) -> None:
        for order in self._with(command):
            order.reach("sent", now)

    def accepted(self, command: str, now: Moment) -> None:
        for order in self._with(command):
            order.reach("sent", now)
            order.reach("accepted", now)
            order.accepted_s = now.mono_s

    def refused(self, command: str, reason: str, now: Moment) -> None:
        for order in self._with(command):
            order.end("refused", now, reason)

    def lost(self, command: str, reason: str, now: Moment) -> None:
        for order in self._with(command):
            order.end("failed", now, f"no answer: {reason}")

    def tick(self, look: Callable[[Order], Evidence], now: Moment) -> list[Audited]:
        """Advance by evidence, give up on what stays unconfirmed, forget what is long done. Returns the evidence rows of
        orders that others may be paid for."""
        rows: list[Audited] = []
        for order in list(self._orders.values()):
            if order.outcome is None:
                self._advance(order, look(order), now)
                if order.outcome is not None and order.kind in EVIDENCED:
                    rows.append(_evidence_row(order, now))
            elif order.ended_s is not None and now.mono_s > order.ended_s + KEEP_S:
                del self._orders[order.id]
        return rows

    def _advance(self, order: Order, seen: Evidence, now: Moment) -> None:
        waited_s = now.mono_s - order.since_s
        answered = order.accepted_s is not None or (order.command is None and waited_s > NO_COMMAND_S)
        if answered and _is_applied(order, seen):
            order.reach("applied", now)
            if _is_measured(order, seen):
                order.reach("measured", now)
                order.end("done", now)
                return
            if order.kind == "start" and seen.grant_ma == 0:
                order.end("done", now, f"started, waiting: {seen.bound_by}")
                return
        if order.kind == "resume" and seen.grant_ma == 0 and waited_s > 2 * NO_COMMAND_S:
            order.end("done", now, f"resumed, waiting: {seen.bound_by}")
            return
        if order.kind == "limit" and order.command is None and not seen.session and waited_s > NO_COMMAND_S:
            order.end("done", now, "applies to the next session")
        elif waited_s > GIVE_UP_S:
            stage = order.stages[-1][0] if order.stages else "nothing sent"
            order.end(
                "failed", now, f"not confirmed within {GIVE_UP_S:.0f} s (last: {stage}; {seen.bound_by})"
            )

    def _with(self, command: str) -> list[Order]:
        return [o for o in self._orders.values() if o.command == command and o.outcome is None]

    def views(self) -> tuple[OrderView, ...]:
        return tuple(
            OrderView(o.id, o.kind, o.evse, o.by, o.text, tuple(o.stages), o.outcome, o.reason)
            for o in self._orders.values()
        )
