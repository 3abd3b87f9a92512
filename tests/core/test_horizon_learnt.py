"""The plan over the horizon and what was measured: vehicles that are full, that use one phase, that nobody announced."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from controller.core.model import (
    SITE,
    Circuit,
    Departure,
    Evse,
    EvseId,
    Link,
    Moment,
    Site,
    StationId,
    each_phase,
)
from controller.core.planning import PlanRequest, Present, Price, Step
from controller.planner import rules
from controller.planner.horizon import plan

NOW = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)
LINK = Link("wire", 180, 30, 10, 12)
CP = [EvseId(f"CP{n}/1") for n in range(3)]


def request(kwh: float, hours: float = 8.0, **present: object) -> PlanRequest:
    """One vehicle at the first of three EVSEs of 16 A and three phases, 60 A in all."""
    evses = {id: Evse(id, StationId(id[:3]), SITE, 16_000, 6_000, (0, 1, 2), 0, LINK) for id in CP}
    site = Site("depot", "UTC", 230_000, {SITE: Circuit(SITE, None, each_phase(60_000))}, evses)
    here = replace(Present(CP[0], None, NOW, 0, None), **present)  # type: ignore[arg-type]
    departure = Departure(CP[0], NOW + timedelta(hours=hours), energy_wh=int(1000 * kwh))
    return PlanRequest(Moment(0.0, NOW), site, (here,), {}, {CP[0]: departure})


def test_who_takes_nothing_keeps_the_minimum_and_comes_last() -> None:
    for made in (plan(request(20, drawn_ma=0)), rules.plan(request(20, drawn_ma=0))):
        wish = made.wishes[CP[0]]
        assert (wish.cap_ma, wish.why) == (6_000, "takes nothing") and wish.tier > 4


def test_who_draws_on_after_its_need_is_not_stopped() -> None:
    wish = plan(request(20, energy_wh=20_000, granted_ma=16_000)).wishes[CP[0]]
    assert wish.cap_ma is None or wish.cap_ma >= 6_000


def test_one_phase_takes_three_times_as_long() -> None:
    made = plan(request(10, 3.0, phases=(0,)))
    assert made.wishes[CP[0]].short_wh == 0
    assert max(made.evses_w[CP[0]]) <= 3_680
    assert plan(request(15, 3.0, phases=(0,))).wishes[CP[0]].short_wh != 0
    assert plan(request(15, 3.0)).wishes[CP[0]].short_wh == 0


def test_who_might_still_come_does_not_take_the_sun_away() -> None:
    """Dark until noon, then 9 kW for four hours: who has until the evening waits for it, whoever else may come."""
    dark, bright = Step(NOW, 0), Step(NOW + timedelta(hours=4), 9_000)
    after = Step(NOW + timedelta(hours=8), 0)
    asked = replace(request(30, 10.0), pv=(dark, bright, after), prices=(Price(NOW, 0.3),))
    made = plan(asked)
    assert made.by == "horizon" and made.wishes[CP[0]].cap_ma == 0


def test_who_takes_all_it_was_measured_to_take_is_left_a_little_to_show_more() -> None:
    """Where there is room: what it is left is nobody else's loss."""
    asked = request(20, 4.0, drawn_ma=8_000)
    assert plan(asked).wishes[CP[0]].cap_ma == 10_000
    circuit = replace(asked.site.circuits[SITE], limit_ma=each_phase(9_000))
    tight = replace(asked, site=replace(asked.site, circuits={SITE: circuit}))
    assert plan(tight).wishes[CP[0]].cap_ma == 8_000
    assert plan(request(20, 4.0)).wishes[CP[0]].cap_ma == 16_000


def test_nobody_is_started_for_the_last_minutes_of_a_cheap_hour() -> None:
    """Four minutes now are not worth a start, twenty are; who charges already goes on."""

    def made(minutes: int, **present: object) -> int | None:
        dear = NOW + timedelta(minutes=15)
        prices = (Price(NOW, 0.1), Price(dear, 0.3), Price(NOW + timedelta(hours=2), 0.1))
        asked = replace(request(10, 8.0, **present), prices=prices)
        return plan(replace(asked, now=Moment(0.0, dear - timedelta(minutes=minutes)))).wishes[CP[0]].cap_ma

    assert made(4) == 0
    assert made(4, granted_ma=16_000) == 16_000
    assert made(12) == 16_000
