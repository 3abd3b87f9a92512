"""The roster file of `depot roster import`: CSV or iCalendar (`roster_ics`) -> entries, checked whole.

    vehicle,departs,energy,soc,arrives,returns,evse,block
    BUS-07,2026-11-23T05:30,30 kWh,,,2026-11-23T18:10,CP001/1,L1-12
    BUS-08,2026-11-23T06:00,,80 %,,2026-11-23T19:00,,

Owns the grammar and the wording of mistakes: every one at once, each with its line. `vehicle` and `departs` are needed;
a row says `energy` (to be charged before it leaves) or `soc`, and with neither the vehicle leaves full. Times without an
offset are the site's. Columns in any order, separated by comma or semicolon. Must not store anything.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from itertools import islice
from zoneinfo import ZoneInfo

from controller.core.model import EvseId, Site
from controller.core.roster import MOST_ENTRIES, MOST_REPEATS, RosterEntry, clashes, is_over
from controller.core.units import parse_energy_wh
from controller.core.windows import instant

COLUMNS = ("vehicle", "departs", "energy", "soc", "arrives", "returns", "evse", "block")
NEEDED = ("vehicle", "departs")
LONGEST_TEXT = 64
MOST_ENERGY_WH = 2_000_000
LONGEST_STAY = timedelta(days=60)
YEARS = range(2000, 2100)
LINES_SHOWN = 20


@dataclass(slots=True)
class Reading:
    """What a file holds, each with its line; `wrong` keeps it from being taken, `notes` does not."""

    found: list[tuple[int, RosterEntry]] = field(default_factory=list)
    wrong: list[tuple[int, str]] = field(default_factory=list)
    notes: list[tuple[int, str]] = field(default_factory=list)

    def add(self, line: int, entry: RosterEntry) -> None:
        wrong = [(line, text) for text in out_of_order(entry)]
        self.wrong += wrong
        if not wrong:
            self.found.append((line, entry))


class BadRoster(ValueError):
    """One line per mistake."""


@dataclass(frozen=True, slots=True)
class Merged:
    """The whole roster with the file in it. `notes`: one line each, for people."""

    entries: tuple[RosterEntry, ...]
    added: int
    replaced: int
    notes: tuple[str, ...]


def read_csv(text: str, timezone: str) -> Reading:
    """Never raises for what stands in it."""
    reading, zone = Reading(), ZoneInfo(timezone)
    head = text.lstrip("\ufeff").partition("\n")[0]
    rows = csv.reader(
        io.StringIO(text.lstrip("\ufeff"), newline=""), delimiter=";" if ";" in head else ",", strict=True
    )
    names: list[str] | None = None
    line = 1
    try:
        for row in rows:
            cells = [cell.strip() for cell in row]
            if not any(cells):
                pass
            elif names is None:
                names = [cell.casefold() for cell in cells]
                if (wrong := _head(names)) is not None:
                    reading.wrong.append((line, wrong))
                    return reading
            else:
                _row(reading, line, names, cells, zone)
            line = rows.line_num + 1
    except csv.Error as error:
        reading.wrong.append((line, f"not CSV: {error}"))
    if names is None and not reading.wrong:
        reading.wrong.append((1, f"empty; the first line names the columns: {','.join(COLUMNS)}"))
    return reading


def _head(names: Sequence[str]) -> str | None:
    known = f"columns are {', '.join(COLUMNS)}"
    for name in names:
        if name not in COLUMNS:
            return f'column "{name:.40}" is not known; {known}'
        if names.count(name) > 1:
            return f'column "{name}" stands there twice'
    missing = [name for name in NEEDED if name not in names]
    return f"column {' and '.join(missing)} is missing; {known}" if missing else None


def _row(reading: Reading, line: int, names: Sequence[str], cells: Sequence[str], zone: ZoneInfo) -> None:
    if len(cells) != len(names):
        reading.wrong.append((line, f"{len(cells)} fields where the first line has {len(names)}"))
        return
    values = dict(zip(names, cells, strict=True))
    wrong: list[str] = []

    def time(name: str) -> datetime | None:
        try:
            return read_time(values[name], zone) if values.get(name) else None
        except ValueError as error:
            wrong.append(f"{name}: {error}")
            return None

    departs, arrives, returns = time("departs"), time("arrives"), time("returns")
    if not values["departs"]:
        wrong.append("departs is missing")
    energy_wh, soc = need(values.get("energy", ""), values.get("soc", ""), wrong)
    vehicle, evse, block = (named(name, values.get(name, ""), wrong) for name in ("vehicle", "evse", "block"))
    if not values["vehicle"]:
        wrong.append("vehicle is missing")
    reading.wrong += [(line, text) for text in wrong]
    if not wrong and departs is not None:
        place = EvseId(evse) if evse else None
        entry = RosterEntry(vehicle, departs, energy_wh, soc, arrives, returns, place, block)
        reading.add(line, entry)


def named(name: str, text: str, wrong: list[str]) -> str:
    if len(text) > LONGEST_TEXT or not text.isprintable():
        wrong.append(f"{name}: up to {LONGEST_TEXT} printable characters")
    return text


def need(energy: str, soc: str, wrong: list[str]) -> tuple[int | None, int | None]:
    """Of the two texts at most one says something."""
    energy_wh = percent = None
    if energy and soc:
        wrong.append("energy and soc are both given; leave one empty")
    if energy:
        try:
            energy_wh = parse_energy_wh(energy)
        except (ValueError, OverflowError) as error:
            wrong.append(f"energy: {error}")
        else:
            if not 0 < energy_wh <= MOST_ENERGY_WH:
                wrong.append(f'energy: "{energy}" is not between 0 and {MOST_ENERGY_WH // 1000} kWh')
    if soc:
        digits = soc.removesuffix("%").strip()
        if digits.isascii() and digits.isdigit() and len(digits) <= 3 and 0 < int(digits) <= 100:
            percent = int(digits)
        else:
            wrong.append(f'soc: "{soc:.40}" is not a percentage from 1 to 100; write it like "80 %"')
    return energy_wh, percent


def read_time(text: str, zone: ZoneInfo) -> datetime:
    """ISO 8601. Without an offset it is the site's time; a minute that a spring night leaves out is the next that is.
    Raises ValueError."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or len(text) < 16:
        raise ValueError(f'"{text:.40}" is not a time; write it like 2026-11-23T05:30')
    if at.year not in YEARS:
        raise ValueError(f'"{text:.40}" is out of range')
    if at.tzinfo is not None:
        return at.astimezone(UTC)
    return instant(at.date(), at.hour * 60 + at.minute, zone)


