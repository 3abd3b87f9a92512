"""Questions of the kind "what if": typed words become another request for the planner. Pure; changes nothing.

    site.limit=200 A            another limit, as the config names it; circuit.row_b.limit=63 A, site.limit=120 kW
    BUS-07 +30m   BUS-07 -1h    leaves later or earlier (a vehicle or an EVSE, here or expected)
    BUS-07 05:30 40 kWh         another departure; the energy (or 80 %) may be left out where one is known
    add 2 30 kWh 06:00          more vehicles; without figures like those that are here

Several, one after the other, stand behind semicolons. What cannot be read or does not fit raises ValueError with one line.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from controller.core.model import (
    SITE,
    CircuitId,
    Departure,
    EvseId,
    StationId,
    each_phase,
    evse_id,
    number_of,
)
from controller.core.planning import Expected, PlanRequest, Present
from controller.core.units import parse_current_ma, parse_duration_s, parse_power_w
from controller.core.windows import instant

MOST_CHANGES = 8
MOST_ADDED = 20
MOST_MOVED_S = 7 * 86_400  # beyond it a plan shows nothing, and far beyond it the calendar ends
FORMS = "site.limit=200 A | BUS-07 +30m | BUS-07 05:30 40 kWh | add 2 30 kWh 06:00"

_FIGURES = re.compile(
    r"(?P<clock>\d{1,2}:\d\d)|(?P<soc>\d{1,3})\s*%|(?P<kwh>\d{1,6}(?:\.\d+)?)\s*kWh|(?P<count>\d{1,3})(?![\d.:])",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class _Said:
    at: datetime | None = None
    energy_wh: int | None = None
    soc: int | None = None
    count: int | None = None


def changed(request: PlanRequest, text: str) -> tuple[PlanRequest, tuple[str, ...]]:
    """The request as it would be, and in words what is different in it."""
    parts = [part.strip() for part in text.split(";") if part.strip()]
    if not parts or len(parts) > MOST_CHANGES:
        raise ValueError(f"say what would be different, up to {MOST_CHANGES} things: {FORMS}")
    words = []
    for part in parts:
        request, said = _one(request, part)
        words.append(said)
    return request, tuple(words)


def _one(request: PlanRequest, text: str) -> tuple[PlanRequest, str]:
    key, equals, value = (part.strip() for part in text.partition("="))
    if equals:
        return _limited(request, key, value.strip("'\""))
    first, _, rest = text.partition(" ")
    if first.casefold() == "add":
        return _added(request, rest.strip())
    for name, known in _names(request):
        if text.casefold().startswith(f"{name.casefold()} "):
            rest = text[len(name) + 1 :].strip()
            if isinstance(known, Expected):
                return _comes(request, known, rest)
            return _leaves(request, known, rest)
    raise ValueError(f'"{text}": no vehicle that is here or expected and no limit; write it like {FORMS}')


# --- limits --------------------------------------------------------------------------------------------------------


def _limited(request: PlanRequest, key: str, value: str) -> tuple[PlanRequest, str]:
    circuits = request.site.circuits
    circuit = circuits.get(_circuit(key))
    if circuit is None:
        known = ", ".join("site.limit" if id == SITE else f"circuit.{id}.limit" for id in circuits)
        raise ValueError(f'"{key}" cannot be asked about; there are {known}')
    power = value.casefold().endswith("w")
    limit = parse_power_w(value) if power else parse_current_ma(value)
    if limit <= 0:
        raise ValueError(f'"{value}": a limit is above 0')
    # kilowatts stand beside the amperes, as in the config: the lower of both counts
    new = replace(circuit, limit_w=limit) if power else replace(circuit, limit_ma=each_phase(limit))
    site = replace(request.site, circuits={**circuits, circuit.id: new})
    now = f"{min(circuit.limit_ma) / 1000:g} A"
    if circuit.limit_w is not None:
        now += f" and {circuit.limit_w / 1000:g} kW"
    words = f"limit of {circuit.id} {limit / 1000:g} {'kW' if power else 'A'} (now {now})"
    return replace(request, site=site), words


def _circuit(key: str) -> CircuitId:
    if key in ("site", "site.limit"):
        return SITE
    return CircuitId(key.removeprefix("circuit.").removesuffix(".limit").strip("\"'"))


# --- departures ----------------------------------------------------------------------------------------------------


def _names(request: PlanRequest) -> Iterator[tuple[str, Present | Expected]]:
    """Longer ones first: one may begin like another."""
    names: dict[str, Present | Expected] = {}
    everybody: tuple[Present | Expected, ...] = (*request.present, *request.expected)
    for each in everybody:
        for name in (each.vehicle, each.evse, each.evse.rpartition("/")[0]):
            if name and name not in names:
                names[name] = each
    yield from sorted(names.items(), key=lambda item: -len(item[0]))


def _leaves(request: PlanRequest, present: Present, text: str) -> tuple[PlanRequest, str]:
    key, known = _departure(request, present)
    said = _Said() if text[:1] in ("+", "-") else _figures(request, text, count=False)
    if text[:1] in ("+", "-"):
        if known is None:
            raise ValueError(f"{key} has no departure to move; say one: {key} 05:30 40 kWh")
        said = _Said(_moved(request, known.at, text))
    elif said.at is None and known is None:
        raise ValueError(f"{key} has no departure: say when, like {key} 05:30 40 kWh")
    energy_wh, soc = said.energy_wh, said.soc
    if energy_wh is None and soc is None:
        if known is None:
            raise ValueError(f"{key}: how much energy, like {key} 05:30 40 kWh?")
        energy_wh, soc = known.energy_wh, known.soc
    at = said.at or (known.at if known is not None else None)
    assert at is not None
    departure = Departure(key, at, energy_wh, soc)
    was = "" if known is None else f" (now {_told(request, known.at, known.energy_wh, known.soc)})"
    words = f"{key} leaves {_told(request, at, energy_wh, soc)}{was}"
    return replace(request, departures={**request.departures, key: departure}), words


def _comes(request: PlanRequest, expected: Expected, text: str) -> tuple[PlanRequest, str]:
    """Of somebody who is not here yet."""
    name = expected.vehicle or expected.evse
    moved = text[:1] in ("+", "-")
    said = _Said(_moved(request, expected.departs, text)) if moved else _figures(request, text, count=False)
    if said.soc is not None:
        raise ValueError(f"{name} is not here yet, so its charge is not known: say kWh")
    energy_wh = expected.energy_wh if said.energy_wh is None else said.energy_wh
    new = replace(expected, departs=said.at or expected.departs, energy_wh=energy_wh)
    if new.departs <= new.arrives:
        raise ValueError(f"{name} would leave before it comes, at {_clock(request, new.arrives)}")
    others = tuple(new if each is expected else each for each in request.expected)
    was = _told(request, expected.departs, expected.energy_wh, None)
    words = f"{name} leaves {_told(request, new.departs, energy_wh, None)} (now {was})"
    return replace(request, expected=others), words


def _departure(request: PlanRequest, present: Present) -> tuple[str, Departure | None]:
    """The one that counts, under its name: the vehicle's before the one of the EVSE."""
    names = [name for name in (present.vehicle, present.evse) if name is not None]
    for name in names:
        if name in request.departures and request.departures[name].at > request.now.utc:
            return name, request.departures[name]
    return names[0], None


