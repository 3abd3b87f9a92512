"""[tariff]: what energy costs. A prices file beside the config, or bands by the clock.

Owns the keys and what may stand in them. The prices file itself is read when it is needed, again and again
(`prices`): a file that is broken today must not keep chargers from being controlled. Source: INTERFACE section 3.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path

from controller.config.files import path_below
from controller.config.prices import HIGHEST
from controller.config.table import Table
from controller.config.types import TariffConfig
from controller.config.values import Wrong, nearest, quoted, shown, text, texts
from controller.core.tariff import DAY_MIN, MICRO, Band, Rates

TARIFF_KEYS = "currency prices bands peak_price feed_in"
BAND_KEYS = "from to days price"
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MOST_BANDS = 200
_CLOCK = re.compile(r"([01]\d|2[0-3]):([0-5]\d)|24:00")


def read_tariff(table: Table, base: Path, timezone: str) -> TariffConfig | None:
    """None where something essential is missing or wrong (then noted). `timezone`: of the site; empty if unknown."""
    currency = table.required("currency", _currency, '"EUR"')
    if ("prices" in table) == ("bands" in table):
        both = "stand both here" if "prices" in table else "are both missing"
        table.note(
            "prices", f"prices and bands {both}", 'write either prices = "prices.csv" or bands = [...]'
        )
    prices = table.optional("prices", path_below(base), None)
    bands = _bands(table)
    peak_micro = table.optional("peak_price", _price(lowest=0), 0)
    feed_in = table.optional("feed_in", _feed_in(base), None)
    if currency is None:
        return None
    flat = None if not isinstance(feed_in, int) else Rates(timezone, (Band(0, DAY_MIN, feed_in),))
    return TariffConfig(
        currency,
        prices,
        Rates(timezone, bands),
        peak_micro,
        feed_in if isinstance(feed_in, Path) else None,
        flat,
    )


def uncovered(rates: Rates) -> list[str]:
    """The times of the week without a price, for people: "sat 23:00 to sun 07:00"."""
    free = [
        all(not band.covers(at // DAY_MIN, at % DAY_MIN) for band in rates.bands) for at in range(7 * DAY_MIN)
    ]
    if all(free) or not any(free):
        return ["at any time"] if all(free) else []
    begins = [at for at in range(len(free)) if free[at] and not free[at - 1]]
    found = []
    for begin in begins:
        end = begin
        while free[end % len(free)]:
            end += 1
        found.append(f"{_week_time(begin)} to {_week_time(end % len(free))}")
    return found


def _week_time(at: int) -> str:
    return f"{DAYS[at // DAY_MIN]} {at % DAY_MIN // 60:02}:{at % 60:02}"


def _bands(table: Table) -> tuple[Band, ...]:
    found: list[Band] = []
    taken: dict[int, Band] = {}
    rows = table.rows("bands", BAND_KEYS)
    if len(rows) > MOST_BANDS:
        table.note("bands", f"are {len(rows)}", "write a prices file instead")
        return ()
    if "bands" in table and not rows:
        table.note(
            "bands", "an empty list gives no price", 'write { from = "00:00", to = "24:00", price = 0.30 }'
        )
    for row in rows:
        begin = row.required("from", _clock, '"07:00"')
        end = row.required("to", _clock, '"23:00"')
        price = row.required("price", _price(), "0.31")
        days = row.optional("days", _days, ())
        if begin is None or end is None or price is None:
            continue
        if begin in (end, DAY_MIN):
            row.note("to", "this band has no length", 'a whole day is from = "00:00", to = "24:00"')
            continue
        band = Band(begin, end, price, days)
        for at in range(7 * DAY_MIN):
            if band.covers(at // DAY_MIN, at % DAY_MIN) and taken.setdefault(at, band) is not band:
                row.note("from", f"overlaps another band at {_week_time(at)}", "let each time have one price")
                break
        found.append(band)
    return tuple(found)


def _currency(value: object) -> str:
    word = text(value)
    if not re.fullmatch(r"[A-Z]{3}", word):
        raise Wrong(f"{quoted(word)} is not a currency", 'write its three letters, like "EUR"')
    return word


def _clock(value: object) -> int:
    written = text(value)
    if not _CLOCK.fullmatch(written):
        raise Wrong(f"{quoted(written)} is not a clock time", 'write it like "07:00", up to "24:00"')
    hours, minutes = written.split(":")
    return int(hours) * 60 + int(minutes)


def _days(value: object) -> tuple[int, ...]:
    words = texts(value)
    for word in words:
        if word not in DAYS:
            raise Wrong(f"{quoted(word)} is not a day", nearest(word, DAYS, 'write them like ["sat", "sun"]'))
    if not words:
        raise Wrong("an empty list is no day", "leave the key out for every day")
    return tuple(sorted({DAYS.index(word) for word in words}))


def _price(lowest: float = -float(HIGHEST)) -> Callable[[object], int]:
    """Millionths per kWh (or per kW)."""

    def read(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise Wrong(f"{shown(value)} is not a price", "write a number without its currency, like 0.31")
        if not lowest <= value <= float(HIGHEST):
            raise Wrong(f"{shown(value)} is not a price", f"write a number from {lowest:g} to {HIGHEST}")
        return round(value * MICRO)

    return read


def _feed_in(base: Path) -> Callable[[object], int | Path]:
    def read(value: object) -> int | Path:
        return base / text(value) if isinstance(value, str) else _price()(value)

    return read
