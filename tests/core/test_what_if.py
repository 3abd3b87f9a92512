"""Typed words become another request, and nothing but what was said is different in it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.model import (
    SITE,
    Circuit,
    CircuitId,
    Departure,
    Evse,
    EvseId,
    Link,
    Moment,
    Site,
    StationId,
    Vehicle,
    VehicleId,
    each_phase,
)
from controller.core.planning import Expected, PlanRequest, Present
from controller.planner import horizon
from controller.what_if import changed

NOW = datetime(2026, 11, 22, 20, 0, tzinfo=UTC)  # 21:00 on site
ROW = CircuitId("row_b")
BUS, VAN = VehicleId("BUS-07"), VehicleId("BUS-0")
A, B, C, D = (EvseId(f"CP00{n}/1") for n in range(1, 5))


def at(hours: float) -> datetime:
    return NOW + timedelta(hours=hours)


def request() -> PlanRequest:
    """BUS-07 and an unknown one are here, BUS-0 is expected, D is free."""
    circuits = {
        SITE: Circuit(SITE, None, each_phase(100_000)),
        ROW: Circuit(ROW, SITE, each_phase(63_000)),
    }
    link = Link("wire", 180, 30, 10, 12)
    evses = {
        name: Evse(name, StationId(name[:5]), ROW, 32_000, 6_000, (0, 1, 2), 6_000, link)
        for name in (A, B, C, D)
    }
    vehicles = {name: Vehicle(name, (), 60_000) for name in (BUS, VAN)}
    return PlanRequest(
        Moment(0.0, NOW),
        Site("depot", "Europe/Amsterdam", 230_000, circuits, evses, vehicles),
        (Present(A, BUS, at(-1), 5_000, 40), Present(B, None, at(-2), 1_000, None)),
        {},
        {BUS: Departure(BUS, at(9), energy_wh=40_000), B: Departure(B, at(7), energy_wh=20_000)},
        (Expected(C, at(1), at(8), 30_000, VAN),),
    )


@pytest.mark.parametrize("key", ["site.limit", "site", 'circuit."site".limit', " site.limit "])
def test_another_limit_of_the_site(key: str) -> None:
    found, (said,) = changed(request(), f"{key} = 80 A")
    assert found.site.circuits[SITE].limit_ma == each_phase(80_000)
    assert said == "limit of site 80 A (now 100 A)"
    assert replace(found, site=request().site) == request(), "nothing else"


def test_another_limit_in_kilowatts_stands_beside_the_amperes() -> None:
    found, (said,) = changed(request(), "site.limit=40 kW")
    assert found.site.circuits[SITE] == replace(request().site.circuits[SITE], limit_w=40_000)
    assert said == "limit of site 40 kW (now 100 A)"
    found, (said,) = changed(found, "site.limit=35.5 kW")
    assert found.site.circuits[SITE].limit_w == 35_500 and said.endswith("35.5 kW (now 100 A and 40 kW)")


def test_a_lower_limit_in_kilowatts_is_planned_within() -> None:
    found, _ = changed(request(), "site.limit=6 kW")
    watts = [sum(slot) for slot in zip(*horizon.plan(found).evses_w.values(), strict=True)]
    assert max(sum(slot) for slot in zip(*horizon.plan(request()).evses_w.values(), strict=True)) > 6_100
    assert 0 < max(watts) <= 6_100


def test_another_limit_of_a_circuit() -> None:
    found, _ = changed(request(), "circuit.row_b.limit='32.5 A'")
    assert found.site.circuits[ROW].limit_ma == each_phase(32_500)
    assert found.site.circuits[SITE] == request().site.circuits[SITE]


@pytest.mark.parametrize(
    ("text", "key", "hours", "energy_wh", "soc"),
    [
        ("BUS-07 +30m", BUS, 9.5, 40_000, None),
        ("bus-07 -1h", BUS, 8, 40_000, None),
        ("CP001/1 + 90 m", BUS, 10.5, 40_000, None),
        ("CP002 -15 m", B, 6.75, 20_000, None),
        ("BUS-07 05:30", BUS, 8.5, 40_000, None),
        ("BUS-07 05:30 10.5 kWh", BUS, 8.5, 10_500, None),
        ("BUS-07 80 %, 23:15", BUS, 2.25, None, 80),
        ("CP002 30kWh", B, 7, 30_000, None),
    ],
)
def test_another_departure(text: str, key: str, hours: float, energy_wh: int | None, soc: int | None) -> None:
    found, _ = changed(request(), text)
    assert found.departures[key] == Departure(key, at(hours), energy_wh, soc)
    assert replace(found, departures=request().departures) == request()


def test_who_is_expected_may_leave_at_another_time() -> None:
    """BUS-0 is another vehicle than BUS-07, although its name begins alike."""
    found, (said,) = changed(request(), "BUS-0 -2h")
    assert found.expected == (Expected(C, at(1), at(6), 30_000, VAN),)
    assert found.departures == request().departures
    assert said == "BUS-0 leaves Mon 03:00 with 30.0 kWh (now Mon 05:00 with 30.0 kWh)"


def test_one_more_vehicle_is_like_those_that_are_here() -> None:
    found, (said,) = changed(request(), "add")
    assert found.present[:2] == request().present
    assert found.present[2] == Present(D, None, NOW, 0, None), "where nobody is expected"
    assert found.departures[D] == Departure(D, at(7), energy_wh=30_000)
    assert said == "one more vehicle at CP004/1, leaving Mon 04:00 with 30.0 kWh"


def test_more_vehicles_than_there_are_places_get_places() -> None:
    found, _ = changed(request(), "add 4 12 kWh 23:00")
    added = [present.evse for present in found.present[2:]]
    assert added == [D, C, "ADDED1/1", "ADDED2/1"]
    assert all(found.departures[evse] == Departure(evse, at(2), energy_wh=12_000) for evse in added)
    assert found.site.evses[EvseId("ADDED2/1")].circuit == ROW
    assert set(request().site.evses) == {A, B, C, D}


def test_several_at_once() -> None:
    found, said = changed(request(), "site.limit=80 A; BUS-07 +1h ;")
    assert len(said) == 2
    assert found.departures[BUS].at == at(10)
    assert found.site.circuits[SITE].limit_ma == each_phase(80_000)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "say what would be different"),
        (";;", "say what would be different"),
        ("add; " * 9, "up to 8 things"),
        ("what", "no vehicle that is here"),
        ("BUS-07", "no vehicle that is here"),
        ("BUS-99 +1h", "no vehicle that is here"),
        ("BUS-07 -10h", "lies in the past"),
        ("BUS-07 +169h", "7 days at most"),
        ("BUS-07 -99999999d", "7 days at most"),
        ("BUS-07 +99999999999h", "7 days at most"),
        ("BUS-07 +soon", "not a duration"),
        ("BUS-07 25:10", "not a time of day"),
        ("BUS-07 05:30 40 kWh 80 %", "not understood"),
        ("BUS-07 130 %", "not understood"),
        ("BUS-07 05:30 please", "not understood"),
        ("BUS-07 3", "not understood"),
        ("BUS-0 80 %", "say kWh"),
        ("BUS-0 21:30", "before it comes"),
        ("site.peak=100 kW", "there are site.limit, circuit.row_b.limit"),
        ("site.limit=0 kW", "above 0"),
        ("site.limit=100 horses", "not a current"),
        ("site.limit=0 A", "above 0"),
        ("site.limit=", "not a current"),
        ("add 0", "from 1 to 20"),
        ("add 21", "from 1 to 20"),
        ("add 1 80 %", "say kWh"),
        ("add soon", "not understood"),
    ],
)
def test_what_cannot_be_asked_says_why_in_one_line(text: str, part: str) -> None:
    with pytest.raises(ValueError) as error:
        changed(request(), text)
    assert part in str(error.value) and "\n" not in str(error.value)


def test_without_anybody_here_more_vehicles_need_figures() -> None:
    nobody = replace(request(), present=(), departures={})
    with pytest.raises(ValueError, match="add 1 30 kWh 06:00"):
        changed(nobody, "add")
    found, _ = changed(nobody, "add 2 30 kWh 06:00")
    assert len(found.present) == 2


@pytest.mark.parametrize("text", ["CP002 +1h", "CP002 05:00", "CP002 10 kWh"])
def test_who_has_no_departure_needs_a_whole_one(text: str) -> None:
    departures = {BUS: request().departures[BUS]}
    with pytest.raises(ValueError, match="05:30 40 kWh"):
        changed(replace(request(), departures=departures), text)


@given(st.text(st.sampled_from("BUS-07 add site.limit=;+-:hm%kWA0123456789\u0000é"), max_size=40))
def test_any_words_are_a_request_or_one_line(text: str) -> None:
    try:
        found, said = changed(request(), text)
    except (ValueError, OverflowError):
        return
    assert said
    horizon.plan(found)


def test_the_planner_makes_of_it_what_was_asked() -> None:
    def short_wh(text: str | None) -> int:
        asked = request() if text is None else changed(request(), text)[0]
        made = horizon.plan(asked)
        assert made.by == "horizon"
        return sum(wish.short_wh or 0 for wish in made.wishes.values())

    as_it_is = short_wh(None)
    cases: dict[str, Any] = {
        "site.limit=10 A": True,
        "BUS-07 -8h": True,
        "BUS-07 +1h": False,
        "add 2 1 kWh": False,
    }
    assert as_it_is == 0
    assert {text: short_wh(text) > 0 for text in cases} == cases
