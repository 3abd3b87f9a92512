"""[ocpp] and [open_platform]: the two ways to stations, and the customer's consent to the second.

Owns what a channel needs as a whole; what one station says about its channel is in `stations`. Source:
INTERFACE section 3, DESIGN section 6; consent and region: GAPS G-24, G-25.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from controller.config.stations import Stations
from controller.config.table import Table
from controller.config.types import CloudConfig, CloudStation, OcppConfig, OpenPlatformConfig
from controller.config.values import (
    Wrong,
    base_url,
    flag,
    listen,
    nearest,
    one_of,
    quoted,
    secret,
    text,
    texts,
)
from controller.core.model import StationId

OCPP_KEYS = "listen unknown_tokens"
_NO_TLS = "leave it out and keep the stations on a network of their own"
OCPP_LATER = {"tls_listen": _NO_TLS, "tls_cert": _NO_TLS, "tls_key": _NO_TLS, "client_ca": _NO_TLS}
OPEN_PLATFORM_KEYS = "mode enabled_by purposes cloud"
OPEN_PLATFORM_LATER = {"onsite": "use [open_platform.cloud], or OCPP on site"}
CLOUD_KEYS = "base_url region client_id client_secret_file site_ids sign_requests"
PURPOSES = ("monitor", "control", "flexibility", "v2g", "diagnostics", "firmware")


def read_ocpp(table: Table, stations: Stations) -> tuple[OcppConfig | None, bool]:
    """The central system, and whether unknown id tokens may charge (default: no)."""
    address = table.required("listen", listen, '"0.0.0.0:8887"')
    accept_unknown = table.optional("unknown_tokens", one_of("reject", "accept"), "reject") == "accept"
    return None if address is None else OcppConfig(*address, stations.ocpp), accept_unknown


def read_open_platform(table: Table, stations: Stations, base: Path) -> OpenPlatformConfig | None:
    """The second channel; None when consent is missing or incomplete."""
    mode = table.required("mode", one_of("sole", "companion"), '"sole"')
    enabled_by = table.required("enabled_by", text, '"NAME, DATE" of the customer\'s consent')
    purposes = table.required("purposes", _purposes, '["monitor", "control"]')
    if not stations.platform_linked:
        table.findings.note(
            table.path,
            "no station is linked to the Open Platform",
            'add open_platform = { device_id = "...", link = "cloud" } to a station, or remove this table',
        )
    if "cloud" not in table and "onsite" not in table:
        table.note("cloud", "is missing", "add [open_platform.cloud] with base_url, region and client_id")
    below = table.table("cloud", CLOUD_KEYS)
    cloud = None if below is None else _cloud(below, base, stations.cloud)
    if mode is None or enabled_by is None or purposes is None:
        return None
    return OpenPlatformConfig(mode, enabled_by, purposes, cloud)


def _cloud(table: Table, base: Path, stations: Mapping[StationId, CloudStation]) -> CloudConfig | None:
    url = table.required("base_url", base_url, '"https://platform.example/v1"')
    region = table.required("region", one_of("eu", "us", "site"), '"eu"')
    client_id = table.required("client_id", text, '"depot-noord"')
    client_secret = table.required("client_secret_file", secret(base), '"platform.secret"')
    site_ids = table.optional("site_ids", texts, ())
    if table.optional("sign_requests", flag, False):
        table.findings.not_yet((*table.path, "sign_requests"), "write false")
    if url is None or region is None or client_id is None or client_secret is None:
        return None
    return CloudConfig(url, region, client_id, client_secret, site_ids, stations)


def _purposes(value: object) -> frozenset[str]:
    words = texts(value)
    if not words:
        raise Wrong(
            "an empty list allows nothing", 'list what the customer agreed to, like ["monitor", "control"]'
        )
    for word in words:
        if word not in PURPOSES:
            raise Wrong(
                f"{quoted(word)} is not a purpose",
                nearest(word, PURPOSES, f"known purposes: {', '.join(PURPOSES)}"),
            )
    return frozenset(words)