def out_of_order(entry: RosterEntry) -> Iterator[str]:
    if entry.begins > entry.departs:
        yield "arrives lies after departs"
    if entry.ends < entry.departs:
        yield "returns lies before departs"
    if entry.ends - entry.begins > LONGEST_STAY:
        yield f"from arrival to return it is more than {LONGEST_STAY.days} days"


# --- the file beside what is known ------------------------------------------------------------------------------


def merged(
    name: str, reading: Reading, known: Sequence[RosterEntry], site: Site, now: datetime, replace_all: bool
) -> Merged:
    """All of the file or none of it. Raises BadRoster with every mistake."""
    zone = ZoneInfo(site.timezone)
    wrong, notes = list(reading.wrong), list(reading.notes)
    ahead: list[tuple[int, RosterEntry]] = []
    for line, entry in reading.found:
        if is_over(entry, now):
            left = entry.departs.astimezone(zone)
            notes.append((line, f"{entry.vehicle} departs {left:%Y-%m-%d %H:%M}, in the past: left out"))
        else:
            ahead.append((line, entry))
    if not wrong and not ahead:
        past = f"; all of its {len(reading.found)} entries lie in the past" if reading.found else ""
        raise BadRoster(f"{name}: nothing to come in it{past}")
    wrong += _strangers([(line, entry) for line, entry in reading.found], site.evses)
    new = {(entry.vehicle, entry.departs) for _, entry in ahead}
    old = [] if replace_all else [entry for entry in known if not is_over(entry, now)]
    kept = [entry for entry in old if (entry.vehicle, entry.departs) not in new]
    entries = [*(entry for _, entry in ahead), *kept]
    if len(entries) > MOST_ENTRIES or sum(e.repeat is not None for e in entries) > MOST_REPEATS:
        raise BadRoster(f"{name}: more than {MOST_ENTRIES} entries or {MOST_REPEATS} repeated ones together")
    for clash in clashes(entries, now, zone):
        first, second = min(clash.first, clash.second), max(clash.first, clash.second)
        if first >= len(ahead):
            continue  # both were there before, and were taken then
        if second < len(ahead):
            line, other = sorted((ahead[first][0], ahead[second][0]), reverse=True)
            also = "" if line == other else f" (line {other})"
            wrong.append((line, clash.text + also))
        else:
            text = f"{clash.text}, by what was imported before; --replace puts this file in its place"
            wrong.append((ahead[first][0], text))
    if wrong:
        raise BadRoster(_lines(name, wrong))
    notes += _unknown(ahead, site)
    entries.sort(key=lambda entry: (entry.departs, entry.vehicle))
    told = tuple(f"{name}:{line}: {_printable(text)}" for line, text in sorted(notes))
    return Merged(tuple(entries), len(ahead), len(old) - len(kept), told)


def _strangers(found: Sequence[tuple[int, RosterEntry]], evses: Collection[str]) -> list[tuple[int, str]]:
    wrong = []
    for line, entry in found:
        if entry.evse is not None and entry.evse not in evses:
            wrong.append((line, f'no EVSE "{entry.evse}"{_meant(entry.evse, evses)}'))
    return wrong


def _unknown(found: Sequence[tuple[int, RosterEntry]], site: Site) -> Iterator[tuple[int, str]]:
    """Each vehicle once."""
    first: Mapping[str, tuple[int, RosterEntry]] = {
        entry.vehicle: (line, entry) for line, entry in reversed(found)
    }
    for vehicle, (line, entry) in first.items():
        known = next((each for each in site.vehicles.values() if each.id == vehicle), None)
        if known is None:
            text = f'vehicle "{vehicle}" is not in the config: kept, but nobody can recognise it'
            # BUS-06 is not meant where BUS-07 stands
            alike = [name for name in site.vehicles if _digits(name) == _digits(vehicle)]
            yield line, text + _meant(vehicle, alike)
        elif known.battery_wh is None and entry.energy_wh is None:
            yield line, f"the battery of {vehicle} is not in the config: charged as far as possible"


def _digits(name: str) -> list[str]:
    return sorted(c for c in name if c.isdigit())


def _meant(text: str, known: Collection[str]) -> str:
    by_fold = {each.casefold(): each for each in known}
    near = get_close_matches(text.casefold(), by_fold, 1)
    return f"; did you mean {by_fold[near[0]]}?" if near else ""


def _lines(name: str, wrong: Sequence[tuple[int, str]]) -> str:
    lines = [f"{name}:{line}: {_printable(text)}" for line, text in sorted(set(wrong))]
    more = len(lines) - LINES_SHOWN
    return "\n".join([*islice(lines, LINES_SHOWN), *([f"... and {more} more"] if more > 0 else [])])


def _printable(text: str) -> str:
    """What stands in a file may hold line breaks and worse."""
    return "".join(c if c.isprintable() else "?" for c in text)
