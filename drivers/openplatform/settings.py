"""What a person decides about the hosted platform: where it is, what it may be used for, and how its gaps are read.

Owns the settings of the operator client and the check of its address. Must not open anything. Every assumption about
behaviour the platform's documentation leaves open is one named field of `Readings`, so that a test in the vendor's
sandbox changes a value and not code. Source: Open Platform REFERENCE sections 2 and 15, GAPS (the G numbers below).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

from controller.core.model import Evse, StationId
from drivers.errors import Misconfigured

CHANNEL = "open-platform/cloud"
_REGIONS = {"eu", "us", "uk", "cn", "ap"}  # as labels of a host name


@dataclass(frozen=True, slots=True)
class Readings:
    """One setting per assumption; the defaults follow GAPS, and where energy could move, the one that moves less."""

    # G-05: what is signed and how it is written, where requests are signed at all
    signature_joined_by: Literal["nothing", "newline"] = "nothing"
    signature_path_has_query: bool = False
    signature_encoding: Literal["hex", "base64"] = "hex"

    # G-06
    empty_answer_is_success: bool = True  # a 2xx without a body is code 0 with null data

    # G-10: a schedule answer has no id to follow. "answer": success means the charger has it; "telemetry": only the
    # charger's next sign of life after it does
    schedule_confirmed_by: Literal["answer", "telemetry"] = "telemetry"

    # G-11
    slot_time_zone: Literal["site", "utc"] = (
        "site"  # "site" turns to UTC by itself where local times are ambiguous
    )
    idle_stays_idle: bool = True  # a stored slot or its end never starts a connector that is idle
    # one enabled schedule per connector: our leased limit switches a stored plan off, which is stored again afterwards
    lease_displaces_plan: bool = True

    # G-12
    below_minimum_pauses: bool = (
        True  # a power below the minimum current pauses; it is not rounded up to the minimum
    )
    flex_base: Literal["charger", "connector"] = "charger"  # what power_limit_percent is a share of
    flex_max_s: float = 4 * 3600.0
    brake_s: float = 300.0  # how long an automatic brake holds

    # G-14
    discharge_floor_soc: int = 20  # per cent; no discharge of ours goes below
    discharge_max_s: float = 4 * 3600.0
    discharge_ends_idle: bool = (
        True  # after a discharge of ours the charger does not begin to charge by itself
    )

    # G-15
    stream_ids: int = 50  # chargers per socket
    silence_s: float = 30.0  # suspect only while a connector is active

    # G-16: on AC `current` is the highest phase and `voltage` phase to neutral; on DC both belong to the vehicle's side
    highest_ac_voltage_v: float = 300.0
    phase_voltage_v: int = 230  # a limit is a power: the charger divides it by this and by phases, see next
    # By which phases? "wired": those of the EVSE, whatever the vehicle uses. This is hoped, not proven: a charger that
    # divides by the vehicle's phases lets a single-phase vehicle draw three times the current we meant on one phase,
    # up to the EVSE's maximum; then only REST reads (`current`, `voltage`) show it, and the overdraw is booked after
    # `spread_look_s` at the earliest. "vehicle": every limit is written for one phase, which is safe with any vehicle
    # and leaves a three-phase vehicle a third of its current, below 18 A nothing at all. It fits sites with AC
    # stations; a DC station always loads its phases alike.
    kw_limit_spreads: Literal["wired", "vehicle"] = "wired"
    spread_look_s: float = 10.0  # so soon after power begins to flow we look over how many phases
    spread_again_s: float = 120.0  # and so often again, as long as it flows

    # G-17
    pause_reads_as_idle: bool = True  # a connector we paused shows `idle` although its transaction goes on
    resume_s: float = 60.0  # so long a vehicle may take to draw again after a pause

    # G-09
    start_repeat_after_s: float = 60.0  # an unanswered start is repeated only if nothing changed for so long
    same_start_s: float = 600.0  # so long the platform knows a transaction_id again

    # G-20: a session is told by its start, in half-open windows
    records_after_s: float = 30.0  # first look after start-up
    records_every_s: float = 900.0
    records_overlap_s: float = 48 * 3600.0  # uploads come late after an offline phase
    records_repeat_days: int = 7  # so far back once a day, and at start-up

    # G-22: requests per minute; a tenth may come at once, 30 % stay unused, stops may dip into that
    gets_per_min: int = 60
    controls_per_min: int = 30
    tokens_per_min: int = 10
    headroom: float = 0.3

    # G-23
    firmware_gate: str = "260420.0107"

    # G-29
    clock_skew_s: float = 60.0  # the charger's clock is at most so far from ours
    stamp_tolerance_s: float = 10.0  # telemetry stamped so long ago still counts as taken now


@dataclass(frozen=True, slots=True)
class CloudDevice:
    """One station on the platform; `evses` by connector number, from 1."""

    device_id: str
    evses: Mapping[int, Evse]


@dataclass(frozen=True, slots=True)
class CloudSettings:
    """`base_url` ends in the version ("https://host/v1"). `purposes` are the customer's consent, word by word:
    nothing opens without "monitor", nothing is commanded without "control", no group is limited without
    "flexibility", nothing is discharged without "v2g". The secret never appears in a repr."""

    base_url: str
    region: str
    client_id: str
    client_secret: str = field(repr=False)
    devices: Mapping[StationId, CloudDevice]
    mode: Literal["sole", "companion"]
    purposes: frozenset[str]
    enabled_by: str
    timezone: str
    site_ids: tuple[str, ...] = ()
    readings: Readings = Readings()
    sign_requests: bool = False


@dataclass(frozen=True, slots=True)
class Address:
    """Where the platform is: `http` for requests, `ws` for the stream (same host), `host` for people."""

    http: str
    ws: str
    host: str
    path: str


def address(base_url: str, region: str = "site") -> Address:
    """Takes a base URL apart. Raises Misconfigured: only https, or http to this very machine, and no host that names
    another region than the one the customer consented to (G-25)."""
    try:
        parts = urlsplit(base_url)
        port, host = parts.port, parts.hostname
    except ValueError as wrong:
        raise Misconfigured(f"open platform: base_url is not an address ({wrong})") from None
    if not host or parts.username is not None or parts.query or parts.fragment:
        raise Misconfigured(
            "open platform: base_url must be like https://host/v1, without user, query or fragment"
        )
    if parts.scheme == "http":
        if not _is_loopback(host):
            raise Misconfigured(
                f"open platform: http to {host} would show the secret to the network; use https"
            )
    elif parts.scheme != "https":
        raise Misconfigured("open platform: base_url must begin with https://")
    below_domain = host.lower().split(".")[
        :-2
    ]  # a country's ending says where a name was bought, not where data is
    named = _REGIONS & set(re.split(r"[.-]", ".".join(below_domain)))
    if region != "site" and named - {region}:
        raise Misconfigured(
            f"open platform: {host} names region {', '.join(sorted(named))}, consented is {region}"
        )
    path = parts.path.rstrip("/")
    shown = host if port is None else f"{host}:{port}"
    return Address(
        http=f"{parts.scheme}://{parts.netloc}{path}",
        ws=f"{'wss' if parts.scheme == 'https' else 'ws'}://{parts.netloc}{path}",
        host=shown,
        path=path,
    )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
