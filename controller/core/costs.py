"""What sessions cost: every piece of energy at the price of the time in which it flowed.

A session whose energy met an unknown price has no cost at all, and a mark: half a sum would be taken for the whole.
Energy that a station told in one piece, over a time in which prices changed, is spread evenly, and marked.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from controller.core.session import Session
from controller.core.tariff import Pricer, Tariff

UNPRICED = "price-unknown"
SPREAD = "cost-spread"
SAMPLED = timedelta(minutes=15)  # pieces shorter than this are what metering gives, and need no mark


class Costs:
    """Without a tariff nothing has a cost."""

    def __init__(self) -> None:
        self._currency: str | None = None
        self._pricer: Pricer | None = None

    def use(self, tariff: Tariff) -> None:
        self._currency, self._pricer = tariff.currency, Pricer(tariff.buy)

    def opened(self, session: Session, at: datetime) -> Session:
        """A session that begins, its register known or not."""
        if self._pricer is None:
            return session
        return replace(session, cost_nano=0, currency=self._currency, counted=at)

    def restored(
        self, session: Session, cost_micro: int | None, currency: str | None, counted: datetime | None
    ) -> Session:
        """As it was before a restart; what flowed since `counted` is still to be priced."""
        if cost_micro is not None:
            return replace(session, cost_nano=1000 * cost_micro, currency=currency, counted=counted)
        if not session.energy_wh:
            return self.opened(session, session.started)
        return session if self._pricer is None else session.marked(UNPRICED)

    def counted(self, before: Session, after: Session, at: datetime, trusted: bool = True) -> Session:
        """`after` with what its energy since `before` costs. `at`: when the register was read."""
        if after is before or after.cost_nano is None or self._pricer is None:
            return after
        begin = before.counted or before.started
        end = max(at, begin)
        energy_wh = after.energy_wh - before.energy_wh
        if energy_wh <= 0:
            return after if after.counted == end else replace(after, counted=end)
        cost = self._pricer.cost_nano(energy_wh, begin, end) if trusted else None
        if cost is None or after.currency != self._currency:
            return replace(after, cost_nano=None, counted=end).marked(UNPRICED)
        found = replace(after, cost_nano=after.cost_nano + cost, counted=end)
        return found.marked(SPREAD) if end - begin > SAMPLED and self._pricer.varies(begin, end) else found

    def whole(self, session: Session) -> Session:
        """A session of which only beginning, end and energy are known."""
        if self._pricer is None or session.ended is None:
            return session
        empty = self.opened(replace(session, energy_wh=0), session.started)
        full = replace(empty, energy_wh=session.energy_wh)
        return self.counted(empty, full, session.ended)
