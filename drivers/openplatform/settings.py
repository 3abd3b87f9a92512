"""What a person decides about the hosted platform: where it is, what it may be used for, and how its gaps are read.

Owns the settings of the operator client and the check of its address. Must not open anything. Every assumption about
behaviour the platform's documentation leaves open is one named field of `controller.core.readings.Readings`.
Source: Open Platform REFERENCE sections 2 and 15, GAPS G-02, G-25.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

from controller.core.model import Evse, StationId
from controller.core.readings import Readings
from drivers.errors import Misconfigured

CHANNEL = "open-platform/cloud"
_REGIONS = {"eu", "us", "uk", "cn", "ap"}  # as labels of a host name


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
    readings: Readings = field(default_factory=Readings)
    sign_requests: bool = False


@dataclass(frozen=True, slots=True)
class Address:
    """Where the platform is: `http` for requests, `ws` for the stream (same host), `host` for people."""

    http: str
    ws: str
    host: str
    path: str


def address(base_url: str, region: str = "site", host_names_region: bool = True) -> Address:
    """Takes a base URL apart. Raises Misconfigured: only https, or http to this very machine, and, as far as
    `host_names_region`, no host that names another region than the one the customer consented to (G-25)."""
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
        if not is_loopback(host):
            raise Misconfigured(
                f"open platform: http to {host} would show the secret to the network; use https"
            )
    elif parts.scheme != "https":
        raise Misconfigured("open platform: base_url must begin with https://")
    below_domain = host.lower().split(".")[
        :-2
    ]  # a country's ending says where a name was bought, not where data is
    named = _REGIONS & set(re.split(r"[.-]", ".".join(below_domain)))
    if host_names_region and region != "site" and named - {region}:
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


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
