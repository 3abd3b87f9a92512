"""The virtual breaker against the points its standards state, against slower conforming devices, and as it is shown."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from math import exp, log

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.core.bimetal import KINDS, UNKNOWN, WARM_PCT, Bimetal, Curve
from controller.core.depot import Depot
from controller.core.events import MeterFailed, MeterReading
from controller.core.model import (
    SITE,
    Circuit,
    Meter,
    MeterId,
    MeterRole,
    Moment,
    PerPhase,
    Site,
    each_phase,
)
from controller.core.snapshot import CircuitView, Snapshot
from controller.core.wire import snapshot_from, status

RATED_MA = 100_000
HOUR_S = 3600.0


def device(breaker: str | None) -> Bimetal:
    return Bimetal(Circuit(SITE, None, each_phase(RATED_MA), breaker=breaker))


def cold(breaker: str | None) -> Bimetal:
    made = device(breaker)
    made.fold(0.0, (0, 0, 0))
    made.fold(1e6, (0, 0, 0))
    assert made.margins_pct() == each_phase(100)
    return made


def margin_after(made: Bimetal, multiple: float, seconds: float, start_s: float = 1e6) -> int:
    current = [round(multiple * RATED_MA)] * 3
    made.fold(start_s, current)
    made.fold(start_s + seconds, current)
    margins = made.margins_pct()
    assert margins is not None
    return min(margins)


# --- the points of the standards ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "never", "surely"),
    [("B", 1.13, 1.45), ("C", 1.13, 1.45), ("D", 1.13, 1.45), ("60947-2", 1.05, 1.30), ("gG", 1.25, 1.6)],
)
def test_conventional_currents(kind: str, never: float, surely: float) -> None:
    curve = KINDS[kind]
    assert curve.never == never
    warm = device(kind)
    assert margin_after(warm, 1.0, HOUR_S, 0.0) == WARM_PCT, "its own rating for ever is what it is made for"
    hour = cold(kind)
    margin_after(hour, never, HOUR_S)
    assert max(hour._heat) <= curve.trips * (1 + 1e-9), "a device that conforms"
    assert margin_after(cold(kind), surely, HOUR_S) == 0
    assert margin_after(hour, surely, 60.0, 1e6 + HOUR_S) == 0


@pytest.mark.parametrize(
    ("kind", "multiple", "earliest_s"),
    [("B", 2.55, 1.0), ("C", 2.55, 1.0), ("D", 2.55, 1.0), ("gG", 33 / 16, 10.0), ("gG", 2.0, 10.0)],
)
def test_from_cold_it_trips_no_later_than_the_fastest_and_no_earlier_than_any(
    kind: str, multiple: float, earliest_s: float
) -> None:
    if multiple <= KINDS[kind].at_once:
        assert margin_after(cold(kind), multiple, 0.9 * earliest_s) > 0
    assert margin_after(cold(kind), multiple, 1.2 * earliest_s) == 0


@pytest.mark.parametrize(
    ("kind", "multiple"),
    [("B", 3.01), ("C", 5.01), ("D", 10.01), ("60947-2", 2.41), ("gG", 2.07), (None, 2.07)],
)
def test_where_a_magnet_may_act_or_a_wire_may_melt_one_reading_is_enough(
    kind: str | None, multiple: float
) -> None:
    assert margin_after(cold(kind), multiple, 0.0) == 0


def test_an_unknown_breaker_is_the_most_sensitive_of_all() -> None:
    for kind, curve in KINDS.items():
        assert UNKNOWN.trips <= curve.trips and UNKNOWN.at_once <= curve.at_once
        for multiple in (1.02, 1.1, 1.2, 1.4, 2.0, 2.5):
            for seconds in (0.5, 2.0, 10.0, 60.0):
                unknown = margin_after(cold(None), multiple, seconds)
                assert unknown <= margin_after(cold(kind), multiple, seconds)


# --- every device that conforms ---------------------------------------------------------------------------------

loads = st.lists(st.tuples(st.floats(0.1, 200.0), st.floats(0.0, 2.05)), min_size=1, max_size=30)


@settings(derandomize=True, max_examples=200, deadline=None)
@given(kind=st.sampled_from(sorted(KINDS)), share=st.floats(0, 1), lag=st.floats(0, 1), profile=loads)
def test_no_conforming_body_of_one_time_constant_is_ever_closer_to_its_end(
    kind: str, share: float, lag: float, profile: list[tuple[float, float]]
) -> None:
    """Its threshold lies between "never" and "surely", its lag between the fastest and the slowest; it starts cold."""
    curve = KINDS[kind]
    surely = {"60947-2": 1.30, "gG": 1.6}.get(kind, 1.45)
    never = curve.never + share * (surely - curve.never)
    lag_s = curve.heats_s * (curve.cools_s / curve.heats_s) ** lag
    ours, theirs, at_s = cold(kind), 0.0, 1e6
    for seconds, multiple in profile:
        at_s += seconds
        current = [round(multiple * RATED_MA)] * 3
        ours.fold(at_s, current)
        theirs = multiple**2 + (theirs - multiple**2) * exp(-seconds / lag_s)
        assert ours._heat[0] >= theirs - 1e-3
        if theirs >= never**2 * (1 + 1e-3):
            margins = ours.margins_pct()
            assert margins is not None and min(margins) == 0


def test_what_was_between_two_readings_counts_as_the_larger_and_back_feed_heats() -> None:
    rising, falling = cold("C"), cold("C")
    rising.fold(1e6 + 2.0, [150_000] * 3)
    falling.fold(1e6, [-150_000] * 3)
    falling.fold(1e6 + 2.0, [0] * 3)
    assert rising.margins_pct() == falling.margins_pct()
    assert rising._heat[0] > 0.5


def test_repeated_overloads_add_up() -> None:
    """IEC 60898: harmless once, not every minute."""
    pulsed = cold("C")
    once = margin_after(pulsed, 1.3, 3.0)
    at_s = 1e6 + 3.0
    for _ in range(5):
        at_s += 20.0
        pulsed.fold(at_s, [95_000] * 3)
        again = margin_after(pulsed, 1.3, 3.0, at_s)
        at_s += 3.0
    assert again < once


def test_curves_follow_from_their_facts() -> None:
    assert KINDS["C"].heats_s == pytest.approx(1 / log(2.55**2 / (2.55**2 - 1.13**2)))
    assert isinstance(UNKNOWN, Curve) and UNKNOWN.cools_s >= max(kind.cools_s for kind in KINDS.values())


# --- as it is shown -------------------------------------------------------------------------------------------------

MAIN = MeterId("main")
START = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def depot(breaker: str | None = None, assumed_ma: int = 20_000) -> Depot:
    circuit = Circuit(SITE, None, each_phase(RATED_MA), MAIN, each_phase(assumed_ma), breaker=breaker)
    return Depot(
        Site(
            "d", "UTC", 230_000, {SITE: circuit}, {}, {MAIN: Meter(MAIN, "sdm630", MeterRole.GRID, 1.0, 5.0)}
        ),
        "1",
    )


def live(made: Depot, since: int, until: int, l1_ma: int | None) -> Snapshot:
    """None: the meter says nothing."""
    shown = None
    for second in range(since, until):
        now = Moment(1000.0 + second, START + timedelta(seconds=second))
        if l1_ma is None:
            made.apply(MeterFailed(MAIN, "unreachable", "no answer"), now)
        else:
            reading = PerPhase[int | None](l1_ma, 10_000, 10_000)
            made.apply(MeterReading(MAIN, now.mono_s, reading, None, each_phase(None)), now)
        shown = made.step(now).snapshot
    assert shown is not None
    return shown


def circuit_of(shown: Snapshot) -> CircuitView:
    (view,) = shown.circuits
    return view


def test_the_margin_of_the_hottest_phase_is_shown_and_survives_the_wire() -> None:
    made = depot("C")
    assert circuit_of(live(made, 0, 3, None)).trip_margin_pct is None
    shown = live(made, 3, 4000, 50_000)
    margin = circuit_of(shown).trip_margin_pct
    assert margin is not None and 80 <= margin <= 83
    doc = status(shown)
    assert doc["circuits"][0]["trip_margin_pct"] == margin
    assert circuit_of(snapshot_from(doc)).trip_margin_pct == margin


def kinds(shown: Snapshot) -> set[str]:
    return {alarm.kind for alarm in shown.alarms}


def test_below_thirty_per_cent_it_is_an_alarm_and_full_load_is_not() -> None:
    made = depot("C")
    assert "trip-margin" not in kinds(live(made, 0, 600, 100_000))
    shown = live(made, 600, 605, 110_000)
    assert "trip-margin" in kinds(shown)
    (alarm,) = (alarm for alarm in shown.alarms if alarm.kind == "trip-margin")
    assert (alarm.source, alarm.priority) == (SITE, 2)
    assert alarm.text.startswith("L1 was overloaded: C: may trip, ")
    assert "trip-margin" in kinds(live(made, 605, 630, 60_000)), "a slow device is still hot"
    assert "trip-margin" not in kinds(live(made, 630, 1200, 60_000))


def test_a_trip_is_told_with_the_breaker_that_was_assumed() -> None:
    shown = live(depot(), 0, 30, 220_000)
    (alarm,) = (alarm for alarm in shown.alarms if alarm.kind == "trip-margin")
    assert alarm.priority == 1
    assert "the most sensitive breaker there is, none is named: may have tripped" in alarm.text


def test_silence_is_the_worst_that_may_flow() -> None:
    """The building at its worst of 90 A: warmer than the 10 A last seen."""
    made = depot("C", assumed_ma=90_000)
    cool = circuit_of(live(made, 0, 3000, 10_000)).trip_margin_pct
    assert cool is not None and cool >= 98
    silent = circuit_of(live(made, 3000, 3200, None)).trip_margin_pct
    assert silent is not None and silent <= 100 - 70 * 0.81 + 1


def test_a_reading_with_a_phase_missing_is_no_reading() -> None:
    made = depot("C")
    now = Moment(1000.0, START)
    missing: PerPhase[int | None] = PerPhase(10_000, None, 10_000)
    made.apply(MeterReading(MAIN, 1000.0, missing, None, each_phase(None)), now)
    assert circuit_of(made.step(now).snapshot).trip_margin_pct is None


def test_limits_differ_per_phase() -> None:
    made = Bimetal(Circuit(SITE, None, PerPhase(100_000, 50_000, 100_000), breaker="B"))
    made.fold(0.0, (50_000, 50_000, 0))
    made.fold(HOUR_S, (50_000, 50_000, 0))
    margins = made.margins_pct()
    assert margins is not None
    assert margins.l1 > 80 and margins.l2 == WARM_PCT and margins.l3 > 95
