"""Background load: bounds, doubt against us, and the ladder of silence (DESIGN 5.3, field notes 5.3)."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.core.background import Background, Bounds, Sight
from controller.core.model import SITE, Circuit, PerPhase, each_phase

LIMIT_MA = 63_000
WORST_MA = 30_000


def track(worst_ma: int | None = WORST_MA) -> Background:
    worst = None if worst_ma is None else each_phase(worst_ma)
    return Background(Circuit(SITE, None, each_phase(LIMIT_MA), assumed_load_ma=worst), stale_after_s=5.0)


def read(background: Background, at_s: float, total_ma: int, least_ma: int = 0, most_ma: int = 0) -> None:
    bounds = Bounds(each_phase(least_ma), each_phase(most_ma))
    background.fold(at_s, PerPhase(total_ma, total_ma, total_ma), bounds)
    background.assumed(at_s)


def clear(total_ma: int = 10_000, worst_ma: int | None = WORST_MA) -> Background:
    """Ten good readings, the last at 10 s."""
    background = track(worst_ma)
    for second in range(1, 11):
        read(background, float(second), total_ma)
    return background


# --- the ladder -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("age_s", "sight", "lower_a"),
    [
        (0.0, Sight.CLEAR, 10),
        (3.0, Sight.CLEAR, 10),
        (3.1, Sight.HOLD, 10),
        (5.0, Sight.HOLD, 10),
        (5.1, Sight.RAMP, 10),
        (17.5, Sight.RAMP, 20),
        (30.0, Sight.RAMP, 30),
        (59.9, Sight.RAMP, 30),
        (60.1, Sight.BLIND, 30),
    ],
)
def test_silence_goes_down_the_ladder(age_s: float, sight: Sight, lower_a: int) -> None:
    assumed = clear().assumed(10.0 + age_s)
    assert assumed.sight is sight
    assert assumed.lower_ma.l1 // 1000 == lower_a
    assert assumed.raise_ma >= assumed.lower_ma


def test_a_ramp_never_comes_down() -> None:
    background = clear()
    seen = [background.assumed(10.0 + tenth / 10).lower_ma.l1 for tenth in range(900)]
    assert all(later >= earlier for earlier, later in pairwise(seen))


def test_silence_after_a_high_building_does_not_make_it_lower() -> None:
    """Above the configured worst case, what was seen last, and a tenth more, is the worst case."""
    assert clear(total_ma=40_000).assumed(45.0).lower_ma.l1 >= 44_000


def test_it_is_blind_until_ten_readings() -> None:
    background = track()
    assert background.assumed(0.0).sight is Sight.BLIND
    for second in range(1, 10):
        read(background, float(second), 10_000)
        assert background.assumed(float(second)).sight is Sight.BLIND
    read(background, 10.0, 10_000)
    assert background.assumed(10.0).sight is Sight.CLEAR


def test_after_a_blind_minute_ten_good_readings_in_a_row_are_needed_again() -> None:
    background = clear()
    assert background.assumed(75.0).sight is Sight.BLIND
    for second in range(80, 89):
        read(background, float(second), 10_000)
        assert background.assumed(float(second)).sight is Sight.BLIND
    read(background, 100.0, 10_000)  # the tenth, but after a gap: the count begins anew
    assert background.assumed(100.0).sight is Sight.BLIND
    for second in range(101, 110):
        read(background, float(second), 10_000)
    assert background.assumed(109.0).sight is Sight.CLEAR


def test_a_short_silence_needs_no_ten_readings() -> None:
    background = clear()
    assert background.assumed(20.0).sight is Sight.RAMP
    read(background, 21.0, 10_000)
    assert background.assumed(21.0).sight is Sight.CLEAR


def test_without_a_worst_case_silence_is_blindness_at_once() -> None:
    background = clear(worst_ma=None)
    assert background.assumed(15.0).sight is Sight.HOLD
    assert background.assumed(15.1).sight is Sight.BLIND
    assert background.assumed(50.0).lower_ma.l1 >= LIMIT_MA


def test_a_reading_with_a_phase_missing_or_an_old_one_is_no_reading() -> None:
    background = clear()
    background.fold(11.0, PerPhase(1, None, 1), Bounds(each_phase(0), each_phase(0)))
    assert background.age_s(11.0) == 1.0
    read(background, 9.0, 50_000)
    assert background.estimate_ma() == each_phase(10_000)


# --- the estimate -------------------------------------------------------------------------------------------------------


def test_a_vehicle_that_starts_is_not_background() -> None:
    """The meter sees 16 A more, no sample yet: it may be the vehicle, which is allowed to."""
    background = clear()
    read(background, 11.0, 26_000, least_ma=0, most_ma=16_000)
    assert background.estimate_ma().l1 == 10_000


def test_what_no_vehicle_may_draw_is_background_at_once() -> None:
    background = clear()
    read(background, 11.0, 36_000, least_ma=0, most_ma=16_000)
    assert background.estimate_ma().l1 == 20_000


def test_above_the_limit_all_doubt_is_against_us() -> None:
    background = clear()
    read(background, 11.0, LIMIT_MA + 1, least_ma=6_000, most_ma=60_000)
    assert background.estimate_ma().l1 == LIMIT_MA + 1 - 6_000


def test_doubt_that_stands_for_longer_than_stations_need_to_report_is_believed() -> None:
    background = clear()
    estimates = []
    for second in range(11, 30):
        read(background, float(second), 26_000, least_ma=0, most_ma=16_000)
        estimates.append(background.estimate_ma().l1)
    assert estimates[0] == 10_000, "not at once"
    assert estimates[-1] == 26_000, "but when nobody claims it"


def test_a_station_that_reports_in_time_is_never_taken_for_the_building() -> None:
    background = clear()
    for second in range(11, 60):
        least = 0 if second < 21 else 16_000  # its first sample comes after 10 s
        read(background, float(second), 26_000, least_ma=least, most_ma=16_000)
        assert background.estimate_ma().l1 == 10_000


def test_a_peak_is_lowered_for_at_once_and_forgotten_for_raising_after_half_a_minute() -> None:
    background = clear()
    read(background, 11.0, 40_000)
    for second in range(12, 42):
        read(background, float(second), 10_000)
        assumed = background.assumed(float(second))
        assert assumed.lower_ma.l1 == (40_000 if second <= 14 else 10_000)
        assert assumed.raise_ma.l1 == (40_000 if second <= 41 else 10_000)
    read(background, 42.0, 10_000)
    assert background.assumed(42.0).raise_ma.l1 == 10_000


def test_back_feed_is_seen_as_it_is() -> None:
    """PV on the site: negative background. Whether it is room is not decided here (it is not: decide._rooms)."""
    assert clear(total_ma=-20_000).assumed(10.0).lower_ma.l1 == -20_000


readings = st.lists(
    st.tuples(st.integers(-40_000, 90_000), st.integers(0, 30_000), st.integers(0, 30_000)),
    min_size=1,
    max_size=40,
)


@settings(derandomize=True, max_examples=150, deadline=None)
@given(readings)
def test_the_estimate_stays_between_its_bounds(values: list[tuple[int, int, int]]) -> None:
    """meter - most <= estimate, and estimate <= meter - least unless older evidence says more."""
    background = track()
    uppers: list[int] = []
    for second, (total, low, more) in enumerate(values):
        read(background, float(second), total, least_ma=low, most_ma=low + more)
        uppers.append(total - low)
        estimate = background.estimate_ma().l1
        assert estimate is not None
        assert total - (low + more) <= estimate <= max(uppers)
        if total > LIMIT_MA:
            assert estimate == total - low
        assumed = background.assumed(float(second))
        assert assumed.raise_ma.l1 >= assumed.lower_ma.l1 >= estimate


@settings(derandomize=True, max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([0.5, 1.0, 2.0, 4.0, 7.0, 40.0, 70.0]), st.integers(0, 60_000)), max_size=30
    )
)
def test_readings_however_late_never_make_silence_better(gaps: list[tuple[float, int]]) -> None:
    """Between two readings sight only gets worse and the load to lower for, once the reading is late, only more."""
    background, now_s = track(), 0.0
    for gap_s, total in gaps:
        read(background, now_s, total)
        ages = [tenth * gap_s / 10 for tenth in range(10)]
        seen = [background.assumed(now_s + age) for age in ages]
        assert all(later.sight >= earlier.sight for earlier, later in pairwise(seen))
        late = [assumed for age, assumed in zip(ages, seen, strict=True) if age > 3.0]
        assert all(later.lower_ma >= earlier.lower_ma for earlier, later in pairwise(late))
        now_s += gap_s
