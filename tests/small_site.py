"""A small site as a value, for tests of the core: EVSEs of one kind below one circuit."""

from __future__ import annotations

from typing import Any

from controller.core.model import (
    SITE,
    Circuit,
    Evse,
    EvseId,
    Link,
    Meter,
    MeterId,
    MeterRole,
    Site,
    each_phase,
    station_of,
)

WIRE = Link("wire", lease_s=180, lease_slack_s=30, raise_gap_s=10, answer_s=12)
MAIN = MeterId("main")
THREE = (0, 1, 2)


def an_evse(
    id: EvseId,
    link: Link = WIRE,
    max_a: int = 32,
    phases: tuple[int, ...] = THREE,
    fallback_a: int = 6,
    **more: Any,
) -> Evse:
    """Starts at 6 A."""
    return Evse(id, station_of(id), SITE, 1000 * max_a, 6_000, phases, 1000 * fallback_a, link, **more)


def a_site(
    *evses: Evse, limit_a: int = 63, metered: bool = False, load_a: int | None = None, **more: Any
) -> Site:
    """`load_a`: the worst load of others while no meter tells."""
    root = Circuit(
        SITE,
        None,
        each_phase(1000 * limit_a),
        MAIN if metered else None,
        None if load_a is None else each_phase(1000 * load_a),
    )
    meters = {MAIN: Meter(MAIN, "sdm630", MeterRole.GRID, 1.0, 5.0)} if metered else {}
    return Site(
        "depot",
        more.pop("timezone", "UTC"),
        230_000,
        {SITE: root},
        {each.id: each for each in evses},
        meters,
        **more,
    )
