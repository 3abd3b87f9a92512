"""The quarter-hour peak in a whole depot: who is held by it is told so, a restart knows the quarter."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from controller.core import events as ev
from controller.core.commands import PeakSaved, SetLimit
from controller.core.decide import Decision
from controller.core.depot import Depot
from controller.core.model import (
    EvseId,
    EvseState,
    Moment,
    PerPhase,
    StationId,
    each_phase,
)
from controller.core.wire import snapshot_from, status
from tests.small_site import MAIN, a_site, an_evse

START = datetime(2026, 11, 22, 18, 0, tzinfo=UTC)


def at(second: float) -> Moment:
    return Moment(1000.0 + second, START + timedelta(seconds=second))


class House:
    """Three vehicles that take all they are given, each second measured, beside a building of 5 A per phase."""

    def __init__(self, peak_w: int, boot: str = "1") -> None:
        names = [EvseId(f"s{number}/1") for number in range(3)]
        evses = (an_evse(name, fallback_a=0) for name in names)
        self.depot = Depot(a_site(*evses, limit_a=200, metered=True, load_a=20, peak_w=peak_w), boot)
        self.limits_ma = dict.fromkeys(names, 0)
        self.building_ma = 5_000
        self.energy_wh = 0.0
        self.saved: list[PeakSaved] = []
        self.decision: Decision | None = None

    def plug(self) -> None:
        for name in self.limits_ma:
            station = StationId(name[:2])
            self.depot.apply(ev.LinkUp(station, "wire", "test"), at(0))
            self.depot.apply(ev.FallbackStored(name, "wire", 0), at(0))
            self.depot.apply(ev.StatusChanged(name, "wire", EvseState.CHARGING), at(0))
            self.depot.apply(ev.TransactionStarted(name, "wire", f"t{name}", None, 0, at(0).utc), at(0))

    def second(self, number: int) -> Decision:
        now = at(number)
        total_ma = self.building_ma + sum(self.limits_ma.values())
        power_w = total_ma * 690 // 1000
        self.energy_wh += power_w / 3600
        for name, limit_ma in self.limits_ma.items():
            sample = ev.EvseSample(name, "wire", now.mono_s, each_phase(limit_ma), limit_ma * 690 // 1000)
            self.depot.apply(sample, now)
        volts: PerPhase[int | None] = each_phase(230_000)
        self.depot.apply(
            ev.MeterReading(MAIN, now.mono_s, each_phase(total_ma), power_w, volts, round(self.energy_wh)),
            now,
        )
        self.decision = self.depot.step(now)
        self.saved += [entry for entry in self.decision.entries if isinstance(entry, PeakSaved)]
        for command in self.decision.commands:
            if isinstance(command, SetLimit):
                self.depot.apply(ev.CommandSent(command.id), now)
                self.depot.apply(ev.CommandAccepted(command.id), now)
                self.limits_ma[command.evse] = command.limit_ma
        return self.decision


def test_the_quarter_is_kept_by_limits_and_shown() -> None:
    house = House(30_000)
    house.plug()
    before_wh = 0.0
    for second in range(1, 2 * 900 + 1):
        decision = house.second(second)
        if second == 450:
            assert {evse.bound_by for evse in decision.snapshot.evses} == {"quarter-hour peak"}
        if second == 900:
            assert 7_000 < house.energy_wh <= 7_500
            before_wh = house.energy_wh
    assert 7_300 < house.energy_wh - before_wh <= 7_500
    shown = decision.snapshot
    assert shown.peak is not None and shown.peak.target_w == 30_000
    assert shown.peak.month_w is not None and 28_000 < shown.peak.month_w <= 30_000
    assert snapshot_from(status(shown)).peak == shown.peak
    assert [entry.window for entry in house.saved] == [START + timedelta(minutes=m) for m in (0, 15, 30)]


def test_a_restart_in_the_quarter_goes_on_with_what_was_used() -> None:
    house = House(30_000)
    house.plug()
    for second in range(1, 600):
        house.second(second)
    again = House(30_000, "2")
    again.energy_wh = house.energy_wh
    newest = house.saved[-1]
    again.depot.apply(
        ev.PeakRestored(newest.month, newest.highest_w, newest.window, newest.register_wh), at(620)
    )
    again.plug()
    shown = again.second(621).snapshot.peak
    assert shown is not None and shown.used_wh is not None
    assert abs(shown.used_wh - house.energy_wh) < 40
