"""What sessions cost, from start to stop, told late, over restarts, and with prices that are not known."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from test_sessions import EVSE, SITE_, START, STATION, at, ended, rows, sampled, started, told

from controller.core.costs import SPREAD, UNPRICED
from controller.core.events import SessionRestored, TransactionEnded
from controller.core.sessions import Sessions
from controller.core.tariff import Rates, Span, Tariff

HOUR = timedelta(hours=1)
CHEAP, DEAR = 100_000, 400_000  # the first hour and the second


def tariff(*prices: int | None, currency: str = "EUR") -> Tariff:
    found = [
        Span(START + n * HOUR, START + (n + 1) * HOUR, price)
        for n, price in enumerate(prices)
        if price is not None
    ]
    return Tariff(currency, Rates("UTC", spans=tuple(found)))


def priced(*prices: int | None) -> Sessions:
    sessions = Sessions(SITE_, "1")
    sessions.costs.use(tariff(*prices))
    return sessions


def test_without_a_tariff_nothing_has_a_cost() -> None:
    (row,) = rows([(0, started()), (600, ended(register_wh=2500))]).values()
    assert (row.cost_micro, row.currency, row.counted) == (None, None, None)


def test_each_sample_is_priced_at_its_time() -> None:
    sessions = priced(CHEAP, DEAR)
    told(sessions, started(), 0)
    for second in range(300, 7200, 300):
        told(sessions, sampled(1000 + second, second), second)
    (row,) = told(sessions, ended(second=7200, register_wh=8200), 7200)
    # one Wh per second: 3600 in each hour
    assert (row.cost_micro, row.currency, row.marks) == (3600 * (CHEAP + DEAR) // 1000, "EUR", ())


def test_energy_told_in_one_piece_is_spread_and_marked() -> None:
    sessions = priced(CHEAP, DEAR)
    told(sessions, replace(started(), offline=True), 0)
    stop = replace(ended(second=7200, register_wh=8200), offline=True)
    (row,) = told(sessions, stop, 9000)
    assert row.cost_micro == 7200 * (CHEAP + DEAR) // 2 // 1000
    assert SPREAD in row.marks


def test_one_unknown_price_makes_the_whole_cost_unknown() -> None:
    sessions = priced(CHEAP, None, CHEAP)
    told(sessions, started(), 0)
    for second in (3000, 5000, 8000):
        told(sessions, sampled(1000 + second, second), second)
    (row,) = told(sessions, ended(second=8100, register_wh=9100), 8100)
    assert (row.cost_micro, row.marks) == (None, (UNPRICED,))


def test_a_clock_that_is_not_trusted_prices_nothing() -> None:
    sessions = priced(CHEAP)
    sessions.start(started(), at(0))
    sessions.sample(sampled(1500, 60), at(60)._replace(utc_trusted=False))
    assert sessions.running[EVSE].marks == (UNPRICED,)


def test_a_register_that_jumps_costs_nothing() -> None:
    sessions = priced(CHEAP)
    told(sessions, started(), 0)
    told(sessions, sampled(900_000, 60), 60)
    told(sessions, sampled(900_500, 120), 120)
    assert sessions.running[EVSE].cost_nano == 500 * CHEAP


@pytest.mark.parametrize("currency", ["EUR", "CHF"])
def test_a_restart_goes_on_where_the_cost_stood(currency: str) -> None:
    sessions = Sessions(SITE_, "2")
    sessions.costs.use(tariff(CHEAP, DEAR, currency=currency))
    counted = START + HOUR / 2
    sessions.restore(
        SessionRestored("1-1", EVSE, "1", "TAG1", START, 1000, 2000, 1000, 77_000, "EUR", counted), at(5400)
    )
    sessions.sample(sampled(4000, 5400), at(5400))
    (row,) = sessions.end(ended(second=5400, register_wh=4000), at(5400))
    if currency == "EUR":
        # 2 kWh that flowed while we were away, half of the time at each price
        assert (row.cost_micro, row.currency) == (77_000 + 2000 * (CHEAP + DEAR) // 2 // 1000, "EUR")
    else:
        assert row.cost_micro is None, "two currencies have no sum"
        assert UNPRICED in row.marks


def test_a_session_from_before_the_tariff_stays_without_a_cost() -> None:
    sessions = priced(CHEAP)
    sessions.restore(SessionRestored("1-1", EVSE, "1", None, START, 1000, 2000, 1000), at(60))
    (row,) = sessions.end(ended(second=120, register_wh=2100), at(120))
    assert (row.cost_micro, row.energy_wh) == (None, 1100)
    assert UNPRICED in row.marks


def test_a_stop_whose_start_comes_later_is_priced_as_a_whole() -> None:
    sessions = priced(CHEAP, DEAR)
    sessions.end(TransactionEnded(STATION, EVSE, "9", "Local", 4600, START + HOUR), at(3600))
    (row,) = sessions.start(started("9", 0), at(4000))
    assert (row.energy_wh, row.cost_micro) == (3600, 3600 * CHEAP // 1000)