def _moved(request: PlanRequest, at: datetime, text: str) -> datetime:
    by_s = parse_duration_s(text[1:].strip())
    if by_s > MOST_MOVED_S:
        raise ValueError(f"{text}: a departure is moved by 7 days at most")
    moved = at + timedelta(seconds=-by_s if text[0] == "-" else by_s)
    if moved <= request.now.utc:
        raise ValueError(f"{text}: {_clock(request, moved)} lies in the past")
    return moved


# --- more vehicles -------------------------------------------------------------------------------------------------


def _added(request: PlanRequest, text: str) -> tuple[PlanRequest, str]:
    said = _figures(request, text, count=True)
    count = 1 if said.count is None else said.count
    if not 0 < count <= MOST_ADDED:
        raise ValueError(f"add {count}: from 1 to {MOST_ADDED} vehicles")
    if said.soc is not None:
        raise ValueError("a vehicle that is not here has no charge that is known: say kWh")
    told = [known for each in request.present if (known := _departure(request, each)[1]) is not None]
    wanted = [departure.energy_wh for departure in told if departure.energy_wh]
    energy_wh = said.energy_wh or (round(statistics.fmean(wanted)) if wanted else None)
    at = said.at or (statistics.median_low([departure.at for departure in told]) if told else None)
    if energy_wh is None or at is None:
        raise ValueError("nobody here says what a vehicle needs: say it, like add 1 30 kWh 06:00")
    names = []
    for _ in range(count):
        request, evse = _placed(request)
        present = Present(evse, None, request.now.utc, 0, None)
        departures = {**request.departures, evse: Departure(evse, at, energy_wh)}
        request = replace(request, present=(*request.present, present), departures=departures)
        names.append(evse)
    more = "one more vehicle" if count == 1 else f"{count} more vehicles"
    return request, f"{more} at {', '.join(names)}, leaving {_told(request, at, energy_wh, None)}"


