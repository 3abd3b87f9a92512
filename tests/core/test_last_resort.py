"""Who does not come down is stopped: also with a slow meter, and beside a foreign load on another phase."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from controller.core import events as ev
from controller.core.commands import SetLimit, StopCharging
from controller.core.depot import Depot
from controller.core.last_resort import NEXT_S, OVER_S
from controller.core.model import (
    EvseId,
    EvseState,
    Link,
    Moment,
    PerPhase,
    StationId,
    each_phase,
)
from tests.small_site import MAIN, a_site, an_evse

CHANNEL = "ocpp1.6"
STATION, A = StationId("CP1"), EvseId("CP1/1")
LIMIT_MA, BUILDING_MA, DRAWN_MA = 40_000, 5_000, 32_000


class Deaf:
    """A station that says yes to every limit and draws all it can; and the meter above it."""

    def __init__(self, poll_s: int, phases: tuple[int, ...] = (0, 1, 2)) -> None:
        self.poll_s, self.phases = poll_s, phases
        self.now = Moment(1000.0, datetime(2026, 11, 22, 12, tzinfo=UTC), True)
        link = Link(CHANNEL, 180, 30, 10, 12)
        site = a_site(an_evse(A, link, phases=phases), limit_a=LIMIT_MA // 1000, metered=True, load_a=30)
        slow = replace(site.meters[MAIN], poll_s=float(poll_s), stale_after_s=5.0 * poll_s)
        self.depot = Depot(replace(site, meters={MAIN: slow}), "1")
        self.building_ma = [BUILDING_MA] * 3
        for fact in (
            ev.LinkUp(STATION, CHANNEL, "peer"),
            ev.FallbackStored(A, CHANNEL, 6_000),
            ev.StatusChanged(A, CHANNEL, EvseState.CHARGING),
            ev.TransactionStarted(A, CHANNEL, "7", None, 0, self.now.utc),
        ):
            self.depot.apply(fact, self.now)

    def passes(self, seconds: int) -> list[StopCharging]:
        stops = []
        for _ in range(seconds):
            self.now = self.now._replace(mono_s=self.now.mono_s + 1, utc=self.now.utc + timedelta(seconds=1))
            own = [DRAWN_MA if phase in self.phases else 0 for phase in range(3)]
            conductors = [DRAWN_MA if n < len(self.phases) else None for n in range(3)]
            if self.now.mono_s % self.poll_s == 0:
                total = PerPhase[int | None](
                    *(mine + other for mine, other in zip(own, self.building_ma, strict=True))
                )
                reading = ev.MeterReading(MAIN, self.now.mono_s, total, None, each_phase(None))
                self.depot.apply(reading, self.now)
            if self.now.mono_s % 5 == 0:
                sample = ev.EvseSample(A, CHANNEL, self.now.mono_s, PerPhase(*conductors), None, None, None)
                self.depot.apply(sample, self.now)
            for command in self.depot.step(self.now).commands:
                if isinstance(command, SetLimit):
                    self.depot.apply(ev.CommandSent(command.id), self.now)
                    self.depot.apply(ev.CommandAccepted(command.id), self.now)
                elif isinstance(command, StopCharging):
                    stops.append(command)
        return stops


@pytest.mark.parametrize("poll_s", [1, 5, 10])
def test_who_stays_above_his_limit_is_stopped_however_slow_the_meter_is(poll_s: int) -> None:
    deaf = Deaf(poll_s)
    assert deaf.passes(15 * poll_s) == []
    deaf.building_ma = [20_000] * 3
    stops = deaf.passes(round(OVER_S) + 3 * poll_s + 5)
    assert {stop.evse for stop in stops} == {A}


@pytest.mark.parametrize("poll_s", [1, 10])
def test_a_circuit_that_is_well_again_meanwhile_stops_nobody(poll_s: int) -> None:
    deaf = Deaf(poll_s)
    deaf.passes(15 * poll_s)
    for _ in range(3):
        deaf.building_ma = [20_000] * 3
        assert deaf.passes(20) == []
        deaf.building_ma = [BUILDING_MA] * 3
        assert deaf.passes(2 * poll_s) == []


def test_a_foreign_load_on_a_worse_phase_shields_nobody() -> None:
    deaf = Deaf(1, phases=(1,))
    assert deaf.passes(15) == []
    deaf.building_ma = [60_000, 20_000, BUILDING_MA]
    stops = deaf.passes(round(OVER_S + NEXT_S))
    assert [stop.evse for stop in stops] == [A]
    assert "L2" in stops[0].reason
