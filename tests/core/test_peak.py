"""The quarter-hour peak: energy in the fixed window, the rest spent late, nothing broken by a rise at the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from random import Random

import pytest

from controller.core.events import MeterReading, PeakRestored
from controller.core.model import (
    EvseId,
    Moment,
    Site,
    each_phase,
)
from controller.core.peak import Peak
from tests.small_site import MAIN, a_site, an_evse

QUARTER = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
MONO_S = 5000.0  # of QUARTER
TARGET_W = 60_000


def site(load_a: int | None = 80, target_w: int | None = TARGET_W) -> Site:
    evse = an_evse(EvseId("a/1"), max_a=200, fallback_a=0)
    return a_site(
        evse, limit_a=250, metered=True, load_a=load_a, timezone="Europe/Amsterdam", peak_w=target_w
    )


def at(after_s: float, *, trusted: bool = True) -> Moment:
    return Moment(MONO_S + after_s, QUARTER + timedelta(seconds=after_s), trusted)


def reading(after_s: float, power_w: int | None, import_wh: int | None = None) -> MeterReading:
    return MeterReading(MAIN, MONO_S + after_s, each_phase(None), power_w, each_phase(None), import_wh)


def peak_of(built: Site) -> Peak:
    peak = Peak.of(built)
    assert peak is not None
    return peak


@dataclass
class Truth:
    """A building and chargers that follow the rooms with a delay, second by second."""

    load_w: Callable[[float], float]
    wanted_w: Callable[[float], float]
    delay_s: int = 13

    def means_w(self, peak: Peak, quarters: int, begin_s: float = 0.0) -> list[float]:
        """The true mean of each whole quarter."""
        allowed: list[float] = []
        charging_w, means, energy_ws = 0.0, [], 0.0
        second = begin_s
        while second < quarters * 900:
            load_w = self.load_w(second)
            power_w = load_w + min(charging_w, self.wanted_w(second))
            energy_ws += max(0.0, power_w)
            peak.fold(reading(second + 1, round(power_w)))
            now = at(second + 1)
            peak.tick(now)
            lower_w, raise_w = peak.rooms_w(round(load_w), round(load_w), now)
            allowed.append(min(max(charging_w, raise_w), lower_w))
            # down after the delay, up at once: the worse of both
            charging_w = max(allowed[-self.delay_s :])
            second += 1
            if second % 900 == 0:
                means.append(energy_ws / 900)
                energy_ws = 0.0
        return means


def test_chargers_that_always_want_more_use_the_quarter_and_keep_it() -> None:
    means = Truth(lambda _: 20_000.0, lambda _: 1e6).means_w(peak_of(site()), 3)
    assert all(mean <= TARGET_W for mean in means)
    assert min(means[1:]) > 0.97 * TARGET_W


def test_what_early_minutes_left_is_spent_late() -> None:
    truth = Truth(lambda _: 20_000.0, lambda second: 0.0 if second % 900 < 600 else 1e6)
    means = truth.means_w(peak_of(site()), 2)
    assert all(0.95 * TARGET_W < mean <= TARGET_W for mean in means)


@pytest.mark.parametrize("rise_at", [5, 100, 450, 700, 850, 870, 880, 885, 890, 895, 898])
@pytest.mark.parametrize("load_a", [80, None])
def test_a_load_that_jumps_to_its_worst_at_any_moment_breaks_nothing(
    rise_at: int, load_a: int | None
) -> None:
    rise_w = 55_200 if load_a == 80 else 12_500
    truth = Truth(lambda second: rise_w if second % 900 >= rise_at else 10_000.0, lambda _: 1e6)
    means = truth.means_w(peak_of(site(load_a)), 2)
    assert max(means) <= TARGET_W, means


@pytest.mark.parametrize("seed", range(8))
def test_no_weather_and_no_building_breaks_a_peak_that_can_be_kept(seed: int) -> None:
    """Sun and load jump and wander between 30 kW out and the worst that was told; vehicles come and go."""
    random = Random(seed)
    loads: list[float] = [0.0]
    wanted: list[float] = [0.0]
    for _ in range(3 * 900 + 1):
        jump = random.random() < 0.01
        load_w = random.uniform(-30_000, 55_200) if jump else loads[-1] + random.uniform(-1_000, 1_000)
        loads.append(min(55_200.0, max(-30_000.0, load_w)))
        wanted.append(random.choice((0.0, 20_000.0, 1e6)) if random.random() < 0.005 else wanted[-1])
    truth = Truth(lambda second: loads[int(second)], lambda second: wanted[int(second)])
    means = truth.means_w(peak_of(site()), 3)
    assert max(means) <= TARGET_W, means


def test_a_start_in_the_middle_of_a_quarter_counts_what_nobody_saw_at_the_worst() -> None:
    peak = peak_of(site())
    peak.fold(reading(600, 20_000))
    peak.tick(at(600))
    assert peak.rooms_w(20_000, 20_000, at(600)) == (0, 0)
    known = peak_of(site())
    known.restore(PeakRestored("2026-11", 41_000, QUARTER, 5_000))
    known.fold(reading(600, 20_000, 8_000))
    assert known.tick(at(600)) == []
    view = known.view(at(600))
    assert (view.used_wh, view.window_start, view.month_w) == (3_000, QUARTER, 41_000)
    assert known.rooms_w(20_000, 20_000, at(600))[0] > 80_000


def test_a_gap_counts_what_the_register_says_else_at_the_worst() -> None:
    def after_gap(before_wh: int | None, after_wh: int | None) -> int | None:
        peak = peak_of(site())
        for second in range(101):
            peak.fold(reading(second, 36_000, None if before_wh is None else before_wh + 10 * second))
            peak.tick(at(second))
        peak.fold(reading(200, 36_000, after_wh))
        return peak.view(at(200)).used_wh

    assert after_gap(5_000, 7_500) == 2_500  # the register saw all of it
    assert after_gap(None, None) == 1_000 + round(100 * 172_500 / 3600)
    assert after_gap(5_000, 4_000) == 1_000 + round(100 * 172_500 / 3600)  # it ran backwards


def test_a_gap_over_the_turn_of_the_quarter_lies_behind_it_as_far_as_it_can() -> None:
    peak = peak_of(site())
    for second in range(801):
        peak.fold(reading(second, 0, 0))
        peak.tick(at(second))
    for second in range(801, 1000):
        peak.tick(at(second))
    assert peak.view(at(999)).used_wh == round(99 * 172_500 / 3600)
    peak.fold(reading(1000, 0, 1_000))
    peak.tick(at(1000))
    assert peak.view(at(1000)).used_wh == 1_000


def test_a_register_that_stands_still_under_load_counts_nothing() -> None:
    peak = peak_of(site())
    for second in range(301):
        peak.fold(reading(second, 60_000, 5_000))
        peak.tick(at(second))
    peak.fold(reading(400, 60_000, 5_000))
    assert peak.view(at(400)).used_wh == 5_000 + round(100 * 172_500 / 3600)


def test_back_feed_is_no_import_and_pays_nothing_back() -> None:
    peak = peak_of(site())
    for second in range(301):
        peak.fold(reading(second, 36_000 if second < 100 else -36_000))
        peak.tick(at(second))
    assert peak.view(at(300)).used_wh == pytest.approx(1_000, abs=10)


def test_the_highest_quarter_of_the_month_is_kept_and_a_new_month_begins_at_nothing() -> None:
    peak = peak_of(site())
    end_s = (datetime(2026, 11, 30, 23, 0, tzinfo=UTC) - QUARTER).total_seconds()  # midnight in Amsterdam
    saved = []
    for second in range(round(end_s) - 1800, round(end_s) + 10):
        peak.fold(reading(second, 30_000 if second < end_s - 900 else 20_000))
        saved += peak.tick(at(second))
    assert [(each.month, each.highest_w) for each in saved] == [
        ("2026-11", 0),
        ("2026-11", pytest.approx(30_000, rel=0.01)),
        ("2026-12", 0),
    ]


def test_the_month_may_be_the_target_where_the_site_says_so() -> None:
    kept, follows = peak_of(site()), peak_of(replace(site(), peak_follows_month=True))
    for peak in (kept, follows):
        peak.restore(PeakRestored("2026-11", 90_000, QUARTER, None))
    assert (kept.target_w, follows.target_w) == (60_000, 90_000)


def test_without_a_trusted_clock_no_moment_is_above_the_target() -> None:
    peak = peak_of(site())
    for second in range(700):
        peak.fold(reading(second, 20_000))
        peak.tick(at(second))
    assert peak.rooms_w(20_000, 20_000, at(700))[0] > 100_000
    peak.tick(at(700, trusted=False))
    lower_w, raise_w = peak.rooms_w(20_000, 25_000, at(700, trusted=False))
    assert (lower_w, raise_w) == (40_000, 33_950)
    assert peak.view(at(700)).window_start is None


def test_a_clock_that_is_set_finds_its_quarter_in_what_was_seen() -> None:
    peak = peak_of(site())
    for second in range(700):
        peak.fold(reading(second, 36_000))
        peak.tick(at(second, trusted=second < 5))
    moved = at(700)._replace(utc=QUARTER + timedelta(seconds=200))
    peak.fold(reading(700, 36_000))
    peak.tick(moved)
    assert peak.view(moved).used_wh == 2_000


def test_daylight_saving_moves_no_quarter() -> None:
    peak = peak_of(site())
    change = datetime(2026, 10, 25, 1, 0, tzinfo=UTC)  # three o'clock becomes two
    starts = []
    for second in range(-950, 950):
        now = Moment(MONO_S + second, change + timedelta(seconds=second))
        peak.fold(reading(second, 20_000))
        starts += [entry.window for entry in peak.tick(now)]
    quarters = (-30, -15, 0, 15)
    assert starts == [change + timedelta(minutes=minutes) for minutes in quarters]


def test_a_site_without_a_target_has_no_peak() -> None:
    assert Peak.of(site(target_w=None)) is None
