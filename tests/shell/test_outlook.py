"""What completes a request: prices as the core knows them, load and sun as learnt from pictures and kept on disk."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from small_depot import START, HandClock, site

from controller.core import planning
from controller.core.depot import Depot
from controller.core.events import TariffRead
from controller.core.model import SITE, Battery, Dc, Meter, MeterId, MeterRole, PerPhase, Quality, each_phase
from controller.core.planning import Step
from controller.core.snapshot import BatteryView, CircuitView, MeterView, Snapshot
from controller.core.tariff import Band, Rates, Tariff
from controller.core.watts import load_ma
from controller.outlook import FEWEST, Outlook
from controller.storage import Storage

DAY = timedelta(days=1)
MONDAY = START + DAY
QUARTER = timedelta(minutes=15)
MAIN, SUN = MeterId("main"), MeterId("sun")


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[Storage]:
    opened = Storage(tmp_path / "state")
    await opened.open()
    yield opened
    await opened.close()


def depot(sun: bool = False) -> Depot:
    meters = {MAIN: Meter(MAIN, "k", MeterRole.GRID, 1.0, 5.0)}
    if sun:
        meters[SUN] = Meter(SUN, "k", MeterRole.PV, 1.0, 5.0)
    place = site()
    circuits = {SITE: replace(place.circuits[SITE], meter=MAIN)}
    return Depot(replace(place, meters=meters, circuits=circuits), "1")


def picture(
    found: Depot,
    at_s: float,
    load_a: float | None,
    sun_w: int | None = None,
    quality: Quality = Quality.GOOD,
    import_w: int | None = None,
) -> Snapshot:
    """As the dashboard would see it: so much that is not ours flows in on each phase."""
    load_ma = None if load_a is None else round(load_a * 1000)
    background = PerPhase(load_ma, load_ma, load_ma)
    view = CircuitView(
        SITE, None, each_phase(60_000), background, background, each_phase(0), MAIN, 0.5, quality
    )
    power = {SUN: sun_w, MAIN: import_w}
    meters = tuple(
        MeterView(id, "k", 0.5, Quality.GOOD, power.get(id), PerPhase(None, None, None), None, None)
        for id in found.site.meters
    )
    time = MONDAY + timedelta(seconds=at_s)
    return Snapshot(time, "s", "auto", "", "UTC", (view,), (), meters, (), (), ())


def outlook(found: Depot, storage: Storage, clock: HandClock | None = None) -> Outlook:
    return Outlook(found, clock or HandClock(), storage, lambda: None)


def learn_a_day(found: Depot, made: Outlook, load_a: float = 10.0, sun_w: int | None = None) -> None:
    for n in range(97 * 90):
        made.observe(picture(found, n * 10, load_a, sun_w))


async def test_prices_come_from_the_tariff(storage: Storage) -> None:
    found = depot()
    made = outlook(found, storage)
    now = HandClock().now()
    assert made.complete(found.plan_request(now)).prices == ()
    rates = Rates("UTC", (Band(0, 1440, 250_000),))
    found.apply(TariffRead(Tariff("EUR", rates, rates, 6_500_000)), now)
    request = made.complete(found.plan_request(now))
    assert {price.amount for price in request.prices} == {0.25}
    assert request.prices[-1].start - request.now.utc > 3 * DAY
    assert {price.amount for price in request.feed_in} == {0.25}
    assert request.peak_price == 6.5


async def test_a_day_makes_a_forecast_and_it_outlives_the_process(storage: Storage) -> None:
    found = depot()
    made = outlook(found, storage)
    learn_a_day(found, made)
    now = HandClock().now()._replace(utc=MONDAY + DAY + 2 * QUARTER)
    request = made.complete(replace(found.plan_request(now), now=now))
    assert request.load[0] == Step(MONDAY + DAY + 2 * QUARTER, 6_900)
    assert len(request.load) == 96
    assert request.pv == (), "nobody measures the sun"
    again = outlook(found, storage)
    await again.open()
    assert again.complete(replace(found.plan_request(now), now=now)).load == request.load


async def test_a_forecast_carries_its_usual_error_against_us(storage: Storage) -> None:
    found = depot(sun=True)
    made = outlook(found, storage)
    learn_a_day(found, made, 10.0, sun_w=-4_000)
    for n in range(97 * 90, 2 * 97 * 90):
        made.observe(picture(found, n * 10, 20.0, -2_000))
    assert made.load.error_w == pytest.approx(4_900, rel=0.02)  # 10 A more, 2 kW less that the sun hid
    now = HandClock().now()._replace(utc=MONDAY + 2 * DAY + QUARTER)
    request = made.complete(replace(found.plan_request(now), now=now))
    # as it is now at first, then the mean of 10.9 and 15.8 kW; and of 4 and 2 kW
    assert request.load[0].power_w == pytest.approx(15_800 + (made.load.error_w or 0), abs=2)
    assert request.load[8].power_w == pytest.approx(13_350 + (made.load.error_w or 0), abs=2)
    assert request.pv[0].power_w == pytest.approx(3_000 - (made.sun.error_w or 0), abs=2)


@pytest.mark.parametrize(
    ("load_a", "sun_w", "quality"),
    [(None, -1_000, Quality.GOOD), (10.0, None, Quality.GOOD), (10.0, -1_000, Quality.SUBSTITUTED)],
)
async def test_what_is_not_known_teaches_nothing(
    storage: Storage, load_a: float | None, sun_w: int | None, quality: Quality
) -> None:
    found = depot(sun=True)
    made = outlook(found, storage)
    for n in range(200):
        made.observe(picture(found, n * 10, load_a, sun_w, quality))
    assert made.load.expect(MONDAY) is None


async def test_a_dc_output_that_counts_high_hides_no_load(storage: Storage) -> None:
    """10.35 kW at the output are 11.25 kW of the supply; for the fuse they count as 12.5 kW, which the load was short of."""
    found = depot()
    evse = replace(next(iter(found.site.evses.values())), dc=Dc(60_000, 207_000, 92))
    found = Depot(replace(found.site, evses={evse.id: evse}), "1")
    made = outlook(found, storage)
    (view,) = found.step(HandClock().now()).snapshot.evses
    counted_ma = load_ma(Dc(60_000, 207_000, 92), 10_350)
    hidden_a = (counted_ma - round(11_250 / 0.69)) / 1000
    for n in range(97 * 90):
        seen = picture(found, n * 10, 10.0 - hidden_a)
        made.observe(replace(seen, evses=(view._replace(power_w=10_350),)))
    assert hidden_a > 1.7
    assert made.load.expect(MONDAY) == pytest.approx(6_900, abs=5)


async def test_half_a_quarter_hour_is_none(storage: Storage) -> None:
    found = depot()
    made = outlook(found, storage)
    for n in range(FEWEST - 1):
        made.observe(picture(found, n * 10, 10.0))
    made.observe(picture(found, 900, 10.0))
    assert made.load.expect(MONDAY) is None


@pytest.mark.parametrize(("soc_pct", "capacity_wh"), [(50, 40_000), (None, 40_000), (50, None)])
async def test_a_battery_is_planned_for_where_it_is_known(
    storage: Storage, soc_pct: int | None, capacity_wh: int | None
) -> None:
    unit = Battery("b", MeterId("bat"), SITE, 10_000, 8_000, 10, capacity_wh=capacity_wh)
    found = depot()
    meters = {**found.site.meters, unit.meter: Meter(unit.meter, "k", MeterRole.BATTERY, 1.0, 5.0)}
    found = Depot(replace(found.site, batteries=(unit,), meters=meters), "1")
    view = BatteryView("b", SITE, 0, soc_pct, None, None, "")
    seen = replace(picture(found, 0, 10.0), batteries=(view,))
    made = Outlook(found, HandClock(), storage, lambda: seen)
    request = made.complete(found.plan_request(HandClock().now()))
    known = planning.Battery(40_000, 20_000, 10_000, 8_000, 4_000)
    assert request.battery == (known if soc_pct and capacity_wh else None)


async def test_the_highest_quarter_of_the_month_is_known_and_ends_with_the_month(storage: Storage) -> None:
    found = depot()
    made = outlook(found, storage)
    for quarter, import_w in enumerate((30_000, 52_000, 41_000, -9_000)):
        for n in range(90):
            made.observe(picture(found, quarter * 900 + n * 10, 10.0, import_w=import_w))
    now = HandClock().now()

    def peak_w(asked: Outlook, at: datetime) -> int:
        return asked.complete(replace(found.plan_request(now), now=now._replace(utc=at))).peak_w

    assert peak_w(made, MONDAY + DAY) == 52_000
    again = outlook(found, storage)
    await again.open()
    assert peak_w(again, MONDAY + DAY) == 52_000
    first_of_december = datetime(2026, 11, 30, 23, 0, tzinfo=UTC)
    assert peak_w(again, first_of_december - QUARTER) == 52_000
    assert peak_w(again, first_of_december) == 0, "midnight in Amsterdam"
