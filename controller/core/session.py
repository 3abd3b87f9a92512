"""One session: the record of a transaction from plug-in to plug-out, and what can be said of it alone.

Energy is the sum of positive register differences that the EVSE could have delivered (field notes section 2, rows
7-12, 40-44); it is never taken back. Every inferred thing is a mark.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from controller.core.commands import SessionSaved
from controller.core.events import RecordReceived
from controller.core.model import EvseId, Site, VehicleId

REFUSED = "token-refused"
RESTARTED = "controller-restart"  # from then on nobody knows how long ago it began but by the clock
FED_BACK = "discharge"  # energy went the other way: none of it is charged energy; the charger's record has it
CLOCK_UNSURE = "clock-unsure"  # began or ended while nobody knew the time
CLOCK_CORRECTED = "clock-corrected"  # its beginning was put right once the time was known
CLOCK_SET = "clock-set"  # the clock was set while it ran: its length by the clock is not its true one
MAX_POWER_MARGIN = 1.25  # a register that grows faster than this times rated power has jumped


@dataclass(frozen=True, slots=True)
class Session:
    """One running or ended transaction. `register_at_s` is monotonic and only used to judge jumps."""

    id: str
    evse: EvseId
    transaction: str
    token: str | None
    vehicle: VehicleId | None
    started: datetime
    started_s: float
    energy_wh: int = 0
    register_start_wh: int | None = None
    register_wh: int | None = None
    register_at_s: float | None = None
    soc: int | None = None
    ended: datetime | None = None
    stop_reason: str | None = None
    marks: tuple[str, ...] = ()
    saved_s: float = 0.0
    cost_nano: int | None = None  # billionths of the currency; None = unknown, or no tariff
    currency: str | None = None
    counted: datetime | None = None  # up to when the energy has been priced

    def marked(self, *marks: str) -> Session:
        fresh = tuple(mark for mark in marks if mark not in self.marks)
        return replace(self, marks=self.marks + fresh) if fresh else self

    def with_register(self, register_wh: int | None, now_s: float, max_w: float) -> Session:
        """Fold in a register value. Jumps backwards or beyond the physically possible move the base, not the
        energy, and leave a mark."""
        if register_wh is None:
            return self
        if self.register_wh is None:
            return replace(self, register_start_wh=register_wh, register_wh=register_wh, register_at_s=now_s)
        delta = register_wh - self.register_wh
        moved = replace(self, register_wh=register_wh, register_at_s=now_s)
        if delta < 0:
            return moved.marked("register-reset")
        if self.register_at_s is not None:
            possible = max_w * MAX_POWER_MARGIN * (now_s - self.register_at_s) / 3600 + 100
            if delta > possible:
                return moved.marked("register-jump")
        return replace(moved, energy_wh=self.energy_wh + delta)


def max_w(site: Site, evse: EvseId) -> float:
    """What the EVSE can deliver."""
    unit = site.evses[evse]
    return unit.max_ma * site.voltage_mv / 1e6 * len(unit.phases)


def possible_wh(site: Site, evse: EvseId, seconds: float) -> float:
    """The most an EVSE can have delivered in that time, with what registers lag behind."""
    return max_w(site, evse) * MAX_POWER_MARGIN * seconds / 3600 + 100


def entry_of(session: Session) -> SessionSaved:
    """As the ledger keeps it."""
    return SessionSaved(
        id=session.id,
        evse=session.evse,
        transaction=session.transaction,
        token=session.token,
        vehicle=session.vehicle,
        started=session.started,
        ended=session.ended,
        energy_wh=session.energy_wh,
        register_start_wh=session.register_start_wh,
        register_wh=session.register_wh,
        stop_reason=session.stop_reason,
        marks=session.marks,
        cost_micro=None if session.cost_nano is None else round(session.cost_nano / 1000),
        currency=session.currency,
        counted=session.counted,
    )


def overlap_s(session: Session, record: RecordReceived) -> float:
    """Seconds that both have in common; below zero the seconds between them."""
    end = session.ended or record.ended or record.started
    record_end = record.ended or record.started
    return (min(end, record_end) - max(session.started, record.started)).total_seconds()
