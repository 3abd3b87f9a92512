"""Prices that change under the running controller: read again, and kept when the new file cannot be used."""

from __future__ import annotations

import logging
import os
from datetime import timedelta
from pathlib import Path

import pytest
from small_depot import START, HandClock

from controller.cli import main
from controller.config.types import TariffConfig
from controller.core.applied import NOTHING, Applied
from controller.core.events import Event, TariffRead
from controller.core.tariff import Band, Rates, Tariff
from controller.tariff_file import LOOK_S, TariffKeeper

HOUR = timedelta(hours=1)


class Told:
    def __init__(self) -> None:
        self.tariffs: list[Tariff] = []

    async def report(self, event: Event) -> Applied:
        assert isinstance(event, TariffRead)
        self.tariffs.append(event.tariff)
        return NOTHING


def write(path: Path, *prices: float | str, since_h: int = 0) -> None:
    """An hour each from START on; the file is newer than the one before it."""
    rows = [f"{(START + (since_h + n) * HOUR).isoformat()},{price}" for n, price in enumerate(prices)]
    before = path.stat().st_mtime_ns if path.exists() else 0
    path.write_text("\n".join(["start,price_per_kwh", *rows]))
    os.utime(path, ns=(before + 1_000_000_000, before + 1_000_000_000))


@pytest.fixture
def keeper(tmp_path: Path) -> TariffKeeper:
    config = TariffConfig("EUR", tmp_path / "prices.csv", Rates("UTC"), 6_000_000)
    return TariffKeeper(config, "UTC", HandClock())


async def test_a_new_file_is_taken_over_and_an_old_one_not_told_again(
    keeper: TariffKeeper, tmp_path: Path
) -> None:
    told = Told()
    write(tmp_path / "prices.csv", 0.2, 0.3)
    await keeper.look(told.report)
    await keeper.look(told.report)
    assert len(told.tariffs) == 1
    assert told.tariffs[0].buy.at(START) == 200_000
    assert told.tariffs[0].peak_price_micro == 6_000_000
    write(tmp_path / "prices.csv", 0.25, 0.3)
    await keeper.look(told.report)
    assert [tariff.buy.at(START) for tariff in told.tariffs] == [200_000, 250_000]


async def test_a_broken_new_file_keeps_the_old_prices_and_says_so_once(
    keeper: TariffKeeper, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told, path = Told(), tmp_path / "prices.csv"
    write(path, 0.2)
    await keeper.look(told.report)
    with caplog.at_level(logging.WARNING):
        caplog.clear()
        write(path, "much")
        await keeper.look(told.report)
        await keeper.look(told.report)
    (line,) = caplog.messages
    assert (
        line
        == f'{path}: line 2: "much" is not a price per kWh; write it like 0.24; the prices read before stay in force'
    )
    assert (told.tariffs[-1].trouble, told.tariffs[-1].buy.at(START)) == (line, 200_000)
    path.unlink()
    await keeper.look(told.report)
    assert "cannot be read" in told.tariffs[-1].trouble
    assert told.tariffs[-1].buy.at(START) == 200_000
    write(path, 0.4)
    await keeper.look(told.report)
    assert (told.tariffs[-1].trouble, told.tariffs[-1].buy.at(START)) == ("", 400_000)


async def test_without_a_file_the_depot_starts_and_says_what_is_missing(keeper: TariffKeeper) -> None:
    told = Told()
    await keeper.look(told.report)
    assert told.tariffs[0].buy.at(START) is None
    assert told.tariffs[0].trouble.endswith("No such file or directory; there are no prices")


async def test_bands_need_no_file() -> None:
    rates = Rates("UTC", (Band(0, 1440, 5),))
    keeper = TariffKeeper(TariffConfig("EUR", None, rates, 0, None, rates), "UTC", HandClock())
    told = Told()
    await keeper.look(told.report)
    assert told.tariffs == [Tariff("EUR", rates, rates, 0)]


async def test_the_core_gets_what_lies_around_the_present_and_the_next_piece_in_time(
    keeper: TariffKeeper, tmp_path: Path
) -> None:
    told = Told()
    write(tmp_path / "prices.csv", *([0.2] * 24 * 40), since_h=-24 * 20)
    await keeper.look(told.report)
    assert len(told.tariffs[0].buy.spans) == 24 * 15
    clock = keeper.clock
    assert isinstance(clock, HandClock)
    await clock.advance(23 * 3600)
    await keeper.look(told.report)
    assert len(told.tariffs) == 1
    await clock.advance(2 * 3600)
    await keeper.look(told.report)
    assert len(told.tariffs) == 2
    assert told.tariffs[1].buy.at(START + 24 * 8 * HOUR) == 200_000
    assert LOOK_S >= 60


def test_check_tells_of_prices_that_cannot_be_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "depot.toml"
    head = '[site]\nname = "Yard"\ntimezone = "UTC"\nlimit = "63 A"\nassumed_load = "9 A"\n'
    config.write_text(head + '[tariff]\ncurrency = "EUR"\nprices = "prices.csv"\n')
    assert main(["check", str(config)]) == 1
    said = capsys.readouterr()
    assert "prices from" in said.out
    assert said.err == f"depot: {tmp_path / 'prices.csv'}: cannot be read: No such file or directory\n"
    write(tmp_path / "prices.csv", 0.2)
    assert main(["check", str(config)]) == 0
