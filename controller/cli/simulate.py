"""`depot simulate`: reads, runs in virtual time, writes. Nothing is sent anywhere."""

from __future__ import annotations

import argparse
import json
import math
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TextIO
from zoneinfo import ZoneInfo

from controller.config import load
from controller.core.model import EvseId
from controller.planner import horizon
from controller.simulation import result, setup
from controller.simulation.files import BadInput, Series, Stay, read_series, read_sessions
from controller.simulation.knowledge import Knowledge
from controller.simulation.night import Night, Visit
from controller.simulation.plant import Plant, with_site_meter
from drivers.errors import WrongUse

BAR = 40
MOST_ITERATIONS = 200_000  # of the solver, instead of a time: a slow machine must not plan otherwise


def simulate(options: argparse.Namespace) -> int:
    try:
        return _simulate(options)
    except BadInput as error:
        for line in str(error).splitlines():
            print(f"depot: {line}", file=sys.stderr)
        return 1


def _simulate(options: argparse.Namespace) -> int:
    config = load(Path(options.file), changes(options.set or ()))
    site = setup.at_pace(replace(config.site, accept_unknown_tokens=True), options.step_s)
    zone = ZoneInfo(site.timezone)
    stays = setup.within(
        read_sessions(Path(options.sessions), zone), _start(options.start, zone), options.days, zone
    )
    if options.add_vehicles:
        site, stays = setup.added(site, stays, options.add_vehicles, options.seed)
    notes: list[str] = []
    since, until = stays[0].arrival, max(stay.departure for stay in stays)

    def read(path: str | None, name: str, least: float, most: float) -> Series | None:
        found = None if path is None else read_series(Path(path), name, zone, least, most)
        return setup.laid_over(found, since, until, notes)

    tariff = setup.tariff(config, options.prices, since, until, notes)
    load_kw, pv_kw = read(options.load, "load", 0.0, 1e6), read(options.pv, "pv", 0.0, 1e6)
    if load_kw is not None or pv_kw is not None:
        metered = with_site_meter(site)
        if metered is not site:
            notes.append(
                "the site has no meter in the config: simulated as if it had one, so that the load is seen"
            )
        site = metered
    visits = setup.visits(site, stays, options.assign)
    plant = Plant(site, load_kw, pv_kw)
    by_day = tariff is not None and not tariff.buy.bands
    knowledge = Knowledge(zone, tariff, by_day, load_kw, pv_kw, _announced(visits))
    night = Night(
        site,
        plant,
        knowledge,
        partial(horizon.plan, limit_s=math.inf, iterations=MOST_ITERATIONS),
        visits,
        options.step_s,
        options.plan_every_s,
    )
    for note in notes:
        print(f"depot: {note}", file=sys.stderr)
    with _opened(Path(options.out)) as out:
        account = result.Account(plant, zone, options.step_s, tariff, out)
        with _progress(since, until) as look:
            told = night.run(account.hear, look)
    summary = account.summary(told)
    if options.json:
        json.dump(summary, sys.stdout, indent=2)
        print()
        return 0
    for line in result.page(account, told, summary):
        print(line)
    return 0


def changes(texts: Iterable[str]) -> dict[tuple[str, ...], object]:
    """`site.limit=200 A` as the key's path and its value as the config file would have it. Raises WrongUse."""
    found: dict[tuple[str, ...], object] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        try:
            path = _path(key)
        except ValueError:
            path = ()
        if not equals or not path:
            raise WrongUse(f'--set {text}: write it like --set site.limit="200 A"')
        try:
            found[path] = tomllib.loads(f"value = {value}")["value"]
        except ValueError:
            found[path] = value.strip()  # the shell has taken the quotes
    return found


def _path(key: str) -> tuple[str, ...]:
    """The parts of a dotted key; one with dots in it stands in quotes. Raises ValueError."""
    path: list[str] = []
    node: object = tomllib.loads(f"{key} = 0")
    while isinstance(node, dict) and len(node) == 1:
        ((part, node),) = node.items()
        path.append(part)
    return tuple(path) if node == 0 else ()


def _start(text: str | None, zone: ZoneInfo) -> datetime | None:
    if text is None:
        return None
    try:
        start = datetime.fromisoformat(text)
        return (start if start.tzinfo else start.replace(tzinfo=zone)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise WrongUse(f'--start "{text}" is not a time like 2026-11-22 or 2026-11-22T18:00') from None


def _announced(visits: Iterable[Visit]) -> list[tuple[EvseId, Stay]]:
    return [(visit.evses[0], visit.stay) for visit in visits if visit.stay.planned_return is not None]


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    try:
        with path.open("w", encoding="utf-8", newline="") as out:
            yield out
    except OSError as error:
        raise BadInput(f"{path}: cannot be written: {error.strerror or error}") from None


@contextmanager
def _progress(since: datetime, until: datetime) -> Iterator[Callable[[datetime], None]]:
    """A bar on stderr where that is a terminal."""
    whole, shown = max(1.0, (until - since).total_seconds()), -1

    def look(now: datetime) -> None:
        nonlocal shown
        part = min(100, max(0, int(100 * (now - since).total_seconds() / whole)))
        if part != shown and sys.stderr.isatty():
            shown = part
            bar = "#" * (part * BAR // 100)
            print(f"\r[{bar:<{BAR}}] {part:3} %  {now:%d %b %H:%M} UTC", end="", file=sys.stderr, flush=True)

    try:
        yield look
    finally:
        if shown >= 0:
            print(f"\r{'':{BAR + 30}}\r", end="", file=sys.stderr, flush=True)
