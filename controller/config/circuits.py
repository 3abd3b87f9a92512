"""[site], [circuit.*] and [meter.*]: what copper carries and who measures it.

Owns the rules of the limit tree (one root, no circles, one meter per circuit) and the defaults of meters.
Source: INTERFACE section 3.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from zoneinfo import ZoneInfo, available_timezones

from controller.config.limits import read_limit
from controller.config.meter_address import meter_address
from controller.config.table import Findings, Table
from controller.config.types import MeterConfig
from controller.config.values import (
    Wrong,
    duration_s,
    flag,
    load_ma,
    nearest,
    one_of,
    per_phase,
    phases,
    positive_current_ma,
    power_w,
    quoted,
    ratio,
    text,
    voltage_mv,
)
from controller.core import bimetal
from controller.core.model import SITE, Circuit, CircuitId, MeterId, MeterRole, PerPhase, each_phase

SITE_KEYS = "name timezone limit fuse voltage meter assumed_load max_imbalance breaker production peak peak_follows_month"
CIRCUIT_KEYS = "parent limit fuse meter assumed_load breaker"
METER_KEYS = "kind address poll stale_after role invert ct_ratio phases"

DEFAULT_VOLTAGE_MV = 230_000
DEFAULT_POLL_S = 1.0
DEFAULT_STALE_AFTER_S = 5.0
# A meter refreshes at most some ten times a second, and a site is blind after a minute without a reading.
FASTEST_POLL_S = 0.1
SLOWEST_POLL_S = 60.0

ALL_PHASES = (0, 1, 2)


@dataclass(frozen=True, slots=True)
class SiteHead:
    name: str
    timezone: str
    voltage_mv: int
    peak_w: int | None = None
    peak_follows_month: bool = False
    max_imbalance_ma: int | None = None


def read_head(site: Table) -> SiteHead:
    """Name, zone and voltage of the site; empty where missing or wrong (then noted)."""
    name = site.required("name", text, '"Depot Noord"')
    timezone = site.required("timezone", zone_name, '"Europe/Amsterdam"')
    voltage = site.optional("voltage", voltage_mv, DEFAULT_VOLTAGE_MV)
    peak = site.optional("peak", power_w, None)
    follows = site.optional("peak_follows_month", flag, False)
    if "peak" in site and "meter" not in site:
        site.note(
            "peak", "needs a meter that tells the energy of the quarter hour", "name the meter of the site"
        )
    if "peak_follows_month" in site and "peak" not in site:
        site.note("peak_follows_month", "says how peak is kept, and there is none", 'write peak = "180 kW"')
    imbalance = site.optional("max_imbalance", positive_current_ma, None)
    return SiteHead(name or "", timezone or "", voltage, peak, follows, imbalance)


def read_circuits(
    root: Table, site: Table | None
) -> tuple[dict[CircuitId, Circuit], dict[str, list[CircuitId]]]:
    """The limit tree, and which circuit names which meter.

    Circuits without a limit or a way up to the site are left out, and noted.
    """
    meters = root.names("meter")
    names = root.names("circuit")
    circuits: dict[CircuitId, Circuit] = {}
    parents: dict[CircuitId, CircuitId] = {}
    used: dict[str, list[CircuitId]] = {}
    if site is not None and (top := _site_circuit(site, meters, used)) is not None:
        circuits[SITE] = top
    for name, table in root.tables("circuit", CIRCUIT_KEYS):
        if name == SITE:
            root.findings.note(table.path, 'the id "site" is the grid connection itself', "choose another id")
            continue
        circuit = CircuitId(name)
        if "parent" not in table:
            table.note("parent", "is missing", 'write parent = "site", or the circuit that feeds this one')
        parent = table.refer("parent", "circuit", (SITE, *names))
        limit, most_w = read_limit(table, '"100 A"')
        assumed = table.optional("assumed_load", per_phase(load_ma), each_phase(0))
        meter = _meter_of(table, circuit, meters, used)
        breaker = _breaker_of(table)
        if parent is not None:
            parents[circuit] = CircuitId(parent)
        if parent is not None and limit is not None:
            circuits[circuit] = Circuit(
                circuit, CircuitId(parent), limit, meter, assumed, most_w, breaker=breaker
            )
    for circuit in _note_circles(root.findings, parents):
        circuits.pop(circuit, None)
    return circuits, used


def is_tree(circuits: Mapping[CircuitId, Circuit], names: Collection[str]) -> bool:
    """Every circuit in the file was understood, and every one hangs on the site."""
    return set(circuits) == {SITE, *names} and all(
        c.parent in circuits for c in circuits.values() if c.id != SITE
    )


def read_meters(root: Table, used: Mapping[str, list[CircuitId]]) -> tuple[MeterConfig, ...]:
    """Every meter with its role; without a `role` it has the one of the circuit that names it."""
    expected = {
        name: MeterRole.GRID if SITE in named_by else MeterRole.CIRCUIT for name, named_by in used.items()
    }
    # a wrong reference is noted where it stands; then the meter it meant is not blamed for being unused
    names = root.names("meter")
    blame_unused = all(name in names and len(named_by) == 1 for name, named_by in used.items())
    meters: list[MeterConfig] = []
    places: dict[tuple[object, ...], str] = {}
    lines: dict[tuple[str, int], tuple[str, tuple[object, ...]]] = {}
    for name, table in root.tables("meter", METER_KEYS):
        role = _role(table, expected.get(name), blame_unused)
        meter = _meter(table, MeterId(name), role)
        if meter is None:
            continue
        other = places.setdefault((meter.kind, meter.host, meter.port, meter.unit), name)
        if other != name:
            table.note(
                "address", f"is also the address of meter {quoted(other)}", "give each meter its own unit id"
            )
        settings = (meter.transport, meter.baud, meter.parity, meter.stop_bits)
        first, agreed = lines.setdefault((meter.host, meter.port), (name, settings))
        if agreed != settings:
            table.note(
                "address",
                f"describes the line of meter {quoted(first)} differently",
                "all meters of a line have the same framing, speed and parity",
            )
        meters.append(meter)
    return tuple(meters)


def _site_circuit(site: Table, meters: Collection[str], used: dict[str, list[CircuitId]]) -> Circuit | None:
    limit, most_w = read_limit(site, '"250 A"')
    assumed: PerPhase[int] | None = site.optional("assumed_load", per_phase(load_ma), None)
    meter = _meter_of(site, SITE, meters, used)
    breaker = _breaker_of(site)
    if "meter" not in site and "assumed_load" not in site:
        site.note(
            "assumed_load",
            "is missing, and without a meter nothing else tells the background load",
            'write assumed_load = "60 A", the worst per phase, or name a meter',
        )
    return None if limit is None else Circuit(SITE, None, limit, meter, assumed, most_w, breaker=breaker)


def _meter_of(
    table: Table, circuit: CircuitId, meters: Collection[str], used: dict[str, list[CircuitId]]
) -> MeterId | None:
    name = table.refer("meter", "meter", meters)
    if name is None:
        return None
    named_by = used.setdefault(name, [])
    named_by.append(circuit)
    if len(named_by) > 1:
        table.note(
            "meter", f"meter {quoted(name)} already measures {named_by[0]}", "one meter measures one circuit"
        )
    return MeterId(name)


def _breaker_of(table: Table) -> str | None:
    if "breaker" in table and "meter" not in table:
        table.note(
            "breaker", "is for the trip margin, and no meter tells the load", "name a meter, or leave it out"
        )
    return table.optional("breaker", one_of(*bimetal.KINDS), None)


def _note_circles(findings: Findings, parents: Mapping[CircuitId, CircuitId]) -> set[CircuitId]:
    """The circuits that feed themselves; every circle is noted once, at its first circuit in the file."""
    circular: set[CircuitId] = set()
    settled: set[CircuitId] = set()
    for circuit in parents:
        walked: list[CircuitId] = []
        at = circuit
        while at in parents and at not in settled and at not in walked:
            walked.append(at)
            at = parents[at]
        if at in walked:
            circle = walked[walked.index(at) :]
            findings.note(
                ("circuit", at, "parent"),
                f"goes round in a circle: {' -> '.join([*circle, at])}",
                'one of them needs parent = "site"',
            )
            circular.update(circle)
        settled.update(walked)
    return circular


def _role(table: Table, expected: MeterRole | None, blame_unused: bool) -> MeterRole:
    """The role that follows from the circuit; a `role` in the file must say the same."""
    role = table.optional("role", one_of(*MeterRole), None)
    if expected is None and role in (MeterRole.PV, MeterRole.BATTERY, MeterRole.LOAD):
        return MeterRole(role)
    if expected is None and blame_unused:
        name = table.path[-1]
        table.findings.note(
            table.path,
            "no circuit uses this meter",
            f'write meter = "{name}" in [site] or in a circuit, role = "pv", "battery" or "load", or remove it',
        )
    elif role is not None and expected is not None and role != expected:
        what = "the site" if expected is MeterRole.GRID else "a circuit"
        table.note(
            "role", f"{quoted(role)} does not fit the meter of {what}", f'write "{expected}" or leave it out'
        )
    return expected or MeterRole.CIRCUIT


def _meter(table: Table, meter: MeterId, role: MeterRole) -> MeterConfig | None:
    kind = table.required("kind", text, '"sdm630"')
    address = table.required("address", meter_address, '"tcp://10.0.4.20:502/1"')
    period = duration_s(FASTEST_POLL_S, SLOWEST_POLL_S)
    poll_s = table.optional("poll", period, DEFAULT_POLL_S)
    stale_after_s = table.optional("stale_after", period, DEFAULT_STALE_AFTER_S)
    if stale_after_s <= poll_s:
        table.note(
            "stale_after",
            f"{stale_after_s:g} s is not longer than the poll of {poll_s:g} s: every reading would be stale",
            f'write stale_after = "{5 * poll_s:g} s"' if 5 * poll_s <= SLOWEST_POLL_S else "poll more often",
        )
    invert = table.optional("invert", flag, False)
    ct_ratio = table.optional("ct_ratio", ratio, 1.0)
    wired = table.optional("phases", phases, ALL_PHASES)
    if kind is None or address is None:
        return None
    at = address
    return MeterConfig(
        meter, kind, at.host, at.port, at.unit, poll_s, stale_after_s, role, invert, ct_ratio, wired,
        at.transport, at.baud, at.parity, at.stop_bits,
    )  # fmt: skip


def zone_name(value: object) -> str:
    name = text(value)
    try:
        ZoneInfo(name)
    except (LookupError, ValueError, OSError):
        advice = nearest(name, available_timezones(), 'write it like "Europe/Amsterdam"')
        raise Wrong(f"time zone {quoted(name)} does not exist", advice) from None
    return name
