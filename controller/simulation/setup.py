"""From what was asked to what is run: sessions on EVSEs, vehicles added, series laid over the time that is simulated."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from zoneinfo import ZoneInfo

from controller.config import Config
from controller.config.prices import BadPrices, read_prices
from controller.config.values import nearest, quoted
from controller.core.model import Evse, EvseId, Site, StationId, evse_id, number_of
from controller.core.tariff import Rates, Span, Tariff
from controller.core.windows import instant
from controller.simulation.files import BadInput, Series, Stay, moved_by
from controller.simulation.night import Visit

JITTER_MIN = 20  # how much an added vehicle comes and goes beside the one it is like


def within(stays: Sequence[Stay], start: datetime | None, days: int | None, zone: ZoneInfo) -> list[Stay]:
    """Those that arrive in the days asked for, the first of which is that of the first arrival. Raises BadInput where none
    does."""
    first = stays[0].arrival.astimezone(zone)
    since = instant(first.date(), 0, zone) if start is None else start
    until = None if days is None else since + timedelta(days=days)
    found = [stay for stay in stays if since <= stay.arrival and (until is None or stay.arrival < until)]
    if not found:
        last = stays[-1].arrival.astimezone(zone)
        raise BadInput(
            f"no session arrives in that time; those of the file do from {first:%Y-%m-%d} to {last:%Y-%m-%d}"
        )
    return found


def visits(site: Site, stays: Iterable[Stay], assign: bool) -> list[Visit]:
    """Each stay with the EVSEs it may take: those of its station, or with `assign` any. Raises BadInput."""
    of: dict[str, tuple[EvseId, ...]] = {}
    for evse in site.evses.values():
        of[evse.id] = (evse.id,)
        of[evse.station] = (*of.get(evse.station, ()), evse.id)
    every = tuple(site.evses)
    found, unknown = [], dict[str, None]()
    for stay in stays:
        evses = every if assign else of.get(stay.station)
        if evses is None:
            unknown[stay.station] = None
        else:
            found.append(Visit(stay, evses))
    if unknown:
        known = sorted({evse.station for evse in site.evses.values()})
        raise BadInput(
            *(
                f"station {quoted(name)} of the sessions is not in the config; "
                + nearest(name, known, "add it, or let --assign choose")
                for name in unknown
            )
        )
    return found


def added(site: Site, stays: Sequence[Stay], count: int, seed: int) -> tuple[Site, list[Stay]]:
    """`count` more vehicles, each like one of those that come, at a station of its own beside that one's.

    Which ones, and by how many minutes they come and go beside them, follows from the seed."""
    random = Random(seed)
    stations = sorted({stay.station for stay in stays})
    evses, more = dict(site.evses), list(stays)
    for number in range(1, count + 1):
        like = random.choice(stations)
        pattern = site.evses.get(EvseId(like)) or next(
            (e for e in site.evses.values() if e.station == like), None
        )
        if pattern is None:
            raise BadInput(f"station {quoted(like)} of the sessions is not in the config")
        name = StationId(_free_name(f"ADDED{number}", evses))
        new = replace(pattern, id=evse_id(name, number_of(pattern.id)), station=name, companion=None)
        evses[new.id] = new
        beside = timedelta(minutes=random.uniform(-JITTER_MIN, JITTER_MIN))
        more += [_beside(stay, name, beside) for stay in stays if stay.station == like]
    more.sort(key=lambda stay: (stay.arrival, stay.departure, stay.session))
    return replace(site, evses=evses), more


def _free_name(name: str, evses: Mapping[EvseId, object]) -> str:
    taken = {str(evse).rpartition("/")[0] for evse in evses}
    while name in taken:
        name += "X"
    return name


def _beside(stay: Stay, station: str, by: timedelta) -> Stay:
    return replace(
        stay,
        session=f"{stay.session}@{station}",
        station=station,
        arrival=stay.arrival + by,
        departure=stay.departure + by,
        declared_departure=None if stay.declared_departure is None else stay.declared_departure + by,
        planned_return=None if stay.planned_return is None else stay.planned_return + by,
        vehicle=None,
    )


def at_pace(site: Site, step_s: float) -> Site:
    """With leases that last from step to step, where steps are long."""

    def lasting(evse: Evse) -> Evse:
        return replace(evse, link=replace(evse.link, lease_s=max(evse.link.lease_s, 4 * step_s)))

    stores = tuple(replace(each, lease_s=max(each.lease_s, 4 * step_s)) for each in site.batteries)
    return replace(site, evses={id: lasting(evse) for id, evse in site.evses.items()}, batteries=stores)


def tariff(
    config: Config, prices: str | None, since: datetime, until: datetime, notes: list[str]
) -> Tariff | None:
    """The prices asked for, else those of the config. Raises BadInput."""
    known, zone = config.tariff, config.site.timezone
    path = known.prices if prices is None and known is not None else prices
    if path is None and known is None:
        return None
    if path is None:
        assert known is not None
        buy = known.bands
    else:
        try:
            spans = read_prices(Path(path), zone)
        except BadPrices as error:
            raise BadInput(str(error)) from None
        buy = Rates(zone, spans=_spans_over(spans, since, until, notes))
    if known is None:
        return Tariff("", buy)
    return Tariff(known.currency, buy, known.feed_in, known.peak_price_micro)


def _spans_over(
    spans: Sequence[Span], since: datetime, until: datetime, notes: list[str]
) -> tuple[Span, ...]:
    by = moved_by(spans[0].start, spans[-1].end, since)
    if by:
        notes.append(f"prices: the file is of {spans[0].start.year}, moved by {by.days} days")
        spans = [replace(span, start=span.start + by, end=span.end + by) for span in spans]
    missing_s = (until - since).total_seconds() - sum(
        max(0.0, (min(span.end, until) - max(span.start, since)).total_seconds()) for span in spans
    )
    if missing_s > 1:
        notes.append(f"prices: none is known for {missing_s / 3600:.1f} h of the time that is simulated")
    return tuple(spans)


def laid_over(series: Series | None, since: datetime, until: datetime, notes: list[str]) -> Series | None:
    """The series moved to the year that is simulated where it is of another; what it lacks is noted."""
    if series is None:
        return None
    moved = series.covering(since)
    if moved is not series:
        notes.append(
            f"{series.name}: the file is of {series.starts[0].year}, moved by {(moved.starts[0] - series.starts[0]).days} days"
        )
    at, missing = since, 0
    while at < until:
        missing += moved.at(at) is None
        at += moved.step
    if missing:
        hours = missing * moved.step.total_seconds() / 3600
        notes.append(f"{series.name}: nothing is known of {hours:g} h of the time that is simulated")
    return moved
