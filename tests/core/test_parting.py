"""Before we leave: who is allowed more than it does alone is told its fallback, and nobody is told who has no session."""

from __future__ import annotations

from datetime import UTC, datetime

from controller.core import events as ev
from controller.core.commands import Command, SetLimit
from controller.core.depot import Depot
from controller.core.model import (
    EvseId,
    EvseState,
    Link,
    Moment,
    StationId,
)
from tests.small_site import a_site, an_evse

LINK = Link("open-platform/cloud", 900, 120, 10, 20, lease_ends_with_transaction=False)
NOW = Moment(1000.0, datetime(2026, 11, 22, 12, tzinfo=UTC))


def test_a_limit_that_outlives_its_session_is_nobody_to_tell() -> None:
    site = a_site(an_evse(EvseId("A/1"), LINK), an_evse(EvseId("B/1"), LINK), limit_a=80)
    depot = Depot(site, "1")
    for id, evse in site.evses.items():
        depot.apply(ev.LinkUp(evse.station, LINK.channel, "peer"), NOW)
        depot.apply(ev.FallbackStored(id, LINK.channel, 6_000), NOW)
        depot.apply(ev.TransactionStarted(id, LINK.channel, f"T{id}", None, None, NOW.utc), NOW)
        depot.apply(ev.StatusChanged(id, LINK.channel, EvseState.CHARGING), NOW)
    later, limits = NOW, set()
    for second in range(1, 60):
        later = Moment(NOW.mono_s + second, NOW.utc)
        for command in depot.step(later).commands:
            limits |= {command.evse} if isinstance(command, SetLimit) else set()
            depot.apply(ev.CommandSent(command.id), later)
            depot.apply(ev.CommandAccepted(command.id), later)
    assert limits == set(site.evses)
    gone = EvseId("B/1")
    depot.apply(ev.TransactionEnded(StationId("B"), gone, f"T{gone}", "Local", None, later.utc), later)
    told: list[Command] = depot.part(later)
    assert [(c.evse, c.limit_ma) for c in told if isinstance(c, SetLimit)] == [(EvseId("A/1"), 6_000)]