def _placed(request: PlanRequest) -> tuple[PlanRequest, EvseId]:
    """A free EVSE that nobody is expected at, else any free one, else another one beside the last."""
    here = {present.evse for present in request.present}
    coming = {expected.evse for expected in request.expected}
    free = [evse for evse in request.site.evses if evse not in here]
    if free:
        return request, min(free, key=lambda evse: evse in coming)
    like = list(request.site.evses.values())[-1]
    number = 1
    while evse_id(StationId(f"ADDED{number}"), number_of(like.id)) in request.site.evses:
        number += 1
    station = StationId(f"ADDED{number}")
    new = replace(like, id=evse_id(station, number_of(like.id)), station=station, companion=None)
    return replace(request, site=replace(request.site, evses={**request.site.evses, new.id: new})), new.id


# --- figures -------------------------------------------------------------------------------------------------------


def _figures(request: PlanRequest, text: str, count: bool) -> _Said:
    said = _Said()
    for match in _FIGURES.finditer(text):
        if match["clock"]:
            said = replace(said, at=_next(request, match["clock"]))
        elif match["soc"]:
            said = replace(said, soc=int(match["soc"]))
        elif match["kwh"]:
            said = replace(said, energy_wh=round(float(match["kwh"]) * 1000))
        else:
            said = replace(said, count=int(match["count"]))
    rest = _FIGURES.sub(" ", text).replace(",", " ").strip()
    odd = rest or (not text and not count) or (said.count is not None and not count)
    if odd or (said.soc is not None and (said.soc > 100 or said.energy_wh is not None)):
        raise ValueError(f'"{text}" is not understood; write it like {FORMS}')
    return said


def _next(request: PlanRequest, text: str) -> datetime:
    """The next time the site's clock shows this."""
    hour, minute = map(int, text.split(":"))
    if hour > 23 or minute > 59:
        raise ValueError(f'"{text}" is not a time of day')
    zone = ZoneInfo(request.site.timezone)
    today = request.now.utc.astimezone(zone).date()
    days = (today, today + timedelta(days=1))
    return next(at for day in days if (at := instant(day, hour * 60 + minute, zone)) > request.now.utc)


def _told(request: PlanRequest, at: datetime, energy_wh: int | None, soc: int | None) -> str:
    need = f" with {energy_wh / 1000:.1f} kWh" if energy_wh is not None else f" at {soc} %" if soc else ""
    return f"{_clock(request, at)}{need}"


def _clock(request: PlanRequest, at: datetime) -> str:
    return f"{at.astimezone(ZoneInfo(request.site.timezone)):%a %H:%M}"
