"""[tariff]: bands, files, and every mistake with its line and a suggestion."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from controller.config import ConfigError, TariffConfig, describe, load
from controller.core.tariff import Band, Rates

WriteConfig = Callable[[str], Path]
SITE = '[site]\nname = "Yard"\ntimezone = "Europe/Amsterdam"\nlimit = "63 A"\nassumed_load = "9 A"\n'
DAY_NIGHT = """[tariff]
currency = "EUR"
bands = [
  { from = "07:00", to = "23:00", price = 0.31 },
  { from = "23:00", to = "07:00", price = 0.2 },
]
"""


def mistakes(write_config: WriteConfig, table: str) -> list[tuple[int | None, str]]:
    with pytest.raises(ConfigError) as refused:
        load(write_config(SITE + table))
    return [(problem.line, str(problem)) for problem in refused.value.problems]


def test_without_the_table_there_is_no_tariff(write_config: WriteConfig) -> None:
    assert load(write_config(SITE)).tariff is None


def test_bands(write_config: WriteConfig) -> None:
    assert load(write_config(SITE + DAY_NIGHT + "peak_price = 6.0\nfeed_in = -0.02")).tariff == TariffConfig(
        "EUR",
        None,
        Rates("Europe/Amsterdam", (Band(420, 1380, 310_000), Band(1380, 420, 200_000))),
        6_000_000,
        None,
        Rates("Europe/Amsterdam", (Band(0, 1440, -20_000),)),
    )


def test_files_lie_beside_the_config_and_are_not_read_yet(write_config: WriteConfig, tmp_path: Path) -> None:
    text = '[tariff]\ncurrency = "EUR"\nprices = "prices.csv"\nfeed_in = "feed.csv"'
    tariff = load(write_config(SITE + text)).tariff
    assert tariff is not None
    assert (tariff.prices, tariff.feed_in_prices) == (tmp_path / "prices.csv", tmp_path / "feed.csv")


@pytest.mark.parametrize(
    ("table", "line", "said"),
    [
        ('[tariff]\nprices = "p.csv"', 6, 'currency: is missing; write currency = "EUR"'),
        ('[tariff]\ncurrency = "euro"\nprices = "p.csv"', 7, '"euro" is not a currency'),
        ('[tariff]\ncurrency = "EUR"', 6, "prices and bands are both missing"),
        ('[tariff]\ncurrency = "EUR"\nprices = "p"\nbands = []', 8, "prices and bands stand both here"),
        (DAY_NIGHT.replace('"23:00", to', '"22:30", to'), 8, "overlaps another band at mon 22:30"),
        (DAY_NIGHT.replace("0.31", '"0.31 EUR"'), 8, '"0.31 EUR" is not a price'),
        (DAY_NIGHT.replace("0.31", "nan"), 8, "nan is not a price"),
        (DAY_NIGHT.replace('"07:00", to', '"7:00", to'), 8, '"7:00" is not a clock time'),
        (DAY_NIGHT.replace('to = "23:00"', 'to = "07:00"'), 8, "this band has no length"),
        (DAY_NIGHT.replace("price = 0.2", 'price = 0.2, days = ["satt"]'), 8, 'did you mean "sat"?'),
        (DAY_NIGHT + "peak_price = -1", 12, "-1 is not a price"),
        (DAY_NIGHT + "peek_price = 1", 12, 'did you mean "peak_price"?'),
    ],
)
def test_mistakes(write_config: WriteConfig, table: str, line: int, said: str) -> None:
    found = mistakes(write_config, table)
    assert any(said in text for _, text in found), found
    assert line in {at for at, _ in found}, found


def test_check_shows_what_was_understood_and_what_has_no_price(write_config: WriteConfig) -> None:
    table = '[tariff]\ncurrency = "CHF"\nbands = [{ from = "06:00", to = "22:00", price = 0.3, days = ["mon", "tue"] }]'
    shown = describe(load(write_config(SITE + table + "\nfeed_in = 0.08\npeak_price = 5.5")))
    for line in (
        "06:00 to 22:00  0.3 CHF/kWh, mon tue",
        "no price tue 22:00 to mon 06:00: cost unknown there, planned with the mean",
        "feed-in  0.08 CHF/kWh",
        "peak  5.5 CHF per kW of the month's highest quarter hour",
    ):
        assert line in shown
