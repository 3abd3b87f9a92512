"""[station.*]: what charges.

Owns the rules of one station (amps of its EVSEs, its fallback, its channels) and what each channel can
do with limits (`Link`). A station with both channels is led by OCPP; the other is its companion. Source: INTERFACE
section 3, DESIGN section 6, GAPS G-13 and G-27; lease figures: DESIGN section 5 and the drivers' documentation.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from controller.config.ocpp import OCPP_LINK_KEYS, read_ocpp_station
from controller.config.outputs import EVSE_KEYS, Fallback, Output, read_fallback, read_output
from controller.config.table import Table
from controller.config.types import CloudStation, OcppStation, OnsiteStation
from controller.config.values import (
    Wrong,
    flag,
    one_of,
    one_or_more_of,
    quoted,
    text,
)
from controller.core.model import CircuitId, Evse, EvseId, Link, StationId, evse_id
from controller.core.watts import load_ma

STATION_KEYS = "circuit fallback evse ocpp open_platform"
OPEN_PLATFORM_LINK_KEYS = "device_id link autostart serial model permit"
PERMITS = ("start", "stop", "schedule")  # of sessions that OCPP leads; everything else is the companion's own

# A leased profile renewed at half-life; the slack covers a clock as far behind as profiles begin early for (`CLOCK_SLACK_S`).
OCPP_LINK = Link("ocpp", lease_s=180, lease_slack_s=60, raise_gap_s=10, answer_s=12, stores_plans=True)
# Schedules end on whole minutes and every command costs quota: longer leases, fewer raises. A schedule
# belongs to the connector, not to the transaction.
CLOUD_LINK = Link(
    "open-platform/cloud",
    lease_s=900,
    lease_slack_s=120,
    raise_gap_s=60,
    answer_s=60,
    lease_ends_with_transaction=False,
    settle_s=15,
    stores_schedules=True,
    names_tokens=False,
)
# A limit goes out as soon as the charger's poll is open and lies over its start power until its own duration is over,
# session or not. It expires unread after the slack less 5 s, so the lease never begins later than that. Short, because
# what a vehicle that left was allowed still counts until lease and slack are over.
ONSITE_LINK = Link(
    "open-platform/onsite",
    lease_s=120,
    lease_slack_s=40,
    raise_gap_s=10,
    answer_s=20,
    lease_ends_with_transaction=False,
    settle_s=10,
    stores_schedules=True,
    names_tokens=False,
)

_CHANNELS = {"ocpp": 'listen = "0.0.0.0:8887"', "open_platform": "the customer's consent"}
_EVSE_NUMBER = re.compile(r"[1-9][0-9]{0,2}")
_LONGEST_NAME = 128


@dataclass(slots=True)
class Stations:
    """What [station.*] gave; parts with problems are left out."""

    evses: dict[EvseId, Evse] = field(default_factory=dict)
    ocpp: dict[StationId, OcppStation] = field(default_factory=dict)
    cloud: dict[StationId, CloudStation] = field(default_factory=dict)
    onsite: dict[StationId, OnsiteStation] = field(default_factory=dict)
    complete: bool = True  # every EVSE in the file is in `evses`
    links: set[str | None] = field(
        default_factory=set
    )  # to the Open Platform, right or wrong; None: not readable
    led: dict[StationId, Table] = field(default_factory=dict)  # by OCPP, and their open_platform table


def read_stations(root: Table, base: Path, circuits: Collection[str], nominal_mv: int) -> Stations:
    """`circuits`: every id a station may name. nominal_mv: of the supply, for outputs that are known by their watts."""
    tables = list(root.tables("station", STATION_KEYS))
    stations = Stations(complete=len(tables) == len(root.names("station")))
    owners: dict[tuple[str, str], str] = {}
    for name, table in tables:
        station = StationId(name)
        link, companion, autostart = CLOUD_LINK, None, False
        if (platform := table.table("open_platform", OPEN_PLATFORM_LINK_KEYS)) is not None:
            autostart = platform.optional("autostart", flag, False)
            kind = platform.required("link", one_of("cloud", "onsite"), '"cloud"')
            stations.links.add(kind)
            if kind == "onsite":
                link = ONSITE_LINK
            _read_platform_station(platform, kind, station, owners, stations, led="ocpp" in table)
        if (ocpp := table.table("ocpp", OCPP_LINK_KEYS)) is not None:
            stations.ocpp[station] = read_ocpp_station(ocpp, station, base)
            if platform is not None:
                companion = link.channel
                stations.led[station] = platform
            link = OCPP_LINK
        _note_channels(root, table, name)
        if "circuit" not in table:
            table.note("circuit", "is missing", 'name the circuit that feeds this station, or "site"')
        circuit = table.refer("circuit", "circuit", circuits)
        stations.complete &= circuit in circuits
        fallback = table.required(
            "fallback", read_fallback, '"6 A", what each EVSE may draw alone; "0 A" pauses'
        )
        _read_evses(_Box(station, table, circuit, fallback, nominal_mv, link, companion, autostart), stations)
    return stations


# --- channels of one station -------------------------------------------------------------------------------


def _note_channels(root: Table, table: Table, name: str) -> None:
    """One channel per station or both, and each channel itself configured."""
    if "ocpp" not in table and "open_platform" not in table:
        table.findings.note(
            table.path,
            "no channel reaches this station",
            f'add ocpp = {{ password_file = "{name}.secret" }}'
            ' or open_platform = { device_id = "...", link = "cloud" }',
        )
    for key, example in _CHANNELS.items():
        if key in table and key not in root:
            table.note(key, f"there is no [{key}] table", f"add [{key}] with {example}")


def _read_platform_station(
    table: Table,
    link: str | None,
    station: StationId,
    owners: dict[tuple[str, str], str],
    stations: Stations,
    *,
    led: bool,
) -> None:
    """`owners`: the station that has each device id and each serial number already. `led`: by OCPP."""
    permit = table.optional("permit", one_or_more_of(PERMITS, "permission", '["start"]'), frozenset())
    if not led and "permit" in table:
        table.note(
            "permit", "means something beside ocpp only: without it everything is permitted", "remove it"
        )
    if led and "autostart" in table:
        table.note("autostart", "belongs to a station without ocpp, which starts sessions here", "remove it")
    mine = {"cloud": ("device_id",), "onsite": ("serial", "model")}
    for other, keys in mine.items():
        for key in keys:
            if link not in (None, other) and key in table:
                table.note(key, f'belongs to link = "{other}"', "remove it")
    if link == "cloud":
        device = table.required("device_id", text, '"dvc_1"')
        if device is not None:
            _note_twice(table, "device_id", device, station, owners)
            stations.cloud[station] = CloudStation(station, device, permit)
    elif link == "onsite":
        serial = table.required("serial", _printed, '"TP-1", as printed on the charger')
        model = table.required("model", _printed, '"TP-AC22"')
        if serial is not None and model is not None:
            _note_twice(table, "serial", serial, station, owners)
            stations.onsite[station] = OnsiteStation(station, serial, model, permit)


def _note_twice(
    table: Table, key: str, value: str, station: StationId, owners: dict[tuple[str, str], str]
) -> None:
    other = owners.setdefault((key, value), station)
    if other != station:
        table.note(key, f"{quoted(value)} is already station {quoted(other)}", "give each its own device")


def _printed(value: object) -> str:
    """What a charger says of itself: no longer than the host reads."""
    word = text(value)
    if len(word) > _LONGEST_NAME:
        raise Wrong(f"{quoted(word)} is longer than {_LONGEST_NAME} characters", "check the charger's label")
    return word


# --- EVSEs -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Box:
    """What the EVSEs of one station share; None = missing or wrong, and noted."""

    station: StationId
    table: Table
    circuit: str | None
    fallback: Fallback | None
    nominal_mv: int
    link: Link
    companion: str | None
    autostart: bool


def _read_evses(box: _Box, stations: Stations) -> None:
    if box.table.lacks("evse"):
        box.table.note("evse", "is missing", 'write evse.1 = { max = "32 A" }')
    read = [_evse(number, below, box) for number, below in box.table.tables("evse", EVSE_KEYS)]
    for evse in read:
        if evse is not None:
            stations.evses[evse.id] = evse
    if not read or None in read or len(read) < len(box.table.names("evse")):
        stations.complete = False


def _evse(number: str, table: Table, box: _Box) -> Evse | None:
    if not _EVSE_NUMBER.fullmatch(number):
        table.findings.note(table.path, f"{quoted(number)} is not an EVSE number", "number them 1, 2, 3 ...")
        return None
    output = read_output(table, box.nominal_mv)
    if output is None or box.fallback is None or box.circuit is None:
        return None
    if output.phase_switching and box.link is not OCPP_LINK:
        table.note("phase_switching", "the Open Platform has no word for it", "leave it out, or add ocpp")
    fallback_ma = _fallback_ma(box, box.fallback, number, output)
    if fallback_ma is None:
        return None
    return Evse(
        id=evse_id(box.station, int(number)),
        station=box.station,
        circuit=CircuitId(box.circuit),
        max_ma=output.max_ma,
        min_ma=output.min_ma,
        phases=output.phases,
        fallback_ma=fallback_ma,
        link=box.link,
        step_ma=output.step_ma,
        autostart=box.autostart,
        companion=box.companion,
        dc=output.dc,
        rotation_known=output.rotation_known,
        surplus=table.optional("surplus", flag, False),
        phase_switching=output.phase_switching,
    )


def _fallback_ma(box: _Box, fallback: Fallback, number: str, output: Output) -> int | None:
    """A current this EVSE can give, or a pause; None where it is neither, and noted."""
    low_ma, high_ma, words = output.min_ma, output.max_ma, output.words
    current_ma = fallback.current_ma
    if fallback.power_w is not None:
        if output.dc is None:
            box.table.note(
                "fallback",
                f"is a power, and EVSE {number} is an AC outlet",
                'write it in amperes, like "6 A"; a DC output beside it takes them too, per phase of its supply',
            )
            return None
        current_ma = load_ma(output.dc, fallback.power_w)
    if current_ma > high_ma:
        box.table.note(
            "fallback",
            f"{words(current_ma)} is above the maximum of EVSE {number} ({words(high_ma)})",
            f'write "{words(high_ma)}" or less',
        )
    elif 0 < current_ma < low_ma:
        box.table.note(
            "fallback",
            f"{words(current_ma)} is below the minimum of EVSE {number} ({words(low_ma)}): a pause",
            f'write "0 A" to pause on purpose, or "{words(low_ma)}" to go on charging',
        )
    else:
        return current_ma
    return None
