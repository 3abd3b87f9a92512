"""What the plan knows of the site: the quarter-hour target, room kept for fallbacks, how many phases a vehicle uses."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from controller.core.grid import Grid
from controller.core.model import (
    SITE,
    Circuit,
    Departure,
    Evse,
    EvseId,
    Link,
    Moment,
    PerPhase,
    Plan,
    Site,
    StationId,
    each_phase,
)
from controller.core.planning import PlanRequest, Present, Step
from controller.planner.horizon import plan

NOW = datetime(2026, 11, 20, 20, 0, tzinfo=UTC)
LINK = Link("wire", 180, 30, 10, 12)


def asked(count: int, hours: float, kwh: float, site_a: int = 63, free: int = 0) -> PlanRequest:
    """`count` vehicles with the same need, and `free` EVSEs more."""
    evses, present = {}, []
    departures: dict[str, Departure] = {}
    for n in range(count + free):
        name = EvseId(f"CP{n}/1")
        evses[name] = Evse(name, StationId(f"CP{n}"), SITE, 32_000, 6_000, (0, 1, 2), 6_000, LINK)
        if n < count:
            present.append(Present(name, None, NOW, 0, None))
            departures[name] = Departure(name, NOW + timedelta(hours=hours), energy_wh=int(1000 * kwh))
    place = Site("depot", "UTC", 230_000, {SITE: Circuit(SITE, None, each_phase(1000 * site_a))}, evses)
    return PlanRequest(Moment(0.0, NOW), place, tuple(present), {}, departures)


def charging_w(made: Plan) -> list[int]:
    """All vehicles together, per slot."""
    return [sum(watts) for watts in zip(*made.evses_w.values(), strict=True)]


def missing_wh(made: Plan) -> int:
    return sum(wish.short_wh or 0 for wish in made.wishes.values())


def caps_ma(made: Plan) -> list[int]:
    return [wish.cap_ma or 0 for wish in made.wishes.values()]


def test_the_quarter_hour_target_is_kept_while_all_can_still_be_ready() -> None:
    request = asked(3, 8.0, 20.0)
    assert max(plan(request).site_w) > 30_000, "without a target it is the circuits that bind"
    made = plan(replace(request, target_w=12_000, load=(Step(NOW, 2_000),)))
    assert made.by == "horizon" and max(made.site_w) <= 12_001
    assert missing_wh(made) < 100
    assert sum(caps_ma(made)) * 690 / 1e6 <= 10.0 + 6 * 0.69 / 2, (
        "now too, rounded by less than half a minimum"
    )


def test_a_target_that_is_too_low_makes_vehicles_short_and_never_the_quarter_dear() -> None:
    made = plan(replace(asked(3, 4.0, 20.0), target_w=12_000))
    assert made.by == "horizon" and max(made.site_w) <= 12_001
    assert 11_000 < missing_wh(made) < 14_000, "48 of 60 kWh fit"


def test_a_load_that_breaks_the_target_by_itself_leaves_a_plan() -> None:
    steps = (Step(NOW, 15_000), Step(NOW + timedelta(hours=2), 1_000))
    made = plan(replace(asked(1, 6.0, 20.0), target_w=12_000, load=steps))
    assert made.by == "horizon" and missing_wh(made) < 100
    at = [(start - NOW) < timedelta(hours=2) for start in made.slots[:-1]]
    assert not any(watts for watts, early in zip(charging_w(made), at, strict=True) if early)


def test_what_flows_now_is_taken_to_last_where_there_is_no_forecast() -> None:
    request = replace(
        asked(1, 6.0, 30.0), target_w=12_000, background_ma={SITE: PerPhase(10_000, 10_000, 10_000)}
    )
    made = plan(request)
    assert max(charging_w(made)) <= 12_000 - 6_900 + 1


def test_what_is_kept_for_fallbacks_is_nobodys_room() -> None:
    request = asked(1, 2.0, 60.0, site_a=63, free=6)
    floors = dict.fromkeys(request.site.evses, 6_000)
    alone, kept = plan(request), plan(replace(request, floors_ma=floors))
    assert caps_ma(alone) == [32_000]
    # 63 - 7 x 6 A are left, and its own 6 A
    assert kept.by == "horizon" and caps_ma(kept) == [27_000]
    assert max(kept.evses_w[EvseId("CP0/1")]) <= 27 * 690 + 1
    assert missing_wh(kept) > missing_wh(alone)


def test_up_to_their_fallbacks_vehicles_do_not_take_each_others_room() -> None:
    request = asked(4, 2.0, 40.0, site_a=24)
    made = plan(replace(request, floors_ma=dict.fromkeys(request.site.evses, 6_000)))
    assert made.by == "horizon" and caps_ma(made) == [6_000] * 4
    grid = Grid.of(request.site)
    sums = grid.sums((evse, wish.cap_ma or 0) for evse, wish in made.wishes.items())
    assert all(ma <= limit for ma, limit in zip(sums, grid.limits_ma, strict=True))


def test_a_vehicle_that_draws_on_one_phase_is_planned_so() -> None:
    request = asked(1, 2.0, 30.0)
    (name,) = request.site.evses
    one = replace(request.present[0], phases=(0,))
    made = plan(replace(request, present=(one,)))
    assert max(made.evses_w[name]) <= 32 * 230 and missing_wh(made) > 14_000
