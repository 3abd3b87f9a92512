"""From prices and departures to amps at the plug: the planner through the core, a night in virtual time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from test_horizon import ROW, site

from controller.core.commands import SetLimit
from controller.core.depot import Depot
from controller.core.events import (
    CommandAccepted,
    CommandSent,
    DepartureSet,
    EvseSample,
    FallbackStored,
    LinkUp,
    PlanReady,
    StatusChanged,
    TariffRead,
    TransactionEnded,
    TransactionStarted,
)
from controller.core.model import Departure, EvseId, EvseState, Moment, Site, each_phase
from controller.core.tariff import MICRO, Band, Rates, Tariff, series
from controller.planner import horizon

EVENING = datetime(2026, 11, 20, 18, 0, tzinfo=UTC)
STEP_S, PLAN_S = 10, 300
NIGHT = Rates("UTC", (Band(6 * 60, 22 * 60, 320_000), Band(22 * 60, 6 * 60, 180_000)))


@dataclass(slots=True)
class Guest:
    """A vehicle that draws what it is given until it has what it needs."""

    evse: EvseId
    need_wh: float
    leaves_s: int
    limit_ma: int = 0
    got_wh: float = 0.0
    starts: int = 0
    drawing: bool = False


class Night:
    def __init__(self, place: Site, guests: list[Guest]) -> None:
        self.place, self.guests = place, {guest.evse: guest for guest in guests}
        self.depot = Depot(place, "1")
        self.highest_ma = 0
        self.depot.apply(TariffRead(Tariff("EUR", NIGHT)), self.at(0))
        for unit in place.evses.values():
            self.depot.apply(LinkUp(unit.station, "wire", "peer"), self.at(0))
            self.depot.apply(FallbackStored(unit.id, "wire", 6_000), self.at(0))
        for guest in guests:
            leaves = EVENING + timedelta(seconds=guest.leaves_s)
            self.depot.apply(
                DepartureSet("ann", Departure(guest.evse, leaves, round(guest.need_wh))), self.at(0)
            )

    def at(self, second: float) -> Moment:
        return Moment(1000.0 + second, EVENING + timedelta(seconds=second))

    def run(self, until_s: int) -> None:
        for second in range(60, until_s, STEP_S):
            now = self.at(second)
            if second == 60:
                for evse in self.guests:
                    self.depot.apply(StatusChanged(evse, "wire", EvseState.CHARGING), now)
                    self.depot.apply(TransactionStarted(evse, "wire", f"t{evse}", None, 0, now.utc), now)
            if second % PLAN_S == 60 % PLAN_S:
                self.plan(now)
            self.draw(second)
            for command in self.depot.step(now).commands:
                if isinstance(command, SetLimit):
                    self.depot.apply(CommandSent(command.id), now)
                    self.depot.apply(CommandAccepted(command.id), now)
                    self.guests[command.evse].limit_ma = command.limit_ma

    def plan(self, now: Moment) -> None:
        request = replace(
            self.depot.plan_request(now), prices=series(NIGHT, now.utc, now.utc + timedelta(hours=30))
        )
        made = horizon.plan(request)
        assert made.by == "horizon", made.why
        self.depot.apply(PlanReady(made), now)

    def draw(self, second: int) -> None:
        now, total_ma = self.at(second), 0
        for guest in self.guests.values():
            if second >= guest.leaves_s:
                if guest.limit_ma >= 0:
                    station = self.place.evses[guest.evse].station
                    self.depot.apply(
                        TransactionEnded(station, guest.evse, f"t{guest.evse}", "EV", None, now.utc), now
                    )
                    guest.limit_ma = -1
                continue
            drawn_ma = guest.limit_ma if guest.got_wh < guest.need_wh else 0
            guest.starts += drawn_ma > 0 and not guest.drawing
            guest.drawing = drawn_ma > 0
            guest.got_wh += drawn_ma * 230 * 3 / MICRO * STEP_S / 3600 * 1000
            total_ma += drawn_ma
            sample = EvseSample(
                guest.evse, "wire", now.mono_s, each_phase(drawn_ma), drawn_ma * 69 // 100, int(guest.got_wh)
            )
            self.depot.apply(sample, now)
        self.highest_ma = max(self.highest_ma, total_ma)


def test_a_night_at_the_low_price_everybody_ready_few_starts() -> None:
    place = site([(ROW, (0, 1, 2))] * 6, site_a=60, row_a=60)
    guests = [Guest(EvseId(f"CP{n}/1"), 14_000 + 4_000 * n, (9 + n % 3) * 3600) for n in range(6)]
    night = Night(place, guests)
    night.run(12 * 3600)
    short = {
        g.evse: g.need_wh - g.got_wh for g in guests if g.got_wh < g.need_wh - max(250, g.need_wh * 0.02)
    }
    assert short == {}
    assert night.highest_ma <= 60_000
    assert sum(guest.starts for guest in guests) <= 2 * len(guests)
    costs = night.depot._state.sessions._ended
    assert len(costs) == 6
    paid = sum(session.cost_nano or 0 for session in costs) / 1e9
    energy_kwh = sum(guest.got_wh for guest in guests) / 1000
    # 144 kWh at no less than 0.18: the eight cheap hours have room for far more than that
    assert paid / energy_kwh < 0.19
