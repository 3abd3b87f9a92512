"""Limits that somebody outside puts on and off by a contact: what each input says, what holds, and the evidence of it.

Owns the inputs of [grid_limit.*]: their last word, how old it is, and for each time a limit holds the row that the grid
operator may ask for (received, applied, measured). Decides nothing about vehicles: what holds is one source of `bounds`.

The rules that no setting changes: a limit of 0 is 0; a signal that is lost releases nothing; and until an input was read
for the first time it counts as lost. What a lost signal means that was off when last seen is a setting: "limit" holds the
limit from `stale_after` on, "hold" keeps it free. Source: field notes row 38 of the table of situations; §14a EnWG with
BNetzA BK6-22-300 (evidence of execution).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from controller.core.commands import Audited, Entry, InputSaved
from controller.core.events import InputFailed, InputRead, InputRestored
from controller.core.model import CircuitId, GridLimit, Moment, Site
from controller.core.snapshot import GridLimitView
from controller.core.supervisor import Condition

RELEASE_S = 5.0  # a contact that bounces releases nothing
MEASURED_WITHIN_S = 120.0  # an evidence row that waits longer is written without the measurement
TOLERANCE_PCT = 2
TOLERANCE_W = 100  # per row: meters of chargers are no reference meters


@dataclass(frozen=True, slots=True)
class Carried:
    """What the EVSEs below a circuit may take now at most and, where all of them tell, take. `oldest_s`: the oldest
    sample in that; None while nothing charges there."""

    allowed_w: int
    measured_w: int | None
    oldest_s: float | None


@dataclass(slots=True)
class _Order:
    """One time a limit holds, from the moment it was heard."""

    why: str
    received: datetime
    received_s: float
    applied: datetime | None = None
    applied_s: float | None = None
    measured: datetime | None = None
    told: bool = False

    def late(self, within_s: float, now_s: float) -> bool:
        return (now_s if self.applied_s is None else self.applied_s) - self.received_s > within_s


@dataclass(slots=True)
class Input:
    """`on` is the last word of the contact, from before a restart too; None where none was ever heard."""

    limit: GridLimit
    started_s: float | None = None
    on: bool | None = None
    read_s: float | None = None
    off_s: float | None = None  # since when it has been off without a break
    error: str = "not read yet"
    order: _Order | None = None

    def lost(self, now_s: float) -> bool:
        return self.read_s is None or now_s - self.read_s > self.limit.stale_after_s

    def holds(self, now_s: float) -> str | None:
        """Why the limit holds now, or None."""
        if not self.lost(now_s):
            bounces = self.order is not None and self.off_s is not None and now_s - self.off_s < RELEASE_S
            return "signal" if self.on or bounces else None
        if self.on:
            return "on when the signal was lost"
        return "no signal" if self.limit.on_loss == "limit" else None


class Inputs:
    """All inputs of the site, by name."""

    def __init__(self, site: Site) -> None:
        self.all = {limit.id: Input(limit) for limit in site.grid_limits}

    # --- facts ------------------------------------------------------------------------------------------------------

    def read(self, fact: InputRead) -> tuple[list[Entry], bool]:
        """What to keep of it, and whether it is news that cannot wait."""
        known = self.all.get(fact.input)
        if known is None or (known.read_s is not None and fact.taken_s <= known.read_s):
            return [], False
        on = fact.closed == known.limit.active_closed
        changed = on != known.on
        if on:
            known.off_s = None
        elif changed or known.off_s is None:
            known.off_s = fact.taken_s
        known.on, known.read_s, known.error = on, fact.taken_s, ""
        return ([InputSaved(fact.input, on)] if changed else []), changed and on

    def failed(self, fact: InputFailed) -> None:
        if (known := self.all.get(fact.input)) is not None:
            known.error = fact.text

    def restore(self, fact: InputRestored) -> None:
        """Its word from before the restart: one that was on goes on to hold until it is read."""
        if (known := self.all.get(fact.input)) is not None:
            known.on = fact.on

    # --- what holds -------------------------------------------------------------------------------------------------

    def holding(self, now_s: float) -> Iterator[GridLimit]:
        return (each.limit for each in self.all.values() if each.holds(now_s))

    def tick(self, carried: Callable[[CircuitId], Carried], now: Moment) -> list[Entry]:
        """Follow each limit that holds to its evidence."""
        entries: list[Entry] = []
        for each in self.all.values():
            each.started_s = now.mono_s if each.started_s is None else each.started_s
            why, order = each.holds(now.mono_s), each.order
            starting = each.read_s is None and now.mono_s - each.started_s <= each.limit.stale_after_s
            if why is None and order is not None:
                entries += self._released(each, order, now)
            elif why is not None and order is None and not starting:
                heard_s = each.read_s if why == "signal" and each.read_s is not None else now.mono_s
                each.order = order = _Order(why, now.utc, heard_s)
                entries.append(_row(each, "grid-limit", f"received, {why}: {each.limit.text}", now))
            if why is not None and order is not None and not order.told:
                entries += _follow(each, order, carried(each.limit.circuit), now)
        return entries

    def _released(self, each: Input, order: _Order, now: Moment) -> list[Entry]:
        each.order = None
        ended = _row(each, "grid-limit", f"released: {each.limit.text}", now)
        return [ended] if order.told else [_evidence(each, order, now), ended]

    # --- for people -------------------------------------------------------------------------------------------------

    def conditions(self, now: Moment) -> Iterator[Condition]:
        for each in self.all.values():
            if each.lost(now.mono_s):
                age = (
                    "never read" if each.read_s is None else f"last read {now.mono_s - each.read_s:.0f} s ago"
                )
                holds = f"{each.limit.text} holds" if each.holds(now.mono_s) else "nothing holds"
                yield Condition(
                    "grid-input", each.limit.id, 1, f"{age}: {each.error or 'no answer'}; {holds}", 2.0
                )
            order = each.order
            if order is not None and not order.told and order.late(each.limit.within_s, now.mono_s):
                text = (
                    f"{each.limit.text} was to be applied within {each.limit.within_s:.0f} s, and is not yet"
                )
                text = text if order.applied is None else text.replace(", and is not yet", ", and was later")
                yield Condition("grid-limit-late", each.limit.id, 1, text)

    def views(self, now: Moment) -> tuple[GridLimitView, ...]:
        return tuple(
            GridLimitView(
                id=each.limit.id,
                circuit=each.limit.circuit,
                signal="lost" if each.lost(now.mono_s) else "on" if each.on else "off",
                holds=each.holds(now.mono_s) or "",
                power_w=each.limit.power_w,
                text=each.limit.text,
                since=None if each.order is None else each.order.received,
            )
            for each in self.all.values()
        )


def _follow(each: Input, order: _Order, carried: Carried, now: Moment) -> list[Entry]:
    most_w = each.limit.power_w
    if order.applied is None and carried.allowed_w <= most_w:
        order.applied, order.applied_s = now.utc, now.mono_s
    if order.applied_s is None:
        return []
    newer = carried.oldest_s is None or carried.oldest_s >= order.applied_s
    within = (
        carried.measured_w is not None
        and carried.measured_w <= most_w + most_w * TOLERANCE_PCT // 100 + TOLERANCE_W
    )
    if newer and within:
        order.measured = now.utc
    if order.measured is None and now.mono_s - order.applied_s < MEASURED_WITHIN_S:
        return []
    order.told = True
    return [_evidence(each, order, now)]


def _evidence(each: Input, order: _Order, now: Moment) -> Audited:
    stages = [f"received {order.received.isoformat(timespec='milliseconds')} ({order.why})"]
    for name, at in (("applied", order.applied), ("measured", order.measured)):
        stages.append(f"not {name}" if at is None else f"{name} {at.isoformat(timespec='milliseconds')}")
    kept = "late" if order.applied is None or order.late(each.limit.within_s, now.mono_s) else "in time"
    detail = f"{each.limit.text}: {', '.join(stages)}; {kept}, {each.limit.within_s:.0f} s allowed"
    return _row(each, "grid-limit-evidence", detail, now)


def _row(each: Input, what: str, detail: str, now: Moment) -> Audited:
    return Audited(now.utc, f"grid_limit {each.limit.id}", what, each.limit.circuit, detail)
